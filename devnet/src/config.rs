//! The configuration files of a devnet's nodes. They are written whole: here every value is known, and none is left to a default that
//! another version might change.

use crate::{
    chain::{CHAIN_ID, Chain, TOKEN_SYMBOL},
    node::Node,
    spec::{DOLLAR_DECIMALS, NodeSpec},
};
use api::types::Role;
use std::path::Path;
use toml::{Table, Value, toml};

/// The name that the nodes have for the chain.
pub(crate) const CHAIN_NAME: &str = "devnet";

/// The configuration of one node.
pub(crate) fn render(
    spec: &NodeSpec,
    node: &Node,
    network: &str,
    bootstrap: &[String],
    chain: &Chain,
    passphrase: &Path,
) -> Table {
    let mut config = toml! {
        [keystore]
        wallet = "wallet"
        provider_key = "provider"
    };
    let port = node.port.number();
    let tcp = format!("/ip4/127.0.0.1/tcp/{port}");
    let quic = format!("/ip4/127.0.0.1/udp/{port}/quic-v1");
    put(&mut config, "keystore", "passphrase_file", passphrase.to_string_lossy().into_owned());
    put(&mut config, "network", "name", network);
    put(&mut config, "network", "listen", vec![tcp, quic]);
    put(&mut config, "network", "bootstrap", bootstrap.to_vec());
    // a development network stays on this machine
    put(&mut config, "network", "mdns", false);
    put(&mut config, "metrics", "listen", "127.0.0.1:0");
    put(&mut config, "console", "listen", "127.0.0.1:0");
    config.insert("chain".into(), Value::Array(vec![Value::Table(chain_table(chain))]));
    if spec.has(Role::Provider) {
        config.insert("provider".into(), Value::Table(provider_table(spec)));
    }
    if spec.has(Role::Indexer) {
        put(&mut config, "indexer", "carries_per_day", 10);
        put(&mut config, "indexer", "http", "127.0.0.1:0");
    }
    if spec.smart_account {
        put(&mut config, "renter", "account", node.wallet.to_string());
    }
    spec.edit(&mut config);
    config
}

fn chain_table(chain: &Chain) -> Table {
    let mut token = Table::new();
    token.insert("address".into(), chain.token.to_string().into());
    token.insert("symbol".into(), TOKEN_SYMBOL.into());
    token.insert("decimals".into(), i64::from(DOLLAR_DECIMALS).into());

    let mut table = toml! {
        confirmations = 1
        block_time_ms = 1000
        devnet = true
    };
    table.insert("name".into(), CHAIN_NAME.into());
    table.insert("chain_id".into(), i64::from(CHAIN_ID).into());
    table.insert("rpc".into(), vec![chain.nodes_rpc.clone()].into());
    table.insert("escrow".into(), chain.escrow.to_string().into());
    table.insert("token".into(), Value::Array(vec![Value::Table(token)]));
    table
}

/// Times as DESIGN gives them for devnets: an increment of a second, the shortest window the escrow takes.
fn provider_table(spec: &NodeSpec) -> Table {
    let mut table = toml! {
        region = "local"
        ready_seconds = 30
        frozen_seconds = 10
        notice_seconds = 0
        window_seconds = 900
        min_seconds = 1
        max_seconds = 86400
        hold_seconds = 30
        mandates_per_hour = 60
        ad_lifetime_seconds = 60
    };
    table.insert("increment_millis".into(), i64::from(spec.increment_millis).into());
    if let Some(payout) = spec.payout {
        table.insert("payout".into(), payout.to_string().into());
    }
    let slots = spec.slots.iter().map(|slot| {
        let mut entry = Table::new();
        entry.insert("name".into(), slot.name.clone().into());
        for (key, number) in [
            ("count", slot.count),
            ("cpu_millis", slot.cpu_millis),
            ("memory_mib", slot.memory_mib),
            ("disk_mib", slot.disk_mib),
        ] {
            entry.insert(key.into(), i64::from(number).into());
        }
        Value::Table(entry)
    });
    table.insert("slot".into(), Value::Array(slots.collect()));
    let mut pricing = Table::new();
    pricing.insert("chain".into(), CHAIN_NAME.into());
    pricing.insert("token".into(), TOKEN_SYMBOL.into());
    pricing.insert("hourly".into(), spec.hourly.clone().into());
    pricing.insert("min_deposit".into(), "0.001".into());
    table.insert("pricing".into(), Value::Array(vec![Value::Table(pricing)]));
    table
}

fn put(config: &mut Table, section: &str, key: &str, value: impl Into<Value>) {
    if let Value::Table(table) = config.entry(section).or_insert_with(|| Value::Table(Table::new())) {
        table.insert(key.into(), value.into());
    }
}
