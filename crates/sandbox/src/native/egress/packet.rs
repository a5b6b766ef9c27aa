//! Packets that a sandbox sends, read as far as needed to know what to do with them, and the packets it gets that belong to no connection:
//! datagrams, resets, and the refusals that let a program fail at once instead of waiting.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use smoltcp::phy::{Checksum, ChecksumCapabilities};
use smoltcp::wire::{
    Icmpv4DstUnreachable, Icmpv4Packet, Icmpv4Repr, Icmpv6DstUnreachable, Icmpv6Packet, Icmpv6Repr, IpProtocol, IpRepr,
    Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
};

/// Who refuses: an address on the sandbox's own link.
const REFUSER_V4: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
const REFUSER_V6: Ipv6Addr = Ipv6Addr::new(0xfd67, 0x7075, 0x6c65, 0, 0, 0, 0, 2);

/// How far packets of ours may travel: one step, but programs look at it.
const HOPS: u8 = 64;

/// How much of a refused packet is quoted: its ports and numbers, which is what the kernel finds the socket by.
const QUOTED: usize = 20;

/// The flag of a first packet of a TCP connection, and those that stand beside it in any other.
pub(crate) enum Transport<'a> {
    /// A TCP connection begins.
    Syn,
    /// Any other packet of TCP.
    Tcp,
    /// A datagram.
    Udp(&'a [u8]),
    /// Neither.
    Other(IpProtocol),
}

/// A packet of the sandbox.
pub(crate) struct Packet<'a> {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) transport: Transport<'a>,
    /// All after the header of IP.
    payload: &'a [u8],
}

/// Why something cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The rule forbids it, or a bound is reached.
    Prohibited,
    /// There is no way to that network.
    Network,
    /// The other machine does not answer.
    Host,
    /// Nobody listens there.
    Port,
}

impl<'a> Packet<'a> {
    /// Reads a packet. Pieces of larger ones do not occur, because the interface takes the largest there are.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Packet<'a>> {
        let (source, destination, protocol, payload): (IpAddr, IpAddr, _, _) = match bytes.first()? >> 4 {
            4 => {
                let packet = Ipv4Packet::new_checked(bytes).ok()?;
                let whole = !packet.more_frags() && packet.frag_offset() == 0;
                whole.then_some(())?;
                (packet.src_addr().into(), packet.dst_addr().into(), packet.next_header(), packet.payload())
            }
            6 => {
                let packet = Ipv6Packet::new_checked(bytes).ok()?;
                (packet.src_addr().into(), packet.dst_addr().into(), packet.next_header(), packet.payload())
            }
            _ => return None,
        };
        let (from, to, transport) = match protocol {
            IpProtocol::Tcp => {
                let tcp = TcpPacket::new_checked(payload).ok()?;
                let first = tcp.syn() && !tcp.ack() && !tcp.rst();
                (tcp.src_port(), tcp.dst_port(), if first { Transport::Syn } else { Transport::Tcp })
            }
            IpProtocol::Udp => {
                let udp = UdpPacket::new_checked(payload).ok()?;
                (udp.src_port(), udp.dst_port(), Transport::Udp(udp.payload()))
            }
            other => (0, 0, Transport::Other(other)),
        };
        let (source, destination) = (SocketAddr::new(source, from), SocketAddr::new(destination, to));
        Some(Packet { source, destination, transport, payload })
    }

    /// The answer that this packet cannot be delivered.
    pub(crate) fn refused(&self, refusal: Refusal) -> Vec<u8> {
        let protocol = match self.transport {
            Transport::Syn | Transport::Tcp => IpProtocol::Tcp,
            Transport::Udp(_) => IpProtocol::Udp,
            Transport::Other(protocol) => protocol,
        };
        let quote = &self.payload[..self.payload.len().min(QUOTED)];
        unreachable((self.source.ip(), self.destination.ip()), protocol, quote, refusal)
    }

    /// The answer that a packet of TCP belongs to no connection; none to an answer of that kind.
    pub(crate) fn reset(&self) -> Option<Vec<u8>> {
        let tcp = TcpPacket::new_checked(self.payload).ok()?;
        if tcp.rst() {
            return None;
        }
        let answered = tcp.seq_number() + tcp.segment_len();
        let reset = TcpRepr {
            src_port: self.destination.port(),
            dst_port: self.source.port(),
            control: TcpControl::Rst,
            seq_number: if tcp.ack() { tcp.ack_number() } else { TcpSeqNumber(0) },
            ack_number: (!tcp.ack()).then_some(answered),
            window_len: 0,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        let (from, to) = (self.destination.ip().into(), self.source.ip().into());
        Some(build((self.destination.ip(), self.source.ip()), IpProtocol::Tcp, reset.buffer_len(), |bytes| {
            reset.emit(&mut TcpPacket::new_unchecked(bytes), &from, &to, &ChecksumCapabilities::default());
        }))
    }
}

