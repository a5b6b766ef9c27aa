//! Where a client's requests are turned into operations on the sandbox's files. Nothing here waits for the outcome of one: what is to be
//! answered once it is known goes into a [`Due`].

use super::{
    Over,
    ahead::Ahead,
    attributes::Wanted,
    behind::Behind,
    packet::Fields,
    reply::{self, Status},
    request::{self, Request, flag},
};
use futures::{FutureExt, future::BoxFuture};
use sandbox::{
    Answer, FileAnswer, FileCallError, FileClient, FileHandle, FileOperation, MAX_HANDLES, MAX_PIECE, OpenMode, Target,
    WORKING_DIRECTORY,
};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio_util::bytes::Bytes;

/// Bytes read ahead on all files of a client: what may be under way in all, but for a few MiB for what the client asks itself.
const AHEAD_ROOM: u64 = 28 << 20;
/// Permissions of what is made without any being given, from which the sandbox takes its mask off.
const FILE_PERMISSIONS: u32 = 0o666;
const DIRECTORY_PERMISSIONS: u32 = 0o777;

/// A reply that is due.
pub(super) struct Due {
    id: u32,
    packet: BoxFuture<'static, Result<Bytes, FileCallError>>,
}

impl Due {
    fn now(id: u32, packet: Bytes) -> Self {
        Self::later(id, async { Ok(packet) })
    }

    fn later(id: u32, packet: impl Future<Output = Result<Bytes, FileCallError>> + Send + 'static) -> Self {
        Self { id, packet: packet.boxed() }
    }

    /// The reply, when it is known. A failure is a reply too, unless it is that of the way to the files.
    pub(super) async fn packet(self) -> Result<Bytes, FileCallError> {
        match self.packet.await {
            Ok(packet) => Ok(packet),
            Err(error) => reply::failure(self.id, error),
        }
    }
}

/// What a client has open, and the way to the sandbox.
pub(super) struct Desk {
    client: FileClient,
    open: BTreeMap<u32, Open>,
    last: u32,
}

struct Open {
    handle: FileHandle,
    path: PathBuf,
    content: Content,
    /// Opening it has failed, which the client has been told.
    failed: Arc<AtomicBool>,
}

enum Content {
    File { ahead: Ahead, behind: Behind },
    Directory(Listing),
}

/// A directory being listed: one batch is always asked for before the client asks.
struct Listing {
    next: Option<Answer>,
    /// The last batch has come.
    complete: Arc<AtomicBool>,
}

impl Desk {
    pub(super) fn new(client: FileClient) -> Self {
        Self { client, open: BTreeMap::new(), last: 0 }
    }

    /// Has a request carried out.
    pub(super) async fn handle(&mut self, packet: Fields) -> Result<Due, Over> {
        let (id, request) = request::read(packet)?;
        match self.carry_out(id, request).await {
            Ok(due) => Ok(due),
            Err(error) => Ok(Due::now(id, reply::failure(id, error)?)),
        }
    }

    async fn carry_out(&mut self, id: u32, request: Request) -> Result<Due, FileCallError> {
        match request {
            Request::Init => Ok(Due::now(id, reply::version())),
            Request::Limits => Ok(Due::now(id, reply::limits(id))),
            Request::Unknown => Ok(Due::now(id, reply::status(id, Status::Unsupported, "Operation unsupported"))),
            Request::Open { path, flags, wanted } => self.open_file(id, inside(&path), flags, wanted).await,
            Request::OpenDirectory(path) => self.open_directory(id, inside(&path)).await,
            Request::Close(handle) => Ok(self.close(id, handle)),
            Request::Read { handle, offset, length } => self.read(id, handle, offset, length).await,
            Request::Write { handle, offset, data } => self.write(id, handle, offset, &data).await,
            Request::List(handle) => self.list(id, handle).await,
            Request::Sync(handle) => self.sync(id, handle).await,
            Request::StatOpen(handle) => self.on_open(id, handle, |target| FileOperation::Stat { target }).await,
            Request::SetOpen { handle, wanted } => self.set_open(id, handle, wanted).await,
            Request::SpaceOpen(handle) => match self.open.get(&handle).map(|open| open.path.clone()) {
                Some(path) => self.ask(id, FileOperation::Space { path }).await,
                None => Ok(not_open(id)),
            },
            Request::Set { path, follow, wanted } => {
                self.set(id, Target::Path { path: inside(&path), follow }, wanted).await
            }
            Request::ExpandPath(path) => match from_home(&path) {
                Some(path) => self.ask(id, FileOperation::RealPath { path }).await,
                None => Ok(Due::now(id, reply::status(id, Status::NoSuchFile, "The sandbox has one user"))),
            },
            on_paths => match operation(on_paths) {
                Some(operation) => self.ask(id, operation).await,
                None => Ok(Due::now(id, reply::status(id, Status::Unsupported, "Operation unsupported"))),
            },
        }
    }

