//! One session: a process with its terminal or its pipes, what it wrote and nobody has yet, what was typed and it has not taken yet, and the
//! connection that is attached to it, if any. It does a little at a time and never waits.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use agent::protocol::{Exit, Failure, FailureKind, Stream};
use agent::session_frame::{INPUT_WINDOW, SessionFrame};
use agent::session_key::SessionKey;
use rustix::event::{PollFd, PollFlags};
use rustix::process::Pid;

use crate::children::signal_group;
use crate::connection::bad_request;
use crate::input::{Input, Wrong};
use crate::link::{Asker, Link};
use crate::places::Place;
use crate::pool::{Pool, Share};
use crate::relay::unless_blocked;
use crate::ring::Ring;
use crate::terminal;

/// Bytes of output kept until they are acknowledged: 40 MB/s at a round trip of 100 ms.
const WINDOW: usize = 4 << 20;

/// The same of a terminal: a person who interrupts a flood sees the end of it soon.
const TERMINAL_WINDOW: usize = 512 * 1024;

/// Room for less than this is none, so that a process is not read byte by byte.
const LEAST_READ: usize = 4 * 1024;

/// How long, after the process's end, a left-over process may say nothing before its streams are closed to it.
const DRAIN: Duration = Duration::from_secs(1);

/// Bytes still read after the process's end, so that one that says something for ever is not listened to for ever. It is the most a pipe can
/// be made to hold.
const REST: usize = 1 << 20;

/// How long a session goes on, or its end is remembered, with nobody attached: long enough for a node to be restarted or a network to
/// come back.
pub(crate) const ALONE: Duration = Duration::from_secs(600);

/// The highest number of a signal.
const LAST_SIGNAL: i32 = 64;

/// Our ends of a process's streams, which never wait.
#[derive(Default)]
pub(crate) struct Ends {
    /// Until the input is over, or nobody reads it any more.
    pub(crate) input: Option<Arc<OwnedFd>>,
    /// Until nobody writes to them any more.
    pub(crate) outputs: Vec<(Stream, Arc<OwnedFd>)>,
    /// The terminal, if it is one.
    pub(crate) terminal: Option<Arc<OwnedFd>>,
}

/// Memory that the sessions share.
pub(crate) struct Pools {
    pub(crate) outputs: Pool,
    pub(crate) inputs: Pool,
}

/// What is to be done with a session after a step.
pub(crate) enum Next {
    /// It goes on.
    Stay,
    /// It is forgotten; if this process still runs, its whole session ends.
    Go(Option<Pid>),
}

/// A session.
pub(crate) struct Session {
    pub(crate) key: SessionKey,
    /// Among the sessions that are not over.
    place: Option<Place>,
    leader: Option<Pid>,
    ended: Arc<OnceLock<Exit>>,
    ends: Ends,
    output: Ring,
    output_share: Share,
    input: Input,
    input_share: Share,
    link: Option<Link>,
    alone_since: Instant,
    /// Bytes that are still read after the end.
    rest: usize,
    /// When something was last read, or there was no room for it.
    heard: Instant,
}

impl Session {
    /// Of a process that runs; `ended` is set when it has ended.
    pub(crate) fn new(key: SessionKey, place: Place, leader: Pid, ended: Arc<OnceLock<Exit>>, ends: Ends) -> Session {
        Session { place: Some(place), leader: Some(leader), ended, ends, ..Session::empty(key) }
    }

    /// Of a program that could not be run, told as shells do.
    pub(crate) fn not_run(key: SessionKey, code: i32, message: &str, in_terminal: bool) -> Session {
        let mut session = Session::empty(key);
        let (stream, end) = if in_terminal { (Stream::Stdout, "\r\n") } else { (Stream::Stderr, "\n") };
        session.output.push(stream, format!("gpulease: {message}{end}").as_bytes());
        session.ended = Arc::new(OnceLock::from(Exit::Code { code }));
        session.input.close();
        session
    }

    fn empty(key: SessionKey) -> Session {
        let now = Instant::now();
        Session {
            key,
            place: None,
            leader: None,
            ended: Arc::default(),
            ends: Ends::default(),
            output: Ring::default(),
            output_share: Share::default(),
            input: Input::default(),
            input_share: Share::default(),
            link: None,
            alone_since: now,
            rest: REST,
            heard: now,
        }
    }

    /// Attaches a connection that has seen this much, in place of the one before.
    pub(crate) fn attach(&mut self, asker: Asker, seen: u64, pools: &mut Pools, now: Instant) {
        if !(self.output.acknowledged()..=self.output.end()).contains(&seen) {
            let (from, to) = (self.output.acknowledged(), self.output.end());
            return asker.refuse(bad_request(&format!("{seen} bytes seen: output is kept from {from} to {to}")));
        }
        if let Some(before) = self.link.take() {
            let message = format!("session {}: this connection is no longer attached to it", self.key);
            before.refuse(Failure { kind: FailureKind::TakenOver, message });
        }
        self.acknowledge(seen, pools);
        self.link = Link::new(asker, seen, self.input.taken()).ok();
        self.alone_since = now;
    }

