//! The process that builds a sandbox: this same program started again, single-threaded, with a plan on its standard input. It prepares the
//! mounts in a mount namespace of its own, so that none ever appears on the machine, lets the agent start in its new namespaces and exits.
//! Processes with threads must not do this: what runs between creating a process and executing a program may deadlock there.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, pidfd_open, prlimit};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde::{Deserialize, Serialize};

use super::state::IDS;
use super::{egress, inside, processors, root, views};
use crate::client::SOCKET;
use crate::{Devices, Error};

/// The argument by which the program knows that it is this process.
const ARGUMENT: &str = "__sandbox";

/// How long building may take: mounting a disk on a machine under full load is the slowest part.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to look meanwhile.
const LOOK: Duration = Duration::from_millis(1);

/// What the agent gets of its own; mounts and control groups follow when its limits are set.
const NAMESPACES: i32 =
    libc::CLONE_NEWUSER | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// All that building needs to know.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The sandbox's state directory; paths without a leading `/` are in it.
    pub(crate) directory: PathBuf,
    /// The agent's file outside.
    pub(crate) agent: PathBuf,
    /// The tree below; without one, a skeleton around the machine's programs.
    pub(crate) tree: Option<PathBuf>,
    pub(crate) devices: Devices,
    pub(crate) hostname: String,
    /// User number 0 inside is this one outside.
    pub(crate) uid_base: u32,
    pub(crate) max_open_files: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) log_ring: u64,
    /// Files by which the agent enters its control groups.
    pub(crate) agent_groups: Vec<PathBuf>,
    /// Files by which the agent puts jobs into theirs.
    pub(crate) job_groups: Vec<PathBuf>,
    pub(crate) oom_counter: PathBuf,
    /// Files with the memory in use, in sum and by kind.
    pub(crate) memory_files: [PathBuf; 2],
    /// The processors to run on.
    pub(crate) cpus: Vec<u32>,
    /// The network, if there is one.
    pub(crate) egress: Option<egress::Plan>,
}

/// What the builder is started for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// A sandbox.
    Build(Box<Plan>),
    /// Another network process for a sandbox that lives.
    Network {
        /// Its state directory.
        directory: PathBuf,
        /// Its network.
        plan: egress::Plan,
        /// Its first process...
        agent: i32,
        /// ...which is in this control group.
        group: PathBuf,
    },
}

/// What failed, and why.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Failed {
    pub(crate) step: String,
    pub(crate) reason: String,
}

/// Names the step that failed.
pub(crate) trait Step<T> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, Failed>;
}

impl<T, E: std::fmt::Display> Step<T> for Result<T, E> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, Failed> {
        self.map_err(|error| Failed { step: what(), reason: error.to_string() })
    }
}

/// Has the program, started again, carry out an order. Returns when the agent, or the network process, runs.
pub(crate) fn carry_out(program: &Path, order: &Order) -> Result<(), Error> {
    let failed =
        |step: &str, error: &dyn std::fmt::Display| Error::Build { step: step.into(), reason: error.to_string() };
    let text = serde_json::to_vec(order).map_err(|error| failed("write the plan", &error))?;
    let mut command = Command::new(program);
    command.arg(ARGUMENT).env_clear().current_dir("/");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(|error| failed(&format!("start {}", program.display()), &error))?;
    let sent = child.stdin.take().map(|mut stdin| stdin.write_all(&text));
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().map_err(|error| failed("wait for the builder", &error))? {
            Some(status) => break status,
            None if Instant::now() > deadline => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed("wait for the builder", &format!("not done after {} s", PATIENCE.as_secs())));
            }
            None => std::thread::sleep(LOOK),
        }
    };
    let mut answer = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        // Bounded by what the builder writes: one line. It has ended, so this does not wait.
        stdout.take(64 * 1024).read_to_end(&mut answer).map_err(|error| failed("read the builder's answer", &error))?;
    }
    if status.success() {
        return Ok(());
    }
    match serde_json::from_slice::<Failed>(&answer) {
        Ok(Failed { step, reason }) => Err(Error::Build { step, reason }),
        Err(_) => {
            let hint = "the program must call sandbox::helper_main_if_requested() first thing in main";
            let sent = sent.and_then(Result::err).map(|error| format!(", {error}")).unwrap_or_default();
            Err(failed("build", &format!("{} ended with {status}{sent}; {hint}", program.display())))
        }
    }
}

