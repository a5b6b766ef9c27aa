//! From this machine into the rental.

use super::{Counter, FOLDERS_AT_ONCE, LARGE_AT_ONCE, Progress, SMALL, Watch, blocking, large, local, part_name, same};
use crate::{
    AccessError,
    files::{Answer, FileCallError, FileChange, FileErrorKind, FileMetadata, Files, done},
};
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use sandbox::{FileKind, FileOperation, Target};
use std::{
    collections::{HashMap, VecDeque},
    ffi::OsString,
    io::Read,
    path::{Path, PathBuf},
};

/// Requests under way beside what large files have.
const UNDER_WAY: usize = 2048;

/// Small files read by a thread at once.
const READ_AT_ONCE: usize = 64;

/// Files and folders of this machine, and where in the rental they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upload {
    pairs: Vec<(PathBuf, PathBuf)>,
}

/// A folder to be looked into.
struct Folder {
    here: PathBuf,
    there: PathBuf,
    metadata: FileMetadata,
    /// It was made just now, so nothing is in it.
    new: bool,
}

type Listing = HashMap<OsString, FileMetadata>;

impl Upload {
    /// Settles what goes where, as `cp` does: into `target` if that is a directory, and else to that name. A path in the rental that is not
    /// absolute begins in its working directory.
    pub async fn new(
        files: &Files,
        sources: Vec<PathBuf>,
        target: &Path,
        recursive: bool,
    ) -> Result<Self, AccessError> {
        let target = Path::new(sandbox::WORKING_DIRECTORY).join(target);
        let into = match files.stat(&target).await {
            Ok(metadata) => metadata.kind == FileKind::Directory,
            Err(FileCallError::Failed(error)) if error.kind == FileErrorKind::NotFound => false,
            Err(error) => return Err(error.into()),
        };
        if sources.len() > 1 && !into {
            return Err(AccessError::Copy(format!(
                "{} is no directory in the rental: make it first",
                target.display()
            )));
        }
        let mut pairs = Vec::new();
        for source in sources {
            let looked = source.clone();
            let metadata = blocking(move || local::stat(&looked)).await?;
            if metadata.kind == FileKind::Directory && !recursive {
                return Err(AccessError::Copy(format!("{} is a directory: copy it with -r", source.display())));
            }
            let to = if into { target.join(name_of(&source)?) } else { target.clone() };
            pairs.push((source, to));
        }
        Ok(Self { pairs })
    }

    /// Copies what is not there yet.
    pub async fn run(&self, files: &Files, watch: Watch<'_>) -> Result<Progress, AccessError> {
        let counter = Counter::new(watch);
        let mut run = Run { files, counter: &counter, under_way: VecDeque::new(), made: Vec::new() };
        for (here, there) in &self.pairs {
            run.pair(here, there).await?;
        }
        run.finish().await?;
        Ok(counter.progress())
    }
}

/// The name that a path of the user's has, `.` and `..` included.
fn name_of(path: &Path) -> Result<OsString, AccessError> {
    if let Some(name) = path.file_name() {
        return Ok(name.to_owned());
    }
    let real = path.canonicalize().map_err(|error| local::local(path, error))?;
    real.file_name().map(Into::into).ok_or_else(|| AccessError::Copy(format!("{} has no name", path.display())))
}

/// A copy under way.
struct Run<'a> {
    files: &'a Files,
    counter: &'a Counter<'a>,
    /// What was asked, and the files and bytes that are done with it.
    under_way: VecDeque<(Answer, u64, u64)>,
    /// Directories, which get their permissions and times when all is in them.
    made: Vec<(PathBuf, FileMetadata)>,
}

