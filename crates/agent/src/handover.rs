//! Handing open descriptors to the node together with an answer.

use std::io::{self, IoSlice, Write};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use agent::protocol::{Failure, FailureKind, Frame, MAX_DESCRIPTORS, Reply};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use crate::connection::Stop;

/// Sends an answer; the descriptors go with its first byte.
pub(crate) fn reply(socket: &UnixStream, reply: Reply, descriptors: &[BorrowedFd<'_>]) -> Result<(), Stop> {
    send(socket, reply, descriptors).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::TOOMANYREFS) => {
            let message = "too many descriptors are on their way out of this sandbox; try again".into();
            Stop::Failed(Failure { kind: FailureKind::Busy, message })
        }
        _ => Stop::Gone,
    })
}

fn send(mut socket: &UnixStream, reply: Reply, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = Frame::Reply(reply).encode()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other(format!("more than {MAX_DESCRIPTORS} descriptors in one answer")));
    }
    let sent = retry_on_intr(|| sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL))?;
    socket.write_all(&bytes[sent..])
}
