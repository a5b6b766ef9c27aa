//! Why a sandbox could not be made or used. Each message says what failed, why, and what can be done about it.

use std::io;
use std::path::PathBuf;

use agent::protocol::{Failure, FailureKind};

/// One variant a cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name that cannot be a directory of its own.
    #[error("`{0}` cannot name a sandbox: use 1 to 80 letters, digits, `-` and `_`")]
    InvalidId(String),

    /// A limit or path that makes no sense.
    #[error("{field}: {reason}")]
    InvalidSpec {
        /// The part of the specification.
        field: &'static str,
        /// What is wrong with it and what would be right.
        reason: String,
    },

    /// A sandbox of this name is there already.
    #[error("there is already a sandbox {0}: destroy it first")]
    Exists(String),

    /// This machine lacks something the back end cannot do without.
    #[error("this machine cannot run sandboxes: {what}")]
    Unsupported {
        /// What is missing and how to get it.
        what: String,
    },

    /// A limit could not be set; nothing was run.
    #[error("cannot enforce the {limit} limit: write `{value}` to {path}: {source}; {ADVICE}")]
    LimitRefused {
        /// Which limit.
        limit: &'static str,
        /// The value to be set.
        value: String,
        /// The kernel's control file.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },

    /// A limit was set but reads back as something else; nothing was run.
    #[error("cannot enforce the {limit} limit: {path} was set to `{wanted}` but reads `{found}`; {ADVICE}")]
    LimitNotKept {
        /// Which limit.
        limit: &'static str,
        /// The kernel's control file.
        path: PathBuf,
        /// The value set.
        wanted: String,
        /// The value found.
        found: String,
    },

    /// The kernel's control files could not be read or used for something else than a limit.
    #[error("control group {path}: {source}; {ADVICE}")]
    Group {
        /// The file or directory.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },

    /// The disk image could not be made.
    #[error("cannot make the sandbox's disk: {0}")]
    Disk(String),

    /// The process that builds the sandbox failed.
    #[error("cannot build the sandbox: {step}: {reason}")]
    Build {
        /// What it was doing.
        step: String,
        /// Why it failed.
        reason: String,
    },

    /// The image could not be had.
    #[error(transparent)]
    Image(#[from] crate::ImageError),

    /// The state directory cannot be used.
    #[error("state directory: {path}: {source}")]
    State {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },

    /// The sandbox no longer runs: destroyed, or killed from outside.
    #[error("the sandbox {0} is gone: it was destroyed or killed; nothing can be asked of it any more")]
    Gone(String),

    /// The connection into the sandbox broke.
    #[error("connection to the sandbox {id}: {source}")]
    Connection {
        /// The sandbox.
        id: String,
        /// Why.
        source: io::Error,
    },

    /// The sandbox did not answer in time.
    #[error("the sandbox {id} did not {what} within {seconds} s")]
    Timeout {
        /// The sandbox.
        id: String,
        /// What it should have done.
        what: &'static str,
        /// The bound.
        seconds: u64,
    },

    /// A job was started there already under another key.
    #[error("the sandbox runs another job: {0}")]
    JobExists(String),

    /// There is no job yet.
    #[error("no job was started in the sandbox: {0}")]
    NotStarted(String),

    /// The sandbox's disk is full.
    #[error("the sandbox's disk is full: {0}")]
    DiskFull(String),

    /// A bound of the sandbox is reached.
    #[error("the sandbox is busy: {0}")]
    Busy(String),

    /// There is no session under a key.
    #[error("no such session: {0}")]
    NoSuchSession(String),

    /// Another has attached to the session.
    #[error("another has attached to the session: {0}")]
    TakenOver(String),

    /// The sandbox is frozen, so no process can start in it.
    #[error("the sandbox {0} is frozen: thaw it first")]
    Frozen(String),

    /// Nothing could be connected to at an address inside.
    #[error("cannot connect inside the sandbox: {message}")]
    Dial {
        /// The cause, for programs.
        refusal: DialRefusal,
        /// The address and the cause, for people.
        message: String,
    },

    /// The sandbox refused; the message says why.
    #[error("the sandbox refused: {0}")]
    Refused(String),

    /// The data to be uploaded could not be read.
    #[error("cannot read what should be uploaded: {0}")]
    Upload(io::Error),

    /// Something of a destroyed sandbox is still there.
    #[error("cannot remove all of the sandbox {id}: {what}")]
    Leftover {
        /// The sandbox.
        id: String,
        /// What is left and why.
        what: String,
    },
}

/// Why a connection into a sandbox was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DialRefusal {
    /// Nobody listens at the address.
    ConnectionRefused,
    /// There is no socket at the path.
    NoSuchSocket,
    /// No way leads from inside to the address.
    Unreachable,
    /// The address did not answer in time.
    NoAnswer,
}

/// What helps when the kernel refuses a limit.
const ADVICE: &str = "run as root, or delegate a control group subtree with cpu, memory and pids to this user";

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let dial = |refusal, message| Error::Dial { refusal, message };
        match failure.kind {
            FailureKind::AlreadyStarted => Error::JobExists(failure.message),
            FailureKind::NotStarted => Error::NotStarted(failure.message),
            FailureKind::DiskFull => Error::DiskFull(failure.message),
            FailureKind::Busy => Error::Busy(failure.message),
            FailureKind::NoSuchSession => Error::NoSuchSession(failure.message),
            FailureKind::TakenOver => Error::TakenOver(failure.message),
            FailureKind::ConnectionRefused => dial(DialRefusal::ConnectionRefused, failure.message),
            FailureKind::NoSuchSocket => dial(DialRefusal::NoSuchSocket, failure.message),
            FailureKind::Unreachable => dial(DialRefusal::Unreachable, failure.message),
            FailureKind::NoAnswer => dial(DialRefusal::NoAnswer, failure.message),
            FailureKind::BadRequest | FailureKind::Io => Error::Refused(failure.message),
        }
    }
}
