//! An extra process on streams of the node's, or in a terminal; signals come over the connection, and when the asker vanishes the
//! process's session ends, so that nothing runs on unseen.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use agent::protocol::{Command, Failure, FailureKind, Frame, Reply, TerminalSize};

use crate::children::{StartError, Started, Streams, signal_group};
use crate::connection::{Stop, bad_request, reply};
use crate::terminal::Terminal;
use crate::{Agent, session};

/// Runs a command on this connection until it has ended or the asker is gone.
pub(crate) fn serve(
    agent: &Agent,
    asker: &Arc<UnixStream>,
    command: &Command,
    size: Option<TerminalSize>,
    streams: Vec<OwnedFd>,
) -> Result<(), Stop> {
    let Some(size) = size else {
        let streams =
            <[OwnedFd; 3]>::try_from(streams).map_err(|_| bad_request("a process comes with three streams"))?;
        let Some(started) = start(agent, asker, command, Streams::Given(streams))? else { return Ok(()) };
        return attend(agent, asker, &started);
    };
    let [screen] = <[OwnedFd; 1]>::try_from(streams).map_err(|_| bad_request("a terminal comes with one stream"))?;
    let terminal = Terminal::open(size)
        .map_err(|error| Failure { kind: FailureKind::Io, message: format!("no terminal: {error}") })?;
    let Some(started) = start(agent, asker, command, Streams::Terminal(terminal.slave))? else { return Ok(()) };
    crate::terminal::attend(agent, asker, &started, &UnixStream::from(screen), terminal.master)
}

/// Starts the process and says so, or that there is no such program.
fn start(agent: &Agent, asker: &Arc<UnixStream>, command: &Command, streams: Streams) -> Result<Option<Started>, Stop> {
    match agent.children.start(command, streams, Some(asker)) {
        Ok(started) => match reply(asker, Reply::Running) {
            Ok(()) => Ok(Some(started)),
            Err(gone) => {
                session::hang_up(started.pid);
                Err(gone)
            }
        },
        Err(StartError::Program(code, message)) => reply(asker, Reply::NotRun { code, message }).map(|()| None),
        Err(StartError::System(message)) => Err(Failure { kind: FailureKind::Io, message }.into()),
    }
}

/// Passes signals on until the asker closes or the process has ended: then the connection is shut down for reading.
fn attend(agent: &Agent, mut asker: &UnixStream, started: &Started) -> Result<(), Stop> {
    while let Ok(Some(Frame::Signal(signal))) = Frame::read(&mut asker) {
        if signal_group(started.pid, signal).is_err() {
            break;
        }
    }
    match agent.children.ended(started) {
        Some(exit) => reply(asker, Reply::Ended { exit }),
        None => {
            session::hang_up(started.pid);
            Err(Stop::Gone)
        }
    }
}
