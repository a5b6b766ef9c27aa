//! Nobody but the renter gets in: whoever else is on the network and opens a stream into a rental is refused, with whatever it shows.

use alloy_primitives::B256;
use anyhow::{Context, Result, ensure};
use api::types::RentalRow;
use devnet::{Devnet, Node, Signal};
use market::{id::RentalId, refusal::RefusalCode, signed::Escrow};
use network::{Config, Handle, Interest, Network, OpenError, PeerId, identity::Keypair};
use settlement::Wallet;
use std::{fs, time::Duration};
use store::{Json, Store, Table, TableDef};
use tests::{client::Client, eventually, offers_arrive, phase, story};
use tokio_util::sync::CancellationToken;
use wire::{
    Grant,
    proto::{self, session_header::Kind},
};

/// How long a rental may take to be over.
const END: Duration = Duration::from_secs(60);

/// A grant as a renter's session key signs it.
fn grant(key: &Wallet, escrow: &Escrow, grant: &Grant, provider: PeerId, guest: PeerId) -> Result<proto::SessionGrant> {
    Ok(wire::grant_to_proto(grant, &key.sign_digest(&grant.digest(&provider, &guest, escrow))?))
}

/// A grant of a rental for longer than anything lasts.
const fn forever(id: RentalId) -> Grant {
    Grant { id, serial: 0, expires: u64::MAX / 1_000 }
}

/// Somebody in the network who wants to get in.
async fn stranger(devnet: &Devnet, provider: &Node, identity: Keypair) -> Result<Network> {
    let mut config = Config::new(identity, devnet.name.clone());
    (config.bootstrap, config.classes) = (vec![provider.address().parse()?], Interest::none());
    Network::start(config, CancellationToken::new()).await.map_err(Into::into)
}

/// Waits until the provider can be asked.
async fn a_way(network: &Handle, provider: PeerId) -> Result<()> {
    eventually("a way to the provider", async || {
        let header = proto::SessionHeader::default();
        Ok(matches!(network.open_session(provider, header).await, Err(OpenError::Refused(_))).then_some(()))
    })
    .await
}

/// Every kind of stream there is.
fn kinds() -> [Kind; 9] {
    [
        Kind::Start(proto::StartJob { argv: vec!["id".into()], ..proto::StartJob::default() }),
        Kind::Logs(proto::ReadLogs::default()),
        Kind::Put(proto::PutFiles::default()),
        Kind::Get(proto::GetChanged::default()),
        Kind::Exec(proto::Exec { key: vec![1; 16], argv: vec!["id".into()], ..proto::Exec::default() }),
        Kind::Attach(proto::Attach { key: vec![1; 16], seen: 0 }),
        Kind::Dial(proto::Dial { to: Some(proto::dial::To::Port(22)) }),
        Kind::Files(proto::Files {}),
        Kind::Stats(proto::Stats {}),
    ]
}

