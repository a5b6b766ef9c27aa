//! The server and the client against each other, over a real socket and a daemon made of plain data.

mod streams;

use super::*;
use crate::{client::Client, evidence::Kept};
use access::door::Door;
use alloy_primitives::{Address, B256, Signature, U256};
use futures::{FutureExt, future::BoxFuture, stream::BoxStream};
use http_body_util::BodyExt;
use market::{
    dispute::{Deadlines, StopReason},
    id::{DeviceId, PeerId, RentalId},
    money::{Amount, Rate, Token},
    quote::{Quote, SignedQuote},
    signed::Escrow,
    terms::Terms,
    time::UnixMillis,
};
use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};
use tokio_stream::wrappers::ReceiverStream;

/// A daemon that answers with fixed records, remembers what it was asked, and fails every call when told to.
#[derive(Default)]
pub(crate) struct Fake {
    fails: Mutex<Option<ApiError>>,
    hangs: bool,
    asked: Mutex<Vec<String>>,
    /// What `run_events` streams, connection by connection.
    events: Mutex<Vec<mpsc::Receiver<RunEvent>>>,
    from: AtomicU64,
    door: Option<Arc<dyn Door>>,
}

impl Fake {
    fn answer<T: Send + 'static>(&self, asked: impl Into<String>, value: T) -> BoxFuture<'_, Result<T, ApiError>> {
        self.asked.lock().unwrap().push(asked.into());
        let result = self.fails.lock().unwrap().clone().map_or(Ok(value), Err);
        let hangs = self.hangs;
        async move { if hangs { std::future::pending().await } else { result } }.boxed()
    }
}

