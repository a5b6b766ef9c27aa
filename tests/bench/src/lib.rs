//! Measuring two things against each other in one run: what we do, and the least that anybody would have to do. What comes out is a ratio,
//! which means the same on a fast machine and on a busy one.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// The node's own, so that what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rounds in which both sides take turns, so that whatever else the machine does meets both alike.
const ROUNDS: usize = 400;
/// Before anything counts: caches and tables are filled.
const WARM_UP: usize = 20;
/// Calls in one round: long beside the clock's own cost, short beside the scheduler's slice.
const CALLS: u32 = 20;

/// What one comparison gave.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What was measured, and against what.
    pub name: &'static str,
    /// One call of ours: the median over the rounds.
    pub ours: Duration,
    /// One call of the peer's.
    pub peer: Duration,
    /// The peer's time over ours: the median over the rounds. 1 is as fast as the peer.
    pub ratio: f64,
    /// What the ratio must reach.
    pub bar: f64,
}

impl Comparison {
    /// Whether the ratio reaches the bar.
    pub fn holds(&self) -> bool {
        self.ratio >= self.bar
    }
}

/// Measures `ours` against `peer`.
pub fn compare(name: &'static str, bar: f64, mut ours: impl FnMut(), mut peer: impl FnMut()) -> Comparison {
    let mut rounds = Vec::with_capacity(ROUNDS);
    for round in 0..WARM_UP + ROUNDS {
        let times = (time(&mut ours), time(&mut peer));
        if round >= WARM_UP {
            rounds.push(times);
        }
    }
    let ratio = median(rounds.iter().map(|(ours, peer)| peer.as_secs_f64() / ours.as_secs_f64()).collect());
    let seconds = |times: Vec<f64>| Duration::from_secs_f64(median(times) / f64::from(CALLS));
    Comparison {
        name,
        ours: seconds(rounds.iter().map(|(ours, _)| ours.as_secs_f64()).collect()),
        peer: seconds(rounds.iter().map(|(_, peer)| peer.as_secs_f64()).collect()),
        ratio,
        bar,
    }
}

fn time(call: &mut impl FnMut()) -> Duration {
    let started = Instant::now();
    for _ in 0..CALLS {
        call();
    }
    started.elapsed()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// A table of comparisons, as `docs/performance.md` shows them.
#[derive(Clone, Debug, Default)]
pub struct Table(pub Vec<Comparison>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what, against what | ours | peer | ratio | bar | |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        for row in &self.0 {
            let verdict = if row.holds() { "holds" } else { "FAILS" };
            let Comparison { name, ours, peer, ratio, bar } = row;
            writeln!(f, "| {name} | {ours:.1?} | {peer:.1?} | {ratio:.2} | {bar:.2} | {verdict} |")?;
        }
        Ok(())
    }
}
