//! One task for each rental: it owns the state machine, the session key and the money.
//!
//! Whatever happens becomes an input of `market::rental::renter`; what became of the machine is written to disk, and only then are its
//! effects carried out. This is where vouchers are made: signed by the rental's session key, stored, and then sent.

mod chain;
mod dispute;
mod talk;

use crate::{
    figures::Figures,
    negotiate::NoPromise,
    ratings::Untold,
    records::{Job, Record, Rentals},
};
use access::door::Granted;
use api::types::{ApiError, Receipt};
pub(crate) use dispute::NotDisputed;
use market::{
    dispute::StopReason,
    id::{PeerId, RentalId},
    rental::renter::{Effect, Input, Phase, Rental},
    time::UnixMillis,
};
use network::Handle;
use settlement::{ChainEvent, EscrowAccount, Follower, SettlementError, Wallet};
use std::{sync::Arc, time::Duration};
use store::{Json, Store, StoreError, crash_point};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};
use wire::{Grant, Unshare, proto};

/// Orders that may wait for a driver: chain events and a person's stop.
const ORDERS: usize = 64;
/// The meter is never looked at more often than this: vouchers are for whole seconds.
const FASTEST_TICK: Duration = Duration::from_millis(100);
/// Pause before a transaction that failed is tried again.
const CHAIN_PAUSE: Duration = Duration::from_secs(5);

/// What a rental looks like from outside.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The rental and its job.
    pub(crate) record: Arc<Record>,
    /// Why it is not as it should be.
    pub(crate) error: Option<ApiError>,
    /// In the end.
    pub(crate) receipt: Option<Arc<Receipt>>,
}

/// What a driver is told.
pub(crate) enum Order {
    /// The rental is to end.
    Finish,
    /// The rental is to be stopped on chain, for its arbiter to rule on; answered when that is on disk, or why not.
    Dispute(StopReason, oneshot::Sender<Result<(), NotDisputed>>),
    /// The rental is to be left by the chain, for this reason.
    Leave(StopReason),
    /// Something about the job is to be remembered; answered when it is on disk.
    Remember(Box<dyn FnOnce(&mut Job) + Send>, oneshot::Sender<()>),
    /// The chain says something.
    Chain(ChainEvent),
}

/// Speaks to a driver.
#[derive(Clone)]
pub(crate) struct Driver {
    pub(crate) id: RentalId,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) state: watch::Receiver<Snapshot>,
}

impl Driver {
    /// Whether the rental is over, unless the chain takes that back.
    pub(crate) fn is_over(&self) -> bool {
        self.state.borrow().record.rental.phase.is_over()
    }

    /// Whether nothing more can happen to the rental.
    pub(crate) fn has_ended(&self) -> bool {
        self.orders.is_closed()
    }

    /// Ends the rental.
    pub(crate) async fn finish(&self) {
        // a driver that is gone has nothing left to end
        let _ = self.orders.send(Order::Finish).await;
    }

    /// Leaves the rental by the chain, for a reason.
    pub(crate) async fn leave(&self, reason: StopReason) {
        // a driver that is gone has nothing left to leave
        let _ = self.orders.send(Order::Leave(reason)).await;
    }

    /// Remembers something about the job, on disk when this returns.
    pub(crate) async fn remember(&self, change: impl FnOnce(&mut Job) + Send + 'static) {
        let (reply, written) = oneshot::channel();
        if self.orders.send(Order::Remember(Box::new(change), reply)).await.is_ok() {
            let _ = written.await;
        }
    }

    /// Waits until the rental looks as wanted, or its driver has ended.
    pub(crate) async fn until(&mut self, wanted: impl FnMut(&Snapshot) -> bool) -> Snapshot {
        if let Ok(snapshot) = self.state.wait_for(wanted).await {
            return snapshot.clone();
        }
        self.state.borrow().clone()
    }
}

/// What a driver works with.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) network: Handle,
    pub(crate) account: EscrowAccount,
    pub(crate) follower: Follower,
    pub(crate) store: Store,
    pub(crate) figures: Arc<Figures>,
    pub(crate) untold: Arc<Untold>,
    pub(crate) cancel: CancellationToken,
}

