//! Shells as people use them: a terminal of the sandbox's own, its size, its keys, and the line going dead.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::{Error, Exit, Process, ProcessSpec, Sandbox, Terminal, TerminalSize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Bench, exec, on_every_backend, read_until, small, until, within};

const SIZE: TerminalSize = TerminalSize { columns: 80, rows: 24 };

async fn in_terminal(sandbox: &Arc<dyn Sandbox>, argv: &[&str]) -> Process {
    let mut spec = ProcessSpec::new(argv.iter().copied());
    spec.terminal = Some(Terminal { size: SIZE, term: "vt100".into() });
    sandbox.exec(spec).await.unwrap()
}

async fn type_in(process: &mut Process, keys: &str) {
    within(process.stdin.as_mut().unwrap().write_all(keys.as_bytes())).await.unwrap();
}

async fn rest(process: &mut Process) -> String {
    let mut text = String::new();
    within(process.stdout.read_to_string(&mut text)).await.unwrap();
    text
}

async fn a_terminal_has_a_name_inside_its_size_and_controls_its_session(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let script = "tty; stty size; echo $TERM; test -t 0 && test -t 1 && test -t 2 && echo all three; \
                  echo controlled > /dev/tty; echo to stderr >&2; exit 4";
    let mut process = in_terminal(&sandbox, &["sh", "-c", script]).await;
    let text = rest(&mut process).await;
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert_eq!(lines[..5], ["/dev/pts/0", "24 80", "vt100", "all three", "controlled"], "{text}");
    assert_eq!(lines[5..], ["to stderr", ""], "{text}");
    assert_eq!(within(process.wait()).await.unwrap(), Exit::Code { code: 4 });
    let mut missing = in_terminal(&sandbox, &["no-such-program"]).await;
    assert_eq!(rest(&mut missing).await, "gpulease: no-such-program: not found\r\n");
    assert_eq!(within(missing.wait()).await.unwrap(), Exit::Code { code: 127 });
    sandbox.destroy().await.unwrap();
}

async fn a_resize_is_seen_at_once_by_the_program_in_the_foreground(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let script = "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut process = in_terminal(&sandbox, &["sh", "-c", script]).await;
    read_until(&mut process.stdout, "ready\r\n").await;
    process.resize(TerminalSize { columns: 132, rows: 50 }).await.unwrap();
    assert_eq!(rest(&mut process).await, "50 132\r\n");
    let piped = sandbox.exec(ProcessSpec::new(["sleep", "600"])).await.unwrap();
    let error = piped.resize(SIZE).await.unwrap_err();
    assert!(matches!(error, Error::InvalidSpec { field: "terminal", .. }), "{error}");
    sandbox.destroy().await.unwrap();
}

async fn control_c_interrupts_and_control_d_ends_the_input(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let mut sleeper = in_terminal(&sandbox, &["sleep", "600"]).await;
    type_in(&mut sleeper, "\x03").await;
    assert_eq!(within(sleeper.wait()).await.unwrap(), Exit::Signal { signal: libc::SIGINT });

    let mut reader = in_terminal(&sandbox, &["cat"]).await;
    type_in(&mut reader, "hello\n\x04").await;
    assert_eq!(rest(&mut reader).await, "hello\r\nhello\r\n");
    assert_eq!(within(reader.wait()).await.unwrap(), Exit::Code { code: 0 });
    sandbox.destroy().await.unwrap();
}

