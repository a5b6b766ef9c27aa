//! The thread that serves all sessions: it waits until something can be done for one of them, and does a little for each that is ready.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::protocol::{Failure, FailureKind};
use agent::session_frame::MAX_SESSION_DATA;
use agent::session_key::SessionKey;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::hang_up::HangUps;
use crate::pool::Pool;
use crate::session::{Next, Pools, Session};
use crate::sessions::Order;

/// Bytes of output that all sessions keep beyond what each can always keep.
const OUTPUTS: usize = 16 << 20;

/// The same of input.
const INPUTS: usize = 16 << 20;

/// Sessions that are over and to which nobody is attached: the one that is alone for longest is forgotten for the next.
const MAX_REMEMBERED: usize = 64;

/// Pause after waiting failed, so that it is no busy loop.
const RETRY: Duration = Duration::from_millis(50);

/// The sessions and what they share.
pub(crate) struct Desk {
    sessions: Vec<Session>,
    /// Which of them are to be served.
    ready: Vec<bool>,
    pools: Pools,
    buffer: Vec<u8>,
    hang_ups: Arc<HangUps>,
    forgotten: Vec<SessionKey>,
}

impl Desk {
    /// No session yet.
    pub(crate) fn new(hang_ups: Arc<HangUps>) -> Desk {
        let pools = Pools { outputs: Pool::new(OUTPUTS), inputs: Pool::new(INPUTS) };
        let buffer = vec![0; MAX_SESSION_DATA];
        Desk { sessions: Vec::new(), ready: Vec::new(), pools, buffer, hang_ups, forgotten: Vec::new() }
    }

    /// Waits until the bell rings or something can be done, and takes down for which sessions.
    pub(crate) fn wait(&mut self, bell: &OwnedFd) {
        let mut watched = vec![PollFd::new(bell, PollFlags::IN)];
        let mut ends = Vec::with_capacity(self.sessions.len());
        for session in &self.sessions {
            session.watch(&self.pools, &mut watched);
            ends.push(watched.len());
        }
        let due = self.sessions.iter().filter_map(|session| session.due(&self.pools)).min();
        let limit = due.map(|due| due.saturating_duration_since(Instant::now()));
        let limit = limit.and_then(|limit| Timespec::try_from(limit).ok());
        if poll(&mut watched, limit.as_ref()).is_err_and(|error| error != rustix::io::Errno::INTR) {
            // A job can take away what the agent may open, and then has no sessions: that is its own.
            std::thread::sleep(RETRY);
        }
        let mut begin = 1;
        let mut is_ready = |end: &usize| {
            let range = begin..*end;
            begin = *end;
            watched[range].iter().any(|end| !end.revents().is_empty())
        };
        self.ready = ends.iter().map(&mut is_ready).collect();
        if !watched[0].revents().is_empty() {
            let _ = rustix::io::read(bell.as_fd(), &mut [0; 8]);
        }
    }

    /// Does what is asked and what can be done, and answers which sessions are known no more.
    pub(crate) fn serve(&mut self, orders: Vec<Order>) -> Vec<SessionKey> {
        for index in (0..self.ready.len()).rev() {
            let session = &self.sessions[index];
            let due = session.due(&self.pools).is_some_and(|due| due <= Instant::now());
            if self.ready[index] || due || session.has_news() {
                self.step(index);
            }
        }
        for order in orders {
            self.obey(order);
        }
        self.forget_oldest();
        std::mem::take(&mut self.forgotten)
    }

    fn obey(&mut self, order: Order) {
        let (index, seen, asker) = match order {
            Order::Open(session, asker) => {
                self.sessions.push(*session);
                (Some(self.sessions.len() - 1), 0, asker)
            }
            Order::Attach(key, seen, asker) => (self.sessions.iter().position(|it| it.key == key), seen, asker),
        };
        let Some(index) = index else {
            let message = "there never was one under this key, or it has been hung up or forgotten".into();
            return asker.refuse(Failure { kind: FailureKind::NoSuchSession, message });
        };
        self.sessions[index].attach(asker, seen, &mut self.pools, Instant::now());
        self.step(index);
    }

    fn step(&mut self, index: usize) {
        if let Next::Go(leader) = self.sessions[index].step(&mut self.pools, &mut self.buffer, Instant::now()) {
            if let Some(leader) = leader {
                self.hang_ups.add(leader);
            }
            self.forget(index);
        }
    }

    fn forget(&mut self, index: usize) {
        let mut session = self.sessions.swap_remove(index);
        session.release(&mut self.pools);
        self.forgotten.push(session.key);
    }

    fn forget_oldest(&mut self) {
        let remembered = self.sessions.iter().filter(|session| session.is_remembered()).count();
        for _ in MAX_REMEMBERED..remembered {
            let alone = self.sessions.iter().enumerate().filter(|(_, session)| session.is_remembered());
            if let Some((index, _)) = alone.min_by_key(|(_, session)| session.alone_since()) {
                self.forget(index);
            }
        }
    }
}