impl Control for Fake {
    fn node(&self) -> BoxFuture<'_, Result<NodeInfo, ApiError>> {
        self.answer("node", info())
    }
    fn offers(&self, query: OfferQuery) -> BoxFuture<'_, Result<Vec<OfferRow>, ApiError>> {
        self.answer(format!("offers {} {} {}", query.query, query.order, query.limit), vec![offer()])
    }
    fn explain(&self, query: OfferQuery) -> BoxFuture<'_, Result<OfferExplanation, ApiError>> {
        self.answer(format!("explain {} {} {}", query.query, query.job, query.rates), explanation())
    }
    fn run(&self, request: RunRequest) -> BoxFuture<'_, Result<RunStarted, ApiError>> {
        self.answer(format!("run {:?} {}", request.argv, request.seconds), RunStarted { run: 7 })
    }
    fn run_events(&self, run: u64, from: u64) -> BoxFuture<'_, Result<BoxStream<'static, RunEvent>, ApiError>> {
        self.from.store(from, Ordering::SeqCst);
        let mut events = self.events.lock().unwrap();
        let source = if events.is_empty() { mpsc::channel(1).1 } else { events.remove(0) };
        drop(events);
        self.answer(format!("events {run} {from}"), ReceiverStream::new(source).boxed())
    }
    fn indexers(&self) -> BoxFuture<'_, Result<Vec<IndexerRow>, ApiError>> {
        self.answer("indexers", vec![IndexerRow { asked: 2, ..IndexerRow::default() }])
    }
    fn rentals(&self, all: bool) -> BoxFuture<'_, Result<Vec<RentalRow>, ApiError>> {
        self.answer(format!("rentals {all}"), vec![rental()])
    }
    fn story(&self, id: String) -> BoxFuture<'_, Result<Vec<RentalStory>, ApiError>> {
        self.answer(format!("story {id}"), vec![story()])
    }
    fn stop(&self, id: String) -> BoxFuture<'_, Result<RentalRow, ApiError>> {
        self.answer(format!("stop {id}"), rental())
    }
    fn door(&self, id: String, visitor: Visitor) -> BoxFuture<'_, Result<Arc<dyn Door>, ApiError>> {
        let door = self.door.clone().unwrap_or_else(|| Arc::new(streams::Accepts(mpsc::channel(1).0)));
        self.answer(format!("door {id} {}", visitor.name()), door)
    }
    fn share(&self, id: String, request: ShareRequest) -> BoxFuture<'_, Result<Share, ApiError>> {
        self.answer(format!("share {id} with {} for {:?}", request.peer, request.seconds), share())
    }
    fn shares(&self, id: String) -> BoxFuture<'_, Result<Vec<Share>, ApiError>> {
        self.answer(format!("shares of {id}"), vec![share()])
    }
    fn unshare(&self, id: String, request: UnshareRequest) -> BoxFuture<'_, Result<Share, ApiError>> {
        self.answer(format!("unshare {id} with {}", request.peer), share())
    }
    fn accept(&self, request: AcceptRequest) -> BoxFuture<'_, Result<SharedRental, ApiError>> {
        self.answer(format!("accept {}", request.token), shared_rental())
    }
    fn shared(&self) -> BoxFuture<'_, Result<Vec<SharedRental>, ApiError>> {
        self.answer("shared", vec![shared_rental()])
    }
    fn console(&self, request: ConsoleRequest) -> BoxFuture<'_, Result<ConsoleLink, ApiError>> {
        self.answer(format!("console {}", request.rental), ConsoleLink { url: "http://127.0.0.1:1/".into() })
    }
    fn evidence(&self, id: String) -> BoxFuture<'_, Result<Vec<Evidence>, ApiError>> {
        self.answer(format!("evidence {id}"), vec![proof()])
    }
    fn dispute(&self, id: String) -> BoxFuture<'_, Result<Dispute, ApiError>> {
        self.answer(format!("dispute {id}"), disputed())
    }
    fn order_dispute(&self, id: String, request: DisputeRequest) -> BoxFuture<'_, Result<Dispute, ApiError>> {
        self.answer(format!("dispute {id} {}", request.reason), disputed())
    }
    fn rate(&self, id: String, request: RatingRequest) -> BoxFuture<'_, Result<RatingView, ApiError>> {
        self.answer(format!("rate {id} {} {}", request.stars, request.comment), rated())
    }
    fn reputation(&self, provider: String, query: ReputationQuery) -> BoxFuture<'_, Result<Reputation, ApiError>> {
        self.answer(format!("reputation {provider} {} {}", query.mine, query.verify), known())
    }
    fn receipts(&self, prefix: String) -> BoxFuture<'_, Result<Vec<Receipt>, ApiError>> {
        self.answer(format!("receipts {prefix}"), vec![receipt()])
    }
    fn approvals(&self) -> BoxFuture<'_, Result<Vec<Approval>, ApiError>> {
        self.answer("approvals", vec![approval()])
    }
    fn revoke(&self, wanted: Revocation) -> BoxFuture<'_, Result<Revoked, ApiError>> {
        self.answer(format!("revoke {} on {}", wanted.spender, wanted.chain), revoked())
    }
    fn drain(&self, request: DrainRequest) -> BoxFuture<'_, Result<ServiceState, ApiError>> {
        self.answer(format!("drain until {:?}", request.until), service())
    }
    fn extend(&self, id: String, request: ExtendRequest) -> BoxFuture<'_, Result<RentalRow, ApiError>> {
        self.answer(format!("extend {id} by {}", request.seconds), rental())
    }
    fn check(&self, id: String) -> BoxFuture<'_, Result<HardwareCheck, ApiError>> {
        self.answer(format!("check {id}"), checked())
    }
    fn undrain(&self) -> BoxFuture<'_, Result<ServiceState, ApiError>> {
        self.answer("undrain", service())
    }
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ApiError>> {
        self.answer("reload", Reloaded { taken: vec!["pricing".into()], at_restart: vec![] })
    }
    fn wallets(&self) -> BoxFuture<'_, Result<Vec<WalletView>, ApiError>> {
        let balances =
            vec![Balance { chain: "devnet".into(), token: token(), amount: units(5), shown: "0.000005 tUSD".into() }];
        self.answer("wallets", vec![WalletView { name: "wallet".into(), address: Address::repeat_byte(1), balances }])
    }
}

fn checked() -> HardwareCheck {
    let outcome = CheckOutcome::Passed;
    HardwareCheck { at: UnixMillis(5), level: 2, outcome, detail: String::new(), devices: vec![] }
}

