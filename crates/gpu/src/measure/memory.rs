//! The memory: how fast all cores together copy what no cache holds.

use super::{MeasureError, rate};
use serde::{Deserialize, Serialize};
use std::{
    hint::black_box,
    sync::Barrier,
    thread,
    time::{Duration, Instant},
};

/// What is copied, in bytes, by all cores together: several times the caches of most processors, and with its copy half of the smallest
/// machine that anybody offers.
const COPIED_BYTES: usize = 256 << 20;

/// What a memory manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryFigures {
    /// Bytes that all cores together copy; each is read once and written once.
    pub copied_bytes_per_second: u64,
}

/// Measures the memory.
pub fn memory(time: Duration) -> Result<MemoryFigures, MeasureError> {
    let no_room = || MeasureError::NoRoom { what: "the memory" };
    let cores = thread::available_parallelism().map_err(|_| no_room())?.get();
    let part = COPIED_BYTES / cores;
    let room = || {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(part).map_err(|_| no_room())?;
        // written, so that it is really there
        bytes.resize(part, 1u8);
        Ok::<_, MeasureError>(bytes)
    };
    let mut buffers = (0..cores).map(|_| Ok((room()?, room()?))).collect::<Result<Vec<_>, MeasureError>>()?;
    let together = Barrier::new(cores);
    let copy = &|(from, to): &mut (Vec<u8>, Vec<u8>)| {
        together.wait();
        let (started, mut copied) = (Instant::now(), 0);
        while started.elapsed() < time || copied == 0 {
            black_box(&mut *to).copy_from_slice(black_box(from));
            copied += part as u64;
        }
        rate(copied, started.elapsed())
    };
    let copied_bytes_per_second = thread::scope(|scope| {
        let threads: Vec<_> = buffers.iter_mut().map(|pair| scope.spawn(move || copy(pair))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).sum()
    });
    Ok(MemoryFigures { copied_bytes_per_second })
}
