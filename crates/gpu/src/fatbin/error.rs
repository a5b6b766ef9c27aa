//! Why a file's GPU code could not be listed, one variant for each cause.

use std::{io, path::PathBuf};

/// Why a file could not be inspected. What it needs stays unknown then, which is no reason to refuse it a card.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file cannot be opened.
    #[error("cannot open {}: check the path and its permissions", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, a pipe or a device.
    #[error("{} is not a file: name the program or library itself", path.display())]
    NotAFile {
        /// What was named.
        path: PathBuf,
    },
    /// A read failed, or the file became shorter meanwhile.
    #[error("the file could not be read: check the disk, and that nothing is writing it")]
    Read(#[from] io::Error),
    /// The file contradicts itself.
    #[error("the file is damaged: its {what} is not what it should be; build or copy it again")]
    Damaged {
        /// The part.
        what: &'static str,
    },
    /// There is more of something than any real file has.
    #[error("the file has more than {limit} {what}, which is more than this program reads")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much is read.
        limit: u64,
    },
    /// An archive that names its members instead of holding them.
    #[error("this archive only names its members: inspect the object files themselves")]
    ThinArchive,
}
