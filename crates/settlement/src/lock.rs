//! The claim of one program on an account: two programs that give out the nonces of one account take them from each other. The lock
//! holds for the programs of one user on one machine, whatever data directories they use; the kernel holds it, so it ends with the
//! program, even by `kill -9`. Between machines nothing can be locked: there it shows when a nonce is gone
//! ([`SettlementError::Superseded`]).

use crate::error::SettlementError;
use alloy::primitives::Address;
use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The folder within the user's runtime place.
const FOLDER: &str = "gpulease";

/// Held for as long as the account is used.
#[derive(Debug)]
pub(crate) struct AccountLock {
    _file: File,
}

impl AccountLock {
    /// Takes the account for this program, or tells which one has it.
    pub(crate) fn take(chain: u64, account: Address) -> Result<Self, SettlementError> {
        Self::take_in(&runtime_place(), chain, account)
    }

    fn take_in(place: &Path, chain: u64, account: Address) -> Result<Self, SettlementError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| SettlementError::AccountLock { path, source }
        };
        private_folder(place).map_err(failed(place))?;
        let path = place.join(format!("{chain}-{account}.lock"));
        let open = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let mut file = open.map_err(failed(&path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
                return Err(SettlementError::AccountInUse { account, chain, pid });
            }
            Err(TryLockError::Error(source)) => return Err(failed(&path)(source)),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed(&path))?;
        Ok(Self { _file: file })
    }
}

/// Where programs of this user meet until the machine restarts.
fn runtime_place() -> PathBuf {
    let me = rustix::process::geteuid();
    let own = |path: &PathBuf| fs::metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == me.as_raw());
    let session = env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute() && own(path));
    let system = || Some(PathBuf::from("/run")).filter(own);
    match session.or_else(system) {
        Some(place) => place.join(FOLDER),
        // shared with others, hence the user's number in the name
        None => env::temp_dir().join(format!("{FOLDER}-{}", me.as_raw())),
    }
}

/// Sees to it that the folder exists and is this user's alone, so that nobody else can hold or feign a claim.
fn private_folder(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let private = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
    if !private || found.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not a folder of this user alone"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_of_a_chain_is_one_programs_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("claims");
        let (mine, other) = (Address::repeat_byte(1), Address::repeat_byte(2));
        let held = AccountLock::take_in(&place, 1, mine).unwrap();
        match AccountLock::take_in(&place, 1, mine).unwrap_err() {
            SettlementError::AccountInUse { account, chain, pid } => {
                assert_eq!((account, chain, pid), (mine, 1, Some(std::process::id())));
            }
            other => panic!("{other:?}"),
        }
        let _others = (AccountLock::take_in(&place, 2, mine).unwrap(), AccountLock::take_in(&place, 1, other).unwrap());
        drop(held);
        AccountLock::take_in(&place, 1, mine).unwrap();
    }

    #[test]
    fn a_place_that_others_can_write_to_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("claims");
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
        let error = AccountLock::take_in(&place, 1, Address::ZERO).unwrap_err();
        assert!(matches!(error, SettlementError::AccountLock { .. }), "{error:?}");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        assert!(AccountLock::take_in(&link, 1, Address::ZERO).is_err());
    }
}
