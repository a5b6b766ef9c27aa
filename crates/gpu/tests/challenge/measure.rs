//! The measurements, for a moment each: they end in time, leave nothing behind, and say what they could not do.

use crate::machine::{FIRST, Machine, SECOND};
use gpu::measure::{self, MeasureError};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

const MOMENT: Duration = Duration::from_millis(50);

#[test]
fn the_processor_and_the_memory_do_something_in_a_moment() {
    let started = Instant::now();
    let (cpu, memory) = (measure::cpu(MOMENT).unwrap(), measure::memory(MOMENT).unwrap());
    assert!(started.elapsed() < Duration::from_secs(30), "five moments");
    // the slowest machine with any use does a hundredth of this machine's work
    assert!(cpu.single_core_multiply_adds_per_second > 10_000_000, "{cpu:?}");
    assert!(cpu.all_cores_multiply_adds_per_second > 10_000_000, "{cpu:?}");
    assert!(cpu.single_core_float_operations_per_second > 10_000_000, "{cpu:?}");
    assert!(cpu.all_cores_float_operations_per_second > 10_000_000, "{cpu:?}");
    assert!(memory.copied_bytes_per_second > 10_000_000, "{memory:?}");
}

#[test]
fn a_disk_is_measured_and_nothing_is_left_on_it() {
    // beside the program that tests: temporary folders are often memory
    let folder = tempfile::tempdir_in(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap();
    let disk = measure::disk(folder.path(), MOMENT).unwrap();
    assert!(disk.sequential_written_bytes_per_second > 100_000, "{disk:?}");
    assert!(disk.sequential_read_bytes_per_second > 100_000, "{disk:?}");
    assert!(disk.random_reads_per_second > 10, "{disk:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_card_is_measured_with_a_part_of_its_free_memory_and_gives_it_back() {
    let machine = Machine::with(&[(FIRST, 4)]);
    let driver = machine.driver();
    let uuid = FIRST.parse().unwrap();
    let figures = measure::card(&driver, &uuid, Duration::ZERO).unwrap();
    assert_eq!(figures.uuid, uuid);
    assert!(figures.multiply_adds_per_second > 0 && figures.memory_copied_bytes_per_second > 0, "{figures:?}");
    assert!(figures.to_card_bytes_per_second > 0 && figures.from_card_bytes_per_second > 0, "{figures:?}");
    assert_eq!(driver.open(&uuid).unwrap().memory().unwrap(), (4 << 20, 4 << 20));
}

#[test]
fn what_cannot_be_measured_is_named_and_the_rest_is_measured() {
    let machine = Machine::with(&[(FIRST, 4)]);
    let driver = machine.driver();
    let cards = [FIRST, SECOND].map(|uuid| uuid.parse().unwrap());
    let benchmark = measure::machine(Path::new("/nowhere"), Some(&driver), &cards, Duration::ZERO, 1_800_000_000);
    assert_eq!(benchmark.measured_at_unix_seconds, 1_800_000_000);
    assert!(benchmark.cpu.is_some() && benchmark.memory.is_some());
    assert_eq!((benchmark.disk, benchmark.cards.len()), (None, 1));
    assert!(benchmark.missing[0].contains("/nowhere") && benchmark.missing[1].contains(SECOND), "{benchmark:?}");
    assert_eq!(
        serde_json::from_str::<measure::Benchmark>(&serde_json::to_string(&benchmark).unwrap()).unwrap(),
        benchmark
    );
}

#[test]
fn memory_is_not_taken_for_a_disk() {
    let refused = measure::disk(Path::new("/dev/shm"), MOMENT).err().unwrap();
    assert!(matches!(&refused, MeasureError::Disk { .. }), "{refused}");
    assert!(
        fs::read_dir("/dev/shm").unwrap().all(|entry| !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains("gpulease"))
    );
}

#[test]
#[ignore = "prints figures; meaningful in a release build on a quiet machine"]
fn figures_of_this_machine() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    println!("{:#?}", measure::machine(folder, None, &[], measure::USUAL_TIME, 0));
}
