//! The configuration: built-in defaults, then `config.toml`, then the environment (`GPULEASE_SECTION__KEY`). Every key stands in
//! `schema`, which also writes the documented file of `node init`; a key that does not is an error naming the nearest one that does.

use crate::{datadir::DataDir, failure::Failure};
use alloy_primitives::{Address, B256};
use api::types::{ApiError, ErrorKind};
use market::money::Token;
use serde::Deserialize;
use settlement::ChainConfig;
use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use toml::{Table, Value};

pub(crate) mod schema;

/// What stands before every environment variable of ours.
const PREFIX: &str = "GPULEASE_";
/// What stands between the parts of a key in an environment variable.
const SEPARATOR: &str = "__";

/// The whole configuration, checked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) network: NetworkSection,
    chain: Vec<ChainSection>,
    pub(crate) keystore: KeystoreSection,
    pub(crate) provider: provider::Config,
    pub(crate) renter: renter::Config,
    pub(crate) indexer: IndexerSection,
    pub(crate) api: ApiSection,
    pub(crate) metrics: MetricsSection,
    pub(crate) console: ConsoleSection,
}

/// `[network]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct NetworkSection {
    pub(crate) name: String,
    pub(crate) listen: Vec<String>,
    pub(crate) external: Vec<String>,
    pub(crate) bootstrap: Vec<String>,
    pub(crate) rendezvous: Vec<String>,
    pub(crate) serve_rendezvous: bool,
    pub(crate) mdns: bool,
}

impl Default for NetworkSection {
    fn default() -> Self {
        let listen = ["/ip4/0.0.0.0/tcp/4700", "/ip4/0.0.0.0/udp/4700/quic-v1"];
        let listen = listen.map(str::to_owned).to_vec();
        Self {
            name: "main".to_owned(),
            listen,
            external: Vec::new(),
            bootstrap: Vec::new(),
            rendezvous: Vec::new(),
            serve_rendezvous: false,
            mdns: true,
        }
    }
}

/// `[[chain]]`: what [`ChainConfig`] needs, with its tokens as sections of their own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ChainSection {
    name: String,
    chain_id: u64,
    rpc: Vec<toml::Value>,
    escrow: Option<Address>,
    escrow_code_hash: Option<B256>,
    confirmations: Option<u64>,
    block_time_ms: Option<u64>,
    max_fee_gwei: Option<u64>,
    devnet: Option<bool>,
    #[serde(default)]
    token: Vec<TokenSection>,
}

/// `[[chain.token]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenSection {
    address: Address,
    symbol: String,
    decimals: u8,
}

/// `[keystore]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KeystoreSection {
    pub(crate) wallet: String,
    pub(crate) provider_key: String,
    pub(crate) passphrase_file: Option<PathBuf>,
}

impl Default for KeystoreSection {
    fn default() -> Self {
        Self { wallet: "wallet".to_owned(), provider_key: "provider".to_owned(), passphrase_file: None }
    }
}

/// `[indexer]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IndexerSection {
    http: String,
    pub(crate) carries_per_day: u32,
}

impl Default for IndexerSection {
    fn default() -> Self {
        Self { http: "127.0.0.1:4703".to_owned(), carries_per_day: 0 }
    }
}

impl IndexerSection {
    /// The address to answer searches on; `None` when none is wanted.
    pub(crate) fn address(&self) -> Result<Option<SocketAddr>, ConfigError> {
        address("[indexer]", "http", &self.http)
    }
}

/// `[api]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ApiSection {
    socket: Option<PathBuf>,
}

/// `[metrics]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct MetricsSection {
    listen: String,
}

impl Default for MetricsSection {
    fn default() -> Self {
        Self { listen: "127.0.0.1:4702".to_owned() }
    }
}

impl MetricsSection {
    /// The address to serve on; `None` when none is wanted.
    pub(crate) fn address(&self) -> Result<Option<SocketAddr>, ConfigError> {
        address("[metrics]", "listen", &self.listen)
    }
}

