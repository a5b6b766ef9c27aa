//! Whole challenges between an honest verifier and provers of every kind.

use super::{
    digest::{CHUNK_WORDS, Tree},
    freivalds,
    sampling::SAMPLED_PRODUCTS,
    stream::Binding,
    *,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

const SIZE: u32 = 256;
const PRODUCTS: u32 = 3;
const OPENING: [u8; 32] = [2; 32];

/// What an honest prover takes in these tests: it does 10⁹ multiply-adds a second, and is expected to.
const FAST: Duration = Duration::from_millis(51);
const RATE: u64 = 1_000_000_000;

fn card(number: u32) -> Device {
    format!("GPU-{number}").parse().unwrap()
}

fn work(devices: &[Device]) -> Work {
    let share = |device: &Device| Share { device: device.clone(), products: PRODUCTS };
    Work::new(SIZE, devices.iter().map(share).collect()).unwrap()
}

fn parties(nonce: u8) -> Parties {
    Parties::new([nonce; 32], "renter".to_owned(), "provider".to_owned()).unwrap()
}

fn measured(device: &Device) -> Expectation {
    Expectation::of_model(device.clone(), "H200", Some(RATE))
}

fn verifier(devices: &[Device], nonce: u8) -> Verifier {
    let expectations = devices.iter().map(measured).collect();
    expecting(devices, nonce, expectations)
}

fn expecting(devices: &[Device], nonce: u8, expectations: Vec<Expectation>) -> Verifier {
    let (deadline, round_trip) = (Duration::from_secs(10), Duration::ZERO);
    let secrets = Secrets { opening: OPENING, recall: [3; 32] };
    Verifier::new(work(devices), parties(nonce), expectations, deadline, round_trip, secrets, &mut Nonces::default())
        .unwrap()
}

fn honest(devices: &[Device]) -> Prover {
    Prover::new(work(devices), |share, size| Ok(Box::new(CpuEngine::new(size, share.products)?))).unwrap()
}

/// A device that keeps something else than it computed, and forgets when it is told to.
struct Changed {
    honest: CpuEngine,
    products: Vec<Vec<u32>>,
    change: fn(u32, &mut [u32]),
    forgetful: Arc<AtomicBool>,
}

impl Engine for Changed {
    fn multiply(&mut self, product: u32, seed: Seed) -> Result<(), EngineError> {
        self.honest.multiply(0, seed)?;
        let mut words = vec![0; (SIZE * SIZE) as usize];
        self.honest.read(0, 0, &mut words)?;
        (self.change)(product, &mut words);
        self.products.push(words);
        Ok(())
    }

    fn fold(&mut self, product: u32, keys: &TreeKeys, chunks: &[u32]) -> Result<Folded, EngineError> {
        let gone = vec![0; (SIZE * SIZE) as usize];
        let forgotten = self.forgetful.load(Ordering::Relaxed) && product == 1;
        let words = if forgotten { &gone } else { &self.products[product as usize] };
        let tree = Tree::new(keys, words.chunks_exact(CHUNK_WORDS).map(|chunk| keys.leaf(chunk)).collect());
        Ok(Folded { root: tree.root(), paths: chunks.iter().map(|chunk| tree.path(*chunk)).collect() })
    }

    fn read(&mut self, product: u32, first: usize, words: &mut [u32]) -> Result<(), EngineError> {
        words.copy_from_slice(&self.products[product as usize][first..][..words.len()]);
        Ok(())
    }
}

fn changed(devices: &[Device], change: fn(u32, &mut [u32])) -> (Prover, Arc<AtomicBool>) {
    let forgetful = Arc::new(AtomicBool::new(false));
    let prover = Prover::new(work(devices), |_, size| {
        let honest = CpuEngine::new(size, 1)?;
        Ok(Box::new(Changed { honest, products: Vec::new(), change, forgetful: forgetful.clone() }))
    });
    (prover.unwrap(), forgetful)
}

/// What a prover changes of its answers.
type Tamper<T> = fn(&mut T);

/// A whole challenge, in which the prover takes as long as an honest one.
fn examine(verifier: Verifier, prover: &mut Prover, nonce: u8) -> Verdict {
    examine_tampered(verifier, prover, nonce, (|_| (), |_| (), |_| ()))
}

fn examine_tampered(
    verifier: Verifier,
    prover: &mut Prover,
    nonce: u8,
    tamper: (Tamper<Committed>, Tamper<Opened>, Tamper<Recalled>),
) -> Verdict {
    let mut committed = prover.begin(&parties(nonce)).unwrap();
    tamper.0(&mut committed);
    let opening = match verifier.committed(&committed, FAST) {
        Ok(opening) => opening,
        Err(verdict) => return verdict,
    };
    let Request::Open(nonce) = opening.request() else { panic!("another request") };
    let mut opened = prover.open(nonce).unwrap();
    tamper.1(&mut opened);
    let recall = match opening.opened(&opened, Duration::from_millis(10)) {
        Ok(recall) => recall,
        Err(verdict) => return verdict,
    };
    let Request::Recall(nonce) = recall.request() else { panic!("another request") };
    let mut recalled = prover.recall(nonce).unwrap();
    tamper.2(&mut recalled);
    recall.recalled(&recalled)
}

#[track_caller]
fn only_miss(verdict: Verdict) -> Miss {
    let Verdict::Missed(misses) = verdict else { panic!("{verdict:?}") };
    let [miss] = <[Miss; 1]>::try_from(misses).unwrap();
    miss
}

#[test]
fn an_honest_prover_passes_with_the_speed_and_memory_that_it_showed() {
    let devices = [Device::Cpu, card(1)];
    let verdict = examine(verifier(&devices, 1), &mut honest(&devices), 1);
    let Verdict::Passed(seen) = verdict else { panic!("{verdict:?}") };
    assert_eq!(seen.iter().map(|seen| &seen.device).collect::<Vec<_>>(), [&devices[0], &devices[1]]);
    assert_eq!(seen[0].held_bytes, 3 * 256 * 256 * 4);
    assert_eq!(seen[0].multiply_adds_per_second, 3 * 256 * 256 * 256 * 1_000 / 51);
}

#[test]
fn a_prover_can_be_challenged_again() {
    let mut prover = honest(&[Device::Cpu]);
    for nonce in [1, 2] {
        assert!(matches!(examine(verifier(&[Device::Cpu], nonce), &mut prover, nonce), Verdict::Passed(_)));
    }
}

#[test]
fn a_model_that_nobody_measured_is_called_unmeasured() {
    let devices = [Device::Cpu];
    for (model, rate) in [("H200", Rate::Published(16_896 * 125_000_000)), ("Voodoo 2", Rate::Unknown)] {
        let expectation = Expectation::of_model(Device::Cpu, model, None);
        assert_eq!(expectation.rate, rate);
        // in the time of the slack even what is published is not missed here
        let verdict = examine(expecting(&devices, 1, vec![expectation]), &mut honest(&devices), 1);
        assert!(matches!(&verdict, Verdict::Unmeasured(seen) if seen[0].expected == rate), "{verdict:?}");
    }
}

#[test]
fn one_wrong_element_is_a_wrong_product() {
    let (mut prover, _) = changed(&[Device::Cpu], |_, words| words[70_00] ^= 1);
    let miss = only_miss(examine(verifier(&[Device::Cpu], 1), &mut prover, 1));
    assert!(matches!(miss, Miss::WrongProduct { device: Device::Cpu, .. }), "{miss}");
}

#[test]
fn a_prover_that_computes_the_image_without_the_product_is_caught_by_a_row() {
    let (mut prover, _) = changed(&[Device::Cpu], |_, words| words.iter_mut().step_by(256).for_each(|word| *word ^= 1));
    let verifier = verifier(&[Device::Cpu], 1);
    let miss = only_miss(examine_tampered(
        verifier,
        &mut prover,
        1,
        (
            |_| (),
            |opened| {
                let work = work(&[Device::Cpu]);
                let share = &work.shares()[0];
                let binding = Binding::new(&parties(1), &work, share);
                let opening = Digest::from(OPENING);
                for (product, sample) in
                    super::sampling::products(binding, opening, share).into_iter().zip(&mut opened.devices[0].samples)
                {
                    let seed = binding.seed(product, sample.before.as_ref().map(|before| before.digest));
                    let vectors = freivalds::vectors(binding.vectors(opening, product), SIZE as usize);
                    sample.image = freivalds::digest(&freivalds::expected_image(seed, SIZE as usize, &vectors));
                }
            },
            |_| (),
        ),
    ));
    assert!(matches!(miss, Miss::WrongRow { .. }), "{miss}");
}

#[test]
fn an_answer_to_another_nonce_is_none_and_a_forged_nonce_does_not_help() {
    let devices = [Device::Cpu];
    let replayed = examine(verifier(&devices, 1), &mut honest(&devices), 9);
    assert_eq!(only_miss(replayed), Miss::OtherChallenge);
    let forged: Tamper<Committed> = |committed| committed.nonce = parties(1).nonce();
    let precomputed = examine_tampered(verifier(&devices, 1), &mut honest(&devices), 9, (forged, |_| (), |_| ()));
    assert!(matches!(only_miss(precomputed), Miss::NotCommitted { .. }));
}

#[test]
fn no_challenge_is_made_twice_or_about_other_devices() {
    let mut nonces = Nonces::default();
    let mut make = |nonce, device: &Device| {
        let secrets = Secrets { opening: OPENING, recall: [3; 32] };
        let (expectations, second) = (vec![measured(device)], Duration::from_secs(1));
        Verifier::new(work(&[Device::Cpu]), parties(nonce), expectations, second, second, secrets, &mut nonces).err()
    };
    assert_eq!(make(1, &Device::Cpu), None);
    assert_eq!(make(1, &Device::Cpu), Some(ChallengeError::Nonce(NonceSpent)));
    assert_eq!(make(2, &card(1)), Some(ChallengeError::Expectations));
}

#[test]
fn one_device_cannot_answer_for_two() {
    let devices = [card(1), card(2)];
    let copied = examine_tampered(
        verifier(&devices, 1),
        &mut honest(&devices),
        1,
        (
            |committed| committed.devices[1].root = committed.devices[0].root,
            |opened| opened.devices[1] = Opening { device: card(2), ..opened.devices[0].clone() },
            |_| (),
        ),
    );
    // other products are asked of the second device, so that what was copied may not even have the right shape
    let miss = only_miss(copied);
    let caught =
        matches!(&miss, Miss::NotCommitted { device, .. } | Miss::Malformed { device, .. } if *device == card(2));
    assert!(caught, "{miss}");
    let missing = |committed: &mut Committed| committed.devices.truncate(1);
    let missing = examine_tampered(verifier(&devices, 1), &mut honest(&devices), 1, (missing, |_| (), |_| ()));
    assert_eq!(only_miss(missing), Miss::OtherDevices { asked: 2, answered: 1 });
}

#[test]
fn swapped_devices_are_noticed_under_either_name() {
    let devices = [card(1), card(2)];
    let swap: Tamper<Committed> = |committed| committed.devices.swap(0, 1);
    let swapped = examine_tampered(verifier(&devices, 1), &mut honest(&devices), 1, (swap, |_| (), |_| ()));
    assert_eq!(only_miss(swapped), Miss::OtherDevices { asked: 2, answered: 2 });
    let renamed = examine_tampered(
        verifier(&devices, 1),
        &mut honest(&devices),
        1,
        (
            |committed| {
                let (first, second) = committed.devices.split_at_mut(1);
                std::mem::swap(&mut first[0].root, &mut second[0].root);
            },
            |_| (),
            |_| (),
        ),
    );
    let Verdict::Missed(misses) = renamed else { panic!("{renamed:?}") };
    assert!(matches!(&misses[..], [Miss::NotCommitted { .. }, Miss::NotCommitted { .. }]), "{misses:?}");
}

#[test]
fn the_clock_tells_late_from_too_slow_and_one_device_for_two_is_too_slow() {
    // an hour of work for such a device, so that the slack is nothing beside it
    let share = |device: Device| Share { device, products: 214_576 };
    let shares = vec![share(card(1)), share(card(2))];
    let hour = Duration::from_secs(3_600);
    let judge = |took: Duration| {
        let work = Work::new(SIZE, shares.clone()).unwrap();
        let expectations = vec![measured(&card(1)), measured(&card(2))];
        let (secrets, nonces) = (Secrets { opening: OPENING, recall: [3; 32] }, &mut Nonces::default());
        let round_trip = Duration::from_secs(60);
        let verifier = Verifier::new(work, parties(1), expectations, hour * 3, round_trip, secrets, nonces).unwrap();
        let commitment = |device| Commitment { device, root: Digest::from([0; 32]), worked_millis: 1 };
        let committed =
            Committed { nonce: parties(1).nonce(), devices: vec![commitment(card(1)), commitment(card(2))] };
        verifier.committed(&committed, took).err()
    };
    assert_eq!(judge(hour), None);
    // cards of one name differ
    assert_eq!(judge(hour.mul_f64(1.6)), None);
    let Some(Verdict::Missed(slow)) = judge(hour * 2) else { panic!("one card was as good as two") };
    assert!(matches!(&slow[..], [Miss::TooSlow { floor: 600_000_000, .. }, Miss::TooSlow { .. }]), "{slow:?}");
    // no more than 800 ms are believed to be the way
    let late = Miss::Late { took_millis: 3 * 3_600_000 + 1_000, limit_millis: 3 * 3_600_000 };
    assert_eq!(judge(hour * 3 + Duration::from_millis(1_800)), Some(Verdict::Missed(vec![late])));
}

#[test]
fn memory_that_is_not_held_is_noticed_and_so_is_computing_it_again() {
    let devices = [Device::Cpu];
    let (mut prover, forgetful) = changed(&devices, |_, _| ());
    let committed = prover.begin(&parties(1)).unwrap();
    forgetful.store(true, Ordering::Relaxed);
    // the samples are looked up again as they were committed to
    let opening = verifier(&devices, 1).committed(&committed, FAST).unwrap();
    let mut opened = prover.open(Digest::from(OPENING)).unwrap();
    forgetful.store(false, Ordering::Relaxed);
    opened.devices[0].samples = prover.open(Digest::from(OPENING)).unwrap().devices.remove(0).samples;
    let limit = opening.limit();
    assert_eq!(limit, FAST / 6 + Duration::from_millis(500));
    let late = verifier(&devices, 1).committed(&committed, FAST).unwrap();
    let late = late.opened(&opened, limit + Duration::from_millis(1)).err().unwrap();
    assert!(matches!(only_miss(late), Miss::RecalledLate { .. }));
    let recall = opening.opened(&opened, limit).ok().unwrap();
    let recalled = prover.recall(Digest::from([3; 32])).unwrap();
    assert!(matches!(only_miss(recall.recalled(&recalled)), Miss::NotHeld { .. }));
}

#[test]
fn a_third_of_the_work_left_out_is_noticed() {
    let lazy: fn(u32, &mut [u32]) = |product, words| {
        if product == 1 {
            words.fill(7);
        }
    };
    for nonce in 1..=8 {
        let (mut prover, _) = changed(&[Device::Cpu], lazy);
        let miss = only_miss(examine(verifier(&[Device::Cpu], nonce), &mut prover, nonce));
        let wrong = matches!(miss, Miss::WrongProduct { product: 1, .. } | Miss::NotHeld { product: 1, .. });
        assert!(wrong, "nonce {nonce}: {miss}");
    }
}

#[test]
fn answers_of_another_shape_are_refused_and_never_looked_into() {
    let opened: [Tamper<Opened>; 8] = [
        |opened| opened.devices[0].samples.truncate(SAMPLED_PRODUCTS as usize - 1),
        |opened| opened.devices[0].samples[0].rows.clear(),
        |opened| opened.devices[0].samples[0].rows[0].words.truncate(5),
        |opened| opened.devices[0].samples[0].rows[0].path.clear(),
        |opened| opened.devices[0].samples[0].root.path.clear(),
        |opened| opened.devices[0].samples.iter_mut().for_each(|sample| sample.before = None),
        |opened| opened.devices[0].samples.iter_mut().for_each(|sample| sample.before = Some(sample.root.clone())),
        |opened| opened.devices.clear(),
    ];
    for (number, tamper) in opened.into_iter().enumerate() {
        let devices = [Device::Cpu];
        let verdict = examine_tampered(verifier(&devices, 1), &mut honest(&devices), 1, (|_| (), tamper, |_| ()));
        let miss = only_miss(verdict);
        let refused = matches!(
            miss,
            Miss::Malformed { .. } | Miss::OtherDevices { asked: 1, answered: 0 } | Miss::NotCommitted { .. }
        );
        assert!(refused, "{number}: {miss}");
    }
    let recalled: [Tamper<Recalled>; 4] = [
        |recalled| recalled.devices[0].chunks.truncate(31),
        |recalled| recalled.devices[0].chunks[4].path.clear(),
        |recalled| recalled.devices[0].chunks[4].root.path.push(Digest::from([0; 32])),
        |recalled| recalled.devices[0].device = card(7),
    ];
    for (number, tamper) in recalled.into_iter().enumerate() {
        let devices = [Device::Cpu];
        let verdict = examine_tampered(verifier(&devices, 1), &mut honest(&devices), 1, (|_| (), |_| (), tamper));
        let miss = only_miss(verdict);
        assert!(matches!(miss, Miss::Malformed { .. } | Miss::OtherDevices { .. }), "{number}: {miss}");
    }
}

#[test]
fn work_is_bounded_and_its_size_follows_from_what_a_device_can_do() {
    let one = |products| vec![Share { device: Device::Cpu, products }];
    assert_eq!(Work::new(300, one(1)), Err(WorkError::Size(300)));
    assert_eq!(Work::new(128, one(1)), Err(WorkError::Size(128)));
    assert_eq!(Work::new(256, vec![]), Err(WorkError::Devices(0)));
    assert_eq!(Work::new(256, one(0)), Err(WorkError::Products { device: Device::Cpu, products: 0 }));
    assert_eq!(Work::new(256, [one(1), one(1)].concat()), Err(WorkError::Twice(Device::Cpu)));
    let hostile = r#"{"size":4294967295,"shares":[{"device":"cpu","products":1}]}"#;
    assert!(serde_json::from_str::<Work>(hostile).is_err());
    // 80 GiB in 8 s at 8·10¹² a second
    let size = Work::size_for(80 << 30, 8_000_000_000_000, 8);
    assert_eq!((size, Work::filling(80 << 30, size)), (4_096, 1_152));
    // a processor with a gibibyte
    assert_eq!(Work::size_for(1 << 30, 10_000_000_000, 8), 512);
}
