//! The content of open files.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::file_protocol::{FileAnswer, FileError, FileErrorKind, FileExtent, FileHash, MAX_HASHED, MAX_PIECE};
use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use super::{Outcome, error, system};

/// Bytes hashed at once: enough for the widest instructions, and little on the heap of every connection.
const HASH_BUFFER: usize = 64 * 1024;

pub(super) fn read(file: &File, offset: u64, length: u32) -> Outcome {
    let length = length as usize;
    if length > MAX_PIECE {
        let message = format!("{length} bytes at once, at most {MAX_PIECE} are read");
        return Err(error(FileErrorKind::BadRequest, message));
    }
    let mut bytes = vec![0; length];
    let filled = fill(file, &mut bytes, offset).map_err(|error| of(&error))?;
    bytes.truncate(filled);
    Ok((FileAnswer::Data, bytes))
}

pub(super) fn write(file: &File, offset: u64, bytes: &[u8]) -> Result<FileAnswer, FileError> {
    file.write_all_at(bytes, offset).map_err(|error| of(&error))?;
    Ok(FileAnswer::Done)
}

pub(super) fn sync(file: &File) -> Result<FileAnswer, FileError> {
    file.sync_all().map_err(|error| of(&error))?;
    Ok(FileAnswer::Done)
}

pub(super) fn hash(file: &File, from: u64, length: u64) -> Result<FileAnswer, FileError> {
    if length > MAX_HASHED {
        let message = format!("{length} bytes at once, at most {MAX_HASHED} are hashed");
        return Err(error(FileErrorKind::BadRequest, message));
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; HASH_BUFFER];
    let mut done = 0;
    while done < length {
        let room = usize::try_from(length - done).unwrap_or(HASH_BUFFER).min(HASH_BUFFER);
        let filled = fill(file, &mut buffer[..room], from.saturating_add(done)).map_err(|error| of(&error))?;
        hasher.update(&buffer[..filled]);
        done += filled as u64;
        if filled < room {
            break;
        }
    }
    Ok(FileAnswer::Hash { hash: FileHash(hasher.finalize().into()), length: done })
}

pub(super) fn extent(file: &File, from: u64) -> Result<FileAnswer, FileError> {
    let start = match seek(file, SeekFrom::Data(from)) {
        Ok(start) => start,
        // Only a hole is left, or nothing.
        Err(Errno::NXIO) => return Ok(FileAnswer::Extent(None)),
        Err(errno) => return Err(system(errno)),
    };
    let end = seek(file, SeekFrom::Hole(start)).map_err(system)?;
    Ok(FileAnswer::Extent(Some(FileExtent { start, end })))
}

/// Reads until the buffer is full or the file is at its end.
pub(super) fn fill(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// An error of the system's, as the standard library has it.
pub(super) fn of(cause: &io::Error) -> FileError {
    match Errno::from_io_error(cause) {
        Some(errno) => system(errno),
        None => error(FileErrorKind::Other, cause.to_string()),
    }
}
