//! The HTTP interface as a client meets it, over a real socket and a real network of one node.

use super::*;
use crate::{
    Indexer, Service, open, tables,
    testing::{key, offer, offering},
};
use axum::http::{Method, Request, StatusCode, header};
use base64::{Engine, engine::general_purpose::STANDARD};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use market::time::UnixMillis;
use network::{AdStore, Config, Network, ad, identity::Keypair};
use serde_json::Value;
use std::time::Duration;
use store::Store;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const LIFETIME: u64 = 600_000;
const LIMIT: Duration = Duration::from_secs(30);

/// An indexer of one node.
struct World {
    _folder: TempDir,
    network: Network,
    book: Arc<DiskBook>,
    indexer: Indexer,
    cancel: CancellationToken,
}

impl World {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &tables()).unwrap();
        let opened = open(&store).await.unwrap();
        let cancel = CancellationToken::new();
        let mut config = Config::new(Keypair::generate_ed25519(), "devnet-00c0ffee");
        config.indexes = true;
        config.store = Some(opened.disk.clone());
        let network = Network::start(config, cancel.child_token()).await.unwrap();
        let service = Service {
            network: network.handle(),
            network_name: "devnet-00c0ffee".to_owned(),
            disk: Arc::clone(&opened.disk),
            figures: opened.figures,
            http: Some("127.0.0.1:0".parse().unwrap()),
            cancel: cancel.child_token(),
        };
        let indexer = Indexer::start(service).await.unwrap();
        Self { _folder: folder, network, book: opened.disk, indexer, cancel }
    }

    /// Provides offers by as many providers, at rising prices, and waits until they are on disk.
    async fn offers(&self, count: usize) {
        let now = UnixMillis::now().0;
        let ads: Vec<_> = (1..=count)
            .map(|i| offering(&key(), now, LIFETIME, vec![offer(&format!("slot-{i}"), i as u128 * 1_000_000)]))
            .collect();
        let raw = ads.iter().map(|ad| ad.raw.to_vec()).collect();
        assert_eq!(self.network.handle().load_ads(raw).await, Ok(count));
        let written = async {
            while self.book.len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LIMIT, written).await.expect("the offers on disk");
    }

    async fn send(&self, method: Method, path: &str, etag: &str) -> hyper::Response<Incoming> {
        let stream = TcpStream::connect(self.indexer.http().unwrap()).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "indexer");
        if !etag.is_empty() {
            request = request.header(header::IF_NONE_MATCH, etag);
        }
        let sent = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap());
        tokio::time::timeout(LIMIT, sent).await.unwrap().unwrap()
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let response = self.send(Method::GET, path, "").await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }
}

