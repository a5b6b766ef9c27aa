//! What a renter's checks of the hardware in a rental have shown.

use market::time::UnixMillis;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Checks that are told one by one; of earlier ones only the numbers stay. A rental of a day has some seventy.
const MAX_CHECKS_TOLD: usize = 16;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CheckOutcome {
    /// Everything is right, and as fast as was measured of it.
    Passed,
    /// Everything is right; how fast such a machine is nobody has measured.
    Unmeasured,
    /// Something is not as it was promised.
    Missed,
    /// Nothing was shown, which is held against nobody.
    Unknown,
}

impl CheckOutcome {
    /// Every outcome.
    pub const ALL: [Self; 4] = [Self::Passed, Self::Unmeasured, Self::Missed, Self::Unknown];

    /// The outcome as people read it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Unmeasured => "unmeasured",
            Self::Missed => "missed",
            Self::Unknown => "unknown",
        }
    }
}

/// One check of the hardware in a rental.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HardwareCheck {
    /// When it began.
    #[schema(value_type = u64)]
    pub at: UnixMillis,
    /// The level of verification that it stands for: 2 is measured inside the sandbox.
    pub level: u8,
    /// How it ended.
    pub outcome: CheckOutcome,
    /// Why, in words; empty for one that passed.
    pub detail: String,
    /// What was seen of each device.
    pub devices: Vec<CheckedDevice>,
}

/// What a check saw of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckedDevice {
    /// `cpu`, or the UUID of a card.
    pub device: String,
    /// As what it was offered.
    pub model: String,
    /// 32-bit multiply-adds a second that it has to manage at least; absent where nobody has measured one.
    pub least: Option<u64>,
    /// What it did.
    pub seen: u64,
    /// The memory that it held, in bytes; 0 where that was not shown.
    pub held_bytes: u64,
}

/// All checks of a rental.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Checks {
    /// How many passed.
    pub passed: u32,
    /// How many found everything right, at a speed that nobody knows what to hold against.
    pub unmeasured: u32,
    /// How many found something that is not as promised: the first ends the rental.
    pub missed: u32,
    /// How many showed nothing.
    pub unknown: u32,
    /// The latest of them, oldest first.
    pub latest: Vec<HardwareCheck>,
}

impl Checks {
    /// Counts one more.
    pub fn add(&mut self, check: HardwareCheck) {
        let count = match check.outcome {
            CheckOutcome::Passed => &mut self.passed,
            CheckOutcome::Unmeasured => &mut self.unmeasured,
            CheckOutcome::Missed => &mut self.missed,
            CheckOutcome::Unknown => &mut self.unknown,
        };
        *count = count.saturating_add(1);
        if self.latest.len() >= MAX_CHECKS_TOLD {
            self.latest.remove(0);
        }
        self.latest.push(check);
    }

    /// How many there were.
    pub fn count(&self) -> u32 {
        [self.passed, self.unmeasured, self.missed, self.unknown].into_iter().fold(0, u32::saturating_add)
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// What was found that is not as promised, if anything was.
    pub fn miss(&self) -> Option<&HardwareCheck> {
        self.latest.iter().find(|check| check.outcome == CheckOutcome::Missed)
    }
}

impl fmt::Display for Checks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let counts = [
            (self.passed, CheckOutcome::Passed),
            (self.unmeasured, CheckOutcome::Unmeasured),
            (self.missed, CheckOutcome::Missed),
            (self.unknown, CheckOutcome::Unknown),
        ];
        let told = counts.iter().filter(|(count, _)| *count > 0);
        let told: Vec<String> = told.map(|(count, outcome)| format!("{count} {}", outcome.name())).collect();
        f.write_str(&told.join(", "))?;
        if let Some(miss) = self.miss() {
            write!(f, ": {}", miss.detail)?;
        }
        Ok(())
    }
}

impl fmt::Display for HardwareCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.outcome.name())?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        for device in &self.devices {
            write!(f, "; {device}")?;
        }
        Ok(())
    }
}

impl fmt::Display for CheckedDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} did {} M multiply-adds/s", self.device, self.seen / 1_000_000)?;
        if let Some(least) = self.least {
            write!(f, " of at least {}", least / 1_000_000)?;
        }
        match self.held_bytes {
            0 => Ok(()),
            held => write!(f, " and held {} MiB", held >> 20),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(at: u64, outcome: CheckOutcome) -> HardwareCheck {
        HardwareCheck { at: UnixMillis(at), level: 2, outcome, detail: String::new(), devices: vec![] }
    }

    #[test]
    fn every_check_is_counted_and_the_latest_are_told() {
        let mut checks = Checks::default();
        assert_eq!((checks.to_string().as_str(), checks.is_empty()), ("none", true));
        for at in 0..40 {
            checks.add(check(at, CheckOutcome::Passed));
        }
        checks.add(check(40, CheckOutcome::Unknown));
        checks.add(HardwareCheck { detail: "row 3 is wrong".into(), ..check(41, CheckOutcome::Missed) });
        assert_eq!(checks.to_string(), "40 passed, 1 missed, 1 unknown: row 3 is wrong");
        assert_eq!((checks.count(), checks.latest.len()), (42, MAX_CHECKS_TOLD));
        assert_eq!(checks.latest.last().map(|check| check.at), Some(UnixMillis(41)));
    }

    #[test]
    fn a_check_says_what_was_seen_and_what_was_expected() {
        let device = CheckedDevice {
            device: "cpu".into(),
            model: "EPYC".into(),
            least: Some(1_800_000_000),
            seen: 2_500_000_000,
            held_bytes: 48 << 20,
        };
        let told = HardwareCheck { devices: vec![device], ..check(1, CheckOutcome::Passed) }.to_string();
        assert_eq!(told, "passed; cpu did 2500 M multiply-adds/s of at least 1800 and held 48 MiB");
    }
}
