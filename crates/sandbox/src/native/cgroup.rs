//! Limits by control groups, version 1 and 2, closed on failure: a value that cannot be written, or reads back as another, is an error.
//!
//! Every sandbox has two groups: `job`, in which the renter's processes get exactly what was bought, and `agent`, small and separate, so
//! that a job out of memory, out of processes or frozen cannot silence the agent, and the agent takes nothing from the job. One with a
//! network has a third, `network`, for the process that carries its traffic.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::{CgroupVersion, Error};

/// What the agent may use: its log ring of 16 MiB, a manifest of 100,000 files, 62 MiB that its sessions keep at most, two frames under way
/// and one in the socket for each of its 240 connections, their threads, and the cache of files it unpacks.
const AGENT_MEMORY: u64 = 192 << 20;

/// Threads of the agent: one for each of its 240 connections that is not attached to a session, a handful of its own, and processes about
/// to enter the job's group.
const AGENT_PROCESSES: u64 = 288;

/// The agent's share of a processor: it copies bytes.
const AGENT_CPU_MILLIS: u32 = 1000;

/// The groups that a sandbox may have.
const PARTS: [&str; 3] = ["job", "agent", "network"];

/// The period in which processor time is counted, in microseconds: the kernel's default.
const PERIOD: u64 = 100_000;

/// The controllers of version 1 that are needed.
const V1: [&str; 5] = ["memory", "pids", "cpu", "cpuacct", "freezer"];

/// The controllers of version 2 that are needed; freezing belongs to its core.
const V2: [&str; 3] = ["cpu", "memory", "pids"];

/// How long processes may take to die or to freeze: the last one writes the disk's dirty pages back, and one in an uninterruptible read of a
/// slow disk has to wait for it.
const SETTLE: Duration = Duration::from_secs(60);

/// How often to look meanwhile.
const LOOK: Duration = Duration::from_millis(2);

/// Where groups can be made on this machine.
pub(crate) struct Hierarchy {
    /// Version 1 or 2.
    pub(crate) version: CgroupVersion,
    /// The directory under which ours are made, for each controller; one for all under the name `all` in version 2.
    roots: BTreeMap<String, PathBuf>,
}

/// The groups of one sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Groups {
    version: CgroupVersion,
    /// `<root>/<parent>/<id>` for each controller.
    directories: BTreeMap<String, PathBuf>,
}

/// The limits of one group.
#[derive(Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) cpu_millis: u32,
    pub(crate) memory_bytes: u64,
    pub(crate) max_processes: u64,
}

/// What the kernel counts for a job.
pub(crate) struct Usage {
    pub(crate) cpu_nanos: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) memory_peak_bytes: u64,
    pub(crate) processes: u64,
    pub(crate) oom_kills: u64,
}

impl Hierarchy {
    /// Finds the mounted controllers. `base` is the path below each root to use; the default is this process's own group in version 1,
    /// which may be all that is delegated to it, and the root in version 2, where groups with processes cannot have limited children.
    pub(crate) fn detect(base: Option<&Path>) -> Result<Hierarchy, Error> {
        let mounts = read(Path::new("/proc/self/mounts"))?;
        let own = read(Path::new("/proc/self/cgroup"))?;
        Hierarchy::from_tables(&mounts, &own, base)
    }

    fn from_tables(mounts: &str, own: &str, base: Option<&Path>) -> Result<Hierarchy, Error> {
        let relative = |path: &Path| path.strip_prefix("/").unwrap_or(path).to_path_buf();
        let mut v1 = BTreeMap::new();
        let mut v2 = None;
        for mount in mounts.lines() {
            let fields: Vec<&str> = mount.split(' ').collect();
            let [_, target, kind, options, ..] = fields[..] else { continue };
            if kind == "cgroup2" {
                v2.get_or_insert_with(|| PathBuf::from(target));
            }
            let wanted = options.split(',').filter(|option| kind == "cgroup" && V1.contains(option));
            for controller in wanted {
                let own_path = own.lines().find_map(|line| {
                    let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
                    controllers.split(',').any(|name| name == controller).then_some(path)
                });
                let below = base.map(relative).or_else(|| own_path.map(|path| relative(Path::new(path))));
                v1.entry(controller.to_string()).or_insert(Path::new(target).join(below.unwrap_or_default()));
            }
        }
        let missing: Vec<&str> = V1.into_iter().filter(|name| !v1.contains_key(*name)).collect();
        if missing.is_empty() {
            return Ok(Hierarchy { version: CgroupVersion::V1, roots: v1 });
        }
        let what = format!(
            "control group controllers are missing ({} in version 1, or {} in version 2); mount /sys/fs/cgroup with them",
            missing.join(", "),
            V2.join(", ")
        );
        let root = v2.ok_or(Error::Unsupported { what: what.clone() })?;
        let offered = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
        let offered: Vec<&str> = offered.split_whitespace().collect();
        if !V2.iter().all(|name| offered.contains(name)) {
            return Err(Error::Unsupported { what });
        }
        let root = base.map_or(root.clone(), |base| root.join(relative(base)));
        Ok(Hierarchy { version: CgroupVersion::V2, roots: BTreeMap::from([("all".into(), root)]) })
    }

