//! One sandbox of the native back end. What is of the renter's programs is asked of the agent; what is of limits and control groups is
//! the kernel's to say.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agent::protocol::{JobState, Reply, Request, Unfetched};
use futures::future::{BoxFuture, FutureExt};
use tokio_util::task::AbortOnDropHandle;

use super::state::Record;
use super::{Inner, blocking, dial, disk, egress};
use crate::client::{Client, unexpected};
use crate::{
    Attached, ByteReader, ByteStream, EffectiveLimits, Error, Exit, FileChannel, ImageConfig, InnerAddress, LogStream,
    ProcessSpec, Sandbox, SandboxId, SandboxSpec, SessionKey, Started, Stats, Status, Stored,
};

/// How long a killed job may take to be gone, beyond its grace.
const STOP: Duration = Duration::from_secs(20);

/// A sandbox, as this node holds it.
pub(super) struct NativeSandbox {
    pub(super) inner: Arc<Inner>,
    pub(super) record: Record,
    pub(super) client: Client,
    /// What its image says, if it has one.
    pub(super) image: Option<ImageConfig>,
    /// Looks after its network process, if it has one.
    pub(super) _network: Option<AbortOnDropHandle<()>>,
}

impl NativeSandbox {
    pub(super) async fn job(&self) -> Result<JobState, Error> {
        match self.client.ask(Request::Status).await? {
            Reply::Status { state } => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    /// A program as the agent takes it.
    fn command(&self, process: ProcessSpec) -> Result<agent::protocol::Command, Error> {
        let process = match &self.image {
            Some(image) => process.inherit(image, &self.record.spec),
            None => process,
        };
        process.command(&self.record.spec)
    }

    async fn done(&self, request: Request, limit: Option<Duration>) -> Result<(), Error> {
        let reply = match limit {
            Some(limit) => self.client.ask_within(request, limit).await?,
            None => self.client.ask(request).await?,
        };
        if reply == Reply::Done { Ok(()) } else { Err(unexpected(&reply)) }
    }

    /// Runs something that blocks with what it needs of this sandbox.
    async fn on_host<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner, &Record) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (inner, record) = (self.inner.clone(), self.record.clone());
        blocking(move || work(&inner, &record)).await
    }
}

impl Sandbox for NativeSandbox {
    fn id(&self) -> &SandboxId {
        &self.record.id
    }

    fn spec(&self) -> &SandboxSpec {
        &self.record.spec
    }

    fn image(&self) -> Option<&ImageConfig> {
        self.image.as_ref()
    }

    fn start<'a>(&'a self, key: &'a str, process: ProcessSpec) -> BoxFuture<'a, Result<Started, Error>> {
        async move {
            if process.terminal.is_some() {
                let reason = "the main job has a log instead of one: open a session".into();
                return Err(Error::InvalidSpec { field: "terminal", reason });
            }
            let user = self.image.as_ref().and_then(ImageConfig::other_user).map(str::to_owned);
            let request = Request::Start { key: key.into(), command: self.command(process)?, user };
            match self.client.ask(request).await? {
                Reply::Started { already: false } => Ok(Started::Now),
                Reply::Started { already: true } => Ok(Started::Before),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn open<'a>(&'a self, key: &'a SessionKey, process: ProcessSpec) -> BoxFuture<'a, Result<Attached, Error>> {
        async move {
            let terminal = process.terminal.as_ref().map(|terminal| terminal.size);
            let request = Request::Exec { key: *key, command: self.command(process)?, terminal };
            // It would be frozen between being made and executing its program, and its asker wait until the thaw.
            if self.on_host(|_, record| record.groups.frozen()).await? {
                return Err(Error::Frozen(self.record.id.to_string()));
            }
            Attached::open(&self.client, request).await
        }
        .boxed()
    }

    fn attach<'a>(&'a self, key: &'a SessionKey, seen: u64) -> BoxFuture<'a, Result<Attached, Error>> {
        Attached::open(&self.client, Request::Attach { key: *key, seen }).boxed()
    }

    fn dial<'a>(&'a self, address: &'a InnerAddress) -> BoxFuture<'a, Result<ByteStream, Error>> {
        dial::dial(&self.client, &self.record.id, address).boxed()
    }

    fn logs(&self, from: u64, follow: bool) -> BoxFuture<'_, Result<LogStream, Error>> {
        self.client.logs(from, follow).boxed()
    }

    fn status(&self) -> BoxFuture<'_, Result<Status, Error>> {
        async move {
            let job = self.job().await?;
            let frozen = self.on_host(|_, record| record.groups.frozen()).await?;
            Ok(Status { job, frozen })
        }
        .boxed()
    }

    fn wait(&self) -> BoxFuture<'_, Result<Exit, Error>> {
        self.client.wait().boxed()
    }

