//! What must hold after every step, and in the end.
//!
//! **Promise 1, for the provider.** While its program runs, a sandbox that is not frozen has served less than one increment τ and one
//! look at the meter beyond what the best *genuine* voucher *on its disk* covers; by its meter, and by a count of the time in which the
//! sandbox really ran. A program that is down cannot freeze anything, so the
//! time until the first look of a new process is its own loss. And an honest provider that is there is paid the best voucher it holds,
//! up to what the escrow allows.
//!
//! **Promise 1, for the renter.** Let R be the moment at which it first heard of the meter's start and H the last moment at which it
//! heard a good `Ready` or ack, by its own clock. It never has signed for more than H − R + τ: what the provider was there for, and one
//! increment, which is all that backdating the start, clocks that differ, and silence can cost it together. Begun seconds count. What is
//! paid is never more than what it signed.
//!
//! **Service.** When nothing goes wrong but clocks that differ, a renter that pays is never frozen.
//!
//! **Promise 2.** After the faults end, every rental is over on chain and for every honest side that is there, within the sum of all the
//! waits that the terms and the programs name (see `World::deadline`); for a provider that is long before the window ends. Without such
//! a side, a stranger's `finalize` ends it. Paid and refunded are the deposit. What the chain took back has no receipt.

use crate::{
    chain::{Call, Happening, Purpose, Transaction},
    plan::Side,
    world::{Shared, World},
};
use market::{id::RentalId, money::Amount, rental::provider::Rental};
use std::collections::{BTreeMap, BTreeSet};

/// What a schedule went through, to see that schedules are not all trivial.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) opened: u64,
    pub(crate) paid: u64,
    pub(crate) finalized: u64,
    pub(crate) crashes: u64,
    pub(crate) reorganisations: u64,
    pub(crate) deep_reorganisations: u64,
    pub(crate) undone: u64,
    pub(crate) claims: u64,
    /// Openings by the provider, in the renter's name.
    pub(crate) mandated: u64,
    /// Rentals that were told to give way.
    pub(crate) preempted: u64,
}

impl Tally {
    pub(crate) const fn and(self, other: Self) -> Self {
        Self {
            opened: self.opened + other.opened,
            paid: self.paid + other.paid,
            finalized: self.finalized + other.finalized,
            crashes: self.crashes + other.crashes,
            reorganisations: self.reorganisations + other.reorganisations,
            deep_reorganisations: self.deep_reorganisations + other.deep_reorganisations,
            undone: self.undone + other.undone,
            claims: self.claims + other.claims,
            mandated: self.mandated + other.mandated,
            preempted: self.preempted + other.preempted,
        }
    }
}

/// What the simulator knows and the programs do not.
#[derive(Default)]
pub(crate) struct Facts {
    signed: BTreeMap<RentalId, BTreeSet<Amount>>,
    /// When the sandbox was up, by the true time.
    ready: BTreeMap<RentalId, u64>,
    /// When the renter first and last heard of the provider, by its own clock.
    heard: BTreeMap<RentalId, (u64, u64)>,
    lapsed: BTreeSet<RentalId>,
    /// The latest expiry of a quote that the provider saw lapse.
    pub(crate) last_lapse: u64,
    /// How long each sandbox ran since it was ready, under a provider's eyes, and when that was last added up; by the provider's clock.
    ran: BTreeMap<RentalId, (u64, Option<u64>)>,
    /// The highest total that was on the provider's disk.
    held: BTreeMap<RentalId, Amount>,
    pub(crate) tally: Tally,
}

impl Facts {
    /// The session key signed this.
    pub(crate) fn signed(&mut self, id: RentalId, total: Amount) {
        self.signed.entry(id).or_default().insert(total);
    }

    pub(crate) fn is_signed(&self, id: RentalId, total: Amount) -> bool {
        self.signed.get(&id).is_some_and(|totals| totals.contains(&total))
    }

    pub(crate) fn ready(&mut self, id: RentalId, at: u64) {
        self.ready.insert(id, at);
    }

    pub(crate) fn heard(&mut self, id: RentalId, at: market::time::UnixMillis) {
        self.heard.entry(id).or_insert((at.0, at.0)).1 = at.0;
    }
}

impl Shared {
    /// The provider gives the slot of a quote away.
    pub(crate) fn lapsed(&mut self, id: RentalId, expiry: u32) {
        self.facts.lapsed.insert(id);
        self.facts.last_lapse = self.facts.last_lapse.max(u64::from(expiry));
        if self.chain.state.rentals.get(&id).is_some_and(|rental| rental.closing.is_none()) {
            self.fail(format!("{}: its slot is given away while it is open", id.short()));
        }
    }
}

