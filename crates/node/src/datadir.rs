//! The data directory: where it is, what is in it, and the lock that lets one daemon at a time use it. It holds keys, so it and the
//! files in it belong to one user alone.

use crate::failure::Failure;
use api::types::{ApiError, ErrorKind};
use libp2p_identity::Keypair;
use rustix::{
    fs::{Access, FlockOperation},
    io::Errno,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// The data directory of a machine-wide installation.
const SYSTEM: &str = "/var/lib/gpulease";

/// A data directory; it need not exist yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataDir(PathBuf);

/// Why the data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataDirError {
    /// Neither a directory was given nor a home is known.
    #[error("no data directory: neither GPULEASE_DATA_DIR nor HOME is set")]
    NoHome,
    /// A file in it could not be read or written.
    #[error("cannot {doing} {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file.
        path: PathBuf,
        /// What was said.
        source: io::Error,
    },
    /// Another daemon holds the lock.
    #[error("another daemon{} uses the data directory {path}", .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default())]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// The other daemon, as it wrote itself into the lock file.
        pid: Option<u32>,
    },
    /// `peer.key` is no libp2p key.
    #[error("{path} is not a libp2p ed25519 key")]
    PeerKey {
        /// The file.
        path: PathBuf,
    },
    /// No `peer.key`: the directory was never set up.
    #[error("the data directory {0} is not set up")]
    NotSetUp(PathBuf),
}

impl From<DataDirError> for ApiError {
    fn from(error: DataDirError) -> Self {
        let next = match &error {
            DataDirError::NoHome => "give --data-dir DIR",
            DataDirError::Locked { .. } => "stop it first, or give another --data-dir",
            DataDirError::NotSetUp(_) => "set it up: node init",
            DataDirError::PeerKey { .. } => {
                "restore the file from a backup, or remove it and run `node init` for a new identity"
            }
            DataDirError::Io { .. } => "check that the directory exists and is yours, or give another --data-dir",
        };
        ErrorKind::Failed.because(&error, next)
    }
}

impl DataDir {
    /// The directory given by option or environment; else that of the machine, when it is root's and may be written by the caller;
    /// else the user's own.
    pub(crate) fn find(given: Option<&Path>) -> Result<Self, DataDirError> {
        if let Some(given) = given {
            return std::path::absolute(given).map(Self).map_err(|source| failed("use", given, source));
        }
        let system = Path::new(SYSTEM);
        let roots_and_writable = match fs::metadata(system) {
            Ok(found) => found.uid() == 0 && found.is_dir() && rustix::fs::access(system, Access::WRITE_OK).is_ok(),
            Err(_) => rustix::process::geteuid().is_root(),
        };
        if roots_and_writable {
            return Ok(Self(system.to_owned()));
        }
        let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        variable("XDG_DATA_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".local/share")))
            .map(|data| Self(data.join("gpulease")))
            .ok_or(DataDirError::NoHome)
    }

    /// Makes it, for the caller alone; one that exists stays as it is.
    pub(crate) fn create(&self) -> Result<(), DataDirError> {
        let make = |path: &Path| {
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.map_err(|source| failed("create", path, source))
        };
        make(&self.0)?;
        make(&self.keystore())
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    pub(crate) fn keystore(&self) -> PathBuf {
        self.0.join("keystore")
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.0.join("db")
    }

    pub(crate) fn sandboxes(&self) -> PathBuf {
        self.0.join("sandboxes")
    }

    pub(crate) fn benchmark(&self) -> PathBuf {
        self.0.join("benchmark.json")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.0.join("api.sock")
    }

    fn peer_key_path(&self) -> PathBuf {
        self.0.join("peer.key")
    }

    /// Takes the lock for as long as the returned value lives, even past a `kill -9`: the kernel holds it, not the file.
    pub(crate) fn lock(&self) -> Result<Lock, DataDirError> {
        let path = self.0.join("lock");
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => DataDirError::NotSetUp(self.0.clone()),
            _ => failed("open", &path, source),
        })?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                return Err(DataDirError::Locked { path: self.0.clone(), pid: written_by(&mut file) });
            }
            Err(errno) => return Err(failed("lock", &path, errno.into())),
        }
        let written = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
        written.map_err(|source| failed("write", &path, source))?;
        Ok(Lock { _file: file })
    }

    /// Who holds the lock now. Looks only: a lock is taken for a moment, and nothing is written.
    pub(crate) fn holder(&self) -> Result<Holder, DataDirError> {
        let path = self.0.join("lock");
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holder::Nobody),
            Err(error) => return Err(failed("open", &path, error)),
        };
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Ok(Holder::Nobody),
            Err(Errno::WOULDBLOCK) => Ok(Holder::Process(written_by(&mut file))),
            Err(errno) => Err(failed("lock", &path, errno.into())),
        }
    }

    /// The node's identity on the network.
    pub(crate) fn peer_key(&self) -> Result<Keypair, DataDirError> {
        let path = self.peer_key_path();
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => DataDirError::NotSetUp(self.0.clone()),
            _ => failed("read", &path, source),
        })?;
        Keypair::from_protobuf_encoding(&bytes).map_err(|_| DataDirError::PeerKey { path })
    }

    /// Makes the node's identity unless there is one. The flag says whether it is new.
    pub(crate) fn create_peer_key(&self) -> Result<(Keypair, bool), DataDirError> {
        let path = self.peer_key_path();
        match self.peer_key() {
            Err(DataDirError::NotSetUp(_)) => {}
            found => return found.map(|key| (key, false)),
        }
        let mut seed = [0; 32];
        rand::TryRngCore::try_fill_bytes(&mut rand::rngs::OsRng, &mut seed)
            .map_err(|error| failed("create", &path, io::Error::other(error)))?;
        let key = Keypair::ed25519_from_bytes(&mut seed).map_err(|_| DataDirError::PeerKey { path: path.clone() })?;
        let bytes = key.to_protobuf_encoding().map_err(|_| DataDirError::PeerKey { path: path.clone() })?;
        write_private(&path, &bytes).map_err(|source| failed("write", &path, source))?;
        Ok((key, true))
    }

    /// Writes the configuration, whole or not at all.
    pub(crate) fn write_config(&self, text: &str) -> Result<(), DataDirError> {
        let path = self.config();
        write_private(&path, text.as_bytes()).map_err(|source| failed("write", &path, source))
    }
}

