//! What lies beyond this machine, and the ways there: chains with their clocks and gas, the ports that others come in by, and peers.

use super::{Finding, Patient, payout};
use crate::{commands::chain_error, failure::with_causes, secrets};
use alloy_primitives::{Address, U256};
use api::types::Role;
use market::{
    money::{Amount, format_units},
    time::UnixMillis,
};
use settlement::{Chain, ChainConfig, EndpointHealth, EndpointState, GAS_TO_CLOSE, Head, SettlementError, Way};
use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

/// How long a bootstrap peer may take to be reached: one that takes longer is no good start for anybody.
const REACH_LIMIT: Duration = Duration::from_secs(5);
/// How far the newest block's time may lie ahead of this clock: makers of blocks may be ahead by a few seconds themselves.
const MAX_AHEAD_SECONDS: u64 = 15;
/// How far it may lie behind, where blocks come faster than six times in it: some chains leave out a few.
const MAX_BEHIND_SECONDS: u64 = 60;

/// Each configured chain.
pub(super) async fn chains(patient: &Patient<'_>) -> Vec<Finding> {
    let configured = match patient.config.chains() {
        Ok(chains) => chains,
        Err(error) => return vec![Finding::ok("chain", with_causes(&error), "a chain").problem("correct config.toml")],
    };
    if configured.is_empty() {
        let finding = Finding::ok("chain", "none is configured", "a chain, for providers and renters");
        let remedy = format!("add a [[chain]] section to {}", patient.context.dir.config().display());
        return vec![match &patient.daemon {
            _ if patient.only_indexes() => finding,
            Some(_) => finding.problem(remedy),
            None => finding.warning(remedy),
        }];
    }
    let wallet = wallet(patient).await;
    let mut findings = Vec::new();
    for config in configured {
        findings.extend(chain(patient, config, &wallet).await);
    }
    findings
}

/// The account that pays for gas; or why it is not known, and what to do about it.
async fn wallet(patient: &Patient<'_>) -> Result<Address, (String, String)> {
    let section = &patient.config.keystore;
    // nobody is asked for a passphrase by a check
    if section.passphrase_file.is_some() || std::env::var_os("CREDENTIALS_DIRECTORY").is_some() {
        let passphrase = secrets::passphrase(section, false).map_err(api::types::ApiError::from);
        let opened = match passphrase {
            Ok(passphrase) => secrets::open_key(&patient.context.dir, &section.wallet, &passphrase).await,
            Err(error) => Err(error),
        };
        return opened.map(|wallet| wallet.address()).map_err(|error| (error.message, error.next));
    }
    if let Some((daemon, _)) = &patient.daemon
        && let Ok(wallets) = daemon.wallets().await
        && let Some(wallet) = wallets.iter().find(|wallet| wallet.name == section.wallet)
    {
        return Ok(wallet.address);
    }
    let remedy = "start the daemon, or name a passphrase_file in [keystore], and look again";
    Err(("not weighed: the wallet is locked".to_owned(), remedy.to_owned()))
}

async fn chain(patient: &Patient<'_>, config: ChainConfig, wallet: &Result<Address, (String, String)>) -> Vec<Finding> {
    let id = format!("chain.{}", config.name);
    let needed = format!("an endpoint that serves chain {}", config.chain_id);
    let (code_id, code) = (format!("{id}.code"), config.escrow_code_hash);
    let code_needed = format!("code with hash {code} at {}", config.escrow);
    let began = Instant::now();
    let chain = match Chain::connect(config.clone()).await {
        Ok(chain) => chain,
        Err(SettlementError::WrongCode { found, .. }) => {
            let remedy = "nothing was sent there; correct `escrow` in [[chain]], or deploy the escrow";
            return vec![
                Finding::ok(id, format!("serves chain {}", config.chain_id), needed),
                Finding::ok(code_id, format!("hash {found}"), code_needed).problem(remedy),
            ];
        }
        Err(error) => {
            let remedy = chain_error(error);
            return vec![Finding::ok(id, remedy.message, needed).problem(remedy.next)];
        }
    };
    let took = began.elapsed();
    let mut findings = vec![
        Finding::ok(&id, format!("serves chain {}, answers in {} ms", config.chain_id, took.as_millis()), needed),
        Finding::ok(code_id, format!("hash {code}"), code_needed),
    ];
    findings.extend(endpoints(&id, &config, &chain));
    match chain.head().await {
        Ok(head) => findings.push(clock(&id, &config, head, UnixMillis::now())),
        Err(error) => findings.push(Finding::ok(&id, with_causes(&error), "the newest block").problem("look again")),
    }
    if !patient.only_indexes() {
        findings.push(gas(patient, &chain, &format!("{id}.gas"), wallet).await);
    }
    if patient.provides() {
        findings.push(payout::look(patient.config.provider.payout, &chain, format!("{id}.payout"), wallet).await);
    }
    findings
}

