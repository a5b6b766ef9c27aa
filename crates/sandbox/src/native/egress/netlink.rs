//! The few questions and orders for the kernel's network configuration that are needed here, in the kernel's own binary form: giving an
//! interface an address and a route, and asking where an address leads.

use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink, recv, sendto, socket_with,
};

/// An answer is one route or one error with the question quoted; the kernel's own tools use as much.
const MAX_ANSWER: usize = 8 * 1024;

const HEADER: usize = 16;
const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const CREATE: u16 = 0x400;

const ERROR: u16 = 2;
const NEW_LINK: u16 = 16;
const NEW_ADDRESS: u16 = 20;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;

/// Attributes: of links, addresses and routes.
const LINK_MTU: u16 = 4;
const ADDRESS_LOCAL: u16 = 2;
const ROUTE_DESTINATION: u16 = 1;
const ROUTE_INTERFACE: u16 = 4;

const UP: u32 = 1;
/// No duplicate is looked for on a link that has no other end.
const ADDRESS_NO_DETECTION: u8 = 0x02;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const SCOPE_LINK: u8 = 253;
const ROUTE_UNICAST: u8 = 1;

/// Where the kernel would send a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// To another machine.
    Away,
    /// To this machine itself, or to everybody on a network of it.
    Here,
    /// It knows no way.
    Nowhere,
}

/// A connection to the kernel for the network namespace it was made in.
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    /// Opens one.
    pub(crate) fn open() -> io::Result<Netlink> {
        // Without a protocol it is NETLINK_ROUTE, whose number is 0.
        Ok(Netlink(socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?))
    }

    /// Sets the largest packet of an interface and raises it.
    pub(crate) fn raise(&self, interface: u32, mtu: u32) -> io::Result<()> {
        let mut body = vec![0; 4];
        body.extend([interface, UP, UP].iter().flat_map(|word| word.to_ne_bytes()));
        self.order(Message::new(NEW_LINK, ACKNOWLEDGE, &body).attribute(LINK_MTU, &mtu.to_ne_bytes()))
    }

    /// Gives an interface an address, alone in its network.
    pub(crate) fn add_address(&self, interface: u32, address: IpAddr) -> io::Result<()> {
        let (family, bits, bytes) = parts(address);
        let mut body = vec![family, bits, ADDRESS_NO_DETECTION, 0];
        body.extend(interface.to_ne_bytes());
        self.order(Message::new(NEW_ADDRESS, ACKNOWLEDGE | CREATE, &body).attribute(ADDRESS_LOCAL, &bytes))
    }

    /// Sends everything of one family that has no better way out of an interface.
    pub(crate) fn add_default_route(&self, interface: u32, family_of: IpAddr) -> io::Result<()> {
        let (family, ..) = parts(family_of);
        let body = [family, 0, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, SCOPE_LINK, ROUTE_UNICAST, 0, 0, 0, 0];
        let message = Message::new(NEW_ROUTE, ACKNOWLEDGE | CREATE, &body);
        self.order(message.attribute(ROUTE_INTERFACE, &interface.to_ne_bytes()))
    }

    /// Where this machine would send a packet to an address now.
    pub(crate) fn way(&self, address: IpAddr) -> io::Result<Way> {
        let (family, bits, bytes) = parts(address);
        let body = [family, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        match self.ask(Message::new(GET_ROUTE, 0, &body).attribute(ROUTE_DESTINATION, &bytes)) {
            Ok(answer) if answer.kind == NEW_ROUTE => match answer.body.get(7) {
                Some(&ROUTE_UNICAST) => Ok(Way::Away),
                Some(_) => Ok(Way::Here),
                None => Err(io::ErrorKind::InvalidData.into()),
            },
            Ok(_) => Err(io::ErrorKind::InvalidData.into()),
            Err(error) => match error.raw_os_error() {
                // Also what routes of the kinds unreachable, blackhole and prohibit answer.
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EINVAL | libc::EACCES) => Ok(Way::Nowhere),
                _ => Err(error),
            },
        }
    }

    fn order(&self, message: Message) -> io::Result<()> {
        match self.ask(message)?.kind {
            ERROR => Ok(()),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Sends a message and takes the answer, an error as such. The kernel answers before the sending is over, so this does not wait.
    fn ask(&self, message: Message) -> io::Result<Answer> {
        sendto(&self.0, &message.finished(), SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut buffer = vec![0; MAX_ANSWER];
        let (length, _) = recv(&self.0, &mut buffer, RecvFlags::empty())?;
        buffer.truncate(length);
        let short = || io::Error::from(io::ErrorKind::InvalidData);
        let (header, body) = buffer.split_at_checked(HEADER).ok_or_else(short)?;
        let kind = u16::from_ne_bytes([header[4], header[5]]);
        if kind == ERROR {
            let code = body.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)).ok_or_else(short)?;
            if code != 0 {
                return Err(io::Error::from_raw_os_error(-code));
            }
        }
        Ok(Answer { kind, body: body.to_vec() })
    }
}

struct Answer {
    kind: u16,
    body: Vec<u8>,
}

/// A message being put together.
struct Message(Vec<u8>);

impl Message {
    fn new(kind: u16, flags: u16, body: &[u8]) -> Message {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes[6..8].copy_from_slice(&(REQUEST | flags).to_ne_bytes());
        bytes.extend(body);
        Message(bytes)
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Message {
        // Ours are of 4 or 16 bytes, so nothing needs to be filled up.
        let length = (4 + value.len()) as u16;
        self.0.extend(length.to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self
    }

    fn finished(mut self) -> Vec<u8> {
        let length = self.0.len() as u32;
        self.0[..4].copy_from_slice(&length.to_ne_bytes());
        self.0
    }
}

/// The family, the length in bits and the bytes of an address.
fn parts(address: IpAddr) -> (u8, u8, Vec<u8>) {
    match address {
        IpAddr::V4(address) => (libc::AF_INET as u8, 32, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6 as u8, 128, address.octets().to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_this_machine_is_told_from_what_is_not() {
        let netlink = Netlink::open().unwrap();
        assert_eq!(netlink.way("127.0.0.1".parse().unwrap()).unwrap(), Way::Here);
        assert_eq!(netlink.way("255.255.255.255".parse().unwrap()).unwrap(), Way::Here);
        assert_eq!(netlink.way("::1".parse().unwrap()).unwrap(), Way::Here);
    }
}
