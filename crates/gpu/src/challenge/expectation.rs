//! What a device of a model must manage, and how surely that is known.

use super::work::Device;
use crate::specification::Model;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The share of the rate that was measured on a card of the model that one must reach, in percent. Cards of one name differ by their power
/// limits and their heat, by a fifth and more; two on one card come to half.
const TOLERATED_PERCENT: u64 = 60;

/// What a CUDA core of any card manages at least in this program, in multiply-adds a second. Not measured: a core that may begin one
/// every other cycle, at 1 GHz, with three quarters lost, which is far below what working cards do.
const LEAST_OF_A_CORE: u64 = 125_000_000;

/// What is expected of a device's arithmetic, in wrapping 32-bit multiply-adds a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rate {
    /// This program did so many on such a device.
    Measured(u64),
    /// A lower bound that follows from published figures; nobody has measured one with this program.
    Published(u64),
    /// Nothing is known of the model.
    Unknown,
}

/// What is expected of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// Of which.
    pub device: Device,
    /// As what it was offered.
    pub model: String,
    /// Its arithmetic.
    pub rate: Rate,
}

impl Expectation {
    /// What a card must manage that is offered as a model. `measured` is what this program did on one, if anybody has measured it.
    pub fn of_model(device: Device, model: &str, measured: Option<u64>) -> Self {
        // of several boards of one name, the least
        let cores = || Model::named(model).filter_map(|model| model.cores).min();
        let published = || cores().map(|cores| Rate::Published(u64::from(cores) * LEAST_OF_A_CORE));
        let rate = measured.map(Rate::Measured).or_else(published).unwrap_or(Rate::Unknown);
        Self { device, model: model.to_owned(), rate }
    }

    /// The fewest multiply-adds a second that are not too few.
    pub fn floor(&self) -> Option<u64> {
        match self.rate {
            Rate::Measured(rate) => Some((u128::from(rate) * u128::from(TOLERATED_PERCENT) / 100) as u64),
            Rate::Published(floor) => Some(floor),
            Rate::Unknown => None,
        }
    }

    /// How long so much work may take.
    pub(super) fn limit(&self, multiply_adds: u64) -> Option<Duration> {
        let floor = self.floor()?.max(1);
        Some(Duration::from_millis(
            u64::try_from(u128::from(multiply_adds) * 1_000 / u128::from(floor)).unwrap_or(u64::MAX),
        ))
    }
}
