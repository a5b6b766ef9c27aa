//! Requests and replies about files as protobuf messages, and back. What comes in is checked for its shape only: what it asks for is the
//! agent's to judge, inside the sandbox.

use sandbox::{
    FileAnswer, FileChange, FileEntry, FileError, FileErrorKind, FileExtent, FileHash, FileKind, FileMetadata,
    FileOperation, FileReply, FileRequest, FileSpace, FileTime, OpenMode, Target,
};
use std::{ffi::OsString, os::unix::ffi::OsStringExt, path::PathBuf};
use wire::{
    WireError,
    proto::{self, file_reply::Answer, file_request::Operation},
};

/// The message of a request.
pub fn request_to_proto(request: FileRequest) -> proto::FileRequest {
    use FileOperation as Ask;
    let data = request.bytes;
    let operation = match request.operation {
        Ask::Open { handle, path, mode } => Operation::Open(open_to_proto(handle, path, mode)),
        Ask::OpenDirectory { handle, path } => {
            Operation::OpenDirectory(proto::FileOpenDirectory { handle, path: bytes(path) })
        }
        Ask::Close { handle } => Operation::Close(proto::FileClose { handle }),
        Ask::Read { handle, offset, length } => Operation::Read(proto::FileRead { handle, offset, length }),
        Ask::Write { handle, offset } => Operation::Write(proto::FileWrite { handle, offset, data }),
        Ask::List { handle } => Operation::List(proto::FileList { handle }),
        Ask::Stat { target } => Operation::Stat(target_to_proto(target)),
        Ask::Set { target, change } => Operation::Set(proto::FileSet {
            target: Some(target_to_proto(target)),
            size: change.size,
            permissions: change.permissions,
            accessed: change.accessed.map(time_to_proto),
            modified: change.modified.map(time_to_proto),
        }),
        Ask::MakeDirectory { path, permissions } => {
            Operation::MakeDirectory(proto::FileMakeDirectory { path: bytes(path), permissions })
        }
        Ask::Remove { path } => Operation::Remove(proto::FileRemove { path: bytes(path) }),
        Ask::RemoveDirectory { path } => Operation::RemoveDirectory(proto::FileRemoveDirectory { path: bytes(path) }),
        Ask::Rename { from, to, replace } => {
            Operation::Rename(proto::FileRename { from: bytes(from), to: bytes(to), replace })
        }
        Ask::Link { from, to } => Operation::Link(proto::FileLink { from: bytes(from), to: bytes(to) }),
        Ask::Symlink { target, path } => {
            Operation::Symlink(proto::FileSymlink { target: bytes(target), path: bytes(path) })
        }
        Ask::ReadLink { path } => Operation::ReadLink(proto::FileReadLink { path: bytes(path) }),
        Ask::RealPath { path } => Operation::RealPath(proto::FileRealPath { path: bytes(path) }),
        Ask::Space { path } => Operation::Space(proto::FileSpaceAt { path: bytes(path) }),
        Ask::Sync { handle } => Operation::Sync(proto::FileSync { handle }),
        Ask::Hash { handle, from, length } => Operation::Hash(proto::FileHashPart { handle, from, length }),
        Ask::Extent { handle, from } => Operation::Extent(proto::FileNextExtent { handle, from }),
        Ask::Store { path, permissions, modified, hash } => Operation::Store(proto::FileStore {
            path: bytes(path),
            data,
            permissions,
            modified: modified.map(time_to_proto),
            blake3: hash.0.to_vec(),
        }),
        Ask::Fetch { path, longest } => Operation::Fetch(proto::FileFetch { path: bytes(path), longest }),
    };
    proto::FileRequest { number: request.number, operation: Some(operation) }
}

