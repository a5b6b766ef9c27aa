//! Carries a process's streams over one connection after another, until it has ended or is given up.

use super::RETRY_PAUSE;
use crate::{AccessError, door::Door, end::exit_from_proto};
use network::{FrameError, read_message, write_message};
use sandbox::{ByteStream, Exit, INPUT_WINDOW, SessionKey};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, WriteHalf, split},
    sync::{Notify, mpsc},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use wire::{
    MAX_DATA_BYTES, MAX_MESSAGE_BYTES,
    proto::{self, process_input, process_output, session_header::Kind},
};

/// Bytes read at once: a frame of full size in one go, and a key's in one too.
const BUFFER: usize = 2 * MAX_DATA_BYTES;
/// Output that is acknowledged together: an eighth of what the agent keeps of a terminal's, so that it hardly waits for a word about it.
const ACKNOWLEDGE_STEP: u64 = 64 * 1024;
/// How long less than that may wait for its word. An agent short of memory keeps little, and the process waits until it is told.
const ACKNOWLEDGE_PAUSE: Duration = Duration::from_millis(20);
/// How long a broken connection is tried again: as long as the agent waits before it hangs up.
const RESUME_LIMIT: Duration = Duration::from_secs(600);
/// The longest pause between two tries.
const MAX_RETRY_PAUSE: Duration = Duration::from_secs(5);
/// How long a process that nobody holds any more is tried to be told: then the agent's own limit ends it.
const HANG_UP_LIMIT: Duration = Duration::from_secs(30);
/// How long the last word may take: the process has ended and its output is here, so nothing is lost without it.
const FAREWELL: Duration = Duration::from_secs(2);

/// The task's ends of what the process's user holds.
pub(super) struct Ends {
    pub(super) input: DuplexStream,
    pub(super) output: DuplexStream,
    pub(super) errors: DuplexStream,
    pub(super) orders: mpsc::Receiver<process_input::Frame>,
    pub(super) hang_up: CancellationToken,
}

/// See the module.
pub(super) struct Pump {
    door: Arc<dyn Door>,
    key: SessionKey,
    outlets: Outlets,
    inlets: Inlets,
    shared: Shared,
}

/// Where output goes.
struct Outlets {
    output: DuplexStream,
    errors: DuplexStream,
}

/// Where input comes from.
struct Inlets {
    input: DuplexStream,
    orders: mpsc::Receiver<process_input::Frame>,
    /// An order that was taken and not yet sent for sure; repeated on the next connection.
    order: Option<process_input::Frame>,
    hang_up: CancellationToken,
}

/// What both directions know.
#[derive(Default)]
struct Shared {
    progress: Mutex<Progress>,
    /// There is more to be said: an acknowledgement, or input for which there is room now.
    stirred: Notify,
}

#[derive(Default)]
struct Progress {
    /// Bytes of output that were passed on.
    seen: u64,
    /// Bytes of output that the process's side was told of.
    acknowledged: u64,
    /// Bytes of input that the process has taken.
    taken: u64,
    /// The input after those.
    waiting: VecDeque<u8>,
    /// There will be no more.
    input_ended: bool,
    /// The process has ended.
    over: bool,
}

impl Shared {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Progress {
    /// Input before `taken` need not be kept any longer.
    fn take(&mut self, taken: u64) -> Result<(), AccessError> {
        let more = usize::try_from(taken.saturating_sub(self.taken)).unwrap_or(usize::MAX);
        if more > self.waiting.len() {
            return Err(AccessError::Protocol("input was taken that was never sent"));
        }
        self.waiting.drain(..more);
        self.taken += more as u64;
        Ok(())
    }

    /// Input from an offset on: at most one frame of it.
    fn input_from(&self, offset: u64) -> Vec<u8> {
        let skip = usize::try_from(offset.saturating_sub(self.taken)).unwrap_or(usize::MAX).min(self.waiting.len());
        self.waiting.range(skip..).take(MAX_DATA_BYTES).copied().collect()
    }

    /// Where the input that is here ends.
    fn input_end(&self) -> u64 {
        self.taken + self.waiting.len() as u64
    }