/// Each endpoint; and whether there are enough, where money is worth something.
fn endpoints(id: &str, config: &ChainConfig, chain: &Chain) -> Vec<Finding> {
    let endpoints = chain.health().endpoints;
    let alone = endpoints.len() == 1;
    let rows = endpoints.iter().enumerate().map(|(number, endpoint)| {
        let finding = self::endpoint(format!("{id}.rpc.{}", number + 1), config, endpoint);
        match alone && !config.devnet && finding.remedy.is_empty() {
            true => finding.warning("it is believed alone: name two more in `rpc`, of other operators"),
            false => finding,
        }
    });
    rows.collect()
}

fn endpoint(id: String, config: &ChainConfig, endpoint: &EndpointHealth) -> Finding {
    let name = &endpoint.endpoint;
    let needed = format!("an endpoint of chain {} that keeps up", config.chain_id);
    let finding = |found: String| Finding::ok(id, found, needed);
    match endpoint.state {
        EndpointState::Good => {
            let took = endpoint.latency.unwrap_or_default().as_millis();
            let head = endpoint.head.map_or_else(|| "no block".to_owned(), |head| format!("block {head}"));
            finding(format!("{name} has {head}, answers in {took} ms"))
        }
        EndpointState::Resting => finding(format!("{name} does not answer"))
            .warning("check that it is up and reachable, or name another in `rpc`"),
        EndpointState::Lagging { blocks } => {
            finding(format!("{name} is {blocks} blocks behind others")).warning("name another in `rpc`")
        }
        EndpointState::OtherChain { found } => {
            finding(format!("{name} serves chain {found}")).problem("take it out of `rpc`: it is not used")
        }
    }
}

/// This machine's clock against the chain's: what is signed here names times that the chain judges.
fn clock(id: &str, config: &ChainConfig, head: Head, now: UnixMillis) -> Finding {
    let (block, here) = (head.timestamp, now.seconds());
    let behind = MAX_BEHIND_SECONDS.max(config.block_time().as_secs() * 6);
    let found = match block.checked_sub(here) {
        None | Some(0) => format!("block {} is {} s old", head.number, here.saturating_sub(block)),
        Some(ahead) => format!("block {} is {ahead} s ahead of this clock", head.number),
    };
    let good = here.saturating_sub(block) <= behind && block.saturating_sub(here) <= MAX_AHEAD_SECONDS;
    let needed = format!("at most {behind} s old, at most {MAX_AHEAD_SECONDS} s ahead");
    let finding = Finding::ok(format!("{id}.clock"), found, needed);
    let remedy = "set this machine's clock (timedatectl), or use an endpoint that keeps up with its chain";
    match (good, config.devnet) {
        (true, _) => finding,
        // a development chain makes blocks when it likes
        (false, true) => finding.warning(remedy),
        (false, false) => finding.problem(remedy),
    }
}

