//! The tree that an image is unpacked into. Every path is resolved by the kernel as if the tree were the whole file system (`openat2`
//! with `RESOLVE_IN_ROOT`): a link that points up, or to an absolute path, leads to the same place inside as it would for a program of
//! the image, so layers that write through links of lower ones come out right and nothing comes out elsewhere. The last name of a path is
//! never followed, and a file is always a new one. This holds the same promise as unpacking in a process with its root changed, without
//! one. Nobody else writes below the root meanwhile: it lies in a directory of the node's own.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, chownat, fchmod, fchown, fstat, linkat, mkdirat, openat,
    openat2, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

/// Depth of directories: what removes the tree again walks down with one open directory a level. The deepest real ones have some forty.
const MAX_DEPTH: usize = 128;

/// How a directory is opened: to be read and changed, and never another kind of file.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Why something could not be put into the tree.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The archive asks for what cannot be.
    Refused(String),
    /// This machine's fault.
    Machine(std::io::Error),
}

impl From<Errno> for Fault {
    fn from(error: Errno) -> Fault {
        match error {
            Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::ROFS => {
                Fault::Machine(error.into())
            }
            // Whatever else the kernel refuses is due to what was asked of it.
            other => Fault::Refused(std::io::Error::from(other).to_string()),
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Fault {
        error
            .raw_os_error()
            .map_or_else(|| Fault::Refused(error.to_string()), |code| Errno::from_raw_os_error(code).into())
    }
}

/// Who owns a file inside, and what may be done with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ownership {
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) mode: u32,
}

/// A directory of the tree, opened.
struct Parent {
    path: PathBuf,
    directory: OwnedFd,
    inode: u64,
}

/// The tree.
pub(crate) struct Tree {
    root: OwnedFd,
    /// Where the root is, as the kernel says it: the depth of others is counted from there.
    root_path: PathBuf,
    /// Most entries are in the directory of the one before.
    last: Option<Parent>,
    /// What the current layer made, as hashes of directory and name: its own marks of removal must not touch that.
    made: HashSet<u64>,
    hasher: RandomState,
}

impl Tree {
    /// A tree at an empty directory.
    pub(crate) fn new(root: &Path) -> std::io::Result<Tree> {
        let root = openat(CWD, root, DIRECTORY, Mode::empty())?;
        let root_path = real_path(&root)?;
        Ok(Tree { root, root_path, last: None, made: HashSet::new(), hasher: RandomState::new() })
    }

    /// Begins a layer on top of what is there.
    pub(crate) fn begin_layer(&mut self) {
        self.made.clear();
    }

    /// Writes all of the tree's file system to the disk, so that a tree that is found whole after a crash is whole.
    pub(crate) fn sync(&self) -> std::io::Result<()> {
        Ok(rustix::fs::syncfs(&self.root)?)
    }

    /// The owner of the root itself.
    pub(crate) fn own_root(&mut self, owner: Ownership) -> Result<(), Fault> {
        own(&self.root, owner)
    }

    /// A directory; one that is there keeps what it holds.
    pub(crate) fn directory(&mut self, path: &Path, name: &OsStr, owner: Ownership) -> Result<(), Fault> {
        self.enter(path)?;
        if self.kind(name)? != Some(FileType::Directory) {
            self.clear_place(name)?;
            let parent = self.parent()?;
            // As deep as it is, so one more would be too deep.
            self.check_depth(&parent.directory, 1)?;
            mkdirat(&parent.directory, name, Mode::RWXU)?;
        }
        let made = openat(&self.parent()?.directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        own(&made, owner)?;
        self.mark(name)
    }

    /// A new, empty file, to be written and then owned.
    pub(crate) fn file(&mut self, path: &Path, name: &OsStr) -> Result<File, Fault> {
        self.enter(path)?;
        self.clear_place(name)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.parent()?.directory, name, flags, Mode::RUSR | Mode::WUSR)?;
        self.mark(name)?;
        Ok(file.into())
    }

