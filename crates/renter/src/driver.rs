//! One task for each rental: it owns the state machine, the session key and the money.
//!
//! Whatever happens becomes an input of `market::rental::renter`; what became of the machine is written to disk, and only then are its
//! effects carried out. This is where vouchers are made: signed by the rental's session key, stored, and then sent.

use crate::{
    figures::Figures,
    negotiate::{NoPromise, chain_error, rental_request},
    records::{Job, Receipts, Record, Rentals},
};
use api::types::{ApiError, ErrorKind, Receipt, Role, TransactionRef};
use market::{
    id::RentalId,
    money::Amount,
    refusal::RefusalCode,
    rental::{
        Closing,
        renter::{Effect, Input, Phase, Rental},
    },
    signed::{SessionGrant, SignedRelease, SignedVoucher},
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
use wire::proto;

/// Orders that may wait for a driver: chain events and a person's stop.
const ORDERS: usize = 64;
/// The meter is never looked at more often than this: vouchers are for whole seconds.
const FASTEST_TICK: Duration = Duration::from_millis(100);
/// How long a voucher may stay unanswered: an increment, but not less than a message may take around the world twice.
const SHORTEST_ANSWER: Duration = Duration::from_secs(2);
/// Pause before a voucher that could not be delivered is sent again: a few times within the shortest answer.
const VOUCHER_PAUSE: Duration = Duration::from_millis(250);
/// Pause before the provider is asked again whether the sandbox is up: a person notices half a second, and sandboxes take as long.
const STATUS_PAUSE: Duration = Duration::from_millis(200);
/// Pause before the end is told again to a provider that did not answer.
const FINISH_PAUSE: Duration = Duration::from_secs(2);
/// Pause before a transaction that failed is tried again.
const CHAIN_PAUSE: Duration = Duration::from_secs(5);
/// Why a renter stops on chain: the provider does not answer. Recorded in the chain's event, and nothing else.
const REASON_UNANSWERED: u32 = 1;

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
    pub(crate) cancel: CancellationToken,
}