    /// Asks for something whose answer says all there is to reply.
    async fn ask(&self, id: u32, operation: FileOperation) -> Result<Due, FileCallError> {
        let answer = self.client.send(operation, Vec::new()).await?;
        Ok(Due::later(id, async move { reply::answer(id, &answer.await?.0).ok_or(FileCallError::Unexpected) }))
    }

    async fn on_open(
        &self,
        id: u32,
        handle: u32,
        operation: impl FnOnce(Target) -> FileOperation,
    ) -> Result<Due, FileCallError> {
        match self.open.get(&handle) {
            Some(open) => self.ask(id, operation(Target::Handle(open.handle.number()))).await,
            None => Ok(not_open(id)),
        }
    }

    async fn set_open(&mut self, id: u32, handle: u32, wanted: Wanted) -> Result<Due, FileCallError> {
        match self.open.get(&handle).map(|open| open.handle.number()) {
            Some(number) => self.set(id, Target::Handle(number), wanted).await,
            None => Ok(not_open(id)),
        }
    }

    async fn set(&mut self, id: u32, target: Target, wanted: Wanted) -> Result<Due, FileCallError> {
        if let Some(owner) = wanted.owner_alone() {
            return self.keep_owner(id, target, owner).await;
        }
        self.forget();
        self.ask(id, FileOperation::Set { target, change: wanted.change }).await
    }

    /// Agrees to an owner if it is the one already.
    async fn keep_owner(&self, id: u32, target: Target, owner: (u32, u32)) -> Result<Due, FileCallError> {
        let answer = self.client.send(FileOperation::Stat { target }, Vec::new()).await?;
        Ok(Due::later(id, async move {
            let FileAnswer::Metadata(file) = answer.await?.0 else { return Err(FileCallError::Unexpected) };
            let why = "Everything belongs to the sandbox's user";
            Ok(match (file.user, file.group) == owner {
                true => reply::done(id),
                false => reply::status(id, Status::PermissionDenied, why),
            })
        }))
    }

    async fn open_file(&mut self, id: u32, path: PathBuf, flags: u32, wanted: Wanted) -> Result<Due, FileCallError> {
        let mode = OpenMode {
            read: flags & flag::READ != 0,
            write: flags & flag::WRITE != 0,
            append: flags & flag::APPEND != 0,
            create: flags & flag::CREATE != 0,
            truncate: flags & flag::TRUNCATE != 0,
            exclusive: flags & flag::EXCLUSIVE != 0,
            permissions: wanted.change.permissions.unwrap_or(FILE_PERMISSIONS),
        };
        if mode.write {
            self.forget();
        }
        let content = Content::File { ahead: Ahead::default(), behind: Behind::default() };
        self.opened(id, path, content, |handle, path| FileOperation::Open { handle, path, mode }).await
    }

