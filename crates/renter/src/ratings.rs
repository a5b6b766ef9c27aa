//! Ratings of this renter's rentals, and what its checks of their hardware have shown: signed together by the rental's session key, written
//! down before anybody hears of them, and told again until an indexer has them.

use crate::{
    records::{Record, Rentals},
    run::Context,
};
use api::types::{ApiError, CheckOutcome, Checks, ErrorKind, RatingRequest, RatingState, RatingView};
use market::{
    id::{DeviceId, RentalId},
    rating::{CheckSummary, RatingStatement, SignedRating, Stars},
    time::UnixMillis,
};
use network::PeerId;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};
use settlement::Wallet;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::{Json, Store, StoreError, Table};
use wire::proto::{self, given::State, ratings_request::Request, ratings_response::Response};

/// The pause before a rating is told a second time, in milliseconds; it doubles with each time...
const FIRST_PAUSE: u64 = 10_000;
/// ...up to this: six hours.
const MAX_PAUSE: u64 = 6 * 3_600_000;
/// How often it is told before that is given up: over two days and a half.
const MAX_TRIES: u32 = 20;
/// Indexers that are given it in one go, so that one of them that is gone or lies does not matter.
const ASKED_AT_ONCE: usize = 3;
/// How long somebody who rates waits for the first of them, before the rest happens without him.
const FIRST_WAIT: Duration = Duration::from_secs(8);
/// What a check calls the processors of a slot, which have no number of their own.
const PROCESSORS: &str = "cpu";
/// How often it is looked whether one is due.
const TICK: Duration = Duration::from_secs(2);

/// A rating and how far it has come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) rating: SignedRating,
    kept: bool,
    tries: u32,
    /// What the last indexer that did not keep it said.
    detail: String,
    next: UnixMillis,
}

/// The latest rating of each rental.
pub(crate) struct OwnRatings;
impl Table for OwnRatings {
    const NAME: &'static str = "renter_ratings";
    type Key = RentalId;
    type Value = Json<Told>;
}

/// Ratings that no indexer has yet.
#[derive(Default)]
pub(crate) struct Untold {
    ratings: Mutex<BTreeMap<RentalId, Told>>,
    /// Held from what was said before to what is said now: a person and the checks may speak at the same moment, and neither unsays the other.
    saying: tokio::sync::Mutex<()>,
}

impl Untold {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<RentalId, Told>> {
        self.ratings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Those of an earlier run, but for what this one has said since.
    fn remember(&self, before: BTreeMap<RentalId, Told>) {
        let mut ratings = self.lock();
        for (id, told) in before {
            ratings.entry(id).or_insert(told);
        }
    }
}

impl Told {
    fn is_over(&self) -> bool {
        self.kept || self.tries >= MAX_TRIES
    }

    fn view(&self) -> RatingView {
        let statement = &self.rating.statement;
        let state = match (self.kept, self.tries >= MAX_TRIES) {
            (true, _) => RatingState::Kept,
            (false, false) => RatingState::Told,
            (false, true) => RatingState::GivenUp,
        };
        RatingView {
            id: statement.id,
            stars: statement.stars.map_or(0, Stars::get),
            comment: statement.comment.clone(),
            at: statement.at,
            state,
            detail: self.detail.clone(),
        }
    }

    /// When to try again: later each time, and not when everybody else does who tried at the same moment.
    fn postpone(&mut self, now: UnixMillis) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.tries.min(16)).min(MAX_PAUSE);
        self.tries += 1;
        self.next = now.plus(rand::random_range(pause * 3 / 4..=pause * 5 / 4));
    }
}

fn wrong(error: &dyn std::fmt::Display) -> ApiError {
    ApiError::new(ErrorKind::Usage, error.to_string(), "see node rate --help")
}

/// A rental of this node's own, and what was said of it before.
async fn read(store: &Store, id: RentalId) -> Result<(Record, Option<Told>), ApiError> {
    let read = move |store: &Store| Ok((store.get::<Rentals>(&id)?, store.get::<OwnRatings>(&id)?));
    let (record, before) = store.run(read).await.map_err(store_error)?;
    let Json(record) = record.ok_or_else(|| {
        let message = format!("this node is not the renter of {}", id.short());
        ApiError::new(ErrorKind::NoMatch, message, "see its rentals: node ps --all")
    })?;
    Ok((record, before.map(|before| before.0)))
}

