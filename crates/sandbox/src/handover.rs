//! The node's end of what the agent hands over: an answer with open descriptors.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use agent::protocol::{Frame, HEADER, MAX_DESCRIPTORS, parse_header};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Reads one frame with the descriptors that come with it, and not a byte more.
pub(crate) async fn receive(socket: &UnixStream) -> io::Result<(Frame, Vec<OwnedFd>)> {
    let mut descriptors = Vec::new();
    let mut header = [0; HEADER];
    fill(socket, &mut header, &mut descriptors).await?;
    let (kind, length) = parse_header(header)?;
    let mut payload = vec![0; length];
    fill(socket, &mut payload, &mut descriptors).await?;
    Ok((Frame::decode(kind, payload)?, descriptors))
}

async fn fill(socket: &UnixStream, mut buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<()> {
    while !buffer.is_empty() {
        socket.readable().await?;
        match socket.try_io(Interest::READABLE, || receive_some(socket, buffer, descriptors)) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => buffer = buffer.get_mut(n..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn receive_some(socket: &UnixStream, buffer: &mut [u8], descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            descriptors.extend(more);
        }
    }
    if descriptors.len() > MAX_DESCRIPTORS {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "more descriptors than any answer has"));
    }
    Ok(received.bytes)
}