fn rated() -> RatingView {
    let (id, at, state) = (receipt().id, UnixMillis(5), RatingState::Told);
    RatingView { id, stars: 4, comment: "fast disk".into(), at, state, detail: "no indexer is connected".into() }
}

fn known() -> Reputation {
    let rental = PastRental {
        escrow: receipt().quote.escrow,
        id: receipt().id,
        opened_block: 1,
        closed_block: 2,
        rating: None,
        verified: Some(true),
        fault: None,
    };
    Reputation {
        wallet: Address::repeat_byte(2),
        source: "an indexer".into(),
        standing: market::standing::Standing { completed: 1, ..Default::default() },
        record: market::reputation::Record::default(),
        uptime_30d: Some(999_999),
        trusted_seconds: Some(60),
        rank: Some(7),
        rentals: vec![rental],
    }
}

fn units(n: u128) -> Amount {
    Amount::new(n).unwrap()
}

fn token() -> Token {
    Token { chain: 31_337, address: Address::repeat_byte(3), symbol: "tUSD".into(), decimals: 6 }
}

fn approval() -> Approval {
    Approval {
        wallet: "wallet".into(),
        account: Address::repeat_byte(1),
        chain: "devnet".into(),
        token: token(),
        spender: Address::repeat_byte(4),
        spender_name: "escrow".into(),
        amount: alloy_primitives::U256::MAX,
        shown: "unlimited".into(),
    }
}

fn revoked() -> Revoked {
    Revoked { tx: alloy_primitives::B256::repeat_byte(5), block: 6, gas_used: 7, cost: "0.1 ETH".into() }
}

fn share() -> Share {
    let token = Some("gpulease-share-x".into());
    Share { id: rental().id, peer: "12D4".into(), until: UnixMillis(9_000), taken_back: false, token }
}

fn shared_rental() -> SharedRental {
    SharedRental { id: rental().id, provider: "12D3".into(), until: UnixMillis(9_000) }
}

fn service() -> ServiceState {
    ServiceState { taking_rentals: false, until: None, rentals: 1 }
}

fn info() -> NodeInfo {
    NodeInfo {
        version: "0.1.0".into(),
        peer: "12D3".into(),
        roles: vec![Role::Renter],
        network: "devnet-00000000".into(),
        addresses: vec![],
        peers: 3,
        offers: 2,
        metrics: None,
        searches: None,
    }
}

fn offer() -> OfferRow {
    OfferRow {
        provider: "12D3".into(),
        wallet: Address::repeat_byte(2),
        offer: "small".into(),
        class: "cpu".into(),
        hardware: "1 CPU".into(),
        gpu: String::new(),
        vram_gb: 0,
        cpu_millis: 1_000,
        memory_mib: 1_024,
        disk_mib: 10_240,
        slots: 2,
        free: 1,
        busy_until: None,
        token: token(),
        price_hour: units(360_000),
        price: "0.36 tUSD".into(),
        region: "KR".into(),
        verified: 0,
        max_seconds: 3_600,
        arbiters: vec![],
        expires: UnixMillis(1),
        standing: None,
        estimate: Some(Estimate { seconds: 60, cost: units(6_000), cost_text: "0.006 tUSD".into() }),
    }
}

fn explanation() -> OfferExplanation {
    let condition = ConditionRow { condition: "vram>=80".into(), failed: 1, unknown: 0, alone: 1 };
    let near = NearOffer { offer: offer(), condition: "vram>=80".into(), found: "vram is 48 GB".into() };
    OfferExplanation { offers: 2, matching: 1, conditions: vec![condition], near: vec![near] }
}

fn rental() -> RentalRow {
    RentalRow {
        id: RentalId(B256::repeat_byte(0xab)),
        label: Some("train".parse().unwrap()),
        role: Role::Renter,
        phase: "serving".into(),
        peer: "12D3".into(),
        offer: "small".into(),
        ready_at: Some(UnixMillis(5)),
        seconds: 9,
        cost: "0.0009 tUSD".into(),
        deposit: "0.09 tUSD".into(),
        ends_at: None,
        warning: None,
    }
}

