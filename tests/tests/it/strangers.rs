//! Nobody but the renter gets in: whoever else is on the network and opens a stream into a rental is refused, with whatever it shows.

use anyhow::{Result, ensure};
use api::types::RentalRow;
use devnet::{Devnet, Node};
use market::{
    id::RentalId,
    refusal::RefusalCode,
    signed::{Escrow, SessionGrant},
    time::UnixMillis,
};
use network::{Config, Handle, Interest, Network, OpenError, PeerId, identity::Keypair};
use settlement::Wallet;
use std::time::Duration;
use tests::{client::Client, eventually, offers_arrive, phase, story};
use tokio_util::sync::CancellationToken;
use wire::proto::{self, session_header::Kind};

/// How long a rental may take to be over.
const END: Duration = Duration::from_secs(60);

/// A statement as a renter's session key signs it.
fn grant(
    key: &Wallet,
    escrow: &Escrow,
    id: RentalId,
    provider: PeerId,
    renter: PeerId,
    expires: u64,
) -> Result<proto::SessionGrant> {
    let statement = SessionGrant {
        id: id.0,
        providerPeer: provider.to_bytes().into(),
        renterPeer: renter.to_bytes().into(),
        expires,
    };
    Ok(wire::grant_to_proto(id, expires, &key.sign_digest(&escrow.digest(&statement))?))
}

#[test]
fn a_grant_is_of_one_key_for_one_pair_of_peers_one_rental_one_escrow_and_a_time() {
    let peer = || Keypair::generate_ed25519().public().to_peer_id();
    let (provider, renter, stranger) = (peer(), peer(), peer());
    let (key, other) = (Wallet::random(), Wallet::random());
    let escrow = Escrow { chain: 31_337, address: other.address() };
    let elsewhere = Escrow { chain: 1, ..escrow };
    let (id, now, until) = (RentalId([7; 32].into()), UnixMillis(1_000_000), 2_000);
    let given = grant(&key, &escrow, id, provider, renter, until).unwrap();
    let read = |given: &proto::SessionGrant, provider: &PeerId, renter: &PeerId, key: &Wallet, escrow: &Escrow, now| {
        wire::grant_from_proto(given, provider, renter, key.address(), escrow, now).ok()
    };
    assert_eq!(read(&given, &provider, &renter, &key, &escrow, now), Some(id));
    assert_eq!(read(&given, &provider, &stranger, &key, &escrow, now), None, "shown by another peer");
    assert_eq!(read(&given, &stranger, &renter, &key, &escrow, now), None, "shown to another provider");
    assert_eq!(read(&given, &provider, &renter, &other, &escrow, now), None, "of another rental's key");
    assert_eq!(read(&given, &provider, &renter, &key, &elsewhere, now), None, "of another chain");
    assert_eq!(read(&given, &provider, &renter, &key, &escrow, UnixMillis(until * 1_000)), None, "too late");
    let renamed = proto::SessionGrant { id: vec![8; 32], ..given.clone() };
    assert_eq!(read(&renamed, &provider, &renter, &key, &escrow, now), None, "for another rental");
    let longer = proto::SessionGrant { expires: until + 1, ..given };
    assert_eq!(read(&longer, &provider, &renter, &key, &escrow, now), None, "made to last longer");
}

/// Somebody in the network who wants to get in.
async fn stranger(devnet: &Devnet, provider: &Node) -> Result<Network> {
    let mut config = Config::new(Keypair::generate_ed25519(), devnet.name.clone());
    (config.bootstrap, config.classes) = (vec![provider.address().parse()?], Interest::none());
    Network::start(config, CancellationToken::new()).await.map_err(Into::into)
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

        let network = stranger(&devnet, provider).await?;
        let (handle, there) = (network.handle(), provider.peer.parse::<PeerId>()?);
        eventually("a way to the provider", async || {
            let header = proto::SessionHeader::default();
            Ok(matches!(handle.open_session(there, header).await, Err(OpenError::Refused(_))).then_some(()))
        })
        .await?;
        let escrow = Escrow { chain: devnet::chain::CHAIN_ID.into(), address: devnet.chain.escrow };
        let own = grant(&Wallet::random(), &escrow, rental.id, there, handle.local_peer_id(), u64::MAX / 1_000)?;
        is_refused(&handle, there, None, RefusalCode::BadRequest).await?;
        is_refused(&handle, there, Some(&own), RefusalCode::BadRequest).await?;
        let unknown = grant(
            &Wallet::random(),
            &escrow,
            RentalId([9; 32].into()),
            there,
            handle.local_peer_id(),
            u64::MAX / 1_000,
        )?;
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
