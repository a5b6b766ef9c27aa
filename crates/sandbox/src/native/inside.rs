//! The last steps before the agent runs, taken by its own process in its new namespaces: its own `/proc`, terminals and shared memory, the
//! new root in place of the machine's, loopback up, privileges gone. Whatever fails is reported through a pipe that closes itself at
//! the moment the agent's program takes over.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read};
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_remount, unmount};
use rustix::process::{pivot_root, umask};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::helper::{Failed, Handover, Plan, Step, c_path};
use super::root::ROOT;
use super::{confine, views};

/// The agent inside: a mount of its own, read-only.
pub const AGENT_PATH: &str = "/run/gpulease/agent";

/// Parts of `/proc` that tell about the machine and not about the sandbox.
const HIDDEN: [&str; 5] = ["kcore", "keys", "latency_stats", "timer_list", "sched_debug"];

/// Parts of `/proc` that change the machine.
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];

/// The first descriptor the agent inherits.
const FIRST: RawFd = 3;

/// Above every descriptor that the agent inherits, so that moving them cannot run one over with another.
const CLEAR: RawFd = 64;

/// How often the agent's file may be busy: another thread of the node may hold it open for writing for the moment it takes to start a
/// program.
const BUSY_ATTEMPTS: u32 = 100;

/// Becomes the agent, or reports why not and ends the process.
pub(crate) fn enter(plan: &Plan, go: PipeReader, handover: &Handover, report: &PipeWriter) -> ! {
    // Moved out of the way of the agent's descriptors.
    let report = rustix::io::fcntl_dupfd_cloexec(report, CLEAR).map(File::from);
    let outcome = prepare(plan, go).and_then(|()| execute(plan, handover));
    if let (Ok(report), Err(failed)) = (report, outcome) {
        let _ = serde_json::to_writer(report, &failed);
    }
    // Nothing that the builder prepared to happen at its exit may happen twice.
    // SAFETY: ends this process.
    unsafe { libc::_exit(1) }
}

fn prepare(plan: &Plan, mut go: PipeReader) -> Result<(), Failed> {
    die_with_builder(libc::SIGKILL).step(|| "tie the agent to its builder".into())?;
    // Ends without a byte when the builder fails: then so do we.
    go.read_exact(&mut [0]).step(|| "wait for the builder".into())?;
    // SAFETY: this process has one thread.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWCGROUP) }
        .step(|| "make a mount namespace".into())?;
    // A mount that came from the more privileged namespace is locked in place; a new one of the same tree can become the root.
    mount_bind_recursive(ROOT, ROOT).step(|| "mount the root".into())?;
    std::env::set_current_dir(ROOT).step(|| "enter the root".into())?;
    // Until here the machine's root, to whom alone the state directory is open.
    become_root().step(|| "become root inside".into())?;
    own_file_systems(plan)?;
    set_host_name(&plan.hostname).step(|| "set the host name".into())?;
    raise_loopback().step(|| "raise the loopback interface".into())?;
    pivot_root(".", ".").step(|| "change the root".into())?;
    unmount(".", UnmountFlags::DETACH).step(|| "let go of the machine's files".into())?;
    std::env::set_current_dir("/").step(|| "enter the root".into())?;
    umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

/// `/proc`, `/dev/pts` and `/dev/shm`. The kernel allows a new `/proc` only while the machine's is still in sight.
fn own_file_systems(plan: &Plan) -> Result<(), Failed> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", "proc", "proc", plain, None).step(|| "mount /proc".into())?;
    for name in HIDDEN {
        let path = Path::new("proc").join(name);
        if path.exists() {
            mount_bind("dev/null", &path).step(|| format!("hide /{}", path.display()))?;
        }
    }
    for name in READ_ONLY {
        let path = Path::new("proc").join(name);
        if path.exists() {
            mount_bind(&path, &path).step(|| format!("mount /{}", path.display()))?;
            let flags = plain | MountFlags::BIND | MountFlags::RDONLY;
            mount_remount(&path, flags, c"").step(|| format!("make /{} read-only", path.display()))?;
        }
    }
    for name in views::OF_PROC {
        let path = Path::new("proc").join(name);
        mount_bind(Path::new(views::PLACE).join(name), &path).step(|| format!("mount /{}", path.display()))?;
    }
    mount_bind(Path::new(views::PLACE).join(views::OF_SYS), "sys").step(|| "mount /sys".into())?;
    let options = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
    mount("devpts", "dev/pts", "devpts", MountFlags::NOSUID | MountFlags::NOEXEC, options)
        .step(|| "mount /dev/pts".into())?;
    // What is in it counts as the job's memory, so that is its bound.
    let options = format!("mode=1777,size={}", plan.memory_bytes);
    let options = c_path(Path::new(&options)).step(|| "mount /dev/shm".into())?;
    mount("tmpfs", "dev/shm", "tmpfs", plain, options.as_c_str()).step(|| "mount /dev/shm".into())
}

