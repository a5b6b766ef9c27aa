//! The indexer role between real nodes on the loopback interface.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod support;
mod sync;
