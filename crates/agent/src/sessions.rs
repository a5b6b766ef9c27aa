//! All sessions. Connections that ask for one are handed to a single thread, which carries the bytes of all of them and never waits for any;
//! so a session costs no thread, and one that floods gets its turn like the others.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use agent::protocol::{Command, Failure, FailureKind, TerminalSize};
use agent::session_key::SessionKey;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::children::{Children, StartError, Started, Streams};
use crate::desk::Desk;
use crate::hang_up::HangUps;
use crate::link::Asker;
use crate::lock;
use crate::places::{Place, Places};
use crate::session::{Ends, Session};
use crate::terminal::Terminal;
use agent::descriptors::{Descriptors, RESERVED};

/// Sessions that are not over, at once: as many as there are connections, so that a burst of two hundred finds its place.
pub(crate) const MAX_SESSIONS: usize = 240;

/// Open files of one: its process's three streams.
const STREAMS: u64 = 3;

/// How long one who asks for a session again waits while it is being started for another.
const START_WAIT: Duration = Duration::from_secs(10);

/// Where sessions are asked for.
pub(crate) struct Sessions {
    known: Mutex<HashMap<SessionKey, Standing>>,
    started: Condvar,
    orders: Mutex<Vec<Order>>,
    /// Rung when there is something to do for the thread that serves them.
    bell: Arc<OwnedFd>,
    places: Arc<Places>,
    children: Arc<Children>,
    hang_ups: Arc<HangUps>,
}

/// How far a session is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Its process is being started.
    Starting,
    /// It is served.
    Open,
}

/// What a connection wants of the thread that serves them. There are no more than there are connections.
pub(crate) enum Order {
    /// Serve this new session, with the one who asked for it attached.
    Open(Box<Session>, Asker),
    /// Attach to one, of whose output so much has arrived.
    Attach(SessionKey, u64, Asker),
}

impl Sessions {
    /// None yet.
    pub(crate) fn new(
        children: Arc<Children>,
        hang_ups: Arc<HangUps>,
        descriptors: &Arc<Descriptors>,
    ) -> std::io::Result<Sessions> {
        let bell = Arc::new(eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?);
        let places = Places::new(MAX_SESSIONS, STREAMS, RESERVED, descriptors);
        let (known, orders) = (Mutex::default(), Mutex::default());
        Ok(Sessions { known, started: Condvar::new(), orders, bell, places, children, hang_ups })
    }

    /// Starts a process in a session and attaches to it; or attaches, if the key is known already.
    pub(crate) fn open(
        &self,
        key: SessionKey,
        command: &Command,
        terminal: Option<TerminalSize>,
        asker: Asker,
    ) -> Result<(), Failure> {
        let Some(place) = self.reserve(key)? else {
            self.attach(key, 0, asker);
            return Ok(());
        };
        let outcome = self.start(key, place, command, terminal);
        let mut known = lock(&self.known);
        match outcome {
            Ok(session) => {
                known.insert(key, Standing::Open);
                // Under the lock, so that whoever finds the key attaches after this.
                self.order(Order::Open(Box::new(session), asker));
                self.started.notify_all();
                Ok(())
            }
            Err(failure) => {
                known.remove(&key);
                self.started.notify_all();
                Err(failure)
            }
        }
    }

    /// Attaches to a session, of whose output so much has arrived.
    pub(crate) fn attach(&self, key: SessionKey, seen: u64, asker: Asker) {
        self.order(Order::Attach(key, seen, asker));
    }

    /// Serves them for ever.
    pub(crate) fn serve(&self) -> ! {
        let mut desk = Desk::new(self.hang_ups.clone());
        loop {
            desk.wait(&self.bell);
            let orders = std::mem::take(&mut *lock(&self.orders));
            let forgotten = desk.serve(orders);
            let mut known = lock(&self.known);
            for key in forgotten {
                known.remove(&key);
            }
        }
    }

    /// A place for a new session under this key; none when there is one already. Waits while another starts it.
    fn reserve(&self, key: SessionKey) -> Result<Option<Place>, Failure> {
        let starting =
            |known: &mut HashMap<SessionKey, Standing>| known.get(&key).is_some_and(|it| *it == Standing::Starting);
        let waited = self.started.wait_timeout_while(lock(&self.known), START_WAIT, starting);
        let mut known = waited.unwrap_or_else(PoisonError::into_inner).0;
        match known.get(&key) {
            None => {
                let busy = || format!("the sandbox has {} sessions; end one and try again", self.places.taken());
                let place = self.places.take().ok_or_else(|| Failure { kind: FailureKind::Busy, message: busy() })?;
                known.insert(key, Standing::Starting);
                Ok(Some(place))
            }
            Some(Standing::Open) => Ok(None),
            Some(Standing::Starting) => {
                let message = format!("session {key} is still being started; try again");
                Err(Failure { kind: FailureKind::Busy, message })
            }
        }
    }

    fn start(
        &self,
        key: SessionKey,
        place: Place,
        command: &Command,
        size: Option<TerminalSize>,
    ) -> Result<Session, Failure> {
        let io = |message| Failure { kind: FailureKind::Io, message };
        let (master, streams) = match size {
            Some(size) => {
                let terminal = Terminal::open(size).map_err(|error| io(format!("no terminal: {error}")))?;
                (Some(Arc::new(terminal.master)), Streams::Terminal(terminal.slave))
            }
            None => (None, Streams::All),
        };
        let ended = Arc::new(OnceLock::new());
        let (told, bell) = (ended.clone(), self.bell.clone());
        let on_end = move |exit| {
            let _ = told.set(exit);
            ring(&bell);
        };
        match self.children.start(command, None, streams, on_end) {
            Ok(mut started) => {
                let ends = ends(&mut started, master).map_err(|error| {
                    self.hang_ups.add(started.pid);
                    io(format!("no streams: {error}"))
                })?;
                Ok(Session::new(key, place, started.pid, ended, ends))
            }
            Err(StartError::Program(code, message)) => Ok(Session::not_run(key, code, &message, size.is_some())),
            Err(StartError::System(message)) => Err(io(message)),
        }
    }

    fn order(&self, order: Order) {
        lock(&self.orders).push(order);
        ring(&self.bell);
    }
}

/// Wakes the thread that serves the sessions. A bell that cannot be rung any louder is ringing.
fn ring(bell: &OwnedFd) {
    let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
}

/// Our ends of a process's streams, made never to wait. A terminal's never does.
fn ends(started: &mut Started, master: Option<Arc<OwnedFd>>) -> rustix::io::Result<Ends> {
    use agent::protocol::Stream::{Stderr, Stdout};
    if let Some(master) = master {
        let outputs = vec![(Stdout, master.clone())];
        return Ok(Ends { input: Some(master.clone()), outputs, terminal: Some(master) });
    }
    let never_waiting = |end: OwnedFd| {
        let flags = fcntl_getfl(&end)? | OFlags::NONBLOCK;
        fcntl_setfl(&end, flags)?;
        Ok(Arc::new(end))
    };
    let child = &mut started.child;
    let input = child.stdin.take().map(|end| never_waiting(end.into())).transpose()?;
    let stdout = child.stdout.take().map(|end| never_waiting(end.into())).transpose()?;
    let stderr = child.stderr.take().map(|end| never_waiting(end.into())).transpose()?;
    let outputs = [(Stdout, stdout), (Stderr, stderr)];
    let outputs = outputs.into_iter().filter_map(|(stream, end)| Some((stream, end?))).collect();
    Ok(Ends { input, outputs, terminal: None })
}
