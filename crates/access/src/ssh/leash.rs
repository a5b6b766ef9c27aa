//! A stream that can be ended from outside. russh reads and writes it in a task of its own and has no other way to be stopped at once.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A stream on a leash. Once `over` is cancelled it is at its end, both ways.
pub(super) struct Leash<S> {
    stream: S,
    // one for each way: a future wakes only the task that asked it last
    over_for_reader: Pin<Box<WaitForCancellationFutureOwned>>,
    over_for_writer: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Leash<S> {
    pub(super) fn new(stream: S, over: CancellationToken) -> Self {
        Self {
            stream,
            over_for_reader: Box::pin(over.clone().cancelled_owned()),
            over_for_writer: Box::pin(over.cancelled_owned()),
        }
    }

    fn poll_over(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.over_for_writer.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::BrokenPipe.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Leash<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.over_for_reader.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Leash<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_over(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_over(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_over(cx)?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_stream_on_a_leash_ends_both_ways_when_it_is_pulled() {
        let (near, mut far) = tokio::io::duplex(16);
        let over = CancellationToken::new();
        let (mut reader, mut writer) = tokio::io::split(Leash::new(near, over.clone()));
        far.write_all(b"before").await.unwrap();
        let mut bytes = [0; 6];
        reader.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"before");
        // both wait: for bytes that do not come, and for room that is not made
        let reading = tokio::spawn(async move { reader.read(&mut [0]).await });
        let writing = tokio::spawn(async move { writer.write_all(&[0; 64]).await });
        over.cancel();
        assert_eq!(reading.await.unwrap().unwrap(), 0);
        assert_eq!(writing.await.unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
