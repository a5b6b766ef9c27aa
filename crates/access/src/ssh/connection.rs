//! One client's connection: what russh reports of it, turned into sessions of a guest. Each channel is a task of its own, which ends when the
//! client closes the channel or is gone, and with it what it had running.

use super::{
    Auth, Server,
    dial::{self, Target},
    forwards::Forwards,
    inbox::{self, Inbox},
    outlet::{Gone, Outlet},
    session::{self, Orders, Wishes},
    sftp, signals,
};
use crate::guest::Guest;
use russh::{
    Channel, ChannelId, ChannelOpenFailure, Error, Pty, Sig,
    keys::PublicKey,
    server::{self, ChannelOpenHandle, Handle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey},
};
use sandbox::TerminalSize;
use std::{collections::HashMap, sync::Arc};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

/// Channels of one connection at a time: more than a browser opens through `-D`, and each costs no more than its inbox.
const MAX_CHANNELS: usize = 512;

/// One client's connection.
pub(super) struct Connection {
    guest: Guest,
    auth: Auth,
    greeting: Option<String>,
    /// Cancelled once the client is let in.
    known: CancellationToken,
    lines: HashMap<ChannelId, Line>,
    forwards: Forwards,
}

/// One channel.
struct Line {
    inbox: Arc<Inbox>,
    stage: Stage,
}

enum Stage {
    /// A session in which nothing runs yet.
    Asking(Outlet, Wishes),
    /// Something runs in it.
    Running(AbortOnDropHandle<()>, Option<Orders>),
}

impl Line {
    fn is_over(&self) -> bool {
        matches!(&self.stage, Stage::Running(task, _) if task.is_finished())
    }

    /// All that the client sends is here, and no program is to be told that it is gone: what is here is carried to its end.
    fn is_finishing(&self) -> bool {
        matches!(&self.stage, Stage::Running(task, None) if !task.is_finished()) && self.inbox.has_ended()
    }
}

impl Connection {
    pub(super) fn new(guest: Guest, server: &Server, known: CancellationToken) -> Self {
        let Server { auth, greeting, .. } = server.clone();
        Self { guest, auth, greeting, known, lines: HashMap::new(), forwards: Forwards::default() }
    }

    fn is_trusted(&self, key: &PublicKey) -> bool {
        matches!(&self.auth, Auth::Key(ours) if ours.is(key))
    }

    /// A place for one more channel. A channel that this side has closed leaves its place only now: russh does not say when the client
    /// has closed it too.
    fn has_room(&mut self) -> bool {
        self.lines.retain(|_, line| !line.is_over());
        self.lines.len() < MAX_CHANNELS
    }

    /// Starts something in a session that has nothing in it yet.
    fn start(&mut self, id: ChannelId, session: &mut Session, what: What) -> Result<(), Error> {
        if !matches!(self.lines.get(&id), Some(Line { stage: Stage::Asking(..), .. })) {
            return session.channel_failure(id);
        }
        let Some(Line { inbox, stage: Stage::Asking(outlet, wishes) }) = self.lines.remove(&id) else { return Ok(()) };
        // whether it can be run turns out later; what went wrong is then said where the program's own errors go
        session.channel_success(id)?;
        let (orders, ordered) = Orders::new();
        let (guest, received) = (self.guest.clone(), inbox.clone());
        let command = match what {
            What::Files => {
                let stage = Stage::Running(task(sftp::run(guest, received, outlet)), None);
                self.lines.insert(id, Line { inbox, stage });
                return Ok(());
            }
            What::Shell => None,
            What::Command(text) => Some(text),
        };
        // programs that read a shell's output are not greeted
        let greeting = self.greeting.clone().filter(|_| command.is_none() && wishes.has_terminal());
        let running = task(session::run(guest, wishes.program(command), greeting, received, outlet, ordered));
        self.lines.insert(id, Line { inbox, stage: Stage::Running(running, Some(orders)) });
        Ok(())
    }

    fn wish(
        &mut self,
        id: ChannelId,
        session: &mut Session,
        wish: impl FnOnce(&mut Wishes) -> bool,
    ) -> Result<(), Error> {
        let Some(Line { stage: Stage::Asking(_, wishes), .. }) = self.lines.get_mut(&id) else {
            return session.channel_failure(id);
        };
        if wish(wishes) { session.channel_success(id) } else { session.channel_failure(id) }
    }

    fn orders(&self, id: ChannelId) -> Option<&Orders> {
        match self.lines.get(&id) {
            Some(Line { stage: Stage::Running(_, orders), .. }) => orders.as_ref(),
            _ => None,
        }
    }

    async fn dial(&mut self, channel: Channel<Msg>, target: Target, reply: ChannelOpenHandle, client: Handle) {
        if !self.has_room() {
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        }
        let inbox = Arc::new(Inbox::default());
        let (id, outlet) = (channel.id(), Outlet::new(channel.split().1, client));
        let running = task(dial::run(self.guest.clone(), target, reply, inbox.clone(), outlet));
        self.lines.insert(id, Line { inbox, stage: Stage::Running(running, None) });
    }
}

/// What a session can have in it.
enum What {
    Shell,
    Command(String),
    Files,
}

