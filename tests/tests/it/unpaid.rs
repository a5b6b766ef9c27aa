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
        phase(provider, "frozen").await?;
        devnet.signal("renter-1", Signal::CONT)?;
        let output = run.wait_with_output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.stdout, b"finished\n");
        let receipts = books_balance(&devnet, &before).await?;
        ensure!(
            receipts.iter().all(|receipt| receipt.frozen_seconds > 0),
            "no receipt tells of the frozen time: {receipts:#?}"
        );
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
        let served = theirs.seconds - theirs.frozen_seconds;
        let covered = theirs.quote.quote.rate.seconds_for(theirs.paid);
        // The increment is a second; whole seconds add less than one more.
        ensure!(served <= covered + 2, "{served} s were served and {covered} s were paid");

        devnet.signal("renter-1", Signal::CONT)?;
        receipt(renter).await?;
        books_balance(&devnet, &before).await?;
        devnet.stop()
    })
    .await
}