/// `[console]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ConsoleSection {
    listen: String,
}

impl Default for ConsoleSection {
    fn default() -> Self {
        Self { listen: "127.0.0.1:4701".to_owned() }
    }
}

impl ConsoleSection {
    /// The address to serve on; `None` when none is wanted.
    pub(crate) fn address(&self) -> Result<Option<SocketAddr>, ConfigError> {
        address("[console]", "listen", &self.listen)
    }
}

/// An address and port; `None` for the empty text.
fn address(section: &str, key: &str, text: &str) -> Result<Option<SocketAddr>, ConfigError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| ConfigError::Value {
        origin: section.to_owned(),
        message: format!("`{text}` in `{key}` is no address and port, such as 127.0.0.1:4702: {error}"),
    })
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML; the cause shows the line.
    #[error("{path} is not valid TOML")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        source: Box<toml::de::Error>,
    },
    /// A key that does not exist.
    #[error("{origin}: there is no key `{key}`{}", .nearest.as_ref().map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    Unknown {
        /// The file or the environment variable.
        origin: String,
        /// The key, with its section.
        key: String,
        /// The key most like it.
        nearest: Option<String>,
    },
    /// A value of another kind than the key takes.
    #[error("{origin}: `{key}` must be {expected}, but is {found}")]
    Kind {
        /// The file or the environment variable.
        origin: String,
        /// The key, with its section.
        key: String,
        /// The kind it takes.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// A value of the right kind that makes no sense, or a missing one.
    #[error("{origin}: {message}")]
    Value {
        /// The file.
        origin: String,
        /// What is wrong with which key.
        message: String,
    },
}

impl From<ConfigError> for ApiError {
    fn from(error: ConfigError) -> Self {
        let next = match &error {
            ConfigError::Read { .. } => "check that the file is yours to read",
            _ => "correct it; `node init --force` writes a fresh file with every key explained",
        };
        ErrorKind::Usage.because(&error, next)
    }
}

impl Config {
    /// Reads the configuration of a data directory. A missing file leaves the defaults.
    pub(crate) fn load(dir: &DataDir) -> Result<Self, ConfigError> {
        let path = dir.config();
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::Read { path, source }),
        };
        // An environment variable that is not text cannot be one of ours.
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::from_layers(&path, &text, environment)
    }

    fn from_layers(
        path: &Path,
        text: &str,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let origin = path.display().to_string();
        let mut table: Table =
            text.parse().map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })?;
        schema::check(&origin, &table)?;
        let mut overridden = false;
        for (name, value) in environment {
            let Some(key) = name.strip_prefix(PREFIX).filter(|key| key.contains(SEPARATOR)) else { continue };
            let key: Vec<String> = key.split(SEPARATOR).map(str::to_ascii_lowercase).collect();
            let value = schema::value_of(&name, &key, &value)?;
            put(&mut table, &key, value).ok_or_else(|| ConfigError::Value {
                origin: name.clone(),
                message: "a section with this number, or the one before it, does not exist".to_owned(),
            })?;
            schema::check(&name, &table)?;
            overridden = true;
        }
        let origin = if overridden { format!("{origin} with the environment") } else { origin };
        // toml says which key it is about in a line of its own
        let words = |error: toml::de::Error| error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        table.try_into().map_err(|error| ConfigError::Value { origin, message: words(error) })
    }

    /// The chains, as the settlement layer wants them.
    pub(crate) fn chains(&self) -> Result<Vec<ChainConfig>, ConfigError> {
        self.chain.iter().map(ChainSection::resolve).collect()
    }

    /// Where the control API listens.
    pub(crate) fn socket(&self, dir: &DataDir) -> PathBuf {
        self.api.socket.clone().unwrap_or_else(|| dir.socket())
    }
}

