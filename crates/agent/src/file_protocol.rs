//! Files asked for by number. After `Request::Files` a connection carries [`FileRequest`]s one way and [`FileReply`]s the other: the asker
//! may send as many as it likes before it reads the first answer, as long as it goes on reading while it sends, so a long way between the
//! two costs no time. The agent does them one after the other and answers in the same order, each once.
//!
//! Handles are named by the asker. So it can open, write and close a file in one go, without waiting to hear of a handle; what follows
//! a failed opening fails with it. Paths are absolute, are resolved by the agent and so inside, and are bytes, as the kernel's are.
//!
//! A payload is the number (`u64`), the length of the head (`u32`), the head as JSON, and then the bytes of a file, if any: those are never
//! put into JSON.

use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::protocol::{FrameError, MAX_DATA};

/// Bytes of a file in one request or reply.
pub const MAX_PIECE: usize = MAX_DATA;

/// Open files and directories of one connection.
pub const MAX_HANDLES: usize = 256;

/// Entries of a directory in one reply: with names of 255 bytes that no JSON can say shortly, they still fit a control frame.
pub const MAX_BATCH: usize = 100;

/// Bytes of a path: what Linux takes.
pub const MAX_PATH: usize = 4096;

/// Bytes hashed for one request: others on the same connection wait meanwhile, a few hundredths of a second.
pub const MAX_HASHED: u64 = 64 << 20;

/// Bytes before the head: the number, and how long the head is.
pub(crate) const PREFIX: usize = 12;

/// The name under which an open file or directory goes on its connection, chosen by the asker.
pub type Handle = u32;

/// A request with its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRequest {
    /// Chosen by the asker; the reply has it too.
    pub number: u64,
    /// What to do.
    pub operation: FileOperation,
    /// The content that goes with [`FileOperation::Write`] and [`FileOperation::Store`]; empty with all others.
    pub bytes: Vec<u8>,
}

/// An answer with the number of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReply {
    /// The request's.
    pub number: u64,
    /// What came of it.
    pub answer: FileAnswer,
    /// The content that goes with [`FileAnswer::Data`] and [`FileAnswer::Fetched`]; empty with all others.
    pub bytes: Vec<u8>,
}

/// How to open a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenMode {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// Every write goes to the end, whatever its offset says.
    pub append: bool,
    /// Make it if it is not there.
    pub create: bool,
    /// Empty it.
    pub truncate: bool,
    /// Fail if it is there: with `create`.
    pub exclusive: bool,
    /// Permissions of a new file, from which the agent's mask (022) is taken off.
    pub permissions: u32,
}

