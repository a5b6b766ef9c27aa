//! A card: the challenge's multiplication, its memory, and the way between it and the machine.

use super::{MeasureError, per_second};
use crate::{
    challenge::{CudaEngine, Engine, EngineError, Seed},
    cuda::{CudaError, Driver},
    inventory::Uuid,
};
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::Duration};

/// The size of the matrices, where the card has room for three of them: as large as in challenges.
const SIZE: u32 = 4_096;

/// And the smallest, for cards that others use.
const LEAST_SIZE: u32 = 256;

/// Bytes that are copied on the card at once, far more than any card's caches, and between card and machine; less where less is free.
const ON_CARD: u64 = 1 << 30;
const TO_CARD: u64 = 64 << 20;

/// The share of the free memory that a measurement takes at most: one part in this many.
const PART_OF_FREE: u64 = 4;

/// What a card manages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardFigures {
    /// Which.
    pub uuid: Uuid,
    /// Wrapping 32-bit multiply-adds of a matrix product, as in challenges.
    pub multiply_adds_per_second: u64,
    /// Bytes copied within its memory; each is read once and written once.
    pub memory_copied_bytes_per_second: u64,
    /// Bytes from the machine's memory to the card's.
    pub to_card_bytes_per_second: u64,
    /// Bytes from the card's memory to the machine's.
    pub from_card_bytes_per_second: u64,
}

/// Measures a card; four figures.
pub fn card(driver: &Arc<Driver>, uuid: &Uuid, time: Duration) -> Result<CardFigures, MeasureError> {
    let card = driver.open(uuid)?;
    let free = || Ok::<_, CudaError>(card.memory()?.0 / PART_OF_FREE);
    let mut size = SIZE;
    while size > LEAST_SIZE && u64::from(size).pow(2) * 4 > free()? {
        size /= 2;
    }
    let multiply_adds_per_second = multiply_adds(driver, uuid, size, time)?;
    let words = (ON_CARD.min(free()?) / 4) as usize;
    let (from, mut to) = (card.allocate(words)?, card.allocate(words)?);
    let memory_copied_bytes_per_second = per_second(words as u64 * 4, time, || {
        to.copy_from(&from)?;
        card.wait()
    })?;
    let words = words.min(TO_CARD as usize / 4);
    let mut host = card.allocate_pinned(words)?;
    let bytes = words as u64 * 4;
    let to_card_bytes_per_second = per_second(bytes, time, || to.write(0, host.words()))?;
    let from_card_bytes_per_second = per_second(bytes, time, || from.read(0, host.words()))?;
    Ok(CardFigures {
        uuid: uuid.clone(),
        multiply_adds_per_second,
        memory_copied_bytes_per_second,
        to_card_bytes_per_second,
        from_card_bytes_per_second,
    })
}

fn multiply_adds(driver: &Arc<Driver>, uuid: &Uuid, size: u32, time: Duration) -> Result<u64, MeasureError> {
    let cuda = |error| match error {
        EngineError::Cuda(error) => error.into(),
        EngineError::NoRoom { .. } | EngineError::Thread(_) => MeasureError::NoRoom { what: "the card" },
    };
    let mut engine = CudaEngine::new(driver.clone(), uuid, size, 1).map_err(cuda)?;
    let seed = Seed { left: [1; 4], right: [2; 4] };
    // the first one wakes the card
    engine.multiply(0, seed).map_err(cuda)?;
    per_second(u64::from(size).pow(3), time, || engine.multiply(0, seed)).map_err(cuda)
}
