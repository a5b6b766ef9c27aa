//! What a card is doing at one moment. What its driver does not measure is absent: MIG instances have no temperature of their own.

use super::{Throttle, Uuid};
use serde::{Deserialize, Serialize};

/// The live figures of a card or of a MIG instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reading {
    /// Whose they are.
    pub uuid: Uuid,
    /// How much of the last moment it was busy.
    pub utilisation_percent: Option<u32>,
    /// Memory in use.
    pub memory_used_bytes: Option<u64>,
    /// Temperature of the chip.
    pub temperature_celsius: Option<u32>,
    /// Power it draws.
    pub power_milliwatts: Option<u32>,
    /// What slows it down.
    pub throttle: Throttle,
    /// Programs that compute on it. Absent is not empty: there may be some, or far too many.
    pub processes: Option<Vec<Process>>,
}

/// A program that computes on a card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number, in the host's count.
    pub pid: u32,
    /// Memory of the card that it holds.
    pub memory_bytes: Option<u64>,
}
