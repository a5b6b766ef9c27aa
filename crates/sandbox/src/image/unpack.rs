//! Unpacking layers: the tar comes from a stranger and root of this machine unpacks it. What an entry may do is decided here; where it
//! lands is seen to by [`Tree`].
//!
//! - Owners are numbers inside, 0 to 65,535, because the sandbox maps just these; larger ones are refused.
//! - Set-user bits are dropped, and set-group bits of files: mounts inside ignore them, so they would mean something only outside.
//! - Extended attributes are dropped: the kernel would take some of them for its own (capabilities, overlay marks).
//! - Devices and pipes are not made; a sandbox has its own `/dev`.
//! - `.wh.` names remove what lower layers have, as the OCI image specification says, and nothing that their own layer has.
//! - Sparse files are refused: a few bytes would claim any size.

use std::cell::Cell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Timespec, Timestamps, futimens};
use tar::{Archive, Entry, EntryType};

use super::stop::Stop;
use super::tree::{Fault, Ownership, Tree, own};
use super::{ImageError, MAX_ENTRIES};

/// The bytes that may describe one entry: its header, and extensions with names that the header cannot hold. The tar library keeps
/// those in memory; the longest path of Linux is 4 KiB, and two of them may be given in two ways.
const MAX_DESCRIPTION: u64 = 64 << 10;

/// The longest path, as Linux has it.
const MAX_PATH: usize = 4096;

/// User and group numbers that a sandbox has.
const OWNERS: u64 = 65_536;

/// What every file costs on the disk at least, and the step in which it grows.
const BLOCK: u64 = 4096;

/// How much is written at a time.
const PIECE: usize = 256 << 10;

/// Names that say something about other names.
const REMOVED: &[u8] = b".wh.";
const REMOVED_ALL: &[u8] = b".wh..wh..opq";
const NOTES: &[u8] = b".wh..wh.";

/// Unpacks the layers of one image, lowest first.
pub(crate) struct Unpacker {
    tree: Tree,
    root: PathBuf,
    meter: Rc<Meter>,
    entries: u64,
    limit: u64,
    stored: u64,
    buffer: Vec<u8>,
}

/// What the streams may still give, in all and for the description of one entry.
struct Meter {
    left: Cell<u64>,
    ration: Cell<u64>,
    exceeded: Cell<bool>,
    stop: Stop,
}

/// A stream that gives no more than its meter allows.
struct Metered<R> {
    stream: R,
    meter: Rc<Meter>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Meter { left, ration, exceeded, stop } = &*self.meter;
        if stop.check().is_err() {
            return Err(io::Error::other("nobody waits for it any more"));
        }
        if ration.get() == 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an entry's name or attributes are too long"));
        }
        let most = usize::try_from(ration.get()).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.stream.read(buffer.get_mut(..most).unwrap_or_default())? as u64;
        ration.set(ration.get().saturating_sub(read));
        match left.get().checked_sub(read) {
            Some(rest) => left.set(rest),
            None => {
                exceeded.set(true);
                return Err(io::Error::other("larger than allowed"));
            }
        }
        Ok(read as usize)
    }
}

impl Unpacker {
    /// Unpacks into an empty directory; the layers' streams may have at most so many bytes together.
    pub(crate) fn new(root: &Path, limit: u64, stop: &Stop) -> Result<Unpacker, ImageError> {
        let tree = Tree::new(root).map_err(ImageError::at(root))?;
        let (left, ration) = (Cell::new(limit), Cell::new(u64::MAX));
        let meter = Rc::new(Meter { left, ration, exceeded: Cell::new(false), stop: stop.clone() });
        Ok(Unpacker { tree, root: root.into(), meter, entries: 0, limit, stored: 0, buffer: vec![0; PIECE] })
    }

