//! A small world for the tests of the network: two network namespaces joined by a cable. In one, the *machine*, sandboxes are made; the
//! other, *outside*, has public and private addresses with services, and a name server. No packet leaves them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A public address outside, by either protocol.
pub(crate) const PUBLIC: &str = "1.2.3.4";
pub(crate) const PUBLIC_V6: &str = "2a0a::4";

/// An address outside at which nobody is, so that no answer ever comes.
pub(crate) const SILENT: &str = "1.2.3.99";

/// A private address outside, which the machine itself reaches.
pub(crate) const PRIVATE: &str = "192.168.77.1";

/// Public addresses of the machine itself: on its cable, and on its loopback interface.
pub(crate) const OWN: [&str; 2] = ["5.5.5.1", "6.6.6.6"];
pub(crate) const OWN_V6: &str = "2a00:1::1";

/// The machine's name server, at a private address outside.
const RESOLVER: &str = "10.1.2.3";

/// Services outside: everything comes back; a count of all bytes comes back after the last, and whether they were right; bytes without
/// being asked; a reset after the first byte; a few bytes without being asked.
pub(crate) const ECHO: u16 = 7;
pub(crate) const SINK: u16 = 9;
pub(crate) const SOURCE: u16 = 19;
pub(crate) const RESET: u16 = 21;
pub(crate) const PAGE: u16 = 80;

/// What the source sends.
pub(crate) const BULK: usize = 64 << 20;

/// What the page has: more than a program's end takes unread, less than the other.
pub(crate) const PAGE_SIZE: usize = 1 << 20;

/// The content of large transfers: its period fits no buffer.
pub(crate) fn pattern(at: usize) -> u8 {
    (at % 251) as u8
}

/// Runs a test of this program as the machine of a world of its own.
pub(crate) fn in_a_world(test: &str) {
    let mut command = myself(test);
    unshared(&mut command, libc::CLONE_NEWNET | libc::CLONE_NEWNS);
    let output = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.contains("1 passed"), "{test}: {stdout}\n{stderr}");
    for line in stdout.lines().filter(|line| line.starts_with("measured")) {
        println!("{line}");
    }
}

/// The other end of the machine's cable; it ends with this handle.
pub(crate) struct World {
    outside: Child,
    _resolv_conf: tempfile::NamedTempFile,
}

impl World {
    /// Joins this process's network, which must be new, to an outside.
    pub(crate) fn new() -> World {
        let mut command = myself("world::outside");
        unshared(&mut command, libc::CLONE_NEWNET);
        let mut outside = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        ip(&format!("link add machine0 type veth peer name outside0 netns {}", outside.id()));
        for arguments in [
            "link set lo up",
            "addr add 6.6.6.6/32 dev lo",
            "addr add 5.5.5.1/24 dev machine0",
            "addr add 2a00:1::1/64 dev machine0 nodad",
            "link set machine0 up",
            "route add default via 5.5.5.2",
            "-6 route add default via 2a00:1::2",
        ] {
            ip(arguments);
        }
        outside.stdin.as_mut().unwrap().write_all(b"joined\n").unwrap();
        let mut lines = BufReader::new(outside.stdout.as_mut().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().contains("outside is ready")));

        let mut resolv_conf = tempfile::NamedTempFile::new().unwrap();
        writeln!(resolv_conf, "nameserver {RESOLVER}").unwrap();
        let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).unwrap();
        let real = std::fs::canonicalize("/etc/resolv.conf").unwrap();
        rustix::mount::mount_bind(resolv_conf.path(), real).unwrap();
        World { outside, _resolv_conf: resolv_conf }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.outside.kill();
        let _ = self.outside.wait();
    }
}

