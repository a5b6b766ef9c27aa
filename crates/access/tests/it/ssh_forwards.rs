//! Connections to what listens inside: `-W`, `-L` and `-D`.

use crate::world::{World, fed, until, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
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
async fn a_port_of_the_sandbox_cannot_be_had_and_the_client_is_told() {
    let world = World::new().await;
    let output = world.ssh(&["-o", "ExitOnForwardFailure=yes", "-R", "7777:127.0.0.1:22", "rental", "echo in"]).await;
    assert_eq!(output.status.code(), Some(255));
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(why.contains("remote port forwarding failed for listen port 7777"), "{why}");
}
