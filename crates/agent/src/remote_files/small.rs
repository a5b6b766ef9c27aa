//! Small files, whole in one request: ten thousand of them cost ten thousand messages and not five times as many.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::file_protocol::{FileAnswer, FileError, FileErrorKind, FileHash, FileTime, MAX_PIECE, OpenMode};
use crate::manifest::Passed;
use rustix::fs::{AtFlags, fchmod, renameat, unlinkat};
use rustix::io::Errno;

use super::content::{fill, of};
use super::tree::{metadata, set_times};
use super::{error, failed, place};

/// Sets one file under way apart from another, of whichever connection.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Attempts at a name that nothing has: a job may have left or may even put something there.
const ATTEMPTS: u32 = 16;

/// Writes a file beside its place, and then puts it there: the file.
pub(super) fn store(
    path: &Path,
    permissions: u32,
    modified: Option<FileTime>,
    hash: FileHash,
    bytes: &[u8],
) -> Result<File, FileError> {
    if blake3::hash(bytes).as_bytes() != &hash.0 {
        let message = format!("{}: arrived damaged: its hash differs from the sender's", path.display());
        return Err(error(FileErrorKind::Damaged, message));
    }
    let (parent, name) = place::parent(path)?;
    place::refuse_memory(&parent, path)?;
    let (beside, mut file) = begin(&parent).map_err(|errno| failed(path, errno))?;
    let written = || -> Result<(), FileError> {
        file.write_all(bytes).map_err(|error| of(&error))?;
        fchmod(&file, place::permissions(permissions)).map_err(|errno| failed(path, errno))?;
        if let Some(modified) = modified {
            set_times(&file, None, Some(modified)).map_err(|errno| failed(path, errno))?;
        }
        renameat(&parent, &beside, &parent, name).map_err(|errno| failed(path, errno))
    }();
    if written.is_err() {
        let _ = unlinkat(&parent, &beside, AtFlags::empty());
    }
    written.map(|()| file)
}

/// A new file under a name that nothing had.
fn begin(parent: &OwnedFd) -> Result<(OsString, File), Errno> {
    let mut outcome = Err(Errno::EXIST);
    for _ in 0..ATTEMPTS {
        let name = OsString::from(format!(".gpulease-part-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        outcome = place::create_in(parent, &name).map(|file| (name, file));
        if !matches!(outcome, Err(Errno::EXIST)) {
            break;
        }
    }
    outcome
}

/// The answer, the content, and the file that it is of with what has passed of it.
type Fetched = (FileAnswer, Vec<u8>, (File, Passed));

/// Reads a file that is no longer than it may be.
pub(super) fn fetch(path: &Path, longest: u32) -> Result<Fetched, FileError> {
    let longest = (longest as usize).min(MAX_PIECE);
    let file = place::file(path, OpenMode { read: true, ..OpenMode::default() })?;
    let metadata = metadata(&place::stat(&file, path)?);
    let mut passed = Passed::begin(&file.metadata().map_err(|error| of(&error))?, false);
    let mut bytes = vec![0; usize::try_from(metadata.size).unwrap_or(usize::MAX).min(longest) + 1];
    let filled = fill(&file, &mut bytes, 0).map_err(|error| of(&error))?;
    if filled > longest || metadata.size > longest as u64 {
        let message = format!("{}: longer than {longest} bytes", path.display());
        return Err(error(FileErrorKind::TooLarge, message));
    }
    bytes.truncate(filled);
    let hash = FileHash(blake3::hash(&bytes).into());
    passed.seen(0, filled as u64);
    Ok((FileAnswer::Fetched { metadata, hash }, bytes, (file, passed)))
}
