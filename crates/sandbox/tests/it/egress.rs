//! The network of a sandbox, in a world of two network namespaces: what is public works as anywhere, and what is not is refused at once.

use std::net::{SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use sandbox::{Network, Rootfs, SandboxSpec};

use crate::egress_inside::connect;
use crate::egress_process::{cpu_ticks, network_process, own_memory};
use crate::support::{Bench, exec, exec_spec, run_inside, small, small_tree, until};
use crate::world::{BULK, ECHO, OWN, OWN_V6, PRIVATE, PUBLIC, World, in_a_world};

pub(crate) fn egress() -> SandboxSpec {
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
    run_inside(&sandbox, "egress_inside::inside_public", &[]).await;
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
    run_inside(&sandbox, "egress_inside::inside_refused", &env).await;
    sandbox.destroy().await.unwrap();
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
    run_inside(&sandbox, "egress_inside::inside_bulk", &[]).await;
    until("the memory of connections is given back", || async { own_memory(network) < 4 << 20 }).await;
    println!("measured: network process afterwards: {} KiB of its own memory", own_memory(network) / 1024);
    let stats = sandbox.stats().await.unwrap();
    assert!(stats.network_received_bytes > BULK as u64 && stats.network_sent_bytes > BULK as u64, "{stats:?}");
    // As the program inside saw them, which its output told.
    println!("measured: {}", exec(&sandbox, &["cat", "/tmp/speed"]).await.stdout.trim());
    sandbox.destroy().await.unwrap();
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
    tokio::join!(run_inside(&sandbox, "egress_inside::inside_waiting", &[]), measure);
    sandbox.destroy().await.unwrap();
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
    run_inside(&sandbox, "egress_inside::inside_flood", &[]).await;
    let after = own_memory(network);
    println!("measured: network process after the flood: {} KiB of its own memory", after / 1024);
    assert!(after < before + (16 << 20), "{before} grew to {after}");
    assert_eq!(network_process(sandbox.id()), network, "it was not replaced");
    sandbox.destroy().await.unwrap();
}
