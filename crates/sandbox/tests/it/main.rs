//! The conformance suite, for every back end there is (`on_every_backend!`), and what is of the native one alone: on a real kernel, as root.
//! Nothing is skipped: where a capability is missing these tests fail, because a node could not sell there either. Some tests run inside a
//! sandbox; the others put this very program there and start them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test is meant to panic, in its helpers too")]

mod agent;
mod devices;
mod dial;
mod egress;
mod egress_inside;
mod egress_process;
mod escape;
mod files;
mod images;
mod inside;
mod isolation;
mod job;
mod lifecycle;
mod many;
mod remote_files;
mod sessions;
mod size;
mod support;
mod terminal;
mod world;
