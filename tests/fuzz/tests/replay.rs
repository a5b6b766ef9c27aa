//! Every input that ever mattered, tried again: the honest ones, made by today's encoders, and the committed corpus, which holds what the
//! engine found to reach new code, and what once broke something.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use fuzz::{TARGETS, Target, seeds, target};
use std::{fs, path::PathBuf};

/// The corpus is for replaying at each test run: small files, not too many.
const MOST_FILES: usize = 100;
const LARGEST_FILE: u64 = 4 * 1024;

fn corpus(target: &Target) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut inputs: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    inputs.sort_unstable();
    inputs
}

fn replay(name: &str) {
    let target = target(name).unwrap();
    let honest = seeds::of(name);
    assert!(!honest.is_empty(), "{name} begins with nothing");
    honest.iter().for_each(|input| (target.run)(input));
    (target.run)(&[]);
    for (path, input) in corpus(target) {
        // the name of the input stands in the failure's output
        println!("{}", path.display());
        (target.run)(&input);
        // what is cut short is refused as calmly
        (target.run)(&input[..input.len() / 2]);
    }
}

#[test]
fn advertisements_are_replayed() {
    replay("advertisement");
}

#[test]
fn negotiation_and_metering_are_replayed() {
    replay("rental");
}

#[test]
fn sessions_are_replayed() {
    replay("session");
}

#[test]
fn archives_are_replayed() {
    replay("archive");
}

#[test]
fn discovery_is_replayed() {
    replay("discovery");
}

#[test]
fn the_agents_protocol_is_replayed() {
    replay("agent");
}

#[test]
fn queries_are_replayed() {
    replay("query");
}

#[test]
fn comparisons_of_books_are_replayed() {
    replay("sync");
}

#[test]
fn ratings_are_replayed() {
    replay("ratings");
}

#[test]
fn every_target_has_a_small_corpus() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut folders: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    folders.sort_unstable();
    let mut names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    assert_eq!(folders, names);
    for target in TARGETS {
        let inputs = corpus(target);
        assert!(!inputs.is_empty() && inputs.len() <= MOST_FILES, "{}: {} files", target.name, inputs.len());
        for (path, input) in inputs {
            assert!(input.len() as u64 <= LARGEST_FILE, "{} has {} bytes", path.display(), input.len());
        }
    }
}
