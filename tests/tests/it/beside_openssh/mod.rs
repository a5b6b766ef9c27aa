//! What a renter feels, beside OpenSSH on the same machine in the same run: how soon a key comes back, how long files take, near and far.
//! Recorded in `docs/performance.md`; takes a quarter of an hour and means something in a release build only, so that it runs when asked
//! for: `cargo test --release -p tests --test it -- --ignored --nocapture --test-threads=1 beside_openssh`.
//!
//! OpenSSH gets the shorter way: its server writes to this machine's own disk, with no sandbox, no encryption at rest and no third
//! program between. All take turns, so that whatever else the machine does meets all alike.

mod copies;
mod keys;
mod server;

use anyhow::{Context, Result, ensure};
use api::types::RentalRow;
use devnet::{Devnet, Node, NodeSpec, Signal, SlotSpec};
use server::Server;
use simulation::proxy::{Line, Proxy};
use std::{
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};
use tests::{client::Client, eventually, offers_arrive, phase};
use toml::{Table, Value};

/// How long the rental's job only waits, in seconds.
const JOB: u32 = 7_200;
/// One way, when the provider is far: half of 100 ms.
const FAR_MICROS: u64 = 50_000;

/// Where OpenSSH and the rental are reached, by the same client programs.
struct Places {
    devnet: Devnet,
    server: Server,
    id: String,
    /// The client's configuration, with the hosts [`PEER`], [`FAR_PEER`] and [`RENTAL`].
    config: PathBuf,
    _job: Client,
    _far: Proxy,
}

/// The host that is OpenSSH's server on this machine.
const PEER: &str = "peer";
/// The same over a long way.
const FAR_PEER: &str = "far-peer";
/// The host that is the rental.
const RENTAL: &str = "rental";

impl Places {
    async fn make() -> Result<Self> {
        let slot = SlotSpec { cpu_millis: 2_000, memory_mib: 3_072, disk_mib: 6_144, ..SlotSpec::default() };
        let provider = NodeSpec::provider("provider-1").slots([slot]).increment_millis(10_000);
        let devnet = Devnet::builder().node(provider).renters(1).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let job =
            Client::start(renter, ["run", "--for", "2h", "--", "sh", "-c", &format!("echo started; sleep {JOB}")])?;
        eventually("the job's start", async || Ok(job.printed().contains("started").then_some(()))).await?;
        let rental: RentalRow = phase(renter, "serving").await?;
        let id = rental.id.to_string();

        let server = Server::start()?;
        let far = proxy(format!("127.0.0.1:{}", server.port).parse()?).await?;
        let entry = renter.call(["ssh-config", &id, "--name", RENTAL]).await?.stdout;
        let config = server.folder().join("config");
        let hosts = [server.entry(PEER, server.port), server.entry(FAR_PEER, far.address.port()), entry];
        fs::write(&config, hosts.join("\n") + "    BatchMode yes\n")?;
        Ok(Self { devnet, server, id, config, _job: job, _far: far })
    }

    fn renter(&self) -> Result<&Node> {
        self.devnet.node("renter-1")
    }

    /// A client of OpenSSH's with the configuration.
    fn client(&self, program: &str) -> std::process::Command {
        let mut command = std::process::Command::new(program);
        command.arg("-F").arg(&self.config);
        command
    }

    /// Puts a long way between the renter's node and the provider's: the renter knows the provider by the other end of it alone.
    async fn move_apart(&self) -> Result<Proxy> {
        let (renter, provider) = (self.renter()?, self.devnet.node("provider-1")?);
        let near = provider.address();
        let port = near.split('/').nth(4).context("an address without a port")?;
        let way = proxy(format!("127.0.0.1:{port}").parse()?).await?;
        let far = near.replace(&format!("/tcp/{port}/"), &format!("/tcp/{}/", way.address.port()));
        let file = renter.data_dir.join("config.toml");
        let mut config: Table = toml::from_str(&fs::read_to_string(&file)?)?;
        let network = config.get_mut("network").and_then(Value::as_table_mut).context("no [network]")?;
        network.insert("listen".into(), Value::Array(Vec::new()));
        network.insert("bootstrap".into(), Value::Array(vec![far.into()]));
        self.devnet.signal(&renter.name, Signal::KILL)?;
        self.devnet.ended(&renter.name).await?;
        fs::write(file, toml::to_string(&config)?)?;
        self.devnet.restart(&renter.name).await?;
        eventually("the rental, over the long way", async || {
            Ok((renter.call(["exec", &self.id, "--", "true"]).await?.code == 0).then_some(()))
        })
        .await?;
        Ok(way)
    }
}

async fn proxy(to: std::net::SocketAddr) -> Result<Proxy> {
    let proxy = Proxy::start(Line { delay: FAR_MICROS..=FAR_MICROS, lost: 0.0, resent: 0 }, 1).await?;
    proxy.stands_before(to);
    Ok(proxy)
}

/// One comparison, as the table shows it.
struct Row {
    what: String,
    ours: String,
    peer: String,
    found: f64,
    bar: Bar,
}

enum Bar {
    /// The peer's time over ours.
    AtLeast(f64),
    /// Milliseconds more than the peer's, or our time over the peer's.
    AtMost(f64),
}

impl Row {
    fn holds(&self) -> bool {
        match self.bar {
            Bar::AtLeast(bar) => self.found >= bar,
            Bar::AtMost(bar) => self.found <= bar,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bar = match self.bar {
            Bar::AtLeast(bar) => format!("≥ {bar}"),
            Bar::AtMost(bar) => format!("≤ {bar}"),
        };
        let holds = if self.holds() { "holds" } else { "**missed**" };
        write!(f, "| {} | {} | {} | {:.2} | {bar} | {holds} |", self.what, self.ours, self.peer, self.found)
    }
}

/// Prints the table; whether every bar held.
fn report(rows: &[Row]) -> bool {
    println!("| | ours | OpenSSH's | found | bar | |\n|---|---|---|---|---|---|");
    for row in rows {
        println!("{row}");
    }
    rows.iter().all(Row::holds)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of minutes, for release builds with nothing beside"]
async fn a_key_comes_back_as_soon_as_with_openssh() -> Result<()> {
    let places = Places::make().await?;
    let rows = tokio::task::block_in_place(|| keys::measure(&places))?;
    ensure!(report(&rows), "a bar is missed");
    places.devnet.stop()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of minutes, for release builds with nothing beside"]
async fn files_travel_as_fast_as_with_openssh() -> Result<()> {
    let places = Places::make().await?;
    let rows = tokio::task::block_in_place(|| copies::near(&places))?;
    ensure!(report(&rows), "a bar is missed");
    places.devnet.stop()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement of minutes, for release builds with nothing beside"]
async fn files_travel_a_long_way_four_times_as_fast_as_with_openssh() -> Result<()> {
    let places = Places::make().await?;
    let _way = places.move_apart().await?;
    let rows = tokio::task::block_in_place(|| copies::far(&places))?;
    ensure!(report(&rows), "a bar is missed");
    places.devnet.stop()
}

/// The middle one.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
