//! Eight nodes, all connected to each other, hear a thousand announcements a second: `cargo bench -p bench --bench gossip`. Prints how many
//! arrive and how late, beside eight bare gossipsub peers that verify nothing, and then how long fifty new advertisements a second take to
//! be in every book. Fails when a bar is missed.
//!
//! Announcements come in through a peer of its own beside each node, evenly. Every node verifies each one before it passes it on, looks at
//! its book, and keeps the rules about floods and old news; while announcements are measured the books already hold something newer, so
//! that nothing is fetched. All of it runs in one process, over TCP on the loopback interface.

mod arrivals;

use ::bench as _; // the allocator
use anyhow::{Context as _, bail};
use arrivals::{Arrivals, Listener, Outcome, Saying};
use futures::future::try_join_all;
use libp2p::{Multiaddr, gossipsub::IdentTopic, identity::Keypair, multiaddr::Protocol};
use market::{class::GpuClass, time::UnixMillis};
use network::{Config, Network};
use simulation::{
    bare::{self, Bare, Letter},
    provider::{Provider, Published},
};
use std::{fs, process::ExitCode, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

/// Nodes.
const NODES: usize = 8;
/// Announcements a second: three times what the design expects of a hundred thousand providers.
const RATE: usize = 1_000;
/// How long they are measured.
const SECONDS: usize = 15;
/// Providers that announce in turn: each comes up again after 600 ms, and half a second is the least that nodes pass on.
const PROVIDERS: usize = 600;
/// Advertisements a second that are new and fetched.
const PULLS: usize = 50;
/// How long those are measured.
const PULL_SECONDS: usize = 10;
/// Classes among which the announcements are spread.
const CLASSES: usize = 8;
/// Nodes that have just met read each other's lists, and once more after three seconds. What they do then is not what is measured.
const SETTLING: Duration = Duration::from_secs(6);
/// How far ahead the books are of what is announced: less than clocks may differ, more than the measurement takes.
const AHEAD: u64 = 29_000;
/// What arrives later than this is lost.
const LIMIT: Duration = Duration::from_secs(20);
const NETWORK: &str = "devnet-00000b9c";

/// The least share that must arrive.
const DELIVERY_BAR: f64 = 0.999;
/// The longest that all but one in a hundred may take.
const DELAY_BAR: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(bench())) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the bench could not be run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn bench() -> anyhow::Result<bool> {
    let listener = Listener::default();
    listener.install()?;
    let now = UnixMillis::now();
    let providers = (0..PROVIDERS + PULLS * PULL_SECONDS)
        .map(|number| Provider::numbered(number as u64, now))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let (announcing, new) = providers.split_at(PROVIDERS);

    let bare = gossipsub(&listener, announcing).await.context("bare gossipsub")?;
    let network = Ours::start(&listener).await.context("our nodes")?;
    let ours = network.announcements(&listener, announcing).await.context("our nodes")?;
    let pulls = network.pulls(&listener, new).await.context("our nodes")?;

    let ratio = |ours: Duration, peer: Duration| ours.as_secs_f64() / peer.as_secs_f64();
    println!("{NODES} nodes, {RATE} announcements a second for {SECONDS} s");
    println!("  bare gossipsub: {}; {}", bare.0, bare.1);
    println!("  our nodes:      {}; {}", ours.0, ours.1);
    println!(
        "  ours against bare: p50 {:.1}, p99 {:.1}, processor {:.1}",
        ratio(ours.0.p50, bare.0.p50),
        ratio(ours.0.p99, bare.0.p99),
        ours.1.0 / bare.1.0
    );
    println!("{PULLS} new advertisements a second for {PULL_SECONDS} s, from announcement to book");
    println!("  our nodes:      {}; {}", pulls.0, pulls.1);
    let holds = ours.0.holds() & pulls.0.holds();
    println!(
        "bars: delivery at least {:.1} %, p99 at most {DELAY_BAR:?}: {}",
        DELIVERY_BAR * 100.0,
        if holds { "held" } else { "MISSED" }
    );
    Ok(holds)
}

