//! From an opened rental to its receipt: upload, start, logs, exit, outputs.

use super::{Context, extending};
use crate::{
    checks,
    driver::{self, Driver, Snapshot},
    journal::Journal,
    negotiate::chain_error,
    records::{Ended, Job, Record},
};
use access::{
    AccessError,
    archive::{self, hex},
    guest::{Guest, JobEvent},
};
use api::types::{ApiError, ErrorKind, RunStep};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use futures::StreamExt;
use market::{
    money::Amount,
    preemption::SignedNotice,
    rental::renter::{Phase, Rental},
    time::UnixMillis,
};
use std::{
    convert::Infallible,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};
use store::crash_point;

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

/// How far the job's output was passed on: the record being read, and how much of it.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    record: u64,
    bytes: usize,
}

/// Does the job in an opened rental, and in those that continue it, and sees it settled. A job that fails still settles; its error comes
/// last.
pub(super) async fn serve(context: &Context, mut driver: Driver, journal: &Journal) -> Result<(), ApiError> {
    let (mut passed, told) = (Passed::default(), AtomicBool::new(false));
    let outcome = loop {
        let known = outcome(&driver.state.borrow().record.job);
        if let Some(outcome) = known {
            break outcome;
        }
        let work = work(context, driver.clone(), journal, (&mut passed, &told));
        let mut watched = driver.clone();
        // a rental that ends under the job ends the job, unless another goes on with it
        let ended = watched
            .until(|snapshot| snapshot.record.rental.stopped_at.is_some() || snapshot.record.rental.phase.is_over());
        tokio::select! {
            biased;
            outcome = work => break outcome,
            next = extending::continued(context, driver.clone()) => {
                driver.finish().await;
                let rental = next.state.borrow().record.rental.clone();
                let (token, rate) = (&rental.terms.token, rental.quote.quote.rate);
                let price_hour = token.show(rate.hourly());
                journal.push(RunStep::Continued { id: rental.id, price_hour }).await;
                driver = next;
            }
            snapshot = ended => break ended_under_it(&snapshot),
        }
    };
    // one that was to go on with what is over now
    let needless = driver.state.borrow().record.job.continued_by.and_then(|id| (context.find)(id));
    if let Some(needless) = needless {
        needless.finish().await;
    }
    driver.finish().await;
    settle(&mut driver, journal, outcome.err(), &told).await
}

