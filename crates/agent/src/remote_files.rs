//! Requests about files, answered one after the other. All paths are resolved here, inside the sandbox and as its user, so that no link and
//! no `..` can lead to the host; and never by the links of `/proc` that lead into a process, which for this one would lead to what it
//! holds for the node.

mod content;
mod hashed;
mod place;
mod small;
mod tree;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::descriptors::{Descriptors, Taken};
use crate::file_protocol::{
    FileAnswer, FileChange, FileError, FileErrorKind, FileOperation, FileReply, FileRequest, Handle, MAX_HANDLES,
    OpenMode, Target,
};
use crate::manifest::{Note, Notebook, Passed, Stamp, Whose, own_path};
use crate::protocol::{Frame, HEADER, parse_header};
use hashed::Hashed;
use rustix::fs::Dir;
use rustix::io::Errno;

/// Descriptors that open files leave: for sixteen connections, so that the node is not shut out by what a renter has open.
const FOR_OTHERS: u64 = 64;

/// Bytes of requests taken at once: hundreds of the small ones, and little of a large one, whose content goes past this buffer.
const REQUESTS: usize = 32 * 1024;

/// Bytes of replies that are sent without looking whether there are more to be sent with them.
const REPLIES: usize = 64 * 1024;

/// An answer, and the content that goes with it.
type Outcome = Result<(FileAnswer, Vec<u8>), FileError>;

/// Serves a connection until its asker closes it, or asks for something else ([`io::ErrorKind::InvalidData`]).
pub fn serve(descriptors: &Arc<Descriptors>, notebook: &dyn Notebook, mut socket: &UnixStream) -> io::Result<()> {
    let mut files = Files { open: HashMap::new(), descriptors: descriptors.clone(), notebook };
    let mut replies = Vec::new();
    let served = answer(&mut files, socket, &mut replies);
    // what was done before something went wrong is told
    notebook.settle();
    socket.write_all(&replies)?;
    served
}

fn answer(files: &mut Files<'_>, mut socket: &UnixStream, replies: &mut Vec<u8>) -> io::Result<()> {
    let mut requests = BufReader::with_capacity(REQUESTS, socket);
    loop {
        // the asker waits for these, or there are enough
        if replies.len() >= REPLIES || !begins_whole(requests.buffer()) {
            files.notebook.settle();
            socket.write_all(replies)?;
            replies.clear();
        }
        let Some(frame) = Frame::read(&mut requests)? else { return Ok(()) };
        let Frame::FileRequest(FileRequest { number, operation, bytes }) = frame else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "only requests about files may follow"));
        };
        let (answer, bytes) =
            files.carry_out(operation, &bytes).unwrap_or_else(|error| (FileAnswer::Failed(error), Vec::new()));
        let before = replies.len();
        let appended = Frame::FileReply(FileReply { number, answer, bytes }).append(replies);
        appended.inspect_err(|_| replies.truncate(before))?;
    }
}

/// Whether the next frame is here to its end, so that nothing is waited for in reading it.
fn begins_whole(buffer: &[u8]) -> bool {
    buffer
        .first_chunk()
        .is_some_and(|header| parse_header(*header).is_ok_and(|(_, length)| buffer.len() >= HEADER + length))
}

/// What one connection has open.
struct Files<'a> {
    open: HashMap<Handle, Open>,
    descriptors: Arc<Descriptors>,
    /// What the asker knows: what it brings and fetches here is noted there.
    notebook: &'a dyn Notebook,
}

/// Something open, and the descriptor it takes of those that the agent may have.
struct Open {
    what: Opened,
    path: PathBuf,
    _taken: Taken,
}

enum Opened {
    File(Content),
    Directory(Dir),
}

/// An open file, and what has passed of it.
struct Content {
    file: File,
    passed: Passed,
    /// Every write goes to the end, whatever place it names.
    appends: bool,
    hashed: Hashed,
}

impl Content {
    fn open(path: &Path, mode: OpenMode) -> Result<Content, FileError> {
        let file = place::file(path, mode)?;
        let metadata = file.metadata().map_err(|error| content::of(&error))?;
        Ok(Content {
            passed: Passed::begin(&metadata, mode.write || mode.append),
            appends: mode.append,
            hashed: Hashed::default(),
            file,
        })
    }
}

