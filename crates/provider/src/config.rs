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
    /// Whether renters may run container images; they are kept on disk.
    pub images: bool,
    /// Whether sandboxes may reach public addresses, in the name of this machine.
    pub egress: bool,
    /// The slots to rent out.
    pub slot: Vec<SlotConfig>,
    /// What they cost.
    pub pricing: Vec<Pricing>,
    /// Hours of the day with a price of their own.
    pub hours: Vec<HoursConfig>,
    /// What some pay less.
    pub discount: Vec<DiscountConfig>,
    /// Whom to serve.
    pub renters: Renters,
    /// When the machine is not rented out.
    pub maintenance: Vec<Maintenance>,
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
            images: false,
            egress: false,
            slot: vec![],
            pricing: vec![],
            hours: vec![],
            discount: vec![],
            renters: Renters::default(),
            maintenance: vec![],
        }
    }
}

/// The keys that are read again while the provider runs: what new quotes say. The others shape what runs already, or who the provider is.
const READ_AGAIN: [&str; 9] = [
    "discount",
    "hold_seconds",
    "hours",
    "maintenance",
    "mandates_per_hour",
    "max_seconds",
    "min_seconds",
    "pricing",
    "renters",
];

/// What another configuration changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Keys that are in force from now on.
    pub taken: Vec<String>,
    /// Keys that are read at the start only, and differ.
    pub at_restart: Vec<String>,
}

impl Config {
    /// This configuration with what `new` says of the keys that are read again.
    pub(crate) fn with(&self, new: &Self) -> (Self, Changes) {
        let merged = Self {
            discount: new.discount.clone(),
            hold_seconds: new.hold_seconds,
            hours: new.hours.clone(),
            maintenance: new.maintenance.clone(),
            mandates_per_hour: new.mandates_per_hour,
            max_seconds: new.max_seconds,
            min_seconds: new.min_seconds,
            pricing: new.pricing.clone(),
            renters: new.renters.clone(),
            ..self.clone()
        };
        let (taken, at_restart) = self.differences(new).into_iter().partition(|key| READ_AGAIN.contains(&key.as_str()));
        (merged, Changes { taken, at_restart })
    }

    /// The keys in which two configurations differ.
    fn differences(&self, other: &Self) -> Vec<String> {
        let (Ok(ours), Ok(theirs)) = (serde_json::to_value(self), serde_json::to_value(other)) else { return vec![] };
        let ours = ours.as_object().into_iter().flatten();
        ours.filter(|(key, value)| theirs.get(key.as_str()) != Some(value)).map(|(key, _)| key.clone()).collect()
    }

    /// Whether interruptible rentals are taken.
    pub(crate) fn takes_bids(&self) -> bool {
        self.pricing.iter().any(|pricing| !pricing.bids_from.is_empty())
    }

    /// How long a sandbox may take to start, in seconds: where bids are taken, it may first wait for somebody's notice to be over.
    pub(crate) fn ready_seconds(&self) -> u32 {
        self.ready_seconds.saturating_add(if self.takes_bids() { self.notice_seconds } else { 0 })
    }