fn execute(plan: &Plan, handover: &Handover) -> Result<std::convert::Infallible, Failed> {
    let mut arguments = vec![AGENT_PATH.to_string(), "--log-ring".into(), plan.log_ring.to_string()];
    arguments.extend(["--memory-limit".into(), plan.memory_bytes.to_string()]);
    let mut inherited = vec![handover.listener.as_raw_fd(), handover.oom_counter.as_raw_fd()];
    inherited.extend(handover.memory.iter().chain(&handover.job_groups).map(AsRawFd::as_raw_fd));
    let names = ["--listen", "--oom", "--memory-usage", "--memory-kinds", "--meminfo"];
    for (number, name) in (FIRST..).zip(names.into_iter().chain(std::iter::repeat("--group"))).take(inherited.len()) {
        arguments.extend([name.into(), number.to_string()]);
    }
    arrange(&inherited, handover.log.as_raw_fd()).step(|| "pass the descriptors on".into())?;
    let arguments: Vec<CString> =
        arguments.into_iter().map(CString::new).collect::<Result<_, _>>().step(|| "start the agent".into())?;
    confine::drop_capabilities().step(|| "drop capabilities".into())?;
    die_with_builder(0).step(|| "free the agent from its builder".into())?;
    confine::restrict_system_calls().step(|| "restrict system calls".into())?;
    Err(exec(&arguments)).step(|| "execute the agent".into())
}

fn exec(arguments: &[CString]) -> io::Error {
    let mut pointers: Vec<*const libc::c_char> = arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let environment = [std::ptr::null::<libc::c_char>()];
    for _ in 0..BUSY_ATTEMPTS {
        // SAFETY: both arrays end with a null pointer and their strings outlive the call.
        unsafe { libc::execve(pointers[0], pointers.as_ptr(), environment.as_ptr()) };
        if io::Error::last_os_error().raw_os_error() != Some(libc::ETXTBSY) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    io::Error::last_os_error()
}

/// Puts the inherited descriptors where the agent looks for them; everything else closes at the moment of executing.
fn arrange(inherited: &[RawFd], log: RawFd) -> io::Result<()> {
    let check = |result: libc::c_int| if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) };
    let null = File::open("/dev/null")?;
    let mut sources = vec![null.as_raw_fd(), null.as_raw_fd(), log];
    sources.extend(inherited);
    // SAFETY: plain numbers; none of these descriptors is used under its old number afterwards.
    unsafe {
        for source in &mut sources {
            *source = check(libc::fcntl(*source, libc::F_DUPFD_CLOEXEC, CLEAR))?;
        }
        for (number, source) in (0..).zip(&sources) {
            check(libc::dup3(*source, number, 0))?;
        }
        let end = sources.len() as libc::c_uint;
        let marked = libc::syscall(libc::SYS_close_range, end, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        check(marked as libc::c_int)?;
    }
    Ok(())
}

fn die_with_builder(signal: libc::c_int) -> io::Result<()> {
    // SAFETY: plain numbers.
    match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Takes the user and group that the map calls 0, and no others.
fn become_root() -> io::Result<()> {
    // SAFETY: plain numbers, an empty list of groups; this process has one thread.
    let failed = unsafe {
        libc::setgroups(0, std::ptr::null()) != 0 || libc::setresgid(0, 0, 0) != 0 || libc::setresuid(0, 0, 0) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set_host_name(name: &str) -> io::Result<()> {
    // SAFETY: the pointer and the length are of one string.
    match unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A new network namespace has its loopback interface down.
fn raise_loopback() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketType, socket};
    let socket = socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: zero is a valid value of every field.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    // SAFETY: both calls take one `struct ifreq`; the flags are a plain number in its union.
    unsafe {
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &raw mut request) != 0 {
            return Err(io::Error::last_os_error());
        }
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        if libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}