/// Builds a sandbox, or carries the network traffic of one, and exits, if this process was started for that. To be called first thing in
/// `main`, before any thread.
pub fn helper_main_if_requested() {
    match std::env::args_os().nth(1) {
        Some(argument) if argument == ARGUMENT => {}
        Some(argument) if argument == egress::ARGUMENT => egress::main(),
        _ => return,
    }
    let code = match run() {
        Ok(()) => 0,
        Err(failed) => {
            let _ = serde_json::to_writer(io::stdout(), &failed);
            let _ = io::stdout().flush();
            1
        }
    };
    std::process::exit(code);
}

/// Descriptors that the agent inherits.
pub(crate) struct Handover {
    pub(crate) listener: OwnedFd,
    pub(crate) oom_counter: OwnedFd,
    /// The memory in use, in sum and by kind, and the file to show it in.
    pub(crate) memory: [OwnedFd; 3],
    pub(crate) job_groups: Vec<OwnedFd>,
    /// Where the agent's own complaints go, outside.
    pub(crate) log: OwnedFd,
}

fn run() -> Result<(), Failed> {
    let mut text = Vec::new();
    io::stdin().read_to_end(&mut text).step(|| "read the plan".into())?;
    let enter =
        |directory: &PathBuf| std::env::set_current_dir(directory).step(|| format!("enter {}", directory.display()));
    match serde_json::from_slice(&text).step(|| "read the plan".into())? {
        Order::Build(plan) => {
            enter(&plan.directory)?;
            build(&plan)
        }
        Order::Network { directory, plan, agent, group } => {
            enter(&directory)?;
            let handle = handle_of(agent)?;
            // only now can the number not become another process's any more
            require_member(&group, agent)?;
            egress::start(&plan, &handle)
        }
    }
}

fn build(plan: &Plan) -> Result<(), Failed> {
    // SAFETY: this process has one thread, so no other is left with a stale view of the mounts.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.step(|| "make a mount namespace".into())?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .step(|| "separate the mounts from the machine's".into())?;
    let meminfo = views::prepare(&plan.cpus)?;
    let handover = prepare_handover(plan, meminfo)?;

    let (go_reader, mut go_writer) = io::pipe().step(|| "make a pipe".into())?;
    let (mut report_reader, report_writer) = io::pipe().step(|| "make a pipe".into())?;
    let pid = clone(NAMESPACES).step(|| {
        "make namespaces (a kernel with user namespaces is needed; see /proc/sys/user/max_user_namespaces)".into()
    })?;
    if pid == 0 {
        // Kept open here, the writing end would hide from us that the builder died.
        drop(go_writer);
        drop(report_reader);
        inside::enter(plan, go_reader, &handover, &report_writer);
    }
    drop(go_reader);
    drop(report_writer);
    let outcome = confine_and_mount(plan, pid).and_then(|()| {
        go_writer.write_all(b"!").step(|| "let the agent start".into())?;
        let mut report = Vec::new();
        // Ends without a word when the agent's program takes over, because the other end closes itself then.
        report_reader.read_to_end(&mut report).step(|| "wait for the agent".into())?;
        if report.is_empty() { Ok(()) } else { Err(serde_json::from_slice(&report).step(|| "read a report".into())?) }
    });
    if outcome.is_err() {
        // SAFETY: our own child, not yet waited for.
        unsafe { libc::kill(pid, libc::SIGKILL) };
    }
    outcome
}