    async fn open_directory(&mut self, id: u32, path: PathBuf) -> Result<Due, FileCallError> {
        let listing = Listing { next: None, complete: Arc::default() };
        let content = Content::Directory(listing);
        let due = self.opened(id, path, content, |handle, path| FileOperation::OpenDirectory { handle, path }).await?;
        if let Some(Open { handle, content: Content::Directory(listing), .. }) = self.open.get_mut(&self.last) {
            listing.next = Some(list(&self.client, handle).await?);
        }
        Ok(due)
    }

    /// Opens something under a new number. What fails to open keeps its number until something else is opened.
    async fn opened(
        &mut self,
        id: u32,
        path: PathBuf,
        content: Content,
        operation: impl FnOnce(sandbox::Handle, PathBuf) -> FileOperation,
    ) -> Result<Due, FileCallError> {
        self.open.retain(|_, open| !open.failed.load(Ordering::Relaxed));
        if self.open.len() >= MAX_HANDLES {
            return Ok(Due::now(id, reply::status(id, Status::Failure, "Too many files are open")));
        }
        let handle = self.client.handle();
        let answer = self.client.send(operation(handle.number(), path.clone()), Vec::new()).await?;
        let failed = Arc::new(AtomicBool::new(false));
        self.last = self.last.wrapping_add(1).max(1);
        let number = self.last;
        self.open.insert(number, Open { handle, path, content, failed: failed.clone() });
        Ok(Due::later(id, async move {
            let opened = answer.await;
            failed.store(opened.is_err(), Ordering::Relaxed);
            opened.map(|_| reply::handle(id, number))
        }))
    }

    fn close(&mut self, id: u32, handle: u32) -> Due {
        let Some(Open { handle, mut content, .. }) = self.open.remove(&handle) else { return not_open(id) };
        Due::later(id, async move {
            let settled = match &mut content {
                Content::File { behind, .. } => behind.settle().await,
                Content::Directory(_) => Ok(()),
            };
            let closed = handle.close().await;
            settled.and(closed).map(|()| reply::done(id))
        })
    }

    async fn read(&mut self, id: u32, handle: u32, offset: u64, length: u32) -> Result<Due, FileCallError> {
        let held: u64 = self.open.values().map(Open::held).sum();
        let Some(Open { handle, content: Content::File { ahead, .. }, .. }) = self.open.get_mut(&handle) else {
            return Ok(not_open(id));
        };
        let length = length.min(u32::try_from(MAX_PIECE).unwrap_or(u32::MAX));
        let room = AHEAD_ROOM.saturating_sub(held - ahead.held());
        let Some((answer, end)) = ahead.read((&self.client, handle.number()), offset, length, room).await? else {
            return Ok(Due::now(id, reply::end(id)));
        };
        Ok(Due::later(id, async move {
            let (_, bytes) = answer.await?;
            end.saw(offset, length, bytes.len());
            Ok(reply::data(id, &bytes))
        }))
    }

    async fn write(&mut self, id: u32, handle: u32, offset: u64, data: &[u8]) -> Result<Due, FileCallError> {
        self.forget();
        let Some(Open { handle, content: Content::File { behind, .. }, .. }) = self.open.get_mut(&handle) else {
            return Ok(not_open(id));
        };
        behind.write((&self.client, handle.number()), offset, data).await?;
        Ok(Due::now(id, reply::done(id)))
    }

    async fn sync(&mut self, id: u32, handle: u32) -> Result<Due, FileCallError> {
        let Some(Open { handle, content: Content::File { behind, .. }, .. }) = self.open.get_mut(&handle) else {
            return Ok(not_open(id));
        };
        let settled = behind.settle();
        let synced = self.client.send(FileOperation::Sync { handle: handle.number() }, Vec::new()).await?;
        Ok(Due::later(id, async move {
            settled.await?;
            synced.await?;
            Ok(reply::done(id))
        }))
    }

