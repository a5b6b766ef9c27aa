//! The codec of the request protocols. A message that is too long or unreadable is not an error of the stream here but a value, so
//! that the other side can be told what was wrong with it and the connection lives on.

use crate::frame::{FrameError, read_message, write_message};
use futures::{AsyncRead, AsyncWrite};
use libp2p::{StreamProtocol, request_response};
use prost::Message;
use std::{io, marker::PhantomData};
use tokio::io::AsyncReadExt;
use tokio_util::compat::{FuturesAsyncReadCompatExt, FuturesAsyncWriteCompatExt};

/// How much of an oversized request is read and thrown away before it is answered: a sender that is still writing would otherwise see a
/// reset stream in place of the answer. More than this is not worth a polite answer.
const DRAINED: u64 = 1 << 20;

/// What was wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Longer than the protocol allows.
    TooLong,
    /// Not the protobuf message that belongs here.
    Malformed,
}

/// A message, or what was wrong with it. Only whole messages are ever sent.
pub(crate) type Checked<M> = Result<M, Fault>;

/// Requests `Q` of at most `request_limit` bytes, answers `A` of at most `response_limit`.
pub(crate) struct ProstCodec<Q, A> {
    request_limit: usize,
    response_limit: usize,
    messages: PhantomData<fn() -> (Q, A)>,
}

impl<Q, A> ProstCodec<Q, A> {
    pub(crate) const fn new(request_limit: usize, response_limit: usize) -> Self {
        Self { request_limit, response_limit, messages: PhantomData }
    }
}

impl<Q, A> Clone for ProstCodec<Q, A> {
    fn clone(&self) -> Self {
        Self::new(self.request_limit, self.response_limit)
    }
}

impl<Q, A> request_response::Codec for ProstCodec<Q, A>
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    type Protocol = StreamProtocol;
    type Request = Checked<Q>;
    type Response = Checked<A>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Checked<Q>>
    where
        T: AsyncRead + Unpin + Send,
    {
        checked(io, self.request_limit).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Checked<A>>
    where
        T: AsyncRead + Unpin + Send,
    {
        checked(io, self.response_limit).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Checked<Q>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_whole(io, request, self.request_limit).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, response: Checked<A>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write_whole(io, response, self.response_limit).await
    }
}

async fn checked<M, T>(io: &mut T, limit: usize) -> io::Result<Checked<M>>
where
    M: Message + Default,
    T: AsyncRead + Unpin + Send,
{
    let mut io = io.compat();
    match read_message(&mut io, limit).await {
        Ok(Some(message)) => Ok(Ok(message)),
        Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
        Err(FrameError::TooLong { length, .. }) => {
            tokio::io::copy(&mut (&mut io).take(length.min(DRAINED)), &mut tokio::io::sink()).await?;
            Ok(Err(Fault::TooLong))
        }
        Err(FrameError::BadLength | FrameError::Malformed(_)) => Ok(Err(Fault::Malformed)),
        Err(FrameError::Io(error)) => Err(error),
    }
}

async fn write_whole<M, T>(io: &mut T, message: Checked<M>, limit: usize) -> io::Result<()>
where
    M: Message,
    T: AsyncWrite + Unpin + Send,
{
    let message = message.map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    match write_message(&mut io.compat_write(), &message, limit).await {
        Ok(()) => Ok(()),
        Err(FrameError::Io(error)) => Err(error),
        Err(other) => Err(io::Error::new(io::ErrorKind::InvalidInput, other)),
    }
}
