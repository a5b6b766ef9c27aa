//! What a session does as time goes by, without a process: the test writes what one would write, and the clock is its own.

use std::io::Write;
use std::os::unix::net::UnixStream;

use rustix::pipe::{PipeFlags, pipe_with};

use super::*;
use crate::link::TELL_PAUSE;
use crate::places::Places;
use agent::descriptors::Descriptors;
use agent::protocol::{Frame, Reply};

const POOL: usize = 16 << 20;

/// A session whose process is this test.
struct Played {
    session: Session,
    ended: Arc<OnceLock<Exit>>,
    stdout: std::fs::File,
    pools: Pools,
    now: Instant,
}

impl Played {
    fn new() -> Played {
        let (theirs, stdout) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
        let ended = Arc::new(OnceLock::new());
        let ends = Ends { outputs: vec![(Stream::Stdout, Arc::new(theirs))], ..Ends::default() };
        let leader = Pid::from_raw(i32::MAX).unwrap();
        Played {
            session: Session::new(SessionKey::from([1; 16]), place(), leader, ended.clone(), ends),
            ended,
            stdout: stdout.into(),
            pools: Pools { outputs: Pool::new(POOL), inputs: Pool::new(POOL) },
            now: Instant::now(),
        }
    }

    /// One step so much later. The process that is hung up, if it is.
    fn after(&mut self, passed: Duration) -> Option<Option<Pid>> {
        self.now += passed;
        match self.session.step(&mut self.pools, &mut [0; 32 * 1024], self.now) {
            Next::Stay => None,
            Next::Go(leader) => Some(leader),
        }
    }

    /// Attaches, and answers the other end of the connection.
    fn attach(&mut self, seen: u64) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        self.session.attach(Asker::new(Arc::new(theirs), place()), seen, &mut self.pools, self.now);
        ours
    }

    fn end(&self) {
        self.ended.set(Exit::Code { code: 0 }).unwrap();
    }
}

fn place() -> Place {
    Places::new(1, 0, 0, &Arc::new(Descriptors::of(0))).take().unwrap()
}

const MOMENT: Duration = Duration::from_millis(1);

#[test]
fn one_that_is_alone_for_ten_minutes_is_hung_up() {
    let mut played = Played::new();
    assert_eq!(played.after(ALONE - MOMENT), None);
    let other = played.attach(0);
    // As long as somebody is attached it may be silent.
    assert_eq!(played.after(ALONE * 10), None);
    drop(other);
    assert_eq!(played.after(MOMENT), None);
    assert_eq!(played.session.due(&played.pools), Some(played.now + ALONE));
    assert_eq!(played.after(ALONE - MOMENT), None);
    assert_eq!(played.after(MOMENT), Some(Pid::from_raw(i32::MAX)));
}

#[test]
fn an_end_is_remembered_for_ten_minutes_and_nothing_is_hung_up_for_it() {
    let mut played = Played::new();
    played.stdout.write_all(b"last words").unwrap();
    played.end();
    assert!(played.session.has_news());
    assert_eq!(played.after(ALONE / 2), None);
    played.stdout = std::fs::File::open("/dev/null").unwrap();
    assert_eq!(played.after(MOMENT), None);
    assert!(played.session.is_remembered());
    assert_eq!(played.session.output.end(), 10);
    assert_eq!(played.after(ALONE / 2), Some(None));
}

#[test]
fn what_a_process_leaves_behind_is_heard_until_it_is_silent_for_a_second() {
    let mut played = Played::new();
    // Silent for long before the end, which is no reason to miss what comes with it.
    played.after(Duration::from_secs(60));
    played.end();
    played.after(MOMENT);
    for _ in 0..5 {
        played.stdout.write_all(b"still here").unwrap();
        played.after(DRAIN - MOMENT);
        assert!(!played.session.is_over());
    }
    assert_eq!(played.session.output.end(), 50);
    assert_eq!(played.session.due(&played.pools), Some(played.now + DRAIN));
    played.after(DRAIN);
    assert!(played.session.is_over());
}

#[test]
fn what_a_process_leaves_behind_is_not_heard_for_ever() {
    let mut played = Played::new();
    played.end();
    let mut steps = 0;
    while !played.session.is_over() {
        let _ = played.stdout.write(&[b'y'; 32 * 1024]);
        played.after(MOMENT);
        let end = played.session.output.end();
        played.session.acknowledge(end, &mut played.pools);
        steps += 1;
        assert!(steps < 1000, "{end} bytes");
    }
    assert_eq!(played.session.output.end(), REST as u64);
}

#[test]
fn nothing_is_lost_of_what_was_written_before_the_end_though_nobody_takes_it_for_a_long_time() {
    let mut played = Played::new();
    let mut written = 0;
    // Until neither the session nor the pipe takes any more.
    while let Ok(bytes) = played.stdout.write(&[b'x'; 32 * 1024]) {
        written += bytes as u64;
        played.after(MOMENT);
    }
    let kept = played.session.output.end();
    assert!(kept < written && kept <= WINDOW as u64, "{kept} of {written}");
    let mut watched = Vec::new();
    played.session.watch(&played.pools, &mut watched);
    assert!(watched.is_empty(), "a full session waits for nothing");
    drop(watched);

    played.end();
    for _ in 0..5 {
        assert_eq!(played.after(DRAIN * 10), None);
    }
    assert!(!played.session.is_over());
    let _other = played.attach(kept);
    while !played.session.is_over() {
        played.after(MOMENT);
        if played.session.output.end() == written {
            // The pipe is empty; what held it goes.
            played.stdout = std::fs::File::open("/dev/null").unwrap();
        }
    }
    assert_eq!(played.session.output.end(), written);
}

#[test]
fn a_place_is_free_again_when_it_is_over() {
    let mut played = Played::new();
    let places = Places::new(1, 0, 0, &Arc::new(Descriptors::of(0)));
    played.session.place = places.take();
    played.after(MOMENT);
    assert!(places.take().is_none());
    played.end();
    played.after(MOMENT);
    played.after(DRAIN);
    assert!(places.take().is_some());
}

#[test]
fn keys_that_are_taken_within_a_moment_are_told_of_in_one_word() {
    let mut played = Played::new();
    let (_theirs, keyboard) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).unwrap();
    played.session.ends.input = Some(Arc::new(keyboard));
    let mut other = played.attach(0);
    assert_eq!(played.after(MOMENT), None);
    for (offset, key) in [(0, b"a"), (1, b"b")] {
        let typed = SessionFrame::Input { offset, bytes: key.to_vec() };
        Frame::Session(typed).write(&mut other).unwrap();
        assert_eq!(played.after(MOMENT), None);
    }
    // The first of the two was taken one moment ago.
    let due = played.session.due(&played.pools).unwrap();
    assert_eq!(due, played.now - MOMENT + TELL_PAUSE);
    assert_eq!(played.after(due - played.now), None);
    assert_eq!(played.session.due(&played.pools), None);
    drop(played);
    let mut said = Vec::new();
    while let Some(frame) = Frame::read(&mut other).unwrap() {
        said.push(frame);
    }
    assert_eq!(said, [Frame::Reply(Reply::Running { taken: 0 }), Frame::Session(SessionFrame::Taken(2))]);
}
