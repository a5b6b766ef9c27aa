//! Who is let in, and what one connection carries.

use crate::world::{World, amount, fed, noise, said, until, within};
use access::ssh::{ClientKey, HostKey, Way};
use std::{fs, process::Stdio};
use tokio::{io::AsyncWriteExt, task::JoinSet};

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_command_needs_no_key() {
    let world = World::new().await;
    let pipe = format!("exec 3<>/dev/tcp/127.0.0.1/{}; cat <&3 & trap 'kill $!' EXIT; cat >&3", world.trusting_port);
    world.write_configuration(&Way::Command(vec!["bash".into(), "-c".into(), pipe]));
    assert_eq!(world.inside("echo $((6 * 7))").await, "42\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_lets_in_nobody_without_its_key() {
    let world = World::new().await;
    fs::write(world.path("identity"), ClientKey::generate().to_openssh()).unwrap();
    let output = world.ssh(&["rental", "echo in"]).await;
    assert_eq!(output.status.code(), Some(255));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("Permission denied (publickey)"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_key_is_not_spoken_to() {
    let world = World::new().await;
    let provider = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN".parse().unwrap();
    let other = HostKey::derive(&[8; 32], &provider).known_hosts_line();
    let forged = format!("{} {}\n", world.host_key.alias(), other.split_once(' ').unwrap().1);
    fs::write(world.path("known_hosts"), forged).unwrap();
    let output = world.ssh(&["rental", "echo in"]).await;
    assert_eq!(output.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&output.stderr).contains("Host key verification failed"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_exchanged_anew_in_the_middle_of_a_transfer_and_nothing_is_lost() {
    let world = World::new().await;
    let sent = noise(amount(96 << 20, 1_400 << 20));
    let mut command = world.client("ssh");
    command.args(["-o", "RekeyLimit=16M", "rental", "cat"]);
    let output = fed(command, sent.clone()).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == sent, "{} of {} bytes came back", output.stdout.len(), sent.len());
}

/// One connection that other clients share.
async fn shared(world: &World) -> tokio::process::Child {
    let socket = world.path("control");
    let mut command = world.client("ssh");
    command.args(["-M", "-N", "-o", "ServerAliveInterval=1", "-S"]).arg(&socket).arg("rental");
    let master = command.spawn().unwrap();
    until("the shared connection", || socket.exists()).await;
    master
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_sessions_share_a_connection() {
    let world = World::new().await;
    let _master = shared(&world).await;
    let mut sessions = JoinSet::new();
    for number in 0..20_usize {
        let mut command = world.client("ssh");
        command.arg("-S").arg(world.path("control")).args(["rental", "cat; echo end"]);
        let text = noise(100_000 + number);
        sessions.spawn(async move { (fed(command, text.clone()).await, [&text[..], b"end\n"].concat()) });
    }
    while let Some(session) = sessions.join_next().await {
        let (output, expected) = session.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout == expected, "{} bytes came back", output.stdout.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_takes_no_input_does_not_hold_up_its_neighbours() {
    let world = World::new().await;
    let _master = shared(&world).await;
    let through = |script: &str| {
        let mut command = world.client("ssh");
        command.arg("-S").arg(world.path("control")).args(["rental", script]);
        command
    };
    let mut stuck = through("echo ready; exec sleep 600").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stdin = stuck.stdin.take().unwrap();
    let flood = tokio::spawn(async move { while stdin.write_all(&[0; 65_536]).await.is_ok() {} });
    for _ in 0..5 {
        assert_eq!(said(within("a neighbour", through("echo hello").output()).await.unwrap()), "hello\n");
    }
    let long = noise(1_000_000);
    let output = fed(through("cat"), long.clone()).await;
    assert!(output.stdout == long, "{} bytes came back", output.stdout.len());
    flood.abort();
}
