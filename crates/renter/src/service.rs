//! The renter as the rest of the node sees it: searches, runs, rentals and receipts; and the one place where chain events find their
//! rental's driver.

mod dispute;
mod sharing;

use crate::{
    Config, Error, Parts, checks,
    driver::{self, Driver, Order},
    figures::{Counts, Figures, Standing},
    indexers::Indexers,
    journal::Journal,
    names,
    negotiate::payable,
    receipt,
    records::{Accepted, Receipts, Record, Rentals},
    run::{self, Context, Plan, describe},
    shares::Taken,
    story, visits,
};
use api::types::{
    ApiError, ErrorKind, HardwareCheck, IndexerRow, Label, OfferQuery, RatingRequest, RatingView, Receipt, RentalRow,
    RentalStory, Role, RunEvent, RunRequest, RunStarted, Visit, is_named,
};
use futures::stream::BoxStream;
use market::{
    id::RentalId,
    money::{Amount, Token},
    rental::renter::Phase,
    signed::Escrow,
    time::UnixMillis,
};
use settlement::{ChainEvent, EscrowAccount, Follower, Known};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use store::{Json, Store, StoreError};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Runs going on at once: each holds a deposit, and a person watches few.
const MAX_RUNS: usize = 64;
/// Ended runs whose events can still be read.
const MAX_ENDED_RUNS: usize = 64;
/// And what they may hold together: the whole output of four of the greatest.
const MAX_ENDED_BYTES: usize = 64 << 20;

#[derive(Default)]
struct Registry {
    drivers: HashMap<RentalId, Driver>,
    runs: BTreeMap<u64, Journal>,
    /// What others share with this node.
    accepted: BTreeMap<RentalId, Taken>,
    /// What the rentals of runs that go on are called.
    labels: HashMap<u64, Label>,
    active: usize,
}

impl Registry {
    /// Keeps a label for the rental of a run, unless another bears it.
    fn take_label(&mut self, run: u64, label: Option<&Label>) -> Result<(), ApiError> {
        let Some(label) = label else { return Ok(()) };
        if self.labels.values().any(|taken| taken == label) {
            let message = format!("a rental that goes on is called `{label}` already");
            let next = format!("choose another --label, or end that one first: node stop {label}");
            return Err(ApiError::new(ErrorKind::Usage, message, next));
        }
        self.labels.insert(run, label.clone());
        Ok(())
    }

    /// Forgets the oldest of the ended runs beyond what may be kept; one that goes on can always be followed.
    fn forget_ended(&mut self) {
        let (mut runs, mut bytes) = (0, 0);
        let ended = self.runs.iter().rev().filter_map(|(run, journal)| Some((*run, journal.ended_bytes()?)));
        let beyond = ended.filter(|(_, held)| {
            runs += 1;
            bytes += held;
            runs > MAX_ENDED_RUNS || bytes > MAX_ENDED_BYTES
        });
        for (run, _) in beyond.collect::<Vec<_>>() {
            self.runs.remove(&run);
        }
    }
}

/// The running renter. Clones speak to the same one.
#[derive(Clone)]
pub struct Renter {
    context: Arc<Context>,
    registry: Arc<Mutex<Registry>>,
    tasks: TaskTracker,
    /// One rental is shared, or not any more, at a time: each reads what stands and writes what is to.
    sharing: Arc<tokio::sync::Mutex<()>>,
    /// Cancelled when the way of a chain's events to the drivers ends, however that comes.
    ended: CancellationToken,
}

fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Renter {
    /// Takes up the rentals of an earlier run and is ready for new ones.
    pub async fn start(config: Config, parts: Parts) -> Result<Self, Error> {
        let registry: Arc<Mutex<Registry>> = Arc::default();
        let (tasks, ended) = (TaskTracker::new(), CancellationToken::new());
        let mut followers = Vec::new();
        for account in &parts.accounts {
            let chain = account.sender().chain().clone();
            let (follower, events) = Follower::start(chain, parts.store.clone(), "renter", &parts.cancel).await?;
            let (routing, running) =
                (route(events, Arc::clone(&registry), account.clone()), ended.clone().drop_guard());
            tasks.spawn(async move {
                let _running = running;
                routing.await;
            });
            followers.push(follower);
        }
        let (register, found) = (Arc::clone(&registry), Arc::clone(&registry));
        let figures: Arc<Figures> = Arc::default();
        for account in &parts.accounts {
            account.sender().chain().config().tokens.iter().for_each(|token| figures.expect(token));
        }
        let left_open = |store: &Store| visits::close_left_open(store, UnixMillis::now());
        parts.store.run(left_open).await?;
        let (book, writing) = visits::Book::open(parts.store.clone(), parts.cancel.clone());
        tasks.spawn(writing);
        let context = Arc::new(Context {
            book,
            parts,
            figures,
            indexers: Indexers::default(),
            config,
            followers,
            started: tokio::time::Instant::now(),
            find: Box::new(move |id| lock(&found).drivers.get(&id).cloned()),
            untold: Arc::default(),
            checks: crate::checks::Checker::default(),
            register: Box::new(move |driver| {
                let drivers = &mut lock(&register).drivers;
                drivers.retain(|_, driver| !driver.has_ended());
                drivers.insert(driver.id, driver);
            }),
        });
        let renter = Self { context, registry, tasks, sharing: Arc::default(), ended };
        renter.take_up().await?;
        renter.keep_telling();
        Ok(renter)
    }

    /// Tells ratings until an indexer has them.
    fn keep_telling(&self) {
        let (context, cancel) = (Arc::clone(&self.context), self.context.parts.cancel.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = crate::ratings::keep_telling(context) => {}
            }
        });
    }

    /// Says what this node thinks of a closed rental of its own. It is on disk when this returns, and told until an indexer has it.
    pub async fn rate(&self, id: RentalId, request: RatingRequest) -> Result<RatingView, ApiError> {
        crate::ratings::rate(&self.context, id, request).await
    }

    /// Waits until the events of a chain no longer reach the rentals, by order or by a fault of ours.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    async fn take_up(&self) -> Result<(), Error> {
        let read =
            |store: &Store| store.scan::<Accepted>(..)?.map(|row| row.map(|(id, taken)| (id, taken.0))).collect();
        lock(&self.registry).accepted = self.context.parts.store.run(read).await?;
        let mut runs = Vec::new();
        let records = self.records().await?;
        let going_on: HashMap<_, _> =
            records.iter().map(|record| (record.rental.id, !record.rental.phase.is_over())).collect();
        let is_on = |id: &RentalId| going_on.get(id).copied().unwrap_or_default();
        let continued: HashMap<_, _> = records
            .iter()
            .filter(|record| is_on(&record.rental.id))
            .filter_map(|record| Some((record.rental.terms.continues?, record.rental.id)))
            .collect();
        for mut record in records {
            // the order to continue it may be younger than what was written of it
            record.job.continued_by = record.job.continued_by.or(continued.get(&record.rental.id).copied());
            let rental = &record.rental;
            if rental.phase.is_over() {
                self.complete(&record).await?;
            }
            if rental.phase == Phase::Lapsed {
                continue;
            }
            let accounts = self.context.parts.accounts.iter().zip(&self.context.followers);
            let Some((account, follower)) =
                accounts.into_iter().find(|(account, _)| account.sender().chain().escrow() == rental.quote.escrow)
            else {
                tracing::warn!(rental = %describe(rental), "its chain is not configured any more: it is left alone");
                continue;
            };
            let (id, block, run) = (rental.id, rental.quoted_at_block, record.job.run);
            let label = record.job.label.clone();
            let known = Known::of(rental.opening.as_ref(), rental.closing.as_ref());
            if let Some(closing) = rental.closing
                && !follower.may_be_taken_back(closing.block).await?
            {
                continue;
            }
            let over = rental.phase.is_over();
            tracing::info!(rental = %describe(rental), phase = rental.phase.name(), "taking the rental up again");
            let record = Record { taken_up: record.taken_up.saturating_add(1), ..record };
            driver::write(&self.context.parts.store, record.clone()).await?;
            let taken_up = record.taken_up;
            let driver = driver::start(self.context.tools(account, follower), record)?;
            (self.context.register)(driver.clone());
            follower.watch(id, block, known).await?;
            // one that continues another is led to by the run of that one, as long as that goes on
            if over || driver.state.borrow().record.rental.terms.continues.is_some_and(|before| is_on(&before)) {
                continue;
            }
            let (context, journal) = (Arc::clone(&self.context), self.journal(run, Journal::retold(taken_up)));
            runs.push((run, label, run::resume(context, driver, journal)));
        }
        // only now, that each finds the rentals that continue its own
        runs.into_iter().for_each(|(run, label, resumed)| self.spawn(run, label, resumed));
        Ok(())
    }

    /// Writes the receipt of a closed rental, should an earlier run have died before it did.
    async fn complete(&self, record: &Record) -> Result<(), StoreError> {
        let Some(receipt) = receipt::of(record) else { return Ok(()) };
        let write = move |store: &Store| match store.contains::<Receipts>(&receipt.id)? {
            true => Ok(()),
            false => store.put_sync::<Receipts>(&receipt.id, &Json(receipt.clone())),
        };
        self.context.parts.store.run(write).await
    }

    async fn records(&self) -> Result<Vec<Record>, StoreError> {
        let read = |store: &Store| store.scan::<Rentals>(..)?.map(|row| row.map(|(_, record)| record.0)).collect();
        self.context.parts.store.run(read).await
    }

    /// Keeps the journal of a run for whoever wants to read it, as long as there is room for it.
    fn journal(&self, run: u64, journal: Journal) -> Journal {
        let mut registry = lock(&self.registry);
        registry.forget_ended();
        registry.runs.insert(run, journal.clone());
        journal
    }

    fn spawn(&self, run: u64, label: Option<Label>, work: impl Future<Output = ()> + Send + 'static) {
        {
            let mut registry = lock(&self.registry);
            registry.active += 1;
            registry.labels.extend(label.map(|label| (run, label)));
        }
        let (registry, cancel) = (Arc::clone(&self.registry), self.context.parts.cancel.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = work => {}
            }
            let mut registry = lock(&registry);
            registry.active -= 1;
            registry.labels.remove(&run);
        });
    }

    /// Whether this node can pay in a token at an escrow.
    pub fn pays(&self, escrow: &Escrow, token: &Token) -> bool {
        payable(&self.context.parts.accounts, escrow, token)
    }

    /// Asks indexers what they know of these offers; what holds is in the node's own book afterwards.
    pub async fn ask_indexers(&self, query: &OfferQuery) {
        self.context.ask_indexers(query).await;
    }

    /// What came of asking indexers since the start.
    pub fn indexers(&self) -> Vec<IndexerRow> {
        self.context.indexers.rows()
    }

    /// Begins a run.
    pub async fn run(&self, request: RunRequest) -> Result<RunStarted, ApiError> {
        let run = {
            let registry = lock(&self.registry);
            if registry.active >= MAX_RUNS {
                return Err(ApiError::new(
                    ErrorKind::Failed,
                    format!("{MAX_RUNS} runs are going on already"),
                    "wait for one to end",
                ));
            }
            let newest = registry.runs.last_key_value().map_or(0, |(run, _)| *run);
            UnixMillis::now().0.max(newest + 1)
        };
        let plan = Plan::new(run, request)?;
        let label = plan.request.label.clone();
        lock(&self.registry).take_label(run, label.as_ref())?;
        let journal = self.journal(run, Journal::new());
        self.spawn(run, label, run::begin(Arc::clone(&self.context), plan, journal));
        Ok(RunStarted { run })
    }

    /// The events of a run from number `from` on, until its last.
    pub async fn run_events(&self, run: u64, from: u64) -> Result<BoxStream<'static, RunEvent>, ApiError> {
        let journal = lock(&self.registry).runs.get(&run).cloned();
        if let Some(journal) = journal {
            return Ok(journal.read(from));
        }
        // over before this start of the node: how it ended is on disk
        let records = self.records().await.map_err(store_error)?.into_iter();
        // of several that continue each other the last tells how it ended
        let ended = records.filter(|record| record.job.run == run).max_by_key(|record| record.rental.quoted_at_block);
        let Some(record) = ended.filter(|record| record.rental.phase.is_over()) else {
            let next = "its receipt may be in `node receipts`";
            return Err(ApiError::new(ErrorKind::Usage, format!("there is no run {run}"), next));
        };
        let journal = Journal::retold(record.taken_up.saturating_add(1));
        run::tell_end(&record, &journal).await;
        Ok(journal.read(from))
    }

    /// The rentals of this node; ended ones too when `all`.
    pub async fn rentals(&self, all: bool) -> Result<Vec<RentalRow>, ApiError> {
        let records = self.records().await.map_err(store_error)?;
        let now = UnixMillis::now();
        Ok(records
            .iter()
            .filter(|record| all || !record.rental.phase.is_over())
            .map(|record| row(record, now))
            .collect())
    }

    /// What was counted since the start.
    pub fn counts(&self) -> Counts {
        self.context.figures.read()
    }

    /// How many rentals are in each phase, and how many runs go on.
    pub fn standing(&self) -> Standing {
        let registry = lock(&self.registry);
        let mut rentals: BTreeMap<_, _> = Phase::GOING_ON.iter().map(|phase| (phase.name(), 0)).collect();
        for driver in registry.drivers.values().filter(|driver| !driver.is_over()) {
            *rentals.entry(driver.state.borrow().record.rental.phase.name()).or_default() += 1;
        }
        Standing { rentals, runs: registry.active as u64 }
    }

    /// The whole story of each rental whose id begins with `name`; or of the one with this label that goes on, or else was the last.
    pub async fn stories(&self, name: String) -> Result<Vec<RentalStory>, ApiError> {
        let read = move |store: &Store| {
            let mut meant = Vec::new();
            for row in store.scan::<Rentals>(..)? {
                let (_, Json(record)) = row?;
                if names::means(&record, &name) {
                    meant.push(record);
                }
            }
            let with_receipt = |record: Record| {
                let receipt = store.get::<Receipts>(&record.rental.id)?.map(|receipt| receipt.0);
                let visits = visits::of(store, &record.rental.id)?;
                Ok((record, receipt, visits))
            };
            names::latest(meant, &name).into_iter().map(with_receipt).collect()
        };
        let found: Vec<(Record, Option<Receipt>, Vec<Visit>)> =
            self.context.parts.store.run(read).await.map_err(store_error)?;
        let now = UnixMillis::now();
        let told = found.into_iter().map(|(record, receipt, visits)| {
            let steps = story::steps(&record, receipt.as_ref(), now);
            RentalStory { rental: row(&record, now), steps, receipt, visits }
        });
        Ok(told.collect())
    }

    /// Ends the rental of this name, and settles it.
    pub async fn stop(&self, name: String) -> Result<RentalRow, ApiError> {
        let driver = self.running(&name)?;
        driver.finish().await;
        let record = Arc::clone(&driver.state.borrow().record);
        Ok(row(&record, UnixMillis::now()))
    }

    /// Has the rental of this name go on for `seconds` after its end, in one that continues it: that one, once it is open.
    pub async fn extend(&self, name: String, seconds: u32) -> Result<RentalRow, ApiError> {
        let driver = self.running(&name)?;
        let run = driver.state.borrow().record.job.run;
        let journal = lock(&self.registry).runs.get(&run).cloned().unwrap_or_else(Journal::new);
        let next = run::extend(&self.context, &driver, seconds, &journal).await?;
        let record = Arc::clone(&next.state.borrow().record);
        Ok(row(&record, UnixMillis::now()))
    }

    /// Checks the hardware in the rental named by a prefix of its id, and leaves it if that is not as promised.
    pub async fn check(&self, prefix: String) -> Result<HardwareCheck, ApiError> {
        checks::now(&self.context, &self.running(&prefix)?).await
    }

    /// The one rental that goes on and that this name means: the beginning of its id, or its label.
    fn running(&self, name: &str) -> Result<Driver, ApiError> {
        let registry = lock(&self.registry);
        let going_on = registry.drivers.values().filter(|driver| !driver.is_over());
        let known = going_on.map(|driver| (driver.clone(), Arc::clone(&driver.state.borrow().record)));
        names::the_one(known, name, |(_, record)| record).map(|(driver, _)| driver)
    }

    /// Receipts whose id begins with `name`, or of rentals that were called so, newest first; all of them if it is empty.
    pub async fn receipts(&self, name: String) -> Result<Vec<Receipt>, ApiError> {
        let read = self
            .context
            .parts
            .store
            .run(move |store| {
                let rows = store.scan::<Receipts>(..)?.map(|row| row.map(|(_, receipt)| receipt.0));
                let wanted = |receipt: &Receipt| {
                    let label = receipt.job.as_ref().and_then(|job| job.label.as_ref());
                    name.is_empty() || is_named(receipt.id, label, &name)
                };
                rows.filter(|row| row.as_ref().map_or(true, wanted)).collect::<Result<Vec<_>, _>>()
            })
            .await;
        let mut receipts = read.map_err(store_error)?;
        receipts.sort_by_key(|receipt| std::cmp::Reverse(receipt.closed.time));
        Ok(receipts)
    }

    /// Ends the tasks. Rentals go on at the next start; a provider that hears nothing meanwhile freezes them.
    pub async fn shutdown(&self) {
        self.context.parts.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Hands each event to the driver of its rental, and the chain's time to all of them.
async fn route(mut events: mpsc::Receiver<ChainEvent>, registry: Arc<Mutex<Registry>>, account: EscrowAccount) {
    let escrow = account.sender().chain().escrow();
    while let Some(event) = events.recv().await {
        let concerned: Vec<_> = {
            let registry = lock(&registry);
            let here = |driver: &&Driver| driver.state.borrow().record.rental.quote.escrow == escrow;
            let about = |driver: &&Driver| event.rental().is_none_or(|id| id == driver.id);
            registry.drivers.values().filter(about).filter(here).cloned().collect()
        };
        for driver in concerned {
            // a driver that has ended needs nothing more
            let _ = driver.orders.send(Order::Chain(event.clone())).await;
        }
    }
}

fn store_error(error: StoreError) -> ApiError {
    ApiError::new(ErrorKind::Failed, error.to_string(), "")
}

fn row(Record { rental, job, .. }: &Record, now: UnixMillis) -> RentalRow {
    let token = &rental.terms.token;
    RentalRow {
        id: rental.id,
        label: job.label.clone(),
        role: Role::Renter,
        phase: rental.phase.name().to_owned(),
        peer: rental.provider.to_base58(),
        offer: rental.terms.offer.clone(),
        ready_at: rental.ready.map(|(at, _)| at),
        seconds: rental.seconds(now),
        cost: token.show(rental.closing.map_or(rental.signed_total(), |closing| closing.paid)),
        deposit: token.show(rental.opening.map_or(Amount::ZERO, |opening| opening.deposit)),
        ends_at: rental.meter().map(|meter| meter.ends_at()),
        warning: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::types::RunStep;

    #[test]
    fn two_rentals_that_go_on_are_never_called_the_same() {
        let (mut registry, label) = (Registry::default(), "train".parse().unwrap());
        registry.take_label(1, Some(&label)).unwrap();
        registry.take_label(2, None).unwrap();
        let error = registry.take_label(3, Some(&label)).unwrap_err();
        assert_eq!((error.kind, error.message.contains("`train`")), (ErrorKind::Usage, true), "{error:?}");
        registry.labels.remove(&1);
        registry.take_label(3, Some(&label)).unwrap();
    }

    #[tokio::test]
    async fn ended_runs_are_forgotten_oldest_first_and_one_that_goes_on_never_is() {
        let mut registry = Registry::default();
        registry.runs.insert(0, Journal::new());
        for run in 1..=10 {
            let journal = Journal::new();
            let data = "x".repeat(MAX_ENDED_BYTES / 4 - 1_024);
            if run > 2 {
                journal.push(RunStep::Log { stderr: false, seq: 0, offset: 0, data }).await;
            }
            journal.end();
            registry.runs.insert(run, journal);
        }
        registry.forget_ended();
        assert_eq!(registry.runs.keys().copied().collect::<Vec<_>>(), [0, 7, 8, 9, 10]);

        registry.runs.retain(|run, _| *run == 0);
        for run in 1..=100 {
            let journal = Journal::new();
            journal.end();
            registry.runs.insert(run, journal);
        }
        registry.forget_ended();
        assert_eq!(registry.runs.len(), 1 + MAX_ENDED_RUNS);
        assert!(registry.runs.contains_key(&0) && registry.runs.contains_key(&100));
    }
}
