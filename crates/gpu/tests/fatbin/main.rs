//! What is found in the fixtures, in files of no compiler's making, and at what price.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod hostile;
mod job;
mod listing;
mod memory;
mod mutation;
mod shape;
mod speed;

use std::{fs, path::PathBuf};

/// Where the fixtures are; `make.py` there makes them.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// The fixtures that a compiler made, by name.
fn fixtures() -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<_> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.extension().is_none_or(|end| end != "py" && end != "txt"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(&path).unwrap()))
        .collect();
    found.sort();
    found
}
