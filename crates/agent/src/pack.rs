//! Files out, as tar streams. The tree is a stranger's and may change while it is read: every step goes down from an open directory and
//! never through a link, a file is sent at the length announced for it, and what is neither a file, a directory nor a link has nothing to
//! send.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use agent::manifest::{Manifest, Note, Notebook, Stamp, Whose};
use agent::protocol::{Frame, HEADER, MAX_DATA, NamedFile, Unfetched, WORKING_DIRECTORY, seal_data};
use rustix::fs::{AtFlags, CWD, Dir, Gid, Mode, OFlags, Uid, chownat, fchown, openat, readlinkat};
use rustix::io::Errno;
use tar::{Builder, EntryType, Header};

use crate::connection::{Stop, bad_request};
use crate::files::{absolute, failure};
use crate::user::User;

/// What a job of another user than root is given: the folder that it works in, and the one for what touches no disk.
const GIVEN: [&str; 2] = [WORKING_DIRECTORY, SECRETS];

/// In memory, and empty in every image.
const SECRETS: &str = "/run/secrets";

/// Depth of directories looked through: each is open meanwhile, and a hostile tree may exhaust neither the stack nor the descriptors.
const MAX_DEPTH: usize = 128;

/// Files that are named when it is asked what nobody has fetched: a person reads no more.
const MAX_NAMED: usize = 10;

/// Characters of such a name: more do not fit a line, and ten of them fit a message.
const MAX_NAME: usize = 200;

/// Sends what is new or changed under a directory.
pub(crate) fn changed(manifest: &Manifest, socket: &UnixStream, directory: &str) -> Result<(), Stop> {
    let (root, opened) = open_root(directory)?;
    let brought =
        |inner: &Path, metadata: &Metadata| manifest.knows(&root.join(inner), metadata) == Some(Whose::Brought);
    let wanted = |inner: &Path, metadata: &Metadata| !metadata.is_dir() && !brought(inner, metadata);
    send(socket, directory, |builder| Packer { builder, wanted: &wanted }.tree(opened))
}

/// How many files under a directory the renter neither brought nor fetched as they are, and the largest of them.
pub(crate) fn unfetched(manifest: &Manifest, directory: &str) -> Result<Unfetched, Stop> {
    let (root, opened) = open_root(directory)?;
    let mut found = Unfetched::default();
    let looked = walk(opened, Path::new(""), 0, &mut |entry| {
        if entry.metadata.is_file() && manifest.knows(&root.join(entry.path), &entry.metadata).is_none() {
            count(&mut found, entry.path, entry.metadata.len());
        }
        Ok(())
    });
    looked.map_err(|error| failure(directory, &error))?;
    Ok(found)
}

/// Gives what is there for the job to a user: the folders, and the files that the renter brought, which stay known as that. Files of the
/// image's own stay whose they are: to give one away would copy it to the rental's disk.
pub(crate) fn give(manifest: &Manifest, user: &User) -> io::Result<()> {
    GIVEN
        .iter()
        .try_for_each(|root| give_tree(manifest, user, Path::new(root)).map_err(|error| at(Path::new(root), error)))
}

