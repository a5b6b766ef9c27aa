//! Rentals that go well, from one to several at a time.

use anyhow::{Context, Result, ensure};
use api::types::{RentalRow, RentalStory};
use devnet::{Devnet, NodeSpec, books::Books};
use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Stdio};
use tests::{books_balance, eventually, failed_with, files_under, offers_arrive, phase, receipt, story};
use tokio::process::Command;

/// A few seconds of computing in an unoptimised build: several increments.
const ROUNDS: &str = "300";

fn beside_this_test(program: &str) -> Result<std::path::PathBuf> {
    let here = std::env::current_exe()?;
    Ok(here.ancestors().nth(2).context("a test runs in a folder")?.join(program))
}

fn executable(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

#[tokio::test]
async fn a_rental_brings_back_the_same_bytes_as_a_local_run_and_every_balance_adds_up() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).providers(2).renters(1).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;

        let job = tempfile::tempdir()?;
        let [input, local, out] = ["input", "local", "out"].map(|name| job.path().join(name));
        for folder in [&input, &local] {
            fs::create_dir(folder)?;
            fs::copy(beside_this_test("matmul")?, folder.join("matmul"))?;
        }
        let argv = ["./matmul", "--seed", "5", "--size", "64", "--rounds", ROUNDS];
        let mut command: Vec<&str> = vec!["run", "--for", "5m", "--input", path(&input)?, "--out", path(&out)?, "--"];
        command.extend(argv);
        let done = renter.call(command).await?;
        ensure!(done.code == 0, "{}", done.stderr);

        let status = Command::new(local.join("matmul"))
            .args(&argv[1..])
            .current_dir(&local)
            .stderr(Stdio::null())
            .output()
            .await?;
        ensure!(
            done.stdout.as_bytes() == status.stdout,
            "the program printed something else when rented:\n{}",
            done.stdout
        );
        assert_eq!(files_under(&out)?, ["result.bin", "result.sha256"]);
        for name in ["result.bin", "result.sha256"] {
            ensure!(fs::read(out.join(name))? == fs::read(local.join(name))?, "{name} differs");
        }

        let receipts = books_balance(&devnet, &before).await?;
        let [receipt] = receipts.as_slice() else { panic!("{} receipts of one rental", receipts.len()) };
        assert!(receipt.seconds >= 1 && receipt.paid.get() > 0, "{} s for {}", receipt.seconds, receipt.paid);
        assert_eq!(receipt.job.as_ref().and_then(|job| job.exit_code), Some(0));
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_program_that_exits_with_3_brings_its_code_both_streams_and_its_outputs() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).providers(1).renters(1).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;

        let job = tempfile::tempdir()?;
        let [input, out] = ["input", "out"].map(|name| job.path().join(name));
        fs::create_dir_all(input.join("data/deep"))?;
        let big: Vec<u8> = (0u32..1 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        fs::write(input.join("data/deep/big.bin"), &big)?;
        fs::write(input.join("data/words"), "first\nsecond\n")?;
        fs::write(input.join("changed"), "old\n")?;
        executable(
            &input.join("job.sh"),
            "#!/bin/sh\n\
             set -e\n\
             wc -c < data/deep/big.bin\n\
             cat data/words\n\
             echo 'a warning' >&2\n\
             mkdir results\n\
             cat data/words data/deep/big.bin > results/joined\n\
             echo new > changed\n\
             printf '%s|' \"$@\" \"$COLOUR\"\n\
             exit 3\n",
        )?;
        let done = renter
            .call([
                "run",
                "--env",
                "COLOUR=blue",
                "--input",
                path(&input)?,
                "--out",
                path(&out)?,
                "--",
                "./job.sh",
                "one word",
                "$HOME",
            ])
            .await?;
        failed_with(&done, 3, &["a warning\n"])?;
        assert_eq!(done.stdout, "4194304\nfirst\nsecond\none word|$HOME|blue|");
        assert_eq!(
            files_under(&out)?,
            ["changed", "results/joined"],
            "what is new or changed comes back, and nothing else"
        );
        assert_eq!(fs::read(out.join("changed"))?, b"new\n");
        ensure!(
            fs::read(out.join("results/joined"))? == [b"first\nsecond\n", &big[..]].concat(),
            "results/joined differs"
        );

        let receipts = books_balance(&devnet, &before).await?;
        let summary = receipts.first().and_then(|receipt| receipt.job.clone()).context("no job in the receipt")?;
        assert_eq!((summary.exit_code, summary.argv.first().map(String::as_str)), (Some(3), Some("./job.sh")));
        assert_eq!(Path::new(&summary.output_directory), out);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn two_renters_use_both_providers_at_once_and_a_third_is_told_until_when_they_are_busy() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).providers(2).renters(3).start().await?;
        for number in 1..=3 {
            offers_arrive(&devnet, devnet.node(&format!("renter-{number}"))?).await?;
        }
        let before = Books::read(&devnet).await?;
        let long = ["run", "--for", "2m", "--", "sh", "-c", "sleep 25; echo slept"];
        let first = devnet.node("renter-1")?.command(long).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let second = devnet.node("renter-2")?.command(long).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        phase(devnet.node("renter-1")?, "serving").await?;
        phase(devnet.node("renter-2")?, "serving").await?;

        let done = devnet.node("renter-3")?.call(["run", "--for", "1m", "--", "true"]).await?;
        failed_with(&done, 6, &["busy until"])?;
        for name in ["provider-1", "provider-2"] {
            let rows: Vec<RentalRow> = devnet.node(name)?.json(&["ps"]).await?;
            assert_eq!(rows.len(), 1, "{name} serves one of the two, still: {rows:#?}");
        }
        for child in [first, second] {
            let output = child.wait_with_output().await?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            assert_eq!(output.stdout, b"slept\n");
        }
        let receipts = books_balance(&devnet, &before).await?;
        assert_eq!(receipts.len(), 2);
        assert_ne!(receipts[0].quote.quote.provider, receipts[1].quote.quote.provider);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_renter_finds_offers_by_gossip_alone_when_there_is_no_indexer() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().providers(2).renters(1).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let done = renter.call(["run", "--for", "1m", "--", "echo", "hello"]).await?;
        ensure!(done.code == 0, "{}", done.stderr);
        assert_eq!(done.stdout, "hello\n");
        assert_eq!(books_balance(&devnet, &before).await?.len(), 1);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn stopping_early_pays_the_provider_and_refunds_the_rest_in_one_transaction() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).providers(1).renters(1).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let run = renter
            .command(["run", "--for", "10m", "--", "sh", "-c", "echo working; sleep 300"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let rental = phase(renter, "serving").await?;
        let stopped = renter.call(["stop", &rental.id.to_string()]).await?;
        ensure!(stopped.code == 0, "{}", stopped.stderr);
        let output = run.wait_with_output().await?;
        ensure!(!output.status.success(), "the program was cut short, and the command says it went well");

        let receipt = receipt(renter).await?;
        books_balance(&devnet, &before).await?;
        ensure!(receipt.seconds < 60, "{} s are billed for a rental that was stopped at once", receipt.seconds);
        ensure!(receipt.refunded > receipt.paid, "{} refunded, {} paid", receipt.refunded, receipt.paid);
        let quote = &receipt.quote.quote;
        let mut expected = vec![(quote.provider, receipt.paid), (quote.renter, receipt.refunded)];
        let mut payouts = devnet.chain.payouts(receipt.closed.tx).await?;
        expected.sort();
        payouts.sort();
        assert_eq!(payouts, expected);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_provider_claims_part_way_as_soon_as_that_is_worth_its_gas() -> Result<()> {
    story(async {
        // two cents a second, of which one claim is worth its gas: twenty times the least deposit
        let devnet = Devnet::builder()
            .indexers(1)
            .node(NodeSpec::provider("provider-1").hourly("72"))
            .renters(1)
            .start()
            .await?;
        let (renter, provider) = (devnet.node("renter-1")?, devnet.node("provider-1")?);
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let run = renter.command(["run", "--for", "5m", "--", "sleep", "120"]).stderr(Stdio::piped()).spawn()?;
        let rental = phase(renter, "serving").await?;
        let id = rental.id.to_string();
        eventually("the provider claims part-way", async || {
            let stories: Vec<RentalStory> = provider.json(&["show", &id]).await?;
            Ok(stories.iter().flat_map(|story| &story.steps).find(|step| step.step == "claimed").map(|_| ()))
        })
        .await?;
        let so_far = Books::read(&devnet).await?;
        let claimed = before.change(&so_far, &provider.name);
        ensure!(claimed >= 20_000, "{claimed} base units came in");
        ensure!(devnet.chain.is_open(rental.id.0).await?, "the claim closed the rental");
        assert_eq!(phase(renter, "serving").await?.id, rental.id, "the rental goes on");

        ensure!(renter.call(["stop", &id]).await?.code == 0);
        run.wait_with_output().await?;
        let receipts = books_balance(&devnet, &before).await?;
        let [receipt] = receipts.as_slice() else { panic!("{} receipts of one rental", receipts.len()) };
        ensure!(before.change(&Books::read(&devnet).await?, &provider.name) > claimed, "nothing came after the claim");
        assert_eq!(receipt.seconds as u128 * 20_000, receipt.paid.get(), "a claim changes no price");
        let verified = provider.call(["receipts", "--verify"]).await?;
        ensure!(verified.code == 0, "{}{}", verified.stdout, verified.stderr);
        devnet.stop()
    })
    .await
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}
