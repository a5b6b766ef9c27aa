//! The process that carries a sandbox's traffic: what it may do, and that it lives neither shorter nor longer than the sandbox.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use futures::StreamExt;
use sandbox::{Backend, Error, LogEvent, NativeBackend, Network, Sandbox, SandboxId};

use crate::egress::egress;
use crate::support::{Bench, config, exec, fresh_id, small, traces, until, within};
use crate::world::{ECHO, PUBLIC, World, in_a_world};

#[test]
fn the_network_process_can_do_nothing_but_carry_and_is_gone_with_its_sandbox() {
    in_a_world("egress_process::machine_confined");
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
    in_a_world("egress_process::machine_restart");
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
fn a_network_process_that_dies_is_replaced_and_new_connections_work() {
    in_a_world("egress_process::machine_replaced");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs as the machine of a world of its own"]
async fn machine_replaced() {
    let _world = World::new();
    let bench = Bench::new();
    let sandbox = bench.sandbox(&egress()).await;
    let ask = format!("exec 3<>/dev/tcp/{PUBLIC}/{ECHO} && echo back >&3 && read -u 3 line && echo $line");
    let first = network_process(sandbox.id());
    // twice, and while the sandbox is frozen too
    for frozen in [false, true] {
        let before = network_process(sandbox.id());
        if frozen {
            sandbox.freeze().await.unwrap();
        }
        // SAFETY: plain numbers; a process of this test's own sandbox.
        unsafe { libc::kill(before, libc::SIGKILL) };
        let replaced = || async { matches!(processes_in(sandbox.id(), "network")[..], [pid] if pid != before) };
        until("another network process", replaced).await;
        if frozen {
            sandbox.thaw().await.unwrap();
        }
        let answer = || async { exec(&sandbox, &["bash", "-c", &ask]).await.stdout == "back\n" };
        until("an answer from outside", answer).await;
    }
    assert_ne!(network_process(sandbox.id()), first);
    sandbox.destroy().await.unwrap();
    assert_eq!(traces(sandbox.id(), bench.state.path()), Vec::<String>::new());
}

#[test]
fn a_machine_without_such_interfaces_says_so_before_anything_runs() {
    in_a_world("egress_process::machine_without");
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

pub(crate) fn network_process(id: &SandboxId) -> i32 {
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
pub(crate) fn own_memory(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// Hundredths of a second of processor time that a process has used.
pub(crate) fn cpu_ticks(pid: i32) -> u64 {
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
