//! Files inside a rental, one request at a time or thousands under way: listing, reading at any place, writing, moving, hashing.
//!
//! [`serve_files`] is the provider's end of such a stream and passes on; [`Files`] is the renter's and asks. Paths are absolute and are
//! resolved inside the sandbox. [`FileReader`] and [`FileWriter`] are one file as a stream of bytes that keeps enough under way for a long
//! distance.

mod codec;
mod host;
pub mod message;
mod reader;
mod writer;

pub use host::serve_files;
pub use reader::FileReader;
pub use sandbox::{
    Answer, FileAnswer, FileCallError, FileChange, FileClient, FileEntry, FileError, FileErrorKind, FileExtent,
    FileHash, FileKind, FileMetadata, FileSpace, FileTime, MAX_HASHED, MAX_PIECE, OpenMode,
};
pub use writer::FileWriter;

use codec::{GuestEnd, framed};
use sandbox::{FileHandle, FileOperation, Target};
use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};
use tokio::io::{AsyncRead, AsyncWrite};

/// Bytes of content in one request of a long transfer: what one may have.
pub const PIECE: u32 = MAX_PIECE as u32;

/// Pieces of one file under way: 32 MiB, which fill 2.5 Gbit/s at a round trip of 100 ms. It is also what all files of one stream together
/// have under way, so that this is what whoever copies keeps in memory, however many files it copies at once.
pub(crate) const WINDOW: usize = (32 << 20) / PIECE as usize;

/// The same of a file that is read or written as a stream: 8 MiB, since daemons do that too, for as many as ask.
pub(crate) const STREAM_WINDOW: usize = (8 << 20) / PIECE as usize;

/// Entries of one directory that are kept in memory. One that has more is taken batch by batch.
const MAX_LISTED: usize = 1_000_000;

/// Asks for files over one stream, from any number of tasks. The stream ends when all clones and all open files are dropped.
#[derive(Clone)]
pub struct Files {
    client: FileClient,
}

/// Batches of one directory asked for ahead: three thousand entries.
const MAX_AHEAD: usize = 32;

type Result<T> = std::result::Result<T, FileCallError>;

impl Files {
    /// Over a stream whose other end is [`serve_files`].
    pub fn new(stream: impl AsyncRead + AsyncWrite + Send + 'static) -> Self {
        let (replies, requests) = framed(stream, GuestEnd);
        Self { client: FileClient::new(requests, replies) }
    }

    /// For requests that have no method here.
    pub fn client(&self) -> &FileClient {
        &self.client
    }

    /// Opens a regular file.
    pub async fn open(&self, path: impl Into<PathBuf>, mode: OpenMode) -> Result<OpenFile> {
        let handle = self.client.handle();
        done(self.client.call(FileOperation::Open { handle: handle.number(), path: path.into(), mode }).await?)?;
        Ok(OpenFile { handle })
    }

    /// Opens a file without waiting for the answer; see [`done`]. What is asked of it meanwhile fails if this does.
    pub(crate) async fn send_open(&self, path: &Path, mode: OpenMode) -> Result<(OpenFile, Answer)> {
        let handle = self.client.handle();
        let open = FileOperation::Open { handle: handle.number(), path: path.into(), mode };
        let answer = self.client.send(open, Vec::new()).await?;
        Ok((OpenFile { handle }, answer))
    }

    /// Opens a file to be read.
    pub async fn open_to_read(&self, path: impl Into<PathBuf>) -> Result<OpenFile> {
        self.open(path, OpenMode { read: true, ..OpenMode::default() }).await
    }

    /// Opens a directory to be listed batch by batch.
    pub async fn open_directory(&self, path: impl Into<PathBuf>) -> Result<OpenDirectory> {
        let handle = self.client.handle();
        let open = FileOperation::OpenDirectory { handle: handle.number(), path: path.into() };
        let opened = self.client.send(open, Vec::new()).await?;
        let mut directory = OpenDirectory::new(handle);
        // The first entries come with the answer.
        directory.ask().await?;
        done(opened.await?)?;
        Ok(directory)
    }

