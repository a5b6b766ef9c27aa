//! Offers that nobody told the renter of: found by asking an indexer, over the network and over HTTP, and rented.

use anyhow::{Context, Result, ensure};
use api::types::OfferRow;
use devnet::{Devnet, NodeSpec, books::Books};
use serde_json::Value;
use std::time::Duration;
use tests::{books_balance, eventually, failed_with, offers_arrive, story};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A renter that follows another class than any that is offered, and asks so many indexers.
fn elsewhere(name: &str, indexers: i64) -> NodeSpec {
    NodeSpec::renter(name).config(move |config| {
        let renter = config.entry("renter").or_insert_with(|| toml::Value::Table(toml::Table::new()));
        if let Some(renter) = renter.as_table_mut() {
            renter.insert("classes".into(), toml::Value::Array(vec!["h200".into()]));
            renter.insert("indexers".into(), indexers.into());
        }
    })
}

/// What a plain HTTP client gets, read to its end.
async fn get(address: &str, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(30), stream.read_to_string(&mut answer)).await??;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(answer)
}

#[tokio::test]
async fn offers_that_only_an_indexer_knows_are_found_and_rented() -> Result<()> {
    story(async {
        let devnet =
            Devnet::builder().indexers(1).providers(1).node(elsewhere("asks", 3)).node(elsewhere("waits", 0)).start();
        let devnet = devnet.await?;
        let (asks, waits) = (devnet.node("asks")?, devnet.node("waits")?);
        offers_arrive(&devnet, asks).await?;
        let rows: Vec<OfferRow> = asks.json(&["offers", "cpus>=1"]).await?;
        assert_eq!(rows.len(), 1);
        failed_with(&waits.call(["offers"]).await?, 4, &["no offers are known"])?;

        let before = Books::read(&devnet).await?;
        let done = asks.call(["run", "--for", "1m", "--", "echo", "found"]).await?;
        assert_eq!((done.code, done.stdout.as_str()), (0, "found\n"), "{}", done.stderr);
        assert_eq!(books_balance(&devnet, &before).await?.len(), 1);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn an_indexer_that_is_killed_answers_as_before() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).providers(1).start().await?;
        let indexer = devnet.node("indexer-1")?;
        let acknowledged = eventually("an offer that is on disk", async || {
            let address = indexer.searches().context("the indexer serves no searches")?;
            let answer = get(&address, "/v1/changes").await?;
            let (_, body) = answer.split_once("\r\n\r\n").context("a body")?;
            let body: Value = serde_json::from_str(body)?;
            Ok(body["ads"].get(0).cloned())
        });
        let acknowledged = acknowledged.await?;
        devnet.signal("provider-1", devnet::Signal::KILL)?;
        devnet.signal("indexer-1", devnet::Signal::KILL)?;
        devnet.restart("indexer-1").await?;
        let address = indexer.searches().context("the indexer serves no searches")?;
        let peer = acknowledged["peer"].as_str().context("a peer")?;
        let answer = get(&address, &format!("/v1/ads/{peer}")).await?;
        let (_, body) = answer.split_once("\r\n\r\n").context("a body")?;
        let again: Value = serde_json::from_str(body)?;
        // the provider may have renewed it before it died
        ensure!(
            again["updated_at"].as_u64() >= acknowledged["updated_at"].as_u64(),
            "{again} is older than {acknowledged}"
        );
        ensure!(get(&address, "/v1/search?query=cpus%3E%3D1").await?.contains(peer), "it is not found any more");
        devnet.stop()
    })
    .await
}