fn story() -> RentalStory {
    let steps = vec![
        StoryStep::new("quoted", None, "0.36 tUSD an hour"),
        StoryStep::on_chain("opened", 1_795_284_726, B256::repeat_byte(0x11), 4, "0.09 tUSD locked"),
    ];
    let visit = Visit {
        at: UnixMillis(6),
        visitor: Visitor::Ssh,
        kind: VisitKind::Shell,
        ended: Some(UnixMillis(7)),
        how: "exited with 0".into(),
    };
    RentalStory { rental: rental(), steps, receipt: None, visits: vec![visit] }
}

fn disputed() -> Dispute {
    Dispute {
        rental: rental(),
        arbiter: Address::repeat_byte(7),
        ordered_at: Some(UnixMillis(5)),
        reason: StopReason::Hardware,
        stopped_at: Some(100),
        deadlines: Some(Deadlines { ruling: 550, finalizing: 1_000 }),
        receipt: None,
    }
}

fn proof() -> Evidence {
    let receipt = receipt();
    let kept = Kept {
        side: Role::Renter,
        quote: &receipt.quote,
        terms: &receipt.terms,
        terms_bytes: &receipt.terms_bytes,
        ready: None,
        voucher: None,
        ack: None,
        release: None,
        opening: None,
        stop: Some(Stop::new(&receipt.quote, 90, 100, Some(StopReason::Hardware))),
        stop_tx: Some((B256::repeat_byte(0x33), 8)),
        closing: None,
    };
    Evidence::new(kept, UnixMillis(1))
}

fn receipt() -> Receipt {
    let escrow = Escrow { chain: 31_337, address: Address::repeat_byte(9) };
    let quote = Quote {
        provider: Address::repeat_byte(2),
        provider_key: Address::repeat_byte(4),
        renter: Address::repeat_byte(1),
        renter_key: Address::repeat_byte(5),
        token: Address::repeat_byte(3),
        rate: Rate::new(units(100_000_000)),
        min_deposit: units(1),
        max_seconds: 3_600,
        window: 900,
        expiry: 60,
        arbiter: Address::ZERO,
        device: DeviceId(B256::repeat_byte(6)),
        spec: B256::repeat_byte(7),
    };
    let at = |byte| TransactionRef { tx: B256::repeat_byte(byte), block: 4, time: 1_795_284_726 };
    Receipt {
        id: quote.id(&escrow),
        role: Role::Renter,
        quote: SignedQuote { escrow, quote, signature: Signature::new(U256::from(5), U256::from(7), false) },
        terms: Terms {
            network: "devnet-00000000".into(),
            provider_peer: PeerId::random(),
            renter_peer: PeerId::random(),
            escrow,
            token: token(),
            offer: "small".into(),
            slot: "small-0".into(),
            hardware: Default::default(),
            increment_millis: 1_000,
            ready_seconds: 60,
            frozen_seconds: 300,
            notice_seconds: 0,
            workload: Default::default(),
            continues: None,
            salt: [1; 16],
        },
        terms_bytes: vec![1, 2, 3].into(),
        opened: at(0x11),
        closed: at(0x22),
        ready_at: Some(UnixMillis(1_795_284_727_000)),
        stopped_at: Some(UnixMillis(1_795_284_737_000)),
        seconds: 10,
        frozen_seconds: 0,
        deposit: units(90_000),
        paid: units(1_000),
        refunded: units(89_000),
        kind: 1,
        voucher: None,
        release: None,
        job: None,
        checks: Checks::default(),
    }
}

fn paid() -> RunStep {
    RunStep::Paid { seconds: 1, cost: String::new() }
}

fn event(number: u64, step: RunStep) -> RunEvent {
    RunEvent { number, at: UnixMillis(number), step }
}

struct Daemon {
    folder: TempDir,
    fake: Arc<Fake>,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), ServerError>>,
}

