//! A process that outlives the connection it was asked on. Output and input are rows of bytes with numbered places, so that whoever lost
//! the connection attaches again, says how much output it has, is told how much input was taken, and nothing is lost or doubled.

use agent::protocol::{Exit, Frame, Reply, Request, Stream, TerminalSize};
use agent::session_frame::{MAX_SESSION_DATA, SessionFrame};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;

use crate::client::{Client, Connection, FrameReader, broken, unexpected};
use crate::{Error, SandboxId};

/// The highest number of a signal.
const LAST_SIGNAL: i32 = 64;

/// A connection to a session, in two halves that work at the same time. Dropping both leaves the process running with nobody attached:
/// [`SessionInput::HangUp`] ends it, and so does the agent when nobody has attached for ten minutes.
pub struct Attached {
    /// Bytes of input that the process had taken when this connection was made. What comes after them is to be sent again.
    pub taken: u64,
    /// What the session says.
    pub output: SessionReader,
    /// What the session is told.
    pub input: SessionWriter,
}

/// What a session says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    /// The process wrote something.
    Output {
        /// Where the first byte stands; bytes of both streams are counted together.
        offset: u64,
        /// Where it was written. All that a terminal shows is standard output.
        stream: Stream,
        /// What was written.
        bytes: Vec<u8>,
    },
    /// So many bytes of input has the process taken. No more than [`INPUT_WINDOW`](crate::INPUT_WINDOW) bytes may be sent beyond them.
    Taken(u64),
    /// The process has ended, and all its output has been said.
    Ended(Exit),
}

/// What a session is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionInput {
    /// Input. What the session has already is skipped; a hole is an error that ends the connection.
    Input {
        /// Where the first byte stands.
        offset: u64,
        /// What the process is to read.
        bytes: Vec<u8>,
    },
    /// There is no more input than so many bytes. In a terminal it says nothing: send Ctrl-D.
    End {
        /// How many there are in all.
        offset: u64,
    },
    /// The size of the terminal.
    Resize(TerminalSize),
    /// A signal for the process's group; in a terminal, for the group in its foreground. It overtakes input that nobody reads.
    Signal(i32),
    /// So many bytes of output have arrived for good. The agent keeps all others, and when it can keep no more the process waits.
    Acknowledge(u64),
    /// End the session with everything in it: SIGHUP, and half a second later SIGKILL. After [`SessionEvent::Ended`], forget the session:
    /// without it the end is remembered for ten minutes, for one who lost the connection and attaches again. The connection ends with it.
    HangUp,
}

/// What comes from a session.
pub struct SessionReader {
    id: SandboxId,
    frames: FrameReader,
    ended: bool,
}

/// What goes to a session.
pub struct SessionWriter {
    id: SandboxId,
    socket: OwnedWriteHalf,
    /// Of a frame whose sending was given up: it goes first.
    unsent: Vec<u8>,
}

impl Attached {
    /// Asks for a session, new or old.
    pub(crate) async fn open(client: &Client, request: Request) -> Result<Attached, Error> {
        let (reply, connection) = client.request(request).await?;
        let Reply::Running { taken } = reply else { return Err(unexpected(&reply)) };
        let Connection { id, reader, writer } = connection;
        let output = SessionReader { id: id.clone(), frames: reader, ended: false };
        Ok(Attached { taken, output, input: SessionWriter { id, socket: writer, unsent: Vec::new() } })
    }
}

impl SessionReader {
    /// The next event; `None` after the end. It may be given up and called again: nothing is lost. When another has attached, it fails
    /// with [`Error::TakenOver`], and after a hang-up with [`Error::NoSuchSession`].
    pub async fn next(&mut self) -> Result<Option<SessionEvent>, Error> {
        if self.ended {
            return Ok(None);
        }
        let event = match self.frames.next().await.map_err(|error| broken(&self.id, error))? {
            Frame::Session(SessionFrame::Output { offset, stream, bytes }) => {
                SessionEvent::Output { offset, stream, bytes }
            }
            Frame::Session(SessionFrame::Taken(taken)) => SessionEvent::Taken(taken),
            Frame::Session(SessionFrame::Ended(exit)) => SessionEvent::Ended(exit),
            Frame::Failure(failure) => return Err(failure.into()),
            other => return Err(unexpected(&other)),
        };
        self.ended = matches!(event, SessionEvent::Ended(_));
        Ok(Some(event))
    }
}

impl SessionWriter {
    /// Sends one thing, or as much of it as goes until it is given up; the rest goes with the next one.
    pub async fn send(&mut self, input: SessionInput) -> Result<(), Error> {
        self.flush().await?;
        let frame = match input {
            SessionInput::Input { offset, bytes } => return self.send_input(offset, &bytes).await,
            SessionInput::End { offset } => SessionFrame::InputEnd(offset),
            SessionInput::Resize(size) => SessionFrame::Resize(size),
            SessionInput::Signal(signal) => {
                check_signal(signal)?;
                SessionFrame::Signal(signal)
            }
            SessionInput::Acknowledge(offset) => SessionFrame::Acknowledge(offset),
            SessionInput::HangUp => SessionFrame::HangUp,
        };
        self.put(frame).await
    }

    async fn send_input(&mut self, mut offset: u64, bytes: &[u8]) -> Result<(), Error> {
        for piece in bytes.chunks(MAX_SESSION_DATA) {
            self.put(SessionFrame::Input { offset, bytes: piece.to_vec() }).await?;
            offset = offset.saturating_add(piece.len() as u64);
        }
        Ok(())
    }

    async fn put(&mut self, frame: SessionFrame) -> Result<(), Error> {
        self.unsent = Frame::Session(frame).encode().map_err(|error| Error::Refused(error.to_string()))?;
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Error> {
        while !self.unsent.is_empty() {
            let sent = self.socket.write(&self.unsent).await.map_err(|error| broken(&self.id, error))?;
            self.unsent.drain(..sent);
        }
        Ok(())
    }
}

/// Fails for a number that is no signal's.
pub(crate) fn check_signal(signal: i32) -> Result<(), Error> {
    if (1..=LAST_SIGNAL).contains(&signal) {
        return Ok(());
    }
    let reason = format!("{signal} is none: there are 1 to {LAST_SIGNAL}");
    Err(Error::InvalidSpec { field: "signal", reason })
}
