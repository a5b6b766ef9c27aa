//! From the rental to this machine.

use super::{
    Counter, FOLDERS_AT_ONCE, LARGE_AT_ONCE, Progress, SMALL, Watch, blocking, large, local, part_name, pattern, same,
};
use crate::{
    AccessError,
    files::{Answer, FileCallError, FileEntry, FileErrorKind, FileMetadata, Files, PIECE, fetched},
};
use futures::{StreamExt, TryStreamExt, future::try_join_all, stream};
use sandbox::FileKind;
use std::{
    collections::{HashMap, VecDeque},
    ffi::OsString,
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

/// Small files asked for and not yet answered.
const UNDER_WAY: usize = 2048;

/// Bytes that a small file may have grown by since it was listed.
const SLACK: u32 = 4 * 1024;

/// Files and folders waiting for this machine's disk: a few MiB at most.
const WAITING: usize = 64;

/// Files and folders of the rental, and where on this machine they go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// A folder of this machine that is there.
    folder: PathBuf,
    pairs: Vec<Pair>,
}

/// A path of the rental, and its name below the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pair {
    there: PathBuf,
    name: OsString,
    /// If it is a link, then what that leads to is meant: so it is when it was named, and not found by a pattern.
    follow: bool,
}

impl Download {
    /// Settles what goes where, as `cp` does: into `target` if that is a folder, and else to that name. A path in the rental may have
    /// patterns (`*`, `?`, `[…]`); one that is not absolute begins in its working directory.
    pub async fn new(
        files: &Files,
        sources: &[PathBuf],
        target: PathBuf,
        recursive: bool,
    ) -> Result<Self, AccessError> {
        let mut found = Vec::new();
        for source in sources {
            let source = Path::new(sandbox::WORKING_DIRECTORY).join(source);
            found.extend(pattern::expand(files, &source).await?);
        }
        for source in &found {
            let kind = stat(files, &source.path, !source.matched).await?.kind;
            if kind == FileKind::Directory && !recursive {
                return Err(AccessError::Copy(format!("{} is a directory: copy it with -r", source.path.display())));
            }
        }
        let target = blocking(move || Ok((target.is_dir(), target))).await?;
        match (target, found.as_slice()) {
            ((true, folder), _) => {
                let mut pairs = Vec::new();
                for source in found {
                    let name = name_of(files, &source.path).await?;
                    pairs.push(Pair { there: source.path, name, follow: !source.matched });
                }
                Ok(Self { folder, pairs })
            }
            ((false, target), [source]) => {
                let nameless = || AccessError::Copy(format!("{} has no name", target.display()));
                let name = target.file_name().ok_or_else(nameless)?.to_owned();
                let folder = match target.parent() {
                    Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
                    _ => PathBuf::from("."),
                };
                Ok(Self { folder, pairs: vec![Pair { there: source.path.clone(), name, follow: !source.matched }] })
            }
            ((false, target), _) => {
                Err(AccessError::Copy(format!("{} is no folder of this machine: make it first", target.display())))
            }
        }
    }

    /// Copies what is not there yet.
    pub async fn run(&self, files: &Files, watch: Watch<'_>) -> Result<Progress, AccessError> {
        let counter = Counter::new(watch);
        let folder = self.folder.clone();
        let folder = Arc::new(blocking(move || local::Folder::open(&folder)).await?);
        let (disk, steps) = mpsc::channel(WAITING);
        let writing = folder.clone();
        let writer = tokio::task::spawn_blocking(move || write(&writing, steps));
        let mut run = Run { files, counter: &counter, folder, disk, under_way: VecDeque::new(), made: Vec::new() };
        let outcome = run.all(&self.pairs).await;
        drop(run);
        finished(writer, outcome).await?;
        Ok(counter.progress())
    }
}

/// Why nothing could be written any more explains that the copy ended.
async fn finished(
    writer: JoinHandle<Result<(), AccessError>>,
    outcome: Result<(), AccessError>,
) -> Result<(), AccessError> {
    writer.await.map_err(|_| AccessError::Interrupted)??;
    outcome
}

/// The name that a path of the rental has, `.` and `..` included.
async fn name_of(files: &Files, path: &Path) -> Result<OsString, AccessError> {
    if let Some(name) = path.file_name() {
        return Ok(name.to_owned());
    }
    let real = files.real_path(path).await?;
    // It is the rental's word, but its last part is a name whatever it says.
    real.file_name().map(Into::into).ok_or_else(|| AccessError::Copy(format!("{} has no name", path.display())))
}