/// How the job went, once its outputs are here: nothing is left to be done for it but to pay.
pub(super) fn outcome(job: &Job) -> Option<Result<(), ApiError>> {
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

/// What it means for a job that its rental ended: for one that is held, that somebody has stopped it, or that its time was over.
fn ended_under_it(snapshot: &Snapshot) -> Result<(), ApiError> {
    let rental = &snapshot.record.rental;
    match snapshot.record.job.is_held() {
        true if rental.notice.is_some() => {
            let next = "rent again, bid more, or rent on demand";
            Err(ApiError::new(ErrorKind::Failed, "the rental gave way to another", next))
        }
        true if snapshot.error.is_none() && rental.phase != Phase::Leaving => Ok(()),
        _ => Err(ended_early(snapshot)),
    }
}

fn ended_early(snapshot: &Snapshot) -> ApiError {
    let rental = &snapshot.record.rental;
    if rental.notice.is_some() {
        return given_way();
    }
    if let Some(miss) = snapshot.record.job.checks.miss() {
        return ApiError::new(
            ErrorKind::Refused,
            format!("the machine is not what was offered: {}; the rental was stopped on chain", miss.detail),
            "it costs what was signed for until then; what was seen is in its receipt",
        );
    }
    snapshot.error.clone().unwrap_or_else(|| match rental.phase {
        Phase::Leaving if rental.disputed_at.is_some() => ApiError::new(
            ErrorKind::Failed,
            "the rental is disputed: it was stopped on chain before the program ended",
            format!("follow it with `node dispute {}`", rental.id.short()),
        ),
        Phase::Leaving => ApiError::new(
            ErrorKind::Refused,
            "the provider does not answer any more; the rental was stopped on chain",
            "what was not served comes back when the challenge window is over",
        ),
        _ => ApiError::new(ErrorKind::Failed, "the rental was stopped before the program ended", ""),
    })
}

async fn work(
    context: &Context,
    mut driver: Driver,
    journal: &Journal,
    (passed, told): (&mut Passed, &AtomicBool),
) -> Result<(), ApiError> {
    let snapshot = driver.until(|snapshot| snapshot.record.rental.ready.is_some()).await;
    let Some((at, _)) = snapshot.record.rental.ready else { return Err(ended_early(&snapshot)) };
    journal.push(RunStep::Ready { at }).await;

    let record = snapshot.record;
    let guest = Guest::new(driver::door(&record, &context.parts.network).map_err(|error| chain_error(&error))?);
    let uploading = async {
        if let (Some(input), None) = (&record.job.input, &record.job.uploaded) {
            let hash = upload(&guest, input, journal).await?;
            crash_point("renter", "input", "sent");
            driver.remember(move |job| job.uploaded = Some(hash)).await;
            crash_point("renter", "input", "remembered");
        }
        Ok::<_, ApiError>(())
    };
    let (uploaded, ()) = tokio::join!(uploading, checks::before(context, &driver, &guest));
    uploaded?;
    let snapshot = driver.state.borrow().clone();
    if snapshot.record.job.checks.miss().is_some() {
        return Err(ended_early(&snapshot));
    }
    if record.job.is_held() {
        return hold(&driver, journal, told).await;
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
            ended = follow(&guest, journal, passed) => Some(ended?),
            () = costs => None,
            () = tokio::time::sleep(reserve) => None,
            () = preempted(driver.clone(), journal, told) => None,
            never = checks::beside(context, &driver, &guest) => match never {},
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
    if job.ended.is_none() && driver.state.borrow().record.rental.notice.is_some() {
        return Err(given_way());
    }
    outcome(&job).unwrap_or_else(|| Err(ApiError::new(ErrorKind::Failed, "the outputs could not be remembered", "")))
}

/// Leaves the rental to whoever gets in, until its time is over. One that gives way to another, or is stopped, ends under it.
async fn hold(driver: &Driver, journal: &Journal, told: &AtomicBool) -> Result<(), ApiError> {
    let ends_at = driver.state.borrow().record.rental.meter().map_or(UnixMillis(0), |meter| meter.ends_at());
    let giving_way = async {
        let mut driver = driver.clone();
        if let Some(notice) = driver.until(|seen| seen.record.rental.notice.is_some()).await.record.rental.notice {
            tell_notice(&notice, journal, told).await;
        }
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        () = report_costs(driver.clone(), journal) => std::future::pending().await,
        never = giving_way => match never {},
        () = tokio::time::sleep(Duration::from_millis(ends_at.since(UnixMillis::now()))) => Ok(()),
    }
}

/// Waits until the outputs must be fetched because the rental gives way: the program has half of the notice to end by itself.
async fn preempted(mut driver: Driver, journal: &Journal, told: &AtomicBool) {
    let seen = driver.until(|seen| seen.record.rental.notice.is_some()).await;
    let Some(notice) = seen.record.rental.notice else { return std::future::pending().await };
    tell_notice(&notice, journal, told).await;
    tokio::time::sleep(Duration::from_millis(notice.at.since(UnixMillis::now()) / 2)).await;
}

/// Says once that the rental gives way.
async fn tell_notice(notice: &SignedNotice, journal: &Journal, told: &AtomicBool) {
    if !told.swap(true, Ordering::Relaxed) {
        journal.push(RunStep::Preempted { at: notice.at, reason: notice.reason.to_string() }).await;
    }
}

fn given_way() -> ApiError {
    ApiError::new(
        ErrorKind::Failed,
        "the rental gave way to another before the program ended",
        "its outputs so far were fetched; run it again, bid more, or rent on demand",
    )
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
async fn follow(guest: &Guest, journal: &Journal, passed: &mut Passed) -> Result<Ended, ApiError> {
    let mut failures = 0;
    loop {
        let broken = match guest.logs(passed.record, true).await {
            Err(error) => error,
            Ok(mut events) => {
                let mut skip = passed.bytes;
                loop {
                    match events.next().await {
                        Some(Ok(JobEvent::Output { seq, stderr, data })) => {
                            failures = 0;
                            if seq != passed.record {
                                (*passed, skip) = (Passed { record: seq, bytes: 0 }, 0);
                            }
                            let fresh = data.get(skip.min(data.len())..).unwrap_or_default();
                            skip = skip.saturating_sub(data.len());
                            if !fresh.is_empty() {
                                let (offset, data) = (passed.bytes as u64, BASE64_STANDARD.encode(fresh));
                                journal.push(RunStep::Log { stderr, seq, offset, data }).await;
                                passed.bytes += fresh.len();
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
async fn settle(
    driver: &mut Driver,
    journal: &Journal,
    error: Option<ApiError>,
    told: &AtomicBool,
) -> Result<(), ApiError> {
    // the total is final when the provider has released it, or cannot be asked any more
    let agreed = |phase: Phase| matches!(phase, Phase::Settling | Phase::Leaving) || phase.is_over();
    let snapshot = driver.until(|snapshot| agreed(snapshot.record.rental.phase)).await;
    let rental = &snapshot.record.rental;
    // the program may have ended before the notice was heard
    if let Some(notice) = &rental.notice {
        tell_notice(notice, journal, told).await;
    }
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
