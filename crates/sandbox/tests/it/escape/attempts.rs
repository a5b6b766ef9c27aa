//! The attempts: each runs inside a sandbox as its root and passes when every try fails the way it should.

use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

use libc::c_long;

/// The error number of a raw system call; 0 when it succeeds.
fn errno(call: c_long, arguments: &[c_long]) -> i32 {
    let argument = |number: usize| arguments.get(number).copied().unwrap_or(0);
    // SAFETY: only with calls for which null pointers, small numbers and pointers to live strings are a valid way to be refused.
    let result =
        unsafe { libc::syscall(call, argument(0), argument(1), argument(2), argument(3), argument(4), argument(5)) };
    if result >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap() }
}

/// Every call is refused as not permitted.
fn refused(calls: &[(&str, c_long, &[c_long])]) {
    for (name, call, arguments) in calls {
        assert_eq!(errno(*call, arguments), libc::EPERM, "{name}");
    }
}

fn text(value: &str) -> CString {
    CString::new(value).unwrap()
}

/// Everything that is mounted: target, type, options.
fn mounts() -> Vec<(String, String, String)> {
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let fields = |line: &str| {
        let mut fields = line.split(' ').skip(1).map(str::to_owned);
        (fields.next().unwrap(), fields.next().unwrap(), fields.next().unwrap())
    };
    table.lines().map(fields).collect()
}

#[test]
#[ignore = "runs inside a sandbox"]
fn mount() {
    let (kind, target) = (text("tmpfs"), text("/tmp"));
    let (kind, target) = (kind.as_ptr() as c_long, target.as_ptr() as c_long);
    let bind = libc::MS_BIND as c_long;
    refused(&[
        ("mount tmpfs", libc::SYS_mount, &[kind, target, kind, 0, 0]),
        ("bind mount", libc::SYS_mount, &[target, target, 0, bind, 0]),
        ("remount", libc::SYS_mount, &[0, target, 0, libc::MS_REMOUNT as c_long, 0]),
        ("fsopen", libc::SYS_fsopen, &[kind, 0]),
        ("fspick", libc::SYS_fspick, &[libc::AT_FDCWD.into(), target, 0]),
        ("open_tree", libc::SYS_open_tree, &[libc::AT_FDCWD.into(), target, 1]),
        ("move_mount", libc::SYS_move_mount, &[libc::AT_FDCWD.into(), target, libc::AT_FDCWD.into(), target]),
        ("mount_setattr", libc::SYS_mount_setattr, &[libc::AT_FDCWD.into(), target, 0, 0, 0]),
        ("umount", libc::SYS_umount2, &[target, libc::MNT_DETACH.into()]),
        ("pivot_root", libc::SYS_pivot_root, &[target, target]),
        ("chroot", libc::SYS_chroot, &[target]),
    ]);
}

#[test]
#[ignore = "runs inside a sandbox"]
fn release_agent() {
    assert!(!mounts().iter().any(|(_, kind, _)| kind.starts_with("cgroup")), "a control group is mounted");
    assert!(!Path::new("/sys/fs").exists());
    for controller in ["memory", "rdma", "cpu"] {
        let (kind, target, data) = (text("cgroup"), text("/tmp"), text(controller));
        let arguments =
            [kind.as_ptr() as c_long, target.as_ptr() as c_long, kind.as_ptr() as c_long, 0, data.as_ptr() as c_long];
        refused(&[(controller, libc::SYS_mount, &arguments)]);
    }
}

#[test]
#[ignore = "runs inside a sandbox"]
fn overlay() {
    for directory in ["lower", "upper", "work", "merged"] {
        fs::create_dir_all(Path::new("/tmp/overlay").join(directory)).unwrap();
    }
    let (kind, target) = (text("overlay"), text("/tmp/overlay/merged"));
    let options = text("lowerdir=/tmp/overlay/lower,upperdir=/tmp/overlay/upper,workdir=/tmp/overlay/work");
    let arguments =
        [kind.as_ptr() as c_long, target.as_ptr() as c_long, kind.as_ptr() as c_long, 0, options.as_ptr() as c_long];
    refused(&[("overlay", libc::SYS_mount, &arguments)]);
    // A file with capabilities, or with the marks by which an overlay hides and redirects.
    let file = text("/tmp/overlay/file");
    fs::write("/tmp/overlay/file", "x").unwrap();
    let capability: [u32; 5] = [0x0200_0001, 0xffff_ffff, 0, 0xffff_ffff, 0];
    for (name, value) in [
        ("security.capability", capability.as_ptr().cast::<libc::c_void>()),
        ("trusted.overlay.redirect", c"/".as_ptr().cast()),
        ("trusted.overlay.opaque", c"y".as_ptr().cast()),
    ] {
        let key = text(name);
        let size = if name.starts_with("security") { 20 } else { 1 };
        // SAFETY: both strings end with zero, and the value is at least as long as its size.
        let result = unsafe { libc::setxattr(file.as_ptr(), key.as_ptr(), value, size, 0) };
        assert_eq!(result, -1, "{name} was set");
    }
}

