//! Carries everything between a sandbox's interface and the world, in one thread that waits for all of it at once. Who may be reached is
//! decided here, at the moment a connection is asked for: the rule of [`address`], and the machine's own kernel, which knows what leads
//! to the machine itself.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{Event, EventData, EventFlags};
use rustix::event::{Timespec, epoll};
use smoltcp::wire::IpProtocol;

use super::device::{Device, room};
use super::netlink::{Netlink, Way};
use super::packet::{Packet, Refusal, Transport};
use super::tcp::{Connection, Next};
use super::udp::Flow;
use super::{address, resolver};

/// TCP connections at once, asked for or open: as many as a program with the usual bound of open files can have.
pub(crate) const MAX_CONNECTIONS: usize = 1024;

/// Flows of datagrams at once; the one that was not used for longest makes room for the next.
pub(crate) const MAX_FLOWS: usize = 1024;

/// Events taken from the kernel at once.
const MAX_EVENTS: usize = 64;

/// Packets taken from the interface before the outer sides have their turn.
const MAX_PACKETS: usize = 64;

/// What the kernel calls the interface and the sandbox's first process; connections and flows are numbered from here on.
const INTERFACE: u64 = 0;
const AGENT: u64 = 1;
const FIRST: u64 = 2;

/// The two ends of a connection or flow as the program inside sees them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Ends {
    inside: SocketAddr,
    outside: SocketAddr,
    datagrams: bool,
}

enum Kind {
    Connection(Connection),
    Flow(Flow),
}

struct Entry {
    kind: Kind,
    ends: Ends,
    /// Events waited for; nothing when the kernel is not asked at all.
    wanted: Option<EventFlags>,
    wake: Option<Instant>,
}

/// All that is under way.
pub(crate) struct Engine {
    device: Device,
    epoll: OwnedFd,
    netlink: Netlink,
    resolvers: Vec<IpAddr>,
    entries: HashMap<u64, Entry>,
    numbers: HashMap<Ends, u64>,
    next: u64,
    wakes: BTreeSet<(Instant, u64)>,
    connections: usize,
    /// For the packet or datagram being looked at.
    buffer: Vec<u8>,
}

