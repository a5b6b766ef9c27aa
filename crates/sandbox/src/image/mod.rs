//! Root file systems from images. An image is a tar, a directory in OCI layout, an archive of one (or of `docker save`), or lies in a
//! registry, where it is named by its digest. It is unpacked once, into a pool of trees named by what they hold, and every sandbox of
//! the image sees that one tree read-only, below its own disk.
//!
//! The layers of an image are unpacked on top of each other into one directory, and not stacked by the kernel: removed files are then
//! simply not there, links between layers come out right, creating a sandbox costs one mount however many layers there are, and no
//! mark of a stranger's archive is ever read by the overlay file system. The price is disk: images share trees only when all their
//! layers are the same.

mod address;
mod challenge;
mod compression;
mod digest;
mod documents;
mod error;
mod local;
mod making;
mod pool;
mod prepare;
mod reference;
mod registry;
mod stop;
mod tree;
mod unpack;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use digest::ImageDigest;
pub use documents::ImageConfig;
pub use error::ImageError;
pub(crate) use pool::ImageUse;
pub use pool::PreparedImage;
pub use prepare::Images;
pub use reference::ImageReference;

/// The most files and directories of an image: three times those of the largest scientific ones.
const MAX_ENTRIES: u64 = 1_000_000;

/// Where an image comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ImageSource {
    /// A registry.
    Registry(ImageReference),
    /// A directory in OCI layout.
    Layout(PathBuf),
    /// A file that holds an OCI layout, or what `docker save` writes; packed as a whole or not.
    Archive(PathBuf),
    /// A file that holds a root file system as a tar; packed or not.
    Tar(PathBuf),
}

/// What images may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes of disk of all unpacked images. Those that no sandbox uses make room for new ones, the longest unused first.
    pub pool_bytes: u64,
    /// Bytes of one image, as it is fetched and as it is unpacked.
    pub image_bytes: u64,
    /// Whether registries on this machine itself may be named, which may then speak plain HTTP.
    pub loopback_registries: bool,
}

impl Default for ImageLimits {
    /// 100 GiB for all, 40 GiB for one (the largest of the machine learning frameworks unpack to some 25), and no registries of our own.
    fn default() -> Self {
        ImageLimits { pool_bytes: 100 << 30, image_bytes: 40 << 30, loopback_registries: false }
    }
}

/// How far preparing an image is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Its description is being read.
    #[default]
    Asking,
    /// Another sandbox's call prepares it, or others are prepared first.
    Waiting,
    /// A layer comes.
    Fetching {
        /// Which one, from 1.
        layer: usize,
        /// How many there are.
        layers: usize,
        /// Bytes so far of all layers.
        bytes: u64,
        /// Bytes of all layers.
        of: u64,
    },
    /// A layer is unpacked.
    Unpacking {
        /// Which one, from 1.
        layer: usize,
        /// How many there are.
        layers: usize,
    },
    /// It is there.
    Ready,
}