async fn keys_and_signals_reach_what_is_in_the_foreground_and_spare_the_shell(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let mut shell = in_terminal(&sandbox, &["sh", "-i"]).await;
    let count = || async { sandbox.stats().await.unwrap().processes };
    for (interrupted, signal) in [("code 130", None), ("code 129", Some(libc::SIGHUP))] {
        type_in(&mut shell, "sleep 600\n").await;
        until("the sleeper runs", || async { count().await == 2 }).await;
        match signal {
            None => type_in(&mut shell, "\x03").await,
            Some(signal) => shell.signal(signal).await.unwrap(),
        }
        until("it does no more", || async { count().await == 1 }).await;
        type_in(&mut shell, "echo code $?\n").await;
        read_until(&mut shell.stdout, interrupted).await;
    }
    let error = shell.signal(0).await.unwrap_err();
    assert!(matches!(error, Error::InvalidSpec { field: "signal", .. }), "{error}");
    type_in(&mut shell, "exit 7\n").await;
    assert_eq!(within(shell.wait()).await.unwrap(), Exit::Code { code: 7 });
    sandbox.destroy().await.unwrap();
}

async fn a_hang_up_ends_the_whole_session_within_two_seconds_though_it_will_not_hear(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    // Groups of their own, as a shell gives to its background jobs, one of them stopped; all deaf to SIGHUP.
    let script =
        "set -m; trap '' HUP TERM; sleep 600 & sleep 600 & sh -c 'kill -STOP $$' & echo ready; wait; wait; wait";
    let count = || async { sandbox.stats().await.unwrap().processes };
    let mut shell = in_terminal(&sandbox, &["sh", "-c", script]).await;
    read_until(&mut shell.stdout, "ready\r\n").await;
    until("four run", || async { count().await == 4 }).await;
    let hung_up = Instant::now();
    drop(shell);
    until("none is left", || async { count().await == 0 }).await;
    println!("a deaf session was gone after {:?}", hung_up.elapsed());
    assert!(hung_up.elapsed() < Duration::from_secs(2), "{:?}", hung_up.elapsed());
    assert_eq!(exec(&sandbox, &["echo", "here"]).await.stdout, "here\n");
    sandbox.destroy().await.unwrap();
}

async fn a_hang_up_is_heard_so_that_a_program_can_save_its_work(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let script = "trap 'echo saved > /job/work; exit' HUP; echo ready; while :; do sleep 0.02; done";
    let mut editor = in_terminal(&sandbox, &["sh", "-c", script]).await;
    read_until(&mut editor.stdout, "ready\r\n").await;
    drop(editor);
    until("the work is saved", || async { exec(&sandbox, &["cat", "/job/work"]).await.stdout == "saved\n" }).await;
    sandbox.destroy().await.unwrap();
}

async fn a_flood_that_nobody_reads_stalls_no_other_stream_and_can_be_interrupted(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let mut flood = in_terminal(&sandbox, &["yes"]).await;
    let mut half = sandbox.exec(ProcessSpec::new(["sh", "-c", "yes & yes >&2"])).await.unwrap();
    // Its standard error is read though nobody wants its standard output.
    half.stdout = Box::new(tokio::io::empty());
    let mut read = vec![0; 1 << 20];
    within(half.stderr.read_exact(&mut read)).await.unwrap();
    assert_eq!(exec(&sandbox, &["echo", "beside"]).await.stdout, "beside\n");

    let interrupted = Instant::now();
    type_in(&mut flood, "\x03").await;
    let left = rest(&mut flood).await;
    println!("a flood was silent {:?} after Ctrl-C, {} bytes later", interrupted.elapsed(), left.len());
    assert!(left.len() < 1 << 20, "{} bytes were in flight", left.len());
    assert_eq!(within(flood.wait()).await.unwrap(), Exit::Signal { signal: libc::SIGINT });
    sandbox.destroy().await.unwrap();
}

async fn a_signal_overtakes_input_that_nobody_reads(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let mut sleeper = sandbox.exec(ProcessSpec::new(["sleep", "600"])).await.unwrap();
    let mut stdin = sleeper.stdin.take().unwrap();
    let stuck = tokio::spawn(async move { stdin.write_all(&vec![0; 8 << 20]).await });
    sleeper.signal(libc::SIGTERM).await.unwrap();
    assert_eq!(within(sleeper.wait()).await.unwrap().shell_code(), 143);
    assert!(within(stuck).await.unwrap().is_err(), "8 MiB went into a pipe that nobody read");
    sandbox.destroy().await.unwrap();
}