    /// A symbolic link. Where it points to matters to nobody but programs inside.
    pub(crate) fn symlink(&mut self, path: &Path, name: &OsStr, target: &OsStr, owner: Ownership) -> Result<(), Fault> {
        self.enter(path)?;
        self.clear_place(name)?;
        let directory = &self.parent()?.directory;
        symlinkat(target, directory, name)?;
        let (user, group) = (Uid::from_raw(owner.user), Gid::from_raw(owner.group));
        chownat(directory, name, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
        self.mark(name)
    }

    /// Another name of a file or symbolic link of the tree.
    pub(crate) fn hard_link(&mut self, path: &Path, name: &OsStr, old: (&Path, &OsStr)) -> Result<(), Fault> {
        let (old_path, old_name) = old;
        let directory = self.open(old_path)?;
        let found = statat(&directory, old_name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !matches!(FileType::from_raw_mode(found.st_mode), FileType::RegularFile | FileType::Symlink) {
            return Err(Fault::Refused("a hard link to something that is no file".into()));
        }
        self.enter(path)?;
        let parent = self.parent()?;
        if let Ok(there) = statat(&parent.directory, name, AtFlags::SYMLINK_NOFOLLOW)
            && (there.st_dev, there.st_ino) == (found.st_dev, found.st_ino)
        {
            // Removing the new name first would remove the file.
            return self.mark(name);
        }
        self.clear_place(name)?;
        linkat(&directory, old_name, &self.parent()?.directory, name, AtFlags::empty())?;
        self.mark(name)
    }

    /// Removes what lower layers have here.
    pub(crate) fn hide(&mut self, path: &Path, name: &OsStr) -> Result<(), Fault> {
        let Some(directory) = self.open_if_there(path)? else { return Ok(()) };
        self.last = None;
        self.remove(&directory, name, true, 0)
    }

    /// Removes all that lower layers have in this directory.
    pub(crate) fn hide_all(&mut self, path: &Path) -> Result<(), Fault> {
        let Some(directory) = self.open_if_there(path)? else { return Ok(()) };
        self.last = None;
        self.clear(&directory, true, 0)
    }

    /// Opens a directory of the tree. Links on the way are those of the tree.
    fn open(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
        openat2(&self.root, path, DIRECTORY, Mode::empty(), resolve)
    }

    fn open_if_there(&self, path: &Path) -> Result<Option<OwnedFd>, Fault> {
        match self.open(path) {
            Ok(directory) => Ok(Some(directory)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes this directory, which the next entry is in, the current one; it and those above it are made if they are not there.
    fn enter(&mut self, path: &Path) -> Result<(), Fault> {
        if self.last.as_ref().is_some_and(|parent| parent.path == path) {
            return Ok(());
        }
        self.last = None;
        let directory = match self.open(path) {
            Err(Errno::NOENT) => self.make_all(path)?,
            opened => opened?,
        };
        self.check_depth(&directory, 0)?;
        let inode = fstat(&directory)?.st_ino;
        self.last = Some(Parent { path: path.into(), directory, inode });
        Ok(())
    }

    /// Directories that the archive forgot to name: root's, and open to all.
    fn make_all(&mut self, path: &Path) -> Result<OwnedFd, Fault> {
        let mut above = self.open(Path::new(""))?;
        let mut so_far = PathBuf::new();
        for name in path {
            so_far.push(name);
            above = match self.open(&so_far) {
                Err(Errno::NOENT) => {
                    self.check_depth(&above, 1)?;
                    // A link that leads nowhere is in the way, and stays: what it means is for the image to say.
                    mkdirat(&above, name, Mode::from_raw_mode(0o755))?;
                    let hash = self.hash(fstat(&above)?.st_ino, name);
                    self.made.insert(hash);
                    let made = self.open(&so_far)?;
                    // The mask of this process may have closed it.
                    fchmod(&made, Mode::from_raw_mode(0o755))?;
                    made
                }
                opened => opened?,
            };
        }
        Ok(above)
    }

    fn parent(&self) -> Result<&Parent, Fault> {
        self.last.as_ref().ok_or_else(|| Fault::Refused("its directory is gone".into()))
    }

    fn mark(&mut self, name: &OsStr) -> Result<(), Fault> {
        let hash = self.hash(self.parent()?.inode, name);
        self.made.insert(hash);
        Ok(())
    }

    fn hash(&self, directory: u64, name: &OsStr) -> u64 {
        self.hasher.hash_one((directory, name.as_bytes()))
    }

    /// What is at a name of the current directory.
    fn kind(&self, name: &OsStr) -> Result<Option<FileType>, Fault> {
        match statat(&self.parent()?.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(FileType::from_raw_mode(found.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes whatever has a name that a new entry of the current directory takes.
    fn clear_place(&mut self, name: &OsStr) -> Result<(), Fault> {
        if self.kind(name)?.is_none() {
            return Ok(());
        }
        // The current directory may be known by a path through what is removed here.
        let Some(parent) = self.last.take() else { return Ok(()) };
        self.remove(&parent.directory, name, false, 0)?;
        self.enter(&parent.path)
    }

    /// Removes a name with all below it; with `spare`, not what this layer made.
    fn remove(&self, directory: &OwnedFd, name: &OsStr, spare: bool, depth: usize) -> Result<(), Fault> {
        let found = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            found => found?,
        };
        let kept = spare && self.made.contains(&self.hash(fstat(directory)?.st_ino, name));
        if FileType::from_raw_mode(found.st_mode) != FileType::Directory {
            return if kept { Ok(()) } else { Ok(unlinkat(directory, name, AtFlags::empty())?) };
        }
        let inner = openat(directory, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty())?;
        self.clear(&inner, spare, depth + 1)?;
        if kept {
            return Ok(());
        }
        match unlinkat(directory, name, AtFlags::REMOVEDIR) {
            // It holds something that this layer made.
            Err(Errno::NOTEMPTY) if spare => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// Removes what a directory holds; with `spare`, not what this layer made.
    fn clear(&self, directory: &OwnedFd, spare: bool, depth: usize) -> Result<(), Fault> {
        if depth > MAX_DEPTH {
            return Err(too_deep());
        }
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                self.remove(directory, OsStr::from_bytes(name), spare, depth)?;
            }
        }
        Ok(())
    }

    fn check_depth(&self, directory: &OwnedFd, more: usize) -> Result<(), Fault> {
        let path = real_path(directory)?;
        let below =
            path.strip_prefix(&self.root_path).map_err(|_| Fault::Refused("it is not below the root".into()))?;
        if below.components().count() + more > MAX_DEPTH { Err(too_deep()) } else { Ok(()) }
    }
}

fn too_deep() -> Fault {
    Fault::Refused(format!("it is more than {MAX_DEPTH} directories deep"))
}

/// Where an open directory is, links resolved.
fn real_path(directory: &OwnedFd) -> std::io::Result<PathBuf> {
    std::fs::read_link(descriptor_path(directory))
}

/// A path that leads to an open file.
pub(crate) fn descriptor_path(file: &impl AsRawFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Sets owner and permissions of an open file, in this order, since a change of owner takes permissions away.
pub(crate) fn own(file: &impl AsFd, owner: Ownership) -> Result<(), Fault> {
    fchown(file, Some(Uid::from_raw(owner.user)), Some(Gid::from_raw(owner.group)))?;
    Ok(fchmod(file, Mode::from_raw_mode(owner.mode))?)
}