/// Signs what a person says, with what the checks have shown, and writes it down.
async fn sign(store: &Store, id: RentalId, request: RatingRequest) -> Result<Told, ApiError> {
    let (record, before) = read(store, id).await?;
    let stars = request.stars.try_into().map_err(|error| wrong(&error))?;
    ratable(&record)?;
    write(store, &record, before.as_ref(), (Some(stars), request.comment)).await
}

/// Signs what the checks of a closed rental have shown, unless that is said already; with the stars that it was given before, if it was.
/// Nothing where no check showed anything, or nothing was paid.
async fn sign_checks(store: &Store, id: RentalId) -> Result<Option<Told>, ApiError> {
    let (record, before) = read(store, id).await?;
    let shown = summary(&record.job.checks);
    let said = before.as_ref().and_then(|before| before.rating.statement.checks);
    if shown.is_none() || shown == said || ratable(&record).is_err() {
        return Ok(None);
    }
    let stars_and_words = match &before {
        Some(before) => (before.rating.statement.stars, before.rating.statement.comment.clone()),
        None => (None, String::new()),
    };
    write(store, &record, before.as_ref(), stars_and_words).await.map(Some)
}

async fn write(
    store: &Store,
    record: &Record,
    before: Option<&Told>,
    (stars, comment): (Option<Stars>, String),
) -> Result<Told, ApiError> {
    let id = record.rental.id;
    // a clock that was set back must not make the newer rating the older one
    let at = before.map_or(UnixMillis::now(), |before| UnixMillis::now().max(before.rating.statement.at.plus(1)));
    let (escrow, checks) = (record.rental.quote.escrow, summary(&record.job.checks));
    let statement = RatingStatement { escrow, id, stars, comment, checks, at };
    let failed = |error: settlement::SettlementError| ApiError::new(ErrorKind::Failed, error.to_string(), "");
    let key = Wallet::from_key(&record.session_key).map_err(failed)?;
    let signature = key.sign_digest(&statement.digest()).map_err(failed)?;
    let rating = SignedRating { statement, signature };
    // what others would refuse is refused here, before it is written
    wire::rating_from_proto(wire::rating_to_proto(&rating)).map_err(|error| wrong(&error))?;
    let told = Told { rating, kept: false, tries: 0, detail: String::new(), next: UnixMillis(0) };
    let row = Json(told.clone());
    store.run(move |store| store.put_sync::<OwnRatings>(&id, &row)).await.map_err(store_error)?;
    Ok(told)
}

/// A rental has closed: what its checks have shown is signed, and told with the ratings.
pub(crate) async fn tell_checks(store: &Store, untold: &Untold, id: RentalId) {
    let _saying = untold.saying.lock().await;
    match sign_checks(store, id).await {
        Ok(told) => untold.lock().extend(told.map(|told| (id, told))),
        Err(error) => tracing::warn!(rental = %id.short(), %error, "what the checks have shown cannot be told"),
    }
}

/// What checks have shown, in sum; nothing when none has shown anything.
fn summary(checks: &Checks) -> Option<CheckSummary> {
    let Checks { passed, unmeasured, missed, .. } = *checks;
    let latest = checks.latest.iter().rev().find(|check| check.outcome != CheckOutcome::Unknown);
    // none of them where nothing could be asked for a long time: what was shown before still counts
    let level = latest.or(checks.latest.iter().next_back())?.level;
    let devices = latest.map(|latest| &latest.devices[..]).unwrap_or_default();
    let slowest = devices.iter().min_by_key(|device| device.seen);
    let cards = devices.iter().map(|device| device.device.as_str()).filter(|device| *device != PROCESSORS);
    // of a miss only the devices that were too slow are known
    let missed_now = latest.is_some_and(|latest| latest.outcome == CheckOutcome::Missed);
    let cards: Vec<&str> = if missed_now { vec![] } else { cards.collect() };
    let summary = CheckSummary {
        level,
        passed,
        unmeasured,
        missed,
        last: latest.map_or(UnixMillis(0), |latest| latest.at),
        devices: (!cards.is_empty()).then(|| DeviceId::of_gpus(cards)),
        seen: slowest.map_or(0, |device| device.seen),
        least: slowest.and_then(|device| device.least).unwrap_or_default(),
    };
    (!summary.is_empty()).then_some(summary)
}

/// Whether a rating of the rental can count.
fn ratable(record: &Record) -> Result<(), ApiError> {
    let short = record.rental.id.short();
    match &record.rental.closing {
        None => Err(ApiError::new(
            ErrorKind::Usage,
            format!("rental {short} is not closed: only what is over can be rated"),
            format!("see how it stands: node show {short}"),
        )),
        Some(closing) if closing.paid.get() == 0 => Err(ApiError::new(
            ErrorKind::Usage,
            format!("nothing was paid for rental {short}: a rating of it would not count anywhere"),
            "its end on chain speaks for itself",
        )),
        Some(_) => Ok(()),
    }
}

