//! A rental that its renter stops on chain, and what an arbiter may then do: the reasons that stand in the escrow's `Stopping` event, and
//! the moments from which on the arbiter, and anybody, may close it.

use crate::quote::Quote;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Why a renter stops a rental on chain. The escrow records the number and gives it no meaning; people, arbiters and reputation read it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopReason {
    /// 1: the provider does not answer. What a renter's own program gives, when nobody orders the stop.
    #[default]
    Unanswered,
    /// 2: time was billed in which the machine could not be used.
    NotServed,
    /// 3: the machine is not what was offered.
    Hardware,
    /// 4: the provider ended the rental before its time.
    Ended,
    /// 5: what was sent, kept or brought back was lost or changed.
    Data,
    /// 6: something else, which the evidence tells.
    Other,
}

impl StopReason {
    /// Every reason, in the order of the numbers.
    pub const ALL: [Self; 6] =
        [Self::Unanswered, Self::NotServed, Self::Hardware, Self::Ended, Self::Data, Self::Other];

    /// The number in the escrow's event. Zero is left to programs that state none.
    pub const fn number(self) -> u32 {
        match self {
            Self::Unanswered => 1,
            Self::NotServed => 2,
            Self::Hardware => 3,
            Self::Ended => 4,
            Self::Data => 5,
            Self::Other => 6,
        }
    }

    /// The reason as it is written on command lines and in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unanswered => "unanswered",
            Self::NotServed => "not-served",
            Self::Hardware => "hardware",
            Self::Ended => "ended",
            Self::Data => "data",
            Self::Other => "other",
        }
    }

    /// The reason in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Unanswered => "the provider does not answer",
            Self::NotServed => "time was billed in which the machine could not be used",
            Self::Hardware => "the machine is not what was offered",
            Self::Ended => "the provider ended the rental before its time",
            Self::Data => "what was sent, kept or brought back was lost or changed",
            Self::Other => "something else, which the evidence tells",
        }
    }
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A word that is no reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no reason: they are unanswered, not-served, hardware, ended, data and other")]
pub struct NoSuchReason(pub String);

impl FromStr for StopReason {
    type Err = NoSuchReason;

    fn from_str(text: &str) -> Result<Self, NoSuchReason> {
        let found = Self::ALL.into_iter().find(|reason| reason.name() == text);
        found.ok_or_else(|| NoSuchReason(text.to_owned()))
    }
}

/// From when on a stopped rental may be closed without its provider, in Unix seconds of block time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deadlines {
    /// The arbiter may rule from here on, until somebody finalizes: the first half of the window belongs to the vouchers.
    pub ruling: u64,
    /// Anybody may finalize from here on: the provider gets what it claimed, and the renter the rest.
    pub finalizing: u64,
}

impl Deadlines {
    /// Those of a rental that was opened at `start` and stopped at `stop`.
    pub fn of(quote: &Quote, start: u64, stop: u64) -> Self {
        let window = u64::from(quote.window);
        let end = stop.min(start.saturating_add(u64::from(quote.max_seconds)));
        Self { ruling: stop.saturating_add(window / 2), finalizing: end.saturating_add(window) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_number_and_a_name_of_its_own_and_is_read_back() {
        for (at, reason) in (1..).zip(StopReason::ALL) {
            assert_eq!(reason.number(), at);
            assert_eq!(reason.name().parse(), Ok(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
            assert!(NoSuchReason(String::new()).to_string().contains(reason.name()), "{reason}");
        }
        assert_eq!("bored".parse::<StopReason>(), Err(NoSuchReason("bored".into())));
    }
}
