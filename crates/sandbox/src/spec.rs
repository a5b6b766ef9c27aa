//! What a sandbox may use and run: parsed and checked here, trusted everywhere else.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use agent::protocol::{JobState, TerminalSize};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::image::{ImageConfig, ImageSource};

/// What a sandbox is given for its devices, as their vendors' CDI files say.
pub use gpu::cdi::Edits as Devices;

pub use agent::protocol::WORKING_DIRECTORY;

/// The least memory a job can be given: a program with a shared C library needs a few MiB to start at all.
const MIN_MEMORY: u64 = 4 << 20;

/// The least disk: below this an ext4 file system has no room for anything.
const MIN_DISK: u64 = 8 << 20;

/// The fewest open files: the agent lives under the same limit and needs some for its connections.
const MIN_OPEN_FILES: u64 = 128;

/// The smallest share of a processor: the kernel's shortest quota is 1 ms of a 100 ms period.
const MIN_CPU: u32 = 10;

/// The name of a sandbox; also the name of its directory and control groups.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SandboxId(String);

impl SandboxId {
    /// Checks that the name is safe as a file name.
    pub fn new(name: impl Into<String>) -> Result<SandboxId, Error> {
        let name = name.into();
        let safe = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if safe && (1..=80).contains(&name.len()) { Ok(SandboxId(name)) } else { Err(Error::InvalidId(name)) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SandboxId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for SandboxId {
    type Error = Error;

    fn try_from(name: String) -> Result<SandboxId, Error> {
        SandboxId::new(name)
    }
}

impl From<SandboxId> for String {
    fn from(id: SandboxId) -> String {
        id.0
    }
}

/// The files a sandbox sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rootfs {
    /// A small skeleton with this machine's `/usr`, read-only. No image is needed and nothing else of the machine is visible.
    HostUsr,
    /// A directory tree of this machine. It is not changed: what the job writes goes to the sandbox's own disk.
    Dir(PathBuf),
    /// An image, unpacked once for all sandboxes that use it. It is not changed either.
    Image(ImageSource),
}

/// What a sandbox can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Network {
    /// Only itself, over a loopback interface of its own.
    None,
    /// Public addresses besides, by TCP and UDP, and the names of the Domain Name System; nothing private, and nothing of this machine.
    Egress,
}

/// All that a sandbox may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Thousandths of a processor.
    pub cpu_millis: u32,
    /// Bytes of memory, without swap.
    pub memory_bytes: u64,
    /// Bytes of the sandbox's disk, its file system's own needs included.
    pub disk_bytes: u64,
    /// Processes and threads.
    pub max_processes: u64,
    /// Open files of one process.
    pub max_open_files: u64,
    /// The files it sees.
    pub rootfs: Rootfs,
    /// What it can reach.
    pub network: Network,
    /// Devices, with what belongs to them.
    #[serde(default)]
    pub devices: Devices,
    /// Environment of every process in it.
    pub env: BTreeMap<String, String>,
}

impl Default for SandboxSpec {
    /// One processor, 1 GiB of memory, 10 GiB of disk, 512 processes, 1,024 files, no network.
    fn default() -> Self {
        SandboxSpec {
            cpu_millis: 1000,
            memory_bytes: 1 << 30,
            disk_bytes: 10 << 30,
            max_processes: 512,
            max_open_files: 1024,
            rootfs: Rootfs::HostUsr,
            network: Network::None,
            devices: Devices::default(),
            env: BTreeMap::new(),
        }
    }
}

impl SandboxSpec {
    /// Checks that every limit can mean something.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |field, reason: String| Err(Error::InvalidSpec { field, reason });
        if self.cpu_millis < MIN_CPU {
            return wrong(
                "cpu",
                format!("{} thousandths of a processor are too few: give at least {MIN_CPU}", self.cpu_millis),
            );
        }
        if self.memory_bytes < MIN_MEMORY {
            return wrong("memory", format!("{} bytes are too few: give at least {MIN_MEMORY}", self.memory_bytes));
        }
        if self.disk_bytes < MIN_DISK {
            return wrong("disk", format!("{} bytes are too few: give at least {MIN_DISK}", self.disk_bytes));
        }
        if self.max_processes == 0 {
            return wrong("processes", "a job is at least one process".into());
        }
        if self.max_open_files < MIN_OPEN_FILES {
            return wrong("open files", format!("{} are too few: give at least {MIN_OPEN_FILES}", self.max_open_files));
        }
        if let Rootfs::Dir(path) = &self.rootfs
            && !path.is_absolute()
        {
            return wrong("rootfs", format!("{} is not an absolute path", path.display()));
        }
        self.devices.check().map_err(|fault| Error::InvalidSpec { field: "devices", reason: fault.to_string() })?;
        check_env("environment", &self.env)
    }

    /// Limits in the units the kernel keeps: whole pages of memory, whole sectors of disk.
    pub(crate) fn rounded(mut self) -> SandboxSpec {
        self.memory_bytes -= self.memory_bytes % 4096;
        self.disk_bytes -= self.disk_bytes % 4096;
        self
    }
}

