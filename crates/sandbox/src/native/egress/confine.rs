//! What the network process gives up: its session, its view of the files, its user, its capabilities, and all system calls but those that
//! carrying bytes needs.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount};
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, pivot_root, set_dumpable_behavior, setrlimit, setsid,
};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

use super::engine::{MAX_CONNECTIONS, MAX_FLOWS};
use crate::native::confine::{bound_capabilities, install};
use crate::native::helper::{Failed, Step};

/// Open files besides those of connections and flows: streams, interface, agent, events and the kernel's routes, and room for what is being
/// opened or closed.
const OTHER_FILES: u64 = 16;

/// Becomes a process with nothing but what it has open.
pub(crate) fn leave_everything(user: u32) -> Result<(), Failed> {
    // What a terminal sends to the node is not meant for us.
    setsid().step(|| "leave the node's session".into())?;
    let most = (MAX_CONNECTIONS + MAX_FLOWS) as u64 + OTHER_FILES;
    // Not more than the node itself may have; with fewer, some connections are refused.
    let files = getrlimit(Resource::Nofile).maximum.map_or(most, |hard| hard.min(most));
    for (resource, limit) in [(Resource::Nofile, files), (Resource::Core, 0)] {
        setrlimit(resource, Rlimit { current: Some(limit), maximum: Some(limit) }).step(|| "set limits".into())?;
    }
    leave_files().step(|| "leave the machine's files".into())?;
    bound_capabilities(0).step(|| "drop capabilities".into())?;
    become_user(user).step(|| "become a user without rights".into())?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step(|| "hide the process's memory".into())
}

/// Takes an empty directory as the root, in a mount namespace of its own.
fn leave_files() -> io::Result<()> {
    // SAFETY: this process has one thread, so no other is left with a stale view of the mounts.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS) }?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // Any directory that is there will do: it is covered and let go at once.
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", "/dev", "tmpfs", flags, c"size=4k,nr_inodes=2,mode=0555")?;
    std::env::set_current_dir("/dev")?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")
}

/// Takes a user and group that have nothing. The capabilities go with the change.
fn become_user(user: u32) -> io::Result<()> {
    // SAFETY: plain numbers, an empty list of groups; this process has one thread.
    let failed = unsafe {
        libc::setgroups(0, std::ptr::null()) != 0
            || libc::setresgid(user, user, user) != 0
            || libc::setresuid(user, user, user) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Forbids gaining privileges, then installs the filter.
pub(crate) fn restrict_system_calls() -> io::Result<()> {
    install(filter().map_err(io::Error::other)?)
}

fn filter() -> Result<[BpfProgram; 1], seccompiler::BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    let one = |condition| SeccompRule::new(vec![condition]);
    let is = |value: i32| one(SeccompCondition::new(0, Dword, SeccompCmpOp::Eq, value as u64)?);
    let not_executable = SeccompCmpOp::MaskedEq(libc::PROT_EXEC as u64);
    let memory = || one(SeccompCondition::new(2, Qword, not_executable.clone(), 0)?);
    let mut allowed: BTreeMap<c_long, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, vec![])).collect();
    allowed.insert(libc::SYS_socket, vec![is(libc::AF_INET)?, is(libc::AF_INET6)?]);
    allowed.insert(libc::SYS_mmap, vec![memory()?]);
    allowed.insert(libc::SYS_mprotect, vec![memory()?]);
    let arch = seccompiler::TargetArch::try_from(std::env::consts::ARCH)?;
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    Ok([SeccompFilter::new(allowed, refused, SeccompAction::Allow, arch)?.try_into()?])
}

/// Allowed whatever the arguments.
#[rustfmt::skip]
const ALLOWED: &[c_long] = &[
    // carrying
    libc::SYS_read, libc::SYS_write, libc::SYS_sendto, libc::SYS_recvfrom, libc::SYS_connect, libc::SYS_shutdown,
    libc::SYS_setsockopt, libc::SYS_getsockopt, libc::SYS_close,
    // waiting
    libc::SYS_epoll_ctl, libc::SYS_epoll_pwait, libc::SYS_epoll_pwait2, libc::SYS_clock_gettime, libc::SYS_restart_syscall,
    // memory
    libc::SYS_brk, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_madvise, libc::SYS_futex, libc::SYS_getrandom,
    // ending, with or without a last word
    libc::SYS_dup3, libc::SYS_exit, libc::SYS_exit_group, libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn, libc::SYS_sigaltstack, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_tgkill, libc::SYS_writev,
    // The older forms that only this architecture has.
    #[cfg(target_arch = "x86_64")] libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")] libc::SYS_epoll_wait,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_and_allows_neither_files_nor_programs() {
        filter().unwrap();
        for call in
            [libc::SYS_openat, libc::SYS_execve, libc::SYS_clone, libc::SYS_ptrace, libc::SYS_socket, libc::SYS_bind]
        {
            assert!(!ALLOWED.contains(&call), "{call}");
        }
    }
}
