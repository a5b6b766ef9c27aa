//! What can be known of a rental afterwards: its receipt proved against the chain, its story told by both sides, and a node that says
//! what is wrong with it.

use anyhow::{Context, Result, ensure};
use api::types::RentalStory;
use devnet::{Devnet, Finished, Node, Signal, books::Books};
use serde_json::{Value, json};
use std::{fs, path::Path};
use tests::{books_balance, offers_arrive, receipt, story};

/// The names of the checks or rows of which `of` is not `good`.
fn faults(rows: &Value, name: &str, of: &str, good: &Value) -> Vec<String> {
    let rows = rows.as_array().into_iter().flatten();
    rows.filter(|row| row[of] != *good).map(|row| row[name].as_str().unwrap_or_default().to_owned()).collect()
}

async fn verify(node: &Node, file: &Path) -> Result<(i32, Vec<String>)> {
    let done = node.call(["--json", "receipts", "--verify", "--file", file.to_str().context("a path")?]).await?;
    let proofs: Value = serde_json::from_str(&done.stdout).with_context(|| done.stderr.clone())?;
    Ok((done.code, faults(&proofs[0]["checks"], "check", "holds", &json!(true))))
}

#[tokio::test]
async fn a_receipt_is_proved_from_both_sides_and_a_changed_one_is_not() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).providers(1).renters(1).start().await?;
        let (renter, provider) = (devnet.node("renter-1")?, devnet.node("provider-1")?);
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let done = renter.call(["run", "--for", "1m", "--", "sh", "-c", "sleep 2; echo done"]).await?;
        ensure!(done.code == 0, "{}", done.stderr);
        books_balance(&devnet, &before).await?;

        let receipt = receipt(renter).await?;
        for node in [renter, provider] {
            let Finished { code, stdout, stderr } = node.call(["receipts", "--verify"]).await?;
            ensure!(code == 0, "{}: {stdout}{stderr}", node.name);
            ensure!(stdout.contains(&receipt.id.to_string()) && !stdout.contains('✗'), "{stdout}");
        }
        // an indexer has no receipts of its own, and proves anybody's
        let indexer = devnet.node("indexer-1")?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("receipt.json");
        let saved = renter.call(["--json", "receipts", &receipt.id.to_string()]).await?.stdout;
        fs::write(&file, &saved)?;
        assert_eq!(verify(indexer, &file).await?, (0, vec![]));
        let mut changed: Value = serde_json::from_str(&saved)?;
        changed[0]["closed"]["time"] = json!(receipt.closed.time + 1);
        fs::write(&file, changed.to_string())?;
        assert_eq!(verify(indexer, &file).await?, (1, vec!["closed.time".to_owned()]));
        let mut changed: Value = serde_json::from_str(&saved)?;
        changed[0]["opened"]["block"] = json!(receipt.opened.block + 1_000_000);
        fs::write(&file, changed.to_string())?;
        assert_eq!(verify(indexer, &file).await?, (1, vec!["opened.transaction".to_owned()]));

        let mut unreachable = renter.command(["receipts", "--verify"]);
        let done = unreachable.env("GPULEASE_CHAIN__0__RPC", "http://127.0.0.1:1").output().await?;
        assert_eq!(done.status.code(), Some(7), "{}", String::from_utf8_lossy(&done.stderr));

        for (node, steps) in [
            (
                renter,
                vec!["ordered", "quoted", "opened", "ready", "exited", "voucher", "finished", "released", "closed"],
            ),
            (provider, vec!["quoted", "opened", "preparing", "ready", "voucher", "finished", "closed", "receipt"]),
        ] {
            let stories: Vec<RentalStory> = node.json(&["show", &receipt.id.to_string()]).await?;
            let [story] = stories.as_slice() else { panic!("{} stories of {}", stories.len(), node.name) };
            let mut told = story.steps.iter().map(|step| step.step.as_str());
            for step in steps {
                ensure!(told.any(|told| told == step), "{step} is not in its place: {:#?}", story.steps);
            }
            ensure!(story.receipt.is_some(), "{} has no receipt in its story", node.name);
        }
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_node_says_what_is_wrong_with_it_and_nothing_when_nothing_is() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).providers(1).renters(1).start().await?;
        // by then everybody is connected
        offers_arrive(&devnet, devnet.node("renter-1")?).await?;
        let rows = async |node: &Node, state: &str| -> Result<(i32, Vec<String>)> {
            let done = node.call(["--json", "doctor"]).await?;
            let report: Value = serde_json::from_str(&done.stdout).with_context(|| done.stderr.clone())?;
            let rows: Vec<Value> = report["checks"].as_array().into_iter().flatten().cloned().collect();
            let rows = rows.into_iter().filter(|row| row["state"] == state);
            Ok((done.code, rows.map(|row| row["id"].as_str().unwrap_or_default().to_owned()).collect()))
        };
        for name in ["indexer-1", "provider-1", "renter-1"] {
            let node = devnet.node(name)?;
            assert_eq!(rows(node, "problem").await?, (0, vec![]), "{name}");
        }
        let renter = devnet.node("renter-1")?;
        let (code, sound) = rows(renter, "ok").await?;
        assert_eq!(code, 0);
        for id in [
            "data",
            "config",
            "keys.wallet",
            "daemon",
            "chain.devnet",
            "chain.devnet.code",
            "chain.devnet.gas",
            "peers",
        ] {
            ensure!(sound.iter().any(|row| row == id), "{id} is not among what is right: {sound:?}");
        }

        let mut unreachable = renter.command(["--json", "doctor"]);
        let done = unreachable.env("GPULEASE_CHAIN__0__RPC", "http://127.0.0.1:1").output().await?;
        let report: Value = serde_json::from_slice(&done.stdout)?;
        assert_eq!((done.status.code(), &report["problems"]), (Some(1), &json!(1)), "{report:#}");

        devnet.signal("provider-1", Signal::TERM)?;
        devnet.ended("provider-1").await?;
        let provider = devnet.node("provider-1")?;
        // without its daemon the sandbox itself is tried
        assert_eq!(rows(provider, "warning").await?, (0, vec!["daemon".to_owned()]));
        let (_, sound) = rows(provider, "ok").await?;
        ensure!(sound.iter().any(|row| row == "sandbox"), "no sandbox was tried: {sound:?}");
        devnet.stop()
    })
    .await
}