impl Daemon {
    async fn start(fake: Fake) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), fake, REQUEST_LIMIT).await
    }

    async fn start_in(folder: TempDir, fake: Fake, limit: Duration) -> Self {
        let (fake, cancel) = (Arc::new(fake), CancellationToken::new());
        let server = Server::bind(&folder.path().join("api.sock")).await.unwrap();
        let task = tokio::spawn(server.serve_with(fake.clone(), cancel.clone(), limit));
        Self { folder, fake, cancel, task }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("api.sock")
    }

    async fn client(&self) -> Client {
        Client::connect(&self.socket()).await.unwrap()
    }

    fn asked(&self) -> Vec<String> {
        self.fake.asked.lock().unwrap().clone()
    }

    /// Sends a request as it stands and returns the status and the body.
    async fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = UnixStream::connect(self.socket()).await.unwrap();
        // a server that has read enough closes early; what it answered before is what counts
        let (mut answer, _) = (Vec::new(), stream.write_all(request.as_bytes()).await);
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
        (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.raw(&format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
    }
}

#[tokio::test]
async fn every_call_reaches_the_daemon_and_its_answer_comes_back() {
    let daemon = Daemon::start(Fake::default()).await;
    let client = daemon.client().await;
    assert_eq!(json(&client.node().await.unwrap()), json(&info()));
    let query = OfferQuery {
        query: "gpu=H100 price<=2.50 region in [KR,JP]".into(),
        order: "price,-vram".into(),
        limit: 3,
        ..OfferQuery::default()
    };
    assert_eq!(json(&client.offers(&query).await.unwrap()), json(&vec![offer()]));
    let query = OfferQuery { job: "tflop=1e6".into(), rates: "A@1 1\nB@1 2 # & more".into(), ..query };
    assert_eq!(json(&client.explain(&query).await.unwrap()), json(&explanation()));
    assert_eq!(client.indexers().await.unwrap()[0].asked, 2);
    let request = RunRequest { argv: vec!["/bin/true".into(), "a b".into()], seconds: 60, ..RunRequest::default() };
    assert_eq!(client.run(&request).await.unwrap().run, 7);
    assert_eq!(json(&client.rentals(true).await.unwrap()), json(&vec![rental()]));
    assert_eq!(json(&client.story("0xab?c").await.unwrap()), json(&vec![story()]));
    assert_eq!(json(&client.stop("0xab/../cd?e").await.unwrap()), json(&rental()));
    let files = client.evidence("0xab?c").await.unwrap();
    assert_eq!((files[0].rental, &files[0].statements), (receipt().id, &proof().statements));
    assert_eq!(json(&client.dispute("0xabcd").await.unwrap()), json(&disputed()));
    let order = DisputeRequest { reason: StopReason::Data };
    assert_eq!(json(&client.order_dispute("0xabcd", order).await.unwrap()), json(&disputed()));
    let request = RatingRequest { stars: 4, comment: "fast disk".into() };
    assert_eq!(client.rate("0xab?c", &request).await.unwrap(), rated());
    let query = ReputationQuery { mine: true, verify: false };
    assert_eq!(client.reputation("…a/b?c", &query).await.unwrap(), known());
    let receipts = client.receipts("0xabab").await.unwrap();
    assert_eq!(receipts[0].id, receipt().id);
    assert_eq!(client.wallets().await.unwrap()[0].balances[0].amount, units(5));
    assert_eq!(client.approvals().await.unwrap(), [approval()]);
    let decimal = alloy_primitives::U256::MAX.to_string();
    assert_eq!(json(&approval())["amount"], decimal, "amounts are decimal text");
    assert_eq!(client.revoke(&approval().revocation()).await.unwrap(), revoked());
    let until = Some(UnixMillis(7));
    assert_eq!(client.drain(DrainRequest { until }).await.unwrap(), service());
    assert_eq!(client.undrain().await.unwrap(), service());
    assert_eq!(client.reload().await.unwrap().taken, ["pricing"]);
    assert_eq!(client.check("0xabcd").await.unwrap(), checked());
    let extended = client.extend("0xabcd", ExtendRequest { seconds: 5 }).await.unwrap();
    assert_eq!(json(&extended), json(&rental()));
    assert_eq!(client.console("0xabcd").await.unwrap().url, "http://127.0.0.1:1/");
    let request = ShareRequest { peer: "12D4".into(), seconds: Some(60) };
    assert_eq!(client.share("0xabcd", &request).await.unwrap(), share());
    assert_eq!(client.shares("0xabcd").await.unwrap(), [share()]);
    assert_eq!(client.unshare("0xabcd", "12D4").await.unwrap(), share());
    assert_eq!(client.accept("gpulease-share-x").await.unwrap(), shared_rental());
    assert_eq!(client.shared().await.unwrap(), [shared_rental()]);

    let asked = [
        "node",
        "offers gpu=H100 price<=2.50 region in [KR,JP] price,-vram 3",
        "explain gpu=H100 price<=2.50 region in [KR,JP] tflop=1e6 A@1 1\nB@1 2 # & more",
        "indexers",
        "run [\"/bin/true\", \"a b\"] 60",
        "rentals true",
        "story 0xab?c",
        "stop 0xab/../cd?e",
        "evidence 0xab?c",
        "dispute 0xabcd",
        "dispute 0xabcd data",
        "rate 0xab?c 4 fast disk",
        "reputation …a/b?c true false",
        "receipts 0xabab",
        "wallets",
        "approvals",
        &format!("revoke {} on devnet", Address::repeat_byte(4)),
        "drain until Some(UnixMillis(7))",
        "undrain",
        "reload",
        "check 0xabcd",
        "extend 0xabcd by 5",
        "console 0xabcd",
        "share 0xabcd with 12D4 for Some(60)",
        "shares of 0xabcd",
        "unshare 0xabcd with 12D4",
        "accept gpulease-share-x",
        "shared",
    ];
    assert_eq!(daemon.asked(), asked);
}