    /// The groups of a sandbox, made or not.
    pub(crate) fn groups(&self, parent: &str, id: &str) -> Groups {
        let directories = self.roots.iter().map(|(name, root)| (name.clone(), root.join(parent).join(id))).collect();
        Groups { version: self.version, directories }
    }

    /// Names of the groups made under a parent earlier.
    pub(crate) fn existing(&self, parent: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for root in self.roots.values() {
            let entries = fs::read_dir(root.join(parent)).into_iter().flatten().flatten();
            let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            names.extend(directories.filter_map(|entry| entry.file_name().into_string().ok()));
        }
        names.sort();
        names.dedup();
        names
    }
}

impl Groups {
    /// Makes both groups and sets their limits.
    pub(crate) fn create(&self, job: Limits) -> Result<(), Error> {
        for directory in self.directories.values() {
            for part in ["job", "agent"] {
                let path = directory.join(part);
                fs::create_dir_all(&path).map_err(|source| Error::Group { path, source })?;
            }
            if self.version == CgroupVersion::V2 {
                self.enable_controllers(directory)?;
            }
        }
        if let Some(pid) = self.processes()?.first() {
            let what = format!("process {pid} is already in the groups of this new sandbox");
            return Err(Error::Unsupported { what });
        }
        self.limit("job", job)?;
        let agent = Limits { cpu_millis: AGENT_CPU_MILLIS, memory_bytes: AGENT_MEMORY, max_processes: AGENT_PROCESSES };
        self.limit("agent", agent)
    }

    /// Makes the group of the process that carries network traffic.
    pub(crate) fn create_network(&self, limits: Limits) -> Result<(), Error> {
        for directory in self.directories.values() {
            let path = directory.join("network");
            fs::create_dir_all(&path).map_err(|source| Error::Group { path, source })?;
        }
        self.limit("network", limits)
    }

    /// Version 2 gives a group only what its parent passes on: from the root down to the sandbox's own directory.
    fn enable_controllers(&self, directory: &Path) -> Result<(), Error> {
        let mut chain: Vec<&Path> =
            directory.ancestors().take_while(|path| path.join("cgroup.subtree_control").exists()).collect();
        chain.reverse();
        for path in chain {
            let file = path.join("cgroup.subtree_control");
            for controller in V2 {
                let enabled = read(&file)?;
                if enabled.split_whitespace().any(|name| name == controller) {
                    continue;
                }
                set(&file, &format!("+{controller}"), controller)?;
                let enabled = read(&file)?;
                if !enabled.split_whitespace().any(|name| name == controller) {
                    let wanted = format!("+{controller}");
                    return Err(Error::LimitNotKept { limit: controller, path: file, wanted, found: enabled });
                }
            }
        }
        Ok(())
    }

    fn limit(&self, part: &str, limits: Limits) -> Result<(), Error> {
        let memory = limits.memory_bytes.to_string();
        let quota = (u64::from(limits.cpu_millis) * PERIOD / 1000).to_string();
        let period = PERIOD.to_string();
        let processes = limits.max_processes.to_string();
        match self.version {
            CgroupVersion::V1 => {
                keep(&self.file("memory", part, "memory.limit_in_bytes"), &memory, "memory")?;
                let swap = self.file("memory", part, "memory.memsw.limit_in_bytes");
                no_swap(&swap, &memory)?;
                keep(&self.file("pids", part, "pids.max"), &processes, "process")?;
                keep(&self.file("cpu", part, "cpu.cfs_period_us"), &period, "cpu")?;
                keep(&self.file("cpu", part, "cpu.cfs_quota_us"), &quota, "cpu")
            }
            CgroupVersion::V2 => {
                keep(&self.file("memory", part, "memory.max"), &memory, "memory")?;
                no_swap(&self.file("memory", part, "memory.swap.max"), "0")?;
                keep(&self.file("pids", part, "pids.max"), &processes, "process")?;
                keep(&self.file("cpu", part, "cpu.max"), &format!("{quota} {period}"), "cpu")
            }
        }
    }