async fn is_refused(
    network: &Handle,
    provider: PeerId,
    given: Option<&proto::SessionGrant>,
    code: RefusalCode,
) -> Result<()> {
    for kind in kinds() {
        let header = proto::SessionHeader { grant: given.cloned(), kind: Some(kind.clone()) };
        match network.open_session(provider, header).await {
            Err(OpenError::Refused(refusal)) => ensure!(refusal.code == code, "{kind:?}: {refusal}"),
            Ok(_) => anyhow::bail!("{kind:?} was accepted"),
            Err(other) => anyhow::bail!("{kind:?}: {other}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_stranger_is_refused_while_a_rental_goes_on_and_its_renter_when_it_is_over() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().indexers(1).providers(1).renters(2).start().await?;
        let (renter, other, provider) =
            (devnet.node("renter-1")?, devnet.node("renter-2")?, devnet.node("provider-1")?);
        offers_arrive(&devnet, renter).await?;
        let job = Client::start(renter, ["run", "--for", "1h", "--", "sleep", "3000"])?;
        eventually("the job's start", async || Ok(job.said().contains("started").then_some(()))).await?;
        let rental: RentalRow = phase(renter, "serving").await?;
        let id = rental.id.to_string();

        let network = stranger(&devnet, provider, Keypair::generate_ed25519()).await?;
        let (handle, there) = (network.handle(), provider.peer.parse::<PeerId>()?);
        a_way(&handle, there).await?;
        let escrow = Escrow { chain: devnet::chain::CHAIN_ID.into(), address: devnet.chain.escrow };
        let own = grant(&Wallet::random(), &escrow, &forever(rental.id), there, handle.local_peer_id())?;
        is_refused(&handle, there, None, RefusalCode::BadRequest).await?;
        is_refused(&handle, there, Some(&own), RefusalCode::BadRequest).await?;
        let unknown = forever(RentalId([9; 32].into()));
        let unknown = grant(&Wallet::random(), &escrow, &unknown, there, handle.local_peer_id())?;
        is_refused(&handle, there, Some(&unknown), RefusalCode::NoSuchRental).await?;

        for command in [vec!["exec", &id, "--", "true"], vec!["logs", &id], vec!["top", &id]] {
            let refused = other.call(command).await?;
            ensure!(refused.code != 0 && refused.stderr.contains("no running rental"), "{}", refused.stderr);
        }
        // what it runs when it is over is gone with it
        let shell = Client::start(renter, ["exec", &id, "--", "sleep", "3000"])?;
        renter.call(["stop", &id]).await?;
        job.ended(END).await?;
        ensure!(shell.ended(END).await?.code != 0, "a program outlived its rental");
        let late = renter.call(["exec", &id, "--", "true"]).await?;
        ensure!(late.code != 0 && late.stderr.contains("no running rental"), "{}", late.stderr);
        devnet.stop()
    })
    .await
}

/// What a renter has on disk of its rentals.
struct Rentals;

impl Table for Rentals {
    const NAME: &'static str = "renter_rentals";
    type Key = RentalId;
    type Value = Json<serde_json::Value>;
}

/// The keys of a renter whose daemon has ended: its identity in the network, and the session key of a rental.
fn keys(renter: &Node, id: &RentalId) -> Result<(Keypair, Wallet)> {
    let identity = Keypair::from_protobuf_encoding(&fs::read(renter.data_dir.join("peer.key"))?)?;
    let store = Store::open(renter.data_dir.join("db"), &[TableDef::of::<Rentals>()])?;
    let record = store.get::<Rentals>(id)?.context("no such rental")?;
    let key: B256 = serde_json::from_value(record.0["session_key"].clone())?;
    Ok((identity, Wallet::from_key(&key)?))
}

/// A rental of the node, whose job sleeps.
async fn rent(renter: &Node) -> Result<(Client, RentalRow)> {
    let job = Client::start(renter, ["run", "--for", "1h", "--", "sleep", "3000"])?;
    eventually("the job's start", async || Ok(job.said().contains("started").then_some(()))).await?;
    Ok((job, phase(renter, "serving").await?))
}

#[tokio::test]
async fn who_rented_a_slot_before_is_refused_with_its_own_keys_once_another_rents_it() -> Result<()> {
    story(async {
        // one slot: what the next renter has is what this one had
        let devnet = Devnet::builder().indexers(1).providers(1).renters(2).start().await?;
        let (former, renter, provider) =
            (devnet.node("renter-1")?, devnet.node("renter-2")?, devnet.node("provider-1")?);
        offers_arrive(&devnet, former).await?;
        let (job, before) = rent(former).await?;
        let shell = Client::start(former, ["exec", &before.id.to_string(), "--", "sleep", "3000"])?;
        former.call(["stop", &before.id.to_string()]).await?;
        job.ended(END).await?;
        ensure!(shell.ended(END).await?.code != 0, "a program outlived its rental");
        offers_arrive(&devnet, renter).await?;
        let (_job, now) = rent(renter).await?;

        // its daemon would not even ask: so somebody asks who has all that it has
        devnet.signal("renter-1", Signal::KILL)?;
        devnet.ended("renter-1").await?;
        let (identity, session) = keys(former, &before.id)?;
        let network = stranger(&devnet, provider, identity).await?;
        let (handle, there) = (network.handle(), provider.peer.parse::<PeerId>()?);
        ensure!(handle.local_peer_id().to_string() == former.peer);
        a_way(&handle, there).await?;
        let escrow = Escrow { chain: devnet::chain::CHAIN_ID.into(), address: devnet.chain.escrow };
        let own = grant(&session, &escrow, &forever(before.id), there, handle.local_peer_id())?;
        // the provider remembers the rental for as long as the chain may take its end back
        for kind in kinds() {
            let header = proto::SessionHeader { grant: Some(own.clone()), kind: Some(kind.clone()) };
            let over = |code| matches!(code, RefusalCode::WrongState | RefusalCode::NoSuchRental);
            match handle.open_session(there, header).await {
                Err(OpenError::Refused(refusal)) => ensure!(over(refusal.code), "{kind:?}: {refusal}"),
                other => anyhow::bail!("{kind:?}: {other:?}"),
            }
        }
        let anothers = grant(&session, &escrow, &forever(now.id), there, handle.local_peer_id())?;
        is_refused(&handle, there, Some(&anothers), RefusalCode::BadRequest).await?;
        let renamed = proto::SessionGrant { id: now.id.0.to_vec(), ..own };
        is_refused(&handle, there, Some(&renamed), RefusalCode::BadRequest).await?;
        devnet.stop()
    })
    .await
}