fn give_tree(manifest: &Manifest, user: &User, root: &Path) -> io::Result<()> {
    let opened = open(CWD, root, OFlags::DIRECTORY)?;
    let (uid, gid) = (Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
    fchown(&opened, uid, gid)?;
    walk(opened, Path::new(""), 0, &mut |Entry { seen, path, metadata, .. }| {
        let path = root.join(path);
        let known = manifest.knows(&path, &metadata).is_some();
        if metadata.is_file() && !known && root != Path::new(SECRETS) {
            return Ok(());
        }
        chownat(&seen, "", uid, gid, AtFlags::EMPTY_PATH)?;
        if known {
            manifest.take(Note::changed((path.clone(), Stamp::of(&metadata)), path)?);
        }
        Ok(())
    })
}

/// Adds a file; of the largest so many are named.
fn count(found: &mut Unfetched, path: &Path, bytes: u64) {
    found.files += 1;
    found.bytes += bytes;
    let at = found.largest.partition_point(|larger| larger.bytes >= bytes);
    if at < MAX_NAMED {
        found.largest.insert(at, NamedFile { path: shortened(path), bytes });
        found.largest.truncate(MAX_NAMED);
    }
}

/// A path for people: the end of one that is very long.
fn shortened(path: &Path) -> String {
    let text = path.to_string_lossy();
    let over = text.chars().count().saturating_sub(MAX_NAME);
    if over == 0 { text.into_owned() } else { text.chars().skip(over).collect() }
}

fn open_root(directory: &str) -> Result<(PathBuf, OwnedFd), Stop> {
    let root = fs::canonicalize(absolute(directory)?).map_err(|error| failure(directory, &error))?;
    let opened = open(CWD, &root, OFlags::DIRECTORY).map_err(|error| failure(directory, &error))?;
    Ok((root, opened))
}

/// Sends one file under its name, or everything below a directory.
pub(crate) fn get(socket: &UnixStream, path: &str) -> Result<(), Stop> {
    let real = fs::canonicalize(absolute(path)?).map_err(|error| failure(path, &error))?;
    let seen = open(CWD, &real, OFlags::PATH).and_then(|seen| File::from(seen).metadata());
    let seen = seen.map_err(|error| failure(path, &error))?;
    let everything = |_: &Path, _: &Metadata| true;
    if seen.is_dir() {
        let opened = open(CWD, &real, OFlags::DIRECTORY).map_err(|error| failure(path, &error))?;
        return send(socket, path, |builder| Packer { builder, wanted: &everything }.tree(opened));
    }
    let (Some(parent), Some(name), true) = (real.parent(), real.file_name(), seen.is_file()) else {
        return Err(bad_request(&format!("{path} is neither a file nor a directory")).into());
    };
    let parent = open(CWD, parent, OFlags::DIRECTORY).map_err(|error| failure(path, &error))?;
    send(socket, path, |builder| {
        Packer { builder, wanted: &everything }.file(parent.as_fd(), name.as_ref(), name.as_ref())
    })
}

/// Makes a tar stream and its end on a socket.
fn send(
    mut socket: &UnixStream,
    what: &str,
    pack: impl FnOnce(&mut Builder<DataWriter<'_>>) -> io::Result<()>,
) -> Result<(), Stop> {
    let mut builder = Builder::new(DataWriter::new(socket));
    pack(&mut builder).map_err(|error| failure(what, &error))?;
    builder.into_inner()?.flush()?;
    Frame::End.write(&mut socket)?;
    Ok(())
}

/// Goes through a tree and writes what is wanted of it.
struct Packer<'a, W: Write> {
    builder: &'a mut Builder<W>,
    /// Says of an entry, by its path from the root, whether it is sent. A directory that is not sent itself is gone through all the same.
    wanted: &'a dyn Fn(&Path, &Metadata) -> bool,
}

impl<W: Write> Packer<'_, W> {
    fn tree(&mut self, directory: OwnedFd) -> io::Result<()> {
        walk(directory, Path::new(""), 0, &mut |entry| self.entry(entry))
    }

    fn entry(&mut self, Entry { parent, path, seen, metadata }: Entry<'_>) -> io::Result<()> {
        if !(self.wanted)(path, &metadata) {
            return Ok(());
        }
        if metadata.is_dir() {
            self.builder.append_data(&mut header(&metadata, EntryType::Directory, 0), path, io::empty())
        } else if metadata.is_symlink() {
            let target = readlinkat(&seen, "", Vec::new())?;
            let target = Path::new(std::ffi::OsStr::from_bytes(target.to_bytes()));
            self.builder.append_link(&mut header(&metadata, EntryType::Symlink, 0), path, target)
        } else if metadata.is_file() {
            self.file(parent, Path::new(path.file_name().unwrap_or_default()), path)
        } else {
            Ok(())
        }
    }

    /// Sends a file of an open directory under this path.
    fn file(&mut self, parent: BorrowedFd<'_>, name: &Path, path: &Path) -> io::Result<()> {
        // What has become a pipe meanwhile is not waited for.
        let Some(file) = still_there(open(parent, name, OFlags::NONBLOCK))? else { return Ok(()) };
        let file = File::from(file);
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(());
        }
        let mut header = header(&metadata, EntryType::Regular, metadata.len());
        self.builder.append_data(&mut header, path, Exactly { file, left: metadata.len() })
    }
}

