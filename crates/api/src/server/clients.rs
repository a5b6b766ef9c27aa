//! A listener that serves so many connections at once; further ones wait in the kernel's queue until one of those ends, and are refused
//! there when that is full too.

use axum::serve::Listener;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{OwnedSemaphorePermit, Semaphore},
};

/// See the module.
#[derive(Debug)]
pub struct Bounded<L> {
    listener: L,
    clients: Arc<Semaphore>,
}

impl<L: Listener> Bounded<L> {
    /// At most `clients` connections at once.
    pub fn new(listener: L, clients: usize) -> Self {
        Self { listener, clients: Arc::new(Semaphore::new(clients)) }
    }
}

impl<L: Listener> Listener for Bounded<L> {
    type Io = Client<L::Io>;
    type Addr = L::Addr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // the semaphore is never closed
        let place = Arc::clone(&self.clients).acquire_owned().await.ok();
        let (io, address) = self.listener.accept().await;
        (Client { io, _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection, and its place among them.
#[derive(Debug)]
pub struct Client<T> {
    io: T,
    _place: Option<OwnedSemaphorePermit>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Client<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Client<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn one_more_waits_until_another_has_left() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut bounded = Bounded::new(listener, 2);
        let _clients = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
        let (first, _) = bounded.accept().await;
        let (_second, _) = bounded.accept().await;
        let _third = TcpStream::connect(address).await.unwrap();
        assert!(bounded.accept().now_or_never().is_none(), "a third was served");
        drop(first);
        bounded.accept().await;
    }
}
