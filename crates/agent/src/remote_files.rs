//! Requests about files, answered one after the other. All paths are resolved here, inside the sandbox and as its user, so that no link and
//! no `..` can lead to the host; and never by the links of `/proc` that lead into a process, which for this one would lead to what it
//! holds for the node.

mod content;
mod place;
mod small;
mod tree;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use crate::descriptors::{Descriptors, Taken};
use crate::file_protocol::{
    FileAnswer, FileError, FileErrorKind, FileOperation, FileReply, FileRequest, Handle, MAX_HANDLES,
};
use crate::protocol::Frame;
use rustix::fs::Dir;
use rustix::io::Errno;

/// Descriptors that open files leave: for sixteen connections, so that the node is not shut out by what a renter has open.
const FOR_OTHERS: u64 = 64;

/// An answer, and the content that goes with it.
type Outcome = Result<(FileAnswer, Vec<u8>), FileError>;

/// Serves a connection until its asker closes it, or asks for something else ([`io::ErrorKind::InvalidData`]).
pub fn serve(descriptors: &Arc<Descriptors>, mut socket: &UnixStream) -> io::Result<()> {
    let mut files = Files { open: HashMap::new(), descriptors: descriptors.clone() };
    while let Some(frame) = Frame::read(&mut socket)? {
        let Frame::FileRequest(FileRequest { number, operation, bytes }) = frame else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "only requests about files may follow"));
        };
        let (answer, bytes) =
            files.carry_out(operation, &bytes).unwrap_or_else(|error| (FileAnswer::Failed(error), Vec::new()));
        Frame::FileReply(FileReply { number, answer, bytes }).write(&mut socket)?;
    }
    Ok(())
}

/// What one connection has open.
struct Files {
    open: HashMap<Handle, Open>,
    descriptors: Arc<Descriptors>,
}

/// Something open, and the descriptor it takes of those that the agent may have.
struct Open {
    what: Opened,
    path: PathBuf,
    _taken: Taken,
}

enum Opened {
    File(File),
    Directory(Dir),
}

impl Files {
    fn carry_out(&mut self, operation: FileOperation, bytes: &[u8]) -> Outcome {
        use FileOperation as Ask;
        let answer = match operation {
            Ask::Open { handle, path, mode } => {
                self.open(handle, path, |path| place::file(path, mode).map(Opened::File))
            }
            Ask::OpenDirectory { handle, path } => {
                self.open(handle, path, |path| place::directory(path).map(Opened::Directory))
            }
            Ask::Close { handle } => self.open.remove(&handle).map(|_| FileAnswer::Done).ok_or_else(|| unknown(handle)),
            Ask::Read { handle, offset, length } => return content::read(self.file(handle)?, offset, length),
            Ask::Write { handle, offset } => content::write(self.file(handle)?, offset, bytes),
            Ask::List { handle } => tree::list(self.listing(handle)?),
            Ask::Stat { target } => tree::stat(self, &target),
            Ask::Set { target, change } => tree::set(self, &target, change),
            Ask::MakeDirectory { path, permissions } => tree::make_directory(&path, permissions),
            Ask::Remove { path } => tree::remove(&path),
            Ask::RemoveDirectory { path } => tree::remove_directory(&path),
            Ask::Rename { from, to, replace } => tree::rename(&from, &to, replace),
            Ask::Link { from, to } => tree::link(&from, &to),
            Ask::Symlink { target, path } => tree::symlink(&target, &path),
            Ask::ReadLink { path } => tree::read_link(&path),
            Ask::RealPath { path } => tree::real_path(&path),
            Ask::Space { path } => tree::space(&path),
            Ask::Sync { handle } => content::sync(self.file(handle)?),
            Ask::Hash { handle, from, length } => content::hash(self.file(handle)?, from, length),
            Ask::Extent { handle, from } => content::extent(self.file(handle)?, from),
            Ask::Store { path, permissions, modified, hash } => small::store(&path, permissions, modified, hash, bytes),
            Ask::Fetch { path, longest } => return small::fetch(&path, longest),
        };
        answer.map(|answer| (answer, Vec::new()))
    }

    fn open(
        &mut self,
        handle: Handle,
        path: PathBuf,
        open: impl FnOnce(&std::path::Path) -> Result<Opened, FileError>,
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

    fn file(&self, handle: Handle) -> Result<&File, FileError> {
        match self.open.get(&handle) {
            Some(Open { what: Opened::File(file), .. }) => Ok(file),
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
            Some(Open { what: Opened::File(file), .. }) => Ok(file.as_fd()),
            Some(Open { what: Opened::Directory(directory), path, .. }) => {
                directory.fd().map_err(|errno| failed(path, errno))
            }
            None => Err(unknown(handle)),
        }
    }
}

fn unknown(handle: Handle) -> FileError {
    error(FileErrorKind::BadRequest, format!("handle {handle} is not open"))
}

fn error(kind: FileErrorKind, message: String) -> FileError {
    FileError { kind, message }
}

/// An error of the system's about a path.
fn failed(path: &std::path::Path, errno: Errno) -> FileError {
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
