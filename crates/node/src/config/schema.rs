//! Every key of the configuration, once: its name, kind, default and meaning. From this table unknown keys are found, environment
//! variables are read, and the documented file of `node init` is written; tests hold it against the types that are read in the end.

use super::ConfigError;
use crate::cli::nearest;
use std::fmt::Write;
use toml::{Table, Value};

/// A section of the file.
pub(crate) struct Section {
    /// Its name, with those of the sections around it.
    pub(crate) path: &'static str,
    /// Whether there may be several (`[[…]]`).
    pub(crate) repeated: bool,
    /// What it is for.
    pub(crate) about: &'static str,
    /// What stands in it.
    pub(crate) keys: &'static [Key],
}

/// One key.
pub(crate) struct Key {
    name: &'static str,
    kind: Kind,
    /// TOML for the default or, where there is none, for an example.
    value: &'static str,
    about: &'static str,
}

/// What a key's value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Integer,
    Flag,
    Texts,
    Integers,
}

impl Kind {
    const fn words(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Integer => "an integer",
            Self::Flag => "true or false",
            Self::Texts => "a list of texts",
            Self::Integers => "a list of integers",
        }
    }

    fn fits(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text, Value::String(_)) | (Self::Integer, Value::Integer(_)) | (Self::Flag, Value::Boolean(_)) => {
                true
            }
            (Self::Texts, Value::Array(items)) => items.iter().all(Value::is_str),
            (Self::Integers, Value::Array(items)) => items.iter().all(Value::is_integer),
            _ => false,
        }
    }

    /// Reads the text of an environment variable; a list is separated by commas.
    fn read(self, text: &str) -> Option<Value> {
        match self {
            Self::Text => Some(text.into()),
            Self::Integer => text.trim().parse().ok().map(Value::Integer),
            Self::Flag => text.trim().parse().ok().map(Value::Boolean),
            Self::Texts => Some(Value::Array(items(text).map(Value::from).collect())),
            Self::Integers => {
                let numbers = items(text).map(|item| item.parse().ok().map(Value::Integer));
                numbers.collect::<Option<_>>().map(Value::Array)
            }
        }
    }
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

const fn key(name: &'static str, kind: Kind, value: &'static str, about: &'static str) -> Key {
    Key { name, kind, value, about }
}

