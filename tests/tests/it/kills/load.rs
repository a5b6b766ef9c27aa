//! An indexer killed outright under load, again and again: what it had acknowledged (`docs/indexer.md`) is there when it is back, and nothing
//! in its book is broken.

use anyhow::{Context, Result, ensure};
use base64::{Engine, engine::general_purpose::STANDARD};
use devnet::{Devnet, Node, Signal};
use market::time::UnixMillis;
use rand::Rng;
use serde_json::Value;
use simulation::load::Load;
use std::{collections::BTreeMap, time::Duration};
use tests::{eventually, record, story_within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Deaths in all.
const DEATHS: usize = 50;
/// Providers that advertise in turn.
const PROVIDERS: u64 = 200;
/// The pause between two advertisements: a third of what the design expects of everybody.
const PAUSE: Duration = Duration::from_millis(10);
/// Advertisements acknowledged in one life, at least.
const ENOUGH: usize = 100;
/// The longest time after that until the indexer is killed; anything may be under way then.
const MOMENT: Duration = Duration::from_millis(500);
/// The longest that all of it may take: ten seconds a death on a busy machine.
const ALL: Duration = Duration::from_secs(900);

/// What the indexer has said that it has of each provider: `updated_at` and the advertisement's own number.
type Acknowledged = BTreeMap<String, (u64, u64)>;

async fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut answer)).await??;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    Ok(answer.split_once("\r\n\r\n").context("a body")?.1.to_owned())
}

/// Everything that the indexer took after `since`. Each advertisement is opened: its signatures hold, or the book is broken.
async fn changes(indexer: &Node, mut since: u64) -> Result<Acknowledged> {
    let address = indexer.searches().context("the indexer serves no searches")?;
    let mut all = Acknowledged::new();
    loop {
        let page: Value = serde_json::from_str(&get(&address, &format!("/v1/changes?since={since}")).await?)?;
        let ads = page["ads"].as_array().context("advertisements")?;
        for ad in ads {
            let (peer, updated_at) = (ad["peer"].as_str().context("a peer")?, ad["updated_at"].as_u64());
            let envelope = STANDARD.decode(ad["envelope"].as_str().context("an envelope")?)?;
            let opened = network::ad::open(&envelope, UnixMillis::now()).with_context(|| format!("of {peer}"))?;
            ensure!(opened.ad.peer.to_string() == peer, "the advertisement of {} is kept as {peer}'s", opened.ad.peer);
            since = updated_at.context("what is listed is acknowledged")?;
            all.insert(peer.to_owned(), (since, opened.ad.seq));
        }
        if page["next"].is_null() || ads.is_empty() {
            return Ok(all);
        }
    }
}

/// Broken records that the indexer has found.
async fn broken(indexer: &Node) -> Result<u64> {
    let page = get(&indexer.metrics().context("the indexer serves no metrics")?, "/metrics").await?;
    let name = "gpulease_indexer_corrupt_records_total ";
    let line = page.lines().find_map(|line| line.strip_prefix(name)).context("the metric of broken records")?;
    Ok(line.trim().parse::<f64>()? as u64)
}

#[tokio::test]
#[ignore = "takes minutes: tests/kills runs it"]
async fn an_indexer_killed_fifty_times_under_load_loses_nothing_that_it_acknowledged() -> Result<()> {
    story_within(ALL, async {
        let devnet = Devnet::builder().indexers(1).start().await?;
        let indexer = devnet.node("indexer-1")?;
        let load = Load::start(&devnet.name, indexer.address().parse()?, PROVIDERS, PAUSE).await?;
        let mut acknowledged = Acknowledged::new();
        let mut promises = 0;
        for death in 1..=DEATHS {
            let last = acknowledged.values().map(|(updated_at, _)| *updated_at).max().unwrap_or(0);
            let life = eventually("load that is acknowledged", async || {
                let life = changes(indexer, last).await?;
                Ok((life.len() >= ENOUGH).then_some(life))
            });
            acknowledged.extend(life.await?);
            // the moment of death is anywhere in what goes on
            tokio::time::sleep(rand::rng().random_range(Duration::ZERO..MOMENT)).await;
            let newest = acknowledged.values().map(|(updated_at, _)| *updated_at).max().unwrap_or(0);
            acknowledged.extend(changes(indexer, newest).await?);
            devnet.signal("indexer-1", Signal::KILL)?;
            devnet.restart("indexer-1").await?;

            let kept = changes(indexer, 0).await?;
            for (peer, promised) in &acknowledged {
                let found = kept.get(peer).with_context(|| format!("death {death}: {peer} is lost, {promised:?}"))?;
                ensure!(found.0 >= promised.0 && found.1 >= promised.1, "death {death}: {peer} is {found:?}, was {promised:?}");
            }
            ensure!(broken(indexer).await? == 0, "death {death}: the book has broken records");
            ensure!(load.goes_on(), "the load has ended");
            promises += acknowledged.len();
        }
        let told = format!("| indexer-1 | {DEATHS} times under load | {promises} times an acknowledged advertisement was looked for, and found |\n");
        record("5-load.md", &told)?;
        devnet.stop()
    })
    .await
}
