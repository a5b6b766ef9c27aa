//! Session streams: `/gpulease/session/1`. Each begins with a header from the opener and an answer from the other side, *accepted* or a
//! typed refusal, so that no stream is ever lost without a word: what cannot be queued is refused, not dropped.
//!
//! [`SessionStream`] and [`IncomingSession`] are what the roles see; `behaviour` opens streams over the best connection to a peer,
//! `handler` reads the headers of incoming ones.

mod behaviour;
mod handler;

pub(crate) use behaviour::{Behaviour, OpenRequest};
pub(crate) use handler::Shared;

use crate::{
    error::OpenError,
    frame::{FrameError, read_message, write_message},
};
use libp2p::{PeerId, Stream, StreamProtocol};
use market::refusal::{Refusal, RefusalCode};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::timeout,
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt};
use wire::{MAX_MESSAGE_BYTES, proto};

/// The protocol's name.
pub(crate) const PROTOCOL: StreamProtocol = StreamProtocol::new("/gpulease/session/1");
/// How long the opener waits for an answer: the accept queue may be long, and the provider may have to look at the chain.
pub(crate) const ANSWER_WAIT: Duration = Duration::from_secs(30);
/// How long a refused opener is given to read the refusal and go, before the stream is dropped under it.
const LINGER: Duration = Duration::from_secs(5);

/// A stream into a rental. Both directions are independent: `shutdown` ends ours and leaves the other open.
#[derive(Debug)]
pub struct SessionStream(Compat<Stream>);

impl SessionStream {
    pub(crate) fn new(stream: Stream) -> Self {
        Self(stream.compat())
    }

    /// Sends `header` and waits for the answer.
    pub(crate) async fn introduce(mut self, header: &proto::SessionHeader) -> Result<Self, OpenError> {
        let exchange = async {
            write_message(&mut self.0, header, MAX_MESSAGE_BYTES).await?;
            read_message::<proto::SessionAnswer, _>(&mut self.0, MAX_MESSAGE_BYTES).await
        };
        use proto::session_answer::Answer;
        match timeout(ANSWER_WAIT, exchange).await.map_err(|_| OpenError::Timeout)?? {
            Some(proto::SessionAnswer { answer: Some(Answer::Accepted(_)) }) => Ok(self),
            Some(proto::SessionAnswer { answer: Some(Answer::Refusal(refusal)) }) => {
                Err(OpenError::Refused(wire::refusal_from_proto(refusal)))
            }
            Some(proto::SessionAnswer { answer: None }) => Err(OpenError::NoAnswer),
            None => Err(OpenError::NoAnswer),
        }
    }

    async fn answer(&mut self, answer: proto::session_answer::Answer) -> Result<(), FrameError> {
        let answer = proto::SessionAnswer { answer: Some(answer) };
        timeout(LINGER, write_message(&mut self.0, &answer, MAX_MESSAGE_BYTES)).await.map_err(|_| timed_out())?
    }

    /// Refuses, and keeps the stream until the opener has read why.
    async fn refuse(mut self, refusal: &Refusal) -> Result<(), FrameError> {
        self.answer(proto::session_answer::Answer::Refusal(wire::refusal_to_proto(refusal))).await?;
        let leave = async {
            self.0.shutdown().await?;
            // nothing more is expected: whatever arrives is read only to see the end
            tokio::io::copy(&mut (&mut self.0).take(MAX_MESSAGE_BYTES as u64), &mut tokio::io::sink()).await
        };
        // whether the opener hung up or lingered too long, it has been told
        let _ = timeout(LINGER, leave).await;
        Ok(())
    }
}

fn timed_out() -> FrameError {
    io::Error::from(io::ErrorKind::TimedOut).into()
}

impl AsyncRead for SessionStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for SessionStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// A stream that a peer wants to open here. The opener waits until it is accepted or refused; dropped, it sees the stream end.
#[derive(Debug)]
pub struct IncomingSession {
    /// Who opens it, as proven by the connection.
    pub peer: PeerId,
    /// What it is for; its grant is not yet checked.
    pub header: proto::SessionHeader,
    stream: SessionStream,
}

impl IncomingSession {
    pub(crate) fn new(peer: PeerId, header: proto::SessionHeader, stream: SessionStream) -> Self {
        Self { peer, header, stream }
    }

    /// Tells the opener that it may go on, and hands over the stream.
    pub async fn accept(mut self) -> Result<SessionStream, FrameError> {
        self.stream.answer(proto::session_answer::Answer::Accepted(proto::Accepted {})).await?;
        Ok(self.stream)
    }

    /// Tells the opener why not.
    pub async fn refuse(self, refusal: Refusal) -> Result<(), FrameError> {
        self.stream.refuse(&refusal).await
    }
}

/// What a stream is refused with that cannot be queued.
fn too_many(what: &str) -> Refusal {
    Refusal::new(RefusalCode::RateLimited, what)
}
