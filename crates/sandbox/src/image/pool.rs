//! The pool of unpacked images: a directory for each tree, named by the layers it is made of, so that it needs no check when it is found
//! again. A tree appears under its name whole or not at all. It goes when room is needed and no sandbox uses it: a sandbox's own
//! directory says which tree it uses, so that this survives a restart of the node.
//!
//! - `trees/<digest>`: the trees, each with a `<digest>.json` beside it that says how large it is and, by its time, when it was used;
//! - `references/<digest>.json`: which tree and configuration an image of a registry turned out to be;
//! - `partial/<number>`: what is being made or removed, thrown away when the pool is opened.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{ImageConfig, ImageDigest, ImageError};

/// The least that a tree counts for, so that there cannot be any number of tiny ones.
const LEAST: u64 = 1 << 20;

/// References remembered: some KiB each. The longest unused is forgotten, and asked for again when it is needed.
const MAX_REFERENCES: usize = 10_000;

/// The name of the file in a sandbox's directory that says which tree it uses.
const USE: &str = "image.json";

const TREES: &str = "trees";
const REFERENCES: &str = "references";
const PARTIAL: &str = "partial";

/// The image that a sandbox uses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ImageUse {
    pub(crate) tree: ImageDigest,
    pub(crate) config: ImageConfig,
}

impl ImageUse {
    /// What the directory of a sandbox says, if it uses an image.
    pub(crate) fn of(sandbox: &Path) -> Option<ImageUse> {
        read_json(&sandbox.join(USE)).ok()
    }
}

/// How large a tree is.
#[derive(Serialize, Deserialize)]
struct Size {
    bytes: u64,
}

/// A tree of the pool.
struct Found {
    digest: ImageDigest,
    bytes: u64,
    last_use: SystemTime,
}

/// The pool's directory.
pub(crate) struct Pool {
    root: PathBuf,
    /// Where the directories of sandboxes are.
    sandboxes: PathBuf,
    limit: u64,
    /// Trees that calls of this process use, and how often. Held while trees come and go.
    held: Mutex<HashMap<ImageDigest, usize>>,
    serial: AtomicU64,
}

/// An unpacked image. While this lives the tree stays; so it does while the directory of a sandbox says that it is used.
pub struct PreparedImage {
    pub(crate) tree: PathBuf,
    pub(crate) used: ImageUse,
    pool: Arc<Pool>,
}

impl PreparedImage {
    /// What the image says of its programs.
    pub fn config(&self) -> &ImageConfig {
        &self.used.config
    }

    /// The digest of what the tree holds: the same for every image with the same layers.
    pub fn tree(&self) -> ImageDigest {
        self.used.tree
    }

    /// Writes down that the sandbox with this directory uses the image, until the directory is removed.
    pub(crate) fn give_to(&self, sandbox: &Path) -> Result<(), ImageError> {
        write_json(&sandbox.join(USE), &self.used)
    }
}

impl Drop for PreparedImage {
    fn drop(&mut self) {
        let mut held = self.pool.held();
        if let Some(count) = held.get_mut(&self.used.tree) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.used.tree);
            }
        }
    }
}

/// A directory that goes with what holds it.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "the next start removes it");
        }
    }
}

