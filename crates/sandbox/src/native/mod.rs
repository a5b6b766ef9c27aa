//! The native back end: the kernel's own means and nothing else. What blocks (control files, mounting, starting the builder) runs on
//! threads kept for that; what is asked of the agent is asked over its socket.

mod cgroup;
mod confine;
mod devices;
mod dial;
mod disk;
mod egress;
mod helper;
mod inside;
mod processors;
mod root;
mod secrecy;
mod state;
mod views;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use agent::protocol::{JobState, Reply, Request};
use futures::future::{BoxFuture, FutureExt};

pub use helper::helper_main_if_requested;

use crate::client::{Client, broken, unexpected};
use crate::image::ImageUse;
use crate::process::Streams;
use crate::{
    Backend, ByteReader, ByteStream, Capabilities, EffectiveLimits, Error, Exit, ImageConfig, ImageLimits, Images,
    InnerAddress, Isolation, LogStream, Network, PreparedImage, Process, ProcessSpec, Rootfs, Sandbox, SandboxId,
    SandboxSpec, Started, Stats, Status, Stored,
};
use cgroup::{Hierarchy, Limits};
use disk::Templates;
use helper::Plan;
use state::{Record, State};

/// The most job output an agent keeps.
const LOG_RING: u64 = 16 << 20;

/// The pool of images in the state directory: no sandbox can have this name.
const IMAGES: &str = ".images";

/// How long the kernel may take to let go of a disk after its last process has died.
const DETACH: Duration = Duration::from_secs(60);

/// How long a killed job may take to be gone, beyond its grace.
const STOP: Duration = Duration::from_secs(20);

/// How often to look meanwhile.
const LOOK: Duration = Duration::from_millis(2);

/// How the back end is set up.
#[derive(Clone, Debug)]
pub struct NativeConfig {
    /// Where records, sockets and disk images are kept; made if it is not there. One node at a time uses it.
    pub state_dir: PathBuf,
    /// The program that builds sandboxes: one whose `main` begins with [`helper_main_if_requested`]. This program, unless set.
    pub builder: PathBuf,
    /// Where control groups are made, below the root of each hierarchy: this process's own group, unless set.
    pub cgroup_base: Option<PathBuf>,
    /// What images may take.
    pub images: ImageLimits,
}

impl NativeConfig {
    /// The usual set-up with this state directory.
    pub fn new(state_dir: impl Into<PathBuf>) -> NativeConfig {
        let (state_dir, builder) = (state_dir.into(), "/proc/self/exe".into());
        NativeConfig { state_dir, builder, cgroup_base: None, images: ImageLimits::default() }
    }
}

/// Sandboxes made by this machine's kernel. Cheap to clone.
#[derive(Clone)]
pub struct NativeBackend(Arc<Inner>);

struct Inner {
    config: NativeConfig,
    state: State,
    templates: Templates,
    images: Images,
    /// Held while directories are made or removed that several sandboxes share.
    making: Mutex<()>,
}

struct NativeSandbox {
    inner: Arc<Inner>,
    record: Record,
    client: Client,
    /// What its image says, if it has one.
    image: Option<ImageConfig>,
}

impl NativeBackend {
    /// Opens the state directory and puts the agent's program there.
    pub fn new(config: NativeConfig) -> Result<NativeBackend, Error> {
        let state = State::open(&config.state_dir)?;
        let path = config.state_dir.join(disk::TEMPLATES);
        let templates = Templates::open(path.clone()).map_err(|source| Error::State { path, source })?;
        let images = Images::open(&config.state_dir.join(IMAGES), &config.state_dir, config.images)?;
        Ok(NativeBackend(Arc::new(Inner { config, state, templates, images, making: Mutex::new(()) })))
    }

    /// The images of this machine: to prepare one before a sandbox of it is made, and to watch that.
    pub fn images(&self) -> &Images {
        &self.0.images
    }
}

