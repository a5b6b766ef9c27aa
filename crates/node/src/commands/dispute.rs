//! `node dispute`: writes down what was signed, has the daemon stop the rental on chain, and shows what comes of it. The dispute belongs
//! to the daemon: when this command goes away it goes on, and the command given again follows it.

use super::{Context, receipts::checks_text, run::Interrupts};
use crate::{
    cli, evidence,
    output::{Output, Style, Waiting, print, role_name},
    receipt::receipt_text,
    run_view::INTERRUPTED,
    verify::Check,
};
use api::{
    client::{Client, RESUME_ATTEMPTS, RESUME_PAUSE},
    evidence::Evidence,
    types::{ApiError, Dispute, DisputeRequest, ErrorKind, Role, closing_words},
};
use market::{id::RentalId, time::UnixMillis};
use serde::Serialize;
use std::{
    fs::{self, File},
    io::{self, IsTerminal, Read, stdout},
    path::{Path, PathBuf},
    time::Duration,
};

/// How often the daemon is asked how the dispute stands: about a block of the faster chains.
const POLL: Duration = Duration::from_secs(1);
/// The largest file of evidence that is read: many times the largest there is, with terms of 64 KiB.
const MAX_EVIDENCE_BYTES: u64 = 1 << 20;

pub(super) async fn dispute(context: &Context, args: cli::Dispute) -> Result<u8, ApiError> {
    if let Some(file) = &args.check {
        return prove(context.output, file);
    }
    let id = args.id.unwrap_or_default();
    let daemon = context.daemon().await?;
    if args.export {
        let (file, made) = write(&daemon, &id, args.out).await?;
        context.output.result(&Exported { rental: made.rental, made_by: made.made_by, evidence: &file }, |_| {
            format!("everything signed of rental {} is in {}", made.rental.short(), file.display())
        })?;
        return Ok(0);
    }
    let mut interrupts = Interrupts::listen()?;
    tokio::select! {
        shown = carry_out(context.output, &daemon, &id, args.reason, args.out, args.no_wait) => shown.map(|()| 0),
        () = interrupts.next() => {
            eprintln!("leaving; the daemon goes on with it. To follow it again: node dispute {id}");
            Ok(INTERRUPTED)
        }
    }
}

/// What `--export --json` prints.
#[derive(Serialize)]
struct Exported<'a> {
    rental: RentalId,
    made_by: Role,
    evidence: &'a Path,
}

/// What `--json` prints of a dispute.
#[derive(Serialize)]
struct Followed<'a> {
    evidence: &'a Path,
    #[serde(flatten)]
    dispute: &'a Dispute,
}

async fn carry_out(
    output: Output,
    daemon: &Client,
    id: &str,
    reason: market::dispute::StopReason,
    out: Option<PathBuf>,
    no_wait: bool,
) -> Result<(), ApiError> {
    // what cannot be disputed is refused before anything is written
    let standing = daemon.dispute(id).await?;
    let id = standing.rental.id.to_string();
    let (file, _) = write(daemon, &id, out).await?;
    let say = |text: String| {
        if !output.json {
            print(&text)
        }
    };
    say(format!("evidence  {}", file.display()));
    let standing = match standing.ordered_at {
        None => daemon.order_dispute(&id, DisputeRequest { reason }).await?,
        Some(_) => standing,
    };
    let known = standing.stopped_at.is_some();
    let standing = until(daemon, standing, "waiting for the chain to show the stop", |dispute| {
        dispute.stopped_at.is_some() || dispute.receipt.is_some()
    })
    .await?;
    if !known {
        write(daemon, &id, Some(file.clone())).await?;
    }
    say(stop_text(&standing));
    let standing = if no_wait {
        standing
    } else {
        until(daemon, standing, "waiting for the ruling, the provider's closing, or the end of the window", |dispute| {
            dispute.receipt.is_some()
        })
        .await?
    };
    output.result(&Followed { evidence: &file, dispute: &standing }, |_| outcome_text(&standing))
}

