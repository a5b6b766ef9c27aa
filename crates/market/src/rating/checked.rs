//! What a renter's checks of the hardware in a rental have shown, in sum: enough to be counted, to be compared with the offer, and to be
//! held against the slot that the chain names. It shows that some such hardware answered inside the sandbox, not whose it is.

use super::Checks;
use crate::{id::DeviceId, time::UnixMillis};
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};

/// The highest level of verification.
pub const HIGHEST_LEVEL: u8 = 3;

/// All checks of a rental that showed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSummary {
    /// The level of verification that they stand for: 2 is measured inside the sandbox.
    pub level: u8,
    /// How many found everything as promised.
    pub passed: u32,
    /// How many found everything right, at a speed that nobody has measured of such hardware.
    pub unmeasured: u32,
    /// How many found something that is not as promised.
    pub missed: u32,
    /// When the latest began; 0 when that is not known any more.
    pub last: UnixMillis,
    /// The cards that answered the latest, as the id of the slot that has just these; nothing of processors, nor
    /// after a miss, of which only the devices that were too slow are known.
    pub devices: Option<DeviceId>,
    /// What the slowest device did in the latest, in multiply-adds a second; 0 when no speed was seen.
    pub seen: u64,
    /// What it had to do at least by its offer; 0 when the offer has no figure.
    pub least: u64,
}

impl CheckSummary {
    /// Nothing yet.
    pub const fn at_level(level: u8) -> Self {
        Self { level, passed: 0, unmeasured: 0, missed: 0, last: UnixMillis(0), devices: None, seen: 0, least: 0 }
    }

    /// Whether nothing was found that is not as promised, and something that is.
    pub const fn has_passed(&self) -> bool {
        self.passed > 0 && self.missed == 0
    }

    /// Whether something was found that is not as promised.
    pub const fn has_missed(&self) -> bool {
        self.missed > 0
    }

    /// Whether no check is counted, so that nothing is said.
    pub const fn is_empty(&self) -> bool {
        self.passed == 0 && self.unmeasured == 0 && self.missed == 0
    }
}

impl From<CheckSummary> for Checks {
    fn from(of: CheckSummary) -> Self {
        let CheckSummary { level, passed, unmeasured, missed, last, devices, seen, least } = of;
        let devices = devices.map_or(B256::ZERO, |devices| devices.0);
        Self { level, passed, unmeasured, missed, last: last.0, devices, seen, least }
    }
}
