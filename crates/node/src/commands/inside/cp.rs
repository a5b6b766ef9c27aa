//! `node cp`: files between this machine and a rental.

use super::{Context, Failed, failed, guest};
use crate::{
    cli,
    output::{bytes, note},
};
use access::{
    AccessError,
    copy::{Download, Progress, Upload},
    files::Files,
    guest::Guest,
};
use api::types::{ApiError, ErrorKind, Label, Visitor, is_id_prefix};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// How long a copy that makes no progress is tried again: a daemon or a provider may be starting.
const RETRY_LIMIT: Duration = Duration::from_secs(300);
/// The pause before it is.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// How often the bar moves.
const REDRAW_HERTZ: u8 = 8;

/// What is printed when it is done.
#[derive(Serialize)]
struct Copied {
    files: u64,
    bytes: u64,
    /// Of these, what was there before.
    kept_files: u64,
    kept_bytes: u64,
    /// Pipes, sockets and devices.
    left_out: u64,
}

/// Which way.
#[derive(Debug, PartialEq, Eq)]
enum Way {
    Up { sources: Vec<PathBuf>, id: String, target: PathBuf },
    Down { id: String, sources: Vec<PathBuf>, target: PathBuf },
}

/// A copy, settled.
enum Settled {
    Upload(Upload),
    Download(Download),
}

/// `ID:PATH` or `LABEL:PATH`, if it is one: a path of this machine with a colon is written with a slash before it, as for scp.
fn of_rental(path: &str) -> Option<(&str, &str)> {
    let (id, path) = path.split_once(':')?;
    (is_id_prefix(id) || id.parse::<Label>().is_ok()).then_some((id, path))
}

fn way(paths: &[String]) -> Result<Way, ApiError> {
    let wrong = |message: &str| {
        Err(ApiError::new(ErrorKind::Usage, message, "one side is ID:PATH or LABEL:PATH: node cp ./data 0xabcd:/job"))
    };
    let Some((target, sources)) = paths.split_last() else { return wrong("nothing to copy") };
    let there: Vec<_> = sources.iter().map(|path| of_rental(path)).collect();
    match of_rental(target) {
        Some((id, path)) if there.iter().all(Option::is_none) => {
            // an empty path is the working directory, as scp's is the home
            let target = PathBuf::from(if path.is_empty() { "." } else { path });
            Ok(Way::Up { sources: sources.iter().map(PathBuf::from).collect(), id: id.to_owned(), target })
        }
        Some(_) => wrong("both sides are in a rental"),
        None => {
            let Some(there) = there.into_iter().collect::<Option<Vec<_>>>() else {
                return wrong("no side is in a rental, or only some of the sources are");
            };
            let Some((id, _)) = there.first().copied() else { return wrong("nothing to copy") };
            if there.iter().any(|(other, _)| *other != id) {
                return wrong("the sources are in different rentals");
            }
            let sources = there.iter().map(|(_, path)| PathBuf::from(if path.is_empty() { "." } else { path }));
            Ok(Way::Down { id: id.to_owned(), sources: sources.collect(), target: PathBuf::from(target) })
        }
    }
}

pub(in crate::commands) async fn cp(context: &Context, args: cli::Cp) -> Result<u8, Failed> {
    let way = way(&args.paths)?;
    let (Way::Up { id, .. } | Way::Down { id, .. }) = &way;
    let guest = guest(context, id, Visitor::Copy).await?;
    let bar = progress_bar();
    let copied = copy(&guest, &way, args.recursive, &bar).await;
    bar.finish_and_clear();
    let Progress { done, kept, left_out, .. } = copied.map_err(|error| {
        let said = failed(&error);
        match error.is_passing() {
            true => ApiError { next: "the same command goes on where this one stopped".to_owned(), ..said },
            false => said,
        }
    })?;
    let copied =
        Copied { files: done.files, bytes: done.bytes, kept_files: kept.files, kept_bytes: kept.bytes, left_out };
    if left_out > 0 {
        note(&format!("{left_out} pipes, sockets and devices were left out"));
    }
    context.output.result(&copied, |_| {
        let (new, size) = (copied.files - copied.kept_files, bytes(copied.bytes - copied.kept_bytes));
        let kept = if copied.kept_files > 0 { format!(", {} were there", copied.kept_files) } else { String::new() };
        format!("copied {new} files, {size}{kept}")
    })?;
    Ok(0)
}

/// Copies over one connection after another, as long as each gets further.
async fn copy(guest: &Guest, way: &Way, recursive: bool, bar: &ProgressBar) -> Result<Progress, AccessError> {
    let show = |progress: Progress| {
        bar.set_length(progress.found.bytes);
        bar.set_position(progress.done.bytes);
        bar.set_message(format!("{} of {} files", progress.done.files, progress.found.files));
    };
    let mut settled = None;
    let (mut until, mut furthest) = (Instant::now() + RETRY_LIMIT, 0);
    loop {
        let attempt = async {
            let files = guest.files().await?;
            let settled = match &mut settled {
                Some(settled) => settled,
                none => none.insert(settle(&files, way, recursive).await?),
            };
            match settled {
                Settled::Upload(upload) => upload.run(&files, &show).await,
                Settled::Download(download) => download.run(&files, &show).await,
            }
        };
        match attempt.await {
            Err(error) if error.is_passing() && Instant::now() < until => {
                if bar.position() > furthest {
                    (until, furthest) = (Instant::now() + RETRY_LIMIT, bar.position());
                }
                bar.set_message("the connection broke: trying again");
                sleep(RETRY_PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

async fn settle(files: &Files, way: &Way, recursive: bool) -> Result<Settled, AccessError> {
    Ok(match way {
        Way::Up { sources, target, .. } => {
            Settled::Upload(Upload::new(files, sources.clone(), Path::new(target), recursive).await?)
        }
        Way::Down { sources, target, .. } => {
            Settled::Download(Download::new(files, sources, target.clone(), recursive).await?)
        }
    })
}

/// Drawn only where standard error is a terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr_with_hz(REDRAW_HERTZ));
    let template =
        "{bar:24} {percent:>3} %  {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {eta}  {msg}";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("━╸ "));
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Way, ApiError> {
        way(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn one_side_is_in_a_rental_and_says_which_way() {
        let up = Way::Up { sources: vec!["a".into(), "./b:c".into()], id: "0xabcd".into(), target: "/x".into() };
        assert_eq!(read("a ./b:c 0xabcd:/x").unwrap(), up);
        let home = Way::Up { sources: vec!["a".into()], id: "abcd".into(), target: ".".into() };
        assert_eq!(read("a abcd:").unwrap(), home);
        let down = Way::Down { id: "0xabcd".into(), sources: vec!["a".into(), "b*".into()], target: ".".into() };
        assert_eq!(read("0xabcd:a 0xabcd:b* .").unwrap(), down);
        let labelled = Way::Down { id: "train".into(), sources: vec!["a".into()], target: "b".into() };
        assert_eq!(read("train:a b").unwrap(), labelled);
        for wrong in ["a b", "0xabcd:a 0xabcd:b", "0xabcd:a 0x1234:b .", "0xabcd:a b ."] {
            assert_eq!(read(wrong).unwrap_err().kind, ErrorKind::Usage, "{wrong}");
        }
    }
}