    /// The job's limits, read back.
    pub(crate) fn limits(&self) -> Result<Limits, Error> {
        let (memory, quota, period) = match self.version {
            CgroupVersion::V1 => {
                let quota = self.number("cpu", "cpu.cfs_quota_us")?;
                (self.number("memory", "memory.limit_in_bytes")?, quota, self.number("cpu", "cpu.cfs_period_us")?)
            }
            CgroupVersion::V2 => {
                let path = self.file("cpu", "job", "cpu.max");
                let text = read(&path)?;
                let (quota, period) = text.trim().split_once(' ').unwrap_or(("", ""));
                (self.number("memory", "memory.max")?, parse(&path, quota)?, parse(&path, period)?)
            }
        };
        let cpu_millis = u32::try_from(quota * 1000 / period.max(1)).unwrap_or(u32::MAX);
        Ok(Limits { cpu_millis, memory_bytes: memory, max_processes: self.number("pids", "pids.max")? })
    }

    /// What the job uses.
    pub(crate) fn usage(&self) -> Result<Usage, Error> {
        let (cpu_nanos, memory_bytes, memory_peak_bytes) = match self.version {
            CgroupVersion::V1 => (
                self.number("cpuacct", "cpuacct.usage")?,
                self.number("memory", "memory.usage_in_bytes")?,
                self.number("memory", "memory.max_usage_in_bytes")?,
            ),
            CgroupVersion::V2 => {
                let now = self.number("memory", "memory.current")?;
                let micros = self.line("cpu", "cpu.stat", "usage_usec")?;
                // The peak came with Linux 5.19; before, what is used now is all there is to say.
                (micros * 1000, now, self.number("memory", "memory.peak").unwrap_or(now))
            }
        };
        let events = self.oom_counter();
        let oom_kills = keyed(&events, &read(&events)?, "oom_kill")?;
        let processes = self.number("pids", "pids.current")?;
        Ok(Usage { cpu_nanos, memory_bytes, memory_peak_bytes, processes, oom_kills })
    }

    /// The file with the kernel's count of out-of-memory kills in the job.
    pub(crate) fn oom_counter(&self) -> PathBuf {
        match self.version {
            CgroupVersion::V1 => self.file("memory", "job", "memory.oom_control"),
            CgroupVersion::V2 => self.file("memory", "job", "memory.events"),
        }
    }

    /// The files with the job's memory in use, in sum and by kind.
    pub(crate) fn memory_files(&self) -> [PathBuf; 2] {
        let usage = match self.version {
            CgroupVersion::V1 => "memory.usage_in_bytes",
            CgroupVersion::V2 => "memory.current",
        };
        [self.file("memory", "job", usage), self.file("memory", "job", "memory.stat")]
    }