/// Limits of the agent that processes inherit. Set here because raising one needs a privilege that nobody inside has.
fn set_process_limits(plan: &Plan, pid: i32) -> Result<(), Failed> {
    let agent = Pid::from_raw(pid);
    let files = Rlimit { current: Some(plan.max_open_files), maximum: Some(plan.max_open_files) };
    prlimit(agent, Resource::Nofile, files).step(|| {
        let hard = rustix::process::getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX);
        format!(
            "limit open files to {} (the node's own hard limit is {hard}: raise it or ask for fewer)",
            plan.max_open_files
        )
    })?;
    processors::keep_to(agent, &plan.cpus).step(|| format!("keep to the processors {:?}", plan.cpus))?;
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    prlimit(agent, Resource::Core, none).step(|| "forbid core files".into()).map(drop)
}

fn prepare_handover(plan: &Plan, meminfo: File) -> Result<Handover, Failed> {
    let opened = |path: &PathBuf| -> Result<OwnedFd, Failed> {
        Ok(File::open(path).step(|| format!("open {}", path.display()))?.into())
    };
    let [in_sum, by_kind] = &plan.memory_files;
    let entrance = |path: &PathBuf| -> Result<OwnedFd, Failed> {
        let file = OpenOptions::new().write(true).open(path).step(|| format!("open {}", path.display()))?;
        Ok(file.into())
    };
    let listener = UnixListener::bind(SOCKET).step(|| format!("make the socket {SOCKET}"))?;
    let log = OpenOptions::new().append(true).create(true).mode(0o600).open("agent.log");
    Ok(Handover {
        listener: listener.into(),
        oom_counter: opened(&plan.oom_counter)?,
        memory: [opened(in_sum)?, opened(by_kind)?, meminfo.into()],
        job_groups: plan.job_groups.iter().map(entrance).collect::<Result<_, _>>()?,
        log: log.step(|| "open agent.log".into())?.into(),
    })
}

/// Gives the new process its users and limits, then prepares the files it will see.
fn confine_and_mount(plan: &Plan, pid: i32) -> Result<(), Failed> {
    for group in &plan.agent_groups {
        let entered =
            OpenOptions::new().write(true).open(group).and_then(|mut file| file.write_all(pid.to_string().as_bytes()));
        entered.step(|| format!("put the agent into {}", group.display()))?;
        require_member(group, pid)?;
    }
    for map in ["uid_map", "gid_map"] {
        let path = format!("/proc/{pid}/{map}");
        fs::write(&path, format!("0 {} {IDS}\n", plan.uid_base)).step(|| format!("write {path}"))?;
    }
    set_process_limits(plan, pid)?;
    let users = File::open(format!("/proc/{pid}/ns/user")).step(|| "open the user namespace".into())?;
    root::prepare(plan, users.as_fd())?;
    plan.egress.as_ref().map_or(Ok(()), |network| egress::start(network, &handle_of(pid)?))
}

/// Fails if the agent is not in a control group.
fn require_member(group: &Path, agent: i32) -> Result<(), Failed> {
    let members = fs::read_to_string(group).step(|| format!("read {}", group.display()))?;
    let is_there = members.lines().any(|line| line == agent.to_string());
    is_there.then_some(()).ok_or("it is not there").step(|| format!("find the agent in {}", group.display()))
}

/// A handle of the agent, which stays its own whatever becomes of the number.
fn handle_of(agent: i32) -> Result<OwnedFd, Failed> {
    let handle = Pid::from_raw(agent).ok_or(Errno::SRCH).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
    handle.step(|| "open the sandbox's first process".into())
}

/// `clone3` as `fork` with new namespaces.
fn clone(flags: i32) -> io::Result<i32> {
    // SAFETY: zero is a valid value of every field.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: without a stack of its own the child goes on on a copy of ours, as after `fork`; this process has one thread.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<libc::clone_args>()) } {
        -1 => Err(io::Error::last_os_error()),
        pid => i32::try_from(pid).map_err(io::Error::other),
    }
}

/// A path for a system call.
pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_encoded_bytes())?)
}

/// A path that leads to an open file.
pub(crate) fn fd_path(fd: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}
