//! One TCP connection: a socket of this machine on the outer side, and on the inner side a small TCP of our own that speaks for the other
//! machine. The inner side answers only when the outer one has, so a program inside sees the refusals and delays of the real thing; each
//! side then sends no faster than the other takes, ends when the other ends, and breaks when the other breaks.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
use smoltcp::iface::{Config, Interface, PollResult, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::wire::{HardwareAddress, IpCidr};

use super::device::Device;
use super::link::Link;
use super::packet::Refusal;

/// Bytes of a connection under way in either direction, on the inner side. The way is short, so a small window is enough for its full
/// speed; the kernel's own buffers serve the long way outside.
pub(crate) const WINDOW: usize = 64 * 1024;

/// How long another machine may take to accept: what Linux waits before its sixth attempt.
const CONNECT_WAIT: Duration = Duration::from_secs(63);

/// How long the sandbox's kernel may take to repeat a question, beyond what it usually takes: one second at first.
const REPEAT_WAIT: Duration = Duration::from_secs(2);

/// How often the inner side is asked whether its socket still exists. One that a program left half closed vanishes without a word, and so
/// do many that end at once: the kernel keeps 500 packets for us and drops what comes on top.
const INNER_ALIVE: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(20);

/// How long the inner side may be silent when asked: its kernel is on the same machine, and answers even for a frozen program.
const INNER_SILENT: smoltcp::time::Duration = smoltcp::time::Duration::from_secs(300);

/// The same for the outer side: RFC 5382 wants quiet connections kept for two hours at least, and so they are, as long as the other
/// machine answers.
const OUTER_QUIET: Duration = Duration::from_secs(900);
const OUTER_AGAIN: Duration = Duration::from_secs(60);
const OUTER_ATTEMPTS: u32 = 5;

/// The shortest time until a connection is looked at again by itself.
const SHORTEST: Duration = Duration::from_millis(1);

/// A connection.
pub(crate) struct Connection {
    outer: TcpStream,
    inner: Inner,
}

/// The inner side.
enum Inner {
    /// Not answered yet: the packet by which the sandbox asked.
    Asked { packet: Vec<u8>, since: Instant, last: Instant },
    /// Answered.
    Open(Box<Stack>),
}

/// The inner side's own TCP. Each connection has one, so that finding it costs the same however many there are.
struct Stack {
    began: Instant,
    interface: Interface,
    sockets: SocketSet<'static>,
    /// The sandbox has sent its last byte and the other machine knows.
    inner_ended: bool,
    /// The other machine has sent its last byte and it is in our buffer.
    outer_ended: bool,
}

/// What a connection waits for.
pub(crate) enum Next {
    /// These events of its outer side, or this time.
    Wait(EventFlags, Option<Instant>),
    /// Nothing: it is over.
    Over,
    /// Nothing: it could not be made.
    Refused(Refusal),
}

impl Connection {
    /// Begins to connect to the other machine.
    pub(crate) fn begin(target: SocketAddr, packet: &[u8], now: Instant) -> Result<Connection, Refusal> {
        let outer = open(target).map_err(|error| refusal(&error))?;
        Ok(Connection { outer, inner: Inner::Asked { packet: packet.to_vec(), since: now, last: now } })
    }

    /// The packet by which the sandbox asked for this connection, as long as it was not answered.
    pub(crate) fn question(&self) -> Option<&[u8]> {
        match &self.inner {
            Inner::Asked { packet, .. } => Some(packet),
            Inner::Open(_) => None,
        }
    }

    /// Takes a packet of the sandbox. The answers follow with [`Connection::advance`].
    pub(crate) fn receive(&mut self, packet: &[u8], device: &mut Device, now: Instant) {
        match &mut self.inner {
            // A repeated question is still the same.
            Inner::Asked { last, .. } => *last = now,
            Inner::Open(stack) => stack.receive(packet, device, now),
        }
    }

    /// Moves on as far as possible. `events` are those of the outer side.
    pub(crate) fn advance(&mut self, events: EventFlags, device: &mut Device, now: Instant) -> Next {
        let stack = match &mut self.inner {
            Inner::Open(stack) => stack,
            Inner::Asked { packet, since, last } => {
                if events.is_empty() {
                    return unanswered(*since, *last, now);
                }
                match self.outer.take_error() {
                    Ok(None) => {}
                    Ok(Some(error)) | Err(error) => return Next::Refused(refusal(&error)),
                }
                let Some(mut stack) = Stack::new(packet, now) else { return Next::Refused(Refusal::Prohibited) };
                stack.receive(packet, device, now);
                self.inner = Inner::Open(Box::new(stack));
                return self.advance(EventFlags::empty(), device, now);
            }
        };
        let next = stack.advance(&mut self.outer, events.contains(EventFlags::ERR), device, now);
        if matches!(next, Next::Over) && !(stack.inner_ended && stack.outer_ended) {
            // Broken inside, so it breaks outside too, instead of ending as if all had been said.
            let _ = sockopt::set_socket_linger(&self.outer, Some(Duration::ZERO));
        }
        next
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.outer.as_fd()
    }
}

impl Stack {
    /// For the connection that this packet asks for.
    fn new(packet: &[u8], now: Instant) -> Option<Stack> {
        let asked = super::packet::Packet::parse(packet)?;
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed();
        let mut interface = Interface::new(config, &mut Link { packet: None, device: None }, time(now, now));
        interface.update_ip_addrs(|addresses| {
            // Room for two is built in.
            let _ = addresses.push(IpCidr::new(asked.destination.ip().into(), host_bits(asked.destination.ip())));
        });
        // One each fits; which gateway does not matter where there is only one other end.
        let _ = interface.routes_mut().add_default_ipv4_route(Ipv4Addr::UNSPECIFIED);
        let _ = interface.routes_mut().add_default_ipv6_route(Ipv6Addr::UNSPECIFIED);
        let buffer = || SocketBuffer::new(vec![0; WINDOW]);
        let mut socket = Socket::new(buffer(), buffer());
        // Each of our segments is worth sending at once: the program outside, or inside, has already decided so.
        socket.set_nagle_enabled(false);
        socket.set_ack_delay(None);
        socket.set_keep_alive(Some(INNER_ALIVE));
        socket.set_timeout(Some(INNER_SILENT));
        socket.listen((asked.destination.ip(), asked.destination.port())).ok()?;
        let mut sockets = SocketSet::new(vec![SocketStorage::EMPTY]);
        sockets.add(socket);
        Some(Stack { began: now, interface, sockets, inner_ended: false, outer_ended: false })
    }

    fn receive(&mut self, packet: &[u8], device: &mut Device, now: Instant) {
        let mut link = Link { packet: Some(packet), device: Some(device) };
        self.interface.poll_ingress_single(time(self.began, now), &mut link, &mut self.sockets);
    }

    fn advance(&mut self, outer: &mut TcpStream, broken: bool, device: &mut Device, now: Instant) -> Next {
        let Stack { sockets, inner_ended, outer_ended, .. } = self;
        let Some(socket) = sockets.iter_mut().map(|(_, socket)| tcp(socket)).next() else { return Next::Over };
        let mut wanted = EventFlags::empty();
        let moved = match outwards(socket, outer, inner_ended) {
            Ok(Moved::Waits) => Ok(EventFlags::OUT),
            Ok(Moved::All) => Ok(EventFlags::empty()),
            Err(error) => Err(error),
        };
        let moved = moved.and_then(|out| Ok((out, inwards(socket, outer, outer_ended)?)));
        match moved {
            Ok((out, Moved::Waits)) => wanted |= out | EventFlags::IN,
            Ok((out, Moved::All)) => wanted |= out,
            Err(_) => socket.abort(),
        }
        if broken {
            socket.abort();
        }
        let at = time(self.began, now);
        let mut link = Link { packet: None, device: Some(device) };
        while self.interface.poll_egress(at, &mut link, &mut self.sockets) == PollResult::SocketStateChanged {}
        let state = self.sockets.iter_mut().map(|(_, socket)| tcp(socket).state()).next();
        // What is left of a connection that both sides ended is a wait for strays, and there are none here. One that listens again was
        // given up by the sandbox before it began.
        if matches!(state, None | Some(State::Closed | State::TimeWait | State::Listen)) {
            return Next::Over;
        }
        let wake = self.interface.poll_at(at, &self.sockets).map(|at| {
            let at = self.began + Duration::from_micros(u64::try_from(at.total_micros()).unwrap_or(0));
            at.max(now + SHORTEST)
        });
        Next::Wait(wanted, wake)
    }
}

/// How moving bytes ended.
enum Moved {
    /// The outer side has nothing more, or takes nothing more, for now.
    Waits,
    /// There is nothing to move, or no room to move it to.
    All,
}

/// Moves what the sandbox sent to the other machine.
fn outwards(socket: &mut Socket<'_>, outer: &mut TcpStream, ended: &mut bool) -> io::Result<Moved> {
    while socket.can_recv() {
        match moving(socket.recv(|bytes| match outer.write(bytes) {
            Ok(length) => (length, Ok(length)),
            Err(error) => (0, Err(error)),
        })) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Moved::Waits),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let last = matches!(socket.state(), State::CloseWait | State::LastAck | State::Closing | State::TimeWait);
    if last && !*ended {
        outer.shutdown(Shutdown::Write)?;
        *ended = true;
    }
    Ok(Moved::All)
}

/// Moves what the other machine sent to the sandbox.
fn inwards(socket: &mut Socket<'_>, outer: &mut TcpStream, ended: &mut bool) -> io::Result<Moved> {
    while !*ended && socket.can_send() {
        match moving(socket.send(|room| match outer.read(room) {
            Ok(length) => (length, Ok(length)),
            Err(error) => (0, Err(error)),
        })) {
            Ok(0) => {
                socket.close();
                *ended = true;
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Moved::Waits),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Moved::All)
}

/// Joins the two ways in which moving can fail.
fn moving<E: std::fmt::Display>(result: Result<io::Result<usize>, E>) -> io::Result<usize> {
    result.unwrap_or_else(|error| Err(io::Error::other(error.to_string())))
}

fn tcp<'a, 'b>(socket: &'a mut smoltcp::socket::Socket<'b>) -> &'a mut Socket<'b> {
    match socket {
        smoltcp::socket::Socket::Tcp(socket) => socket,
    }
}

/// What becomes of a question that the other machine has not answered. A program that no longer waits tells nobody; but the kernel repeats
/// the question of one that does, each time after at most twice the time since it was asked first.
fn unanswered(since: Instant, last: Instant, now: Instant) -> Next {
    let given_up = last + 2 * (last - since) + REPEAT_WAIT;
    let until = since + CONNECT_WAIT;
    match now {
        _ if now >= until => Next::Refused(Refusal::Host),
        _ if now >= given_up => Next::Over,
        _ => Next::Wait(EventFlags::OUT, Some(until.min(given_up))),
    }
}

/// Starts connecting. What the program inside decided about delays and liveness it decided on its own side.
fn open(target: SocketAddr) -> io::Result<TcpStream> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, OUTER_QUIET)?;
    sockopt::set_tcp_keepintvl(&socket, OUTER_AGAIN)?;
    sockopt::set_tcp_keepcnt(&socket, OUTER_ATTEMPTS)?;
    match connect(&socket, &target) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket.into()),
        Err(error) => Err(error.into()),
    }
}

