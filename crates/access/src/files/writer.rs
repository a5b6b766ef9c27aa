//! A file as a place to write bytes to: each piece is sent on without waiting for the answer to the one before.

use super::{Answer, OpenFile, PIECE, STREAM_WINDOW, done, io_error_kind};
use futures::FutureExt;
use sandbox::FileCallError;
use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};
use tokio::{
    io::AsyncWrite,
    sync::{mpsc, oneshot},
};
use tokio_util::{sync::PollSender, task::AbortOnDropHandle};

/// Writes to a file from a place on; up to 8 MiB are under way. What goes wrong is told by the next write after it is known, or by flushing
/// or shutting down, which wait until everything is written: whoever does neither has not heard that it is.
pub struct FileWriter {
    orders: PollSender<Order>,
    piece: Vec<u8>,
    flushing: Option<oneshot::Receiver<()>>,
    failure: Failure,
    _task: AbortOnDropHandle<()>,
}

enum Order {
    Write(Vec<u8>),
    /// Answered when all is written.
    Flush(oneshot::Sender<()>),
}

/// Why the task that sends has ended.
type Failure = Arc<OnceLock<FileCallError>>;

impl FileWriter {
    pub(super) fn new(file: OpenFile, from: u64) -> Self {
        let (orders, taken) = mpsc::channel(1);
        let failure = Failure::default();
        let _task = AbortOnDropHandle::new(tokio::spawn(write(file, from, taken, failure.clone())));
        Self { orders: PollSender::new(orders), piece: Vec::new(), flushing: None, failure, _task }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, order: impl FnOnce(&mut Self) -> Order) -> Poll<io::Result<()>> {
        if ready!(self.orders.poll_reserve(cx)).is_err() {
            return Poll::Ready(Err(self.over()));
        }
        let order = order(self);
        Poll::Ready(self.orders.send_item(order).map_err(|_| self.over()))
    }

    fn over(&self) -> io::Error {
        match self.failure.get() {
            Some(error) => io::Error::new(io_error_kind(error), error.to_string()),
            None => io::ErrorKind::BrokenPipe.into(),
        }
    }
}

/// Sends what comes, until something goes wrong. Whoever waits hears of the end only when its cause is known.
async fn write(file: OpenFile, from: u64, mut orders: mpsc::Receiver<Order>, failure: Failure) {
    let mut at = from;
    let mut under_way = VecDeque::new();
    while let Some(order) = orders.recv().await {
        let (outcome, asker) = match order {
            Order::Write(bytes) => {
                let offset = at;
                at = at.saturating_add(bytes.len() as u64);
                (send(&file, offset, bytes, &mut under_way).await, None)
            }
            Order::Flush(asker) => (settle(&mut under_way, 0).await, Some(asker)),
        };
        if let Err(error) = outcome {
            let _ = failure.set(error);
            return;
        }
        if let Some(asker) = asker {
            // One that no longer waits has dropped the writer.
            let _ = asker.send(());
        }
    }
}

async fn send(
    file: &OpenFile,
    offset: u64,
    bytes: Vec<u8>,
    under_way: &mut VecDeque<Answer>,
) -> Result<(), FileCallError> {
    settle(under_way, STREAM_WINDOW - 1).await?;
    under_way.push_back(file.send_write(offset, bytes).await?);
    Ok(())
}

/// Waits until so many pieces are under way at most.
async fn settle(under_way: &mut VecDeque<Answer>, most: usize) -> Result<(), FileCallError> {
    while under_way.len() > most {
        let Some(oldest) = under_way.pop_front() else { break };
        done(oldest.await?)?;
    }
    Ok(())
}

impl AsyncWrite for FileWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.piece.len() == PIECE as usize {
            ready!(self.poll_send(cx, |this| Order::Write(std::mem::take(&mut this.piece))))?;
        }
        let n = bytes.len().min(PIECE as usize - self.piece.len());
        self.piece.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.piece.is_empty() {
            ready!(self.poll_send(cx, |this| Order::Write(std::mem::take(&mut this.piece))))?;
        }
        if self.flushing.is_none() {
            ready!(self.poll_send(cx, |this| {
                let (asker, flushing) = oneshot::channel();
                this.flushing = Some(flushing);
                Order::Flush(asker)
            }))?;
        }
        let Some(flushing) = &mut self.flushing else { return Poll::Ready(Ok(())) };
        let flushed = ready!(flushing.poll_unpin(cx));
        self.flushing = None;
        Poll::Ready(flushed.map_err(|_| self.over()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
