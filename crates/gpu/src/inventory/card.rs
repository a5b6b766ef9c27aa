//! The facts about one card, as its driver states them. What a driver does not state is absent, never zero.

use super::{PciAddress, PciIds, Throttle, Uuid};
use crate::compatibility::CudaVersion;
use serde::{Deserialize, Serialize};
use std::{fmt, path::PathBuf};

/// Who made the card, and so whose driver and device nodes it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Vendor {
    /// NVIDIA.
    Nvidia,
    /// AMD.
    Amd,
}

/// A vendor's driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Driver {
    /// Whose it is.
    pub vendor: Vendor,
    /// Its version, such as `570.86.15`.
    pub version: String,
    /// The newest CUDA whose programs it runs.
    pub cuda: Option<CudaVersion>,
}

/// What machine code a card runs: 9.0 is `sm_90`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ComputeCapability {
    /// 9 of 9.0.
    pub major: u32,
    /// 0 of 9.0.
    pub minor: u32,
}

impl fmt::Display for ComputeCapability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}{}", self.major, self.minor)
    }
}

/// One card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gpu {
    /// Who made it.
    pub vendor: Vendor,
    /// Its number in its driver's order.
    pub index: u32,
    /// The number of its device node: `/dev/nvidia<node>`, `/dev/dri/renderD<node>`.
    pub node: Option<u32>,
    /// The model as the driver names it.
    pub model: String,
    /// Its name in the world.
    pub uuid: Uuid,
    /// Where it is plugged in.
    pub pci: PciAddress,
    /// What the card's own PCI registers say it is.
    pub pci_ids: PciIds,
    /// Memory that programs can use.
    pub memory_bytes: u64,
    /// What NVIDIA code it runs.
    pub compute_capability: Option<ComputeCapability>,
    /// What AMD code it runs, such as `gfx942`.
    pub gfx: Option<String>,
    /// Shader units: CUDA cores, or stream processors.
    pub cores: Option<u32>,
    /// Width of the path to its memory.
    pub memory_bus_bits: Option<u32>,
    /// The limit that the driver enforces now.
    pub power_limit_watts: Option<u32>,
    /// The highest limit that may be set.
    pub power_limit_max_watts: Option<u32>,
    /// The link to the machine.
    pub pcie: Option<PcieLink>,
    /// Error correction, where the card has it.
    pub ecc: Option<Ecc>,
    /// What slows it down at this moment.
    pub throttle: Throttle,
    /// Whether it is cut into instances.
    pub mig: Mig,
    /// NVLinks that are up.
    pub nvlinks: u32,
    /// The processor group it is nearest to.
    pub numa_node: Option<u32>,
}

impl Gpu {
    /// The fastest way from this card to others, as offers name it: `nvlink4`, `pcie5`. NVLink's generation follows from the card's.
    pub fn interconnect(&self) -> Option<String> {
        let nvlink = match self.compute_capability.filter(|_| self.nvlinks > 0).map(|capability| capability.major) {
            Some(6) => Some(1),
            Some(7) => Some(2),
            Some(8) => Some(3),
            Some(9) => Some(4),
            Some(10) => Some(5),
            _ => None,
        };
        let pcie = || Some(format!("pcie{}", self.pcie?.generation));
        nvlink.map(|generation| format!("nvlink{generation}")).or_else(pcie)
    }
}

/// The best PCIe link that card and slot can have together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PcieLink {
    /// 5 of PCIe 5.0.
    pub generation: u32,
    /// Lanes.
    pub width: u32,
}

/// Error correction of a card's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ecc {
    /// Whether it is on.
    pub enabled: bool,
    /// Errors since the driver started that could not be corrected.
    pub uncorrected: Option<u64>,
}

/// Whether a card is cut into instances, each of which is rented as a card of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mig {
    /// The model cannot be cut.
    Unsupported,
    /// It could be, and is not.
    Disabled,
    /// It is cut; an enabled card without instances cannot be used at all.
    Enabled(Vec<MigInstance>),
}

impl Mig {
    /// The instances, if there are any.
    pub fn instances(&self) -> &[MigInstance] {
        match self {
            Self::Enabled(instances) => instances,
            Self::Unsupported | Self::Disabled => &[],
        }
    }
}

/// A part of a card with memory and processors of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MigInstance {
    /// Its number on the card.
    pub index: u32,
    /// Its name in the world.
    pub uuid: Uuid,
    /// How large a part it is, such as `1g.10gb`.
    pub profile: String,
    /// Its memory.
    pub memory_bytes: u64,
    /// Its multiprocessors.
    pub multiprocessors: Option<u32>,
    /// The driver's number of its memory part, which names its device node.
    pub gpu_instance: u32,
    /// The driver's number of its processor part, likewise.
    pub compute_instance: u32,
}

/// How two cards of one machine are connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connection {
    /// One card.
    pub a: Uuid,
    /// The other.
    pub b: Uuid,
    /// What lies between them.
    pub path: LinkPath,
}

/// What data between two cards passes through, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkPath {
    /// NVLink, directly or through its switches.
    NvLink,
    /// They stand on one board.
    Board,
    /// One PCIe switch.
    Switch,
    /// Several PCIe switches.
    Switches,
    /// The processor's PCIe bridge.
    Bridge,
    /// Bridges of one processor.
    Node,
    /// The link between processors.
    System,
}

/// A card that is there and does not answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Its number in its driver's order.
    pub index: u32,
    /// What the driver says instead, and what helps.
    pub reason: String,
}

/// Why a source has no cards to show. None of these stops a node: it has no GPUs, and says so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    /// There is no library to ask.
    #[error(
        "NVIDIA's management library cannot be loaded ({detail}); with an NVIDIA card in the machine, install its driver"
    )]
    NoLibrary {
        /// What the loader said.
        detail: String,
    },
    /// What was loaded is not the library.
    #[error("{} is not NVIDIA's management library: it lacks `{symbol}`", library.display())]
    NotNvml {
        /// What was loaded.
        library: PathBuf,
        /// The function it lacks.
        symbol: String,
    },
    /// The library is there and the kernel's half of the driver is not.
    #[error("NVIDIA's library is installed and its kernel driver is not running; `modprobe nvidia` starts it")]
    NoDriver,
    /// The driver was updated beneath its feet.
    #[error(
        "NVIDIA's library and the running kernel driver are of different versions, as after an update; restart the machine"
    )]
    VersionMismatch,
    /// The driver refuses this user.
    #[error("NVIDIA's driver refuses this user; a node needs root")]
    Forbidden,
    /// The driver fails.
    #[error("NVIDIA's driver does not start: {what}; `dmesg | grep NVRM` tells more")]
    Failed {
        /// What it said.
        what: String,
    },
    /// The driver works and has no card.
    #[error("NVIDIA's driver runs and finds no card")]
    NoCards,
    /// The kernel shows no AMD card.
    #[error("the kernel shows no AMD card with a running `amdgpu` driver")]
    NoAmdCards,
}
