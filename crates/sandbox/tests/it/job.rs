//! What a renter does: bring a folder, run a job, watch it live, take what it made, end it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::StreamExt;
use sandbox::{Error, Exit, JobState, LogEvent, ProcessSpec, SandboxSpec, Started, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Bench, exec, on_every_backend, run, small, tar_of, untar, until, within};

async fn a_folder_goes_in_a_job_runs_and_exactly_what_is_new_or_changed_comes_out(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    // More than one frame, and not text.
    let input: Vec<u8> = (0..1_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let script = b"#!/bin/sh\n\
        cp data/input.bin copy.bin; mkdir -p made/deep; tail -c 300000 data/input.bin > made/deep/tail.bin\n\
        printf '#!/bin/sh\\necho again\\n' > made/tool; chmod 755 made/tool; echo done > 'a name with spaces'\n\
        printf XXXX | dd of=data/same-size bs=1 conv=notrunc 2>/dev/null; touch -r data/untouched data/same-size\n\
        rm data/removed; echo to stdout; echo to stderr >&2; exit 3\n";
    let stored = sandbox
        .put(
            "/job",
            tar_of(&[
                ("run.sh", script, 0o755),
                ("data/input.bin", &input, 0o644),
                ("data/untouched", b"same", 0o644),
                ("data/same-size", b"abcd", 0o644),
                ("data/removed", b"gone", 0o600),
            ]),
        )
        .await
        .unwrap();
    assert_eq!((stored.entries, stored.bytes), (5, 1_000_012 + script.len() as u64));

    let outcome = run(&sandbox, "./run.sh").await;
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("to stdout\n", "to stderr\n"));
    assert_eq!(outcome.exit, Exit::Code { code: 3 });

    let files = untar(sandbox.get_changed("/job").await.unwrap()).await;
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["a name with spaces", "copy.bin", "data/same-size", "made/deep/tail.bin", "made/tool"]);
    assert!(files["copy.bin"].0 == input, "not byte-identical");
    assert!(files["made/deep/tail.bin"].0 == input[700_000..], "not byte-identical");
    assert_eq!(files["data/same-size"].0, b"XXXX");
    assert_eq!(files["made/tool"], (b"#!/bin/sh\necho again\n".to_vec(), 0o755));
    assert_eq!(files["copy.bin"].1, 0o644);
    sandbox.destroy().await.unwrap();
}

async fn output_arrives_while_the_job_runs_each_stream_by_itself_and_within_200_ms(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let script = "for i in 1 2 3 4 5; do date +%s%3N; sleep 0.1; date +%s%3N >&2; sleep 0.1; done";
    sandbox.start("job", ProcessSpec::new(["sh", "-c", script])).await.unwrap();
    let mut logs = sandbox.logs(0, true).await.unwrap();
    let (mut streams, mut delays) = (Vec::new(), Vec::new());
    while let Some(event) = within(logs.next()).await {
        let LogEvent::Record(record) = event.unwrap() else { panic!("a gap") };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let written: u64 = String::from_utf8(record.bytes).unwrap().trim().parse().unwrap();
        assert_eq!(record.seq, streams.len() as u64);
        streams.push(record.stream);
        delays.push(now.saturating_sub(written));
    }
    assert_eq!(streams, [Stream::Stdout, Stream::Stderr].repeat(5));
    delays.sort_unstable();
    println!("delay of live output: median {} ms, most {} ms", delays[5], delays[9]);
    assert!(delays[5] < 200, "{delays:?}");
    sandbox.destroy().await.unwrap();
}

async fn logs_resume_from_any_sequence_number_and_a_bounded_ring_tells_its_gap(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    // 24 MiB through a ring of 16 MiB.
    sandbox.start("job", ProcessSpec::new(["head", "-c", "25165824", "/dev/zero"])).await.unwrap();
    assert_eq!(within(sandbox.wait()).await.unwrap(), Exit::Code { code: 0 });
    let mut logs = sandbox.logs(0, true).await.unwrap();
    let Some(Ok(LogEvent::Gap { from: 0, to })) = within(logs.next()).await else { panic!("no gap") };
    let (mut next, mut bytes) = (to, 0);
    while let Some(event) = within(logs.next()).await {
        let LogEvent::Record(record) = event.unwrap() else { panic!("a second gap") };
        assert_eq!(record.seq, next);
        next += 1;
        bytes += record.bytes.len();
    }
    assert!(bytes > 15 << 20 && bytes <= 16 << 20, "{bytes}");
    let mut tail = sandbox.logs(next - 1, false).await.unwrap();
    let Some(Ok(LogEvent::Record(last))) = within(tail.next()).await else { panic!("no last record") };
    assert_eq!(last.seq, next - 1);
    assert!(within(tail.next()).await.is_none());
    sandbox.destroy().await.unwrap();
}