impl Engine {
    /// For an interface, and a handle of the process whose end is ours.
    pub(crate) fn new(interface: OwnedFd, agent: &OwnedFd, resolvers: Vec<IpAddr>) -> io::Result<Engine> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let device = Device::new(interface);
        epoll::add(&epoll, &device, EventData::new_u64(INTERFACE), EventFlags::IN)?;
        epoll::add(&epoll, agent, EventData::new_u64(AGENT), EventFlags::IN)?;
        Ok(Engine {
            device,
            epoll,
            netlink: Netlink::open()?,
            resolvers,
            entries: HashMap::new(),
            numbers: HashMap::new(),
            next: FIRST,
            wakes: BTreeSet::new(),
            connections: 0,
            buffer: room(),
        })
    }

    /// Carries until the sandbox ends.
    pub(crate) fn run(&mut self) -> io::Result<()> {
        let mut events: Vec<Event> = Vec::with_capacity(MAX_EVENTS);
        loop {
            let timeout = self.wakes.first().map(|(at, _)| timespec(at.saturating_duration_since(Instant::now())));
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let now = Instant::now();
            for event in events.drain(..) {
                match event.data.u64() {
                    INTERFACE => self.packets(now)?,
                    AGENT => return Ok(()),
                    number => self.advance(number, event.flags, now),
                }
            }
            self.wake(now);
        }
    }

    /// Takes packets from the interface, then lets each connection answer all of its own at once.
    fn packets(&mut self, now: Instant) -> io::Result<()> {
        let mut touched = Vec::new();
        let mut buffer = std::mem::take(&mut self.buffer);
        for _ in 0..MAX_PACKETS {
            let Some(packet) = self.device.receive(&mut buffer)? else { break };
            touched.extend(self.packet(packet, now));
        }
        self.buffer = buffer;
        touched.sort_unstable();
        touched.dedup();
        for number in touched {
            self.advance(number, EventFlags::empty(), now);
        }
        Ok(())
    }

    /// Handles one packet; answers the number of the connection that has to move on.
    fn packet(&mut self, bytes: &[u8], now: Instant) -> Option<u64> {
        let packet = Packet::parse(bytes)?;
        let datagrams = matches!(packet.transport, Transport::Udp(_));
        let ends = Ends { inside: packet.source, outside: packet.destination, datagrams };
        let known = self.numbers.get(&ends).copied();
        let outcome = match (&packet.transport, known) {
            (Transport::Udp(data), number) => number.map_or_else(|| self.open_flow(ends, now), Ok).map(|number| {
                if let Some(Entry { kind: Kind::Flow(flow), .. }) = self.entries.get_mut(&number) {
                    flow.send(data, &mut self.device, now);
                }
                None
            }),
            (Transport::Syn | Transport::Tcp, Some(number)) => {
                if let Some(Entry { kind: Kind::Connection(connection), .. }) = self.entries.get_mut(&number) {
                    connection.receive(bytes, &mut self.device, now);
                }
                Ok(Some(number))
            }
            (Transport::Syn, None) => self.open_connection(ends, bytes, now).map(Some),
            (Transport::Tcp, None) => {
                if let Some(reset) = packet.reset() {
                    self.device.send(&reset);
                }
                Ok(None)
            }
            // The kernel's own messages about what it could not deliver. Programs inside cannot send any.
            (Transport::Other(IpProtocol::Icmp | IpProtocol::Icmpv6 | IpProtocol::HopByHop), _) => Ok(None),
            (Transport::Other(_), _) => Err(Refusal::Prohibited),
        };
        outcome.unwrap_or_else(|refusal| {
            self.refuse(&packet, refusal);
            None
        })
    }

    /// Where packets for an address go, or why they go nowhere.
    fn target(&self, asked: SocketAddr) -> Result<SocketAddr, Refusal> {
        if let Some(resolver) = resolver::behind(&self.resolvers, asked) {
            return Ok(resolver);
        }
        if !address::is_public(asked.ip()) {
            return Err(Refusal::Prohibited);
        }
        match self.netlink.way(asked.ip()) {
            Ok(Way::Away) => Ok(asked),
            Ok(Way::Nowhere) => Err(Refusal::Network),
            Ok(Way::Here) | Err(_) => Err(Refusal::Prohibited),
        }
    }

    fn open_connection(&mut self, ends: Ends, packet: &[u8], now: Instant) -> Result<u64, Refusal> {
        let target = self.target(ends.outside)?;
        if self.connections >= MAX_CONNECTIONS {
            return Err(Refusal::Prohibited);
        }
        let connection = Connection::begin(target, packet, now)?;
        self.connections += 1;
        Ok(self.insert(Kind::Connection(connection), ends))
    }

    fn open_flow(&mut self, ends: Ends, now: Instant) -> Result<u64, Refusal> {
        let target = self.target(ends.outside)?;
        if self.entries.len() - self.connections >= MAX_FLOWS {
            let used = |(number, entry): (&u64, &Entry)| match &entry.kind {
                Kind::Flow(flow) => Some((flow.used(), *number)),
                Kind::Connection(_) => None,
            };
            if let Some((_, oldest)) = self.entries.iter().filter_map(used).min() {
                self.remove(oldest);
            }
        }
        let flow = Flow::open(ends.inside, ends.outside, target, now)?;
        let end = flow.end();
        let number = self.insert(Kind::Flow(flow), ends);
        self.wait(number, EventFlags::IN, Some(end));
        Ok(number)
    }

    fn insert(&mut self, kind: Kind, ends: Ends) -> u64 {
        let number = self.next;
        self.next += 1;
        self.entries.insert(number, Entry { kind, ends, wanted: None, wake: None });
        self.numbers.insert(ends, number);
        number
    }

    fn remove(&mut self, number: u64) {
        let Some(entry) = self.entries.remove(&number) else { return };
        self.numbers.remove(&entry.ends);
        if let Some(at) = entry.wake {
            self.wakes.remove(&(at, number));
        }
        if matches!(entry.kind, Kind::Connection(_)) {
            self.connections -= 1;
        }
        // Closing its socket takes it off the kernel's list.
    }

    /// Lets a connection or flow move on. One that is gone may still have an event on its way.
    fn advance(&mut self, number: u64, events: EventFlags, now: Instant) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        let next = match &mut entry.kind {
            Kind::Connection(connection) => connection.advance(events, &mut self.device, now),
            Kind::Flow(flow) => {
                flow.receive(&mut self.device, now, &mut self.buffer);
                if flow.end() <= now { Next::Over } else { Next::Wait(EventFlags::IN, Some(flow.end())) }
            }
        };
        match next {
            Next::Wait(wanted, wake) => self.wait(number, wanted, wake),
            Next::Over => self.remove(number),
            Next::Refused(refusal) => {
                let question = match &entry.kind {
                    Kind::Connection(connection) => connection.question().map(<[u8]>::to_vec),
                    Kind::Flow(_) => None,
                };
                if let Some(packet) = question.as_deref().and_then(Packet::parse) {
                    self.refuse(&packet, refusal);
                }
                self.remove(number);
            }
        }
    }

    /// Tells the sandbox that a packet leads nowhere: a port that refuses connections does so in TCP's own way.
    fn refuse(&mut self, packet: &Packet<'_>, refusal: Refusal) {
        let reset = matches!(packet.transport, Transport::Syn).then(|| packet.reset()).flatten();
        match reset {
            Some(reset) if refusal == Refusal::Port => self.device.send(&reset),
            _ => self.device.send(&packet.refused(refusal)),
        }
    }

    /// Notes what a connection or flow waits for.
    fn wait(&mut self, number: u64, wanted: EventFlags, wake: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(&number) else { return };
        // A socket that is waited for in no way is taken off the list: the kernel tells of its end again and again otherwise.
        let wanted = (!wanted.is_empty()).then_some(wanted);
        if entry.wanted != wanted {
            let socket: BorrowedFd<'_> = match &entry.kind {
                Kind::Connection(connection) => connection.as_fd(),
                Kind::Flow(flow) => flow.as_fd(),
            };
            let data = EventData::new_u64(number);
            let changed = match (entry.wanted, wanted) {
                (None, Some(flags)) => epoll::add(&self.epoll, socket, data, flags),
                (Some(_), Some(flags)) => epoll::modify(&self.epoll, socket, data, flags),
                (_, None) => epoll::delete(&self.epoll, socket),
            };
            entry.wanted = wanted;
            if changed.is_err() {
                // The kernel has no room for another: without events there is no connection.
                self.remove(number);
                return;
            }
        }
        if entry.wake != wake {
            if let Some(at) = entry.wake {
                self.wakes.remove(&(at, number));
            }
            if let Some(at) = wake {
                self.wakes.insert((at, number));
            }
            entry.wake = wake;
        }
    }

    /// Lets those move on whose time has come.
    fn wake(&mut self, now: Instant) {
        while let Some((at, number)) = self.wakes.first().copied()
            && at <= now
        {
            self.wakes.remove(&(at, number));
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.wake = None;
            }
            self.advance(number, EventFlags::empty(), now);
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}
