//! `node ssh-config` and `node ssh-proxy`: what unmodified SSH clients need.

use super::{Context, Failed, guest};
use crate::cli;
use access::ssh::{self, Auth, HostEntry, HostKey, Way};
use api::types::{ApiError, ErrorKind, RentalRow, Role};
use market::id::RentalId;
use rand::RngCore as _;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{DirBuilderExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};
use tokio::{io::join, net::unix::pipe};

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

    /// The secret, made at the first time. Two who make it at once get the same: the link is there or not.
    fn secret(&self) -> Result<[u8; SECRET_BYTES], ApiError> {
        let path = self.0.join("secret");
        if !path.exists() {
            let mut secret = [0; SECRET_BYTES];
            rand::rng().fill_bytes(&mut secret);
            let new = self.0.join(format!("secret.{}", std::process::id()));
            write_whole(&new, &secret).map_err(|error| unwritable(&new, &error))?;
            match fs::hard_link(&new, &path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(unwritable(&path, &error)),
                _ => fs::remove_file(&new).map_err(|error| unwritable(&new, &error))?,
            }
        }
        let mut secret = [0; SECRET_BYTES];
        let read = File::open(&path).and_then(|mut file| file.read_exact(&mut secret));
        read.map(|()| secret).map_err(|error| unwritable(&path, &error))
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

/// The rental of this name that the node rents, and the key for its provider.
async fn host_key(context: &Context, id: &str) -> Result<(RentalId, HostKey), ApiError> {
    let rows: Vec<RentalRow> = context.daemon().await?.rentals(false).await?;
    let mut matching = rows.iter().filter(|row| row.role == Role::Renter && row.id.matches_prefix(id));
    let row = match (matching.next(), matching.next()) {
        (Some(row), None) => row,
        (None, _) => {
            let message = format!("no running rental begins with `{id}`");
            return Err(ApiError::new(ErrorKind::Usage, message, "see `node ps`"));
        }
        (Some(_), Some(_)) => {
            let message = format!("several rentals begin with `{id}`");
            return Err(ApiError::new(ErrorKind::Usage, message, "give more digits"));
        }
    };
    let provider = row.peer.parse().map_err(|_| {
        ApiError::new(
            ErrorKind::Failed,
            format!("`{}` is no peer id", row.peer),
            "the daemon may be of another version",
        )
    })?;
    Ok((row.id, HostKey::derive(&Folder::of(context)?.secret()?, &provider)))
}

/// Prints the block, and writes the host key down.
pub(in crate::commands) async fn config(context: &Context, args: cli::SshConfig) -> Result<u8, Failed> {
    let (id, key) = host_key(context, &args.id).await?;
    let known_hosts = Folder::of(context)?.known_hosts(&key.known_hosts_line())?;
    let text = |path: &Path| {
        let named = path.to_str().map(str::to_owned);
        named.ok_or_else(|| ApiError::new(ErrorKind::Usage, format!("{} is not valid UTF-8", path.display()), ""))
    };
    let program = std::env::current_exe().map_err(|error| ApiError::new(ErrorKind::Failed, error.to_string(), ""))?;
    let folder = context.dir.path().canonicalize().map_err(|error| unwritable(context.dir.path(), &error))?;
    let command = Way::Command(vec![
        text(&program)?,
        "--data-dir".to_owned(),
        text(&folder)?,
        "ssh-proxy".to_owned(),
        id.to_string(),
    ]);
    let names = if args.name.is_empty() { vec![args.id] } else { args.name };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let known_hosts = folder.join(known_hosts.strip_prefix(context.dir.path()).unwrap_or(&known_hosts));
    let entry = HostEntry::new(&names, &key, &known_hosts, &command)
        .map_err(|error| ApiError::new(ErrorKind::Usage, error.to_string(), "choose another --name"))?;
    crate::output::print(entry.to_string().trim_end());
    Ok(0)
}

/// Serves the client at the other end of standard input and output.
pub(in crate::commands) async fn proxy(context: &Context, args: cli::SshProxy) -> Result<u8, Failed> {
    let (_, key) = host_key(context, &args.id).await?;
    let guest = guest(context, &args.id).await?;
    let served = match pipes() {
        Ok((input, output)) => ssh::serve(join(input, output), &key, Auth::Trusted, guest).await,
        // no pipes: somebody tries it by hand, or redirects it
        Err(_) => ssh::serve(join(tokio::io::stdin(), tokio::io::stdout()), &key, Auth::Trusted, guest).await,
    };
    served.map_err(|error| ApiError::new(ErrorKind::Failed, error.to_string(), ""))?;
    Ok(0)
}

/// Standard input and output as the pipes that they are to `ssh`: without a thread between, which each keystroke would wait for.
fn pipes() -> io::Result<(pipe::Receiver, pipe::Sender)> {
    let own = |stream: &dyn AsFd| -> io::Result<OwnedFd> { stream.as_fd().try_clone_to_owned() };
    let input = pipe::Receiver::from_owned_fd(own(&io::stdin())?)?;
    Ok((input, pipe::Sender::from_owned_fd(own(&io::stdout())?)?))
}
