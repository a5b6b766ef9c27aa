//! Fuzz targets: one function per family of decoders that read what a peer, a sandbox or a person wrote. Each takes any bytes and
//! panics when a promise of the decoder is broken: it must refuse or read, within bounded memory; what it read keeps the bounds that
//! the rest of the program relies on, and is read the same when it is written again.
//!
//! They are plain functions, so that the committed corpus is replayed by `cargo test` on the stable toolchain (`tests/replay.rs`), and so
//! that an engine looks for more with them (`tests/fuzz/run`, `src/bin/fuzz.rs`).

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a broken promise is what a target reports, by panicking")]

mod advertisement;
mod agent_protocol;
mod archive;
mod discovery;
mod identity;
mod memory;
mod query;
mod ratings;
mod rental;
pub mod seeds;
mod session;
mod sync;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name: the folder of its corpus, and what `tests/fuzz/run` is told.
    pub name: &'static str,
    /// Tries one input; panics when a promise is broken.
    pub run: fn(&[u8]),
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "advertisement", run: advertisement::run },
    Target { name: "rental", run: rental::run },
    Target { name: "session", run: session::run },
    Target { name: "archive", run: archive::run },
    Target { name: "discovery", run: discovery::run },
    Target { name: "agent", run: agent_protocol::run },
    Target { name: "query", run: query::run },
    Target { name: "sync", run: sync::run },
    Target { name: "ratings", run: ratings::run },
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Splits the first byte off: it chooses what a target does with the rest. Nothing for an empty input.
fn choice(data: &[u8], ways: u8) -> Option<(u8, &[u8])> {
    data.split_first().map(|(first, rest)| (first % ways, rest))
}