/// Writes a file that only its owner may read, through a neighbour that takes its place when complete.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension(format!("new{}", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    })();
    if written.is_err() {
        // the first fault is the one worth telling
        let _ = fs::remove_file(&fresh);
    }
    written
}

fn failed(doing: &'static str, path: &Path, source: io::Error) -> DataDirError {
    DataDirError::Io { doing, path: path.to_owned(), source }
}

/// The process that wrote itself into the lock file.
fn written_by(lock: &mut File) -> Option<u32> {
    let mut text = String::new();
    lock.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok())
}

/// Who holds the lock of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    /// It is free.
    Nobody,
    /// A process, as far as it is known which.
    Process(Option<u32>),
}

/// The daemon's claim on its data directory.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn fresh() -> (tempfile::TempDir, DataDir) {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::find(Some(&folder.path().join("data"))).unwrap();
        dir.create().unwrap();
        (folder, dir)
    }

    #[test]
    fn keys_and_folders_belong_to_their_user_alone() {
        let (_folder, dir) = fresh();
        dir.create_peer_key().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!([mode(dir.path()), mode(&dir.keystore()), mode(&dir.peer_key_path())], [0o700, 0o700, 0o600]);
    }

    #[test]
    fn the_identity_is_made_once_and_kept() {
        let (_folder, dir) = fresh();
        assert!(matches!(dir.peer_key(), Err(DataDirError::NotSetUp(_))));
        let (made, true) = dir.create_peer_key().unwrap() else { panic!("not new") };
        let (kept, false) = dir.create_peer_key().unwrap() else { panic!("made again") };
        assert_eq!(made.public().to_peer_id(), kept.public().to_peer_id());
        assert_eq!(made.public().to_peer_id(), dir.peer_key().unwrap().public().to_peer_id());
    }

    #[test]
    fn a_damaged_identity_is_refused_and_left_alone() {
        let (_folder, dir) = fresh();
        fs::write(dir.peer_key_path(), b"not a key").unwrap();
        assert!(matches!(dir.create_peer_key(), Err(DataDirError::PeerKey { .. })));
        assert_eq!(fs::read(dir.peer_key_path()).unwrap(), b"not a key");
    }

    #[test]
    fn a_second_daemon_is_told_which_process_holds_the_directory() {
        let (_folder, dir) = fresh();
        assert_eq!(dir.holder().unwrap(), Holder::Nobody);
        let held = dir.lock().unwrap();
        assert_eq!(dir.holder().unwrap(), Holder::Process(Some(std::process::id())));
        let error = dir.lock().unwrap_err();
        assert!(matches!(error, DataDirError::Locked { pid: Some(pid), .. } if pid == std::process::id()), "{error}");
        drop(held);
        dir.lock().unwrap();
    }
}