/// Rates a rental, and says how far the rating has come.
pub(crate) async fn rate(context: &Context, id: RentalId, request: RatingRequest) -> Result<RatingView, ApiError> {
    {
        let _saying = context.untold.saying.lock().await;
        let told = sign(&context.parts.store, id, request).await?;
        context.untold.lock().insert(id, told);
    }
    // beyond the wait it goes on with the others
    let _ = tokio::time::timeout(FIRST_WAIT, tell(context, id)).await;
    let read = move |store: &Store| store.get::<OwnRatings>(&id);
    let told = context.parts.store.run(read).await.map_err(store_error)?;
    told.map(|told| told.view()).ok_or_else(|| ApiError::new(ErrorKind::Failed, "the rating is not on disk", ""))
}

/// Tells ratings that no indexer has yet, those of an earlier run among them, until the node ends.
pub(crate) async fn keep_telling(context: Arc<Context>) {
    let read = |store: &Store| {
        let untold = store.scan::<OwnRatings>(..)?.filter(|row| row.as_ref().map_or(true, |(_, told)| !told.is_over()));
        untold.map(|row| row.map(|(id, told)| (id, told.0))).collect::<Result<BTreeMap<_, _>, _>>()
    };
    match context.parts.store.run(read).await {
        Ok(untold) => context.untold.remember(untold),
        Err(error) => tracing::warn!(%error, "ratings of an earlier run cannot be read"),
    }
    let mut tick = tokio::time::interval(TICK);
    loop {
        tick.tick().await;
        let now = UnixMillis::now();
        let due: Vec<_> =
            context.untold.lock().iter().filter(|(_, told)| told.next <= now).map(|(id, _)| *id).collect();
        for id in due {
            tell(&context, id).await;
        }
    }
}

/// Tells one rating to everybody, gives it to some indexers, and writes down what came of it.
async fn tell(context: &Context, id: RentalId) {
    let claimed = {
        let mut untold = context.untold.lock();
        let Some(told) = untold.get_mut(&id) else { return };
        // claimed: nobody else tells it before then
        told.postpone(UnixMillis::now());
        told.clone()
    };
    let (kept, detail) = give(&context.parts.network, &claimed.rating).await;
    let told = Told { kept, detail, ..claimed };
    {
        let mut untold = context.untold.lock();
        // rated again meanwhile: that one goes its own way
        if untold.get(&id).is_none_or(|now| now.rating != told.rating) {
            return;
        }
        if told.is_over() {
            untold.remove(&id);
        } else {
            untold.insert(id, told.clone());
        }
    }
    tracing::debug!(rental = %id.short(), kept, tries = told.tries, detail = told.detail, "told a rating");
    let row = Json(told);
    if let Err(error) = context.parts.store.run(move |store| store.put::<OwnRatings>(&id, &row)).await {
        tracing::warn!(%error, "how far a rating has come cannot be written: it is told again after the next start");
    }
}

/// Whether an indexer has it now, and else what the last one said.
async fn give(network: &network::Handle, rating: &SignedRating) -> (bool, String) {
    let ended = || (false, "the network is shut down".to_owned());
    if network.publish_rating(rating).await.is_err() {
        return ended();
    }
    let Ok(keepers) = network.rating_keepers().await else { return ended() };
    let mut detail = "no indexer is connected".to_owned();
    let chosen: Vec<PeerId> = keepers.choose_multiple(&mut rand::rng(), ASKED_AT_ONCE).copied().collect();
    for keeper in chosen {
        let request = proto::RatingsRequest { request: Some(Request::Give(wire::rating_to_proto(rating))) };
        match network.ask_ratings(keeper, request).await {
            Ok(proto::RatingsResponse { response: Some(Response::Given(given)) }) => match given.state() {
                State::Kept => return (true, String::new()),
                State::Waiting | State::Refused => detail = wire::shown(&given.detail),
            },
            Ok(_) => detail = "an indexer gave an answer to something else".to_owned(),
            Err(error) => detail = error.to_string(),
        }
    }
    (false, detail)
}

fn store_error(error: StoreError) -> ApiError {
    ApiError::new(ErrorKind::Failed, error.to_string(), "")
}

#[cfg(test)]
mod tests;