impl ChainSection {
    fn resolve(&self) -> Result<ChainConfig, ConfigError> {
        let mut table = Table::new();
        table.insert("name".into(), self.name.clone().into());
        table.insert("chain_id".into(), self.integer("chain_id", self.chain_id)?);
        table.insert("rpc".into(), Value::Array(self.rpc.clone()));
        let numbers = [
            ("confirmations", self.confirmations),
            ("block_time_ms", self.block_time_ms),
            ("max_fee_gwei", self.max_fee_gwei),
        ];
        for (key, value) in numbers {
            if let Some(value) = value {
                table.insert(key.into(), self.integer(key, value)?);
            }
        }
        let mut chain: ChainConfig = table.try_into().map_err(|error: toml::de::Error| self.fault(error.message()))?;
        chain.escrow = self.escrow.unwrap_or(chain.escrow);
        chain.escrow_code_hash = self.escrow_code_hash.unwrap_or(chain.escrow_code_hash);
        chain.devnet = self.devnet.unwrap_or(chain.devnet);
        for TokenSection { address, symbol, decimals } in self.token.clone() {
            chain.tokens.push(Token { chain: self.chain_id, address, symbol, decimals });
        }
        Ok(chain)
    }

    fn integer(&self, key: &str, value: u64) -> Result<Value, ConfigError> {
        i64::try_from(value).map(Value::Integer).map_err(|_| self.fault(&format!("`{key}` is too large")))
    }

    fn fault(&self, message: &str) -> ConfigError {
        ConfigError::Value { origin: format!("[[chain]] `{}`", self.name), message: message.to_owned() }
    }
}