/// Finished work.
enum Done {
    Opening(Result<(), SettlementError>),
    Status(Result<proto::Status, NoPromise>),
    Voucher(Result<proto::Ack, Option<NoPromise>>),
    Finish(Result<proto::Final, NoPromise>),
    Chain(Result<(), SettlementError>),
    Closed(Option<Closing>),
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

/// Lets this node's peer into the rental until it ends at the latest.
pub(crate) fn grant(record: &Record, network: &Handle) -> Result<proto::SessionGrant, SettlementError> {
    let rental = &record.rental;
    let seconds = u64::from(rental.quote.quote.max_seconds) + u64::from(rental.quote.quote.window);
    let expires = UnixMillis::now().seconds() + seconds;
    let statement = SessionGrant {
        id: rental.id.0,
        providerPeer: rental.provider.to_bytes().into(),
        renterPeer: network.local_peer_id().to_bytes().into(),
        expires,
    };
    let signature = Wallet::from_key(&record.session_key)?.sign_digest(&rental.quote.escrow.digest(&statement))?;
    Ok(wire::grant_to_proto(rental.id, expires, &signature))
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
            Order::Remember(change, reply) => {
                let mut record = self.record.clone();
                change(&mut record.job);
                self.keep(record).await;
                let _ = reply.send(());
            }
            Order::Chain(event) => self.chain_event(event).await,
        }
    }

    async fn chain_event(&mut self, event: ChainEvent) {
        if let Some(opening) = event.opening() {
            self.input(Input::Opened(opening)).await;
            return self.ask_whether_ready(Duration::ZERO);
        }
        match event {
            ChainEvent::OpeningUndone { .. } => self.input(Input::OpeningUndone).await,
            ChainEvent::ClosingUndone { .. } => self.input(Input::ClosingUndone).await,
            ChainEvent::Settled { .. } => self.settled = true,
            ChainEvent::Stopping { stop_at, .. } => self.input(Input::Stopping(u64::from(stop_at))).await,
            ChainEvent::Closed { .. } => {
                let chain = self.tools.account.sender().chain().clone();
                self.start(async move { Done::Closed(event.closing(&chain).await) });
            }
            ChainEvent::Head { timestamp, .. } => {
                let (expiry, opened) = (u64::from(self.rental().quote.quote.expiry), self.rental().opening.is_some());
                if !opened && timestamp > expiry {
                    let why = "the quote expired before the chain took the opening";
                    self.error.get_or_insert_with(|| ApiError::new(ErrorKind::Timeout, why, "try again"));
                }
                self.input(Input::BlockTime(timestamp)).await;
            }
            ChainEvent::Opened { .. } => {}
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
            Done::Status(status) => {
                self.asking = false;
                if let Ok(status) = status {
                    self.status(status).await;
                }
                self.ask_whether_ready(STATUS_PAUSE);
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
            Done::Closed(Some(closing)) => self.input(Input::Closed(closing)).await,
            Done::Closed(None) => {}
        }
    }

    /// An opening that failed for certain ends the rental; one that may still be mined is tried again until the quote expires.
    async fn not_opened(&mut self, error: SettlementError) {
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

    async fn status(&mut self, status: proto::Status) {
        let rental = self.rental();
        if let Some(fault) = status.fault {
            let fault = wire::refusal_from_proto(fault);
            self.error = Some(ApiError::new(
                ErrorKind::Refused,
                format!("the provider failed: {fault}"),
                "nothing was billed; try another offer",
            ));
            return self.input(Input::Finish).await;
        }
        let Some(ready) = status.ready else { return };
        match wire::ready_from_proto(&ready, rental.id, rental.quote.quote.provider_key, &rental.quote.escrow) {
            Ok((at, signature)) => self.input(Input::Ready(at, signature)).await,
            Err(error) => tracing::warn!(rental = %rental.id.short(), %error, "the provider's Ready is not good"),
        }
    }

    async fn answered(&mut self, answer: Result<proto::Ack, Option<NoPromise>>) {
        let rental = self.rental();
        match answer {
            Ok(ack) => match wire::ack_from_proto(&ack, rental.quote.quote.provider_key, &rental.quote.escrow) {
                Ok(statement) if statement.id == rental.id => {
                    self.record.frozen_millis = self.record.frozen_millis.max(statement.frozen_millis);
                    self.input(Input::Acked(statement.cumulative)).await;
                }
                _ => self.input(Input::AckMissed).await,
            },
            Err(Some(error)) if ends_the_rental(&error) => {
                tracing::info!(rental = %rental.id.short(), %error, "the provider has ended the rental");
                self.error.get_or_insert_with(|| {
                    ApiError::new(ErrorKind::Refused, "the provider ended the rental", "only what was served is billed")
                });
                self.input(Input::Finish).await;
            }
            Err(error) => {
                let error = error.map_or_else(|| "no answer in time".to_owned(), |error| error.to_string());
                tracing::warn!(rental = %rental.id.short(), error, "a voucher was not acknowledged");
                self.input(Input::AckMissed).await;
            }
        }
    }

    async fn finished(&mut self, answer: Result<proto::Final, NoPromise>) {
        let rental = self.rental();
        let read = match answer {
            Ok(message) => wire::final_from_proto(&message, rental.quote.quote.provider_key, &rental.quote.escrow)
                .map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match read {
            Ok(release) if release.id == rental.id => self.input(Input::Released(release)).await,
            Ok(_) => self.input(Input::FinishMissed).await,
            Err(error) => {
                tracing::warn!(rental = %rental.id.short(), error, "the end was not acknowledged");
                self.input(Input::FinishMissed).await;
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
                Effect::SendRelease => {
                    let (quote, release, voucher) =
                        (self.rental().quote.quote.clone(), self.rental().release, self.rental().voucher);
                    self.settle(move |account| async move {
                        let Some(release) = release else { return Ok(()) };
                        account.release(&quote, &release, voucher.as_ref()).await.map(|_| ())
                    });
                }
                Effect::SendStop => {
                    let quote = self.rental().quote.quote.clone();
                    self.settle(move |account| async move {
                        account.stop(&quote, REASON_UNANSWERED, None).await.map(|_| ())
                    });
                }
                Effect::SendFinalize => {
                    let quote = self.rental().quote.quote.clone();
                    self.settle(move |account| async move { account.finalize(&quote).await.map(|_| ()) });
                }
                Effect::Receipt => self.write_receipt().await,
                Effect::Retract => self.retract_receipt().await,
            }
        }
    }

    fn send_open(&mut self, pause: Duration) {
        if std::mem::replace(&mut self.opening, true) {
            return;
        }
        let (account, quote, deposit) =
            (self.tools.account.clone(), self.rental().quote.clone(), self.rental().deposit);
        self.start(async move {
            tokio::time::sleep(pause).await;
            Done::Opening(account.open(&quote, deposit).await.map(|_| ()))
        });
    }

    /// Makes a voucher: signed, written, then sent. One is under way at a time; the next carries the higher total.
    async fn sign(&mut self, total: Amount) {
        let serving = self.rental().phase == Phase::Serving;
        if serving && self.asking {
            return;
        }
        let id = self.rental().id;
        let digest = self.rental().quote.escrow.digest(&SignedVoucher::statement(id, total));
        let signature = match self.session.sign_digest(&digest) {
            Ok(signature) => signature,
            Err(error) => {
                tracing::error!(rental = %id.short(), %error, "the session key cannot sign");
                return;
            }
        };
        let voucher = SignedVoucher { id, cumulative: total, signature };
        self.input(Input::Signed(voucher)).await;
        // the last one travels with the end of the rental; and what could not be written is not sent
        if serving && self.rental().voucher == Some(voucher) {
            self.send_voucher(voucher);
        }
    }

    fn send_voucher(&mut self, voucher: SignedVoucher) {
        self.asking = true;
        let (network, provider) = (self.tools.network.clone(), self.rental().provider);
        let limit = Duration::from_millis(u64::from(self.rental().terms.increment_millis)).max(SHORTEST_ANSWER);
        self.start(async move {
            let answer = tokio::time::timeout(limit, acknowledgement(&network, provider, &voucher)).await;
            Done::Voucher(answer.map_err(|_| None).and_then(|answer| answer.map_err(Some)))
        });
    }

    /// Asks whether the sandbox is up, while it is waited for.
    fn ask_whether_ready(&mut self, pause: Duration) {
        if self.rental().phase != Phase::Waiting || std::mem::replace(&mut self.asking, true) {
            return;
        }
        let (network, provider, id) = (self.tools.network.clone(), self.rental().provider, self.rental().id);
        self.start(async move {
            tokio::time::sleep(pause).await;
            let request = proto::rental_request::Request::Status(proto::StatusRequest { id: id.0.to_vec() });
            Done::Status(match rental_request(&network, provider, request).await {
                Ok(proto::rental_response::Response::Status(status)) => Ok(status),
                Ok(_) => Err(NoPromise::Unacceptable("another kind of answer was expected".to_owned())),
                Err(error) => Err(error),
            })
        });
    }

    fn tell_finish(&mut self) {
        if std::mem::replace(&mut self.finishing, true) {
            return;
        }
        let (network, provider) = (self.tools.network.clone(), self.rental().provider);
        let finish = proto::FinishRequest {
            id: self.rental().id.0.to_vec(),
            voucher: self.rental().voucher.as_ref().map(wire::voucher_to_proto),
        };
        let pause = if self.rental().missed_finishes == 0 { Duration::ZERO } else { FINISH_PAUSE };
        self.start(async move {
            tokio::time::sleep(pause).await;
            Done::Finish(
                match rental_request(&network, provider, proto::rental_request::Request::Finish(finish)).await {
                    Ok(proto::rental_response::Response::Final(message)) => Ok(message),
                    Ok(_) => Err(NoPromise::Unacceptable("another kind of answer was expected".to_owned())),
                    Err(error) => Err(error),
                },
            )
        });
    }

    /// One transaction of this rental at a time; the machine asks again for what is still needed.
    fn settle<F>(&mut self, send: impl FnOnce(EscrowAccount) -> F)
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

    async fn write_receipt(&mut self) {
        let Some(receipt) = receipt(&self.record) else { return };
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
        self.receipt = Some(Arc::new(receipt));
        self.announce();
    }

    async fn retract_receipt(&mut self) {
        let id = self.rental().id;
        let deleted = self.tools.store.run(move |store| store.delete::<Receipts>(&id)).await;
        if let Err(error) = deleted {
            tracing::error!(rental = %id.short(), %error, "a receipt that does not hold any more cannot be removed");
        }
        self.receipt = None;
        self.announce();
    }
}

/// The provider's answer to a voucher. A provider that cannot be reached, or that has just started and does not serve yet, is asked
/// again: only one that stays away for the whole time that an answer may take has missed it.
async fn acknowledgement(
    network: &Handle,
    provider: network::PeerId,
    voucher: &SignedVoucher,
) -> Result<proto::Ack, NoPromise> {
    loop {
        let request = proto::rental_request::Request::Voucher(wire::voucher_to_proto(voucher));
        match rental_request(network, provider, request).await {
            Ok(proto::rental_response::Response::Ack(ack)) => return Ok(ack),
            Ok(_) => return Err(NoPromise::Unacceptable("another kind of answer was expected".to_owned())),
            Err(error @ NoPromise::Refused(_)) if ends_the_rental(&error) => return Err(error),
            Err(error) => tracing::debug!(%error, "a voucher is sent again"),
        }
        tokio::time::sleep(VOUCHER_PAUSE).await;
    }
}

/// Whether a refusal means that the provider has ended the rental.
fn ends_the_rental(error: &NoPromise) -> bool {
    matches!(error, NoPromise::Refused(refusal) if matches!(refusal.code, RefusalCode::WrongState | RefusalCode::NoSuchRental))
}

/// Writes a record with the certainty that a promise needs.
pub(crate) async fn write(store: &Store, record: Record) -> Result<(), StoreError> {
    store.run(move |store| store.put_sync::<Rentals>(&record.rental.id, &Json(record.clone()))).await
}

/// The receipt of a closed rental.
pub(crate) fn receipt(record: &Record) -> Option<Receipt> {
    let rental = &record.rental;
    let (opening, closing) = (rental.opening?, rental.closing?);
    let stopped = rental.stopped_at.unwrap_or_default();
    let release: Option<SignedRelease> = rental.release;
    Some(Receipt {
        id: rental.id,
        role: Role::Renter,
        quote: rental.quote.clone(),
        terms: rental.terms.clone(),
        terms_bytes: rental.terms_bytes.clone(),
        opened: TransactionRef { tx: opening.tx, block: opening.block, time: opening.start },
        closed: TransactionRef { tx: closing.tx, block: closing.block, time: closing.time },
        ready_at: rental.ready.map(|(at, _)| at),
        stopped_at: rental.stopped_at,
        seconds: rental.quote.quote.rate.seconds_for(closing.paid).min(rental.seconds(stopped)),
        frozen_seconds: u32::try_from(record.frozen_millis / 1_000).unwrap_or(u32::MAX),
        deposit: opening.deposit,
        paid: closing.paid,
        refunded: closing.refunded,
        kind: closing.kind,
        voucher: rental.voucher,
        release,
        job: Some(record.job.summary()),
    })
}
