//! Many askers on one connection for files. Each request is sent without waiting for the answer to the one before, and each asker gets its
//! own answer; how much may be under way is bounded.

use std::collections::VecDeque;
use std::fmt::Display;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use agent::file_protocol::{
    FileAnswer, FileError, FileOperation, FileReply, FileRequest, Handle, MAX_HANDLES, MAX_PIECE,
};
use futures::{Sink, SinkExt, Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

/// What is under way is counted in units of so many bytes of content, one more for each request.
const CONTENT_UNIT: usize = 4 * 1024;

/// Units under way: 32 MiB of content, which fill 2.5 Gbit/s at a round trip of 100 ms, and the requests themselves.
const MAX_UNDER_WAY: usize = (32 << 20) / CONTENT_UNIT + 512;

/// Requests waiting to be written: as many as can be under way, and one to close each open file, which must never wait.
const MAX_QUEUED: usize = MAX_UNDER_WAY + MAX_HANDLES;

/// Asks for files over one connection, from any number of tasks. When the last clone and the last open [`FileHandle`] are gone, the
/// connection ends.
#[derive(Clone)]
pub struct FileClient {
    shared: Arc<Shared>,
}

struct Shared {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
    handles: AtomicU32,
    ended: Arc<OnceLock<String>>,
    _attendant: AbortOnDropHandle<()>,
}

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub enum FileCallError {
    /// It could not be done.
    #[error(transparent)]
    Failed(#[from] FileError),
    /// The connection ended. What had been asked may or may not have been done.
    #[error("the connection for files ended: {0}")]
    Ended(String),
    /// The other side answered another question.
    #[error("an answer to another question about files")]
    Unexpected,
}

struct Queued {
    operation: FileOperation,
    bytes: Vec<u8>,
    asker: Option<Asker>,
}

/// Who waits for an answer.
struct Asker {
    answer: oneshot::Sender<FileReply>,
    _room: OwnedSemaphorePermit,
}

/// Requests that were sent, oldest first: answers come in this order.
type Sent = Mutex<VecDeque<(u64, Option<Asker>)>>;

impl FileClient {
    /// Over a connection in two halves.
    pub fn new<E: Display + Send + 'static>(
        requests: impl Sink<FileRequest, Error = E> + Send + 'static,
        replies: impl Stream<Item = Result<FileReply, E>> + Send + 'static,
    ) -> FileClient {
        let (queue, queued) = mpsc::channel(MAX_QUEUED);
        let ended = Arc::new(OnceLock::new());
        let attendant = tokio::spawn(attend(requests, replies, queued, ended.clone()));
        let shared = Shared {
            queue,
            room: Arc::new(Semaphore::new(MAX_UNDER_WAY)),
            handles: AtomicU32::new(0),
            ended,
            _attendant: AbortOnDropHandle::new(attendant),
        };
        FileClient { shared: Arc::new(shared) }
    }

    /// Asks, and gives the answer to be waited for. Requests are carried out in the order in which this is called; it waits only while too
    /// much is under way.
    pub async fn send(&self, operation: FileOperation, bytes: Vec<u8>) -> Result<Answer, FileCallError> {
        let ended = || self.ended();
        let units = units(&operation, &bytes);
        let room = self.shared.room.clone().acquire_many_owned(units).await.map_err(|_| ended())?;
        let (answer, waiting) = oneshot::channel();
        let asker = Some(Asker { answer, _room: room });
        self.shared.queue.send(Queued { operation, bytes, asker }).await.map_err(|_| ended())?;
        Ok(Answer { waiting, client: self.clone() })
    }

    /// Asks and waits for the answer.
    pub async fn call(&self, operation: FileOperation) -> Result<(FileAnswer, Vec<u8>), FileCallError> {
        self.send(operation, Vec::new()).await?.await
    }

    /// A name for a file to be opened.
    pub fn handle(&self) -> FileHandle {
        let number = self.shared.handles.fetch_add(1, Ordering::Relaxed);
        FileHandle { client: self.clone(), number, open: true }
    }

    fn ended(&self) -> FileCallError {
        FileCallError::Ended(self.shared.ended.get().cloned().unwrap_or_else(|| "it was closed".into()))
    }
}

/// An answer to come. Dropping it does not take the request back.
pub struct Answer {
    waiting: oneshot::Receiver<FileReply>,
    client: FileClient,
}

impl Future for Answer {
    type Output = Result<(FileAnswer, Vec<u8>), FileCallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Poll::Ready(match ready!(Pin::new(&mut self.waiting).poll(cx)) {
            Ok(FileReply { answer: FileAnswer::Failed(error), .. }) => Err(error.into()),
            Ok(FileReply { answer, bytes, .. }) => Ok((answer, bytes)),
            Err(_) => Err(self.client.ended()),
        })
    }
}

