//! Finding the first neighbours: by a rendezvous point, and in a local network.

use crate::support::{TCP, address, config, start, until_connected};
use market::class::GpuClass;
use network::{Config, Interest, Network};
use std::{collections::BTreeSet, net::TcpListener, process::Command};

/// The network namespace in which the test of the local network runs is told by this variable.
const INSIDE: &str = "GPULEASE_TEST_LAN";

async fn point() -> Network {
    start(Config { listen: vec![TCP.parse().unwrap()], serves_rendezvous: true, classes: Interest::none(), ..config() })
        .await
}

fn follower(point: &Network) -> Config {
    // an address that others can use must be known beforehand
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let here: network::Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    Config {
        listen: vec![here.clone()],
        external: vec![here],
        rendezvous: vec![address(point)],
        classes: Interest::Only(BTreeSet::from([GpuClass::CPU])),
        ..config()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_that_follow_one_class_find_each_other_through_a_rendezvous_point() {
    let point = point().await;
    let early = start(follower(&point)).await;
    let late = start(follower(&point)).await;
    until_connected(&late.handle(), early.handle().local_peer_id()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_reached_is_not_offered_to_others_and_finds_them_all_the_same() {
    let point = point().await;
    let hidden = start(Config { external: Vec::new(), ..follower(&point) }).await;
    let open = start(follower(&point)).await;
    until_connected(&hidden.handle(), open.handle().local_peer_id()).await;
}

/// Runs itself again in a network namespace of its own, with one cable whose other end leads nowhere: nothing is sent into a real network.
#[test]
fn two_in_one_local_network_find_each_other_though_neither_knows_anybody() {
    let this = std::env::current_exe().unwrap();
    let script = "ip link set lo up && ip link add lan0 type veth peer name lan1 && ip addr add 10.77.0.1/24 dev lan0 \
                  && ip link set lan1 up && ip link set lan0 up \
                  && exec \"$0\" --exact neighbours::inside_a_local_network --ignored";
    let status = Command::new("unshare").args(["-rn", "sh", "-c", script]).arg(this).env(INSIDE, "1").status().unwrap();
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in a network namespace: the test above starts it there"]
async fn inside_a_local_network() {
    assert!(std::env::var_os(INSIDE).is_some(), "not in the namespace");
    let alone = || Config { listen: vec!["/ip4/10.77.0.1/tcp/0".parse().unwrap()], mdns: true, ..config() };
    let (one, other) = (start(alone()).await, start(alone()).await);
    until_connected(&one.handle(), other.handle().local_peer_id()).await;
}
