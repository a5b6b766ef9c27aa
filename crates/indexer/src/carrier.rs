//! Carries to the chain what a renter without coin has signed: its Stop, when its provider has gone, and the finalization when the window is
//! over. Nothing is gained by it but a market in which nobody's money sticks; the owner says how many a day.
//!
//! An errand is on disk before it is promised, and it is run until the rental is closed, by whomever. What is sent can do no harm: the Stop
//! is the renter's own, anybody may finalize, and neither names a payee.

use crate::Error;
use market::{
    id::RentalId,
    quote::Quote,
    refusal::{Refusal, RefusalCode},
    signed::{Escrow, Stop, signer_of},
    time::UnixMillis,
};
use network::IncomingRental;
use serde::{Deserialize, Serialize};
use settlement::{EscrowAccount, SettlementError};
use std::{collections::BTreeMap, time::Duration};
use store::{Json, Store, Table, crash_point};
use tokio::{
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;
use wire::{CarryAsk, proto};

/// What the daily number counts over, in milliseconds.
const DAY: u64 = 86_400_000;
/// Requests looked into at once; beyond it askers are told to come back.
const MAX_ASKING: usize = 16;
/// Pause between two looks at a rental that has to be finalized: nobody is in a hurry then.
const LOOK_PAUSE: Duration = Duration::from_secs(15);
/// While the chain cannot be asked the pause doubles, up to this.
const MAX_LOOK_PAUSE: Duration = Duration::from_secs(3_600);
/// An errand is given up when this much time has passed since its rental could be finalized, in milliseconds: a chain that has been out of reach for thirty days
/// will not come back for one rental, and anybody may still finalize it.
const LONGEST_DELAY: u64 = 30 * DAY;

/// Every errand of the last day, and those that are not done.
pub(crate) struct Errands;
impl Table for Errands {
    const NAME: &'static str = "indexer_errands";
    type Key = RentalId;
    type Value = Json<Errand>;
}

/// One rental to be stopped and finalized.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Errand {
    escrow: Escrow,
    quote: Quote,
    start: u32,
    reason: u32,
    signature: alloy_primitives::Signature,
    taken: UnixMillis,
    done: bool,
}

/// What a carrier works with.
pub struct Parts {
    /// The account that pays, at each escrow it serves.
    pub accounts: Vec<EscrowAccount>,
    /// Its memory.
    pub store: Store,
    /// How many errands it takes on in a day.
    pub per_day: u32,
    /// Ends it.
    pub cancel: CancellationToken,
}

struct Carrier {
    parts: Parts,
    errands: BTreeMap<RentalId, Errand>,
    work: JoinSet<Done>,
    asking: usize,
}

enum Done {
    /// A request was looked into.
    Examined(Box<IncomingRental>, Result<(RentalId, Box<Errand>), Refusal>),
    /// The rental is closed.
    Closed(RentalId),
    /// The chain was out of reach for too long.
    GivenUp(RentalId),
}

/// Starts carrying: for those who ask, and what an earlier run has left.
pub async fn start(parts: Parts, requests: mpsc::Receiver<IncomingRental>) -> Result<JoinHandle<()>, Error> {
    let read = |store: &Store| store.scan::<Errands>(..)?.collect::<Result<Vec<_>, _>>();
    let errands = parts.store.run(read).await?.into_iter().map(|(id, errand)| (id, errand.0)).collect();
    let carrier = Carrier { parts, errands, work: JoinSet::new(), asking: 0 };
    Ok(tokio::spawn(carrier.run(requests)))
}