/// The name of an open file or directory, which is closed when this is dropped.
pub struct FileHandle {
    client: FileClient,
    number: Handle,
    open: bool,
}

impl FileHandle {
    /// What requests call it.
    pub fn number(&self) -> Handle {
        self.number
    }

    /// The connection it is good for.
    pub fn client(&self) -> &FileClient {
        &self.client
    }

    /// Closes it and hears how that went.
    pub async fn close(mut self) -> Result<(), FileCallError> {
        let answer = self.client.send(FileOperation::Close { handle: self.number }, Vec::new()).await?;
        self.open = false;
        answer.await.map(|_| ())
    }
}

impl Drop for FileHandle {
    fn drop(&mut self) {
        if self.open {
            let operation = FileOperation::Close { handle: self.number };
            // The queue has room for one of each open file. Where it has none, the connection is over and all is closed.
            let _ = self.client.shared.queue.try_send(Queued { operation, bytes: Vec::new(), asker: None });
        }
    }
}

/// How much of the bound a request takes while it is under way, both ways together.
fn units(operation: &FileOperation, bytes: &[u8]) -> u32 {
    let content = match operation {
        FileOperation::Read { length, .. } | FileOperation::Fetch { longest: length, .. } => *length as usize,
        FileOperation::List { .. } => MAX_PIECE,
        _ => bytes.len(),
    };
    u32::try_from(content.min(MAX_PIECE).div_ceil(CONTENT_UNIT)).unwrap_or_default() + 1
}

/// Writes and reads until either is over, which ends both.
async fn attend<E: Display>(
    requests: impl Sink<FileRequest, Error = E>,
    replies: impl Stream<Item = Result<FileReply, E>>,
    queued: mpsc::Receiver<Queued>,
    ended: Arc<OnceLock<String>>,
) {
    let sent = Sent::default();
    let why = tokio::select! {
        why = write(requests, queued, &sent) => why,
        why = read(replies, &sent) => why,
    };
    // Before those who wait hear that there will be no answer.
    let _ = ended.set(why);
}

async fn write<E: Display>(
    requests: impl Sink<FileRequest, Error = E>,
    mut queued: mpsc::Receiver<Queued>,
    sent: &Sent,
) -> String {
    let mut requests = pin!(requests);
    for number in 0.. {
        let next = match queued.try_recv() {
            Ok(next) => next,
            Err(_) => {
                if let Err(error) = requests.flush().await {
                    return error.to_string();
                }
                let Some(next) = queued.recv().await else { break };
                next
            }
        };
        lock(sent).push_back((number, next.asker));
        if let Err(error) = requests.feed(FileRequest { number, operation: next.operation, bytes: next.bytes }).await {
            return error.to_string();
        }
    }
    "it was closed here".into()
}

async fn read<E: Display>(replies: impl Stream<Item = Result<FileReply, E>>, sent: &Sent) -> String {
    let mut replies = pin!(replies);
    while let Some(reply) = replies.next().await {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => return error.to_string(),
        };
        let oldest = lock(sent).pop_front();
        let Some((_, asker)) = oldest.filter(|(number, _)| *number == reply.number) else {
            return "an answer that nobody asked for".into();
        };
        if let Some(asker) = asker {
            // One that no longer waits has lost interest.
            let _ = asker.answer.send(reply);
        }
    }
    "the other side closed it".into()
}

fn lock(sent: &Sent) -> MutexGuard<'_, VecDeque<(u64, Option<Asker>)>> {
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}
