//! From a query to an opened rental.

use super::{Context, Plan, fitness::Fitness};
use crate::{
    Limits, discount,
    driver::{self, Driver, Snapshot},
    journal::Journal,
    negotiate::{self, NoPromise, Promise, Wanted, chain_error},
    records::{Job, Record},
};
use alloy_primitives::{Address, U256};
use api::{
    search::Match,
    types::{ApiError, Checks, ErrorKind, OfferQuery, RunStep, SignedField},
};
use market::{
    id::RentalId,
    mandate::{self, Mandate},
    money::{Amount, Rate, Token, parse_units},
    offer::{Offer, Price},
    quote::SignedQuote,
    rental::renter::{Input, Rental},
    signed::{Escrow, SignedVoucher},
    time::UnixMillis,
};
use network::{Page, PeerId};
use settlement::{Chain, EscrowAccount, Follower, Known, Path, Purpose, Wallet, Way};
use std::{collections::HashSet, path::PathBuf, time::Duration};
use store::crash_point;
use tokio::time::Instant;

/// How many offers are held against the GPU code of a job, to find some that run it.
const MAX_OFFERS_JUDGED: usize = 256;
/// How many offers are asked before giving up: enough to pass a few that were just taken.
const MAX_OFFERS_ASKED: usize = 8;
/// How long a node that has just started waits for the market to reach it.
const DISCOVERY_WAIT: Duration = Duration::from_secs(10);
/// How long slots that are just being given back are waited for: what a closing takes, and a little.
const BUSY_WAIT: Duration = Duration::from_secs(15);
/// How often an opening is looked for among the sent transactions, to show it.
const LOOK_PAUSE: Duration = Duration::from_millis(100);

/// Finds an offer, agrees with its provider, and opens the rental. Slots that are just being given back are waited for.
pub(super) async fn rent(context: &Context, plan: &Plan, journal: &Journal) -> Result<Driver, ApiError> {
    let deadline = Instant::now() + BUSY_WAIT;
    let mut told = HashSet::new();
    let fitness = Fitness::of(plan).await;
    loop {
        let found = find(context, plan, &fitness).await?;
        let failed = match choose(context, plan, journal, found, &mut told).await {
            Ok(driver) => return Ok(driver),
            Err(failed) => failed,
        };
        let Some(pause) = failed.again.filter(|pause| Instant::now() + *pause <= deadline) else {
            return Err(failed.error);
        };
        tokio::time::sleep(pause).await;
    }
}

/// Why none of the offers came to a rental.
struct NoneAgreed {
    error: ApiError,
    /// One of them is worth asking again after this pause.
    again: Option<Duration>,
}

impl From<ApiError> for NoneAgreed {
    fn from(error: ApiError) -> Self {
        Self { error, again: None }
    }
}

/// Asks the providers of these offers, the best first, until one of them agrees. What was `told` of an offer is not told again.
async fn choose(
    context: &Context,
    plan: &Plan,
    journal: &Journal,
    found: Page,
    told: &mut HashSet<(PeerId, String)>,
) -> Result<Driver, NoneAgreed> {
    let candidates = found.total.count();
    let (mut last, mut again) = (None, None);
    for chosen in found.matches {
        let account = context.account(&chosen.price.escrow);
        let Some((account, follower)) = account else { continue };
        let discount = discount::of(&context.parts.accounts, account.payer().address(), &chosen.offer).await;
        let Some(chosen) = together(chosen, plan.slots(), discount) else { continue };
        let Some(chosen) = at_bid(chosen, plan)? else { continue };
        let budget = Budget { seconds: plan.request.seconds, slots: plan.slots(), most: &plan.request.max_spend };
        let (seconds, deposit) = afford(&context.config.limits, budget, &chosen)?;
        let wanted = Wanted {
            seconds,
            deposit,
            slots: plan.slots(),
            interruptible: plan.request.interruptible,
            continues: None,
            workload: plan.workload(),
        };
        let news = told.insert((chosen.ad.peer, chosen.offer.name.clone()));
        if news {
            journal.push(RunStep::Matched { offer: Box::new(plan.search.row(&chosen)), candidates }).await;
        }
        // before a provider is made to hold anything
        let path = account.path(chosen.price.token.address, deposit).await.map_err(|error| chain_error(&error))?;
        let accepted = &context.config.limits.arbiters;
        match negotiate::ask(&context.parts, account, &chosen, wanted, accepted).await {
            Ok(promise) => {
                let job = |id| job(plan, id);
                let driver = open(context, (account, follower), (promise, path), job, journal).await?;
                see_opened(account, &driver, journal).await?;
                return Ok(driver);
            }
            // money and chains do not get better with another provider
            Err(error @ NoPromise::Settlement(_)) => return Err(error.into_api(&chosen.ad.peer).into()),
            Err(error) => {
                again = again.into_iter().chain(error.ask_again()).min();
                if news {
                    let reason = error.to_string();
                    journal.push(RunStep::Refused { provider: chosen.ad.peer.to_base58(), reason }).await;
                }
                last = Some(error.into_api(&chosen.ad.peer));
            }
        }
    }
    let error = last.unwrap_or_else(|| {
        let message = match plan.request.interruptible {
            true => "no offer takes this bid",
            false => "no offer can be paid by this node",
        };
        ApiError::new(ErrorKind::NoMatch, message, "bid more, or configure the [[chain]] and token of the offer")
    });
    Err(NoneAgreed { error, again })
}