/// Something found in a tree.
struct Entry<'a> {
    /// The directory that it is in.
    parent: BorrowedFd<'a>,
    /// Its path from the root of the tree.
    path: &'a Path,
    /// It, to be looked at.
    seen: File,
    metadata: Metadata,
}

/// Visits everything under an open directory, directories before what is in them.
fn walk(
    directory: OwnedFd,
    inner: &Path,
    depth: usize,
    visit: &mut dyn FnMut(Entry<'_>) -> io::Result<()>,
) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("{}: more than {MAX_DEPTH} directories deep", inner.display())));
    }
    let mut entries = Dir::new(directory)?;
    while let Some(entry) = entries.read() {
        let entry = entry.map_err(|error| at(inner, error.into()))?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            let path = inner.join(std::ffi::OsStr::from_bytes(name));
            walk_entry(entries.fd()?, &path, depth, visit).map_err(|error| at(&path, error))?;
        }
    }
    Ok(())
}

/// Visits an entry of an open directory, whose name is the path's last part, and what is in it.
fn walk_entry(
    parent: BorrowedFd<'_>,
    path: &Path,
    depth: usize,
    visit: &mut dyn FnMut(Entry<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let name = Path::new(path.file_name().unwrap_or_default());
    let Some(seen) = still_there(open(parent, name, OFlags::PATH))? else { return Ok(()) };
    let seen = File::from(seen);
    let metadata = seen.metadata()?;
    let is_directory = metadata.is_dir();
    visit(Entry { parent, path, seen, metadata })?;
    if !is_directory {
        return Ok(());
    }
    let Some(opened) = still_there(open(parent, name, OFlags::DIRECTORY))? else { return Ok(()) };
    walk(opened, path, depth + 1, visit)
}

/// Opens for reading, and never what a link leads to.
fn open(parent: BorrowedFd<'_>, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(openat(parent, path, flags | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// Left-over processes may still be removing or exchanging files: what is gone, or has become a link or no directory, is not sent.
fn still_there(opened: io::Result<OwnedFd>) -> io::Result<Option<OwnedFd>> {
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::LOOP | Errno::NOTDIR | Errno::NXIO) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Names the entry at which something failed; the innermost name is the whole path already.
fn at(path: &Path, error: io::Error) -> io::Error {
    if error.raw_os_error().is_none() {
        return error;
    }
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Owned by user 0, without set-user bits: the stream is unpacked as somebody else.
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

/// Turns bytes into data frames, as long as they may be. It holds one and no copy of it: there may be one for every connection.
struct DataWriter<'a> {
    socket: &'a UnixStream,
    frame: Vec<u8>,
}

impl DataWriter<'_> {
    fn new(socket: &UnixStream) -> DataWriter<'_> {
        let mut frame = Vec::with_capacity(HEADER + MAX_DATA);
        frame.resize(HEADER, 0);
        DataWriter { socket, frame }
    }
}

impl Write for DataWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.frame.len() == HEADER + MAX_DATA {
            self.flush()?;
        }
        let n = bytes.len().min(HEADER + MAX_DATA - self.frame.len());
        self.frame.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.frame.len() > HEADER {
            seal_data(&mut self.frame)?;
            self.socket.write_all(&self.frame)?;
            self.frame.truncate(HEADER);
        }
        Ok(())
    }
}
