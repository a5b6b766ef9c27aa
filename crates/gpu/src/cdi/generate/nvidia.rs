//! NVIDIA's cards without NVIDIA's toolkit: the device nodes of each card and the driver's libraries. Every library is mounted under the names
//! that programs ask for, in the folder in which CUDA images look first, so that neither symbolic links nor the loader's cache need be
//! made inside.
//!
//! Left out on purpose: `/dev/nvidia-modeset` (displays; a sandbox has none, and each node is one more door to the kernel), graphics and
//! video libraries, and the sockets of the driver's daemons.

use super::{
    super::{loader_cache, spec::*},
    GenerateError, named, node,
};
use crate::{
    files,
    inventory::{Gpu, Inventory, Mig, MigInstance, Vendor},
};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Where the libraries stand in a sandbox: the folder that NVIDIA's CUDA images have in their search path.
const INSIDE: &str = "/usr/local/nvidia/lib64";

/// The driver's libraries that programs without graphics use. Without the first two a card is of no use.
const LIBRARIES: [&str; 9] = [
    "libcuda",
    "libnvidia-ml",
    "libnvidia-ptxjitcompiler",
    "libnvidia-nvvm",
    "libnvidia-gpucomp",
    "libnvidia-allocator",
    "libnvidia-opencl",
    "libcudadebugger",
    "libnvidia-nvvm70",
];
const INDISPENSABLE: [&str; 2] = ["libcuda", "libnvidia-ml"];

/// Nodes that every CUDA program opens, and one that debuggers and profilers open where it is there.
const NODES: [&str; 2] = ["nvidiactl", "nvidia-uvm"];
const OPTIONAL_NODE: &str = "nvidia-uvm-tools";

/// Where libraries stand on the usual distributions; for machines whose loader's cache does not say.
const LIBRARY_FOLDERS: [&str; 4] = ["usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu", "usr/lib64", "usr/lib"];

/// The most files of such a folder that are looked at.
const MAX_LIBRARIES: usize = 50_000;

/// The devices: each card by its number and its UUID; of a card that is cut into instances only these, as `card:instance` and by UUID.
pub(super) fn devices(cards: &[&Gpu], root: &Path) -> Result<Vec<Device>, GenerateError> {
    let capabilities = files::fact(&root.join("proc/driver/nvidia-caps/mig-minors")).unwrap_or_default();
    let mut devices = Vec::new();
    for card in cards {
        let number = card.node.ok_or_else(|| GenerateError::NoNode { index: card.index, model: card.model.clone() })?;
        let node = node(root, &format!("nvidia{number}"))?;
        match &card.mig {
            Mig::Enabled(instances) => {
                for instance in instances {
                    let mut nodes = vec![node.clone()];
                    nodes.extend(instance_nodes(root, &capabilities, number, instance)?);
                    let names = [format!("{}:{}", card.index, instance.index), instance.uuid.to_string()];
                    devices.extend(named(names, &nodes));
                }
            }
            Mig::Unsupported | Mig::Disabled => {
                devices.extend(named([card.index.to_string(), card.uuid.to_string()], &[node]));
            }
        }
    }
    Ok(devices)
}

/// An instance is used through two more nodes, one for its memory and one for its processors, whose numbers the kernel lists.
fn instance_nodes(
    root: &Path,
    capabilities: &str,
    card: u32,
    instance: &MigInstance,
) -> Result<[DeviceNode; 2], GenerateError> {
    let memory = format!("gpu{card}/gi{}/access", instance.gpu_instance);
    let processors = format!("gpu{card}/gi{}/ci{}/access", instance.gpu_instance, instance.compute_instance);
    let node = |name: String| {
        let minor = capabilities.lines().find_map(|line| line.strip_prefix(&name)?.strip_prefix(' ')?.parse().ok());
        let minor: u32 = minor.ok_or(GenerateError::NoCapability(name))?;
        node(root, &format!("nvidia-caps/nvidia-cap{minor}"))
    };
    Ok([node(memory)?, node(processors)?])
}

