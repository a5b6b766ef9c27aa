//! A channel to something that listens in the sandbox: what `-L` and `-D` open, and editors for their own servers.

use super::{
    inbox::Inbox,
    names,
    outlet::{Gone, Outlet},
};
use crate::{AccessError, guest::Guest};
use russh::{ChannelOpenFailure, server::ChannelOpenHandle};
use sandbox::{ByteReader, ByteStream, InnerAddress};
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// The code with which SSH says that a connection was refused.
const CONNECT_FAILED: u32 = 2;

/// Where a channel is to lead.
#[derive(Debug)]
pub(super) enum Target {
    /// A port of a host as the sandbox sees it.
    Host(String, u16),
    /// A Unix socket.
    Socket(String),
}

/// Connects, and carries bytes both ways until both have ended or the client closes the channel.
pub(super) async fn run(
    guest: Guest,
    target: Target,
    reply: ChannelOpenHandle,
    inbox: Arc<Inbox>,
    outlet: Outlet,
) -> Result<(), Gone> {
    match connect(&guest, target).await {
        Ok(stream) => {
            reply.accept().await;
            splice(stream, &inbox, &outlet).await
        }
        Err(reason) => {
            reply.reject(ChannelOpenFailure::Other { code: CONNECT_FAILED, reason }).await;
            Ok(())
        }
    }
}

async fn connect(guest: &Guest, target: Target) -> Result<ByteStream, String> {
    let (addresses, mut why) = match target {
        Target::Socket(path) => (vec![InnerAddress::unix(&path).map_err(|error| error.to_string())?], String::new()),
        Target::Host(host, port) => {
            let unknown = format!("the sandbox knows no host `{}`", host.escape_debug());
            (names::addresses(guest, &host, port).await, unknown)
        }
    };
    for address in addresses {
        match guest.dial(&address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => why = refusal(&error),
        }
    }
    Err(why)
}

fn refusal(error: &AccessError) -> String {
    error.to_string()
}

/// Carries bytes both ways until both have ended.
pub(super) async fn splice(stream: ByteStream, inbox: &Inbox, outlet: &Outlet) -> Result<(), Gone> {
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader: ByteReader = Box::new(reader);
    let inwards = async {
        while let Some(bytes) = inbox.next().await {
            if writer.write_all(&bytes).await.is_err() {
                // the other side is gone, and so there is nothing more to be had from it either
                inbox.shut();
                outlet.close().await?;
                return Err(Gone);
            }
        }
        let _ = writer.shutdown().await;
        Ok(())
    };
    let outwards = async {
        outlet.pump(&mut reader).await?;
        outlet.end().await
    };
    tokio::try_join!(inwards, outwards)?;
    outlet.close().await
}
