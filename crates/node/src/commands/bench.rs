//! `node devices bench`: what this machine manages, measured, kept for the provider's offers.

use super::Context;
use crate::{datadir::DataDir, output::Output};
use api::types::{ApiError, ErrorKind};
use gpu::{
    cuda::Driver,
    measure::{Benchmark, USUAL_TIME, machine},
};
use std::{fs, sync::Arc};

pub(super) async fn bench(context: &Context) -> Result<(), ApiError> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        ApiError::new(ErrorKind::Failed, format!("{what}: {error}"), "see `node doctor`")
    };
    context.dir.create().map_err(ApiError::from)?;
    let folder = context.dir.path().to_owned();
    let now = market::time::UnixMillis::now().seconds();
    let measuring = tokio::task::spawn_blocking(move || {
        // Without NVIDIA's driver there is nothing to say of cards, which is no fault.
        let driver = Driver::of_machine().ok().map(Arc::new);
        let cards = driver.as_ref().and_then(|driver| driver.cards().ok()).unwrap_or_default();
        machine(&folder, driver.as_ref(), &cards, USUAL_TIME, now)
    });
    let found = measuring.await.map_err(|error| failed("the measurements broke off", &error))?;
    let text = serde_json::to_vec_pretty(&found).map_err(|error| failed("the figures cannot be kept", &error))?;
    let (path, fresh) = (context.dir.benchmark(), context.dir.benchmark().with_extension("new"));
    fs::write(&fresh, text)
        .and_then(|()| fs::rename(&fresh, &path))
        .map_err(|error| failed(&path.display().to_string(), &error))?;
    context.output.result(&found, |output| shown(output, &found))
}

/// What an earlier `node devices bench` found; nothing when there was none.
pub(crate) fn kept(dir: &DataDir) -> Option<Benchmark> {
    let path = dir.benchmark();
    let text = fs::read(&path).ok()?;
    serde_json::from_slice(&text)
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "run `node devices bench` anew"))
        .ok()
}

fn shown(output: &Output, found: &Benchmark) -> String {
    let giga = |value: u64| format!("{:.1}", value as f64 / 1e9);
    let mega = |value: u64| format!("{:.0} MB/s", value as f64 / 1e6);
    let mut rows: Vec<[String; 3]> = vec![];
    let mut row = |what: &str, figure: String, meaning: &str| rows.push([what.into(), figure, meaning.into()]);
    if let Some(cpu) = &found.cpu {
        row("one core", format!("{} G/s", giga(cpu.single_core_multiply_adds_per_second)), "32-bit multiply-adds");
        let all = format!("{} cores", cpu.cores);
        row(&all, format!("{} G/s", giga(cpu.all_cores_multiply_adds_per_second)), "32-bit multiply-adds");
        row(&all, format!("{} GFLOP/s", giga(cpu.all_cores_float_operations_per_second)), "32-bit floats");
    }
    if let Some(memory) = &found.memory {
        row("memory", mega(memory.copied_bytes_per_second), "copied by all cores");
    }
    if let Some(disk) = &found.disk {
        row("disk", mega(disk.sequential_written_bytes_per_second), "written in sequence");
        row("disk", mega(disk.sequential_read_bytes_per_second), "read in sequence");
        row("disk", format!("{} /s", disk.random_reads_per_second), "random reads of 4 KiB");
    }
    for card in &found.cards {
        let name = card.uuid.to_string();
        row(&name, format!("{} G/s", giga(card.multiply_adds_per_second)), "32-bit multiply-adds");
        row(&name, mega(card.memory_copied_bytes_per_second), "copied within its memory");
        row(&name, mega(card.to_card_bytes_per_second), "to the card");
        row(&name, mega(card.from_card_bytes_per_second), "from the card");
    }
    let columns = [("WHAT", false), ("MEASURED", true), ("OF", false)];
    let mut parts = vec![output.table(&columns, rows.into_iter().map(|row| row.to_vec()).collect())];
    parts.extend(found.missing.iter().map(|missing| format!("not measured: {missing}")));
    parts.push("kept for this provider's offers, from its next start on".to_owned());
    parts.join("\n")
}
