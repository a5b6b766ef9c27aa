//! Allowances that a wallet has given, by this node and beside it: listed, and taken back.

use alloy::primitives::{Address, U256};
use anyhow::{Result, ensure};
use api::types::{Approval, Role};
use devnet::{Devnet, Node, NodeSpec, Signal};
use settlement::PERMIT2;
use tests::{eventually, failed_with, story};

/// A spender that nothing here knows.
const STRANGER: Address = Address::repeat_byte(0x5a);

async fn listed(node: &Node) -> Result<Vec<(String, String)>> {
    let found: Vec<Approval> = node.json(&["wallet", "approvals"]).await?;
    Ok(found.into_iter().map(|approval| (approval.spender_name, approval.shown)).collect())
}

fn named(names: &[(&str, &str)]) -> Vec<(String, String)> {
    names.iter().map(|(name, shown)| ((*name).to_owned(), (*shown).to_owned())).collect()
}

#[tokio::test]
async fn allowances_made_beside_the_node_are_listed_and_taken_back() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().renters(1).start().await?;
        let (renter, chain) = (devnet.node("renter-1")?, &devnet.chain);
        assert_eq!(listed(renter).await?, []);
        chain.approve(renter.wallet, PERMIT2, U256::MAX).await?;
        chain.approve(renter.wallet, chain.escrow, U256::from(2_500_000)).await?;
        // what this node has not approved itself, and is no part of its payments, it cannot know of
        chain.approve(renter.wallet, STRANGER, U256::from(1)).await?;
        let both = named(&[("escrow", "2.5 tUSD"), ("Permit2", "unlimited")]);
        assert_eq!(listed(renter).await?, both);
        let shown = renter.call(["wallet", "approvals"]).await?.stdout;
        ensure!(shown.contains(&format!("Permit2 {PERMIT2}")) && shown.contains("unlimited"), "{shown}");

        // without a daemon the chain tells the same, and nothing can be sent
        devnet.signal("renter-1", Signal::TERM)?;
        eventually("the daemon's end", async || devnet.exit_code("renter-1")).await?;
        assert_eq!(listed(renter).await?, both);
        let refused = renter.call(["wallet", "approvals", "--revoke", "all"]).await?;
        failed_with(&refused, 3, &["no daemon listens", "node --role"])?;
        devnet.restart("renter-1").await?;

        let slip = renter.call(["wallet", "approvals", "--revoke", "USDC"]).await?;
        failed_with(&slip, 2, &["no configured token is called USDC", "tUSD"])?;
        let done = renter.call(["wallet", "approvals", "--revoke", "tUSD"]).await?;
        ensure!(done.code == 0, "{}", done.stderr);
        for (number, spender) in [(1, chain.escrow), (2, PERMIT2)] {
            let sent = format!("{number} of 2: approve({spender}, 0) on tUSD {}", chain.token);
            ensure!(done.stderr.contains(&sent), "`{sent}` is not in\n{}", done.stderr);
            assert_eq!(chain.allowance(renter.wallet, spender).await?, U256::ZERO);
        }
        ensure!(done.stdout.matches("tx 0x").count() == 2 && done.stdout.contains(" ETH"), "{}", done.stdout);
        assert_eq!(chain.allowance(renter.wallet, STRANGER).await?, U256::from(1));
        assert_eq!(listed(renter).await?, []);

        // once more: nothing is left to be sent
        let again = renter.call(["wallet", "approvals", "--revoke", "all"]).await?;
        ensure!(again.code == 0 && again.stdout.contains("nothing was sent"), "{}{}", again.stdout, again.stderr);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn an_escrow_that_the_configuration_names_no_more_is_found_in_the_record_of_approvals() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().renters(1).start().await?;
        let (renter, chain) = (devnet.node("renter-1")?, &devnet.chain);
        // the node has a transaction of its own about this spender on record
        chain.approve(renter.wallet, chain.escrow, U256::from(1)).await?;
        ensure!(renter.call(["wallet", "approvals", "--revoke", "all"]).await?.code == 0);
        // then something is allowed to it again, and another escrow takes its place: the same code, at another address
        chain.approve(renter.wallet, chain.escrow, U256::MAX).await?;
        devnet.signal("renter-1", Signal::TERM)?;
        eventually("the daemon's end", async || devnet.exit_code("renter-1")).await?;
        let moved = Address::repeat_byte(0x77);
        chain.copy_code(chain.escrow, moved).await?;
        let path = renter.data_dir.join("config.toml");
        let config = std::fs::read_to_string(&path)?.replace(&chain.escrow.to_string(), &moved.to_string());
        std::fs::write(&path, config)?;

        let old = chain.escrow.to_string();
        assert_eq!(listed(renter).await?, named(&[(&old, "unlimited")]), "from the record on disk");
        devnet.restart("renter-1").await?;
        assert_eq!(listed(renter).await?, named(&[(&old, "unlimited")]), "from the daemon's record");
        let done = renter.call(["wallet", "approvals", "--revoke", "all"]).await?;
        ensure!(done.code == 0, "{}", done.stderr);
        assert_eq!(chain.allowance(renter.wallet, chain.escrow).await?, U256::ZERO);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_daemon_without_a_wallet_leaves_the_list_to_the_chains() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().node(NodeSpec::new("indexer-1", [Role::Indexer])).start().await?;
        let indexer = devnet.node("indexer-1")?;
        devnet.chain.approve(indexer.wallet, PERMIT2, U256::from(1_000_000)).await?;
        assert_eq!(listed(indexer).await?, named(&[("Permit2", "1 tUSD")]));
        devnet.stop()
    })
    .await
}
