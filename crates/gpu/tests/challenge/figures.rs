//! What a challenge costs either side on this machine, printed: `cargo test --release -p gpu --test challenge figures -- --ignored --nocapture`.

use gpu::challenge::{
    CpuEngine, Device, Digest, Expectation, Nonces, Parties, Prover, Request, Secrets, Share, Verifier, Work,
};
use std::time::{Duration, Instant};

fn timed<T>(act: impl FnOnce() -> T) -> (T, Duration) {
    let started = Instant::now();
    let result = act();
    (result, started.elapsed())
}

fn print_figures(size: u32, products: u32) {
    let work = Work::new(size, vec![Share { device: Device::Cpu, products }]).unwrap();
    let parties = Parties::new([7; 32], "renter".to_owned(), "provider".to_owned()).unwrap();
    let expectations = vec![Expectation::of_model(Device::Cpu, "any", Some(1))];
    let secrets = Secrets { opening: [8; 32], recall: [9; 32] };
    let (deadline, round_trip) = (Duration::from_secs(3_600), Duration::ZERO);
    let verifier = Verifier::new(
        work.clone(),
        parties.clone(),
        expectations,
        deadline,
        round_trip,
        secrets,
        &mut Nonces::default(),
    )
    .unwrap();
    let mut prover =
        Prover::new(work.clone(), |share, size| Ok(Box::new(CpuEngine::new(size, share.products)?))).unwrap();
    let (committed, computing) = timed(|| prover.begin(&parties).unwrap());
    let opening = verifier.committed(&committed, computing).ok().unwrap();
    let Request::Open(nonce) = opening.request() else { panic!("another request") };
    let (opened, showing) = timed(|| prover.open(nonce).unwrap());
    let (recall, checking) = timed(|| opening.opened(&opened, showing.min(Duration::from_millis(400))));
    let recall = recall.ok().unwrap();
    let (recalled, recalling) = timed(|| prover.recall(Digest::from([9; 32])).unwrap());
    let (verdict, recomputing) = timed(|| recall.recalled(&recalled));
    assert!(matches!(verdict, gpu::challenge::Verdict::Passed(_)), "{verdict:?}");
    let rate = work.multiply_adds(&work.shares()[0]) as f64 / computing.as_secs_f64() / 1e9;
    let message = serde_json::to_string(&opened).unwrap().len() >> 10;
    println!(
        "n {size}, {products} products, {} MiB: prover computes {computing:.2?} ({rate:.1}e9 multiply-adds/s), shows {showing:.2?}, \
         recalls {recalling:.2?}; verifier checks {checking:.2?} + {recomputing:.2?}, ratio {:.0}; the longest message has {message} KiB",
        work.bytes(&work.shares()[0]) >> 20,
        computing.as_secs_f64() / (checking + recomputing).as_secs_f64()
    );
}

#[test]
#[ignore = "prints figures; meaningful in a release build on a quiet machine"]
fn figures_of_both_sides() {
    for (size, products) in [(256, 256), (512, 64), (1_024, 16)] {
        print_figures(size, products);
    }
}
