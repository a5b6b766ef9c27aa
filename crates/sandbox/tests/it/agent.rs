//! What the agent costs: its size, its memory, the time it takes to start a process, and how many it serves at once.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use sandbox::{Exit, ProcessSpec, Sandbox, SandboxId, SandboxSpec, Terminal, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Bench, exec, read_until, small, until, within};

/// It is copied into every state directory and mapped into every sandbox.
const LARGEST: u64 = 2 << 20;

/// What an idle sandbox may cost beside its disk.
const IDLE_MEMORY: u64 = 3 << 20;

#[test]
fn the_embedded_agent_is_at_most_2_mib() {
    let bench = Bench::new();
    let files = std::fs::read_dir(bench.state.path()).unwrap().flatten();
    let agents: Vec<u64> = files
        .filter(|file| file.file_name().to_str().unwrap().starts_with("agent-"))
        .map(|file| file.metadata().unwrap().len())
        .collect();
    println!("the agent has {agents:?} bytes");
    assert!(matches!(agents[..], [size] if size <= LARGEST), "{agents:?}");
}

/// The control group of a sandbox's agent, where the machine has it.
pub(crate) fn agent_group(id: &SandboxId) -> PathBuf {
    let mut directories = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = directories.pop() {
        let agent = directory.join(id.as_str()).join("agent");
        if memory_file(&agent).exists() {
            return agent;
        }
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        directories.extend(
            entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()),
        );
    }
    panic!("no control group of {id}");
}

/// Its use of memory, in version 1 or 2.
fn memory_file(group: &Path) -> PathBuf {
    let v2 = group.join("memory.current");
    if v2.exists() { v2 } else { group.join("memory.usage_in_bytes") }
}

