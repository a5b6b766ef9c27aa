//! The node's end of the agent's socket. The socket is found through its directory's descriptor, because the path of a data directory
//! may be longer than a socket's address can hold.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::protocol::{Exit, Frame, HEADER, MAX_DATA, Reply, Request, Unfetched, parse_header};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::handover::send;
use crate::{ByteReader, Error, LogEvent, LogStream, SandboxId, Stored};

/// The socket's name in the sandbox's state directory.
pub(crate) const SOCKET: &str = "agent.sock";

/// How long the agent may take over anything that does not wait for the renter's program. It is generous: a machine under full load
/// answers late, and giving up would end a rental.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes read from the agent at once.
const READ: usize = 64 * 1024;

/// Where an agent can be reached.
#[derive(Clone)]
pub(crate) struct Client {
    id: SandboxId,
    directory: Arc<OwnedFd>,
}

/// One connection, which carries one request.
pub(crate) struct Connection {
    pub(crate) id: SandboxId,
    pub(crate) reader: FrameReader,
    pub(crate) writer: OwnedWriteHalf,
}

/// The agent's frames.
pub(crate) struct FrameReader {
    socket: OwnedReadHalf,
    /// What has been read, and how much of it has been given out.
    buffer: Vec<u8>,
    given: usize,
}

impl FrameReader {
    fn new(socket: OwnedReadHalf) -> FrameReader {
        FrameReader { socket, buffer: Vec::new(), given: 0 }
    }