impl Files<'_> {
    fn carry_out(&mut self, operation: FileOperation, bytes: &[u8]) -> Outcome {
        use FileOperation as Ask;
        let answer = match operation {
            Ask::Open { handle, path, mode } => {
                self.open(handle, path, |path| Content::open(path, mode).map(Opened::File))
            }
            Ask::OpenDirectory { handle, path } => {
                self.open(handle, path, |path| place::directory(path).map(Opened::Directory))
            }
            Ask::Close { handle } => self.close(handle),
            Ask::Read { handle, offset, length } => {
                let Content { file, passed, hashed, .. } = self.content(handle)?;
                let (answer, bytes) = content::read(file, offset, length)?;
                passed.seen(offset, bytes.len() as u64);
                hashed.passed(offset, &bytes);
                return Ok((answer, bytes));
            }
            Ask::Write { handle, offset } => {
                let Content { file, passed, appends, hashed } = self.content(handle)?;
                let answer = content::write(file, offset, bytes).inspect_err(|_| hashed.forget())?;
                if *appends {
                    passed.written(u64::MAX, bytes.len() as u64);
                    hashed.forget();
                } else {
                    passed.written(offset, bytes.len() as u64);
                    hashed.passed(offset, bytes);
                }
                Ok(answer)
            }
            Ask::List { handle } => tree::list(self.listing(handle)?),
            Ask::Stat { target } => tree::stat(self, &target),
            Ask::Set { target, change } => self.set(&target, change),
            Ask::MakeDirectory { path, permissions } => tree::make_directory(&path, permissions),
            Ask::Remove { path } => tree::remove(&path),
            Ask::RemoveDirectory { path } => tree::remove_directory(&path),
            Ask::Rename { from, to, replace } => self.rename(&from, &to, replace),
            Ask::Link { from, to } => tree::link(&from, &to),
            Ask::Symlink { target, path } => self.symlink(&target, &path),
            Ask::ReadLink { path } => tree::read_link(&path),
            Ask::RealPath { path } => tree::real_path(&path),
            Ask::Space { path } => tree::space(&path),
            Ask::Sync { handle } => content::sync(&self.content(handle)?.file),
            Ask::Hash { handle, from, length } => {
                let Content { file, passed, hashed, .. } = self.content(handle)?;
                let answer = match hashed.take(from, length) {
                    Some(hash) => FileAnswer::Hash { hash, length },
                    None => content::hash(file, from, length)?,
                };
                if let FileAnswer::Hash { length, .. } = answer {
                    passed.seen(from, length);
                }
                Ok(answer)
            }
            Ask::Extent { handle, from } => content::extent(&self.content(handle)?.file, from),
            Ask::Store { path, permissions, modified, hash } => {
                let stored = small::store(&path, permissions, modified, hash, bytes)?;
                self.take(Note::known(&stored, Whose::Brought));
                Ok(FileAnswer::Done)
            }
            Ask::Fetch { path, longest } => {
                let (answer, bytes, fetched) = small::fetch(&path, longest)?;
                self.note(&fetched.0, fetched.1);
                return Ok((answer, bytes));
            }
        };
        answer.map(|answer| (answer, Vec::new()))
    }

    fn open(
        &mut self,
        handle: Handle,
        path: PathBuf,
        open: impl FnOnce(&Path) -> Result<Opened, FileError>,
    ) -> Result<FileAnswer, FileError> {
        if self.open.contains_key(&handle) {
            return Err(error(FileErrorKind::BadRequest, format!("handle {handle} is in use")));
        }
        if self.open.len() >= MAX_HANDLES {
            let message = format!("{MAX_HANDLES} files are open on this connection: close one first");
            return Err(error(FileErrorKind::TooManyHandles, message));
        }
        let taken = self.descriptors.take(1, FOR_OTHERS);
        let too_many = || error(FileErrorKind::TooManyHandles, "too many files are open in the sandbox".into());
        let taken = taken.ok_or_else(too_many)?;
        let what = open(&path)?;
        self.open.insert(handle, Open { what, path, _taken: taken });
        Ok(FileAnswer::Done)
    }

    fn close(&mut self, handle: Handle) -> Result<FileAnswer, FileError> {
        let open = self.open.remove(&handle).ok_or_else(|| unknown(handle))?;
        if let Opened::File(Content { file, passed, .. }) = &open.what {
            self.note(file, *passed);
        }
        Ok(FileAnswer::Done)
    }

    /// Notes a file if the asker knows all of it now.
    fn note(&self, file: &File, passed: Passed) {
        if let Some(whose) = file.metadata().ok().and_then(|now| passed.outcome(&now)) {
            self.take(Note::known(file, whose));
        }
    }

    /// What cannot be noted counts as never fetched.
    fn take(&self, note: io::Result<Option<Note>>) {
        if let Ok(Some(note)) = note {
            self.notebook.take(note);
        }
    }

    fn set(&mut self, target: &Target, change: FileChange) -> Result<FileAnswer, FileError> {
        let before = match target {
            Target::Path { path, follow } if change.size.is_none() => looks(path, *follow),
            _ => None,
        };
        let answer = tree::set(self, target, change)?;
        match (target, change.size) {
            (Target::Handle(handle), Some(size)) => {
                let content = self.content(*handle)?;
                content.passed.resized(size);
                content.hashed.forget();
            }
            _ => self.changed(before, None),
        }
        Ok(answer)
    }

    fn rename(&self, from: &Path, to: &Path, replace: bool) -> Result<FileAnswer, FileError> {
        let before = looks(from, false);
        let answer = tree::rename(from, to, replace)?;
        self.changed(before, Some(to));
        Ok(answer)
    }

    fn symlink(&self, target: &Path, path: &Path) -> Result<FileAnswer, FileError> {
        let answer = tree::symlink(target, path)?;
        if let Some(made) = place::look(path, false).ok().and_then(|made| own_path(made).ok()) {
            self.take(Note::brought(made).map(Some));
        }
        Ok(answer)
    }

    /// What was known of a file is so still, though the asker has changed its permissions, or its name to this.
    fn changed(&self, before: Option<(PathBuf, Stamp)>, name: Option<&Path>) {
        let Some(before) = before else { return };
        let now = match name {
            Some(name) => place::look(name, false).ok().and_then(|seen| own_path(seen).ok()),
            None => Some(before.0.clone()),
        };
        if let Some(now) = now {
            self.take(Note::changed(before, now).map(Some));
        }
    }

    fn content(&mut self, handle: Handle) -> Result<&mut Content, FileError> {
        match self.open.get_mut(&handle) {
            Some(Open { what: Opened::File(content), .. }) => Ok(content),
            Some(open) => Err(failed(&open.path, Errno::ISDIR)),
            None => Err(unknown(handle)),
        }
    }

    fn listing(&mut self, handle: Handle) -> Result<&mut Dir, FileError> {
        match self.open.get_mut(&handle) {
            Some(Open { what: Opened::Directory(directory), .. }) => Ok(directory),
            Some(open) => Err(failed(&open.path, Errno::NOTDIR)),
            None => Err(unknown(handle)),
        }
    }

    fn descriptor(&self, handle: Handle) -> Result<BorrowedFd<'_>, FileError> {
        match self.open.get(&handle) {
            Some(Open { what: Opened::File(content), .. }) => Ok(content.file.as_fd()),
            Some(Open { what: Opened::Directory(directory), path, .. }) => {
                directory.fd().map_err(|errno| failed(path, errno))
            }
            None => Err(unknown(handle)),
        }
    }
}

