//! Running a stranger's program on this machine without giving the machine away.
//!
//! A [`Backend`] makes sandboxes; a [`Sandbox`] runs one main job with numbered logs and extra processes, in terminals if wanted, in
//! sessions that outlive the connections to them; takes connections, and takes and gives files as tar streams. What a sandbox may use is in its [`SandboxSpec`]; a limit that
//! cannot be enforced is an error before anything runs. The [`NativeBackend`] needs root on Linux and the program `mkfs.ext4`, and no daemon:
//!
//! ```no_run
//! use sandbox::{Backend, NativeBackend, NativeConfig, ProcessSpec, SandboxId, SandboxSpec};
//!
//! # async fn example() -> Result<(), sandbox::Error> {
//! let backend = NativeBackend::new(NativeConfig::new("/var/lib/gpulease/sandboxes"))?;
//! let sandbox = backend.create(&SandboxId::new("first")?, &SandboxSpec::default()).await?;
//! sandbox.start("job", ProcessSpec::new(["sh", "-c", "echo hello"])).await?;
//! assert_eq!(sandbox.wait().await?.shell_code(), 0);
//! sandbox.destroy().await
//! # }
//! ```
//!
//! A sandbox has no network, or one that leads to public addresses only ([`Network`]); a process of its own carries the traffic, and the
//! machine's interfaces, routes and firewall stay as they are.
//!
//! What a sandbox sees as its root is this machine's `/usr`, a given directory, or an image ([`ImageSource`]): a tar, an OCI layout or archive,
//! or an image of a registry by its digest. [`Images`] unpacks each once, for all sandboxes of it, and is where that can be watched.
//!
//! The node's `main` must call [`helper_main_if_requested`] before anything else: sandboxes are built by the same program, started
//! again as a small single-threaded process, because building them in a threaded one is not safe.

mod client;
mod error;
mod file_client;
mod files;
mod handover;
mod image;
mod native;
mod process;
mod session;
mod spec;

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite};

pub use agent::address::{AddressError, InnerAddress};
pub use agent::file_protocol::{
    FileAnswer, FileChange, FileEntry, FileError, FileErrorKind, FileExtent, FileHash, FileKind, FileMetadata,
    FileOperation, FileReply, FileRequest, FileSpace, FileTime, Handle, MAX_HANDLES, MAX_HASHED, MAX_PIECE, OpenMode,
    Target,
};
pub use agent::protocol::{Exit, JobState, NamedFile, Record, Stream, TerminalSize, Unfetched};
pub use agent::session_frame::INPUT_WINDOW;
pub use agent::session_key::{NoSessionKey, SessionKey};
pub use error::{DialRefusal, Error};
pub use file_client::{Answer, FileCallError, FileClient, FileHandle};
pub use files::{FileChannel, FileReplies, FileRequests};
pub use image::{
    ImageConfig, ImageDigest, ImageError, ImageLimits, ImageReference, ImageSource, Images, PreparedImage, Progress,
};
pub use native::{AGENT_PATH, NativeBackend, NativeConfig, helper_main_if_requested};
pub use process::Process;
pub use session::{Attached, SessionEvent, SessionInput, SessionReader, SessionWriter};
pub use spec::{
    Capabilities, CgroupVersion, Devices, EffectiveLimits, Isolation, Network, ProcessSpec, Rootfs, SandboxId,
    SandboxSpec, Started, Stats, Status, Stored, Terminal, WORKING_DIRECTORY,
};

/// Bytes that come.
pub type ByteReader = Box<dyn AsyncRead + Send + Unpin>;

/// Bytes that go.
pub type ByteWriter = Box<dyn AsyncWrite + Send + Unpin>;

/// Bytes both ways. Shutting down its writing half leaves the reading half open.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// A connection into a sandbox.
pub type ByteStream = Box<dyn Duplex>;

/// The main job's output, in order.
pub type LogStream = BoxStream<'static, Result<LogEvent, Error>>;

/// One thing that a [`LogStream`] says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogEvent {
    /// A piece of output.
    Record(Record),
    /// The log is bounded and no longer has these records.
    Gap {
        /// The first missing sequence number.
        from: u64,
        /// The first sequence number after the hole.
        to: u64,
    },
}

/// A way of isolating programs on this machine.
pub trait Backend: Send + Sync {
    /// What this back end can do here, found by trying and not by believing.
    fn probe(&self) -> BoxFuture<'_, Capabilities>;

    /// Makes a sandbox with nothing running in it yet. All limits are in force, or this fails and leaves nothing behind.
    fn create<'a>(&'a self, id: &'a SandboxId, spec: &'a SandboxSpec)
    -> BoxFuture<'a, Result<Arc<dyn Sandbox>, Error>>;

    /// Finds what an earlier run of the node left: sandboxes that still live are adopted, the remains of others are removed.
    fn reconcile(&self) -> BoxFuture<'_, Result<Vec<Arc<dyn Sandbox>>, Error>>;
}

