//! Daemons that are killed outright and started again on the same data: the rental goes on, and is settled to the unit.

use anyhow::{Result, ensure};
use devnet::{Devnet, NodeSpec, Signal, books::Books};
use std::process::Stdio;
use tests::{books_balance, offers_arrive, phase, receipt, story};

/// An increment of ten seconds, as outside devnets: with one of a second a restart takes longer than either side waits for the other.
fn patient() -> NodeSpec {
    NodeSpec::provider("provider-1").increment_millis(10_000)
}

#[tokio::test]
async fn a_provider_that_is_killed_and_started_again_goes_on_with_the_rental() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).node(patient()).renters(1).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let job = "echo before; sleep 12; echo after";
        let run = renter
            .command(["run", "--for", "5m", "--", "sh", "-c", job])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        phase(renter, "serving").await?;
        devnet.signal("provider-1", Signal::KILL)?;
        devnet.restart("provider-1").await?;
        let output = run.wait_with_output().await?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stdout), "before\nafter\n");
        assert_eq!(books_balance(&devnet, &before).await?.len(), 1);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_renter_that_is_killed_and_started_again_settles_the_rental() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).node(patient()).renters(1).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let _run = renter
            .command(["run", "--for", "5m", "--", "sleep", "8"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        phase(renter, "serving").await?;
        devnet.signal("renter-1", Signal::KILL)?;
        devnet.restart("renter-1").await?;
        receipt(renter).await?;
        assert_eq!(books_balance(&devnet, &before).await?.len(), 1);
        devnet.stop()
    })
    .await
}
