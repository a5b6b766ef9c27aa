//! Handing open descriptors to the node together with an answer.

use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use agent::protocol::{Frame, MAX_DESCRIPTORS, Reply};
use rustix::io::retry_on_intr;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// Sends an answer; the descriptors go with its first byte.
pub(crate) fn reply(mut socket: &UnixStream, reply: Reply, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = Frame::Reply(reply).encode()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other(format!("more than {MAX_DESCRIPTORS} descriptors in one answer")));
    }
    let sent = retry_on_intr(|| sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL))?;
    socket.write_all(&bytes[sent..])
}
