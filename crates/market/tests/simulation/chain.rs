//! The model chain: the escrow's rules (see `contracts/src/RentalEscrow.sol`), blocks with their times, a pool of waiting transactions,
//! and reorganisations.

use crate::{keys::ESCROW, plan::Side, random::Random};
use alloy_primitives::{B256, Signature};
use market::{
    id::RentalId,
    money::Amount,
    quote::SignedQuote,
    rental::{Closing, Opening},
    signed::{SignedRelease, SignedVoucher, signer_of},
};
use std::collections::BTreeMap;

/// Whose transaction it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Account {
    Of(Side),
    Stranger,
}

/// What a transaction is for; each purpose is served once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Purpose {
    Open,
    Claim(Amount),
    Close,
    Release,
    Stop,
    Finalize,
}

/// A call of the escrow.
#[derive(Clone, Debug)]
pub(crate) enum Call {
    Open(Box<SignedQuote>, Amount),
    /// With the renter's signature towards the token: by anyone.
    OpenFor(Box<SignedQuote>, Amount),
    Claim(SignedVoucher),
    Close(Option<SignedVoucher>),
    Release(SignedRelease),
    Stop,
    Finalize,
}

#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub(crate) from: Account,
    pub(crate) nonce: u64,
    pub(crate) id: RentalId,
    pub(crate) purpose: Purpose,
    pub(crate) call: Call,
    pub(crate) hash: B256,
}

/// Why the escrow refuses a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Revert {
    NotRenter,
    NotProvider,
    QuoteExpired,
    QuoteUsed,
    BadDeposit,
    BadSignature,
    NotOpen,
    AlreadyStopped,
    NothingToClaim,
    TooEarly,
}

/// A rental in the escrow; one that is closed stays, so that it opens at most once.
#[derive(Clone, Debug)]
pub(crate) struct Escrowed {
    pub(crate) quote: SignedQuote,
    pub(crate) opening: Opening,
    pub(crate) claimed: Amount,
    pub(crate) stop_at: Option<u64>,
    pub(crate) closing: Option<Closing>,
}

impl Escrowed {
    /// `Payout.due`, and the seconds it is for.
    fn due(&self, cumulative: Amount, time: u64) -> (Amount, u32) {
        let term = self.opening.start + u64::from(self.quote.quote.max_seconds);
        let elapsed = (self.stop_at.unwrap_or(time).min(term) - self.opening.start) as u32;
        let due = cumulative.min(self.quote.quote.rate.for_seconds(elapsed)).min(self.opening.deposit);
        (due.max(self.claimed), elapsed)
    }

    /// When anyone may finalize.
    pub(crate) fn final_at(&self) -> u64 {
        let term = self.opening.start + u64::from(self.quote.quote.max_seconds);
        self.stop_at.unwrap_or(term).min(term) + u64::from(self.quote.quote.window)
    }
}

#[derive(Clone, Default)]
pub(crate) struct State {
    pub(crate) rentals: BTreeMap<RentalId, Escrowed>,
    nonces: BTreeMap<Account, u64>,
}

/// What a block did to a rental.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Happening {
    Opened(Opening),
    Stopping(u64),
    Closed(Closing),
}

pub(crate) struct Block {
    pub(crate) time: u64,
    pub(crate) happened: Vec<(RentalId, Happening)>,
    pub(crate) mined: Vec<(Transaction, bool)>,
    before: State,
}

/// Signatures that were checked before: unoptimised, that is most of what a schedule costs.
#[derive(Default)]
struct Checked(BTreeMap<(RentalId, Amount, u8, [u8; 65]), bool>);

impl Checked {
    fn or(
        &mut self,
        id: RentalId,
        total: Amount,
        kind: u8,
        by: &Signature,
        check: impl FnOnce() -> bool,
    ) -> Result<(), Revert> {
        let good = *self.0.entry((id, total, kind, by.as_bytes())).or_insert_with(check);
        if good { Ok(()) } else { Err(Revert::BadSignature) }
    }

    fn voucher(&mut self, id: RentalId, voucher: &SignedVoucher, quote: &SignedQuote) -> Result<(), Revert> {
        let check = || voucher.id == id && voucher.is_signed_by(quote.quote.renter_key, &ESCROW);
        self.or(id, voucher.cumulative, 0, &voucher.signature, check)
    }
}