impl Pool {
    /// Opens the pool, and throws away what an interrupted run left. It is made when the first image comes.
    pub(crate) fn open(root: &Path, sandboxes: &Path, limit: u64) -> Result<Pool, ImageError> {
        let partial = root.join(PARTIAL);
        match fs::remove_dir_all(&partial) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(ImageError::at(&partial)(error)),
            _ => {}
        }
        let (root, sandboxes) = (root.into(), sandboxes.into());
        Ok(Pool { root, sandboxes, limit, held: Mutex::default(), serial: AtomicU64::new(0) })
    }

    /// A new directory for what is not whole yet. All that is put into the pool begins with one.
    pub(crate) fn scratch(&self) -> Result<Scratch, ImageError> {
        for directory in [TREES, REFERENCES, PARTIAL] {
            let path = self.root.join(directory);
            DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(ImageError::at(&path))?;
        }
        let path = self.unused();
        DirBuilder::new().mode(0o700).create(&path).map_err(ImageError::at(&path))?;
        Ok(Scratch(path))
    }

    /// The tree of this name with this configuration, if it is there.
    pub(crate) fn find(self: &Arc<Pool>, used: ImageUse) -> Option<PreparedImage> {
        self.hold(&mut self.held(), used)
    }

    fn hold(self: &Arc<Pool>, held: &mut HashMap<ImageDigest, usize>, used: ImageUse) -> Option<PreparedImage> {
        let (tree, size) = self.places(&used.tree);
        // The note on its size is written first, so a tree without one is being removed.
        let note = File::options().write(true).open(&size).ok().filter(|_| tree.is_dir())?;
        if let Err(error) = note.set_modified(SystemTime::now()) {
            tracing::warn!(path = %size.display(), %error, "cannot note that an image is used");
        }
        *held.entry(used.tree).or_default() += 1;
        Some(PreparedImage { tree, used, pool: self.clone() })
    }

    /// Gives a whole tree its name. Room is made for it first.
    pub(crate) fn install(
        self: &Arc<Pool>,
        tree: &Path,
        bytes: u64,
        used: ImageUse,
    ) -> Result<PreparedImage, ImageError> {
        let bytes = bytes.max(LEAST);
        let gone = || ImageError::malformed("the pool", "somebody else removes its files");
        let (removed, prepared) = {
            let mut held = self.held();
            let removed = self.make_room(&held, bytes)?;
            let (place, size) = self.places(&used.tree);
            write_json(&size, &Size { bytes })?;
            fs::set_permissions(tree, Permissions::from_mode(tree_mode(tree)?)).map_err(ImageError::at(tree))?;
            fs::rename(tree, &place).map_err(ImageError::at(&place))?;
            (removed, self.hold(&mut held, used).ok_or_else(gone)?)
        };
        // Takes its time, and nobody has to wait for it.
        drop(removed);
        Ok(prepared)
    }

    /// Removes the longest unused trees until there is room, and answers where they are now.
    fn make_room(&self, held: &HashMap<ImageDigest, usize>, bytes: u64) -> Result<Vec<Scratch>, ImageError> {
        let mut used: HashSet<ImageDigest> = held.keys().copied().collect();
        used.extend(self.used_by_sandboxes()?);
        let mut trees = self.trees()?;
        let taken: u64 = trees.iter().map(|tree| tree.bytes).sum();
        trees.retain(|tree| !used.contains(&tree.digest));
        let removable: u64 = trees.iter().map(|tree| tree.bytes).sum();
        let mut wanted = taken.saturating_add(bytes).saturating_sub(self.limit);
        if wanted > removable {
            // Said before anything goes: an image that is too large must not cost others theirs.
            let (all, kept) = (self.limit >> 20, (taken - removable) >> 20);
            let limit = format!("{all} MiB for all images, of which {kept} MiB are in use");
            return Err(ImageError::TooLarge { what: "the unpacked image".into(), limit });
        }
        trees.sort_by_key(|tree| tree.last_use);
        let mut removed = Vec::new();
        for tree in trees {
            if wanted == 0 {
                break;
            }
            removed.push(self.take_away(&tree.digest)?);
            wanted = wanted.saturating_sub(tree.bytes);
        }
        Ok(removed)
    }

    /// Takes a tree out of the pool, to be removed when the answer is dropped.
    fn take_away(&self, digest: &ImageDigest) -> Result<Scratch, ImageError> {
        let (tree, size) = self.places(digest);
        let away = self.unused();
        fs::remove_file(&size).map_err(ImageError::at(&size))?;
        fs::rename(&tree, &away).map_err(ImageError::at(&tree))?;
        tracing::info!(tree = %digest, "an unused image makes room");
        for path in list(&self.root.join(REFERENCES))? {
            if read_json::<ImageUse>(&path).is_ok_and(|known| known.tree == *digest) {
                fs::remove_file(&path).map_err(ImageError::at(&path))?;
            }
        }
        Ok(Scratch(away))
    }

    /// Trees with their sizes and when they were used last. What is half there after a crash is completed to nothing.
    fn trees(&self) -> Result<Vec<Found>, ImageError> {
        let mut trees = Vec::new();
        for path in list(&self.root.join(TREES))? {
            let Some(digest) = path.file_stem().and_then(|stem| format!("sha256:{}", stem.to_str()?).parse().ok())
            else {
                continue;
            };
            let (tree, size) = self.places(&digest);
            match (path == size, read_json::<Size>(&size)) {
                // Seen as the tree.
                (true, Ok(_)) if tree.is_dir() => {}
                (true, _) => fs::remove_file(&path).map_err(ImageError::at(&path))?,
                (false, Ok(Size { bytes })) => {
                    let last = fs::metadata(&size).and_then(|metadata| metadata.modified());
                    let last_use = last.map_err(ImageError::at(&size))?;
                    trees.push(Found { digest, bytes, last_use });
                }
                (false, Err(_)) => {
                    let away = Scratch(self.unused());
                    fs::rename(&path, away.path()).map_err(ImageError::at(&path))?;
                }
            }
        }
        Ok(trees)
    }

    fn used_by_sandboxes(&self) -> Result<Vec<ImageDigest>, ImageError> {
        Ok(list(&self.sandboxes)?.iter().filter_map(|sandbox| Some(ImageUse::of(sandbox)?.tree)).collect())
    }

    /// What an image of a registry turned out to be.
    pub(crate) fn recall(self: &Arc<Pool>, reference: &ImageDigest) -> Option<PreparedImage> {
        let path = self.reference(reference);
        let prepared = self.find(read_json(&path).ok()?)?;
        if let Err(error) =
            File::options().write(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()))
        {
            tracing::warn!(path = %path.display(), %error, "cannot note that an image is used");
        }
        Some(prepared)
    }

    /// Remembers what an image of a registry turned out to be.
    pub(crate) fn remember(&self, reference: &ImageDigest, used: &ImageUse) -> Result<(), ImageError> {
        let known = list(&self.root.join(REFERENCES))?;
        if known.len() >= MAX_REFERENCES {
            let age = |path: &PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
            if let Some(oldest) = known.iter().min_by_key(|path| age(path)) {
                fs::remove_file(oldest).map_err(ImageError::at(oldest))?;
            }
        }
        // Written aside, so that it is there whole or not at all.
        let aside = self.unused();
        write_json(&aside, used)?;
        fs::rename(&aside, self.reference(reference)).map_err(ImageError::at(&aside))
    }

    fn reference(&self, digest: &ImageDigest) -> PathBuf {
        self.root.join(REFERENCES).join(format!("{}.json", digest.hex()))
    }

    fn places(&self, digest: &ImageDigest) -> (PathBuf, PathBuf) {
        let trees = self.root.join(TREES);
        (trees.join(digest.hex()), trees.join(format!("{}.json", digest.hex())))
    }

    fn unused(&self) -> PathBuf {
        let number = self.serial.fetch_add(1, Ordering::Relaxed);
        self.root.join(PARTIAL).join(number.to_string())
    }

    fn held(&self) -> MutexGuard<'_, HashMap<ImageDigest, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The mode of a root directory: what the image says, but never closed to its owner.
fn tree_mode(tree: &Path) -> Result<u32, ImageError> {
    let mode = fs::metadata(tree).map_err(ImageError::at(tree))?.permissions().mode();
    Ok(mode & 0o7777 | 0o700)
}

fn list(directory: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let read = || fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>();
    read().map_err(ImageError::at(directory))
}

fn read_json<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&fs::read(path)?)?)
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ImageError> {
    let write = || -> io::Result<()> { fs::write(path, serde_json::to_vec(value)?) };
    write().map_err(ImageError::at(path))
}
