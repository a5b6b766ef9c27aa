//! The renter's checks of the hardware it rents (level 2): when they are made, and what becomes of what they show.
//!
//! The first comes in the first increments, the others at random times, so that nobody can be ready for them. Of a machine with cards the first
//! comes before the program starts, since the cards' memory is filled; of one without, right after, so that nobody's first line of output
//! waits for it. A miss is written down and ends the rental by the chain, with the reason that reputation counts as a failed check.

mod asked;
mod challenge;
mod inside;
#[cfg(test)]
mod tests;

use crate::{driver::Driver, run::Context};
use access::guest::Guest;
use api::types::{ApiError, CheckOutcome, ErrorKind, HardwareCheck};
use challenge::{Challenger, Pace};
use inside::Inside;
use market::{
    dispute::StopReason,
    id::RentalId,
    rental::renter::{Phase, Rental},
    time::UnixMillis,
};
use std::{
    collections::HashSet,
    convert::Infallible,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Shorter rentals are not checked by themselves: a check may take a second of their time and sends them a program of a megabyte.
const SHORTEST_RENTAL: Duration = Duration::from_secs(60);

/// Nor is one that ends sooner than this, which is about what a check takes that has to be repeated.
const LEAST_LEFT: Duration = Duration::from_secs(30);

/// From the program's start to the first check beside it: the program's own beginning, and its first line, come first.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The shortest pause between two checks.
const LEAST_PAUSE: Duration = Duration::from_secs(10);

/// A pause longer than this many times the mean is shortened to that: by chance alone it would come once in four hundred times.
const LONGEST_PAUSE_TIMES: f64 = 6.0;

/// What the checks of all rentals have in common.
#[derive(Default)]
pub(crate) struct Checker {
    challenger: Challenger,
    under_way: Mutex<HashSet<RentalId>>,
}

/// A rental's only check under way.
struct UnderWay<'a>(&'a Checker, RentalId);

impl Checker {
    fn begin(&self, id: RentalId) -> Option<UnderWay<'_>> {
        let fresh = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        fresh.then_some(UnderWay(self, id))
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// Whether a rental is checked without being asked to.
fn is_wanted(context: &Context, driver: &Driver) -> bool {
    let record = driver.state.borrow().record.clone();
    let long_enough = Duration::from_millis(record.rental.tariff().longest_millis()) >= SHORTEST_RENTAL;
    context.config.hardware_checks && !record.job.no_check && long_enough
}

fn time_left(rental: &Rental) -> Duration {
    let left = rental.meter().map_or(0, |meter| meter.ends_at().since(UnixMillis::now()));
    Duration::from_millis(left)
}

/// The first check of a machine with cards, before the program has them.
pub(crate) async fn before(context: &Context, driver: &Driver, guest: &Guest) {
    let record = driver.state.borrow().record.clone();
    let first = record.job.checks.is_empty() && record.job.ended.is_none();
    if first && !record.rental.terms.hardware.gpus.is_empty() && is_wanted(context, driver) {
        check(context, driver, guest, false).await;
    }
}

/// Checks beside the program, for as long as it is waited for.
pub(crate) async fn beside(context: &Context, driver: &Driver, guest: &Guest) -> Infallible {
    if !is_wanted(context, driver) {
        return std::future::pending().await;
    }
    if driver.state.borrow().record.job.checks.is_empty() {
        tokio::time::sleep(FIRST_PAUSE).await;
        check(context, driver, guest, true).await;
    }
    loop {
        let minutes = context.config.check_minutes;
        if minutes == 0 {
            return std::future::pending().await;
        }
        tokio::time::sleep(pause(minutes, rand::random())).await;
        if time_left(&driver.state.borrow().record.rental) >= LEAST_LEFT {
            check(context, driver, guest, true).await;
        }
    }
}

/// A pause that tells nothing about when it ends, with this mean: `chance` is drawn evenly from 0 to 1.
fn pause(mean_minutes: u32, chance: f64) -> Duration {
    let mean = f64::from(mean_minutes) * 60.0;
    let drawn = -(1.0 - chance).max(f64::MIN_POSITIVE).ln() * mean;
    Duration::from_secs_f64(drawn.min(mean * LONGEST_PAUSE_TIMES)).max(LEAST_PAUSE)
}

/// Checks a rental now, whatever the configuration says.
pub(crate) async fn now(context: &Context, driver: &Driver) -> Result<HardwareCheck, ApiError> {
    let usage = |message: String, next: &str| Err(ApiError::new(ErrorKind::Usage, message, next));
    let record = driver.state.borrow().record.clone();
    let (rental, id) = (&record.rental, driver.id.short());
    if rental.phase != Phase::Serving {
        return usage(
            format!("the rental {id} is {}", rental.phase.name()),
            "only a sandbox that is up can be checked",
        );
    }
    let door = crate::driver::door(&record, &context.parts.network);
    let guest = Guest::new(door.map_err(|error| crate::negotiate::chain_error(&error))?);
    match check(context, driver, &guest, true).await {
        Some(check) => Ok(check),
        None => usage(format!("the rental {id} is being checked already"), "see what came of it: node show"),
    }
}

/// One check, written down; a miss leaves the rental. Nothing when one is under way already.
async fn check(context: &Context, driver: &Driver, guest: &Guest, beside: bool) -> Option<HardwareCheck> {
    let _under_way = context.checks.begin(driver.id)?;
    let rental = driver.state.borrow().record.rental.clone();
    let (renter, provider) = (context.parts.network.local_peer_id().to_base58(), rental.provider.to_base58());
    let machine = Inside::new(guest.clone(), &rental.terms.hardware);
    let asked = asked::Asked::of(&rental.terms.hardware, beside);
    let check = context.checks.challenger.check(&machine, asked, (&renter, &provider), Pace::new(beside)).await;
    tracing::info!(rental = %driver.id.short(), outcome = check.outcome.name(), detail = check.detail, "hardware checked");
    context.figures.checked(check.outcome);
    let written = check.clone();
    driver.remember(move |job| job.checks.add(written)).await;
    if check.outcome == CheckOutcome::Missed {
        driver.leave(StopReason::Hardware).await;
    }
    Some(check)
}
