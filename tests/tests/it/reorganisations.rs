//! Chains that change their mind, deeper than a node waits for: an opening or a closing that is undone, and comes again or does not.
//! Neither side acts on what is gone, and both end right.

use anyhow::{Context, Result, ensure};
use api::types::{Receipt, RentalRow};
use devnet::{Devnet, Node, NodeSpec, books::Books};
use market::id::RentalId;
use std::time::Duration;
use tests::{books_balance, client::Client, eventually, eventually_within, offers_arrive, phase, receipt, story};

/// A rental through a reorganisation: some confirmations more than usual, and a promise that has to lapse at the worst.
const RENTAL: Duration = Duration::from_secs(120);

async fn network() -> Result<Devnet> {
    let provider = NodeSpec::provider("provider-1").increment_millis(10_000);
    let devnet = Devnet::builder().indexers(1).node(provider).renters(1).start().await?;
    offers_arrive(&devnet, devnet.node("renter-1")?).await?;
    Ok(devnet)
}

/// A program that prints a line and goes on for so many seconds.
fn rent(renter: &Node, seconds: u32) -> Result<Client> {
    let program = format!("echo began; sleep {seconds}; echo ended");
    Client::start(renter, ["run", "--for", "5m", "--", "sh", "-c", &program])
}

/// The hash in the line that the client says about a step.
fn transaction(client: &Client, step: &str) -> Result<alloy_primitives::B256> {
    let said = client.said();
    let line = said.lines().find(|line| line.contains(step)).with_context(|| format!("no line {step} in:\n{said}"))?;
    Ok(line.rsplit_once("tx ").context("a hash")?.1.trim().parse()?)
}

/// Undoes the block of a transaction with all that follow, and puts the transaction into the second of the new ones, or into none.
async fn undo(devnet: &Devnet, tx: alloy_primitives::B256, again: bool) -> Result<()> {
    // deeper than the one confirmation that the nodes wait for
    let (raw, block) = eventually("a block on top", async || {
        let (raw, block) = devnet.chain.transaction(tx).await?.context("the transaction is known")?;
        let block = block.context("the transaction is mined")?;
        Ok((devnet.chain.height().await? > block).then_some((raw, block)))
    })
    .await?;
    let kept = if again { vec![(raw, 1)] } else { vec![] };
    devnet.chain.reorganise(block, &kept).await?;
    let now = devnet.chain.transaction(tx).await?.and_then(|(_, block)| block);
    ensure!(now == again.then_some(block + 1), "it was in block {block} and is now in {now:?}");
    Ok(())
}

async fn rentals_end(devnet: &Devnet) -> Result<()> {
    for node in &devnet.nodes {
        eventually_within(RENTAL, &format!("the end of the rentals of {}", node.name), async || {
            Ok(node.json::<Vec<RentalRow>>(&["ps"]).await?.is_empty().then_some(()))
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_opening_that_comes_again_in_another_block_is_the_same_rental() -> Result<()> {
    story(async {
        let devnet = network().await?;
        let before = Books::read(&devnet).await?;
        let client = rent(devnet.node("renter-1")?, 8)?;
        eventually("the program's first line", async || Ok(client.printed().contains("began").then_some(()))).await?;
        undo(&devnet, transaction(&client, "opened")?, true).await?;
        let done = client.ended(RENTAL).await?;
        ensure!(done.code == 0 && done.stdout == "began\nended\n", "{}{}", done.stdout, done.stderr);
        rentals_end(&devnet).await?;
        assert_eq!(books_balance(&devnet, &before).await?.len(), 1);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn an_opening_that_is_gone_is_served_by_nobody_and_paid_by_nobody_unless_it_is_made_again() -> Result<()> {
    story(async {
        let devnet = network().await?;
        let before = Books::read(&devnet).await?;
        let renter = devnet.node("renter-1")?;
        let client = rent(renter, 60)?;
        eventually("the program's first line", async || Ok(client.printed().contains("began").then_some(()))).await?;
        let row = phase(renter, "serving").await?;
        undo(&devnet, transaction(&client, "opened")?, false).await?;
        eventually_within(RENTAL, "both sides to see what the chain says", async || {
            if devnet.chain.is_open(row.id.0).await? {
                return Ok(Some(()));
            }
            let mut served = false;
            for node in &devnet.nodes {
                let rows: Vec<RentalRow> = node.json(&["ps"]).await?;
                served |= rows.iter().any(|row| ["preparing", "serving", "frozen"].contains(&row.phase.as_str()));
            }
            Ok((!served).then_some(()))
        })
        .await?;
        let _ = renter.call(["stop", &row.id.to_string()]).await?;
        client.ended(RENTAL).await?;
        rentals_end(&devnet).await?;
        settled_as_the_chain_says(&devnet, row.id, &before).await?;
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_closing_that_comes_again_in_another_block_is_what_the_receipts_say() -> Result<()> {
    closing_undone(true).await
}

#[tokio::test]
async fn a_closing_that_is_gone_is_made_again() -> Result<()> {
    closing_undone(false).await
}

async fn closing_undone(again: bool) -> Result<()> {
    story(async {
        let devnet = network().await?;
        let before = Books::read(&devnet).await?;
        let (renter, provider) = (devnet.node("renter-1")?, devnet.node("provider-1")?);
        let done = rent(renter, 1)?.ended(RENTAL).await?;
        ensure!(done.code == 0, "{}", done.stderr);
        receipt(provider).await?;
        let first = receipt(renter).await?;
        undo(&devnet, first.closed.tx, again).await?;
        eventually_within(RENTAL, "the rental to be closed again", async || {
            Ok((!devnet.chain.is_open(first.id.0).await?).then_some(()))
        })
        .await?;
        eventually_within(RENTAL, "receipts that the chain agrees with", async || {
            Ok(settled_as_the_chain_says(&devnet, first.id, &before).await.is_ok().then_some(()))
        })
        .await?;
        rentals_end(&devnet).await?;
        settled_as_the_chain_says(&devnet, first.id, &before).await?;
        devnet.stop()
    })
    .await
}

/// Whatever became of it: a rental that the chain opened and closed has two receipts, one that it does not know has none, and every balance
/// follows from them.
async fn settled_as_the_chain_says(devnet: &Devnet, id: RentalId, before: &Books) -> Result<()> {
    let life = devnet.chain.life_of(id.0).await?;
    let receipts: Vec<Receipt> = books_balance(devnet, before).await?;
    match life {
        (0, 0) => ensure!(receipts.is_empty(), "the chain has no such rental, but there are receipts"),
        (1, 1) => ensure!(receipts.len() == 1, "the chain has closed it, but there are {} receipts", receipts.len()),
        (opened, closed) => anyhow::bail!("opened {opened} times and closed {closed} times"),
    }
    Ok(())
}