/// Records of any kind are compared as JSON.
fn json(record: &impl serde::Serialize) -> serde_json::Value {
    serde_json::to_value(record).unwrap()
}

#[tokio::test]
async fn an_error_keeps_its_class_its_words_and_its_advice() {
    use ErrorKind::*;
    for kind in [Failed, Usage, NoDaemon, NoMatch, Funds, Refused, Chain, Timeout] {
        let error = ApiError::new(kind, "what happened", "what to do");
        let daemon = Daemon::start(Fake { fails: Mutex::new(Some(error.clone())), ..Fake::default() }).await;
        let client = daemon.client().await;
        assert_eq!(client.offers(&OfferQuery::default()).await.unwrap_err(), error);
        assert_eq!(client.run(&RunRequest::default()).await.unwrap_err(), error);
        assert_eq!(client.run_events(1, 0).next().await.unwrap().unwrap_err(), error);
        assert_eq!(daemon.get("/v1/node").await.0, status_of(kind).as_u16());
        assert!(!status_of(kind).is_success());
    }
}

#[tokio::test]
async fn what_cannot_be_read_is_a_usage_error_in_json() {
    let daemon = Daemon::start(Fake::default()).await;
    let usage = |body: &str| serde_json::from_str::<ApiError>(body).unwrap().kind == ErrorKind::Usage;
    for (path, status) in
        [("/v1/offers?limit=x", 400), ("/v1/runs/x/events", 400), ("/v1/nothing", 404), ("/v1/runs", 405)]
    {
        let (got, body) = daemon.get(path).await;
        assert_eq!(got, status, "{path}");
        assert!(usage(&body), "{path}: {body}");
    }
    for (length, status) in [(2, 400), (MAX_REQUEST_BYTES + 1, 400)] {
        let head = "POST /v1/runs HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json";
        let (got, body) =
            daemon.raw(&format!("{head}\r\ncontent-length: {length}\r\n\r\n{}", "x".repeat(length))).await;
        assert_eq!(got, status);
        assert!(usage(&body), "{body}");
    }
    assert_eq!(daemon.asked(), Vec::<String>::new());
}

