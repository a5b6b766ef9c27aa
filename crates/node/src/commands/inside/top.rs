//! `node top`: what a rental uses, as it is.

use super::{Context, Failed, OURS, failed, guest};
use crate::{
    cli,
    output::{Output, bytes},
};
use api::types::Visitor;
use futures::StreamExt;
use serde::Serialize;
use std::{
    io::{self, IsTerminal, Write},
    time::Instant,
};
use wire::proto;

/// Moves to the upper left corner and clears the screen below it.
const HOME: &str = "\x1b[H\x1b[J";

/// One look.
#[derive(Serialize)]
struct Look {
    /// Processors in use; none before the second look.
    cpus: Option<f64>,
    memory_bytes: u64,
    memory_peak_bytes: u64,
    disk_bytes: u64,
    network_received_bytes: u64,
    network_sent_bytes: u64,
    gpus: Vec<Card>,
}

#[derive(Serialize)]
struct Card {
    utilisation_percent: Option<u32>,
    memory_bytes: Option<u64>,
    celsius: Option<u32>,
    milliwatts: Option<u32>,
}

pub(in crate::commands) async fn top(context: &Context, args: cli::Top) -> Result<u8, Failed> {
    let guest = guest(context, &args.id, Visitor::Other).await?;
    let mut usage = guest.usage().await.map_err(|error| failed(&error))?;
    let mut last: Option<(Instant, u64)> = None;
    let whole_screen = io::stdout().is_terminal() && !context.output.json;
    loop {
        let read = tokio::select! {
            read = usage.next() => read,
            _ = tokio::signal::ctrl_c() => return Ok(0),
        };
        let Some(read) = read else { return Ok(0) };
        let read = read.map_err(|error| Failed { error: failed(&error), code: OURS })?;
        let now = Instant::now();
        let cpus = last.map(|(at, millis)| {
            read.cpu_millis.saturating_sub(millis) as f64 / 1_000.0 / now.duration_since(at).as_secs_f64()
        });
        last = Some((now, read.cpu_millis));
        if whole_screen {
            let _ = io::stdout().lock().write_all(HOME.as_bytes());
        }
        let look = look(cpus, read);
        context.output.result(&look, |output| table(output, &look))?;
    }
}

fn look(cpus: Option<f64>, read: proto::Usage) -> Look {
    let cards = read.gpus.into_iter().map(|card| Card {
        utilisation_percent: card.utilisation_percent,
        memory_bytes: card.memory_bytes,
        celsius: card.celsius,
        milliwatts: card.milliwatts,
    });
    Look {
        cpus,
        memory_bytes: read.memory_bytes,
        memory_peak_bytes: read.memory_peak_bytes,
        disk_bytes: read.disk_bytes,
        network_received_bytes: read.network_received_bytes,
        network_sent_bytes: read.network_sent_bytes,
        gpus: cards.collect(),
    }
}

fn table(output: &Output, look: &Look) -> String {
    let columns =
        [("CPUS", true), ("MEMORY", true), ("PEAK", true), ("DISK", true), ("RECEIVED", true), ("SENT", true)];
    let row = vec![
        look.cpus.map_or_else(|| "-".to_owned(), |cpus| format!("{cpus:.2}")),
        bytes(look.memory_bytes),
        bytes(look.memory_peak_bytes),
        bytes(look.disk_bytes),
        bytes(look.network_received_bytes),
        bytes(look.network_sent_bytes),
    ];
    let mut text = output.table(&columns, vec![row]);
    if !look.gpus.is_empty() {
        let known = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        let rows = look.gpus.iter().enumerate().map(|(number, card)| {
            vec![
                number.to_string(),
                known(card.utilisation_percent.map(|percent| format!("{percent} %"))),
                known(card.memory_bytes.map(bytes)),
                known(card.celsius.map(|celsius| format!("{celsius} °C"))),
                known(card.milliwatts.map(|power| format!("{} W", power / 1_000))),
            ]
        });
        let columns = [("GPU", true), ("BUSY", true), ("MEMORY", true), ("HEAT", true), ("POWER", true)];
        text.push_str("\n\n");
        text.push_str(&output.table(&columns, rows.collect()));
    }
    text
}
