//! A shell in a rental that outlives the page it is shown on. One task owns the process: it reads its output into a [`Ring`] and writes what
//! was typed; pages come and go and read from the ring. While a page is there, no more is read than it keeps up with; while none is, all of it,
//! so that a program goes on working.

use super::ring::Ring;
use access::{
    AccessError,
    guest::{Controls, Process},
};
use sandbox::{Exit, TerminalSize};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

/// Output that may be on its way to a page before the page has shown it. `yes` writes faster than any browser paints: beyond this the
/// program waits. A page paints this much in a fraction of a second, which is how long Ctrl-C may take to be seen.
pub(crate) const MAX_UNACKNOWLEDGED_BYTES: u64 = 1 << 20;
/// Input that may be on its way to the program before it has read it: the page keeps the rest of what was pasted.
pub(crate) const MAX_INPUT_BYTES: u64 = 256 << 10;
/// Pieces of it: each keystroke is one.
const MAX_INPUTS: usize = 4_096;
/// A shell that no page shows and that says nothing is somebody's who went home.
pub(crate) const DETACHED_LIFE: Duration = Duration::from_secs(12 * 3_600);
/// What is read of the output at once.
const PIECE: usize = 32 << 10;

/// How far a shell has come, for the page that shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The number behind the newest byte of output.
    pub(super) end: u64,
    /// Bytes of input that the program has taken.
    pub(super) taken: u64,
    /// How it ended, once it did.
    pub(super) ended: Option<String>,
    /// Which page shows it: each that comes has a higher number.
    pub(super) viewer: u64,
}

#[derive(Debug)]
struct Output {
    ring: Ring,
    /// Up to where the page that is there has shown it; `None` while none is there.
    acknowledged: Option<u64>,
    /// When somebody last saw it, or it last said something.
    last: Instant,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Shell {
    output: Mutex<Output>,
    progress: watch::Sender<Progress>,
    /// Counts what may let the reading go on.
    room: watch::Sender<u64>,
    input: mpsc::Sender<Vec<u8>>,
    /// Bytes of input accepted so far.
    accepted: Mutex<u64>,
    controls: Option<Controls>,
    cancel: CancellationToken,
}

/// Somebody types faster than the page is allowed to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooMuchInput;

impl Shell {
    /// Keeps `process` until it ends, `cancel`, or [`Shell::close`].
    pub(super) fn start(mut process: Process, cancel: CancellationToken) -> Arc<Self> {
        let (shell, typed) = Self::new(Some(process.running.controls()), cancel);
        let kept = Arc::clone(&shell);
        tokio::spawn(async move {
            let whole = async {
                kept.relay(&mut process.stdout, &mut process.stdin, typed).await;
                process.running.wait().await
            };
            // dropping the process hangs up
            let ended = kept.cancel.run_until_cancelled(whole).await;
            kept.end(ended.map_or_else(|| "closed".to_owned(), |ended| end_in_words(&ended)));
        });
        shell
    }

    fn new(controls: Option<Controls>, cancel: CancellationToken) -> (Arc<Self>, mpsc::Receiver<Vec<u8>>) {
        let (input, typed) = mpsc::channel(MAX_INPUTS);
        let output = Output { ring: Ring::default(), acknowledged: None, last: Instant::now() };
        let shell = Self {
            output: Mutex::new(output),
            progress: watch::Sender::default(),
            room: watch::Sender::default(),
            input,
            accepted: Mutex::default(),
            controls,
            cancel,
        };
        (Arc::new(shell), typed)
    }

    /// Both directions, until the output ends.
    async fn relay(
        &self,
        stdout: &mut (impl AsyncRead + Unpin),
        stdin: &mut (impl AsyncWrite + Unpin),
        typed: mpsc::Receiver<Vec<u8>>,
    ) {
        let feeding = async {
            // a program that reads no more may still have something to say
            if let Err(error) = self.feed(stdin, typed).await {
                tracing::debug!(%error, "console: a program takes no more input");
            }
            std::future::pending().await
        };
        tokio::select! {
            read = self.drain(stdout) => if let Err(error) = read {
                tracing::debug!(%error, "console: the output of a shell ended early");
            },
            () = feeding => {}
        }
    }

    async fn drain(&self, stdout: &mut (impl AsyncRead + Unpin)) -> io::Result<()> {
        let (mut piece, mut room) = (vec![0; PIECE], self.room.subscribe());
        loop {
            room.borrow_and_update();
            if self.output().is_behind() {
                // the sender lives as long as this
                let _ = room.changed().await;
                continue;
            }
            let read = stdout.read(&mut piece).await?;
            if read == 0 {
                return Ok(());
            }
            let end = self.output().push(&piece[..read]);
            self.progress.send_modify(|progress| progress.end = end);
        }
    }

