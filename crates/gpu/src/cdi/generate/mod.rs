//! Writes the CDI file that a vendor's toolkit would have written, where it is not installed. Nothing in it needs a hook.

mod nvidia;

use super::{check, error::Fault, spec::*};
use crate::inventory::{Gpu, Inventory, Vendor};
use std::path::{Path, PathBuf};

/// The newest version whose features are used: device names that are numbers.
const VERSION: &str = "0.5.0";

/// Why no file can be written.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// There is nothing to describe.
    #[error("there is no card of this vendor to describe")]
    NoCards,
    /// The libraries cannot be told apart from another driver's.
    #[error("the driver does not tell its version, by which its libraries are found")]
    NoVersion,
    /// The driver does not say which node a card has.
    #[error("card {index} ({model}) has no device node; is its driver running?")]
    NoNode {
        /// Its number.
        index: u32,
        /// Its model.
        model: String,
    },
    /// A node is not there.
    #[error("`{}` is missing; the driver makes it when it is loaded, and `nvidia-modprobe -u -c 0` makes NVIDIA's", .0.display())]
    MissingNode(PathBuf),
    /// A library is not there.
    #[error(
        "the driver's library {name}.so.{version} is not found; its package is not installed, or of another version"
    )]
    MissingLibrary {
        /// Its name.
        name: &'static str,
        /// The driver's version.
        version: String,
    },
    /// The kernel does not say which node an instance has.
    #[error("the driver shows no capability `{0}` in /proc/driver/nvidia-caps/mig-minors; was the instance removed?")]
    NoCapability(String),
    /// The result is not fit for sandboxes.
    #[error("the driver's files cannot be given to sandboxes: {0}")]
    Unfit(#[from] Fault),
}

/// The CDI specification of the inventory's cards of one vendor, on the machine whose file system starts at `root`: `nvidia.com/gpu` or
/// `amd.com/gpu`, as the vendors' own toolkits call them. Each card has two names, its number and its UUID; of a card that is cut into
/// instances there are only these, as `card:instance` and by UUID.
pub fn generate(vendor: Vendor, inventory: &Inventory, root: &Path) -> Result<Spec, GenerateError> {
    let cards: Vec<&Gpu> = inventory.gpus.iter().filter(|gpu| gpu.vendor == vendor).collect();
    if cards.is_empty() {
        return Err(GenerateError::NoCards);
    }
    let (kind, devices, container_edits) = match vendor {
        Vendor::Nvidia => ("nvidia.com/gpu", nvidia::devices(&cards, root)?, nvidia::common(inventory, root)?),
        Vendor::Amd => ("amd.com/gpu", amd_devices(&cards, root)?, amd_common(root)?),
    };
    let spec =
        Spec { cdi_version: VERSION.to_owned(), kind: kind.to_owned(), devices, container_edits, ..Spec::default() };
    check::spec(&spec)?;
    Ok(spec)
}

/// AMD's cards are used through a node each and a common one; their libraries come with the program, not with the driver.
fn amd_devices(cards: &[&Gpu], root: &Path) -> Result<Vec<Device>, GenerateError> {
    let mut devices = Vec::new();
    for card in cards {
        let number = card.node.ok_or_else(|| GenerateError::NoNode { index: card.index, model: card.model.clone() })?;
        let nodes = [node(root, &format!("dri/renderD{number}"))?];
        devices.extend(named([card.index.to_string(), card.uuid.to_string()], &nodes));
    }
    Ok(devices)
}

fn amd_common(root: &Path) -> Result<ContainerEdits, GenerateError> {
    Ok(ContainerEdits { device_nodes: vec![node(root, "kfd")?], ..ContainerEdits::default() })
}

/// One device under each of its names. A name that the specification does not allow (MIG instances of drivers before 470) is left out.
fn named(names: [String; 2], nodes: &[DeviceNode]) -> impl Iterator<Item = Device> {
    names.into_iter().filter(|name| check::device_name(name).is_ok()).map(|name| Device {
        name,
        container_edits: ContainerEdits { device_nodes: nodes.to_vec(), ..ContainerEdits::default() },
        ..Device::default()
    })
}

/// A node of the driver, which must be there.
fn node(root: &Path, name: &str) -> Result<DeviceNode, GenerateError> {
    let host = root.join("dev").join(name);
    if host.symlink_metadata().is_err() {
        return Err(GenerateError::MissingNode(host));
    }
    let path = format!("/dev/{name}");
    let host_path = host.to_string_lossy().into_owned();
    Ok(DeviceNode { host_path: (host_path != path).then_some(host_path), path, ..DeviceNode::default() })
}
