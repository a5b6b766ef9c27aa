//! A network for a sandbox that leads to public addresses and nowhere else, and changes nothing of the machine: no route, no forwarding, no
//! firewall rule, no interface.
//!
//! Inside there is an interface whose packets come out of a file instead of a wire ([`device`]). The file is held by a *network process*, one
//! for each sandbox: this same program started again, with a user of its own, no privilege, no files and few system calls ([`process`]). It
//! turns every connection and flow of datagrams inside into an ordinary socket of the machine ([`engine`], [`tcp`], [`udp`]), after the
//! rule ([`address`]) and the machine's kernel ([`netlink`]) have been asked whether the address may be reached. What may not is
//! refused at once ([`packet`]). Names are asked of the machine's own name servers ([`resolver`]).
//!
//! The network process has a control group of its own beside the sandbox's other two, outlives the node as the agent does, and ends with the
//! agent or with the sandbox.

mod address;
mod confine;
mod device;
mod engine;
mod link;
mod netlink;
mod packet;
mod process;
mod resolver;
mod tcp;
mod udp;

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::io::{FdFlags, fcntl_setfd};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};
use serde::{Deserialize, Serialize};

pub(crate) use process::{ARGUMENT, main};

use super::cgroup::Limits;
use super::helper::{Failed, Step};
use crate::Error;

/// Bytes of memory of a network process. Connections at their bound have 128 MiB under way; the rest is the kernel's for their sockets,
/// where it counts that.
const MEMORY_LIMIT: u64 = 256 << 20;

/// Its share of a processor: it copies bytes.
const CPU_MILLIS_LIMIT: u32 = 1000;

/// What a network process may use; it starts no other.
pub(crate) const LIMITS: Limits = Limits { cpu_millis: CPU_MILLIS_LIMIT, memory_bytes: MEMORY_LIMIT, max_processes: 1 };

/// What the builder must know of a sandbox's network.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Files by which the network process enters its control groups.
    groups: Vec<PathBuf>,
    /// Its user and group, which nothing else has.
    user: u32,
    /// The machine's name servers.
    resolvers: Vec<IpAddr>,
    /// The machine reaches the world by IPv6 as well.
    ipv6: bool,
}

impl Plan {
    /// With the machine's name servers and routes as they are now.
    pub(crate) fn new(groups: Vec<PathBuf>, user: u32) -> Plan {
        let resolvers = resolver::parse(&fs::read_to_string(resolver::RESOLV_CONF).unwrap_or_default());
        let ipv6 = reaches_ipv6(&fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default());
        Plan { groups, user, resolvers, ipv6 }
    }

    /// The `resolv.conf` of the sandbox.
    pub(crate) fn resolv_conf(&self) -> String {
        resolver::inside(&self.resolvers)
    }
}

/// Fails where this machine has no such interfaces.
pub(crate) fn usable() -> Result<(), Error> {
    device::usable().map_err(|error| {
        let path = device::CLONE_DEVICE;
        let what = format!(
            "a network for sandboxes needs {path}: {error}; load the kernel's module `tun`, or let the node use it"
        );
        Error::Unsupported { what }
    })
}

/// Bytes that a sandbox received and sent, by its first process.
pub(crate) fn traffic(agent: i32) -> Option<(u64, u64)> {
    let table = fs::read_to_string(format!("/proc/{agent}/net/dev")).ok()?;
    let line = table.lines().find_map(|line| line.trim_start().strip_prefix(device::NAME)?.strip_prefix(':'))?;
    let mut numbers = line.split_whitespace();
    Some((numbers.next()?.parse().ok()?, numbers.nth(7)?.parse().ok()?))
}

/// Makes the interface in the sandbox of this first process, given by a handle, and starts the network process. Called by the builder, which has one thread.
pub(crate) fn start(plan: &Plan, agent: &OwnedFd) -> Result<(), Failed> {
    let own = File::open("/proc/self/ns/net").step(|| "open the machine's network".into())?;
    let enter = |of: BorrowedFd<'_>| move_into_thread_name_spaces(of, ThreadNameSpaceType::NETWORK);
    enter(agent.as_fd()).step(|| "enter the sandbox's network".into())?;
    let made = device::create(plan.ipv6);
    enter(own.as_fd()).step(|| "leave the sandbox's network".into())?;
    let interface = made.step(|| "make the sandbox's network interface".into())?;
    let orders = process::Orders {
        interface: interface.as_raw_fd(),
        agent: agent.as_raw_fd(),
        groups: plan.groups.clone(),
        user: plan.user,
        resolvers: plan.resolvers.clone(),
    };
    for inherited in [&interface, agent] {
        fcntl_setfd(inherited, FdFlags::empty()).step(|| "pass the interface on".into())?;
    }
    spawn(&orders)
}

/// Starts the network process and waits until it is at work.
fn spawn(orders: &process::Orders) -> Result<(), Failed> {
    let text = serde_json::to_string(orders).step(|| "write the network's orders".into())?;
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open("network.log");
    let log = log.step(|| "open network.log".into())?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(ARGUMENT).arg(text).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().step(|| "start the network process".into())?;
    let mut report = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // Ends without a word when the process is at work. The builder as a whole is waited for with a limit.
        stdout.take(64 * 1024).read_to_end(&mut report).step(|| "wait for the network process".into())?;
    }
    if !report.is_empty() {
        return Err(serde_json::from_slice(&report).step(|| "read the network process's report".into())?);
    }
    match child.try_wait().step(|| "look after the network process".into())? {
        None => Ok(()),
        Some(status) => {
            Err(Failed { step: "start the network process".into(), reason: format!("it ended with {status}") })
        }
    }
}

/// True when the kernel's table has a way to all of IPv6 that is no refusal.
fn reaches_ipv6(table: &str) -> bool {
    /// `RTF_REJECT`.
    const REJECT: u32 = 0x200;
    table.lines().any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [to, length, .., flags, interface] = fields[..] else { return false };
        let everywhere = length == "00" && to.bytes().all(|digit| digit == b'0');
        everywhere && interface != "lo" && u32::from_str_radix(flags, 16).is_ok_and(|flags| flags & REJECT == 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_is_offered_where_the_machine_has_a_way_out() {
        let zero = "0".repeat(32);
        let line = |length: &str, flags: &str, interface: &str| {
            format!("{zero} {length} {zero} 00 {zero} 00000400 00000001 00000000 {flags} {interface}\n")
        };
        let refused = line("00", "00200200", "lo");
        assert!(!reaches_ipv6(&refused));
        assert!(!reaches_ipv6(&line("00", "00000201", "eth0")));
        assert!(!reaches_ipv6(&line("40", "00000001", "eth0")));
        assert!(reaches_ipv6(&format!("{refused}{}", line("00", "00000003", "eth0"))));
        assert!(!reaches_ipv6(""));
    }

    #[test]
    fn a_process_without_such_an_interface_has_no_traffic() {
        assert_eq!(traffic(i32::try_from(std::process::id()).unwrap()), None);
    }
}