/// Something that can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileOperation {
    /// Opens a regular file. Pipes, sockets and devices are refused, and the files of `/proc`.
    Open {
        /// What later requests call it.
        handle: Handle,
        /// The file; a link is followed.
        #[serde(with = "text")]
        path: PathBuf,
        /// How.
        mode: OpenMode,
    },
    /// Opens a directory to be listed.
    OpenDirectory {
        /// What later requests call it.
        handle: Handle,
        /// The directory.
        #[serde(with = "text")]
        path: PathBuf,
    },
    /// Closes a file or a directory.
    Close {
        /// Which.
        handle: Handle,
    },
    /// Reads: answered by [`FileAnswer::Data`], shorter than asked at the end of the file only.
    Read {
        /// The file.
        handle: Handle,
        /// Where from.
        offset: u64,
        /// How much, at most [`MAX_PIECE`].
        length: u32,
    },
    /// Writes the request's bytes, all of them or none that can be relied on.
    Write {
        /// The file.
        handle: Handle,
        /// Where to.
        offset: u64,
    },
    /// The next entries of an open directory.
    List {
        /// The directory.
        handle: Handle,
    },
    /// What there is to know about a file.
    Stat {
        /// Which.
        target: Target,
    },
    /// Changes what is given of a file. Owners cannot be changed: everything belongs to the sandbox's user.
    Set {
        /// Which.
        target: Target,
        /// What.
        change: FileChange,
    },
    /// Makes a directory, whose parent must be there.
    MakeDirectory {
        /// The new one.
        #[serde(with = "text")]
        path: PathBuf,
        /// Its permissions, from which the agent's mask (022) is taken off.
        permissions: u32,
    },
    /// Removes anything but a directory.
    Remove {
        /// What.
        #[serde(with = "text")]
        path: PathBuf,
    },
    /// Removes an empty directory.
    RemoveDirectory {
        /// Which.
        #[serde(with = "text")]
        path: PathBuf,
    },
    /// Gives something another name.
    Rename {
        /// The old one.
        #[serde(with = "text")]
        from: PathBuf,
        /// The new one.
        #[serde(with = "text")]
        to: PathBuf,
        /// Take the place of what has the new name.
        replace: bool,
    },
    /// Gives a file one more name.
    Link {
        /// The file; a link is not followed.
        #[serde(with = "text")]
        from: PathBuf,
        /// The further name.
        #[serde(with = "text")]
        to: PathBuf,
    },
    /// Makes a symbolic link.
    Symlink {
        /// Its text, whatever that is.
        #[serde(with = "text")]
        target: PathBuf,
        /// The link.
        #[serde(with = "text")]
        path: PathBuf,
    },
    /// The text of a symbolic link.
    ReadLink {
        /// The link.
        #[serde(with = "text")]
        path: PathBuf,
    },
    /// The path without links, `.` and `..`. The last part need not be there.
    RealPath {
        /// Any path.
        #[serde(with = "text")]
        path: PathBuf,
    },
    /// The room of a file system.
    Space {
        /// Something on it.
        #[serde(with = "text")]
        path: PathBuf,
    },
    /// Answers when what was written is on the disk.
    Sync {
        /// The file.
        handle: Handle,
    },
    /// The hash of a part of a file, up to its end at most. It is not read again if it was just read or written through this handle, from its
    /// first byte to its last: then it is the hash of what passed.
    Hash {
        /// The file, open for reading.
        handle: Handle,
        /// Where from.
        from: u64,
        /// How much, at most [`MAX_HASHED`].
        length: u64,
    },
    /// The next part of a file that holds data: what lies between such parts is holes, and reads as zeros.
    Extent {
        /// The file, open for reading.
        handle: Handle,
        /// Where to look from.
        from: u64,
    },
    /// Writes a whole small file, the request's bytes, in place of what has its name. It appears under its name complete or not at all.
    Store {
        /// The file; a link of this name is replaced and not followed.
        #[serde(with = "text")]
        path: PathBuf,
        /// Its permissions, exactly.
        permissions: u32,
        /// When it was last changed; now, if not given.
        modified: Option<FileTime>,
        /// The BLAKE3 hash of the bytes: others are refused.
        hash: FileHash,
    },
    /// Reads a whole small file: answered by [`FileAnswer::Fetched`].
    Fetch {
        /// The file; a link is followed.
        #[serde(with = "text")]
        path: PathBuf,
        /// A longer one is refused. At most [`MAX_PIECE`].
        longest: u32,
    },
}

/// A file that is named by a path or by a handle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An open file or directory.
    Handle(Handle),
    /// What a path leads to.
    Path {
        /// The path.
        #[serde(with = "text")]
        path: PathBuf,
        /// If it is a symbolic link, then what that leads to.
        follow: bool,
    },
}

/// What to change of a file; what is not given stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileChange {
    /// Its length: cut off, or filled up with a hole.
    pub size: Option<u64>,
    /// Its permissions, exactly.
    pub permissions: Option<u32>,
    /// When it was last read.
    pub accessed: Option<FileTime>,
    /// When it was last changed.
    pub modified: Option<FileTime>,
}

/// A moment: the seconds since 1970, and nanoseconds that are always added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileTime {
    /// Before 1970 they are negative.
    pub seconds: i64,
    /// Less than a thousand million.
    pub nanoseconds: u32,
}

/// A BLAKE3 hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileHash(pub [u8; 32]);

/// What kind of thing a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A pipe, a socket or a device.
    Other,
}

/// What there is to know about a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileMetadata {
    /// What it is.
    pub kind: FileKind,
    /// The twelve bits of its permissions.
    pub permissions: u32,
    /// Its length in bytes.
    pub size: u64,
    /// Bytes that it takes on the disk: less than its length if it has holes.
    pub allocated: u64,
    /// Its owner, as counted inside.
    pub user: u32,
    /// Its group, as counted inside.
    pub group: u32,
    /// How many names it has.
    pub links: u64,
    /// When it was last read.
    pub accessed: FileTime,
    /// When its content was last changed.
    pub modified: FileTime,
}

/// One entry of a directory, which is not `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its name.
    #[serde(with = "text")]
    pub name: PathBuf,
    /// What it is; links are not followed.
    pub metadata: FileMetadata,
}

