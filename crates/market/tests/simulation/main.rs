//! A simulator for the two state machines of a rental.
//!
//! It drives a provider's and a renter's machine, each in a program that follows the driver's rule (step, write, act), and a model chain
//! with the escrow's rules, through random schedules of loss, delay, duplication, re-ordering, crashes at any step, reorganisations,
//! clocks that differ, and peers that cheat; after each step it checks what [`checks`] says. A schedule is its seed: the same seed gives
//! the same story.
//!
//! ```text
//! cargo test -p market --test simulation                                      # 2,000 schedules and the planted bugs
//! SIMULATION_SCHEDULES=100000 cargo test --release -p market --test simulation no_schedule    # the deep run: minutes
//! SIMULATION_SEED=1234 cargo test -p market --test simulation no_schedule    # one schedule, told when it fails
//! SIMULATION_BUG=FreezeNever cargo test -p market --test simulation planted -- --nocapture   # how a bug is found
//! ```

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a simulator that cannot go on has failed")]

mod bugs;
mod chain;
mod checks;
mod keys;
mod network;
mod node;
mod plan;
mod provider;
mod random;
mod renter;
mod sender;
mod world;

use bugs::{BUGS, Bug};
use checks::Tally;
use plan::Plan;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    thread,
};
use world::World;

/// Schedules of an ordinary run.
const SCHEDULES: u64 = 2_000;
/// Within as many schedules each planted bug must be found.
const SCHEDULES_FOR_A_BUG: u64 = 400;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Runs the seeds `0..count` on every core, until one fails: the first failure, or what all went through.
fn explore(count: u64, bug: Option<Bug>) -> Result<Tally, String> {
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        let mut sum = Tally::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= count || failed.load(Ordering::Relaxed) > 0 {
                return Ok(sum);
            }
            match World::run(&Plan::of(seed, bug)) {
                Ok(tally) => sum = sum.and(tally),
                Err(story) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    return Err(story);
                }
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let done = workers.into_iter().map(|worker| worker.join().expect("a worker does not panic"));
        done.collect::<Vec<_>>().into_iter().try_fold(Tally::default(), |sum, one| one.map(|one| sum.and(one)))
    })
}

#[test]
fn no_schedule_breaks_a_promise() {
    if let Some(seed) = number("SIMULATION_SEED") {
        World::run(&Plan::of(seed, None)).unwrap_or_else(|story| panic!("{story}"));
        return;
    }
    let count = number("SIMULATION_SCHEDULES").unwrap_or(SCHEDULES);
    let tally = explore(count, None).unwrap_or_else(|story| panic!("{story}"));
    println!("{count} schedules: {tally:?}");
    // schedules in which nothing happens prove nothing
    assert!(tally.opened > count && tally.paid > count / 3 && tally.crashes > count / 2, "{tally:?}");
    assert!(tally.finalized > count / 50 && tally.reorganisations > count, "{tally:?}");
    assert!(tally.deep_reorganisations > count / 10 && tally.undone > count / 50, "{tally:?}");
    assert!(tally.claims > count / 10 && tally.mandated > count / 10 && tally.preempted > count / 10, "{tally:?}");
}

#[test]
fn every_planted_bug_is_found() {
    let named = std::env::var("SIMULATION_BUG").ok();
    let wanted = BUGS.iter().filter(|bug| named.as_ref().is_none_or(|name| *name == format!("{bug:?}")));
    let missed: Vec<_> = wanted
        .filter(|bug| match explore(SCHEDULES_FOR_A_BUG, Some(**bug)) {
            Ok(_) => true,
            Err(story) => {
                println!(
                    "{bug:?}: {}",
                    if named.is_some() { &story } else { story.lines().next().unwrap_or_default() }
                );
                false
            }
        })
        .collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
