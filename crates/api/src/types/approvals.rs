//! Allowances: who may take tokens from a wallet of this node, and taking that back.

use alloy_primitives::{Address, B256, U256};
use market::money::Token;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// An allowance that a wallet of this node has given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Approval {
    /// The wallet's name in the keystore.
    pub wallet: String,
    /// The wallet.
    #[schema(value_type = String)]
    pub account: Address,
    /// The chain's name in the configuration.
    pub chain: String,
    /// The token.
    #[schema(value_type = Object)]
    pub token: Token,
    /// Who may take it.
    #[schema(value_type = String)]
    pub spender: Address,
    /// `escrow`, `Permit2`, or the address.
    pub spender_name: String,
    /// How much, in base units: of 256 bits.
    #[schema(value_type = String)]
    #[serde(serialize_with = "to_decimal", deserialize_with = "from_decimal")]
    pub amount: U256,
    /// With its symbol; `unlimited` where there is no limit.
    pub shown: String,
}

impl Approval {
    /// The call that takes it back, decoded.
    pub fn revoking_call(&self) -> String {
        format!("approve({}, 0) on {} {}", self.spender, self.token.symbol, self.token.address)
    }

    /// The request for that.
    pub fn revocation(&self) -> Revocation {
        let (chain, account, token, spender) = (self.chain.clone(), self.account, self.token.address, self.spender);
        Revocation { chain, account, token, spender }
    }
}

/// Which allowance to take back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// The chain's name in the configuration.
    pub chain: String,
    /// The wallet that has given it.
    #[schema(value_type = String)]
    pub account: Address,
    /// The token.
    #[schema(value_type = String)]
    pub token: Address,
    /// Who may take it.
    #[schema(value_type = String)]
    pub spender: Address,
}

/// An allowance that was taken back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revoked {
    /// The transaction's hash.
    #[schema(value_type = String)]
    pub tx: B256,
    /// The block it is in.
    pub block: u64,
    /// The gas it used.
    pub gas_used: u64,
    /// What that cost, with the coin's symbol.
    pub cost: String,
}

fn to_decimal<S: Serializer>(amount: &U256, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount)
}

fn from_decimal<'de, D: Deserializer<'de>>(deserializer: D) -> Result<U256, D::Error> {
    let text = String::deserialize(deserializer)?;
    U256::from_str_radix(&text, 10).map_err(serde::de::Error::custom)
}