async fn all_that_a_terminal_showed_arrives_though_it_is_read_late(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let mut counting = in_terminal(&sandbox, &["sh", "-c", "seq 5000; echo -n end"]).await;
    // Small enough to be over before anything is read, large enough to lie in every buffer on its way.
    assert_eq!(within(counting.wait()).await.unwrap(), Exit::Code { code: 0 });
    let expected: String = (1..=5000).map(|n| format!("{n}\r\n")).chain(["end".into()]).collect();
    assert!(rest(&mut counting).await == expected);
    let mut flood = in_terminal(&sandbox, &["sh", "-c", "seq 300000; echo -n end"]).await;
    let text = rest(&mut flood).await;
    assert_eq!((text.lines().count(), text.ends_with("300000\r\nend")), (300_001, true));
    sandbox.destroy().await.unwrap();
}

async fn the_streams_have_names_inside_and_can_be_opened_again(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let script = "echo out > /dev/stdout; echo err > /dev/stderr; cat /dev/stdin";
    let outcome = exec(&sandbox, &["sh", "-c", script]).await;
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str()), ("out\n", "err\n"));
    sandbox.destroy().await.unwrap();
}

async fn what_is_given_up_while_it_starts_leaves_no_process_behind(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    for delay in 0..60 {
        // Given up at every stage from before the connection to after the start.
        let starting = sandbox.exec(ProcessSpec::new(["sleep", "600"]));
        let _ = tokio::time::timeout(Duration::from_micros(delay * 100), starting).await;
    }
    assert_eq!(exec(&sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    until("none is left", || async { sandbox.stats().await.unwrap().processes == 0 }).await;
    sandbox.destroy().await.unwrap();
}

async fn output_ends_soon_after_its_process_though_something_left_behind_still_holds_it(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let mut process = sandbox.exec(ProcessSpec::new(["sh", "-c", "setsid sleep 600 & echo done"])).await.unwrap();
    assert_eq!(rest(&mut process).await, "done\n");
    assert_eq!(within(process.wait()).await.unwrap(), Exit::Code { code: 0 });
    sandbox.destroy().await.unwrap();
}

async fn the_main_job_has_a_log_and_no_terminal_and_a_frozen_sandbox_starts_nothing(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let mut spec = ProcessSpec::new(["sh"]);
    spec.terminal = Some(Terminal { size: SIZE, term: "vt100".into() });
    let error = sandbox.start("job", spec.clone()).await.unwrap_err();
    assert!(matches!(error, Error::InvalidSpec { field: "terminal", .. }), "{error}");
    sandbox.freeze().await.unwrap();
    let error = sandbox.exec(spec.clone()).await.err().unwrap();
    assert!(matches!(error, Error::Frozen(_)), "{error}");
    sandbox.thaw().await.unwrap();
    drop(sandbox.exec(spec).await.unwrap());
    sandbox.destroy().await.unwrap();
}

on_every_backend! {
    a_terminal_has_a_name_inside_its_size_and_controls_its_session,
    a_resize_is_seen_at_once_by_the_program_in_the_foreground,
    control_c_interrupts_and_control_d_ends_the_input,
    keys_and_signals_reach_what_is_in_the_foreground_and_spare_the_shell,
    a_hang_up_ends_the_whole_session_within_two_seconds_though_it_will_not_hear,
    a_hang_up_is_heard_so_that_a_program_can_save_its_work,
    a_flood_that_nobody_reads_stalls_no_other_stream_and_can_be_interrupted,
    a_signal_overtakes_input_that_nobody_reads,
    all_that_a_terminal_showed_arrives_though_it_is_read_late,
    the_streams_have_names_inside_and_can_be_opened_again,
    what_is_given_up_while_it_starts_leaves_no_process_behind,
    output_ends_soon_after_its_process_though_something_left_behind_still_holds_it,
    the_main_job_has_a_log_and_no_terminal_and_a_frozen_sandbox_starts_nothing,
}