    /// All entries of a directory, by name.
    pub async fn list(&self, path: impl Into<PathBuf>) -> Result<Vec<FileEntry>> {
        let path = path.into();
        let mut directory = self.open_directory(&path).await?;
        let mut all = Vec::new();
        while let Some(entries) = directory.next().await? {
            all.extend(entries);
            if all.len() > MAX_LISTED {
                let message = format!("{}: more than {MAX_LISTED} entries", path.display());
                return Err(FileError { kind: FileErrorKind::TooLarge, message }.into());
            }
        }
        all.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        Ok(all)
    }

    /// What a path leads to.
    pub async fn stat(&self, path: impl Into<PathBuf>) -> Result<FileMetadata> {
        let target = Target::Path { path: path.into(), follow: true };
        metadata(self.client.call(FileOperation::Stat { target }).await?)
    }

    /// What a path stands for; of a link, the link.
    pub async fn stat_link(&self, path: impl Into<PathBuf>) -> Result<FileMetadata> {
        let target = Target::Path { path: path.into(), follow: false };
        metadata(self.client.call(FileOperation::Stat { target }).await?)
    }

    /// Changes what a path leads to.
    pub async fn set(&self, path: impl Into<PathBuf>, change: FileChange) -> Result<()> {
        let target = Target::Path { path: path.into(), follow: true };
        done(self.client.call(FileOperation::Set { target, change }).await?)
    }

    /// Changes what a path stands for; of a link, the link.
    pub async fn set_link(&self, path: impl Into<PathBuf>, change: FileChange) -> Result<()> {
        let target = Target::Path { path: path.into(), follow: false };
        done(self.client.call(FileOperation::Set { target, change }).await?)
    }

    /// Makes one directory.
    pub async fn make_directory(&self, path: impl Into<PathBuf>, permissions: u32) -> Result<()> {
        done(self.client.call(FileOperation::MakeDirectory { path: path.into(), permissions }).await?)
    }

    /// Removes anything but a directory.
    pub async fn remove(&self, path: impl Into<PathBuf>) -> Result<()> {
        done(self.client.call(FileOperation::Remove { path: path.into() }).await?)
    }

    /// Removes an empty directory.
    pub async fn remove_directory(&self, path: impl Into<PathBuf>) -> Result<()> {
        done(self.client.call(FileOperation::RemoveDirectory { path: path.into() }).await?)
    }

    /// Gives something another name, in place of what has it, or only if nothing has.
    pub async fn rename(&self, from: impl Into<PathBuf>, to: impl Into<PathBuf>, replace: bool) -> Result<()> {
        done(self.client.call(FileOperation::Rename { from: from.into(), to: to.into(), replace }).await?)
    }

    /// Gives a file one more name.
    pub async fn link(&self, from: impl Into<PathBuf>, to: impl Into<PathBuf>) -> Result<()> {
        done(self.client.call(FileOperation::Link { from: from.into(), to: to.into() }).await?)
    }

    /// Makes a symbolic link with this text.
    pub async fn symlink(&self, target: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Result<()> {
        done(self.client.call(FileOperation::Symlink { target: target.into(), path: path.into() }).await?)
    }

    /// The text of a symbolic link.
    pub async fn read_link(&self, path: impl Into<PathBuf>) -> Result<PathBuf> {
        text(self.client.call(FileOperation::ReadLink { path: path.into() }).await?)
    }

    /// A path without links, `.` and `..`. Its last part need not be there.
    pub async fn real_path(&self, path: impl Into<PathBuf>) -> Result<PathBuf> {
        text(self.client.call(FileOperation::RealPath { path: path.into() }).await?)
    }

    /// The room of the file system that a path is on.
    pub async fn space(&self, path: impl Into<PathBuf>) -> Result<FileSpace> {
        match self.client.call(FileOperation::Space { path: path.into() }).await? {
            (FileAnswer::Space(space), _) => Ok(space),
            _ => Err(FileCallError::Unexpected),
        }
    }

    /// Asks for a whole small file to be written; see [`FileOperation::Store`].
    pub(crate) async fn send_store(
        &self,
        path: &Path,
        permissions: u32,
        modified: FileTime,
        bytes: Vec<u8>,
    ) -> Result<Answer> {
        let hash = FileHash(blake3::hash(&bytes).into());
        let store = FileOperation::Store { path: path.into(), permissions, modified: Some(modified), hash };
        self.client.send(store, bytes).await
    }

    /// Asks for a whole small file; see [`fetched`].
    pub(crate) async fn send_fetch(&self, path: &Path, longest: u32) -> Result<Answer> {
        self.client.send(FileOperation::Fetch { path: path.into(), longest }, Vec::new()).await
    }
}

/// An open file, closed when it is dropped.
pub struct OpenFile {
    handle: FileHandle,
}

impl OpenFile {
    /// What is there, at most [`MAX_PIECE`] bytes: less than asked at the end of the file only.
    pub async fn read(&self, offset: u64, length: u32) -> Result<Vec<u8>> {
        data(self.send_read(offset, length).await?.await?)
    }

