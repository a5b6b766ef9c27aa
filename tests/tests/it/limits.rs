//! Programs that want more than they rented: they are told so, the provider lives, the rental is settled.

use anyhow::{Context, Result, ensure};
use devnet::{Devnet, NodeSpec, SlotSpec, books::Books};
use std::fs;
use tests::{books_balance, failed_with, offers_arrive, story};

fn small(memory_mib: u32, disk_mib: u32) -> NodeSpec {
    NodeSpec::provider("provider-1").slots([SlotSpec { memory_mib, disk_mib, ..SlotSpec::default() }])
}

#[tokio::test]
async fn a_job_of_64_mb_in_a_sandbox_of_32_is_reported_as_out_of_memory_and_settled() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().node(small(32, 64)).renters(1).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let done = renter
            .call(["run", "--for", "1m", "--", "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1"])
            .await?;
        failed_with(&done, 137, &["out of memory"])?;
        let receipts = books_balance(&devnet, &before).await?;
        let job = receipts.first().and_then(|receipt| receipt.job.as_ref()).context("no job in the receipt")?;
        assert_eq!(job.exit_code, Some(137));
        ensure!(job.how.contains("out of memory"), "the receipt says: {}", job.how);

        let done = renter.call(["run", "--for", "1m", "--", "echo", "still there"]).await?;
        assert_eq!((done.code, done.stdout.as_str()), (0, "still there\n"), "{}", done.stderr);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_full_disk_is_an_error_to_the_program_and_not_to_the_rental() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().node(small(256, 32)).renters(1).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let out = tempfile::tempdir()?;
        let script = "head -c 67108864 /dev/zero > big; echo \"head ended with $?\"; rm big; echo kept > note; exit 7";
        let folder = out.path().join("out");
        let done = renter
            .call(["run", "--for", "1m", "--out", folder.to_str().context("a path")?, "--", "sh", "-c", script])
            .await?;
        failed_with(&done, 7, &["No space left on device"])?;
        assert_eq!(done.stdout, "head ended with 1\n");
        assert_eq!(fs::read_to_string(folder.join("note"))?, "kept\n");
        assert_eq!(books_balance(&devnet, &before).await?.len(), 1);
        devnet.stop()
    })
    .await
}
