//! How much memory decoding takes: an allocator that counts what this thread holds, so that a target can refuse a decoder that lets a
//! stranger's few bytes claim many.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

/// What any decoder may use besides what grows with its input: buffers, tables made on first use.
const BASE: usize = 256 * 1024;
/// Bytes of memory for each byte of input. The worst honest case is a message of empty sub-messages, each two bytes long and a structure
/// of a few hundred bytes once read, in a vector that doubles as it grows.
const PER_BYTE: usize = 1_024;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

#[global_allocator]
static COUNTING: Counting = Counting;

fn count(change: isize) {
    // a thread that is ending has no counters any more, and nothing to measure
    let _ = HELD.try_with(|held| {
        held.set(held.get() + change);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

// SAFETY: every call is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps `alloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps `alloc_zeroed`'s contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: the caller keeps `realloc`'s contract.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `decode` on `input` and panics when it held more memory at once than input of that length may take.
pub(crate) fn bounded<'a, T>(input: &'a [u8], decode: impl FnOnce(&'a [u8]) -> T) -> T {
    let before = HELD.get();
    PEAK.set(before);
    let result = decode(input);
    let used = PEAK.get() - before;
    let allowed = BASE + PER_BYTE * input.len();
    assert!(used <= allowed.cast_signed(), "{} bytes of input took {used} bytes of memory", input.len());
    result
}