    /// The classes of machine that the slots are of.
    pub fn classes(&self) -> BTreeSet<GpuClass> {
        self.slot.iter().map(SlotConfig::class).collect()
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
    /// How many may be rented together, such as `[4, 8]`; one at a time unless set.
    #[serde(default)]
    pub splits: Vec<u32>,
    /// GPUs of each; none unless set.
    #[serde(default)]
    pub gpus: u32,
    /// Their model, in words that stand in the driver's name for it: `RTX 4090`, `H100 1g.10gb`.
    #[serde(default)]
    pub gpu_model: String,
}

impl SlotConfig {
    /// The class that it is offered under.
    pub(crate) fn class(&self) -> GpuClass {
        if self.gpus == 0 { GpuClass::CPU } else { GpuClass::of_model(&self.gpu_model) }
    }
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
    /// No hour and no discount takes a slot-hour below this.
    #[serde(default = "zero")]
    pub floor: String,
    /// The least that is bid for a slot-hour of an interruptible rental; none are taken unless set.
    #[serde(default)]
    pub bids_from: String,
    /// The slots that this price is for; all of them unless set.
    #[serde(default)]
    pub slots: Vec<String>,
    /// The classes of machine that it is for, such as `["h200"]`; all of them unless set.
    #[serde(default)]
    pub classes: Vec<GpuClass>,
}

impl Pricing {
    /// Whether this price is for slots of a kind.
    pub(crate) fn is_for(&self, slot: &SlotConfig) -> bool {
        (self.slots.is_empty() || self.slots.contains(&slot.name))
            && (self.classes.is_empty() || self.classes.contains(&slot.class()))
    }
}

/// One `[[provider.hours]]`: hours of the day, in UTC, with a price of their own. Of several that hold at once the first counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HoursConfig {
    /// When they begin: `"22:00"`.
    pub from: String,
    /// When they are over, the next day if that is earlier: `"06:00"`.
    pub to: String,
    /// What is asked then, in per cent of the price.
    pub percent: u32,
    /// The slots that this is for; all of them unless set.
    #[serde(default)]
    pub slots: Vec<String>,
}

/// One `[[provider.discount]]`: what is taken off, and whom it is for. All that is said must hold; of several that do the greatest counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscountConfig {
    /// Per cent off the price.
    pub percent: u32,
    /// For rentals of this length or more, such as `24h`.
    #[serde(default)]
    pub at_least: String,
    /// For these renters' wallets.
    #[serde(default)]
    pub wallets: Vec<Address>,
    /// For those whose wallet has a balance of `token` on this chain.
    #[serde(default)]
    pub chain: String,
    /// A token's or an NFT's contract.
    #[serde(default)]
    pub token: Option<Address>,
    /// The slots that this is for; all of them unless set.
    #[serde(default)]
    pub slots: Vec<String>,
}

/// `[provider.renters]`: whom to serve, by their wallets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Renters {
    /// Nobody else, unless empty.
    pub allow: Vec<Address>,
    /// Never these.
    pub deny: Vec<Address>,
}

impl Renters {
    /// Whether a wallet is served.
    pub(crate) fn admit(&self, wallet: &Address) -> bool {
        !self.deny.contains(wallet) && (self.allow.is_empty() || self.allow.contains(wallet))
    }
}

/// One `[[provider.maintenance]]`: a time in which nothing is rented out. Rentals end before it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// When it begins, in UTC: `2026-12-24T18:00Z`.
    pub start: String,
    /// How long it lasts, such as `2h`.
    pub lasts: String,
    /// Every week from then on.
    #[serde(default)]
    pub weekly: bool,
}

fn zero() -> String {
    "0".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_again_and_slots_at_the_next_start() {
        let mut before = Config::default();
        before.slot.push(SlotConfig {
            name: "cpu".into(),
            count: 1,
            cpu_millis: 1,
            memory_mib: 1,
            disk_mib: 1,
            splits: vec![],
            gpus: 0,
            gpu_model: String::new(),
        });
        let mut after = before.clone();
        after.slot[0].count = 2;
        after.renters.deny = vec![Address::repeat_byte(1)];
        after.hold_seconds = 7;
        let (merged, changes) = before.with(&after);
        assert_eq!(
            (changes.taken, changes.at_restart),
            (vec!["hold_seconds".into(), "renters".into()], vec!["slot".into()])
        );
        assert_eq!((merged.hold_seconds, merged.renters, merged.slot), (7, after.renters, before.slot));
    }

    #[test]
    fn every_key_that_is_read_again_exists() {
        let keys = serde_json::to_value(Config::default()).unwrap();
        assert!(READ_AGAIN.iter().all(|key| keys.get(key).is_some()));
    }
}
