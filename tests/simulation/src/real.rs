//! The same as [`run`](crate::world::run), with real nodes and in real time: as many nodes as the parameters say, each behind a link with
//! their delay and loss, every node connected to every other. What is measured is what the model tells: from publishing to every book.

use crate::{
    provider::Provider,
    proxy::{Line, Proxy},
    report::Delays,
    world::{Loss, Micros, Parameters},
};
use anyhow::Context as _;
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use market::{class::GpuClass, time::UnixMillis};
use network::{Config, Handle, Interest, Network};
use std::{
    collections::{BTreeSet, HashMap},
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

const NETWORK: &str = "devnet-00051301";
/// Connections stand, and the last offer is everywhere, within this time.
const LIMIT: Duration = Duration::from_secs(60);

struct Real {
    network: Network,
    proxy: Proxy,
}

/// Runs real nodes and gives the delays of offers that renew earlier ones.
pub async fn run(parameters: &Parameters) -> anyhow::Result<Delays> {
    let Parameters { followers, providers, .. } = *parameters;
    let mut nodes: Vec<Real> = Vec::new();
    let mut sellers = Vec::new();
    for number in 0..followers + providers {
        let provider = Provider::numbered(number as u64, UnixMillis::now())?;
        let follows = number < followers;
        nodes.push(start(&provider, follows, parameters, &nodes, number as u64).await?);
        if !follows {
            sellers.push((provider, nodes[number].network.handle()));
        }
    }
    for node in &nodes {
        let mut peers = node.network.handle().watch_peers();
        timeout(LIMIT, peers.wait_for(|peers| peers.len() + 1 >= nodes.len())).await.context("connecting")??;
    }
    // meshes cannot be seen from outside: the model is given the same time
    tokio::time::sleep(Duration::from_micros(parameters.settling)).await;

    let mut watchers = JoinSet::new();
    let last = parameters.offers.checked_sub(1).context("at least one offer")?;
    let sold: Vec<PeerId> = sellers.iter().map(|(provider, _)| provider.peer()).collect();
    let count = parameters.offers;
    for node in &nodes[..followers] {
        watchers.spawn(watch(node.network.handle(), sold.clone(), count));
    }
    let started = Instant::now();
    let mut published = Vec::new();
    for number in 0..=last {
        let due = started + Duration::from_micros(parameters.interval * number as Micros);
        tokio::time::sleep_until(due.into()).await;
        let (provider, handle) = &sellers[number % providers];
        let at = Instant::now();
        handle.publish_ad(provider.draft()?).await?;
        let seq = handle.offers_of(&provider.peer()).context("just published")?.seq;
        published.push((provider.peer(), seq, at, number >= providers));
    }
    let mut delays = Vec::new();
    while let Some(known) = timeout(LIMIT, watchers.join_next()).await.context("the last offers")? {
        let known = known??;
        for (peer, seq, at, _) in published.iter().filter(|(.., renews)| *renews) {
            let when = known.get(&(*peer, *seq)).context("an offer that was never seen")?;
            delays.push(when.duration_since(*at).as_micros() as Micros);
        }
    }
    for node in nodes {
        node.network.shutdown().await;
    }
    Ok(Delays::new(delays))
}

async fn start(
    provider: &Provider,
    follows: bool,
    parameters: &Parameters,
    others: &[Real],
    seed: u64,
) -> anyhow::Result<Real> {
    let Loss::Resent(resent) = parameters.loss else { anyhow::bail!("a real link sends again what it lost") };
    let line = Line { delay: parameters.delay.clone(), lost: parameters.lost, resent };
    let proxy = Proxy::start(line, parameters.seed ^ seed).await?;
    let mut config = Config::new(provider.key().clone(), NETWORK);
    config.listen = vec![multiaddr(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))];
    config.external = vec![multiaddr(proxy.address)];
    let classes = if follows { BTreeSet::from([GpuClass::CPU]) } else { BTreeSet::new() };
    config.classes = Interest::Only(classes);
    config.bootstrap = others
        .iter()
        .map(|other| multiaddr(other.proxy.address).with(Protocol::P2p(other.network.handle().local_peer_id())))
        .collect();
    let network = Network::start(config, CancellationToken::new()).await?;
    let port = network.handle().listen_addrs().iter().flatten().find_map(|part| match part {
        Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    proxy.stands_before(SocketAddr::from((Ipv4Addr::LOCALHOST, port.context("a port")?)));
    Ok(Real { network, proxy })
}

fn multiaddr(address: SocketAddr) -> Multiaddr {
    Multiaddr::from(address.ip()).with(Protocol::Tcp(address.port()))
}

/// Watches one book until it has seen so many offers.
async fn watch(node: Handle, sold: Vec<PeerId>, count: usize) -> anyhow::Result<HashMap<(PeerId, u64), Instant>> {
    let mut known = HashMap::new();
    let mut changes = node.watch_offers();
    let watch = async {
        loop {
            for peer in &sold {
                if let Some(ad) = node.offers_of(peer) {
                    known.entry((*peer, ad.seq)).or_insert_with(Instant::now);
                }
            }
            if known.len() >= count {
                return Ok(());
            }
            changes.changed().await?;
        }
    };
    let result: anyhow::Result<()> = timeout(LIMIT * 3, watch).await.context("not every offer was seen")?;
    result.map(|()| known)
}
