//! The command line of the agent and the descriptors it inherits. They are prepared outside by whoever makes the sandbox, because
//! nothing inside may be able to reach the host's socket or the kernel's control files by name.

use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

use crate::memory::Memory;
use rustix::io::{FdFlags, fcntl_setfd};

/// What the maker of the sandbox tells the agent: `--listen FD --oom FD --memory-usage FD --memory-kinds FD
/// --meminfo FD --memory-limit BYTES --group FD… --log-ring BYTES`.
pub(crate) struct Options {
    listen: RawFd,
    oom: RawFd,
    memory: [RawFd; 3],
    memory_limit: u64,
    groups: Vec<RawFd>,
    /// Bytes of job output kept.
    pub(crate) log_ring: usize,
}

/// The descriptors, owned.
pub(crate) struct Inherited {
    /// Where nodes connect.
    pub(crate) listener: UnixListener,
    /// The kernel's count of out-of-memory kills in the job's group.
    pub(crate) oom_counter: File,
    /// The job's memory, to be shown inside.
    pub(crate) memory: Memory,
    /// Writing "0" to each puts the writer into the job's limits.
    pub(crate) job_groups: Vec<OwnedFd>,
}

impl Options {
    /// Reads the arguments.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
        let (mut listen, mut oom, mut groups, mut log_ring) = (None, None, Vec::new(), None);
        let (mut memory, mut memory_limit) = ([None; 3], None);
        while let Some(name) = arguments.next() {
            let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
            let number: usize = value.parse().map_err(|_| format!("{name}: `{value}` is not a number"))?;
            let descriptor = RawFd::try_from(number).map_err(|_| format!("{name}: `{value}` is too large"));
            match name.as_str() {
                "--listen" => listen = Some(descriptor?),
                "--oom" => oom = Some(descriptor?),
                "--memory-usage" => memory[0] = Some(descriptor?),
                "--memory-kinds" => memory[1] = Some(descriptor?),
                "--meminfo" => memory[2] = Some(descriptor?),
                "--memory-limit" => memory_limit = Some(number as u64),
                "--group" => groups.push(descriptor?),
                "--log-ring" => log_ring = Some(number),
                other => return Err(format!("unknown option {other}; the agent is started by a node, not by hand")),
            }
        }
        let missing = |name| format!("{name} is missing; the agent is started by a node, not by hand");
        Ok(Options {
            listen: listen.ok_or_else(|| missing("--listen"))?,
            oom: oom.ok_or_else(|| missing("--oom"))?,
            memory: match memory {
                [Some(usage), Some(kinds), Some(shown)] => [usage, kinds, shown],
                _ => return Err(missing("--memory-usage, --memory-kinds or --meminfo")),
            },
            memory_limit: memory_limit.ok_or_else(|| missing("--memory-limit"))?,
            groups,
            log_ring: log_ring.ok_or_else(|| missing("--log-ring"))?,
        })
    }

    /// Takes the inherited descriptors over, so that no job inherits them in turn.
    pub(crate) fn take(&self) -> std::io::Result<Inherited> {
        Ok(Inherited {
            listener: UnixListener::from(own(self.listen)?),
            oom_counter: File::from(own(self.oom)?),
            memory: {
                let [usage, kinds, shown] = self.memory;
                Memory::new(own(usage)?.into(), own(kinds)?.into(), own(shown)?.into(), self.memory_limit)
            },
            job_groups: self.groups.iter().map(|fd| own(*fd)).collect::<Result<_, _>>()?,
        })
    }
}

/// Makes the agent's memory and descriptors unreadable for the jobs beside it, which run as the same user.
pub(crate) fn protect() -> std::io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

fn own(fd: RawFd) -> std::io::Result<OwnedFd> {
    // SAFETY: the number was passed to us by the program that executed us, for this one use, and nothing else here uses it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}