    fn room(&self) -> usize {
        usize::try_from(INPUT_WINDOW).unwrap_or(usize::MAX).saturating_sub(self.waiting.len())
    }

    /// Output of which the process's side does not know yet that it was passed on.
    fn unacknowledged(&self) -> u64 {
        self.seen - self.acknowledged
    }
}

impl Pump {
    pub(super) fn new(door: Arc<dyn Door>, key: SessionKey, ends: Ends) -> Self {
        let Ends { input, output, errors, orders, hang_up } = ends;
        let inlets = Inlets { input, orders, order: None, hang_up };
        Self { door, key, outlets: Outlets { output, errors }, inlets, shared: Shared::default() }
    }

    /// Carries on until the process has ended, or cannot be reached for too long.
    pub(super) async fn run(mut self, mut stream: ByteStream) -> Result<Exit, AccessError> {
        loop {
            match self.converse(stream).await {
                Err(error) if error.is_passing() => {
                    tracing::debug!(%error, "the connection to a process broke");
                    stream = self.attach().await?;
                }
                outcome => return outcome,
            }
        }
    }

    /// One connection, to its end.
    async fn converse(&mut self, stream: ByteStream) -> Result<Exit, AccessError> {
        let Self { outlets, inlets, shared, .. } = self;
        let (reader, writer) = split(stream);
        let mut reader = BufReader::with_capacity(BUFFER, reader);
        match next(&mut reader).await? {
            process_output::Frame::Taken(taken) => shared.progress().take(taken)?,
            _ => return Err(AccessError::Protocol("the first word of a process must be what it has taken")),
        }
        let sending = inlets.send(shared, writer);
        tokio::pin!(sending);
        tokio::select! {
            exit = outlets.receive(shared, reader) => {
                let exit = exit?;
                shared.progress().over = true;
                shared.stirred.notify_one();
                let _ = timeout(FAREWELL, sending).await;
                Ok(exit)
            }
            sent = &mut sending => Err(sent.err().unwrap_or(AccessError::Truncated)),
        }
    }

    /// A new connection to the same process.
    async fn attach(&mut self) -> Result<ByteStream, AccessError> {
        let (began, mut pause) = (Instant::now(), RETRY_PAUSE);
        loop {
            let seen = self.shared.progress().seen;
            let attach = proto::Attach { key: self.key.to_bytes().to_vec(), seen };
            let limit = if self.inlets.hang_up.is_cancelled() { HANG_UP_LIMIT } else { RESUME_LIMIT };
            match self.door.open(Kind::Attach(attach)).await {
                Err(error) if error.is_passing() && began.elapsed() < limit => sleep(pause).await,
                opened => return opened,
            }
            pause = MAX_RETRY_PAUSE.min(pause * 2);
        }
    }
}

impl Outlets {
    /// Passes output on until the process has ended.
    async fn receive(&mut self, shared: &Shared, mut reader: impl AsyncRead + Unpin) -> Result<Exit, AccessError> {
        loop {
            match next(&mut reader).await? {
                process_output::Frame::Data(data) => self.pass(shared, &data).await?,
                process_output::Frame::Taken(taken) => {
                    shared.progress().take(taken)?;
                    shared.stirred.notify_one();
                }
                process_output::Frame::End(end) => {
                    // Nobody may be there any more to whom this is the end.
                    let _ = (self.output.shutdown().await, self.errors.shutdown().await);
                    return exit_from_proto(&end);
                }
            }
        }
    }