impl World {
    /// After every step.
    pub(crate) fn check(&mut self) {
        if self.s.plan.honest(Side::Provider) {
            self.check_provider();
        }
        if self.s.plan.honest(Side::Renter) {
            self.check_renter();
        }
    }

    /// The best genuine total on the provider's disk.
    fn covered(&self, rental: &Rental) -> Amount {
        let genuine = |total: &Amount| self.s.facts.is_signed(rental.id, *total);
        rental.voucher.map(|voucher| voucher.cumulative).filter(genuine).unwrap_or(Amount::ZERO)
    }

    fn check_provider(&mut self) {
        let now = self.s.clock(Side::Provider);
        let mut faults = Vec::new();
        let mut held = Vec::new();
        for (id, rental) in &self.provider.disk {
            if let Some(voucher) = rental.voucher {
                let before = self.s.facts.held.get(id).copied().unwrap_or_default();
                if voucher.cumulative < before {
                    faults.push(format!("{}: {} replaced {before} on disk", id.short(), voucher.cumulative));
                }
                if voucher.cumulative > before {
                    held.push((*id, voucher.cumulative));
                }
            }
            let running = self.provider.sandboxes.get(id) == Some(&true);
            let covered = self.covered(rental);
            let (ran, added_up) = self.s.facts.ran.entry(*id).or_default();
            let (Some(meter), true, true) = (rental.meter(), running, self.provider.up && self.provider.ticked) else {
                *added_up = None;
                continue;
            };
            *ran += added_up.replace(now.0).map_or(0, |before| now.0 - before);
            let unpaid = meter.served(now).max(*ran).saturating_sub(meter.tariff.covered_millis(covered));
            if unpaid > u64::from(self.s.plan.increment_millis) + self.s.plan.provider_tick + 1 {
                faults.push(format!("{}: ran {unpaid} ms unfrozen and unpaid", id.short()));
            }
        }
        for id in self.provider.receipts.keys().filter(|_| self.provider.up) {
            if self.provider.disk.get(id).is_some_and(|rental| rental.closing.is_none()) {
                faults.push(format!("{}: there is a receipt of what the chain took back", id.short()));
            }
        }
        self.s.facts.held.extend(held);
        if self.provider.disk.values().filter(|rental| rental.occupies_slot()).count() > 1 {
            faults.push("the slot is given to two".to_owned());
        }
        if let Some(fault) = faults.pop() {
            self.s.fail(fault);
        }
    }

    fn check_renter(&mut self) {
        let now = self.s.clock(Side::Renter).0;
        let tau = u64::from(self.s.plan.increment_millis);
        let skew = self.s.clock(Side::Renter).since(self.s.clock(Side::Provider));
        let mut faults = Vec::new();
        for (id, rental) in &self.renter.disk {
            if self.renter.up && self.renter.receipts.contains_key(id) && rental.closing.is_none() {
                faults.push(format!("{}: there is a receipt of what the chain took back", id.short()));
            }
            let Some(voucher) = rental.voucher else { continue };
            let seconds = |millis: u64| rental.quote.quote.rate.for_seconds(millis.div_ceil(1_000) as u32);
            // what is paid for being let in without gas
            let ahead = rental.mandate.as_ref().map_or(Amount::ZERO, |mandate| mandate.advance.cumulative);
            if voucher.cumulative <= ahead && ahead <= seconds(tau) {
                continue;
            }
            let Some((first, last)) = self.s.facts.heard.get(id) else {
                faults.push(format!("{}: signed {} without a Ready", id.short(), voucher.cumulative));
                continue;
            };
            let most = seconds((last - first + tau).min(now.saturating_sub(*first) + tau));
            if voucher.cumulative > most || voucher.cumulative > rental.deposit {
                faults.push(format!("{}: signed {}, at most {most} was right", id.short(), voucher.cumulative));
            }
            // an honest provider's time, and what clocks that differ can add
            if let Some(ready) = self.s.facts.ready.get(id).filter(|_| self.s.plan.honest(Side::Provider)) {
                let drifted = (self.s.now - ready) / 1_000 + 1;
                let most = seconds(self.s.now - ready + skew.min(tau) + drifted);
                if voucher.cumulative > most {
                    faults.push(format!("{}: signed {}, {most} was served", id.short(), voucher.cumulative));
                }
            }
        }
        if let Some(fault) = faults.pop() {
            self.s.fail(fault);
        }
    }

