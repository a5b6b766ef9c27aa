//! SSH for the tools people already have: `ssh`, `scp`, `sftp`, `rsync`, `git`, `sshfs` and editors, unmodified. The server runs on the
//! renter's own machine and ends SSH there; what the client asks for becomes sessions of a [`Guest`]. So the rental needs no sshd and no
//! open port, and SSH's window, made for short ways, is not what bounds the long one.
//!
//! A client reaches it through a `ProxyCommand`, whose pipe is the user's own and asks for no proof ([`Auth::Trusted`]), or at a port of
//! this machine, which others may reach too and which therefore asks for a key ([`Auth::Key`]). The [`HostKey`] follows from the provider's
//! peer id, and [`HostEntry`] writes what `ssh` has to know: nobody is ever asked to believe a fingerprint.
//!
//! Not served: sockets of the sandbox that lead back here, X11 and the user's agent; the client is told so. A terminal has the modes of a new one, whatever the client's is set to.
//!
//! What comes from a client waits in an inbox until the sandbox takes it, and russh grants the client a new window before that: see
//! `inbox.rs` for how the two are brought together.

mod connection;
mod dial;
mod entry;
mod forwards;
mod inbox;
mod key;
mod leash;
mod names;
mod outlet;
mod session;
mod sftp;
mod signals;

pub use entry::{EntryError, HostEntry, Way};
pub use key::{ClientKey, HostKey};

use crate::guest::Guest;
use connection::Connection;
use leash::Leash;
use russh::{Limits, MethodKind, MethodSet, Preferred, SshId, cipher, compression, kex, server};
use std::{borrow::Cow, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How long a client may take to say who it is; it is a program on this machine.
const LOGIN_LIMIT: Duration = Duration::from_secs(30);
/// What russh may hold of what goes to the client before those who write wait: two thirds of a megabyte, so that a channel that floods
/// is never far ahead of another's keystroke.
const EVENTS: usize = 20;
/// Bytes of one packet's data, both ways: what OpenSSH sends at most.
const PACKET: u32 = 32 * 1024;

/// After so many bytes either way, or so long, the server asks for new keys. Rarely: the ciphers below stay safe for far more, no byte of this
/// leaves the machine, and russh takes it for an attack if more than two windows arrive before the client has heard of it, which three
/// uploads on one connection can bring about. What clients ask for themselves (`RekeyLimit`) has no such catch.
const REKEY_BYTES: usize = 16 << 30;
const REKEY_TIME: Duration = Duration::from_secs(24 * 3_600);

/// The post-quantum exchange first: newer clients warn of others. The last two names are no exchanges but the promise to keep to the
/// strict order, and to tell which signatures are known.
const EXCHANGES: [kex::Name; 5] = [
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
    kex::EXTENSION_SUPPORT_AS_SERVER,
];
/// Those that authenticate as they encrypt.
const CIPHERS: [cipher::Name; 3] = [cipher::AES_128_GCM, cipher::AES_256_GCM, cipher::CHACHA20_POLY1305];

/// Who is let in.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Whoever holds the other end of the stream: for pipes and sockets that only the user can open.
    Trusted,
    /// Whoever has this key: for a port of this machine, which every user of it can reach.
    Key(ClientKey),
}

/// One end that clients of a rental find.
#[derive(Clone, Debug)]
pub struct Server {
    /// What it shows for itself.
    pub host_key: HostKey,
    /// Who is let in.
    pub auth: Auth,
    /// A line that a shell in a terminal begins with.
    pub greeting: Option<String>,
}

/// Why a client's connection ended badly.
#[derive(Debug, thiserror::Error)]
pub enum SshError {
    /// It did not say in time who it is.
    #[error("the SSH client did not log in within {} seconds", LOGIN_LIMIT.as_secs())]
    Silent,
    /// It does not speak SSH, or none that is safe, or broke its rules.
    #[error("the SSH client and this server do not understand each other: {0}")]
    Protocol(#[from] russh::Error),
}

/// Serves one SSH client on a stream until it goes. When it does, or this future is dropped, what it had running in the sandbox ends.
pub async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    server: &Server,
    guest: Guest,
) -> Result<(), SshError> {
    let over = CancellationToken::new();
    // russh runs in a task of its own, which outlives this future unless its stream ends with it
    let _over = over.clone().drop_guard();
    let known = CancellationToken::new();
    let config = Arc::new(configuration(&server.host_key, &server.auth));
    let connection = Connection::new(guest, server, known.clone());
    let login = async {
        let session = server::run_stream(config, Leash::new(stream, over), connection).await?;
        Ok::<_, russh::Error>((session, known))
    };
    let Ok(session) = timeout(LOGIN_LIMIT, login).await else { return Err(SshError::Silent) };
    let (mut session, known) = match session {
        Ok(session) => session,
        Err(error) => return farewell(Err(error)),
    };
    tokio::select! {
        ended = &mut session => return farewell(ended),
        logged_in = timeout(LOGIN_LIMIT, known.cancelled()) => logged_in.map_err(|_| SshError::Silent)?,
    }
    farewell(session.await)
}

/// A client that is gone, however it went, has ended its connection: that is how connections end.
fn farewell(ended: Result<(), russh::Error>) -> Result<(), SshError> {
    match ended {
        Err(russh::Error::IO(_) | russh::Error::HUP | russh::Error::Disconnect) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn configuration(host_key: &HostKey, auth: &Auth) -> server::Config {
    let method = match auth {
        Auth::Trusted => MethodKind::None,
        Auth::Key(_) => MethodKind::PublicKey,
    };
    server::Config {
        server_id: SshId::Standard(Cow::Borrowed(concat!("SSH-2.0-gpulease_", env!("CARGO_PKG_VERSION")))),
        methods: MethodSet::from(&[method][..]),
        // clients ask first what there is; guessing a key is hopeless, and whoever tries is on this machine
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys: vec![host_key.private().clone()],
        window_size: inbox::WINDOW,
        maximum_packet_size: PACKET,
        limits: Limits { rekey_write_limit: REKEY_BYTES, rekey_read_limit: REKEY_BYTES, rekey_time_limit: REKEY_TIME },
        // nothing waits in russh's own queues: see `inbox`
        channel_buffer_size: 1,
        event_buffer_size: EVENTS,
        // a shell may say nothing for days, and a client on this machine cannot vanish unseen
        inactivity_timeout: None,
        preferred: Preferred {
            kex: Cow::Borrowed(&EXCHANGES),
            cipher: Cow::Borrowed(&CIPHERS),
            compression: Cow::Borrowed(&[compression::NONE]),
            ..Preferred::DEFAULT
        },
        ..server::Config::default()
    }
}
