//! What NVIDIA's library says of a card at this moment.

use super::{
    card::{MAX_MIG_INSTANCES, uuid},
    library::{self, Handle, Nvml, Refusal, RunningProcess},
};
use crate::inventory::{Process, Reading, Throttle};

/// The sensor in the chip, the only one that every model has.
const CHIP: u32 = 0;

/// The figures of a card, and of each of its MIG instances. Nothing from a card that does not tell its name.
pub(super) fn readings(nvml: &Nvml, card: Handle<'_>) -> Vec<Reading> {
    let Ok(whole) = reading(nvml, card) else { return Vec::new() };
    let slots = match nvml.ask_two(card, library::MIG_MODE) {
        Ok((1, _)) => nvml.ask(card, &library::MIG_COUNT).unwrap_or(0).min(MAX_MIG_INSTANCES),
        _ => 0,
    };
    let instances = (0..slots).filter_map(|index| reading(nvml, nvml.mig_instance(card, index).ok()?).ok());
    std::iter::once(whole).chain(instances).collect()
}

fn reading(nvml: &Nvml, card: Handle<'_>) -> Result<Reading, Refusal> {
    Ok(Reading {
        uuid: uuid(nvml, card)?,
        utilisation_percent: nvml.ask(card, &library::UTILISATION).ok().map(|busy| busy.gpu.min(100)),
        memory_used_bytes: nvml.ask(card, &library::MEMORY).ok().map(|memory| memory.used.min(memory.total)),
        temperature_celsius: nvml.ask_numbered(card, &library::TEMPERATURE, CHIP).ok(),
        power_milliwatts: nvml.ask(card, &library::POWER).ok(),
        throttle: Throttle(nvml.ask(card, &library::THROTTLE).unwrap_or_default()),
        processes: nvml.processes(card).ok().map(|running| running.into_iter().map(process).collect()),
    })
}

/// All ones is how the library says that it does not know.
fn process(running: RunningProcess) -> Process {
    Process { pid: running.pid, memory_bytes: Some(running.memory).filter(|memory| *memory != u64::MAX) }
}
