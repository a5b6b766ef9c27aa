//! `node ssh-config` and `node ssh-proxy`: what unmodified SSH clients need, at a pipe of their own or at a port of this machine.

use super::{Context, Failed, Reached, forward, guest, reached};
use crate::{cli, output::note};
use access::{
    guest::Guest,
    ssh::{self, Auth, ClientKey, HostEntry, HostKey, Server, Way},
};
use api::types::{ApiError, ErrorKind, Visitor};
use rand::RngCore as _;
use rustix::pipe::fcntl_setpipe_size;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    io::join,
    net::{TcpListener, unix::pipe},
    task::JoinSet,
};

/// Bytes that a pipe to `ssh` holds: several packets, so that neither side stops for each.
const PIPE_BYTES: usize = 512 * 1024;
/// Bytes of the secret from which host keys follow.
const SECRET_BYTES: usize = 32;

/// Where what SSH needs is kept, below the data directory.
struct Folder(PathBuf);

impl Folder {
    fn of(context: &Context) -> Result<Self, ApiError> {
        let path = context.dir.path().join("ssh");
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(unwritable(&path, &error)),
            _ => Ok(Self(path)),
        }
    }

    /// A file that is made at the first time. Two who make it at once get the same: the link is there or not.
    fn made_once(&self, name: &str, make: impl FnOnce() -> Vec<u8>) -> Result<PathBuf, ApiError> {
        let path = self.0.join(name);
        if !path.exists() {
            let new = self.0.join(format!("{name}.{}", std::process::id()));
            write_whole(&new, &make()).map_err(|error| unwritable(&new, &error))?;
            match fs::hard_link(&new, &path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(unwritable(&path, &error)),
                _ => fs::remove_file(&new).map_err(|error| unwritable(&new, &error))?,
            }
        }
        Ok(path)
    }

    /// The secret from which host keys follow.
    fn secret(&self) -> Result<[u8; SECRET_BYTES], ApiError> {
        let random = || {
            let mut secret = vec![0; SECRET_BYTES];
            rand::rng().fill_bytes(&mut secret);
            secret
        };
        let path = self.made_once("secret", random)?;
        let mut secret = [0; SECRET_BYTES];
        let read = File::open(&path).and_then(|mut file| file.read_exact(&mut secret));
        read.map(|()| secret).map_err(|error| unwritable(&path, &error))
    }

    /// The key that clients show at a port of this machine, and its file.
    fn identity(&self) -> Result<(ClientKey, PathBuf), ApiError> {
        let path = self.made_once("identity", || ClientKey::generate().to_openssh().into_bytes())?;
        let text = fs::read_to_string(&path).map_err(|error| unwritable(&path, &error))?;
        let key = ClientKey::from_openssh(&text).ok_or_else(|| {
            let next = "remove it: a new one is made the next time";
            ApiError::new(ErrorKind::Failed, format!("{} is no private key without a passphrase", path.display()), next)
        })?;
        Ok((key, path))
    }

    /// The file of host keys with this line in it.
    fn known_hosts(&self, line: &str) -> Result<PathBuf, ApiError> {
        let path = self.0.join("known_hosts");
        let known = fs::read_to_string(&path).unwrap_or_default();
        if !known.lines().any(|known| known == line) {
            let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(&path);
            opened
                .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()))
                .map_err(|error| unwritable(&path, &error))?;
        }
        Ok(path)
    }
}

fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn unwritable(path: &Path, error: &io::Error) -> ApiError {
    ApiError::new(ErrorKind::Failed, format!("{}: {error}", path.display()), "it must be yours to read and write")
}

/// The key for a rental's provider.
fn host_key(context: &Context, rental: &Reached) -> Result<HostKey, ApiError> {
    let provider = rental.provider.parse().map_err(|_| {
        let message = format!("`{}` is no peer id", rental.provider);
        ApiError::new(ErrorKind::Failed, message, "the daemon may be of another version")
    })?;
    Ok(HostKey::derive(&Folder::of(context)?.secret()?, &provider))
}

