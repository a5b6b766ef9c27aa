//! The devnet cleans up after itself, however it ends, and the demonstration holds.

use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tests::{eventually, eventually_within, story};
use tokio::process::{Child, Command};

/// How long a devnet gives itself for cleaning up.
const CLEAN_UP: Duration = Duration::from_secs(120);

fn program(name: &str) -> Result<Command> {
    let here = std::env::current_exe()?;
    let mut command = Command::new(here.ancestors().nth(2).context("a test runs in a folder")?.join(name));
    command.stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// Starts `devnet up` in `folder` and waits until it says that all is there. Returns the processes it runs.
async fn up(folder: &Path) -> Result<(Child, Vec<u64>)> {
    let mut command = program("devnet")?;
    command.args(["up", "--providers", "1", "--renters", "1", "--indexers", "1", "--directory"]).arg(folder);
    let said = folder.with_extension("said");
    let mut child = command.stdout(Stdio::null()).stderr(fs::File::create(&said)?).spawn()?;
    let summary: serde_json::Value = eventually("devnet.json", async || {
        if child.try_wait()?.is_some() {
            bail!("devnet up has ended: {}", fs::read_to_string(&said)?);
        }
        Ok(fs::read(folder.join("devnet.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    })
    .await?;
    let nodes = summary["nodes"].as_array().context("no nodes in devnet.json")?;
    assert_eq!(nodes.len(), 3);
    let pids = nodes.iter().map(|node| node["pid"].as_u64().context("a node without a process"));
    Ok((child, pids.collect::<Result<_>>()?))
}

fn path_of(folder: &Path) -> Result<&str> {
    folder.to_str().context("a path that is no text")
}

/// Every process that has `text` in its command line, such as the folder of a devnet: its nodes, and what they started.
fn processes_with(text: &str) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
    let has_it =
        |path: &PathBuf| fs::read(path.join("cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(text));
    Ok(entries.filter(has_it).collect())
}

/// Waits until every node has ended, and every process that has one of these words in its command line. The last sweep, which ends sandboxes
/// that their rentals' end did not, comes after the nodes have left.
async fn nothing_is_left(nodes: &[u64], words: &[&str]) -> Result<()> {
    eventually_within(CLEAN_UP, "the end of all processes of the devnet", async || {
        let is_alive = |pid: &u64| Path::new(&format!("/proc/{pid}")).exists();
        let mut left = words.iter().map(|word| processes_with(word)).collect::<Result<Vec<_>>>()?.into_iter();
        Ok((!nodes.iter().any(is_alive) && left.all(|left| left.is_empty())).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_devnet_that_is_killed_outright_leaves_neither_nodes_nor_sandboxes_behind() -> Result<()> {
    story(async {
        let parent = tempfile::tempdir()?;
        let folder = parent.path().join("net");
        let (mut child, nodes) = up(&folder).await?;
        // A program that is known by its argument, in a sandbox.
        let seconds = format!("{}", 1_000_000 + std::process::id());
        let mut run = program("node")?;
        run.arg("--data-dir").arg(folder.join("renter-1")).args(["run", "--for", "5m", "--", "sleep", &seconds]);
        let inside = format!("sleep\0{seconds}");
        let mut attempt = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        eventually("the program in its sandbox", async || {
            if attempt.try_wait()?.is_some() {
                attempt = run.spawn()?; // the offer had not arrived yet
            }
            Ok((!processes_with(&inside)?.is_empty()).then_some(()))
        })
        .await?;
        drop(attempt);

        child.kill().await?;
        nothing_is_left(&nodes, &[path_of(&folder)?, &inside]).await
    })
    .await
}

#[tokio::test]
async fn a_devnet_that_is_told_to_end_stops_in_order_and_removes_its_directory() -> Result<()> {
    story(async {
        let parent = tempfile::tempdir()?;
        let folder = parent.path().join("net");
        let (mut child, nodes) = up(&folder).await?;
        let pid = child.id().context("it has ended")?.to_string();
        ensure!(Command::new("kill").args(["-TERM", &pid]).status().await?.success(), "kill failed");
        let status = child.wait().await?;
        assert_eq!(status.code(), Some(143));
        nothing_is_left(&nodes, &[path_of(&folder)?]).await?;
        ensure!(!folder.exists(), "{} is still there", folder.display());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_demonstration_of_a_job_of_ones_own_ends_as_the_job_did() -> Result<()> {
    story(async {
        let job = tempfile::tempdir()?;
        std::fs::write(job.path().join("words"), "out of a file")?;
        let mut demo = program("devnet")?;
        demo.args(["demo", "--input"]).arg(job.path()).args(["--", "sh", "-c", "cat words; echo aside >&2; exit 3"]);
        let output = demo.current_dir(job.path()).output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "out of a file");
        ensure!(said.contains("aside") && said.contains("every balance adds up"), "{said}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_demonstration_holds() -> Result<()> {
    story(async {
        let output = program("devnet")?.arg("demo").output().await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ended with {}:\n{said}", output.status);
        for promise in ["every balance adds up", "both are on chain", "byte-identical"] {
            ensure!(said.contains(promise), "nothing was said of `{promise}`:\n{said}");
        }
        Ok(())
    })
    .await
}