/// Finished work.
enum Done {
    Opening(Result<(), SettlementError>),
    Mandate(Result<(), NoPromise>),
    Status(Result<proto::Status, NoPromise>),
    Voucher(Result<proto::Ack, Option<NoPromise>>),
    Finish(Result<proto::Final, NoPromise>),
    Chain(Result<(), SettlementError>),
}

struct Task {
    tools: Tools,
    session: Wallet,
    record: Record,
    error: Option<ApiError>,
    receipt: Option<Arc<Receipt>>,
    publish: watch::Sender<Snapshot>,
    work: JoinSet<Done>,
    opening: bool,
    asking: bool,
    finishing: bool,
    on_chain: bool,
    /// The end lies so deep that the chain will not take it back.
    settled: bool,
}

/// Starts the driver of a rental whose record is on disk.
pub(crate) fn start(tools: Tools, record: Record) -> Result<Driver, SettlementError> {
    let session = Wallet::from_key(&record.session_key)?;
    let (orders, inbox) = mpsc::channel(ORDERS);
    let snapshot = Snapshot { record: Arc::new(record.clone()), error: None, receipt: None };
    let (publish, state) = watch::channel(snapshot);
    let id = record.rental.id;
    let task = Task {
        tools,
        session,
        record,
        error: None,
        receipt: None,
        publish,
        work: JoinSet::new(),
        opening: false,
        asking: false,
        finishing: false,
        on_chain: false,
        settled: false,
    };
    tokio::spawn(task.run(inbox).instrument(span(&id)));
    Ok(Driver { id, orders, state })
}

/// What the lines of the log about a rental stand in.
pub(crate) fn span(id: &RentalId) -> Span {
    tracing::info_span!(parent: None, "rental", id = %id.short())
}

/// The way into the rental for this node's peer, until it ends at the latest.
pub(crate) fn door(record: &Record, network: &Handle) -> Result<Granted, SettlementError> {
    let (serial, expires) = (0, longest(&record.rental));
    let grant = grant(record, &network.local_peer_id(), serial, expires)?;
    Ok(Granted::new(network.clone(), record.rental.provider, grant))
}

/// A moment at which the rental is surely over, in Unix seconds.
pub(crate) fn longest(rental: &Rental) -> u64 {
    let quote = &rental.quote.quote;
    UnixMillis::now().seconds() + u64::from(quote.max_seconds) + u64::from(quote.window)
}

/// The session key's word that a peer may open sessions of the rental.
pub(crate) fn grant(
    record: &Record,
    guest: &PeerId,
    serial: u64,
    expires: u64,
) -> Result<proto::SessionGrant, SettlementError> {
    let rental = &record.rental;
    let grant = Grant { id: rental.id, serial, expires };
    let digest = grant.digest(&rental.provider, guest, &rental.quote.escrow);
    Ok(wire::grant_to_proto(&grant, &Wallet::from_key(&record.session_key)?.sign_digest(&digest)?))
}

/// The session key's word that a peer may not, with any grant up to this serial.
pub(crate) fn unshare(record: &Record, guest: PeerId, serial: u64) -> Result<proto::UnshareRequest, SettlementError> {
    let rental = &record.rental;
    let unshare = Unshare { id: rental.id, guest, serial };
    let digest = unshare.digest(&rental.provider, &rental.quote.escrow);
    Ok(wire::unshare_to_proto(&unshare, &Wallet::from_key(&record.session_key)?.sign_digest(&digest)?))
}

