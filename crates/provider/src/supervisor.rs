//! The one task that owns every rental of this provider.
//!
//! It hears from five sides: renters' questions, streams into sandboxes, the chains, its own finished work, and the clock. Each becomes an
//! input to the rental's state machine; what the machine answers is written to disk and then done. Nothing here waits for a chain or a
//! kernel: such work runs in [`Supervisor::work`] and comes back as [`Done`].

mod bids;
mod chain;
mod closings;
mod commands;
mod continuing;
mod evidence;
mod mandates;
mod offers;
mod questions;
mod sandboxes;
mod service;
mod streams;
mod unsharing;

use crate::{
    Config, Error, Parts,
    alarm::Alarm,
    cards::Cards,
    config::Changes,
    figures::{Figures, Standing},
    inventory::{Inventory, Machine, Occupant, Taken, software},
    keeper::Keeper,
    payout::Keys,
    records::{DrainOrder, Receipts, Rentals, Unshares},
    rules::Rules,
    service::Drain,
    unshared::Unshared,
};
use api::{
    evidence::Evidence,
    types::{ApiError, Receipt, RentalRow, RentalStory, ServiceState},
};
use chain::Heard;
use closings::Gathering;
use mandates::Favours;
use market::{
    id::{PeerId, RentalId},
    mandate::Mandate,
    money::Amount,
    offer::Binding,
    preemption::PreemptReason,
    pricing::Holding,
    rental::{
        StepError,
        provider::{Effect, Input, Phase, Rental},
    },
    time::UnixMillis,
};
use network::{AdDraft, Handle, IncomingRental, Reply};
use sandbox::{Backend, Sandbox};
use sandboxes::sandbox_name;
use settlement::{ChainEvent, ClosingOutcome, EscrowAccount, Follower, Known, SettlementError};
use std::{collections::HashMap, sync::Arc, time::Duration};
use store::{Json, Store, StoreError, crash_point};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;
use tracing::Span;
use wire::QuoteAsk;

/// How often meters are looked at: a tenth of the shortest increment in use (1 s), so that a freeze is at most that late.
const TICK: Duration = Duration::from_millis(100);
/// Chain events waiting for the supervisor; the followers wait beyond it.
const EVENTS: usize = 64;
/// Streams served at once for all rentals together.
const MAX_SESSIONS: usize = 1_024;
/// Quotes being looked into at once; beyond it renters are told to come back.
const MAX_ASKING: usize = 64;
/// How often the offers are looked at for what time alone changes, such as the hour's price.
const OFFERS_LOOK: u64 = 1_000;
/// After what pause a renter whom a closing is in the way of does well to ask again, in milliseconds.
const ASK_AGAIN: u32 = 1_000;
/// How long leaving may take: the tombstone is a courtesy.
const LEAVE_WAIT: Duration = Duration::from_secs(2);

/// What the control API asks.
pub(crate) enum Command {
    /// See [`crate::Provider::rentals`].
    Rentals {
        /// Ended ones too.
        all: bool,
        /// The answer.
        reply: oneshot::Sender<Vec<RentalRow>>,
    },
    /// See [`crate::Provider::standing`].
    Standing {
        /// The answer.
        reply: oneshot::Sender<Standing>,
    },
    /// See [`crate::Provider::receipts`].
    Receipts {
        /// The beginning of the id.
        prefix: String,
        /// The answer.
        reply: oneshot::Sender<Vec<Receipt>>,
    },
    /// See [`crate::Provider::stories`].
    Stories {
        /// The beginning of the id.
        prefix: String,
        /// The answer.
        reply: oneshot::Sender<Vec<RentalStory>>,
    },
    /// See [`crate::Provider::evidence`].
    Evidence {
        /// Which rental's.
        id: RentalId,
        /// The answer.
        reply: oneshot::Sender<Option<Evidence>>,
    },
    /// See [`crate::Provider::drain`] and [`crate::Provider::undrain`].
    Drain {
        /// The order, or none to be in service.
        drain: Option<Drain>,
        /// The answer.
        reply: oneshot::Sender<Result<ServiceState, ApiError>>,
    },
    /// See [`crate::Provider::reload`].
    Reload {
        /// What the configuration says now.
        config: Box<Config>,
        /// The answer.
        reply: oneshot::Sender<Result<Changes, Error>>,
    },
    /// See [`crate::Provider::stop`].
    Evict {
        /// The beginning of the id.
        prefix: String,
        /// The answer.
        reply: oneshot::Sender<Result<RentalRow, ApiError>>,
    },
}