#[test]
#[ignore = "runs inside a sandbox"]
fn set_user_id() {
    for (target, kind, options) in mounts() {
        // A single file that is shown is a device or a list, and no program.
        let file = !Path::new(&target).is_dir();
        assert!(file || options.split(',').any(|option| option == "nosuid"), "{target} ({kind}) is {options}");
    }
    fs::copy("/bin/sh", "/tmp/shell").unwrap();
    fs::set_permissions("/tmp/shell", PermissionsExt::from_mode(0o4755)).unwrap();
    let script = "exec setpriv --reuid 1000 --regid 1000 --clear-groups /tmp/shell -p -c 'id -u'";
    let shown = std::process::Command::new("sh").args(["-c", script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&shown.stdout), "1000\n", "{shown:?}");
}

#[test]
#[ignore = "runs inside a sandbox"]
fn device_nodes() {
    let path = text("/tmp/node");
    for kind in [libc::S_IFCHR, libc::S_IFBLK] {
        for (major, minor) in [(1, 1), (1, 2), (8, 0), (7, 0), (10, 237), (254, 0)] {
            let device = libc::makedev(major, minor) as c_long;
            let arguments = [libc::AT_FDCWD.into(), path.as_ptr() as c_long, c_long::from(kind | 0o666), device];
            refused(&[("mknodat", libc::SYS_mknodat, &arguments)]);
            #[cfg(target_arch = "x86_64")]
            refused(&[("mknod", libc::SYS_mknod, &arguments[1..])]);
        }
    }
    let mut waiting = vec![std::path::PathBuf::from("/dev")];
    let mut found = Vec::new();
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let metadata = entry.metadata().unwrap();
            let kind = metadata.file_type();
            assert!(!kind.is_block_device(), "{:?}", entry.path());
            if kind.is_dir() {
                waiting.push(entry.path());
            } else if kind.is_char_device() {
                found.push((entry.path().display().to_string(), libc::major(metadata.rdev())));
            }
        }
    }
    found.sort();
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    let expected = ["/dev/full", "/dev/null", "/dev/pts/ptmx", "/dev/random", "/dev/tty", "/dev/urandom", "/dev/zero"];
    assert_eq!(names, expected);
    // Memory, terminals, and the multiplexer of terminals.
    assert!(found.iter().all(|(_, major)| [1, 5].contains(major)), "{found:?}");
}

#[test]
#[ignore = "runs inside a sandbox"]
fn trace() {
    let outside: c_long = std::env::var("OUTSIDE").unwrap().parse().unwrap();
    assert!(!Path::new(&format!("/proc/{outside}/status")).exists(), "a process of the machine can be seen");
    let attach = libc::PTRACE_ATTACH.into();
    let seize = libc::PTRACE_SEIZE.into();
    let byte = 0u8;
    let one = libc::iovec { iov_base: (&raw const byte).cast_mut().cast(), iov_len: 1 };
    let one = (&raw const one) as c_long;
    for pid in [outside, 1] {
        let gone = |error: i32| assert!([libc::EPERM, libc::ESRCH].contains(&error), "{pid}: {error}");
        gone(errno(libc::SYS_ptrace, &[attach, pid]));
        gone(errno(libc::SYS_ptrace, &[seize, pid]));
        gone(errno(libc::SYS_process_vm_readv, &[pid, one, 1, one, 1, 0]));
        gone(errno(libc::SYS_process_vm_writev, &[pid, one, 1, one, 1, 0]));
        gone(errno(libc::SYS_kcmp, &[pid, 1]));
        gone(match errno(libc::SYS_pidfd_open, &[pid, 0]) {
            // Of the agent one may hold a handle; what it has open still cannot be taken.
            0 => errno(libc::SYS_pidfd_getfd, &[3, 3, 0]),
            error => error,
        });
    }
    for file in ["mem", "environ", "maps", "auxv", "stack", "syscall"] {
        let path = Path::new("/proc/1").join(file);
        assert!(fs::read(&path).is_err(), "{} can be read", path.display());
    }
    for link in ["root", "cwd", "exe", "fd", "ns/mnt", "map_files"] {
        let path = Path::new("/proc/1").join(link);
        assert!(fs::metadata(&path).is_err() || fs::read_dir(&path).is_err(), "{} can be followed", path.display());
    }
}

