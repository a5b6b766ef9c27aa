//! Ratings and reputation, from a renter's word to what an indexer tells others: what is real counts once, what is forged counts nothing,
//! and what the chain takes back is taken back.

use anyhow::{Context, Result, ensure};
use api::types::{RatingState, RatingView, Receipt, Reputation, Role};
use devnet::{Devnet, Node, NodeSpec, Signal};
use market::{
    id::RentalId,
    rating::{RatingStatement, SignedRating},
    signed::Escrow,
    time::UnixMillis,
};
use network::{Config, Interest, Network, PeerId, identity::Keypair};
use settlement::Wallet;
use std::time::Duration;
use tests::{client::Client, eventually, eventually_within, failed_with, offers_arrive, phase, receipt, story};
use tokio_util::sync::CancellationToken;
use wire::proto::{RatingsRequest, given::State, ratings_request::Request, ratings_response::Response};

/// A rental of a few seconds with its end, or the record catching up with a chain.
const RENTAL: Duration = Duration::from_secs(120);

async fn three_nodes() -> Result<Devnet> {
    let provider = NodeSpec::provider("provider-1").increment_millis(10_000);
    let devnet = Devnet::builder().indexers(1).node(provider).renters(1).start().await?;
    offers_arrive(&devnet, devnet.node("renter-1")?).await?;
    Ok(devnet)
}

async fn rented(devnet: &Devnet) -> Result<Receipt> {
    let renter = devnet.node("renter-1")?;
    let done = renter.call(["run", "--for", "5m", "--", "sh", "-c", "sleep 2"]).await?;
    ensure!(done.code == 0, "{}", done.stderr);
    receipt(renter).await
}

/// What a node tells of the provider, once it is as wanted.
async fn told(node: &Node, devnet: &Devnet, wanted: impl Fn(&Reputation) -> bool) -> Result<Reputation> {
    let wallet = devnet.node("provider-1")?.wallet.to_string();
    eventually_within(RENTAL, &format!("{} to tell it", node.name), async || {
        let mut line = vec!["--json", "reputation", &wallet];
        // an indexer has no past of its own
        line.extend(node.roles.contains(&Role::Renter).then_some("--mine"));
        let done = node.call(line).await?;
        Ok(if done.code == 0 { Some(done.json::<Reputation>()?).filter(&wanted) } else { None })
    })
    .await
}

fn counts(known: &Reputation) -> (u32, u32, Option<u32>) {
    (known.standing.completed, known.standing.ratings, known.standing.rating)
}

/// Somebody in the network that gives an indexer what it likes.
struct Stranger {
    network: Network,
    keeper: PeerId,
    key: Wallet,
}

impl Stranger {
    async fn join(devnet: &Devnet) -> Result<Self> {
        let indexer = devnet.node("indexer-1")?;
        let mut config = Config::new(Keypair::generate_ed25519(), devnet.name.clone());
        (config.bootstrap, config.classes) = (vec![indexer.address().parse()?], Interest::none());
        let network = Network::start(config, CancellationToken::new()).await?;
        let keeper: PeerId = indexer.peer.parse()?;
        let handle = network.handle();
        eventually("the indexer to say that it keeps ratings", async || {
            Ok(handle.rating_keepers().await?.contains(&keeper).then_some(()))
        })
        .await?;
        Ok(Self { network, keeper, key: Wallet::random() })
    }