    fn signal(&self, signal: i32) -> BoxFuture<'_, Result<(), Error>> {
        self.done(Request::Signal { signal }, None).boxed()
    }

    fn put<'a>(&'a self, directory: &'a str, tar: ByteReader) -> BoxFuture<'a, Result<Stored, Error>> {
        self.client.put(directory, tar).boxed()
    }

    fn get_changed<'a>(&'a self, directory: &'a str) -> BoxFuture<'a, Result<ByteReader, Error>> {
        self.client.fetch(Request::Changed { directory: directory.into() }).boxed()
    }

    fn unfetched<'a>(&'a self, directory: &'a str) -> BoxFuture<'a, Result<Unfetched, Error>> {
        self.client.unfetched(directory).boxed()
    }

    fn get<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<ByteReader, Error>> {
        self.client.fetch(Request::Get { path: path.into() }).boxed()
    }

    fn files(&self) -> BoxFuture<'_, Result<FileChannel, Error>> {
        self.client.files().boxed()
    }

    fn limits(&self) -> BoxFuture<'_, Result<EffectiveLimits, Error>> {
        self.on_host(|inner, record| {
            let gone = || Error::Gone(record.id.to_string());
            let limits = record.groups.limits()?;
            let image = inner.state.directory(&record.id).join(disk::IMAGE);
            let disk = disk::attached_size(&image).map_err(|error| Error::Disk(error.to_string()))?;
            let agent = record.groups.agent().ok_or_else(gone)?;
            Ok(EffectiveLimits {
                cpu_millis: limits.cpu_millis,
                memory_bytes: limits.memory_bytes,
                disk_bytes: disk.ok_or_else(gone)?,
                max_processes: limits.max_processes,
                // The agent's own, which every process inside inherits and none can raise.
                max_open_files: open_files(agent).ok_or_else(gone)?,
            })
        })
        .boxed()
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, Error>> {
        self.on_host(|_, record| {
            let usage = record.groups.usage()?;
            let agent = record.groups.agent().ok_or_else(|| Error::Gone(record.id.to_string()))?;
            let root = PathBuf::from(format!("/proc/{agent}/root{}", crate::WORKING_DIRECTORY));
            let disk = rustix::fs::statvfs(&root).map_err(|error| Error::State { path: root, source: error.into() })?;
            let (network_received_bytes, network_sent_bytes) = egress::traffic(agent).unwrap_or_default();
            Ok(Stats {
                cpu_nanos: usage.cpu_nanos,
                memory_bytes: usage.memory_bytes,
                memory_peak_bytes: usage.memory_peak_bytes,
                processes: usage.processes,
                disk_bytes: disk.f_blocks.saturating_sub(disk.f_bfree).saturating_mul(disk.f_frsize),
                oom_kills: usage.oom_kills,
                network_received_bytes,
                network_sent_bytes,
            })
        })
        .boxed()
    }

    fn freeze(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.on_host(|_, record| record.groups.set_frozen(true)).boxed()
    }

    fn thaw(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.on_host(|_, record| record.groups.set_frozen(false)).boxed()
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            // A frozen process cannot end.
            self.on_host(|_, record| record.groups.set_frozen(false)).await?;
            let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
            self.done(Request::Stop { grace_ms }, Some(grace.saturating_add(STOP))).await
        }
        .boxed()
    }

    fn destroy(&self) -> BoxFuture<'_, Result<(), Error>> {
        self.on_host(|inner, record| inner.destroy(&record.id, &record.groups)).boxed()
    }
}

/// The hard limit of open files of a process.
fn open_files(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
