//! Inputs to begin with: what honest peers send, made by the real encoders, so that the engine need not guess the formats, and so that a
//! change of a format shows when they are replayed. To them come inputs that once broke something.

mod archives;
mod comparisons;
mod ratings;

use crate::identity::{ESCROW, NOW, PEER_KEY, address, provider_peer, renter_peer, sign};
use agent::address::InnerAddress;
use agent::protocol::{
    Command, Exit, Failure, FailureKind, Frame, JobState, NamedFile, Record, Reply, Request, Stream, TerminalSize,
    Unfetched,
};
use agent::session_frame::SessionFrame;
use agent::session_key::SessionKey;
use alloy_primitives::{Address, B256, U256, keccak256};
use futures::executor::block_on;
use market::{
    class::GpuClass,
    id::{DeviceId, RentalId},
    mandate::{Funding, Mandate},
    money::{Amount, Rate, Token},
    offer::{Binding, Discount, GpuGroup, Hardware, Isolation, Offer, Price, ProviderAd, Verification},
    preemption::{PreemptReason, SignedNotice},
    quote::{Quote, SignedQuote},
    refusal::{Refusal, RefusalCode},
    signed::{self, AckStatement, SignedAck, SignedRelease, SignedVoucher},
    terms::{Image, NetworkAccess, Terms, Workload},
    time::UnixMillis,
};
use network::{ad, write_message};
use std::{convert::Infallible, sync::LazyLock};
use wire::{CarryAsk, Grant, MAX_OFFERS_RESPONSE_BYTES, QuoteAsk, ShareToken, Unshare, ad_to_proto, encode, proto};

/// The inputs of one target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "advertisement" => advertisement(),
        "rental" => rental(),
        "session" => session(),
        "archive" => archives::all(),
        "discovery" => discovery(),
        "agent" => agent(),
        "query" => query(),
        "sync" => comparisons::all(),
        "ratings" => ratings::all(),
        _ => Vec::new(),
    }
}

/// An input that begins with the choice of what it is.
fn chosen(way: u8, bytes: &[u8]) -> Vec<u8> {
    [&[way], bytes].concat()
}

/// Messages as they follow each other on a stream.
fn frames<M: prost::Message>(messages: &[M]) -> Vec<u8> {
    let mut stream = Vec::new();
    for message in messages {
        block_on(write_message(&mut stream, message, MAX_OFFERS_RESPONSE_BYTES)).expect("into memory");
    }
    stream
}

fn token() -> Token {
    Token { chain: ESCROW.chain, address: Address::repeat_byte(7), symbol: "USDC".into(), decimals: 6 }
}

fn price() -> Price {
    let rate = Rate::new(Amount::new(694_444_445).expect("small"));
    Price { escrow: ESCROW, token: token(), rate, floor: Some(rate), min_deposit: Amount::new(10_000).expect("small") }
}

fn hardware() -> Hardware {
    Hardware {
        gpus: vec![GpuGroup {
            model: "NVIDIA H200".into(),
            count: 4,
            vram_mib: 144_384,
            sm: 90,
            sm_features: "a".into(),
            mig_profile: "1g.18gb".into(),
            interconnect: "nvlink4".into(),
            power_limit_watts: 700,
            profiling: true,
            tflops: 9_890,
            memory_gb_per_s: 4_800,
            mega_multiply_adds: 15_000_000,
        }],
        driver_version: "580.82".into(),
        cuda_version: 130,
        cpu_model: "EPYC 9654".into(),
        cpu_millis: 48_500,
        memory_mib: 524_288,
        disk_mib: 1_048_576,
        disk_kind: "nvme".into(),
        disk_mb_per_s: 6_000,
        network_down_mbit: 10_000,
        network_up_mbit: 5_000,
        software: vec!["docker 28.2".into()],
        core_mega_multiply_adds: 3_200,
    }
}

fn offer(name: &str, hardware: Hardware) -> Offer {
    Offer {
        name: name.into(),
        slots: 2,
        free: 1,
        busy_until: Some(UnixMillis(NOW.0 + 60_000)),
        hardware,
        prices: vec![price()],
        min_seconds: 10,
        max_seconds: 86_400,
        increment_millis: 10_000,
        ready_seconds: 30,
        notice_seconds: 30,
        window: 86_400,
        arbiters: vec![Address::repeat_byte(3)],
        isolation: Isolation::SharedKernel,
        verification: Verification::Measured,
        whole_host: true,
        splits: vec![1, 4],
        discounts: vec![Discount { chain: 1, token: Address::repeat_byte(4), basis_points: 500 }],
    }
}

