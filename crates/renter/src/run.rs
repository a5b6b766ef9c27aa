//! A run: what a person wanted the rental for. It matches and negotiates, then follows its rental: upload, start, logs, exit, outputs,
//! finish. It can be taken up again at any point after the opening, since every step is either repeatable or remembered.

use crate::{
    Parts,
    driver::{self, Driver, Snapshot, Tools},
    figures::Figures,
    journal::Journal,
    negotiate::{self, NoPromise, Promise, chain_error},
    records::{Ended, Job, Record, short_peer},
};
use access::{
    AccessError,
    archive::{self, hex},
    guest::{Guest, JobEvent},
};
use alloy_primitives::{Address, U256};
use api::{
    search::{Match, Search},
    types::{ApiError, ErrorKind, RunRequest, RunStep},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::StreamExt;
use market::{
    money::{Amount, parse_units},
    rental::renter::{Input, Phase, Rental},
    time::UnixMillis,
};
use settlement::{Chain, EscrowAccount, Follower, GAS_TO_APPROVE, GAS_TO_OPEN, Known, Purpose};
use std::{
    convert::Infallible,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use store::crash_point;
use tracing::Instrument;

/// How many offers are asked before giving up: enough to pass a few that were just taken.
const MAX_OFFERS_ASKED: usize = 8;
/// How long a node that has just started waits for the market to reach it.
const DISCOVERY_WAIT: Duration = Duration::from_secs(10);
/// Pause between attempts to reach the sandbox again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(500);
/// How often a passing failure of the connection is forgiven in a row: with the pause above, about a minute.
const MAX_RECONNECTS: u32 = 120;
/// Of the rented time, this part is kept for fetching outputs when the program does not end by itself: a tenth...
const RESERVE_DIVISOR: u64 = 10;
/// ...but not more than this, in milliseconds.
const MAX_RESERVE: u64 = 60_000;
/// Room for the tar's own bytes beside the files': headers and padding, at most a block or two a file.
const TAR_OVERHEAD: u64 = 2;
/// How often a transfer says how far it is: often enough for a moving bar.
const PROGRESS_PAUSE: Duration = Duration::from_millis(250);
/// How often an opening is looked for among the sent transactions, to show it.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// What every run works with.
pub(crate) struct Context {
    pub(crate) parts: Parts,
    pub(crate) config: crate::Config,
    pub(crate) followers: Vec<Follower>,
    pub(crate) started: tokio::time::Instant,
    pub(crate) figures: Arc<Figures>,
    pub(crate) register: Box<dyn Fn(Driver) + Send + Sync>,
}

impl Context {
    fn account(&self, rental_escrow: &market::signed::Escrow) -> Option<(&EscrowAccount, &Follower)> {
        self.parts
            .accounts
            .iter()
            .zip(&self.followers)
            .find(|(account, _)| account.sender().chain().escrow() == *rental_escrow)
    }

    pub(crate) fn tools(&self, account: &EscrowAccount, follower: &Follower) -> Tools {
        Tools {
            network: self.parts.network.clone(),
            account: account.clone(),
            follower: follower.clone(),
            store: self.parts.store.clone(),
            figures: Arc::clone(&self.figures),
            cancel: self.parts.cancel.clone(),
        }
    }
}

/// A run that was understood and may begin.
pub(crate) struct Plan {
    pub(crate) run: u64,
    pub(crate) search: Search,
    pub(crate) request: RunRequest,
}

impl Plan {
    /// Checks everything that can be checked before anything happens.
    pub(crate) fn new(run: u64, request: RunRequest) -> Result<Self, ApiError> {
        let usage = |message: String, next: &str| ApiError::new(ErrorKind::Usage, message, next);
        if request.argv.first().is_none_or(String::is_empty) {
            return Err(usage("no program to run".to_owned(), "put it after `--`, as in `node run -- ./train.sh`"));
        }
        if request.seconds == 0 {
            return Err(usage("a rental lasts at least a second".to_owned(), "set --for"));
        }
        if let Some(input) = &request.input
            && !std::path::Path::new(input).is_dir()
        {
            return Err(usage(format!("{input} is not a folder"), "name a folder with --input"));
        }
        let search = Search::parse(&request.query, &request.order)?;
        Ok(Self { run, search, request })
    }
}

/// Carries a run from its beginning to its end, and says how it went.
pub(crate) async fn begin(context: Arc<Context>, plan: Plan, journal: Journal) {
    let result = match rent(&context, &plan, &journal).await {
        Ok(driver) => {
            let span = driver::span(&driver.id);
            serve(&context, driver, &journal).instrument(span).await
        }
        Err(error) => Err(error),
    };
    finish_journal(&journal, result).await;
}

/// Takes up a run whose rental is on disk since an earlier start of this node: tells what is known of it, and goes on.
pub(crate) async fn resume(context: Arc<Context>, driver: Driver, journal: Journal) {
    let record = Arc::clone(&driver.state.borrow().record);
    let span = driver::span(&driver.id);
    let told = async {
        retell(&context, &record, &driver, &journal).await?;
        serve(&context, driver, &journal).await
    };
    let result = told.instrument(span).await;
    finish_journal(&journal, result).await;
}

async fn retell(context: &Context, record: &Record, driver: &Driver, journal: &Journal) -> Result<(), ApiError> {
    let (rental, token) = (&record.rental, &record.rental.terms.token);
    let (deposit, price_hour) = (token.show(rental.deposit), token.show(rental.quote.quote.rate.hourly()));
    journal.push(RunStep::Quoted { id: rental.id, deposit, price_hour, gas: String::new() }).await;
    let (account, _) = context
        .account(&rental.quote.escrow)
        .ok_or_else(|| ApiError::new(ErrorKind::Chain, "the rental's chain is not configured any more", ""))?;
    see_opened(account, driver, journal).await?;
    if let Some(ended) = &record.job.ended {
        journal.push(RunStep::Exited { code: ended.code, how: ended.how.clone() }).await;
    }
    Ok(())
}

/// Tells how a run ended whose rental was over before this start of the node.
pub(crate) async fn tell_end(record: &Record, journal: &Journal) {
    let last = match driver::receipt(record) {
        Some(receipt) => {
            RunStep::Settled { receipt: Box::new(receipt), error: outcome(&record.job).and_then(Result::err) }
        }
        None => RunStep::Failed { error: not_opened() },
    };
    journal.push(last).await;
    journal.end();
}

async fn finish_journal(journal: &Journal, result: Result<(), ApiError>) {
    if let Err(error) = result {
        tracing::info!(error = error.message, "the run failed");
        journal.push(RunStep::Failed { error }).await;
    }
    journal.end();
}

// --- from a query to an opening ---

async fn rent(context: &Context, plan: &Plan, journal: &Journal) -> Result<Driver, ApiError> {
    let matches = find(context, plan).await?;
    let candidates = matches.len();
    let mut last = None;
    for chosen in matches.into_iter().take(MAX_OFFERS_ASKED) {
        let account = context.account(&chosen.price.escrow);
        let Some((account, follower)) = account else { continue };
        let chain = account.sender().chain();
        let (seconds, deposit) = afford(context, plan, &chosen)?;
        journal.push(RunStep::Matched { offer: Box::new(chosen.row()), candidates }).await;
        check_funds(context, chain, &chosen, deposit).await?;
        match negotiate::ask(&context.parts, chain, &chosen, seconds, deposit).await {
            Ok(promise) => return open(context, plan, account, follower, promise, journal).await,
            // money and chains do not get better with another provider
            Err(error @ NoPromise::Settlement(_)) => return Err(error.into_api(&chosen.ad.peer)),
            Err(error) => {
                let reason = error.to_string();
                journal.push(RunStep::Refused { provider: chosen.ad.peer.to_base58(), reason }).await;
                last = Some(error.into_api(&chosen.ad.peer));
            }
        }
    }
    Err(last.unwrap_or_else(|| {
        ApiError::new(ErrorKind::NoMatch, "no offer can be paid by this node", "configure its [[chain]] and token")
    }))
}

/// The matching offers; a node that has just started waits a little for the market to reach it.
async fn find(context: &Context, plan: &Plan) -> Result<Vec<Match>, ApiError> {
    let network = &context.parts.network;
    let mut changes = network.watch_offers();
    let deadline = context.started + DISCOVERY_WAIT;
    loop {
        let ads = network.offers();
        let matches = plan.search.find(&ads, |price| negotiate::payable(&context.parts.accounts, price));
        if !matches.is_empty() {
            return Ok(matches);
        }
        if !matches!(tokio::time::timeout_at(deadline, changes.changed()).await, Ok(Ok(()))) {
            let known: usize = ads.iter().map(|ad| ad.offers.len()).sum();
            let message = match known {
                0 => "no offers are known yet".to_owned(),
                known => format!("none of the {known} offers known here matches `{}`", plan.request.query),
            };
            let peers = network.connected_peers().len();
            return Err(ApiError::new(
                ErrorKind::NoMatch,
                message,
                format!("see `node offers`; {peers} peers are connected"),
            ));
        }
    }
}

/// For how long this offer can be rented within the limits, and what to lock for it.
fn afford(context: &Context, plan: &Plan, chosen: &Match) -> Result<(u32, Amount), ApiError> {
    let (token, rate) = (&chosen.price.token, chosen.price.rate);
    let usage =
        |what: &str, error: market::money::MoneyError| ApiError::new(ErrorKind::Usage, format!("{what}: {error}"), "");
    let limit = |what: &str, text: &str| match text {
        "" => Ok(None),
        text => parse_units(text, token.decimals).map(Some).map_err(|error| usage(what, error)),
    };
    if let Some(dearest) = limit("max_hourly", &context.config.limits.max_hourly)?
        && rate.hourly() > dearest
    {
        let message = format!(
            "the cheapest match costs {} an hour, your limit is {}",
            token.show(rate.hourly()),
            token.show(dearest)
        );
        return Err(ApiError::new(ErrorKind::NoMatch, message, "raise max_hourly in [renter.limits]"));
    }
    let asked = limit("--max-spend", &plan.request.max_spend)?;
    let configured = limit("max_spend_per_rental", &context.config.limits.max_spend_per_rental)?;
    let most = [asked, configured].into_iter().flatten().min();
    let seconds = plan.request.seconds.min(chosen.offer.max_seconds);
    let seconds = most.map_or(seconds, |most| seconds.min(rate.seconds_for(most)));
    let deposit = rate.for_seconds(seconds).max(chosen.price.min_deposit);
    let too_little = seconds < chosen.offer.min_seconds || most.is_some_and(|most| deposit > most);
    if too_little || deposit.get() == 0 {
        let least = rate.for_seconds(chosen.offer.min_seconds).max(chosen.price.min_deposit);
        let message = format!("the least this offer can be rented for is {}", token.show(least));
        return Err(ApiError::new(ErrorKind::Funds, message, "raise --max-spend or --for"));
    }
    Ok((seconds, deposit))
}

/// Whether the wallet can lock the deposit and pay for the gas, before a provider is made to hold anything.
async fn check_funds(context: &Context, chain: &Chain, chosen: &Match, deposit: Amount) -> Result<(), ApiError> {
    let wallet = context.parts.wallet.address();
    let token = &chosen.price.token;
    let read = async {
        Ok((chain.balance(token.address, wallet).await?, chain.coin_balance(wallet).await?, chain.fees().await?))
    };
    let (balance, coin, fees) = read.await.map_err(|error| chain_error(&error))?;
    if balance < U256::from(deposit.get()) {
        let have = token.show(Amount::new(balance.saturating_to()).unwrap_or(Amount::MAX));
        let message = format!("the wallet {wallet} holds {have}, the deposit is {}", token.show(deposit));
        return Err(ApiError::new(
            ErrorKind::Funds,
            message,
            "send it more, or rent for less with --for or --max-spend",
        ));
    }
    let pays_in_coin = token.address.is_zero();
    let gas = fees.cost(if pays_in_coin { GAS_TO_OPEN } else { GAS_TO_OPEN + GAS_TO_APPROVE });
    let need = gas + if pays_in_coin { U256::from(deposit.get()) } else { U256::ZERO };
    if coin < need {
        let message = format!(
            "the wallet {wallet} has {} for gas, opening takes about {}",
            show_coin(chain, coin),
            show_coin(chain, need)
        );
        return Err(ApiError::new(ErrorKind::Funds, message, "send it some of the chain's own coin"));
    }
    Ok(())
}

/// An amount of the chain's own coin, with its symbol.
fn show_coin(chain: &Chain, amount: U256) -> String {
    chain.token(Address::ZERO).show(Amount::new(amount.saturating_to()).unwrap_or(Amount::MAX))
}

async fn open(
    context: &Context,
    plan: &Plan,
    account: &EscrowAccount,
    follower: &Follower,
    promise: Promise,
    journal: &Journal,
) -> Result<Driver, ApiError> {
    let Promise { quote, terms, terms_bytes, session, deposit, block } = promise;
    let (chain, token) = (account.sender().chain(), terms.token.clone());
    let mut rental = Rental::new(quote, terms, terms_bytes, deposit, block);
    let id = rental.id;
    let gas = chain.fees().await.map_or_else(|_| String::new(), |fees| show_coin(chain, fees.cost(GAS_TO_OPEN)));
    let price_hour = token.show(rental.quote.quote.rate.hourly());
    journal.push(RunStep::Quoted { id, deposit: token.show(deposit), price_hour, gas }).await;

    let failed = |error: &dyn std::fmt::Display| ApiError::new(ErrorKind::Failed, error.to_string(), "");
    rental.step(Input::Open, UnixMillis::now()).map_err(|error| failed(&error))?;
    let request = &plan.request;
    let out = request.out.as_ref().map_or_else(
        || PathBuf::from(&request.working_directory).join("gpulease-out").join(id.hex8()),
        |out| PathBuf::from(&request.working_directory).join(out),
    );
    let job = Job {
        run: plan.run,
        argv: request.argv.clone(),
        env: request.env.clone(),
        input: request.input.as_ref().map(PathBuf::from),
        out,
        uploaded: None,
        ended: None,
        fetched: None,
    };
    let record = Record { rental, session_key: session.key(), job, frozen_millis: 0, taken_up: 0 };
    crash_point("renter", "quote", "accepted");
    driver::write(&context.parts.store, record.clone()).await.map_err(|error| failed(&error))?;
    crash_point("renter", "quote", "written");
    let driver = driver::start(context.tools(account, follower), record).map_err(|error| chain_error(&error))?;
    (context.register)(driver.clone());
    follower.watch(id, block, Known::default()).await.map_err(|error| chain_error(&error))?;

    see_opened(account, &driver, journal).await?;
    Ok(driver)
}

/// Waits until the rental is open, or cannot be opened any more.
async fn see_opened(account: &EscrowAccount, driver: &Driver, journal: &Journal) -> Result<(), ApiError> {
    let decided =
        |snapshot: &Snapshot| snapshot.record.rental.opening.is_some() || snapshot.record.rental.phase.is_over();
    let (mut watched, mut waiting) = (driver.clone(), driver.clone());
    let snapshot = tokio::select! {
        snapshot = watched.until(decided) => snapshot,
        () = announce_opening(account, driver, journal) => waiting.until(decided).await,
    };
    match snapshot.record.rental.opening {
        Some(opening) => {
            journal.push(RunStep::Opened { tx: opening.tx, block: opening.block }).await;
            Ok(())
        }
        None => Err(snapshot.error.unwrap_or_else(not_opened)),
    }
}

fn not_opened() -> ApiError {
    ApiError::new(ErrorKind::Chain, "the rental was not opened", "try again")
}

/// Shows the opening transaction once it is sent.
async fn announce_opening(account: &EscrowAccount, driver: &Driver, journal: &Journal) {
    loop {
        if let Ok(Some(record)) = account.sender().record(&Purpose::Open(driver.id)).await {
            return journal.push(RunStep::Opening { tx: record.latest_hash() }).await;
        }
        tokio::time::sleep(LOOK_PAUSE).await;
    }
}

// --- from an opening to a receipt ---

/// Does the job in an opened rental and sees it settled. A job that fails still settles; its error comes last.
async fn serve(context: &Context, mut driver: Driver, journal: &Journal) -> Result<(), ApiError> {
    let known = outcome(&driver.state.borrow().record.job);
    let outcome = if let Some(outcome) = known {
        outcome
    } else {
        let work = work(context, driver.clone(), journal);
        let mut watched = driver.clone();
        // a rental that ends under the job ends the job
        let ended = watched
            .until(|snapshot| snapshot.record.rental.stopped_at.is_some() || snapshot.record.rental.phase.is_over());
        tokio::select! {
            outcome = work => outcome,
            snapshot = ended => Err(ended_early(&snapshot)),
        }
    };
    driver.finish().await;
    settle(&mut driver, journal, outcome.err()).await
}

/// How the job went, once its outputs are here: nothing is left to be done for it but to pay.
fn outcome(job: &Job) -> Option<Result<(), ApiError>> {
    job.fetched.as_ref()?;
    let out_of_time = || {
        ApiError::new(
            ErrorKind::Timeout,
            "the rented time ended before the program did",
            "its outputs so far were fetched; rent for longer with --for",
        )
    };
    Some(job.ended.as_ref().map(|_| ()).ok_or_else(out_of_time))
}

fn ended_early(snapshot: &Snapshot) -> ApiError {
    snapshot.error.clone().unwrap_or_else(|| match snapshot.record.rental.phase {
        Phase::Leaving => ApiError::new(
            ErrorKind::Refused,
            "the provider does not answer any more; the rental was stopped on chain",
            "what was not served comes back when the challenge window is over",
        ),
        _ => ApiError::new(ErrorKind::Failed, "the rental was stopped before the program ended", ""),
    })
}

async fn work(context: &Context, mut driver: Driver, journal: &Journal) -> Result<(), ApiError> {
    let snapshot = driver.until(|snapshot| snapshot.record.rental.ready.is_some()).await;
    let Some((at, _)) = snapshot.record.rental.ready else { return Err(ended_early(&snapshot)) };
    journal.push(RunStep::Ready { at }).await;

    let record = snapshot.record;
    let grant = driver::grant(&record, &context.parts.network).map_err(|error| chain_error(&error))?;
    let guest = Guest::new(context.parts.network.clone(), record.rental.provider, grant);
    if let (Some(input), None) = (&record.job.input, &record.job.uploaded) {
        let hash = upload(&guest, input, journal).await?;
        crash_point("renter", "input", "sent");
        driver.remember(move |job| job.uploaded = Some(hash)).await;
        crash_point("renter", "input", "remembered");
    }
    if record.job.ended.is_none() {
        let (argv, env) = (record.job.argv.clone(), record.job.env.clone());
        retry(|| guest.start_job(argv.clone(), env.clone()))
            .await
            .map_err(|error| access_error(&error, "the program could not be started"))?;
        crash_point("renter", "job", "started");
        journal.push(RunStep::Started).await;
    }
    let in_time = {
        let costs = report_costs(driver.clone(), journal);
        let reserve = Duration::from_millis(time_left(&record.rental));
        tokio::select! {
            ended = follow(&guest, journal) => Some(ended?),
            () = costs => None,
            () = tokio::time::sleep(reserve) => None,
        }
    };
    if let Some(ended) = &in_time {
        let remembered = ended.clone();
        crash_point("renter", "job", "ended");
        driver.remember(move |job| job.ended = Some(remembered)).await;
        crash_point("renter", "job", "remembered");
        journal.push(RunStep::Exited { code: ended.code, how: ended.how.clone() }).await;
    }
    let hash = fetch(&guest, &record, journal).await?;
    crash_point("renter", "outputs", "fetched");
    driver.remember(move |job| job.fetched = Some(hash)).await;
    crash_point("renter", "outputs", "remembered");
    let job = driver.state.borrow().record.job.clone();
    outcome(&job).unwrap_or_else(|| Err(ApiError::new(ErrorKind::Failed, "the outputs could not be remembered", "")))
}

/// Milliseconds until outputs must be fetched.
fn time_left(rental: &Rental) -> u64 {
    let Some(meter) = rental.meter() else { return 0 };
    let reserve = (meter.tariff.longest_millis() / RESERVE_DIVISOR).min(MAX_RESERVE);
    meter.ends_at().since(UnixMillis::now()).saturating_sub(reserve)
}

async fn upload(guest: &Guest, input: &std::path::Path, journal: &Journal) -> Result<String, ApiError> {
    let wrong = |error: &AccessError| access_error(error, "the input could not be sent");
    let total = archive::measure(input.to_path_buf()).await.map_err(|error| wrong(&error))?.bytes;
    journal.push(RunStep::Uploading { sent: 0, total }).await;
    let moved = AtomicU64::new(0);
    let sending = retry(|| guest.put_folder(input.to_path_buf(), |bytes| moved.store(bytes, Ordering::Relaxed)));
    // the tar stream's own bytes are not the folder's
    let step = |bytes: u64| RunStep::Uploading { sent: bytes.min(total), total };
    let sent = tokio::select! {
        sent = sending => sent.map_err(|error| wrong(&error))?,
        never = report_moved(&moved, journal, step) => match never {},
    };
    journal.push(RunStep::Uploading { sent: total, total }).await;
    Ok(hex(&sent.sha256))
}

/// Follows the job's output to its end, across connections that break.
async fn follow(guest: &Guest, journal: &Journal) -> Result<Ended, ApiError> {
    // how far we are: the record being read, and how much of it was passed on
    let (mut record, mut passed) = (0u64, 0usize);
    let mut failures = 0;
    loop {
        let broken = match guest.logs(record).await {
            Err(error) => error,
            Ok(mut events) => {
                let mut skip = passed;
                loop {
                    match events.next().await {
                        Some(Ok(JobEvent::Output { seq, stderr, data })) => {
                            failures = 0;
                            if seq != record {
                                (record, passed, skip) = (seq, 0, 0);
                            }
                            let fresh = data.get(skip.min(data.len())..).unwrap_or_default();
                            skip = skip.saturating_sub(data.len());
                            if !fresh.is_empty() {
                                let (offset, data) = (passed as u64, BASE64_STANDARD.encode(fresh));
                                journal.push(RunStep::Log { stderr, seq, offset, data }).await;
                                passed += fresh.len();
                                crash_point("renter", "output", "passed");
                            }
                        }
                        Some(Ok(JobEvent::Gap { next })) => journal.push(RunStep::LogGap { next }).await,
                        Some(Ok(JobEvent::Ended(end))) => return Ok(Ended { code: end.exit_code, how: end.how }),
                        Some(Err(error)) => break error,
                        None => break AccessError::Truncated,
                    }
                }
            }
        };
        failures += 1;
        if !broken.is_passing() || failures > MAX_RECONNECTS {
            return Err(access_error(&broken, "the program's output was lost"));
        }
        tracing::info!(error = %broken, "the log stream broke, connecting again");
        tokio::time::sleep(RECONNECT_PAUSE).await;
    }
}

/// Says what has been paid, whenever the provider acknowledges more.
async fn report_costs(mut driver: Driver, journal: &Journal) {
    let mut last = Amount::ZERO;
    while driver.state.changed().await.is_ok() {
        let snapshot = driver.state.borrow_and_update().clone();
        let rental = &snapshot.record.rental;
        if rental.acked > last {
            last = rental.acked;
            let seconds = rental.quote.quote.rate.seconds_for(last).min(rental.seconds(UnixMillis::now()));
            journal.push(RunStep::Paid { seconds, cost: rental.terms.token.show(last) }).await;
        }
    }
}

async fn fetch(guest: &Guest, record: &Record, journal: &Journal) -> Result<String, ApiError> {
    journal.push(RunStep::Fetching { received: 0 }).await;
    let out = record.job.out.clone();
    let limit = (u64::from(record.rental.terms.hardware.disk_mib) << 20) * TAR_OVERHEAD;
    let moved = AtomicU64::new(0);
    let fetching = retry(|| guest.get_changed(out.clone(), limit, |bytes| moved.store(bytes, Ordering::Relaxed)));
    let received = tokio::select! {
        received = fetching => received.map_err(|error| access_error(&error, "the outputs could not be fetched"))?,
        never = report_moved(&moved, journal, |received| RunStep::Fetching { received }) => match never {},
    };
    let (contents, directory) = (received.contents, out.display().to_string());
    journal.push(RunStep::Fetched { files: contents.files, bytes: contents.bytes, directory }).await;
    Ok(hex(&received.transferred.sha256))
}

/// Waits for the chain to pay both sides.
async fn settle(driver: &mut Driver, journal: &Journal, error: Option<ApiError>) -> Result<(), ApiError> {
    // the total is final when the provider has released it, or cannot be asked any more
    let agreed = |phase: Phase| matches!(phase, Phase::Settling | Phase::Leaving) || phase.is_over();
    let snapshot = driver.until(|snapshot| agreed(snapshot.record.rental.phase)).await;
    let rental = &snapshot.record.rental;
    journal.push(RunStep::Settling { total: rental.terms.token.show(rental.signed_total()) }).await;
    let snapshot = driver.until(|snapshot| snapshot.receipt.is_some()).await;
    match snapshot.receipt {
        Some(receipt) => {
            journal.push(RunStep::Settled { receipt: Box::new(receipt.as_ref().clone()), error }).await;
            Ok(())
        }
        // the node is shutting down: the next start goes on
        None => Err(snapshot.error.unwrap_or_else(|| {
            ApiError::new(
                ErrorKind::Failed,
                "the node stopped before the rental was settled",
                "start it again: it goes on",
            )
        })),
    }
}

/// Says now and then how much was moved, as long as it is waited for.
async fn report_moved(moved: &AtomicU64, journal: &Journal, step: impl Fn(u64) -> RunStep) -> Infallible {
    let mut last = 0;
    loop {
        tokio::time::sleep(PROGRESS_PAUSE).await;
        let now = moved.load(Ordering::Relaxed);
        if now != last {
            last = now;
            journal.push(step(now)).await;
        }
    }
}

/// Repeats what failed only because the connection did.
async fn retry<T, F: Future<Output = Result<T, AccessError>>>(act: impl Fn() -> F) -> Result<T, AccessError> {
    let mut failures = 0;
    loop {
        match act().await {
            Err(error) if error.is_passing() && failures < MAX_RECONNECTS => {
                failures += 1;
                tracing::debug!(%error, "trying again");
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
            result => return result,
        }
    }
}

fn access_error(error: &AccessError, what: &str) -> ApiError {
    ApiError::new(ErrorKind::Failed, format!("{what}: {error}"), "")
}

/// How a rental is named in messages.
pub(crate) fn describe(rental: &Rental) -> String {
    format!("{} at {}", rental.id.short(), short_peer(&rental.provider))
}
