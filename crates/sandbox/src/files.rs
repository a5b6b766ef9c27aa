//! Files of a sandbox, asked for by number over one connection to its agent: the connection in two halves, for whoever passes requests and
//! replies on as they are. [`crate::FileClient`] is for whoever asks itself.

use std::io;
use std::pin::Pin;

use agent::file_protocol::{FileReply, FileRequest};
use agent::protocol::{Frame, HEADER, Reply, Request, file_request_head, parse_header};
use futures::stream::{BoxStream, StreamExt};
use futures::{Sink, SinkExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::bytes::{Buf, BytesMut};
use tokio_util::codec::{Decoder, Encoder, FramedRead, FramedWrite};

use crate::client::{Client, broken, unexpected};
use crate::{Error, SandboxId};

/// Bytes gathered before they are written, and room for what comes: a frame with a whole piece of a file, and some besides.
const BUFFER: usize = 128 * 1024;

/// Where requests go. Feeding many and flushing once is cheaper than sending each.
pub type FileRequests = Pin<Box<dyn Sink<FileRequest, Error = Error> + Send>>;

/// Where the replies come from, in the order of the requests. Whoever sends requests without taking replies is held up.
pub type FileReplies = BoxStream<'static, Result<FileReply, Error>>;

/// A connection for requests about files. It ends when both halves are dropped; what was opened over it is closed then.
pub struct FileChannel {
    /// To the sandbox.
    pub requests: FileRequests,
    /// From the sandbox.
    pub replies: FileReplies,
}

impl FileChannel {
    /// Over a connection to whatever carries requests out as the agent of a sandbox does, when it is ready to.
    pub fn over(
        reader: impl AsyncRead + Send + Unpin + 'static,
        writer: impl AsyncWrite + Send + Unpin + 'static,
        id: &SandboxId,
    ) -> FileChannel {
        let (for_requests, for_replies) = (id.clone(), id.clone());
        let mut requests = FramedWrite::new(writer, Frames);
        requests.set_backpressure_boundary(BUFFER);
        let replies = FramedRead::with_capacity(reader, Frames, BUFFER);
        FileChannel {
            requests: Box::pin(requests.sink_map_err(move |error| broken(&for_requests, error))),
            replies: replies.map(move |reply| reply.map_err(|error| broken(&for_replies, error))).boxed(),
        }
    }
}

impl Client {
    /// A connection for requests about files.
    pub(crate) async fn files(&self) -> Result<FileChannel, Error> {
        let mut connection = self.send(Request::Files).await?;
        match connection.next().await? {
            Frame::Reply(Reply::Done) => {}
            other => return Err(unexpected(&other)),
        }
        Ok(FileChannel::over(connection.reader.into_inner(), connection.writer, &connection.id))
    }
}

/// The agent's frames, of those about files.
struct Frames;

impl Encoder<FileRequest> for Frames {
    type Error = io::Error;

    fn encode(&mut self, request: FileRequest, out: &mut BytesMut) -> io::Result<()> {
        let head = file_request_head(&request)?;
        out.reserve(head.len() + request.bytes.len());
        out.extend_from_slice(&head);
        out.extend_from_slice(&request.bytes);
        Ok(())
    }
}

impl Decoder for Frames {
    type Item = FileReply;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<FileReply>> {
        let Some(header) = from.first_chunk::<HEADER>() else { return Ok(None) };
        let (kind, length) = parse_header(*header)?;
        if from.len() < HEADER + length {
            from.reserve(HEADER + length - from.len());
            return Ok(None);
        }
        let decoded = Frame::decode(kind, from[HEADER..HEADER + length].into())?;
        from.advance(HEADER + length);
        match decoded {
            Frame::FileReply(reply) => Ok(Some(reply)),
            Frame::Failure(failure) => Err(io::Error::other(Error::from(failure))),
            other => Err(io::Error::other(unexpected(&other))),
        }
    }
}