impl Carrier {
    async fn run(mut self, mut requests: mpsc::Receiver<IncomingRental>) {
        let left: Vec<_> = self.errands.iter().filter(|(_, errand)| !errand.done).map(|(id, _)| *id).collect();
        left.into_iter().for_each(|id| self.set_out(id));
        let cancel = self.parts.cancel.clone();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                Some(request) = requests.recv() => self.asked(request),
                Some(done) = self.work.join_next() => match done {
                    Ok(Done::Examined(request, result)) => self.examined(*request, result).await,
                    Ok(Done::Closed(id)) => {
                        self.done(id).await;
                        tracing::info!(rental = %id.short(), "an errand is done: the rental is closed");
                    }
                    Ok(Done::GivenUp(id)) => {
                        self.done(id).await;
                        tracing::error!(rental = %id.short(), "an errand is given up: its chain could not be asked for too long");
                    }
                    Err(error) => tracing::error!(%error, "an errand died; the next start takes it up again"),
                },
                else => return,
            }
        }
    }

    fn asked(&mut self, incoming: IncomingRental) {
        let answer = match &incoming.request.request {
            Some(proto::rental_request::Request::Carry(message)) => match wire::carry_from_proto(message) {
                // asked again because our answer was lost
                Ok(ask) if self.errands.contains_key(&ask.id) => {
                    incoming.reply.send(carried(ask.id));
                    return;
                }
                Ok(ask) => self.may_take().map(|()| ask),
                Err(error) => Err(Refusal::new(RefusalCode::BadRequest, error.to_string())),
            },
            _ => Err(Refusal::new(RefusalCode::NoSuchSlot, "nothing is rented here")),
        };
        let account = answer.and_then(|ask| {
            let account = self.account(&ask.escrow).cloned();
            let account =
                account.ok_or_else(|| Refusal::new(RefusalCode::Settlement, "that escrow is not served here"));
            account.map(|account| (ask, account))
        });
        match account {
            Ok((ask, account)) => {
                self.asking += 1;
                self.work.spawn(async move { Done::Examined(Box::new(incoming), examine(&account, &ask).await) });
            }
            Err(refusal) => refuse(incoming, &refusal),
        }
    }

    /// Whether one more is within what the owner allows.
    fn may_take(&mut self) -> Result<(), Refusal> {
        let now = UnixMillis::now();
        let today = self.errands.values().filter(|errand| now.since(errand.taken) < DAY).count();
        if today + self.asking >= self.parts.per_day as usize || self.asking >= MAX_ASKING {
            let detail = format!("{} errands a day are run here, and they are taken", self.parts.per_day);
            return Err(Refusal::new(RefusalCode::RateLimited, detail));
        }
        Ok(())
    }

    fn account(&self, escrow: &Escrow) -> Option<&EscrowAccount> {
        self.parts.accounts.iter().find(|account| account.sender().chain().escrow() == *escrow)
    }

    /// Promises the errand, on disk first, and sets out.
    async fn examined(&mut self, incoming: IncomingRental, result: Result<(RentalId, Box<Errand>), Refusal>) {
        self.asking -= 1;
        let (id, errand) = match result {
            Ok(good) => good,
            Err(refusal) => return refuse(incoming, &refusal),
        };
        let kept = (*errand).clone();
        if let Err(error) = self.parts.store.run(move |store| store.put_sync::<Errands>(&id, &Json(kept.clone()))).await
        {
            return refuse(incoming, &Refusal::new(RefusalCode::Internal, error.to_string()));
        }
        crash_point("indexer", "errand", "written");
        tracing::info!(rental = %id.short(), peer = %incoming.peer, "carrying a renter's Stop");
        self.errands.insert(id, *errand);
        incoming.reply.send(carried(id));
        self.set_out(id);
    }

    fn set_out(&mut self, id: RentalId) {
        let Some(errand) = self.errands.get(&id).cloned() else { return };
        let Some(account) = self.account(&errand.escrow).cloned() else {
            return tracing::warn!(rental = %id.short(), "its chain is not configured any more");
        };
        self.work.spawn(async move {
            let mut pause = LOOK_PAUSE;
            while let Err(error) = errand.step(&account, id).await {
                if UnixMillis::now() >= errand.given_up_at() {
                    return Done::GivenUp(id);
                }
                tracing::warn!(rental = %id.short(), %error, "an errand goes on later");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(MAX_LOOK_PAUSE);
            }
            Done::Closed(id)
        });
    }

    /// It is remembered for the rest of its day, since it counts.
    async fn done(&mut self, id: RentalId) {
        let now = UnixMillis::now();
        if let Some(errand) = self.errands.get_mut(&id) {
            errand.done = true;
        }
        let over: Vec<_> =
            self.errands.iter().filter(|(_, e)| e.done && now.since(e.taken) >= DAY).map(|(id, _)| *id).collect();
        self.errands.retain(|id, _| !over.contains(id));
        let done = self.errands.get(&id).cloned();
        let written = self.parts.store.run(move |store| {
            let mut batch = store.batch();
            if let Some(done) = &done {
                batch.put::<Errands>(&id, &Json(done.clone()))?;
            }
            for id in &over {
                batch.delete::<Errands>(id)?;
            }
            batch.commit()
        });
        if let Err(error) = written.await {
            tracing::error!(rental = %id.short(), %error, "an errand that is done cannot be written");
        }
    }
}