impl Task {
    fn rental(&self) -> &Rental {
        &self.record.rental
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<Order>) {
        let cancel = self.tools.cancel.clone();
        let period = Duration::from_millis(self.rental().tariff().tick_millis()).max(FASTEST_TICK);
        let mut tick = tokio::time::interval(period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let effects = self.rental().resume();
        self.act(effects).await;
        while !self.is_over() {
            tokio::select! {
                () = cancel.cancelled() => return,
                Some(order) = inbox.recv() => self.order(order).await,
                Some(done) = self.work.join_next() => match done {
                    Ok(done) => self.done(done).await,
                    Err(error) => tracing::error!(rental = %self.rental().id.short(), %error, "a task of the rental died"),
                },
                _ = tick.tick() => self.tick().await,
            }
        }
        self.tools.follower.unwatch(self.rental().id).await;
        tracing::debug!(rental = %self.rental().id.short(), "the driver has nothing left to do");
    }

    fn is_over(&self) -> bool {
        match self.rental().phase {
            Phase::Closed => self.settled && self.receipt.is_some(),
            Phase::Lapsed => !self.opening,
            _ => false,
        }
    }

    async fn order(&mut self, order: Order) {
        match order {
            Order::Finish => self.input(Input::Finish).await,
            Order::Leave(reason) => self.input(Input::Leave(reason)).await,
            Order::Dispute(reason, reply) => {
                let _ = reply.send(self.dispute(reason).await);
            }
            Order::Remember(change, reply) => {
                let mut record = self.record.clone();
                change(&mut record.job);
                self.keep(record).await;
                let _ = reply.send(());
            }
            Order::Chain(event) => self.chain_event(event).await,
        }
    }

    async fn tick(&mut self) {
        self.ask_whether_ready(Duration::ZERO);
        self.input(Input::Tick).await;
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Opening(result) => {
                self.opening = false;
                if let Err(error) = result {
                    self.not_opened(error).await;
                }
            }
            Done::Mandate(answer) => {
                self.opening = false;
                self.mandated(answer);
            }
            Done::Status(status) => {
                self.asking = false;
                if let Ok(status) = status {
                    self.status(status).await;
                }
                self.ask_whether_ready(talk::STATUS_PAUSE);
            }
            Done::Voucher(answer) => {
                self.asking = false;
                self.answered(answer).await;
            }
            Done::Finish(answer) => {
                self.finishing = false;
                self.finished(answer).await;
            }
            Done::Chain(result) => {
                self.on_chain = false;
                if let Err(error) = result {
                    tracing::warn!(rental = %self.rental().id.short(), %error, "settling on chain did not succeed yet");
                }
            }
        }
    }

    // --- the rule: step, write, act ---

    async fn input(&mut self, input: Input) {
        let (mut next, name) = (self.record.clone(), input.name());
        let effects = match next.rental.step(input, UnixMillis::now()) {
            Ok(effects) => effects,
            Err(error) => {
                tracing::debug!(rental = %self.rental().id.short(), %error, "nothing to do");
                return;
            }
        };
        crash_point("renter", name, "stepped");
        if next != self.record {
            if next.rental.phase != self.rental().phase {
                let (from, to) = (self.rental().phase.name(), next.rental.phase.name());
                tracing::info!(rental = %self.rental().id.short(), from, to, "phase");
            }
            let before = self.rental().clone();
            if !self.keep(next).await {
                return;
            }
            self.tools.figures.changed(&before, self.rental());
            crash_point("renter", name, "written");
        }
        Box::pin(self.act(effects)).await;
        crash_point("renter", name, "acted");
    }

    /// Writes the record; what is not written did not happen.
    async fn keep(&mut self, record: Record) -> bool {
        if let Err(error) = write(&self.tools.store, record.clone()).await {
            tracing::error!(rental = %self.rental().id.short(), %error, "the rental cannot be written, so nothing is done");
            return false;
        }
        self.record = record;
        self.announce();
        true
    }

    /// Begins some work of this rental, whose lines of the log are the rental's too.
    fn start(&mut self, work: impl Future<Output = Done> + Send + 'static) {
        self.work.spawn(work.in_current_span());
    }

    fn announce(&self) {
        let snapshot = Snapshot {
            record: Arc::new(self.record.clone()),
            error: self.error.clone(),
            receipt: self.receipt.clone(),
        };
        self.publish.send_replace(snapshot);
    }

    async fn act(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::SendOpen => self.send_open(Duration::ZERO),
                Effect::Sign(total) => self.sign(total).await,
                Effect::TellFinish => self.tell_finish(),
                Effect::SendRelease => self.send_release(),
                Effect::SendStop => self.send_stop(),
                Effect::SendFinalize => {
                    let quote = self.rental().quote.quote.clone();
                    self.settle(move |account| async move { account.finalize(&quote).await.map(|_| ()) });
                }
                Effect::Receipt => self.write_receipt().await,
                Effect::Retract => self.retract_receipt().await,
            }
        }
    }
}

/// Writes a record with the certainty that a promise needs.
pub(crate) async fn write(store: &Store, record: Record) -> Result<(), StoreError> {
    store.run(move |store| store.put_sync::<Rentals>(&record.rental.id, &Json(record.clone()))).await
}
