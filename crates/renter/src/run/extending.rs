//! More time for a rental that goes on: a new one that continues it and keeps its sandbox. What a rental locks covers all of its time, so
//! that there is no more to be had within it.

use super::{
    Context,
    opening::{self, Budget},
};
use crate::{
    discount,
    driver::{Driver, Snapshot},
    journal::Journal,
    negotiate::{self, Wanted, chain_error},
    records::{Job, Record},
};
use api::{
    search::Match,
    types::{ApiError, Checks, ErrorKind},
};
use market::{rental::renter::Phase, time::UnixMillis};
use std::time::Duration;

/// How long whoever orders more time waits for the chain to have it; a request to the daemon may take ten seconds longer.
const OPEN_WAIT: Duration = Duration::from_secs(50);

/// Has a rental go on for `seconds` after its end, in one that continues it; returns when that is open.
pub(crate) async fn extend(
    context: &Context,
    driver: &Driver,
    seconds: u32,
    journal: &Journal,
) -> Result<Driver, ApiError> {
    let record = driver.state.borrow().record.clone();
    let (rental, id) = (&record.rental, record.rental.id);
    let served = rental.meter().filter(|_| rental.phase == Phase::Serving);
    let Some(meter) = served else {
        let message = format!("the rental {} is {}", id.short(), rental.phase.name());
        return Err(ApiError::new(ErrorKind::Usage, message, "only one whose meter runs can be continued"));
    };
    if let Some(next) = record.job.continued_by {
        let message = format!("the rental goes on in {} already", next.short());
        return Err(ApiError::new(ErrorKind::Usage, message, format!("extend that one: node extend {}", next.short())));
    }
    let (account, follower) = context
        .account(&rental.quote.escrow)
        .ok_or_else(|| ApiError::new(ErrorKind::Chain, "the rental's chain is not configured any more", ""))?;
    let offered = offered(context, &record)?;
    let discount = discount::of(&context.parts.accounts, account.payer().address(), &offered.offer).await;
    let beyond = || ApiError::new(ErrorKind::Refused, "the offer's price is beyond all numbers", "");
    let chosen = opening::together(offered, record.job.slots, discount).ok_or_else(beyond)?;

    // the new one begins when it is open, and has what is left of this one and the time beyond
    let left = meter.ends_at().since(UnixMillis::now()).div_ceil(1_000);
    let whole = u32::try_from(left).unwrap_or(u32::MAX).saturating_add(seconds);
    let budget = Budget { seconds: whole, slots: record.job.slots, most: "" };
    let (seconds, deposit) = opening::afford(&context.config.limits, budget, &chosen)?;
    if seconds < whole {
        let message = format!("with what is left that makes {whole} s, and no more than {seconds} s can be had");
        return Err(ApiError::new(ErrorKind::Usage, message, "ask for less, or raise max_spend_per_rental"));
    }
    let path = account.path(chosen.price.token.address, deposit).await.map_err(|error| chain_error(&error))?;
    let workload = rental.terms.workload.clone();
    let wanted =
        Wanted { seconds, deposit, slots: record.job.slots, interruptible: false, continues: Some(id), workload };
    let accepted = &context.config.limits.arbiters;
    let promise = negotiate::ask(&context.parts, account, &chosen, wanted, accepted).await;
    let promise = promise.map_err(|error| error.into_api(&rental.provider))?;
    if promise.terms.slot != rental.terms.slot {
        let message =
            format!("the provider would move the rental from {} to {}", rental.terms.slot, promise.terms.slot);
        return Err(ApiError::new(ErrorKind::Refused, message, "rent anew: node run"));
    }
    let job = |_| Job { ended: None, fetched: None, checks: Checks::default(), ..record.job.clone() };
    let next = opening::open(context, (account, follower), (promise, path), job, journal).await?;
    let by = next.id;
    driver.remember(move |job| job.continued_by = Some(by)).await;
    see_open(next).await
}

/// The offer that a rental came from, as it is advertised now.
fn offered(context: &Context, record: &Record) -> Result<Match, ApiError> {
    let terms = &record.rental.terms;
    let ad = context.parts.network.offers_of(&record.rental.provider);
    let found = ad.and_then(|ad| {
        let offer = ad.offers.iter().find(|offer| offer.name == terms.offer)?.clone();
        let price =
            offer.price_in(&terms.escrow, terms.token.address).filter(|price| price.token == terms.token)?.clone();
        Some(Match { ad, offer, price, standing: None })
    });
    found.ok_or_else(|| {
        let message = format!("its provider does not offer `{}` in {} any more", terms.offer, terms.token.symbol);
        ApiError::new(ErrorKind::NoMatch, message, "the rental goes on until its end; rent elsewhere: node run")
    })
}

async fn see_open(next: Driver) -> Result<Driver, ApiError> {
    let decided = |seen: &Snapshot| seen.record.rental.opening.is_some() || seen.record.rental.phase.is_over();
    let mut watched = next.clone();
    let Ok(seen) = tokio::time::timeout(OPEN_WAIT, watched.until(decided)).await else {
        let next = "it stays under way: see `node ps`";
        return Err(ApiError::new(ErrorKind::Timeout, "the chain does not show the new rental open yet", next));
    };
    match seen.record.rental.opening {
        Some(_) => Ok(next),
        None => Err(seen.error.unwrap_or_else(opening::not_opened)),
    }
}

/// Waits until a rental is to go on in another that is open: that one. Never comes back otherwise.
pub(super) async fn continued(context: &Context, mut driver: Driver) -> Driver {
    loop {
        let ordered = driver.until(|seen| seen.record.job.continued_by.is_some()).await;
        let next = ordered.record.job.continued_by.and_then(|id| (context.find)(id));
        let Some(mut next) = next else { return std::future::pending().await };
        let decided = |seen: &Snapshot| seen.record.rental.opening.is_some() || seen.record.rental.phase.is_over();
        let seen = next.until(decided).await;
        if seen.record.rental.opening.is_some() {
            return next;
        }
        // it was never opened: the old one goes on by itself
        driver.remember(|job| job.continued_by = None).await;
    }
}
