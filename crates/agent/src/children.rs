//! Starting, counting and reaping processes. The agent is process 1 of its sandbox, so every orphan becomes its child; one thread
//! reaps them all and hands the ends of those it started to whoever waits.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};

use agent::protocol::{Command, Exit};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus};

use crate::lock;
use crate::user::{self, User};

/// The highest number of a signal in Linux's interface to programs.
const LAST_SIGNAL: i32 = 64;
/// The kernel's description of a signal's action, at most four words on any machine: the default is all zeros.
const DEFAULT_ACTION: [u64; 4] = [0; 4];
/// The size of the kernel's set of 64 signals.
const SIGNAL_SET_BYTES: usize = 8;
/// The error number by which a child says that it could not enter the job's limits. No step of executing a program yields it.
const NOT_CONFINED: i32 = libc::EPROTO;

/// The processes this agent has started.
pub(crate) struct Children {
    /// Who waits for which process. Held while a process is being started, so that none is reaped before it is written down.
    waiting: Mutex<HashMap<i32, Waiter>>,
    started: Condvar,
    job_groups: Vec<OwnedFd>,
    oom_counter: File,
}

/// Who is told of a process's end.
struct Waiter {
    told: Box<dyn FnOnce(Exit) + Send>,
    oom_kills_before: u64,
}

/// Where a process's streams lead.
pub(crate) enum Streams {
    /// Both outputs into pipes; there is no input.
    Outputs,
    /// Input and both outputs into pipes.
    All,
    /// All into this terminal, which controls the process's session.
    Terminal(OwnedFd),
    /// Input from this socket, over which it answers too; what it notes into a pipe.
    Socket(OwnedFd),
}

/// A process just started.
pub(crate) struct Started {
    /// The process, leader of its own session and group.
    pub(crate) pid: Pid,
    /// Our ends of its pipes.
    pub(crate) child: Child,
}

/// Why a process did not start.
pub(crate) enum StartError {
    /// The program is missing or cannot be executed: what a shell says with 127 or 126.
    Program(i32, String),
    /// Anything else: nothing ran.
    System(String),
}

impl Children {
    /// `job_groups` are the kernel's control files that a new process enters by writing "0" to each.
    pub(crate) fn new(job_groups: Vec<OwnedFd>, oom_counter: File) -> Children {
        Children { waiting: Mutex::new(HashMap::new()), started: Condvar::new(), job_groups, oom_counter }
    }

