//! What the back end keeps on disk: one directory a sandbox with its record, socket, log and disk image. The record is written before
//! anything else is made, so that whatever a crash leaves can be found and removed.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cgroup::Groups;
use super::processors;
use crate::{Error, SandboxId, SandboxSpec};

/// User and group numbers of one sandbox: the 65,536 that programs expect.
pub(crate) const IDS: u32 = 65_536;

/// The first user number given to sandboxes, above all that people and services have.
const FIRST_ID: u32 = 100_000;

/// How many ranges there are: the last one, and a number each above it, end below 2^31, beyond which some programs take a number for a
/// negative one.
const SLOTS: u32 = 32_000;

/// The version of the record's format.
const VERSION: u32 = 1;

const RECORD: &str = "record.json";

/// The agent as it was built together with this crate.
const AGENT: &[u8] = include_bytes!(env!("AGENT_BINARY"));

/// What is known of a sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    version: u32,
    pub(crate) id: SandboxId,
    /// Which range of user numbers it has.
    slot: u32,
    pub(crate) spec: SandboxSpec,
    pub(crate) groups: Groups,
    /// The processors it runs on.
    #[serde(default)]
    pub(crate) cpus: Vec<u32>,
}

impl Record {
    /// User number 0 inside is this one outside.
    pub(crate) fn uid_base(&self) -> u32 {
        FIRST_ID + self.slot * IDS
    }

    /// The user number of the process that carries its network traffic: above all ranges, so that it is nobody inside of any sandbox.
    pub(crate) fn network_user(&self) -> u32 {
        FIRST_ID + SLOTS * IDS + self.slot
    }
}

/// The state directory.
pub(crate) struct State {
    root: PathBuf,
    /// The name of our control groups, different for every state directory of the machine.
    pub(crate) group_parent: String,
    first_slot: u32,
    /// The agent's file, to be shown inside.
    pub(crate) agent: PathBuf,
}

impl State {
    /// Opens or makes the directory.
    pub(crate) fn open(root: &Path) -> Result<State, Error> {
        let wrong = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::State { path, source }
        };
        DirBuilder::new().recursive(true).mode(0o700).create(root).map_err(wrong(root))?;
        let root = fs::canonicalize(root).map_err(wrong(root))?;
        // Two nodes of one machine have two state directories; their sandboxes must share neither groups nor, in all likelihood, users.
        let hash: [u8; 32] = Sha256::digest(root.as_os_str().as_encoded_bytes()).into();
        let [a, b, c, d, ..] = hash;
        let agent_hash: [u8; 32] = Sha256::digest(AGENT).into();
        let agent = root.join(format!("agent-{}", hex(&agent_hash[..8])));
        if !agent.exists() {
            // Executable by all, since root inside is an ordinary user here, and readable by none: the kernel then keeps the agent's
            // memory and descriptors from everyone inside, whatever their user. The directory above keeps others out.
            let fresh = root.join(format!("agent-{}.new", std::process::id()));
            let _ = fs::remove_file(&fresh);
            write_new(&fresh, AGENT, 0o111).map_err(wrong(&fresh))?;
            fs::rename(&fresh, &agent).map_err(wrong(&agent))?;
        }
        let first_slot = u32::from_be_bytes([a, b, c, d]) % SLOTS;
        Ok(State { root, group_parent: format!("gpulease-{}", hex(&hash[..4])), first_slot, agent })
    }

    /// The directory of a sandbox.
    pub(crate) fn directory(&self, id: &SandboxId) -> PathBuf {
        self.root.join(id.as_str())
    }

    /// Makes the directory and writes the record, with a range of user numbers that no other sandbox here has. The caller sees to it that
    /// this runs once at a time.
    pub(crate) fn register(&self, id: &SandboxId, spec: &SandboxSpec, groups: Groups) -> Result<Record, Error> {
        let others: Vec<Record> = self.entries()?.iter().filter_map(|id| self.record(id).ok()).collect();
        let taken = |slot: &u32| others.iter().any(|other| other.slot == *slot);
        let free = (0..SLOTS).map(|n| (self.first_slot + n) % SLOTS).find(|slot| !taken(slot));
        let slot = free.ok_or_else(|| Error::Unsupported { what: "all ranges of user numbers are in use".into() })?;
        let usable = processors::usable()
            .map_err(|error| Error::Unsupported { what: format!("the processors cannot be counted: {error}") })?;
        let bought = others.iter().map(|other| (other.cpus.as_slice(), other.spec.cpu_millis));
        let cpus = processors::choose(&usable, spec.cpu_millis, bought);
        let directory = self.directory(id);
        DirBuilder::new().mode(0o700).create(&directory).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => Error::Exists(id.to_string()),
            _ => Error::State { path: directory.clone(), source },
        })?;
        let record = Record { version: VERSION, id: id.clone(), slot, spec: spec.clone(), groups, cpus };
        let path = directory.join(RECORD);
        let text = serde_json::to_vec_pretty(&record)
            .map_err(|error| Error::State { path: path.clone(), source: error.into() })?;
        write_new(&path, &text, 0o600).map_err(|source| Error::State { path, source })?;
        Ok(record)
    }

    /// The record of a sandbox.
    pub(crate) fn record(&self, id: &SandboxId) -> Result<Record, Error> {
        let path = self.directory(id).join(RECORD);
        let read = || -> io::Result<Record> {
            let record: Record = serde_json::from_slice(&fs::read(&path)?)?;
            if record.version == VERSION { Ok(record) } else { Err(io::Error::other("a record of another version")) }
        };
        read().map_err(|source| Error::State { path: path.clone(), source })
    }

    /// The sandboxes that have a directory.
    pub(crate) fn entries(&self) -> Result<Vec<SandboxId>, Error> {
        let wrong = |source| Error::State { path: self.root.clone(), source };
        let mut ids = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            if entry.file_type().map_err(wrong)?.is_dir()
                && let Ok(name) = entry.file_name().into_string()
                && let Ok(id) = SandboxId::new(name)
            {
                ids.push(id);
            }
        }
        Ok(ids)
    }

    /// Removes a sandbox's directory.
    pub(crate) fn remove(&self, id: &SandboxId) -> Result<(), Error> {
        let path = self.directory(id);
        match fs::remove_dir_all(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(Error::State { path, source }),
            _ => Ok(()),
        }
    }
}

fn write_new(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
