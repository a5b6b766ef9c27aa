//! Many rentals closed in one transaction: about a third of the gas of closing each by itself, since the transaction, the lock and the
//! payments to the same payee in the same token are paid for once.
//!
//! A closing that is on its way already, such as one of an earlier run, is waited for. The others go out together; should the escrow refuse
//! them together, or the account not have the gas for all of them at once, each is closed by itself, so that one of them does not hold up
//! the rest.

use super::{EscrowAccount, encode};
use crate::{
    bindings::{RentalEscrow, terms},
    error::SettlementError,
    events::RentalEvent,
    transactions::{Confirmed, Purpose},
};
use alloy::{
    primitives::{Address, U256},
    sol_types::SolEvent,
};
use futures::future::{join_all, try_join_all};
use market::{id::RentalId, money::Amount, quote::Quote, signed::SignedVoucher};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};
use tracing::warn;

/// The most rentals that one transaction closes. A transaction may use 2²⁴ gas (EIP-7825) and no block that rentals are settled in holds less:
/// even if every payee burned all the gas that the escrow leaves it (200,000, two payees a rental) and nothing could be paid together, 24
/// closings with the sender's margin of a quarter stay below. What they share is a transaction's 21,000, so more would save little.
pub const MAX_BATCH: usize = 24;

/// A rental to be closed by its provider.
#[derive(Clone, Debug)]
pub struct ToClose {
    /// Its terms.
    pub quote: Quote,
    /// The best voucher there is; without one, everything not claimed goes back.
    pub voucher: Option<SignedVoucher>,
}

impl ToClose {
    /// Neighbours with the same token and payees are paid in one transfer. The id decides among them, so that the same rentals make the
    /// same transaction.
    fn order(&self, account: &EscrowAccount) -> (Address, Address, Address, RentalId) {
        (self.quote.token, self.quote.provider, self.quote.renter, account.id(&self.quote))
    }
}

/// What became of one of several closings; what concerns several is shared by them.
#[derive(Clone, Debug)]
pub struct ClosingOutcome {
    /// The rental.
    pub id: RentalId,
    /// The transaction that closed it; none if the newest block did not show it open any more.
    pub result: Result<Option<Confirmed>, Arc<SettlementError>>,
}

impl ClosingOutcome {
    fn all(ids: impl IntoIterator<Item = RentalId>, result: Result<Option<Confirmed>, SettlementError>) -> Vec<Self> {
        let result = result.map_err(Arc::new);
        ids.into_iter().map(|id| Self { id, result: result.clone() }).collect()
    }
}

/// A transaction, and the rentals that it closed.
type Closed = (Confirmed, BTreeSet<RentalId>);

impl EscrowAccount {
    /// Closes rentals as their provider or its signing key: together where that is possible, and otherwise each by itself. Asked again, it
    /// goes on waiting for the same transactions. No more than [`MAX_BATCH`] at once.
    pub async fn close_together(&self, rentals: Vec<ToClose>) -> Vec<ClosingOutcome> {
        let ids: Vec<RentalId> = rentals.iter().map(|one| self.id(&one.quote)).collect();
        let under_way = match self.closings_under_way(&ids).await {
            Ok(under_way) => under_way,
            Err(error) => return ClosingOutcome::all(ids, Err(error)),
        };
        let (waiting, fresh) = rentals.into_iter().partition(|one| under_way.contains_key(&self.id(&one.quote)));
        let (waited, closed) = tokio::join!(self.await_all(waiting, &under_way), self.close_fresh(fresh));
        waited.into_iter().chain(closed).collect()
    }

    /// Closes rentals in one transaction, and tells which of them it closed: those that are not open are skipped. The first that the escrow
    /// refuses for another reason refuses them all.
    pub async fn close_many(&self, batch: &[ToClose]) -> Result<(Confirmed, BTreeSet<RentalId>), SettlementError> {
        if batch.len() > MAX_BATCH {
            return Err(SettlementError::BatchTooLarge { given: batch.len(), limit: MAX_BATCH });
        }
        let mut batch: Vec<&ToClose> = batch.iter().collect();
        batch.sort_by_key(|one| one.order(self));
        let closing = |one: &&ToClose| RentalEscrow::Closing {
            quote: terms(&one.quote),
            cumulative: one.voucher.map_or(Amount::ZERO, |voucher| voucher.cumulative).into(),
            voucherSig: one.voucher.map(|voucher| encode(&voucher.signature)).unwrap_or_default(),
        };
        let call = RentalEscrow::closeManyCall { closings: batch.iter().map(closing).collect() };
        let ids: Vec<RentalId> = batch.iter().map(|one| self.id(&one.quote)).collect();
        let confirmed = self.send(Purpose::CloseMany(ids.clone()), call, U256::ZERO).await?;
        Ok((confirmed, self.closed_by(&confirmed, &ids).await?))
    }

