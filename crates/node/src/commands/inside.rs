//! Commands that reach into a rental. Each opens streams through the daemon, which holds the connection and the key.

mod attach;
mod cp;
mod forward;
mod logs;
mod ssh;
mod terminal;
mod top;

pub(crate) use forward::{Forwarding, parse_forwarding};
pub(super) use ssh::{config as ssh_config, proxy as ssh_proxy};
pub(super) use {cp::cp, forward::forward, logs::logs, top::top};

use super::{Context, Failed};
use crate::cli;
use access::{
    AccessError,
    guest::{Guest, Program},
};
use api::types::{ApiError, ErrorKind};
use std::io::{IsTerminal, stdin, stdout};

/// What a command exits with when gpulease, and not the program, failed.
const OURS: u8 = 125;

/// `node exec`
pub(super) async fn exec(context: &Context, args: cli::Exec) -> Result<u8, Failed> {
    let terminal = if args.tty { Some(terminal::size()) } else { None };
    let program = Program { argv: args.argv, env: args.env.into_iter().collect(), cwd: args.cwd, terminal };
    attach::attach(guest(context, &args.id).await?, program).await
}

/// `node ssh`
pub(super) async fn ssh(context: &Context, args: cli::Ssh) -> Result<u8, Failed> {
    let at_terminal = stdin().is_terminal() && stdout().is_terminal();
    let terminal = at_terminal.then(terminal::size);
    let program = Program { argv: args.argv, env: terminal::environment(), cwd: None, terminal };
    attach::attach(guest(context, &args.id).await?, program).await
}

/// Whoever has the daemon's door into the rental.
async fn guest(context: &Context, id: &str) -> Result<Guest, ApiError> {
    Ok(Guest::new(context.daemon().await?.door(id)))
}

fn failed(error: &AccessError) -> ApiError {
    ApiError::new(ErrorKind::Failed, error.to_string(), "")
}
