//! What runs goes on: a program whose provider and whose renter's daemon are killed again and again, watched by one `node run` that never
//! misses a line; and a machine on which a hundred deaths leave nothing behind.

use anyhow::{Context, Result, ensure};
use api::types::RentalRow;
use devnet::{Devnet, Node, NodeSpec, Signal, books::Books};
use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, time::Duration};
use tests::{
    books_balance, client::Client, eventually, eventually_within, machine, offers_arrive, phase, story, story_within,
};

/// How long a line of output, or its place in the program, may be waited for: as long as the longest program lasts, and a restart.
const PROGRAM: Duration = Duration::from_secs(420);
/// The longest that the full versions may take.
const FULL: Duration = Duration::from_secs(2_400);
/// The database of a node that does next to nothing: RocksDB's own files of a fixed number, with its log.
const DATABASE_FILES: usize = 200;
/// See [`DATABASE_FILES`].
const DATABASE_BYTES: u64 = 128 << 20;

async fn network() -> Result<Devnet> {
    let provider = NodeSpec::provider("provider-1").increment_millis(10_000);
    let devnet = Devnet::builder().indexers(1).node(provider).renters(1).start().await?;
    offers_arrive(&devnet, devnet.node("renter-1")?).await?;
    Ok(devnet)
}

/// A program of so many lines, one every half second, through three deaths of the provider and two of the renter's daemon.
async fn watched_through_five_deaths(lines: usize) -> Result<String> {
    let devnet = network().await?;
    let renter = devnet.node("renter-1")?;
    let before = Books::read(&devnet).await?;
    let program = format!("n=0; while [ $n -lt {lines} ]; do echo line $n; n=$((n+1)); sleep 0.5; done");
    let client = Client::start(renter, ["run", "--for", "15m", "--", "sh", "-c", &program])?;
    let mut told = String::new();
    for (place, who) in ["provider-1", "renter-1", "provider-1", "renter-1", "provider-1"].into_iter().enumerate() {
        let line = lines * (place + 1) / 7;
        eventually_within(PROGRAM, &format!("line {line}"), async || {
            Ok(client.printed().contains(&format!("line {line}\n")).then_some(()))
        })
        .await
        .with_context(|| client.said())?;
        devnet.signal(who, Signal::KILL)?;
        devnet.restart(who).await?;
        writeln!(told, "| {who} killed and started again | after line {line} of {lines} |")?;
    }
    let done = client.ended(PROGRAM).await?;
    ensure!(done.code == 0, "exit {}: {}", done.code, done.stderr);
    let expected: String = (0..lines).map(|line| format!("line {line}\n")).collect();
    ensure!(done.stdout == expected, "a hole, a repeat or another order:\n{}", done.stdout);
    let receipts = books_balance(&devnet, &before).await?;
    let [receipt] = receipts.as_slice() else { anyhow::bail!("{} receipts of one rental", receipts.len()) };
    writeln!(
        told,
        "| the client exits with 0 | all {lines} lines once, in order; {} s paid, both receipts agree |",
        receipt.seconds
    )?;
    devnet.stop()?;
    Ok(told)
}

#[tokio::test]
async fn a_program_is_watched_to_its_end_through_five_deaths_of_daemons() -> Result<()> {
    story(async { watched_through_five_deaths(70).await.map(drop) }).await
}

#[tokio::test]
#[ignore = "takes five minutes: tests/kills runs it"]
async fn a_program_of_five_minutes_is_watched_to_its_end_through_five_deaths_of_daemons() -> Result<()> {
    story_within(FULL, async {
        let told = watched_through_five_deaths(600).await?;
        tests::record("5-adoption.md", &told)
    })
    .await
}

/// Deaths in turn of the provider and of the renter, every other pair with a sandbox that runs.
async fn nothing_is_leaked(deaths: usize) -> Result<String> {
    let devnet = network().await?;
    let (renter, provider) = (devnet.node("renter-1")?, devnet.node("provider-1")?);
    let clean = machine::held(&devnet)?;
    let before = Books::read(&devnet).await?;
    let mut rented = None;
    for death in 0..deaths {
        match (death % 10, &rented) {
            (5, None) => rented = Some(rent(renter, provider).await?),
            (0, Some(_)) => end(renter, rented.take()).await?,
            _ => {}
        }
        let who = if death % 2 == 0 { "provider-1" } else { "renter-1" };
        devnet.signal(who, Signal::KILL)?;
        devnet.restart(who).await?;
        if rented.is_some() {
            phase(provider, "serving").await?;
        }
    }
    end(renter, rented).await?;
    books_balance(&devnet, &before).await?;
    machine::is_as_before(&devnet, &clean).await?;
    let mut told = String::new();
    for node in [renter, provider] {
        let (files, bytes) = size_of(&node.data_dir.join("db"))?;
        ensure!(files <= DATABASE_FILES && bytes <= DATABASE_BYTES, "{}: {files} files of {bytes} bytes", node.name);
        writeln!(told, "| database of {} after {deaths} deaths | {files} files, {} KiB |", node.name, bytes >> 10)?;
    }
    writeln!(told, "| mounts, loop devices, control groups, processes, sockets, files | as before the first death |")?;
    devnet.stop()?;
    Ok(told)
}

/// Rents a sandbox in which a program sleeps for longer than any test lasts.
async fn rent(renter: &Node, provider: &Node) -> Result<Client> {
    // a provider that has just been started may not have heard yet that its last rental is closed, and is busy until then
    let closed = async || Ok(provider.json::<Vec<RentalRow>>(&["ps"]).await?.is_empty().then_some(()));
    eventually("the end of the rental before", closed).await?;
    let client = Client::start(renter, ["run", "--for", "1h", "--", "sleep", "3000"])?;
    eventually("the program's start", async || Ok(client.said().contains("started").then_some(()))).await?;
    phase(provider, "serving").await?;
    Ok(client)
}

/// Ends the rental that goes on, if one does, and waits until it is settled.
async fn end(renter: &Node, rented: Option<Client>) -> Result<()> {
    let Some(client) = rented else { return Ok(()) };
    let row = phase(renter, "serving").await?;
    let stopped = renter.call(["stop", &row.id.to_string()]).await?;
    ensure!(stopped.code == 0, "{}", stopped.stderr);
    let done = client.ended(PROGRAM).await?;
    ensure!(done.stderr.contains("settled"), "{}", done.stderr);
    Ok(())
}

fn size_of(folder: &Path) -> Result<(usize, u64)> {
    let mut sizes = BTreeMap::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        sizes.insert(entry.path(), entry.metadata()?.len());
    }
    Ok((sizes.len(), sizes.values().sum()))
}

#[tokio::test]
async fn ten_deaths_leave_nothing_behind() -> Result<()> {
    story(async { nothing_is_leaked(10).await.map(drop) }).await
}

#[tokio::test]
#[ignore = "takes ten minutes: tests/kills runs it"]
async fn a_hundred_deaths_leave_nothing_behind() -> Result<()> {
    story_within(FULL, async {
        let told = nothing_is_leaked(100).await?;
        tests::record("6-leaks.md", &told)
    })
    .await
}