pub(crate) struct Chain {
    checked: Checked,
    pub(crate) state: State,
    pub(crate) blocks: Vec<Block>,
    pub(crate) pool: Vec<Transaction>,
    /// How often it went back.
    pub(crate) forks: u64,
    confirmations: u64,
}

impl Chain {
    pub(crate) fn new(time: u64, confirmations: u64) -> Self {
        let genesis = Block { time, happened: vec![], mined: vec![], before: State::default() };
        Self {
            checked: Checked::default(),
            state: State::default(),
            blocks: vec![genesis],
            pool: vec![],
            forks: 0,
            confirmations,
        }
    }

    /// The newest block.
    pub(crate) fn head(&self) -> u64 {
        self.blocks.len() as u64 - 1
    }

    pub(crate) fn time(&self) -> u64 {
        self.blocks.last().map_or(0, |block| block.time)
    }

    /// The newest block that counts.
    pub(crate) fn confirmed(&self) -> u64 {
        self.head().saturating_sub(self.confirmations - 1)
    }

    pub(crate) fn nonce(&self, account: Account) -> u64 {
        self.state.nonces.get(&account).copied().unwrap_or(0)
    }

    /// The next nonce of an account when what waits in the pool is mined.
    pub(crate) fn pending_nonce(&self, account: Account) -> u64 {
        let waiting = self.pool.iter().filter(|waiting| waiting.from == account).map(|waiting| waiting.nonce + 1);
        waiting.max().unwrap_or(0).max(self.nonce(account))
    }

    /// Where a transaction was mined, and whether it went through.
    pub(crate) fn receipt(&self, hash: B256) -> Option<(u64, bool)> {
        // a transaction of a schedule is not older than this many blocks when it is asked for
        (0..self.blocks.len()).rev().take(400).find_map(|number| {
            let (_, success) = self.blocks[number].mined.iter().find(|(mined, _)| mined.hash == hash)?;
            Some((number as u64, *success))
        })
    }

    /// Whether a call would go through in the next block.
    pub(crate) fn simulate(&mut self, from: Account, id: RentalId, call: &Call, time: u64) -> Result<(), Revert> {
        let mut state = self.state.clone();
        let time = time.max(self.time() + 1);
        execute(&mut state, &mut self.checked, from, id, call, time, 0, B256::ZERO).map(|_| ())
    }

    /// A transaction reaches the pool, unless it is known or its nonce is used.
    pub(crate) fn offer(&mut self, transaction: Transaction) {
        let known = self.pool.iter().any(|other| other.hash == transaction.hash);
        if !known && transaction.nonce >= self.nonce(transaction.from) {
            self.pool.push(transaction);
        }
    }

    /// Makes a block at `time` of what it takes from the pool.
    pub(crate) fn mine(&mut self, time: u64, inclusion_percent: u64, random: &mut Random) {
        let time = time.max(self.time() + 1);
        let number = self.head() + 1;
        let mut block = Block { time, happened: vec![], mined: vec![], before: self.state.clone() };
        // in any order that keeps each account's own
        for _ in 0..self.pool.len() {
            let next: Vec<usize> =
                (0..self.pool.len()).filter(|&i| self.pool[i].nonce == self.nonce(self.pool[i].from)).collect();
            if next.is_empty() {
                break;
            }
            let chosen = random.pick(&next);
            if !random.percent(inclusion_percent) {
                continue;
            }
            let transaction = self.pool.swap_remove(chosen);
            *self.state.nonces.entry(transaction.from).or_default() += 1;
            let Transaction { from, id, ref call, hash, .. } = transaction;
            let outcome = execute(&mut self.state, &mut self.checked, from, id, call, time, number, hash);
            block.mined.push((transaction, outcome.is_ok()));
            block.happened.extend(outcome.ok().flatten().map(|happening| (id, happening)));
        }
        let nonces = &self.state.nonces;
        self.pool.retain(|waiting| waiting.nonce >= nonces.get(&waiting.from).copied().unwrap_or(0));
        self.blocks.push(block);
    }

    /// A rental as the escrow had it after a block.
    pub(crate) fn rental_at(&self, block: u64, id: RentalId) -> Option<&Escrowed> {
        let next = self.blocks.get(block as usize + 1);
        next.map_or(&self.state, |next| &next.before).rentals.get(&id)
    }

