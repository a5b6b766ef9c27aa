//! Being connected, and finding who is not.

use crate::{
    rentals::{answer, question, serve},
    support::{TCP, address, beside, config, listening, start, until, until_connected, within},
};
use libp2p::identity::Keypair;
use network::{AskError, Config, DialError, Interest, Network, StartError};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_whose_address_only_others_know_is_found() {
    let hub = listening(TCP).await;
    let provider = start(Config {
        listen: vec![TCP.parse().unwrap()],
        bootstrap: vec![address(&hub)],
        classes: Interest::none(),
        ..config()
    })
    .await;
    serve(&provider.handle());
    until_connected(&hub.handle(), provider.handle().local_peer_id()).await;
    let renter = beside(&hub, Interest::none()).await;
    let asked = within("the answer", renter.handle().ask(provider.handle().local_peer_id(), question(1))).await;
    assert_eq!(asked.unwrap(), answer());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_peer_that_comes_back_is_dialled_again() {
    let keypair = Keypair::generate_ed25519();
    let hub = start(Config { keypair: keypair.clone(), listen: vec![TCP.parse().unwrap()], ..config() }).await;
    let (peer, place) = (hub.handle().local_peer_id(), hub.handle().listen_addrs());
    let node = beside(&hub, Interest::none()).await;
    hub.shutdown().await;
    let mut peers = node.handle().watch_peers();
    within("the loss", peers.wait_for(|peers| !peers.contains(&peer))).await.unwrap();
    let _hub = start(Config { keypair, listen: place, ..config() }).await;
    until_connected(&node.handle(), peer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_peer_that_is_not_there_yet_is_dialled_until_it_is() {
    let keypair = Keypair::generate_ed25519();
    let place = listening(TCP).await;
    let (peer, listen) = (keypair.public().to_peer_id(), place.handle().listen_addrs());
    place.shutdown().await;
    let node = start(Config { bootstrap: listen.clone(), ..config() }).await;
    until("a failure", || node.handle().counters().dials_failed.get() > 0).await;
    let _hub = start(Config { keypair, listen, ..config() }).await;
    until_connected(&node.handle(), peer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dialling_says_who_is_there_or_why_nobody_is() {
    let (here, there) = (start(config()).await, listening(TCP).await);
    let bare = there.handle().listen_addrs().remove(0);
    assert_eq!(here.handle().dial(bare).await.unwrap(), there.handle().local_peer_id());
    assert_eq!(here.handle().dial(address(&there)).await.unwrap(), there.handle().local_peer_id());
    let nowhere = "/ip4/127.0.0.1/tcp/1".parse().unwrap();
    assert!(matches!(here.handle().dial(nowhere).await, Err(DialError::Failed { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_the_end_every_question_is_told_so() {
    let node = listening(TCP).await;
    let handle = node.handle();
    within("the end", node.shutdown()).await;
    assert!(matches!(handle.ask(handle.local_peer_id(), question(1)).await, Err(AskError::Stopped(_))));
    assert!(matches!(handle.dial(TCP.parse().unwrap()).await, Err(DialError::Stopped(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_at_the_start() {
    let start = |config| Network::start(config, CancellationToken::new());
    let named = |network: &str| Config { network: network.to_owned(), ..config() };
    for wrong in ["", "test", "devnet-", "devnet-123", "devnet-XYZXYZXY", "main/ads"] {
        assert!(matches!(start(named(wrong)).await, Err(StartError::Network(_))), "{wrong}");
    }
    let taken = listening(TCP).await;
    let again = Config { listen: taken.handle().listen_addrs(), ..config() };
    assert!(matches!(start(again).await, Err(StartError::Listen { .. })));
}
