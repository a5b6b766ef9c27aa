//! A renter that vanishes: its daemon is stopped with SIGSTOP, so that it neither pays nor says goodbye.

use anyhow::{Result, ensure};
use api::types::Receipt;
use devnet::{Devnet, Signal, books::Books};
use std::process::Stdio;
use tests::{books_balance, eventually, offers_arrive, phase, receipt, story};

#[tokio::test]
async fn a_provider_that_is_not_paid_freezes_and_thaws_when_it_is_paid_again() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).providers(1).renters(1).start().await?;
        let (renter, provider) = (devnet.node("renter-1")?, devnet.node("provider-1")?);
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let job = "sleep 8; echo finished";
        let run = renter
            .command(["run", "--for", "5m", "--", "sh", "-c", job])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        phase(renter, "serving").await?;
        devnet.signal("renter-1", Signal::STOP)?;
        let frozen = phase(provider, "frozen").await?;
        eventually("two seconds more on the meter", async || {
            Ok((phase(provider, "frozen").await?.seconds >= frozen.seconds + 2).then_some(()))
        })
        .await?;
        devnet.signal("renter-1", Signal::CONT)?;
        let output = run.wait_with_output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, b"finished\n");
        books_balance(&devnet, &before).await?;
        let theirs: Receipt = receipt(provider).await?;
        ensure!(theirs.frozen_seconds >= 1, "the provider's receipt does not tell of the frozen time: {theirs:#?}");
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_provider_whose_renter_is_gone_closes_and_loses_no_more_than_one_increment() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).providers(1).renters(1).start().await?;
        let (renter, provider) = (devnet.node("renter-1")?, devnet.node("provider-1")?);
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let _run = renter
            .command(["run", "--for", "5m", "--", "sleep", "200"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        phase(renter, "serving").await?;
        // Some increments are paid first, so that there is a voucher to cash.
        eventually("a voucher for three seconds", async || {
            let row = phase(provider, "serving").await?;
            Ok((row.seconds >= 3).then_some(()))
        })
        .await?;
        devnet.signal("renter-1", Signal::STOP)?;

        let theirs: Receipt = receipt(provider).await?;
        ensure!(theirs.paid.get() > 0, "the provider closed without cashing what it was paid");
        let (Some(ready), Some(stopped)) = (theirs.ready_at, theirs.stopped_at) else {
            panic!("it never served: {theirs:#?}")
        };
        let running = stopped.since(ready) / 1_000 - u64::from(theirs.frozen_seconds);
        let covered = u64::from(theirs.quote.quote.rate.seconds_for(theirs.paid));
        // The increment is a second; what is rounded here and there adds less than one more.
        ensure!(running <= covered + 2, "the program ran for {running} s and {covered} s were paid");
        devnet.signal("renter-1", Signal::CONT)?;
        receipt(renter).await?;
        books_balance(&devnet, &before).await?;
        devnet.stop()
    })
    .await
}
