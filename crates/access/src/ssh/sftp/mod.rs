//! SFTP, version 3: the subsystem behind `sftp`, `scp` and `sshfs`, over the sandbox's file protocol.
//!
//! The codec is our own and small. The server of the crate russh-sftp (3.0) reads a request only when the one before has been answered,
//! so that every one of them waits for the long way there and back, and it goes round for ever on a stream that has failed.
//!
//! A client keeps a few megabytes under way, which is little on a long way. So sequential reads are asked for before the client does
//! ([`ahead`]), and writes are acknowledged before they are done ([`behind`]): one that fails is told at the next write, at the
//! sync or at the closing of its file. Requests are read whether or not the client takes replies; were they not, a client that fills its
//! window with requests would never make room for the replies.

mod ahead;
mod attributes;
mod behind;
mod desk;
mod packet;
mod reply;
mod request;

use super::{
    inbox::Inbox,
    outlet::{Gone, Outlet},
};
use crate::guest::Guest;
use desk::{Desk, Due};
use packet::Packets;
use sandbox::{Exit, FileCallError};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Replies that are due. With a piece of a file in each this is 16 MiB; a client of OpenSSH waits for 64 of them at most.
const MAX_DUE: usize = 256;

/// Why a session of SFTP is over.
#[derive(Debug, thiserror::Error)]
enum Over {
    /// The client has closed the channel, or is gone.
    #[error("the client is gone")]
    Client,
    /// The client breaks the protocol.
    #[error("the SFTP client breaks the protocol: {0}")]
    Protocol(&'static str),
    /// The way to the files broke.
    #[error(transparent)]
    Files(#[from] FileCallError),
}

impl From<Gone> for Over {
    fn from(Gone: Gone) -> Self {
        Self::Client
    }
}

/// Serves one client until it ends its side of the channel.
pub(super) async fn run(guest: Guest, inbox: Arc<Inbox>, outlet: Outlet) -> Result<(), Gone> {
    let files = match guest.files().await {
        Ok(files) => files,
        Err(error) => return outlet.fail(&error).await,
    };
    let (due, replies) = mpsc::channel(MAX_DUE);
    let desk = Desk::new(files.client().clone());
    match tokio::try_join!(take(desk, &inbox, due), give(replies, &outlet)) {
        Ok(_) => outlet.finish(Exit::Code { code: 0 }).await,
        Err(Over::Client) => Err(Gone),
        Err(over) => outlet.fail(&over).await,
    }
}

/// Takes requests to the end of them, and has each carried out without waiting for it.
async fn take(mut desk: Desk, inbox: &Inbox, due: mpsc::Sender<Due>) -> Result<(), Over> {
    let mut packets = Packets::default();
    while let Some(bytes) = inbox.next().await {
        packets.add(&bytes);
        while let Some(packet) = packets.next()? {
            let reply = desk.handle(packet).await?;
            due.send(reply).await.map_err(|_| Over::Client)?;
        }
    }
    Ok(())
}

/// Gives the replies, in the order of the requests, which is that in which the sandbox carries them out.
async fn give(mut replies: mpsc::Receiver<Due>, outlet: &Outlet) -> Result<(), Over> {
    while let Some(due) = replies.recv().await {
        outlet.send(due.packet().await?).await?;
    }
    Ok(())
}
