//! Names and what they stand for: listing, looking, changing, making, moving, removing.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::file_protocol::{
    FileAnswer, FileChange, FileEntry, FileError, FileErrorKind, FileKind, FileMetadata, FileSpace, FileTime,
    MAX_BATCH, MAX_PATH, OpenMode, Target,
};
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, RenameFlags, Stat, Timespec, Timestamps, UTIME_OMIT, chmodat, fstatvfs, ftruncate,
    linkat, mkdirat, readlinkat, renameat_with, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::{Files, error, failed, place, system};

type Answered = Result<FileAnswer, FileError>;

pub(super) fn list(directory: &mut Dir) -> Answered {
    let mut entries = Vec::new();
    while entries.len() < MAX_BATCH {
        let Some(entry) = directory.read() else { return Ok(FileAnswer::Entries { entries, last: true }) };
        let entry = entry.map_err(system)?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match statat(directory.fd().map_err(system)?, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => entries.push(FileEntry { name: path(name), metadata: metadata(&stat) }),
            // Removed since it was listed.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed(&path(name), errno)),
        }
    }
    Ok(FileAnswer::Entries { entries, last: false })
}

pub(super) fn stat(files: &Files<'_>, target: &Target) -> Answered {
    let stat = match target {
        Target::Handle(handle) => rustix::fs::fstat(files.descriptor(*handle)?).map_err(system)?,
        Target::Path { path, follow } => place::stat(place::look(path, *follow)?, path)?,
    };
    Ok(FileAnswer::Metadata(metadata(&stat)))
}

pub(super) fn set(files: &Files<'_>, target: &Target, change: FileChange) -> Answered {
    match target {
        Target::Handle(handle) => {
            let file = files.descriptor(*handle)?;
            if let Some(size) = change.size {
                ftruncate(file, size).map_err(system)?;
            }
            set_attributes(file, change).map_err(system)?;
        }
        Target::Path { path, follow } => {
            if let Some(size) = change.size {
                let file = place::file(path, OpenMode { write: true, ..OpenMode::default() })?;
                ftruncate(&file, size).map_err(|errno| failed(path, errno))?;
            }
            let seen = place::look(path, *follow)?;
            place::refuse_kernel(&seen, path)?;
            set_attributes(seen.as_fd(), change).map_err(|errno| failed(path, errno))?;
        }
    }
    Ok(FileAnswer::Done)
}

/// Through the name of our own descriptor, since not everything that can be changed can be opened.
fn set_attributes(file: BorrowedFd<'_>, change: FileChange) -> Result<(), Errno> {
    let own = format!("/proc/self/fd/{}", file.as_raw_fd());
    if let Some(bits) = change.permissions {
        chmodat(CWD, own.as_str(), place::permissions(bits), AtFlags::empty())?;
    }
    if change.accessed.is_some() || change.modified.is_some() {
        utimensat(CWD, own.as_str(), &times(change.accessed, change.modified)?, AtFlags::empty())?;
    }
    Ok(())
}

/// Sets the times of an open file; what is not given stays.
pub(super) fn set_times(file: impl AsFd, accessed: Option<FileTime>, modified: Option<FileTime>) -> Result<(), Errno> {
    rustix::fs::futimens(file, &times(accessed, modified)?)
}

fn times(accessed: Option<FileTime>, modified: Option<FileTime>) -> Result<Timestamps, Errno> {
    let time = |time: Option<FileTime>| match time {
        // The kernel gives larger numbers of nanoseconds meanings of their own.
        Some(time) if time.nanoseconds >= 1_000_000_000 => Err(Errno::INVAL),
        Some(time) => Ok(Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() }),
        None => Ok(Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT }),
    };
    Ok(Timestamps { last_access: time(accessed)?, last_modification: time(modified)? })
}

pub(super) fn make_directory(path: &Path, permissions: u32) -> Answered {
    let (parent, name) = place::parent(path)?;
    done(path, mkdirat(parent, name, place::permissions(permissions)))
}

pub(super) fn remove(path: &Path) -> Answered {
    let (parent, name) = place::parent(path)?;
    done(path, unlinkat(parent, name, AtFlags::empty()))
}

