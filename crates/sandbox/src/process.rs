//! An extra process in a sandbox, with its streams attached to this program.

use std::io::{self, Cursor};
use std::os::fd::OwnedFd;
use std::time::Duration;

use agent::protocol::{Exit, Frame, Reply, TerminalSize};
use tokio::io::{AsyncWriteExt, empty, sink};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;

use crate::client::{Connection, broken, unexpected};
use crate::until::Until;
use crate::{ByteReader, ByteWriter, Error, SandboxId, handover};

/// Signals and sizes waiting to be sent: a person pressing a key or pulling at a window, so a handful is plenty.
const ORDERS: usize = 8;

/// The highest number of a signal.
const LAST_SIGNAL: i32 = 64;

/// How long after the process's end its pipes may stay open in left-over processes before they end here without them.
const DRAIN: Duration = Duration::from_secs(1);

/// A running process. What it writes is kept by the kernel up to a bound; then it waits for its reader. Dropping the handle hangs up:
/// SIGHUP to everything in its session, and half a second later SIGKILL.
pub struct Process {
    /// Its standard input; drop it, or shut it down, to close the other end. In a terminal that says nothing: send Ctrl-D.
    pub stdin: Option<ByteWriter>,
    /// Its standard output, or all output of its terminal. Dropping it closes the pipe under the process.
    pub stdout: ByteReader,
    /// Its standard error; empty in a terminal.
    pub stderr: ByteReader,
    in_terminal: bool,
    orders: mpsc::Sender<Frame>,
    exit: oneshot::Receiver<Result<Exit, Error>>,
    id: SandboxId,
    /// Reads and writes the connection. When it is gone, so is the connection, and the agent hangs up.
    _attendant: AbortOnDropHandle<()>,
    _over: DropGuard,
}

/// Our ends of a process's streams.
pub(crate) struct Streams {
    stdin: ByteWriter,
    stdout: ByteReader,
    stderr: ByteReader,
    in_terminal: bool,
    over: CancellationToken,
}

impl Streams {
    /// Three pipes or, for a terminal, one stream; and the other ends. `owner` is the sandbox's user as this machine counts.
    pub(crate) fn open(in_terminal: bool, owner: u32) -> io::Result<(Streams, Vec<OwnedFd>)> {
        let over = CancellationToken::new();
        if in_terminal {
            let (screen, theirs) = handover::duplex()?;
            let (stdout, stdin) = screen.into_split();
            let streams = Streams {
                stdin: Box::new(stdin),
                stdout: Box::new(stdout),
                stderr: Box::new(empty()),
                in_terminal,
                over,
            };
            return Ok((streams, theirs));
        }
        let (stdin, stdout, stderr, theirs) = handover::pipes(owner)?;
        let (stdout, stderr) = (Box::new(Until::new(stdout, &over)), Box::new(Until::new(stderr, &over)));
        Ok((Streams { stdin: Box::new(stdin), stdout, stderr, in_terminal, over }, theirs))
    }

    /// The streams of a program that did not run, with what shells say then.
    fn say(self, message: &str) -> Streams {
        let said: ByteReader = Box::new(Cursor::new(match self.in_terminal {
            true => format!("gpulease: {message}\r\n"),
            false => format!("gpulease: {message}\n"),
        }));
        let nothing: ByteReader = Box::new(empty());
        let (stdout, stderr) = if self.in_terminal { (said, nothing) } else { (nothing, said) };
        Streams { stdin: Box::new(sink()), stdout, stderr, ..self }
    }
}

impl Process {
    /// Takes over a process that runs on these streams, and the connection on which it was asked for.
    pub(crate) fn attach(id: &SandboxId, connection: Connection, streams: Streams) -> Process {
        let (ended, exit) = oneshot::channel();
        let (orders, ordered) = mpsc::channel(ORDERS);
        let over = streams.over.clone();
        let attendant = tokio::spawn(async move {
            let mut connection = connection;
            let _ = ended.send(attend(&mut connection, ordered).await);
            sleep(DRAIN).await;
            over.cancel();
        });
        Process::new(id, streams, orders, exit, attendant)
    }

    /// A program that did not run at all, told as shells do.
    pub(crate) fn not_run(id: &SandboxId, streams: Streams, code: i32, message: &str) -> Process {
        let (orders, ordered) = mpsc::channel(ORDERS);
        let (ended, exit) = oneshot::channel();
        let attendant = tokio::spawn(async move {
            let _ = ended.send(Ok(Exit::Code { code }));
            drop(ordered);
        });
        Process::new(id, streams.say(message), orders, exit, attendant)
    }

    fn new(
        id: &SandboxId,
        streams: Streams,
        orders: mpsc::Sender<Frame>,
        exit: oneshot::Receiver<Result<Exit, Error>>,
        attendant: tokio::task::JoinHandle<()>,
    ) -> Process {
        let Streams { stdin, stdout, stderr, in_terminal, over } = streams;
        let (_attendant, _over) = (AbortOnDropHandle::new(attendant), over.drop_guard());
        Process { stdin: Some(stdin), stdout, stderr, in_terminal, orders, exit, id: id.clone(), _attendant, _over }
    }

    /// Sends a signal to the process group, or to the one in the foreground of the terminal. It overtakes what waits in the input.
    pub async fn signal(&self, signal: i32) -> Result<(), Error> {
        if !(1..=LAST_SIGNAL).contains(&signal) {
            let reason = format!("{signal} is none: there are 1 to {LAST_SIGNAL}");
            return Err(Error::InvalidSpec { field: "signal", reason });
        }
        self.order(Frame::Signal(signal)).await
    }

    /// Changes the size of the terminal; the programs in its foreground get SIGWINCH.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), Error> {
        if !self.in_terminal {
            let reason = "the process was started without one".into();
            return Err(Error::InvalidSpec { field: "terminal", reason });
        }
        self.order(Frame::Resize(size)).await
    }

    async fn order(&self, frame: Frame) -> Result<(), Error> {
        self.orders.send(frame).await.map_err(|_| Error::Gone(self.id.to_string()))
    }

    /// Waits for the end; what it wrote is in the streams or on its way. To be called once.
    pub async fn wait(&mut self) -> Result<Exit, Error> {
        match (&mut self.exit).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Gone(self.id.to_string())),
        }
    }
}

/// Carries signals and sizes to the agent until it says how the process has ended.
async fn attend(connection: &mut Connection, mut orders: mpsc::Receiver<Frame>) -> Result<Exit, Error> {
    let Connection { id, reader, writer } = connection;
    let answer = reader.next();
    tokio::pin!(answer);
    loop {
        tokio::select! {
            answer = &mut answer => return match answer.map_err(|error| broken(id, error))? {
                Frame::Reply(Reply::Ended { exit }) => Ok(exit),
                Frame::Failure(failure) => Err(failure.into()),
                other => Err(unexpected(&other)),
            },
            Some(order) = orders.recv() => {
                let bytes = order.encode().map_err(|error| Error::Refused(error.to_string()))?;
                // A process that has ended takes no more of them; its end is on the way.
                let _ = writer.write_all(&bytes).await;
            }
        }
    }
}
