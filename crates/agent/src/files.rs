//! Files in, as tar streams. Paths are resolved here, inside the sandbox, so that no link or `..` can lead to the host. The
//! manifest remembers how each file looked when it was brought, so that afterwards only what is new or changed is sent.

use std::fs;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use agent::manifest::{MAX_UPLOADED, Manifest};
use agent::protocol::{Failure, FailureKind, Frame};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};
use tar::{Archive, EntryType};

use crate::connection::{Stop, bad_request};

/// The coarsest clock tick of a file system. After an upload we let one pass, so that a change made by the very next program bears
/// another time than the upload.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// Unpacks the stream on this socket under a directory. Answers the number of entries and of bytes.
pub(crate) fn put(manifest: &Manifest, socket: &UnixStream, directory: &str) -> Result<(u64, u64), Stop> {
    let target = absolute(directory)?;
    fs::create_dir_all(target).map_err(|error| failure(&format!("make {directory}"), &error))?;
    let target = fs::canonicalize(target).map_err(|error| failure(directory, &error))?;
    let mut stream = DataReader { socket, buffer: Vec::new(), at: 0, ended: false };
    let result = unpack(manifest, &mut stream, &target);
    // What follows the archive's end, or a failure, is read away: an asker still sending then sees our answer, not a broken pipe.
    io::copy(&mut stream, &mut io::sink())?;
    std::thread::sleep(CLOCK_TICK);
    Ok(result?)
}

fn unpack(manifest: &Manifest, stream: &mut impl Read, target: &Path) -> Result<(u64, u64), Failure> {
    let broken = |error: io::Error| failure("unpack", &error);
    let mut archive = Archive::new(stream);
    archive.set_preserve_mtime(true);
    archive.set_overwrite(true);
    let (mut paths, mut directories, mut count, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path().map_err(broken)?.into_owned();
        let kind = entry.header().entry_type();
        if path.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            return Err(bad_request(&format!("{} leads out of the directory", path.display())));
        }
        let known = matches!(kind, EntryType::Regular | EntryType::Directory | EntryType::Symlink | EntryType::Link);
        if !known {
            return Err(bad_request(&format!("{} is neither a file, a directory nor a link", path.display())));
        }
        if !entry.unpack_in(target).map_err(broken)? {
            return Err(bad_request(&format!("{} leads out of the directory", path.display())));
        }
        count += 1;
        bytes += entry.header().entry_size().unwrap_or(0);
        let inner: PathBuf = path.components().filter(|part| *part != Component::CurDir).collect();
        if kind != EntryType::Directory {
            paths.push(target.join(inner));
        } else if !inner.as_os_str().is_empty() {
            directories.push((target.join(inner), entry.header().mtime().map_err(broken)?));
        }
        if paths.len() + directories.len() + manifest.uploaded() > MAX_UPLOADED {
            let message = format!("more than {MAX_UPLOADED} files: pack them into an archive first");
            return Err(Failure { kind: FailureKind::Busy, message });
        }
    }
    // When all is in them: what is made in a directory changes its time.
    for (path, modified) in directories {
        set_time(&path, modified).map_err(|error| failure(&path.display().to_string(), &error))?;
    }
    for path in paths {
        // Looked at when all are written: a hard link made later changes the first name's times too.
        let metadata = fs::symlink_metadata(&path).map_err(|error| failure(&path.display().to_string(), &error))?;
        manifest.bring(path, &metadata);
    }
    Ok((count, bytes))
}

/// Sets when a directory was last changed.
fn set_time(path: &Path, modified: u64) -> io::Result<()> {
    let modified = Timespec { tv_sec: i64::try_from(modified).unwrap_or(i64::MAX), tv_nsec: 0 };
    let unchanged = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    let times = Timestamps { last_access: unchanged, last_modification: modified };
    Ok(utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)?)
}

/// The bytes of the data frames on a socket, up to their end.
struct DataReader<'a> {
    socket: &'a UnixStream,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for DataReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.buffer.len() && !self.ended {
            match Frame::read(&mut self.socket)? {
                Some(Frame::Data(bytes)) => (self.buffer, self.at) = (bytes, 0),
                Some(Frame::End) => self.ended = true,
                Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame that is no data")),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let n = out.len().min(self.buffer.len() - self.at);
        out[..n].copy_from_slice(&self.buffer[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// A path that begins at the root.
pub(crate) fn absolute(directory: &str) -> Result<&Path, Failure> {
    let path = Path::new(directory);
    if path.is_absolute() { Ok(path) } else { Err(bad_request(&format!("`{directory}` is not an absolute path"))) }
}

/// What the asker is told of an error of the system's.
pub(crate) fn failure(what: &str, error: &io::Error) -> Failure {
    let full = matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT)) || caused_by_full_disk(error);
    let kind = if full { FailureKind::DiskFull } else { FailureKind::Io };
    Failure { kind, message: format!("{what}: {}", chain(error)) }
}

/// The tar library wraps the system's error into its own.
fn caused_by_full_disk(error: &io::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = error.get_ref().map(|inner| inner as _);
    while let Some(inner) = cause {
        if inner.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::StorageFull) {
            return true;
        }
        cause = inner.source();
    }
    error.kind() == io::ErrorKind::StorageFull
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