/// A rental and what belongs to it while the process lives.
struct Live {
    rental: Rental,
    keeper: Option<Keeper>,
    /// Ends its streams.
    sessions: CancellationToken,
    /// What its renter has taken back: streams that were let in by it hear of it here.
    unshared: watch::Sender<Unshared>,
    /// A sandbox is being made.
    preparing: bool,
    /// The chain is being asked whether a mandate would go through.
    trying: bool,
    /// A mandated opening is under way, or rests until this moment.
    opening: Option<Option<UnixMillis>>,
    /// A closing is under way or waits for company, or rests until this moment.
    closing: Option<Option<UnixMillis>>,
    /// Its closing was refused: it is tried by itself from now on, so that no other suffers from it.
    closes_alone: bool,
    /// A claim is under way.
    claiming: bool,
    /// What goes wrong with its money.
    alarm: Alarm,
}

impl Live {
    fn new(rental: Rental, keeper: Option<Keeper>) -> Self {
        let sessions = CancellationToken::new();
        Self {
            rental,
            keeper,
            sessions,
            unshared: watch::Sender::default(),
            preparing: false,
            trying: false,
            opening: None,
            closing: None,
            closes_alone: false,
            claiming: false,
            alarm: Alarm::default(),
        }
    }
}

/// A chain as the provider uses it.
struct Settling {
    account: EscrowAccount,
    follower: Follower,
    heard: Option<Heard>,
    gathering: Gathering,
}

/// Finished work.
enum Done {
    /// The renter's balance and the chain's time, for the question of this number.
    Weighed { number: u64, result: Result<Weighed, SettlementError> },
    /// Whether a mandated opening would go through.
    Tried { id: RentalId, mandate: Box<Mandate>, reply: Reply, result: Result<(), SettlementError> },
    /// A mandated opening, for better or worse.
    Opening { id: RentalId, result: Result<(), SettlementError> },
    /// A rental must give way.
    SentAway { id: RentalId, reason: PreemptReason },
    /// What a rental should continue is not there.
    Orphaned { id: RentalId },
    /// The sandbox of a rental.
    Prepared { id: RentalId, result: Result<Arc<dyn Sandbox>, sandbox::Error> },
    /// A part-way claim: what the escrow has paid out in all.
    Claim { id: RentalId, result: Result<Amount, SettlementError> },
    /// Closings, for better or worse.
    Closings(Vec<ClosingOutcome>),
    /// A receipt was written, or taken back.
    Receipt,
    /// A stream or a removal is over.
    Over,
}

/// What the chain says about a renter who asks.
struct Weighed {
    /// The wallet signed the question.
    signed: bool,
    balance: alloy_primitives::U256,
    block: u64,
    block_time: u64,
    /// What of the wanted it was found to hold.
    holdings: Vec<Holding>,
}

/// A question whose renter's funds are being looked at.
struct Asking {
    ask: QuoteAsk,
    peer: PeerId,
    taken: Taken,
    /// The rental that gives way to it.
    displaces: Option<RentalId>,
    reply: Reply,
}

/// See the module.
pub(crate) struct Supervisor {
    config: Config,
    network: Handle,
    network_name: String,
    keys: Keys,
    store: Store,
    backend: Arc<dyn Backend>,
    cards: Arc<Cards>,
    carrier: Option<mpsc::Sender<IncomingRental>>,
    cancel: CancellationToken,
    chains: Vec<Settling>,
    events: mpsc::Receiver<(usize, ChainEvent)>,
    inventory: Inventory,
    rules: Rules,
    drain: Option<Drain>,
    binding: Binding,
    live: HashMap<RentalId, Live>,
    asking: HashMap<u64, Asking>,
    asked: u64,
    favours: Favours,
    work: JoinSet<Done>,
    sessions: usize,
    advertised: Option<AdDraft>,
    looked_at: UnixMillis,
    figures: Arc<Figures>,
}

