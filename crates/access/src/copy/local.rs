//! This machine's end. What is written goes below an open folder, step by step by names that are no more than names and never through a
//! link, because the names come from a stranger.

use super::part_name;
use crate::AccessError;
use rustix::{
    fs::{
        AtFlags, Dir, Mode, OFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT, fchmod, futimens, mkdirat, openat,
        openat2, readlinkat, renameat, statat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};
use sandbox::{FileKind, FileMetadata, FileTime};
use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    fs::{File, Metadata},
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, fs::MetadataExt},
    },
    path::{Path, PathBuf},
};

/// The permissions that what comes from a rental may have here: no program of it runs as somebody else.
const PERMISSIONS: u32 = 0o777;

/// A folder of this machine, below which is written.
pub(super) struct Folder {
    root: OwnedFd,
    shown: PathBuf,
}

impl Folder {
    /// One that is there.
    pub(super) fn open(path: &Path) -> Result<Self, AccessError> {
        let opened = rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        Ok(Self { root: opened.map_err(|errno| local(path, errno))?, shown: path.to_path_buf() })
    }

    /// Opens a folder below it.
    fn below(&self, inner: &Path) -> Result<OwnedFd, Errno> {
        let inner = if inner.as_os_str().is_empty() { Path::new(".") } else { inner };
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        openat2(&self.root, inner, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
    }

    fn parent<'a>(&self, inner: &'a Path) -> Result<(OwnedFd, &'a OsStr), Errno> {
        let name = inner.file_name().ok_or(Errno::INVAL)?;
        Ok((self.below(inner.parent().unwrap_or(Path::new("")))?, name))
    }

    fn at<T>(&self, inner: &Path, outcome: Result<T, Errno>) -> Result<T, AccessError> {
        outcome.map_err(|errno| local(&self.shown.join(inner), errno))
    }

    /// What a folder below it holds; nothing if it is not there.
    pub(super) fn entries(&self, inner: &Path) -> Result<HashMap<OsString, FileMetadata>, AccessError> {
        let list = || -> Result<_, Errno> {
            let opened = match self.below(inner) {
                Err(Errno::NOENT) => return Ok(HashMap::new()),
                opened => opened?,
            };
            let mut found = HashMap::new();
            let mut directory = Dir::new(opened)?;
            while let Some(entry) = directory.read() {
                let entry = entry?;
                let seen = statat(directory.fd()?, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
                let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_owned();
                found.insert(name, of_stat(&seen));
            }
            Ok(found)
        };
        self.at(inner, list())
    }

    /// Makes a folder, or finds it there.
    pub(super) fn make(&self, inner: &Path) -> Result<(), AccessError> {
        let make = || -> Result<(), Errno> {
            let (parent, name) = self.parent(inner)?;
            match mkdirat(&parent, name, Mode::RWXU) {
                Err(Errno::EXIST) => self.below(inner).map(drop),
                made => made,
            }
        };
        self.at(inner, make())
    }

    /// Gives a folder its permissions and time, when everything is in it.
    pub(super) fn finish_folder(&self, inner: &Path, metadata: &FileMetadata) -> Result<(), AccessError> {
        let finish = || finish(self.below(inner)?, metadata);
        self.at(inner, finish())
    }

    /// Makes a link, in place of what has its name.
    pub(super) fn link(&self, inner: &Path, text: &Path, modified: FileTime) -> Result<(), AccessError> {
        let link = || -> Result<(), Errno> {
            let (parent, name) = self.parent(inner)?;
            match unlinkat(&parent, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
            symlinkat(text, &parent, name)?;
            utimensat(&parent, name, &times(modified), AtFlags::SYMLINK_NOFOLLOW)
        };
        self.at(inner, link())
    }

    /// Writes a whole file, in place of what has its name. `last` is the folder that the one before went to: most go where that went.
    pub(super) fn store(
        &self,
        last: &mut Option<(PathBuf, OwnedFd)>,
        inner: &Path,
        metadata: &FileMetadata,
        bytes: &[u8],
    ) -> Result<(), AccessError> {
        let mut store = || -> io::Result<()> {
            let folder = inner.parent().unwrap_or(Path::new(""));
            let parent = match last.take() {
                Some((path, parent)) if path == folder => last.insert((path, parent)),
                _ => last.insert((folder.to_path_buf(), self.below(folder)?)),
            };
            let (parent, name) = (&parent.1, inner.file_name().ok_or(Errno::INVAL)?);
            let part = part_name(name);
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let mut file = File::from(openat(parent, &part, flags | OFlags::NONBLOCK, Mode::RUSR | Mode::WUSR)?);
            file.write_all(bytes)?;
            finish(&file, metadata)?;
            Ok(renameat(parent, &part, parent, name)?)
        };
        store().map_err(|source| AccessError::Local { path: self.shown.join(inner), source })
    }

    /// Opens the unfinished part of a file, which is made if need be.
    pub(super) fn part(&self, inner: &Path) -> Result<File, AccessError> {
        let open = || -> Result<File, Errno> {
            let (parent, name) = self.parent(inner)?;
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            Ok(openat(&parent, part_name(name), flags, Mode::RUSR | Mode::WUSR)?.into())
        };
        self.at(inner, open())
    }

    /// Puts a finished part at its place.
    pub(super) fn finish_part(&self, inner: &Path, part: &File, metadata: &FileMetadata) -> Result<(), AccessError> {
        let put = || -> Result<(), Errno> {
            let (parent, name) = self.parent(inner)?;
            finish(part, metadata)?;
            renameat(&parent, part_name(name), &parent, name)
        };
        self.at(inner, put())
    }

    /// Gives a file that is the right one already its permissions.
    pub(super) fn set_permissions(&self, inner: &Path, permissions: u32) -> Result<(), AccessError> {
        let set = || -> Result<(), Errno> {
            let (parent, name) = self.parent(inner)?;
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            fchmod(openat(&parent, name, flags, Mode::empty())?, Mode::from_raw_mode(permissions & PERMISSIONS))
        };
        self.at(inner, set())
    }
}

fn finish(file: impl AsFd, metadata: &FileMetadata) -> Result<(), Errno> {
    futimens(&file, &times(metadata.modified))?;
    fchmod(&file, Mode::from_raw_mode(metadata.permissions & PERMISSIONS))
}

/// Only the time of change is copied.
fn times(modified: FileTime) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: modified.seconds, tv_nsec: modified.nanoseconds.min(999_999_999).into() },
    }
}