impl Run<'_> {
    async fn pair(&mut self, here: &Path, there: &Path) -> Result<(), AccessError> {
        let looked = here.to_path_buf();
        let metadata = blocking(move || local::stat(&looked)).await?;
        if metadata.kind == FileKind::Directory {
            return self.tree(here, there, metadata).await;
        }
        let (Some(name), Some(parent)) = (there.file_name(), there.parent()) else {
            return Err(AccessError::Copy(format!("{} has no name", there.display())));
        };
        let mut listing = Listing::new();
        for name in [name.to_owned(), part_name(name)] {
            if let Some(found) = stat(self.files, &parent.join(&name)).await? {
                listing.insert(name, found);
            }
        }
        let file = File { here: here.to_path_buf(), there: there.to_path_buf(), metadata };
        self.entries(vec![file], &listing).await
    }

    async fn tree(&mut self, here: &Path, there: &Path, metadata: FileMetadata) -> Result<(), AccessError> {
        let new = stat(self.files, there).await?.is_none();
        let mut folders = vec![Folder { here: here.into(), there: there.into(), metadata, new }];
        while !folders.is_empty() {
            let next = folders.split_off(folders.len().saturating_sub(FOLDERS_AT_ONCE));
            for folder in &next {
                self.make(folder).await?;
            }
            let looks = next.iter().map(|folder| look(self.files, folder));
            for (folder, (entries, listing)) in next.iter().zip(try_join_all(looks).await?) {
                let (below, other): (Vec<_>, Vec<_>) =
                    entries.into_iter().partition(|(_, metadata)| metadata.kind == FileKind::Directory);
                folders.extend(below.into_iter().map(|(name, metadata)| Folder {
                    new: !listing.contains_key(&name),
                    here: folder.here.join(&name),
                    there: folder.there.join(&name),
                    metadata,
                }));
                let files = other.into_iter().map(|(name, metadata)| File {
                    here: folder.here.join(&name),
                    there: folder.there.join(&name),
                    metadata,
                });
                self.entries(files.collect(), &listing).await?;
            }
        }
        Ok(())
    }

    async fn make(&mut self, folder: &Folder) -> Result<(), AccessError> {
        if folder.new {
            let make = FileOperation::MakeDirectory { path: folder.there.clone(), permissions: 0o700 };
            self.ask(make, 0, 0).await?;
        }
        self.made.push((folder.there.clone(), folder.metadata));
        Ok(())
    }

    /// Copies what a folder has beside folders.
    async fn entries(&mut self, files: Vec<File>, there: &Listing) -> Result<(), AccessError> {
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for file in files {
            let name = file.there.file_name().unwrap_or_default();
            let found = there.get(name);
            match file.metadata.kind {
                FileKind::Symlink => self.link(&file, found.is_some()).await?,
                FileKind::File => {
                    self.counter.found(1, file.metadata.size);
                    match found {
                        Some(found) if same(found, &file.metadata) => self.keep(&file, found).await?,
                        _ if file.metadata.size <= SMALL => small.push(file),
                        _ => large.push((there.contains_key(&part_name(name)), file)),
                    }
                }
                FileKind::Directory | FileKind::Other => self.counter.left_out(),
            }
        }
        self.small(small).await?;
        let (files, counter) = (self.files, self.counter);
        stream::iter(large)
            .map(|(resume, file)| async move {
                large::send(files, &file.here, &file.metadata, &file.there, resume, counter).await?;
                counter.done(1, 0);
                Ok::<_, AccessError>(())
            })
            .buffer_unordered(LARGE_AT_ONCE)
            .try_collect::<()>()
            .await
    }

    /// What is the same already may have other permissions.
    async fn keep(&mut self, file: &File, found: &FileMetadata) -> Result<(), AccessError> {
        self.counter.kept(1, file.metadata.size);
        if found.permissions != file.metadata.permissions {
            let change = FileChange { permissions: Some(file.metadata.permissions), ..FileChange::default() };
            let target = Target::Path { path: file.there.clone(), follow: false };
            self.ask(FileOperation::Set { target, change }, 0, 0).await?;
        }
        Ok(())
    }

    async fn link(&mut self, file: &File, there: bool) -> Result<(), AccessError> {
        self.counter.found(1, 0);
        let path = file.here.clone();
        let text = blocking(move || local::read_link(&path)).await?;
        if there {
            self.ask(FileOperation::Remove { path: file.there.clone() }, 0, 0).await?;
        }
        self.ask(FileOperation::Symlink { target: text, path: file.there.clone() }, 1, 0).await?;
        let change = FileChange { modified: Some(file.metadata.modified), ..FileChange::default() };
        let target = Target::Path { path: file.there.clone(), follow: false };
        self.ask(FileOperation::Set { target, change }, 0, 0).await
    }

    /// Sends small files whole: while some are under way, a thread reads the next.
    async fn small(&mut self, mut files: Vec<File>) -> Result<(), AccessError> {
        let mut chunks = Vec::new();
        while !files.is_empty() {
            let rest = files.split_off(files.len().min(READ_AT_ONCE));
            chunks.push(std::mem::replace(&mut files, rest));
        }
        let mut chunks = stream::iter(chunks).map(|chunk| blocking(move || read_small(chunk))).buffered(2);
        while let Some(read) = chunks.next().await {
            for (file, bytes) in read? {
                self.settle(UNDER_WAY - 1).await?;
                let (metadata, length) = (file.metadata, bytes.len() as u64);
                let sent = self.files.send_store(&file.there, metadata.permissions, metadata.modified, bytes).await?;
                self.under_way.push_back((sent, 1, length));
            }
        }
        Ok(())
    }

    async fn ask(&mut self, operation: FileOperation, files: u64, bytes: u64) -> Result<(), AccessError> {
        self.settle(UNDER_WAY - 1).await?;
        let answer = self.files.client().send(operation, Vec::new()).await?;
        self.under_way.push_back((answer, files, bytes));
        Ok(())
    }

    /// Waits until so many requests are under way at most.
    async fn settle(&mut self, most: usize) -> Result<(), AccessError> {
        while self.under_way.len() > most {
            let Some((answer, files, bytes)) = self.under_way.pop_front() else { break };
            done(answer.await?)?;
            self.counter.done(files, bytes);
        }
        Ok(())
    }

    /// The innermost directories first: what happens in one changes its time.
    async fn finish(&mut self) -> Result<(), AccessError> {
        for (path, metadata) in std::mem::take(&mut self.made).into_iter().rev() {
            let change = FileChange {
                permissions: Some(metadata.permissions),
                modified: Some(metadata.modified),
                ..FileChange::default()
            };
            self.ask(FileOperation::Set { target: Target::Path { path, follow: false }, change }, 0, 0).await?;
        }
        self.settle(0).await
    }
}