/// Asks the daemon until the dispute stands as wanted. A daemon that is started again meanwhile is waited for, as by a run.
async fn until(
    daemon: &Client,
    mut standing: Dispute,
    what: &str,
    wanted: impl Fn(&Dispute) -> bool,
) -> Result<Dispute, ApiError> {
    let _waiting = Waiting::begin(what);
    let id = standing.rental.id.to_string();
    let mut lost = 0;
    while !wanted(&standing) {
        tokio::time::sleep(if lost == 0 { POLL } else { RESUME_PAUSE }).await;
        match daemon.dispute(&id).await {
            Ok(now) => (standing, lost) = (now, 0),
            Err(error) if error.kind == ErrorKind::NoDaemon && lost < RESUME_ATTEMPTS => lost += 1,
            Err(error) => return Err(error),
        }
    }
    Ok(standing)
}

fn stop_text(dispute: &Dispute) -> String {
    let moment = |seconds: u64| UnixMillis(seconds.saturating_mul(1_000));
    match (dispute.stopped_at, dispute.deadlines) {
        (Some(at), Some(deadlines)) => format!(
            "stopped   {} on chain: {}\nruling    {} may rule from {} on\nend       anybody may finalize from {} on",
            moment(at),
            dispute.reason.words(),
            dispute.arbiter,
            moment(deadlines.ruling),
            moment(deadlines.finalizing),
        ),
        _ => "stopped   not on chain: it was closed before".to_owned(),
    }
}

fn outcome_text(dispute: &Dispute) -> String {
    match &dispute.receipt {
        Some(receipt) => format!(
            "closed    {}\n{}",
            closing_words(receipt.kind),
            receipt_text(receipt, Style::on(stdout().is_terminal()))
        ),
        None => format!("the daemon goes on with it; to follow it: node dispute {}", dispute.rental.id.short()),
    }
}

/// Writes what the daemon has of the rental, and says where.
async fn write(daemon: &Client, id: &str, out: Option<PathBuf>) -> Result<(PathBuf, Evidence), ApiError> {
    let made = daemon.evidence(id).await?.into_iter().next();
    let made = made.ok_or_else(|| ApiError::new(ErrorKind::NoMatch, format!("nothing is known of {id}"), ""))?;
    let file = out.unwrap_or_else(|| Path::new("gpulease-dispute").join(format!("{}.json", made.rental.hex8())));
    let written = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
        let text = serde_json::to_string_pretty(&made).map_err(io::Error::other)?;
        fs::write(&file, format!("{text}\n"))
    });
    written.map_err(|error| {
        let message = format!("the evidence cannot be written to {}: {error}", file.display());
        ApiError::new(ErrorKind::Failed, message, "name a file that is yours to write with --out")
    })?;
    Ok((file, made))
}

/// What `--check --json` prints.
#[derive(Serialize)]
struct Proof {
    rental: RentalId,
    made_by: Role,
    /// All of the checks hold.
    holds: bool,
    checks: Vec<Check>,
}

fn prove(output: Output, path: &Path) -> Result<u8, ApiError> {
    let made = read(path)?;
    let checks = evidence::checks(&made);
    let holds = checks.iter().all(|check| check.holds);
    let proof = Proof { rental: made.rental, made_by: made.made_by, holds, checks };
    output.result(&proof, |output| {
        format!(
            "evidence of rental {} ({})\n{}\nwhat nobody signed is the maker's word: look the rental up on the chain",
            proof.rental,
            role_name(proof.made_by),
            checks_text(output, &proof.checks)
        )
    })?;
    Ok(u8::from(!holds))
}

fn read(path: &Path) -> Result<Evidence, ApiError> {
    let shown = path.display();
    let cannot = |error: io::Error| {
        ApiError::new(ErrorKind::Usage, format!("cannot read {shown}: {error}"), "check the path and its permissions")
    };
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(MAX_EVIDENCE_BYTES).read_to_string(&mut text)).map_err(cannot)?;
    serde_json::from_str(&text).map_err(|error| {
        let message = format!("{shown} is no evidence: {error}");
        ApiError::new(ErrorKind::Usage, message, "evidence is written by `node dispute ID --export`")
    })
}
