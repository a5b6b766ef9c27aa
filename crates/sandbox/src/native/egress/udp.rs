//! One flow of datagrams between a program inside and one address outside: a socket of this machine that hears that address only. Nothing is
//! kept: what cannot be sent or delivered at once is lost, as datagrams may be.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use super::device::Device;
use super::packet::{Refusal, datagram, undelivered};
use super::tcp::refusal;

/// How long a flow is kept without a datagram: RFC 4787 recommends five minutes.
const IDLE_WAIT: Duration = Duration::from_secs(300);

/// The same for questions to a name server, each of which has a flow of its own: a resolver gives up after five seconds.
const QUESTION_WAIT: Duration = Duration::from_secs(10);

/// Datagrams taken from one flow before the others have their turn.
const MAX_BURST: usize = 16;

/// A flow.
pub(crate) struct Flow {
    outer: UdpSocket,
    /// The program's end and the other, as the program sees them.
    inside: SocketAddr,
    outside: SocketAddr,
    used: Instant,
    keep: Duration,
}

impl Flow {
    /// Opens a flow towards `target`, which the program calls `outside`.
    pub(crate) fn open(
        inside: SocketAddr,
        outside: SocketAddr,
        target: SocketAddr,
        now: Instant,
    ) -> Result<Flow, Refusal> {
        let open = || -> io::Result<UdpSocket> {
            let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
            let socket = socket_with(family, SocketType::DGRAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
            connect(&socket, &target)?;
            Ok(socket.into())
        };
        let outer = open().map_err(|error| refusal(&error))?;
        let keep = if target == outside { IDLE_WAIT } else { QUESTION_WAIT };
        Ok(Flow { outer, inside, outside, used: now, keep })
    }

    /// Sends a datagram of the program.
    pub(crate) fn send(&mut self, data: &[u8], device: &mut Device, now: Instant) {
        self.used = now;
        if let Err(error) = self.outer.send(data)
            && !self.told(&error, device)
        {
            // What failed was an earlier datagram, whose failure was waiting to be told.
            let _ = self.outer.send(data);
        }
    }

    /// Gives the program what has come. `buffer` has room for the largest datagram.
    pub(crate) fn receive(&mut self, device: &mut Device, now: Instant, buffer: &mut [u8]) {
        for _ in 0..MAX_BURST {
            match self.outer.recv(buffer) {
                Ok(length) => {
                    self.used = now;
                    device.send(&datagram(self.outside, self.inside, &buffer[..length]));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.told(&error, device);
                }
            }
        }
    }

    /// When the flow was last used.
    pub(crate) fn used(&self) -> Instant {
        self.used
    }

    /// When the flow ends if it is not used again.
    pub(crate) fn end(&self) -> Instant {
        self.used + self.keep
    }

    /// Tells the program of a failure that it would have been told of without us. False when it was an earlier one's.
    fn told(&self, error: &io::Error, device: &mut Device) -> bool {
        let reason = match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Refusal::Port,
            Some(libc::EHOSTUNREACH) => Refusal::Host,
            Some(libc::ENETUNREACH) => Refusal::Network,
            Some(libc::EACCES | libc::EPERM) => Refusal::Prohibited,
            // Too long for the way, or too much at once: lost.
            _ => return true,
        };
        device.send(&undelivered(self.inside, self.outside, reason));
        reason != Refusal::Port
    }
}

impl AsFd for Flow {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.outer.as_fd()
    }
}