#[test]
#[ignore = "runs inside a sandbox"]
fn kernel_settings() {
    for path in [
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/sysrq",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sysrq-trigger",
        "/proc/irq/default_smp_affinity",
        "/proc/acpi/wakeup",
        "/proc/mtrr",
        "/proc/kallsyms",
        "/proc/1/oom_score_adj",
        "/proc/1/uid_map",
        "/sys/kernel/uevent_helper",
        "/sys/kernel/security/apparmor/.load",
        "/sys/power/state",
    ] {
        let opened = OpenOptions::new().write(true).open(path);
        let written = opened.and_then(|mut file| file.write_all(b"1"));
        assert!(written.is_err(), "{path} was written");
    }
    for path in ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/kmsg", "/dev/mem", "/dev/kmsg", "/dev/port"] {
        let readable = fs::File::open(path).and_then(|mut file| std::io::Read::read(&mut file, &mut [0; 16]));
        assert!(!matches!(readable, Ok(1..)), "{path} can be read");
    }
    // Where the kernel is told, so that nobody can aim at it.
    let addresses = fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    assert!(addresses.lines().take(100).all(|line| line.starts_with("0000000000000000")), "addresses of the kernel");
}

#[test]
#[ignore = "runs inside a sandbox"]
fn namespaces() {
    for (name, flag) in [
        ("mount", libc::CLONE_NEWNS),
        ("user", libc::CLONE_NEWUSER),
        ("process", libc::CLONE_NEWPID),
        ("network", libc::CLONE_NEWNET),
        ("ipc", libc::CLONE_NEWIPC),
        ("host name", libc::CLONE_NEWUTS),
        ("control group", libc::CLONE_NEWCGROUP),
        ("time", 0x80),
    ] {
        refused(&[(name, libc::SYS_unshare, &[flag.into()])]);
        if flag != 0x80 {
            refused(&[(name, libc::SYS_clone, &[c_long::from(flag | libc::SIGCHLD)])]);
        }
    }
    let own = fs::File::open("/proc/self/ns/user").unwrap();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&own);
    refused(&[("setns", libc::SYS_setns, &[descriptor.into(), 0])]);
    assert_eq!(errno(libc::SYS_clone3, &[0, 88]), libc::ENOSYS, "its flags cannot be filtered, so it is not there");
}

#[test]
#[ignore = "runs inside a sandbox"]
fn wide_doors() {
    refused(&[
        ("io_uring_setup", libc::SYS_io_uring_setup, &[1]),
        ("io_uring_enter", libc::SYS_io_uring_enter, &[0]),
        ("io_uring_register", libc::SYS_io_uring_register, &[0]),
        ("bpf", libc::SYS_bpf, &[0]),
        ("userfaultfd", libc::SYS_userfaultfd, &[0]),
        ("perf_event_open", libc::SYS_perf_event_open, &[0]),
        ("keyctl", libc::SYS_keyctl, &[0]),
        ("add_key", libc::SYS_add_key, &[0]),
        ("request_key", libc::SYS_request_key, &[0]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, &[0]),
        ("name_to_handle_at", libc::SYS_name_to_handle_at, &[0]),
        ("init_module", libc::SYS_init_module, &[0]),
        ("finit_module", libc::SYS_finit_module, &[0]),
        ("delete_module", libc::SYS_delete_module, &[0]),
        ("kexec_load", libc::SYS_kexec_load, &[0]),
        ("kexec_file_load", libc::SYS_kexec_file_load, &[0]),
        ("reboot", libc::SYS_reboot, &[0]),
        ("swapon", libc::SYS_swapon, &[0]),
        ("acct", libc::SYS_acct, &[0]),
        ("quotactl", libc::SYS_quotactl, &[0]),
        ("fanotify_init", libc::SYS_fanotify_init, &[0]),
        ("settimeofday", libc::SYS_settimeofday, &[0]),
        ("clock_settime", libc::SYS_clock_settime, &[0]),
        ("sethostname", libc::SYS_sethostname, &[0]),
        ("syslog", libc::SYS_syslog, &[2]),
        ("vhangup", libc::SYS_vhangup, &[]),
        ("move_pages", libc::SYS_move_pages, &[1]),
        ("lookup_dcookie", libc::SYS_lookup_dcookie, &[]),
        ("TIOCSTI", libc::SYS_ioctl, &[0, libc::TIOCSTI as c_long]),
    ]);
}