/// Prints the block, and writes the host key down.
pub(in crate::commands) async fn config(context: &Context, args: cli::SshConfig) -> Result<u8, Failed> {
    let rental = reached(context, &args.id).await?;
    let (id, key) = (rental.id, host_key(context, &rental)?);
    let known_hosts = Folder::of(context)?.known_hosts(&key.known_hosts_line())?;
    let text = |path: &Path| {
        let named = path.to_str().map(str::to_owned);
        named.ok_or_else(|| ApiError::new(ErrorKind::Usage, format!("{} is not valid UTF-8", path.display()), ""))
    };
    let program = std::env::current_exe().map_err(|error| ApiError::new(ErrorKind::Failed, error.to_string(), ""))?;
    let folder = context.dir.path().canonicalize().map_err(|error| unwritable(context.dir.path(), &error))?;
    let mut door = None;
    let way = match args.listen {
        None => Way::Command(vec![
            text(&program)?,
            "--data-dir".to_owned(),
            text(&folder)?,
            "ssh-proxy".to_owned(),
            id.to_string(),
        ]),
        Some(port) => {
            let (client, identity) = Folder::of(context)?.identity()?;
            let identity = folder.join(identity.strip_prefix(context.dir.path()).unwrap_or(&identity));
            let (listener, address) = forward::listen(port).await?;
            door = Some((listener, client));
            Way::Port { port: address.port(), identity }
        }
    };
    let names = if args.name.is_empty() { vec![args.id] } else { args.name };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let known_hosts = folder.join(known_hosts.strip_prefix(context.dir.path()).unwrap_or(&known_hosts));
    let entry = HostEntry::new(&names, &key, &known_hosts, &way)
        .map_err(|error| ApiError::new(ErrorKind::Usage, error.to_string(), "choose another --name"))?;
    crate::output::print(entry.to_string().trim_end());
    if let Some((listener, client)) = door {
        note("SSH is served at that port until Ctrl-C");
        let id = id.to_string();
        let guest = guest(context, &id, Visitor::Ssh).await?;
        let server = Server { host_key: key, auth: Auth::Key(client), greeting: None };
        tokio::select! {
            () = listen(context, listener, &server, &guest, &id) => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    }
    Ok(0)
}

/// Serves every client at a port that has the key.
async fn listen(context: &Context, listener: TcpListener, server: &Server, guest: &Guest, id: &str) {
    let (places, mut clients) = (forward::places(), JoinSet::new());
    loop {
        // the semaphore is never closed
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                // a keystroke does not wait for the next
                let _ = stream.set_nodelay(true);
                // what cannot be asked now is left out of the greeting
                let greeting = reached(context, id).await.ok().and_then(|rental| rental.last_login());
                let (server, guest) = (Server { greeting, ..server.clone() }, guest.clone());
                clients.spawn(async move {
                    if let Err(error) = ssh::serve(stream, &server, guest).await {
                        note(&error.to_string());
                    }
                    drop(place);
                });
            }
            Err(error) => note(&format!("a connection could not be taken: {error}")),
        }
        while clients.try_join_next().is_some() {}
    }
}

/// Serves the client at the other end of standard input and output.
pub(in crate::commands) async fn proxy(context: &Context, args: cli::SshProxy) -> Result<u8, Failed> {
    let rental = reached(context, &args.id).await?;
    let host_key = host_key(context, &rental)?;
    let guest = guest(context, &args.id, Visitor::Ssh).await?;
    let server = Server { greeting: rental.last_login(), host_key, auth: Auth::Trusted };
    let served = match pipes() {
        Ok((input, output)) => ssh::serve(join(input, output), &server, guest).await,
        // no pipes: somebody tries it by hand, or redirects it
        Err(_) => ssh::serve(join(tokio::io::stdin(), tokio::io::stdout()), &server, guest).await,
    };
    served.map_err(|error| ApiError::new(ErrorKind::Failed, error.to_string(), ""))?;
    Ok(0)
}

/// Standard input and output as the pipes that they are to `ssh`: without a thread between, which each keystroke would wait for.
fn pipes() -> io::Result<(pipe::Receiver, pipe::Sender)> {
    let own = |stream: &dyn AsFd| -> io::Result<OwnedFd> { stream.as_fd().try_clone_to_owned() };
    let (input, output) = (own(&io::stdin())?, own(&io::stdout())?);
    for end in [&input, &output] {
        // it works with what the system gives by itself, only slower
        let _ = fcntl_setpipe_size(end, PIPE_BYTES);
    }
    Ok((pipe::Receiver::from_owned_fd(input)?, pipe::Sender::from_owned_fd(output)?))
}