async fn starting_again_under_the_same_key_finds_the_job_and_another_key_is_refused(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    assert_eq!(sandbox.status().await.unwrap().job, JobState::NotStarted);
    // Not a shell: one that is interrupted while it starts a program goes on.
    let job = || ProcessSpec::new(["sleep", "60"]);
    assert_eq!(sandbox.start("a", job()).await.unwrap(), Started::Now);
    assert_eq!(sandbox.start("a", job()).await.unwrap(), Started::Before);
    let error = sandbox.start("b", job()).await.unwrap_err();
    assert!(matches!(error, Error::JobExists(_)), "{error}");
    assert!(matches!(sandbox.status().await.unwrap().job, JobState::Running { .. }));
    sandbox.signal(libc::SIGINT).await.unwrap();
    assert_eq!(within(sandbox.wait()).await.unwrap(), Exit::Signal { signal: libc::SIGINT });
    assert_eq!(sandbox.start("a", job()).await.unwrap(), Started::Before);
    sandbox.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_that_the_node_ignores_are_not_ignored_inside() {
    // as `nohup` does, and a shell for what it starts in the background
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    let bench = Bench::new();
    let sandbox = bench.sandbox(&small()).await;
    let executed = exec(&sandbox, &["grep", "SigIgn", "/proc/self/status"]).await;
    assert_eq!(executed.stdout, "SigIgn:\t0000000000000000\n");
    sandbox.destroy().await.unwrap();
}

async fn exit_codes_are_those_a_shell_would_give(bench: Bench) {
    for (argv, code, message) in [
        (vec!["no-such-program"], 127, "not found"),
        (vec!["/etc/passwd"], 126, "cannot be executed"),
        (vec!["sh", "-c", "exit 42"], 42, ""),
        (vec!["sh", "-c", "kill -TERM $$"], 143, ""),
    ] {
        let sandbox = bench.sandbox(&small()).await;
        let executed = exec(&sandbox, &argv).await;
        assert_eq!(executed.exit.shell_code(), code, "exec {argv:?}");
        assert!(executed.stderr.contains(message), "{executed:?}");
        sandbox.start("job", ProcessSpec::new(argv.clone())).await.unwrap();
        assert_eq!(within(sandbox.wait()).await.unwrap().shell_code(), code, "start {argv:?}");
        sandbox.destroy().await.unwrap();
    }
}

async fn an_executed_process_has_its_own_streams_environment_and_signals(bench: Bench) {
    let mut spec = small();
    spec.env.insert("OF_THE_SANDBOX".into(), "1".into());
    let sandbox = bench.sandbox(&spec).await;

    let mut echo =
        sandbox.exec(ProcessSpec::new(["sh", "-c", "cat; echo $OF_THE_SANDBOX >&2; pwd >&2"])).await.unwrap();
    let sent: Vec<u8> = (0..500_000u32).map(|n| n as u8).collect();
    let mut stdin = echo.stdin.take().unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), String::new());
    within(async {
        let feed = async {
            stdin.write_all(&sent).await.unwrap();
            drop(stdin);
        };
        let (_, out, err) =
            tokio::join!(feed, echo.stdout.read_to_end(&mut stdout), echo.stderr.read_to_string(&mut stderr));
        out.and(err).unwrap();
    })
    .await;
    assert!(stdout == sent, "{} bytes came back", stdout.len());
    assert_eq!(stderr, "1\n/job\n");
    assert_eq!(within(echo.wait()).await.unwrap(), Exit::Code { code: 0 });

    let mut sleeper = sandbox.exec(ProcessSpec::new(["sleep", "600"])).await.unwrap();
    sleeper.signal(libc::SIGTERM).await.unwrap();
    assert_eq!(within(sleeper.wait()).await.unwrap().shell_code(), 143);
    sandbox.destroy().await.unwrap();
}

async fn a_process_whose_asker_has_gone_does_not_run_on(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let process = sandbox.exec(ProcessSpec::new(["sh", "-c", "sleep 600 & sleep 600"])).await.unwrap();
    let count = || async { sandbox.stats().await.unwrap().processes };
    until("three processes run", || async { count().await == 3 }).await;
    drop(process);
    until("none of them does", || async { count().await == 0 }).await;
    sandbox.destroy().await.unwrap();
}

async fn a_frozen_job_stands_still_while_it_can_still_be_asked_about(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    sandbox.start("job", ProcessSpec::new(["sh", "-c", "while :; do echo tick; sleep 0.01; done"])).await.unwrap();
    let ticks = || async { sandbox.logs(0, false).await.unwrap().count().await };
    until("it ticks", || async { ticks().await > 3 }).await;
    sandbox.freeze().await.unwrap();
    assert!(sandbox.status().await.unwrap().frozen);
    // What was in the pipe before is read away first.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let frozen_at = ticks().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(ticks().await, frozen_at);
    sandbox.thaw().await.unwrap();
    assert!(!sandbox.status().await.unwrap().frozen);
    until("it ticks again", || async { ticks().await > frozen_at }).await;
    sandbox.freeze().await.unwrap();
    sandbox.destroy().await.unwrap();
}

