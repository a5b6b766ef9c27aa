//! What programs inside a sandbox with a network find, started by the tests outside.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixStream};
use std::time::{Duration, Instant};

use crate::world::{
    BULK, ECHO, OWN, OWN_V6, PAGE, PAGE_SIZE, PRIVATE, PUBLIC, PUBLIC_V6, RESET, SILENT, SINK, SOURCE, pattern,
};

/// A refusal must come within this; most programs give up no sooner than after minutes.
const AT_ONCE: Duration = Duration::from_secs(2);

#[test]
#[ignore = "runs inside a sandbox"]
fn inside_public() {
    for host in [PUBLIC, "any-name.example", PUBLIC_V6] {
        let address = (host, ECHO).to_socket_addrs().unwrap().next().unwrap();
        let mut socket = connect(address).unwrap();
        // More than any window, so that it must flow both ways at once; then half closed, and the rest still comes.
        let sent: Vec<u8> = (0..300_000).map(pattern).collect();
        let writer = std::thread::spawn({
            let (mut socket, sent) = (socket.try_clone().unwrap(), sent.clone());
            move || {
                socket.write_all(&sent).unwrap();
                socket.shutdown(Shutdown::Write).unwrap();
            }
        });
        let mut back = Vec::new();
        socket.read_to_end(&mut back).unwrap();
        writer.join().unwrap();
        assert!(back == sent, "{host}: {} of {}", back.len(), sent.len());
        let mut broken = connect((address.ip(), RESET).into()).unwrap();
        broken.write_all(b"?").unwrap();
        assert_eq!(broken.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset, "{address}");
        let closed = connect((address.ip(), 1).into()).unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::ConnectionRefused, "{address}");

        let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
        socket.set_read_timeout(Some(AT_ONCE)).unwrap();
        for size in [0, 1, 1_400, 60_000] {
            socket.send_to(&sent[..size], address).unwrap();
            let mut buffer = vec![0; 65_536];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            assert!(buffer[..length] == sent[..size] && from == address, "{size}: {length} from {from}");
        }
        socket.connect((address.ip(), 1)).unwrap();
        socket.send(b"?").unwrap();
        assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{address}");
    }
}

#[test]
#[ignore = "runs inside a sandbox"]
fn inside_refused() {
    let port: u16 = std::env::var("HOST_PORT").unwrap().parse().unwrap();
    let v4 = [
        "10.0.0.1",
        "10.0.2.1",
        "10.0.2.2",
        "10.0.2.3",
        "10.1.2.3",
        "10.255.255.255",
        "100.64.0.1",
        "100.127.255.255",
        "169.254.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.10",
        "192.0.2.1",
        "192.88.99.1",
        "192.168.0.1",
        PRIVATE,
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "240.0.0.1",
        "255.255.255.254",
        "0.0.0.1",
        OWN[0],
        OWN[1],
    ];
    let v6 = [
        "::127.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::1.2.3.4",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:2::1",
        "2001:db8::1",
        "2002:a00:1::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd12::1",
        "fd67:7075:6c65::2",
        "fec0::1",
        OWN_V6,
    ];
    for (addresses, error) in [(&v4[..], libc::EHOSTUNREACH), (&v6[..], libc::EACCES)] {
        for address in addresses {
            for port in [port, ECHO, 80] {
                let address = SocketAddr::new(address.parse().unwrap(), port);
                let began = Instant::now();
                let refused = TcpStream::connect(address).expect_err(&address.to_string());
                assert_eq!(refused.raw_os_error(), Some(error), "{address}: {refused}");
                assert!(began.elapsed() < AT_ONCE, "{address} took {:?}", began.elapsed());
            }
            let address = SocketAddr::new(address.parse().unwrap(), ECHO);
            let socket = UdpSocket::bind(if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap();
            socket.set_read_timeout(Some(AT_ONCE)).unwrap();
            let refused = socket.connect(address).and_then(|()| socket.send(b"?")).and_then(|_| socket.recv(&mut [0]));
            let refused = refused.expect_err(&address.to_string());
            assert_ne!(refused.kind(), ErrorKind::WouldBlock, "{address} by datagram: no refusal");
        }
    }
    // Addresses of many: a sender hears nothing, and neither does anybody else.
    for many in ["224.0.0.1:7", "239.1.1.1:7", "255.255.255.255:7"] {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_broadcast(true).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let _ = socket.send_to(b"?", many);
        socket.recv(&mut [0]).expect_err(many);
    }
    // Here 127.0.0.1 is the sandbox's own, and IPv4 in IPv6's clothes is IPv4.
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}"), format!("[::ffff:127.0.0.1]:{port}")] {
        assert_eq!(TcpStream::connect(&address).unwrap_err().kind(), ErrorKind::ConnectionRefused, "{address}");
    }
    let mapped = TcpStream::connect(format!("[::ffff:{PRIVATE}]:{ECHO}")).unwrap_err();
    assert_eq!(mapped.raw_os_error(), Some(libc::EHOSTUNREACH));
    let name = UnixAddress::from_abstract_name(std::env::var("ABSTRACT").unwrap()).unwrap();
    assert_eq!(UnixStream::connect_addr(&name).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    // And what is public still works.
    connect(SocketAddr::new(PUBLIC.parse().unwrap(), ECHO)).unwrap();
}

