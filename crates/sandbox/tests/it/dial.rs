//! Connections into a sandbox, as port forwards make them.

use std::time::Duration;

use sandbox::{ByteStream, DialRefusal, Error, InnerAddress};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::{Bench, exec, on_every_backend, serve_inside, small, within};

/// Says something, says that this is all, and answers what comes back.
async fn say(mut connection: ByteStream, text: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    within(async {
        connection.write_all(text).await.unwrap();
        connection.shutdown().await.unwrap();
        connection.read_to_end(&mut answer).await.unwrap();
    })
    .await;
    answer
}

async fn servers_inside_are_reached_by_every_kind_of_address_and_answer_after_a_half_close(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let _servers = serve_inside(&sandbox, "inside::servers_that_answer_when_all_is_said", &[]).await;
    let long: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for address in [
        InnerAddress::tcp("localhost", 8888).unwrap(),
        InnerAddress::tcp("127.0.0.1", 8888).unwrap(),
        // Only on version 6: `localhost` finds it all the same.
        InnerAddress::tcp("localhost", 6666).unwrap(),
        InnerAddress::tcp("::1", 6666).unwrap(),
        InnerAddress::unix("/tmp/answer.sock").unwrap(),
    ] {
        for text in [&b"hello"[..], &long, b""] {
            let connection = sandbox.dial(&address).await.unwrap();
            assert!(say(connection, text).await == text, "{} bytes to {address}", text.len());
        }
    }
    sandbox.destroy().await.unwrap();
}

async fn a_burst_of_200_dials_loses_none(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let _servers = serve_inside(&sandbox, "inside::servers_that_answer_when_all_is_said", &[]).await;
    let address = InnerAddress::tcp("localhost", 8888).unwrap();
    let opened = within(futures::future::try_join_all((0..200).map(|_| sandbox.dial(&address)))).await.unwrap();
    let answers = opened.into_iter().enumerate().map(|(n, connection)| async move {
        let text = n.to_string().into_bytes();
        say(connection, &text).await == text
    });
    assert!(futures::future::join_all(answers).await.into_iter().all(|right| right));
    sandbox.destroy().await.unwrap();
}

async fn a_refusal_says_its_kind_before_any_byte_flows(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let _sockets = serve_inside(&sandbox, "inside::sockets_that_cannot_be_connected_to", &[]).await;
    let tcp = |host, port| InnerAddress::tcp(host, port).unwrap();
    let unix = |path| InnerAddress::unix(path).unwrap();
    for (address, expected) in [
        (tcp("localhost", 9), DialRefusal::ConnectionRefused),
        (tcp("127.0.0.1", 9), DialRefusal::ConnectionRefused),
        (tcp("::1", 9), DialRefusal::ConnectionRefused),
        (tcp("192.0.2.1", 80), DialRefusal::Unreachable),
        (tcp("2001:db8::1", 80), DialRefusal::Unreachable),
        (unix("/tmp/no.sock"), DialRefusal::NoSuchSocket),
        (unix("/etc/passwd/no.sock"), DialRefusal::NoSuchSocket),
        (unix("/tmp/left.sock"), DialRefusal::ConnectionRefused),
        (unix("/etc/passwd"), DialRefusal::ConnectionRefused),
    ] {
        let error = sandbox.dial(&address).await.err().unwrap();
        assert!(matches!(&error, Error::Dial { refusal, .. } if *refusal == expected), "{address}: {error}");
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }
    let error = sandbox.dial(&unix("/tmp/datagrams.sock")).await.err().unwrap();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    let error = sandbox.dial(&InnerAddress::Unix("@abstract".into())).await.err().unwrap();
    assert!(matches!(error, Error::InvalidSpec { field: "address", .. }), "{error}");
    sandbox.destroy().await.unwrap();
}

async fn what_a_server_does_not_read_is_not_taken_from_us_either_and_the_other_direction_flows(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let _server = serve_inside(&sandbox, "inside::a_server_that_does_not_listen", &[]).await;
    let address = InnerAddress::tcp("localhost", 8888).unwrap();
    let mut connection = sandbox.dial(&address).await.unwrap();
    let piece = vec![0; 64 << 10];
    let mut taken = 0;
    while let Ok(written) = timeout(Duration::from_millis(500), connection.write(&piece)).await {
        taken += written.unwrap();
        assert!(taken < 64 << 20, "there is no end to it");
    }
    println!("{} KiB were taken before the writer had to wait", taken >> 10);
    let mut hello = [0; 5];
    within(connection.read_exact(&mut hello)).await.unwrap();
    assert_eq!(&hello, b"hello");
    // Nor does it stand in the way of another.
    let mut other = sandbox.dial(&address).await.unwrap();
    within(other.read_exact(&mut hello)).await.unwrap();
    assert_eq!(exec(&sandbox, &["echo", "beside"]).await.stdout, "beside\n");
    sandbox.destroy().await.unwrap();
}

async fn a_connection_ends_with_its_server_and_with_its_sandbox(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let server = serve_inside(&sandbox, "inside::a_server_that_does_not_listen", &[]).await;
    let address = InnerAddress::tcp("localhost", 8888).unwrap();
    let mut first = sandbox.dial(&address).await.unwrap();
    let mut second = sandbox.dial(&address).await.unwrap();
    within(second.read_exact(&mut [0; 5])).await.unwrap();
    sandbox.destroy().await.unwrap();
    let mut rest = Vec::new();
    // By an orderly end or by a reset, whichever the dying server came to; but it ends.
    let _ = within(first.read_to_end(&mut rest)).await;
    assert!(second.write_all(b"x").await.is_err());
    drop(server);
    let error = sandbox.dial(&address).await.err().unwrap();
    assert!(matches!(error, Error::Gone(_)), "{error}");
}

on_every_backend! {
    servers_inside_are_reached_by_every_kind_of_address_and_answer_after_a_half_close,
    a_burst_of_200_dials_loses_none,
    a_refusal_says_its_kind_before_any_byte_flows,
    what_a_server_does_not_read_is_not_taken_from_us_either_and_the_other_direction_flows,
    a_connection_ends_with_its_server_and_with_its_sandbox,
}
