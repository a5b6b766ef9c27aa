//! The processor: the challenge's own multiplication, so that a challenge can be held against the figure, and plain 32-bit floats.

use super::{MeasureError, per_second};
use crate::challenge::{CpuEngine, Engine, Seed, widely};
use serde::{Deserialize, Serialize};
use std::{convert::Infallible, hint::black_box, thread, time::Duration};

/// Matrices that stay in the second cache of every core of today.
const SIZE: u32 = 256;

/// Independent sums: eight registers of eight, which hides how long one sum takes.
const SUMS: usize = 64;

/// Steps between two looks at the clock.
const STEPS: u64 = 1 << 16;

/// What a processor manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuFigures {
    /// Cores that may be used.
    pub cores: u32,
    /// Wrapping 32-bit multiply-adds of a matrix product on one core.
    pub single_core_multiply_adds_per_second: u64,
    /// The same on all of them.
    pub all_cores_multiply_adds_per_second: u64,
    /// Multiplications and additions of 32-bit floats on one core.
    pub single_core_float_operations_per_second: u64,
    /// The same on all of them.
    pub all_cores_float_operations_per_second: u64,
}

/// Measures the processor; four figures.
pub fn cpu(time: Duration) -> Result<CpuFigures, MeasureError> {
    let no_room = || MeasureError::NoRoom { what: "the processor" };
    let cores = thread::available_parallelism().map_err(|_| no_room())?.get();
    Ok(CpuFigures {
        cores: cores as u32,
        single_core_multiply_adds_per_second: multiply_adds(1, time).ok_or_else(no_room)?,
        all_cores_multiply_adds_per_second: multiply_adds(cores, time).ok_or_else(no_room)?,
        single_core_float_operations_per_second: floats(1, time),
        all_cores_float_operations_per_second: floats(cores, time),
    })
}

fn multiply_adds(threads: usize, time: Duration) -> Option<u64> {
    let mut engine = CpuEngine::with_threads(SIZE, 1, threads).ok()?;
    let seed = Seed { left: [1; 4], right: [2; 4] };
    per_second(u64::from(SIZE).pow(3), time, || engine.multiply(0, seed)).ok()
}

fn floats(threads: usize, time: Duration) -> u64 {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| float_rate(time))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_default()).sum()
    })
}

fn float_rate(time: Duration) -> u64 {
    let mut sums = [0.5f32; SUMS];
    let Ok(found) = per_second(STEPS * SUMS as u64 * 2, time, || {
        widely(|| {
            let (factor, term) = (black_box(0.999f32), black_box(0.001f32));
            for _ in 0..STEPS {
                for sum in &mut sums {
                    *sum = *sum * factor + term;
                }
            }
        });
        black_box(&mut sums);
        Ok::<_, Infallible>(())
    });
    found
}
