//! From a path to what it stands for, and what may be opened there at all.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::file_protocol::{FileError, FileErrorKind, MAX_PATH, OpenMode};
use rustix::fs::{
    CWD, Dir, FileType, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, Stat, fstat, fstatfs, openat, openat2,
};
use rustix::io::Errno;

use super::{error, failed};

/// The file system that lives in memory, from `linux/magic.h`.
const TMPFS_MAGIC: FsWord = 0x0102_1994;

/// The permission bits that can be given.
const PERMISSIONS: u32 = 0o7777;

/// Opens by a path as it stands, following links where `flags` do not forbid it.
fn open(path: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd, FileError> {
    check(path)?;
    openat2(CWD, path, flags | OFlags::CLOEXEC, mode, ResolveFlags::NO_MAGICLINKS).map_err(|errno| failed(path, errno))
}

fn check(path: &Path) -> Result<(), FileError> {
    let bytes = path.as_os_str().as_bytes();
    if !path.is_absolute() || bytes.len() > MAX_PATH || bytes.contains(&0) {
        let message = format!("`{}` is not an absolute path of at most {MAX_PATH} bytes", path.display());
        return Err(error(FileErrorKind::BadRequest, message));
    }
    Ok(())
}

/// What a path stands for, to be looked at and not to be read.
pub(super) fn look(path: &Path, follow: bool) -> Result<OwnedFd, FileError> {
    open(path, if follow { OFlags::PATH } else { OFlags::PATH | OFlags::NOFOLLOW }, Mode::empty())
}

/// The directory that a name is in, and the name.
pub(super) fn parent(path: &Path) -> Result<(OwnedFd, &OsStr), FileError> {
    check(path)?;
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        let message = format!("`{}` does not end with a name", path.display());
        return Err(error(FileErrorKind::BadRequest, message));
    };
    Ok((open(parent, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?, name))
}

/// The permission bits of a request.
pub(super) fn permissions(bits: u32) -> Mode {
    Mode::from_raw_mode(bits & PERMISSIONS)
}

/// Opens a directory to be listed.
pub(super) fn directory(path: &Path) -> Result<Dir, FileError> {
    let opened = open(path, OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?;
    Dir::new(opened).map_err(|errno| failed(path, errno))
}

/// Opens a regular file.
pub(super) fn file(path: &Path, mode: OpenMode) -> Result<File, FileError> {
    let access = match (mode.read, mode.write || mode.append) {
        (true, true) => OFlags::RDWR,
        (false, true) => OFlags::WRONLY,
        (true, false) => OFlags::RDONLY,
        (false, false) => {
            return Err(error(FileErrorKind::BadRequest, "opened neither for reading nor for writing".into()));
        }
    };
    // Looked at first: opening a pipe is an event for whoever waits at its other end, and a device may do anything.
    match look(path, !mode.exclusive) {
        Ok(seen) => refuse_unfit(&seen, path)?,
        Err(missing) if missing.kind == FileErrorKind::NotFound && mode.create => {}
        Err(other) => return Err(other),
    }
    let mut flags = access;
    flags.set(OFlags::APPEND, mode.append);
    flags.set(OFlags::CREATE, mode.create);
    flags.set(OFlags::TRUNC, mode.truncate);
    flags.set(OFlags::EXCL, mode.exclusive && mode.create);
    let permissions = if mode.create { permissions(mode.permissions) } else { Mode::empty() };
    // Were it exchanged for a pipe or a terminal meanwhile, then at least nothing is waited for.
    let opened = open(path, flags | OFlags::NONBLOCK | OFlags::NOCTTY, permissions)?;
    refuse_unfit(&opened, path)?;
    if access != OFlags::RDONLY {
        refuse_memory(&opened, path)?;
    }
    Ok(opened.into())
}

/// Refuses what is not a regular file. And the files of `/proc`: this process may read and write its own memory there.
fn refuse_unfit(file: &OwnedFd, path: &Path) -> Result<(), FileError> {
    let stat = fstat(file).map_err(|errno| failed(path, errno))?;
    let unsupported = |what: &str| Err(error(FileErrorKind::Unsupported, format!("{}: {what}", path.display())));
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Directory => return Err(failed(path, Errno::ISDIR)),
        FileType::Symlink => return Err(failed(path, Errno::EXIST)),
        _ => return unsupported("a pipe, a socket or a device is not a file to be read or written from outside"),
    }
    match file_system(file, path)? {
        PROC_SUPER_MAGIC => unsupported("a file of the kernel's is read by a program inside, such as `cat`"),
        _ => Ok(()),
    }
}

/// Refuses to write what stays in memory: it would count as this process's, which has little of it, and end the sandbox.
pub(super) fn refuse_memory(file: impl AsFd, path: &Path) -> Result<(), FileError> {
    match file_system(file, path)? {
        TMPFS_MAGIC => {
            let message = format!("{}: in memory, which only programs inside may fill: use the disk", path.display());
            Err(error(FileErrorKind::Unsupported, message))
        }
        _ => Ok(()),
    }
}

/// Refuses what belongs to the kernel's view of processes.
pub(super) fn refuse_kernel(file: impl AsFd, path: &Path) -> Result<(), FileError> {
    match file_system(file, path)? {
        PROC_SUPER_MAGIC => Err(failed(path, Errno::PERM)),
        _ => Ok(()),
    }
}

fn file_system(file: impl AsFd, path: &Path) -> Result<FsWord, FileError> {
    Ok(fstatfs(file).map_err(|errno| failed(path, errno))?.f_type)
}

/// Opens a regular file of an open directory, and never what a link leads to.
pub(super) fn create_in(parent: &OwnedFd, name: &OsStr) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(parent, name, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// What the kernel knows about an open file.
pub(super) fn stat(file: impl AsFd, path: &Path) -> Result<Stat, FileError> {
    fstat(file).map_err(|errno| failed(path, errno))
}
