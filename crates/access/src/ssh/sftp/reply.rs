//! What a client of SFTP is answered.

use super::{
    attributes,
    packet::{MAX_PACKET, Writer},
};
use sandbox::{FileAnswer, FileCallError, FileEntry, FileErrorKind, FileMetadata, FileSpace, MAX_HANDLES, MAX_PIECE};
use std::{os::unix::ffi::OsStrExt, path::Path};
use tokio_util::bytes::Bytes;

const VERSION: u8 = 2;
const STATUS: u8 = 101;
const HANDLE: u8 = 102;
const DATA: u8 = 103;
const NAME: u8 = 104;
const ATTRIBUTES: u8 = 105;
const EXTENDED: u8 = 201;

/// What came of a request (`SSH_FX_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    Ok = 0,
    End = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    Unsupported = 8,
}

/// The version that both speak, and the extensions of OpenSSH that are known here.
pub(super) fn version() -> Bytes {
    let extensions = [
        ("posix-rename@openssh.com", "1"),
        ("statvfs@openssh.com", "2"),
        ("fstatvfs@openssh.com", "2"),
        ("hardlink@openssh.com", "1"),
        ("fsync@openssh.com", "1"),
        ("lsetstat@openssh.com", "1"),
        ("limits@openssh.com", "1"),
        ("expand-path@openssh.com", "1"),
    ];
    let start = Writer::new(VERSION, 0).number(3);
    extensions
        .iter()
        .fold(start, |out, (name, version)| out.string(name.as_bytes()).string(version.as_bytes()))
        .finish()
}

pub(super) fn status(id: u32, status: Status, message: &str) -> Bytes {
    Writer::new(STATUS, message.len() + 32)
        .number(id)
        .number(status as u32)
        .string(message.as_bytes())
        .string(b"en")
        .finish()
}

pub(super) fn done(id: u32) -> Bytes {
    status(id, Status::Ok, "Success")
}

pub(super) fn end(id: u32) -> Bytes {
    status(id, Status::End, "End of file")
}

pub(super) fn handle(id: u32, handle: u32) -> Bytes {
    Writer::new(HANDLE, 16).number(id).string(&handle.to_be_bytes()).finish()
}

/// A piece of a file; where there is none, the end.
pub(super) fn data(id: u32, bytes: &[u8]) -> Bytes {
    if bytes.is_empty() { end(id) } else { Writer::new(DATA, bytes.len() + 8).number(id).string(bytes).finish() }
}

/// Entries of a directory; where there are none, the end.
pub(super) fn names(id: u32, entries: &[FileEntry]) -> Bytes {
    if entries.is_empty() {
        return end(id);
    }
    // there are a hundred at most
    let start =
        Writer::new(NAME, entries.len() * 128).number(id).number(u32::try_from(entries.len()).unwrap_or_default());
    let one = |out: Writer, entry: &FileEntry| {
        let long = attributes::long_name(&entry.name.to_string_lossy(), &entry.metadata);
        let out = out.string(entry.name.as_os_str().as_bytes()).string(long.as_bytes());
        attributes::write(out, &entry.metadata)
    };
    entries.iter().fold(start, one).finish()
}

/// How large requests may be, so that each is one piece of the file protocol.
pub(super) fn limits(id: u32) -> Bytes {
    let piece = MAX_PIECE as u64;
    Writer::new(EXTENDED, 40)
        .number(id)
        .long(MAX_PACKET.into())
        .long(piece)
        .long(piece)
        .long(MAX_HANDLES as u64)
        .finish()
}

/// The sandbox's answer as it goes to the client; nothing if it answers no request of a client's.
pub(super) fn answer(id: u32, answer: &FileAnswer) -> Option<Bytes> {
    Some(match answer {
        FileAnswer::Done => done(id),
        FileAnswer::Metadata(file) => metadata(id, file),
        FileAnswer::Path(path) => one_name(id, path),
        FileAnswer::Space(space) => room(id, space),
        _ => return None,
    })
}

fn metadata(id: u32, file: &FileMetadata) -> Bytes {
    attributes::write(Writer::new(ATTRIBUTES, 64).number(id), file).finish()
}

/// A path alone, with the attributes that say nothing.
fn one_name(id: u32, path: &Path) -> Bytes {
    let name = path.as_os_str().as_bytes();
    Writer::new(NAME, 2 * name.len() + 32).number(id).number(1).string(name).string(name).number(0).finish()
}

fn room(id: u32, space: &FileSpace) -> Bytes {
    let FileSpace { block_size, blocks, free_blocks, available_blocks, files, free_files, longest_name } = *space;
    [block_size, block_size, blocks, free_blocks, available_blocks, files, free_files, free_files, 0, 0, longest_name]
        .into_iter()
        .fold(Writer::new(EXTENDED, 96).number(id), Writer::long)
        .finish()
}

/// A failure as it goes to the client. Only one that ends the way to the files is an error here.
pub(super) fn failure(id: u32, error: FileCallError) -> Result<Bytes, FileCallError> {
    match error {
        FileCallError::Failed(error) => {
            let code = match error.kind {
                FileErrorKind::NotFound => Status::NoSuchFile,
                FileErrorKind::PermissionDenied => Status::PermissionDenied,
                FileErrorKind::Unsupported => Status::Unsupported,
                _ => Status::Failure,
            };
            Ok(status(id, code, &error.message))
        }
        broken => Err(broken),
    }
}