    /// The files by which a process enters one of the groups.
    pub(crate) fn entrances(&self, part: &str) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> =
            self.directories.values().map(|directory| directory.join(part).join("cgroup.procs")).collect();
        files.sort();
        files.dedup();
        files
    }

    /// Process numbers in all of the groups.
    pub(crate) fn processes(&self) -> Result<Vec<i32>, Error> {
        let mut found = Vec::new();
        for file in PARTS.iter().flat_map(|part| self.entrances(part)) {
            match fs::read_to_string(&file) {
                Ok(text) => found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok())),
                Err(error) if absent(&error) => {}
                Err(source) => return Err(Error::Group { path: file, source }),
            }
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// The agent's process number, if it lives.
    pub(crate) fn agent(&self) -> Option<i32> {
        self.first("agent")
    }

    /// The number of the process that carries network traffic, if there is one and it lives.
    pub(crate) fn network(&self) -> Option<i32> {
        self.first("network")
    }

    /// The one file of the entrances that tells who is in a part.
    pub(crate) fn memory_entrance(&self, part: &str) -> PathBuf {
        self.file("memory", part, "cgroup.procs")
    }

    fn first(&self, part: &str) -> Option<i32> {
        fs::read_to_string(self.memory_entrance(part)).ok()?.lines().find_map(|line| line.parse().ok())
    }

    /// Freezes the job's processes, or lets them go on, and waits until it is so.
    pub(crate) fn set_frozen(&self, frozen: bool) -> Result<(), Error> {
        let (file, value) = match (self.version, frozen) {
            (CgroupVersion::V1, true) => (self.file("freezer", "job", "freezer.state"), "FROZEN"),
            (CgroupVersion::V1, false) => (self.file("freezer", "job", "freezer.state"), "THAWED"),
            (CgroupVersion::V2, true) => (self.file("memory", "job", "cgroup.freeze"), "1"),
            (CgroupVersion::V2, false) => (self.file("memory", "job", "cgroup.freeze"), "0"),
        };
        let deadline = Instant::now() + SETTLE;
        write(&file, value).map_err(|source| Error::Group { path: file.clone(), source })?;
        while self.frozen()? != frozen {
            if Instant::now() > deadline {
                let source = io::Error::new(io::ErrorKind::TimedOut, format!("does not become {value}"));
                return Err(Error::Group { path: file, source });
            }
            sleep(LOOK);
            if self.version == CgroupVersion::V1 {
                // Version 1 may miss a process that forks meanwhile; writing again makes it look once more.
                write(&file, value).map_err(|source| Error::Group { path: file.clone(), source })?;
            }
        }
        Ok(())
    }

    /// True when every process of the job is frozen.
    pub(crate) fn frozen(&self) -> Result<bool, Error> {
        match self.version {
            CgroupVersion::V1 => Ok(read(&self.file("freezer", "job", "freezer.state"))?.trim() == "FROZEN"),
            CgroupVersion::V2 => Ok(self.line("memory", "cgroup.events", "frozen")? == 1),
        }
    }

    /// Kills all that runs in the groups and waits for its end; groups that are not there are fine.
    pub(crate) fn kill(&self) -> Result<(), Error> {
        let deadline = Instant::now() + SETTLE;
        let freezer = self.file("freezer", "job", "freezer.state");
        if self.version == CgroupVersion::V1 && freezer.exists() {
            // A frozen process of version 1 does not die.
            write(&freezer, "THAWED").map_err(|source| Error::Group { path: freezer, source })?;
        }
        loop {
            let processes = self.processes()?;
            if processes.is_empty() {
                break;
            }
            for pid in &processes {
                // The number was read from our own group a moment ago and is only reused after it has left it.
                // SAFETY: plain numbers.
                unsafe { libc::kill(*pid, libc::SIGKILL) };
            }
            if Instant::now() > deadline {
                let path = self.file("memory", "job", "cgroup.procs");
                let source = io::Error::new(io::ErrorKind::TimedOut, format!("processes {processes:?} do not die"));
                return Err(Error::Group { path, source });
            }
            sleep(LOOK);
        }
        Ok(())
    }

    /// Removes the groups, in which nothing runs any more; what is not there is fine.
    pub(crate) fn remove(&self) -> Result<(), Error> {
        let deadline = Instant::now() + SETTLE;
        for directory in self.directories.values() {
            for path in PARTS.iter().map(|part| directory.join(part)).chain([directory.clone()]) {
                remove(&path, deadline)?;
            }
            // The parent goes with the last sandbox.
            if let Some(parent) = directory.parent() {
                let _ = fs::remove_dir(parent);
            }
        }
        Ok(())
    }

    /// True when no directory of these groups exists.
    pub(crate) fn removed(&self) -> bool {
        !self.directories.values().any(|directory| directory.exists())
    }

    fn file(&self, controller: &str, part: &str, name: &str) -> PathBuf {
        let directory = self.directories.get(controller).or_else(|| self.directories.get("all"));
        directory.cloned().unwrap_or_default().join(part).join(name)
    }

    fn number(&self, controller: &str, name: &str) -> Result<u64, Error> {
        let path = self.file(controller, "job", name);
        parse(&path, read(&path)?.trim())
    }

    fn line(&self, controller: &str, name: &str, key: &str) -> Result<u64, Error> {
        let path = self.file(controller, "job", name);
        keyed(&path, &read(&path)?, key)
    }
}

fn remove(path: &Path, deadline: Instant) -> Result<(), Error> {
    loop {
        match fs::remove_dir(path) {
            Ok(()) => return Ok(()),
            Err(error) if absent(&error) => return Ok(()),
            // The last process may still be leaving.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => sleep(LOOK),
            Err(source) => return Err(Error::Group { path: path.into(), source }),
        }
    }
}