    /// Writes at most [`MAX_PIECE`] bytes.
    pub async fn write(&self, offset: u64, bytes: Vec<u8>) -> Result<()> {
        done(self.send_write(offset, bytes).await?.await?)
    }

    /// What there is to know about it.
    pub async fn metadata(&self) -> Result<FileMetadata> {
        metadata(self.call(FileOperation::Stat { target: Target::Handle(self.handle.number()) }).await?)
    }

    /// Changes it.
    pub async fn set(&self, change: FileChange) -> Result<()> {
        let target = Target::Handle(self.handle.number());
        done(self.call(FileOperation::Set { target, change }).await?)
    }

    /// Waits until what was written is on the disk.
    pub async fn sync(&self) -> Result<()> {
        done(self.call(FileOperation::Sync { handle: self.handle.number() }).await?)
    }

    /// The hash of a part of at most [`MAX_HASHED`] bytes, and of how many bytes it is: fewer than asked at the end of the file only.
    pub async fn hash(&self, from: u64, length: u64) -> Result<(FileHash, u64)> {
        hashed(self.send_hash(from, length).await?.await?)
    }

    /// The next part that holds data. What lies before it, or after the last one, is a hole.
    pub async fn extent(&self, from: u64) -> Result<Option<FileExtent>> {
        match self.call(FileOperation::Extent { handle: self.handle.number(), from }).await? {
            (FileAnswer::Extent(extent), _) => Ok(extent),
            _ => Err(FileCallError::Unexpected),
        }
    }

    /// Its content from a place on.
    pub fn into_reader(self, from: u64) -> FileReader {
        FileReader::new(self, from)
    }

    /// What is written goes to this place and on.
    pub fn into_writer(self, from: u64) -> FileWriter {
        FileWriter::new(self, from)
    }

    /// Closes it, and hears how that went.
    pub async fn close(self) -> Result<()> {
        self.handle.close().await
    }

    /// Asks for a piece without waiting for it; see [`data`].
    pub(crate) async fn send_read(&self, offset: u64, length: u32) -> Result<Answer> {
        let handle = self.handle.number();
        self.handle.client().send(FileOperation::Read { handle, offset, length }, Vec::new()).await
    }

    /// Sends a piece without waiting for the answer; see [`done`].
    pub(crate) async fn send_write(&self, offset: u64, bytes: Vec<u8>) -> Result<Answer> {
        self.handle.client().send(FileOperation::Write { handle: self.handle.number(), offset }, bytes).await
    }

    /// Changes it without waiting for the answer; see [`done`].
    pub(crate) async fn send_set(&self, change: FileChange) -> Result<Answer> {
        let target = Target::Handle(self.handle.number());
        self.handle.client().send(FileOperation::Set { target, change }, Vec::new()).await
    }

    /// Asks for a hash without waiting for it; see [`hashed`].
    pub(crate) async fn send_hash(&self, from: u64, length: u64) -> Result<Answer> {
        let handle = self.handle.number();
        self.handle.client().send(FileOperation::Hash { handle, from, length }, Vec::new()).await
    }

    async fn call(&self, operation: FileOperation) -> Result<(FileAnswer, Vec<u8>)> {
        self.handle.client().call(operation).await
    }
}

/// A directory being listed, closed when it is dropped.
pub struct OpenDirectory {
    handle: FileHandle,
    /// Batches asked for ahead.
    asked: VecDeque<Answer>,
    ahead: usize,
    last: bool,
}

impl OpenDirectory {
    fn new(handle: FileHandle) -> Self {
        Self { handle, asked: VecDeque::new(), ahead: 1, last: false }
    }