/// One isolated place. Dropping the handle changes nothing; the sandbox lives until [`Sandbox::destroy`].
pub trait Sandbox: Send + Sync {
    /// Its name.
    fn id(&self) -> &SandboxId;

    /// What was asked for when it was made.
    fn spec(&self) -> &SandboxSpec;

    /// What its image says of its programs, if it was made of one: they get the image's environment below the sandbox's own, start in the
    /// image's working directory unless they are given another, and an empty command line means the image's.
    fn image(&self) -> Option<&ImageConfig> {
        None
    }

    /// Starts the one main job. The same key again finds the job already started, so this may be repeated after a lost answer.
    fn start<'a>(&'a self, key: &'a str, process: ProcessSpec) -> BoxFuture<'a, Result<Started, Error>>;

    /// Runs an extra process in a session of its own, which outlives the connection, in a terminal if it asks for one; attached to it
    /// from the start. The same key again attaches to the session already opened, so this may be repeated after a lost answer. A program
    /// that is missing or cannot be executed is a session that ends at once with 127 or 126 and says why.
    fn open<'a>(&'a self, key: &'a SessionKey, process: ProcessSpec) -> BoxFuture<'a, Result<Attached, Error>>;

    /// Attaches to a session again, of which so many bytes of output have arrived already: the rest comes, and they are not kept any
    /// more. Whoever was attached is let go.
    fn attach<'a>(&'a self, key: &'a SessionKey, seen: u64) -> BoxFuture<'a, Result<Attached, Error>>;

    /// Connects to an address inside. A refusal is an error here, before any byte flows; the connection ends with the sandbox, as does
    /// everything that was opened in it.
    fn dial<'a>(&'a self, address: &'a InnerAddress) -> BoxFuture<'a, Result<ByteStream, Error>>;

    /// The main job's output from a sequence number on; with `follow`, until the job has ended.
    fn logs(&self, from: u64, follow: bool) -> BoxFuture<'_, Result<LogStream, Error>>;

    /// How the main job is doing.
    fn status(&self) -> BoxFuture<'_, Result<Status, Error>>;

    /// Waits for the end of the main job.
    fn wait(&self) -> BoxFuture<'_, Result<Exit, Error>>;

    /// Sends a signal to the main job's process group.
    fn signal(&self, signal: i32) -> BoxFuture<'_, Result<(), Error>>;

    /// Unpacks a tar stream under a directory inside. Paths are resolved inside and cannot leave that directory.
    fn put<'a>(&'a self, directory: &'a str, tar: ByteReader) -> BoxFuture<'a, Result<Stored, Error>>;

    /// The files under a directory that were not brought from outside or that have changed since, as a tar stream. It was made by a
    /// stranger: unpack it with a library that keeps entries below its target.
    fn get_changed<'a>(&'a self, directory: &'a str) -> BoxFuture<'a, Result<ByteReader, Error>>;

    /// What of these files nobody has fetched as they are now, so that it would be lost with the sandbox.
    fn unfetched<'a>(&'a self, directory: &'a str) -> BoxFuture<'a, Result<Unfetched, Error>>;

    /// One file under its name, or everything below one directory, as a tar stream with permissions, times and links. The path is
    /// resolved inside. What is neither a file, a directory nor a symbolic link is left out. It was made by a stranger, like the above.
    fn get<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<ByteReader, Error>>;

    /// A connection for requests about files, carried out inside as the sandbox's own user.
    fn files(&self) -> BoxFuture<'_, Result<FileChannel, Error>>;

    /// The limits in force, read back from the kernel.
    fn limits(&self) -> BoxFuture<'_, Result<EffectiveLimits, Error>>;

    /// What the sandbox uses now.
    fn stats(&self) -> BoxFuture<'_, Result<Stats, Error>>;

    /// Stops the clock for every process of the renter; nothing is lost. Status, logs and files can still be asked for.
    fn freeze(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Lets frozen processes go on.
    fn thaw(&self) -> BoxFuture<'_, Result<(), Error>>;

    /// Ends the main job, with SIGTERM and after the grace SIGKILL, and every other process of the renter. Frozen ones are thawed
    /// first. Logs and files can still be fetched.
    fn stop(&self, grace: Duration) -> BoxFuture<'_, Result<(), Error>>;

    /// Removes the sandbox with all it has: processes, mounts, disk, control groups, directories. May be repeated.
    fn destroy(&self) -> BoxFuture<'_, Result<(), Error>>;
}

impl dyn Sandbox {
    /// Runs an extra process for as long as the [`Process`] is held, with its streams as readers and writers: for callers that need not
    /// outlive their connection. Dropping the process hangs up, and so does giving this up.
    pub async fn exec(self: &Arc<Self>, process: ProcessSpec) -> Result<Process, Error> {
        Process::start(self.clone(), process).await
    }
}
