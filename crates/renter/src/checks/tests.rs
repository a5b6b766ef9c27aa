//! Whole checks of a machine whose program runs in this process, on threads of its own and behind pipes.

use super::{
    LEAST_PAUSE,
    asked::Asked,
    challenge::{Challenger, Machine, Pace, Started},
    pause,
};
use api::types::{CheckOutcome, HardwareCheck};
use futures::{FutureExt, future::BoxFuture};
use gpu::challenge::{
    CpuEngine, Engine, EngineError, Folded, Seed, Share, TreeKeys,
    program::{ProgramError, serve},
};
use market::offer::{GpuGroup, Hardware};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio_util::io::SyncIoBridge;

/// How a machine behaves.
#[derive(Clone, Copy, Default)]
struct Ways {
    /// So many of its challenges take ten seconds by the renter's clock.
    slow: usize,
    /// Or twenty, which is beyond the deadline.
    late: bool,
    /// It computes something else.
    wrong: bool,
    /// It has no memory for the work.
    full: bool,
    /// The program does not start.
    absent: bool,
    /// The program ends in the middle.
    dies: bool,
    /// The renter's own programs use it.
    busy: bool,
}

struct Fake {
    ways: Ways,
    clock: Arc<AtomicU64>,
    starts: AtomicUsize,
}

/// A processor that does not do what it says.
struct Lying {
    honest: CpuEngine,
    ways: Ways,
    slow: bool,
    clock: Arc<AtomicU64>,
}

impl Engine for Lying {
    fn multiply(&mut self, product: u32, seed: Seed) -> Result<(), EngineError> {
        if self.slow && product == 0 {
            self.clock.fetch_add(if self.ways.late { 20_000 } else { 10_000 }, SeqCst);
        }
        let seed = if self.ways.wrong { Seed { left: [7; 4], ..seed } } else { seed };
        self.honest.multiply(product, seed)
    }

    fn fold(&mut self, product: u32, keys: &TreeKeys, chunks: &[u32]) -> Result<Folded, EngineError> {
        self.honest.fold(product, keys, chunks)
    }

    fn read(&mut self, product: u32, first: usize, words: &mut [u32]) -> Result<(), EngineError> {
        self.honest.read(product, first, words)
    }
}

impl Machine for Fake {
    fn start(&self) -> BoxFuture<'_, Result<Started, String>> {
        let number = self.starts.fetch_add(1, SeqCst);
        if self.ways.absent {
            return async { Err("no such file".to_owned()) }.boxed();
        }
        let (ways, clock, slow) = (self.ways, Arc::clone(&self.clock), number < self.ways.slow);
        let ((input, asked), (answers, output)) = (tokio::io::duplex(1 << 16), tokio::io::duplex(1 << 16));
        tokio::task::spawn_blocking(move || -> Result<(), ProgramError> {
            let list = || Ok(vec![]);
            let open = |share: &Share, size| -> Result<Box<dyn Engine>, EngineError> {
                if ways.full {
                    return Err(EngineError::NoRoom { device: share.device.to_string(), bytes: 1 });
                }
                let honest = CpuEngine::new(size, share.products)?;
                Ok(Box::new(Lying { honest, ways, slow, clock: Arc::clone(&clock) }))
            };
            let (mut input, mut output) = (SyncIoBridge::new(asked), SyncIoBridge::new(answers));
            if ways.dies {
                // one answer, and then the end of both pipes
                let mut first = std::io::Read::take(&mut input, 4 + "\"echo\"".len() as u64);
                return serve(&mut first, &mut output, (&list, &open));
            }
            serve(&mut input, &mut output, (&list, &open))
        });
        let started = Started {
            input: Box::new(input),
            output: Box::new(output),
            arrived: async {}.boxed(),
            complaint: async { "killed".to_owned() }.boxed(),
            _life: Box::new(()),
        };
        async { Ok(started) }.boxed()
    }

    fn is_busy(&self) -> BoxFuture<'_, bool> {
        let busy = self.ways.busy;
        async move { busy }.boxed()
    }
}

/// A slot of one core that was said to do so many million multiply-adds a second.
fn slot(core_mega_multiply_adds: u32) -> Hardware {
    Hardware { cpu_millis: 1_000, memory_mib: 64, core_mega_multiply_adds, ..Hardware::default() }
}

async fn checked(hardware: &Hardware, ways: Ways) -> (HardwareCheck, usize) {
    let clock: Arc<AtomicU64> = Arc::default();
    let told = Arc::clone(&clock);
    let challenger = Challenger::with_clock(Arc::new(move || Duration::from_millis(told.load(SeqCst))));
    let machine = Fake { ways, clock, starts: AtomicUsize::new(0) };
    let pace = Pace { beside: true, repeat: Duration::ZERO };
    let check = challenger.check(&machine, Asked::of(hardware, true), ("renter", "provider"), pace).await;
    (check, machine.starts.load(SeqCst))
}