    async fn list(&mut self, id: u32, handle: u32) -> Result<Due, FileCallError> {
        let Some(Open { handle, content: Content::Directory(listing), .. }) = self.open.get_mut(&handle) else {
            return Ok(not_open(id));
        };
        if listing.complete.load(Ordering::Relaxed) {
            return Ok(Due::now(id, reply::end(id)));
        }
        let answer = match listing.next.take() {
            Some(answer) => answer,
            None => list(&self.client, handle).await?,
        };
        listing.next = Some(list(&self.client, handle).await?);
        let complete = listing.complete.clone();
        Ok(Due::later(id, async move {
            let (FileAnswer::Entries { entries, last }, _) = answer.await? else {
                return Err(FileCallError::Unexpected);
            };
            complete.fetch_or(last, Ordering::Relaxed);
            Ok(reply::names(id, &entries))
        }))
    }

    /// Something is being changed: what was read ahead may be out of date.
    fn forget(&mut self) {
        for open in self.open.values_mut() {
            if let Content::File { ahead, .. } = &mut open.content {
                ahead.forget();
            }
        }
    }
}

impl Open {
    fn held(&self) -> u64 {
        match &self.content {
            Content::File { ahead, .. } => ahead.held(),
            Content::Directory(_) => 0,
        }
    }
}

async fn list(client: &FileClient, handle: &FileHandle) -> Result<Answer, FileCallError> {
    client.send(FileOperation::List { handle: handle.number() }, Vec::new()).await
}

fn not_open(id: u32) -> Due {
    Due::now(id, reply::status(id, Status::Failure, "No such handle"))
}

/// The operation that a request on paths alone comes to.
fn operation(request: Request) -> Option<FileOperation> {
    Some(match request {
        Request::Stat { path, follow } => FileOperation::Stat { target: Target::Path { path: inside(&path), follow } },
        Request::Remove(path) => FileOperation::Remove { path: inside(&path) },
        Request::MakeDirectory { path, wanted } => {
            let permissions = wanted.change.permissions.unwrap_or(DIRECTORY_PERMISSIONS);
            FileOperation::MakeDirectory { path: inside(&path), permissions }
        }
        Request::RemoveDirectory(path) => FileOperation::RemoveDirectory { path: inside(&path) },
        Request::RealPath(path) => FileOperation::RealPath { path: inside(&path) },
        Request::Rename { from, to, replace } => {
            FileOperation::Rename { from: inside(&from), to: inside(&to), replace }
        }
        Request::ReadLink(path) => FileOperation::ReadLink { path: inside(&path) },
        Request::Symlink { target, path } => {
            FileOperation::Symlink { target: OsStr::from_bytes(&target).into(), path: inside(&path) }
        }
        Request::Link { from, to } => FileOperation::Link { from: inside(&from), to: inside(&to) },
        Request::Space(path) => FileOperation::Space { path: inside(&path) },
        _ => return None,
    })
}

/// A path as the sandbox has it: what does not begin at the root begins where programs start, which is home too.
fn inside(path: &[u8]) -> PathBuf {
    Path::new(WORKING_DIRECTORY).join(OsStr::from_bytes(path))
}

/// A path that may begin with `~`. Other users' homes there are none.
fn from_home(path: &[u8]) -> Option<PathBuf> {
    match path {
        b"~" => Some(inside(b"")),
        [b'~', b'/', rest @ ..] => Some(inside(trim_slashes(rest))),
        [b'~', ..] => None,
        path => Some(inside(path)),
    }
}

fn trim_slashes(path: &[u8]) -> &[u8] {
    let slashes = path.iter().take_while(|byte| **byte == b'/').count();
    &path[slashes..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_begin_at_home_unless_they_begin_at_the_root() {
        assert_eq!(inside(b"model.bin"), Path::new("/job/model.bin"));
        assert_eq!(inside(b"/tmp/x"), Path::new("/tmp/x"));
        assert_eq!(from_home(b"~").unwrap(), Path::new("/job/"));
        assert_eq!(from_home(b"~//x").unwrap(), Path::new("/job/x"));
        assert_eq!(from_home(b"/tmp/~").unwrap(), Path::new("/tmp/~"));
        assert!(from_home(b"~root/x").is_none());
    }
}