async fn a_stopped_job_may_finish_within_its_grace_and_its_files_can_still_be_fetched(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let script = "trap 'echo saved > state; exit 5' TERM; echo ready; while :; do sleep 0.05; done";
    sandbox.start("job", ProcessSpec::new(["sh", "-c", script])).await.unwrap();
    until("it is ready", || async { sandbox.logs(0, false).await.unwrap().count().await == 1 }).await;
    sandbox.freeze().await.unwrap();
    within(sandbox.stop(Duration::from_secs(20))).await.unwrap();
    let JobState::Ended { exit, .. } = sandbox.status().await.unwrap().job else { panic!("it still runs") };
    assert_eq!(exit, Exit::Code { code: 5 });
    assert_eq!(untar(sandbox.get_changed("/job").await.unwrap()).await["state"].0, b"saved\n");
    sandbox.destroy().await.unwrap();
}

async fn a_job_that_will_not_stop_is_killed_after_its_grace_with_all_it_started(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let script = "trap '' TERM; setsid sleep 600 & echo ready; while :; do sleep 0.05; done";
    sandbox.start("job", ProcessSpec::new(["sh", "-c", script])).await.unwrap();
    until("it is ready", || async { sandbox.logs(0, false).await.unwrap().count().await == 1 }).await;
    within(sandbox.stop(Duration::from_millis(100))).await.unwrap();
    assert_eq!(within(sandbox.wait()).await.unwrap(), Exit::Signal { signal: libc::SIGKILL });
    until("nothing is left", || async { sandbox.stats().await.unwrap().processes == 0 }).await;
    sandbox.destroy().await.unwrap();
}

async fn an_upload_cannot_leave_its_directory_and_devices_are_refused(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let mut escape = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    header.as_gnu_mut().unwrap().name[..13].copy_from_slice(b"../etc/passwd");
    header.set_cksum();
    escape.append(&header, &b"x"[..]).unwrap();
    let error = sandbox.put("/job", Box::new(std::io::Cursor::new(escape.into_inner().unwrap()))).await.unwrap_err();
    assert!(error.to_string().contains("leads out"), "{error}");

    // A link out of the directory may be uploaded, but nothing is written through it.
    let mut through = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    through.append_link(&mut header, "link", "/etc").unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o644);
    through.append_data(&mut header, "link/passwd", &b"x"[..]).unwrap();
    sandbox.put("/job", Box::new(std::io::Cursor::new(through.into_inner().unwrap()))).await.unwrap_err();
    assert!(exec(&sandbox, &["cat", "/etc/passwd"]).await.stdout.starts_with("root:"));

    let mut device = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Char);
    header.set_size(0);
    device.append_data(&mut header, "device", std::io::empty()).unwrap();
    let error = sandbox.put("/job", Box::new(std::io::Cursor::new(device.into_inner().unwrap()))).await.unwrap_err();
    assert!(error.to_string().contains("neither a file"), "{error}");

    let error = sandbox.put("relative", tar_of(&[])).await.unwrap_err();
    assert!(error.to_string().contains("not an absolute path"), "{error}");
    let error = sandbox.get_changed("/nowhere").await.err().unwrap();
    assert!(error.to_string().contains("No such file"), "{error}");
    sandbox.destroy().await.unwrap();
}

async fn many_askers_at_once_are_served_and_too_many_are_told_so(bench: Bench) {
    let sandbox = bench.sandbox(&SandboxSpec { max_open_files: 128, ..small() }).await;
    let execs = futures::future::join_all((0..16).map(|n| {
        let sandbox = sandbox.clone();
        async move { exec(&sandbox, &["echo", &n.to_string()]).await.stdout }
    }));
    let answers = within(execs).await;
    assert_eq!(answers, (0..16).map(|n| format!("{n}\n")).collect::<Vec<_>>());
    // No job was started, so none of these ends but the ones over the bound, which few open files make low.
    let waiting = futures::future::select_all((0..120).map(|_| sandbox.wait()));
    let (first, _, others) = within(waiting).await;
    let error = first.unwrap_err();
    assert!(matches!(&error, Error::Busy(why) if why.contains("connections")), "{error}");
    drop(others);
    // Their connections close with them, and the agent answers again.
    until("it answers", || async { sandbox.status().await.is_ok() }).await;
    sandbox.destroy().await.unwrap();
}

on_every_backend! {
    a_folder_goes_in_a_job_runs_and_exactly_what_is_new_or_changed_comes_out,
    output_arrives_while_the_job_runs_each_stream_by_itself_and_within_200_ms,
    logs_resume_from_any_sequence_number_and_a_bounded_ring_tells_its_gap,
    starting_again_under_the_same_key_finds_the_job_and_another_key_is_refused,
    exit_codes_are_those_a_shell_would_give,
    an_executed_process_has_its_own_streams_environment_and_signals,
    a_process_whose_asker_has_gone_does_not_run_on,
    a_frozen_job_stands_still_while_it_can_still_be_asked_about,
    a_stopped_job_may_finish_within_its_grace_and_its_files_can_still_be_fetched,
    a_job_that_will_not_stop_is_killed_after_its_grace_with_all_it_started,
    an_upload_cannot_leave_its_directory_and_devices_are_refused,
    many_askers_at_once_are_served_and_too_many_are_told_so,
}
