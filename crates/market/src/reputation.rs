//! Reputation: what follows from the chain's own record of a provider's rentals and from the ratings of those who paid for them. Anybody
//! who reads the same chain and holds the same ratings comes to the same numbers; [`FORMULA`] names how, and [`Record`] shows what went in.
//!
//! Global figures are *unverified volume*: renting from oneself costs only gas. What keeps them honest is that nothing is counted twice (a
//! device's seconds count once), that no rate counts above the median of its class, and that one renter has a bounded say. What a ring of
//! self-dealers cannot touch at all is [`trust`]: how much of a provider's past leads back to the asker's own.

mod price;
pub mod trust;

pub use price::Medians;

use crate::{
    dispute::StopReason,
    id::{DeviceId, RentalId},
    money::{Amount, Rate},
    rating::{CheckSummary, Stars},
    signed::Escrow,
    standing::Standing,
};
use alloy_primitives::Address;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The name of this formula. Another way to count is another name.
pub const FORMULA: &str = "reputation/1";
/// Rentals that ended longer ago than this, in seconds, do not count: half a year. What a provider was like before says little of what it is.
pub const WINDOW: u64 = 180 * 86_400;
/// The time, in seconds, over which uptime is told: 30 days.
pub const UPTIME_WINDOW: u64 = 30 * 86_400;
/// With how many rentals, and with how many ratings, one renter weighs at most. Below it each counts for itself; beyond it a renter's share
/// of good ones counts, so that neither a faithful customer nor a spiteful one decides alone.
pub const RENTER_WEIGHT: u64 = 8;
/// One, in millionths.
pub const MILLION: u64 = 1_000_000;

/// What the chain tells of one rental.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RentalFacts {
    /// Which.
    pub id: RentalId,
    /// Where it was paid.
    pub escrow: Escrow,
    /// Who was paid.
    pub provider: Address,
    /// The key that signed the quote: only by it is a rental a provider's own doing, since anybody can name anybody as payee.
    pub provider_key: Address,
    /// Who paid.
    pub renter: Address,
    /// The renter's session key.
    pub renter_key: Address,
    /// The token paid in.
    pub token: Address,
    /// The price of a second.
    pub rate: Rate,
    /// The longest it could last.
    pub max_seconds: u32,
    /// The slot.
    pub device: DeviceId,
    /// Block time of the opening, in Unix seconds.
    pub opened: u64,
    /// Why the renter stopped it on chain, if it did (see [`StopReason`]).
    pub stop_reason: Option<u32>,
    /// How it ended, if it did.
    pub closed: Option<Closed>,
}

/// How a rental ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Block time of the closing, in Unix seconds.
    pub at: u64,
    /// What the provider received in all.
    pub paid: Amount,
    /// Seconds from the opening to the meter's end.
    pub elapsed: u32,
    /// By what, as the escrow numbers it.
    pub kind: u8,
}

/// What became of a rental that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Something was earned and nobody complained on chain.
    Kept,
    /// Nothing was earned: it never began to serve, whoever's fault that was.
    NoShow,
    /// The renter stopped it because the provider was gone, or had ended it before its time.
    EarlyEnd,
    /// The renter stopped it because the machine was not what was offered.
    FailedCheck,
    /// The renter stopped it with another complaint.
    Complaint,
}

impl RentalFacts {
    /// What became of it; `None` while it is open.
    pub fn outcome(&self) -> Option<Outcome> {
        let closed = self.closed?;
        Some(match self.stop_reason {
            Some(number) if number == StopReason::Unanswered.number() || number == StopReason::Ended.number() => {
                Outcome::EarlyEnd
            }
            Some(number) if number == StopReason::Hardware.number() => Outcome::FailedCheck,
            // zero is what programs give that state no reason
            Some(number) if number != 0 => Outcome::Complaint,
            _ if closed.paid == Amount::ZERO => Outcome::NoShow,
            _ => Outcome::Kept,
        })
    }

    /// The seconds that were paid for: never more than the meter ran.
    pub fn paid_seconds(&self) -> u32 {
        self.closed.map_or(0, |closed| match closed.paid {
            Amount::ZERO => 0,
            paid => self.rate.seconds_for(paid).min(closed.elapsed).min(self.max_seconds),
        })
    }
}