/// The matching offers; a node that has just started waits a little for the market to reach it.
async fn find(context: &Context, plan: &Plan, fitness: &Fitness) -> Result<Page, ApiError> {
    let network = &context.parts.network;
    let (mut changes, mut indexers) = (network.watch_offers(), network.watch_indexers());
    let deadline = context.started + DISCOVERY_WAIT;
    let (query, order) = (plan.request.query.clone(), plan.request.order.clone());
    let asked = OfferQuery { query, order, ..OfferQuery::default() };
    context.ask_indexers(&asked).await;
    loop {
        let wanted = |escrow: &Escrow, token: &Token| negotiate::payable(&context.parts.accounts, escrow, token);
        let looked_at = if fitness.judges() { MAX_OFFERS_JUDGED } else { MAX_OFFERS_ASKED };
        let mut found = network.search(&plan.search.of(&wanted), None, looked_at);
        let looked_at = found.matches.len();
        let mut against = None;
        found.matches.retain(|found| match fitness.against(&found.offer) {
            None => true,
            Some(reason) => {
                against.get_or_insert(reason);
                false
            }
        });
        found.matches.truncate(MAX_OFFERS_ASKED);
        if !found.matches.is_empty() {
            return Ok(found);
        }
        let news = async {
            tokio::select! {
                changed = changes.changed() => changed,
                joined = indexers.changed() => {
                    context.ask_indexers(&asked).await;
                    joined
                }
            }
        };
        if !matches!(tokio::time::timeout_at(deadline, news).await, Ok(Ok(()))) {
            let message = match network.held().offers {
                0 => "no offers are known yet".to_owned(),
                _ if let Some(reason) = against => {
                    format!("none of the {looked_at} offers that match runs the program: {reason}")
                }
                known if plan.slots() > 1 => format!(
                    "none of the {known} offers known here matches `{}` and rents {} slots together",
                    plan.request.query,
                    plan.slots()
                ),
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

/// The offer as so many of its slots together, at the price that this renter pays for them; `None` when that is beyond all numbers.
pub(super) fn together(chosen: Match, slots: u32, discount: u32) -> Option<Match> {
    let rate = chosen.price.rate.less(discount).times(slots)?;
    let hardware = chosen.offer.hardware.times(slots);
    Some(Match { price: Price { rate, ..chosen.price }, offer: Offer { hardware, ..chosen.offer }, ..chosen })
}

/// An interruptible rental pays what it bids for all of its slots, the least that is taken unless said; `None` when the bid is below that.
fn at_bid(chosen: Match, plan: &Plan) -> Result<Option<Match>, ApiError> {
    let Some(floor) = chosen.price.floor.filter(|_| plan.request.interruptible) else { return Ok(Some(chosen)) };
    let bid = match plan.request.bid.as_str() {
        "" => Some(floor),
        text => Rate::from_hourly(
            parse_units(text, chosen.price.token.decimals)
                .map_err(|error| ApiError::new(ErrorKind::Usage, format!("--bid: {error}"), "write it like 0.25"))?,
        ),
    };
    let rate = bid.filter(|bid| *bid >= floor).and_then(|bid| bid.times(plan.slots()));
    Ok(rate.map(|rate| Match { price: Price { rate, ..chosen.price.clone() }, ..chosen }))
}

/// What a rental may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget<'a> {
    /// The time wanted, in seconds.
    pub(super) seconds: u32,
    pub(super) slots: u32,
    /// The most that the caller spends, as decimal text; empty for no limit.
    pub(super) most: &'a str,
}

/// For how long this offer can be rented within the limits, and what to lock for it.
pub(super) fn afford(limits: &Limits, budget: Budget<'_>, chosen: &Match) -> Result<(u32, Amount), ApiError> {
    let (token, rate) = (&chosen.price.token, chosen.price.rate);
    let usage =
        |what: &str, error: market::money::MoneyError| ApiError::new(ErrorKind::Usage, format!("{what}: {error}"), "");
    let limit = |what: &str, text: &str| match text {
        "" => Ok(None),
        text => parse_units(text, token.decimals).map(Some).map_err(|error| usage(what, error)),
    };
    if let Some(dearest) = limit("max_hourly", &limits.max_hourly)?
        && rate.hourly().get() > dearest.get().saturating_mul(u128::from(budget.slots))
    {
        let message = format!(
            "the cheapest match costs {} an hour, your limit is {} for each slot",
            token.show(rate.hourly()),
            token.show(dearest)
        );
        return Err(ApiError::new(ErrorKind::NoMatch, message, "raise max_hourly in [renter.limits]"));
    }
    let asked = limit("--max-spend", budget.most)?;
    let configured = limit("max_spend_per_rental", &limits.max_spend_per_rental)?;
    let most = [asked, configured].into_iter().flatten().min();
    let seconds = budget.seconds.min(chosen.offer.max_seconds);
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

/// An amount of the chain's own coin, with its symbol.
fn show_coin(chain: &Chain, amount: U256) -> String {
    chain.token(Address::ZERO).show(Amount::new(amount.saturating_to()).unwrap_or(Amount::MAX))
}

/// What the program of a run needs of its rental.
fn job(plan: &Plan, id: RentalId) -> Job {
    let request = &plan.request;
    let out = request.out.as_ref().map_or_else(
        || PathBuf::from(&request.working_directory).join("gpulease-out").join(id.hex8()),
        |out| PathBuf::from(&request.working_directory).join(out),
    );
    Job {
        run: plan.run,
        label: request.label.clone(),
        argv: request.argv.clone(),
        env: request.env.clone(),
        input: request.input.as_ref().map(PathBuf::from),
        out,
        uploaded: None,
        ended: None,
        fetched: None,
        slots: plan.slots(),
        continued_by: None,
        no_check: request.no_check,
        checks: Checks::default(),
    }
}

/// Takes a promise up: on disk first, then towards the chain. The rental is not open yet when this returns.
pub(super) async fn open(
    context: &Context,
    (account, follower): (&EscrowAccount, &Follower),
    (promise, path): (Promise, Path),
    job: impl FnOnce(RentalId) -> Job,
    journal: &Journal,
) -> Result<Driver, ApiError> {
    let Promise { quote, terms, terms_bytes, session, deposit, block } = promise;
    let (chain, token) = (account.sender().chain(), terms.token.clone());
    let mut rental = Rental::new(quote, terms, terms_bytes, deposit, block);
    let id = rental.id;
    let gas = match path {
        Path::Own(way) => {
            chain.fees().await.map_or_else(|_| String::new(), |fees| show_coin(chain, fees.cost(way.gas())))
        }
        Path::Mandate(_) => String::new(),
    };
    let price_hour = token.show(rental.quote.quote.rate.hourly());
    let arbiter = rental.quote.quote.named_arbiter();
    journal.push(RunStep::Quoted { id, deposit: token.show(deposit), price_hour, gas, arbiter }).await;
    let (Path::Own(way) | Path::Mandate(way)) = path;
    show_signing(account, &rental.quote, deposit, way, journal).await?;
    if let Path::Mandate(way) = path {
        let mandate = mandate(account, &rental, &session, way).await?;
        journal.push(RunStep::Mandated { advance: token.show(mandate.advance.cumulative) }).await;
        rental = rental.opened_by_provider(mandate);
    }

    let failed = |error: &dyn std::fmt::Display| ApiError::new(ErrorKind::Failed, error.to_string(), "");
    rental.step(Input::Open, UnixMillis::now()).map_err(|error| failed(&error))?;
    let record =
        Record { rental, session_key: session.key(), job: job(id), frozen_millis: 0, last_ack: None, taken_up: 0 };
    crash_point("renter", "quote", "accepted");
    driver::write(&context.parts.store, record.clone()).await.map_err(|error| failed(&error))?;
    crash_point("renter", "quote", "written");
    let driver = driver::start(context.tools(account, follower), record).map_err(|error| chain_error(&error))?;
    (context.register)(driver.clone());
    follower.watch(id, block, Known::default()).await.map_err(|error| chain_error(&error))?;
    Ok(driver)
}

/// Shows what will be signed or sent to pay the deposit in.
async fn show_signing(
    account: &EscrowAccount,
    quote: &SignedQuote,
    deposit: Amount,
    way: Way,
    journal: &Journal,
) -> Result<(), ApiError> {
    for thing in account.decoded(quote, deposit, way).await.map_err(|error| chain_error(&error))? {
        let field = |(name, value): (&str, String)| SignedField { name: name.to_owned(), value };
        journal
            .push(RunStep::Signing { what: thing.what, fields: thing.fields.into_iter().map(field).collect() })
            .await;
    }
    Ok(())
}

/// Signs the order to the provider to open the rental, and its advance.
async fn mandate(account: &EscrowAccount, rental: &Rental, session: &Wallet, way: Way) -> Result<Mandate, ApiError> {
    let (quote, deposit) = (&rental.quote, rental.deposit);
    let funding = account.fund(quote, deposit, way).await.map_err(|error| chain_error(&error))?;
    let cumulative = mandate::advance(&quote.quote, rental.terms.increment_millis, deposit);
    let digest = quote.escrow.digest(&SignedVoucher::statement(rental.id, cumulative));
    let signature = session.sign_digest(&digest).map_err(|error| chain_error(&error))?;
    Ok(Mandate { deposit, funding, advance: SignedVoucher { id: rental.id, cumulative, signature } })
}

/// Waits until the rental is open, or cannot be opened any more.
pub(super) async fn see_opened(account: &EscrowAccount, driver: &Driver, journal: &Journal) -> Result<(), ApiError> {
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

pub(super) fn not_opened() -> ApiError {
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