    /// Unpacks a layer on top of those before it, and reads its stream to the end.
    pub(crate) fn layer(&mut self, stream: impl Read) -> Result<(), ImageError> {
        self.tree.begin_layer();
        let mut archive = Archive::new(Metered { stream, meter: self.meter.clone() });
        let mut entries = archive.entries().map_err(|error| self.broken(&error))?;
        loop {
            self.meter.ration.set(MAX_DESCRIPTION);
            let Some(entry) = entries.next() else { break };
            let mut entry = entry.map_err(|error| self.broken(&error))?;
            self.meter.ration.set(u64::MAX);
            self.entry(&mut entry)?;
            // To its end, so that what lies between two entries is only the description of the second.
            io::copy(&mut entry, &mut io::sink()).map_err(|error| self.broken(&error))?;
        }
        // The digest is that of the whole stream, padding included.
        self.meter.ration.set(u64::MAX);
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(|error| self.broken(&error))?;
        Ok(())
    }

    /// The bytes of disk that the layers took, without what later ones removed again; all of it is on the disk then.
    pub(crate) fn finish(self) -> Result<u64, ImageError> {
        self.tree.sync().map_err(ImageError::at(&self.root))?;
        Ok(self.stored)
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), ImageError> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            let limit = format!("{MAX_ENTRIES} files and directories");
            return Err(ImageError::TooLarge { what: "the image".into(), limit });
        }
        self.stored += BLOCK;
        let name = entry.path_bytes().into_owned();
        let placed = self.parse(entry, &name).and_then(|(path, owner)| self.place(entry, &path, owner));
        placed.map_err(|trouble| match trouble {
            Trouble::Stream(error) => self.broken(&error),
            Trouble::Tree(Fault::Refused(reason)) => refused(&name, reason),
            Trouble::Tree(Fault::Machine(error)) => ImageError::at(&self.root)(error),
        })
    }

    fn parse(&self, entry: &mut Entry<'_, impl Read>, name: &[u8]) -> Result<(PathBuf, Ownership), Trouble> {
        let kind = entry.header().entry_type();
        // Of an entry that is a list of extensions itself, this would read all into memory; such lists are not listened to.
        if !kind.is_pax_global_extensions() && !kind.is_pax_local_extensions() {
            for extension in entry.pax_extensions().map_err(Trouble::Stream)?.into_iter().flatten() {
                if extension.map_err(Trouble::Stream)?.key_bytes().starts_with(b"GNU.sparse.") {
                    return Err(Fault::Refused(SPARSE.into()).into());
                }
            }
        }
        let path = plain_path(name).map_err(Fault::Refused)?;
        Ok((path, ownership(entry).map_err(Fault::Refused)?))
    }

    fn place(&mut self, entry: &mut Entry<'_, impl Read>, path: &Path, owner: Ownership) -> Result<(), Trouble> {
        let kind = entry.header().entry_type();
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            if kind.is_dir() {
                self.tree.own_root(owner)?;
            }
            return Ok(());
        };
        if let Some(hidden) = name.as_bytes().strip_prefix(REMOVED) {
            return self.whiteout(parent, name, hidden);
        }
        match kind {
            EntryType::Directory => self.tree.directory(parent, name, owner)?,
            EntryType::Regular | EntryType::Continuous => {
                let file = self.tree.file(parent, name)?;
                self.write(entry, file, owner)?;
            }
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                if target.is_empty() || target.len() >= MAX_PATH || target.contains(&0) {
                    return Err(Fault::Refused("a symbolic link without a target that can be".into()).into());
                }
                self.tree.symlink(parent, name, OsStr::from_bytes(&target), owner)?;
            }
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = plain_path(&target).map_err(|reason| Fault::Refused(format!("a hard link: {reason}")))?;
                let (Some(above), Some(last)) = (target.parent(), target.file_name()) else {
                    return Err(Fault::Refused("a hard link to the root".into()).into());
                };
                self.tree.hard_link(parent, name, (above, last))?;
            }
            EntryType::GNUSparse => return Err(Fault::Refused(SPARSE.into()).into()),
            // Devices and pipes, and notes of packers.
            _ => tracing::debug!(path = %path.display(), ?kind, "an image's entry that is not made"),
        }
        Ok(())
    }

    fn whiteout(&mut self, parent: &Path, name: &OsStr, hidden: &[u8]) -> Result<(), Trouble> {
        if name.as_bytes() == REMOVED_ALL {
            return Ok(self.tree.hide_all(parent)?);
        }
        if name.as_bytes().starts_with(NOTES) {
            return Ok(());
        }
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(Fault::Refused("a mark of removal without a name".into()).into());
        }
        Ok(self.tree.hide(parent, OsStr::from_bytes(hidden))?)
    }

    fn write(&mut self, entry: &mut Entry<'_, impl Read>, mut file: File, owner: Ownership) -> Result<(), Trouble> {
        let modified = entry.header().mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or_default();
        loop {
            let read = match entry.read(&mut self.buffer) {
                Ok(0) => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(Trouble::Stream)?,
            };
            file.write_all(self.buffer.get(..read).unwrap_or_default()).map_err(Fault::from)?;
            self.stored += (read as u64).next_multiple_of(BLOCK);
        }
        own(&file, owner)?;
        let time = Timespec { tv_sec: modified, tv_nsec: 0 };
        futimens(&file, &Timestamps { last_access: time, last_modification: time }).map_err(Fault::from)?;
        Ok(())
    }

    /// Why the stream ended early.
    fn broken(&self, error: &io::Error) -> ImageError {
        if let Err(given_up) = self.meter.stop.check() {
            return given_up;
        }
        if self.meter.exceeded.get() {
            let limit = format!("{} MiB unpacked", self.limit >> 20);
            return ImageError::TooLarge { what: "the image".into(), limit };
        }
        ImageError::malformed("a layer", error)
    }
}