#[tokio::test]
async fn events_arrive_one_by_one_while_the_run_goes_on() {
    let (send, source) = mpsc::channel(4);
    let daemon = Daemon::start(Fake { events: Mutex::new(vec![source]), ..Fake::default() }).await;
    let mut events = daemon.client().await.run_events(7, 0);
    for number in 0..3 {
        // nothing further is sent before this one has arrived
        send.send(event(number, paid())).await.unwrap();
        assert_eq!(events.next().await.unwrap().unwrap().number, number);
    }
    let error = ApiError::new(ErrorKind::Refused, "busy", "");
    send.send(event(3, RunStep::Failed { error })).await.unwrap();
    assert!(events.next().await.unwrap().unwrap().step.is_last());
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn an_event_stream_is_one_json_object_a_line() {
    let (send, source) = mpsc::channel(4);
    let daemon = Daemon::start(Fake { events: Mutex::new(vec![source]), ..Fake::default() }).await;
    send.send(event(0, RunStep::Log { stderr: true, seq: 1, offset: 0, data: "Cg==".into() })).await.unwrap();
    send.send(event(1, RunStep::Started)).await.unwrap();
    drop(send);
    let (response, _connection) =
        daemon.client().await.send(hyper::Method::GET, "/v1/runs/7/events", vec![]).await.unwrap();
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/x-ndjson");
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.ends_with('\n'));
    let lines: Vec<RunEvent> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(matches!(lines[..], [RunEvent { number: 0, .. }, RunEvent { number: 1, .. }]));
}

