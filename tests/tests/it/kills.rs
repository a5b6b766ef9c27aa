//! Every process killed outright, at lines that matter and at moments that matter, in the middle of a rental: it is started again, the
//! rental ends as it should, and the books are right to the unit. A few deaths of each process here; all of them with `tests/kills`,
//! whose last result is in `docs/survival.md`.

mod ground;
mod load;
mod points;

use anyhow::{Context, Result};
use devnet::ENDPOINT;
use ground::Ground;
use points::{At, Death};
use std::{fmt::Write, time::Duration};
use tests::{record, story, story_within};

/// The longest that all deaths of one process may take: some forty of them, half a minute each on a busy machine.
const ALL: Duration = Duration::from_secs(2_400);

/// Has a process die all its deaths, one rental after the other. Tells of each.
async fn die(who: &str, deaths: &[Death]) -> Result<String> {
    let mut ground = Ground::start().await?;
    let mut told = String::new();
    for (at, outcome) in deaths {
        let name = name(at);
        let became = ground.survive(who, *at, *outcome).await.with_context(|| format!("{who} killed at {name}"))?;
        eprintln!("{who} killed at {name}: {became}");
        writeln!(told, "| {who} | {name} | {became} |")?;
    }
    ground.stop().await?;
    Ok(told)
}

fn name(at: &At) -> String {
    match at {
        At::Line(point) => format!("`{point}`"),
        At::Before => "before the run".to_owned(),
        At::Said(words) => format!("when “{words}” was said"),
    }
}

/// Those of `all` that stand for the rest.
fn chosen(all: &[Death], names: &[&str]) -> Vec<Death> {
    let chosen: Vec<Death> =
        all.iter().filter(|(at, _)| matches!(at, At::Line(point) if names.contains(point))).copied().collect();
    assert_eq!(chosen.len(), names.len(), "a point that is not in the table");
    chosen
}

#[tokio::test]
async fn a_provider_killed_where_it_matters_most_settles_to_the_unit() -> Result<()> {
    let names = ["provider.opened.written", "provider.voucher.written", "sender.close.broadcast"];
    story(async { die("provider-1", &chosen(points::PROVIDER, &names)).await.map(drop) }).await
}

#[tokio::test]
async fn a_renter_killed_where_it_matters_most_settles_to_the_unit() -> Result<()> {
    let names = ["sender.open.saved", "renter.signed.written", "renter.output.passed:3", "renter.receipt.writing"];
    story(async { die("renter-1", &chosen(points::RENTER, &names)).await.map(drop) }).await
}

#[tokio::test]
async fn an_indexer_killed_as_offers_arrive_is_of_use_again() -> Result<()> {
    let names = ["indexer.ad.arrived", "indexer.book.read"];
    story(async { die("indexer-1", &chosen(points::INDEXER, &names)).await.map(drop) }).await
}

#[tokio::test]
async fn a_chain_endpoint_killed_with_the_answer_in_its_hands_costs_nobody_anything() -> Result<()> {
    let names = ["rpc.eth_sendRawTransaction.answered:2", "rpc.eth_sendRawTransaction.answered:3"];
    story(async { die(ENDPOINT, &chosen(points::ENDPOINT, &names)).await.map(drop) }).await
}

#[tokio::test]
#[ignore = "takes ten minutes: tests/kills runs it"]
async fn all_deaths_of_the_provider() -> Result<()> {
    story_within(ALL, async { record("1-provider.md", &die("provider-1", points::PROVIDER).await?) }).await
}

#[tokio::test]
#[ignore = "takes ten minutes: tests/kills runs it"]
async fn all_deaths_of_the_renter() -> Result<()> {
    story_within(ALL, async { record("2-renter.md", &die("renter-1", points::RENTER).await?) }).await
}

#[tokio::test]
#[ignore = "takes ten minutes: tests/kills runs it"]
async fn all_deaths_of_the_indexer() -> Result<()> {
    story_within(ALL, async { record("3-indexer.md", &die("indexer-1", points::INDEXER).await?) }).await
}

#[tokio::test]
#[ignore = "takes ten minutes: tests/kills runs it"]
async fn all_deaths_of_the_chains_endpoint() -> Result<()> {
    story_within(ALL, async { record("4-endpoint.md", &die(ENDPOINT, points::ENDPOINT).await?) }).await
}
