//! `node devices`: the GPUs of this machine, as their drivers tell, and whether what they tell can be true.

use crate::output::Output;
use api::types::{ApiError, ErrorKind};
use gpu::{
    inventory::{Gpu, Inventory, KernelView, Mig, of_machine},
    specification::{Findings, check_machine},
};
use serde::Serialize;
use std::{path::Path, time::Duration};

/// A sick driver can hold a question for ever: a machine with sixteen cards answers within a few seconds.
const DRIVERS_WAIT: Duration = Duration::from_secs(30);

/// What is told.
#[derive(Serialize)]
struct Told {
    inventory: Inventory,
    findings: Findings,
}

/// Asks the drivers something, off the asynchronous threads and not for ever.
async fn asking_drivers<T: Send + 'static>(question: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    let failed =
        |what: &str| ApiError::new(ErrorKind::Failed, what, "look at `dmesg`; restart the machine if its driver hangs");
    tokio::time::timeout(DRIVERS_WAIT, tokio::task::spawn_blocking(question))
        .await
        .map_err(|_| failed("the GPU driver gives no answer"))?
        .map_err(|_| failed("the GPU driver broke off its answer"))
}

/// The machine's GPUs as a provider rents them out.
pub(crate) async fn machines_cards() -> Result<provider::Cards, ApiError> {
    asking_drivers(|| provider::Cards::of_machine(Path::new("/"))).await
}

pub(super) async fn devices(output: Output) -> Result<u8, ApiError> {
    let looking = || {
        let inventory = of_machine(Path::new("/"));
        let findings = check_machine(&inventory, &KernelView::read(Path::new("/")));
        Told { inventory, findings }
    };
    let told = asking_drivers(looking).await?;
    let sound = told.findings.are_consistent() && told.inventory.lost.is_empty();
    output.result(&told, |output| text(output, &told))?;
    Ok(u8::from(!sound))
}

fn text(output: &Output, Told { inventory, findings }: &Told) -> String {
    let mut parts = Vec::new();
    if !inventory.gpus.is_empty() {
        let columns = [
            ("GPU", true),
            ("MODEL", false),
            ("MEMORY", true),
            ("CODE", false),
            ("DRIVER", false),
            ("JOINED BY", false),
            ("POWER", true),
            ("STATE", false),
            ("CHECKED", false),
        ];
        parts.push(output.table(&columns, inventory.gpus.iter().map(|gpu| row(inventory, findings, gpu)).collect()));
    }
    parts.extend(inventory.lost.iter().map(|lost| format!("GPU {} does not answer: {}", lost.index, lost.reason)));
    parts.extend(
        findings.machine.iter().map(|contradiction| format!("what the driver says is doubtful: {contradiction}")),
    );
    if inventory.gpus.is_empty() {
        parts.extend(inventory.absent.iter().map(|absence| format!("no GPU: {absence}")));
    }
    parts.join("\n")
}

fn row(inventory: &Inventory, findings: &Findings, gpu: &Gpu) -> Vec<String> {
    let unknown = || "-".to_owned();
    let driver = inventory.driver(gpu.vendor).map_or_else(unknown, |driver| match driver.cuda {
        Some(cuda) => format!("{} (CUDA {cuda})", driver.version),
        None => driver.version.clone(),
    });
    let code = gpu.compute_capability.map(|capability| capability.to_string()).or_else(|| gpu.gfx.clone());
    let checked = findings.cards.iter().find(|(uuid, _)| *uuid == gpu.uuid);
    vec![
        gpu.index.to_string(),
        gpu.model.clone(),
        format!("{} GiB", gpu.memory_bytes >> 30),
        code.unwrap_or_else(unknown),
        driver,
        gpu.interconnect().unwrap_or_else(unknown),
        gpu.power_limit_watts.map_or_else(unknown, |watts| format!("{watts} W")),
        state(gpu),
        checked.map_or_else(unknown, |(_, verdict)| verdict.to_string()),
    ]
}

fn state(gpu: &Gpu) -> String {
    let mut words = Vec::new();
    if gpu.throttle.is_fault() {
        words.push(format!("slowed down: {}", gpu.throttle));
    }
    if let Some(errors) = gpu.ecc.and_then(|ecc| ecc.uncorrected).filter(|errors| *errors > 0) {
        words.push(format!("{errors} memory errors"));
    }
    if let Mig::Enabled(instances) = &gpu.mig {
        let profiles: Vec<&str> = instances.iter().map(|instance| instance.profile.as_str()).collect();
        words
            .push(format!("cut into {}", if profiles.is_empty() { "nothing".to_owned() } else { profiles.join(", ") }));
    }
    if words.is_empty() { "good".to_owned() } else { words.join("; ") }
}
