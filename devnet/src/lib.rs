//! A network of one machine's own: a development chain with the escrow and a test dollar on it, and any number of providers, indexers
//! and renters as separate processes on loopback. It can run the demonstration, stay up for a person, or be driven by tests:
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! let devnet = devnet::Devnet::builder().providers(2).renters(1).indexers(1).start().await?;
//! let done = devnet.node("renter-1")?.call(["run", "--", "echo", "hello"]).await?;
//! assert_eq!(done.code, 0);
//! devnet.stop()
//! # }
//! ```
//!
//! Nodes are driven through their command line, as a person would, and the chain is read with bindings of this crate's own, so that a
//! check shares no code with what it checks. A [`warden`] sees to it that nothing stays behind, whatever happens to the caller.

pub mod books;
pub mod chain;
mod config;
pub mod demo;
pub mod endpoint;
mod network;
mod node;
mod port;
mod show;
mod spec;
pub mod up;
pub mod warden;

pub use endpoint::ENDPOINT;
pub use network::{Builder, Devnet, Signal};
pub use node::{Finished, Node};
pub use spec::{NodeSpec, SlotSpec};

use std::{
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};
use tokio::signal::unix::{SignalKind, signal};

/// Set when a signal ends the process: its devnet did not fail, and need not be looked into.
static TOLD: AtomicBool = AtomicBool::new(false);

fn told_to_end() -> bool {
    TOLD.load(Ordering::SeqCst)
}

/// Does some work until it ends or a signal ends it. What it owns is dropped then, and with that a devnet is stopped in order.
async fn until_told(work: impl Future<Output = anyhow::Result<ExitCode>>) -> anyhow::Result<ExitCode> {
    let (mut interrupt, mut terminate, mut hang_up) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    let mut work = std::pin::pin!(work); // dropped on return, after the reason is known
    // Shells report a process that a signal ended as 128 and the signal's number.
    let code = tokio::select! {
        ended = &mut work => return ended,
        _ = interrupt.recv() => 130,
        _ = terminate.recv() => 143,
        _ = hang_up.recv() => 129,
    };
    TOLD.store(true, Ordering::SeqCst);
    eprintln!("\ndevnet: stopping everything …");
    Ok(ExitCode::from(code))
}
