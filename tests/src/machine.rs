//! What a node holds of the machine besides its data: mounts, loop devices, control groups, processes with their namespaces, sockets and
//! files. Taken before and after, two lists tell what was leaked.

use crate::eventually;
use anyhow::{Context, Result};
use devnet::{Devnet, Node};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// How deep below the root of a hierarchy a node's control groups can lie: this machine's own nesting and two of ours.
const GROUPS_DEPTH: usize = 6;

/// What is held, one line a thing, in words.
pub type Held = BTreeSet<String>;

/// What the nodes of a devnet hold. Running sandboxes count; the database does not.
pub fn held(devnet: &Devnet) -> Result<Held> {
    let mut held = Held::new();
    for node in &devnet.nodes {
        let folder = node.data_dir.canonicalize()?;
        mounts(&folder, &mut held)?;
        loops(&folder, &mut held)?;
        files(node, &folder, &mut held)?;
    }
    groups(Path::new("/sys/fs/cgroup"), GROUPS_DEPTH, devnet, &mut held);
    held.extend(devnet.orphans().into_iter().map(|pid| format!("process {pid} {}", command(pid))));
    Ok(held)
}

/// Waits until nothing is held beyond what was `before`.
pub async fn is_as_before(devnet: &Devnet, before: &Held) -> Result<()> {
    let mut left = Held::new();
    let clean = eventually("a clean machine", async || {
        left = held(devnet)?.difference(before).cloned().collect();
        Ok(left.is_empty().then_some(()))
    })
    .await;
    clean.with_context(|| format!("left behind: {left:#?}"))
}

fn mounts(folder: &Path, held: &mut Held) -> Result<()> {
    let folder = folder.display().to_string();
    let list = fs::read_to_string("/proc/self/mountinfo").context("reading the mounts")?;
    held.extend(list.lines().filter(|line| line.contains(&folder)).map(|line| format!("mount {line}")));
    Ok(())
}

fn loops(folder: &Path, held: &mut Held) -> Result<()> {
    for entry in fs::read_dir("/sys/block")? {
        let device = entry?.path();
        // a device may go while it is looked at
        let Ok(file) = fs::read_to_string(device.join("loop/backing_file")) else { continue };
        if Path::new(file.trim_end()).starts_with(folder) {
            held.insert(format!("{} of {}", device.display(), file.trim_end()));
        }
    }
    Ok(())
}

/// What is kept for later on purpose, and bounded: the database, outputs, empty disks and images for the next sandboxes.
const KEPT: [&str; 4] = ["db", "gpulease-out", "sandboxes/.templates", "sandboxes/.images"];

/// Everything but what is kept: such files come and go.
fn files(node: &Node, folder: &Path, held: &mut Held) -> Result<()> {
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            let name = path.strip_prefix(folder)?.display().to_string();
            if KEPT.contains(&name.as_str()) {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            }
            held.insert(format!("{}: {name}", node.name));
        }
    }
    Ok(())
}

/// The groups of sandboxes, which are named by their rentals or probes below one that is named by the node's data.
fn groups(folder: &Path, depth: usize, devnet: &Devnet, held: &mut Held) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()) {
        let ours = devnet.nodes.iter().any(|node| Some(group_parent(node)) == path.file_name().map(PathBuf::from));
        if ours {
            held.insert(format!("group {}", path.display()));
        } else if depth > 0 {
            groups(&path, depth - 1, devnet, held);
        }
    }
}

/// The name that the native back end gives to its groups: by the first bytes of the hash of its state directory's path.
fn group_parent(node: &Node) -> PathBuf {
    let root = node.data_dir.canonicalize().unwrap_or_else(|_| node.data_dir.clone()).join("sandboxes");
    let hash = Sha256::digest(root.as_os_str().as_encoded_bytes());
    let name: String = hash.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("gpulease-{name}").into()
}

fn command(pid: i32) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ").trim().to_owned()
}
