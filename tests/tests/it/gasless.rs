//! Renters who own a token and none of the chain's coin: they get in and out all the same.

use anyhow::{Result, ensure};
use api::types::RentalRow;
use devnet::{Devnet, NodeSpec, Signal, books::Books};
use std::process::Stdio;
use tests::{books_balance, eventually, failed_with, nothing_happened, offers_arrive, phase, receipt, story};

#[tokio::test]
async fn a_renter_without_coin_is_let_in_by_its_provider_and_leaves_with_the_rest() -> Result<()> {
    story(async {
        let renter = NodeSpec::renter("renter-1").coin("0");
        let devnet = Devnet::builder().indexers(1).providers(1).node(renter).start().await?;
        let (renter, provider) = (devnet.node("renter-1")?, devnet.node("provider-1")?);
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let done = renter.call(["run", "--for", "5m", "--", "sh", "-c", "sleep 2; echo done"]).await?;
        ensure!(done.code == 0 && done.stdout == "done\n", "{}{}", done.stdout, done.stderr);
        for words in [
            "ReceiveWithAuthorization (ERC-3009) of tUSD",
            "(the rental's id)",
            "mandated  the provider opens and pays the gas; 0.001 tUSD is paid in advance",
        ] {
            ensure!(done.stderr.contains(words), "“{words}” is not said:\n{}", done.stderr);
        }

        let receipts = books_balance(&devnet, &before).await?;
        let [receipt] = receipts.as_slice() else { panic!("{} receipts of one rental", receipts.len()) };
        ensure!(receipt.refunded > receipt.paid && receipt.paid.get() > 0, "{receipt:?}");
        ensure!(devnet.chain.coin(renter.sender).await?.is_zero(), "somebody gave it coin");
        for node in [renter, provider] {
            let story = node.call(["show", &receipt.id.to_string()]).await?.stdout;
            ensure!(story.contains("mandated"), "{story}");
            let verified = node.call(["receipts", "--verify"]).await?;
            ensure!(verified.code == 0, "{}{}", verified.stdout, verified.stderr);
        }
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_renter_without_coin_whose_provider_has_gone_is_brought_out_by_an_indexer() -> Result<()> {
    story(async {
        let renter = NodeSpec::renter("renter-1").coin("0");
        let devnet = Devnet::builder().indexers(1).providers(1).node(renter).start().await?;
        let (renter, indexer) = (devnet.node("renter-1")?, devnet.node("indexer-1")?);
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let run = renter.command(["run", "--for", "5m", "--", "sleep", "300"]).stderr(Stdio::piped()).spawn()?;
        let rental = phase(renter, "serving").await?;
        devnet.signal("provider-1", Signal::KILL)?;
        phase(renter, "leaving").await?;
        let carries = async || Ok(indexer.log().contains("carrying a renter's Stop").then_some(()));
        eventually("the indexer takes the errand on", carries).await?;
        let stopped = async || Ok((devnet.chain.sent_by(indexer.sender).await? == 1).then_some(()));
        eventually("the Stop is on chain", stopped).await?;
        // what is promised survives
        devnet.signal("indexer-1", Signal::KILL)?;
        devnet.restart("indexer-1").await?;
        devnet.chain.pass(901).await?;

        let receipt = receipt(renter).await?;
        ensure!(receipt.id == rental.id && receipt.kind == 3, "finalized after a stop: {receipt:?}");
        ensure!(receipt.refunded == receipt.deposit && receipt.paid.get() == 0, "nothing was claimed: {receipt:?}");
        run.wait_with_output().await?;
        let after = Books::read(&devnet).await?;
        for node in &devnet.nodes {
            ensure!(before.change(&after, &node.name) == 0, "{} has more or less than before", node.name);
        }
        ensure!(devnet.chain.coin(renter.sender).await?.is_zero(), "somebody gave it coin");
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_provider_that_opens_for_nobody_says_so_and_nothing_is_locked() -> Result<()> {
    story(async {
        let provider = NodeSpec::provider("provider-1").config(|config| {
            config["provider"]["mandates_per_hour"] = 0.into();
        });
        let renter = NodeSpec::renter("renter-1").coin("0");
        let devnet = Devnet::builder().indexers(1).node(provider).node(renter).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let refused = renter.call(["run", "--", "true"]).await?;
        failed_with(&refused, 6, &["at most 0 rentals an hour are opened for others"])?;
        let lapsed =
            async || Ok(devnet.node("provider-1")?.json::<Vec<RentalRow>>(&["ps"]).await?.is_empty().then_some(()));
        eventually("the provider's hold ends", lapsed).await?;
        nothing_happened(&devnet, &before).await?;
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_smart_account_rents_and_is_refunded_in_its_owners_stead() -> Result<()> {
    story(async {
        let renter = NodeSpec::renter("renter-1").smart_account();
        let devnet = Devnet::builder().indexers(1).providers(1).node(renter).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let done = renter.call(["run", "--for", "5m", "--", "sh", "-c", "sleep 2; echo done"]).await?;
        ensure!(done.code == 0 && done.stdout == "done\n", "{}{}", done.stdout, done.stderr);
        let receipt = receipt(renter).await?;
        ensure!(receipt.quote.quote.renter == renter.wallet && renter.wallet != renter.sender, "{receipt:?}");
        books_balance(&devnet, &before).await?;
        devnet.stop()
    })
    .await
}
