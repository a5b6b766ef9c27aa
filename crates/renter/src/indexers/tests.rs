use super::*;
use alloy_primitives::{Address, B256};
use market::{
    money::{Amount, Rate, Token},
    offer::{Binding, Hardware, Isolation, Offer, Price, Verification},
    signed::Escrow,
};
use network::{Config, Interest, Network, identity::Keypair};
use settlement::Wallet;
use tokio_util::sync::CancellationToken;

pub(crate) fn offer(name: &str, hourly: u128) -> Offer {
    let escrow = Escrow { chain: 1, address: Address::repeat_byte(1) };
    let token = Token { chain: 1, address: Address::repeat_byte(2), symbol: "USDT".into(), decimals: 6 };
    let rate = Rate::from_hourly(Amount::new(hourly).unwrap()).unwrap();
    Offer {
        name: name.to_owned(),
        slots: 1,
        free: 1,
        busy_until: None,
        hardware: Hardware { cpu_millis: 1_000, ..Hardware::default() },
        prices: vec![Price { escrow, token, rate, floor: None, min_deposit: Amount::ZERO }],
        min_seconds: 1,
        max_seconds: 3_600,
        increment_millis: 1_000,
        ready_seconds: 30,
        notice_seconds: 30,
        window: 900,
        arbiters: Vec::new(),
        isolation: Isolation::SharedKernel,
        verification: Verification::Declared,
        whole_host: false,
        splits: Vec::new(),
        discounts: Vec::new(),
    }
}

/// A provider's advertisement.
pub(crate) fn ad(key: &Keypair, offers: Vec<Offer>) -> ProviderAd {
    let (wallet, now) = (Wallet::random(), UnixMillis::now());
    let peer = key.public().to_peer_id();
    let sign = |digest: &B256| wallet.sign_digest(digest);
    let binding = Binding::issue(&peer, 1, wallet.address(), wallet.address(), now, sign).unwrap();
    ProviderAd { peer, seq: now.0, expires: now.plus(600_000), binding, region: "KR".into(), offers }
}

/// A provider's signed advertisement of one offer.
fn sealed(hourly: u128) -> Vec<u8> {
    let key = Keypair::generate_ed25519();
    ad::seal(&key, &ad(&key, vec![offer("slot", hourly)])).unwrap()
}

fn page(envelopes: &[&[u8]], rows: &[(u32, u32, u32)]) -> proto::SearchPage {
    let ad = |envelope: &&[u8]| proto::SearchAd { envelope: envelope.to_vec(), ..proto::SearchAd::default() };
    let row = |&(ad, offer, price): &(u32, u32, u32)| proto::SearchRow { ad, offer, price };
    proto::SearchPage {
        ads: envelopes.iter().map(ad).collect(),
        rows: rows.iter().map(row).collect(),
        ..proto::SearchPage::default()
    }
}

fn checked(page: proto::SearchPage, query: &str) -> Answer {
    check(page, &Query::parse(query).unwrap(), UnixMillis::now())
}

#[test]
fn rows_that_do_not_meet_the_query_or_point_nowhere_do_not_count() {
    let (cheap, dear) = (sealed(1_000_000), sealed(9_000_000));
    let rows = [(0, 0, 0), (1, 0, 0), (2, 0, 0), (0, 1, 0), (0, 0, 1), (u32::MAX, 0, 0)];
    let answer = checked(page(&[&cheap, &dear], &rows), "price<=2");
    assert_eq!((answer.rows.len(), answer.wrong), (1, 5));
    assert!(answer.forged.is_none());
    assert_eq!(answer.ads.len(), 2, "an advertisement that holds is news, whatever it is given for");
}

#[test]
fn whichever_byte_is_changed_nothing_of_it_is_taken() {
    let good = sealed(1_000_000);
    let mut forged = 0;
    for at in (0..good.len()).step_by(5) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        let answer = checked(page(&[&bad, &good], &[(0, 0, 0), (1, 0, 0)]), "");
        assert_eq!((answer.ads.len(), answer.rows.len()), (1, 1), "byte {at}");
        forged += usize::from(answer.forged.is_some());
    }
    assert!(forged > 20, "only {forged} were told apart from honest ones");
}

#[test]
fn one_that_forged_is_not_asked_again_and_the_others_take_turns() {
    let indexers = Indexers::default();
    let (liar, honest, other) = (PeerId::random(), PeerId::random(), PeerId::random());
    let forged = Answer { forged: Some(AdFault::Envelope), ..Answer::default() };
    let answers = vec![(liar, Ok(forged)), (honest, Ok(Answer::default())), (other, Err("no answer".to_owned()))];
    indexers.note(answers, &Order::parse("").unwrap());
    let connected = [liar, honest, other];
    assert!(!indexers.choose(&connected, 3).contains(&liar));
    let row = |peer: PeerId| indexers.rows().into_iter().find(|row| row.peer == peer.to_base58()).unwrap();
    assert!(row(liar).distrusted && row(liar).forged == 1);
    assert_eq!(row(other).failure.as_deref(), Some("no answer"));

    indexers.note(vec![(honest, Ok(Answer::default()))], &Order::parse("").unwrap());
    assert_eq!(indexers.choose(&connected, 1), [other], "the one that was asked less");
}