impl Backend for NativeBackend {
    fn probe(&self) -> BoxFuture<'_, Capabilities> {
        let inner = self.0.clone();
        async move {
            let cgroups = Hierarchy::detect(inner.config.cgroup_base.as_deref());
            let mut problems: Vec<String> = cgroups.as_ref().err().map(ToString::to_string).into_iter().collect();
            problems.extend(disk::find_mkfs().err().map(|error| error.to_string()));
            // The rest is found out by doing it once, with the smallest sandbox there can be.
            let mut networks = Vec::new();
            if problems.is_empty() {
                problems.extend(self.try_out(Network::None).await.err().map(|error| error.to_string()));
            }
            if problems.is_empty() {
                networks.push(Network::None);
                match self.try_out(Network::Egress).await {
                    Ok(()) => networks.push(Network::Egress),
                    Err(error) => tracing::info!(%error, "sandboxes here have no network"),
                }
            }
            let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            Capabilities {
                backend: "native".into(),
                isolation: Isolation::SharedKernel,
                cgroups: cgroups.ok().map(|found| found.version),
                networks,
                kernel: kernel.trim().into(),
                problems,
            }
        }
        .boxed()
    }

    fn create<'a>(
        &'a self,
        id: &'a SandboxId,
        spec: &'a SandboxSpec,
    ) -> BoxFuture<'a, Result<Arc<dyn Sandbox>, Error>> {
        async move {
            spec.check()?;
            if spec.network == Network::Egress {
                egress::usable()?;
            }
            let image = match &spec.rootfs {
                Rootfs::Image(source) => Some(self.0.images.prepare(source, None).await?),
                Rootfs::HostUsr | Rootfs::Dir(_) => None,
            };
            let (inner, name, spec) = (self.0.clone(), id.clone(), spec.clone().rounded());
            let record = blocking(move || inner.create(&name, &spec, image.as_ref())).await?;
            let sandbox = self.0.handle(record)?;
            // A builder that reported nothing bad has executed the agent; that it answers proves the rest.
            if let Err(error) = sandbox.job().await {
                sandbox.destroy().await?;
                return Err(error);
            }
            Ok(Arc::new(sandbox) as Arc<dyn Sandbox>)
        }
        .boxed()
    }

    fn reconcile(&self) -> BoxFuture<'_, Result<Vec<Arc<dyn Sandbox>>, Error>> {
        async move {
            let inner = self.0.clone();
            let records = blocking(move || inner.remove_remains()).await?;
            let mut adopted: Vec<Arc<dyn Sandbox>> = Vec::new();
            for record in records {
                let sandbox = self.0.handle(record)?;
                match sandbox.job().await {
                    Ok(_) => adopted.push(Arc::new(sandbox)),
                    Err(error) => {
                        tracing::warn!(sandbox = %sandbox.id(), %error, "a sandbox that does not answer is removed");
                        sandbox.destroy().await?;
                    }
                }
            }
            Ok(adopted)
        }
        .boxed()
    }
}

impl NativeBackend {
    async fn try_out(&self, network: Network) -> Result<(), Error> {
        static PROBES: AtomicU64 = AtomicU64::new(0);
        let id = SandboxId::new(format!("probe-{}-{}", std::process::id(), PROBES.fetch_add(1, Ordering::Relaxed)))?;
        let spec = SandboxSpec { disk_bytes: 16 << 20, memory_bytes: 16 << 20, network, ..SandboxSpec::default() };
        let sandbox = self.create(&id, &spec).await?;
        let started = sandbox.start("probe", ProcessSpec::new(["true"])).await;
        let ended = if started.is_ok() { sandbox.wait().await.map(drop) } else { started.map(drop) };
        sandbox.destroy().await?;
        ended
    }
}

impl Inner {
    fn handle(self: &Arc<Inner>, record: Record) -> Result<NativeSandbox, Error> {
        let directory = self.state.directory(&record.id);
        let client = Client::new(&record.id, &directory).map_err(|source| Error::State { path: directory, source })?;
        let image = ImageUse::of(&self.state.directory(&record.id)).map(|used| used.config);
        Ok(NativeSandbox { inner: self.clone(), record, client, image })
    }

    fn create(&self, id: &SandboxId, spec: &SandboxSpec, image: Option<&PreparedImage>) -> Result<Record, Error> {
        let record = {
            let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            let hierarchy = Hierarchy::detect(self.config.cgroup_base.as_deref())?;
            let groups = hierarchy.groups(&self.state.group_parent, id.as_str());
            let record = self.state.register(id, spec, groups)?;
            // Under the lock, because another sandbox's end removes the groups' parent when it is empty.
            let limits = Limits {
                cpu_millis: spec.cpu_millis,
                memory_bytes: spec.memory_bytes,
                max_processes: spec.max_processes,
            };
            let made = record.groups.create(limits).and_then(|()| match spec.network {
                Network::None => Ok(()),
                Network::Egress => record.groups.create_network(egress::LIMITS),
            });
            made.map(|()| record.clone()).map_err(|error| (record, error))
        };
        let built = match record {
            Ok(record) => self.build(&record, image).map(|()| record.clone()).map_err(|error| (record, error)),
            Err(failed) => Err(failed),
        };
        built.map_err(|(record, error)| {
            if let Err(left) = self.destroy(&record) {
                tracing::error!(sandbox = %record.id, error = %left, "the remains of a failed sandbox");
            }
            error
        })
    }

    fn build(&self, record: &Record, image: Option<&PreparedImage>) -> Result<(), Error> {
        let directory = self.state.directory(&record.id);
        if let Some(image) = image {
            image.give_to(&directory)?;
        }
        let given = match &record.spec.rootfs {
            Rootfs::Dir(tree) => Some(tree.clone()),
            Rootfs::HostUsr | Rootfs::Image(_) => None,
        };
        self.templates.create(&directory.join(disk::IMAGE), record.spec.disk_bytes)?;
        let plan = Plan {
            agent: self.state.agent.clone(),
            tree: image.map(|image| image.tree.clone()).or(given),
            devices: record.spec.devices.clone(),
            hostname: hostname(&record.id),
            uid_base: record.uid_base(),
            max_open_files: record.spec.max_open_files,
            memory_bytes: record.spec.memory_bytes,
            log_ring: LOG_RING,
            agent_groups: record.groups.entrances("agent"),
            job_groups: record.groups.entrances("job"),
            oom_counter: record.groups.oom_counter(),
            memory_files: record.groups.memory_files(),
            cpus: record.cpus.clone(),
            egress: (record.spec.network == Network::Egress)
                .then(|| egress::Plan::new(record.groups.entrances("network"), record.network_user())),
            directory,
        };
        helper::build(&self.config.builder, &plan)
    }

