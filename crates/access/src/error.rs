//! What can go wrong with a session.

use market::refusal::{Refusal, RefusalCode};
use network::{FrameError, OpenError};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Why something inside the sandbox did not happen.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The stream could not be opened, or the provider said no.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The stream broke, or carried something malformed. The provider may still be there: try again.
    #[error("the connection to the sandbox broke: {0}")]
    Stream(#[from] FrameError),
    /// The stream ended before it was complete.
    #[error("the connection to the sandbox ended too early")]
    Truncated,
    /// The other side says what makes no sense.
    #[error("the provider breaks the protocol: {0}")]
    Protocol(&'static str),
    /// The daemon that holds the rental cannot be asked, or not now.
    #[error("{0}")]
    Daemon(String),
    /// The daemon knows of no such rental, or of none that streams can be opened into: its own error.
    #[error("{0}")]
    Refused(Box<dyn std::error::Error + Send + Sync>),
    /// The other side reports a failure.
    #[error("{0}")]
    Remote(Refusal),
    /// What arrived is not what was sent.
    #[error("the transfer arrived damaged: its hash differs from the sender's")]
    Damaged,
    /// More than agreed.
    #[error("the sandbox sent more than {limit} bytes, which is all the disk it was rented with")]
    TooMuch {
        /// The bound.
        limit: u64,
    },
    /// A tar stream that holds what none of ours would.
    #[error("the files that arrived cannot be unpacked: {0}")]
    Archive(&'static str),
    /// A file or folder of this machine.
    #[error("{}: {source}", shown(path))]
    Local {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file inside the sandbox.
    #[error(transparent)]
    File(#[from] sandbox::FileCallError),
    /// A file that has another content at the other end, after all.
    #[error("{}: arrived damaged, or was changed while it was copied: copy it again", shown(path))]
    DamagedFile {
        /// Which.
        path: PathBuf,
    },
    /// A file that became shorter.
    #[error("{}: became shorter while it was copied: copy it again", shown(path))]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// What cannot be copied like this.
    #[error("{0}")]
    Copy(String),
    /// The sandbox itself failed.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A worker thread ended before its work did.
    #[error("a file transfer was interrupted")]
    Interrupted,
}

/// A path as people may see it: its last parts may be a stranger's words.
fn shown(path: &Path) -> String {
    wire::shown(&path.to_string_lossy())
}

impl AccessError {
    /// Whether the same thing may well succeed after a pause.
    pub fn is_passing(&self) -> bool {
        // a provider that is starting up again, or busy, says so
        if let Self::Open(OpenError::Refused(refusal)) = self {
            return refusal.retry_millis > 0
                || matches!(refusal.code, RefusalCode::Draining | RefusalCode::RateLimited);
        }
        matches!(
            self,
            Self::Stream(_)
                | Self::Truncated
                | Self::Daemon(_)
                | Self::File(sandbox::FileCallError::Ended(_))
                | Self::Open(
                    OpenError::Timeout
                        | OpenError::NoAnswer
                        | OpenError::Unreachable
                        | OpenError::Busy
                        | OpenError::Stream(_)
                )
        )
    }
}
