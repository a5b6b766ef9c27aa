//! Tests that run inside a sandbox, started by the others. Each is one program asking the kernel for what a hostile renter would ask.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixListener;

/// The error number of a raw system call with small numbers as arguments; 0 when it succeeds.
fn errno(call: libc::c_long, arguments: [libc::c_long; 4]) -> i32 {
    let [a, b, c, d] = arguments;
    // SAFETY: only with calls for which null pointers and small numbers are a valid way to be refused.
    if unsafe { libc::syscall(call, a, b, c, d) } >= 0 {
        0
    } else {
        std::io::Error::last_os_error().raw_os_error().unwrap()
    }
}

#[test]
#[ignore = "runs inside a sandbox"]
fn dangerous_system_calls_are_refused() {
    let device = libc::c_long::from(libc::S_IFCHR | 0o666);
    let path = c"/tmp/device".as_ptr() as libc::c_long;
    for (name, call, arguments) in [
        ("mount", libc::SYS_mount, [0; 4]),
        ("umount2", libc::SYS_umount2, [0; 4]),
        ("pivot_root", libc::SYS_pivot_root, [0; 4]),
        ("mknodat", libc::SYS_mknodat, [libc::AT_FDCWD.into(), path, device, 0x103]),
        ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUSER.into(), 0, 0, 0]),
        ("clone", libc::SYS_clone, [libc::c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD), 0, 0, 0]),
        ("setns", libc::SYS_setns, [0; 4]),
        ("bpf", libc::SYS_bpf, [0; 4]),
        ("userfaultfd", libc::SYS_userfaultfd, [0; 4]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0]),
        ("keyctl", libc::SYS_keyctl, [0; 4]),
        ("add_key", libc::SYS_add_key, [0; 4]),
        ("perf_event_open", libc::SYS_perf_event_open, [0; 4]),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [0; 4]),
        ("chroot", libc::SYS_chroot, [c"/".as_ptr() as libc::c_long, 0, 0, 0]),
        ("reboot", libc::SYS_reboot, [0; 4]),
        ("TIOCSTI", libc::SYS_ioctl, [0, libc::TIOCSTI as libc::c_long, 0, 0]),
        ("vsock", libc::SYS_socket, [libc::AF_VSOCK.into(), libc::SOCK_STREAM.into(), 0, 0]),
        ("packet socket", libc::SYS_socket, [libc::AF_PACKET.into(), libc::SOCK_RAW.into(), 0, 0]),
    ] {
        assert_eq!(errno(call, arguments), libc::EPERM, "{name}");
    }
    assert_eq!(errno(libc::SYS_clone3, [0; 4]), libc::ENOSYS, "clone3");
    // The filter looks at arguments: the harmless forms of the same calls work.
    let fifo = libc::c_long::from(libc::S_IFIFO | 0o600);
    assert_eq!(errno(libc::SYS_mknodat, [libc::AT_FDCWD.into(), c"/tmp/fifo".as_ptr() as libc::c_long, fifo, 0]), 0);
    assert_eq!(errno(libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 0, 0]), 0);
    std::thread::spawn(|| ()).join().unwrap();
}

#[test]
#[ignore = "runs inside a sandbox"]
fn privileges_are_few_and_cannot_grow() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_string();
    // chown, dac_override, fowner, fsetid, kill, setgid, setuid, net_bind_service
    for set in ["CapBnd:", "CapPrm:", "CapEff:"] {
        assert_eq!(field(set), "00000000000004fb", "{set}");
    }
    assert_eq!(field("CapAmb:"), "0000000000000000");
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2");
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap();
    let map: Vec<u32> = map.split_whitespace().map(|number| number.parse().unwrap()).collect();
    assert_eq!((map.len(), map[0], map[2]), (3, 0, 65_536), "one range and no other");
    assert!(map[1] >= 100_000, "user 0 is {} outside", map[1]);
}

#[test]
#[ignore = "runs inside a sandbox"]
fn only_the_own_loopback_is_reachable() {
    let devices = std::fs::read_to_string("/proc/net/dev").unwrap();
    let names: Vec<&str> = devices.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim())).collect();
    assert_eq!(names, ["lo"]);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut near = TcpStream::connect(listener.local_addr().unwrap()).expect("the own loopback is up");
    listener.accept().unwrap().0.write_all(b"hello").unwrap();
    let mut text = [0; 5];
    near.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"hello");

    let port = std::env::var("HOST_PORT").unwrap();
    let error =
        TcpStream::connect(format!("127.0.0.1:{port}")).expect_err("the machine's own services are not reachable");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    // Addresses set aside for documentation: nothing is there, but here not even a way leads to it.
    for address in ["192.0.2.1:80", "[2001:db8::1]:80"] {
        let error = TcpStream::connect(address).unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::NetworkUnreachable | ErrorKind::AddrNotAvailable),
            "{address}: {error}"
        );
    }
}

/// Answers every connection, when its other end says that there is no more, with all that it said.
#[test]
#[ignore = "runs inside a sandbox"]
fn servers_that_answer_when_all_is_said() {
    fn answer(mut connection: impl Read + Write) {
        let mut said = Vec::new();
        if connection.read_to_end(&mut said).is_ok() {
            let _ = connection.write_all(&said);
        }
    }
    let tcp = TcpListener::bind("127.0.0.1:8888").unwrap();
    let tcp6 = TcpListener::bind("[::1]:6666").unwrap();
    let unix = UnixListener::bind("/tmp/answer.sock").unwrap();
    for listener in [tcp, tcp6] {
        std::thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                std::thread::spawn(|| answer(connection));
            }
        });
    }
    println!("\nready");
    for connection in unix.incoming().flatten() {
        std::thread::spawn(|| answer(connection));
    }
}

/// Takes connections and reads nothing from them, but says hello.
#[test]
#[ignore = "runs inside a sandbox"]
fn a_server_that_does_not_listen() {
    let listener = TcpListener::bind("127.0.0.1:8888").unwrap();
    println!("\nready");
    let mut kept = Vec::new();
    for mut connection in listener.incoming().flatten() {
        connection.write_all(b"hello").unwrap();
        kept.push(connection);
    }
}

/// A socket of datagrams, and one whose owner is gone.
#[test]
#[ignore = "runs inside a sandbox"]
fn sockets_that_cannot_be_connected_to() {
    let datagrams = std::os::unix::net::UnixDatagram::bind("/tmp/datagrams.sock").unwrap();
    drop(UnixListener::bind("/tmp/left.sock").unwrap());
    std::mem::forget(datagrams);
    println!("\nready");
    loop {
        std::thread::park();
    }
}