    /// Removes a sandbox with all it has. What is gone already is fine.
    fn destroy(&self, record: &Record) -> Result<(), Error> {
        record.groups.kill()?;
        {
            let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
            record.groups.remove()?;
        }
        let image = self.state.directory(&record.id).join(disk::IMAGE);
        let deadline = Instant::now() + DETACH;
        while let Some(size) = disk::attached_size(&image).map_err(|error| Error::Disk(error.to_string()))? {
            if Instant::now() > deadline {
                let what = format!("its disk of {size} bytes is still in use; see `losetup -j {}`", image.display());
                return Err(Error::Leftover { id: record.id.to_string(), what });
            }
            sleep(LOOK);
        }
        if !record.groups.removed() {
            let what = "its control groups are still there".into();
            return Err(Error::Leftover { id: record.id.to_string(), what });
        }
        let directory = self.state.directory(&record.id);
        disk::scrub(&directory).map_err(|error| Error::Disk(format!("overwrite {}: {error}", directory.display())))?;
        self.state.remove(&record.id)
    }

    /// Removes what is dead, and answers the records of what seems alive.
    fn remove_remains(&self) -> Result<Vec<Record>, Error> {
        let hierarchy = Hierarchy::detect(self.config.cgroup_base.as_deref())?;
        let ids = self.state.entries()?;
        let mut alive = Vec::new();
        for id in &ids {
            match self.state.record(id) {
                Ok(record) if record.groups.agent().is_some() => alive.push(record),
                Ok(record) => {
                    tracing::info!(sandbox = %id, "removing the remains of a dead sandbox");
                    self.destroy(&record)?;
                }
                Err(error) => {
                    // Interrupted before its record was whole: nothing was made yet.
                    tracing::warn!(sandbox = %id, %error, "removing a sandbox without a record");
                    self.state.remove(id)?;
                }
            }
        }
        for name in hierarchy.existing(&self.state.group_parent) {
            if !ids.iter().any(|id| id.as_str() == name) {
                tracing::info!(sandbox = %name, "removing control groups without a sandbox");
                let groups = hierarchy.groups(&self.state.group_parent, &name);
                groups.kill()?;
                groups.remove()?;
            }
        }
        Ok(alive)
    }
}

impl NativeSandbox {
    async fn job(&self) -> Result<JobState, Error> {
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
                let reason = "the main job has a log instead of one: use `exec`".into();
                return Err(Error::InvalidSpec { field: "terminal", reason });
            }
            let request = Request::Start { key: key.into(), command: self.command(process)? };
            match self.client.ask(request).await? {
                Reply::Started { already: false } => Ok(Started::Now),
                Reply::Started { already: true } => Ok(Started::Before),
                other => Err(unexpected(&other)),
            }
        }
        .boxed()
    }

    fn exec(&self, process: ProcessSpec) -> BoxFuture<'_, Result<Process, Error>> {
        async move {
            let terminal = process.terminal.as_ref().map(|terminal| terminal.size);
            let request = Request::Exec { command: self.command(process)?, terminal };
            // It would be frozen between being made and executing its program, and its asker wait until the thaw.
            if self.on_host(|_, record| record.groups.frozen()).await? {
                return Err(Error::Frozen(self.record.id.to_string()));
            }
            let id = &self.record.id;
            let (streams, theirs) =
                Streams::open(terminal.is_some(), self.record.uid_base()).map_err(|error| broken(id, error))?;
            match self.client.hand_over(request, theirs).await? {
                (Reply::Running, connection) => Ok(Process::attach(id, connection, streams)),
                (Reply::NotRun { code, message }, _) => Ok(Process::not_run(id, streams, code, &message)),
                (other, _) => Err(unexpected(&other)),
            }
        }
        .boxed()
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

    fn get<'a>(&'a self, path: &'a str) -> BoxFuture<'a, Result<ByteReader, Error>> {
        self.client.fetch(Request::Get { path: path.into() }).boxed()
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
        self.on_host(Inner::destroy).boxed()
    }
}

/// Runs what blocks on a thread kept for that. It runs to its end even if nobody waits any more, so nothing is left half made.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Build { step: "run on a thread".into(), reason: error.to_string() }),
    }
}

/// A host name of the sandbox's own name: letters, digits and `-`, and not longer than the kernel takes.
fn hostname(id: &SandboxId) -> String {
    id.as_str().replace('_', "-").chars().take(63).collect()
}

/// The hard limit of open files of a process.
fn open_files(pid: i32) -> Option<u64> {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("limits")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}
