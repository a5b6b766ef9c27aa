//! The program `devnet`: a local chain and a small network of nodes with one command, to try things on and to show the whole line.

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// A network of this machine's own: a chain, an escrow, providers, indexers and renters as separate processes on loopback.
#[derive(Parser)]
#[command(name = "devnet", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs one whole rental and checks every number of it.
    ///
    /// Without --input and CMD the job is a matrix product, and its outputs are compared with those of the same program run without any
    /// rental. With them it is yours: DIR becomes /job, CMD runs there, its outputs are brought to ./gpulease-out.
    ///
    /// Exits as the job did when the line held: the rental was settled, every balance adds up, the receipt agrees with the chain. Exits with
    /// 125 when it did not. Standard output is the job's alone.
    Demo(devnet::demo::Options),
    /// Keeps a network running until Ctrl-C and prints how to use it.
    Up(devnet::up::Options),
    /// The parent of a devnet's processes; started by `devnet` itself.
    #[command(hide = true)]
    Warden,
    /// A chain endpoint that can be killed; started by `devnet` itself.
    #[command(hide = true)]
    Endpoint(devnet::endpoint::Options),
}

fn main() -> ExitCode {
    let (result, failed) = match Arguments::parse().command {
        Command::Warden => (devnet::warden::run().map(|()| ExitCode::SUCCESS), ExitCode::FAILURE),
        Command::Demo(options) => (block_on(devnet::demo::run(options)), devnet::demo::DID_NOT_HOLD.into()),
        Command::Endpoint(options) => (block_on(devnet::endpoint::run(options)), ExitCode::FAILURE),
        Command::Up(options) => (block_on(devnet::up::run(options)), ExitCode::FAILURE),
    };
    result.unwrap_or_else(|error| {
        eprintln!("devnet: {error:#}");
        failed
    })
}

fn block_on(work: impl Future<Output = Result<ExitCode>>) -> Result<ExitCode> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}
