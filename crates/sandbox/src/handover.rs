//! The other ends of streams that this program makes, handed to the agent together with a request. Nothing is ever taken from there: a
//! descriptor that a stranger still holds can be made to wait, or be something else than it seems.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent::protocol::MAX_DESCRIPTORS;
use rustix::net::sockopt::set_socket_send_buffer_size;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;

/// Bytes that the agent's end of a stream may have on their way here, of which the kernel allows twice as many: they count as the agent's.
const SEND_BUFFER: usize = 64 * 1024;

/// Sends a request; the descriptors go with its first byte.
pub(crate) async fn send(socket: &mut UnixStream, request: &[u8], descriptors: &[OwnedFd]) -> io::Result<()> {
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    let sent = loop {
        socket.writable().await?;
        match socket.try_io(Interest::WRITABLE, || send_some(socket, request, &borrowed)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            outcome => break outcome?,
        }
    };
    socket.write_all(request.get(sent..).unwrap_or_default()).await
}

fn send_some(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other(format!("more than {MAX_DESCRIPTORS} descriptors with one request")));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}

/// A stream both ways: our end, and the agent's.
pub(crate) fn duplex() -> io::Result<(UnixStream, Vec<OwnedFd>)> {
    let (ours, theirs) = UnixStream::pair()?;
    let theirs = theirs.into_std()?;
    set_socket_send_buffer_size(&theirs, SEND_BUFFER)?;
    Ok((ours, vec![theirs.into()]))
}
