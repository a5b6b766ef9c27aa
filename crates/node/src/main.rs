//! The program `node`: a daemon that plays one or several roles of gpulease, and the commands that speak to it.

mod approvals;
mod cli;
mod commands;
mod config;
mod control;
mod daemon;
mod datadir;
mod evidence;
mod failure;
mod faults;
mod housekeeping;
mod metrics;
mod open_files;
mod output;
mod receipt;
mod run_view;
mod secrets;
mod verify;

use clap::{CommandFactory, Parser};
use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};
use tracing_subscriber::EnvFilter;

/// An indexer makes and drops many small things on several threads, which the system's allocator does slowly (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the process waits for threads that are still at work, such as one writing to the disk, when everything else has ended.
const LEFTOVERS: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    // Sandboxes are built by this same program, started again: that must come before any thread exists.
    sandbox::helper_main_if_requested();
    let cli = cli::Cli::parse();
    let daemon = cli.command.is_none();
    if daemon && cli.role.is_empty() {
        // nobody to tell when standard error is closed
        let _ = write!(io::stderr(), "{}", cli::Cli::command().render_help());
        return ExitCode::from(api::types::ErrorKind::Usage.exit_code());
    }
    start_log(if daemon { "info" } else { "warn" }, cli.log_format);
    let json = cli.json;
    let result = run(cli, daemon);
    match result {
        Ok(code) => ExitCode::from(code),
        Err(commands::Failed { error, code }) => {
            output::print_error(&error, json);
            ExitCode::from(code)
        }
    }
}

/// Runs the command or the daemon; whatever work is left behind on other threads then gets a moment to end.
fn run(cli: cli::Cli, daemon: bool) -> Result<u8, commands::Failed> {
    let mut builder = if daemon {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = builder.enable_all().build().map_err(|error| {
        let message = format!("cannot start the runtime: {error}");
        api::types::ApiError::new(api::types::ErrorKind::Failed, message, "")
    })?;
    let result = runtime.block_on(commands::dispatch(cli));
    runtime.shutdown_timeout(LEFTOVERS);
    result
}

/// The log goes to standard error; RUST_LOG says how much of it. Each rental's lines stand in a span with its id.
fn start_log(default: &str, format: cli::LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let colours = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        cli::LogFormat::Text => log.with_ansi(colours).init(),
        cli::LogFormat::Json => log.json().init(),
    }
}