impl Outcome {
    fn holds(&self) -> bool {
        self.delivery >= DELIVERY_BAR && self.p99 <= DELAY_BAR
    }
}

/// Processor time per second, as a share of one core.
#[derive(Clone, Copy, Debug)]
struct Load(f64);

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} cores", self.0)
    }
}

/// The processor time of this process so far, in seconds.
fn processor_time() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    // the second field may hold anything, but its parenthesis is the last
    let fields: Vec<&str> = stat.rsplit_once(')').context("/proc/self/stat")?.1.split_whitespace().collect();
    let ticks: f64 = [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<f64>()).sum::<Result<f64, _>>()?;
    Ok(ticks / 100.0)
}

fn topic(class: GpuClass) -> IdentTopic {
    IdentTopic::new(format!("/gpulease/1/{NETWORK}/ads/{class}"))
}

fn class(number: usize) -> GpuClass {
    GpuClass::all().nth(number % CLASSES).unwrap_or(GpuClass::CPU)
}

fn letter(published: &Published, class: GpuClass) -> Letter {
    Letter { seq: published.seq, topic: topic(class), data: Arc::clone(&published.announcement) }
}

/// Announcements numbered from `first`, from the providers in turn.
fn announcements(providers: &[Provider], first: u64, count: usize) -> anyhow::Result<Vec<Letter>> {
    let announce = |number: usize| {
        let class = class(number);
        Ok(letter(&providers[number % providers.len()].publish(first + number as u64, class)?, class))
    };
    (0..count).map(announce).collect()
}

/// Sends them through the feeders in turn, `rate` a second, and waits until they have arrived or are late.
async fn send(
    feeders: &[Bare],
    letters: Vec<Letter>,
    rate: usize,
    arrivals: &Arrivals,
) -> anyhow::Result<(Outcome, Load)> {
    let (started, before) = (tokio::time::Instant::now(), processor_time()?);
    for (number, letter) in letters.into_iter().enumerate() {
        tokio::time::sleep_until(started + Duration::from_secs_f64(number as f64 / rate as f64)).await;
        feeders[number % feeders.len()].letters.send(letter).await?;
    }
    let load = (processor_time()? - before) / started.elapsed().as_secs_f64();
    complete(arrivals, LIMIT).await;
    Ok((arrivals.outcome(), Load(load)))
}

