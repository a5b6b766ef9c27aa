//! How long a large library takes, from the page cache.

use super::shape::*;
use gpu::fatbin::inspect;
use std::{env, fs, path::PathBuf, time::Instant};

/// The library to inspect, if not one of our own making.
const LIBRARY: &str = "INSPECT_LIBRARY";

/// As large as one of the largest of CUDA's mathematical libraries: 11 containers with 14 images of a mebibyte.
fn made(folder: &tempfile::TempDir) -> PathBuf {
    let code = vec![0xee; 1 << 20];
    let images: Vec<_> = (0..14).map(|number| entry(2, 70 + number, 0, 0, &code)).collect();
    let path = folder.path().join("library.so");
    fs::write(&path, library(".nv_fatbin", &container(&images).repeat(11))).unwrap();
    path
}

#[test]
#[ignore = "a measurement: run it with --release --ignored --nocapture"]
fn a_library_of_160_mb_takes_five_milliseconds_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let path = env::var_os(LIBRARY).map_or_else(|| made(&folder), PathBuf::from);
    let length = fs::read(&path).unwrap().len();
    let mut times: Vec<_> = (0..21)
        .map(|_| {
            let start = Instant::now();
            let found = inspect(&path).unwrap();
            assert!(!found.blobs.is_empty());
            start.elapsed()
        })
        .collect();
    times.sort();
    let (median, worst) = (times[10], times[20]);
    println!("{} MB: median {median:?}, worst {worst:?}", length / 1_000_000);
    assert!(median.as_millis() < 5);
}