    /// Those of the rentals whose closing is on its way, each with what is under way for it.
    async fn closings_under_way(&self, ids: &[RentalId]) -> Result<HashMap<RentalId, Purpose>, SettlementError> {
        let mut found = HashMap::new();
        for purpose in self.sender.under_way().await? {
            let here: Vec<RentalId> = purpose.closes().iter().filter(|id| ids.contains(id)).copied().collect();
            found.extend(here.into_iter().map(|id| (id, purpose.clone())));
        }
        Ok(found)
    }

    /// Waits for closings that are under way.
    async fn await_all(&self, rentals: Vec<ToClose>, under_way: &HashMap<RentalId, Purpose>) -> Vec<ClosingOutcome> {
        let mut groups: HashMap<&Purpose, Vec<ToClose>> = HashMap::new();
        for one in rentals {
            if let Some(purpose) = under_way.get(&self.id(&one.quote)) {
                groups.entry(purpose).or_default().push(one);
            }
        }
        let wait = async |(purpose, rentals)| self.told(rentals, self.await_closing(purpose).await).await;
        join_all(groups.into_iter().map(wait)).await.into_iter().flatten().collect()
    }

    async fn await_closing(&self, purpose: &Purpose) -> Result<Closed, SettlementError> {
        let confirmed = self.sender.confirmed(purpose).await?;
        Ok((confirmed, self.closed_by(&confirmed, purpose.closes()).await?))
    }

    /// Closes rentals of which nothing is under way.
    async fn close_fresh(&self, rentals: Vec<ToClose>) -> Vec<ClosingOutcome> {
        // one by itself is told by its own transaction's simulation
        if rentals.len() < 2 {
            return self.close_one_by_one(rentals).await;
        }
        let chain = self.sender.chain();
        let shown = match try_join_all(rentals.iter().map(|one| chain.rental(self.id(&one.quote)))).await {
            Ok(shown) => shown,
            Err(error) => return ClosingOutcome::all(rentals.iter().map(|one| self.id(&one.quote)), Err(error)),
        };
        // gas is well spent on those that are still open
        let (open, gone): (Vec<_>, Vec<_>) = rentals.into_iter().zip(shown).partition(|(_, shown)| shown.is_some());
        let open: Vec<ToClose> = open.into_iter().map(|(one, _)| one).collect();
        let mut outcomes = ClosingOutcome::all(gone.iter().map(|(one, _)| self.id(&one.quote)), Ok(None));
        outcomes.extend(if open.len() < 2 { self.close_one_by_one(open).await } else { self.try_together(open).await });
        outcomes
    }

    async fn try_together(&self, rentals: Vec<ToClose>) -> Vec<ClosingOutcome> {
        match self.close_many(&rentals).await {
            Err(error @ (SettlementError::Reverted { .. } | SettlementError::InsufficientGas { .. })) => {
                warn!(rentals = rentals.len(), %error, "they cannot be closed together; closing them one by one");
                self.close_one_by_one(rentals).await
            }
            outcome => self.told(rentals, outcome).await,
        }
    }

    /// What a transaction made of each of several rentals. One that it skipped was gone, or the chain went back on its opening and has it
    /// again: closed by itself, it is told which at no cost.
    async fn told(&self, rentals: Vec<ToClose>, outcome: Result<Closed, SettlementError>) -> Vec<ClosingOutcome> {
        let (confirmed, closed) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => return ClosingOutcome::all(rentals.iter().map(|one| self.id(&one.quote)), Err(error)),
        };
        let (done, skipped): (Vec<_>, Vec<_>) =
            rentals.into_iter().partition(|one| closed.contains(&self.id(&one.quote)));
        let mut outcomes = ClosingOutcome::all(done.iter().map(|one| self.id(&one.quote)), Ok(Some(confirmed)));
        outcomes.extend(self.close_one_by_one(skipped).await);
        outcomes
    }

    /// Closes each in a transaction of its own.
    pub async fn close_one_by_one(&self, rentals: Vec<ToClose>) -> Vec<ClosingOutcome> {
        let close = async |one: ToClose| {
            let result = self.close(&one.quote, one.voucher.as_ref()).await;
            ClosingOutcome { id: self.id(&one.quote), result: result.map(Some).map_err(Arc::new) }
        };
        join_all(rentals.into_iter().map(close)).await
    }

    /// Which rentals a transaction closed.
    async fn closed_by(&self, confirmed: &Confirmed, ids: &[RentalId]) -> Result<BTreeSet<RentalId>, SettlementError> {
        let (closed, block) = ([RentalEscrow::Closed::SIGNATURE_HASH], confirmed.block_number);
        let events = self.sender.chain().rental_events(&closed, ids, block, block).await?;
        let by_it = events.into_iter().filter_map(|event| match event {
            RentalEvent::Closed(closing) if closing.transaction == confirmed.transaction => Some(closing.id),
            _ => None,
        });
        Ok(by_it.collect())
    }
}
