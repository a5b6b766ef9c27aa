//! Measurements on a real network, recorded in `docs/performance.md`. They take minutes and mean something in a release build only, so that
//! they run when asked for: `cargo test --release -p tests --test it -- --ignored --nocapture measured`.

use anyhow::{Context, Result, ensure};
use api::{
    client::Client,
    types::{RentalStory, RunEvent, RunStep},
};
use devnet::{Devnet, Node};
use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};
use tests::{eventually, offers_arrive};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Rentals in the measurement of the first line.
const RUNS: usize = 20;
/// What half of them must not exceed.
const FIRST_LINE: Duration = Duration::from_secs(1);
/// Peers of the idle provider.
const PEERS: usize = 8;
/// How long it is left alone before, and how long it is watched.
const IDLE: Duration = Duration::from_secs(60);
/// The anonymous memory it may hold, in KiB.
const MEMORY_KIB: u64 = 60 * 1_000_000 / 1_024;
/// The processor time it may use, in parts of one core.
const PROCESSOR: f64 = 0.005;
/// Clock ticks in a second, as `/proc` counts them: fixed in Linux's interface to programs.
const TICKS: f64 = 100.0;

/// One run: from the command to its first line, and the parts of it that were the chain's.
struct FirstLine {
    total: Duration,
    approval: Duration,
    inclusion: Duration,
}

impl FirstLine {
    fn ours(&self) -> Duration {
        self.total.saturating_sub(self.approval).saturating_sub(self.inclusion)
    }
}

#[tokio::test]
#[ignore = "a measurement of some minutes, for release builds"]
async fn the_first_line_comes_within_a_second_of_what_the_chain_takes() -> Result<()> {
    let devnet = Devnet::builder().indexers(1).providers(1).renters(1).start().await?;
    let (renter, provider) = (devnet.node("renter-1")?, devnet.node("provider-1")?);
    offers_arrive(&devnet, renter).await?;
    let mut runs = Vec::with_capacity(RUNS);
    for number in 0..RUNS {
        let run = first_line(renter, provider).await.with_context(|| format!("run {number}"))?;
        println!(
            "run {number:2}: {:.2?} in all, {:.2?} of it the approval's inclusion, {:.2?} the opening's, {:.2?} ours",
            run.total,
            run.approval,
            run.inclusion,
            run.ours()
        );
        runs.push(run.ours());
    }
    runs.sort_unstable();
    let (median, ninth) = (runs[RUNS / 2], runs[RUNS * 9 / 10]);
    println!(
        "| `node run` to its first line, minus chain inclusion, {RUNS} runs | p50 {median:.2?}, p90 {ninth:.2?} | p50 ≤ {FIRST_LINE:?} |"
    );
    devnet.stop()?;
    ensure!(median <= FIRST_LINE, "half of the runs take {median:?} or more");
    Ok(())
}

/// Inclusion is from the moment the opening was sent to the one at which the provider saw it confirmed; and before that the exact approval
/// takes a block of its own, from the promise to the opening.
async fn first_line(renter: &Node, provider: &Node) -> Result<FirstLine> {
    let started = Instant::now();
    let arguments = ["--json", "run", "--for", "2m", "--", "echo", "first"];
    let mut child = renter.command(arguments).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
    let (mut id, mut quoted_at, mut sent, mut total) = (None, None, None, None);
    while let Some(line) = lines.next_line().await? {
        let event: RunEvent = serde_json::from_str(&line).with_context(|| line.clone())?;
        match event.step {
            RunStep::Quoted { id: quoted, .. } => (id, quoted_at) = (Some(quoted), Some(event.at)),
            RunStep::Opening { .. } => sent = Some(event.at),
            RunStep::Log { .. } if total.is_none() => total = Some(started.elapsed()),
            RunStep::Refused { reason, .. } => println!("refused: {reason}"),
            _ => {}
        }
    }
    let status = child.wait().await?;
    ensure!(status.success(), "the run ended with {status}");
    let (id, sent, total) = (id.context("no quote")?, sent.context("no opening")?, total.context("no output")?);
    let approval = Duration::from_millis(sent.0.saturating_sub(quoted_at.context("no quote")?.0));
    let stories: Vec<RentalStory> = provider.json(&["show", &id.to_string()]).await?;
    let steps = &stories.first().context("the provider knows nothing of it")?.steps;
    let confirmed =
        steps.iter().find(|step| step.step == "preparing").and_then(|step| step.at).context("not prepared")?;
    // the slot is free again when the rental is closed; the next run is not to wait for that
    eventually("the end of the rental", async || {
        let stories: Vec<RentalStory> = provider.json(&["show", &id.to_string()]).await?;
        Ok(stories.iter().any(|story| story.receipt.is_some()).then_some(()))
    })
    .await?;
    Ok(FirstLine { total, approval, inclusion: Duration::from_millis(confirmed.0.saturating_sub(sent.0)) })
}

#[tokio::test]
#[ignore = "a measurement of some minutes, for release builds"]
async fn an_idle_provider_takes_little_memory_and_no_processor() -> Result<()> {
    // without an indexer everybody knows the first node: the provider
    let devnet = Devnet::builder().providers(1).renters(PEERS).start().await?;
    let provider = devnet.node("provider-1")?;
    eventually("eight peers", async || {
        let client = Client::connect(&provider.data_dir.join("api.sock")).await?;
        Ok((client.node().await?.peers >= PEERS).then_some(()))
    })
    .await?;
    let pid = devnet.pid("provider-1")?;
    tokio::time::sleep(IDLE).await;
    let (memory, before, since) = (anonymous_kib(pid)?, processor_ticks(pid)?, Instant::now());
    tokio::time::sleep(IDLE).await;
    let share = (processor_ticks(pid)? - before) as f64 / TICKS / since.elapsed().as_secs_f64();
    let client = Client::connect(&provider.data_dir.join("api.sock")).await?;
    let peers = client.node().await?.peers;
    println!(
        "| idle provider, {peers} peers, after {IDLE:?}: anonymous memory | {:.1} MB | ≤ 60 MB |",
        memory as f64 * 1_024.0 / 1e6
    );
    println!(
        "| the same over the next {IDLE:?}: processor | {:.2} % of one core | ≤ {} % |",
        share * 100.0,
        PROCESSOR * 100.0
    );
    devnet.stop()?;
    ensure!(peers >= PEERS, "only {peers} peers are left");
    ensure!(memory <= MEMORY_KIB, "{memory} KiB of anonymous memory");
    ensure!(share <= PROCESSOR, "{:.2} % of a core when idle", share * 100.0);
    Ok(())
}

/// Memory that is the process's own: no file's, and not shared.
fn anonymous_kib(pid: i32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).context("no line Anonymous")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// Time in user and kernel mode so far.
fn processor_ticks(pid: i32) -> Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // the name in brackets may hold blanks; user and kernel time are the 12th and 13th field after it
    let fields: Vec<&str> = text.rsplit(')').next().context("no fields")?.split_whitespace().collect();
    let field = |at: usize| fields.get(at).context("a short line").and_then(|text| Ok(text.parse::<u64>()?));
    Ok(field(11)? + field(12)?)
}
