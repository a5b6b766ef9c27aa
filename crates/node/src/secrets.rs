//! Where the keystore's passphrase comes from: a file, a systemd credential, or the person at the terminal. Never an option or an
//! environment variable, since both can be read by other programs.

use crate::{config::KeystoreSection, datadir::DataDir, failure::Failure};
use api::types::{ApiError, ErrorKind};
use settlement::{Keystore, Passphrase, SettlementError, Wallet};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The name a unit file gives the passphrase in `LoadCredential=`.
const CREDENTIAL: &str = "gpulease-passphrase";
/// More than this is not a passphrase but some other file.
const MAX_PASSPHRASE_BYTES: u64 = 1_024;

/// Why there is no passphrase.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PassphraseError {
    /// The file cannot be read.
    #[error("cannot read the passphrase file {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its first line is empty, or what was typed.
    #[error("the passphrase is empty")]
    Empty,
    /// The two entries differ.
    #[error("the two passphrases differ")]
    Differ,
    /// Nobody to ask.
    #[error("the keystore's passphrase is needed, and there is no terminal to ask at")]
    NoTerminal,
    /// The terminal failed.
    #[error("cannot read from the terminal")]
    Terminal(#[source] io::Error),
}

impl From<PassphraseError> for ApiError {
    fn from(error: PassphraseError) -> Self {
        let next = match error {
            PassphraseError::NoTerminal => {
                "give a file: `node init --passphrase-file FILE`, or passphrase_file in [keystore] of config.toml"
            }
            PassphraseError::File { .. } => "check passphrase_file in [keystore] of config.toml",
            _ => "try again",
        };
        ErrorKind::Failed.because(&error, next)
    }
}

/// The passphrase by which the keys of this node are locked. With `new` a person types it twice.
pub(crate) fn passphrase(section: &KeystoreSection, new: bool) -> Result<Passphrase, PassphraseError> {
    let credential = || {
        let folder = std::env::var_os("CREDENTIALS_DIRECTORY")?;
        Some(Path::new(&folder).join(CREDENTIAL)).filter(|path| path.exists())
    };
    if let Some(path) = section.passphrase_file.clone().or_else(credential) {
        return from_file(&path);
    }
    if !io::stdin().is_terminal() {
        return Err(PassphraseError::NoTerminal);
    }
    let typed = rpassword::prompt_password("passphrase of the keystore: ").map_err(PassphraseError::Terminal)?;
    if typed.is_empty() {
        return Err(PassphraseError::Empty);
    }
    if new && rpassword::prompt_password("once more: ").map_err(PassphraseError::Terminal)? != typed {
        return Err(PassphraseError::Differ);
    }
    Ok(Passphrase::new(typed))
}

/// The first line of a file.
fn from_file(path: &Path) -> Result<Passphrase, PassphraseError> {
    let failed = |source| PassphraseError::File { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.permissions().mode() & 0o004 != 0 {
        tracing::warn!(path = %path.display(), "everybody on this machine can read the passphrase file: chmod 600 it");
    }
    let mut line = String::new();
    BufReader::new(file.take(MAX_PASSPHRASE_BYTES)).read_line(&mut line).map_err(failed)?;
    let line = line.trim_end_matches(['\r', '\n']);
    if line.is_empty() { Err(PassphraseError::Empty) } else { Ok(Passphrase::new(line)) }
}

/// Opens one key of the node.
pub(crate) async fn open_key(dir: &DataDir, name: &str, passphrase: &Passphrase) -> Result<Wallet, ApiError> {
    Keystore::open(&dir.keystore(), name, passphrase).await.map_err(key_error)
}

/// A fault of the keystore, with advice.
pub(crate) fn key_error(error: SettlementError) -> ApiError {
    let next = match &error {
        SettlementError::NoKey { .. } => "set the node up: node init",
        SettlementError::WrongPassphrase { .. } => {
            "check the passphrase, or passphrase_file in [keystore] of config.toml"
        }
        _ => "",
    };
    ErrorKind::Failed.because(&error, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(file: &Path) -> KeystoreSection {
        KeystoreSection { passphrase_file: Some(file.to_owned()), ..KeystoreSection::default() }
    }

    #[tokio::test]
    async fn the_first_line_of_the_file_opens_the_keys() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::find(Some(folder.path())).unwrap();
        let file = folder.path().join("passphrase");
        std::fs::write(&file, "correct horse \r\nsecond line\n").unwrap();
        let made = Keystore::create(&dir.keystore(), "wallet", &Passphrase::new("correct horse ")).await.unwrap();
        let opened = open_key(&dir, "wallet", &passphrase(&section(&file), false).unwrap()).await.unwrap();
        assert_eq!(made.address(), opened.address());

        let error = open_key(&dir, "wallet", &Passphrase::new("wrong")).await.unwrap_err();
        assert!(error.message.contains("does not open") && error.next.contains("passphrase_file"), "{error:?}");
        let error = open_key(&dir, "none", &Passphrase::new("wrong")).await.unwrap_err();
        assert!(error.next.contains("node init"), "{error:?}");
    }

    #[test]
    fn an_empty_or_missing_file_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passphrase");
        assert!(matches!(passphrase(&section(&file), false), Err(PassphraseError::File { .. })));
        std::fs::write(&file, "\n").unwrap();
        assert!(matches!(passphrase(&section(&file), false), Err(PassphraseError::Empty)));
    }
}
