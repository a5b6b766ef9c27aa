//! What comparing two large books costs: `cargo bench -p bench --bench sync`. Prints a table and fails when a bar is missed, or when anything
//! is not found.
//!
//! Both sides hold a million advertisements that are renewed every five minutes, and made their last picture half a minute ago, as two
//! indexers of ten times the design's size would. The bytes are those of whole messages as they lie on the stream: frames, the names that each
//! side tells or asks for, lengths. The processor time is that of the one thread in which each side's part is done.

#![allow(clippy::expect_used, reason = "a bench that cannot be set up has nothing to say")]

use indexer::sync::{AdId, Differences, Initiator, Inventory, Responder, Step};
use market::{id::PeerId, time::UnixMillis};
use std::{collections::BTreeSet, process::ExitCode, time::Duration};
use wire::{MAX_SYNC_IDS, SYNC_ID_BYTES, SyncAnswer, SyncAsk, encode, sync_answer_to_proto, sync_size};

/// Advertisements on each side.
const HELD: u64 = 1_000_000;
/// How often each is renewed, in milliseconds.
const RENEWED: u64 = 300_000;
/// And how long it lives.
const LIFETIME: u64 = 900_000;
/// How long ago both sides made their last picture.
const SINCE: u64 = 30_000;
const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

fn main() -> ExitCode {
    let rows = [
        Row {
            name: "1,000 recent ones, each known to one side only",
            bytes: Some(100_000),
            cpu: Some(Duration::from_millis(200)),
            holds: |n, side| n >= 1_000 || n % 2 == side,
            former: false,
        },
        Row {
            name: "1,000 recent renewals, each known to one side only",
            bytes: None,
            cpu: None,
            holds: |n, side| n >= 1_000 || n % 2 == side,
            former: true,
        },
        Row {
            name: "10,000 scattered ones, each known to one side only",
            bytes: None,
            cpu: None,
            holds: |n, side| n % 100 != 37 || n / 100 % 2 == side,
            former: false,
        },
        Row { name: "none: equal books", bytes: None, cpu: None, holds: |_, _| true, former: false },
    ];
    println!("{HELD} advertisements on each side; all names one way would be {} bytes", HELD * SYNC_ID_BYTES as u64);
    println!(
        "| what differs | rounds | bytes, all messages | all names / bytes | asking side | answering side | bar | |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    // every row is printed, whatever became of the others
    let held = rows.iter().filter(|row| row.measure()).count();
    if held == rows.len() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Row {
    name: &'static str,
    /// The most bytes.
    bytes: Option<usize>,
    /// The most processor time of either side.
    cpu: Option<Duration>,
    /// Whether a side (0 or 1) has the newest advertisement of a provider; their numbers go from the newest to the oldest.
    holds: fn(u64, u64) -> bool,
    /// Whether it has the one before instead, or none.
    former: bool,
}

impl Row {
    fn measure(&self) -> bool {
        let (mut asking, mut answering) = (self.side(0), self.side(1));
        let run = Run::new(&mut asking, &mut answering);
        let missing = |side| (0..HELD).filter(move |n| !(self.holds)(*n, side)).map(|n| AdId::new(&peer(n), newest(n)));
        let all = run.found.we_lack.iter().copied().collect::<BTreeSet<_>>() == missing(0).collect()
            && run.found.they_lack.iter().copied().collect::<BTreeSet<_>>() == missing(1).collect();
        let few = self.bytes.is_none_or(|most| run.bytes <= most);
        let quick = self.cpu.is_none_or(|most| run.asking.max(run.answering) <= most);
        let bar = match (self.bytes, self.cpu) {
            (Some(bytes), Some(cpu)) => format!("all found, ≤ {bytes} bytes, ≤ {cpu:?} a side"),
            _ => "all found".to_owned(),
        };
        let verdict = if all && few && quick { "holds" } else { "FAILS" };
        let ratio = (HELD as usize * SYNC_ID_BYTES) as f64 / run.bytes as f64;
        let Run { rounds, bytes, asking, answering, .. } = run;
        println!(
            "| {} | {rounds} | {bytes} | {ratio:.0} | {asking:.1?} | {answering:.1?} | {bar} | {verdict} |",
            self.name
        );
        all && few && quick
    }

    /// A side that made its last picture a while ago, and has followed its book since.
    fn side(&self, side: u64) -> Inventory {
        let mut inventory = Inventory::new();
        let put = |inventory: &mut Inventory, n, seq| inventory.put(peer(n), seq, UnixMillis(seq + LIFETIME));
        let recent = |n: &u64| newest(*n) > NOW.0 - SINCE;
        let held = |n: &u64| (self.holds)(*n, side);
        for n in (0..HELD).filter(|n| held(n) || self.former) {
            put(&mut inventory, n, if held(&n) && !recent(&n) { newest(n) } else { former(n) });
        }
        inventory.view(UnixMillis(NOW.0 - SINCE));
        for n in (0..HELD).filter(|n| held(n) && recent(n)) {
            put(&mut inventory, n, newest(n));
        }
        inventory
    }
}

/// A peer of its own for each number, made without a key.
fn peer(number: u64) -> PeerId {
    let mut bytes = vec![0, 36, 8, 1, 18, 32];
    bytes.extend([0; 24]);
    bytes.extend(number.to_be_bytes());
    PeerId::from_bytes(&bytes).expect("an ed25519 key as libp2p writes it")
}

/// The moment of a provider's newest advertisement: evenly over the time between two renewals.
fn newest(n: u64) -> u64 {
    NOW.0 - 1 - n * RENEWED / HELD
}

/// The one before: providers renew a tenth earlier or later, so as not to speak all at once.
fn former(n: u64) -> u64 {
    let jitter = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    newest(n) - RENEWED * 9 / 10 - (RENEWED / 5) * jitter / (1 << 32)
}

/// One reconciliation.
struct Run {
    found: Differences,
    rounds: usize,
    bytes: usize,
    asking: Duration,
    answering: Duration,
}

impl Run {
    fn new(asking: &mut Inventory, answering: &mut Inventory) -> Self {
        let mut run = Self {
            found: Differences::default(),
            rounds: 0,
            bytes: 0,
            asking: Duration::ZERO,
            answering: Duration::ZERO,
        };
        let begin = || Initiator::begin(asking.view(NOW)).expect("a view can be compared");
        let (mut initiator, frame) = timed(&mut run.asking, begin);
        let mut responder = timed(&mut run.answering, || Responder::new(answering.view(NOW)));
        let mut ask = SyncAsk::Open { at: NOW, frame };
        loop {
            run.bytes += sync_size(ask.clone());
            let (SyncAsk::Open { frame, .. } | SyncAsk::Next(frame)) = ask else {
                unreachable!("only frames are asked")
            };
            let answer = timed(&mut run.answering, || responder.answer(&frame)).expect("an honest frame");
            run.bytes += answer_size(SyncAnswer::Frame(answer.clone()));
            match timed(&mut run.asking, || initiator.answer(&answer)).expect("an honest frame") {
                Step::Ask(frame) => ask = SyncAsk::Next(frame),
                Step::Done(found) => {
                    run.rounds = initiator.rounds();
                    run.name(&found);
                    run.found = found;
                    return run;
                }
            }
        }
    }

    /// What each side lacks is named once more by the one that fetches it, and what the other lacks is told before that.
    fn name(&mut self, found: &Differences) {
        let bytes = |ids: &AdId| ids.to_bytes();
        for ids in found.they_lack.chunks(MAX_SYNC_IDS) {
            let ids: Vec<_> = ids.iter().map(bytes).collect();
            self.bytes += sync_size(SyncAsk::Lacking(ids.clone())) + answer_size(SyncAnswer::Noted);
            self.bytes += sync_size(SyncAsk::Fetch(ids));
        }
        for ids in found.we_lack.chunks(MAX_SYNC_IDS) {
            self.bytes += sync_size(SyncAsk::Fetch(ids.iter().map(bytes).collect()));
        }
    }
}

fn answer_size(answer: SyncAnswer) -> usize {
    let message = encode(&sync_answer_to_proto(answer)).len();
    message
        + if message < 1 << 7 {
            1
        } else if message < 1 << 14 {
            2
        } else {
            3
        }
}

/// Adds the processor time that `work` takes.
fn timed<T>(total: &mut Duration, work: impl FnOnce() -> T) -> T {
    let before = on_processor();
    let result = work();
    *total += on_processor() - before;
    result
}

/// How long this thread has been on a processor.
fn on_processor() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock exists on Linux, and `time` is ours to be written.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(failed, 0, "Linux counts it");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("under a second"))
}
