//! Rentals with an arbiter: who is let rule, what a dispute writes down, and how it ends.

use anyhow::{Context, Result, ensure};
use api::types::{Dispute, Receipt, RentalRow, RentalStory};
use devnet::{Devnet, Node, NodeSpec, Signal, books::Books};
use market::money::Amount;
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};
use tests::{
    books_balance, client::Client, eventually, failed_with, nothing_happened, offers_arrive, phase, receipt, story,
};
use tokio::process::Command;

/// The account that rules. It needs no key: the chain of a devnet lets a test act as anybody.
const ARBITER: &str = "0x00000000000000000000000000000000000a4B17";
/// Half of the window of 900 s, and what the clocks of blocks add.
const HALF_A_WINDOW: u64 = 460;
/// Seconds between vouchers are a third of this: long enough that three missed acks leave time for a dispute.
const INCREMENT_MILLIS: u32 = 6_000;
/// How long an outcome may take that the chain has shown already.
const OUTCOME: Duration = Duration::from_secs(40);

fn with_arbiter() -> NodeSpec {
    NodeSpec::provider("provider-1").increment_millis(INCREMENT_MILLIS).config(|config| {
        if let Some(provider) = config.get_mut("provider").and_then(toml::Value::as_table_mut) {
            provider.insert("arbiter".to_owned(), ARBITER.into());
        }
    })
}

fn accepting() -> NodeSpec {
    NodeSpec::renter("renter-1").config(|config| {
        let section = |name: &str, value| toml::Value::Table([(name.to_owned(), value)].into_iter().collect());
        let arbiters = toml::Value::Array(vec![ARBITER.into()]);
        config.insert("renter".to_owned(), section("limits", section("arbiters", arbiters)));
    })
}

/// The file of evidence of one side.
async fn exported(node: &Node, id: &str, file: &Path) -> Result<Value> {
    let done = node.call(["dispute", id, "--export", "--out", text(file)?]).await?;
    ensure!(done.code == 0, "{}", done.stderr);
    Ok(serde_json::from_str(&fs::read_to_string(file)?)?)
}

/// The message of a kind of statement, if it is there.
fn message<'a>(evidence: &'a Value, kind: &str) -> Option<&'a Value> {
    let statements = evidence["statements"].as_array()?;
    let found = statements.iter().find(|statement| statement["typed_data"]["primaryType"] == kind)?;
    Some(&found["typed_data"]["message"])
}

fn kinds(evidence: &Value) -> Vec<&str> {
    let statements = evidence["statements"].as_array().into_iter().flatten();
    statements.filter_map(|statement| statement["typed_data"]["primaryType"].as_str()).collect()
}

