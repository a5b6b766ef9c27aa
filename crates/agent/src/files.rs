//! Files in and out as tar streams. Paths are resolved here, inside the sandbox, so that no link or `..` can lead to the host. A
//! manifest remembers how each file looked when it was brought, so that afterwards only what is new or changed is sent.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use agent::protocol::{Failure, FailureKind, Frame, MAX_DATA};
use tar::{Archive, Builder, EntryType, Header};

use crate::connection::{Stop, bad_request};
use crate::lock;

/// Entries of all uploads of one sandbox: the manifest lives in the agent's bounded memory, about 200 bytes each.
const MAX_ENTRIES: usize = 100_000;

/// Depth of directories looked through, so that a hostile tree cannot exhaust the stack or the descriptors.
const MAX_DEPTH: usize = 128;

/// The coarsest clock tick of a file system. After an upload we let one pass, so that a change made by the very next program bears
/// another time than the upload.
const CLOCK_TICK: Duration = Duration::from_millis(10);

/// How each file looked when it was brought.
#[derive(Default)]
pub(crate) struct Manifest(HashMap<PathBuf, Stamp>);

/// What changes when a file changes. The change time is set by the kernel and cannot be turned back by a program.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            inode: metadata.ino(),
            size: metadata.size(),
            mode: metadata.mode(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Unpacks the stream on this socket under a directory. Answers the number of entries and of bytes.
pub(crate) fn put(manifest: &Mutex<Manifest>, socket: &mut UnixStream, directory: &str) -> Result<(u64, u64), Stop> {
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

fn unpack(manifest: &Mutex<Manifest>, stream: &mut impl Read, target: &Path) -> Result<(u64, u64), Failure> {
    let broken = |error: io::Error| failure("unpack", &error);
    let mut archive = Archive::new(stream);
    archive.set_preserve_mtime(true);
    archive.set_overwrite(true);
    let (mut paths, mut count, mut bytes) = (Vec::new(), 0, 0);
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
        if kind != EntryType::Directory {
            paths.push(target.join(path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>()));
        }
        if paths.len() + lock(manifest).0.len() > MAX_ENTRIES {
            let message = format!("more than {MAX_ENTRIES} files: pack them into an archive first");
            return Err(Failure { kind: FailureKind::Busy, message });
        }
    }
    let mut manifest = lock(manifest);
    for path in paths {
        // Looked at when all are written: a hard link made later changes the first name's times too.
        let metadata = fs::symlink_metadata(&path).map_err(|error| failure(&path.display().to_string(), &error))?;
        manifest.0.insert(path, Stamp::of(&metadata));
    }
    Ok((count, bytes))
}

/// Sends what is new or changed under a directory.
pub(crate) fn changed(manifest: &Mutex<Manifest>, socket: &mut UnixStream, directory: &str) -> Result<(), Stop> {
    let root = fs::canonicalize(absolute(directory)?).map_err(|error| failure(directory, &error))?;
    let writer = io::BufWriter::with_capacity(MAX_DATA, DataWriter { socket });
    let mut builder = Builder::new(writer);
    pack(manifest, &mut builder, &root, Path::new(""), 0).map_err(|error| failure(directory, &error))?;
    let mut writer = builder.into_inner()?;
    writer.flush()?;
    drop(writer);
    Frame::End.write(socket)?;
    Ok(())
}

fn pack(
    manifest: &Mutex<Manifest>,
    builder: &mut Builder<impl Write>,
    root: &Path,
    inner: &Path,
    depth: usize,
) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("{}: more than {MAX_DEPTH} directories deep", inner.display())));
    }
    let mut names: Vec<_> =
        fs::read_dir(root.join(inner))?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort();
    for name in names {
        let relative = inner.join(&name);
        let path = root.join(&relative);
        // Left-over processes may still be removing files: what is gone is not an output.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            pack(manifest, builder, root, &relative, depth + 1)?;
            continue;
        }
        if lock(manifest).0.get(&path) == Some(&Stamp::of(&metadata)) {
            continue;
        }
        if metadata.is_symlink() {
            let target = fs::read_link(&path)?;
            let mut header = header(&metadata, EntryType::Symlink, 0);
            builder.append_link(&mut header, &relative, target)?;
        } else if metadata.is_file() {
            let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(&path);
            let Ok(file) = opened else { continue };
            let metadata = file.metadata()?;
            if metadata.is_file() {
                let mut header = header(&metadata, EntryType::Regular, metadata.len());
                builder.append_data(&mut header, &relative, Exactly { file, left: metadata.len() })?;
            }
        }
    }
    Ok(())
}

fn header(metadata: &Metadata, kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(metadata.mode() & 0o777);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or(0));
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// A file read to exactly the length announced for it, though it may grow or shrink meanwhile.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if room == 0 {
            return Ok(0);
        }
        let mut read = self.file.read(&mut buffer[..room])?;
        if read == 0 {
            buffer[..room].fill(0);
            read = room;
        }
        self.left -= read as u64;
        Ok(read)
    }
}

/// The bytes of the data frames on a socket, up to their end.
struct DataReader<'a> {
    socket: &'a mut UnixStream,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
}

impl Read for DataReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.buffer.len() && !self.ended {
            match Frame::read(self.socket)? {
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

/// Turns bytes into data frames.
struct DataWriter<'a> {
    socket: &'a mut UnixStream,
}

impl Write for DataWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(MAX_DATA);
        Frame::Data(bytes[..n].to_vec()).write(self.socket)?;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn absolute(directory: &str) -> Result<&Path, Failure> {
    let path = Path::new(directory);
    if path.is_absolute() { Ok(path) } else { Err(bad_request(&format!("`{directory}` is not an absolute path"))) }
}

fn failure(what: &str, error: &io::Error) -> Failure {
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