    async fn feed(&self, stdin: &mut (impl AsyncWrite + Unpin), mut typed: mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
        while let Some(input) = typed.recv().await {
            stdin.write_all(&input).await?;
            stdin.flush().await?;
            self.progress.send_modify(|progress| progress.taken += input.len() as u64);
        }
        Ok(())
    }

    fn end(&self, how: String) {
        self.progress.send_modify(|progress| progress.ended = Some(how));
    }

    /// A page comes; the one before it goes. `seen` is what it has shown already: it is told from where on it is given output, and what is
    /// there now.
    pub(super) fn attach(&self, seen: u64) -> Attached {
        let mut output = self.output();
        let end = output.ring.end();
        let from = seen.clamp(output.ring.start(), end);
        output.acknowledged = Some(from);
        drop(output);
        let mut viewer = 0;
        self.progress.send_modify(|progress| {
            progress.viewer += 1;
            viewer = progress.viewer;
        });
        self.room.send_modify(|room| *room += 1);
        Attached { viewer, from, end, accepted: *self.accepted() }
    }

    /// A page goes, unless another has come meanwhile.
    pub(super) fn detach(&self, viewer: u64) {
        if self.progress.borrow().viewer == viewer {
            let mut output = self.output();
            output.acknowledged = None;
            output.last = Instant::now();
            drop(output);
            self.room.send_modify(|room| *room += 1);
        }
    }

    /// The page has shown everything before number `seen`.
    pub(super) fn acknowledge(&self, viewer: u64, seen: u64) {
        if self.progress.borrow().viewer == viewer {
            let mut output = self.output();
            let end = output.ring.end();
            output.acknowledged = output.acknowledged.map(|before| seen.clamp(before, end));
            drop(output);
            self.room.send_modify(|room| *room += 1);
        }
    }

    /// Follows how far it has come.
    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Output from number `from` on; what has left the ring is left out.
    pub(super) fn read(&self, from: u64, limit: usize) -> (u64, Vec<u8>) {
        let output = self.output();
        let from = from.max(output.ring.start());
        (from, output.ring.read(from, limit))
    }

    /// Something was typed.
    pub(super) fn write(&self, input: Vec<u8>) -> Result<(), TooMuchInput> {
        let mut accepted = self.accepted();
        *accepted += input.len() as u64;
        if *accepted - self.progress.borrow().taken > MAX_INPUT_BYTES {
            return Err(TooMuchInput);
        }
        match self.input.try_send(input) {
            Err(mpsc::error::TrySendError::Full(_)) => Err(TooMuchInput),
            // a program that has ended takes nothing
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// The page has another size.
    pub(super) async fn resize(&self, size: TerminalSize) {
        if let Some(controls) = &self.controls {
            controls.resize(size).await;
        }
    }

    /// How it ended, once it did.
    pub(super) fn ended(&self) -> Option<String> {
        self.progress.borrow().ended.clone()
    }

    /// Whether nobody has looked at it, and it has said nothing, for too long.
    pub(super) fn is_forgotten(&self, now: Instant) -> bool {
        let output = self.output();
        output.acknowledged.is_none() && now.saturating_duration_since(output.last) >= DETACHED_LIFE
    }

    /// Ends it and everything in it.
    pub(super) fn close(&self) {
        self.cancel.cancel();
    }

    fn accepted(&self) -> MutexGuard<'_, u64> {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn output(&self) -> MutexGuard<'_, Output> {
        self.output.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Output {
    fn push(&mut self, piece: &[u8]) -> u64 {
        self.ring.push(piece);
        self.last = Instant::now();
        self.ring.end()
    }

    /// Whether the page has too much before it already.
    fn is_behind(&self) -> bool {
        self.acknowledged.is_some_and(|seen| self.ring.end() - seen >= MAX_UNACKNOWLEDGED_BYTES)
    }
}

/// What a page is told that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attached {
    /// Its number.
    pub(super) viewer: u64,
    /// The number of the first byte that it is given.
    pub(super) from: u64,
    /// The number behind the last one that was there before it came: what an earlier page has answered must not be answered again.
    pub(super) end: u64,
    /// Bytes of input that were accepted before it came.
    pub(super) accepted: u64,
}

fn end_in_words(ended: &Result<Exit, AccessError>) -> String {
    match ended {
        Ok(Exit::Code { code }) => format!("exited with {code}"),
        Ok(Exit::Signal { signal }) => format!("killed by signal {signal}"),
        Ok(Exit::OutOfMemory) => "killed: out of memory".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
