//! Rentals that end at the same moment: their provider closes them in one transaction.

use anyhow::{Context, Result, ensure};
use api::types::{Receipt, RentalRow};
use devnet::{Devnet, NodeSpec, SlotSpec, books::Books};
use futures::future::try_join_all;
use std::{collections::BTreeSet, time::Duration};
use tests::{books_balance, client::Client, eventually, eventually_within, offers_arrive, phase, story};

/// How many rent at once.
const RENTERS: usize = 3;
/// How long the provider takes blocks to be, and so gathers closings, in milliseconds: commands that are given at one moment to several
/// nodes of a busy machine reach the provider within it.
const GATHERING: i64 = 4_000;
/// The longest that a death, a new start and a closing may take.
const REBIRTH: Duration = Duration::from_secs(90);

async fn network() -> Result<Devnet> {
    let slots = [SlotSpec { count: u32::try_from(RENTERS)?, ..SlotSpec::default() }];
    let gather = |config: &mut toml::Table| {
        let chains = config.get_mut("chain").and_then(toml::Value::as_array_mut);
        for chain in chains.into_iter().flatten().filter_map(toml::Value::as_table_mut) {
            chain.insert("block_time_ms".into(), GATHERING.into());
        }
    };
    let provider = NodeSpec::provider("provider-1").increment_millis(10_000).slots(slots).config(gather);
    let devnet = Devnet::builder().indexers(1).node(provider).renters(RENTERS).start().await?;
    for number in 1..=RENTERS {
        offers_arrive(&devnet, devnet.node(&format!("renter-{number}"))?).await?;
    }
    Ok(devnet)
}

/// Everybody rents, and when all are served, all stop at once.
async fn all_stop_at_once(devnet: &Devnet) -> Result<Vec<Client>> {
    let mut runs = Vec::new();
    let mut stops = Vec::new();
    for number in 1..=RENTERS {
        let renter = devnet.node(&format!("renter-{number}"))?;
        runs.push(Client::start(renter, ["run", "--for", "10m", "--", "sleep", "500"])?);
    }
    for number in 1..=RENTERS {
        let renter = devnet.node(&format!("renter-{number}"))?;
        let rental = phase(renter, "serving").await?;
        stops.push(async move { renter.call(["stop", &rental.id.to_string()]).await });
    }
    for stopped in try_join_all(stops).await? {
        ensure!(stopped.code == 0, "{}", stopped.stderr);
    }
    Ok(runs)
}

/// Waits for the end of all, holds the books, and returns the receipts.
async fn settled(devnet: &Devnet, runs: Vec<Client>, before: &Books) -> Result<Vec<Receipt>> {
    for run in runs {
        run.ended(REBIRTH).await?;
    }
    for node in &devnet.nodes {
        eventually_within(REBIRTH, &format!("the end of the rentals of {}", node.name), async || {
            Ok(node.json::<Vec<RentalRow>>(&["ps"]).await?.is_empty().then_some(()))
        })
        .await?;
        let verified = node.call(["receipts", "--verify"]).await?;
        ensure!(verified.code == 0, "{}: {}{}", node.name, verified.stdout, verified.stderr);
    }
    let receipts = books_balance(devnet, before).await?;
    ensure!(receipts.len() == RENTERS, "{} receipts", receipts.len());
    Ok(receipts)
}

#[tokio::test]
async fn rentals_that_end_at_the_same_moment_are_closed_in_one_transaction() -> Result<()> {
    story(async {
        let devnet = network().await?;
        let before = Books::read(&devnet).await?;
        let runs = all_stop_at_once(&devnet).await?;
        let receipts = settled(&devnet, runs, &before).await?;

        let transactions: BTreeSet<_> = receipts.iter().map(|receipt| receipt.closed.tx).collect();
        assert_eq!(transactions.len(), 1, "{receipts:#?}");
        let closed = receipts.first().context("a receipt")?.closed.tx;
        let provider = devnet.node("provider-1")?.wallet;
        let (earned, refunds): (Vec<_>, Vec<_>) =
            devnet.chain.payouts(closed).await?.into_iter().partition(|(payee, _)| *payee == provider);
        let paid: u128 = receipts.iter().map(|receipt| receipt.paid.get()).sum();
        assert_eq!(
            earned.iter().map(|(_, amount)| amount.get()).collect::<Vec<_>>(),
            [paid],
            "it is paid in one transfer"
        );
        assert_eq!(refunds.len(), RENTERS);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_batch_that_the_chain_goes_back_on_is_made_again() -> Result<()> {
    story(async {
        let devnet = network().await?;
        let before = Books::read(&devnet).await?;
        let runs = all_stop_at_once(&devnet).await?;
        let first = settled(&devnet, runs, &before).await?;
        for receipt in &first {
            devnet.chain.closed(receipt.closed.tx, receipt.id.0).await?;
        }
        let block = first.iter().map(|receipt| receipt.closed.block).min().context("a receipt")?;
        eventually("a block on top", async || Ok((devnet.chain.height().await? > block).then_some(()))).await?;
        devnet.chain.reorganise(block, &[]).await?;
        for receipt in &first {
            ensure!(devnet.chain.is_open(receipt.id.0).await?, "the chain still has the closing");
        }
        eventually_within(REBIRTH, "receipts that the chain agrees with", async || {
            Ok(books_balance(&devnet, &before).await.ok().filter(|receipts| receipts.len() == RENTERS).map(drop))
        })
        .await?;
        for receipt in &first {
            assert_eq!(devnet.chain.life_of(receipt.id.0).await?, (1, 1));
        }
        devnet.stop()
    })
    .await
}

/// Kills the provider at a point on the way of a batch, and starts it again.
async fn batch_survives(point: &str) -> Result<()> {
    story(async {
        let devnet = network().await?;
        let before = Books::read(&devnet).await?;
        devnet.signal("provider-1", devnet::Signal::KILL)?;
        devnet.restart_to_die_at("provider-1", point).await?;
        for number in 1..=RENTERS {
            offers_arrive(&devnet, devnet.node(&format!("renter-{number}"))?).await?;
        }
        let runs = all_stop_at_once(&devnet).await?;
        let code = eventually("the provider's death", async || devnet.exit_code("provider-1")).await?;
        ensure!(code == 137, "it ended with {code} instead of being killed at {point}");
        devnet.restart("provider-1").await?;
        let receipts = settled(&devnet, runs, &before).await?;
        for receipt in &receipts {
            assert_eq!(devnet.chain.life_of(receipt.id.0).await?, (1, 1));
        }
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_provider_that_dies_before_its_batch_is_on_disk_closes_all_the_same() -> Result<()> {
    batch_survives("provider.closings.gathered").await
}

#[tokio::test]
async fn a_provider_that_dies_when_its_batch_is_on_disk_sends_that_one() -> Result<()> {
    batch_survives("sender.close_many.saved").await
}

#[tokio::test]
async fn a_provider_that_dies_when_its_batch_is_mined_knows_it_afterwards() -> Result<()> {
    batch_survives("sender.close_many.mined").await
}
