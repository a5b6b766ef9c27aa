//! An extra process: its streams, or its terminal, are handed to the asker; signals come back over the connection, and when the asker
//! vanishes the process's session ends, so that nothing runs on unseen.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use agent::protocol::{Command, Failure, FailureKind, Frame, Reply, TerminalSize};
use rustix::termios::tcgetpgrp;

use crate::children::{StartError, Started, Streams, signal_group};
use crate::connection::{Stop, reply};
use crate::terminal::Terminal;
use crate::{Agent, handover, session};

/// Runs a command on this connection until it has ended or the asker is gone.
pub(crate) fn serve(
    agent: &Agent,
    asker: &Arc<UnixStream>,
    command: &Command,
    size: Option<TerminalSize>,
) -> Result<(), Stop> {
    let (master, streams) = match size.map(Terminal::open).transpose() {
        Ok(Some(terminal)) => (Some(terminal.master), Streams::Terminal(terminal.slave)),
        Ok(None) => (None, Streams::Pipes),
        Err(error) => {
            return Err(Failure { kind: FailureKind::Io, message: format!("no terminal: {error}") }.into());
        }
    };
    let mut started = match agent.children.start(command, streams, Some(asker)) {
        Ok(started) => started,
        Err(StartError::Program(code, message)) => return reply(asker, Reply::NotRun { code, message }),
        Err(StartError::System(message)) => return Err(Failure { kind: FailureKind::Io, message }.into()),
    };
    let attended = attend(asker, &mut started, master.as_ref());
    if let Some(exit) = agent.children.ended(&started) {
        return reply(asker, Reply::Ended { exit });
    }
    drop(master);
    session::hang_up(started.pid);
    attended
}

/// Hands the streams over and passes signals on, until the asker closes or the process has ended: then the connection is shut down for
/// reading.
fn attend(mut asker: &UnixStream, started: &mut Started, master: Option<&OwnedFd>) -> Result<(), Stop> {
    let pipes = [
        started.child.stdin.take().map(OwnedFd::from),
        started.child.stdout.take().map(OwnedFd::from),
        started.child.stderr.take().map(OwnedFd::from),
    ];
    let descriptors: Vec<BorrowedFd<'_>> = pipes.iter().flatten().chain(master).map(AsFd::as_fd).collect();
    handover::reply(asker, Reply::Running, &descriptors)?;
    // Kept open here, they would hide from the process that the asker has closed them.
    drop(pipes);
    while let Some(Frame::Signal(signal)) = Frame::read(&mut asker)? {
        let foreground = master.and_then(|master| tcgetpgrp(master).ok());
        signal_group(foreground.unwrap_or(started.pid), signal)?;
    }
    Ok(())
}