/// What the sandbox is told when the other machine cannot be reached.
pub(crate) fn refusal(error: &io::Error) -> Refusal {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED | libc::ECONNRESET) => Refusal::Port,
        Some(libc::ENETUNREACH) => Refusal::Network,
        Some(libc::EHOSTUNREACH | libc::ETIMEDOUT) => Refusal::Host,
        // A firewall of this machine, no free descriptor or port.
        _ => Refusal::Prohibited,
    }
}

fn host_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// Numbers that nobody else knows; they only have to differ.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

fn time(began: Instant, now: Instant) -> smoltcp::time::Instant {
    let since = now.saturating_duration_since(began);
    smoltcp::time::Instant::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of TCP as a sandbox's kernel makes them: flags and numbers, and an option for the largest segment.
    fn segment(flags: u8, sequence: u32, acknowledged: u32, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x45, 0, 0, (44 + data.len()) as u8, 0, 0, 0x40, 0, 64, 6, 0, 0];
        bytes.extend([10, 0, 2, 100, 1, 2, 3, 4, 0x0f, 0xa0, 0, 80]);
        bytes.extend(sequence.to_be_bytes());
        bytes.extend(acknowledged.to_be_bytes());
        bytes.extend([0x60, flags, 0xff, 0xff, 0, 0, 0, 0, 2, 4, 0x40, 0]);
        bytes.extend(data);
        bytes
    }

    /// A connection that was asked for and answered, with an interface that swallows everything.
    fn open() -> (Stack, Device) {
        let mut device = Device::new(std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap().into());
        let (asked, now) = (segment(2, 1000, 0, b""), Instant::now());
        let mut stack = Stack::new(&asked, now).unwrap();
        stack.receive(&asked, &mut device, now);
        assert_eq!(state(&mut stack), State::SynReceived);
        (stack, device)
    }

    fn state(stack: &mut Stack) -> State {
        stack.sockets.iter_mut().map(|(_, socket)| tcp(socket).state()).next().unwrap()
    }

    #[test]
    fn whatever_comes_instead_of_a_good_packet_does_not_end_the_process() {
        let now = Instant::now();
        for original in [segment(2, 1000, 0, b""), segment(0x10, 1001, 1, b"hello"), segment(0x11, 1001, 1, b"")] {
            for place in 0..original.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let (mut stack, mut device) = open();
                    let mut garbled = original.clone();
                    garbled[place] = value;
                    stack.receive(&garbled, &mut device, now);
                    stack.receive(&garbled[..place], &mut device, now);
                    stack.receive(&original, &mut device, now);
                    let _ = Stack::new(&garbled, now);
                }
            }
        }
    }

    #[test]
    fn an_attempt_that_is_not_repeated_in_time_is_given_up_and_one_that_is_goes_on() {
        let since = Instant::now();
        let after = |seconds| since + Duration::from_secs(seconds);
        let waits =
            |last, now| matches!(unanswered(since, after(last), after(now)), Next::Wait(EventFlags::OUT, Some(_)));
        // When the kernel repeats a question: each second at first, later after twice the time.
        let mut last = 0;
        for next in [1, 2, 3, 4, 5, 7, 11, 19, 35] {
            assert!(waits(last, next), "asked after {last} s, and given up before {next} s");
            last = next;
        }
        for last in [0, 1, 7] {
            assert!(matches!(unanswered(since, after(last), after(3 * last + 2)), Next::Over), "{last}");
        }
        assert!(matches!(unanswered(since, after(35), after(63)), Next::Refused(Refusal::Host)));
    }
}