/// One rental as the formula takes it.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// What the chain tells.
    pub rental: &'a RentalFacts,
    /// How its renter rated it, if it did.
    pub rating: Option<Stars>,
    /// What its renter's checks of the hardware have shown, as the renter says.
    pub checks: Option<CheckSummary>,
    /// The median rate of the provider's class in this token; `None` when nobody advertises one, and its money is then not counted.
    pub median: Option<Rate>,
}

/// What went into a standing, so that it can be looked at and worked out again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// How it was worked out: [`FORMULA`].
    pub formula: String,
    /// When, in Unix seconds.
    pub at: u64,
    /// Rentals that go on.
    pub open: u32,
    /// Rentals that ended with something earned.
    pub completed: u32,
    /// Of all that ended, those that went as promised.
    pub kept: u32,
    /// Those that never began to serve.
    pub no_shows: u32,
    /// Those that the provider left, as their renters say on chain.
    pub early_ends: u32,
    /// Those in which the machine was not what was offered, as their renters say on chain.
    pub failed_checks: u32,
    /// Those that their renters stopped with another complaint.
    pub complaints: u32,
    /// How many different wallets rented.
    pub renters: u32,
    /// How many different devices were rented.
    pub devices: u32,
    /// Seconds paid for, each device's once. Unverified volume.
    pub paid_seconds: u64,
    /// What was paid, with no second above the median rate of its class. Unverified volume.
    pub volume: Vec<Volume>,
    /// Of rentals that ended in the last 30 days: seconds paid for.
    pub served_30d: u64,
    /// And seconds from their openings to the end of their meters.
    pub elapsed_30d: u64,
    /// How many ratings gave one star, two, three, four, five.
    pub stars: [u32; 5],
    /// Rentals in which checks of the hardware passed and none missed, as their renters have signed: that some such hardware answered, not
    /// whose. Unverified, and no part of a standing.
    pub passed_checks: u32,
    /// Those in which one missed, as their renters have signed. Most are among the failed checks too.
    pub missed_checks: u32,
    /// How many different wallets signed either.
    pub checking_renters: u32,
}

impl Record {
    /// The share of the last 30 days' metered time that was served and paid for, in millionths.
    pub fn uptime_30d(&self) -> Option<u32> {
        share(self.served_30d.saturating_mul(MILLION), self.elapsed_30d)
    }
}

/// Money paid in one token at one escrow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Where.
    pub escrow: Escrow,
    /// In what.
    pub token: Address,
    /// How much, in base units.
    pub amount: Amount,
}

/// Works out a provider's standing from its rentals, in whatever order they come.
pub fn evaluate<'a>(cases: impl IntoIterator<Item = Case<'a>>, now: u64) -> (Standing, Record) {
    let mut sums = Sums::new(now);
    cases.into_iter().for_each(|case| sums.add(&case));
    sums.finish()
}

/// What one renter's rentals and ratings amount to.
#[derive(Default)]
struct Counterparty {
    ended: u64,
    kept: u64,
    ratings: u64,
    stars: u64,
    checks: bool,
}

struct Sums {
    record: Record,
    renters: BTreeMap<Address, Counterparty>,
    /// When each device served, as pairs of Unix seconds.
    served: BTreeMap<DeviceId, Vec<(u64, u64)>>,
    devices: BTreeSet<DeviceId>,
    volume: BTreeMap<(Escrow, Address), u128>,
}

impl Sums {
    fn new(now: u64) -> Self {
        let record = Record { formula: FORMULA.to_owned(), at: now, ..Record::default() };
        let (renters, served, devices, volume) = Default::default();
        Self { record, renters, served, devices, volume }
    }

