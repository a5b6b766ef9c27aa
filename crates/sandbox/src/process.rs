//! An extra process in a sandbox, with its streams attached to this program.

use std::io::{self, Cursor};
use std::os::fd::OwnedFd;
use std::time::Duration;

use agent::protocol::{Exit, Frame, Reply, TerminalSize};
use tokio::io::{AsyncWriteExt, empty, sink};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use crate::client::{Connection, broken, unexpected};
use crate::terminal::Master;
use crate::until::Until;
use crate::{ByteReader, ByteWriter, Error, SandboxId};

/// Signals waiting to be sent: a person pressing a key, so a handful is plenty.
const SIGNALS: usize = 8;

/// The highest number of a signal.
const LAST_SIGNAL: i32 = 64;

/// How long after the process's end its streams may stay open in left-over processes before they end here without them.
const DRAIN: Duration = Duration::from_secs(1);

/// A running process. What it writes is kept by the kernel up to the size of a pipe; then it waits for its reader. Dropping the handle
/// hangs up: SIGHUP to everything in its session, and half a second later SIGKILL.
pub struct Process {
    /// Its standard input; drop it, or shut it down, to close the other end. In a terminal there is nothing to close: send Ctrl-D.
    pub stdin: Option<ByteWriter>,
    /// Its standard output, or all output of its terminal. Dropping it closes the pipe under the process.
    pub stdout: ByteReader,
    /// Its standard error; empty in a terminal.
    pub stderr: ByteReader,
    terminal: Option<Master>,
    signals: mpsc::Sender<i32>,
    exit: oneshot::Receiver<Result<Exit, Error>>,
    id: SandboxId,
    /// Reads and writes the connection. When it is gone, so is the connection, and the agent hangs up.
    _attendant: AbortOnDropHandle<()>,
    _over: DropGuard,
}

/// The streams of a process as the agent hands them over.
struct Streams {
    stdin: Option<ByteWriter>,
    stdout: ByteReader,
    stderr: ByteReader,
    terminal: Option<Master>,
}

impl Process {
    /// Takes over a process that runs, and the connection on which it was asked for.
    pub(crate) fn attach(id: &SandboxId, connection: Connection, descriptors: Vec<OwnedFd>) -> Result<Process, Error> {
        let over = CancellationToken::new();
        let streams = Streams::open(descriptors, &over).map_err(|error| broken(id, error))?;
        let (ended, exit) = oneshot::channel();
        let (signals, signalled) = mpsc::channel(SIGNALS);
        let drained = over.clone();
        let attendant = tokio::spawn(async move {
            let _ = ended.send(attend(connection, signalled).await);
            sleep(DRAIN).await;
            drained.cancel();
        });
        Ok(Process::new(id, streams, signals, exit, attendant, over))
    }

    /// A program that did not run at all, told as shells do.
    pub(crate) fn not_run(id: &SandboxId, code: i32, message: &str, in_terminal: bool) -> Process {
        let said: ByteReader = match in_terminal {
            true => Box::new(Cursor::new(format!("gpulease: {message}\r\n"))),
            false => Box::new(Cursor::new(format!("gpulease: {message}\n"))),
        };
        let nothing: ByteReader = Box::new(empty());
        let (stdout, stderr) = if in_terminal { (said, nothing) } else { (nothing, said) };
        let streams = Streams { stdin: Some(Box::new(sink())), stdout, stderr, terminal: None };
        let (signals, signalled) = mpsc::channel(SIGNALS);
        let (ended, exit) = oneshot::channel();
        let attendant = tokio::spawn(async move {
            let _ = ended.send(Ok(Exit::Code { code }));
            drop(signalled);
        });
        Process::new(id, streams, signals, exit, attendant, CancellationToken::new())
    }

    fn new(
        id: &SandboxId,
        streams: Streams,
        signals: mpsc::Sender<i32>,
        exit: oneshot::Receiver<Result<Exit, Error>>,
        attendant: tokio::task::JoinHandle<()>,
        over: CancellationToken,
    ) -> Process {
        let Streams { stdin, stdout, stderr, terminal } = streams;
        let (id, _attendant, _over) = (id.clone(), AbortOnDropHandle::new(attendant), over.drop_guard());
        Process { stdin, stdout, stderr, terminal, signals, exit, id, _attendant, _over }
    }

    /// Sends a signal to the process group, or to the one in the foreground of the terminal. It overtakes what waits in the input.
    pub async fn signal(&self, signal: i32) -> Result<(), Error> {
        if !(1..=LAST_SIGNAL).contains(&signal) {
            let reason = format!("{signal} is none: there are 1 to {LAST_SIGNAL}");
            return Err(Error::InvalidSpec { field: "signal", reason });
        }
        self.signals.send(signal).await.map_err(|_| Error::Gone(self.id.to_string()))
    }

    /// Changes the size of the terminal; the programs in its foreground get SIGWINCH.
    pub fn resize(&self, size: TerminalSize) -> Result<(), Error> {
        let Some(terminal) = &self.terminal else {
            let reason = "the process was started without one".into();
            return Err(Error::InvalidSpec { field: "terminal", reason });
        };
        terminal.resize(size).map_err(|error| broken(&self.id, error))
    }

    /// Waits for the end; all output is in the streams by then. To be called once.
    pub async fn wait(&mut self) -> Result<Exit, Error> {
        match (&mut self.exit).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Gone(self.id.to_string())),
        }
    }
}

impl Streams {
    /// Three pipes, or one terminal.
    fn open(descriptors: Vec<OwnedFd>, over: &CancellationToken) -> io::Result<Streams> {
        let descriptors = match <[OwnedFd; 3]>::try_from(descriptors) {
            Ok([stdin, stdout, stderr]) => {
                let reader = |descriptor| -> io::Result<ByteReader> {
                    Ok(Box::new(Until::new(pipe::Receiver::from_owned_fd(descriptor)?, over)))
                };
                let stdin: ByteWriter = Box::new(pipe::Sender::from_owned_fd(stdin)?);
                let (stdout, stderr) = (reader(stdout)?, reader(stderr)?);
                return Ok(Streams { stdin: Some(stdin), stdout, stderr, terminal: None });
            }
            Err(descriptors) => descriptors,
        };
        let [master] = <[OwnedFd; 1]>::try_from(descriptors)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "neither three pipes nor one terminal"))?;
        let master = Master::new(master)?;
        Ok(Streams {
            stdin: Some(Box::new(master.clone())),
            stdout: Box::new(Until::new(master.clone(), over)),
            stderr: Box::new(empty()),
            terminal: Some(master),
        })
    }
}

/// Carries signals to the agent until it says how the process has ended.
async fn attend(connection: Connection, mut signals: mpsc::Receiver<i32>) -> Result<Exit, Error> {
    let Connection { id, mut reader, mut writer } = connection;
    let answer = reader.next();
    tokio::pin!(answer);
    loop {
        tokio::select! {
            answer = &mut answer => return match answer.map_err(|error| broken(&id, error))? {
                Frame::Reply(Reply::Ended { exit }) => Ok(exit),
                Frame::Failure(failure) => Err(failure.into()),
                other => Err(unexpected(&other)),
            },
            Some(signal) = signals.recv() => {
                let bytes = Frame::Signal(signal).encode().map_err(|error| Error::Refused(error.to_string()))?;
                // A process that has ended takes no more signals; its end is on the way.
                let _ = writer.write_all(&bytes).await;
            }
        }
    }
}