/// What a message asks for.
pub fn request_from_proto(message: proto::FileRequest) -> Result<FileRequest, WireError> {
    use FileOperation as Ask;
    let mut data = Vec::new();
    let operation = match message.operation.ok_or(WireError::Missing("operation"))? {
        Operation::Open(open) => open_from_proto(open),
        Operation::OpenDirectory(open) => Ask::OpenDirectory { handle: open.handle, path: path(open.path) },
        Operation::Close(close) => Ask::Close { handle: close.handle },
        Operation::Read(read) => Ask::Read { handle: read.handle, offset: read.offset, length: read.length },
        Operation::Write(write) => {
            data = write.data;
            Ask::Write { handle: write.handle, offset: write.offset }
        }
        Operation::List(list) => Ask::List { handle: list.handle },
        Operation::Stat(target) => Ask::Stat { target: target_from_proto(target)? },
        Operation::Set(set) => Ask::Set {
            target: target_from_proto(set.target.ok_or(WireError::Missing("target"))?)?,
            change: FileChange {
                size: set.size,
                permissions: set.permissions,
                accessed: set.accessed.map(time_from_proto),
                modified: set.modified.map(time_from_proto),
            },
        },
        Operation::MakeDirectory(make) => Ask::MakeDirectory { path: path(make.path), permissions: make.permissions },
        Operation::Remove(remove) => Ask::Remove { path: path(remove.path) },
        Operation::RemoveDirectory(remove) => Ask::RemoveDirectory { path: path(remove.path) },
        Operation::Rename(rename) => {
            Ask::Rename { from: path(rename.from), to: path(rename.to), replace: rename.replace }
        }
        Operation::Link(link) => Ask::Link { from: path(link.from), to: path(link.to) },
        Operation::Symlink(link) => Ask::Symlink { target: path(link.target), path: path(link.path) },
        Operation::ReadLink(read) => Ask::ReadLink { path: path(read.path) },
        Operation::RealPath(real) => Ask::RealPath { path: path(real.path) },
        Operation::Space(space) => Ask::Space { path: path(space.path) },
        Operation::Sync(sync) => Ask::Sync { handle: sync.handle },
        Operation::Hash(part) => Ask::Hash { handle: part.handle, from: part.from, length: part.length },
        Operation::Extent(next) => Ask::Extent { handle: next.handle, from: next.from },
        Operation::Store(store) => {
            data = store.data;
            Ask::Store {
                path: path(store.path),
                permissions: store.permissions,
                modified: store.modified.map(time_from_proto),
                hash: hash(store.blake3)?,
            }
        }
        Operation::Fetch(fetch) => Ask::Fetch { path: path(fetch.path), longest: fetch.longest },
    };
    Ok(FileRequest { number: message.number, operation, bytes: data })
}

/// The message of a reply.
pub fn reply_to_proto(reply: FileReply) -> proto::FileReply {
    let answer = match reply.answer {
        FileAnswer::Done => Answer::Done(proto::FileDone {}),
        FileAnswer::Data => Answer::Data(reply.bytes),
        FileAnswer::Metadata(metadata) => Answer::Metadata(metadata_to_proto(metadata)),
        FileAnswer::Entries { entries, last } => {
            let entry = |entry: FileEntry| proto::FileEntry {
                name: bytes(entry.name),
                metadata: Some(metadata_to_proto(entry.metadata)),
            };
            Answer::Entries(proto::FileEntries { entries: entries.into_iter().map(entry).collect(), last })
        }
        FileAnswer::Path(path) => Answer::Path(bytes(path)),
        FileAnswer::Space(space) => Answer::Space(proto::FileSpace {
            block_size: space.block_size,
            blocks: space.blocks,
            free_blocks: space.free_blocks,
            available_blocks: space.available_blocks,
            files: space.files,
            free_files: space.free_files,
            longest_name: space.longest_name,
        }),
        FileAnswer::Hash { hash, length } => Answer::Hash(proto::FileHash { blake3: hash.0.to_vec(), length }),
        FileAnswer::Extent(None) => Answer::NoExtent(proto::FileNoExtent {}),
        FileAnswer::Extent(Some(extent)) => Answer::Extent(proto::FileExtent { start: extent.start, end: extent.end }),
        FileAnswer::Fetched { metadata, hash } => Answer::Fetched(proto::FileFetched {
            data: reply.bytes,
            metadata: Some(metadata_to_proto(metadata)),
            blake3: hash.0.to_vec(),
        }),
        FileAnswer::Failed(error) => {
            Answer::Failed(proto::FileFailed { cause: cause_to_proto(error.kind).into(), message: error.message })
        }
    };
    proto::FileReply { number: reply.number, answer: Some(answer) }
}

