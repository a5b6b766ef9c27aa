//! `cargo run --release -p simulation`: see the library. Words choose parts of it: `model`, `large`, `attack`; `--seed N` another run.

use simulation::{
    real,
    report::{Delays, Report},
    world::{self, Loss, MILLISECOND, Parameters, SECOND},
};
use std::{process::ExitCode, time::Instant};

/// How far the model may be from the real nodes.
const AGREEMENT: f64 = 0.20;
/// The share that must know an offer in time.
const KNOWN_BAR: f64 = 0.999;
/// How much later offers may come under attack.
const ATTACK_BAR: f64 = 2.0;
/// Runs of the model that are taken together beside one run of real nodes.
const MODEL_RUNS: u64 = 10;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match simulate(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the simulation could not be run: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn simulate(words: &[String]) -> anyhow::Result<bool> {
    let mut parts: Vec<&str> = Vec::new();
    let mut seed = 1;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--seed" => seed = words.next().map(|number| number.parse()).transpose()?.unwrap_or(seed),
            part @ ("model" | "large" | "attack") => parts.push(part),
            other => anyhow::bail!("`{other}`: expected `model`, `large`, `attack` or `--seed N`"),
        }
    }
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let mut holds = true;
    if wanted("model") {
        holds &= model(seed)?;
    }
    if wanted("large") || wanted("attack") {
        let calm = large(seed)?;
        holds &= calm.holds;
        if wanted("attack") {
            holds &= attack(seed, &calm.report)?;
        }
    }
    Ok(holds)
}

fn verdict(what: &str, holds: bool) -> bool {
    println!("  {what}: {}", if holds { "held" } else { "MISSED" });
    holds
}

/// Twenty nodes, real and modelled.
fn model(seed: u64) -> anyhow::Result<bool> {
    let parameters = Parameters {
        seed,
        followers: 15,
        providers: 5,
        classes: 1,
        degree: 40,
        delay: 20 * MILLISECOND..=60 * MILLISECOND,
        lost: 0.02,
        loss: Loss::Resent(200 * MILLISECOND),
        churn: 0.0,
        attackers: 0.0,
        settling: 10 * SECOND,
        interval: 400 * MILLISECOND,
        offers: 105,
    };
    println!(
        "20 nodes, 15 of them follow one class and 5 publish in it; links of 20 to 60 ms, 2 % of packets 200 ms late; 100 renewals"
    );
    let runtime = tokio::runtime::Runtime::new()?;
    let real = runtime.block_on(real::run(&parameters))?;
    println!("  real nodes: {real}");
    let mut delays = Vec::new();
    for run in 0..MODEL_RUNS {
        let report = world::run(Parameters { seed: seed + run, ..parameters.clone() })?;
        delays.push(report.delays(|offer| offer.renews));
    }
    let model = Delays::merge(delays);
    println!("  the model:  {model}");
    let mut holds = true;
    for (name, share) in [("p50", 0.50), ("p90", 0.90), ("p99", 0.99)] {
        let ratio = model.at(share).as_secs_f64() / real.at(share).as_secs_f64();
        let what = format!("{name}, model against real {ratio:.2}, within {AGREEMENT}");
        holds &= verdict(&what, (ratio - 1.0).abs() <= AGREEMENT);
    }
    Ok(holds)
}

struct Calm {
    report: Report,
    holds: bool,
}

fn large_parameters(seed: u64) -> Parameters {
    Parameters {
        seed,
        followers: 1_000,
        providers: 250,
        classes: 4,
        degree: 16,
        delay: 10 * MILLISECOND..=150 * MILLISECOND,
        lost: 0.02,
        loss: Loss::Outright,
        churn: 0.20,
        attackers: 0.0,
        settling: 10 * SECOND,
        interval: 500 * MILLISECOND,
        offers: 500,
    }
}

fn tell(report: &Report, started: Instant) -> Delays {
    println!(
        "  {} events in {:.0?}; {} nodes at the end, {} advertisements in their books",
        report.events,
        started.elapsed(),
        report.live.len(),
        report.held
    );
    println!("  of new providers: {}", report.delays(|offer| !offer.renews));
    println!("  renewals: {}", report.delays(|offer| offer.renews));
    let all = report.delays(|_| true);
    println!("  all: {all}");
    all
}

fn large(seed: u64) -> anyhow::Result<Calm> {
    let parameters = large_parameters(seed);
    println!(
        "1,250 nodes, 1,000 of them follow classes and 250 publish; links of 10 to 150 ms, 2 % of messages lost for good, 20 % of nodes leave in an hour; 500 offers in 250 s"
    );
    let started = Instant::now();
    let report = world::run(parameters)?;
    let all = tell(&report, started);
    let mut holds = verdict(
        &format!("{:.3} % known within 5 s, at least {} %", all.in_time() * 100.0, KNOWN_BAR * 100.0),
        all.in_time() >= KNOWN_BAR,
    );
    holds &= verdict("nothing in a book that was not signed like that", report.untrue == 0);
    Ok(Calm { report, holds })
}

fn attack(seed: u64, calm: &Report) -> anyhow::Result<bool> {
    let parameters = Parameters { attackers: 0.10, ..large_parameters(seed) };
    println!("the same with 138 nodes more, one in ten of all, that attack: spam, replay, forgery, eclipse of a class");
    let started = Instant::now();
    let report = world::run(parameters)?;
    let (before, under) = (calm.delays(|_| true), tell(&report, started));
    let mut holds = verdict("nothing in a book that was not signed like that", report.untrue == 0);
    for (name, share) in [("p50", 0.50), ("p99", 0.99), ("p99.9", 0.999)] {
        let ratio = under.at(share).as_secs_f64() / before.at(share).as_secs_f64();
        holds &= verdict(&format!("{name}, {ratio:.2} times as late, at most {ATTACK_BAR}"), ratio <= ATTACK_BAR);
    }
    Ok(holds)
}
