//! What a machine manages, for the offers of its provider: processor, memory, disk and cards. The network is measured elsewhere. Every
//! measurement is bounded in time, says its unit in its name, and is that of this code on this machine in that moment: whoever compares two
//! offers compares the same code. None of this is proof: a provider measures itself; a renter's challenge holds it to the result.

mod card;
mod cpu;
mod disk;
mod memory;

use crate::cuda::{CudaError, Driver};
use crate::inventory::Uuid;
use serde::{Deserialize, Serialize};
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

pub use card::{CardFigures, card};
pub use cpu::{CpuFigures, cpu};
pub use disk::{DiskFigures, disk};
pub use memory::{MemoryFigures, memory};

/// How long one figure may take, if nobody says otherwise: long enough for clocks to settle, short enough that a person waits.
pub const USUAL_TIME: Duration = Duration::from_secs(2);

/// Everything that was measured of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Benchmark {
    /// When, in seconds since 1970.
    pub measured_at_unix_seconds: u64,
    /// The processor.
    pub cpu: Option<CpuFigures>,
    /// The memory.
    pub memory: Option<MemoryFigures>,
    /// The disk under the folder that was named.
    pub disk: Option<DiskFigures>,
    /// Each card.
    pub cards: Vec<CardFigures>,
    /// What could not be measured, and why.
    pub missing: Vec<String>,
}

/// Why there is no figure.
#[derive(Debug, thiserror::Error)]
pub enum MeasureError {
    /// The system gives no memory or thread for it.
    #[error("{what} cannot be measured: free some of the machine's memory and processes")]
    NoRoom {
        /// What was to be measured.
        what: &'static str,
    },
    /// The disk cannot be read and written past the page cache, or not at all.
    #[error("the disk under {} cannot be measured past the page cache; name a folder on a real disk with room", folder.display())]
    Disk {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The card or its driver refused.
    #[error(transparent)]
    Cuda(#[from] CudaError),
}

/// Measures everything there is, one after the other so that nothing disturbs anything, each figure for at most `time`. `now` is what
/// the clock says.
pub fn machine(folder: &Path, driver: Option<&Arc<Driver>>, cards: &[Uuid], time: Duration, now: u64) -> Benchmark {
    let mut missing = Vec::new();
    let mut cards_found = Vec::new();
    let cpu = kept(cpu(time), &mut missing);
    let memory = kept(memory(time), &mut missing);
    let disk = kept(disk(folder, time), &mut missing);
    for (driver, uuid) in driver.into_iter().flat_map(|driver| cards.iter().map(move |uuid| (driver, uuid))) {
        cards_found.extend(kept(card(driver, uuid, time), &mut missing));
    }
    Benchmark { measured_at_unix_seconds: now, cpu, memory, disk, cards: cards_found, missing }
}

fn kept<T>(result: Result<T, MeasureError>, missing: &mut Vec<String>) -> Option<T> {
    result.map_err(|error| missing.push(error.to_string())).ok()
}

/// Does something again and again until the time is over, at least once; how much of `amount` that is in a second.
fn per_second<E>(amount: u64, time: Duration, mut act: impl FnMut() -> Result<(), E>) -> Result<u64, E> {
    let started = Instant::now();
    let mut done = 0;
    loop {
        act()?;
        done += amount;
        let elapsed = started.elapsed();
        if elapsed >= time {
            return Ok(rate(done, elapsed));
        }
    }
}

fn rate(amount: u64, elapsed: Duration) -> u64 {
    u64::try_from(u128::from(amount) * 1_000_000_000 / elapsed.as_nanos().max(1)).unwrap_or(u64::MAX)
}