/// What a message answers.
pub fn reply_from_proto(message: proto::FileReply) -> Result<FileReply, WireError> {
    let mut data = Vec::new();
    let answer = match message.answer.ok_or(WireError::Missing("answer"))? {
        Answer::Done(proto::FileDone {}) => FileAnswer::Done,
        Answer::Data(content) => {
            data = content;
            FileAnswer::Data
        }
        Answer::Metadata(metadata) => FileAnswer::Metadata(metadata_from_proto(metadata)),
        Answer::Entries(batch) => FileAnswer::Entries {
            entries: batch.entries.into_iter().map(entry_from_proto).collect::<Result<_, _>>()?,
            last: batch.last,
        },
        Answer::Path(bytes) => FileAnswer::Path(path(bytes)),
        Answer::Space(space) => FileAnswer::Space(FileSpace {
            block_size: space.block_size,
            blocks: space.blocks,
            free_blocks: space.free_blocks,
            available_blocks: space.available_blocks,
            files: space.files,
            free_files: space.free_files,
            longest_name: space.longest_name,
        }),
        Answer::Hash(part) => FileAnswer::Hash { hash: hash(part.blake3)?, length: part.length },
        Answer::NoExtent(proto::FileNoExtent {}) => FileAnswer::Extent(None),
        Answer::Extent(extent) => FileAnswer::Extent(Some(FileExtent { start: extent.start, end: extent.end })),
        Answer::Fetched(fetched) => {
            data = fetched.data;
            FileAnswer::Fetched {
                metadata: metadata_from_proto(fetched.metadata.ok_or(WireError::Missing("metadata"))?),
                hash: hash(fetched.blake3)?,
            }
        }
        Answer::Failed(failed) => FileAnswer::Failed(FileError {
            kind: cause_from_proto(failed.cause()),
            message: wire::shown(&failed.message),
        }),
    };
    Ok(FileReply { number: message.number, answer, bytes: data })
}

fn open_to_proto(handle: u32, path: PathBuf, mode: OpenMode) -> proto::FileOpen {
    proto::FileOpen {
        handle,
        path: bytes(path),
        read: mode.read,
        write: mode.write,
        append: mode.append,
        create: mode.create,
        truncate: mode.truncate,
        exclusive: mode.exclusive,
        permissions: mode.permissions,
    }
}

fn open_from_proto(open: proto::FileOpen) -> FileOperation {
    let mode = OpenMode {
        read: open.read,
        write: open.write,
        append: open.append,
        create: open.create,
        truncate: open.truncate,
        exclusive: open.exclusive,
        permissions: open.permissions,
    };
    FileOperation::Open { handle: open.handle, path: path(open.path), mode }
}

fn target_to_proto(target: Target) -> proto::FileTarget {
    use proto::file_target::Target as Message;
    match target {
        Target::Handle(handle) => proto::FileTarget { target: Some(Message::Handle(handle)), follow: false },
        Target::Path { path, follow } => proto::FileTarget { target: Some(Message::Path(bytes(path))), follow },
    }
}

fn target_from_proto(target: proto::FileTarget) -> Result<Target, WireError> {
    use proto::file_target::Target as Message;
    Ok(match target.target.ok_or(WireError::Missing("target"))? {
        Message::Handle(handle) => Target::Handle(handle),
        Message::Path(bytes) => Target::Path { path: path(bytes), follow: target.follow },
    })
}

fn time_to_proto(time: FileTime) -> proto::FileTime {
    proto::FileTime { seconds: time.seconds, nanoseconds: time.nanoseconds }
}

fn time_from_proto(time: proto::FileTime) -> FileTime {
    FileTime { seconds: time.seconds, nanoseconds: time.nanoseconds }
}

fn metadata_to_proto(metadata: FileMetadata) -> proto::FileMetadata {
    let kind = match metadata.kind {
        FileKind::File => proto::FileKind::File,
        FileKind::Directory => proto::FileKind::Directory,
        FileKind::Symlink => proto::FileKind::Symlink,
        FileKind::Other => proto::FileKind::Other,
    };
    proto::FileMetadata {
        kind: kind.into(),
        permissions: metadata.permissions,
        size: metadata.size,
        allocated: metadata.allocated,
        user: metadata.user,
        group: metadata.group,
        links: metadata.links,
        accessed: Some(time_to_proto(metadata.accessed)),
        modified: Some(time_to_proto(metadata.modified)),
    }
}