/// A terminal for a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Its size at first.
    pub size: TerminalSize,
    /// The name by which programs look up what it can do, such as `xterm-256color`; their `TERM`, unless the process sets its own.
    pub term: String,
}

/// A program to run in a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSpec {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// Environment beside the sandbox's own.
    pub env: BTreeMap<String, String>,
    /// The working directory inside; [`WORKING_DIRECTORY`] unless given.
    pub cwd: Option<String>,
    /// Run it in a terminal, which is its input and both its outputs. Only for [`crate::Sandbox::exec`].
    pub terminal: Option<Terminal>,
}

impl ProcessSpec {
    /// A program with its arguments, in the working directory.
    pub fn new<S: Into<String>>(argv: impl IntoIterator<Item = S>) -> ProcessSpec {
        let argv = argv.into_iter().map(Into::into).collect();
        ProcessSpec { argv, env: BTreeMap::new(), cwd: None, terminal: None }
    }

    /// The same in a sandbox of an image: what neither the program nor the sandbox says is as the image says.
    pub(crate) fn inherit(mut self, image: &ImageConfig, sandbox: &SandboxSpec) -> ProcessSpec {
        for (name, value) in image.env.iter().filter(|(name, _)| !sandbox.env.contains_key(*name)) {
            self.env.entry(name.clone()).or_insert_with(|| value.clone());
        }
        if self.argv.is_empty() {
            self.argv = image.entrypoint.iter().chain(&image.command).cloned().collect();
        }
        self.cwd = self.cwd.or_else(|| image.working_directory.clone());
        self
    }

    /// The same as the agent takes it: the environment is whole and nothing is inherited.
    pub(crate) fn command(self, sandbox: &SandboxSpec) -> Result<agent::protocol::Command, Error> {
        if self.argv.first().is_none_or(String::is_empty) {
            return Err(Error::InvalidSpec { field: "command", reason: "the command line is empty".into() });
        }
        if self.argv.iter().any(|argument| argument.contains('\0')) {
            return Err(Error::InvalidSpec { field: "command", reason: "an argument holds a zero byte".into() });
        }
        check_env("environment", &self.env)?;
        let mut env: BTreeMap<String, String> = BASE_ENV.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let devices = &sandbox.devices;
        env.extend(devices.environment.iter().map(|variable| (variable.name.clone(), variable.value.clone())));
        env.extend(sandbox.env.clone());
        if let Some(terminal) = self.terminal {
            let term = BTreeMap::from([("TERM".into(), terminal.term)]);
            check_env("terminal", &term)?;
            env.extend(term);
        }
        env.extend(self.env);
        if !devices.mounts.is_empty() || !devices.library_folders.is_empty() {
            // The devices' own libraries first: they must fit the machine's driver, which those of an image cannot know.
            let folders = devices.library_folders.iter().map(|folder| folder.0.as_str());
            let given = env.get(LIBRARY_PATH).map(String::as_str);
            let path: Vec<&str> = std::iter::once(DEVICE_LIBRARIES).chain(folders).chain(given).collect();
            env.insert(LIBRARY_PATH.into(), path.join(":"));
        }
        let cwd = self.cwd.unwrap_or_else(|| WORKING_DIRECTORY.into());
        Ok(agent::protocol::Command { argv: self.argv, env: env.into_iter().collect(), cwd })
    }
}

/// Where the loader looks before its own folders.
const LIBRARY_PATH: &str = "LD_LIBRARY_PATH";

/// Where the loader finds the devices' libraries inside, whatever folders the image knows.
pub(crate) const DEVICE_LIBRARIES: &str = "/run/gpulease/lib";

/// What every program may expect to find.
const BASE_ENV: [(&str, &str); 4] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", WORKING_DIRECTORY),
    ("LANG", "C.UTF-8"),
    ("USER", "root"),
];

fn check_env(field: &'static str, env: &BTreeMap<String, String>) -> Result<(), Error> {
    for (name, value) in env {
        if name.is_empty() || name.contains('=') || name.contains('\0') || value.contains('\0') {
            return Err(Error::InvalidSpec { field, reason: format!("`{}` cannot be set", name.escape_debug()) });
        }
    }
    Ok(())
}

/// What `start` found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Started {
    /// The job was started now.
    Now,
    /// An earlier call with the same key had started it.
    Before,
}

/// How a sandbox is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// The main job.
    pub job: JobState,
    /// Its processes are frozen.
    pub frozen: bool,
}

/// What was uploaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Files, links and directories.
    pub entries: u64,
    /// Bytes of file content.
    pub bytes: u64,
}

/// Limits as the kernel has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EffectiveLimits {
    /// Thousandths of a processor.
    pub cpu_millis: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// Bytes of the disk.
    pub disk_bytes: u64,
    /// Processes and threads.
    pub max_processes: u64,
    /// Open files of one process.
    pub max_open_files: u64,
}

