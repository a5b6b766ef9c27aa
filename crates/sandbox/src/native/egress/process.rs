//! The network process: how it is told what to do, and how it gives up all it does not need before the first packet is read. Whoever took it
//! over would have a process without files, users, privileges or other programs, that can open sockets as any user of the machine can.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;

use rustix::io::{FdFlags, fcntl_setfd};
use serde::{Deserialize, Serialize};

use super::confine;
use super::engine::Engine;
use super::tcp::WINDOW;
use crate::native::helper::{Failed, Step};

/// The argument by which the program knows that it is this process.
pub(crate) const ARGUMENT: &str = "__network";

/// What the process must know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// The interface's file, inherited.
    pub(crate) interface: RawFd,
    /// A handle of the sandbox's first process, inherited.
    pub(crate) agent: RawFd,
    /// Files by which this process enters its control groups.
    pub(crate) groups: Vec<PathBuf>,
    /// The user to become.
    pub(crate) user: u32,
    /// The machine's name servers.
    pub(crate) resolvers: Vec<IpAddr>,
}

/// Carries a sandbox's traffic until it ends, and exits.
pub(crate) fn main() -> ! {
    let (mut engine, _agent) = match prepare() {
        Ok(prepared) => prepared,
        Err(failed) => {
            let _ = serde_json::to_writer(io::stdout(), &failed);
            let _ = io::stdout().flush();
            std::process::exit(1);
        }
    };
    let ended = engine.run();
    if let Err(error) = &ended {
        eprintln!("network: {error}");
    }
    std::process::exit(i32::from(ended.is_err()));
}

/// Lets the memory of a connection's buffers go back to the machine as soon as it ends, and come from it only as it is filled.
fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: plain numbers; this process has one thread.
    unsafe {
        // A mapping of its own for each buffer, and no reserve beside them that would be large enough for one.
        libc::mallopt(libc::M_MMAP_THRESHOLD, WINDOW as libc::c_int);
        libc::mallopt(libc::M_TRIM_THRESHOLD, WINDOW as libc::c_int);
        libc::mallopt(libc::M_TOP_PAD, 0);
    }
}

/// All that can fail. When it is over the builder knows, since the way to report failures is closed.
fn prepare() -> Result<(Engine, OwnedFd), Failed> {
    give_memory_back();
    let text = std::env::args().nth(2).unwrap_or_default();
    let orders: Orders = serde_json::from_str(&text).step(|| "read the network's orders".into())?;
    enter_groups(&orders.groups)?;
    let interface = own(orders.interface).step(|| "take the interface".into())?;
    let agent = own(orders.agent).step(|| "take the sandbox's first process".into())?;
    confine::leave_everything(orders.user)?;
    let engine = Engine::new(interface, &agent, orders.resolvers).step(|| "listen to the interface".into())?;
    confine::restrict_system_calls().step(|| "restrict system calls".into())?;
    rustix::stdio::dup2_stdout(rustix::stdio::stdin()).step(|| "close the report".into())?;
    Ok((engine, agent))
}

fn enter_groups(groups: &[PathBuf]) -> Result<(), Failed> {
    let own = std::process::id().to_string();
    for group in groups {
        let step = || format!("put the network process into {}", group.display());
        OpenOptions::new().write(true).open(group).and_then(|mut file| file.write_all(b"0")).step(step)?;
        let members = fs::read_to_string(group).step(step)?;
        if !members.lines().any(|line| line == own) {
            return Err(Failed { step: step(), reason: "it is not there after it was put in".into() });
        }
    }
    Ok(())
}

fn own(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the number was passed to us by the program that executed us, for this one use, and nothing else here uses it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}
