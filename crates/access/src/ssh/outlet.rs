//! The way to the client on one channel. Everything here waits until the client has window: russh would otherwise keep what it cannot
//! send, and let nobody else on the connection send until it could.

use super::signals;
use russh::{ChannelWriteHalf, server::Handle, server::Msg};
use sandbox::{ByteReader, Exit};
use std::fmt::Display;
use tokio::io::AsyncReadExt;
use tokio_util::bytes::{Bytes, BytesMut};

/// The number of standard error among a channel's streams.
const STDERR: u32 = 1;
/// Bytes read at once: one packet.
const PIECE: usize = super::PACKET as usize;
/// What `ssh` itself exits with when it fails, as opposed to the program it ran.
const FAILED: u32 = 255;

/// What the kernel sends when memory runs out.
const SIGKILL: i32 = 9;

/// The way to the client on one channel.
pub(super) struct Outlet {
    half: ChannelWriteHalf<Msg>,
    handle: Handle,
}

/// The client is gone, or has closed the channel.
#[derive(Debug)]
pub(super) struct Gone;

impl Outlet {
    pub(super) fn new(half: ChannelWriteHalf<Msg>, handle: Handle) -> Self {
        Self { half, handle }
    }

    /// Sends bytes.
    pub(super) async fn send(&self, bytes: Bytes) -> Result<(), Gone> {
        self.half.data_bytes(bytes).await.map_err(|_| Gone)
    }

    /// Sends what a reader gives, to its end.
    pub(super) async fn pump(&self, reader: &mut ByteReader) -> Result<(), Gone> {
        let mut buffer = BytesMut::new();
        while let Some(bytes) = read(reader, &mut buffer).await {
            self.send(bytes).await?;
        }
        Ok(())
    }

    /// The same as standard error.
    pub(super) async fn pump_errors(&self, reader: &mut ByteReader) -> Result<(), Gone> {
        let mut buffer = BytesMut::new();
        while let Some(bytes) = read(reader, &mut buffer).await {
            self.half.extended_data_bytes(STDERR, bytes).await.map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// No more comes.
    pub(super) async fn end(&self) -> Result<(), Gone> {
        self.half.eof().await.map_err(|_| Gone)
    }

    /// How the program ended, and that this was all.
    pub(super) async fn finish(&self, exit: Exit) -> Result<(), Gone> {
        let id = self.half.id();
        self.end().await?;
        match exit {
            Exit::Code { code } => self.handle.exit_status_request(id, code.unsigned_abs()).await,
            Exit::Signal { signal } => self.killed(signal, "").await,
            Exit::OutOfMemory => self.killed(SIGKILL, "out of memory").await,
        }
        .map_err(|()| Gone)?;
        self.close().await
    }

    /// That it could not be run, or that the way to it broke.
    pub(super) async fn fail(&self, why: &impl Display) -> Result<(), Gone> {
        let message = format!("gpulease: {why}\r\n");
        self.half.extended_data_bytes(STDERR, message).await.map_err(|_| Gone)?;
        self.end().await?;
        self.handle.exit_status_request(self.half.id(), FAILED).await.map_err(|()| Gone)?;
        self.close().await
    }

    /// Closes the channel, from which the client learns that it is over.
    pub(super) async fn close(&self) -> Result<(), Gone> {
        self.half.close().await.map_err(|_| Gone)
    }

    async fn killed(&self, signal: i32, why: &str) -> Result<(), ()> {
        self.handle
            .exit_signal_request(self.half.id(), signals::named(signal), false, why.to_owned(), String::new())
            .await
    }
}

/// The next bytes; nothing at the end, however that came.
async fn read(reader: &mut ByteReader, buffer: &mut BytesMut) -> Option<Bytes> {
    buffer.reserve(PIECE);
    match reader.read_buf(buffer).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(buffer.split().freeze()),
    }
}
