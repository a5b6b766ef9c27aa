//! Offers: announced, fetched, listed, renewed, withdrawn, expired.

use crate::support::{
    QUIC, TCP, address, beside, binding, config, draft, listening, names, sealed, sealed_for, start, until,
    until_offers,
};
use ::market::{book::Book, class::GpuClass, time::UnixMillis};
use libp2p::identity::Keypair;
use network::{AdChange, AdDraft, AdStore, Config, Interest, PeerId, PublishError, ad};
use std::sync::{Arc, Mutex};

const LIFETIME: u64 = 600_000;

fn cpu() -> Interest {
    Interest::Only([GpuClass::CPU].into())
}

async fn gossip_crosses_a_neighbour(transport: &str) {
    let hub = listening(transport).await;
    let provider = beside(&hub, Interest::none()).await;
    let renter = beside(&hub, cpu()).await;

    let me = provider.handle().local_peer_id();
    // the first may be read from the hub's list; by the second, gossip has settled
    for name in ["first", "second"] {
        provider.handle().publish_ad(draft(&me, name)).await.unwrap();
        until_offers(&renter.handle(), "the offer", |offers| names(offers) == [name]).await;
    }
    until("the announcement", || renter.handle().counters().announcements_accepted.get() > 0).await;
    assert_eq!(renter.handle().connected_peers(), [hub.handle().local_peer_id()]);
    assert_eq!(renter.handle().offers_of(&me).unwrap().peer, me);
    for node in [renter, provider, hub] {
        node.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_reaches_a_third_node_through_the_second_over_tcp() {
    gossip_crosses_a_neighbour(TCP).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_reaches_a_third_node_through_the_second_over_quic() {
    gossip_crosses_a_neighbour(QUIC).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_reads_a_market_of_several_pages_without_any_gossip() {
    let hub = listening(TCP).await;
    let now = UnixMillis::now().0;
    let ads = (0..150).map(|i| sealed(&Keypair::generate_ed25519(), now, LIFETIME, &format!("slot-{i}"))).collect();
    assert_eq!(hub.handle().load_ads(ads).await, Ok(150));

    for classes in [Interest::All, cpu()] {
        let newcomer = beside(&hub, classes).await;
        until_offers(&newcomer.handle(), "the market", |offers| offers.len() == 150).await;
        assert_eq!(newcomer.handle().counters().announcements_accepted.get(), 0);
    }
    let elsewhere = beside(&hub, Interest::Only([GpuClass::OTHER].into())).await;
    let until_listed =
        || elsewhere.handle().counters().ads_accepted.get() == 0 && !elsewhere.handle().connected_peers().is_empty();
    until("connection", until_listed).await;
    assert!(elsewhere.handle().offers().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_and_a_withdrawal_follow_the_offer() {
    let hub = listening(TCP).await;
    let provider = beside(&hub, Interest::none()).await;
    let (handle, me) = (provider.handle(), provider.handle().local_peer_id());
    handle.publish_ad(draft(&me, "first")).await.unwrap();
    until_offers(&hub.handle(), "the offer", |offers| names(offers) == ["first"]).await;
    handle.publish_ad(draft(&me, "second")).await.unwrap();
    until_offers(&hub.handle(), "the change", |offers| names(offers) == ["second"]).await;
    handle.withdraw_ad().await.unwrap();
    provider.shutdown().await;
    until_offers(&hub.handle(), "the withdrawal", <[_]>::is_empty).await;
    until("three announcements", || hub.handle().counters().announcements_accepted.get() == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_is_renewed_while_its_provider_lives_and_vanishes_after() {
    let hub = listening(TCP).await;
    let provider = start(Config { ad_lifetime: 3_000, bootstrap: vec![address(&hub)], ..config() }).await;
    let me = provider.handle().local_peer_id();
    provider.handle().publish_ad(draft(&me, "brief")).await.unwrap();
    until_offers(&hub.handle(), "the offer", |offers| names(offers) == ["brief"]).await;
    let first = hub.handle().offers_of(&me).unwrap().expires;
    until_offers(&hub.handle(), "a renewal after the first has ended", |offers| {
        UnixMillis::now() > first && offers.first().is_some_and(|ad| ad.expires > first)
    })
    .await;
    provider.shutdown().await;
    until_offers(&hub.handle(), "the end of the last", <[_]>::is_empty).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_and_broken_advertisements_are_refused_and_counted() {
    let node = listening(TCP).await;
    let (handle, key, now) = (node.handle(), Keypair::generate_ed25519(), UnixMillis::now().0);
    let newest = sealed(&key, now, LIFETIME, "newest");
    assert_eq!(handle.load_ads(vec![newest.clone()]).await, Ok(1));

    let older = sealed(&key, now - 1, LIFETIME, "older");
    let expired = sealed(&Keypair::generate_ed25519(), now - 2_000, 1_000, "expired");
    let future = sealed(&Keypair::generate_ed25519(), now + 120_000, LIFETIME, "future");
    assert_eq!(handle.load_ads(vec![older, expired, future, newest.clone()]).await, Ok(0));
    assert_eq!(handle.counters().ads_stale.get(), 4);

    let in_anothers_name =
        sealed_for(key.public().to_peer_id(), &Keypair::generate_ed25519(), now + 1, LIFETIME, "forged");
    assert_eq!(handle.load_ads(vec![in_anothers_name]).await, Ok(0));
    assert_eq!(handle.counters().ads_bad_signature.get(), 1);

    let fresh = sealed(&key, now + 1, LIFETIME, "newer");
    // whichever byte is changed, nothing of it is taken
    for at in (0..fresh.len()).step_by(7) {
        let mut corrupt = fresh.clone();
        corrupt[at] ^= 1;
        assert_eq!(handle.load_ads(vec![corrupt]).await, Ok(0), "byte {at}");
    }
    assert!(handle.counters().ads_bad_signature.get() > 10);
    assert_eq!(handle.load_ads(vec![vec![0; wire::MAX_AD_BYTES + 1]]).await, Ok(0));
    assert_eq!(handle.counters().ads_oversize.get(), 1);
    assert_eq!(names(&handle.offers()), ["newest"]);
    assert_eq!(handle.load_ads(vec![fresh]).await, Ok(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_hears_at_once_that_its_wallet_binding_is_for_another_peer() {
    let node = listening(TCP).await;
    let me = node.handle().local_peer_id();
    let wrong = AdDraft { binding: binding(&PeerId::random()), ..draft(&me, "slot") };
    assert!(matches!(node.handle().publish_ad(wrong).await, Err(PublishError::Invalid(_))));
    assert!(node.handle().offers().is_empty());
}

#[derive(Default)]
struct Memory(Mutex<Vec<(PeerId, Option<Vec<u8>>)>>);

impl AdStore for Memory {
    fn write(&self, changes: &[AdChange]) {
        let change = |change: &AdChange| match change {
            AdChange::Put { peer, raw, .. } => (*peer, Some(raw.to_vec())),
            AdChange::Removed { peer } => (*peer, None),
        };
        self.0.lock().unwrap().extend(changes.iter().map(change));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_indexer_stored_can_be_loaded_by_the_next() {
    let store = Arc::new(Memory::default());
    let node = start(Config { store: Some(Arc::clone(&store) as Arc<dyn AdStore>), ..config() }).await;
    let (lasting, brief) = (Keypair::generate_ed25519(), Keypair::generate_ed25519());
    let now = UnixMillis::now().0;
    let ads = vec![sealed(&lasting, now, LIFETIME, "lasting"), sealed(&brief, now, 1_500, "brief")];
    assert_eq!(node.handle().load_ads(ads).await, Ok(2));
    until_offers(&node.handle(), "the end of the brief one", |offers| names(offers) == ["lasting"]).await;
    until("its removal", || store.0.lock().unwrap().contains(&(brief.public().to_peer_id(), None))).await;
    node.shutdown().await;

    let stored: Vec<_> = store.0.lock().unwrap().iter().filter_map(|(_, raw)| raw.clone()).collect();
    let (mut book, now) = (Book::new(), UnixMillis::now());
    for raw in stored {
        let kept = ad::open_kept(raw.into(), now).unwrap();
        let lasts = kept.ad.peer == lasting.public().to_peer_id();
        assert_eq!(book.insert(kept.raw, &kept.ad, now).is_ok(), lasts, "only what is not over");
    }
    let next = start(Config { book, ..config() }).await;
    assert_eq!(names(&next.handle().offers()), ["lasting"]);
}