#[test]
fn what_one_leaves_out_and_another_shows_is_counted_as_far_as_its_answer_goes() {
    let envelopes = [sealed(1_000_000), sealed(2_000_000), sealed(3_000_000)];
    let [first, second, third] = envelopes.each_ref().map(|envelope| envelope.as_slice());
    let whole = || checked(page(&[first, second, third], &[(0, 0, 0), (1, 0, 0), (2, 0, 0)]), "");
    let indexers = Indexers::default();
    let order = Order::parse("price").unwrap();
    let gap = checked(page(&[first, third], &[(0, 0, 0), (1, 0, 0)]), "");
    let cut = Answer { cut: true, ..checked(page(&[first, second], &[(0, 0, 0), (1, 0, 0)]), "") };
    let [full, omits, short] = [PeerId::random(), PeerId::random(), PeerId::random()];
    indexers.note(vec![(full, Ok(whole())), (omits, Ok(gap)), (short, Ok(cut))], &order);
    let missing = |peer: PeerId| indexers.rows().iter().find(|row| row.peer == peer.to_base58()).unwrap().missing;
    assert_eq!((missing(full), missing(omits), missing(short)), (0, 1, 0));
}

const NETWORK: &str = "devnet-00c0ffee";
/// Everything here happens on one machine.
const LIMIT: Duration = Duration::from_secs(30);

/// A node that says that it is an indexer, and answers every search with this page.
async fn answering(page: proto::SearchPage) -> Network {
    let mut config = Config::new(Keypair::generate_ed25519(), NETWORK);
    config.indexes = true;
    config.classes = Interest::none();
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let node = Network::start(config, CancellationToken::new()).await.unwrap();
    let mut searches = node.handle().search_requests().unwrap();
    tokio::spawn(async move {
        while let Some(incoming) = searches.recv().await {
            incoming.reply.send(proto::SearchResponse { response: Some(Response::Page(page.clone())) });
        }
    });
    node
}

/// A node that follows no class, connected to all of these.
async fn asking(indexers: &[&Network]) -> Network {
    let mut config = Config::new(Keypair::generate_ed25519(), NETWORK);
    config.classes = Interest::none();
    let node = Network::start(config, CancellationToken::new()).await.unwrap();
    for indexer in indexers {
        node.handle().dial(indexer.handle().listen_addrs().remove(0)).await.unwrap();
    }
    let mut known = node.handle().watch_indexers();
    let all = known.wait_for(|known| known.len() == indexers.len());
    tokio::time::timeout(LIMIT, all).await.expect("the indexers are known").unwrap();
    node
}

#[tokio::test(flavor = "multi_thread")]
async fn an_indexer_can_leave_out_but_not_make_up() {
    let (good, other) = (sealed(1_000_000), sealed(2_000_000));
    let mut cheaper = good.clone();
    let middle = cheaper.len() / 2;
    cheaper[middle] ^= 1;
    let honest = answering(page(&[&good, &other], &[(0, 0, 0), (1, 0, 0)])).await;
    let lazy = answering(page(&[&good], &[(0, 0, 0)])).await;
    let liar = answering(page(&[&cheaper, &other], &[(0, 0, 0), (1, 0, 0)])).await;
    let renter = asking(&[&honest, &lazy, &liar]).await;
    let (handle, indexers) = (renter.handle(), Indexers::default());
    indexers.ask(&handle, &OfferQuery { order: "price".into(), ..OfferQuery::default() }, 3).await;

    let mut prices: Vec<_> = handle.offers().iter().map(|ad| ad.offers[0].prices[0].rate.hourly().get()).collect();
    prices.sort_unstable();
    assert_eq!(prices, [1_000_000, 2_000_000], "what was signed, and nothing else");
    let row = |node: &Network| {
        let peer = node.handle().local_peer_id().to_base58();
        indexers.rows().into_iter().find(|row| row.peer == peer).unwrap()
    };
    assert_eq!((row(&honest).rows, row(&honest).missing), (2, 0));
    assert_eq!((row(&lazy).rows, row(&lazy).missing), (1, 1));
    assert!(row(&liar).distrusted && !row(&honest).distrusted && !row(&lazy).distrusted);

    indexers.ask(&handle, &OfferQuery::default(), 3).await;
    assert_eq!((row(&liar).asked, row(&honest).asked), (1, 2), "a liar is not asked again");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_answer_costs_a_moment_and_not_the_others_answers() {
    let good = sealed(1_000_000);
    let honest = answering(page(&[&good], &[(0, 0, 0)])).await;
    let mut config = Config::new(Keypair::generate_ed25519(), NETWORK);
    config.indexes = true;
    config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
    let silent = Network::start(config, CancellationToken::new()).await.unwrap();
    // taken, and never read
    let _searches = silent.handle().search_requests().unwrap();
    let renter = asking(&[&honest, &silent]).await;
    let (handle, indexers, query) = (renter.handle(), Indexers::default(), OfferQuery::default());
    tokio::time::timeout(LIMIT, indexers.ask(&handle, &query, 3)).await.expect("an end");
    assert_eq!(handle.offers().len(), 1);
    let failures: Vec<_> = indexers.rows().into_iter().filter_map(|row| row.failure).collect();
    assert_eq!(failures, ["no answer within 3 s"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_indexers_differ_about_a_provider_the_least_flattering_counts() {
    let good = sealed(1_000_000);
    let told = |share| {
        let mut page = page(&[&good], &[(0, 0, 0)]);
        page.ads[0].standing = Some(proto::Standing { reliability: Some(share), ..Default::default() });
        page
    };
    let (modest, boastful) = (answering(told(900_000)).await, answering(told(999_999)).await);
    let renter = asking(&[&modest, &boastful]).await;
    let (handle, query) = (renter.handle(), "reliability>0.8".to_owned());
    Indexers::default().ask(&handle, &OfferQuery { query, ..OfferQuery::default() }, 3).await;
    let peer = handle.offers()[0].peer;
    assert_eq!(handle.read_book(|book| book.standing(&peer)).unwrap().reliability, Some(900_000));
}