/// A task that ends with its handle. Whether the client was still there to hear of its end makes no difference.
fn task(work: impl Future<Output = Result<(), Gone>> + Send + 'static) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async { drop(work.await) }))
}

/// Clients count in 32 bits, terminals in 16; one without a size is one that nobody looks at.
fn size(columns: u32, rows: u32) -> TerminalSize {
    let bounded = |count| u16::try_from(count).unwrap_or(u16::MAX);
    TerminalSize { columns: bounded(columns), rows: bounded(rows) }
}

impl Handler for Connection {
    type Error = Error;

    async fn auth_none(&mut self, _user: &str) -> Result<server::Auth, Error> {
        Ok(if matches!(self.auth, Auth::Trusted) { server::Auth::Accept } else { server::Auth::reject() })
    }

    async fn auth_publickey_offered(&mut self, _user: &str, offer: PublicKeyOffer<'_>) -> Result<server::Auth, Error> {
        Ok(if self.is_trusted(offer.public_key) { server::Auth::Accept } else { server::Auth::reject() })
    }

    async fn auth_publickey(&mut self, _user: &str, key: VerifiedPublicKey<'_>) -> Result<server::Auth, Error> {
        Ok(if self.is_trusted(key.public_key) { server::Auth::Accept } else { server::Auth::reject() })
    }

    async fn auth_succeeded(&mut self, _session: &mut Session) -> Result<(), Error> {
        self.known.cancel();
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        if !self.has_room() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        let (id, outlet) = (channel.id(), Outlet::new(channel.split().1, session.handle()));
        self.lines.insert(id, Line { inbox: Arc::default(), stage: Stage::Asking(outlet, Wishes::default()) });
        reply.accept().await;
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _from_address: &str,
        _from_port: u32,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        // one that is no port is refused as port 0 is
        let target = Target::Host(host.to_owned(), u16::try_from(port).unwrap_or_default());
        self.dial(channel, target, reply, session.handle()).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.dial(channel, Target::Socket(path.to_owned()), reply, session.handle()).await;
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Error> {
        // the other side may have said all before the client had: then a client that is done closes at once
        if !self.lines.get(&id).is_some_and(Line::is_finishing) {
            self.lines.remove(&id);
        }
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _session: &mut Session) -> Result<(), Error> {
        if let Some(line) = self.lines.get(&id) {
            line.inbox.end();
        }
        Ok(())
    }

    async fn data(&mut self, id: ChannelId, data: &[u8], _session: &mut Session) -> Result<(), Error> {
        if let Some(line) = self.lines.get(&id) {
            line.inbox.put(data).await;
        }
        Ok(())
    }

    fn adjust_window(&mut self, _id: ChannelId, _current: u32) -> u32 {
        let forwarded = self.forwards.inboxes();
        inbox::next_window(self.lines.values().map(|line| &*line.inbox).chain(forwarded.iter().map(|inbox| &**inbox)))
    }

    /// The connection waits for the answer: SSH tells global requests apart by their order alone.
    async fn tcpip_forward(&mut self, address: &str, port: &mut u32, session: &mut Session) -> Result<bool, Error> {
        let opened = self.forwards.open(&self.guest, address, *port, session.handle()).await;
        *port = opened.unwrap_or(*port);
        Ok(opened.is_some())
    }

    async fn cancel_tcpip_forward(&mut self, address: &str, port: u32, _: &mut Session) -> Result<bool, Error> {
        Ok(self.forwards.close(address, port))
    }

    async fn pty_request(
        &mut self,
        id: ChannelId,
        term: &str,
        columns: u32,
        rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), Error> {
        self.wish(id, session, |wishes| wishes.terminal(term, size(columns, rows)))
    }

    /// A client counts answers, so there must be one.
    async fn x11_request(
        &mut self,
        id: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), Error> {
        session.channel_failure(id)
    }

    async fn env_request(
        &mut self,
        id: ChannelId,
        name: &str,
        value: &str,
        session: &mut Session,
    ) -> Result<(), Error> {
        self.wish(id, session, |wishes| wishes.set(name, value))
    }

    async fn shell_request(&mut self, id: ChannelId, session: &mut Session) -> Result<(), Error> {
        self.start(id, session, What::Shell)
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), Error> {
        match String::from_utf8(command.to_vec()) {
            Ok(text) => self.start(id, session, What::Command(text)),
            Err(_) => session.channel_failure(id),
        }
    }

    async fn subsystem_request(&mut self, id: ChannelId, name: &str, session: &mut Session) -> Result<(), Error> {
        match name {
            "sftp" => self.start(id, session, What::Files),
            _ => session.channel_failure(id),
        }
    }

    async fn window_change_request(
        &mut self,
        id: ChannelId,
        columns: u32,
        rows: u32,
        _width: u32,
        _height: u32,
        _session: &mut Session,
    ) -> Result<(), Error> {
        if let Some(orders) = self.orders(id) {
            orders.resize(size(columns, rows));
        }
        Ok(())
    }

    async fn signal(&mut self, id: ChannelId, signal: Sig, _session: &mut Session) -> Result<(), Error> {
        if let (Some(orders), Some(number)) = (self.orders(id), signals::number(&signal)) {
            orders.signal(number);
        }
        Ok(())
    }
}