/// A datagram for the sandbox.
pub(crate) fn datagram(from: SocketAddr, to: SocketAddr, data: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: from.port(), dst_port: to.port() };
    build((from.ip(), to.ip()), IpProtocol::Udp, udp.header_len() + data.len(), |bytes| {
        let mut packet = UdpPacket::new_unchecked(bytes);
        let fill = |payload: &mut [u8]| payload.copy_from_slice(data);
        let checksums = ChecksumCapabilities::default();
        udp.emit(&mut packet, &from.ip().into(), &to.ip().into(), data.len(), fill, &checksums);
    })
}

/// The answer that a datagram sent earlier was not delivered.
pub(crate) fn undelivered(from: SocketAddr, to: SocketAddr, refusal: Refusal) -> Vec<u8> {
    let mut quote = Vec::with_capacity(8);
    for word in [from.port(), to.port(), 8, 0] {
        quote.extend(word.to_be_bytes());
    }
    unreachable((from.ip(), to.ip()), IpProtocol::Udp, &quote, refusal)
}

/// The message that what `from` sent to `to` does not arrive.
fn unreachable((from, to): (IpAddr, IpAddr), protocol: IpProtocol, quote: &[u8], refusal: Refusal) -> Vec<u8> {
    let (next_header, payload_len, hop_limit) = (protocol, quote.len(), HOPS);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let header = Ipv4Repr { src_addr: from, dst_addr: to, next_header, payload_len, hop_limit };
            let reason = match refusal {
                Refusal::Prohibited => Icmpv4DstUnreachable::CommProhibited,
                Refusal::Network => Icmpv4DstUnreachable::NetUnreachable,
                Refusal::Host => Icmpv4DstUnreachable::HostUnreachable,
                Refusal::Port => Icmpv4DstUnreachable::PortUnreachable,
            };
            let message = Icmpv4Repr::DstUnreachable { reason, header, data: quote };
            let ends = (REFUSER_V4.into(), from.into());
            build(ends, IpProtocol::Icmp, message.buffer_len(), |bytes| {
                message.emit(&mut Icmpv4Packet::new_unchecked(bytes), &ChecksumCapabilities::default());
            })
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let header = Ipv6Repr { src_addr: from, dst_addr: to, next_header, payload_len, hop_limit };
            let reason = match refusal {
                Refusal::Prohibited => Icmpv6DstUnreachable::AdminProhibit,
                Refusal::Network => Icmpv6DstUnreachable::NoRoute,
                Refusal::Host => Icmpv6DstUnreachable::AddrUnreachable,
                Refusal::Port => Icmpv6DstUnreachable::PortUnreachable,
            };
            let message = Icmpv6Repr::DstUnreachable { reason, header, data: quote };
            let ends = (REFUSER_V6.into(), from.into());
            build(ends, IpProtocol::Icmpv6, message.buffer_len(), |bytes| {
                let checksums = ChecksumCapabilities::default();
                message.emit(&REFUSER_V6, &from, &mut Icmpv6Packet::new_unchecked(bytes), &checksums);
            })
        }
        // A packet has addresses of one family.
        _ => Vec::new(),
    }
}

