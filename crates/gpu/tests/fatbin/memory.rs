//! How much memory an inspection takes, whatever a file claims: counted by the allocator, thread by thread.

use super::{fixtures, mutation::damage, shape::*};
use gpu::fatbin::{inspect, inspect_bytes};
use rand::{SeedableRng, rngs::SmallRng};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What the largest allocation may be, and all of them together.
const BOUND: usize = 16_000_000;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to the system's allocator as it came; the counters are plain cells that allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise is passed on
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: the caller's promise is passed on
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        took(size);
        gave(layout.size());
        // SAFETY: the caller's promise is passed on
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// At a thread's end the counters are gone, and nobody asks any more.
fn took(size: usize) {
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
    let _ = HELD.try_with(|held| held.set(held.get().saturating_add_unsigned(size)));
    let _ = MOST.try_with(|most| most.set(most.get().max(HELD.get())));
}

fn gave(size: usize) {
    let _ = HELD.try_with(|held| held.set(held.get().saturating_sub_unsigned(size)));
}

/// The largest allocation of a piece of work, and the most it held at once.
fn cost(work: impl FnOnce()) -> (usize, usize) {
    let before = HELD.get();
    LARGEST.set(0);
    MOST.set(before);
    work();
    (LARGEST.get(), MOST.get().saturating_sub(before).unsigned_abs())
}

fn assert_modest(bytes: &[u8], what: &str) {
    let (largest, most) = cost(|| drop(inspect_bytes(bytes)));
    assert!(largest <= BOUND && most <= BOUND, "{what}: {largest} at once, {most} in all");
}

#[test]
fn the_counters_count() {
    let (largest, most) = cost(|| drop((vec![1_u8; 5_000], vec![1_u8; 3_000])));
    assert_eq!((largest, most), (5_000, 8_000));
}

#[test]
fn fixtures_whole_and_damaged_take_little_memory() {
    for (name, original) in fixtures() {
        let (largest, most) = cost(|| drop(inspect_bytes(&original)));
        assert!(largest < 100_000 && most < 400_000, "{name}: {largest} at once, {most} in all");
        for seed in 0..50 {
            let mut bytes = original.clone();
            damage(&mut bytes, &mut SmallRng::seed_from_u64(seed));
            assert_modest(&bytes, &name);
        }
    }
}

#[test]
fn the_most_that_a_file_can_hold_stays_within_the_bound() {
    // as many different containers as are read, so that none is counted with another
    let different = |number: u32| container(&[entry(8, number % 65_536, u64::from(number / 65_536) << 20, 0, b"")]);
    let many: Vec<u8> = (0..1 << 17).flat_map(different).collect();
    let bytes = library(".nv_fatbin", &many);
    assert_eq!(inspect_bytes(&bytes).unwrap().blobs.len(), 1 << 17);
    assert_modest(&bytes, "different containers");

    // one container with all the images there may be
    let images = vec![entry(8, 75, 0, 0, b""); (1 << 18) - 1];
    let bytes = library(".nv_fatbin", &container(&images));
    assert_eq!(inspect_bytes(&bytes).unwrap().blobs[0].images.len(), (1 << 18) - 1);
    assert_modest(&bytes, "one large container");
}

#[test]
fn tables_that_are_really_as_large_as_they_say_are_not_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sparse");
    let member = |name: &str, size: u64| format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644);
    // an archive whose table of names has a gigabyte
    let names = format!("!<arch>\n{}", member("//", 1 << 30));
    // a library with seven million sections
    let mut sections = library(".nv_fatbin", &[]);
    sections[60..62].copy_from_slice(&[0, 0]);
    sections[64 + 32..64 + 40].copy_from_slice(&7_000_000_u64.to_le_bytes());
    for bytes in [names.into_bytes(), sections] {
        std::fs::write(&path, &bytes).unwrap();
        std::fs::File::options().write(true).open(&path).unwrap().set_len(1 << 31).unwrap();
        let (largest, most) = cost(|| drop(inspect(&path).unwrap_err()));
        assert!(largest <= BOUND && most <= BOUND, "{largest} at once, {most} in all");
    }
}

#[test]
fn tables_with_as_many_rows_as_are_read_stay_within_the_bound() {
    let member = format!("{:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", "a.o/", 0, 0, 0, 644, 0);
    for (count, read) in [(65_536, true), (65_537, false)] {
        let archive = format!("!<arch>\n{}", member.repeat(count)).into_bytes();
        assert_eq!(inspect_bytes(&archive).is_ok(), read, "{count} members");
        assert_modest(&archive, "members");
    }
    for (count, read) in [(60_000, true), (70_000, false)] {
        let sections = many_sections(count);
        assert_eq!(inspect_bytes(&sections).is_ok(), read, "{count} sections");
        assert_modest(&sections, "sections");
    }
}