fn names(answer: &Value) -> Vec<String> {
    let rows = answer["rows"].as_array().unwrap();
    rows.iter().map(|row| row["shown"]["offer"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_follow_each_other_and_carry_what_was_signed() {
    let world = World::start().await;
    world.offers(7).await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/v1/search?query=cpus%3E%3D1&order=price&limit=3&cursor={cursor}");
        let (status, answer) = world.get(&path).await;
        assert_eq!((status, &answer["held"]), (StatusCode::OK, &Value::from(7)));
        seen.extend(names(&answer));
        for row in answer["rows"].as_array().unwrap() {
            let signed = &answer["ads"][row["ad"].as_u64().unwrap() as usize];
            let raw = STANDARD.decode(signed["envelope"].as_str().unwrap()).unwrap();
            let opened = ad::open(&raw, UnixMillis::now()).expect("as its provider signed it").ad;
            assert_eq!(opened.offers[row["offer"].as_u64().unwrap() as usize].name, row["shown"]["offer"]);
            assert_eq!(world.book.updated_at(&opened.peer, opened.seq), signed["updated_at"].as_u64());
        }
        match answer["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(seen, (1..=7).map(|i| format!("slot-{i}")).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_the_client_has_is_not_sent_again() {
    let world = World::start().await;
    world.offers(2).await;
    let path = "/v1/search?order=price";
    let first = world.send(Method::GET, path, "").await;
    let tag = first.headers()[header::ETAG].to_str().unwrap().to_owned();
    assert_eq!(first.headers()[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
    assert!(!first.headers().contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    let again = world.send(Method::GET, path, &tag).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert!(again.into_body().collect().await.unwrap().to_bytes().is_empty());
    world.offers(3).await;
    assert_eq!(world.send(Method::GET, path, &tag).await.status(), StatusCode::OK, "the book has changed");
    assert_eq!(world.indexer.figures().unchanged.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_answered_is_refused_in_words() {
    let world = World::start().await;
    for (path, status, words) in [
        ("/v1/search?query=prise%3C2", StatusCode::BAD_REQUEST, "did you mean `price`"),
        ("/v1/search?order=prise", StatusCode::BAD_REQUEST, "at character 1"),
        ("/v1/search?cursor=x", StatusCode::BAD_REQUEST, "the cursor is none of ours"),
        ("/v1/search?limit=many", StatusCode::BAD_REQUEST, "limit"),
        ("/v1/ads?class=h9000", StatusCode::BAD_REQUEST, "`h9000` is not a class"),
        ("/v1/ads/nobody", StatusCode::BAD_REQUEST, "`nobody` is no peer id"),
        ("/v1/offers", StatusCode::NOT_FOUND, "there is no /v1/offers"),
    ] {
        let (found, answer) = world.get(path).await;
        assert_eq!(found, status, "{path}");
        assert!(answer["message"].as_str().unwrap().contains(words), "{path}: {answer}");
        assert!(!answer["next"].as_str().unwrap().is_empty(), "{path}");
    }
    let long = format!("/v1/search?query={}", "x".repeat(9_000));
    assert_eq!(world.get(&long).await.0, StatusCode::URI_TOO_LONG);
    let posted = world.send(Method::POST, "/v1/search", "").await;
    assert_eq!(posted.status(), StatusCode::METHOD_NOT_ALLOWED);
    let asked_by_a_browser = world.send(Method::OPTIONS, "/v1/search", "").await;
    assert_eq!(asked_by_a_browser.headers()[header::ACCESS_CONTROL_ALLOW_METHODS], "GET");
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_changes_give_the_signed_originals() {
    let world = World::start().await;
    world.offers(3).await;
    let (_, listed) = world.get("/v1/ads?class=cpu").await;
    assert_eq!(listed["ads"].as_array().unwrap().len(), 3);
    let (_, changed) = world.get("/v1/changes?since=0").await;
    let moments: Vec<u64> =
        changed["ads"].as_array().unwrap().iter().map(|ad| ad["updated_at"].as_u64().unwrap()).collect();
    assert!(moments.is_sorted() && moments.len() == 3);
    let (_, rest) = world.get(&format!("/v1/changes?since={}", moments[1])).await;
    assert_eq!(rest["ads"].as_array().unwrap().len(), 1);
    let peer = changed["ads"][0]["peer"].as_str().unwrap();
    let (_, one) = world.get(&format!("/v1/ads/{peer}")).await;
    assert_eq!(one, changed["ads"][0]);
    let (_, about) = world.get("/v1/indexer").await;
    assert_eq!((about["offers"].as_u64(), about["last"].as_u64()), (Some(3), Some(moments[2])));
    let (_, described) = world.get("/openapi.json").await;
    for path in ["/v1/search", "/v1/ads", "/v1/ads/{peer}", "/v1/changes", "/v1/events", "/v1/indexer"] {
        assert!(described["paths"][path].is_object(), "{path}");
    }
}

/// Reads a stream of events until one contains `words`.
async fn until(body: &mut Incoming, words: &str) -> String {
    let mut text = String::new();
    let reading = async {
        while !text.contains(words) {
            let frame = body.frame().await.expect("more events").unwrap();
            text.push_str(std::str::from_utf8(&frame.into_data().unwrap()).unwrap());
        }
    };
    tokio::time::timeout(LIMIT, reading).await.unwrap_or_else(|_| panic!("waited too long for {words}"));
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_as_they_happen_and_places_are_few() {
    let world = World::start().await;
    let response = world.send(Method::GET, "/v1/events", "").await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut body = response.into_body();
    world.offers(1).await;
    let told = until(&mut body, "\n\n").await;
    assert!(told.contains("event: taken") && told.contains(&format!("id: {}", world.book.last())), "{told}");

    let others = [world.send(Method::GET, "/v1/events", "").await, world.send(Method::GET, "/v1/events", "").await];
    let last = world.send(Method::GET, "/v1/events", "").await;
    let (status, refused) = world.get("/v1/events").await;
    assert_eq!(status, StatusCode::TOO_MANY_REQUESTS, "{refused}");
    assert_eq!(world.indexer.figures().followers.get(), 4);
    drop((others, last));
    world.cancel.cancel();
    let ended = async { while body.frame().await.is_some() {} };
    tokio::time::timeout(LIMIT, ended).await.expect("the stream ends with the indexer");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_too_slowly_is_told_and_let_go() {
    let world = World::start().await;
    let mut body = world.send(Method::GET, "/v1/events", "").await.into_body();
    // ten times as many at once as anybody may be behind
    let burst: Vec<_> = (0..20_000).map(|_| network::AdChange::Removed { peer: PeerId::random() }).collect();
    world.book.write(&burst);
    let text = until(&mut body, "changes were missed").await;
    assert!(text.contains("event: dropped"), "{text}");
    assert_eq!(world.indexer.figures().lagging.get(), 1);
    let ended = async { while body.frame().await.is_some() {} };
    tokio::time::timeout(LIMIT, ended).await.expect("the stream ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_too_often_is_told_when_to_come_back() {
    let world = World::start().await;
    let flood = async {
        loop {
            let response = world.send(Method::GET, "/v1/indexer", "").await;
            if response.status() == StatusCode::TOO_MANY_REQUESTS {
                return response;
            }
        }
    };
    let limited = tokio::time::timeout(LIMIT, flood).await.expect("the limit");
    assert_eq!(limited.headers()[header::RETRY_AFTER], "1");
    assert_eq!(world.indexer.figures().limited.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_a_connection_and_asks_nothing_is_let_go() {
    let world = World::start().await;
    let address = world.indexer.http().unwrap();
    let silent = TcpStream::connect(address).await.unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    slow.write_all(b"GET /v1/indexer HTTP/1.1\r\nHost: ind").await.unwrap();
    for (who, mut stream) in [("silent", silent), ("slow", slow)] {
        let mut rest = Vec::new();
        let ended = stream.read_to_end(&mut rest);
        tokio::time::timeout(LIMIT, ended).await.unwrap_or_else(|_| panic!("the {who} one is still there")).unwrap();
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&rest));
    }
    assert_eq!(world.get("/v1/indexer").await.0, StatusCode::OK);
}

#[test]
fn a_household_of_ipv6_is_one() {
    let household = |text: &str| gate::household(text.parse().unwrap());
    assert_eq!(household("2001:db8:1:2:3::4"), household("2001:db8:1:2:5::6"));
    assert_ne!(household("2001:db8:1:2::1"), household("2001:db8:1:3::1"));
    assert_eq!(household("::ffff:192.0.2.1"), household("192.0.2.1"));
    assert_ne!(household("192.0.2.1"), household("192.0.2.2"));
}