#[test]
#[ignore = "runs inside a sandbox"]
fn other_word_length() {
    // Bit 30 marks the x32 form of a call: `mount` under another number. A filter that looks at numbers alone lets it pass.
    #[cfg(target_arch = "x86_64")]
    {
        const X32: c_long = 0x4000_0000;
        for call in [libc::SYS_mount, libc::SYS_bpf, libc::SYS_unshare, libc::SYS_getpid] {
            let error = errno(X32 | call, &[0]);
            assert!([libc::EPERM, libc::ENOSYS].contains(&error), "{call}: {error}");
        }
    }
}

#[test]
#[ignore = "runs inside a sandbox"]
fn users() {
    for user in [65_536, 100_000, 165_536, u32::MAX - 1] {
        assert_eq!(errno(libc::SYS_setresuid, &[user.into(), user.into(), user.into()]), libc::EINVAL, "{user}");
        assert_eq!(errno(libc::SYS_setresgid, &[user.into(), user.into(), user.into()]), libc::EINVAL, "{user}");
        fs::write("/tmp/owned", "").unwrap();
        assert!(std::os::unix::fs::chown("/tmp/owned", Some(user), None).is_err(), "{user}");
    }
    // What belongs to the machine's root belongs to nobody inside.
    assert_eq!(fs::metadata("/proc/sys").unwrap().uid(), 65_534);
}

#[test]
#[ignore = "runs inside a sandbox"]
fn network() {
    for (family, kind) in [
        (libc::AF_PACKET, libc::SOCK_RAW),
        (libc::AF_VSOCK, libc::SOCK_STREAM),
        (libc::AF_ALG, libc::SOCK_SEQPACKET),
        (libc::AF_BLUETOOTH, libc::SOCK_RAW),
        (libc::AF_INET, libc::SOCK_RAW),
        (libc::AF_INET6, libc::SOCK_RAW),
    ] {
        refused(&[("socket", libc::SYS_socket, &[family.into(), kind.into(), 1])]);
    }
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&socket);
    let request = [0u64; 8];
    // Down with the interface: needs a privilege that nobody inside has.
    let arguments = [descriptor.into(), libc::SIOCSIFFLAGS as c_long, request.as_ptr() as c_long];
    assert_ne!(errno(libc::SYS_ioctl, &arguments), 0);
    let mark = 1u32;
    // SAFETY: the option's value is one number of four bytes.
    let marked = unsafe { libc::setsockopt(descriptor, libc::SOL_SOCKET, libc::SO_MARK, (&raw const mark).cast(), 4) };
    assert_eq!(marked, -1, "packets can be marked");
}

#[test]
#[ignore = "runs inside a sandbox"]
fn overwrite_agent() {
    for path in ["/run/gpulease/agent", "/proc/1/exe"] {
        let opened = OpenOptions::new().write(true).open(path);
        assert!(opened.is_err(), "{path} can be written");
        assert!(fs::read(path).is_err(), "{path} can be read");
    }
    for made in [fs::remove_file("/run/gpulease/agent"), fs::rename("/run/gpulease/agent", "/tmp/agent")] {
        assert!(made.is_err(), "the agent can be moved away");
    }
}

#[test]
#[ignore = "runs inside a sandbox"]
fn abstract_socket() {
    let address = SocketAddr::from_abstract_name(std::env::var("NAME").unwrap()).unwrap();
    assert_eq!(UnixStream::connect_addr(&address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    let sockets = fs::read_to_string("/proc/net/unix").unwrap();
    assert!(!sockets.contains("gpulease-test"), "the machine's sockets can be seen");
}

#[test]
#[ignore = "runs inside a sandbox"]
fn host_loopback() {
    for name in ["FOUR", "SIX"] {
        let Ok(address) = std::env::var(name) else { continue };
        let error = TcpStream::connect(&address).unwrap_err();
        let refused = [ErrorKind::ConnectionRefused, ErrorKind::AddrNotAvailable, ErrorKind::NetworkUnreachable];
        assert!(refused.contains(&error.kind()), "{address}: {error}");
    }
}