/// Every section, in the order of the file.
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        path: "network",
        repeated: false,
        about: "The peer-to-peer network.",
        keys: &[
            key(
                "name",
                Kind::Text,
                r#""main""#,
                "`main`, or `devnet-` and eight hex digits. Nodes of different networks do not meet.",
            ),
            key(
                "listen",
                Kind::Texts,
                r#"["/ip4/0.0.0.0/tcp/4700", "/ip4/0.0.0.0/udp/4700/quic-v1"]"#,
                "Multiaddresses to listen on. Empty: only dial out. Port 0 takes a free one.",
            ),
            key(
                "external",
                Kind::Texts,
                "[]",
                "Addresses under which others reach this node, where they differ from those.",
            ),
            key("bootstrap", Kind::Texts, "[]", "Peers to stay connected to, each ending in /p2p/<peer id>."),
            key(
                "rendezvous",
                Kind::Texts,
                "[]",
                "Peers that introduce nodes of the same classes to each other, each ending in /p2p/<peer id>. Asked while few are known.",
            ),
            key(
                "serve_rendezvous",
                Kind::Flag,
                "false",
                "Introduce others to each other. For nodes with a public address.",
            ),
            key("mdns", Kind::Flag, "true", "Look for other nodes in the local network, by multicast DNS."),
        ],
    },
    Section {
        path: "chain",
        repeated: true,
        about: "A chain that rentals are paid on. At least one is needed to offer or to rent.",
        keys: &[
            key("name", Kind::Text, r#""base""#, "What you call it."),
            key("chain_id", Kind::Integer, "8453", "EIP-155 chain id; the endpoints must agree."),
            key(
                "rpc",
                Kind::Texts,
                r#"["https://rpc.example.org", "https://rpc.example.net", "https://rpc.example.com"]"#,
                "HTTP endpoints of different operators, in the order of preference. Of several, two must agree on what releases value: with three, one may be down.",
            ),
            key(
                "escrow",
                Kind::Text,
                r#""0x0000000000000000000000000000000000000000""#,
                "The escrow's address. Left out: where it lies on every chain.",
            ),
            key(
                "escrow_code_hash",
                Kind::Text,
                r#""0x0000000000000000000000000000000000000000000000000000000000000000""#,
                "keccak256 of the code that must be there. Left out: that of the escrow this program was built with.",
            ),
            key(
                "confirmations",
                Kind::Integer,
                "2",
                "How deep a block must lie before it counts; 1 is the latest itself.",
            ),
            key("block_time_ms", Kind::Integer, "2000", "The usual time between blocks, in milliseconds."),
            key(
                "max_fee_gwei",
                Kind::Integer,
                "1000",
                "The most that is paid for a unit of gas, in billionths of the coin; when gas is dearer, transactions wait.",
            ),
            key("devnet", Kind::Flag, "false", "Money is worth nothing here, and limits on time are relaxed."),
        ],
    },
    Section {
        path: "chain.token",
        repeated: true,
        about: "A token of the chain above that may be paid with.",
        keys: &[
            key(
                "address",
                Kind::Text,
                r#""0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913""#,
                "Its contract; zero is the chain's own coin.",
            ),
            key("symbol", Kind::Text, r#""USDC""#, "What people call it."),
            key("decimals", Kind::Integer, "6", "How many digits follow the decimal point."),
        ],
    },
    Section {
        path: "keystore",
        repeated: false,
        about: "The keys, in the folder keystore/ of the data directory.",
        keys: &[
            key("wallet", Kind::Text, r#""wallet""#, "The key that pays and is paid."),
            key("provider_key", Kind::Text, r#""provider""#, "The key that signs a provider's quotes."),
            key(
                "passphrase_file",
                Kind::Text,
                r#""/etc/gpulease/passphrase""#,
                "A file whose first line opens the keystore, so that a daemon can restart unattended. Left out: it is asked for.",
            ),
        ],
    },
    Section {
        path: "provider",
        repeated: false,
        about: "What a provider offers, and under which terms.",
        keys: &[
            key(
                "payout",
                Kind::Text,
                r#""0x5afe00000000000000000000000000000000cafe""#,
                "Where earnings go: any account, such as a cold wallet, a Safe or a DAO. The wallet then signs quotes too. Left out: to the wallet.",
            ),
            key(
                "region",
                Kind::Text,
                r#""""#,
                "ISO 3166 code of the country where the machine stands, such as \"KR\".",
            ),
            key(
                "increment_millis",
                Kind::Integer,
                "10000",
                "The billing increment: the most that either side can lose. At most 60000.",
            ),
            key(
                "ready_seconds",
                Kind::Integer,
                "30",
                "How long a sandbox may take to start; with images, time enough to fetch one: 600. Nothing is earned meanwhile.",
            ),
            key(
                "images",
                Kind::Flag,
                "false",
                "Whether renters may run container images of public registries. Up to 100 GiB of them are kept on disk.",
            ),
            key(
                "egress",
                Kind::Flag,
                "false",
                "Whether sandboxes may reach public addresses. What they do there is done from this machine's address.",
            ),
            key(
                "frozen_seconds",
                Kind::Integer,
                "300",
                "How long an unpaid sandbox stays frozen before the rental is closed; use 60 for GPUs.",
            ),
            key("notice_seconds", Kind::Integer, "30", "Notice given before an interruptible rental is preempted."),
            key(
                "window_seconds",
                Kind::Integer,
                "86400",
                "The escrow's challenge window, 900 to 604800: how long you have to claim after a renter stops on chain.",
            ),
            key(
                "arbiter",
                Kind::Text,
                r#""0x0000000000000000000000000000000000000a1b""#,
                "Who may rule on a rental that its renter stops on chain while you do not close it: any account, a DAO, a court's adapter. Every quote names it, and only renters that accept it rent. Left out: nobody.",
            ),
            key("min_seconds", Kind::Integer, "10", "The shortest rental."),
            key("max_seconds", Kind::Integer, "604800", "The longest rental."),
            key(
                "hold_seconds",
                Kind::Integer,
                "30",
                "How long a quote holds a slot, in seconds of block time; at most 120.",
            ),
            key(
                "mandates_per_hour",
                Kind::Integer,
                "60",
                "How many rentals an hour you open, and pay the gas for, in the name of renters without coin; they pay the first increment in advance. 0: none.",
            ),
            key(
                "ad_lifetime_seconds",
                Kind::Integer,
                "900",
                "How long an advertisement lives; it is renewed at a third of that.",
            ),
        ],
    },
    Section {
        path: "provider.slot",
        repeated: true,
        about: "Slots of one kind: what is rented as one.",
        keys: &[
            key("name", Kind::Text, r#""cpu""#, "The offer's name."),
            key("count", Kind::Integer, "1", "How many there are."),
            key("cpu_millis", Kind::Integer, "1000", "Processor share of each, in thousandths of a core."),
            key("memory_mib", Kind::Integer, "1024", "Memory of each in MiB."),
            key("disk_mib", Kind::Integer, "10240", "Disk of each in MiB."),
            key("gpus", Kind::Integer, "0", "GPUs of each, whole cards or MIG instances; `node devices` shows them."),
            key(
                "gpu_model",
                Kind::Text,
                r#""RTX 4090""#,
                "Their model, in words of the driver's name for it: \"RTX 4090\", or \"H100 1g.10gb\" for instances of one. Needed with gpus.",
            ),
            key(
                "splits",
                Kind::Integers,
                "[1]",
                "How many may be rented together, as one: [1, 2] for single ones and pairs, [4, 8] for fours and eights only. Left out: one at a time.",
            ),
        ],
    },
    Section {
        path: "provider.pricing",
        repeated: true,
        about: "What a slot costs in one token of one chain.",
        keys: &[
            key("chain", Kind::Text, r#""base""#, "The chain's name above."),
            key("token", Kind::Text, r#""USDC""#, "The token's symbol there."),
            key("hourly", Kind::Text, r#""0.36""#, "The all-in price of a slot-hour, in the token."),
            key(
                "min_deposit",
                Kind::Text,
                r#""0.05""#,
                "The least deposit worth opening for: it should cover the gas of closing.",
            ),
            key(
                "floor",
                Kind::Text,
                r#""0.20""#,
                "No hour and no discount below takes a slot-hour below this. Left out: none is too low.",
            ),
            key(
                "bids_from",
                Kind::Text,
                r#""0.12""#,
                "The least that is bid for a slot-hour of an interruptible rental, which gives way to a bid a tenth higher and to rentals on demand. Left out: none are taken.",
            ),
            key("slots", Kind::Texts, r#"["cpu"]"#, "For these slots. Left out: for all."),
            key(
                "classes",
                Kind::Texts,
                r#"["cpu"]"#,
                "For these classes of machine, such as [\"h200\"]. Left out: for all.",
            ),
        ],
    },
    Section {
        path: "provider.hours",
        repeated: true,
        about: "Hours of the day with a price of their own; of several that hold at once the first counts.",
        keys: &[
            key("from", Kind::Text, r#""22:00""#, "When they begin, in UTC."),
            key("to", Kind::Text, r#""06:00""#, "When they are over; the next day, if that is earlier."),
            key("percent", Kind::Integer, "70", "What is asked then, in per cent of the price: 1 to 1000."),
            key("slots", Kind::Texts, r#"["cpu"]"#, "For these slots. Left out: for all."),
        ],
    },
    Section {
        path: "provider.discount",
        repeated: true,
        about: "What some pay less. All that is said must hold; of several discounts the greatest counts, not their sum.",
        keys: &[
            key("percent", Kind::Integer, "10", "Off the price: 1 to 99."),
            key("at_least", Kind::Text, r#""24h""#, "For rentals of this length or more."),
            key(
                "wallets",
                Kind::Texts,
                r#"["0x000000000000000000000000000000000000f001"]"#,
                "For these renters, by their wallets.",
            ),
            key(
                "chain",
                Kind::Text,
                r#""base""#,
                "For those whose wallet holds the token below on this chain: its name above.",
            ),
            key(
                "token",
                Kind::Text,
                r#""0x000000000000000000000000000000000000a127""#,
                "A token's or an NFT's contract: a balance there is enough. Advertised with the offer.",
            ),
            key("slots", Kind::Texts, r#"["cpu"]"#, "For these slots. Left out: for all."),
        ],
    },
    Section {
        path: "provider.renters",
        repeated: false,
        about: "Whom to serve, by their wallets.",
        keys: &[
            key("allow", Kind::Texts, "[]", "Nobody but these. Empty: anybody."),
            key("deny", Kind::Texts, "[]", "Never these."),
        ],
    },
    Section {
        path: "provider.maintenance",
        repeated: true,
        about: "A time in which nothing is rented out: rentals are promised up to its beginning only.",
        keys: &[
            key("start", Kind::Text, r#""2026-12-24T18:00Z""#, "When it begins, in UTC."),
            key("lasts", Kind::Text, r#""2h""#, "How long it lasts."),
            key("weekly", Kind::Flag, "false", "Whether it comes back every week."),
        ],
    },
    Section {
        path: "renter",
        repeated: false,
        about: "What a renter looks for.",
        keys: &[
            key("classes", Kind::Texts, "[]", "Machine classes to follow, such as [\"h100\", \"cpu\"]. Empty: all."),
            key(
                "indexers",
                Kind::Integer,
                "3",
                "How many of the indexers that this node is connected to are asked for offers, at most 8. 0: none, only what is heard counts.",
            ),
            key(
                "account",
                Kind::Text,
                r#""0x0000000000000000000000000000000000000000""#,
                "A smart account that pays and is refunded, of which the wallet's signature alone is enough (ERC-1271). Left out: the wallet itself.",
            ),
            key(
                "hardware_checks",
                Kind::Flag,
                "true",
                "Whether the machines you rent for a minute or more are checked by themselves: one that does not compute as offered is left.",
            ),
            key(
                "check_minutes",
                Kind::Integer,
                "20",
                "How many minutes lie between two checks on average. They come at random times; 0: one check, at the beginning.",
            ),
        ],
    },
    Section {
        path: "renter.limits",
        repeated: false,
        about: "What no rental may exceed, whatever a command asks for.",
        keys: &[
            key(
                "max_spend_per_rental",
                Kind::Text,
                r#""5.00""#,
                "The most one rental may cost, in its token. Left out: no limit.",
            ),
            key(
                "max_hourly",
                Kind::Text,
                r#""2.50""#,
                "The dearest slot-hour that is rented, in its token. Left out: no limit.",
            ),
            key(
                "arbiters",
                Kind::Texts,
                "[]",
                "Arbiters that a quote may name, such as [\"0x…\"]: each is trusted to split what a rental locks. Empty: none.",
            ),
        ],
    },
    Section {
        path: "indexer",
        repeated: false,
        about: "An indexer keeps all offers, and answers searches.",
        keys: &[
            key(
                "http",
                Kind::Text,
                r#""127.0.0.1:4703""#,
                "Where searches are answered over HTTP; read-only, and safe to open to the world. Port 0 takes a free one, an empty text turns it off.",
            ),
            key(
                "carries_per_day",
                Kind::Integer,
                "0",
                "How many rentals a day you stop and finalize, and pay the gas for, for renters without coin whose provider has gone.",
            ),
        ],
    },
    Section {
        path: "api",
        repeated: false,
        about: "The control API that the commands use.",
        keys: &[key(
            "socket",
            Kind::Text,
            r#""/run/gpulease/api.sock""#,
            "Its Unix socket. Left out: api.sock in the data directory.",
        )],
    },
    Section {
        path: "metrics",
        repeated: false,
        about: "Metrics for Prometheus, at /metrics of an address of their own.",
        keys: &[key(
            "listen",
            Kind::Text,
            r#""127.0.0.1:4702""#,
            "Where they are served, to whoever can reach it. Port 0 takes a free one; empty turns them off.",
        )],
    },
    Section {
        path: "console",
        repeated: false,
        about: "The web console of a renter: terminals and files of its rentals, in a browser of this machine. `node console` prints a link.",
        keys: &[key(
            "listen",
            Kind::Text,
            r#""127.0.0.1:4701""#,
            "Where it is served; a loopback address only. Port 0 takes a free one; empty turns it off.",
        )],
    },
];

fn find(path: &str) -> Option<&'static Section> {
    SECTIONS.iter().find(|section| section.path == path)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Holds a configuration against the table: the first key that does not exist, or value of the wrong kind.
pub(crate) fn check(origin: &str, table: &Table) -> Result<(), ConfigError> {
    check_section(origin, "", table)
}

fn check_section(origin: &str, path: &str, table: &Table) -> Result<(), ConfigError> {
    for (name, value) in table {
        let full = join(path, name);
        if let Some(key) = key_at(path, name) {
            if !key.kind.fits(value) {
                return Err(wrong_kind(origin, full, key.kind.words(), value));
            }
            continue;
        }
        let section = find(&full).ok_or_else(|| unknown(origin, path, &full))?;
        match value {
            Value::Table(inner) if !section.repeated => check_section(origin, &full, inner)?,
            Value::Array(items) if section.repeated => {
                for item in items {
                    let words = "a section, written [[…]]";
                    let inner = item.as_table().ok_or_else(|| wrong_kind(origin, full.clone(), words, item))?;
                    check_section(origin, &full, inner)?;
                }
            }
            other => {
                let words =
                    if section.repeated { "a repeated section, written [[…]]" } else { "a section, written […]" };
                return Err(wrong_kind(origin, full, words, other));
            }
        }
    }
    Ok(())
}

fn key_at(path: &str, name: &str) -> Option<&'static Key> {
    find(path)?.keys.iter().find(|key| key.name == name)
}

fn wrong_kind(origin: &str, key: String, expected: &'static str, found: &Value) -> ConfigError {
    let found = match found {
        Value::String(_) => "a text",
        Value::Integer(_) => "an integer",
        Value::Float(_) => "a number with a point",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    };
    ConfigError::Kind { origin: origin.to_owned(), key, expected, found: found.to_owned() }
}

/// The error for a key or section that does not exist in the section `path`, with what it was probably meant to be.
fn unknown(origin: &str, path: &str, full: &str) -> ConfigError {
    let keys = find(path).into_iter().flat_map(|section| section.keys).map(|key| join(path, key.name));
    let inner = SECTIONS.iter().map(|section| section.path).filter(|inner| parent(inner) == path).map(str::to_owned);
    ConfigError::Unknown { origin: origin.to_owned(), key: full.to_owned(), nearest: nearest(full, keys.chain(inner)) }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(parent, _)| parent)
}

/// Reads the value of an environment variable for `key`, whose numbers choose among repeated sections.
pub(crate) fn value_of(origin: &str, key: &[String], text: &str) -> Result<Value, ConfigError> {
    let mut names: Vec<&str> = key.iter().map(String::as_str).filter(|part| part.parse::<usize>().is_err()).collect();
    let name = names.pop().unwrap_or_default();
    let path = names.join(".");
    let full = join(&path, name);
    let found = key_at(&path, name).ok_or_else(|| unknown(origin, &path, &full))?;
    found.kind.read(text).ok_or_else(|| ConfigError::Kind {
        origin: origin.to_owned(),
        key: full,
        expected: found.kind.words(),
        found: format!("`{text}`"),
    })
}

/// The documented configuration: every key with its meaning, those of `set` (full name and TOML value) in force, the others as comments
/// with their default or an example. Sections of `repeated` (their path and lines) are in force too.
pub(crate) fn document(set: &[(&str, String)], repeated: &[(&str, String)]) -> String {
    let mut text = String::from(
        "# The configuration of a gpulease node. Keys behind `#` show their default, or an example where there is none.\n\
         # The environment overrides this file: GPULEASE_NETWORK__NAME stands for `name` in [network].\n",
    );
    for section in SECTIONS {
        let _ = write!(text, "\n# {}\n", section.about);
        if section.repeated {
            for (_, lines) in repeated.iter().filter(|(path, _)| *path == section.path) {
                let _ = write!(text, "[[{}]]\n{lines}", section.path);
            }
            let _ = writeln!(text, "#[[{}]]", section.path);
        } else {
            let _ = writeln!(text, "[{}]", section.path);
        }
        for key in section.keys {
            let full = join(section.path, key.name);
            let _ = writeln!(text, "# {}", key.about);
            let _ = match set.iter().find(|(name, _)| *name == full) {
                Some((_, value)) => writeln!(text, "{} = {value}", key.name),
                None => writeln!(text, "#{} = {}", key.name, key.value),
            };
        }
    }
    text
}

/// A text as TOML.
pub(crate) fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    /// The documented file with every comment that is code, and that `chosen` accepts, in force.
    fn in_force(chosen: impl Fn(&str) -> bool) -> Config {
        let code = |line: &str| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).map(str::to_owned);
        let text = document(&[], &[]);
        let lines: Vec<&str> = text.lines().collect();
        let about = |at: usize| at.checked_sub(1).map_or("", |before| lines[before]);
        let line =
            |(at, line): (usize, &&str)| code(line).filter(|_| chosen(about(at))).unwrap_or_else(|| (*line).to_owned());
        let text: Vec<String> = lines.iter().enumerate().map(line).collect();
        let table: Table = text.join("\n").parse().unwrap();
        check("", &table).unwrap();
        table.try_into().unwrap()
    }

    fn shown(config: &Config) -> String {
        format!("{config:?}")
    }

    #[test]
    fn the_documented_file_changes_nothing() {
        assert_eq!(shown(&in_force(|_| false)), shown(&Config::default()));
    }

    #[test]
    fn the_defaults_it_shows_are_the_real_ones() {
        let repeated: Vec<&str> =
            SECTIONS.iter().filter(|s| s.repeated).flat_map(|s| s.keys).map(|key| key.about).collect();
        let is_default = |about: &str| {
            let about = about.trim_start_matches("# ");
            let heads_a_section = SECTIONS.iter().any(|section| section.about == about);
            !about.contains("Left out") && !heads_a_section && !repeated.contains(&about)
        };
        assert_eq!(shown(&in_force(is_default)), shown(&Config::default()));
    }

    #[test]
    fn every_example_is_valid() {
        let config = in_force(|_| true);
        assert_eq!(config.chains().unwrap()[0].tokens[0].symbol, "USDC");
        assert_eq!(config.keystore.passphrase_file, Some("/etc/gpulease/passphrase".into()));
    }

    #[test]
    fn what_is_set_is_in_force() {
        let slots = "name = \"cpu\"\ncount = 2\n".to_owned();
        let text = document(&[("network.name", quoted("devnet-00000000"))], &[("provider.slot", slots)]);
        let table: Table = text.parse().unwrap();
        assert_eq!(table["network"]["name"].as_str(), Some("devnet-00000000"));
        assert_eq!(table["provider"]["slot"][0]["count"].as_integer(), Some(2));
    }
}
