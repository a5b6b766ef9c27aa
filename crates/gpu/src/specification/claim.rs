//! What is said of a card, by its driver or by an offer. What is not said cannot be wrong.

use crate::inventory::{Gpu, PcieLink, Vendor};

/// What is said of a card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// The model, as a driver or a person names it.
    pub model: String,
    /// Memory.
    pub memory_bytes: Option<u64>,
    /// Machine code: `sm_90`, `gfx942`.
    pub code: Option<String>,
    /// CUDA cores or stream processors.
    pub cores: Option<u32>,
    /// Width of the memory bus.
    pub memory_bus_bits: Option<u32>,
    /// The power limit, and the highest that can be set.
    pub power_limit_watts: Option<u32>,
    /// The highest power limit that can be set.
    pub power_limit_max_watts: Option<u32>,
    /// The best link that card and slot can have.
    pub pcie: Option<PcieLink>,
    /// NVLinks that are up.
    pub nvlinks: Option<u32>,
    /// The device number on the PCI bus.
    pub pci_device: Option<u16>,
    /// Dense 16-bit matrix throughput in tenths of a TFLOP/s, said to be measured.
    pub tflops_tenths: Option<u32>,
    /// Memory bandwidth in GB/s, said to be measured.
    pub memory_gb_per_s: Option<u32>,
}

impl From<&Gpu> for Claim {
    fn from(gpu: &Gpu) -> Self {
        Self {
            model: gpu.model.clone(),
            memory_bytes: Some(gpu.memory_bytes),
            code: gpu.compute_capability.map(|capability| capability.to_string()).or_else(|| gpu.gfx.clone()),
            cores: gpu.cores,
            memory_bus_bits: gpu.memory_bus_bits,
            power_limit_watts: gpu.power_limit_watts,
            power_limit_max_watts: gpu.power_limit_max_watts,
            pcie: gpu.pcie,
            nvlinks: (gpu.vendor == Vendor::Nvidia).then_some(gpu.nvlinks),
            pci_device: Some(gpu.pci_ids.device),
            tflops_tenths: None,
            memory_gb_per_s: None,
        }
    }
}