    async fn pass(&mut self, shared: &Shared, frame: &proto::Bytes) -> Result<(), AccessError> {
        let seen = shared.progress().seen;
        if frame.offset > seen {
            return Err(AccessError::Protocol("output of a process is missing"));
        }
        // What is repeated was passed on already.
        let again = usize::try_from(seen - frame.offset).unwrap_or(usize::MAX).min(frame.data.len());
        let outlet = if frame.stderr { &mut self.errors } else { &mut self.output };
        let mut fresh = frame.data.get(again..).unwrap_or_default();
        while !fresh.is_empty() {
            // Where nobody reads any more it is dropped, as a closed pipe would.
            let passed = outlet.write(fresh).await.unwrap_or(fresh.len());
            fresh = fresh.get(passed..).unwrap_or_default();
            let mut progress = shared.progress();
            let before = progress.unacknowledged();
            progress.seen += passed as u64;
            if before == 0 || progress.unacknowledged() >= ACKNOWLEDGE_STEP {
                shared.stirred.notify_one();
            }
        }
        Ok(())
    }
}

impl Inlets {
    /// Sends what the process's user gives and acknowledges what was passed on, until the process has ended.
    async fn send(&mut self, shared: &Shared, mut writer: WriteHalf<ByteStream>) -> Result<(), AccessError> {
        let (mut sent, mut end_sent, mut hung_up) = (shared.progress().taken, false, false);
        let mut buffer = vec![0; MAX_DATA_BYTES];
        // When what was passed on is to be acknowledged though it is little.
        let mut due = None;
        loop {
            if let Some(order) = self.order.clone() {
                write(&mut writer, order).await?;
                self.order = None;
            }
            sent = send_input(shared, &mut writer, sent).await?;
            let (seen, unacknowledged, input_ended, room, over) = {
                let progress = shared.progress();
                let ended = progress.input_ended.then(|| progress.input_end());
                let room = progress.room().min(buffer.len());
                (progress.seen, progress.unacknowledged(), ended, room, progress.over)
            };
            if let Some(end) = input_ended.filter(|_| !end_sent) {
                write(&mut writer, process_input::Frame::End(end)).await?;
                end_sent = true;
            }
            due = (unacknowledged > 0).then(|| due.unwrap_or_else(|| Instant::now() + ACKNOWLEDGE_PAUSE));
            if unacknowledged >= ACKNOWLEDGE_STEP || due.is_some_and(|due| due <= Instant::now()) {
                write(&mut writer, process_input::Frame::Acknowledged(seen)).await?;
                shared.progress().acknowledged = seen;
                due = None;
                // More may have been passed on meanwhile.
                continue;
            }
            if over {
                // The end has arrived, and all before it: the process need not be remembered.
                write(&mut writer, process_input::Frame::HangUp(proto::HangUp {})).await?;
                return Ok(writer.shutdown().await.map_err(FrameError::from)?);
            }
            tokio::select! {
                biased;
                () = self.hang_up.cancelled(), if !hung_up => {
                    write(&mut writer, process_input::Frame::HangUp(proto::HangUp {})).await?;
                    hung_up = true;
                }
                Some(order) = self.orders.recv() => self.order = Some(order),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                read = self.input.read(&mut buffer[..room]), if room > 0 && input_ended.is_none() => {
                    let read = read.unwrap_or(0);
                    let mut progress = shared.progress();
                    progress.input_ended = read == 0;
                    progress.waiting.extend(&buffer[..read]);
                }
                // Last, since output may stir at any time and what is typed should not wait for it.
                () = shared.stirred.notified() => {}
            }
        }
    }
}

/// Sends the input that is here and was not sent yet. Answers up to where it is sent.
async fn send_input(shared: &Shared, writer: &mut WriteHalf<ByteStream>, mut sent: u64) -> Result<u64, AccessError> {
    loop {
        let data = shared.progress().input_from(sent);
        if data.is_empty() {
            return Ok(sent);
        }
        let (offset, length) = (sent, data.len() as u64);
        write(writer, process_input::Frame::Data(proto::Bytes { offset, data, stderr: false })).await?;
        sent += length;
    }
}

async fn write(writer: &mut WriteHalf<ByteStream>, frame: process_input::Frame) -> Result<(), AccessError> {
    Ok(write_message(writer, &proto::ProcessInput { frame: Some(frame) }, MAX_MESSAGE_BYTES).await?)
}

async fn next(reader: &mut (impl AsyncRead + Unpin)) -> Result<process_output::Frame, AccessError> {
    let message: Option<proto::ProcessOutput> = read_message(reader, MAX_MESSAGE_BYTES).await?;
    message.and_then(|message| message.frame).ok_or(AccessError::Truncated)
}
