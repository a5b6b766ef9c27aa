//! `node stop`: orders the end of a rental; the daemon settles it. Before that it says what would be lost with it, and at a terminal asks.

use super::{Context, inside, ps};
use crate::{
    cli,
    output::{Waiting, bytes, note},
};
use access::guest::Guest;
use api::{
    client::Client,
    types::{ApiError, ErrorKind, RentalRow, Role, Visitor},
};
use std::{
    io::{self, BufRead, IsTerminal},
    time::Duration,
};
use tokio::time::timeout;
use wire::proto::UnfetchedFiles;

/// How long the rental may take to say what is in it: a stop is never held up by a provider that does not answer.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

pub(super) async fn stop(context: &Context, args: cli::Stop) -> Result<(), ApiError> {
    let daemon = context.daemon().await?;
    // by the whole id from here on: what is asked about is what is stopped
    let named = daemon.story(&args.id).await?.into_iter().map(|story| story.rental).find(|row| !row.is_over());
    let id = named.as_ref().map_or_else(|| args.id.clone(), |row| row.id.to_string());
    if let Some(row) = named.filter(|row| !args.yes && row.role == Role::Renter && row.phase == "serving") {
        consent(&daemon, &row).await?;
    }
    let waiting = Waiting::begin("ordering the end");
    let rental = daemon.stop(&id).await?;
    drop(waiting);
    context.output.result(&rental, |output| ps::table(output, std::slice::from_ref(&rental)))
}

/// Says what nobody has fetched, and asks whether that may go, where there is somebody to ask.
async fn consent(daemon: &Client, row: &RentalRow) -> Result<(), ApiError> {
    let waiting = Waiting::begin("looking for outputs that were not fetched");
    let guest = Guest::new(daemon.door(&row.id.to_string(), Visitor::Other));
    let looked = timeout(LOOK_LIMIT, guest.unfetched()).await;
    drop(waiting);
    let asks = io::stdin().is_terminal() && io::stderr().is_terminal();
    match looked {
        Ok(Ok(found)) if found.files == 0 => return Ok(()),
        Ok(Ok(found)) => warning(row, &found).iter().for_each(|line| note(line)),
        Ok(Err(error)) => note(&format!("whether outputs were fetched cannot be told: {}", inside::failed(&error))),
        Err(_) => note("whether outputs were fetched cannot be told: the rental did not answer"),
    }
    if !asks || agrees().await {
        return Ok(());
    }
    let next = format!("when you have what you need: node stop {} --yes", row.id.short());
    Err(ApiError::new(ErrorKind::Failed, "not stopped: the rental goes on", next))
}

/// What a person should know before the files are gone.
fn warning(row: &RentalRow, found: &UnfetchedFiles) -> Vec<String> {
    let name = row.label.as_ref().map_or_else(|| row.id.short(), ToString::to_string);
    let files = if found.files == 1 { "1 file".to_owned() } else { format!("{} files", found.files) };
    let mut lines =
        vec![format!("{files} in /job, {}, were never fetched and go with the rental:", bytes(found.bytes))];
    lines.extend(found.largest.iter().map(|file| format!("  {:>10}  {}", bytes(file.bytes), file.path)));
    let more = found.files.saturating_sub(found.largest.len() as u64);
    if more > 0 {
        lines.push(format!("  and {more} more"));
    }
    lines.push(format!("to fetch them: node cp -r {name}:. ./{name}"));
    lines
}

/// Whether the person at the terminal says yes.
async fn agrees() -> bool {
    eprint!("stop it all the same? [y/N] ");
    let answer = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map(|_| line)
    });
    let answer = answer.await.ok().and_then(Result::ok).unwrap_or_default();
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use market::id::RentalId;
    use wire::proto::UnfetchedFile;

    #[test]
    fn what_would_be_lost_is_listed_with_how_to_fetch_it() {
        let row = RentalRow {
            id: RentalId(B256::repeat_byte(0xab)),
            label: Some("train".parse().unwrap()),
            role: Role::Renter,
            phase: "serving".into(),
            peer: String::new(),
            offer: String::new(),
            ready_at: None,
            seconds: 0,
            cost: String::new(),
            deposit: String::new(),
            ends_at: None,
            warning: None,
        };
        let largest = vec![UnfetchedFile { path: "model.pt".into(), bytes: 5 << 30 }];
        let lines = warning(&row, &UnfetchedFiles { files: 3, bytes: 6 << 30, largest });
        assert!(lines[0].starts_with("3 files in /job, ") && lines[1].ends_with("model.pt"), "{lines:?}");
        assert_eq!(lines[2..], ["  and 2 more", "to fetch them: node cp -r train:. ./train"]);
    }
}