/// An advertisement with two offers, whose binding holds.
pub(crate) fn ad() -> &'static ProviderAd {
    static AD: LazyLock<ProviderAd> = LazyLock::new(|| {
        let peer = provider_peer();
        let Ok(binding) =
            Binding::issue::<Infallible>(&peer, ESCROW.chain, address(), address(), NOW, |digest| Ok(sign(digest)));
        let small = Hardware { cpu_millis: 1_000, memory_mib: 1_024, disk_mib: 10_240, ..Hardware::default() };
        let offers = vec![offer("quad", hardware()), offer("small", small)];
        ProviderAd { peer, seq: NOW.0, expires: NOW.plus(900_000), binding, region: "KR".into(), offers }
    });
    &AD
}

fn advertisement() -> Vec<Vec<u8>> {
    let sealed = |ad: &ProviderAd| chosen(0, &ad::seal(&PEER_KEY, ad).expect("an ed25519 key signs anything"));
    let plain = |ad: &ProviderAd| chosen(1, &encode(&ad_to_proto(ad)));
    let tombstone = ProviderAd { offers: Vec::new(), ..ad().clone() };
    let one = ProviderAd { offers: ad().offers[1..].to_vec(), ..ad().clone() };
    // more cards than can be counted: the sum over the groups once overflowed
    let mut countless = ad().clone();
    let group = GpuGroup { count: u32::MAX, ..GpuGroup::default() };
    countless.offers[0].hardware.gpus = vec![group.clone(), group];
    vec![sealed(ad()), sealed(&tombstone), plain(ad()), plain(&one), plain(&countless)]
}

fn discovery() -> Vec<Vec<u8>> {
    let raw = ad::seal(&PEER_KEY, ad()).expect("an ed25519 key signs anything");
    let body = proto::AnnouncementBody {
        peer: ad().peer.to_bytes(),
        seq: ad().seq,
        expires: ad().expires.0,
        body_hash: ad::body_hash(&raw).to_vec(),
        classes: vec!["cpu".into(), "h200".into(), "unheard-of".into()],
    };
    let announcement = ad::announce(&PEER_KEY, ad(), &raw, &[GpuClass::CPU]).expect("an ed25519 key signs anything");
    let get = proto::offers_request::Request::Get(proto::GetAds { peers: vec![ad().peer.to_bytes(), vec![1, 2]] });
    let list = proto::ListAds { class: "h200".into(), after: ad().peer.to_bytes(), limit: 64 };
    let list = proto::offers_request::Request::List(list);
    let questions = [get, list].map(|request| proto::OffersRequest { request: Some(request) });
    let answer = proto::OffersResponse { ads: vec![raw.clone()], next: ad().peer.to_bytes() };
    let search = proto::SearchRequest { query: "price<=2".into(), limit: 50, ..proto::SearchRequest::default() };
    let standing = Some(proto::Standing { completed: 3, reliability: Some(990_000), ..proto::Standing::default() });
    let page = proto::SearchPage {
        rows: vec![proto::SearchRow::default()],
        ads: vec![proto::SearchAd { envelope: raw, updated_at: ad().seq, standing }],
        next: "more".into(),
        held: 1,
    };
    let found = proto::SearchResponse { response: Some(proto::search_response::Response::Page(page)) };
    vec![
        chosen(0, &announcement),
        chosen(1, &encode(&body)),
        chosen(2, &frames(&questions)),
        chosen(3, &frames(&[answer, proto::OffersResponse::default()])),
        chosen(4, &frames(&[search])),
        chosen(5, &frames(&[found, proto::SearchResponse::default()])),
        // a length and nothing behind it: as much memory was once taken as it said
        chosen(3, &[0xaf, 0xaf, 0x2a]),
    ]
}

fn terms() -> Terms {
    Terms {
        network: "devnet-0123abcd".into(),
        provider_peer: provider_peer(),
        renter_peer: renter_peer(),
        escrow: ESCROW,
        token: token(),
        offer: "quad".into(),
        slot: "quad-1".into(),
        hardware: hardware(),
        increment_millis: 10_000,
        ready_seconds: 30,
        frozen_seconds: 60,
        notice_seconds: 0,
        workload: Workload { image: Image::Oci("x@sha256:00".into()), network: NetworkAccess::Egress },
        continues: Some(RentalId(B256::repeat_byte(5))),
        salt: [7; 16],
    }
}

