//! What is read until something else ends it, though its other end may still be open: the output of a process that has ended while what it
//! left behind still holds the pipe.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Bytes still read after the end: what may have been waiting by then, and that is the most a pipe can be made to hold.
const REST: usize = 1 << 20;

/// The reader.
pub(crate) struct Until<S> {
    inner: S,
    rest: usize,
    over: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Until<S> {
    /// Ends it when `end` is cancelled.
    pub(crate) fn new(inner: S, end: &CancellationToken) -> Until<S> {
        Until { inner, rest: REST, over: Box::pin(end.clone().cancelled_owned()) }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Until<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let over = self.over.as_mut().poll(cx).is_ready();
        if over && self.rest == 0 {
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.inner).poll_read(cx, buffer) {
            Poll::Pending if over => Poll::Ready(Ok(())),
            polled => {
                if over {
                    self.rest = self.rest.saturating_sub(buffer.filled().len() - before);
                }
                polled
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex, repeat};

    use super::*;

    #[tokio::test]
    async fn what_was_there_at_the_end_is_still_read_and_nothing_is_waited_for() {
        let end = CancellationToken::new();
        let (near, mut far) = duplex(64);
        let mut near = Until::new(near, &end);
        far.write_all(b"the rest").await.unwrap();
        end.cancel();
        let mut text = String::new();
        near.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "the rest");
    }

    #[tokio::test]
    async fn a_reader_that_waits_already_is_woken_by_the_end() {
        let end = CancellationToken::new();
        let (near, _far) = duplex(64);
        let mut near = Until::new(near, &end);
        let waiting = tokio::spawn(async move { near.read(&mut [0; 8]).await.unwrap() });
        tokio::task::yield_now().await;
        end.cancel();
        assert_eq!(waiting.await.unwrap(), 0);
    }

    #[tokio::test]
    async fn one_who_goes_on_writing_for_ever_is_not_read_for_ever() {
        let end = CancellationToken::new();
        end.cancel();
        let mut read = Vec::new();
        Until::new(repeat(b'y'), &end).read_to_end(&mut read).await.unwrap();
        assert!((REST..REST + (1 << 20)).contains(&read.len()), "{}", read.len());
    }
}