    /// More entries, in no order; `None` when there are no more.
    pub async fn next(&mut self) -> Result<Option<Vec<FileEntry>>> {
        if self.last {
            return Ok(None);
        }
        self.ask().await?;
        let Some(next) = self.asked.pop_front() else { return Ok(None) };
        match next.await? {
            (FileAnswer::Entries { entries, last }, _) => {
                self.last = last;
                self.ahead = (self.ahead * 2).min(MAX_AHEAD);
                Ok(Some(entries))
            }
            _ => Err(FileCallError::Unexpected),
        }
    }

    /// Asks for more batches the more there have been: most directories have one.
    async fn ask(&mut self) -> Result<()> {
        while self.asked.len() < self.ahead {
            let list = FileOperation::List { handle: self.handle.number() };
            self.asked.push_back(self.handle.client().send(list, Vec::new()).await?);
        }
        Ok(())
    }
}

type Answered = (FileAnswer, Vec<u8>);

pub(crate) fn done(answered: Answered) -> Result<()> {
    match answered.0 {
        FileAnswer::Done => Ok(()),
        _ => Err(FileCallError::Unexpected),
    }
}

pub(crate) fn data((answer, bytes): Answered) -> Result<Vec<u8>> {
    match answer {
        FileAnswer::Data => Ok(bytes),
        _ => Err(FileCallError::Unexpected),
    }
}

pub(crate) fn hashed(answered: Answered) -> Result<(FileHash, u64)> {
    match answered.0 {
        FileAnswer::Hash { hash, length } => Ok((hash, length)),
        _ => Err(FileCallError::Unexpected),
    }
}

/// A whole small file, if its content is what was sent.
pub(crate) fn fetched((answer, bytes): Answered) -> Result<(FileMetadata, Vec<u8>)> {
    match answer {
        FileAnswer::Fetched { metadata, hash } if blake3::hash(&bytes).as_bytes() == &hash.0 => Ok((metadata, bytes)),
        FileAnswer::Fetched { .. } => {
            let message = "a file arrived damaged: its hash differs from the sender's".into();
            Err(FileError { kind: FileErrorKind::Damaged, message }.into())
        }
        _ => Err(FileCallError::Unexpected),
    }
}

fn metadata(answered: Answered) -> Result<FileMetadata> {
    match answered.0 {
        FileAnswer::Metadata(metadata) => Ok(metadata),
        _ => Err(FileCallError::Unexpected),
    }
}

fn text(answered: Answered) -> Result<PathBuf> {
    match answered.0 {
        FileAnswer::Path(path) => Ok(path),
        _ => Err(FileCallError::Unexpected),
    }
}

/// An error as the standard library has it.
pub(crate) fn io_error(error: FileCallError) -> std::io::Error {
    std::io::Error::new(io_error_kind(&error), error)
}

fn io_error_kind(error: &FileCallError) -> std::io::ErrorKind {
    use std::io::ErrorKind as Kind;
    match error {
        FileCallError::Failed(failed) => match failed.kind {
            FileErrorKind::NotFound => Kind::NotFound,
            FileErrorKind::PermissionDenied => Kind::PermissionDenied,
            FileErrorKind::AlreadyExists => Kind::AlreadyExists,
            FileErrorKind::NotADirectory => Kind::NotADirectory,
            FileErrorKind::IsADirectory => Kind::IsADirectory,
            FileErrorKind::NotEmpty => Kind::DirectoryNotEmpty,
            FileErrorKind::NoSpace => Kind::StorageFull,
            FileErrorKind::TooLarge => Kind::FileTooLarge,
            FileErrorKind::Unsupported => Kind::Unsupported,
            FileErrorKind::BadRequest => Kind::InvalidInput,
            FileErrorKind::Damaged => Kind::InvalidData,
            FileErrorKind::TooManyHandles | FileErrorKind::Other => Kind::Other,
        },
        FileCallError::Ended(_) => Kind::ConnectionAborted,
        FileCallError::Unexpected => Kind::InvalidData,
    }
}
