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
mod keeper;
mod processors;
mod root;
mod sandbox;
mod secrecy;
mod state;
mod views;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use futures::future::{BoxFuture, FutureExt};

pub use helper::helper_main_if_requested;
pub use inside::AGENT_PATH;

use crate::client::Client;
use crate::image::ImageUse;
use crate::{
    Backend, Capabilities, Error, ImageLimits, Images, Isolation, Network, PreparedImage, ProcessSpec, Rootfs, Sandbox,
    SandboxId, SandboxSpec,
};
use cgroup::{Groups, Hierarchy, Limits};
use disk::Templates;
use helper::{Order, Plan};
use keeper::Renewal;
use sandbox::NativeSandbox;
use state::{Record, State};

/// The most job output an agent keeps.
const LOG_RING: u64 = 16 << 20;

/// The pool of images in the state directory: no sandbox can have this name.
const IMAGES: &str = ".images";

/// How long the kernel may take to let go of a disk after its last process has died.
const DETACH: Duration = Duration::from_secs(60);

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
    /// Of each sandbox whether it is being removed, and so gets no other network process. Held while one is started.
    ending: Mutex<HashMap<SandboxId, Arc<Mutex<bool>>>>,
}

impl NativeBackend {
    /// Opens the state directory and puts the agent's program there.
    pub fn new(config: NativeConfig) -> Result<NativeBackend, Error> {
        let state = State::open(&config.state_dir)?;
        let path = config.state_dir.join(disk::TEMPLATES);
        let templates = Templates::open(path.clone()).map_err(|source| Error::State { path, source })?;
        let images = Images::open(&config.state_dir.join(IMAGES), &config.state_dir, config.images)?;
        Ok(NativeBackend(Arc::new(Inner {
            config,
            state,
            templates,
            images,
            making: Mutex::default(),
            ending: Mutex::default(),
        })))
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
        let network = (record.spec.network == Network::Egress).then(|| keeper::keep(self.clone(), record.clone()));
        Ok(NativeSandbox { inner: self.clone(), record, client, image, _network: network })
    }

    fn create(&self, id: &SandboxId, spec: &SandboxSpec, image: Option<&PreparedImage>) -> Result<Record, Error> {
        let record = {
            let _making = locked(&self.making);
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
            if let Err(left) = self.destroy(&record.id, &record.groups) {
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
            egress: (record.spec.network == Network::Egress).then(|| network_plan(record)),
            directory,
        };
        helper::carry_out(&self.config.builder, &Order::Build(Box::new(plan)))
    }

    /// Whether a sandbox is being removed.
    fn ending(&self, id: &SandboxId) -> Arc<Mutex<bool>> {
        locked(&self.ending).entry(id.clone()).or_default().clone()
    }

    /// Starts another network process for a sandbox that has lost its own.
    fn renew_network(&self, record: &Record) -> Result<Renewal, Error> {
        let ending = self.ending(&record.id);
        let ending = locked(&ending);
        if *ending {
            return Ok(Renewal::Over);
        }
        let Some(agent) = record.groups.agent() else {
            // dead by itself, or removed long since: nobody else would forget what was just noted of it
            locked(&self.ending).remove(&record.id);
            return Ok(Renewal::Over);
        };
        if record.groups.network().is_some() {
            return Ok(Renewal::Needless);
        }
        let (directory, plan) = (self.state.directory(&record.id), network_plan(record));
        let group = record.groups.memory_entrance("agent");
        helper::carry_out(&self.config.builder, &Order::Network { directory, plan, agent, group })?;
        Ok(Renewal::Started)
    }

    /// Removes a sandbox with all it has. What is gone already is fine.
    fn destroy(&self, id: &SandboxId, groups: &Groups) -> Result<(), Error> {
        *locked(&self.ending(id)) = true;
        groups.kill()?;
        {
            let _making = locked(&self.making);
            groups.remove()?;
        }
        let image = self.state.directory(id).join(disk::IMAGE);
        let deadline = Instant::now() + DETACH;
        while let Some(size) = disk::attached_size(&image).map_err(|error| Error::Disk(error.to_string()))? {
            if Instant::now() > deadline {
                let what = format!("its disk of {size} bytes is still in use; see `losetup -j {}`", image.display());
                return Err(Error::Leftover { id: id.to_string(), what });
            }
            sleep(LOOK);
        }
        if !groups.removed() {
            let what = "its control groups are still there".into();
            return Err(Error::Leftover { id: id.to_string(), what });
        }
        let directory = self.state.directory(id);
        disk::scrub(&directory).map_err(|error| Error::Disk(format!("overwrite {}: {error}", directory.display())))?;
        self.state.remove(id)?;
        locked(&self.ending).remove(id);
        Ok(())
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
                    self.destroy(id, &record.groups)?;
                }
                Err(error) => {
                    // Interrupted before its record was whole, or of a version that this one cannot take over.
                    tracing::warn!(sandbox = %id, %error, "removing a sandbox without a record");
                    self.destroy(id, &hierarchy.groups(&self.state.group_parent, id.as_str()))?;
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

/// What a lock keeps; whoever panicked with it left it whole.
fn locked<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

fn network_plan(record: &Record) -> egress::Plan {
    egress::Plan::new(record.groups.entrances("network"), record.network_user())
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