fn quote() -> (SignedQuote, Vec<u8>) {
    let bytes = wire::terms_to_bytes(&terms());
    let quote = Quote {
        provider: address(),
        provider_key: address(),
        renter: address(),
        renter_key: address(),
        token: token().address,
        rate: price().rate,
        min_deposit: price().min_deposit,
        max_seconds: 3_630,
        window: 86_400,
        expiry: u32::try_from(NOW.seconds() + 30).expect("before 2106"),
        arbiter: Address::ZERO,
        device: DeviceId(B256::repeat_byte(6)),
        spec: keccak256(&bytes),
    };
    let signature = sign(&quote.id(&ESCROW).0);
    (SignedQuote { escrow: ESCROW, quote, signature }, bytes)
}

fn ask() -> QuoteAsk {
    QuoteAsk {
        escrow: ESCROW,
        token: token().address,
        wallet: address(),
        renter_key: address(),
        at: NOW.seconds(),
        offer: "quad".into(),
        rate: price().rate,
        max_seconds: 3_630,
        deposit: Amount::new(2_500_000).expect("small"),
        interruptible: false,
        workload: Workload::default(),
        continues: None,
        slots: 4,
    }
}

fn voucher(id: RentalId) -> proto::Voucher {
    wire::voucher_to_proto(&signed_voucher(id))
}

fn signed_voucher(id: RentalId) -> SignedVoucher {
    let cumulative = Amount::new(6_944).expect("small");
    let signature = sign(&ESCROW.digest(&SignedVoucher::statement(id, cumulative)));
    SignedVoucher { id, cumulative, signature }
}

fn ack(id: RentalId) -> proto::Ack {
    let usage = encode(&proto::Usage {
        cpu_millis: 9_000,
        memory_bytes: 1 << 30,
        memory_peak_bytes: 1 << 31,
        ..Default::default()
    });
    let cumulative = Amount::new(6_944).expect("small");
    let statement =
        AckStatement { id, seq: 3, cumulative, served_millis: 9_999, frozen_millis: 1, metrics: keccak256(&usage) };
    let signature = sign(&ESCROW.digest(&statement.statement()));
    wire::ack_to_proto(&SignedAck { statement, usage: usage.into(), signature }, proto::Phase::Serving)
}

fn notice(id: RentalId) -> proto::PreemptNotice {
    let reason = PreemptReason::Outbid;
    let signature = sign(&ESCROW.digest(&SignedNotice::statement(id, NOW, reason)));
    wire::notice_to_proto(&SignedNotice { id, at: NOW, reason, signature })
}

fn refusal() -> proto::Refusal {
    wire::refusal_to_proto(&Refusal::new(RefusalCode::BusyUntil, "2026-01-01T00:01:00Z, or \u{20ac} more"))
}

fn grant(id: RentalId) -> proto::SessionGrant {
    let grant = Grant { id, serial: 2, expires: NOW.seconds() + 3_600 };
    wire::grant_to_proto(&grant, &sign(&grant.digest(&provider_peer(), &renter_peer(), &ESCROW)))
}

fn share_token(id: RentalId) -> Vec<u8> {
    let (provider, guest) = (provider_peer(), renter_peer());
    let token = ShareToken { network: "devnet-00000001".into(), provider, guest, id, grant: grant(id) };
    wire::share_token_to_bytes(&token)
}

