//! What the kernel's half of NVIDIA's driver says of the cards, in `/proc/driver/nvidia`, and what their PCI registers say, in `/sys`:
//! a second witness against which the library's words are held.

use super::{PciAddress, PciIds, Uuid};
use crate::files;
use std::{fs, path::Path};

/// The most cards that are looked at, as many as of the library.
const MAX_CARDS: usize = 32;

/// The kernel's view of NVIDIA's cards. Empty where the driver does not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelView {
    /// The version of the kernel's half of the driver.
    pub driver_version: Option<String>,
    /// Whether programs without privileges may read the cards' hardware counters, as profilers do.
    pub profiling: Option<bool>,
    /// The cards.
    pub gpus: Vec<KernelGpu>,
}

/// One card, as the kernel sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelGpu {
    /// Where it is plugged in.
    pub pci: PciAddress,
    /// The model as the driver names it.
    pub model: Option<String>,
    /// Its name in the world; absent until somebody has used the card.
    pub uuid: Option<Uuid>,
    /// The number of its device node.
    pub node: Option<u32>,
    /// What its PCI registers say it is.
    pub pci_ids: Option<PciIds>,
}

impl KernelView {
    /// What the kernel of the machine says whose file system starts at `root`.
    pub fn read(root: &Path) -> Self {
        let folder = root.join("proc/driver/nvidia");
        let version = files::fact(&folder.join("version"));
        let cards = fs::read_dir(folder.join("gpus")).into_iter().flatten().flatten().take(MAX_CARDS);
        let mut gpus: Vec<KernelGpu> = cards
            .filter_map(|card| {
                let pci = card.file_name().to_str()?.parse().ok()?;
                Some(gpu(root, pci, &files::fact(&card.path().join("information")).unwrap_or_default()))
            })
            .collect();
        gpus.sort_by_key(|gpu| gpu.pci);
        let parameters = files::fact(&folder.join("params"));
        Self {
            driver_version: version.as_deref().and_then(driver_version),
            profiling: parameters.as_deref().and_then(profiling),
            gpus,
        }
    }

    /// The card at a place.
    pub fn at(&self, pci: PciAddress) -> Option<&KernelGpu> {
        self.gpus.iter().find(|gpu| gpu.pci == pci)
    }
}

/// The first word of the first line that is a version: `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release …`.
fn driver_version(text: &str) -> Option<String> {
    let is_version = |word: &&str| {
        word.contains('.') && word.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
    };
    text.lines().next()?.split_whitespace().find(is_version).map(str::to_owned)
}

/// The module's parameter that keeps the counters for administrators, which no sandbox is.
fn profiling(parameters: &str) -> Option<bool> {
    match parameters.lines().find_map(|line| line.strip_prefix("RmProfilingAdminOnly:"))?.trim() {
        "0" => Some(true),
        "1" => Some(false),
        _ => None,
    }
}

fn gpu(root: &Path, pci: PciAddress, information: &str) -> KernelGpu {
    let field = |name: &str| {
        information.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            (found.trim() == name).then(|| value.trim())
        })
    };
    let device = root.join(format!("sys/bus/pci/devices/{pci}"));
    let id = |name: &str| {
        let text = files::fact(&device.join(name))?;
        u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
    };
    KernelGpu {
        pci,
        model: field("Model").filter(|model| *model != "Unknown").map(str::to_owned),
        uuid: field("GPU UUID").and_then(|uuid| uuid.parse().ok()),
        node: field("Device Minor").and_then(|node| node.parse().ok()),
        pci_ids: id("vendor").zip(id("device")).map(|(vendor, device)| PciIds { vendor, device }),
    }
}
