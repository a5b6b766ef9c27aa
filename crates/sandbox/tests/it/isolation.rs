//! What a job cannot do: use more than its limits, reach the network or the machine's files, gain privileges.

use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use sandbox::{Backend, Error, Exit, ProcessSpec, Rootfs, SandboxSpec};

use crate::support::{
    Bench, config, exec, fresh_id, on_every_backend, run, run_inside, small, small_tree, tar_of, traces, until,
};

async fn a_job_that_takes_64_mb_in_a_32_mb_sandbox_is_reported_out_of_memory(bench: Bench) {
    let sandbox = bench.sandbox(&SandboxSpec { memory_bytes: 32 << 20, ..small() }).await;
    let outcome = run(&sandbox, "dd if=/dev/zero of=/dev/null bs=64M count=1").await;
    assert_eq!(outcome.exit, Exit::OutOfMemory, "{outcome:?}");
    assert_eq!(outcome.exit.shell_code(), 137);
    assert!(sandbox.stats().await.unwrap().oom_kills > 0);
    // The agent lives on: its memory is not the job's.
    assert_eq!(exec(&sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    sandbox.destroy().await.unwrap();
}

async fn an_exit_code_of_137_without_want_of_memory_is_not_called_out_of_memory(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    assert_eq!(run(&sandbox, "exit 137").await.exit, Exit::Code { code: 137 });
    sandbox.destroy().await.unwrap();
}

async fn no_more_processes_start_than_were_bought(bench: Bench) {
    let sandbox = bench.sandbox(&SandboxSpec { max_processes: 6, ..small() }).await;
    // The shell and five sleepers are six.
    let outcome = run(&sandbox, "for i in 1 2 3 4 5; do sleep 60 & done; echo five; sleep 60 & echo six; wait").await;
    assert_eq!(outcome.stdout, "five\n", "{outcome:?}");
    assert!(outcome.stderr.contains("fork"), "{outcome:?}");
    sandbox.destroy().await.unwrap();
}

async fn a_busy_loop_gets_no_more_than_its_share_of_a_processor(bench: Bench) {
    let sandbox = bench.sandbox(&SandboxSpec { cpu_millis: 250, ..small() }).await;
    sandbox.start("job", ProcessSpec::new(["sh", "-c", "while :; do :; done"])).await.unwrap();
    let used = || async { sandbox.stats().await.unwrap().cpu_nanos };
    until("the loop runs", || async { used().await > 50_000_000 }).await;
    let (began, before) = (Instant::now(), used().await);
    until("2 seconds pass", || async { began.elapsed() > Duration::from_secs(2) }).await;
    let after = used().await;
    let share = (after - before) as f64 / began.elapsed().as_nanos() as f64;
    println!("cpu share at 0.25: {share:.3}");
    // Below it may fall on a machine that is busy with other things; above it must not.
    assert!((0.10..0.28).contains(&share), "{share}");
    sandbox.destroy().await.unwrap();
}

async fn a_full_disk_is_seen_by_the_program_and_costs_the_machine_nothing_afterwards(bench: Bench) {
    let sandbox = bench.sandbox(&SandboxSpec { disk_bytes: 64 << 20, ..small() }).await;
    let outcome = run(&sandbox, "dd if=/dev/zero of=/job/big bs=1M count=100").await;
    assert_eq!(outcome.exit, Exit::Code { code: 1 });
    assert!(outcome.stderr.contains("No space left on device"), "{outcome:?}");
    let used = sandbox.stats().await.unwrap().disk_bytes;
    assert!((40 << 20..=64 << 20).contains(&used), "{used}");
    let upload = tar_of(&[("more", &vec![7; 8 << 20], 0o644)]);
    let error = sandbox.put("/job", upload).await.unwrap_err();
    assert!(matches!(error, Error::DiskFull(_)), "{error}");
    sandbox.destroy().await.unwrap();
    assert_eq!(traces(sandbox.id(), bench.state.path()), Vec::<String>::new());
}

async fn limits_read_back_from_the_kernel_are_those_asked_for(bench: Bench) {
    let spec = SandboxSpec {
        cpu_millis: 750,
        memory_bytes: 48 << 20,
        disk_bytes: 96 << 20,
        max_processes: 33,
        max_open_files: 200,
        ..small()
    };
    let sandbox = bench.sandbox(&spec).await;
    let limits = sandbox.limits().await.unwrap();
    assert_eq!(
        (limits.cpu_millis, limits.memory_bytes, limits.disk_bytes, limits.max_processes, limits.max_open_files),
        (750, 48 << 20, 96 << 20, 33, 200)
    );
    assert_eq!(
        exec(&sandbox, &["sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -n 201 || echo no"]).await.stdout,
        "200\n200\nno\n"
    );
    sandbox.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_the_kernel_refuses_stops_everything_before_any_process_runs() {
    let state = tempfile::tempdir().unwrap();
    let marker = state.path().join("ran");
    let builder = state.path().join("builder");
    std::fs::write(&builder, format!("#!/bin/sh\ntouch {}\nexit 1\n", marker.display())).unwrap();
    std::fs::set_permissions(&builder, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut config = config(state.path().join("sandboxes"));
    config.builder = builder;
    let backend = sandbox::NativeBackend::new(config).unwrap();

    // More than the kernel can count: it refuses to write that down.
    let (id, spec) = (fresh_id(), SandboxSpec { max_processes: 5_000_000, ..small() });
    let error = backend.create(&id, &spec).await.err().unwrap();
    assert!(matches!(error, Error::LimitRefused { limit: "process", .. }), "{error}");
    assert!(error.to_string().contains("run as root, or delegate"), "{error}");
    assert!(!marker.exists(), "the builder was started");
    assert_eq!(traces(&id, state.path()), Vec::<String>::new());

    // The same with limits that hold does start it, so the marker means something.
    let error = backend.create(&id, &small()).await.err().unwrap();
    assert!(matches!(error, Error::Build { .. }), "{error}");
    assert!(marker.exists());
    assert_eq!(traces(&id, state.path()), Vec::<String>::new());
}

async fn the_kernel_refuses_what_a_hostile_program_would_ask_for(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    run_inside(&sandbox, "inside::dangerous_system_calls_are_refused", &[]).await;
    run_inside(&sandbox, "inside::privileges_are_few_and_cannot_grow", &[]).await;
    sandbox.destroy().await.unwrap();
}

async fn without_a_network_only_the_own_loopback_is_reachable(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let service = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = service.local_addr().unwrap().port().to_string();
    run_inside(&sandbox, "inside::only_the_own_loopback_is_reachable", &[("HOST_PORT", port)]).await;
    sandbox.destroy().await.unwrap();
}

async fn nothing_of_the_machine_but_its_programs_is_visible(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let state = bench.state.path().to_str().unwrap();
    for path in [
        "/root",
        "/home",
        "/etc/shadow",
        "/sys/class",
        "/sys/fs",
        "/var/lib",
        "/var/run/docker.sock",
        "/dev/sda",
        "/dev/kvm",
        state,
    ] {
        let outcome = exec(&sandbox, &["test", "-e", path]).await;
        assert_eq!(outcome.exit, Exit::Code { code: 1 }, "{path} exists inside");
    }
    let processes = exec(&sandbox, &["sh", "-c", "cd /proc; ls -d [0-9]*"]).await.stdout;
    assert!(processes.lines().count() < 10 && processes.lines().any(|pid| pid == "1"), "{processes}");
    for (what, script) in [
        ("the programs", "echo x > /usr/bin/true"),
        ("the agent", "echo x > /run/gpulease/agent"),
        ("the agent's directory entry", "rm -f /run/gpulease/agent"),
        ("kernel settings", "echo 1 > /proc/sys/kernel/sysrq"),
    ] {
        let outcome = exec(&sandbox, &["sh", "-c", script]).await;
        assert_ne!(outcome.exit, Exit::Code { code: 0 }, "{what} can be changed");
    }
    let agent = exec(&sandbox, &["sh", "-c", "echo x > /run/gpulease/agent"]).await.stderr;
    assert!(agent.contains("Read-only file system"), "{agent}");
    // The agent runs as the same user; it is still out of reach.
    for script in ["ls /proc/1/fd/", "cat /proc/1/environ", "head -c1 /proc/1/mem", "cat /run/gpulease/agent"] {
        assert_ne!(exec(&sandbox, &["sh", "-c", script]).await.exit, Exit::Code { code: 0 }, "{script}");
    }
    let descriptors = exec(&sandbox, &["sh", "-c", "ls /proc/$$/fd"]).await.stdout;
    assert_eq!(descriptors.split_whitespace().collect::<Vec<_>>(), ["0", "1", "2"], "inherited more than its streams");
    exec(&sandbox, &["sh", "-c", "kill -9 1; kill -STOP 1"]).await;
    assert_eq!(exec(&sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    sandbox.destroy().await.unwrap();
}

async fn a_given_tree_is_owned_by_the_sandbox_inside_and_unchanged_outside(bench: Bench) {
    let tree = small_tree();
    let spec = SandboxSpec { rootfs: Rootfs::Dir(tree.path().into()), ..small() };
    let sandbox = bench.sandbox(&spec).await;
    let script = "test -O /note && echo mine; read line < /note; echo $line; echo inside > /note; read line < /note; echo $line; \
                  echo new > /made; test -e /usr && echo usr; true";
    let outcome = exec(&sandbox, &["sh", "-c", script]).await;
    assert_eq!(outcome.stdout, "mine\noutside\ninside\n", "{outcome:?}");
    sandbox.destroy().await.unwrap();
    assert_eq!(std::fs::read_to_string(tree.path().join("note")).unwrap(), "outside\n");
    assert!(!tree.path().join("made").exists());
}

async fn a_given_tree_with_links_where_we_mount_is_refused_and_the_machine_is_not_touched(bench: Bench) {
    for name in ["run", "dev", "proc", "job"] {
        let (tree, outside) = (small_tree(), tempfile::tempdir().unwrap());
        symlink(outside.path(), tree.path().join(name)).unwrap();
        let spec = SandboxSpec { rootfs: Rootfs::Dir(tree.path().into()), ..small() };
        let id = fresh_id();
        let error = bench.backend.create(&id, &spec).await.err().unwrap();
        assert!(error.to_string().contains("real directory"), "{name}: {error}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
        assert_eq!(traces(&id, bench.state.path()), Vec::<String>::new());
    }
}

on_every_backend! {
    a_job_that_takes_64_mb_in_a_32_mb_sandbox_is_reported_out_of_memory,
    an_exit_code_of_137_without_want_of_memory_is_not_called_out_of_memory,
    no_more_processes_start_than_were_bought,
    a_busy_loop_gets_no_more_than_its_share_of_a_processor,
    a_full_disk_is_seen_by_the_program_and_costs_the_machine_nothing_afterwards,
    limits_read_back_from_the_kernel_are_those_asked_for,
    the_kernel_refuses_what_a_hostile_program_would_ask_for,
    without_a_network_only_the_own_loopback_is_reachable,
    nothing_of_the_machine_but_its_programs_is_visible,
    a_given_tree_is_owned_by_the_sandbox_inside_and_unchanged_outside,
    a_given_tree_with_links_where_we_mount_is_refused_and_the_machine_is_not_touched,
}
