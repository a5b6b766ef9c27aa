//! Copies between a renter's machine and a rental that outlive the daemon they go through.

use anyhow::{Context, Result, ensure};
use api::types::RentalRow;
use devnet::{Devnet, Finished, Node, NodeSpec, Signal, SlotSpec};
use rand::{RngCore, SeedableRng, rngs::StdRng};
use std::{fs, path::Path, time::Duration};
use tests::{client::Client, eventually, offers_arrive, phase, story};

/// Long enough to be met in the middle.
const SIZE: usize = 256 << 20;
/// When the daemon dies: some blocks, by whose hashes a copy is resumed, are over then.
const MIDDLE: u64 = 40 << 20;
/// What is kept of that at least.
const KEPT: u64 = 16 << 20;
/// How long the rest may take.
const END: Duration = Duration::from_secs(120);

/// Kills the renter's daemon while a copy is under way, and sees the same command to its end.
async fn killed_in_the_middle(devnet: &Devnet, copy: Client, arrived: impl AsyncFn() -> Result<u64>) -> Result<()> {
    let seen = eventually("the middle of the copy", async || Ok((arrived().await? > MIDDLE).then_some(()))).await;
    seen.with_context(|| format!("the command said: {}", copy.said()))?;
    devnet.signal("renter-1", Signal::KILL)?;
    devnet.restart("renter-1").await?;
    let done: Finished = copy.ended(END).await?;
    let copied: serde_json::Value = done.json()?;
    let kept = copied["kept_bytes"].as_u64().context("no kept_bytes")?;
    ensure!((KEPT..SIZE as u64).contains(&kept), "{kept} bytes were kept of what had arrived");
    Ok(())
}

async fn length_inside(renter: &Node, id: &str, path: &str) -> Result<u64> {
    let script = format!("stat -c %s {path} 2>/dev/null || echo 0");
    let done = renter.call(["exec", id, "--", "sh", "-c", &script]).await?;
    Ok(done.stdout.trim().parse().unwrap_or(0))
}

#[tokio::test]
async fn a_copy_goes_on_where_it_was_when_the_renters_daemon_is_killed_in_the_middle() -> Result<()> {
    story(async {
        let slot = SlotSpec { disk_mib: 768, memory_mib: 1_024, ..SlotSpec::default() };
        let provider = NodeSpec::provider("provider-1").slots([slot]).increment_millis(10_000);
        let devnet = Devnet::builder().indexers(1).node(provider).renters(1).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let job = Client::start(renter, ["run", "--for", "1h", "--", "sh", "-c", "echo started; sleep 3000"])?;
        eventually("the job's start", async || Ok(job.printed().contains("started").then_some(()))).await?;
        let rental: RentalRow = phase(renter, "serving").await?;
        let id = rental.id.to_string();

        let folder = tempfile::tempdir()?;
        let mut bytes = vec![0; SIZE];
        StdRng::seed_from_u64(7).fill_bytes(&mut bytes);
        let here = folder.path().join("here");
        fs::write(&here, &bytes)?;
        let text = |path: &Path| path.display().to_string();

        let there = format!("{id}:there");
        let copy = Client::start(renter, ["--json", "cp", &text(&here), &there])?;
        killed_in_the_middle(&devnet, copy, async || length_inside(renter, &id, ".there.gpulease-part").await).await?;

        let back = folder.path().join("back");
        let part = folder.path().join(".back.gpulease-part");
        let copy = Client::start(renter, ["--json", "cp", &there, &text(&back)])?;
        let arrived = async || Ok(fs::metadata(&part).map_or(0, |part| part.len()));
        killed_in_the_middle(&devnet, copy, arrived).await?;
        ensure!(fs::read(&back)? == bytes, "what came back is not what went there");
        devnet.stop()
    })
    .await
}
