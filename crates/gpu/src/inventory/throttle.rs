//! Why a card runs slower than it could: the driver's bits, and their names.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What slows a card down at one moment; several reasons at once are usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Throttle(pub u64);

/// The bits as NVML defines them, with the words of `nvidia-smi`. Idleness (bit 0) is not among them: it slows nobody down.
const REASONS: [(u64, &str); 8] = [
    (0x002, "clocks set by an administrator"),
    (0x004, "power limit"),
    (0x008, "hardware slowdown"),
    (0x010, "clocks kept equal to other cards'"),
    (0x020, "heat, by software"),
    (0x040, "heat, by hardware"),
    (0x080, "power brake, by hardware"),
    (0x100, "display clocks"),
];

/// Those that are a fault of the machine rather than a setting or a full load: cooling or power supply are not sufficient.
const FAULTS: u64 = 0x008 | 0x020 | 0x040 | 0x080;

impl Throttle {
    /// The reasons, in words.
    pub fn reasons(self) -> impl Iterator<Item = &'static str> {
        REASONS.iter().filter(move |(bit, _)| self.0 & bit != 0).map(|(_, words)| *words)
    }

    /// Whether the machine, not the work, is the reason.
    pub fn is_fault(self) -> bool {
        self.0 & FAULTS != 0
    }
}

impl fmt::Display for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, reason) in self.reasons().enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            write!(f, "{separator}{reason}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_load_is_no_fault_and_heat_is() {
        assert!(!Throttle(0x001 | 0x004).is_fault());
        assert_eq!(Throttle(0x001).to_string(), "");
        let hot = Throttle(0x044);
        assert!(hot.is_fault());
        assert_eq!(hot.to_string(), "power limit, heat, by hardware");
    }
}
