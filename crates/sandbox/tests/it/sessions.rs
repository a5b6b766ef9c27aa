//! Processes that outlive the connection they were asked on: nothing they say is lost, nothing they are told is doubled, and they end when
//! they are told to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbox::{
    Attached, Backend, Error, Exit, INPUT_WINDOW, NativeBackend, ProcessSpec, Sandbox, SandboxSpec, SessionEvent,
    SessionInput, SessionKey, Stream, Terminal, TerminalSize,
};
use sha2::{Digest, Sha256};

use crate::agent::{agent_group, memory};
use crate::support::{Bench, config, exec, fresh_id, on_every_backend, small, until, within};

fn key(number: u8) -> SessionKey {
    SessionKey::from([number; 16])
}

fn shell(script: &str) -> ProcessSpec {
    ProcessSpec::new(["sh", "-c", script])
}

fn in_terminal(argv: &[&str]) -> ProcessSpec {
    let mut spec = ProcessSpec::new(argv.iter().copied());
    spec.terminal = Some(Terminal { size: TerminalSize { columns: 80, rows: 24 }, term: "vt100".into() });
    spec
}

async fn open(sandbox: &Arc<dyn Sandbox>, key: SessionKey, spec: ProcessSpec) -> Attached {
    within(sandbox.open(&key, spec)).await.unwrap()
}

async fn attach(sandbox: &Arc<dyn Sandbox>, key: SessionKey, seen: u64) -> Attached {
    within(sandbox.attach(&key, seen)).await.unwrap()
}

async fn tell(attached: &mut Attached, input: SessionInput) {
    within(attached.input.send(input)).await.unwrap();
}

/// What has been heard of a session.
#[derive(Default)]
struct Heard {
    seen: u64,
    taken: u64,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    exit: Option<Exit>,
}

impl Heard {
    /// Hears one thing more, whose place must be the next, and acknowledges it.
    async fn next(&mut self, attached: &mut Attached) {
        let event = within(attached.output.next()).await.unwrap();
        match event.expect("nothing comes after the end") {
            SessionEvent::Output { offset, stream, bytes } => {
                assert_eq!(offset, self.seen, "{} bytes of {stream:?}", bytes.len());
                self.seen += bytes.len() as u64;
                match stream {
                    Stream::Stdout => self.stdout.extend(bytes),
                    Stream::Stderr => self.stderr.extend(bytes),
                }
                tell(attached, SessionInput::Acknowledge(self.seen)).await;
            }
            SessionEvent::Taken(taken) => self.taken = taken,
            SessionEvent::Ended(exit) => self.exit = Some(exit),
        }
    }

    async fn until_end(&mut self, attached: &mut Attached) -> Exit {
        while self.exit.is_none() {
            self.next(attached).await;
        }
        assert_eq!(within(attached.output.next()).await.unwrap(), None);
        self.exit.unwrap()
    }

    async fn until_stdout(&mut self, attached: &mut Attached, text: &str) {
        while !String::from_utf8_lossy(&self.stdout).contains(text) {
            assert_eq!(self.exit, None, "ended without {text:?}: {}", String::from_utf8_lossy(&self.stdout));
            self.next(attached).await;
        }
    }