/// What this machine's disk is to do, in order.
enum Step {
    Folder {
        inner: PathBuf,
    },
    Link {
        inner: PathBuf,
        text: PathBuf,
        metadata: FileMetadata,
    },
    Small {
        inner: PathBuf,
        metadata: FileMetadata,
        bytes: Vec<u8>,
    },
    Permissions {
        inner: PathBuf,
        permissions: u32,
    },
    FinishFolder {
        inner: PathBuf,
        metadata: FileMetadata,
    },
    /// Says that all before it is done.
    Reached(oneshot::Sender<()>),
}

fn write(folder: &local::Folder, mut steps: mpsc::Receiver<Step>) -> Result<(), AccessError> {
    let mut last = None;
    while let Some(step) = steps.blocking_recv() {
        match step {
            Step::Folder { inner } => folder.make(&inner)?,
            Step::Link { inner, text, metadata } => folder.link(&inner, &text, metadata.modified)?,
            Step::Small { inner, metadata, bytes } => folder.store(&mut last, &inner, &metadata, &bytes)?,
            Step::Permissions { inner, permissions } => folder.set_permissions(&inner, permissions)?,
            Step::FinishFolder { inner, metadata } => folder.finish_folder(&inner, &metadata)?,
            Step::Reached(asker) => drop(asker.send(())),
        }
    }
    Ok(())
}

/// A copy under way.
struct Run<'a> {
    files: &'a Files,
    counter: &'a Counter<'a>,
    folder: Arc<local::Folder>,
    disk: mpsc::Sender<Step>,
    /// Small files that were asked for, and where they go.
    under_way: VecDeque<(Answer, PathBuf)>,
    /// Folders, which get their permissions and times when all is in them.
    made: Vec<(PathBuf, FileMetadata)>,
}

/// A file or folder of the rental, and where below the folder it goes.
#[derive(Clone)]
struct Item {
    there: PathBuf,
    inner: PathBuf,
    metadata: FileMetadata,
}

type Listing = HashMap<OsString, FileMetadata>;