/// What went wrong with one entry.
enum Trouble {
    Stream(io::Error),
    Tree(Fault),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Trouble {
        Trouble::Tree(fault)
    }
}

const SPARSE: &str = "sparse files are not taken: pack the image without them";

fn refused(name: &[u8], reason: String) -> ImageError {
    let shown: String = String::from_utf8_lossy(name).escape_debug().take(200).collect();
    ImageError::Entry { path: shown, reason }
}

/// A path below the root, without `.` and empty parts; a leading `/` means the root. `..` has no honest use in an image.
fn plain_path(name: &[u8]) -> Result<PathBuf, String> {
    if name.len() > MAX_PATH {
        return Err(format!("its path is longer than {MAX_PATH} bytes"));
    }
    if name.contains(&0) {
        return Err("its path holds a zero byte".into());
    }
    let mut path = PathBuf::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err("its path holds `..`".into()),
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Ok(path)
}

fn ownership(entry: &Entry<'_, impl Read>) -> Result<Ownership, String> {
    let header = entry.header();
    let fields = header.as_old();
    let owner = |what: &str, field: &[u8], number: io::Result<u64>| {
        let number = number_or_none(field, number)?;
        let small = u32::try_from(number).ok().filter(|_| number < OWNERS);
        small.ok_or_else(|| format!("its {what} is {number}: a sandbox has users and groups 0 to {}", OWNERS - 1))
    };
    let (user, group) = (owner("user", &fields.uid, header.uid())?, owner("group", &fields.gid, header.gid())?);
    let mode = number_or_none(&fields.mode, header.mode().map(u64::from))?;
    // Directories keep the bits by which groups and everybody share them.
    let kept = if header.entry_type().is_dir() { 0o3777 } else { 0o777 };
    Ok(Ownership { user, group, mode: (mode & kept) as u32 })
}

/// A field that was left blank is nought, as every reader takes it.
fn number_or_none(field: &[u8], number: io::Result<u64>) -> Result<u64, String> {
    if field.iter().all(|byte| matches!(byte, 0 | b' ')) {
        return Ok(0);
    }
    number.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