    fn add(&mut self, case: &Case<'_>) {
        let (rental, record) = (case.rental, &mut self.record);
        let (Some(closed), Some(outcome)) = (rental.closed, rental.outcome()) else {
            record.open += 1;
            return;
        };
        if closed.at.saturating_add(WINDOW) < record.at {
            return;
        }
        *match outcome {
            Outcome::Kept => &mut record.kept,
            Outcome::NoShow => &mut record.no_shows,
            Outcome::EarlyEnd => &mut record.early_ends,
            Outcome::FailedCheck => &mut record.failed_checks,
            Outcome::Complaint => &mut record.complaints,
        } += 1;
        let seconds = rental.paid_seconds();
        if closed.at.saturating_add(UPTIME_WINDOW) >= record.at {
            record.served_30d += u64::from(seconds);
            record.elapsed_30d += u64::from(closed.elapsed);
        }
        self.devices.insert(rental.device);
        let renter = self.renters.entry(rental.renter).or_default();
        renter.ended += 1;
        renter.kept += u64::from(outcome == Outcome::Kept);
        if closed.paid == Amount::ZERO {
            return;
        }
        record.completed += 1;
        self.served.entry(rental.device).or_default().push((rental.opened, rental.opened + u64::from(seconds)));
        if let Some(median) = case.median {
            let amount = rental.rate.min(median).for_seconds(seconds).get();
            let sum = self.volume.entry((rental.escrow, rental.token)).or_default();
            *sum = sum.saturating_add(amount);
        }
        if let Some(checks) = case.checks {
            record.passed_checks += u32::from(checks.has_passed());
            record.missed_checks += u32::from(checks.has_missed());
            renter.checks |= checks.has_passed() || checks.has_missed();
        }
        if let Some(stars) = case.rating {
            renter.ratings += 1;
            renter.stars += u64::from(stars.get());
            if let Some(count) = record.stars.get_mut(usize::from(stars.get()) - 1) {
                *count += 1;
            }
        }
    }

    fn finish(mut self) -> (Standing, Record) {
        let record = &mut self.record;
        record.renters = count(self.renters.len());
        record.checking_renters = count(self.renters.values().filter(|renter| renter.checks).count());
        record.devices = count(self.devices.len());
        record.paid_seconds = self.served.into_values().map(covered).sum();
        let volume = |((escrow, token), sum): ((Escrow, Address), u128)| Volume {
            escrow,
            token,
            amount: Amount::new(sum).unwrap_or(Amount::MAX),
        };
        record.volume = self.volume.into_iter().map(volume).collect();
        let standing = Standing {
            completed: record.completed,
            paid_seconds: record.paid_seconds,
            reliability: reliability(self.renters.values()),
            ratings: record.stars.iter().sum(),
            rating: rating(self.renters.values()),
        };
        (standing, self.record)
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// `part / whole` rounded down; `None` of nothing.
fn share(part: u64, whole: u64) -> Option<u32> {
    part.checked_div(whole).map(|share| u32::try_from(share).unwrap_or(u32::MAX))
}

/// The weight of `n` of one renter, and their sum at that weight.
fn weighed(sum: u64, n: u64) -> (u64, u64) {
    let weight = n.min(RENTER_WEIGHT);
    (sum * weight / n.max(1), weight)
}

/// The share of what went as promised, by renters of bounded weight. One failure is counted against everybody, so that a first good rental
/// is not a perfect record.
fn reliability<'a>(renters: impl Iterator<Item = &'a Counterparty>) -> Option<u32> {
    let add = |(kept, all), renter: &Counterparty| {
        let (part, weight) = weighed(renter.kept * MILLION, renter.ended);
        (kept + part, all + weight)
    };
    let (kept, all) = renters.fold((0, 0), add);
    if all == 0 { None } else { share(kept, all + 1) }
}

/// The mean rating in thousandths of a star, by renters of bounded weight.
fn rating<'a>(renters: impl Iterator<Item = &'a Counterparty>) -> Option<u32> {
    let add = |(stars, all), renter: &Counterparty| {
        let (part, weight) = weighed(renter.stars * 1_000, renter.ratings);
        (stars + part, all + weight)
    };
    let (stars, all) = renters.fold((0, 0), add);
    share(stars, all)
}

/// How many seconds lie in at least one of the intervals.
fn covered(mut intervals: Vec<(u64, u64)>) -> u64 {
    intervals.sort_unstable();
    let mut end = 0;
    intervals.into_iter().fold(0, |sum, (from, until)| {
        let fresh = until.saturating_sub(from.max(end));
        end = end.max(until);
        sum + fresh
    })
}

#[cfg(test)]
pub(crate) mod tests;