fn rental() -> Vec<Vec<u8>> {
    use proto::{rental_request::Request as Asked, rental_response::Response as Answered};
    let (quote, terms) = quote();
    let id = quote.id();
    let body = ask().to_body();
    let signature = sign(&ask().digest(&body, &renter_peer(), &provider_peer())).as_bytes().to_vec();
    let unshare = Unshare { id, guest: renter_peer(), serial: 2 };
    let stop = sign(&ESCROW.digest(&signed::Stop { id: id.0, reason: 1 }));
    let authorization = Funding::Authorization { signature: signature.clone().into() };
    let (nonce, deadline) = (U256::from(7), 1_800_000_000);
    let permit2 = Funding::Permit2 { nonce, deadline, signature: signature.clone().into() };
    let requests = [
        Asked::Quote(proto::QuoteRequest { body: body.clone(), signature }),
        Asked::Status(proto::StatusRequest { id: id.0.to_vec() }),
        Asked::Voucher(voucher(id)),
        Asked::Finish(proto::FinishRequest { voucher: Some(voucher(id)), id: id.0.to_vec() }),
        Asked::Mandate(wire::mandate_to_proto(id, &mandate(id, authorization))),
        Asked::Mandate(wire::mandate_to_proto(id, &mandate(id, permit2))),
        Asked::Unshare(wire::unshare_to_proto(&unshare, &sign(&unshare.digest(&provider_peer(), &ESCROW)))),
        Asked::Carry(wire::carry_to_proto(&CarryAsk { escrow: ESCROW, id, block: 7, reason: 1, signature: stop })),
    ]
    .map(|request| proto::RentalRequest { request: Some(request) });
    let ready = sign(&ESCROW.digest(&signed::Ready { id: id.0, at: NOW.0 }));
    let status = proto::Status {
        phase: proto::Phase::Serving.into(),
        ready: Some(wire::ready_to_proto(id, NOW, &ready)),
        latest: Some(ack(id)),
        fault: Some(refusal()),
        notice: Some(notice(id)),
    };
    let cumulative = Amount::new(6_944).expect("small");
    let signature = sign(&ESCROW.digest(&SignedRelease::statement(id, cumulative)));
    let reply = wire::quote_to_proto(&quote, terms.clone());
    let responses = [
        Answered::Refusal(refusal()),
        Answered::Quote(reply.clone()),
        Answered::Status(status),
        Answered::Ack(proto::Ack { notice: Some(notice(id)), ..ack(id) }),
        Answered::Final(wire::final_to_proto(&SignedRelease { id, cumulative, signature })),
        Answered::Mandated(proto::Mandated { id: id.0.to_vec() }),
        Answered::Carried(proto::Carried { id: id.0.to_vec() }),
        Answered::Unshared(proto::Unshared { id: id.0.to_vec() }),
    ]
    .map(|response| proto::RentalResponse { response: Some(response) });
    let mut inputs = vec![
        chosen(2, &body),
        chosen(3, &terms),
        chosen(4, &encode(&reply)),
        chosen(5, &encode(&grant(id))),
        chosen(6, &share_token(id)),
        chosen(1, &frames(&responses)),
        chosen(0, &frames(&requests)),
    ];
    inputs.extend(requests.iter().map(|request| chosen(0, &frames(std::slice::from_ref(request)))));
    inputs.extend(responses.iter().map(|response| chosen(1, &frames(std::slice::from_ref(response)))));
    inputs
}

fn mandate(id: RentalId, funding: Funding) -> Mandate {
    let advance = signed_voucher(id);
    Mandate { deposit: advance.cumulative, funding, advance }
}