async fn gas(patient: &Patient<'_>, chain: &Chain, id: &str, wallet: &Result<Address, (String, String)>) -> Finding {
    // a provider closes; everybody else opens, and approves the token before
    let (units, what) = match patient.provides() && !patient.plays(Role::Renter) {
        true => (GAS_TO_CLOSE, "a closing"),
        false => (Way::Approval.gas(), "an opening"),
    };
    let fees = match chain.fees().await {
        Ok(fees) => fees.cost(units),
        Err(error) => return Finding::ok(id, with_causes(&error), "the price of gas").problem("look again"),
    };
    let coin = chain.token(Address::ZERO);
    let needed = format!("at least {} {} for {what}", shown(fees, coin.decimals), coin.symbol);
    let address = match wallet {
        Ok(address) => *address,
        Err((found, remedy)) => return Finding::ok(id, found, needed).warning(remedy),
    };
    match chain.coin_balance(address).await {
        Ok(have) => {
            let found = format!("{} {} at {address}", shown(have, coin.decimals), coin.symbol);
            let finding = Finding::ok(id, found, needed);
            let remedy = format!("send some {} to {address}", coin.symbol);
            match have >= fees {
                true => finding,
                false if patient.provides() => finding.problem(remedy),
                // whoever only rents can let the provider open and close, with a token that takes signatures
                false => finding.warning(format!("{remedy}, or pay in a token that takes signatures (ERC-3009)")),
            }
        }
        Err(error) => Finding::ok(id, with_causes(&error), needed).problem("look again"),
    }
}

fn shown(base_units: U256, decimals: u8) -> String {
    let most = || format!("more than {}", format_units(Amount::MAX, decimals));
    u128::try_from(base_units).ok().and_then(Amount::new).map_or_else(most, |amount| format_units(amount, decimals))
}

/// A place on the network, as far as this program tries it.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    host: String,
    udp: bool,
    port: u16,
}

impl Place {
    /// The host and port at the beginning of a multiaddress.
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix('/')?.split('/');
        let (kind, host) = (parts.next()?, parts.next()?);
        let (transport, port) = (parts.next()?, parts.next()?.parse().ok()?);
        let known = matches!(kind, "ip4" | "ip6" | "dns" | "dns4" | "dns6");
        let udp = match transport {
            "udp" => true,
            "tcp" => false,
            _ => return None,
        };
        known.then(|| Self { host: host.to_owned(), udp, port })
    }

    fn name(&self) -> String {
        format!("{}/{}", if self.udp { "udp" } else { "tcp" }, self.port)
    }
}

/// The ports that others come in by: free, or held by our own daemon.
pub(super) fn listening(patient: &Patient<'_>) -> Vec<Finding> {
    let held = patient.daemon.as_ref().map(|(_, info)| &info.addresses[..]);
    let mut findings: Vec<_> = patient.config.network.listen.iter().map(|address| listens(address, held)).collect();
    let served = patient.daemon.as_ref().map(|(_, info)| info.metrics.is_some());
    findings.push(metrics(patient.config.metrics.address().map_err(|error| error.to_string()), served));
    findings
}

/// The port of the metrics: free, or held by our own daemon; `served` says whether there is one that does.
fn metrics(address: Result<Option<SocketAddr>, String>, served: Option<bool>) -> Finding {
    let id = "listen.metrics";
    let address = match address {
        Ok(Some(address)) => address,
        Ok(None) => return Finding::ok(id, "turned off", "nothing"),
        Err(error) => return Finding::ok(id, error, "an address").problem("correct [metrics] in config.toml"),
    };
    let needed = format!("{address}, free or held by our own daemon");
    match served {
        Some(true) => return Finding::ok(id, "held by our own daemon", needed),
        Some(false) => {
            let finding = Finding::ok(id, "not served, though the daemon runs", needed);
            return finding.warning("the configuration has changed: restart the daemon");
        }
        None => {}
    }
    match TcpListener::bind(address) {
        Ok(_) => Finding::ok(id, "free", needed),
        Err(error) => Finding::ok(id, error.to_string(), needed)
            .problem("end the program that has it, or set another `listen` in [metrics], or an empty one for none"),
    }
}