impl Errand {
    /// When it is not worth a further try, by our own clock: the chain's is what cannot be asked.
    fn given_up_at(&self) -> UnixMillis {
        let end = u64::from(self.start) + u64::from(self.quote.max_seconds) + u64::from(self.quote.window);
        UnixMillis(end * 1_000).plus(LONGEST_DELAY)
    }

    /// Does what is due, and comes back when the rental is closed.
    async fn step(&self, account: &EscrowAccount, id: RentalId) -> Result<(), SettlementError> {
        let chain = account.sender().chain();
        loop {
            let head = chain.confirmed_head().await?;
            let Some(rental) = chain.rental_at(id, head.number).await? else { return Ok(()) };
            let term = u64::from(self.start) + u64::from(self.quote.max_seconds);
            let end = rental.stop_at.map_or(term, |stop| u64::from(stop).min(term));
            if head.timestamp >= end + u64::from(self.quote.window) {
                account.finalize(&self.quote).await?;
            } else if rental.stop_at.is_none() && head.timestamp < term {
                account.stop(&self.quote, self.reason, Some(&self.signature)).await?;
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

/// Looks at the rental on chain, and whether its session key has signed the Stop.
async fn examine(account: &EscrowAccount, ask: &CarryAsk) -> Result<(RentalId, Box<Errand>), Refusal> {
    let chain = account.sender().chain();
    let asked =
        |error: SettlementError| Refusal::new(RefusalCode::Internal, format!("the chain cannot be asked: {error}"));
    let unknown =
        || Refusal::new(RefusalCode::NoSuchRental, format!("{} was not opened in block {}", ask.id, ask.block));
    let opening = chain.opening_in(ask.id, ask.block).await.map_err(asked)?.ok_or_else(unknown)?;
    let closed = || Refusal::new(RefusalCode::WrongState, "the rental is closed");
    let head = chain.confirmed_head().await.map_err(asked)?;
    chain.rental_at(ask.id, head.number).await.map_err(asked)?.ok_or_else(closed)?;
    let digest = ask.escrow.digest(&Stop { id: ask.id.0, reason: ask.reason });
    if signer_of(&digest, &ask.signature) != Some(opening.quote.renter_key) {
        return Err(Refusal::new(RefusalCode::BadRequest, "the Stop is not signed by the rental's session key"));
    }
    let errand = Errand {
        escrow: ask.escrow,
        quote: opening.quote,
        start: opening.start,
        reason: ask.reason,
        signature: ask.signature,
        taken: UnixMillis::now(),
        done: false,
    };
    Ok((ask.id, Box::new(errand)))
}

fn carried(id: RentalId) -> proto::RentalResponse {
    let carried = proto::Carried { id: id.0.to_vec() };
    proto::RentalResponse { response: Some(proto::rental_response::Response::Carried(carried)) }
}

fn refuse(incoming: IncomingRental, refusal: &Refusal) {
    let refusal = wire::refusal_to_proto(refusal);
    incoming.reply.send(proto::RentalResponse { response: Some(proto::rental_response::Response::Refusal(refusal)) });
}
