//! The renter's checks of the hardware that it rents: a machine that computes as offered is told so in receipt and story, one that does not
//! is left after the first.

use anyhow::{Context, Result, ensure};
use api::types::{CheckOutcome, HardwareCheck, RentalStory, Reputation};
use devnet::{Devnet, Signal, books::Books};
use market::rating::Stars;
use serde_json::{Value, json};
use std::{fs, time::Duration};
use tests::{books_balance, client::Client, eventually, eventually_within, failed_with, phase, receipt, story};

/// How long a check may take that has to be repeated on a busy machine.
const CHECKED: Duration = Duration::from_secs(90);

/// What the provider's disk is said to do, by which its offer is known.
const DISK_MB_PER_S: u64 = 4_242;

/// A network whose provider says that each of its cores does so many multiply-adds a second.
async fn offering(multiply_adds: u64) -> Result<Devnet> {
    let devnet = Devnet::builder().indexers(1).providers(1).renters(1).start().await?;
    let provider = devnet.node("provider-1")?;
    let cpu = json!({
        "cores": 1,
        "single_core_multiply_adds_per_second": multiply_adds,
        "all_cores_multiply_adds_per_second": multiply_adds,
        "single_core_float_operations_per_second": 1,
        "all_cores_float_operations_per_second": 1,
    });
    let disk = json!({
        "sequential_written_bytes_per_second": 1,
        "sequential_read_bytes_per_second": DISK_MB_PER_S * 1_000_000,
        "random_reads_per_second": 1,
    });
    let figures =
        json!({"measured_at_unix_seconds": 1, "cpu": cpu, "memory": null, "disk": disk, "cards": [], "missing": []});
    fs::write(provider.data_dir.join("benchmark.json"), figures.to_string())?;
    devnet.signal("provider-1", Signal::KILL)?;
    devnet.restart("provider-1").await?;
    // an offer of before has no figure for the disk either
    let (renter, measured) = (devnet.node("renter-1")?, format!("disk_speed>={DISK_MB_PER_S}"));
    eventually("the offer with its figures", async || {
        let offers = renter.call(["--json", "offers", &measured]).await?.stdout;
        Ok(offers.contains("disk").then_some(()))
    })
    .await?;
    Ok(devnet)
}

#[tokio::test]
async fn a_machine_that_computes_as_offered_passes_and_receipt_and_story_say_so() -> Result<()> {
    story(async {
        let devnet = offering(1_000_000).await?;
        let renter = devnet.node("renter-1")?;
        let before = Books::read(&devnet).await?;
        let run = Client::start(renter, ["run", "--for", "5m", "--", "sleep", "280"])?;
        let id = phase(renter, "serving").await?.id.to_string();
        let told = eventually_within(CHECKED, "the first check", async || {
            let stories: Vec<RentalStory> = renter.json(&["show", &id]).await?;
            Ok(stories.into_iter().flat_map(|story| story.steps).find(|step| step.step == "checked"))
        })
        .await?;
        ensure!(told.detail.starts_with("passed; cpu did"), "{}", told.detail);

        let asked: HardwareCheck = renter.json(&["check", &id]).await?;
        assert_eq!((asked.outcome, asked.level), (CheckOutcome::Passed, 2), "{}", asked.detail);
        let device = asked.devices.first().context("no device")?;
        ensure!(device.least == Some(600_000) && device.seen > 600_000 && device.held_bytes > 0, "{device:?}");
        let shown = renter.call(["check", &id]).await?;
        ensure!(shown.code == 0 && shown.stdout.contains("AT LEAST"), "{}{}", shown.stdout, shown.stderr);
        let left = renter.call(["exec", &id, "--", "ls", "-A", "/tmp"]).await?;
        ensure!(left.code == 0 && !left.stdout.contains("gpulease-check"), "{}{}", left.stdout, left.stderr);

        ensure!(renter.call(["stop", &id]).await?.code == 0);
        run.ended(CHECKED).await?;
        books_balance(&devnet, &before).await?;
        let closed = receipt(renter).await?;
        ensure!(closed.checks.passed >= 3 && closed.checks.missed == 0, "{:?}", closed.checks);
        let text = renter.call(["receipts", &id]).await?.stdout;
        ensure!(text.contains("passed"), "{text}");

        // told to indexers by itself, signed by the rental's own key, and still there when the renter rates it
        let provider = devnet.node("provider-1")?.peer.clone();
        let passed = async |what: &str, stars: Option<u8>| {
            eventually_within(CHECKED, what, async || {
                let done = renter.call(["--json", "reputation", &provider, "--verify"]).await?;
                let known = if done.code == 0 { Some(done.json::<Reputation>()?) } else { None };
                Ok(known.filter(|known| {
                    let said = known.rentals.first().and_then(|past| past.rating.as_ref());
                    let with_stars = said.is_some_and(|said| said.statement.stars.map(Stars::get) == stars);
                    known.record.passed_checks == 1 && with_stars
                }))
            })
            .await
        };
        let known = passed("the passed checks in the provider's reputation", None).await?;
        ensure!((known.record.missed_checks, known.record.checking_renters) == (0, 1), "{:?}", known.record);
        let past = known.rentals.first().context("no rental")?;
        let told = past.rating.as_ref().and_then(|said| said.statement.checks).context("no checks")?;
        ensure!(past.verified == Some(true) && told.passed == closed.checks.passed, "{past:?}");
        ensure!((told.level, told.least, told.devices) == (2, 600_000, None) && told.seen > 600_000, "{told:?}");
        ensure!(renter.call(["rate", &id, "--stars", "4"]).await?.code == 0);
        passed("the rating beside the checks", Some(4)).await?;
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_machine_that_is_slower_than_its_offer_says_is_left_with_the_reason_after_the_first_check() -> Result<()> {
    story(async {
        let devnet = offering(1_000_000_000_000).await?;
        let renter = devnet.node("renter-1")?;
        let before = Books::read(&devnet).await?;
        let run = Client::start(renter, ["run", "--for", "5m", "--", "sleep", "280"])?;
        let ended = run.ended(CHECKED).await?;
        failed_with(&ended, 125, &["not what was offered", "too slow"])?;
        let receipts = books_balance(&devnet, &before).await?;
        let [closed] = receipts.as_slice() else { panic!("{} receipts of one rental", receipts.len()) };
        assert_eq!((closed.checks.missed, closed.checks.count()), (1, 1), "{:?}", closed.checks);
        let miss = closed.checks.miss().context("no miss")?;
        ensure!(miss.detail.contains("too slow"), "{}", miss.detail);
        let covered = closed.voucher.map(|voucher| voucher.cumulative).context("no voucher")?;
        ensure!(closed.paid <= covered, "{} paid of {covered}", closed.paid);

        // for anybody to read on the chain, and for reputation to count
        let id = closed.id.to_string();
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("evidence.json");
        let path = file.to_str().context("a path that is not text")?;
        let exported = renter.call(["dispute", &id, "--export", "--out", path]).await?;
        ensure!(exported.code == 0, "{}", exported.stderr);
        let evidence: Value = serde_json::from_str(&fs::read_to_string(&file)?)?;
        assert_eq!(evidence["stop"]["reason"], json!("hardware"));
        let provider = devnet.node("provider-1")?.peer.clone();
        eventually("the failed check in the provider's reputation", async || {
            let known = renter.call(["--json", "reputation", &provider]).await?;
            let known: Value = serde_json::from_str(&known.stdout).unwrap_or_default();
            Ok((known["record"]["failed_checks"] == json!(1)).then_some(()))
        })
        .await?;
        devnet.stop()
    })
    .await
}