/// What every card needs.
pub(super) fn common(inventory: &Inventory, root: &Path) -> Result<ContainerEdits, GenerateError> {
    let version = &inventory.driver(Vendor::Nvidia).ok_or(GenerateError::NoVersion)?.version;
    let mut nodes = NODES.iter().map(|name| node(root, name)).collect::<Result<Vec<_>, _>>()?;
    nodes.extend(node(root, OPTIONAL_NODE).ok());
    let mut mounts = libraries(root, version)?;
    let tool = "/usr/bin/nvidia-smi";
    if let Ok(host) = real(root, tool) {
        mounts.push(mount(&host, tool.to_owned()));
    }
    Ok(ContainerEdits {
        // "void" keeps a runtime of NVIDIA's from adding every card by itself
        env: vec!["NVIDIA_VISIBLE_DEVICES=void".to_owned(), format!("LD_LIBRARY_PATH={INSIDE}")],
        device_nodes: nodes,
        mounts,
        ..ContainerEdits::default()
    })
}

fn libraries(root: &Path, version: &str) -> Result<Vec<MountSpec>, GenerateError> {
    let cached = loader_cache::read(&root.join("etc/ld.so.cache")).unwrap_or_default();
    let mut found = matching(root, cached, version);
    if !INDISPENSABLE.iter().all(|name| found.values().any(|host| is_named(host, name, version))) {
        found.extend(matching(root, in_folders(root), version));
    }
    for name in INDISPENSABLE {
        if !found.values().any(|host| is_named(host, name, version)) {
            return Err(GenerateError::MissingLibrary { name, version: version.to_owned() });
        }
    }
    Ok(found.into_iter().map(|(name, host)| mount(&host, format!("{INSIDE}/{name}"))).collect())
}

/// Of all libraries of a machine those of the driver, by the names under which programs ask for them. Only files that carry the driver's
/// version count: an old driver's remains and the toolkit's stubs do not.
fn matching(root: &Path, all: Vec<(String, String)>, version: &str) -> BTreeMap<String, PathBuf> {
    let wanted = all.into_iter().filter_map(|(name, path)| {
        let library = LIBRARIES.iter().find(|library| is_library(&name, library))?;
        let host = real(root, &path).ok()?;
        is_named(&host, library, version).then_some((name, host))
    });
    wanted.collect()
}

fn is_library(name: &str, library: &str) -> bool {
    name.strip_prefix(library).is_some_and(|rest| rest == ".so" || rest.starts_with(".so."))
}

fn is_named(host: &Path, library: &str, version: &str) -> bool {
    host.file_name().is_some_and(|name| *name == *format!("{library}.so.{version}"))
}

fn in_folders(root: &Path) -> Vec<(String, String)> {
    let entries = LIBRARY_FOLDERS.iter().flat_map(|folder| {
        let files = fs::read_dir(root.join(folder)).into_iter().flatten().flatten().take(MAX_LIBRARIES);
        files.filter_map(move |file| {
            let name = file.file_name().into_string().ok()?;
            let path = format!("/{folder}/{name}");
            Some((name, path))
        })
    });
    entries.collect()
}

/// The file behind a path of the machine, its links followed. One that leads out of `root` is not the machine's.
fn real(root: &Path, path: &str) -> std::io::Result<PathBuf> {
    let host = root.join(path.trim_start_matches('/')).canonicalize()?;
    if host.starts_with(root.canonicalize()?) { Ok(host) } else { Err(std::io::ErrorKind::NotFound.into()) }
}

fn mount(host: &Path, inside: String) -> MountSpec {
    MountSpec {
        host_path: host.to_string_lossy().into_owned(),
        container_path: inside,
        options: ["ro", "nosuid", "nodev", "rbind", "rprivate"].map(str::to_owned).to_vec(),
        kind: None,
    }
}