    /// Rates somebody else's rental, by gossip and to the indexer's face, and gives the answer.
    async fn rate(&self, escrow: Escrow, id: RentalId) -> Result<(State, String)> {
        let comment = "never rented there".to_owned();
        let (stars, checks) = (Some(1.try_into()?), None);
        let statement = RatingStatement { escrow, id, stars, comment, checks, at: UnixMillis::now() };
        let rating = SignedRating { signature: self.key.sign_digest(&statement.digest())?, statement };
        let handle = self.network.handle();
        ensure!(handle.publish_rating(&rating).await?, "nobody follows ratings");
        let request = RatingsRequest { request: Some(Request::Give(wire::rating_to_proto(&rating))) };
        match handle.ask_ratings(self.keeper, request).await?.response {
            Some(Response::Given(given)) => Ok((given.state(), given.detail)),
            other => anyhow::bail!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_rating_of_a_rental_is_told_by_an_indexer_and_holds_against_the_chain() -> Result<()> {
    story(async {
        let devnet = three_nodes().await?;
        let (renter, indexer) = (devnet.node("renter-1")?, devnet.node("indexer-1")?);
        let receipt = rented(&devnet).await?;
        let id = receipt.id.to_string();
        let unrated = told(indexer, &devnet, |known| known.standing.completed == 1).await.context("the rental")?;
        ensure!(counts(&unrated) == (1, 0, None), "{unrated:#?}");
        ensure!(unrated.standing.reliability == Some(500_000), "{unrated:#?}");

        let rating: RatingView = renter.json(&["rate", &id, "--stars", "5", "--comment", "as offered"]).await?;
        ensure!(rating.state != RatingState::GivenUp, "{rating:?}");
        let known = told(renter, &devnet, |known| known.standing.ratings == 1).await?;
        ensure!(counts(&known) == (1, 1, Some(5_000)) && known.source == indexer.peer, "{known:#?}");
        ensure!(
            known.standing.paid_seconds >= 1 && known.trusted_seconds == Some(known.standing.paid_seconds),
            "{known:#?}"
        );

        // said again it counts once, and the later word counts
        renter.json::<RatingView>(&["rate", &id, "--stars", "2"]).await?;
        let known = told(renter, &devnet, |known| known.standing.rating == Some(2_000)).await?;
        ensure!(counts(&known) == (1, 1, Some(2_000)), "{known:#?}");

        let wallet = devnet.node("provider-1")?.wallet.to_string();
        let looked_up: Reputation = renter.json(&["reputation", &wallet, "--verify"]).await?;
        let [past] = &looked_up.rentals[..] else { anyhow::bail!("{looked_up:#?}") };
        ensure!(past.id == receipt.id && past.verified == Some(true), "{past:#?}");
        let stars = past.rating.as_ref().and_then(|rating| rating.statement.stars);
        ensure!(stars.is_some_and(|stars| stars.get() == 2), "{past:#?}");
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn what_a_stranger_says_and_what_is_said_of_an_open_rental_counts_nothing() -> Result<()> {
    story(async {
        let devnet = three_nodes().await?;
        let (renter, indexer) = (devnet.node("renter-1")?, devnet.node("indexer-1")?);
        let stranger = Stranger::join(&devnet).await?;

        let client = Client::start(renter, ["run", "--for", "5m", "--", "sh", "-c", "sleep 6"])?;
        let open = phase(renter, "serving").await?;
        failed_with(&renter.call(["rate", &open.id.to_string(), "--stars", "5"]).await?, 2, &["is not closed"])?;
        let escrow = Escrow { chain: devnet::chain::CHAIN_ID.into(), address: devnet.chain.escrow };
        let (state, why) = stranger.rate(escrow, open.id).await?;
        ensure!(state != State::Kept, "{why}");
        ensure!(client.ended(RENTAL).await?.code == 0, "the rental failed");
        let receipt = receipt(renter).await?;

        told(indexer, &devnet, |known| known.standing.completed == 1).await?;
        let (state, why) = stranger.rate(receipt.quote.escrow, receipt.id).await?;
        ensure!(state == State::Refused && why.contains("did not rent"), "{state:?}: {why}");
        renter.json::<RatingView>(&["rate", &receipt.id.to_string(), "--stars", "4"]).await?;
        let known = told(indexer, &devnet, |known| known.standing.ratings > 0).await?;
        ensure!(counts(&known) == (1, 1, Some(4_000)), "{known:#?}");
        stranger.network.shutdown().await;
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn an_end_that_the_chain_takes_back_is_taken_back_with_its_rating_and_comes_again_with_it() -> Result<()> {
    story(async {
        let devnet = three_nodes().await?;
        let (renter, indexer) = (devnet.node("renter-1")?, devnet.node("indexer-1")?);
        let receipt = rented(&devnet).await?;
        renter.json::<RatingView>(&["rate", &receipt.id.to_string(), "--stars", "3"]).await?;
        told(indexer, &devnet, |known| counts(known) == (1, 1, Some(3_000))).await.context("before")?;

        // both would close it again at once
        for name in ["provider-1", "renter-1"] {
            devnet.signal(name, Signal::KILL)?;
            devnet.ended(name).await?;
        }
        devnet.chain.reorganise(receipt.closed.block, &[]).await?;
        // for a moment the opening is not known either, when blocks before it are read again
        let is_open = |known: &Reputation| counts(known) == (0, 0, None) && known.record.open == 1;
        told(indexer, &devnet, is_open).await.context("taken back")?;

        devnet.restart("provider-1").await?;
        told(indexer, &devnet, |known| counts(known) == (1, 1, Some(3_000))).await.context("closed again")?;
        devnet.stop()
    })
    .await
}