/// What a folder of the user's holds, in the order of names.
pub(super) fn entries(folder: &Path) -> Result<Vec<(OsString, FileMetadata)>, AccessError> {
    let list = || -> io::Result<_> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            found.push((entry.file_name(), of_metadata(&entry.metadata()?)));
        }
        found.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        Ok(found)
    };
    list().map_err(|source| AccessError::Local { path: folder.into(), source })
}

/// What a path of the user's leads to. A link that leads nowhere stands for itself.
pub(super) fn stat(path: &Path) -> Result<FileMetadata, AccessError> {
    let seen = std::fs::metadata(path)
        .or_else(|_| path.symlink_metadata())
        .map_err(|source| AccessError::Local { path: path.into(), source })?;
    Ok(of_metadata(&seen))
}

/// The text of a link of the user's.
pub(super) fn read_link(path: &Path) -> Result<PathBuf, AccessError> {
    let text = readlinkat(rustix::fs::CWD, path, Vec::new()).map_err(|errno| local(path, errno))?;
    Ok(PathBuf::from(OsStr::from_bytes(text.as_bytes())))
}

pub(super) fn local(path: &Path, source: impl Into<io::Error>) -> AccessError {
    AccessError::Local { path: path.to_path_buf(), source: source.into() }
}

fn of_metadata(seen: &Metadata) -> FileMetadata {
    let time = |seconds, nanoseconds: i64| FileTime { seconds, nanoseconds: u32::try_from(nanoseconds).unwrap_or(0) };
    FileMetadata {
        kind: kind(seen.mode()),
        permissions: seen.mode() & 0o7777,
        size: seen.size(),
        allocated: seen.blocks().saturating_mul(512),
        user: seen.uid(),
        group: seen.gid(),
        links: seen.nlink(),
        accessed: time(seen.atime(), seen.atime_nsec()),
        modified: time(seen.mtime(), seen.mtime_nsec()),
    }
}

/// For comparing: who owns it and how many names it has does not matter.
fn of_stat(seen: &rustix::fs::Stat) -> FileMetadata {
    let nanoseconds = u32::try_from(seen.st_mtime_nsec).unwrap_or(0);
    FileMetadata {
        kind: kind(seen.st_mode),
        permissions: seen.st_mode & 0o7777,
        size: u64::try_from(seen.st_size).unwrap_or(0),
        allocated: u64::try_from(seen.st_blocks).unwrap_or(0).saturating_mul(512),
        user: seen.st_uid,
        group: seen.st_gid,
        links: 1,
        accessed: FileTime::default(),
        modified: FileTime { seconds: seen.st_mtime, nanoseconds },
    }
}

fn kind(mode: u32) -> FileKind {
    match rustix::fs::FileType::from_raw_mode(mode) {
        rustix::fs::FileType::RegularFile => FileKind::File,
        rustix::fs::FileType::Directory => FileKind::Directory,
        rustix::fs::FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}
