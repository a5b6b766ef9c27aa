//! TCP connections for streams that carry files: noise and yamux as everywhere, but with fewer and larger steps. libp2p's noise takes 8 KiB
//! at a time from the kernel, and its yamux sends 16 KiB in a frame, each of which is encrypted and written by itself. Where processors are the
//! bottleneck, that is what most of a copy's time goes to. The other side sees nothing of it.

use futures::{
    AsyncRead, AsyncWrite,
    future::{self, BoxFuture, FutureExt, Ready},
    ready,
};
use libp2p::{
    PeerId,
    core::{
        muxing::{StreamMuxer, StreamMuxerEvent},
        upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo},
    },
    identity::Keypair,
    noise,
};
use std::{
    collections::VecDeque,
    convert::Infallible,
    io, iter,
    pin::Pin,
    task::{Context, Poll, Waker},
};

/// Bytes of a stream in one frame: what noise encrypts at once. Another stream waits for no more than this, which is far less than what a
/// socket of the kernel's holds anyway.
const FRAME_BYTES: usize = 62 * 1024;
/// Bytes taken from the kernel at once on a connection that has had little to say.
const LEAST_READ: usize = 8 * 1024;
/// The same on one that is busy: two of noise's messages.
const MOST_READ: usize = 128 * 1024;
/// Streams that the other side has opened and nobody here has taken yet; more an honest one does not open unacknowledged.
const MAX_WAITING: usize = 256;

/// Noise over a connection that is read in large pieces.
#[derive(Clone)]
pub(crate) struct Security(noise::Config);

impl Security {
    /// With this node's key.
    pub(crate) fn new(keypair: &Keypair) -> Result<Self, noise::Error> {
        noise::Config::new(keypair).map(Self)
    }
}

impl UpgradeInfo for Security {
    type Info = <noise::Config as UpgradeInfo>::Info;
    type InfoIter = <noise::Config as UpgradeInfo>::InfoIter;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.protocol_info()
    }
}

type Secured<C> = (PeerId, noise::Output<Buffered<C>>);

impl<C: AsyncRead + AsyncWrite + Unpin + Send + 'static> InboundConnectionUpgrade<C> for Security {
    type Output = Secured<C>;
    type Error = noise::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, connection: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_inbound(Buffered::new(connection), info).boxed()
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin + Send + 'static> OutboundConnectionUpgrade<C> for Security {
    type Output = Secured<C>;
    type Error = noise::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, connection: C, info: Self::Info) -> Self::Future {
        self.0.upgrade_outbound(Buffered::new(connection), info).boxed()
    }
}

/// A connection from which as much is read at once as it has lately had to say, within bounds.
pub(crate) struct Buffered<C> {
    connection: C,
    /// What was read, and not yet taken from `taken` to `filled`.
    buffer: Vec<u8>,
    taken: usize,
    filled: usize,
    /// How much is to be read next.
    next: usize,
}

impl<C> Buffered<C> {
    fn new(connection: C) -> Self {
        Self { connection, buffer: Vec::new(), taken: 0, filled: 0, next: LEAST_READ }
    }
}

/// How much to read after so much of what was asked for has come.
fn next_read(asked: usize, came: usize) -> usize {
    match came {
        all if all == asked => asked * 2,
        little if little < asked / 8 => asked / 2,
        _ => asked,
    }
    .clamp(LEAST_READ, MOST_READ)
}

impl<C: AsyncRead + Unpin> AsyncRead for Buffered<C> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.taken == this.filled {
            if this.buffer.len() != this.next {
                this.buffer = vec![0; this.next];
            }
            (this.taken, this.filled) = (0, 0);
            this.filled = ready!(Pin::new(&mut this.connection).poll_read(cx, &mut this.buffer))?;
            this.next = next_read(this.buffer.len(), this.filled);
        }
        let rest = this.buffer.get(this.taken..this.filled).unwrap_or_default();
        let length = rest.len().min(into.len());
        into[..length].copy_from_slice(&rest[..length]);
        this.taken += length;
        Poll::Ready(Ok(length))
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Buffered<C> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_close(cx)
    }
}

/// Yamux with larger frames.
#[derive(Clone)]
pub(crate) struct Multiplexing(yamux::Config);

impl Multiplexing {
    pub(crate) fn new() -> Self {
        let mut config = yamux::Config::default();
        config.set_split_send_size(FRAME_BYTES);
        Self(config)
    }
}

impl UpgradeInfo for Multiplexing {
    type Info = &'static str;
    type InfoIter = iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Multiplexing {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, connection: C, _: Self::Info) -> Self::Future {
        future::ok(Muxer::new(connection, self.0, yamux::Mode::Server))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Multiplexing {
    type Output = Muxer<C>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Self::Error>>;

    fn upgrade_outbound(self, connection: C, _: Self::Info) -> Self::Future {
        future::ok(Muxer::new(connection, self.0, yamux::Mode::Client))
    }
}

/// The streams of one connection, as libp2p asks for them.
pub(crate) struct Muxer<C> {
    connection: yamux::Connection<C>,
    /// Opened by the other side while something else was waited for: yamux gets on only while it looks for such streams.
    waiting: VecDeque<yamux::Stream>,
    /// Who waits for one.
    waker: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(connection: C, config: yamux::Config, mode: yamux::Mode) -> Self {
        Self { connection: yamux::Connection::new(connection, config, mode), waiting: VecDeque::new(), waker: None }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, yamux::ConnectionError>> {
        self.connection.poll_next_inbound(cx).map(|next| next.unwrap_or(Err(yamux::ConnectionError::Closed)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = yamux::Stream;
    type Error = yamux::ConnectionError;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        let polled = self.poll_next(cx);
        if polled.is_pending() {
            self.waker = Some(cx.waker().clone());
        }
        polled
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connection.poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        let stream = ready!(self.poll_next(cx))?;
        // one too many is dropped, and so reset
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(stream);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
        // there may be more; others have their turn first
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::{AsyncReadExt, executor::block_on};

    /// Gives so many bytes at once at most, and tells how many it was asked for.
    struct Source {
        left: Vec<u8>,
        most: usize,
        asked: usize,
    }

    impl AsyncRead for Source {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
            self.asked = into.len();
            let length = self.left.len().min(into.len()).min(self.most);
            into[..length].copy_from_slice(&self.left[..length]);
            self.left.drain(..length);
            Poll::Ready(Ok(length))
        }
    }

    #[test]
    fn what_is_read_in_large_pieces_arrives_as_it_was_sent() {
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| (n / 7) as u8).collect();
        for most in [1_000, usize::MAX] {
            let mut buffered = Buffered::new(Source { left: sent.clone(), most, asked: 0 });
            let mut came = Vec::new();
            block_on(buffered.read_to_end(&mut came)).unwrap();
            assert!(came == sent, "at most {most} at once");
            let asked = if most == usize::MAX { MOST_READ } else { LEAST_READ };
            assert!(buffered.buffer.len() <= asked, "{} bytes kept, at most {most} at once", buffered.buffer.len());
        }
    }

    #[test]
    fn a_busy_connection_is_read_in_larger_pieces_and_one_that_is_so_no_longer_in_small_ones() {
        let mut next = LEAST_READ;
        for _ in 0..10 {
            next = next_read(next, next);
        }
        assert_eq!(next, MOST_READ);
        assert_eq!(next_read(next, next / 2), next);
        for _ in 0..10 {
            next = next_read(next, 100);
        }
        assert_eq!(next, LEAST_READ);
    }
}