/// A removed group's files answer either way.
fn absent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// Swap would make a memory limit a lie. Where the kernel does not count swap there must be none.
fn no_swap(file: &Path, value: &str) -> Result<(), Error> {
    if file.exists() {
        return keep(file, value, "swap");
    }
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    if swaps.lines().count() <= 1 {
        return Ok(());
    }
    let what =
        "swap is on but the kernel does not limit it per group; boot with swapaccount=1, or turn swap off".into();
    Err(Error::Unsupported { what })
}

/// Writes a limit and reads it back.
fn keep(file: &Path, value: &str, limit: &'static str) -> Result<(), Error> {
    set(file, value, limit)?;
    let found = read(file)?.trim().to_string();
    if found == value {
        return Ok(());
    }
    Err(Error::LimitNotKept { limit, path: file.into(), wanted: value.into(), found })
}

fn set(file: &Path, value: &str, limit: &'static str) -> Result<(), Error> {
    write(file, value).map_err(|source| Error::LimitRefused { limit, value: value.into(), path: file.into(), source })
}

/// Writes to a control file that must exist: making one would hide that this is no control group.
fn write(file: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(file)?.write_all(value.as_bytes())
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::Group { path: path.into(), source })
}

fn parse(path: &Path, text: &str) -> Result<u64, Error> {
    text.parse().map_err(|_| {
        let source = io::Error::new(io::ErrorKind::InvalidData, format!("`{text}` is not a number"));
        Error::Group { path: path.into(), source }
    })
}

fn keyed(path: &Path, text: &str, key: &str) -> Result<u64, Error> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    parse(path, value.unwrap_or("nothing").trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "9:name=systemd:/\n4:memory:/some/group\n3:cpu,cpuacct:/\n2:pids:/\n1:freezer:/\n0::/\n";

    #[test]
    fn version_1_nests_under_the_own_group_of_each_controller() {
        let mounts = "t /cg tmpfs rw 0 0\nc /cg/memory cgroup rw,memory 0 0\nc /cg/cpu cgroup rw,cpu,cpuacct 0 0\n\
                      c /cg/pids cgroup rw,pids 0 0\nc /cg/freezer cgroup rw,freezer 0 0\nc /cg/unified cgroup2 rw 0 0\n";
        let found = Hierarchy::from_tables(mounts, OWN, None).unwrap();
        assert_eq!(found.version, CgroupVersion::V1);
        let groups = found.groups("gpulease-1", "a");
        assert_eq!(groups.file("memory", "job", "x"), Path::new("/cg/memory/some/group/gpulease-1/a/job/x"));
        assert_eq!(groups.file("cpuacct", "job", "x"), Path::new("/cg/cpu/gpulease-1/a/job/x"));
        assert_eq!(groups.entrances("job").len(), 4, "controllers mounted together are entered once");
    }

    #[test]
    fn controllers_that_are_missing_are_named() {
        let mounts = "c /cg/memory cgroup rw,memory 0 0\nc /nowhere cgroup2 rw 0 0\n";
        let error = Hierarchy::from_tables(mounts, OWN, None).err().unwrap().to_string();
        assert!(error.contains("pids, cpu, cpuacct, freezer"), "{error}");
    }

    #[test]
    fn version_2_is_used_where_it_has_the_controllers() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
        let mounts = format!("c {} cgroup2 rw 0 0\n", root.path().display());
        let found = Hierarchy::from_tables(&mounts, "0::/user.slice\n", None).unwrap();
        assert_eq!(found.version, CgroupVersion::V2);
        let groups = found.groups("gpulease-1", "a");
        assert_eq!(groups.oom_counter(), root.path().join("gpulease-1/a/job/memory.events"));
    }

    #[test]
    fn a_limit_on_something_that_is_no_control_group_is_refused_and_makes_no_file() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("memory.max");
        let error = keep(&file, "4096", "memory").unwrap_err();
        assert!(matches!(error, Error::LimitRefused { limit: "memory", .. }), "{error}");
        assert!(!file.exists());
    }

    #[test]
    fn a_limit_that_reads_back_as_another_is_refused() {
        // Reads as nothing whatever is written.
        let error = keep(Path::new("/dev/null"), "4096", "memory").unwrap_err();
        assert!(matches!(error, Error::LimitNotKept { limit: "memory", .. }), "{error}");
    }
}
