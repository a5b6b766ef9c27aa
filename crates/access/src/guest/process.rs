//! The renter's end of a process in the sandbox: three streams, and a task that carries them over a connection which may break. Both sides
//! count bytes, so that a connection taken up again goes on exactly where the last one stopped.

mod pump;

use crate::{AccessError, door::Door};
use pump::{Ends, Pump};
use sandbox::{ByteReader, ByteWriter, Exit, SessionKey, TerminalSize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use tokio::{
    io::duplex,
    sync::{mpsc, oneshot},
    time::{Instant, sleep},
};
use tokio_util::sync::{CancellationToken, DropGuard};
use wire::proto::{self, session_header::Kind};

/// What a stream holds between its user and the task: two data frames, so that neither waits for the other at each.
const PIPE: usize = 2 * wire::MAX_DATA_BYTES;
/// Sizes and signals that wait to be sent; a user who gives more waits.
const ORDERS: usize = 16;
/// How long a start is tried again while its provider or daemon comes back: what a person waits for at a prompt.
const START_LIMIT: Duration = Duration::from_secs(10);
/// The pause before a connection is tried again.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// A program to be run beside the job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    /// The program and its arguments; empty for the login shell.
    pub argv: Vec<String>,
    /// Environment beside the sandbox's own.
    pub env: BTreeMap<String, String>,
    /// The working directory inside; the job's unless given.
    pub cwd: Option<String>,
    /// Run it in a terminal, which is then its input and both its outputs.
    pub terminal: Option<TerminalSize>,
}

/// A process in the sandbox. Its outputs are one stream on the wire: both are to be read, or the one that is not holds up the other.
pub struct Process {
    /// What it reads. Shut down or dropped, that is the end of its input.
    pub stdin: ByteWriter,
    /// What it writes, or what its terminal shows.
    pub stdout: ByteReader,
    /// Its other output; ends with it in a terminal.
    pub stderr: ByteReader,
    /// Its life.
    pub running: Running,
}

/// The life of a process. Dropped, the process is hung up, with everything in its session.
pub struct Running {
    controls: Controls,
    exit: oneshot::Receiver<Result<Exit, AccessError>>,
    _hang_up: DropGuard,
}

/// What can be told to a process while its streams are in use.
#[derive(Clone, Debug)]
pub struct Controls {
    orders: mpsc::Sender<proto::process_input::Frame>,
    hang_up: CancellationToken,
}

impl Process {
    /// Starts a program. A start whose answer was lost is repeated under the same key, so that it runs once.
    pub(super) async fn start(door: Arc<dyn Door>, program: Program) -> Result<Self, AccessError> {
        let key = SessionKey::from(rand::random::<[u8; 16]>());
        let Program { argv, env, cwd, terminal } = program;
        let exec = proto::Exec {
            key: key.to_bytes().to_vec(),
            argv,
            env,
            cwd: cwd.unwrap_or_default(),
            terminal: terminal.map(size_to_proto),
        };
        let until = Instant::now() + START_LIMIT;
        let stream = loop {
            match door.open(Kind::Exec(exec.clone())).await {
                Err(error) if error.is_passing() && Instant::now() < until => sleep(RETRY_PAUSE).await,
                opened => break opened?,
            }
        };
        let ((stdin, input), (output, stdout), (errors, stderr)) = (duplex(PIPE), duplex(PIPE), duplex(PIPE));
        let (orders, ordered) = mpsc::channel(ORDERS);
        let (ended, exit) = oneshot::channel();
        let hang_up = CancellationToken::new();
        let controls = Controls { orders, hang_up: hang_up.clone() };
        let ends = Ends { input, output, errors, orders: ordered, hang_up: hang_up.clone() };
        let pump = Pump::new(door, key, ends);
        // It outlives the process's handle by the moment that hanging up takes.
        tokio::spawn(async move { drop(ended.send(pump.run(stream).await)) });
        Ok(Self {
            stdin: Box::new(stdin),
            stdout: Box::new(stdout),
            stderr: Box::new(stderr),
            running: Running { controls, exit, _hang_up: hang_up.drop_guard() },
        })
    }
}

impl Running {
    /// A handle for sizes and signals, to be used beside the streams.
    pub fn controls(&self) -> Controls {
        self.controls.clone()
    }

    /// How it ended, once all it wrote is in the streams. To be called once.
    pub async fn wait(&mut self) -> Result<Exit, AccessError> {
        (&mut self.exit).await.unwrap_or(Err(AccessError::Interrupted))
    }
}

impl Controls {
    /// Changes the size of its terminal.
    pub async fn resize(&self, size: TerminalSize) {
        self.order(proto::process_input::Frame::Resize(size_to_proto(size))).await;
    }

    /// Sends a signal to its process group, or to the one in the foreground of its terminal.
    pub async fn signal(&self, signal: i32) {
        self.order(proto::process_input::Frame::Signal(signal.unsigned_abs())).await;
    }

    /// Ends it and everything in its session.
    pub fn hang_up(&self) {
        self.hang_up.cancel();
    }

    async fn order(&self, order: proto::process_input::Frame) {
        // A process that has ended takes none, and nothing is lost by that.
        let _ = self.orders.send(order).await;
    }
}

fn size_to_proto(size: TerminalSize) -> proto::TerminalSize {
    proto::TerminalSize { columns: size.columns.into(), rows: size.rows.into() }
}
