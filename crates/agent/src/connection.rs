//! One connection, one request: reads it, does it, answers. A vanished asker is noticed everywhere something is waited for, so that
//! connections cannot pile up behind a node that was killed.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use agent::protocol::{Failure, FailureKind, Frame, Reply, Request};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::link::Asker;
use crate::places::Place;
use crate::user::User;
use crate::{Agent, dial, files, handover, job, pack};

/// How often a waiting connection looks whether its asker is still there.
const LOOK: Duration = Duration::from_millis(500);

/// How long a connection may take to say what it wants, and to read an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Bytes of log read from the ring at once. They are copied, and every connection may have such a copy while nobody takes it.
const LOG_BATCH: usize = 64 * 1024;

/// Why a connection ends early.
pub(crate) enum Stop {
    /// The asker is gone.
    Gone,
    /// The asker is told this.
    Failed(Failure),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Stop::Gone
    }
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Stop::Failed(failure)
    }
}

/// Serves a connection to its end, or until it is attached to a session.
pub(crate) fn serve(agent: &Agent, socket: UnixStream, place: Place) {
    let socket = Arc::new(socket);
    let asker = Asker::new(socket.clone(), place);
    if let Err(Stop::Failed(failure)) = answer(agent, &socket, asker) {
        let _ = Frame::Failure(failure).write(&mut &*socket);
    }
}

fn answer(agent: &Agent, socket: &UnixStream, asker: Asker) -> Result<(), Stop> {
    socket.set_read_timeout(Some(PATIENCE))?;
    let (request, streams) = match handover::receive(socket) {
        Ok(Some((Frame::Request(request), streams))) => (request, streams),
        Ok(None) => return Err(Stop::Gone),
        Ok(Some(_)) => return Err(bad_request("the first frame must be a request").into()),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Err(bad_request(&error.to_string()).into()),
        Err(_) => return Err(Stop::Gone),
    };
    socket.set_read_timeout(None)?;
    match request {
        Request::Start { key, command, user } => {
            let give = |user: &User| {
                // what was brought one by one is known before its owner changes
                agent.file_servers.catch_up(&agent.manifest);
                pack::give(&agent.manifest, user)
            };
            let already = agent.job.start(&key, command, user.as_deref(), &give)?;
            reply(socket, Reply::Started { already })
        }
        Request::Status => reply(socket, Reply::Status { state: agent.job.state() }),
        Request::Wait => loop {
            if let Some(exit) = agent.job.wait(LOOK) {
                return reply(socket, Reply::Ended { exit });
            }
            if gone(socket) {
                return Err(Stop::Gone);
            }
        },
        Request::Logs { from, follow } => logs(&agent.job, socket, from, follow),
        Request::Exec { key, command, terminal } => Ok(agent.sessions.open(key, &command, terminal, asker)?),
        Request::Attach { key, seen } => {
            agent.sessions.attach(key, seen, asker);
            Ok(())
        }
        Request::Dial { address } => dial::serve(socket, &address, streams),
        Request::Put { directory } => {
            let (entries, bytes) = files::put(&agent.manifest, socket, &directory)?;
            reply(socket, Reply::Stored { entries, bytes })
        }
        Request::Changed { directory } => {
            agent.file_servers.catch_up(&agent.manifest);
            pack::changed(&agent.manifest, socket, &directory)
        }
        Request::Unfetched { directory } => {
            agent.file_servers.catch_up(&agent.manifest);
            let found = pack::unfetched(&agent.manifest, &directory)?;
            reply(socket, Reply::Unfetched(found))
        }
        Request::Get { path } => pack::get(socket, &path),
        Request::Files => {
            reply(socket, Reply::Done)?;
            agent.file_servers.serve(&agent.children, &agent.descriptors, &agent.manifest, socket);
            Ok(())
        }
        Request::Signal { signal } => {
            agent.job.signal(signal)?;
            reply(socket, Reply::Done)
        }
        Request::Stop { grace_ms } => {
            job::stop(&agent.job, Duration::from_millis(grace_ms));
            reply(socket, Reply::Done)
        }
    }
}

fn logs(job: &job::Job, mut socket: &UnixStream, from: u64, follow: bool) -> Result<(), Stop> {
    let mut next = from;
    let patience = if follow { LOOK } else { Duration::ZERO };
    loop {
        let batch = job.log.read(next, LOG_BATCH, patience);
        if batch.first > next {
            Frame::Gap { from: next, to: batch.first }.write(&mut socket)?;
            next = batch.first;
        }
        let empty = batch.records.is_empty();
        for record in batch.records {
            next = record.seq + 1;
            Frame::Record(record).write(&mut socket)?;
        }
        if batch.last || (empty && !follow) {
            Frame::End.write(&mut socket)?;
            return Ok(());
        }
        if empty && gone(socket) {
            return Err(Stop::Gone);
        }
    }
}

/// Sends an answer.
pub(crate) fn reply(mut socket: &UnixStream, reply: Reply) -> Result<(), Stop> {
    Ok(Frame::Reply(reply).write(&mut socket)?)
}

/// True when the asker has closed its end.
fn gone(socket: &UnixStream) -> bool {
    let mut watched = [PollFd::new(socket, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut watched, Some(&now)).is_ok_and(|ready| ready > 0)
}

/// A failure that the asker caused.
pub(crate) fn bad_request(message: &str) -> Failure {
    Failure { kind: FailureKind::BadRequest, message: message.into() }
}