fn session() -> Vec<Vec<u8>> {
    use proto::{file_frame::Frame as File, job_end::How, log_frame::Frame as Log, session_header::Kind};
    let id = quote().0.id();
    let start = proto::StartJob {
        argv: vec!["sh".into(), "-c".into(), "exit 3".into()],
        env: [("A".to_owned(), "b".to_owned())].into(),
        cwd: "/job".into(),
    };
    let headers = [
        Kind::Start(start),
        Kind::Logs(proto::ReadLogs { from: 7, follow: true }),
        Kind::Put(proto::PutFiles { path: "/job".into() }),
        Kind::Get(proto::GetChanged { path: String::new() }),
        Kind::Exec(proto::Exec {
            key: vec![7; 16],
            argv: vec!["top".into()],
            env: [("A".to_owned(), "b".to_owned())].into(),
            cwd: "/".into(),
            terminal: Some(proto::TerminalSize { columns: 80, rows: 24 }),
        }),
        Kind::Attach(proto::Attach { key: vec![7; 16], seen: 1 << 40 }),
        Kind::Dial(proto::Dial { to: Some(proto::dial::To::Address("[::1]:8888".into())) }),
        Kind::Files(proto::Files {}),
        Kind::Stats(proto::Stats {}),
        Kind::Unfetched(proto::Unfetched { path: "/job/out".into() }),
    ]
    .map(|kind| proto::SessionHeader { grant: Some(grant(id)), kind: Some(kind) });
    let answers = [
        proto::session_answer::Answer::Accepted(proto::Accepted {}),
        proto::session_answer::Answer::Refusal(refusal()),
    ]
    .map(|answer| proto::SessionAnswer { answer: Some(answer) });
    let ends =
        [How::Code(3), How::Signal(9), How::OutOfMemory(proto::OutOfMemory {}), How::NotStarted("no such file".into())]
            .map(|how| Log::End(proto::JobEnd { how: Some(how), exit_code: 127, disk_full: true }));
    let output = Log::Chunk(proto::LogChunk { seq: 1, stderr: true, at: NOW.0, data: b"line\n".to_vec() });
    let logs: Vec<_> = [output, Log::Gap(proto::LogGap { next: 9 })]
        .into_iter()
        .chain(ends)
        .map(|frame| proto::LogFrame { frame: Some(frame) })
        .collect();
    let mut files = Vec::new();
    block_on(access::transfer::send(&mut &b"a tar stream"[..], &mut files, |_| {})).expect("into memory");
    let failed = frames(&[proto::FileFrame { frame: Some(File::Failed(refusal())) }]);
    let too_much = frames(&vec![proto::FileFrame { frame: Some(File::Data(vec![0; 900])) }; 3]);
    vec![
        chosen(0, &frames(&headers)),
        chosen(1, &frames(&answers)),
        chosen(2, &frames(&logs)),
        chosen(3, &files),
        chosen(3, &failed),
        chosen(3, &too_much),
        chosen(4, &frames(&file_requests())),
        chosen(5, &frames(&file_replies())),
    ]
}

fn file_requests() -> Vec<proto::FileRequest> {
    use proto::file_request::Operation as Ask;
    let target =
        proto::FileTarget { target: Some(proto::file_target::Target::Path(b"/job/\xff".to_vec())), follow: true };
    let time = proto::FileTime { seconds: -1, nanoseconds: 5 };
    let set = proto::FileSet {
        target: Some(target.clone()),
        size: Some(0),
        permissions: Some(0o644),
        accessed: None,
        modified: Some(time),
    };
    let store = proto::FileStore {
        path: b"/job/x".to_vec(),
        data: b"content".to_vec(),
        permissions: 0o600,
        modified: Some(time),
        blake3: vec![7; 32],
    };
    [
        Ask::Open(proto::FileOpen { handle: 1, path: b"/job/x".to_vec(), read: true, ..proto::FileOpen::default() }),
        Ask::Write(proto::FileWrite { handle: 1, offset: 1 << 40, data: b"content".to_vec() }),
        Ask::Stat(target),
        Ask::Set(set),
        Ask::Rename(proto::FileRename { from: b"/a".to_vec(), to: b"/b".to_vec(), replace: true }),
        Ask::Store(store),
    ]
    .into_iter()
    .zip(0..)
    .map(|(operation, number)| proto::FileRequest { number, operation: Some(operation) })
    .collect()
}

fn file_replies() -> Vec<proto::FileReply> {
    use proto::file_reply::Answer;
    let metadata = proto::FileMetadata {
        kind: proto::FileKind::Symlink.into(),
        permissions: 0o777,
        size: 9,
        modified: Some(proto::FileTime { seconds: 1, nanoseconds: 999_999_999 }),
        ..proto::FileMetadata::default()
    };
    let entry = |name: &[u8]| proto::FileEntry { name: name.to_vec(), metadata: Some(metadata) };
    let failed = proto::FileFailed { cause: proto::FileCause::NoSpace.into(), message: "full \u{1b}[2J".into() };
    let fetched = proto::FileFetched { data: b"content".to_vec(), metadata: Some(metadata), blake3: vec![7; 32] };
    [
        Answer::Done(proto::FileDone {}),
        Answer::Data(b"content".to_vec()),
        Answer::Entries(proto::FileEntries { entries: vec![entry(b"name"), entry(b"\xff")], last: true }),
        Answer::Entries(proto::FileEntries { entries: vec![entry(b"../up")], last: true }),
        Answer::Extent(proto::FileExtent { start: 1, end: u64::MAX }),
        Answer::Fetched(fetched),
        Answer::Failed(failed),
    ]
    .into_iter()
    .zip(0..)
    .map(|(answer, number)| proto::FileReply { number, answer: Some(answer) })
    .collect()
}