    /// The next frame. The agent never closes in the middle of an answer unless it died. May be given up and called again.
    pub(crate) async fn next(&mut self) -> io::Result<Frame> {
        loop {
            if let Some(frame) = self.take()? {
                return Ok(frame);
            }
            self.buffer.drain(..self.given);
            self.given = 0;
            self.buffer.reserve(READ);
            if self.socket.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// The first frame that has not been given out, if it is whole.
    fn take(&mut self) -> io::Result<Option<Frame>> {
        let rest = &self.buffer[self.given..];
        let Some(header) = rest.first_chunk::<HEADER>() else { return Ok(None) };
        let (kind, length) = parse_header(*header)?;
        let Some(payload) = rest.get(HEADER..HEADER + length) else { return Ok(None) };
        let frame = Frame::decode(kind, payload.into())?;
        self.given += HEADER + length;
        Ok(Some(frame))
    }

    /// The connection's reading half, for other frames than these. Only between an answer and what is asked next.
    pub(crate) fn into_inner(self) -> OwnedReadHalf {
        self.socket
    }
}

impl Client {
    /// For the agent whose socket is in this directory.
    pub(crate) fn new(id: &SandboxId, directory: &Path) -> io::Result<Client> {
        use rustix::fs::{Mode, OFlags, open};
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(directory, flags, Mode::empty())?;
        Ok(Client { id: id.clone(), directory: Arc::new(directory) })
    }

    /// Connects and sends a request.
    pub(crate) async fn send(&self, request: Request) -> Result<Connection, Error> {
        self.open(request, &[]).await
    }

    /// A request, its answer, and the connection for what follows.
    pub(crate) async fn request(&self, request: Request) -> Result<(Reply, Connection), Error> {
        self.hand_over(request, Vec::new()).await
    }

    /// The same with descriptors.
    pub(crate) async fn hand_over(
        &self,
        request: Request,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(Reply, Connection), Error> {
        let mut connection = self.open(request, &descriptors).await?;
        // Kept open here, they would hide from us that their other end is closed.
        drop(descriptors);
        let reply = timeout(PATIENCE, connection.reply()).await.map_err(|_| self.late("answer"))??;
        Ok((reply, connection))
    }

    async fn open(&self, request: Request, descriptors: &[OwnedFd]) -> Result<Connection, Error> {
        let path = format!("/proc/self/fd/{}/{SOCKET}", self.directory.as_raw_fd());
        let connected = timeout(PATIENCE, UnixStream::connect(path)).await.map_err(|_| self.late("accept"))?;
        let mut socket = connected.map_err(|error| self.broken(error))?;
        // A request too long for its frame is the caller's: a command line above the bound.
        let bytes = Frame::Request(request).encode().map_err(|error| Error::Refused(error.to_string()))?;
        let sent = send(&mut socket, &bytes, descriptors).await;
        let (reader, writer) = socket.into_split();
        let mut connection = Connection { id: self.id.clone(), reader: FrameReader::new(reader), writer };
        match sent {
            Ok(()) => Ok(connection),
            // An agent that serves too many already says so and closes without reading.
            Err(error) => Err(connection.next().await.err().unwrap_or_else(|| self.broken(error))),
        }
    }

    /// A request with one answer, soon.
    pub(crate) async fn ask(&self, request: Request) -> Result<Reply, Error> {
        self.ask_within(request, PATIENCE).await
    }

    /// A request with one answer, within a time of its own.
    pub(crate) async fn ask_within(&self, request: Request, limit: Duration) -> Result<Reply, Error> {
        let mut connection = self.send(request).await?;
        let seconds = limit.as_secs();
        let late = Error::Timeout { id: self.id.to_string(), what: "answer", seconds };
        timeout(limit, connection.reply()).await.map_err(|_| late)?
    }

    /// Waits for the end of the main job, as long as it takes.
    pub(crate) async fn wait(&self) -> Result<Exit, Error> {
        match self.send(Request::Wait).await?.reply().await? {
            Reply::Ended { exit } => Ok(exit),
            other => Err(unexpected(&other)),
        }
    }

    /// The main job's output.
    pub(crate) async fn logs(&self, from: u64, follow: bool) -> Result<LogStream, Error> {
        let connection = self.send(Request::Logs { from, follow }).await?;
        let events = futures::stream::unfold(Some(connection), |connection| async move {
            let mut connection = connection?;
            match connection.next().await {
                Ok(Frame::Record(record)) => Some((Ok(LogEvent::Record(record)), Some(connection))),
                Ok(Frame::Gap { from, to }) => Some((Ok(LogEvent::Gap { from, to }), Some(connection))),
                Ok(Frame::End) => None,
                Ok(other) => Some((Err(unexpected(&other)), None)),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(events.boxed())
    }

    /// Sends a tar stream to be unpacked.
    pub(crate) async fn put(&self, directory: &str, mut tar: ByteReader) -> Result<Stored, Error> {
        let mut connection = self.send(Request::Put { directory: directory.into() }).await?;
        let mut buffer = vec![0; MAX_DATA];
        loop {
            let n = tar.read(&mut buffer).await.map_err(Error::Upload)?;
            let frame = if n == 0 { Frame::End } else { Frame::Data(buffer[..n].to_vec()) };
            let bytes = frame.encode().map_err(|error| Error::Refused(error.to_string()))?;
            // A refused write means that the agent has answered already; its answer says more than the broken pipe.
            if connection.writer.write_all(&bytes).await.is_err() || n == 0 {
                break;
            }
        }
        match connection.reply().await? {
            Reply::Stored { entries, bytes } => Ok(Stored { entries, bytes }),
            other => Err(unexpected(&other)),
        }
    }

    /// What under a directory nobody has fetched.
    pub(crate) async fn unfetched(&self, directory: &str) -> Result<Unfetched, Error> {
        match self.ask(Request::Unfetched { directory: directory.into() }).await? {
            Reply::Unfetched(found) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    /// A request that is answered by a tar stream.
    pub(crate) async fn fetch(&self, request: Request) -> Result<ByteReader, Error> {
        let mut connection = self.send(request).await?;
        // The first frame is read here, so that a refusal is an error of its own and not of the stream.
        let first = connection.next().await?;
        let chunks = futures::stream::unfold((Some(first), connection), |(first, mut connection)| async move {
            let frame = match first {
                Some(frame) => Ok(frame),
                None => connection.next().await,
            };
            let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
            match frame {
                Ok(Frame::Data(bytes)) => Some((Ok(io::Cursor::new(bytes)), (None, connection))),
                Ok(Frame::End) => None,
                // The stream ends at an error, so the connection is not read again.
                Ok(_) => Some((Err(ended()), (Some(Frame::End), connection))),
                Err(error) => Some((Err(io::Error::other(error)), (Some(Frame::End), connection))),
            }
        });
        Ok(Box::new(tokio_util::io::StreamReader::new(chunks.boxed())))
    }

    fn late(&self, what: &'static str) -> Error {
        Error::Timeout { id: self.id.to_string(), what, seconds: PATIENCE.as_secs() }
    }

    fn broken(&self, source: io::Error) -> Error {
        broken(&self.id, source)
    }
}

impl Connection {
    /// The next frame, a failure as an error.
    pub(crate) async fn next(&mut self) -> Result<Frame, Error> {
        match self.reader.next().await {
            Ok(Frame::Failure(failure)) => Err(failure.into()),
            Ok(frame) => Ok(frame),
            Err(source) => Err(broken(&self.id, source)),
        }
    }

    async fn reply(&mut self) -> Result<Reply, Error> {
        match self.next().await? {
            Frame::Reply(reply) => Ok(reply),
            other => Err(unexpected(&other)),
        }
    }
}

/// The sandbox is gone when nobody listens or an answer breaks off.
pub(crate) fn broken(id: &SandboxId, source: io::Error) -> Error {
    use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotFound, UnexpectedEof};
    match source.kind() {
        BrokenPipe | ConnectionRefused | ConnectionReset | NotFound | UnexpectedEof => Error::Gone(id.to_string()),
        _ => Error::Connection { id: id.to_string(), source },
    }
}

/// An answer to another question: the two programs do not fit together.
pub(crate) fn unexpected(answer: &impl std::fmt::Debug) -> Error {
    let mut text = format!("an answer to another question: {answer:?}");
    text.truncate(text.char_indices().nth(200).map_or(text.len(), |(at, _)| at));
    Error::Refused(text)
}