#[test]
#[ignore = "is the outside of other tests"]
fn outside() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    for arguments in [
        "link set lo up",
        "addr add 1.2.3.4/32 dev lo",
        "addr add 10.1.2.3/32 dev lo",
        "addr add 192.168.77.1/32 dev lo",
        "addr add 2a0a::4/128 dev lo nodad",
        "addr add 5.5.5.2/24 dev outside0",
        "addr add 2a00:1::2/64 dev outside0 nodad",
        "link set outside0 up",
        "route add 6.6.6.6/32 via 5.5.5.1",
    ] {
        ip(arguments);
    }
    serve(ECHO, |mut socket| {
        let mut back = socket.try_clone().unwrap();
        let _ = std::io::copy(&mut socket, &mut back);
        let _ = socket.shutdown(Shutdown::Write);
    });
    serve(SINK, |mut socket| {
        let (mut count, mut right) = (0usize, true);
        let mut buffer = vec![0; 1 << 16];
        while let Ok(n @ 1..) = socket.read(&mut buffer) {
            right &= buffer[..n].iter().enumerate().all(|(i, byte)| *byte == pattern(count + i));
            count += n;
        }
        let _ = write!(socket, "{count} {right}");
    });
    serve(SOURCE, |mut socket| {
        let bytes: Vec<u8> = (0..BULK).map(pattern).collect();
        let _ = socket.write_all(&bytes);
    });
    serve(PAGE, |mut socket| {
        let bytes: Vec<u8> = (0..PAGE_SIZE).map(pattern).collect();
        let _ = socket.write_all(&bytes);
    });
    serve(RESET, |mut socket| {
        let _ = socket.read(&mut [0]);
        rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
    });
    for address in [PUBLIC, PUBLIC_V6] {
        let socket = UdpSocket::bind((address, ECHO)).unwrap();
        std::thread::spawn(move || echo(&socket));
    }
    let names = UdpSocket::bind((RESOLVER, 53)).unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        loop {
            let (n, from) = names.recv_from(&mut buffer).unwrap();
            names.send_to(&answer(&buffer[..n]), from).unwrap();
        }
    });
    let names = TcpListener::bind((RESOLVER, 53)).unwrap();
    std::thread::spawn(move || {
        for socket in names.incoming() {
            let mut socket = socket.unwrap();
            let mut length = [0; 2];
            socket.read_exact(&mut length).unwrap();
            let mut question = vec![0; u16::from_be_bytes(length).into()];
            socket.read_exact(&mut question).unwrap();
            let answer = answer(&question);
            socket.write_all(&(answer.len() as u16).to_be_bytes()).unwrap();
            socket.write_all(&answer).unwrap();
        }
    });
    println!("outside is ready");
    // Until the machine is gone.
    let _ = std::io::stdin().read_line(&mut line);
}

/// Serves each connection by a thread of its own.
fn serve(port: u16, service: fn(TcpStream)) {
    // Hears IPv4 as well.
    let listener = TcpListener::bind(("::", port)).unwrap();
    std::thread::spawn(move || {
        for socket in listener.incoming() {
            let socket = socket.unwrap();
            std::thread::spawn(move || service(socket));
        }
    });
}

fn echo(socket: &UdpSocket) {
    let mut buffer = vec![0; 65_536];
    loop {
        let (n, from) = socket.recv_from(&mut buffer).unwrap();
        socket.send_to(&buffer[..n], from).unwrap();
    }
}

/// Every name has one address, of IPv4.
fn answer(question: &[u8]) -> Vec<u8> {
    let mut end = 12;
    while question[end] != 0 {
        end += usize::from(question[end]) + 1;
    }
    let wanted = u16::from_be_bytes([question[end + 1], question[end + 2]]);
    let mut answer = question[..2].to_vec();
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(wanted == 1), 0, 0, 0, 0]);
    answer.extend(&question[12..end + 5]);
    if wanted == 1 {
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(PUBLIC.parse::<Ipv4Addr>().unwrap().octets());
    }
    answer
}

fn myself(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", "--nocapture", test]);
    command
}

fn unshared(command: &mut Command, namespaces: i32) {
    let unshare = move || {
        // SAFETY: plain numbers; nothing else runs between creating the process and its program.
        match unsafe { libc::unshare(namespaces) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: one system call.
    unsafe { command.pre_exec(unshare) };
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("the program `ip` (iproute2)");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}