fn agent() -> Vec<Vec<u8>> {
    let key = SessionKey::from([7; 16]);
    let command = Command { argv: vec!["sh".into()], env: vec![("A".into(), "b=c".into())], cwd: "/job".into() };
    let frames = [
        Frame::Request(Request::Start { key: "k".into(), command: command.clone(), user: None }),
        Frame::Request(Request::Start { key: "k".into(), command: command.clone(), user: Some("app:1000".into()) }),
        Frame::Request(Request::Exec { key, command, terminal: Some(TerminalSize { columns: 80, rows: 24 }) }),
        Frame::Request(Request::Attach { key, seen: 9 }),
        Frame::Request(Request::Dial { address: InnerAddress::Localhost(8888) }),
        Frame::Request(Request::Dial { address: InnerAddress::Unix("/run/x".into()) }),
        Frame::Request(Request::Get { path: "/job".into() }),
        Frame::Request(Request::Logs { from: 7, follow: true }),
        Frame::Request(Request::Put { directory: "/job".into() }),
        Frame::Request(Request::Stop { grace_ms: 1 }),
        Frame::Reply(Reply::Ended { exit: Exit::OutOfMemory }),
        Frame::Reply(Reply::Status { state: JobState::Running { started_ms: 3 } }),
        Frame::Reply(Reply::Stored { entries: 3, bytes: 9 }),
        Frame::Request(Request::Unfetched { directory: "/job".into() }),
        Frame::Reply(Reply::Unfetched(Unfetched {
            files: 2,
            bytes: 9,
            largest: vec![NamedFile { path: "a\u{1b}".into(), bytes: 8 }],
        })),
        Frame::Failure(Failure { kind: FailureKind::DiskFull, message: "full \u{1f4a5}".into() }),
        Frame::Data(vec![0, 1, 255]),
        Frame::End,
        Frame::Reply(Reply::Running { taken: 4 }),
        Frame::Record(Record { seq: 9, stream: Stream::Stdout, time_ms: 12, bytes: b"line\n".to_vec() }),
        Frame::Gap { from: 1, to: u64::MAX },
        Frame::Session(SessionFrame::Signal(-1)),
        Frame::Session(SessionFrame::Resize(TerminalSize { columns: 132, rows: 50 })),
        Frame::Session(SessionFrame::Output { offset: 1 << 40, stream: Stream::Stderr, bytes: b"said".to_vec() }),
        Frame::Session(SessionFrame::Taken(7)),
        Frame::Session(SessionFrame::Ended(Exit::Code { code: 3 })),
        Frame::Session(SessionFrame::Input { offset: 5, bytes: b"typed".to_vec() }),
        Frame::Session(SessionFrame::InputEnd(10)),
        Frame::Session(SessionFrame::Acknowledge(4)),
        Frame::Session(SessionFrame::HangUp),
    ]
    .map(|frame| frame.encode().expect("short"));
    let mut inputs = frames.to_vec();
    inputs.push(frames.concat());
    inputs
}

fn query() -> Vec<Vec<u8>> {
    let long = "gpu=H100 num_gpus>=4 sm>=90 vram>=80 and price<=2.50 reliability>0.99 region in [KR, \"JP\"] interruptible!=true";
    vec![
        chosen(0, long.as_bytes()),
        chosen(0, b"offer==\"quad\" free<2 max_hours>1 token=usdc chain=31337 verified>=2"),
        chosen(0, b"gpus>=4"),
        chosen(
            0,
            b"not (sm=90a or driver>=580.82) vram 80GB..141 and (price in [1, 2..2.5] or disk>=1TiB) duration>=1h30m",
        ),
        chosen(0, b"((((free>=1)))) or not not software!=docker isolation=virtual_machine provider!=x wallet!=0x00"),
        chosen(1, b"price,-vram, sm"),
        chosen(1, b"-reliability,cost,time,region"),
        chosen(2, b"2.500000"),
        chosen(2, b"79228162514264337593543950335"),
        chosen(3, b"1h30m"),
        chosen(4, b"# dollars\nUSDC@8453 1\n0x0707070707070707070707070707070707070707@1=3120.50"),
        chosen(5, b"tflop=1e6 gb=2.5 seconds=60"),
        chosen(6, B256::repeat_byte(0xab).to_string().as_bytes()),
        chosen(6, b"0xABAB"),
    ]
}
