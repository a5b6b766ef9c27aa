//! What to put into a sandbox for the devices it is given: merged, free of contradictions, and checked against the machine.

use super::{
    check,
    error::Fault,
    hooks::{self, Meaning},
    soname,
    spec::*,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

/// Everything that a sandbox is given for its devices. Mounts come before the links that point into them; nothing is in it twice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edits {
    /// Device nodes.
    pub nodes: Vec<Node>,
    /// Files and folders of the machine, each read-only, without programs that change the user and without devices.
    pub mounts: Vec<Mount>,
    /// Symbolic links.
    pub links: Vec<Link>,
    /// Folders in which the loader shall look for libraries.
    pub library_folders: Vec<Folder>,
    /// Environment variables.
    pub environment: Vec<Variable>,
    /// What the files also ask for and a sandbox does without: hooks that are not run, groups, shares of the processor's cache.
    pub left_out: Vec<String>,
}

/// A device node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Where it stands on the machine.
    pub host: PathBuf,
    /// Where it shall stand in the sandbox.
    pub inside: PathBuf,
    /// Whether it may be written to. Creating further nodes is never allowed.
    pub writable: bool,
}

/// A file or folder of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where it stands on the machine.
    pub host: PathBuf,
    /// Where it shall stand in the sandbox.
    pub inside: PathBuf,
}

/// A symbolic link in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Where it shall stand.
    pub path: PathBuf,
    /// Where it points to, perhaps relative to where it stands.
    pub target: PathBuf,
}

/// A folder in the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Folder(pub String);

/// An environment variable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Edits {
    /// Adds what a device, or every device of a file, needs. The same thing asked for twice is one thing; two things for one place are
    /// refused.
    pub(super) fn add(&mut self, spec: &ContainerEdits) -> Result<(), Fault> {
        if !spec.net_devices.is_empty() {
            return Err(Fault::Unsupported("a network interface of the machine"));
        }
        for node in &spec.device_nodes {
            merge(&mut self.nodes, self::node(node), "device node", |node| node.inside.display().to_string())?;
        }
        for mount in &spec.mounts {
            let mount = Mount { host: (&mount.host_path).into(), inside: (&mount.container_path).into() };
            merge(&mut self.mounts, mount, "file", |mount| mount.inside.display().to_string())?;
        }
        for text in &spec.env {
            let (name, value) = check::variable(text)?;
            let variable = Variable { name: name.to_owned(), value: value.to_owned() };
            merge(&mut self.environment, variable, "variable", |variable| variable.name.clone())?;
        }
        for hook in &spec.hooks {
            self.add_hook(hook)?;
        }
        if spec.intel_rdt.is_some() {
            self.leave_out("a share of the processor's cache (intelRdt)".to_owned());
        }
        for group in spec.additional_gids.iter().filter(|group| **group != 0) {
            self.leave_out(format!("group {group}, which is another one in the sandbox"));
        }
        Ok(())
    }

    fn add_hook(&mut self, hook: &Hook) -> Result<(), Fault> {
        match hooks::meaning(hook)? {
            Meaning::Links(links) => {
                for link in links {
                    merge(&mut self.links, link, "link", |link| link.path.display().to_string())?;
                }
            }
            Meaning::Folders(folders) => {
                let new: BTreeSet<Folder> =
                    folders.into_iter().filter(|folder| !self.library_folders.contains(folder)).collect();
                self.library_folders.extend(new);
            }
            Meaning::Other => {
                let arguments = hook.args.iter().skip(1).take(1).map(String::as_str);
                let words: Vec<&str> = std::iter::once(hook.path.as_str()).chain(arguments).collect();
                self.leave_out(format!("hook {} at {}", words.join(" "), hook.hook_name));
            }
        }
        Ok(())
    }

    fn leave_out(&mut self, what: String) {
        if !self.left_out.contains(&what) {
            self.left_out.push(what);
        }
    }

    /// Refuses one place for two different kinds of things: a file where a link or a node shall stand.
    pub(super) fn check_places(&self) -> Result<(), Fault> {
        let nodes = self.nodes.iter().map(|node| &node.inside);
        let mounts = self.mounts.iter().map(|mount| &mount.inside);
        let mut taken = BTreeSet::new();
        for place in nodes.chain(mounts).chain(self.links.iter().map(|link| &link.path)) {
            if !taken.insert(place) {
                return Err(Fault::Conflict { what: "what stands at", name: place.display().to_string() });
            }
        }
        Ok(())
    }

    /// Links by which the loader finds the libraries among the files, whatever folders it knows: each under the name that programs ask
    /// for, to be put into one folder of the sandbox.
    pub fn library_links(&self) -> Vec<Link> {
        let mut links: Vec<Link> = Vec::new();
        let is_library = |name: &str| name.ends_with(".so") || name.contains(".so.");
        for mount in &self.mounts {
            let name = mount.host.file_name().and_then(|name| name.to_str()).filter(|name| is_library(name));
            let Some(soname) = name.and_then(|_| soname::soname(&mount.host)) else { continue };
            if !links.iter().any(|link| link.path == Path::new(&soname)) {
                links.push(Link { path: soname.into(), target: mount.inside.clone() });
            }
        }
        links
    }

    /// Holds the list against the machine: every node is a device that a sandbox's user may open, every file is there. To be asked
    /// before a device is offered, and again before a sandbox is built.
    pub fn check(&self) -> Result<(), Fault> {
        self.nodes.iter().try_for_each(check_node)?;
        self.mounts.iter().try_for_each(|mount| found(&mount.host).map(|_| ()))
    }
}

/// The bits that let anybody read and write.
const ANYBODY: u32 = 0o006;

fn check_node(node: &Node) -> Result<(), Fault> {
    let metadata = found(&node.host)?;
    if !metadata.file_type().is_char_device() {
        return Err(Fault::Missing { path: node.host.clone(), why: "what stands there is no device".to_owned() });
    }
    // inside, root is an ordinary user of the machine
    let mode = metadata.mode() & 0o777;
    let needed = if node.writable { ANYBODY } else { ANYBODY & 0o004 };
    if mode & needed != needed {
        return Err(Fault::Mode { path: node.host.clone(), mode });
    }
    Ok(())
}

fn found(path: &Path) -> Result<fs::Metadata, Fault> {
    fs::metadata(path).map_err(|error| Fault::Missing { path: path.to_owned(), why: error.to_string() })
}

fn node(node: &DeviceNode) -> Node {
    let permissions = node.permissions.as_deref().filter(|permissions| !permissions.is_empty()).unwrap_or("rwm");
    Node {
        host: node.host_path.as_ref().filter(|path| !path.is_empty()).unwrap_or(&node.path).into(),
        inside: (&node.path).into(),
        writable: permissions.contains('w'),
    }
}

/// Adds a thing unless it is there; another thing under the same name is a conflict.
fn merge<T: PartialEq>(
    list: &mut Vec<T>,
    new: T,
    what: &'static str,
    name: impl Fn(&T) -> String,
) -> Result<(), Fault> {
    match list.iter().find(|old| name(old) == name(&new)) {
        Some(old) if *old == new => Ok(()),
        Some(_) => Err(Fault::Conflict { what, name: name(&new) }),
        None => {
            list.push(new);
            Ok(())
        }
    }
}