/// The room of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSpace {
    /// Bytes of one block.
    pub block_size: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Blocks not in use.
    pub free_blocks: u64,
    /// Of them, those that may be used.
    pub available_blocks: u64,
    /// Files that there can be.
    pub files: u64,
    /// Files that there can still be.
    pub free_files: u64,
    /// Bytes of a name.
    pub longest_name: u64,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileAnswer {
    /// Done; there is nothing to add.
    Done,
    /// The reply's bytes are the file's.
    Data,
    /// What there is to know about it.
    Metadata(FileMetadata),
    /// Entries of a directory, in no order.
    Entries {
        /// Some, at most [`MAX_BATCH`].
        entries: Vec<FileEntry>,
        /// There are no more.
        last: bool,
    },
    /// A path, or the text of a link.
    Path(#[serde(with = "text")] PathBuf),
    /// The room.
    Space(FileSpace),
    /// A hash.
    Hash {
        /// The hash.
        hash: FileHash,
        /// Of how many bytes: fewer than asked at the end of the file only.
        length: u64,
    },
    /// A part with data; none when only a hole, or nothing, is left.
    Extent(Option<FileExtent>),
    /// The reply's bytes are the whole file.
    Fetched {
        /// What there is to know about it.
        metadata: FileMetadata,
        /// The BLAKE3 hash of the bytes.
        hash: FileHash,
    },
    /// It could not be done.
    Failed(FileError),
}

/// A part of a file that holds data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileExtent {
    /// Its first byte.
    pub start: u64,
    /// The first byte after it.
    pub end: u64,
}

/// Why something about a file could not be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileError {
    /// The cause, for programs.
    pub kind: FileErrorKind,
    /// The cause, for people: the system's words.
    pub message: String,
}

/// The causes that programs tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileErrorKind {
    /// Nothing has this name.
    NotFound,
    /// The sandbox's user may not.
    PermissionDenied,
    /// Something has this name.
    AlreadyExists,
    /// A part of the path, or what was named, is no directory.
    NotADirectory,
    /// It is a directory.
    IsADirectory,
    /// The directory is not empty.
    NotEmpty,
    /// The disk is full.
    NoSpace,
    /// The file is longer than was asked for, or would become longer than the file system takes.
    TooLarge,
    /// Too many files are open, on this connection or in the sandbox.
    TooManyHandles,
    /// What arrived is not what was sent: its hash differs.
    Damaged,
    /// It cannot be done with this kind of file, or not here.
    Unsupported,
    /// The request makes no sense.
    BadRequest,
    /// The message says what.
    Other,
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for FileError {}

impl fmt::Debug for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for FileHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for FileHash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileHash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |at: usize| text.as_bytes().get(at).and_then(|digit| char::from(*digit).to_digit(16));
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            let (Some(high), Some(low)) = (digit(2 * at), digit(2 * at + 1)) else {
                return Err(serde::de::Error::custom("a hash of 64 hexadecimal digits"));
            };
            *byte = u8::try_from(high << 4 | low).unwrap_or_default();
        }
        Ok(FileHash(hash))
    }
}

/// Bytes of the kernel's in JSON, which knows only text: every byte stands as the character of its number.
mod text {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::Path;

    use super::{Deserialize, OsString, PathBuf};

    pub(super) fn serialize<S: serde::Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = path.as_os_str().as_bytes().iter().copied().map(char::from).collect();
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        let bytes = text.chars().map(u8::try_from).collect::<Result<Vec<u8>, _>>();
        let bytes = bytes.map_err(|_| serde::de::Error::custom("a character that stands for no byte"))?;
        Ok(PathBuf::from(OsString::from_vec(bytes)))
    }
}

/// Appends a payload, but for the content that ends it, to a frame that has its header already.
pub(crate) fn write_payload(number: u64, head: &impl Serialize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let malformed = |error: &dyn fmt::Display| FrameError::Malformed(error.to_string());
    out.extend_from_slice(&number.to_be_bytes());
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    serde_json::to_writer(&mut *out, head).map_err(|error| malformed(&error))?;
    let length = u32::try_from(out.len() - at - 4).map_err(|error| malformed(&error))?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// The number and the head of a payload, and where its content begins.
pub(crate) fn read_payload<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<(u64, T, usize), FrameError> {
    let malformed = |why: &dyn fmt::Display| FrameError::Malformed(why.to_string());
    let (number, rest) = payload.split_first_chunk().ok_or_else(|| malformed(&"a short number"))?;
    let (length, rest) = rest.split_first_chunk().ok_or_else(|| malformed(&"a short length"))?;
    let length = u32::from_be_bytes(*length) as usize;
    let (head, _) = rest.split_at_checked(length).ok_or_else(|| malformed(&"a short head"))?;
    let head = serde_json::from_slice(head).map_err(|error| malformed(&error))?;
    Ok((u64::from_be_bytes(*number), head, PREFIX + length))
}

#[cfg(test)]
mod tests;
