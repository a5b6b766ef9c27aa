//! The network between real nodes on the loopback interface: what reaches whom, and what becomes of input that nobody should send.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod market;
mod neighbours;
mod peers;
mod rentals;
mod rogue;
mod searches;
mod sessions;
mod support;
