//! Keys that pay and are paid: a [`Wallet`] holds one in memory, a [`Keystore`] keeps them on disk under a passphrase, in the format
//! (Web3 secret storage, version 3) that every Ethereum wallet reads.

use crate::error::SettlementError;
use alloy::{
    consensus::{SignableTransaction, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718,
    primitives::{Address, B256, Bytes, Signature},
    signers::{
        Error as SignerError, SignerSync,
        k256::elliptic_curve::rand_core::OsRng,
        local::{LocalSignerError, PrivateKeySigner, Secp256k1Signer},
    },
};
use std::{
    fmt,
    fs::{self, DirBuilder, File, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The longest name of a key: it becomes a file's name.
const MAX_NAME: usize = 64;
/// A keystore file is half a kilobyte; anything over this is something else.
const MAX_FILE: u64 = 64 << 10;
const EXTENSION: &str = "json";

/// One key, ready to sign. Printing it shows the address only.
#[derive(Clone)]
pub struct Wallet {
    /// Signs with libsecp256k1, several times faster than the pure-Rust signer that reads keystores.
    signer: Secp256k1Signer,
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Wallet").field(&self.address()).finish()
    }
}

impl Wallet {
    /// A fresh key from the system's randomness, such as the session key of a rental.
    pub fn random() -> Self {
        Self { signer: Secp256k1Signer::random() }
    }

    /// The wallet of a known key.
    pub fn from_key(key: &B256) -> Result<Self, SettlementError> {
        let signer = PrivateKeySigner::from_bytes(key).map_err(SignerError::Ecdsa)?;
        Ok(Self { signer: signer.into_secp256k1() })
    }

    /// The key itself, for writing it to somewhere safe.
    pub fn key(&self) -> B256 {
        B256::from(self.signer.credential().inner().secret_bytes())
    }

    /// The account.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// Signs a transaction: its hash, and the bytes that are sent.
    pub(crate) fn sign_transaction(&self, transaction: TxEip1559) -> Result<(B256, Bytes), SettlementError> {
        let signature = self.sign_digest(&transaction.signature_hash())?;
        let signed = TxEnvelope::Eip1559(transaction.into_signed(signature));
        Ok((*signed.tx_hash(), signed.encoded_2718().into()))
    }

    /// Signs a digest. Of the two valid forms it is the one with the low `s`, the only one that the escrow takes.
    pub fn sign_digest(&self, digest: &B256) -> Result<Signature, SettlementError> {
        Ok(self.signer.sign_hash_sync(digest)?.normalized_s())
    }
}

/// A passphrase that does not show itself when printed.
#[derive(Clone)]
pub struct Passphrase(String);

impl Passphrase {
    /// Takes the text as it is, without trimming.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// A folder of encrypted keys, `<name>.json` each, readable by their owner alone.
#[derive(Clone, Copy, Debug)]
pub struct Keystore;

impl Keystore {
    /// Makes a new key and stores it.
    pub async fn create(dir: &Path, name: &str, passphrase: &Passphrase) -> Result<Wallet, SettlementError> {
        let wallet = Wallet::random();
        Self::import(dir, name, passphrase, &wallet).await?;
        Ok(wallet)
    }

    /// Stores a known key. An existing one of that name is never overwritten.
    pub async fn import(
        dir: &Path,
        name: &str,
        passphrase: &Passphrase,
        wallet: &Wallet,
    ) -> Result<(), SettlementError> {
        let path = key_path(dir, name)?;
        let (dir, passphrase, wallet) = (dir.to_path_buf(), passphrase.clone(), wallet.clone());
        blocking(move || write_key(&dir, &path, &passphrase, &wallet)).await
    }

    /// Reads a key. Takes a moment by design: so does every guess of the passphrase.
    pub async fn open(dir: &Path, name: &str, passphrase: &Passphrase) -> Result<Wallet, SettlementError> {
        let path = key_path(dir, name)?;
        let passphrase = passphrase.clone();
        blocking(move || read_key(&path, &passphrase)).await
    }

    /// The names of the keys in a folder, sorted. A folder that does not exist has none.
    pub fn list(dir: &Path) -> Result<Vec<String>, SettlementError> {
        let failed = |source| SettlementError::KeyFile { path: dir.to_path_buf(), source };
        let entries = match fs::read_dir(dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(e)),
        };
        let mut names = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            match stem {
                Some(stem) if path.extension().is_some_and(|e| e == EXTENSION) && is_name(stem) => {
                    names.push(stem.to_owned())
                }
                _ => {}
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

fn is_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(allowed)
}

fn key_path(dir: &Path, name: &str) -> Result<PathBuf, SettlementError> {
    if !is_name(name) {
        return Err(SettlementError::KeyName { name: name.to_owned(), limit: MAX_NAME });
    }
    Ok(dir.join(name).with_extension(EXTENSION))
}

async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, SettlementError> + Send + 'static,
) -> Result<R, SettlementError> {
    tokio::task::spawn_blocking(work).await.map_err(SettlementError::Interrupted)?
}

fn write_key(dir: &Path, path: &Path, passphrase: &Passphrase, wallet: &Wallet) -> Result<(), SettlementError> {
    let failed = |source| SettlementError::KeyFile { path: path.to_path_buf(), source };
    let private = |recursive| {
        let mut builder = DirBuilder::new();
        builder.mode(0o700).recursive(recursive);
        builder
    };
    private(true).create(dir).map_err(failed)?;
    // Written in a folder nobody else may enter, and given its name only when it is whole and on the disk.
    let draft = dir.join(format!(".new-{:016x}", rand::random::<u64>()));
    private(false).create(&draft).map_err(failed)?;
    let result = (|| {
        PrivateKeySigner::encrypt_keystore(&draft, &mut OsRng, wallet.key(), &passphrase.0, Some("key"))
            .map_err(|e| failed(io::Error::other(e)))?;
        let file = draft.join("key");
        fs::set_permissions(&file, Permissions::from_mode(0o600)).map_err(failed)?;
        File::open(&file).and_then(|f| f.sync_all()).map_err(failed)?;
        // a link, unlike a rename, fails when the name is taken
        match fs::hard_link(&file, path) {
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {
                Err(SettlementError::KeyExists { path: path.to_path_buf() })
            }
            other => other.map_err(failed),
        }
    })();
    let removed = fs::remove_dir_all(&draft).map_err(failed);
    result?;
    File::open(dir).and_then(|f| f.sync_all()).map_err(failed)?;
    removed
}

fn read_key(path: &Path, passphrase: &Passphrase) -> Result<Wallet, SettlementError> {
    let path_buf = || path.to_path_buf();
    match fs::metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Err(SettlementError::NoKey { path: path_buf() }),
        Err(source) => return Err(SettlementError::KeyFile { path: path_buf(), source }),
        Ok(meta) if meta.len() > MAX_FILE => {
            return Err(SettlementError::BadKeyFile { path: path_buf(), why: format!("{} bytes long", meta.len()) });
        }
        Ok(_) => {}
    }
    // The library keeps the kind of a reading fault as text only, so reading is tried first.
    File::open(path).map_err(|source| SettlementError::KeyFile { path: path_buf(), source })?;
    match PrivateKeySigner::decrypt_keystore(path, &passphrase.0) {
        Ok(signer) => Ok(Wallet { signer: signer.into_secp256k1() }),
        // the check value over the decrypted key differs
        Err(LocalSignerError::EthKeystoreError(e)) if e.to_string() == "Mac Mismatch" => {
            Err(SettlementError::WrongPassphrase { path: path_buf() })
        }
        Err(e) => Err(SettlementError::BadKeyFile { path: path_buf(), why: e.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::primitives::keccak256;
    use market::signed::signer_of;

    #[tokio::test]
    async fn a_stored_key_is_read_back_with_its_passphrase_only() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keystore");
        let passphrase = Passphrase::new("correct horse");
        let made = Keystore::create(&keys, "main", &passphrase).await.unwrap();
        let read = Keystore::open(&keys, "main", &passphrase).await.unwrap();
        assert_eq!((made.key(), made.address()), (read.key(), read.address()));

        let wrong = Keystore::open(&keys, "main", &Passphrase::new("wrong")).await.unwrap_err();
        assert!(matches!(wrong, SettlementError::WrongPassphrase { .. }), "{wrong:?}");
        let missing = Keystore::open(&keys, "other", &passphrase).await.unwrap_err();
        assert!(matches!(missing, SettlementError::NoKey { .. }) && missing.to_string().contains("node wallet new"));
    }

    #[tokio::test]
    async fn a_key_is_readable_by_its_owner_alone_and_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let keys = dir.path().join("keystore");
        let passphrase = Passphrase::new("p");
        let first = Keystore::create(&keys, "main", &passphrase).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&keys), mode(&keys.join("main.json"))), (0o700, 0o600));

        let again = Keystore::create(&keys, "main", &passphrase).await.unwrap_err();
        assert!(matches!(again, SettlementError::KeyExists { .. }), "{again:?}");
        assert_eq!(Keystore::open(&keys, "main", &passphrase).await.unwrap().key(), first.key());
        assert_eq!(fs::read_dir(&keys).unwrap().count(), 1, "a draft was left behind");
        assert_eq!(Keystore::list(&keys).unwrap(), ["main"]);
        assert_eq!(Keystore::list(&keys.join("none")).unwrap(), [""; 0]);
    }

    #[tokio::test]
    async fn a_name_cannot_leave_the_folder() {
        for name in ["", "../x", "a/b", "a.b", ".hidden"] {
            let error = Keystore::open(Path::new("/nowhere"), name, &Passphrase::new("")).await.unwrap_err();
            assert!(matches!(error, SettlementError::KeyName { .. }), "{name}: {error:?}");
        }
    }

    #[tokio::test]
    async fn a_file_that_is_no_keystore_is_named() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("main.json"), "{}").unwrap();
        let error = Keystore::open(dir.path(), "main", &Passphrase::new("")).await.unwrap_err();
        assert!(matches!(error, SettlementError::BadKeyFile { .. }), "{error:?}");
    }

    #[test]
    fn a_wallet_signs_as_itself_and_keeps_its_key_to_itself() {
        let wallet = Wallet::random();
        let digest = keccak256("a voucher");
        assert_eq!(signer_of(&digest, &wallet.sign_digest(&digest).unwrap()), Some(wallet.address()));
        let key = wallet.key().to_string();
        assert!(!format!("{wallet:?}").contains(&key[2..]));
        assert!(Wallet::from_key(&B256::ZERO).is_err());
    }
}
