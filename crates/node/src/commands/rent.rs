//! `node rent`: a rental without a program. The command follows it until the machine runs and says how to get in; from then on the daemon
//! holds it.

use super::{
    Context, Failed,
    run::{Interrupts, Shown, Stopping, resolve, wanted},
};
use crate::{cli, output::duration, run_view::INTERRUPTED};
use api::types::{ApiError, ErrorKind, RentalRow, RunRequest, RunStep};
use futures::StreamExt;
use market::{id::RentalId, time::UnixMillis};

pub(super) async fn rent(context: &Context, args: cli::Rent) -> Result<u8, Failed> {
    let image = resolve(args.wanted.image.as_deref()).await?;
    let asked = wanted(args.wanted, args.query, image);
    let working_directory = super::run::here()?;
    let request = RunRequest { hold: true, working_directory, ..asked };
    let daemon = context.daemon().await?;
    let mut interrupts = Interrupts::listen()?;
    let started = daemon.run(&request).await?;
    // events are for people here: the result is one record
    let mut shown = Shown::new(false);
    let mut events = daemon.run_events(started.run, 0);
    let mut stopping = Stopping::default();
    let mut is_ready = false;
    while !is_ready || stopping.ordered {
        tokio::select! {
            event = events.next() => match event {
                None => break,
                Some(Ok(event)) => {
                    is_ready |= matches!(event.step, RunStep::Ready { .. });
                    shown.event(&event);
                    stopping.retry_after(&event, &daemon, &mut shown).await;
                }
                Some(Err(error)) => {
                    shown.view.clear();
                    return Err(error.into());
                }
            },
            () = interrupts.next() => {
                if stopping.ordered {
                    shown.notice("leaving; the daemon goes on settling (see `node ps`)");
                    return Ok(INTERRUPTED);
                }
                shown.notice("giving the rental up and waiting until it is settled; press Ctrl-C again to leave at once");
                stopping.order(&daemon, &mut shown).await;
            }
        }
    }
    shown.view.clear();
    let (true, false, Some(id)) = (is_ready, stopping.ordered, shown.progress.rental) else {
        return match shown.progress.outcome(stopping.ordered) {
            // it was settled before it could be used, and nobody here had asked for that
            Ok(code) if stopping.ordered => Ok(code),
            Ok(_) => Err(ended_before(shown.progress.rental).into()),
            Err((error, code)) => Err(Failed { error, code }),
        };
    };
    let rows = daemon.rentals(false).await?;
    let row = rows.into_iter().find(|row| row.id == id).ok_or_else(|| ended_before(Some(id)))?;
    context.output.result(&row, |_| ways_in(&row))?;
    Ok(0)
}

fn ended_before(id: Option<RentalId>) -> ApiError {
    let next = id.map_or_else(String::new, |id| format!("see what happened: node show {}", id.short()));
    ApiError::new(ErrorKind::Failed, "the rental ended before it could be used", next)
}

/// What its renter can do with it now.
fn ways_in(row: &RentalRow) -> String {
    let name = row.label.as_ref().map_or_else(|| row.id.short(), ToString::to_string);
    let left = row.ends_at.map_or(0, |at| at.since(UnixMillis::now()) / 1_000);
    let left = duration(u32::try_from(left).unwrap_or(u32::MAX));
    let ways = [
        (format!("node ssh {name}"), "a shell"),
        (format!("node cp ./data {name}:"), "files there"),
        (format!("node ssh-config {name}"), "for ssh, scp, rsync and editors"),
        (format!("node stop {name}"), "ends it; until then it costs"),
    ];
    let width = ways.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
    let lines = ways.iter().map(|(command, what)| format!("\n  {command:<width$}  {what}"));
    format!("rental {} is yours for {left}{}", row.id.short(), lines.collect::<String>())
}
