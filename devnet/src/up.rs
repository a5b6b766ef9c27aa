//! A network that stays: started, explained, watched, and stopped when its person is done with it.

use crate::{Devnet, show::Steps, until_told};
use anyhow::Result;
use api::types::Role;
use clap::Args;
use std::{convert::Infallible, path::PathBuf, process::ExitCode, time::Duration};

/// How often it is looked whether all nodes still run.
const WATCH: Duration = Duration::from_secs(2);

/// What `up` can be told.
#[derive(Args, Debug)]
pub struct Options {
    /// How many providers.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(0..=32))]
    providers: u64,
    /// How many indexers.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=8))]
    indexers: u64,
    /// How many renters.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=32))]
    renters: u64,
    /// Where the network lives; a new folder for temporary files if not said. Must not hold one yet.
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Leave the directory with all logs and data when it stops.
    #[arg(long)]
    keep: bool,
}

/// Runs a network until a signal ends it.
pub async fn run(options: Options) -> Result<ExitCode> {
    until_told(async { stay(options).await.map(|never| match never {}) }).await
}

async fn stay(options: Options) -> Result<Infallible> {
    let steps = Steps::spoken();
    steps.heading("A network of this machine's own");
    let mut builder = Devnet::builder()
        .indexers(usize::try_from(options.indexers)?)
        .providers(usize::try_from(options.providers)?)
        .renters(usize::try_from(options.renters)?)
        .say_steps();
    if let Some(directory) = options.directory {
        builder = builder.directory(directory);
    }
    if options.keep {
        builder = builder.keep();
    }
    let devnet = builder.start().await?;
    explain(&devnet, &steps);

    let mut missing = Vec::new();
    loop {
        for node in &devnet.nodes {
            let code = devnet.exit_code(&node.name)?;
            if let Some(code) = code.filter(|_| !missing.contains(&node.name)) {
                steps.fault(format!("{} has ended with {code}; its log is {}", node.name, node.log.display()));
                missing.push(node.name.clone());
            }
        }
        tokio::time::sleep(WATCH).await;
    }
}

fn explain(devnet: &Devnet, steps: &Steps) {
    steps.heading("How to use it");
    steps.plain(format!("everything about it: {}", devnet.dir().join("devnet.json").display()));
    steps.plain(format!("logs:                {}", devnet.dir().join("logs").display()));
    if let Some(renter) = devnet.with_role(Role::Renter).next() {
        let node = format!("{} --data-dir {}", renter.program.display(), renter.data_dir.display());
        steps.plain("");
        for command in
            ["offers", "run --for 5m -- sh -c 'echo hello; uname -a'", "ps --all", "receipts", "wallet balance"]
        {
            steps.plain(format!("{node} {command}"));
        }
    }
    steps.plain("");
    steps.plain("Ctrl-C stops everything.");
}