impl Run<'_> {
    async fn all(&mut self, pairs: &[Pair]) -> Result<(), AccessError> {
        let mut folders = Vec::new();
        let mut items = Vec::new();
        for pair in pairs {
            let metadata = stat(self.files, &pair.there, pair.follow).await?;
            let item = Item { there: pair.there.clone(), inner: pair.name.clone().into(), metadata };
            if metadata.kind == FileKind::Directory { folders.push(item) } else { items.push(item) }
        }
        let here = self.listing(Path::new("")).await?;
        self.items(items, &here).await?;
        while !folders.is_empty() {
            let next = folders.split_off(folders.len().saturating_sub(FOLDERS_AT_ONCE));
            for folder in &next {
                self.step(Step::Folder { inner: folder.inner.clone() }).await?;
                self.made.push((folder.inner.clone(), folder.metadata));
            }
            let looks = next.iter().map(|folder| look(self.files, &self.folder, folder));
            for (folder, (entries, here)) in next.iter().zip(try_join_all(looks).await?) {
                let item = |entry: FileEntry| Item {
                    there: folder.there.join(&entry.name),
                    inner: folder.inner.join(&entry.name),
                    metadata: entry.metadata,
                };
                let (below, other): (Vec<_>, Vec<_>) =
                    entries.into_iter().map(item).partition(|item| item.metadata.kind == FileKind::Directory);
                folders.extend(below);
                self.items(other, &here).await?;
            }
        }
        self.settle(0).await?;
        // The innermost folders first: what happens in one changes its time.
        for (inner, metadata) in std::mem::take(&mut self.made).into_iter().rev() {
            self.step(Step::FinishFolder { inner, metadata }).await?;
        }
        Ok(())
    }

    async fn listing(&self, inner: &Path) -> Result<Listing, AccessError> {
        let (folder, inner) = (self.folder.clone(), inner.to_path_buf());
        blocking(move || folder.entries(&inner)).await
    }

    /// Copies what a folder has beside folders.
    async fn items(&mut self, items: Vec<Item>, here: &Listing) -> Result<(), AccessError> {
        let mut large = Vec::new();
        for item in items {
            let name = item.inner.file_name().unwrap_or_default();
            match item.metadata.kind {
                FileKind::Symlink => self.link(item).await?,
                FileKind::File => {
                    self.counter.found(1, item.metadata.size);
                    match here.get(name) {
                        Some(found) if same(found, &item.metadata) => self.keep(item, found).await?,
                        _ if item.metadata.size <= SMALL => self.small(item).await?,
                        _ => large.push((here.contains_key(&part_name(name)), item)),
                    }
                }
                FileKind::Directory | FileKind::Other => self.counter.left_out(),
            }
        }
        if large.is_empty() {
            return Ok(());
        }
        // The folder they go to is made by then.
        let (asker, reached) = oneshot::channel();
        self.step(Step::Reached(asker)).await?;
        reached.await.map_err(|_| AccessError::Interrupted)?;
        let (files, counter, folder) = (self.files, self.counter, &self.folder);
        stream::iter(large)
            .map(|(resume, item)| fetch_large(files, folder.clone(), item, resume, counter))
            .buffer_unordered(LARGE_AT_ONCE)
            .try_collect::<()>()
            .await
    }

    async fn keep(&mut self, item: Item, found: &FileMetadata) -> Result<(), AccessError> {
        self.counter.kept(1, item.metadata.size);
        let permissions = item.metadata.permissions;
        if found.permissions & 0o777 != permissions & 0o777 {
            self.step(Step::Permissions { inner: item.inner, permissions }).await?;
        }
        Ok(())
    }

    async fn link(&mut self, item: Item) -> Result<(), AccessError> {
        self.counter.found(1, 0);
        let text = self.files.read_link(item.there).await?;
        self.step(Step::Link { inner: item.inner, text, metadata: item.metadata }).await?;
        self.counter.done(1, 0);
        Ok(())
    }

    async fn small(&mut self, item: Item) -> Result<(), AccessError> {
        self.settle(UNDER_WAY - 1).await?;
        // Room for what was appended since it was listed.
        let longest = u32::try_from(item.metadata.size).unwrap_or(PIECE).saturating_add(SLACK).min(SMALL as u32);
        let answer = self.files.send_fetch(&item.there, longest).await?;
        self.under_way.push_back((answer, item.inner));
        Ok(())
    }

    /// Waits until so many small files are under way at most.
    async fn settle(&mut self, most: usize) -> Result<(), AccessError> {
        while self.under_way.len() > most {
            let Some((answer, inner)) = self.under_way.pop_front() else { break };
            let (metadata, bytes) = fetched(answer.await?)?;
            let length = bytes.len() as u64;
            self.step(Step::Small { inner, metadata, bytes }).await?;
            self.counter.done(1, length);
        }
        Ok(())
    }

    async fn step(&self, step: Step) -> Result<(), AccessError> {
        // The thread that writes has failed, and its error says more.
        self.disk.send(step).await.map_err(|_| AccessError::Interrupted)
    }
}

/// What a path of the rental stands for. A link that leads nowhere stands for itself.
async fn stat(files: &Files, path: &Path, follow: bool) -> Result<FileMetadata, AccessError> {
    if follow {
        match files.stat(path).await {
            Err(FileCallError::Failed(error)) if error.kind == FileErrorKind::NotFound => {}
            followed => return Ok(followed?),
        }
    }
    Ok(files.stat_link(path).await?)
}

/// What a folder of the rental holds, and what there is of it here.
async fn look(
    files: &Files,
    folder: &Arc<local::Folder>,
    item: &Item,
) -> Result<(Vec<FileEntry>, Listing), AccessError> {
    let (folder, inner) = (folder.clone(), item.inner.clone());
    let here = blocking(move || folder.entries(&inner)).await?;
    Ok((files.list(&item.there).await?, here))
}

async fn fetch_large(
    files: &Files,
    folder: Arc<local::Folder>,
    item: Item,
    resume: bool,
    counter: &Counter<'_>,
) -> Result<(), AccessError> {
    let (opened, inner) = (folder.clone(), item.inner.clone());
    let part = blocking(move || opened.part(&inner)).await?;
    let part = large::fetch(files, &item.there, &item.metadata, part, resume, counter).await?;
    blocking(move || folder.finish_part(&item.inner, &part, &item.metadata)).await?;
    counter.done(1, 0);
    Ok(())
}