pub(crate) fn memory(group: &Path) -> u64 {
    std::fs::read_to_string(memory_file(group)).unwrap().trim().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_sandbox_costs_at_most_3_mib_also_after_it_was_used() {
    let bench = Bench::new();
    // The first one of a state directory pays for reading the agent's program.
    let first = bench.sandbox(&small()).await;
    let sandbox = bench.sandbox(&small()).await;
    let group = agent_group(sandbox.id());
    let fresh = memory(&group);
    for _ in 0..20 {
        exec(&sandbox, &["true"]).await;
    }
    let used = memory(&group);
    println!("the agent's group: {} KiB fresh, {} KiB after 20 processes", fresh >> 10, used >> 10);
    assert!(fresh <= IDLE_MEMORY && used <= IDLE_MEMORY, "{fresh} and {used} bytes");
    first.destroy().await.unwrap();
    sandbox.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_a_process_takes_milliseconds() {
    let bench = Bench::new();
    let sandbox = bench.sandbox(&small()).await;
    let mut times = Vec::new();
    for _ in 0..100 {
        let called = Instant::now();
        let mut process = sandbox.exec(ProcessSpec::new(["/usr/bin/true"])).await.unwrap();
        assert_eq!(within(process.wait()).await.unwrap(), Exit::Code { code: 0 });
        times.push(called.elapsed());
    }
    times.sort_unstable();
    println!("from the call to the exit of `true`: p50 {:?}, p90 {:?}, least {:?}", times[50], times[90], times[0]);
    // On a quiet machine it is a tenth of this.
    assert!(times[50] < Duration::from_millis(50), "{:?}", times[50]);
    sandbox.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_200_processes_loses_none_and_the_agent_keeps_within_its_memory() {
    let bench = Bench::new();
    let sandbox = bench.sandbox(&SandboxSpec { memory_bytes: 512 << 20, ..small() }).await;
    let group = agent_group(sandbox.id());
    let began = Instant::now();
    // All 200 run at the same time: each waits for its input to end.
    let opens = (0..200).map(|n| sandbox.exec(ProcessSpec::new(["sh", "-c", &format!("read line; echo {n}")])));
    let mut processes = within(futures::future::try_join_all(opens)).await.unwrap();
    let opened = began.elapsed();
    assert_eq!(sandbox.stats().await.unwrap().processes, 200);
    println!("200 processes at once after {opened:?}, the agent's group has {} KiB", memory(&group) >> 10);
    for process in &mut processes {
        drop(process.stdin.take());
    }
    for (n, mut process) in processes.into_iter().enumerate() {
        let mut answer = String::new();
        within(process.stdout.read_to_string(&mut answer)).await.unwrap();
        assert_eq!(answer, format!("{n}\n"));
        assert_eq!(within(process.wait()).await.unwrap(), Exit::Code { code: 0 });
    }
    assert_eq!(exec(&sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    println!("after the burst it has {} KiB", memory(&group) >> 10);
    sandbox.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_transfers_as_there_can_be_left_lying_do_not_exhaust_the_agent() {
    let bench = Bench::new();
    let sandbox = bench.sandbox(&small()).await;
    let group = agent_group(sandbox.id());
    // A full log, and a file that is in no cache of the agent's yet.
    sandbox
        .start("job", ProcessSpec::new(["sh", "-c", "head -c 20000000 /dev/zero; head -c 50000000 /dev/zero > big"]))
        .await
        .unwrap();
    within(sandbox.wait()).await.unwrap();
    let mut flood = ProcessSpec::new(["yes"]);
    flood.terminal = Some(Terminal { size: TerminalSize { columns: 80, rows: 24 }, term: "vt100".into() });
    let floods = (0..70).map(|_| sandbox.exec(flood.clone()));
    let floods = within(futures::future::try_join_all(floods)).await.unwrap();
    let transfers = within(futures::future::try_join_all((0..90).map(|_| sandbox.get("/job/big")))).await.unwrap();
    let logs = within(futures::future::try_join_all((0..70).map(|_| sandbox.logs(0, false)))).await.unwrap();
    let mut followed = Vec::new();
    for mut log in logs {
        assert!(within(log.next()).await.unwrap().is_ok());
        followed.push(log);
    }
    assert_eq!(exec(&sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    println!(
        "with {} transfers left lying the agent's group has {} KiB",
        transfers.len() + followed.len() + floods.len(),
        memory(&group) >> 10
    );
    drop((transfers, followed, floods));
    assert_eq!(exec(&sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    sandbox.destroy().await.unwrap();
}

/// What of the agent could leak: descriptors, threads, terminals.
async fn held(sandbox: &Arc<dyn Sandbox>, group: &Path) -> (usize, usize, String) {
    let agent = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
    let entries = |of: &str| std::fs::read_dir(Path::new("/proc").join(agent.trim()).join(of)).unwrap().count();
    let terminals = exec(sandbox, &["ls", "/dev/pts"]).await.stdout;
    (entries("fd"), entries("task"), terminals)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_shells_opened_and_closed_leave_nothing_behind() {
    let bench = Bench::new();
    let sandbox = bench.sandbox(&small()).await;
    let group = agent_group(sandbox.id());
    let mut spec = ProcessSpec::new(["sh", "-i"]);
    spec.terminal = Some(Terminal { size: TerminalSize { columns: 80, rows: 24 }, term: "vt100".into() });
    let shell = async |number: usize| {
        let mut shell = sandbox.exec(spec.clone()).await.unwrap();
        let mut stdin = shell.stdin.take().unwrap();
        within(stdin.write_all(b"echo $((40 + 2))\n")).await.unwrap();
        read_until(&mut shell.stdout, "42\r\n").await;
        if number.is_multiple_of(2) {
            within(stdin.write_all(b"exit 7\n")).await.unwrap();
            within(shell.stdout.read_to_end(&mut Vec::new())).await.unwrap();
            assert_eq!(within(shell.wait()).await.unwrap(), Exit::Code { code: 7 });
        }
    };
    let mut before = None;
    let began = Instant::now();
    for round in 0..52 {
        within(futures::future::join_all((0..20).map(&shell))).await;
        let sandbox = &sandbox;
        until("no shell is left", || async { sandbox.stats().await.unwrap().processes == 0 }).await;
        if round == 1 {
            before = Some((held(sandbox, &group).await, memory(&group)));
        }
    }
    let (before, used) = before.unwrap();
    until("all is given back", || async { held(&sandbox, &group).await == before }).await;
    let now = memory(&group);
    println!("1,000 shells in {:?}: {before:?} and {} KiB, then {} KiB", began.elapsed(), used >> 10, now >> 10);
    assert!(now < used + (1 << 20), "{used} and then {now} bytes");
    sandbox.destroy().await.unwrap();
}
