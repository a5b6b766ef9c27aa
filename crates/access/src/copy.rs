//! Copying files and folders between this machine and a rental: with permissions, times, links and holes, and so that a copy that was broken
//! off goes on where it was.
//!
//! A copy is first settled, by [`Upload::new`] or [`Download::new`]: what goes where. Then it is run, over any stream of files; when the
//! stream breaks, it is run again over the next one. What is there already, by length and time of change, is not copied again. A large file
//! is written under a name of its own beside its place, and put there when it is whole and every block of it has the same hash at both ends; a
//! part that an earlier run left is kept as far as its blocks agree. Small files go whole, one message each, thousands under way.
//!
//! What comes from a rental is a stranger's word. Below the folder that was asked for, no link is followed and no name may be more than a
//! name, so nothing is ever written elsewhere.

mod download;
mod large;
mod local;
mod pattern;
mod upload;

pub use crate::archive::Contents;
pub use download::Download;
pub use upload::Upload;

use crate::{AccessError, files::FileMetadata};
use sandbox::{FileKind, MAX_PIECE};
use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::{OsStrExt, OsStringExt},
    sync::{Mutex, PoisonError},
};

/// Files up to this length go in one message.
const SMALL: u64 = MAX_PIECE as u64;

/// What a large file is compared and hashed by: little is copied twice, and one hash of 32 bytes is nothing beside it.
const BLOCK: u64 = 8 << 20;

/// Large files copied at once, so that the distance is not waited for between one and the next.
const LARGE_AT_ONCE: usize = 8;

/// Folders looked into at once, for the same reason.
const FOLDERS_AT_ONCE: usize = 16;

/// What the name of an unfinished file ends with.
const UNFINISHED: &str = ".gpulease-part";

/// Bytes of a name that Linux takes.
const LONGEST_NAME: usize = 255;

/// How far a copy is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// What there is to copy, as far as it is known: it grows while folders are looked into.
    pub found: Contents,
    /// What is at its place, or was there before.
    pub done: Contents,
    /// Of it, what was there before.
    pub kept: Contents,
    /// Pipes, sockets and devices, which are not copied.
    pub left_out: u64,
}

/// Hears how far a copy is, often: it should only take note.
pub type Watch<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// Counts, and tells.
struct Counter<'a> {
    progress: Mutex<Progress>,
    watch: Watch<'a>,
}

impl<'a> Counter<'a> {
    fn new(watch: Watch<'a>) -> Self {
        Self { progress: Mutex::new(Progress::default()), watch }
    }

    fn found(&self, files: u64, bytes: u64) {
        self.change(|progress| add(&mut progress.found, files, bytes));
    }

    fn done(&self, files: u64, bytes: u64) {
        self.change(|progress| add(&mut progress.done, files, bytes));
    }

    /// Found, and done before.
    fn kept(&self, files: u64, bytes: u64) {
        self.change(|progress| {
            add(&mut progress.kept, files, bytes);
            add(&mut progress.done, files, bytes);
        });
    }

    fn left_out(&self) {
        self.change(|progress| progress.left_out += 1);
    }

    fn change(&self, change: impl FnOnce(&mut Progress)) {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut progress);
        let now = *progress;
        drop(progress);
        (self.watch)(now);
    }

    fn progress(&self) -> Progress {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(contents: &mut Contents, files: u64, bytes: u64) {
    contents.files += files;
    contents.bytes += bytes;
}

/// Whether a file of one end is the other end's already: as `rsync` sees it, by length and time.
fn same(one: &FileMetadata, other: &FileMetadata) -> bool {
    (one.kind, other.kind) == (FileKind::File, FileKind::File)
        && one.size == other.size
        && one.modified == other.modified
}

/// Whether so much of a file is holes that they are worth looking for.
fn is_sparse(metadata: &FileMetadata) -> bool {
    metadata.allocated < metadata.size
}

/// Under which name a file is written until it is whole.
fn part_name(name: &OsStr) -> OsString {
    let whole = [b".", name.as_bytes(), UNFINISHED.as_bytes()].concat();
    if whole.len() <= LONGEST_NAME {
        return OsString::from_vec(whole);
    }
    OsString::from(format!(".{}{UNFINISHED}", blake3::hash(name.as_bytes()).to_hex()))
}

/// The end of the block that a place is in, or of the file.
fn block_end(at: u64, size: u64) -> u64 {
    (at / BLOCK).saturating_add(1).saturating_mul(BLOCK).min(size)
}

/// Runs something that blocks on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, AccessError> + Send + 'static,
) -> Result<T, AccessError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| AccessError::Interrupted)?
}