    /// Starts a process inside the job's limits, as root unless another user is given. When it has ended, that is told from another thread, which must not wait there.
    pub(crate) fn start(
        &self,
        command: &Command,
        user: Option<&User>,
        streams: Streams,
        told: impl FnOnce(Exit) + Send + 'static,
    ) -> Result<Started, StartError> {
        let Some((program, arguments)) = command.argv.split_first() else {
            return Err(StartError::System("the command line is empty".into()));
        };
        if !std::path::Path::new(&command.cwd).is_dir() {
            return Err(StartError::System(format!("the working directory {} does not exist inside", command.cwd)));
        }
        let mut process = std::process::Command::new(program);
        process.args(arguments).env_clear().envs(command.env.iter().map(|(name, value)| (name, value)));
        process.current_dir(&command.cwd);
        let in_terminal = matches!(streams, Streams::Terminal(_));
        connect(&mut process, streams).map_err(|error| StartError::System(format!("no streams: {error}")))?;
        let groups: Vec<_> = self.job_groups.iter().map(std::os::fd::AsRawFd::as_raw_fd).collect();
        let user = user.map(|user| (user.uid, user.gid, user.groups.clone()));
        let enter = move || {
            for group in &groups {
                // SAFETY: the descriptor stays open as long as the agent lives and one static byte is written; `write` is safe after fork.
                if unsafe { libc::write(*group, b"0".as_ptr().cast(), 1) } != 1 {
                    return Err(io::Error::from_raw_os_error(NOT_CONFINED));
                }
            }
            for signal in 1..=LAST_SIGNAL {
                // What the node ignores (a shell starts it in the background, or `nohup` does) would be ignored by its jobs as well. Two
                // signals cannot be set, and are never ignored. The C library keeps two more to itself, so the kernel is asked directly.
                // SAFETY: the kernel reads an action of all zeros, the default; safe after fork.
                unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, DEFAULT_ACTION.as_ptr(), 0, SIGNAL_SET_BYTES) };
            }
            // SAFETY: no arguments, and plain numbers; the standard input is in place by now; both are safe after fork.
            let led = unsafe { libc::setsid() >= 0 && (!in_terminal || libc::ioctl(0, libc::TIOCSCTTY, 0) == 0) };
            if !led {
                return Err(io::Error::last_os_error());
            }
            match &user {
                Some((uid, gid, groups)) => user::become_user(*uid, *gid, groups),
                None => Ok(()),
            }
        };
        // SAFETY: the closure calls only `write`, `rt_sigaction`, `setsid`, `ioctl` and what makes it another user, and allocates nothing.
        unsafe { process.pre_exec(enter) };

        let oom_kills_before = self.oom_kills();
        let mut waiting = lock(&self.waiting);
        let child = process.spawn().map_err(|error| describe(program, &error))?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| StartError::System("the system gave an impossible process number".into()))?;
        waiting.insert(pid.as_raw_nonzero().get(), Waiter { told: Box::new(told), oom_kills_before });
        self.started.notify_one();
        Ok(Started { pid, child })
    }

    /// Reaps for ever.
    pub(crate) fn reap(&self) {
        loop {
            match rustix::process::waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) => self.reap_ready(),
                Err(rustix::io::Errno::CHILD) => {
                    let mut waiting = lock(&self.waiting);
                    while waiting.is_empty() {
                        waiting = self.started.wait(waiting).unwrap_or_else(PoisonError::into_inner);
                    }
                }
                Err(_) => {}
            }
        }
    }

    /// Reaps everything that has ended, under the lock: a process that failed to execute is reaped by its starter, who holds it.
    fn reap_ready(&self) {
        let mut waiting = lock(&self.waiting);
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let Some(waiter) = waiting.remove(&pid.as_raw_nonzero().get()) else { continue };
            (waiter.told)(self.exit(status, waiter.oom_kills_before));
        }
    }

    fn exit(&self, status: WaitStatus, oom_kills_before: u64) -> Exit {
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code { code },
            (None, Some(signal)) => Exit::Signal { signal },
            (None, None) => Exit::Signal { signal: libc::SIGKILL },
        };
        // A shell around the killed program reports 137 instead of dying itself.
        let killed = matches!(exit, Exit::Signal { signal: libc::SIGKILL } | Exit::Code { code: 137 });
        if killed && self.oom_kills() > oom_kills_before { Exit::OutOfMemory } else { exit }
    }

    /// The kernel's count of out-of-memory kills among the jobs; the same line in cgroup v1 and v2.
    fn oom_kills(&self) -> u64 {
        let mut text = [0; 4096];
        let length = self.oom_counter.read_at(&mut text, 0).unwrap_or(0);
        let text = String::from_utf8_lossy(&text[..length]);
        let count = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
    }
}

fn connect(process: &mut std::process::Command, streams: Streams) -> io::Result<()> {
    match streams {
        Streams::Outputs => process.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()),
        Streams::All => process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()),
        Streams::Socket(socket) => process.stdin(socket).stdout(Stdio::piped()).stderr(Stdio::null()),
        Streams::Terminal(slave) => process.stdin(slave.try_clone()?).stdout(slave.try_clone()?).stderr(slave),
    };
    Ok(())
}

/// Signals a whole process group; one that is gone already is no error.
pub(crate) fn signal_group(leader: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: plain numbers.
    match unsafe { libc::kill(-leader.as_raw_nonzero().get(), signal) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            error => Err(error),
        },
    }
}

/// Kills every process of the sandbox but the agent.
pub(crate) fn kill_all() {
    // From process 1 of a process namespace, -1 means all others in it.
    // SAFETY: plain numbers.
    unsafe { libc::kill(-1, Signal::KILL.as_raw()) };
}

fn describe(program: &str, error: &io::Error) -> StartError {
    match error.raw_os_error() {
        Some(NOT_CONFINED) => {
            StartError::System("the process could not be put into its limits, so it was not run".into())
        }
        Some(user::NOT_BECOME) => {
            StartError::System("the process could not become the image's user, so it was not run".into())
        }
        Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM) => StartError::System(error.to_string()),
        Some(libc::ENOENT) => StartError::Program(127, format!("{program}: not found")),
        Some(libc::EAGAIN) => StartError::System("the limit of processes is reached".into()),
        Some(libc::E2BIG) => StartError::Program(126, format!("{program}: the argument list is too long")),
        _ => StartError::Program(126, format!("{program}: cannot be executed: {error}")),
    }
}
