//! What a node of a devnet is to be: its roles, what its wallet starts with, what it rents out, and whatever else its configuration
//! should say.

use alloy::primitives::Address;
use anyhow::Result;
use api::types::Role;
use market::money::{Amount, parse_units};
use std::fmt;

/// The test dollar's decimals.
pub(crate) const DOLLAR_DECIMALS: u8 = 6;
/// The chain's coin has the usual 18.
pub(crate) const COIN_DECIMALS: u8 = 18;

/// Slots of one kind on a provider.
#[derive(Clone, Debug)]
pub struct SlotSpec {
    /// The slots' name, and that of the offer.
    pub name: String,
    /// How many there are.
    pub count: u32,
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Disk in MiB.
    pub disk_mib: u32,
}

impl Default for SlotSpec {
    fn default() -> Self {
        Self { name: "cpu".into(), count: 1, cpu_millis: 1_000, memory_mib: 512, disk_mib: 256 }
    }
}

type Edit = Box<dyn Fn(&mut toml::Table) + Send + Sync>;

/// One node of a devnet.
pub struct NodeSpec {
    pub(crate) name: String,
    pub(crate) roles: Vec<Role>,
    pub(crate) slots: Vec<SlotSpec>,
    pub(crate) hourly: String,
    pub(crate) increment_millis: u32,
    pub(crate) coin: String,
    pub(crate) dollars: String,
    pub(crate) may_fail: bool,
    pub(crate) smart_account: bool,
    pub(crate) payout: Option<Address>,
    edits: Vec<Edit>,
}

impl fmt::Debug for NodeSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeSpec").field("name", &self.name).field("roles", &self.roles).finish_non_exhaustive()
    }
}

impl NodeSpec {
    /// A node of any roles, with coin for gas and nothing else.
    pub fn new(name: impl Into<String>, roles: impl Into<Vec<Role>>) -> Self {
        Self {
            name: name.into(),
            roles: roles.into(),
            slots: vec![SlotSpec::default()],
            hourly: "3.6".into(), // a thousandth of a dollar a second: what a second costs can be read off a balance
            increment_millis: 1_000,
            coin: "1".into(),
            dollars: "0".into(),
            may_fail: false,
            smart_account: false,
            payout: None,
            edits: Vec::new(),
        }
    }

    /// A provider with one slot at 3.60 tUSD an hour.
    pub fn provider(name: impl Into<String>) -> Self {
        Self::new(name, [Role::Provider])
    }

    /// An indexer.
    pub fn indexer(name: impl Into<String>) -> Self {
        Self::new(name, [Role::Indexer])
    }

    /// A renter with 1,000 tUSD.
    pub fn renter(name: impl Into<String>) -> Self {
        Self::new(name, [Role::Renter]).dollars("1000")
    }

    /// Replaces the slots.
    pub fn slots(mut self, slots: impl Into<Vec<SlotSpec>>) -> Self {
        self.slots = slots.into();
        self
    }

    /// The price of a slot-hour in tUSD, as decimal text.
    pub fn hourly(mut self, price: impl Into<String>) -> Self {
        self.hourly = price.into();
        self
    }

    /// The billing increment in milliseconds; 1,000 if not said.
    pub fn increment_millis(mut self, millis: u32) -> Self {
        self.increment_millis = millis;
        self
    }

    /// What the wallets of this node have for gas, in the chain's coin, as decimal text; 1 if not said.
    pub fn coin(mut self, amount: impl Into<String>) -> Self {
        self.coin = amount.into();
        self
    }

    /// What the wallet starts with, in tUSD, as decimal text.
    pub fn dollars(mut self, amount: impl Into<String>) -> Self {
        self.dollars = amount.into();
        self
    }

    /// The node is expected to refuse to start; the network starts all the same.
    pub fn may_fail(mut self) -> Self {
        self.may_fail = true;
        self
    }

    /// Has a provider's earnings go to this account instead of its wallet.
    pub fn payout(mut self, payout: Address) -> Self {
        self.payout = Some(payout);
        self
    }

    /// A last word on the configuration file.
    pub fn config(mut self, edit: impl Fn(&mut toml::Table) + Send + Sync + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// Has a smart account pay for what this node rents, with the node's wallet as its owner.
    pub fn smart_account(mut self) -> Self {
        self.smart_account = true;
        self
    }

    pub(crate) fn has(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    pub(crate) fn edit(&self, table: &mut toml::Table) {
        self.edits.iter().for_each(|edit| edit(table));
    }

    pub(crate) fn coin_units(&self) -> Result<Amount> {
        Ok(parse_units(&self.coin, COIN_DECIMALS)?)
    }

    pub(crate) fn dollar_units(&self) -> Result<Amount> {
        Ok(parse_units(&self.dollars, DOLLAR_DECIMALS)?)
    }
}
