//! Which chain, which escrow, which tokens: chains are data, and this is its form.

use crate::bindings::RentalEscrow;
use alloy::{
    primitives::{Address, B256, address, keccak256},
    transports::http::reqwest::Url,
};
use market::{money::Token, signed::Escrow};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The proxy through which anyone can put the same code at the same address on every chain.
pub(crate) const CREATE2_PROXY: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");
/// The salt the escrow is deployed with.
pub(crate) const CREATE2_SALT: B256 = B256::ZERO;

/// A chain that rentals are paid on: one `[[chain]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainConfig {
    /// What people call it: `base`, `polygon`, `devnet`.
    pub name: String,
    /// EIP-155 chain id; the endpoints must agree.
    pub chain_id: u64,
    /// HTTP endpoints in the order of preference; the next is asked when one fails.
    pub rpc: Vec<Url>,
    /// The escrow's address; by default where everybody's is.
    #[serde(default = "escrow_address")]
    pub escrow: Address,
    /// keccak256 of the code that must be there; by default that of the escrow this program was built with.
    #[serde(default = "escrow_code_hash")]
    pub escrow_code_hash: B256,
    /// Tokens that may be paid with, and how to show them; the chain's own coin has the zero address.
    #[serde(default)]
    pub tokens: Vec<Token>,
    /// How deep a block must lie before what is in it counts: 1 is the latest block itself. 1 suits rollups, 2 a chain of its own.
    #[serde(default = "default_confirmations")]
    pub confirmations: u64,
    /// The usual time between blocks, in milliseconds: how often the chain is asked, and what waiting times are measured in.
    #[serde(default = "default_block_time")]
    pub block_time_ms: u64,
    /// The most that is paid for a unit of gas, in billionths of the coin, however dear gas becomes: beyond it transactions wait.
    #[serde(default = "default_max_fee")]
    pub max_fee_gwei: u64,
    /// Whether this is a development chain, where money is worth nothing and safety limits on time are relaxed.
    #[serde(default)]
    pub devnet: bool,
}

const fn default_confirmations() -> u64 {
    2
}

/// Layer 2 chains are faster, layer 1 slower; asking every second suits most.
const fn default_block_time() -> u64 {
    2_000
}

/// Some ten times what busy hours of the dearest chain ask: a closing costs 0.075 coins at it. Chains with a cheap coin may need more.
const fn default_max_fee() -> u64 {
    1_000
}

/// Where the escrow lies on every chain it was deployed to.
pub fn escrow_address() -> Address {
    CREATE2_PROXY.create2_from_code(CREATE2_SALT, &RentalEscrow::BYTECODE)
}

/// keccak256 of the escrow's code as it stands on a chain.
pub fn escrow_code_hash() -> B256 {
    keccak256(&RentalEscrow::DEPLOYED_BYTECODE)
}

/// Chains are not asked more often than this: below it an answer costs more than it tells.
const FASTEST_POLL: Duration = Duration::from_millis(100);
/// Nor less often: people wait for the answer.
const SLOWEST_POLL: Duration = Duration::from_secs(4);
/// An endpoint this far behind the others is stuck rather than slow...
const FAR_BEHIND: Duration = Duration::from_secs(60);
/// ...but this many blocks are never far, however slow the chain.
const FAR_BEHIND_BLOCKS: u64 = 10;

impl ChainConfig {
    /// Where signatures for this chain count.
    pub const fn escrow_id(&self) -> Escrow {
        Escrow { chain: self.chain_id, address: self.escrow }
    }

    /// How often the chain is asked for something new: twice a block, so that news is half a block late at most.
    pub fn poll_interval(&self) -> Duration {
        (self.block_time() / 2).clamp(FASTEST_POLL, SLOWEST_POLL)
    }

    /// The usual time between blocks.
    pub const fn block_time(&self) -> Duration {
        Duration::from_millis(self.block_time_ms)
    }

    /// More blocks than this behind the newest is far.
    pub(crate) fn far_behind(&self) -> u64 {
        let millis = u64::try_from(FAR_BEHIND.as_millis()).unwrap_or(u64::MAX);
        (millis / self.block_time_ms.max(1)).max(FAR_BEHIND_BLOCKS)
    }

    /// The most that is paid for a unit of gas, in base units of coin.
    pub fn max_fee_per_gas(&self) -> u128 {
        u128::from(self.max_fee_gwei) * 1_000_000_000
    }

    /// The newest block that counts when `latest` is the newest there is.
    pub fn confirmed(&self, latest: u64) -> u64 {
        latest.saturating_sub(self.confirmations.saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_needs_only_what_cannot_be_known() {
        let text = r#"{"name":"devnet","chain_id":31337,"rpc":["http://127.0.0.1:8545"]}"#;
        let config: ChainConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.escrow, config.escrow_code_hash), (escrow_address(), escrow_code_hash()));
        assert_eq!(serde_json::from_str::<ChainConfig>(&serde_json::to_string(&config).unwrap()).unwrap(), config);
        assert!(serde_json::from_str::<ChainConfig>(&text.replace("name", "nmae")).is_err());
    }

    #[test]
    fn the_built_in_escrow_is_the_committed_artifact() {
        let artifact: serde_json::Value =
            serde_json::from_str(include_str!("../../../contracts/artifacts/RentalEscrow.json")).unwrap();
        assert_eq!(artifact["create2Address"], escrow_address().to_string());
        assert_eq!(artifact["runtimeCodeHash"], escrow_code_hash().to_string());
    }

    #[test]
    fn one_confirmation_is_the_latest_block_itself() {
        let mut config: ChainConfig = serde_json::from_str(r#"{"name":"x","chain_id":1,"rpc":[]}"#).unwrap();
        for (confirmations, confirmed) in [(0, 10), (1, 10), (2, 9), (10, 1), (20, 0)] {
            config.confirmations = confirmations;
            assert_eq!(config.confirmed(10), confirmed);
        }
    }
}
