//! What an owner sets: slots, prices and the numbers a rental runs by.

use alloy_primitives::Address;
use market::class::GpuClass;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// The `[provider]` section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where earnings go; to the wallet unless set. Any account that can be paid: a cold wallet, a Safe, a DAO.
    pub payout: Option<Address>,
    /// ISO 3166 country code where the machine stands, such as `KR`; empty when not stated.
    pub region: String,
    /// The billing increment τ in milliseconds: the most that either side can lose. 10,000 unless set; at most 60,000.
    pub increment_millis: u32,
    /// How long a sandbox may take to start, in seconds.
    pub ready_seconds: u32,
    /// How long an unpaid sandbox stays frozen before it is ended, in seconds: 300 for processors; use 60 for GPUs.
    pub frozen_seconds: u32,
    /// Notice before a preemption, in seconds.
    pub notice_seconds: u32,
    /// The escrow's challenge window in seconds, 900 to 604,800: how long you have to claim after a renter stops on chain.
    pub window_seconds: u32,
    /// Who may rule on a rental that its renter stops on chain, by an address of any kind; every quote names it. Nobody unless set.
    pub arbiter: Option<Address>,
    /// The shortest rental, in seconds.
    pub min_seconds: u32,
    /// The longest rental, in seconds.
    pub max_seconds: u32,
    /// How long a quote holds a slot, in seconds of block time; at most 120.
    pub hold_seconds: u32,
    /// How many rentals an hour are opened for renters who have no coin for gas: the owner pays that gas, the renter the first increment
    /// in advance. 0: none.
    pub mandates_per_hour: u32,
    /// How long an advertisement lives, in seconds; refreshed at about a third of it.
    pub ad_lifetime_seconds: u32,
    /// The slots to rent out.
    pub slot: Vec<SlotConfig>,
    /// What they cost.
    pub pricing: Vec<Pricing>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            payout: None,
            region: String::new(),
            increment_millis: 10_000,
            ready_seconds: 30,
            frozen_seconds: 300,
            notice_seconds: 30,
            window_seconds: 86_400,
            arbiter: None,
            min_seconds: 10,
            max_seconds: 7 * 86_400,
            hold_seconds: 30,
            mandates_per_hour: 60,
            ad_lifetime_seconds: 900,
            slot: vec![],
            pricing: vec![],
        }
    }
}

impl Config {
    /// The classes of machine that the slots are of.
    pub fn classes(&self) -> BTreeSet<GpuClass> {
        self.slot.iter().map(|_| GpuClass::CPU).collect()
    }
}

/// One `[[provider.slot]]`: slots of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotConfig {
    /// The offer's name.
    pub name: String,
    /// How many slots of this kind.
    #[serde(default = "one")]
    pub count: u32,
    /// Processor share of each, in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory of each, in MiB.
    pub memory_mib: u32,
    /// Disk of each, in MiB.
    pub disk_mib: u32,
}

const fn one() -> u32 {
    1
}

/// One `[[provider.pricing]]`: a price in one token on one chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pricing {
    /// The chain's name in its `[[chain]]` section.
    pub chain: String,
    /// The token's symbol there.
    pub token: String,
    /// The price of a slot-hour, as decimal text in the token: `"0.25"`.
    pub hourly: String,
    /// The least deposit worth opening for; it should cover the gas of closing.
    #[serde(default = "zero")]
    pub min_deposit: String,
    /// The slots that this price is for; all of them unless set.
    #[serde(default)]
    pub slots: Vec<String>,
}

fn zero() -> String {
    "0".to_owned()
}