/// A file or link of this machine, and where it goes.
struct File {
    here: PathBuf,
    there: PathBuf,
    metadata: FileMetadata,
}

/// What a folder holds here, and what there is of it in the rental.
async fn look(files: &Files, folder: &Folder) -> Result<(Vec<(OsString, FileMetadata)>, Listing), AccessError> {
    let here = folder.here.clone();
    let entries = blocking(move || local::entries(&here)).await?;
    if folder.new {
        return Ok((entries, Listing::new()));
    }
    let there = files.list(&folder.there).await?;
    Ok((entries, there.into_iter().map(|entry| (entry.name.into_os_string(), entry.metadata)).collect()))
}

/// What a path of the rental stands for, if anything.
async fn stat(files: &Files, path: &Path) -> Result<Option<FileMetadata>, AccessError> {
    match files.stat_link(path).await {
        Ok(metadata) => Ok(Some(metadata)),
        Err(FileCallError::Failed(error)) if error.kind == FileErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Reads files that were small when they were looked at; what has become longer is cut off there.
fn read_small(files: Vec<File>) -> Result<Vec<(File, Vec<u8>)>, AccessError> {
    let read = |file: File| {
        let mut bytes = Vec::with_capacity(file.metadata.size as usize);
        let opened = std::fs::File::open(&file.here).map_err(|error| local::local(&file.here, error))?;
        opened.take(SMALL).read_to_end(&mut bytes).map_err(|error| local::local(&file.here, error))?;
        Ok((file, bytes))
    };
    files.into_iter().map(read).collect()
}
