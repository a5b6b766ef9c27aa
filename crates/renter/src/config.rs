//! What a renter sets: the classes it follows and what it never spends more than.

use alloy_primitives::Address;
use market::class::GpuClass;
use serde::{Deserialize, Serialize};

/// The `[renter]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The classes of machine whose offers are followed, such as `["h200", "cpu"]`; empty follows all of them.
    pub classes: Vec<GpuClass>,
    /// How many indexers are asked for offers, of those that this node is connected to; 0 asks none.
    pub indexers: u8,
    /// A smart account of the wallet's that pays, and is refunded, in its stead.
    pub account: Option<Address>,
    /// Whether the machines of rentals are checked by themselves.
    pub hardware_checks: bool,
    /// How many minutes lie between two checks of a machine, on average; 0 checks it once, at the beginning.
    pub check_minutes: u32,
    /// Hard limits.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            classes: Vec::new(),
            indexers: DEFAULT_INDEXERS,
            account: None,
            hardware_checks: true,
            check_minutes: DEFAULT_CHECK_MINUTES,
            limits: Limits::default(),
        }
    }
}

/// Three: what one leaves out, two others show.
const DEFAULT_INDEXERS: u8 = 3;

/// A check takes a second of the machine's time: less than a thousandth at this pace.
const DEFAULT_CHECK_MINUTES: u32 = 20;

/// The `[renter.limits]` section: amounts are decimal text in whatever token is paid with; empty sets no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The most that one rental may cost.
    pub max_spend_per_rental: String,
    /// The dearest slot-hour that is ever rented.
    pub max_hourly: String,
    /// Arbiters that a quote may name: each is trusted to split what a rental locks. Empty accepts none.
    pub arbiters: Vec<Address>,
}