/// Puts a value where `key` leads. A number in it chooses one of repeated sections; the one past the last begins a new one.
fn put(table: &mut Table, key: &[String], value: Value) -> Option<()> {
    let (first, rest) = key.split_first()?;
    if rest.is_empty() {
        table.insert(first.clone(), value);
        return Some(());
    }
    let entry = table.entry(first.clone()).or_insert_with(|| match rest[0].parse::<usize>() {
        Ok(_) => Value::Array(Vec::new()),
        Err(_) => Value::Table(Table::new()),
    });
    match entry {
        Value::Table(inner) => put(inner, rest, value),
        Value::Array(sections) => {
            let index: usize = rest[0].parse().ok()?;
            if index == sections.len() {
                sections.push(Value::Table(Table::new()));
            }
            put(sections.get_mut(index)?.as_table_mut()?, &rest[1..], value)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [network]
        name = "devnet-0000aaaa"
        bootstrap = ["/ip4/127.0.0.1/tcp/1"]
        [[chain]]
        name = "devnet"
        chain_id = 31337
        rpc = ["http://127.0.0.1:8545"]
        escrow = "0x00000000000000000000000000000000000000e5"
        devnet = true
        [[chain.token]]
        address = "0x00000000000000000000000000000000000000d0"
        symbol = "tUSD"
        decimals = 6
        [keystore]
        passphrase_file = "/p"
    "#;

    fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::from_layers(Path::new("config.toml"), text, environment)
    }

    #[test]
    fn without_a_file_the_defaults_hold() {
        let config = load("", &[]).unwrap();
        assert_eq!(config.network.name, "main");
        assert_eq!(config.keystore.wallet, "wallet");
        assert!(config.chains().unwrap().is_empty());
        let dir = DataDir::find(Some(Path::new("/d"))).unwrap();
        assert_eq!(config.socket(&dir), Path::new("/d/api.sock"));
    }

    #[test]
    fn the_environment_overrides_the_file_and_the_file_the_defaults() {
        let environment = [
            ("GPULEASE_NETWORK__NAME", "devnet-0000bbbb"),
            ("GPULEASE_NETWORK__LISTEN", "/ip4/127.0.0.1/tcp/0, /ip4/127.0.0.1/udp/0/quic-v1"),
            ("GPULEASE_CHAIN__0__CONFIRMATIONS", "3"),
            ("GPULEASE_CHAIN__0__TOKEN__1__SYMBOL", "tEUR"),
            ("GPULEASE_CHAIN__0__TOKEN__1__ADDRESS", "0x00000000000000000000000000000000000000d1"),
            ("GPULEASE_CHAIN__0__TOKEN__1__DECIMALS", "2"),
            ("GPULEASE_API__SOCKET", "/run/x.sock"),
            ("GPULEASE_DATA_DIR", "/elsewhere"),
            ("HOME__X", "not ours"),
        ];
        let config = load(FILE, &environment).unwrap();
        assert_eq!(config.network.name, "devnet-0000bbbb");
        assert_eq!(config.network.listen, ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"]);
        assert_eq!(config.network.bootstrap, ["/ip4/127.0.0.1/tcp/1"]);
        assert_eq!(config.keystore.passphrase_file, Some("/p".into()));
        assert_eq!(config.socket(&DataDir::find(Some(Path::new("/d"))).unwrap()), Path::new("/run/x.sock"));
        let chains = config.chains().unwrap();
        assert_eq!((chains[0].confirmations, chains[0].devnet, chains[0].chain_id), (3, true, 31_337));
        let tokens: Vec<_> = chains[0].tokens.iter().map(|t| (t.chain, t.symbol.as_str(), t.decimals)).collect();
        assert_eq!(tokens, [(31_337, "tUSD", 6), (31_337, "tEUR", 2)]);
    }

    #[test]
    fn a_key_that_does_not_exist_names_the_nearest_that_does() {
        for (text, key, nearest) in [
            ("[netwrok]\nname = \"main\"", "netwrok", "network"),
            ("[network]\nnmae = \"main\"", "network.nmae", "network.name"),
            ("[[chain]]\nchainid = 1", "chain.chainid", "chain.chain_id"),
            ("[[chain]]\n[[chain.token]]\nsymbl = \"x\"", "chain.token.symbl", "chain.token.symbol"),
            ("[renter.limits]\nmax_hour = \"1\"", "renter.limits.max_hour", "renter.limits.max_hourly"),
        ] {
            match load(text, &[]).unwrap_err() {
                ConfigError::Unknown { key: k, nearest: Some(n), .. } => {
                    assert_eq!((k.as_str(), n.as_str()), (key, nearest))
                }
                other => panic!("{text}: {other}"),
            }
        }
        let error = load("", &[("GPULEASE_NETWORK__NMAE", "x")]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "GPULEASE_NETWORK__NMAE: there is no key `network.nmae`; did you mean `network.name`?"
        );
    }

    #[test]
    fn a_value_of_the_wrong_kind_says_what_is_expected() {
        let error = load("[network]\nlisten = 7", &[]).unwrap_err();
        assert_eq!(error.to_string(), "config.toml: `network.listen` must be a list of texts, but is an integer");
        let error = load("[[chain]]\nchain_id = \"1\"", &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Kind { .. }), "{error}");
        let error = load(FILE, &[("GPULEASE_CHAIN__0__CHAIN_ID", "many")]).unwrap_err();
        assert!(error.to_string().contains("must be an integer"), "{error}");
        let error = load("network = 3", &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Kind { .. }), "{error}");
        assert!(matches!(load("[network", &[]).unwrap_err(), ConfigError::Syntax { .. }));
        let error = load("[[chain]]\nname = \"x\"\nchain_id = 1", &[]).unwrap_err();
        assert!(error.to_string().contains("rpc"), "{error}");
        let error = load("[provider]\nmax_seconds = -4", &[]).unwrap_err();
        assert!(error.to_string().contains("-4") && error.to_string().contains("provider.max_seconds"), "{error}");
        assert!(matches!(load("", &[("GPULEASE_CHAIN__1__NAME", "x")]).unwrap_err(), ConfigError::Value { .. }));
    }
}
