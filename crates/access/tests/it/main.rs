//! What a renter does inside a rental. Files and copies go over a stream in memory: the renter's end, the provider's, and behind it the very
//! code that the agent runs in a sandbox, here on this machine's own files. Unmodified SSH clients go to a real sandbox over a real connection
//! of two nodes: as root, like the sandbox's own tests; `devnet/install` brings the clients. `GPULEASE_DEEP_TESTS=1` moves more bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test is meant to panic, in its helpers too")]

mod copy;
mod delay;
mod files;
mod ssh_connections;
mod ssh_distance;
mod ssh_files;
mod ssh_forwards;
mod ssh_sessions;
mod support;
mod world;