fn listens(address: &str, held: Option<&[String]>) -> Finding {
    let needed = format!("{address}, free or held by our own daemon");
    let Some(place) = Place::read(address) else {
        return Finding::ok("listen", "not a multiaddress of TCP or UDP", needed).problem("correct network.listen");
    };
    let id = format!("listen.{}", place.name());
    let Ok(ip) = place.host.parse::<IpAddr>() else {
        return Finding::ok(id, "not an address of this machine", needed).problem("correct network.listen");
    };
    if place.port == 0 {
        return Finding::ok(id, "any free port is taken", needed);
    }
    let ours = |addresses: &[String]| {
        addresses.iter().filter_map(|address| Place::read(address)).any(|p| (p.udp, p.port) == (place.udp, place.port))
    };
    if held.is_some_and(ours) {
        return Finding::ok(id, "held by our own daemon", needed);
    }
    let bound = match place.udp {
        true => UdpSocket::bind((ip, place.port)).map(drop),
        false => TcpListener::bind((ip, place.port)).map(drop),
    };
    match bound {
        Ok(()) if held.is_none() => Finding::ok(id, "free", needed),
        Ok(()) => Finding::ok(id, "free, though the daemon runs", needed)
            .problem("the configuration has changed, or listening failed: see the daemon's log, and restart it"),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let next =
                format!("end the program that has it (ss -lntup 'sport = :{}'), or change network.listen", place.port);
            Finding::ok(id, "held by another program", needed).problem(next)
        }
        Err(error) => Finding::ok(id, error.to_string(), needed).problem("change network.listen"),
    }
}

/// Connections that there are, and the way to the first of them.
pub(super) async fn peers(patient: &Patient<'_>) -> Vec<Finding> {
    let bootstrap = &patient.config.network.bootstrap;
    let mut findings = Vec::new();
    if let Some((_, info)) = &patient.daemon {
        let finding = Finding::ok("peers", format!("{} connected", info.peers), "at least one");
        findings.push(match (info.peers, bootstrap.is_empty()) {
            (0, true) => finding.warning("name some in network.bootstrap, or wait for others to come"),
            (0, false) => finding.problem("see the rows about bootstrap, and the daemon's log"),
            _ => finding,
        });
    }
    if bootstrap.is_empty() {
        let finding = Finding::ok("bootstrap", "none is configured", "a peer to begin with");
        findings.push(finding.warning("name one in network.bootstrap, unless others come to this node"));
    }
    let reached = futures::future::join_all(bootstrap.iter().map(|address| reach(address))).await;
    // one way in is enough: the others are worth knowing
    let any = reached.iter().any(Result::is_ok);
    for (number, (address, reached)) in bootstrap.iter().zip(reached).enumerate() {
        let (id, needed) =
            (format!("bootstrap.{}", number + 1), format!("{address}, within {} s", REACH_LIMIT.as_secs()));
        let remedy = "check the address and the firewall, or name another in network.bootstrap";
        findings.push(match reached {
            Ok(found) => Finding::ok(id, found, needed),
            Err(found) if any => Finding::ok(id, found, needed).warning(remedy),
            Err(found) => Finding::ok(id, found, needed).problem(remedy),
        });
    }
    findings
}