#[tokio::test]
async fn an_honest_machine_passes_and_one_without_figures_is_called_unmeasured() {
    let (check, starts) = checked(&slot(1_000), Ways::default()).await;
    assert_eq!((check.outcome, check.level, check.detail.as_str(), starts), (CheckOutcome::Passed, 2, "", 1));
    let device = &check.devices[0];
    assert_eq!((device.device.as_str(), device.least), ("cpu", Some(600_000_000)));
    assert!(device.seen > 600_000_000 && device.held_bytes > 0, "{device:?}");
    let (check, _) = checked(&slot(0), Ways::default()).await;
    assert_eq!((check.outcome, check.devices[0].least), (CheckOutcome::Unmeasured, None));
}

#[tokio::test]
async fn a_wrong_product_is_a_miss_at_once() {
    for hardware in [slot(0), slot(1_000)] {
        let (check, starts) = checked(&hardware, Ways { wrong: true, ..Ways::default() }).await;
        assert_eq!((check.outcome, starts), (CheckOutcome::Missed, 1), "{check:?}");
        assert!(check.detail.contains("is wrong") || check.detail.contains("did not hold"), "{}", check.detail);
    }
}

#[tokio::test]
async fn slowness_is_a_miss_when_it_is_seen_twice() {
    let (check, starts) = checked(&slot(1_000), Ways { slow: 1, ..Ways::default() }).await;
    assert_eq!((check.outcome, starts), (CheckOutcome::Passed, 2), "{check:?}");
    let (check, starts) = checked(&slot(1_000), Ways { slow: 2, ..Ways::default() }).await;
    assert_eq!((check.outcome, starts), (CheckOutcome::Missed, 2), "{check:?}");
    assert!(check.detail.contains("too slow"), "{}", check.detail);
    let device = &check.devices[0];
    assert!(device.least.is_some_and(|least| device.seen < least), "{device:?}");
    let (check, starts) = checked(&slot(1_000), Ways { slow: 2, late: true, ..Ways::default() }).await;
    assert_eq!((check.outcome, starts), (CheckOutcome::Missed, 2), "{check:?}");
    assert!(check.detail.contains("was the limit"), "{}", check.detail);
}

#[tokio::test]
async fn slowness_beside_the_renters_own_programs_or_without_a_figure_is_held_against_nobody() {
    let (check, _) = checked(&slot(1_000), Ways { slow: 2, busy: true, ..Ways::default() }).await;
    assert_eq!(check.outcome, CheckOutcome::Unknown);
    assert!(check.detail.contains("your own programs"), "{}", check.detail);
    // who knows what such a machine can do
    let (check, _) = checked(&slot(0), Ways { slow: 2, late: true, ..Ways::default() }).await;
    assert_eq!(check.outcome, CheckOutcome::Unknown, "{check:?}");
    assert!(check.detail.contains("no figure"), "{}", check.detail);
}

#[tokio::test]
async fn what_is_not_shown_is_unknown() {
    let unknown = async |hardware: &Hardware, ways: Ways, why: &str| {
        let (check, _) = checked(hardware, ways).await;
        assert_eq!(check.outcome, CheckOutcome::Unknown, "{check:?}");
        assert!(check.detail.contains(why), "{}", check.detail);
    };
    unknown(&slot(0), Ways { absent: true, ..Ways::default() }, "no such file").await;
    unknown(&slot(0), Ways { dies: true, ..Ways::default() }, "killed").await;
    unknown(&slot(0), Ways { full: true, ..Ways::default() }, "no room").await;
    unknown(&Hardware::default(), Ways::default(), "too little").await;
}

#[tokio::test]
async fn a_sandbox_that_shows_fewer_cards_than_were_promised_misses() {
    let group = GpuGroup { model: "H200".into(), count: 1, vram_mib: 144_384, ..GpuGroup::default() };
    let (check, _) = checked(&Hardware { gpus: vec![group], ..slot(0) }, Ways::default()).await;
    assert_eq!(check.outcome, CheckOutcome::Missed, "{check:?}");
    assert!(check.detail.contains("0 devices answered"), "{}", check.detail);
}

#[test]
fn pauses_are_random_with_the_mean_that_is_set_and_bounded() {
    let minutes = |chance| pause(20, chance).as_secs_f64() / 60.0;
    assert!((minutes(0.5) - 20.0 * std::f64::consts::LN_2).abs() < 0.01);
    assert_eq!((pause(20, 0.0), minutes(1.0)), (LEAST_PAUSE, 120.0));
    let mean = (0..1_000).map(|step| minutes((f64::from(step) + 0.5) / 1_000.0)).sum::<f64>() / 1_000.0;
    assert!((18.0..22.0).contains(&mean), "{mean}");
}
