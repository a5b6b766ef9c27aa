//! What can be wrong with CDI files, with a request for devices, and with the machine.

use std::{io, path::PathBuf};

/// What is wrong with one file. The file is left out as a whole: half of a device is none.
#[derive(Debug, thiserror::Error)]
#[error("{}: {fault}", path.display())]
pub struct CdiError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    #[source]
    pub fault: Fault,
}

/// Why a file, a request or a device is refused.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// It cannot be read, or is too long.
    #[error("it cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    /// It is no JSON, or has other fields than the specification.
    #[error("it is not a CDI specification: {0}")]
    Json(#[from] serde_json::Error),
    /// The same of YAML.
    #[error("it is not a CDI specification: {0}")]
    Yaml(String),
    /// A version that is not known here.
    #[error("version `{0}` of the CDI specification is not known here (0.3.0 to 1.1.0 are)")]
    Version(String),
    /// It uses what its version does not have.
    #[error("it says version {stated} and uses {feature}, which came with {needed}")]
    TooOld {
        /// The version that it states.
        stated: String,
        /// What it uses.
        feature: &'static str,
        /// Since when that exists.
        needed: &'static str,
    },
    /// A name that the specification does not allow.
    #[error("`{name}` is no name for a {what}")]
    Name {
        /// Of what.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// More of something than any real device needs.
    #[error("{count} {what} are too many; {limit} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// The bound.
        limit: usize,
    },
    /// There is no device in it.
    #[error("it describes no device")]
    NoDevices,
    /// Two devices of one name.
    #[error("device `{0}` is described twice; only one of the descriptions can be right")]
    Twice(String),
    /// A path that is not absolute, not plain, or too long.
    #[error("`{path}` is not an absolute, plain path")]
    Path {
        /// The path.
        path: String,
    },
    /// A path in the sandbox that would cover what the sandbox itself is made of.
    #[error("`{path}` in the sandbox is not for devices: {why}")]
    Covers {
        /// The path.
        path: String,
        /// What stands there.
        why: &'static str,
    },
    /// A part of the machine that no sandbox may see.
    #[error("`{path}` of the machine is not shown to sandboxes: {why}")]
    Exposes {
        /// The path.
        path: String,
        /// What stands there.
        why: &'static str,
    },
    /// A mount option that is unknown or gives the sandbox more than reading.
    #[error("mount option `{option}` for `{path}` is refused: sandboxes only read the machine's files")]
    MountOption {
        /// Of which mount.
        path: String,
        /// The option.
        option: String,
    },
    /// A mount of a file system rather than of the host's files.
    #[error("`{path}` is to be a file system of type `{kind}`; only the machine's files and folders are mounted")]
    MountType {
        /// Of which mount.
        path: String,
        /// The type.
        kind: String,
    },
    /// A device node of another type, or with impossible numbers or permissions.
    #[error("device node `{path}` has {what}")]
    Node {
        /// The node.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// An environment variable that is none.
    #[error("`{0}` is no environment variable")]
    Variable(String),
    /// A hook that is not one of the specification.
    #[error("hook `{path}` has {what}")]
    Hook {
        /// Its program.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// What a sandbox without hooks cannot do, and cannot do without.
    #[error("{0} cannot be given to a sandbox here")]
    Unsupported(&'static str),
    /// A name that is not of the form `vendor/class=device`.
    #[error("`{0}` is no CDI device; write vendor/class=name, such as nvidia.com/gpu=0")]
    Request(String),
    /// There is no such device.
    #[error("there is no CDI device `{name}`; known are: {known}")]
    Unknown {
        /// The device.
        name: String,
        /// Some of those that exist.
        known: String,
    },
    /// Two files of the same standing describe the device.
    #[error("CDI device `{name}` is described by {} and by {}; remove one", first.display(), second.display())]
    Ambiguous {
        /// The device.
        name: String,
        /// One file.
        first: PathBuf,
        /// The other.
        second: PathBuf,
    },
    /// Two devices want different things at one place.
    #[error("two devices disagree about {what} `{name}` in the sandbox")]
    Conflict {
        /// What kind of thing.
        what: &'static str,
        /// Its path or name.
        name: String,
    },
    /// The machine does not have what the device needs.
    #[error("`{}` is not on this machine: {why}; is the driver running, and the CDI file newer than the driver?", path.display())]
    Missing {
        /// The path.
        path: PathBuf,
        /// What was found instead.
        why: String,
    },
    /// A sandbox could not use the node.
    #[error("`{}` has mode {mode:03o}: a sandbox runs as another user and could not use it; `chmod 666` allows it", path.display())]
    Mode {
        /// The path.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}