impl Supervisor {
    /// Reads what an earlier run left, takes over its sandboxes, and is ready to run.
    pub(crate) async fn load(config: Config, parts: Parts) -> Result<Self, Error> {
        let capabilities = parts.backend.probe().await;
        if !capabilities.problems.is_empty() {
            return Err(Error::Sandboxes(capabilities.problems.join("; ")));
        }
        let peer = parts.network.local_peer_id();
        let chains: Vec<_> = parts.accounts.iter().map(|account| account.sender().chain().clone()).collect();
        let rules = Rules::new(&config, &chains)?;
        let software = software(&config, &capabilities)?;
        let machine = Machine { cards: parts.cards, software, benchmark: parts.benchmark.as_ref() };
        let inventory = Inventory::new(&config, &peer, &machine)?;
        let drain = parts.store.get::<DrainOrder>(&())?.map(|order| order.0);
        let first = chains.first().ok_or_else(|| Error::Config("no [[chain]] is configured".to_owned()))?;
        let keys = Keys::new(&config, parts.wallet, parts.provider_key, &chains).await?;
        let binding = keys.bind(first.config().chain_id, &peer)?;

        let figures: Arc<Figures> = Arc::default();
        chains.iter().flat_map(|chain| &chain.config().tokens).for_each(|token| figures.expect(token));
        let mut settling = Vec::new();
        let (forward, events) = mpsc::channel(EVENTS);
        for (index, account) in parts.accounts.into_iter().enumerate() {
            let chain = account.sender().chain().clone();
            let (follower, mut inbox) = Follower::start(chain, parts.store.clone(), "provider", &parts.cancel).await?;
            settling.push(Settling { account, follower, heard: None, gathering: Gathering::default() });
            let forward = forward.clone();
            tokio::spawn(async move {
                while let Some(event) = inbox.recv().await {
                    if forward.send((index, event)).await.is_err() {
                        return;
                    }
                }
            });
        }
        let mut supervisor = Self {
            config,
            network: parts.network,
            network_name: parts.network_name,
            keys,
            store: parts.store,
            backend: parts.backend,
            cards: Arc::new(machine.cards),
            carrier: parts.carrier,
            cancel: parts.cancel,
            chains: settling,
            events,
            inventory,
            rules,
            drain,
            binding,
            live: HashMap::new(),
            asking: HashMap::new(),
            asked: 0,
            favours: Favours::default(),
            work: JoinSet::new(),
            sessions: 0,
            advertised: None,
            looked_at: UnixMillis(0),
            figures,
        };
        supervisor.take_over().await?;
        Ok(supervisor)
    }

    /// What is counted here.
    pub(crate) fn figures(&self) -> Arc<Figures> {
        Arc::clone(&self.figures)
    }

    /// Takes up the rentals that were not over, with their sandboxes.
    async fn take_over(&mut self) -> Result<(), Error> {
        let mut rentals = self
            .store
            .run(|store| {
                store.scan::<Rentals>(..)?.map(|row| row.map(|(_, rental)| rental.0)).collect::<Result<Vec<_>, _>>()
            })
            .await?;
        let mut sandboxes: HashMap<String, Arc<dyn Sandbox>> = HashMap::new();
        for sandbox in self.backend.reconcile().await.map_err(Error::Adoption)? {
            sandboxes.insert(sandbox.id().as_str().to_owned(), sandbox);
        }
        let now = UnixMillis::now();
        // one that continues another was quoted later
        rentals.sort_by_key(|rental| rental.quoted_at_block);
        for rental in rentals {
            let (id, phase) = (rental.id, rental.phase);
            if phase == Phase::Closed && !self.watch_ended(&rental).await? {
                continue;
            }
            tracing::info!(rental = %id.short(), phase = phase.name(), "taking the rental up again");
            let has_slots = self.has_slots(&rental);
            if rental.occupies_slot() && has_slots {
                self.inventory.assign(&rental.terms.slot, Occupant::Rental(id));
            }
            let preparing = phase == Phase::Preparing;
            let inherits = phase == Phase::Held && rental.terms.continues.is_some();
            let kept = (rental.keeps_sandbox() || inherits) && has_slots;
            let sandbox = if kept { sandboxes.remove(&sandbox_name(&rental.sandbox_owner())) } else { None };
            if let Some(settling) = self.settling(&rental) {
                let known = Known::of(rental.opening.as_ref(), rental.closing.as_ref());
                settling.follower.watch(id, rental.quoted_at_block, known).await?;
            }
            let frozen = phase != Phase::Serving;
            let keeper = sandbox.clone().filter(|_| !preparing).map(|sandbox| {
                let cards = self.cards.watch(&self.inventory.cards(&rental.terms.slot));
                Keeper::new(sandbox, cards, frozen)
            });
            let lost = rental.keeps_sandbox() && !preparing && keeper.is_none();
            let effects = rental.resume();
            self.live.insert(id, Live::new(rental, keeper));
            match sandbox {
                // it was made, but the start of its meter was not written
                Some(sandbox) if preparing => self.prepared(id, Ok(sandbox), now).await,
                _ => self.act(id, effects),
            }
            if lost {
                tracing::warn!(rental = %id.short(), "its sandbox is gone: closing with what was paid");
                self.happened(id, Input::Evict, now).await;
            }
        }
        self.take_up_unshares().await?;
        // a sandbox without a rental that needs it is a leftover
        for (name, sandbox) in sandboxes {
            tracing::info!(sandbox = name, "removing a leftover sandbox");
            self.destroy(sandbox);
        }
        Ok(())
    }