    /// Takes the newest blocks back; their transactions wait again, or are forgotten: more of them the deeper it goes.
    pub(crate) fn undo(&mut self, depth: u64, random: &mut Random) {
        let kept = if depth < self.confirmations { 70 } else { 20 };
        self.forks += 1;
        for _ in 0..depth.min(self.head()) {
            let Some(block) = self.blocks.pop() else { return };
            self.state = block.before;
            for (transaction, _) in block.mined {
                if random.percent(kept) {
                    self.pool.push(transaction);
                }
            }
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the surroundings of a call, once")]
fn execute(
    state: &mut State,
    checked: &mut Checked,
    from: Account,
    id: RentalId,
    call: &Call,
    time: u64,
    block: u64,
    tx: B256,
) -> Result<Option<Happening>, Revert> {
    let renter = from == Account::Of(Side::Renter);
    if let Call::Open(quote, deposit) | Call::OpenFor(quote, deposit) = call {
        let terms = &quote.quote;
        if !renter && matches!(call, Call::Open(..)) {
            return Err(Revert::NotRenter);
        }
        if time > u64::from(terms.expiry) {
            return Err(Revert::QuoteExpired);
        }
        if *deposit == Amount::ZERO || *deposit < terms.min_deposit || *deposit > terms.full_price() {
            return Err(Revert::BadDeposit);
        }
        // the id is the digest of the quote
        let check = || signer_of(&id.0, &quote.signature) == Some(terms.provider_key);
        checked.or(id, Amount::ZERO, 1, &quote.signature, check)?;
        if state.rentals.contains_key(&id) {
            return Err(Revert::QuoteUsed);
        }
        let opening = Opening { deposit: *deposit, start: time, tx, block };
        let quote = (**quote).clone();
        state.rentals.insert(id, Escrowed { quote, opening, claimed: Amount::ZERO, stop_at: None, closing: None });
        return Ok(Some(Happening::Opened(opening)));
    }
    let rental = state.rentals.get_mut(&id).filter(|rental| rental.closing.is_none()).ok_or(Revert::NotOpen)?;
    let (paid, elapsed, kind) = match call {
        Call::Open(..) | Call::OpenFor(..) => return Err(Revert::QuoteUsed),
        Call::Claim(voucher) => {
            checked.voucher(id, voucher, &rental.quote)?;
            let (due, _) = rental.due(voucher.cumulative, time);
            if due <= rental.claimed {
                return Err(Revert::NothingToClaim);
            }
            rental.claimed = due;
            return Ok(None);
        }
        Call::Stop => {
            if !renter {
                return Err(Revert::NotRenter);
            }
            if rental.stop_at.is_some() {
                return Err(Revert::AlreadyStopped);
            }
            rental.stop_at = Some(time);
            return Ok(Some(Happening::Stopping(time)));
        }
        Call::Close(voucher) => {
            if from != Account::Of(Side::Provider) {
                return Err(Revert::NotProvider);
            }
            voucher.as_ref().map_or(Ok(()), |voucher| checked.voucher(id, voucher, &rental.quote))?;
            let (due, elapsed) = rental.due(voucher.map_or(Amount::ZERO, |voucher| voucher.cumulative), time);
            (due, elapsed, 1)
        }
        Call::Release(release) => {
            if !renter {
                return Err(Revert::NotRenter);
            }
            let check = || release.id == id && release.is_signed_by(rental.quote.quote.provider_key, &ESCROW);
            checked.or(id, release.cumulative, 2, &release.signature, check)?;
            let (due, elapsed) = rental.due(release.cumulative, time);
            (due, elapsed, 2)
        }
        Call::Finalize => {
            if time < rental.final_at() {
                return Err(Revert::TooEarly);
            }
            let (_, elapsed) = rental.due(Amount::ZERO, u64::MAX);
            (rental.claimed, elapsed, if rental.stop_at.is_some() { 3 } else { 4 })
        }
    };
    let refunded = rental.opening.deposit.saturating_sub(paid);
    let closing = Closing { paid, refunded, elapsed, kind, tx, block, time };
    rental.closing = Some(closing);
    Ok(Some(Happening::Closed(closing)))
}