pub(super) fn remove_directory(path: &Path) -> Answered {
    let (parent, name) = place::parent(path)?;
    done(path, unlinkat(parent, name, AtFlags::REMOVEDIR))
}

pub(super) fn rename(from: &Path, to: &Path, replace: bool) -> Answered {
    let (old, name) = place::parent(from)?;
    let (new, new_name) = place::parent(to)?;
    let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
    done(to, renameat_with(old, name, new, new_name, flags))
}

pub(super) fn link(from: &Path, to: &Path) -> Answered {
    let (old, name) = place::parent(from)?;
    let (new, new_name) = place::parent(to)?;
    done(to, linkat(old, name, new, new_name, AtFlags::empty()))
}

pub(super) fn symlink(target: &Path, path: &Path) -> Answered {
    let (parent, name) = place::parent(path)?;
    let text = target.as_os_str().as_bytes();
    if text.is_empty() || text.len() > MAX_PATH || text.contains(&0) {
        let message = format!("a link has a text of 1 to {MAX_PATH} bytes");
        return Err(error(FileErrorKind::BadRequest, message));
    }
    done(path, symlinkat(target, parent, name))
}

pub(super) fn read_link(path: &Path) -> Answered {
    let seen = place::look(path, false)?;
    place::refuse_kernel(&seen, path)?;
    match readlinkat(&seen, "", Vec::new()) {
        Ok(text) => Ok(FileAnswer::Path(self::path(text.as_bytes()))),
        // What the kernel says of a file that is no link, seen in this way.
        Err(Errno::NOENT) => Err(failed(path, Errno::INVAL)),
        Err(errno) => Err(failed(path, errno)),
    }
}

pub(super) fn real_path(path: &Path) -> Answered {
    match place::look(path, true) {
        Ok(seen) => name_of(seen.as_fd()).map(FileAnswer::Path).map_err(|errno| failed(path, errno)),
        Err(missing) if missing.kind == FileErrorKind::NotFound => {
            let (parent, name) = place::parent(path)?;
            let parent = name_of(parent.as_fd()).map_err(|errno| failed(path, errno))?;
            Ok(FileAnswer::Path(parent.join(name)))
        }
        Err(other) => Err(other),
    }
}

/// Where the kernel says that a descriptor of ours leads.
fn name_of(file: BorrowedFd<'_>) -> Result<PathBuf, Errno> {
    let name = readlinkat(CWD, format!("/proc/self/fd/{}", file.as_raw_fd()), Vec::new())?;
    Ok(path(name.as_bytes()))
}

pub(super) fn space(path: &Path) -> Answered {
    let room = fstatvfs(place::look(path, true)?).map_err(|errno| failed(path, errno))?;
    Ok(FileAnswer::Space(FileSpace {
        block_size: room.f_frsize,
        blocks: room.f_blocks,
        free_blocks: room.f_bfree,
        available_blocks: room.f_bavail,
        files: room.f_files,
        free_files: room.f_favail,
        longest_name: room.f_namemax,
    }))
}

/// What the kernel knows, as we say it.
#[allow(clippy::useless_conversion, reason = "the number of names has other widths on other processors")]
pub(super) fn metadata(stat: &Stat) -> FileMetadata {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Directory,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    };
    let time = |seconds: i64, nanoseconds: u64| FileTime {
        seconds,
        nanoseconds: u32::try_from(nanoseconds).unwrap_or_default(),
    };
    FileMetadata {
        kind,
        permissions: stat.st_mode & 0o7777,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        // The kernel counts in 512 bytes, whatever the disk does.
        allocated: u64::try_from(stat.st_blocks).unwrap_or_default().saturating_mul(512),
        user: stat.st_uid,
        group: stat.st_gid,
        links: u64::from(stat.st_nlink),
        accessed: time(stat.st_atime, stat.st_atime_nsec),
        modified: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn done(path: &Path, outcome: Result<(), Errno>) -> Answered {
    outcome.map(|()| FileAnswer::Done).map_err(|errno| failed(path, errno))
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}