    fn hash(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The events of a session whose connection has ended, to the error that says why.
async fn why_it_ended(attached: &mut Attached) -> Error {
    loop {
        match within(attached.output.next()).await {
            Ok(event) => assert!(event.is_some()),
            Err(error) => return error,
        }
    }
}

async fn processes(sandbox: &Arc<dyn Sandbox>) -> u64 {
    sandbox.stats().await.unwrap().processes
}

async fn three_megabytes_on_both_streams_arrive_whole_and_in_order_over_three_breaks(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let script = "head -c 1500000 /dev/urandom > one; head -c 1500000 /dev/urandom > two; sha256sum < one; \
                  sha256sum < two; cat one; cat two >&2; echo end; echo end >&2; exit 3";
    let mut heard = Heard::default();
    let mut attached = open(&sandbox, key(1), shell(script)).await;
    for part in [1, 700_000, 2_000_000] {
        while heard.seen < part {
            heard.next(&mut attached).await;
        }
        // What is under way is lost with the connection.
        attached = attach(&sandbox, key(1), heard.seen).await;
    }
    assert_eq!(heard.until_end(&mut attached).await, Exit::Code { code: 3 });
    let (sums, one) = heard.stdout.split_at(2 * (64 + 4));
    let sums: Vec<&str> = std::str::from_utf8(sums).unwrap().lines().map(|line| &line[..64]).collect();
    let (one, two) = (one.strip_suffix(b"end\n").unwrap(), heard.stderr.strip_suffix(b"end\n").unwrap());
    assert_eq!((one.len(), two.len()), (1_500_000, 1_500_000));
    assert_eq!(sums, [Heard::hash(one), Heard::hash(two)]);
    sandbox.destroy().await.unwrap();
}

/// Sends input from one place to another, never more than the window beyond what is taken.
async fn feed(attached: &mut Attached, heard: &mut Heard, all: &[u8], mut from: usize, to: usize) {
    while from < to {
        let next = (from + 100_000).min(to).min(heard.taken as usize + INPUT_WINDOW as usize);
        if next == from {
            heard.next(attached).await;
            continue;
        }
        tell(attached, SessionInput::Input { offset: from as u64, bytes: all[from..next].to_vec() }).await;
        from = next;
    }
}

async fn input_sent_again_after_a_break_is_taken_once(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let all: Vec<u8> = (0..3_000_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 11) as u8).collect();
    let mut attached = open(&sandbox, key(1), ProcessSpec::new(["sha256sum"])).await;
    let mut heard = Heard::default();
    let mut from = 0;
    for to in [900_000, 1_700_000, all.len()] {
        feed(&mut attached, &mut heard, &all, from, to).await;
        attached = attach(&sandbox, key(1), 0).await;
        assert!(attached.taken <= to as u64 && heard.taken <= attached.taken);
        heard.taken = attached.taken;
        // What is not known to be taken is sent again, and for good measure a little of what is.
        from = (attached.taken as usize).saturating_sub(70_000);
    }
    feed(&mut attached, &mut heard, &all, from, all.len()).await;
    tell(&mut attached, SessionInput::End { offset: all.len() as u64 }).await;
    assert_eq!(heard.until_end(&mut attached).await, Exit::Code { code: 0 });
    assert!(String::from_utf8(heard.stdout).unwrap().starts_with(&Heard::hash(&all)));
    sandbox.destroy().await.unwrap();
}

async fn a_broken_connection_leaves_the_shell_alive_and_a_hang_up_ends_all_of_it_within_two_seconds(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let script = "set -m; trap '' HUP TERM; sleep 600 & sleep 600 & echo ready; read line; echo got $line; wait; wait";
    let mut heard = Heard::default();
    let mut attached = open(&sandbox, key(1), in_terminal(&["sh", "-c", script])).await;
    heard.until_stdout(&mut attached, "ready\r\n").await;
    drop(attached);
    // Whatever would follow the end of the connection has followed when the agent has answered another.
    exec(&sandbox, &["true"]).await;
    let mut attached = attach(&sandbox, key(1), heard.seen).await;
    tell(&mut attached, SessionInput::Input { offset: 0, bytes: b"word\n".to_vec() }).await;
    heard.until_stdout(&mut attached, "got word\r\n").await;
    assert_eq!(processes(&sandbox).await, 3);
    let hung_up = Instant::now();
    tell(&mut attached, SessionInput::HangUp).await;
    until("none is left", || async { processes(&sandbox).await == 0 }).await;
    println!("a deaf session was gone after {:?}", hung_up.elapsed());
    assert!(hung_up.elapsed() < Duration::from_secs(2), "{:?}", hung_up.elapsed());
    let error = within(sandbox.attach(&key(1), heard.seen)).await.err().unwrap();
    assert!(matches!(error, Error::NoSuchSession(_)), "{error}");
    sandbox.destroy().await.unwrap();
}

async fn a_hang_up_is_heard_though_the_connection_is_closed_at_once_behind_it(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    for number in 0..20 {
        // Its output fills the socket, so that the agent cannot write any more when the other end is gone.
        let mut attached = open(&sandbox, key(number), in_terminal(&["yes"])).await;
        tell(&mut attached, SessionInput::HangUp).await;
        drop(attached);
    }
    until("none is left", || async { processes(&sandbox).await == 0 }).await;
    sandbox.destroy().await.unwrap();
}

async fn opening_again_under_the_same_key_starts_nothing_twice(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let spec = shell("echo started >> /job/starts; echo $$; read line");
    let opened = within(futures::future::join_all((0..20).map(|_| async {
        let key = key(1);
        sandbox.open(&key, spec.clone()).await.map(drop)
    })))
    .await;
    assert!(opened.iter().all(Result::is_ok), "{opened:?}");
    let mut attached = open(&sandbox, key(1), spec).await;
    let mut heard = Heard::default();
    tell(&mut attached, SessionInput::Input { offset: 0, bytes: b"\n".to_vec() }).await;
    assert_eq!(heard.until_end(&mut attached).await, Exit::Code { code: 0 });
    assert_eq!(exec(&sandbox, &["cat", "/job/starts"]).await.stdout, "started\n");
    sandbox.destroy().await.unwrap();
}

async fn the_end_is_remembered_with_its_output_until_it_is_known_to_have_arrived(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    drop(open(&sandbox, key(1), shell("echo last words; echo too late >&2; exit 9")).await);
    until("it has ended", || async { processes(&sandbox).await == 0 }).await;
    for _ in 0..2 {
        // Twice, since the first answer may be lost too.
        let mut heard = Heard::default();
        let mut attached = attach(&sandbox, key(1), 0).await;
        while heard.exit.is_none() {
            match within(attached.output.next()).await.unwrap().unwrap() {
                SessionEvent::Output { bytes, .. } => heard.seen += bytes.len() as u64,
                SessionEvent::Ended(exit) => heard.exit = Some(exit),
                SessionEvent::Taken(_) => {}
            }
        }
        assert_eq!((heard.seen, heard.exit), (20, Some(Exit::Code { code: 9 })));
    }
    let mut attached = attach(&sandbox, key(1), 20).await;
    assert_eq!(within(attached.output.next()).await.unwrap(), Some(SessionEvent::Ended(Exit::Code { code: 9 })));
    tell(&mut attached, SessionInput::HangUp).await;
    let forgotten = || async { matches!(sandbox.attach(&key(1), 20).await, Err(Error::NoSuchSession(_))) };
    until("it is forgotten", forgotten).await;

    let mut heard = Heard::default();
    let mut missing = open(&sandbox, key(2), ProcessSpec::new(["no-such-program"])).await;
    assert_eq!(heard.until_end(&mut missing).await, Exit::Code { code: 127 });
    assert_eq!(heard.stderr, b"gpulease: no-such-program: not found\n");
    sandbox.destroy().await.unwrap();
}

async fn who_attaches_takes_over_and_who_was_attached_is_told(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let mut first = open(&sandbox, key(1), in_terminal(&["cat"])).await;
    tell(&mut first, SessionInput::Input { offset: 0, bytes: b"one\n".to_vec() }).await;
    let mut heard = Heard::default();
    heard.until_stdout(&mut first, "one\r\none\r\n").await;
    let mut second = attach(&sandbox, key(1), heard.seen).await;
    assert_eq!(second.taken, 4);
    let error = why_it_ended(&mut first).await;
    assert!(matches!(error, Error::TakenOver(_)), "{error}");
    tell(&mut second, SessionInput::Input { offset: 4, bytes: b"two\n".to_vec() }).await;
    heard.until_stdout(&mut second, "two\r\ntwo\r\n").await;
    let unknown = within(sandbox.attach(&key(9), 0)).await.err().unwrap();
    assert!(matches!(unknown, Error::NoSuchSession(_)), "{unknown}");
    sandbox.destroy().await.unwrap();
}

async fn what_breaks_the_rules_ends_its_connection_and_leaves_the_session_as_it_was(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let mut heard = Heard::default();
    let mut attached = open(&sandbox, key(1), in_terminal(&["cat"])).await;
    tell(&mut attached, SessionInput::Input { offset: 0, bytes: b"here\n".to_vec() }).await;
    heard.until_stdout(&mut attached, "here\r\nhere\r\n").await;
    let window = vec![b'x'; 2 * INPUT_WINDOW as usize];
    for wrong in [
        SessionInput::Input { offset: 6, bytes: b"after a hole".to_vec() },
        SessionInput::Input { offset: u64::MAX, bytes: b"far away".to_vec() },
        SessionInput::Acknowledge(heard.seen + 1),
        SessionInput::Input { offset: 5, bytes: window },
    ] {
        let mut other = attach(&sandbox, key(1), heard.seen).await;
        // The last one may be refused before all of it is sent.
        let _ = within(other.input.send(wrong)).await;
        why_it_ended(&mut other).await;
    }
    for seen in [heard.seen - 1, heard.seen + 100_000_000] {
        let error = within(sandbox.attach(&key(1), seen)).await.err().unwrap();
        assert!(matches!(error, Error::Refused(_)), "{error}");
    }
    assert_eq!(processes(&sandbox).await, 1);
    assert_eq!(exec(&sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    sandbox.destroy().await.unwrap();
}

async fn a_flood_that_nobody_acknowledges_is_held_and_costs_bounded_memory(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let group = agent_group(sandbox.id());
    let mut floods = Vec::new();
    for number in 0..64 {
        let spec = if number % 2 == 0 { shell("yes") } else { shell("while :; do echo o; echo e >&2; done") };
        floods.push(open(&sandbox, key(number), spec).await);
    }
    // Each is read, and nothing acknowledged, until it says no more.
    let read = floods.iter_mut().map(|attached| async {
        let mut read = 0;
        while let Ok(Ok(Some(event))) = tokio::time::timeout(Duration::from_secs(2), attached.output.next()).await {
            if let SessionEvent::Output { bytes, .. } = event {
                read += bytes.len();
            }
        }
        read
    });
    let read: Vec<usize> = within(futures::future::join_all(read)).await;
    let kept = memory(&group);
    println!(
        "64 held floods said {} KiB in all, the agent's group has {} KiB",
        read.iter().sum::<usize>() >> 10,
        kept >> 10
    );
    assert!(read.iter().all(|read| *read > 1000), "{read:?}");
    assert!(kept < 64 << 20, "{kept} bytes");
    assert_eq!(exec(&sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    for attached in &mut floods {
        tell(attached, SessionInput::HangUp).await;
    }
    until("none is left", || async { processes(&sandbox).await == 0 }).await;
    sandbox.destroy().await.unwrap();
}

async fn a_flood_does_not_delay_the_keystrokes_of_another_session(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let mut flood = open(&sandbox, key(1), shell("yes")).await;
    let flooding = tokio::spawn(async move {
        let mut heard = Heard::default();
        loop {
            heard.next(&mut flood).await;
            heard.stdout.clear();
        }
    });
    let mut attached = open(&sandbox, key(2), in_terminal(&["cat"])).await;
    let mut heard = Heard::default();
    let mut worst = Vec::new();
    // What else the machine does delays some rounds; the flood is beside all of them.
    for round in 0..5 {
        let mut times = Vec::new();
        for offset in round * 200..(round + 1) * 200 {
            let pressed = Instant::now();
            let before = heard.stdout.len();
            tell(&mut attached, SessionInput::Input { offset, bytes: b"x".to_vec() }).await;
            while heard.stdout.len() == before {
                heard.next(&mut attached).await;
            }
            times.push(pressed.elapsed());
        }
        times.sort_unstable();
        println!("echo beside a flood: p50 {:?}, p99 {:?}, most {:?}", times[100], times[197], times[199]);
        worst.push(times[197]);
    }
    assert!(!flooding.is_finished());
    flooding.abort();
    assert!(worst.iter().any(|p99| *p99 <= Duration::from_millis(20)), "{worst:?}");
    sandbox.destroy().await.unwrap();
}

async fn a_signal_and_a_size_reach_the_process_and_end_with_it(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let mut heard = Heard::default();
    let script = "trap 'stty size; exit 5' WINCH; echo ready; while :; do sleep 0.02; done";
    let mut attached = open(&sandbox, key(1), in_terminal(&["sh", "-c", script])).await;
    heard.until_stdout(&mut attached, "ready\r\n").await;
    tell(&mut attached, SessionInput::Resize(TerminalSize { columns: 132, rows: 50 })).await;
    assert_eq!(heard.until_end(&mut attached).await, Exit::Code { code: 5 });
    assert!(heard.stdout.ends_with(b"50 132\r\n"));
    // Nobody is there any more to hear it, and that harms nothing.
    tell(&mut attached, SessionInput::Signal(libc::SIGTERM)).await;
    tell(&mut attached, SessionInput::Resize(TerminalSize { columns: 80, rows: 24 })).await;
    let error = within(attached.input.send(SessionInput::Signal(65))).await.unwrap_err();
    assert!(matches!(error, Error::InvalidSpec { field: "signal", .. }), "{error}");
    assert_eq!(exec(&sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    sandbox.destroy().await.unwrap();
}

async fn as_many_sessions_as_there_can_be_leave_room_to_end_one(bench: Bench) {
    let numbered = |number: u32| SessionKey::from(u128::from(number).to_be_bytes());
    // Few open files, which are what runs out first, and many, of which there are more than enough.
    for max_open_files in [128, 4096] {
        let sandbox = bench.sandbox(&SandboxSpec { max_open_files, ..small() }).await;
        let sleep = ProcessSpec::new(["sleep", "600"]);
        let mut opened = 0;
        let refused = loop {
            match within(sandbox.open(&numbered(opened), sleep.clone())).await {
                Ok(attached) => drop(attached),
                Err(error) => break error,
            }
            opened += 1;
        };
        println!("{opened} sessions in a sandbox of {max_open_files} files");
        assert!(matches!(refused, Error::Busy(_)), "{refused}");
        assert!(opened == 240 || (max_open_files == 128 && opened >= 20), "{opened}");
        let mut one = attach(&sandbox, numbered(0), 0).await;
        tell(&mut one, SessionInput::HangUp).await;
        until("a place is free", || async { sandbox.open(&numbered(opened), sleep.clone()).await.is_ok() }).await;
        sandbox.destroy().await.unwrap();
    }
}

async fn the_ends_of_many_are_remembered_and_the_oldest_go_first(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let forgotten = async |number| matches!(sandbox.attach(&key(number), 0).await, Err(Error::NoSuchSession(_)));
    for number in 0..80 {
        drop(open(&sandbox, key(number), shell("exit 3")).await);
        until("it has ended", || async { processes(&sandbox).await == 0 }).await;
    }
    until("the first are forgotten", || forgotten(15)).await;
    for number in 16..80 {
        let mut heard = Heard::default();
        let mut attached = attach(&sandbox, key(number), 0).await;
        assert_eq!(heard.until_end(&mut attached).await, Exit::Code { code: 3 }, "{number}");
    }
    sandbox.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_lives_on_while_the_node_is_restarted_and_what_it_said_meanwhile_is_there() {
    let state = tempfile::tempdir().unwrap();
    let backend = NativeBackend::new(config(state.path().into())).unwrap();
    let sandbox = backend.create(&fresh_id(), &small()).await.unwrap();
    let mut heard = Heard::default();
    let script = "echo before; while ! test -e /job/go; do sleep 0.02; done; echo meanwhile > /dev/tty; \
                  touch /job/said; read line; echo after $line";
    let mut attached = open(&sandbox, key(1), in_terminal(&["sh", "-c", script])).await;
    heard.until_stdout(&mut attached, "before\r\n").await;
    drop((attached, sandbox, backend));

    let backend = Arc::new(NativeBackend::new(config(state.path().into())).unwrap());
    let bench = Bench { backend, state };
    let sandbox = bench.backend.reconcile().await.unwrap().pop().unwrap();
    exec(&sandbox, &["touch", "/job/go"]).await;
    until("it spoke to nobody", || async { exec(&sandbox, &["test", "-e", "/job/said"]).await.exit.shell_code() == 0 })
        .await;
    let mut attached = attach(&sandbox, key(1), heard.seen).await;
    let offset = attached.taken;
    tell(&mut attached, SessionInput::Input { offset, bytes: b"all\n".to_vec() }).await;
    assert_eq!(heard.until_end(&mut attached).await, Exit::Code { code: 0 });
    assert_eq!(String::from_utf8(heard.stdout).unwrap(), "before\r\nmeanwhile\r\nall\r\nafter all\r\n");
    sandbox.destroy().await.unwrap();
}

on_every_backend! {
    three_megabytes_on_both_streams_arrive_whole_and_in_order_over_three_breaks,
    input_sent_again_after_a_break_is_taken_once,
    a_broken_connection_leaves_the_shell_alive_and_a_hang_up_ends_all_of_it_within_two_seconds,
    a_hang_up_is_heard_though_the_connection_is_closed_at_once_behind_it,
    opening_again_under_the_same_key_starts_nothing_twice,
    the_end_is_remembered_with_its_output_until_it_is_known_to_have_arrived,
    who_attaches_takes_over_and_who_was_attached_is_told,
    what_breaks_the_rules_ends_its_connection_and_leaves_the_session_as_it_was,
    a_flood_that_nobody_acknowledges_is_held_and_costs_bounded_memory,
    a_flood_does_not_delay_the_keystrokes_of_another_session,
    a_signal_and_a_size_reach_the_process_and_end_with_it,
    as_many_sessions_as_there_can_be_leave_room_to_end_one,
    the_ends_of_many_are_remembered_and_the_oldest_go_first,
}