/// A packet with a header of IP and what `fill` puts after it.
fn build((from, to): (IpAddr, IpAddr), protocol: IpProtocol, length: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let header = IpRepr::new(from.into(), to.into(), protocol, length, HOPS);
    let mut bytes = vec![0; header.buffer_len()];
    header.emit(&mut bytes[..], &ChecksumCapabilities::default());
    fill(&mut bytes[header.header_len()..]);
    bytes
}

/// What need not be computed between a sandbox and us, who share a machine: the interface is told so with each packet.
pub(crate) fn trusted() -> ChecksumCapabilities {
    let mut checksums = ChecksumCapabilities::ignored();
    checksums.ipv4 = Checksum::Tx;
    checksums
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_datagram_is_read_as_it_was_written() {
        for (from, to) in [("8.8.8.8:53", "10.0.2.100:4000"), ("[2a00::1]:53", "[fd67::1]:4000")] {
            let bytes = datagram(address(from), address(to), b"hello");
            let packet = Packet::parse(&bytes).unwrap();
            assert_eq!((packet.source, packet.destination), (address(from), address(to)));
            assert!(matches!(packet.transport, Transport::Udp(b"hello")));
            for end in 0..bytes.len() {
                assert!(Packet::parse(&bytes[..end]).is_none(), "cut after {end}");
            }
        }
    }

    #[test]
    fn a_refusal_goes_back_to_the_sender_and_names_the_ports() {
        for (from, to, refuser) in
            [("10.0.2.100:4000", "10.1.1.1:80", "10.0.2.2"), ("[fd67::1]:4000", "[fc00::1]:80", "fd67:7075:6c65::2")]
        {
            let sent = datagram(address(from), address(to), b"hello");
            let answer = Packet::parse(&sent).unwrap().refused(Refusal::Prohibited);
            let later = undelivered(address(from), address(to), Refusal::Prohibited);
            for bytes in [answer, later] {
                let read = Packet::parse(&bytes).unwrap();
                assert_eq!((read.source.ip().to_string(), read.destination.ip()), (refuser.into(), address(from).ip()));
                let ports: Vec<u8> = [4000u16, 80].iter().flat_map(|port| port.to_be_bytes()).collect();
                assert!(bytes.windows(4).any(|window| window == ports), "{bytes:?}");
                let message = &bytes[if from.starts_with('[') { 40 } else { 20 }..];
                assert_eq!(&message[..2], if from.starts_with('[') { &[1, 1] } else { &[3, 13] });
            }
        }
    }

    #[test]
    fn a_stray_packet_of_tcp_is_reset_and_a_reset_is_not() {
        let mut syn = build((address("10.0.2.100:1").ip(), address("8.8.8.8:1").ip()), IpProtocol::Tcp, 20, |bytes| {
            let mut tcp = TcpPacket::new_unchecked(bytes);
            tcp.set_src_port(4000);
            tcp.set_dst_port(80);
            tcp.set_seq_number(TcpSeqNumber(7));
            tcp.set_header_len(20);
            tcp.set_syn(true);
        });
        let packet = Packet::parse(&syn).unwrap();
        assert!(matches!(packet.transport, Transport::Syn));
        let reset = packet.reset().unwrap();
        let read = Packet::parse(&reset).unwrap();
        assert_eq!((read.source, read.destination), (address("8.8.8.8:80"), address("10.0.2.100:4000")));
        let tcp = TcpPacket::new_checked(read.payload).unwrap();
        assert!(tcp.rst() && tcp.ack() && tcp.ack_number() == TcpSeqNumber(8));
        assert!(read.reset().is_none());
        // A piece of a larger packet.
        syn[6] = 0x20;
        assert!(Packet::parse(&syn).is_none());
    }
}