    /// Adds what this session waits for.
    pub(crate) fn watch<'a>(&'a self, pools: &Pools, watched: &mut Vec<PollFd<'a>>) {
        // What a hang-up would be reported of, again and again, is left out while nothing can be done about it.
        if let Some(link) = &self.link {
            watched.push(poll_for(link.watched(&self.output)));
        }
        if self.has_room(pools) {
            watched.extend(self.ends.outputs.iter().map(|(_, end)| poll_for((end.as_fd(), PollFlags::IN))));
        }
        if let Some(end) = &self.ends.input
            && !self.input.next().is_empty()
        {
            watched.push(poll_for((end.as_fd(), PollFlags::OUT)));
        }
    }

    /// When something is to be done though nothing happens.
    pub(crate) fn due(&self, pools: &Pools) -> Option<Instant> {
        let alone = self.link.is_none().then(|| self.alone_since + ALONE);
        let drained = (self.exit().is_some() && !self.ends.outputs.is_empty() && self.has_room(pools))
            .then(|| self.heard + DRAIN);
        let told = self.link.as_ref().and_then(Link::due);
        alone.into_iter().chain(drained).chain(told).min()
    }

    /// True when the process has ended and that has not been seen yet.
    pub(crate) fn has_news(&self) -> bool {
        self.leader.is_some() && self.exit().is_some()
    }

    /// True when the process has ended and all its output has been read.
    fn is_over(&self) -> bool {
        self.leader.is_none() && self.ends.outputs.is_empty()
    }

    /// True when it is over and nobody is attached.
    pub(crate) fn is_remembered(&self) -> bool {
        self.is_over() && self.link.is_none()
    }

    /// When the last connection went.
    pub(crate) fn alone_since(&self) -> Instant {
        self.alone_since
    }

    /// Does what can be done at once.
    pub(crate) fn step(&mut self, pools: &mut Pools, buffer: &mut [u8], now: Instant) -> Next {
        if let Some(next) = self.listen(pools, buffer, now) {
            return next;
        }
        if self.has_news() {
            self.leader = None;
            self.heard = now;
            self.stop_input(pools);
        }
        self.write_input(pools);
        self.read_output(pools, buffer, now);
        self.finish(pools, now);
        let end = self.is_over().then(|| self.exit()).flatten();
        if let Some(link) = &mut self.link {
            link.send(&self.output, self.input.taken(), end, now);
        } else if now.saturating_duration_since(self.alone_since) >= ALONE {
            return Next::Go(self.leader);
        }
        Next::Stay
    }

    /// Gives back what it keeps.
    pub(crate) fn release(&mut self, pools: &mut Pools) {
        pools.outputs.settle(&mut self.output_share, 0);
        pools.inputs.settle(&mut self.input_share, 0);
    }

    fn exit(&self) -> Option<Exit> {
        self.ended.get().copied()
    }

    fn has_room(&self, pools: &Pools) -> bool {
        self.room(pools) >= LEAST_READ
    }

    fn room(&self, pools: &Pools) -> usize {
        let window = if self.ends.terminal.is_some() { TERMINAL_WINDOW } else { WINDOW };
        pools.outputs.fair_room(&self.output_share, window)
    }

    /// Does what the attached connection says.
    fn listen(&mut self, pools: &mut Pools, buffer: &mut [u8], now: Instant) -> Option<Next> {
        let link = self.link.as_mut()?;
        let open = link.receive(buffer);
        let frames = match link.frames() {
            Ok(frames) => frames,
            Err(error) => {
                self.detach(Some(bad_request(&error.to_string())), now);
                return None;
            }
        };
        for frame in frames {
            if frame == SessionFrame::HangUp {
                let message = format!("session {} was hung up", self.key);
                self.detach(Some(Failure { kind: FailureKind::NoSuchSession, message }), now);
                return Some(Next::Go(self.leader.filter(|_| self.exit().is_none())));
            }
            if let Err(failure) = self.obey(frame, pools) {
                self.detach(Some(failure), now);
                return None;
            }
        }
        if !open {
            self.detach(None, now);
        }
        None
    }

    fn detach(&mut self, why: Option<Failure>, now: Instant) {
        if let (Some(link), Some(failure)) = (self.link.take(), why) {
            link.refuse(failure);
        }
        self.alone_since = now;
    }

    fn obey(&mut self, frame: SessionFrame, pools: &mut Pools) -> Result<(), Failure> {
        match frame {
            SessionFrame::Input { offset, bytes } => self.keep_input(offset, &bytes, pools),
            // What is typed has no end of its own.
            SessionFrame::InputEnd(_) if self.ends.terminal.is_some() => Ok(()),
            SessionFrame::InputEnd(offset) => self.input.end_at(offset).map_err(wrong),
            SessionFrame::Acknowledge(offset) => {
                if self.link.as_ref().is_some_and(|link| link.sent() < offset) {
                    return Err(bad_request("what was not sent cannot have arrived"));
                }
                self.acknowledge(offset, pools);
                Ok(())
            }
            SessionFrame::Signal(signal) if (1..=LAST_SIGNAL).contains(&signal) => {
                let foreground = self.ends.terminal.as_deref().and_then(terminal::foreground);
                match self.leader.filter(|_| self.exit().is_none()) {
                    Some(leader) => signal_group(foreground.unwrap_or(leader), signal).map_err(refused),
                    None => Ok(()),
                }
            }
            SessionFrame::Resize(size) => match &self.ends.terminal {
                Some(master) => terminal::resize(master, size).map_err(refused),
                // Its terminal is closed already, or it has none.
                None => Ok(()),
            },
            _ => Err(bad_request("not a frame for a session, or no such signal")),
        }
    }

    fn acknowledge(&mut self, offset: u64, pools: &mut Pools) {
        self.output.acknowledge(offset);
        pools.outputs.settle(&mut self.output_share, self.output.kept());
    }

    fn keep_input(&mut self, offset: u64, bytes: &[u8], pools: &mut Pools) -> Result<(), Failure> {
        let new = self.input.new_bytes(offset, bytes).map_err(wrong)?;
        if new.len() > pools.inputs.room(&self.input_share, 2 * INPUT_WINDOW as usize) {
            let message = "the sandbox's sessions hold too much input that no program takes; attach again later".into();
            return Err(Failure { kind: FailureKind::Busy, message });
        }
        self.input.push(new);
        pools.inputs.settle(&mut self.input_share, self.input.kept());
        Ok(())
    }

    fn write_input(&mut self, pools: &mut Pools) {
        let Some(end) = self.ends.input.clone() else { return };
        while !self.input.next().is_empty() {
            match unless_blocked(rustix::io::write(&end, self.input.next())) {
                Ok(Some(written)) if written > 0 => self.input.advance(written),
                Ok(_) => break,
                Err(_) => return self.stop_input(pools),
            }
        }
        pools.inputs.settle(&mut self.input_share, self.input.kept());
        if self.input.is_over() {
            self.ends.input = None;
        }
    }

    /// Nobody will read what is typed.
    fn stop_input(&mut self, pools: &mut Pools) {
        self.ends.input = None;
        self.input.close();
        pools.inputs.settle(&mut self.input_share, 0);
    }

    /// Reads a little of each stream, so that others have their turn soon.
    fn read_output(&mut self, pools: &mut Pools, buffer: &mut [u8], now: Instant) {
        if !self.has_room(pools) {
            self.heard = now;
            return;
        }
        for index in (0..self.ends.outputs.len()).rev() {
            let room = self.room(pools).min(buffer.len()).min(self.rest);
            if room == 0 {
                break;
            }
            let (stream, end) = &self.ends.outputs[index];
            match unless_blocked(rustix::io::read(end.as_ref(), &mut buffer[..room])) {
                Ok(None) => {}
                // The end of a terminal is an error: no program has it open any more.
                Ok(Some(0)) | Err(_) => drop(self.ends.outputs.remove(index)),
                Ok(Some(read)) => {
                    self.output.push(*stream, &buffer[..read]);
                    pools.outputs.settle(&mut self.output_share, self.output.kept());
                    self.heard = now;
                    if self.leader.is_none() {
                        self.rest -= read;
                    }
                }
            }
        }
    }

    /// Closes the streams of what the process has left behind, when it has been listened to for long enough.
    fn finish(&mut self, pools: &Pools, now: Instant) {
        let quiet = self.has_room(pools) && now.saturating_duration_since(self.heard) >= DRAIN;
        if self.leader.is_none() && (self.rest == 0 || quiet) {
            self.ends.outputs.clear();
        }
        if self.is_over() {
            self.ends.terminal = None;
            self.place = None;
        }
    }
}

fn poll_for((end, flags): (BorrowedFd<'_>, PollFlags)) -> PollFd<'_> {
    PollFd::from_borrowed_fd(end, flags)
}

fn wrong(wrong: Wrong) -> Failure {
    bad_request(match wrong {
        Wrong::Place => "the input does not follow what came before",
        Wrong::TooMuch => "more input than the window",
    })
}

fn refused(error: std::io::Error) -> Failure {
    Failure { kind: FailureKind::Io, message: error.to_string() }
}

#[cfg(test)]
mod tests;
