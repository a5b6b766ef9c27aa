//! What can go wrong with the data on disk, one variant for each cause, and what to do about it.

use std::path::PathBuf;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process, or another part of this one, has the database open.
    #[error("the data in {} is in use: another node runs on it; stop that one, or choose another data directory", path.display())]
    InUse {
        /// The database's directory.
        path: PathBuf,
        /// What RocksDB said.
        source: rocksdb::Error,
    },
    /// A later version of this program has written here.
    #[error(
        "the data in {} has format {found}, this program reads up to {supported}: use the newer program, or another data directory",
        path.display()
    )]
    NewerFormat {
        /// The database's directory.
        path: PathBuf,
        /// What is written there.
        found: u32,
        /// The newest this program reads.
        supported: u32,
    },
    /// The record of the format version is not a version.
    #[error("the data in {} has an unreadable format record: it is damaged, or not ours", path.display())]
    BadFormat {
        /// The database's directory.
        path: PathBuf,
    },
    /// The directory cannot be made, read or written, or its files are damaged.
    #[error("cannot open the data in {}: check that the directory may be written and the disk is not full", path.display())]
    Open {
        /// The database's directory.
        path: PathBuf,
        /// What RocksDB said.
        source: rocksdb::Error,
    },
    /// A read or a write failed on the disk.
    #[error("the data on disk could not be read or written: check the disk's health and free space")]
    Disk(#[from] rocksdb::Error),
    /// A table was used that the store was not opened with: a mistake in the program.
    #[error("the store was opened without the table `{0}`")]
    UnknownTable(&'static str),
    /// A record does not decode: it was written by something else, or damaged.
    #[error("a record of the table `{table}` cannot be read")]
    Record {
        /// The table.
        table: &'static str,
        /// What is wrong with it.
        source: CodecError,
    },
    /// The task that ran the call died with the program's shutdown, or by a panic.
    #[error("the store's task ended before it was done")]
    Interrupted(#[source] tokio::task::JoinError),
}

/// Why bytes are not a key or a value.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// A key ends early, runs on, or has impossible content.
    #[error("the key is not a {0}")]
    Key(&'static str),
    /// A value is not the JSON of its type.
    #[error("the value is not what its type says")]
    Json(#[from] serde_json::Error),
    /// A value ends early, or has impossible content.
    #[error("the value is not a {0}")]
    Value(&'static str),
    /// A value that should be empty is not.
    #[error("the value should be empty")]
    NotEmpty,
}