#[test]
#[ignore = "runs inside a sandbox"]
fn inside_bulk() {
    let public = |port| SocketAddr::new(PUBLIC.parse().unwrap(), port);
    let speed = |began: Instant| (BULK >> 20) as f64 / began.elapsed().as_secs_f64();
    let bytes: Vec<u8> = (0..BULK).map(pattern).collect();
    // Nobody reads these two for now: each must stop when all buffers are full, and go on later.
    let mut unread = connect(public(SOURCE)).unwrap();
    let mut unread_echo = connect(public(ECHO)).unwrap();
    let writer = std::thread::spawn({
        let (mut socket, bytes) = (unread_echo.try_clone().unwrap(), bytes.clone());
        move || {
            socket.write_all(&bytes).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
        }
    });
    let (began, mut socket) = (Instant::now(), connect(public(SINK)).unwrap());
    socket.write_all(&bytes).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, format!("{BULK} true"));
    let up = speed(began);
    let (began, mut socket) = (Instant::now(), connect(public(SOURCE)).unwrap());
    let mut received = Vec::with_capacity(BULK);
    socket.read_to_end(&mut received).unwrap();
    let down = speed(began);
    assert!(received == bytes, "{} bytes came", received.len());
    for socket in [&mut unread, &mut unread_echo] {
        received.clear();
        socket.read_to_end(&mut received).unwrap();
        assert!(received == bytes, "{} bytes came of those not read at first", received.len());
    }
    writer.join().unwrap();
    std::fs::write("/tmp/speed", format!("64 MiB out at {up:.0} MiB/s, in at {down:.0} MiB/s")).unwrap();

    let mut sockets: Vec<TcpStream> = (0..200).map(|_| connect(public(ECHO)).unwrap()).collect();
    for (n, socket) in sockets.iter_mut().enumerate() {
        socket.write_all(&[n as u8; 1000]).unwrap();
    }
    for (n, socket) in sockets.iter_mut().enumerate() {
        let mut back = [0; 1000];
        socket.read_exact(&mut back).unwrap();
        assert_eq!(back, [n as u8; 1000]);
    }
    // One end goes away without a word: the other side is told.
    drop(sockets);
    connect(public(ECHO)).unwrap();
}

#[test]
#[ignore = "runs inside a sandbox"]
fn inside_waiting() {
    let public = |port| SocketAddr::new(PUBLIC.parse().unwrap(), port);
    let _idle = connect(public(ECHO)).unwrap();
    let _unread = connect(public(SOURCE)).unwrap();
    // Ended by both sides, and still not read.
    let mut ended = connect(public(PAGE)).unwrap();
    ended.shutdown(Shutdown::Write).unwrap();
    // Full both ways.
    let mut full = connect(public(ECHO)).unwrap();
    full.set_nonblocking(true).unwrap();
    let full_since = |socket: &mut TcpStream| socket.write(&[0; 65_536]).is_err();
    let mut refused = Instant::now();
    while refused.elapsed() < Duration::from_millis(500) {
        if !full_since(&mut full) {
            refused = Instant::now();
        }
    }
    std::fs::write("/tmp/waiting", "").unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !std::fs::exists("/tmp/go").unwrap() {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut page = Vec::new();
    ended.read_to_end(&mut page).unwrap();
    assert!(page.len() == PAGE_SIZE && page.iter().enumerate().all(|(at, byte)| *byte == pattern(at)));
}

#[test]
#[ignore = "runs inside a sandbox"]
fn inside_flood() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, connect as begin, socket_with};
    let mut old = connect(SocketAddr::new(PUBLIC.parse().unwrap(), ECHO)).unwrap();
    let silent: SocketAddr = format!("{SILENT}:80").parse().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..3000 {
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        let _ = begin(&socket, &silent);
        waiting.push(socket);
    }
    // The first thousand wait, as they should; the others were told at once that they may not.
    let deadline = Instant::now() + Duration::from_secs(30);
    let refused = || {
        let told = |socket| rustix::net::sockopt::socket_error(socket).unwrap().is_err();
        waiting.iter().filter(|socket| told(*socket)).count()
    };
    let mut seen = 0;
    while seen < 3000 - 1024 {
        seen += refused();
        assert!(Instant::now() < deadline, "{seen} of 3000 were refused");
    }
    assert!(seen < 2100, "{seen} of 3000 were refused");
    // Datagrams to more places than there is room for: the newest always has its way.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(AT_ONCE)).unwrap();
    for port in 2000..5000 {
        let _ = socket.send_to(b"?", (SILENT, port));
    }
    let echoed = (0..20).any(|_| {
        socket.send_to(b"still", (PUBLIC, ECHO)).unwrap();
        let mut back = [0; 8];
        matches!(socket.recv_from(&mut back), Ok((5, _)) if &back[..5] == b"still")
    });
    assert!(echoed);
    old.write_all(b"still").unwrap();
    let mut back = [0; 5];
    old.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"still");
    // Room again as soon as somebody leaves.
    drop(waiting);
    let again = Instant::now() + Duration::from_secs(30);
    while connect(SocketAddr::new(PUBLIC.parse().unwrap(), ECHO)).is_err() {
        assert!(Instant::now() < again, "no connection after the flood");
        std::thread::yield_now();
    }
}

/// Connects, or fails within a bound of its own.
pub(crate) fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(socket)
}
