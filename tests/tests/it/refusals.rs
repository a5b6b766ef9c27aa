//! Bad input: a clear error with its own exit code, and nothing lost.

use anyhow::{Result, ensure};
use devnet::{Devnet, NodeSpec, books::Books};
use tests::{failed_with, nothing_happened, offers_arrive, story};

#[tokio::test]
async fn a_search_that_nothing_meets_and_one_that_makes_no_sense_say_so() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().providers(1).renters(1).start().await?;
        let renter = devnet.node("renter-1")?;
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;

        failed_with(&renter.call(["offers", "cpus>=64"]).await?, 4, &["cpus>=64"])?;
        failed_with(&renter.call(["run", "--where", "cpus>=64", "--", "true"]).await?, 4, &["cpus>=64"])?;
        failed_with(&renter.call(["offers", "memmory>=1"]).await?, 2, &["memmory", "memory"])?;
        failed_with(&renter.call(["run", "--where", "pric<=1", "--", "true"]).await?, 2, &["pric", "price"])?;
        failed_with(&renter.call(["run", "--max-spend", "a lot", "--", "true"]).await?, 2, &["a lot"])?;
        failed_with(&renter.call(["run"]).await?, 2, &["CMD"])?;
        nothing_happened(&devnet, &before).await?;
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn too_little_money_or_gas_is_told_before_anything_is_spent() -> Result<()> {
    story(async {
        // a token that takes signatures would let in whoever has no coin
        let devnet = Devnet::builder()
            .plain_token()
            .providers(1)
            .node(NodeSpec::renter("no-dollars").dollars("0.0005"))
            .node(NodeSpec::renter("no-coin").coin("0"))
            .start()
            .await?;
        let before = Books::read(&devnet).await?;
        for (name, word) in [("no-dollars", "tUSD"), ("no-coin", "gas")] {
            let renter = devnet.node(name)?;
            offers_arrive(&devnet, renter).await?;
            let coin = devnet.chain.coin(renter.sender).await?;
            failed_with(&renter.call(["run", "--for", "1h", "--", "true"]).await?, 5, &[word])?;
            assert_eq!(devnet.chain.coin(renter.sender).await?, coin, "{name} paid fees for nothing");
        }
        nothing_happened(&devnet, &before).await?;
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_wrong_chain_id_and_an_escrow_with_other_code_are_refused() -> Result<()> {
    story(async {
        let devnet = Devnet::builder()
            .providers(1)
            .node(NodeSpec::renter("wrong-chain").may_fail().config(|config| {
                config["chain"][0]["chain_id"] = 1.into();
            }))
            .node(NodeSpec::renter("wrong-escrow").may_fail().config(|config| {
                // There is code at this address, but it is the dollar's.
                config["chain"][0]["escrow"] = config["chain"][0]["token"][0]["address"].clone();
            }))
            .start()
            .await?;
        let before = Books::read(&devnet).await?;
        for (name, words) in [("wrong-chain", ["31337", "chain_id"]), ("wrong-escrow", ["code", "escrow"])] {
            let node = devnet.node(name)?;
            assert_eq!(devnet.ended(name).await?, 7, "{}", node.log());
            for word in words {
                ensure!(node.log().contains(word), "`{word}` is not in what {name} said:\n{}", node.log());
            }
        }
        nothing_happened(&devnet, &before).await?;
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_second_daemon_with_the_same_key_in_a_directory_of_its_own_is_refused() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().providers(1).renters(1).start().await?;
        let renter = devnet.node("renter-1")?;
        let before = Books::read(&devnet).await?;
        let folder = tempfile::tempdir()?;
        let mut twin = renter.clone();
        twin.data_dir = folder.path().join("data");
        std::fs::create_dir_all(twin.data_dir.join("keystore"))?;
        for file in ["config.toml", "peer.key", "keystore/wallet.json"] {
            std::fs::copy(renter.data_dir.join(file), twin.data_dir.join(file))?;
        }
        let mut command = twin.command(["--role", "renter"]);
        // where it meets nobody: it is the key that must be refused
        let output = command.env("GPULEASE_NETWORK__LISTEN", "/ip4/127.0.0.1/tcp/0").output().await?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(7), "{:?}: {stderr}", output.status);
        ensure!(stderr.contains("used by another program") && stderr.contains(&renter.wallet.to_string()), "{stderr}");
        nothing_happened(&devnet, &before).await?;
        devnet.stop()
    })
    .await
}