/// What a sandbox uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// Processor time so far, in nanoseconds.
    pub cpu_nanos: u64,
    /// Bytes of memory now.
    pub memory_bytes: u64,
    /// The most bytes of memory so far.
    pub memory_peak_bytes: u64,
    /// Processes and threads now.
    pub processes: u64,
    /// Bytes of the disk in use.
    pub disk_bytes: u64,
    /// How many processes the kernel killed for want of memory.
    pub oom_kills: u64,
    /// Bytes received over the network, headers included, without loopback.
    pub network_received_bytes: u64,
    /// Bytes sent over the network, counted the same way.
    pub network_sent_bytes: u64,
}

/// How strong the wall around a sandbox is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Isolation {
    /// Namespaces, limits and a system call filter on the machine's own kernel.
    SharedKernel,
}

/// The kernel's interface for limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupVersion {
    /// One hierarchy a controller.
    V1,
    /// One hierarchy for all.
    V2,
}

/// What a back end can do on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// Its name.
    pub backend: String,
    /// How strong its wall is.
    pub isolation: Isolation,
    /// How it limits, if it can.
    pub cgroups: Option<CgroupVersion>,
    /// The networks that sandboxes here can have.
    pub networks: Vec<Network>,
    /// The running kernel.
    pub kernel: String,
    /// What stands in the way of making a sandbox and what to do about it; empty when nothing does.
    pub problems: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_could_leave_its_directory_is_refused() {
        for name in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(81)] {
            assert!(SandboxId::new(name).is_err(), "{name}");
        }
        assert!(SandboxId::new(format!("0x{}", "f".repeat(64))).is_ok());
    }

    #[test]
    fn limits_that_mean_nothing_are_refused_with_the_field_that_is_wrong() {
        let changed = |change: fn(&mut SandboxSpec)| {
            let mut spec = SandboxSpec::default();
            change(&mut spec);
            spec.check().unwrap_err().to_string()
        };
        assert!(changed(|spec| spec.cpu_millis = 0).starts_with("cpu:"));
        assert!(changed(|spec| spec.memory_bytes = 1).starts_with("memory:"));
        assert!(changed(|spec| spec.disk_bytes = 1).starts_with("disk:"));
        assert!(changed(|spec| spec.max_processes = 0).starts_with("processes:"));
        assert!(changed(|spec| spec.max_open_files = 3).starts_with("open files:"));
        assert!(changed(|spec| spec.rootfs = Rootfs::Dir("here".into())).starts_with("rootfs:"));
        assert!(changed(|spec| drop(spec.env.insert("A=B".into(), String::new()))).starts_with("environment:"));
        SandboxSpec::default().check().unwrap();
    }

    #[test]
    fn a_process_gets_of_its_image_what_nobody_else_says() {
        let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let sandbox = SandboxSpec { env: pairs(&[("B", "sandbox")]), ..SandboxSpec::default() };
        let image = ImageConfig {
            env: pairs(&[("A", "image"), ("B", "image"), ("C", "image")]),
            entrypoint: vec!["python".into()],
            command: vec!["-V".into()],
            working_directory: Some("/srv".into()),
            user: None,
        };
        let mut process = ProcessSpec::new(Vec::<String>::new());
        process.env = pairs(&[("C", "process")]);
        let command = process.inherit(&image, &sandbox).command(&sandbox).unwrap();
        let value = |name: &str| command.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!((value("A"), value("B"), value("C")), (Some("image"), Some("sandbox"), Some("process")));
        assert_eq!((command.argv, command.cwd.as_str()), (vec!["python".into(), "-V".into()], "/srv"));
        let given = ProcessSpec { cwd: Some("/tmp".into()), ..ProcessSpec::new(["true"]) };
        let command = given.inherit(&image, &sandbox).command(&sandbox).unwrap();
        assert_eq!((command.argv, command.cwd.as_str()), (vec!["true".into()], "/tmp"));
    }

    #[test]
    fn a_process_gets_the_sandbox_environment_and_its_own_on_top() {
        let mut sandbox = SandboxSpec::default();
        sandbox.env.insert("A".into(), "sandbox".into());
        sandbox.env.insert("B".into(), "sandbox".into());
        let mut process = ProcessSpec::new(["true"]);
        process.env.insert("B".into(), "process".into());
        let command = process.command(&sandbox).unwrap();
        let value = |name: &str| command.env.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!((value("A"), value("B"), value("HOME")), (Some("sandbox"), Some("process"), Some("/job")));
        assert_eq!(command.cwd, "/job");
        let mut shell = ProcessSpec::new(["sh"]);
        shell.terminal = Some(Terminal { size: TerminalSize { columns: 80, rows: 24 }, term: "vt100".into() });
        assert!(shell.command(&sandbox).unwrap().env.contains(&("TERM".into(), "vt100".into())));
        assert!(ProcessSpec::new(Vec::<String>::new()).command(&sandbox).is_err());
        assert!(ProcessSpec::new(["a\0b"]).command(&sandbox).is_err());
    }
}