/// Every statement is good by the word of a program that is not ours.
async fn a_stranger_agrees(evidence: &Value) -> Result<()> {
    let cast = Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/tool");
    for statement in evidence["statements"].as_array().context("no statements")? {
        let data = statement["typed_data"].to_string();
        let [signer, signature] = ["signer", "signature"].map(|name| statement[name].as_str().unwrap_or_default());
        let arguments = ["cast", "wallet", "verify", "--address", signer, "--data", &data, signature];
        let output = Command::new(&cast).args(arguments).output().await?;
        ensure!(output.status.success(), "{data}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}

fn steps(stories: &[RentalStory]) -> Vec<&str> {
    stories.iter().flat_map(|story| &story.steps).map(|step| step.step.as_str()).collect()
}

#[tokio::test]
async fn an_arbiter_splits_what_a_provider_that_went_away_did_not_close() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).node(with_arbiter()).node(accepting()).start().await?;
        let (renter, provider) = (devnet.node("renter-1")?, devnet.node("provider-1")?);
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("evidence.json");

        let run = Client::start(renter, ["run", "--for", "5m", "--", "sleep", "280"])?;
        let id = phase(renter, "serving").await?.id;
        let name = id.to_string();
        eventually("an ack of three seconds on disk", async || {
            let evidence = exported(renter, &name, &file).await?;
            let acked = message(&evidence, "Ack").and_then(|ack| ack["cumulative"].as_str()?.parse::<u128>().ok());
            Ok((acked >= Some(3_000)).then_some(()))
        })
        .await?;
        let theirs = exported(provider, &name, &folder.path().join("provider.json")).await?;
        assert_eq!(kinds(&theirs), ["Quote", "Ready", "Voucher", "Ack"]);
        devnet.signal("provider-1", Signal::KILL)?;

        let dispute = ["dispute", &name, "--reason", "not-served", "--out", text(&file)?];
        let left = Client::start(renter, dispute)?;
        eventually("the stop on chain", async || Ok(left.printed().contains("may rule from").then_some(()))).await?;
        left.interrupt().await?;
        failed_with(&left.ended(OUTCOME).await?, 130, &["the daemon goes on", "node dispute"])?;
        let following = Client::start(renter, dispute)?;
        let mut again = dispute.to_vec();
        again.push("--no-wait");
        let standing: Value = renter.json(&again).await?;
        let standing: Dispute = serde_json::from_value(standing)?;
        assert_eq!(standing.arbiter.to_string(), ARBITER);
        let deadlines = standing.deadlines.context("no deadlines")?;
        let stopped_at = standing.stopped_at.context("not stopped")?;
        assert_eq!((deadlines.ruling, deadlines.finalizing), (stopped_at + 450, stopped_at + 900));

        devnet.chain.pass(HALF_A_WINDOW).await?;
        let award = Amount::new(2_000).context("small")?;
        let ruling = devnet.chain.rule(id.0, ARBITER.parse()?, award).await?;
        let done = following.ended(OUTCOME).await?;
        ensure!(done.code == 0 && done.stdout.contains("ruled by the arbiter"), "{}{}", done.stdout, done.stderr);
        let mine = receipt(renter).await?;
        assert_eq!((mine.kind, mine.paid, mine.closed.tx), (5, award, ruling));
        assert_eq!(mine.refunded, mine.deposit.saturating_sub(award));
        let ended = run.ended(OUTCOME).await?;
        failed_with(&ended, 125, &["disputed"])?;

        devnet.restart("provider-1").await?;
        assert_eq!(books_balance(&devnet, &before).await?.len(), 1);
        for node in [renter, provider] {
            let proved = node.call(["receipts", "--verify"]).await?;
            ensure!(proved.code == 0, "{}: {}{}", node.name, proved.stdout, proved.stderr);
        }
        let told = renter.json::<Vec<RentalStory>>(&["show", &name]).await?;
        let ends: Vec<_> = steps(&told).into_iter().skip_while(|step| *step != "disputed").collect();
        assert_eq!(ends, ["disputed", "stopped", "ruled", "closed", "receipt"]);
        let told = provider.json::<Vec<RentalStory>>(&["show", &name]).await?;
        ensure!(steps(&told).contains(&"ruled"), "{told:#?}");

        // what was written when the chain showed the stop
        let evidence: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
        assert_eq!(kinds(&evidence), ["Quote", "Ready", "Voucher", "Ack"]);
        assert_eq!((&evidence["stop"]["at"], &evidence["stop"]["reason"]), (&json!(stopped_at), &json!("not-served")));
        assert_eq!(evidence["transactions"].as_array().map(Vec::len), Some(2));
        a_stranger_agrees(&evidence).await?;
        assert_eq!(proves(provider, &file).await?, (0, vec![]));
        let mut forged = evidence.clone();
        forged["statements"][2]["typed_data"]["message"]["cumulative"] = json!("1");
        fs::write(&file, forged.to_string())?;
        let faults = ["voucher.digest", "voucher.signature", "ack.total"].map(str::to_owned).to_vec();
        assert_eq!(proves(provider, &file).await?, (1, faults));
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_dispute_outlives_its_daemon_and_is_finalized_when_nobody_rules() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).node(with_arbiter()).node(accepting()).start().await?;
        devnet.signal("renter-1", Signal::KILL)?;
        devnet.restart_to_die_at("renter-1", "renter.dispute.written").await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let _run = Client::start(renter, ["run", "--for", "5m", "--", "sleep", "280"])?;
        let id = phase(renter, "serving").await?.id;
        devnet.signal("provider-1", Signal::STOP)?;
        let done = renter.call(["dispute", &id.to_string(), "--reason", "ended"]).await?;
        ensure!(done.code == 1 && done.stderr.contains("the daemon"), "{}", done.stderr);
        assert_eq!(devnet.ended("renter-1").await?, 137);

        devnet.restart("renter-1").await?;
        let following = Client::start(renter, ["dispute", &id.to_string()])?;
        let reason = "stopped   ";
        eventually("the stop on chain", async || Ok(following.printed().contains(reason).then_some(()))).await?;
        ensure!(following.printed().contains("ended the rental before its time"), "{}", following.printed());
        devnet.chain.pass(2 * HALF_A_WINDOW).await?;
        let done = following.ended(OUTCOME).await?;
        ensure!(done.code == 0 && done.stdout.contains("finalized after a stop"), "{}{}", done.stdout, done.stderr);
        devnet.signal("provider-1", Signal::CONT)?;
        let receipts = books_balance(&devnet, &before).await?;
        let [receipt] = receipts.as_slice() else { panic!("{} receipts of one rental", receipts.len()) };
        assert_eq!((receipt.kind, receipt.paid), (3, Amount::ZERO), "the provider claimed nothing in the window");
        devnet.stop()
    })
    .await
}

