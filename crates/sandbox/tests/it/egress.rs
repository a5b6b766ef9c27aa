//! The network of a sandbox, in a world of two network namespaces: what is public works as anywhere, what is not is refused at once, and
//! nothing is left of it afterwards.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use sandbox::{Backend, Error, LogEvent, NativeBackend, Network, Rootfs, Sandbox, SandboxId, SandboxSpec};

use crate::isolation::small_tree;
use crate::support::{Bench, config, exec, exec_spec, fresh_id, run_inside, small, traces, until, within};
use crate::world::{
    BULK, ECHO, OWN, OWN_V6, PAGE, PAGE_SIZE, PRIVATE, PUBLIC, PUBLIC_V6, RESET, SILENT, SINK, SOURCE, World,
    in_a_world, pattern,
};

/// A refusal must come within this; most programs give up no sooner than after minutes.
const AT_ONCE: Duration = Duration::from_secs(2);

fn egress() -> SandboxSpec {
    SandboxSpec { network: Network::Egress, ..small() }
}

#[test]
fn public_addresses_and_names_work_as_anywhere() {
    in_a_world("egress::machine_public");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as the machine of a world of its own"]
async fn machine_public() {
    let _world = World::new();
    let bench = Bench::new();
    let sandbox = bench.sandbox(&egress()).await;
    run_inside(&sandbox, "egress::inside_public", &[]).await;
    // The C library asks by TCP what it would ask by datagrams.
    let mut names = sandbox::ProcessSpec::new(["getent", "ahostsv4", "by-tcp.example"]);
    names.env.insert("RES_OPTIONS".into(), "use-vc".into());
    let found = exec_spec(&sandbox, names).await;
    assert!(found.stdout.starts_with(PUBLIC), "{found:?}");
    let stats = sandbox.stats().await.unwrap();
    assert!(stats.network_received_bytes > 100_000 && stats.network_sent_bytes > 100_000, "{stats:?}");
    sandbox.destroy().await.unwrap();

    // A given tree says nothing of this machine's name servers, and may hold a link in that place.
    let (tree, outside) = (small_tree(), tempfile::NamedTempFile::new().unwrap());
    std::fs::create_dir(tree.path().join("etc")).unwrap();
    std::os::unix::fs::symlink(outside.path(), tree.path().join("etc/resolv.conf")).unwrap();
    let sandbox = bench.sandbox(&SandboxSpec { rootfs: Rootfs::Dir(tree.path().into()), ..egress() }).await;
    let read = exec(&sandbox, &["sh", "-c", "read line < /etc/resolv.conf; echo $line"]).await;
    assert_eq!(read.stdout, "nameserver 10.0.2.3\n", "{read:?}");
    assert_eq!(outside.as_file().metadata().unwrap().len(), 0);
    sandbox.destroy().await.unwrap();
}

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
fn everything_else_is_refused_at_once() {
    in_a_world("egress::machine_refused");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as the machine of a world of its own"]
async fn machine_refused() {
    let _world = World::new();
    let bench = Bench::new();
    // What shall not be reached is there: the machine itself reaches all of it.
    let service = TcpListener::bind("[::]:0").unwrap();
    let port = service.local_addr().unwrap().port();
    for own in OWN.iter().chain(&["127.0.0.1", OWN_V6]) {
        connect(SocketAddr::new(own.parse().unwrap(), port)).unwrap();
    }
    connect(SocketAddr::new(PRIVATE.parse().unwrap(), ECHO)).unwrap();
    let name = format!("gpulease-test-{}", std::process::id());
    let abstract_address = UnixAddress::from_abstract_name(&name).unwrap();
    let _abstract = UnixListener::bind_addr(&abstract_address).unwrap();
    UnixStream::connect_addr(&abstract_address).unwrap();

    let sandbox = bench.sandbox(&egress()).await;
    let env = [("HOST_PORT", port.to_string()), ("ABSTRACT", name)];
    run_inside(&sandbox, "egress::inside_refused", &env).await;
    sandbox.destroy().await.unwrap();
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
                // The kernel knows by itself that nothing is at 0.0.0.0/8 and 255.0.0.0/8.
                let own = matches!(refused.raw_os_error(), Some(libc::ENETUNREACH | libc::EINVAL));
                assert!(own || refused.raw_os_error() == Some(error), "{address}: {refused}");
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
fn large_transfers_arrive_whole_both_ways_and_200_connections_run_at_once() {
    in_a_world("egress::machine_bulk");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as the machine of a world of its own"]
async fn machine_bulk() {
    let _world = World::new();
    let bench = Bench::new();
    let sandbox = bench.sandbox(&egress()).await;
    let network = network_process(sandbox.id());
    println!("measured: idle network process: {} KiB of its own memory", own_memory(network) / 1024);
    run_inside(&sandbox, "egress::inside_bulk", &[]).await;
    until("the memory of connections is given back", || async { own_memory(network) < 4 << 20 }).await;
    println!("measured: network process afterwards: {} KiB of its own memory", own_memory(network) / 1024);
    let stats = sandbox.stats().await.unwrap();
    assert!(stats.network_received_bytes > BULK as u64 && stats.network_sent_bytes > BULK as u64, "{stats:?}");
    // As the program inside saw them, which its output told.
    println!("measured: {}", exec(&sandbox, &["cat", "/tmp/speed"]).await.stdout.trim());
    sandbox.destroy().await.unwrap();
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
fn connections_that_wait_cost_no_processor_time() {
    in_a_world("egress::machine_waiting");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as the machine of a world of its own"]
async fn machine_waiting() {
    let _world = World::new();
    let bench = Bench::new();
    let sandbox = bench.sandbox(&egress()).await;
    let network = network_process(sandbox.id());
    let measure = async {
        until("all connections wait", || async {
            exec(&sandbox, &["test", "-e", "/tmp/waiting"]).await.exit.shell_code() == 0
        })
        .await;
        // What was on its way when the program stopped reading has arrived when nothing more happens.
        let (mut before, mut since) = (cpu_ticks(network), Instant::now());
        until("a second passes without work", || {
            let now = cpu_ticks(network);
            if now > before + 2 {
                (before, since) = (now, Instant::now());
            }
            std::future::ready(since.elapsed() > Duration::from_secs(1))
        })
        .await;
        assert_eq!(exec(&sandbox, &["touch", "/tmp/go"]).await.exit.shell_code(), 0);
    };
    tokio::join!(run_inside(&sandbox, "egress::inside_waiting", &[]), measure);
    sandbox.destroy().await.unwrap();
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
fn a_flood_of_connections_stays_within_its_bounds_and_harms_no_other() {
    in_a_world("egress::machine_flood");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as the machine of a world of its own"]
async fn machine_flood() {
    let _world = World::new();
    let bench = Bench::new();
    let sandbox = bench.sandbox(&SandboxSpec { max_open_files: 8192, ..egress() }).await;
    let network = network_process(sandbox.id());
    let before = own_memory(network);
    run_inside(&sandbox, "egress::inside_flood", &[]).await;
    let after = own_memory(network);
    println!("measured: network process after the flood: {} KiB of its own memory", after / 1024);
    assert!(after < before + (16 << 20), "{before} grew to {after}");
    assert_eq!(network_process(sandbox.id()), network, "it was not replaced");
    sandbox.destroy().await.unwrap();
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

#[test]
fn the_network_process_can_do_nothing_but_carry_and_is_gone_with_its_sandbox() {
    in_a_world("egress::machine_confined");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as the machine of a world of its own"]
async fn machine_confined() {
    let _world = World::new();
    let bench = Bench::new();
    let sandbox = bench.sandbox(&egress()).await;
    let network = network_process(sandbox.id());
    let status = std::fs::read_to_string(format!("/proc/{network}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_string();
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set}");
    }
    assert_eq!((field("NoNewPrivs:"), field("Seccomp:"), field("Threads:")), ("1".into(), "2".into(), "1".into()));
    assert_eq!(field("Groups:"), "");
    for users in [field("Uid:"), field("Gid:")] {
        let users: Vec<u32> = users.split_whitespace().map(|user| user.parse().unwrap()).collect();
        assert!(users.iter().all(|user| *user == users[0] && (2_097_252_000..1 << 31).contains(user)), "{users:?}");
    }
    assert_eq!(std::fs::read_dir(format!("/proc/{network}/root/")).unwrap().count(), 0, "it sees files");
    for (file, limit) in network_limits(network) {
        assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), limit, "{}", file.display());
    }
    let inside = agent_network(sandbox.id());
    assert!(holders(&inside) > 0);
    sandbox.destroy().await.unwrap();
    assert_eq!(traces(sandbox.id(), bench.state.path()), Vec::<String>::new());
    assert_eq!(holders(&inside), 0, "the sandbox's network is still there");

    // An agent that dies by itself takes the network process with it.
    let sandbox = bench.sandbox(&egress()).await;
    let network = network_process(sandbox.id());
    let agent = process_in(sandbox.id(), "agent");
    // SAFETY: plain numbers; a process of this test's own sandbox.
    unsafe { libc::kill(agent, libc::SIGKILL) };
    until("the network process ends", || async { !alive(network) }).await;
    assert!(bench.backend.reconcile().await.unwrap().is_empty());
    assert_eq!(traces(sandbox.id(), bench.state.path()), Vec::<String>::new());

    // Without network there is neither process nor group, and probing says what there is.
    let sandbox = bench.sandbox(&small()).await;
    assert!(processes_in(sandbox.id(), "network").is_empty());
    assert_eq!(sandbox.stats().await.unwrap().network_sent_bytes, 0);
    sandbox.destroy().await.unwrap();
    assert_eq!(bench.backend.probe().await.networks, [Network::None, Network::Egress]);
}

#[test]
fn connections_outlive_a_killed_node() {
    in_a_world("egress::machine_restart");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as the machine of a world of its own"]
async fn machine_restart() {
    let _world = World::new();
    let bench = Bench::new();
    // One connection for all numbers.
    let script = format!(
        "exec 3<>/dev/tcp/{PUBLIC}/{ECHO}; i=0; while :; do echo $i >&3; read -u 3 back || exit; echo $back; i=$((i+1)); sleep 0.02; done"
    );
    let mut node = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    node.args(["run", "--egress"]).arg(bench.state.path()).args(["--", "bash", "-c", &script]);
    let mut node = node.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(node.stdout.take().unwrap()).lines();
    assert_eq!(lines.map(Result::unwrap).find(|line| line == "5").unwrap(), "5");
    node.kill().unwrap();
    node.wait().unwrap();

    let backend = NativeBackend::new(config(bench.state.path().into())).unwrap();
    let adopted: Vec<Arc<dyn Sandbox>> = backend.reconcile().await.unwrap();
    let [sandbox] = &adopted[..] else { panic!("{} sandboxes", adopted.len()) };
    let mut logs = sandbox.logs(0, true).await.unwrap();
    let mut text = String::new();
    while !text.ends_with("\n50\n") {
        let Some(Ok(LogEvent::Record(record))) = within(logs.next()).await else { panic!("the log ends: {text}") };
        text.push_str(std::str::from_utf8(&record.bytes).unwrap());
    }
    let numbers: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (0..=50).collect::<Vec<_>>());
    sandbox.destroy().await.unwrap();
    assert_eq!(traces(sandbox.id(), bench.state.path()), Vec::<String>::new());
}

#[test]
fn a_machine_without_such_interfaces_says_so_before_anything_runs() {
    in_a_world("egress::machine_without");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as the machine of a world of its own"]
async fn machine_without() {
    let private = rustix::mount::MountPropagationFlags::PRIVATE | rustix::mount::MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).unwrap();
    rustix::mount::mount_bind("/dev/null", "/dev/net/tun").unwrap();
    let bench = Bench::new();
    let id = fresh_id();
    let error = bench.backend.create(&id, &egress()).await.err().unwrap();
    assert!(matches!(&error, Error::Unsupported { what } if what.contains("/dev/net/tun")), "{error}");
    assert_eq!(traces(&id, bench.state.path()), Vec::<String>::new());
    let found = bench.backend.probe().await;
    assert_eq!((found.networks, found.problems), (vec![Network::None], vec![]));
}

/// Connects, or fails within a bound of its own.
fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    socket.set_read_timeout(Some(Duration::from_secs(30)))?;
    Ok(socket)
}

fn processes_in(id: &SandboxId, part: &str) -> Vec<i32> {
    let group = format!("/{id}/{part}");
    let inside = |pid: &i32| {
        let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        groups.lines().any(|line| line.ends_with(&group))
    };
    pids().filter(inside).collect()
}

fn process_in(id: &SandboxId, part: &str) -> i32 {
    let found = processes_in(id, part);
    let [pid] = found[..] else { panic!("{found:?} in {part}") };
    pid
}

fn network_process(id: &SandboxId) -> i32 {
    process_in(id, "network")
}

fn pids() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
}

fn alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The network namespace of a sandbox.
fn agent_network(id: &SandboxId) -> PathBuf {
    std::fs::read_link(format!("/proc/{}/ns/net", process_in(id, "agent"))).unwrap()
}

/// How many processes have this network.
fn holders(network: &PathBuf) -> usize {
    pids().filter(|pid| std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|found| found == *network)).count()
}

/// Memory that no other process shares.
fn own_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Hundredths of a second of processor time that a process has used.
fn cpu_ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// The kernel's files of the limits of a network process, and what should be in them.
fn network_limits(pid: i32) -> Vec<(PathBuf, &'static str)> {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let mut found = Vec::new();
    for line in groups.lines().filter(|line| line.ends_with("/network")) {
        let [_, controllers, path] = line.splitn(3, ':').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let root = PathBuf::from("/sys/fs/cgroup");
        for controller in controllers.split(',') {
            let (root, names): (_, &[_]) = match controller {
                "memory" => (root.join("memory"), &[("memory.limit_in_bytes", "268435456")]),
                "pids" => (root.join("pids"), &[("pids.max", "1")]),
                "cpu" => (root.join("cpu"), &[("cpu.cfs_quota_us", "100000"), ("cpu.cfs_period_us", "100000")]),
                "" => (root.clone(), &[("memory.max", "268435456"), ("pids.max", "1"), ("cpu.max", "100000 100000")]),
                _ => continue,
            };
            let directory = root.join(path.trim_start_matches('/'));
            found.extend(names.iter().map(|(name, limit)| (directory.join(name), *limit)));
        }
    }
    assert!(found.len() >= 3, "{groups}");
    found
}