/// How long it takes to reach a peer, or why it cannot be reached.
async fn reach(address: &str) -> Result<String, String> {
    let place = Place::read(address).ok_or_else(|| "not a multiaddress of TCP or UDP".to_owned())?;
    if place.udp {
        // a datagram that nobody answers proves nothing
        return Ok("over UDP: not tried".to_owned());
    }
    let began = Instant::now();
    match tokio::time::timeout(REACH_LIMIT, TcpStream::connect((place.host.as_str(), place.port))).await {
        Ok(Ok(_)) => Ok(format!("reached in {} ms", began.elapsed().as_millis())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::State;
    use alloy_primitives::B256;

    #[test]
    fn each_endpoint_is_told_with_what_to_do_about_it() {
        let text = r#"{"name":"x","chain_id":1,"rpc":[]}"#;
        let config: ChainConfig = serde_json::from_str(text).unwrap();
        let states = [
            (EndpointState::Good, State::Ok),
            (EndpointState::Resting, State::Warning),
            (EndpointState::Lagging { blocks: 70 }, State::Warning),
            (EndpointState::OtherChain { found: 5 }, State::Problem),
        ];
        for (state, wanted) in states {
            let endpoint = "https://rpc.example.org".to_owned();
            let health = EndpointHealth { endpoint, state, head: Some(7), latency: None, answers: 1, failures: 0 };
            let finding = super::endpoint("chain.x.rpc.1".to_owned(), &config, &health);
            assert_eq!(finding.state, wanted, "{finding:?}");
            assert!(finding.found.contains("rpc.example.org"), "{finding:?}");
        }
    }

    #[test]
    fn the_clock_is_held_against_the_newest_block() {
        let config = |devnet: bool, block_time: u64| -> ChainConfig {
            let text = format!(
                r#"{{"name":"x","chain_id":1,"rpc":[],"devnet":{devnet},"block_time_ms":{}}}"#,
                block_time * 1_000
            );
            serde_json::from_str(&text).unwrap()
        };
        let state = |config: &ChainConfig, block: u64| {
            clock("chain.x", config, Head { number: 7, hash: B256::ZERO, timestamp: block }, UnixMillis(1_000_000))
                .state
        };
        let fast = config(false, 2);
        assert_eq!([1_000, 940, 1_015].map(|block| state(&fast, block)), [State::Ok; 3]);
        assert_eq!([939, 1_016].map(|block| state(&fast, block)), [State::Problem; 2]);
        assert_eq!([928, 927].map(|block| state(&config(false, 12), block)), [State::Ok, State::Problem]);
        assert_eq!(state(&config(true, 2), 5_000), State::Warning, "a development chain may be anywhere");
    }

    #[test]
    fn a_port_is_free_or_ours_or_somebody_elses() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = other.local_addr().unwrap().port();
        let address = format!("/ip4/127.0.0.1/tcp/{port}");
        let taken = listens(&address, None);
        assert_eq!((taken.state, taken.found.as_str()), (State::Problem, "held by another program"));
        assert_eq!(taken.id, format!("listen.tcp/{port}"));
        let ours = [format!("/ip4/127.0.0.1/tcp/{port}/p2p/12D3KooW")];
        assert_eq!(listens(&address, Some(&ours)).state, State::Ok);
        assert_eq!(listens(&address, Some(&[ours[0].replace("tcp", "udp")])).state, State::Problem);
        drop(other);
        assert_eq!(listens(&address, None).state, State::Ok);
        assert_eq!(listens(&address, Some(&[])).state, State::Problem, "the daemon should have it");
        assert_eq!(listens("/ip4/0.0.0.0/udp/0/quic-v1", None).state, State::Ok);
        assert_eq!(listens("nonsense", None).state, State::Problem);
    }

    #[test]
    fn the_port_of_the_metrics_is_free_or_ours_or_off() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = Ok(Some(other.local_addr().unwrap()));
        assert_eq!(metrics(address.clone(), None).state, State::Problem);
        assert_eq!(metrics(address.clone(), Some(true)).state, State::Ok);
        assert_eq!(metrics(address.clone(), Some(false)).state, State::Warning);
        assert_eq!(metrics(Ok(None), None).found, "turned off");
        assert_eq!(metrics(Err("nonsense".to_owned()), None).state, State::Problem);
        drop(other);
        assert_eq!(metrics(address, None).state, State::Ok);
    }

    #[test]
    fn addresses_are_read_as_far_as_they_are_tried() {
        let place = |host: &str, udp, port| Some(Place { host: host.to_owned(), udp, port });
        assert_eq!(Place::read("/ip6/::1/tcp/4700"), place("::1", false, 4_700));
        assert_eq!(Place::read("/dns4/x.example/udp/4700/quic-v1/p2p/12D3"), place("x.example", true, 4_700));
        for text in ["", "/", "/ip4/127.0.0.1", "/unix/x/tcp/1", "/ip4/1.2.3.4/sctp/5", "/ip4/1.2.3.4/tcp/70000"] {
            assert_eq!(Place::read(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn the_time_to_a_bootstrap_peer_is_measured_and_a_dead_one_is_told() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let address = format!("/ip4/127.0.0.1/tcp/{port}/p2p/12D3KooW");
        assert!(reach(&address).await.unwrap().starts_with("reached in "));
        drop(listener);
        assert!(reach(&address).await.is_err());
        assert!(reach("/ip4/127.0.0.1/udp/1/quic-v1").await.unwrap().contains("not tried"));
    }

    #[test]
    fn a_balance_beyond_what_an_escrow_holds_is_still_shown() {
        assert_eq!(shown(U256::from(1_500_000_000_000_000_000u64), 18), "1.5");
        assert!(shown(U256::MAX, 18).starts_with("more than "));
    }
}