fn metadata_from_proto(metadata: proto::FileMetadata) -> FileMetadata {
    let kind = match metadata.kind() {
        proto::FileKind::File => FileKind::File,
        proto::FileKind::Directory => FileKind::Directory,
        proto::FileKind::Symlink => FileKind::Symlink,
        proto::FileKind::Other => FileKind::Other,
    };
    FileMetadata {
        kind,
        permissions: metadata.permissions & 0o7777,
        size: metadata.size,
        allocated: metadata.allocated,
        user: metadata.user,
        group: metadata.group,
        links: metadata.links,
        accessed: metadata.accessed.map(time_from_proto).unwrap_or_default(),
        modified: metadata.modified.map(time_from_proto).unwrap_or_default(),
    }
}

/// A name is a stranger's word: one that is none, or that would lead elsewhere, is no entry of a directory.
fn entry_from_proto(entry: proto::FileEntry) -> Result<FileEntry, WireError> {
    let bad = entry.name.is_empty()
        || matches!(entry.name.as_slice(), b"." | b"..")
        || entry.name.iter().any(|byte| matches!(byte, b'/' | 0));
    if bad {
        return Err(WireError::Invalid { field: "name", problem: "it is not the name of a file".into() });
    }
    let metadata = entry.metadata.ok_or(WireError::Missing("metadata"))?;
    Ok(FileEntry { name: path(entry.name), metadata: metadata_from_proto(metadata) })
}

fn cause_to_proto(kind: FileErrorKind) -> proto::FileCause {
    match kind {
        FileErrorKind::NotFound => proto::FileCause::NotFound,
        FileErrorKind::PermissionDenied => proto::FileCause::PermissionDenied,
        FileErrorKind::AlreadyExists => proto::FileCause::AlreadyExists,
        FileErrorKind::NotADirectory => proto::FileCause::NotADirectory,
        FileErrorKind::IsADirectory => proto::FileCause::IsADirectory,
        FileErrorKind::NotEmpty => proto::FileCause::NotEmpty,
        FileErrorKind::NoSpace => proto::FileCause::NoSpace,
        FileErrorKind::TooLarge => proto::FileCause::TooLarge,
        FileErrorKind::TooManyHandles => proto::FileCause::TooManyHandles,
        FileErrorKind::Damaged => proto::FileCause::Damaged,
        FileErrorKind::Unsupported => proto::FileCause::Unsupported,
        FileErrorKind::BadRequest => proto::FileCause::BadRequest,
        FileErrorKind::Other => proto::FileCause::Other,
    }
}

fn cause_from_proto(cause: proto::FileCause) -> FileErrorKind {
    match cause {
        proto::FileCause::NotFound => FileErrorKind::NotFound,
        proto::FileCause::PermissionDenied => FileErrorKind::PermissionDenied,
        proto::FileCause::AlreadyExists => FileErrorKind::AlreadyExists,
        proto::FileCause::NotADirectory => FileErrorKind::NotADirectory,
        proto::FileCause::IsADirectory => FileErrorKind::IsADirectory,
        proto::FileCause::NotEmpty => FileErrorKind::NotEmpty,
        proto::FileCause::NoSpace => FileErrorKind::NoSpace,
        proto::FileCause::TooLarge => FileErrorKind::TooLarge,
        proto::FileCause::TooManyHandles => FileErrorKind::TooManyHandles,
        proto::FileCause::Damaged => FileErrorKind::Damaged,
        proto::FileCause::Unsupported => FileErrorKind::Unsupported,
        proto::FileCause::BadRequest => FileErrorKind::BadRequest,
        proto::FileCause::Other => FileErrorKind::Other,
    }
}

fn hash(bytes: Vec<u8>) -> Result<FileHash, WireError> {
    let problem = format!("a hash has 32 bytes and not {}", bytes.len());
    bytes.try_into().map(FileHash).map_err(|_| WireError::Invalid { field: "blake3", problem })
}

fn bytes(path: PathBuf) -> Vec<u8> {
    path.into_os_string().into_vec()
}

fn path(bytes: Vec<u8>) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes))
}
