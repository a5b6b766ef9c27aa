//! `node logs`: the output of a rental's job.

use super::{Context, Failed, OURS, failed, guest};
use crate::cli;
use access::guest::JobEvent;
use api::types::Visitor;
use futures::StreamExt;
use std::io::{self, Write};

/// Exits with 0, whatever became of the job: that is told on standard error.
pub(in crate::commands) async fn logs(context: &Context, args: cli::Logs) -> Result<u8, Failed> {
    let guest = guest(context, &args.id, Visitor::Other).await?;
    let mut events = guest.logs(0, args.follow).await.map_err(|error| failed(&error))?;
    while let Some(event) = events.next().await {
        let event = event.map_err(|error| Failed { error: failed(&error), code: OURS })?;
        let written = match event {
            JobEvent::Output { stderr: false, data, .. } => write(io::stdout().lock(), &data),
            JobEvent::Output { stderr: true, data, .. } => write(io::stderr().lock(), &data),
            JobEvent::Gap { next } => {
                crate::output::note(&format!("what came before record {next} is no longer kept"));
                Ok(())
            }
            JobEvent::Ended(end) => {
                crate::output::note(&format!("the job {}", end.how));
                Ok(())
            }
        };
        // whoever read it has seen enough
        if written.is_err() {
            break;
        }
    }
    Ok(0)
}

fn write(mut to: impl Write, data: &[u8]) -> io::Result<()> {
    to.write_all(data)?;
    to.flush()
}