    /// What new blocks did.
    pub(crate) fn check_blocks(&mut self, first: u64) {
        let mut faults = Vec::new();
        let s = &mut self.s;
        let head = s.chain.head();
        let mut story = Vec::new();
        for number in first..=head {
            let block = &s.chain.blocks[number as usize];
            for (transaction, success) in &block.mined {
                story.push(format!("block {number}: {:?} {:?} {success}", transaction.from, transaction.purpose));
                s.facts.tally.mandated += u64::from(*success && matches!(transaction.call, Call::OpenFor(..)));
                s.facts.tally.claims += u64::from(*success && matches!(transaction.purpose, Purpose::Claim(_)));
                let twice = |(other, went): &&(Transaction, bool), at: u64| {
                    other.hash != transaction.hash
                        && other.from == transaction.from
                        && other.id == transaction.id
                        && other.purpose == transaction.purpose
                        && match s.plan.deep {
                            // one that counted as failed is sent anew, and then the chain takes the failure back: one of the two fails
                            true => *went && *success,
                            false => *went || at > s.chain.confirmed(),
                        }
                };
                let before = s.chain.blocks[..=number as usize].iter().zip(0u64..);
                let mut all = before.flat_map(|(block, at)| block.mined.iter().map(move |mined| (mined, at)));
                if all.any(|(mined, at)| twice(&mined, at)) {
                    faults.push(format!("{:?} sent {:?} twice", transaction.from, transaction.purpose));
                }
            }
            for (id, happening) in &block.happened {
                match happening {
                    Happening::Opened(_) => {
                        s.facts.tally.opened += 1;
                        if s.plan.honest(Side::Provider) && s.facts.lapsed.contains(id) {
                            faults.push(format!("{}: opens after its slot was given away", id.short()));
                        }
                    }
                    Happening::Closed(closing) => {
                        s.facts.tally.paid += u64::from(closing.paid > Amount::ZERO);
                        s.facts.tally.finalized += u64::from(closing.kind > 2);
                    }
                    Happening::Stopping(_) => {}
                }
            }
        }
        for line in story {
            s.note(|| line);
        }
        if let Some(fault) = faults.pop() {
            s.fail(fault);
        }
    }

    /// When all is over.
    pub(crate) fn check_end(&mut self) {
        let mut faults = Vec::new();
        let plan = &self.s.plan;
        for (id, rental) in &self.s.chain.state.rentals {
            let name = id.short();
            let Some(closing) = rental.closing else {
                faults.push(format!("{name}: open for ever"));
                continue;
            };
            if closing.paid.checked_add(closing.refunded) != Some(rental.opening.deposit) {
                faults.push(format!("{name}: {} and {} is not the deposit", closing.paid, closing.refunded));
            }
            if plan.honest(Side::Renter) {
                let kept = self.renter.disk.get(id);
                let signed = kept.map_or(Amount::ZERO, |kept| kept.signed_total());
                if closing.paid > signed {
                    faults.push(format!("{name}: paid {}, signed {signed}", closing.paid));
                }
                let ours = kept.and_then(|kept| kept.closing.zip(kept.opening));
                if plan.stays(Side::Renter)
                    && (self.renter.receipts.get(id) != Some(&closing) || ours != Some((closing, rental.opening)))
                {
                    faults.push(format!("{name}: the renter's receipt is not what the chain shows: {ours:?}"));
                }
            }
            if plan.stays(Side::Provider) {
                let kept = self.provider.disk.get(id);
                let ours = kept.and_then(|kept| kept.closing.zip(kept.opening));
                if self.provider.receipts.get(id) != Some(&closing) || ours != Some((closing, rental.opening)) {
                    faults.push(format!("{name}: the provider's receipt is not what the chain shows: {ours:?}"));
                }
                let held = kept.map_or(Amount::ZERO, |kept| self.covered(kept));
                let cap = rental.quote.quote.rate.for_seconds(closing.elapsed);
                if closing.paid < held.min(cap).min(rental.opening.deposit) {
                    faults.push(format!("{name}: paid {}, but {held} was held", closing.paid));
                }
            }
        }
        if plan.stays(Side::Provider) {
            if !self.provider.sandboxes.is_empty() {
                faults.push("a sandbox is left over".to_owned());
            }
            if let Some(id) = self.provider.slot {
                faults.push(format!("{}: the slot is not free again", id.short()));
            }
        }
        if let Some(fault) = faults.pop() {
            self.s.fail(fault);
        }
    }
}