    /// Whether a rental that has ended may still be taken back by the chain. One that cannot has its receipt by now, or gets it.
    async fn watch_ended(&mut self, rental: &Rental) -> Result<bool, Error> {
        let young = match (self.settling(rental), rental.closing) {
            (Some(settling), Some(closing)) => settling.follower.may_be_taken_back(closing.block).await?,
            _ => false,
        };
        if !young && !self.store.contains::<Receipts>(&rental.id)? {
            self.receipt(rental);
        }
        Ok(young)
    }

    /// Serves until cancelled.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let (Some(mut questions), Some(mut streams)) =
            (self.network.rental_requests(), self.network.session_requests())
        else {
            tracing::error!("another provider of this node has the network's requests");
            return;
        };
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let cancel = self.cancel.clone();
        self.advertise().await;
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(question) = questions.recv() => self.question(question).await,
                Some(stream) = streams.recv() => self.stream(stream),
                Some((chain, event)) = self.events.recv() => self.chain_event(chain, event).await,
                Some(done) = self.work.join_next() => match done {
                    Ok(done) => self.done(done).await,
                    Err(error) => tracing::error!(%error, "a task of the provider died"),
                },
                Some(command) = commands.recv() => self.command(command).await,
                _ = tick.tick() => {
                    // a voucher that has arrived counts, however long a slow disk kept it waiting here
                    for _ in 0..questions.len() {
                        if let Ok(question) = questions.try_recv() {
                            self.question(question).await;
                        }
                    }
                    self.tick().await;
                }
            }
        }
        let leaving = tokio::time::timeout(LEAVE_WAIT, self.network.withdraw_ad()).await;
        if !matches!(leaving, Ok(Ok(()))) {
            tracing::debug!("left without taking the offers back");
        }
    }

    // --- finished work, and time ---

    async fn done(&mut self, done: Done) {
        let now = UnixMillis::now();
        match done {
            Done::Weighed { number, result } => self.weighed(number, result).await,
            Done::Tried { id, mandate, reply, result } => self.tried(id, *mandate, reply, result).await,
            Done::Opening { id, result } => self.opening_ended(id, result, now),
            Done::SentAway { id, reason } => self.preempt(id, reason).await,
            Done::Orphaned { id } => {
                let why = "the rental that it continues had ended before this one was open".to_owned();
                self.happened(id, Input::SandboxFailed(why), now).await;
            }
            Done::Prepared { id, result } => self.prepared(id, result, now).await,
            Done::Claim { id, result } => self.claim_ended(id, result, now).await,
            Done::Closings(outcomes) => self.closings_ended(outcomes, now),
            Done::Receipt => {}
            Done::Over => self.sessions = self.sessions.saturating_sub(1),
        }
    }

    async fn tick(&mut self) {
        let now = UnixMillis::now();
        let runs = |live: &&Live| live.rental.opening.is_some() && !live.rental.phase.is_over();
        let ids: Vec<_> = self.live.values().filter(runs).map(|live| live.rental.id).collect();
        for id in ids {
            self.happened(id, Input::Tick, now).await;
        }
        for id in self.openings_due(now) {
            self.open(id);
        }
        self.close_what_is_due(now);
        self.sound_alarms(now);
        if now.since(self.looked_at) >= OFFERS_LOOK {
            self.looked_at = now;
            self.advertise().await;
        }
    }

    // --- the rule: step, write, act ---

    /// As [`Self::input`], for what nobody waits for.
    async fn happened(&mut self, id: RentalId, input: Input, now: UnixMillis) {
        if let Err(error) = self.input(id, input, now).await {
            tracing::error!(rental = %id.short(), %error, "what happened to the rental could not be taken in");
        }
    }

    /// Gives a rental's machine an input, writes what became of it, and then does what it asks for.
    #[tracing::instrument(name = "rental", skip_all, fields(id = %id.short()))]
    async fn input(&mut self, id: RentalId, input: Input, now: UnixMillis) -> Result<(), StepFailure> {
        let Some(live) = self.live.get(&id) else { return Ok(()) };
        let (mut next, name) = (live.rental.clone(), input.name());
        let effects = next.step(input, now)?;
        crash_point("provider", name, "stepped");
        if next != live.rental {
            if next.phase != live.rental.phase {
                tracing::info!(rental = %id.short(), from = live.rental.phase.name(), to = next.phase.name(), "phase");
            }
            match next.phase {
                // a promise that nobody took up is nothing to keep
                Phase::Lapsed => self.store.run(move |store| store.delete::<Rentals>(&id)).await?,
                _ => self.write(next.clone()).await?,
            }
            crash_point("provider", name, "written");
            if let Some(live) = self.live.get_mut(&id) {
                self.figures.changed(&live.rental, &next);
                live.rental = next;
            }
        }
        let freed = effects.contains(&Effect::FreeSlot);
        self.act(id, effects);
        crash_point("provider", name, "acted");
        if self.live.get(&id).is_some_and(|live| live.rental.phase == Phase::Lapsed) {
            self.forget(id).await;
        }
        if freed {
            self.advertise().await;
        }
        Ok(())
    }

    /// A quote that was not opened in time leaves nothing behind.
    async fn forget(&mut self, id: RentalId) {
        let Some(live) = self.live.remove(&id) else { return };
        if let Some(settling) = self.settling(&live.rental) {
            settling.follower.unwatch(id).await;
        }
        // that of a rental which this one was to continue
        if let Some(keeper) = &live.keeper {
            self.destroy(Arc::clone(&keeper.sandbox));
        }
    }

    async fn write(&self, rental: Rental) -> Result<(), StoreError> {
        let write = move |store: &Store| {
            let mut batch = store.batch();
            batch.put::<Rentals>(&rental.id, &Json(rental.clone()))?;
            if rental.phase.is_over() {
                batch.delete::<Unshares>(&rental.id)?;
            }
            batch.commit_sync()
        };
        self.store.run(write).await
    }

    fn act(&mut self, id: RentalId, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::SendOpen => self.open(id),
                Effect::Prepare => self.prepare(id),
                Effect::Freeze | Effect::Thaw => {
                    if let Some(keeper) = self.live.get(&id).and_then(|live| live.keeper.as_ref()) {
                        keeper.freeze(effect == Effect::Freeze);
                    }
                }
                Effect::Destroy => {
                    if let Some(live) = self.live.get_mut(&id) {
                        live.sessions.cancel();
                        if let Some(keeper) = live.keeper.take() {
                            let sandbox = Arc::clone(&keeper.sandbox);
                            match self.successor(id) {
                                Some(next) => self.hand_over(sandbox, next),
                                None => self.destroy(sandbox),
                            }
                        }
                    }
                    self.give_way(id);
                }
                Effect::Notify => self.notify(id),
                Effect::Claim => self.claim(id),
                Effect::Close => self.close(id),
                Effect::Receipt | Effect::Retract => {
                    if let Some(rental) = self.live.get(&id).map(|live| live.rental.clone()) {
                        self.receipt(&rental);
                    }
                }
                Effect::FreeSlot => self.inventory.free(Occupant::Rental(id)),
            }
        }
    }
}

/// What the lines of the log about a rental stand in.
fn span(id: &RentalId) -> Span {
    tracing::info_span!(parent: None, "rental", id = %id.short())
}

/// Why an input had no effect.
#[derive(Debug, thiserror::Error)]
enum StepFailure {
    #[error(transparent)]
    Step(#[from] StepError),
    #[error(transparent)]
    Store(#[from] StoreError),
}
