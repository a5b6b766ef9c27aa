//! An extra process for those who hold it from its start to its end: its session's output and input as readers and writers.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::session::{Attached, SessionEvent, SessionInput, SessionReader, SessionWriter};
use crate::{
    ByteReader, ByteWriter, Error, Exit, INPUT_WINDOW, ProcessSpec, Sandbox, SandboxId, SessionKey, Stream,
    TerminalSize,
};

/// Signals, sizes and acknowledgements waiting to be sent.
const ORDERS: usize = 8;

/// Bytes of each stream held here: what a pipe holds by default.
const BUFFER: usize = 64 * 1024;

/// How long the agent may take to read that it should hang up.
const HANG_UP_WAIT: Duration = Duration::from_secs(10);

/// A running process. What it writes is kept up to a bound; then it waits for its reader. Both outputs are read, or dropped: one that
/// is left unread holds up the other. Dropping the handle hangs up: SIGHUP to everything in its session, and half a second later SIGKILL.
pub struct Process {
    /// Its standard input; drop it, or shut it down, to end it. In a terminal that says nothing: send Ctrl-D.
    pub stdin: Option<ByteWriter>,
    /// Its standard output, or all output of its terminal. What comes after it is dropped goes nowhere.
    pub stdout: ByteReader,
    /// Its standard error; empty in a terminal.
    pub stderr: ByteReader,
    in_terminal: bool,
    orders: mpsc::Sender<SessionInput>,
    exit: oneshot::Receiver<Result<Exit, Error>>,
    id: SandboxId,
    _held: DropGuard,
}

impl Process {
    /// Opens a session for a process. When this is given up before it is done, whatever was started is hung up.
    pub(crate) async fn start(sandbox: Arc<dyn Sandbox>, process: ProcessSpec) -> Result<Process, Error> {
        let in_terminal = process.terminal.is_some();
        let id = sandbox.id().clone();
        // In a task of its own, which goes on to the end: if nobody waits for the process any more, it is dropped there.
        let opening = tokio::spawn(async move {
            let key = SessionKey::from(rand::random::<[u8; 16]>());
            let attached = sandbox.open(&key, process).await?;
            Ok(Process::of(sandbox.id(), attached, in_terminal))
        });
        opening.await.map_err(|_| Error::Gone(id.to_string()))?
    }

    fn of(id: &SandboxId, attached: Attached, in_terminal: bool) -> Process {
        let Attached { output, mut input, .. } = attached;
        let ((stdin, typed), (stdout, shown), (stderr, said)) = (duplex(BUFFER), duplex(BUFFER), duplex(BUFFER));
        let (orders, ordered) = mpsc::channel(ORDERS);
        let (ended, exit) = oneshot::channel();
        let (taken, seen_taken) = watch::channel(0);
        let held = CancellationToken::new();
        let dropped = held.clone();
        let deliver = Deliver { output, streams: [Some(shown), Some(said)], taken, orders: orders.clone() };
        let feed = Feed { typed, in_terminal, ordered, taken: seen_taken };
        tokio::spawn(async move {
            let outcome = tokio::select! {
                outcome = deliver.run() => Some(outcome),
                error = feed.run(&mut input) => Some(Err(error)),
                () = dropped.cancelled() => None,
            };
            if let Some(outcome) = outcome {
                let _ = ended.send(outcome);
            }
            // Ends the session, or lets its end be forgotten. A sandbox that is gone needs neither.
            let _ = timeout(HANG_UP_WAIT, input.send(SessionInput::HangUp)).await;
        });
        let (stdout, stderr): (ByteReader, ByteReader) = (Box::new(stdout), Box::new(stderr));
        let (stdin, id, _held) = (Some(Box::new(stdin) as ByteWriter), id.clone(), held.drop_guard());
        Process { stdin, stdout, stderr, in_terminal, orders, exit, id, _held }
    }

    /// Sends a signal to the process group, or to the one in the foreground of the terminal. It overtakes what waits in the input.
    pub async fn signal(&self, signal: i32) -> Result<(), Error> {
        crate::session::check_signal(signal)?;
        self.order(SessionInput::Signal(signal)).await
    }

    /// Changes the size of the terminal; the programs in its foreground get SIGWINCH.
    pub async fn resize(&self, size: TerminalSize) -> Result<(), Error> {
        if !self.in_terminal {
            let reason = "the process was started without one".into();
            return Err(Error::InvalidSpec { field: "terminal", reason });
        }
        self.order(SessionInput::Resize(size)).await
    }

    async fn order(&self, order: SessionInput) -> Result<(), Error> {
        self.orders.send(order).await.map_err(|_| Error::Gone(self.id.to_string()))
    }

    /// Waits for the end, which comes when all that it wrote has been read but for what the streams hold. To be called once.
    pub async fn wait(&mut self) -> Result<Exit, Error> {
        match (&mut self.exit).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::Gone(self.id.to_string())),
        }
    }
}

/// What carries the output: standard output and standard error, until their readers are dropped.
struct Deliver {
    output: SessionReader,
    streams: [Option<DuplexStream>; 2],
    taken: watch::Sender<u64>,
    orders: mpsc::Sender<SessionInput>,
}

impl Deliver {
    /// Carries until the process has ended.
    async fn run(mut self) -> Result<Exit, Error> {
        loop {
            match self.output.next().await? {
                Some(SessionEvent::Output { offset, stream, bytes }) => {
                    self.deliver(stream, &bytes).await;
                    let arrived = SessionInput::Acknowledge(offset.saturating_add(bytes.len() as u64));
                    let _ = self.orders.send(arrived).await;
                }
                Some(SessionEvent::Taken(taken)) => drop(self.taken.send(taken)),
                Some(SessionEvent::Ended(exit)) => return Ok(exit),
                None => return Err(Error::Refused("the session ended twice".into())),
            }
        }
    }

    async fn deliver(&mut self, stream: Stream, bytes: &[u8]) {
        let stream = match stream {
            Stream::Stdout => &mut self.streams[0],
            Stream::Stderr => &mut self.streams[1],
        };
        if let Some(pipe) = stream
            && pipe.write_all(bytes).await.is_err()
        {
            *stream = None;
        }
    }
}

/// What carries the input, and everything else that the session is told.
struct Feed {
    typed: DuplexStream,
    in_terminal: bool,
    ordered: mpsc::Receiver<SessionInput>,
    taken: watch::Receiver<u64>,
}

impl Feed {
    /// Carries until the connection fails.
    async fn run(mut self, input: &mut SessionWriter) -> Error {
        let (mut sent, mut ended) = (0u64, false);
        let mut buffer = vec![0; BUFFER];
        loop {
            let under_way = u64::saturating_sub(sent, *self.taken.borrow_and_update());
            let room = usize::try_from(INPUT_WINDOW.saturating_sub(under_way)).map_or(BUFFER, |room| room.min(BUFFER));
            let told = tokio::select! {
                Some(order) = self.ordered.recv() => order,
                Ok(()) = self.taken.changed() => continue,
                read = self.typed.read(&mut buffer[..room]), if room > 0 && !ended => match read {
                    Ok(length) if length > 0 => {
                        let bytes = buffer[..length].to_vec();
                        let offset = sent;
                        sent += length as u64;
                        SessionInput::Input { offset, bytes }
                    }
                    _ => {
                        ended = true;
                        SessionInput::End { offset: sent }
                    }
                },
                else => std::future::pending().await,
            };
            if self.in_terminal && matches!(told, SessionInput::End { .. }) {
                continue;
            }
            if let Err(error) = input.send(told).await {
                return error;
            }
        }
    }
}
