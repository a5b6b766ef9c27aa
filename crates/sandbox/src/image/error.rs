//! Why an image could not be had. Each message says what failed, why, and what can be done about it.

use std::io;
use std::path::{Path, PathBuf};

/// One variant a cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The text does not name one image for good.
    #[error("`{given}` does not name an image: {reason}")]
    Reference {
        /// What was written.
        given: String,
        /// What is wrong with it and what would be right.
        reason: &'static str,
    },

    /// There is no such image, or no such part of it.
    #[error("{0} is not there: check the name and the digest, and that it was pushed or saved whole")]
    NotFound(String),

    /// The registry wants to know who asks.
    #[error("the registry does not give {0} to everybody: only public images can be used")]
    Unauthorised(String),

    /// The bytes are not those that were named.
    #[error("{what} is not what its digest says: {wanted} was named, {found} came; nothing of it was used")]
    DigestMismatch {
        /// The part of the image.
        what: String,
        /// The digest by which it was asked for.
        wanted: String,
        /// The digest, or the size, of what came.
        found: String,
    },

    /// A bound was reached.
    #[error("{what} is too large: the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: String,
        /// The bound, with its unit.
        limit: String,
    },

    /// The image is for other machines.
    #[error("the image is not for {wanted}: it is there for {offered}")]
    WrongPlatform {
        /// This machine's platform.
        wanted: String,
        /// What there is.
        offered: String,
    },

    /// The pool's disk is full.
    #[error("the disk is full while unpacking an image below {}: free some space or lower the pool's size", .0.display())]
    DiskFull(PathBuf),

    /// The image's own description is wrong.
    #[error("{what} is not a well-formed image: {reason}")]
    Malformed {
        /// The part of the image.
        what: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A file of the image is not to be had as the image says.
    #[error("the image's entry `{path}` is refused: {reason}")]
    Entry {
        /// The entry's name as the image has it.
        path: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The registry leads to a place where a stranger must not send this machine.
    #[error("the registry leads to {0}: images come over HTTPS from public addresses only")]
    Address(String),

    /// The registry could not be reached, or answers strangely.
    #[error("{what} could not be fetched: {reason}; try again later or use another registry")]
    Registry {
        /// What was asked for.
        what: String,
        /// Why it did not come.
        reason: String,
    },

    /// It took too long, or nobody waits for it any more.
    #[error("the image was given up: {0}")]
    GivenUp(&'static str),

    /// This machine's own files.
    #[error("image pool: {path}: {source}")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ImageError {
    /// Names the file of this machine that an error is about, and tells a full disk from other trouble.
    pub(crate) fn at(path: &Path) -> impl FnOnce(io::Error) -> ImageError + use<> {
        let path = path.to_path_buf();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ImageError::DiskFull(path),
            _ => ImageError::Io { path, source },
        }
    }

    pub(crate) fn malformed(what: impl Into<String>, reason: impl ToString) -> ImageError {
        ImageError::Malformed { what: what.into(), reason: reason.to_string() }
    }
}
