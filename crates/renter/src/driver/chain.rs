//! What the chain tells of a rental, what is sent to it, and the receipt in the end.

use super::{CHAIN_PAUSE, Done, Task, talk};
use crate::{negotiate::chain_error, ratings, receipt, records::Receipts};
use api::types::{ApiError, ErrorKind};
use market::{
    rental::renter::{Input, Phase},
    signed::Stop,
};
use settlement::{ChainEvent, EscrowAccount, SettlementError};
use std::{sync::Arc, time::Duration};
use store::{Json, crash_point};
use wire::CarryAsk;

/// How long somebody who carries a Stop may take to bring it to the chain: a few blocks of a slow one.
const CARRY_PATIENCE: Duration = Duration::from_secs(60);

impl Task {
    pub(super) async fn chain_event(&mut self, event: ChainEvent) {
        match event {
            ChainEvent::Opened { opening, .. } => {
                self.input(Input::Opened(opening)).await;
                self.ask_whether_ready(Duration::ZERO);
            }
            ChainEvent::OpeningUndone { .. } => self.input(Input::OpeningUndone).await,
            ChainEvent::ClosingUndone { .. } => self.input(Input::ClosingUndone).await,
            ChainEvent::Settled { .. } => self.settled = true,
            ChainEvent::Stopping { stop_at, .. } => self.input(Input::Stopping(u64::from(stop_at))).await,
            ChainEvent::Closed { closing, .. } => self.input(Input::Closed(closing)).await,
            ChainEvent::Head { timestamp, .. } => {
                let (expiry, opened) = (u64::from(self.rental().quote.quote.expiry), self.rental().opening.is_some());
                if !opened && timestamp > expiry {
                    let why = "the quote expired before the chain took the opening";
                    self.error.get_or_insert_with(|| ApiError::new(ErrorKind::Timeout, why, "try again"));
                }
                self.input(Input::BlockTime(timestamp)).await;
            }
        }
    }

    /// An opening that failed for certain ends the rental; one that may still be mined is tried again until the quote expires.
    pub(super) async fn not_opened(&mut self, error: SettlementError) {
        tracing::warn!(rental = %self.rental().id.short(), %error, "the opening failed");
        let certain = matches!(
            error,
            SettlementError::InsufficientFunds { .. }
                | SettlementError::InsufficientGas { .. }
                | SettlementError::Reverted { .. }
                | SettlementError::OtherEscrow { .. }
        );
        self.error = Some(chain_error(&error));
        if certain {
            self.input(Input::NotOpened).await;
        } else if self.rental().phase == Phase::Opening {
            self.send_open(CHAIN_PAUSE);
        }
    }

    pub(super) fn send_open(&mut self, pause: Duration) {
        if std::mem::replace(&mut self.opening, true) {
            return;
        }
        if let Some(mandate) = self.rental().mandate.clone() {
            return self.send_mandate(mandate, pause);
        }
        let (account, quote, deposit) =
            (self.tools.account.clone(), self.rental().quote.clone(), self.rental().deposit);
        self.start(async move {
            tokio::time::sleep(pause).await;
            Done::Opening(account.open(&quote, deposit).await.map(|_| ()))
        });
    }

    /// Closes with the provider's release. A wallet that is not the renter itself must bring the session key's voucher for the same total.
    pub(super) fn send_release(&mut self) {
        let Some(release) = self.rental().release else { return };
        let exact = self.voucher_for(release.cumulative);
        let quote = self.rental().quote.quote.clone();
        self.settle(move |account| async move {
            let voucher = if account.payer().is_own() { None } else { Some(exact?) };
            account.release(&quote, &release, voucher.as_ref()).await.map(|_| ())
        });
    }

    /// Freezes the meter. A wallet that is not the renter itself must bring the session key's order; one without coin for the gas has others
    /// carry that order.
    pub(super) fn send_stop(&mut self) {
        let rental = self.rental();
        let (id, quote, block) = (rental.id, rental.quote.clone(), rental.opening.map(|opening| opening.block));
        let reason = rental.stop_reason.number();
        let order = Stop { id: id.0, reason };
        let signed = self.session.sign_digest(&quote.escrow.digest(&order));
        let network = self.tools.network.clone();
        self.settle(move |account| async move {
            let signature = signed?;
            let brought = (!account.payer().is_own()).then_some(&signature);
            match (account.stop(&quote.quote, reason, brought).await, block) {
                (Err(error @ SettlementError::InsufficientGas { .. }), Some(block)) => {
                    let ask = CarryAsk { escrow: quote.escrow, id, block, reason, signature };
                    if !talk::have_carried(&network, &ask).await {
                        return Err(error);
                    }
                    // the chain tells when it is done; should it not be, somebody else is asked
                    tokio::time::sleep(CARRY_PATIENCE).await;
                    Ok(())
                }
                (result, _) => result.map(|_| ()),
            }
        });
    }

    /// One transaction of this rental at a time; the machine asks again for what is still needed.
    pub(super) fn settle<F>(&mut self, send: impl FnOnce(EscrowAccount) -> F)
    where
        F: Future<Output = Result<(), SettlementError>> + Send + 'static,
    {
        if std::mem::replace(&mut self.on_chain, true) {
            return;
        }
        let sending = send(self.tools.account.clone());
        self.start(async move {
            let result = sending.await;
            if result.is_err() {
                tokio::time::sleep(CHAIN_PAUSE).await;
            }
            Done::Chain(result)
        });
    }

    pub(super) async fn write_receipt(&mut self) {
        let Some(receipt) = receipt::of(&self.record) else { return };
        let (store, written) = (self.tools.store.clone(), receipt.clone());
        let result = store
            .run(move |store| {
                // each start asks for it again, as long as the chain may take the closing back
                if store.get::<Receipts>(&written.id)?.is_some_and(|kept| kept.0 == written) {
                    return Ok(());
                }
                crash_point("renter", "receipt", "writing");
                store.put_sync::<Receipts>(&written.id, &Json(written.clone()))?;
                crash_point("renter", "receipt", "written");
                Ok(())
            })
            .await;
        if let Err(error) = result {
            tracing::error!(rental = %self.rental().id.short(), %error, "the receipt cannot be written");
        }
        ratings::tell_checks(&self.tools.store, &self.tools.untold, self.rental().id).await;
        self.receipt = Some(Arc::new(receipt));
        self.announce();
    }

    pub(super) async fn retract_receipt(&mut self) {
        let id = self.rental().id;
        let deleted = self.tools.store.run(move |store| store.delete::<Receipts>(&id)).await;
        if let Err(error) = deleted {
            tracing::error!(rental = %id.short(), %error, "a receipt that does not hold any more cannot be removed");
        }
        self.receipt = None;
        self.announce();
    }
}