/// What a path stands for: its own path without links, and how it looks.
fn looks(path: &Path, follow: bool) -> Option<(PathBuf, Stamp)> {
    let path = own_path(place::look(path, follow).ok()?).ok()?;
    let stamp = Stamp::of(&fs::symlink_metadata(&path).ok()?);
    Some((path, stamp))
}

fn unknown(handle: Handle) -> FileError {
    error(FileErrorKind::BadRequest, format!("handle {handle} is not open"))
}

fn error(kind: FileErrorKind, message: String) -> FileError {
    FileError { kind, message }
}

/// An error of the system's about a path.
fn failed(path: &Path, errno: Errno) -> FileError {
    let cause = system(errno);
    FileError { message: format!("{}: {}", path.display(), cause.message), ..cause }
}

/// An error of the system's.
fn system(errno: Errno) -> FileError {
    use FileErrorKind as Kind;
    let kind = match errno {
        Errno::NOENT => Kind::NotFound,
        Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::TXTBSY => Kind::PermissionDenied,
        Errno::EXIST => Kind::AlreadyExists,
        Errno::NOTDIR => Kind::NotADirectory,
        Errno::ISDIR => Kind::IsADirectory,
        Errno::NOTEMPTY => Kind::NotEmpty,
        Errno::NOSPC | Errno::DQUOT => Kind::NoSpace,
        Errno::FBIG => Kind::TooLarge,
        Errno::MFILE | Errno::NFILE => Kind::TooManyHandles,
        Errno::NOSYS | Errno::OPNOTSUPP | Errno::NXIO | Errno::NODEV | Errno::XDEV => Kind::Unsupported,
        // A handle that was not opened for this.
        Errno::INVAL | Errno::NAMETOOLONG | Errno::BADF => Kind::BadRequest,
        _ => Kind::Other,
    };
    error(kind, io::Error::from(errno).to_string())
}
