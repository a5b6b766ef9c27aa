//! The connection that is attached to a session: frames come and go without anybody waiting, so that one thread serves all of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::protocol::{Exit, Failure, Frame, FrameError, Reply};
use agent::session_frame::{INPUT_WINDOW, MAX_SESSION_DATA, SessionFrame, write_output};
use rustix::event::PollFlags;

use crate::places::Place;
use crate::relay::unless_blocked;
use crate::ring::Ring;

/// Bytes above which nothing is added to what waits to be written.
const ENOUGH: usize = 16 * 1024;

/// Input that is taken is told together: a sixteenth of what may be under way, so that hardly anybody waits for the word.
const TELL_STEP: u64 = INPUT_WINDOW / 16;

/// How long less than that may wait for its word. Each key would have one of its own otherwise, and what the key brings about comes behind it.
pub(crate) const TELL_PAUSE: Duration = Duration::from_millis(20);

/// Who asked for a session: a connection, and its place among them, which is free again when this is dropped.
pub(crate) struct Asker {
    socket: Arc<UnixStream>,
    _place: Place,
}

/// The connection, attached.
pub(crate) struct Link {
    asker: Asker,
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    written: usize,
    /// Output up to here is written or waits to be.
    sent: u64,
    /// The input of which the other end knows that it is taken.
    told: u64,
    /// When it is to be told of the rest.
    due: Option<Instant>,
    end_told: bool,
    /// The other end takes nothing any more; what it has said is still read.
    deaf: bool,
}

impl Link {
    /// Says that the session runs, and goes on with its output from a place.
    pub(crate) fn new(asker: Asker, seen: u64, taken: u64) -> io::Result<Link> {
        asker.socket.set_nonblocking(true)?;
        let outgoing = Frame::Reply(Reply::Running { taken }).encode()?;
        let (incoming, written, due, end_told, deaf) = (Vec::new(), 0, None, false, false);
        Ok(Link { asker, incoming, outgoing, written, sent: seen, told: taken, due, end_told, deaf })
    }

    /// What to wait for.
    pub(crate) fn watched(&self, output: &Ring) -> (BorrowedFd<'_>, PollFlags) {
        let more = !self.deaf && (!self.outgoing.is_empty() || self.sent < output.end());
        let out = if more { PollFlags::OUT } else { PollFlags::empty() };
        (self.asker.socket.as_fd(), PollFlags::IN | out)
    }

    /// Output up to here has gone out.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// When there is something to say though nothing happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.due.filter(|_| !self.deaf && self.outgoing.is_empty())
    }

    /// Reads what has come. False when the other end has closed.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> bool {
        match unless_blocked(rustix::io::read(&self.asker.socket, &mut *buffer)) {
            Ok(Some(read)) => {
                self.incoming.extend_from_slice(&buffer[..read]);
                read > 0
            }
            Ok(None) => true,
            Err(_) => false,
        }
    }

    /// The frames that have come and are whole.
    pub(crate) fn frames(&mut self) -> Result<Vec<SessionFrame>, FrameError> {
        let (mut frames, mut parsed) = (Vec::new(), 0);
        while let Some((frame, length)) = SessionFrame::take(&self.incoming[parsed..])? {
            frames.push(frame);
            parsed += length;
        }
        self.incoming.drain(..parsed);
        if self.incoming.is_empty() {
            // An idle connection keeps nothing.
            self.incoming = Vec::new();
        }
        Ok(frames)
    }

    /// Sends what can be sent at once of what there is to say.
    pub(crate) fn send(&mut self, output: &Ring, taken: u64, end: Option<Exit>, now: Instant) {
        // What waits already goes first: behind it there may be something that nothing else would be a reason to come back for.
        self.deaf =
            self.deaf || self.flush().is_err() || self.fill(output, taken, end, now).is_err() || self.flush().is_err();
    }

    fn fill(&mut self, output: &Ring, taken: u64, end: Option<Exit>, now: Instant) -> Result<(), FrameError> {
        if !self.outgoing.is_empty() {
            return Ok(());
        }
        if self.told < taken {
            let due = *self.due.get_or_insert(now + TELL_PAUSE);
            if taken - self.told >= TELL_STEP || due <= now {
                self.outgoing.extend(Frame::Session(SessionFrame::Taken(taken)).encode()?);
                self.told = taken;
                self.due = None;
            }
        }
        while self.outgoing.len() < ENOUGH
            && let Some((stream, bytes)) = output.at(self.sent)
        {
            let piece = &bytes[..bytes.len().min(MAX_SESSION_DATA)];
            write_output(&mut self.outgoing, self.sent, stream, piece)?;
            self.sent += piece.len() as u64;
        }
        if let Some(exit) = end
            && self.sent == output.end()
            && !self.end_told
        {
            self.outgoing.extend(Frame::Session(SessionFrame::Ended(exit)).encode()?);
            self.end_told = true;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.written < self.outgoing.len() {
            match unless_blocked(rustix::io::write(&self.asker.socket, &self.outgoing[self.written..]))? {
                Some(0) | None => return Ok(()),
                Some(written) => self.written += written,
            }
        }
        self.outgoing = Vec::new();
        self.written = 0;
        Ok(())
    }

    /// Says why it ends, as far as that goes without waiting, and closes.
    pub(crate) fn refuse(mut self, failure: Failure) {
        if let Ok(frame) = Frame::Failure(failure).encode() {
            self.outgoing.extend(frame);
            let _ = self.flush();
        }
    }
}

impl Asker {
    /// On this connection.
    pub(crate) fn new(socket: Arc<UnixStream>, place: Place) -> Asker {
        Asker { socket, _place: place }
    }

    /// The same for one that is not attached.
    pub(crate) fn refuse(&self, failure: Failure) {
        let _ = self.socket.set_nonblocking(true);
        let _ = Frame::Failure(failure).write(&mut &*self.socket);
    }
}
