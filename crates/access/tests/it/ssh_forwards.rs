//! Connections to what listens inside: `-W`, `-L` and `-D`.

use crate::world::{World, fed, until, within};
use std::process::Stdio;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

const AT_PORT: &str = "IO::Socket::INET->new(Listen => 9, LocalAddr => q(127.0.0.1:7777), ReuseAddr => 1)";
const AT_SOCKET: &str = "IO::Socket::UNIX->new(Listen => 9, Local => q(/tmp/echo.sock))";

async fn echoes(mut connection: TcpStream) {
    within("the echo", async {
        connection.write_all(b"hello\n").await.unwrap();
        let mut back = [0; 6];
        connection.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"hello\n");
        connection.shutdown().await.unwrap();
        assert_eq!(connection.read(&mut back).await.unwrap(), 0);
    })
    .await;
}

/// A port that nobody has, or so it was a moment ago.
async fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

/// Starts a client that listens, and waits until it does.
async fn listening(world: &World, arguments: &[&str], port: u16) -> tokio::process::Child {
    let client = world
        .client("ssh")
        .args(["-N", "-o", "ExitOnForwardFailure=yes"])
        .args(arguments)
        .arg("rental")
        .spawn()
        .unwrap();
    until("the client's port", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    client
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_and_a_socket_inside_are_reached_from_a_port_here() {
    let world = World::new().await;
    let (_server, _other) = (world.echo(AT_PORT).await, world.echo(AT_SOCKET).await);
    for target in ["127.0.0.1:7777", "localhost:7777", "/tmp/echo.sock"] {
        let port = free_port().await;
        let _client = listening(&world, &["-L", &format!("127.0.0.1:{port}:{target}")], port).await;
        for _ in 0..3 {
            echoes(TcpStream::connect(("127.0.0.1", port)).await.unwrap()).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_reaches_what_the_sandbox_knows_by_name() {
    let world = World::new().await;
    let _server = world.echo(AT_PORT).await;
    let port = free_port().await;
    let _client = listening(&world, &["-D", &format!("127.0.0.1:{port}")], port).await;
    for host in ["localhost", "127.0.0.1"] {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut hello = vec![5, 1, 0, 5, 1, 0, 3, host.len() as u8];
        hello.extend_from_slice(host.as_bytes());
        hello.extend_from_slice(&7777_u16.to_be_bytes());
        connection.write_all(&hello).await.unwrap();
        let mut answer = [0; 12];
        within("the proxy", connection.read_exact(&mut answer)).await.unwrap();
        assert_eq!(answer[..4], [5, 0, 5, 0], "{host}");
        echoes(connection).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_listens_the_client_is_told() {
    let world = World::new().await;
    for target in ["127.0.0.1:7778", "no-such-host.invalid:80"] {
        let output = world.ssh(&["-o", "LogLevel=INFO", "-W", target, "rental"]).await;
        assert_eq!(output.status.code(), Some(255), "{output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("open failed: connect failed: "), "{output:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_through_a_pipe_comes_back_to_its_end() {
    let world = World::new().await;
    let _server = world.echo(AT_PORT).await;
    let text: Vec<u8> = (0..50_000).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
    let mut command = world.client("ssh");
    command.args(["-W", "127.0.0.1:7777", "rental"]);
    let output = fed(command, text.clone()).await;
    assert!(output.stdout == text, "{} of {} bytes came back", output.stdout.len(), text.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_to_a_server_that_has_said_all_before_arrives_whole() {
    const SENT: usize = 1_000_000;
    let world = World::new().await;
    // slow to read, so that all is still under way when the client has closed
    let script = "$| = 1; my $l = IO::Socket::INET->new(Listen => 1, LocalAddr => q(127.0.0.1:7779)) or die $!; print qq(ready\n); \
                  my $c = $l->accept; print $c q(hello); $c->flush; shutdown($c, 1); sleep 1; my $n = 0; \
                  while (my $read = sysread($c, my $piece, 65536)) { $n += $read } print qq($n\n)";
    let mut command = world.client("ssh");
    command.args(["rental", &format!("exec perl -MIO::Socket::INET -e '{script}'")]).stdout(Stdio::piped());
    let mut server = command.spawn().unwrap();
    let mut lines = BufReader::new(server.stdout.take().unwrap()).lines();
    assert_eq!(within("the server", lines.next_line()).await.unwrap().unwrap(), "ready");
    let port = free_port().await;
    // asked of its socket whether it is there, since a connection is the server's only one
    let control = world.path("control");
    let mut master = world.client("ssh");
    master.args(["-M", "-N", "-S"]).arg(&control).args(["-L", &format!("127.0.0.1:{port}:127.0.0.1:7779"), "rental"]);
    let _master = master.spawn().unwrap();
    until("the master's socket", || control.exists()).await;
    let mut connection = within("the connection", async {
        loop {
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(connection) => break connection,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await;
    connection.write_all(&vec![b'x'; SENT]).await.unwrap();
    connection.shutdown().await.unwrap();
    let mut said = String::new();
    within("its words", connection.read_to_string(&mut said)).await.unwrap();
    assert_eq!(said, "hello");
    drop(connection);
    assert_eq!(within("the count", lines.next_line()).await.unwrap().unwrap(), SENT.to_string());
}

/// A server of this machine that answers each line with itself.
async fn echo_here() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = connection.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    port
}

/// What a program inside says to a port there, all of it before it reads, and how much came back unchanged.
async fn said_inside(world: &World, port: u16, lines: usize) -> String {
    let script = format!(
        "exec perl -MIO::Socket::INET -e 'my $c = IO::Socket::INET->new(PeerAddr => q(127.0.0.1:{port})) or die qq(refused\\n); \
         if (!fork) {{ print $c qq(line $_\\n) for 1..{lines}; $c->flush; shutdown($c, 1); exit }} \
         my $n = 0; while (<$c>) {{ $n++; die qq(wrong\\n) if $_ ne qq(line $n\\n) }} wait; print $n' 2>&1"
    );
    let output = world.ssh(&["rental", &script]).await;
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_inside_leads_to_a_server_here_until_it_is_cancelled_or_the_client_goes() {
    let world = World::new().await;
    let here = echo_here().await;
    let control = world.path("control");
    let target = format!("7777:127.0.0.1:{here}");
    let mut master = world.client("ssh");
    master.args(["-M", "-N", "-S"]).arg(&control).args(["-o", "ExitOnForwardFailure=yes", "-R", &target, "rental"]);
    let mut master = master.spawn().unwrap();
    until("the master's socket", || control.exists()).await;
    let order = async |order: &str, more: &[&str]| {
        let mut command = world.client("ssh");
        command.arg("-S").arg(&control).args(["-O", order]).args(more).arg("rental");
        within("the order", command.output()).await.unwrap()
    };
    // the socket is there a moment before the port is
    for _ in 0..50 {
        if said_inside(&world, 7777, 1).await == "1" {
            break;
        }
    }
    assert_eq!(said_inside(&world, 7777, 50_000).await, "50000");
    let many: Vec<_> = (0..8).map(|n| said_inside(&world, 7777, 100 + n)).collect();
    for (n, said) in futures::future::join_all(many).await.into_iter().enumerate() {
        assert_eq!(said, (100 + n).to_string());
    }

    // any free one: the client is told which
    let any = order("forward", &["-R", &format!("0:127.0.0.1:{here}")]).await;
    let port: u16 = String::from_utf8_lossy(&any.stdout).trim().parse().unwrap();
    assert_eq!(said_inside(&world, port, 3).await, "3");

    let nowhere = order("forward", &["-R", "7778:127.0.0.1:9"]).await;
    assert!(nowhere.status.success(), "{nowhere:?}");
    assert_eq!(said_inside(&world, 7778, 0).await, "0", "closed, since nothing listens here");

    let cancelled = order("cancel", &["-R", &target]).await;
    assert!(cancelled.status.success(), "{cancelled:?}");
    for _ in 0..50 {
        if said_inside(&world, 7777, 1).await == "refused" {
            break;
        }
    }
    assert_eq!(said_inside(&world, 7777, 1).await, "refused");
    assert_eq!(said_inside(&world, port, 3).await, "3", "another port went with it");
    master.start_kill().unwrap();
    master.wait().await.unwrap();
    for _ in 0..50 {
        if said_inside(&world, port, 1).await == "refused" {
            return;
        }
    }
    panic!("a port outlived its client");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_inside_that_is_taken_and_a_socket_cannot_be_had_and_the_client_is_told() {
    let world = World::new().await;
    let _server = world.echo(AT_PORT).await;
    for (what, said) in [("7777:127.0.0.1:22", "listen port 7777"), ("/tmp/back.sock:127.0.0.1:22", "listen path")] {
        let output = world.ssh(&["-o", "ExitOnForwardFailure=yes", "-R", what, "rental", "echo in"]).await;
        assert_eq!(output.status.code(), Some(255));
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(why.contains("remote port forwarding failed for ") && why.contains(said), "{why}");
    }
}