/// What `node dispute --check` ends with, and the checks that do not hold.
async fn proves(node: &Node, file: &Path) -> Result<(i32, Vec<String>)> {
    let done = node.call(["--json", "dispute", "--check", text(file)?]).await?;
    let proof: Value = serde_json::from_str(&done.stdout).with_context(|| done.stderr.clone())?;
    let checks = proof["checks"].as_array().context("no checks")?.iter();
    let failed = checks.filter(|check| check["holds"] != json!(true));
    Ok((done.code, failed.map(|check| check["check"].as_str().unwrap_or_default().to_owned()).collect()))
}

#[tokio::test]
async fn a_provider_that_is_there_ends_a_dispute_by_closing_with_its_best_voucher() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).node(with_arbiter()).node(accepting()).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let run = Client::start(renter, ["run", "--for", "5m", "--", "sleep", "280"])?;
        let id = phase(renter, "serving").await?.id.to_string();
        eventually("a voucher", async || {
            let rows: Vec<RentalRow> = devnet.node("provider-1")?.json(&["ps"]).await?;
            Ok(rows.into_iter().find(|row| row.cost != "0 tUSD"))
        })
        .await?;
        let done = renter.call(["dispute", &id]).await?;
        ensure!(done.code == 0 && done.stdout.contains("by the provider"), "{}{}", done.stdout, done.stderr);
        let receipts = books_balance(&devnet, &before).await?;
        let [receipt] = receipts.as_slice() else { panic!("{} receipts of one rental", receipts.len()) };
        assert_eq!(receipt.kind, 1);
        let covered = receipt.voucher.map(|voucher| voucher.cumulative).context("no voucher")?;
        ensure!(receipt.paid > Amount::ZERO && receipt.paid <= covered, "{} paid of {covered}", receipt.paid);
        failed_with(&run.ended(OUTCOME).await?, 125, &["disputed"])?;
        // over now, and told so as often as it is asked
        let again = renter.call(["dispute", &id]).await?;
        ensure!(again.code == 0 && again.stdout.contains("by the provider"), "{}{}", again.stdout, again.stderr);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_renter_that_does_not_accept_the_arbiter_is_told_whom_the_quotes_name() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).node(with_arbiter()).renters(1).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let offers = renter.call(["offers"]).await?.stdout;
        ensure!(offers.contains("DISPUTES GO TO") && offers.contains(ARBITER), "{offers}");
        let done = renter.call(["run", "--for", "1m", "--", "true"]).await?;
        failed_with(&done, 6, &[ARBITER, "does not accept", "[renter.limits]"])?;
        nothing_happened(&devnet, &before).await?;
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_rental_that_nobody_can_rule_on_is_not_disputed() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).providers(1).renters(1).start().await?;
        let (renter, provider) = (devnet.node("renter-1")?, devnet.node("provider-1")?);
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let run = Client::start(renter, ["run", "--for", "5m", "--", "sleep", "280"])?;
        let id = phase(renter, "serving").await?.id.to_string();
        failed_with(&renter.call(["dispute", &id]).await?, 2, &["no arbiter", "node stop"])?;
        failed_with(&provider.call(["dispute", &id]).await?, 2, &["only its renter", "--export"])?;
        failed_with(&renter.call(["dispute", "0xffff"]).await?, 4, &["0xffff"])?;
        assert_eq!(phase(renter, "serving").await?.id.to_string(), id, "nothing was stopped");
        ensure!(renter.call(["stop", &id]).await?.code == 0);
        run.ended(OUTCOME).await?;
        books_balance(&devnet, &before).await?;
        let closed: Receipt = receipt(renter).await?;
        failed_with(&renter.call(["dispute", &closed.id.to_string()]).await?, 2, &["no arbiter"])?;
        devnet.stop()
    })
    .await
}