/// Whether everything arrived within `limit`.
async fn complete(arrivals: &Arrivals, limit: Duration) -> bool {
    let wait = async {
        while !arrivals.is_complete() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(limit, wait).await.is_ok()
}

/// The mesh stands when a few announcements in a row all arrive.
async fn warm_up(listener: &Listener, feeders: &[Bare], mut letters: Vec<Letter>) -> anyhow::Result<()> {
    while letters.len() >= RATE / 2 {
        let some: Vec<Letter> = letters.drain(..RATE / 2).collect();
        let arrivals = Arrivals::new(some[0].seq, some.len(), NODES as u8);
        listener.listen(Saying::Announced, &arrivals);
        for (number, letter) in some.into_iter().enumerate() {
            feeders[number % feeders.len()].letters.send(letter).await?;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if complete(&arrivals, Duration::from_secs(1)).await {
            return Ok(());
        }
    }
    bail!("announcements do not arrive everywhere")
}

/// A feeder beside each of these.
async fn feeders(listener: &Listener, nodes: &[Multiaddr]) -> anyhow::Result<Vec<Bare>> {
    let mut feeders = Vec::new();
    for node in nodes {
        feeders.push(bare::start(vec![node.clone()], &[], Arc::new(listener.clone())).await?);
    }
    for feeder in &mut feeders {
        tokio::time::timeout(LIMIT, feeder.followers.wait_for(|followers| *followers > 0)).await??;
    }
    Ok(feeders)
}

/// Warm-up and measurement: announcements whose numbers are the milliseconds from now on, as if each were made when it is sent.
async fn measure_announcements(
    listener: &Listener,
    feeders: &[Bare],
    providers: &[Provider],
    first: u64,
) -> anyhow::Result<(Outcome, Load)> {
    let warm = 3 * RATE;
    let mut letters = announcements(providers, first, warm + RATE * SECONDS)?;
    let measured = letters.split_off(warm);
    warm_up(listener, feeders, letters).await?;
    let arrivals = Arrivals::new(first + warm as u64, measured.len(), NODES as u8);
    listener.listen(Saying::Announced, &arrivals);
    send(feeders, measured, RATE, &arrivals).await
}

/// The same through gossipsub alone.
async fn gossipsub(listener: &Listener, providers: &[Provider]) -> anyhow::Result<(Outcome, Load)> {
    let topics: Vec<IdentTopic> = GpuClass::all().map(topic).collect();
    let mut relays: Vec<Bare> = Vec::new();
    for _ in 0..NODES {
        let others: Vec<Multiaddr> = relays.iter().map(|relay| relay.address.clone()).collect();
        relays.push(bare::start(others, &topics, Arc::new(listener.clone())).await?);
    }
    for relay in &mut relays {
        tokio::time::timeout(LIMIT, relay.followers.wait_for(|followers| *followers >= NODES - 1)).await??;
    }
    let addresses: Vec<Multiaddr> = relays.iter().map(|relay| relay.address.clone()).collect();
    let feeders = feeders(listener, &addresses).await?;
    measure_announcements(listener, &feeders, providers, UnixMillis::now().0).await
}

/// Our nodes, all connected to each other, each with its feeder.
struct Ours {
    nodes: Vec<Network>,
    feeders: Vec<Bare>,
}

impl Ours {
    async fn start(listener: &Listener) -> anyhow::Result<Self> {
        let mut nodes: Vec<Network> = Vec::new();
        for _ in 0..NODES {
            let mut config = Config::new(Keypair::generate_ed25519(), NETWORK);
            config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse()?];
            config.bootstrap = nodes.iter().map(address).collect();
            nodes.push(Network::start(config, CancellationToken::new()).await?);
        }
        for node in &nodes {
            let mut peers = node.handle().watch_peers();
            tokio::time::timeout(LIMIT, peers.wait_for(|peers| peers.len() >= NODES - 1)).await??;
        }
        let addresses: Vec<Multiaddr> = nodes.iter().map(address).collect();
        let feeders = feeders(listener, &addresses).await?;
        Ok(Self { nodes, feeders })
    }

    async fn announcements(&self, listener: &Listener, providers: &[Provider]) -> anyhow::Result<(Outcome, Load)> {
        let now = UnixMillis::now().0;
        let held = (providers.iter().enumerate())
            .map(|(number, provider)| Ok(provider.publish(now + AHEAD, class(number))?.envelope.to_vec()))
            .collect::<anyhow::Result<Vec<_>>>()?;
        try_join_all(self.nodes.iter().map(|node| {
            let (handle, held) = (node.handle(), held.clone());
            async move {
                anyhow::ensure!(handle.load_ads(held).await? == PROVIDERS, "the books are not filled");
                Ok(())
            }
        }))
        .await?;
        tokio::time::sleep(SETTLING).await;
        measure_announcements(listener, &self.feeders, providers, now).await
    }

    /// Each advertisement lies in the book of the node that announces it, and is fetched from there by the others.
    async fn pulls(&self, listener: &Listener, providers: &[Provider]) -> anyhow::Result<(Outcome, Load)> {
        let first = UnixMillis::now().0;
        let mut letters = Vec::new();
        for (number, provider) in providers.iter().enumerate() {
            let class = class(number);
            let published = provider.publish(first + number as u64, class)?;
            self.nodes[number % NODES].handle().load_ads(vec![published.envelope.to_vec()]).await?;
            letters.push(letter(&published, class));
        }
        let arrivals = Arrivals::new(first, letters.len(), NODES as u8 - 1);
        listener.listen(Saying::Taken, &arrivals);
        send(&self.feeders, letters, PULLS, &arrivals).await
    }
}

fn address(node: &Network) -> Multiaddr {
    let handle = node.handle();
    handle.listen_addrs().remove(0).with(Protocol::P2p(handle.local_peer_id()))
}
