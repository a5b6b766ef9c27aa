//! Encryption of a sandbox's disk by the kernel's own means (fscrypt on ext4). The key is drawn at random by the builder, given to the
//! kernel and written nowhere: with the last mount of the disk the kernel forgets it, and nobody can read what a renter left, neither the
//! next renter nor whoever gets the device. That is the quickest and surest way of wiping it.
//!
//! Structures and numbers as in the kernel's `include/uapi/linux/fscrypt.h`.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

/// Bytes of a key: both halves of AES-256-XTS.
const KEY: usize = 64;

/// `FS_IOC_ADD_ENCRYPTION_KEY` and `FS_IOC_SET_ENCRYPTION_POLICY`.
const ADD_KEY: libc::Ioctl = 0xC050_6617u32 as libc::Ioctl;
const SET_POLICY: libc::Ioctl = 0x800C_6613u32 as libc::Ioctl;

/// `FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER`: the kernel names the key after its content.
const BY_IDENTIFIER: u32 = 2;

/// `struct fscrypt_add_key_arg` with the key behind it.
#[repr(C)]
struct AddKey {
    kind: u32,
    kind_reserved: u32,
    identifier: [u8; 16],
    identifier_unused: [u8; 16],
    raw_size: u32,
    key_id: u32,
    reserved: [u32; 8],
    raw: [u8; KEY],
}

/// `struct fscrypt_policy_v2`.
#[repr(C)]
struct Policy {
    version: u8,
    contents_mode: u8,
    filenames_mode: u8,
    flags: u8,
    log2_data_unit_size: u8,
    reserved: [u8; 3],
    identifier: [u8; 16],
}

/// A key that the kernel has for one mounted file system.
pub(crate) struct Key([u8; 16]);

/// Gives the kernel a fresh key for the file system mounted at this directory. `Ok(None)`: this kernel, or this file system, cannot encrypt.
pub(crate) fn add_key(mounted: &Path) -> io::Result<Option<Key>> {
    let directory = File::open(mounted)?;
    let mut argument = AddKey {
        kind: BY_IDENTIFIER,
        kind_reserved: 0,
        identifier: [0; 16],
        identifier_unused: [0; 16],
        raw_size: KEY as u32,
        key_id: 0,
        reserved: [0; 8],
        raw: [0; KEY],
    };
    // SAFETY: the pointer and the length are of one array. The kernel fills up to 256 bytes at once, or none.
    if unsafe { libc::getrandom(argument.raw.as_mut_ptr().cast(), KEY, 0) } != KEY as isize {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel reads one `struct fscrypt_add_key_arg` with `raw_size` bytes behind it, which this is, and fills in the name.
    if unsafe { libc::ioctl(directory.as_raw_fd(), ADD_KEY, &raw mut argument) } == 0 {
        return Ok(Some(Key(argument.identifier)));
    }
    match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY)) => Ok(None),
        error => Err(error),
    }
}

/// Lets everything that will be in this empty directory be encrypted with the key: contents by AES-256-XTS, names by AES-256-CTS, padded to
/// 32 bytes.
pub(crate) fn encrypt(directory: &Path, key: &Key) -> io::Result<()> {
    let opened = File::open(directory)?;
    let policy = Policy {
        version: 2,
        contents_mode: 1,
        filenames_mode: 4,
        flags: 3,
        log2_data_unit_size: 0,
        reserved: [0; 3],
        identifier: key.0,
    };
    // SAFETY: the kernel reads one `struct fscrypt_policy_v2`, as its first byte says.
    match unsafe { libc::ioctl(opened.as_raw_fd(), SET_POLICY, &raw const policy) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
