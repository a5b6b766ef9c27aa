//! Requests with the descriptors that the node hands over with them. It works only the other way round: the node uses no descriptor that
//! comes out of a sandbox.

use std::io::{self, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use agent::protocol::{Frame, MAX_DESCRIPTORS};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Reads one frame with its descriptors; `None` when the other end has closed instead.
pub(crate) fn receive(socket: &UnixStream) -> io::Result<Option<(Frame, Vec<OwnedFd>)>> {
    let mut receiver = Receiver { socket, descriptors: Vec::new() };
    Ok(Frame::read(&mut receiver)?.map(|frame| (frame, receiver.descriptors)))
}

/// Keeps the descriptors that come with what is read.
struct Receiver<'a> {
    socket: &'a UnixStream,
    descriptors: Vec<OwnedFd>,
}

impl Read for Receiver<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received = recvmsg(self.socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                self.descriptors.extend(descriptors);
            }
        }
        Ok(received.bytes)
    }
}
