//! What the renter knows of the files inside: those that it brought, and those whose content it has fetched, as they were then. What is new
//! or has changed since is the job's work: it is sent when the outputs are asked for, and missed if the sandbox ends before.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

/// Files of all uploads of one sandbox as tar streams: they are remembered in the agent's bounded memory, about 200 bytes each.
pub const MAX_UPLOADED: usize = 100_000;

/// Files remembered that came or went one by one. Further ones count as never fetched, which costs a warning and no file.
const MAX_NOTED: usize = 50_000;

/// See the module.
#[derive(Default)]
pub struct Manifest(Mutex<Files>);

#[derive(Default)]
struct Files {
    known: HashMap<PathBuf, Known>,
    uploaded: usize,
    noted: usize,
}

#[derive(Clone, Copy)]
struct Known {
    stamp: Stamp,
    whose: Whose,
}

/// How the renter comes to know a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Whose {
    /// The job wrote it, and the renter has fetched it.
    Fetched,
    /// The renter brought it.
    Brought,
}

/// What changes when a file changes. The change time is set by the kernel and cannot be turned back by a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    inode: u64,
    size: u64,
    mode: u32,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file that looks so.
    pub fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            inode: metadata.ino(),
            size: metadata.size(),
            mode: metadata.mode(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

impl Manifest {
    fn lock(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is the very file that the renter brought or fetched, unchanged, and which of these.
    pub fn knows(&self, path: &Path, metadata: &Metadata) -> Option<Whose> {
        let files = self.lock();
        files.known.get(path).filter(|known| known.stamp == Stamp::of(metadata)).map(|known| known.whose)
    }

    /// How many files uploads have brought.
    pub fn uploaded(&self) -> usize {
        self.lock().uploaded
    }

    /// Remembers a file that an upload has brought, by its path without links.
    pub fn bring(&self, path: PathBuf, metadata: &Metadata) {
        let mut files = self.lock();
        let known = Known { stamp: Stamp::of(metadata), whose: Whose::Brought };
        files.uploaded += usize::from(files.known.insert(path, known).is_none());
    }

    fn insert(&self, path: PathBuf, stamp: Stamp, whose: Whose) {
        let mut files = self.lock();
        let before = files.known.get(&path).copied();
        if before.is_none() {
            if files.noted >= MAX_NOTED {
                return;
            }
            files.noted += 1;
        }
        // what was brought stays so, though it is looked at again
        let whose = before.filter(|before| before.stamp == stamp).map_or(whose, |before| before.whose.max(whose));
        files.known.insert(path, Known { stamp, whose });
    }
}

/// What the renter has come to know of a file, or has done to one that it may know.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Note {
    /// It knows this file as it is now.
    Known {
        /// Its path without links, as bytes.
        path: Vec<u8>,
        /// How it looks.
        stamp: Stamp,
        /// How it came to be known.
        whose: Whose,
    },
    /// It has changed the permissions of a file or its name, and not its content: if it was known, it is so still.
    Changed {
        /// Its path before.
        before: Vec<u8>,
        /// How it looked.
        was: Stamp,
        /// Its path now.
        now: Vec<u8>,
        /// How it looks.
        stamp: Stamp,
    },
}

impl Note {
    /// Of an open file under the name that it has now. One that has none any more is nobody's.
    pub(crate) fn known(file: &File, whose: Whose) -> io::Result<Option<Note>> {
        let path = own_path(file)?;
        let (open, named) = (file.metadata()?, fs::symlink_metadata(&path)?);
        let same = (open.dev(), open.ino()) == (named.dev(), named.ino());
        Ok(same.then(|| Note::Known { path: bytes(path), stamp: Stamp::of(&named), whose }))
    }

    /// Of something brought that cannot be opened: a link.
    pub(crate) fn brought(path: PathBuf) -> io::Result<Note> {
        let stamp = Stamp::of(&fs::symlink_metadata(&path)?);
        Ok(Note::Known { path: bytes(path), stamp, whose: Whose::Brought })
    }

    /// Of a file that looked so, and has this path now.
    pub fn changed((before, was): (PathBuf, Stamp), now: PathBuf) -> io::Result<Note> {
        let stamp = Stamp::of(&fs::symlink_metadata(&now)?);
        Ok(Note::Changed { before: bytes(before), was, now: bytes(now), stamp })
    }
}

fn bytes(path: PathBuf) -> Vec<u8> {
    path.into_os_string().into_vec()
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}

/// Where notes are taken.
pub trait Notebook {
    /// Takes one. What cannot be noted counts as never fetched, which costs a warning and no file.
    fn take(&self, note: Note);

    /// Returns when whoever looks will find what was taken before: whoever asked is about to be answered.
    fn settle(&self) {}
}

impl Notebook for Manifest {
    fn take(&self, note: Note) {
        match note {
            Note::Known { path: bytes, stamp, whose } => self.insert(path(bytes), stamp, whose),
            Note::Changed { before, was, now, stamp } => {
                let (before, now) = (path(before), path(now));
                let mut files = self.lock();
                let Some(known) = files.known.get(&before).copied().filter(|known| known.stamp == was) else { return };
                if before != now && files.known.remove(&before).is_some() {
                    files.noted = files.noted.saturating_sub(1);
                }
                drop(files);
                self.insert(now, stamp, known.whose);
            }
        }
    }
}

/// The name of an open file or directory, without links.
pub(crate) fn own_path(file: impl AsFd) -> io::Result<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
}