#[tokio::test]
async fn a_broken_event_stream_is_taken_up_where_it_broke() {
    let ((first, one), (second, two)) = (mpsc::channel(4), mpsc::channel(4));
    let daemon = Daemon::start(Fake { events: Mutex::new(vec![one, two]), ..Fake::default() }).await;
    let mut events = daemon.client().await.run_events(7, 0);
    first.send(event(0, RunStep::Started)).await.unwrap();
    assert_eq!(events.next().await.unwrap().unwrap().number, 0);
    drop(first);
    // the second connection repeats what was seen and goes on
    for number in 0..2 {
        second.send(event(number, paid())).await.unwrap();
    }
    assert_eq!(events.next().await.unwrap().unwrap().number, 1);
    assert_eq!(daemon.fake.from.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_daemon_that_was_started_again_tells_the_run_anew_and_nothing_is_seen_twice_or_missed() {
    let ((first, one), (second, two)) = (mpsc::channel(4), mpsc::channel(4));
    let daemon = Daemon::start(Fake { events: Mutex::new(vec![one, two]), ..Fake::default() }).await;
    let log = |seq| RunStep::Log { stderr: false, seq, offset: 0, data: String::new() };
    let mut events = daemon.client().await.run_events(7, 0);
    for (number, step) in [(0, RunStep::Started), (1, log(0))] {
        first.send(event(number, step)).await.unwrap();
        events.next().await.unwrap().unwrap();
    }
    drop(first);
    for (number, step) in [(1_000, RunStep::Started), (1_001, log(0)), (1_002, log(1))] {
        second.send(event(number, step)).await.unwrap();
    }
    let next = events.next().await.unwrap().unwrap();
    assert!(matches!(next.step, RunStep::Log { seq: 1, .. }), "{next:?}");
}

#[tokio::test]
async fn a_run_that_a_restarted_daemon_does_not_know_has_failed_and_nothing_was_locked() {
    let (send, source) = mpsc::channel(4);
    let daemon = Daemon::start(Fake { events: Mutex::new(vec![source]), ..Fake::default() }).await;
    send.send(event(0, paid())).await.unwrap();
    let mut events = daemon.client().await.run_events(7, 0);
    events.next().await.unwrap().unwrap();
    *daemon.fake.fails.lock().unwrap() = Some(ApiError::new(ErrorKind::Usage, "there is no run 7", ""));
    drop(send);
    let error = events.next().await.unwrap().unwrap_err();
    assert_eq!(error.kind, ErrorKind::Failed);
    assert!(error.next.contains("nothing was locked"), "{error}");
}

#[tokio::test]
async fn the_description_lists_every_route_and_no_other() {
    let daemon = Daemon::start(Fake::default()).await;
    let (status, body) = daemon.get("/openapi.json").await;
    assert_eq!(status, 200);
    let body = &body[body.find('{').unwrap()..=body.rfind('}').unwrap()];
    let description: serde_json::Value = serde_json::from_str(body).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let mut listed: Vec<String> = paths
        .iter()
        .flat_map(|(path, of)| of.as_object().unwrap().keys().map(move |method| format!("{method} {path}")))
        .collect();
    listed.sort();
    let served = [
        "get /openapi.json",
        "get /v1/approvals",
        "get /v1/indexers",
        "get /v1/node",
        "get /v1/offers",
        "get /v1/offers/explain",
        "get /v1/providers/{provider}/reputation",
        "get /v1/receipts",
        "get /v1/rentals",
        "get /v1/rentals/{id}",
        "get /v1/rentals/{id}/dispute",
        "get /v1/rentals/{id}/evidence",
        "get /v1/rentals/{id}/shares",
        "get /v1/runs/{run}/events",
        "get /v1/shared",
        "get /v1/wallets",
        "post /v1/approvals/revoke",
        "post /v1/console",
        "post /v1/rentals/{id}/check",
        "post /v1/rentals/{id}/dispute",
        "post /v1/rentals/{id}/extend",
        "post /v1/rentals/{id}/rating",
        "post /v1/rentals/{id}/shares",
        "post /v1/rentals/{id}/stop",
        "post /v1/rentals/{id}/stream",
        "post /v1/rentals/{id}/unshare",
        "post /v1/runs",
        "post /v1/service/drain",
        "post /v1/service/reload",
        "post /v1/service/undrain",
        "post /v1/shared",
    ];
    assert_eq!(listed, served);
    for route in served {
        let (method, path) = route.split_once(' ').unwrap();
        let path = path.replace("{run}", "1").replace("{id}", "abcd").replace("{provider}", "abcd");
        let length = "content-length: 0\r\n";
        let (status, _) = daemon
            .raw(&format!("{} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{length}\r\n", method.to_uppercase()))
            .await;
        assert!(status != 404 && status != 405, "{route}: {status}");
    }
    let properties = &description["components"]["schemas"]["OfferRow"]["properties"];
    assert!(properties.get("price_hour").is_some());
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered_with_a_timeout() {
    let fake = Fake { hangs: true, ..Fake::default() };
    let daemon = Daemon::start_in(tempfile::tempdir().unwrap(), fake, Duration::from_millis(20)).await;
    assert_eq!(daemon.client().await.node().await.unwrap_err().kind, ErrorKind::Timeout);
}

#[tokio::test]
async fn only_the_daemons_user_may_open_the_socket() {
    let daemon = Daemon::start(Fake::default()).await;
    assert_eq!(fs::metadata(daemon.socket()).unwrap().mode() & 0o7777, 0o600);
    let left: Vec<_> = fs::read_dir(daemon.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["api.sock"]);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
    let daemon = Daemon::start(Fake::default()).await;
    assert!(matches!(Server::bind(&daemon.socket()).await, Err(ServerError::InUse(_))));
    assert!(daemon.client().await.node().await.is_ok());

    let stale = daemon.folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(Server::bind(&stale).await.is_ok());

    let file = daemon.folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    assert!(matches!(Server::bind(&file).await, Err(ServerError::NotASocket(_))));
    assert_eq!(fs::read(&file).unwrap(), b"precious");
}

#[tokio::test]
async fn the_end_closes_event_streams_and_removes_the_socket() {
    let (send, source) = mpsc::channel(4);
    let daemon = Daemon::start(Fake { events: Mutex::new(vec![source]), ..Fake::default() }).await;
    send.send(event(0, RunStep::Started)).await.unwrap();
    let mut events = daemon.client().await.run_events(7, 0);
    events.next().await.unwrap().unwrap();
    daemon.cancel.cancel();
    tokio::time::timeout(SHUTDOWN_GRACE, daemon.task).await.unwrap().unwrap().unwrap();
    assert!(!daemon.folder.path().join("api.sock").exists());
    drop(send);
}

#[tokio::test]
async fn without_a_daemon_the_error_says_how_to_start_one() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("api.sock");
    let dead = folder.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    for socket in [missing, dead] {
        let error = Client::connect(&socket).await.unwrap_err();
        assert_eq!(error.kind, ErrorKind::NoDaemon);
        assert!(error.next.contains("node --role renter"));
    }
}
