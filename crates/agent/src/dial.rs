//! Connections into the sandbox: the agent stands in its network and its files, connects, and carries the bytes.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use agent::address::InnerAddress;
use agent::protocol::{Failure, FailureKind, Reply};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::socket_error;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, ipproto, socket_with};

use crate::connection::{Stop, bad_request, reply};
use crate::relay;

/// How long an address may take to answer: inside it is at once, and beyond a network a person would not wait longer.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

/// What stands for "the asker did not wait": no connection fails with it.
const GONE: Errno = Errno::CANCELED;

/// Connects to an address, says so, and carries bytes between it and the stream that came with the request.
pub(crate) fn serve(asker: &UnixStream, address: &InnerAddress, streams: Vec<OwnedFd>) -> Result<(), Stop> {
    let [stream] = <[OwnedFd; 1]>::try_from(streams).map_err(|_| bad_request("a dial comes with one stream"))?;
    let stream = UnixStream::from(stream);
    address.check().map_err(|error| bad_request(&error.to_string()))?;
    let connection = match address {
        InnerAddress::Unix(path) => connect_unix(path),
        InnerAddress::Localhost(_) | InnerAddress::Tcp(_) => connect_first(asker, &address.candidates()),
    };
    match connection {
        Ok(connection) => {
            reply(asker, Reply::Connected)?;
            Ok(relay::between(&stream, connection.as_fd())?)
        }
        Err(GONE) => Err(Stop::Gone),
        Err(error) => Err(refusal(address, error).into()),
    }
}

/// The first address that answers, or why the last one did not.
fn connect_first(asker: &UnixStream, addresses: &[SocketAddr]) -> Result<OwnedFd, Errno> {
    let mut outcome = Err(Errno::ADDRNOTAVAIL);
    for address in addresses {
        outcome = connect_tcp(asker, *address);
        if !matches!(outcome, Err(Errno::CONNREFUSED | Errno::ADDRNOTAVAIL)) {
            break;
        }
    }
    outcome
}

fn connect_tcp(asker: &UnixStream, address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    match connect(&socket, &address) {
        Ok(()) => return Ok(socket),
        Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error),
    }
    let deadline = Instant::now() + CONNECT_WAIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| Errno::INVAL)?;
        let mut watched = [PollFd::new(&socket, PollFlags::OUT), PollFd::new(asker, PollFlags::RDHUP)];
        match poll(&mut watched, Some(&left)) {
            Ok(0) => return Err(Errno::TIMEDOUT),
            Ok(_) if !watched[1].revents().is_empty() => return Err(GONE),
            Ok(_) => return socket_error(&socket)?.map(|()| socket),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A Unix socket answers at once or not at all: one whose queue is full refuses a socket that would not wait.
fn connect_unix(path: &str) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn refusal(address: &InnerAddress, error: Errno) -> Failure {
    let kind = match (address, error) {
        (InnerAddress::Unix(_), Errno::NOENT | Errno::NOTDIR) => FailureKind::NoSuchSocket,
        (_, Errno::CONNREFUSED) => FailureKind::ConnectionRefused,
        (_, Errno::AGAIN) => FailureKind::Busy,
        (_, Errno::TIMEDOUT) => FailureKind::NoAnswer,
        (_, Errno::NETUNREACH | Errno::HOSTUNREACH | Errno::ADDRNOTAVAIL | Errno::ACCESS | Errno::PERM) => {
            FailureKind::Unreachable
        }
        _ => FailureKind::Io,
    };
    Failure { kind, message: format!("{address}: {}", io::Error::from(error)) }
}