/// What has passed of an open file, by which it turns out whether the renter knows all of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    opened: Stamp,
    /// Everything up to here was read, hashed or written.
    to: u64,
    /// Everything in it comes from here: it was empty, or was cut off where its content is known.
    fresh: bool,
    wrote: bool,
}

impl Passed {
    /// Of a file just opened, to be written or only read.
    pub(crate) fn begin(metadata: &Metadata, to_write: bool) -> Passed {
        Passed { opened: Stamp::of(metadata), to: 0, fresh: to_write && metadata.size() == 0, wrote: false }
    }

    /// This part was read or hashed.
    pub(crate) fn seen(&mut self, offset: u64, length: u64) {
        if offset <= self.to {
            self.to = self.to.max(offset.saturating_add(length));
        }
    }

    /// This part was written.
    pub(crate) fn written(&mut self, offset: u64, length: u64) {
        self.wrote = true;
        self.seen(offset, length);
    }

    /// It was cut off, or extended by a hole.
    pub(crate) fn resized(&mut self, size: u64) {
        self.wrote = true;
        self.fresh |= self.to >= size;
        self.to = self.to.min(size);
    }

    /// How the renter knows the file now, if it does.
    pub(crate) fn outcome(&self, now: &Metadata) -> Option<Whose> {
        match self.wrote {
            true => (self.fresh || self.to >= now.size()).then_some(Whose::Brought),
            false => (self.to >= now.size() && self.opened == Stamp::of(now)).then_some(Whose::Fetched),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    struct Place {
        folder: PathBuf,
        manifest: Manifest,
    }

    impl Place {
        fn new(name: &str) -> Place {
            let folder = std::env::temp_dir().join(format!("agent-manifest-{name}-{}", std::process::id()));
            fs::create_dir_all(&folder).unwrap();
            Place { folder: folder.canonicalize().unwrap(), manifest: Manifest::default() }
        }

        fn write(&self, name: &str, text: &str) -> PathBuf {
            let path = self.folder.join(name);
            fs::write(&path, text).unwrap();
            path
        }

        fn note(&self, file: &File, whose: Whose) {
            self.manifest.take(Note::known(file, whose).unwrap().unwrap());
        }

        fn knows(&self, path: &Path) -> Option<Whose> {
            self.manifest.knows(path, &fs::symlink_metadata(path).unwrap())
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }

    #[test]
    fn what_was_fetched_is_unknown_again_when_it_changes_and_what_was_brought_stays_brought() {
        let place = Place::new("fetched");
        let path = place.write("result", "one");
        assert_eq!(place.knows(&path), None);
        place.note(&File::open(&path).unwrap(), Whose::Fetched);
        assert_eq!(place.knows(&path), Some(Whose::Fetched));
        place.write("result", "three");
        assert_eq!(place.knows(&path), None);
        place.note(&File::open(&path).unwrap(), Whose::Brought);
        place.note(&File::open(&path).unwrap(), Whose::Fetched);
        assert_eq!(place.knows(&path), Some(Whose::Brought));
    }

    #[test]
    fn a_file_is_noted_under_the_name_that_it_has_in_the_end() {
        let place = Place::new("renamed");
        let part = place.write("part", "data");
        let (open, whole) = (File::open(&part).unwrap(), place.folder.join("whole"));
        fs::rename(&part, &whole).unwrap();
        place.note(&open, Whose::Brought);
        assert_eq!(place.knows(&whole), Some(Whose::Brought));

        let other = place.folder.join("other");
        let was = Stamp::of(&fs::symlink_metadata(&whole).unwrap());
        fs::rename(&whole, &other).unwrap();
        place.manifest.take(Note::changed((whole.clone(), was), other.clone()).unwrap());
        assert_eq!(place.knows(&other), Some(Whose::Brought));

        let stranger = place.write("stranger", "data");
        let was = Stamp::of(&fs::symlink_metadata(&stranger).unwrap());
        place.manifest.take(Note::changed((stranger.clone(), was), stranger.clone()).unwrap());
        assert_eq!(place.knows(&stranger), None, "it was not known before");

        fs::remove_file(&other).unwrap();
        assert!(Note::known(&open, Whose::Brought).is_err(), "it has no name");
    }

    #[test]
    fn a_file_is_known_only_when_all_of_it_has_passed() {
        let place = Place::new("passed");
        let path = place.write("log", "0123456789");
        let metadata = fs::symlink_metadata(&path).unwrap();
        let read = |parts: &[(u64, u64)]| {
            let mut passed = Passed::begin(&metadata, false);
            parts.iter().for_each(|(offset, length)| passed.seen(*offset, *length));
            passed.outcome(&fs::symlink_metadata(&path).unwrap())
        };
        assert_eq!(read(&[(0, 4), (4, 6)]), Some(Whose::Fetched));
        assert_eq!(read(&[(0, 4), (5, 5)]), None, "one byte is missing");
        assert_eq!(read(&[(6, 4), (6, 4), (6, 4)]), None, "the end again and again");

        let mut edited = Passed::begin(&metadata, true);
        edited.written(3, 2);
        assert_eq!(edited.outcome(&metadata), None, "most of it is the job's");
        let mut rewritten = Passed::begin(&metadata, true);
        rewritten.written(0, 10);
        assert_eq!(rewritten.outcome(&metadata), Some(Whose::Brought));
        let mut resumed = Passed::begin(&metadata, true);
        resumed.seen(0, 5);
        resumed.resized(5);
        resumed.written(8, 2);
        assert_eq!(resumed.outcome(&metadata), Some(Whose::Brought), "with a hole in it");

        fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        assert_eq!(read(&[(0, 14)]), None, "it grew while it was read");
    }
}
