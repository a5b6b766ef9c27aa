//! Sandboxes and the node's own life: nothing is left behind, a killed node finds its sandboxes again, remains are removed.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use futures::StreamExt;
use sandbox::{Backend, Error, LogEvent, NativeBackend, SandboxId};

use crate::support::{Bench, config, exec, fresh_id, small, traces, until, within};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_sandboxes_later_nothing_is_left() {
    let bench = Bench::new();
    let (mut create, mut run) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let id = fresh_id();
        let began = Instant::now();
        let sandbox = bench.backend.create(&id, &small()).await.unwrap();
        create.push(began.elapsed().as_millis());
        let began = Instant::now();
        assert_eq!(exec(&sandbox, &["true"]).await.exit.shell_code(), 0);
        run.push(began.elapsed().as_millis());
        sandbox.destroy().await.unwrap();
        sandbox.destroy().await.unwrap();
        assert_eq!(traces(&id, bench.state.path()), Vec::<String>::new());
        assert!(matches!(sandbox.status().await.unwrap_err(), Error::Gone(_)));
    }
    create.sort_unstable();
    run.sort_unstable();
    println!(
        "create: median {} ms, most {} ms; exec: median {} ms, most {} ms",
        create[10], create[19], run[10], run[19]
    );
    assert_eq!(left(&bench), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_outlives_a_killed_node_and_the_next_one_adopts_it_with_all_its_output() {
    let bench = Bench::new();
    let state = &bench.state;
    let script = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.02; done";
    let mut node = Command::new(env!("CARGO_BIN_EXE_sandbox"));
    node.arg("run").arg(state.path()).args(["--", "sh", "-c", script]);
    let mut node = node.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(node.stdout.take().unwrap()).lines();
    assert_eq!(lines.map(Result::unwrap).find(|line| line == "5").unwrap(), "5");
    node.kill().unwrap();
    node.wait().unwrap();

    let backend = NativeBackend::new(config(state.path().into())).unwrap();
    let adopted = backend.reconcile().await.unwrap();
    assert_eq!(adopted.len(), 1);
    let sandbox = &adopted[0];
    let mut logs = sandbox.logs(0, true).await.unwrap();
    let mut text = String::new();
    while !text.ends_with("\n50\n") {
        let Some(Ok(LogEvent::Record(record))) = within(logs.next()).await else { panic!("the log ends") };
        text.push_str(std::str::from_utf8(&record.bytes).unwrap());
    }
    let numbers: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (0..=50).collect::<Vec<_>>());
    assert_eq!(exec(sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    assert!(matches!(backend.create(sandbox.id(), &small()).await.err().unwrap(), Error::Exists(_)));
    sandbox.destroy().await.unwrap();
    assert_eq!(traces(sandbox.id(), state.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_killed_from_outside_is_gone_and_its_remains_are_removed() {
    let bench = Bench::new();
    let sandbox = bench.sandbox(&small()).await;
    sandbox.start("job", sandbox::ProcessSpec::new(["sleep", "600"])).await.unwrap();
    let waiting = tokio::spawn({
        let sandbox = sandbox.clone();
        async move { sandbox.wait().await }
    });
    until("the agent dies", || async {
        for (pid, _) in agents(sandbox.id()) {
            // SAFETY: plain numbers; a process of this test's own sandbox.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        agents(sandbox.id()).is_empty()
    })
    .await;
    assert!(matches!(within(waiting).await.unwrap().unwrap_err(), Error::Gone(_)));
    assert!(matches!(sandbox.status().await.unwrap_err(), Error::Gone(_)));
    assert!(!traces(sandbox.id(), bench.state.path()).is_empty());
    assert!(bench.backend.reconcile().await.unwrap().is_empty());
    assert_eq!(traces(sandbox.id(), bench.state.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_whose_record_cannot_be_read_is_ended_with_all_it_has() {
    let bench = Bench::new();
    let sandbox = bench.sandbox(&small()).await;
    sandbox.start("job", sandbox::ProcessSpec::new(["sleep", "600"])).await.unwrap();
    let record = bench.state.path().join(sandbox.id().as_str()).join("record.json");
    let text = std::fs::read_to_string(&record).unwrap();
    std::fs::write(&record, text.replacen("\"version\": 1", "\"version\": 77", 1)).unwrap();
    assert!(bench.backend.reconcile().await.unwrap().is_empty());
    assert_eq!(traces(sandbox.id(), bench.state.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_without_a_record_is_removed_and_strange_files_are_left_alone() {
    let bench = Bench::new();
    std::fs::create_dir(bench.state.path().join("half-made")).unwrap();
    std::fs::write(bench.state.path().join("note"), "mine").unwrap();
    assert!(bench.backend.reconcile().await.unwrap().is_empty());
    assert!(!bench.state.path().join("half-made").exists());
    assert!(bench.state.path().join("note").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn sandboxes_made_side_by_side_share_neither_users_nor_files() {
    let bench = Bench::new();
    let spec = small();
    let made = futures::future::join_all((0..4).map(|_| bench.sandbox(&spec))).await;
    let mut users = Vec::new();
    for sandbox in &made {
        users.push(exec(sandbox, &["cat", "/proc/self/uid_map"]).await.stdout);
        exec(sandbox, &["sh", "-c", "test ! -e /tmp/x && echo $$ > /tmp/x"]).await;
    }
    users.sort();
    users.dedup();
    assert_eq!(users.len(), 4, "{users:?}");
    for sandbox in &made {
        assert_eq!(exec(sandbox, &["ls", "/tmp"]).await.stdout, "x\n");
    }
    within(futures::future::join_all(made.iter().map(|sandbox| sandbox.destroy()))).await;
    for sandbox in &made {
        assert_eq!(traces(sandbox.id(), bench.state.path()), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn probing_tries_a_whole_sandbox_and_leaves_nothing() {
    let bench = Bench::new();
    let found = bench.backend.probe().await;
    assert_eq!(found.problems, Vec::<String>::new());
    assert!(found.cgroups.is_some() && !found.kernel.is_empty());
    assert_eq!(left(&bench), Vec::<String>::new());

    let mut broken = config(bench.state.path().into());
    broken.builder = "/bin/false".into();
    let problems = NativeBackend::new(broken).unwrap().probe().await.problems;
    assert!(problems.len() == 1 && problems[0].contains("helper_main_if_requested"), "{problems:?}");
}

/// What is in the state directory beside what the next sandbox needs too: the agent's file, empty disks, images.
fn left(bench: &Bench<sandbox::NativeBackend>) -> Vec<String> {
    let entries = std::fs::read_dir(bench.state.path()).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !name.starts_with("agent-") && ![".templates", ".images"].contains(&name.as_str())).collect()
}

/// Processes in a sandbox's groups, with their groups.
fn agents(id: &SandboxId) -> Vec<(i32, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let (Ok(pid), Ok(groups)) =
            (entry.file_name().to_string_lossy().parse::<i32>(), std::fs::read_to_string(entry.path().join("cgroup")))
        else {
            continue;
        };
        if groups.contains(&format!("/{id}/agent")) {
            found.push((pid, groups));
        }
    }
    found
}
