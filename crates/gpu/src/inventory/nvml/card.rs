//! What NVIDIA's library says of one card that does not change from second to second.

use super::library::{self, Handle, Nvml, Refusal};
use crate::{
    files,
    inventory::{ComputeCapability, Ecc, Gpu, Mig, MigInstance, PciAddress, PciIds, PcieLink, Throttle, Uuid, Vendor},
};
use std::path::Path;

/// The most instances a card is cut into: seven on every model so far.
pub(super) const MAX_MIG_INSTANCES: u32 = 16;

/// The most NVLinks of a card: eighteen on every model so far.
const MAX_NVLINKS: u32 = 32;

/// What a card may leave unsaid. A card that is lost says nothing at all, and is reported as lost.
pub(super) fn optional<T>(answer: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
    match answer {
        Ok(fact) => Ok(Some(fact)),
        Err(lost @ (Refusal::GPU_IS_LOST | Refusal::RESET_REQUIRED)) => Err(lost),
        Err(_) => Ok(None),
    }
}

pub(super) fn uuid(nvml: &Nvml, card: Handle<'_>) -> Result<Uuid, Refusal> {
    nvml.ask_text(card, &library::UUID)?.parse().map_err(|_| Refusal::MALFORMED)
}

/// Everything about a card. Without name, UUID, memory and place on the bus it is no card.
pub(super) fn card(nvml: &Nvml, card: Handle<'_>, index: u32, root: &Path) -> Result<Gpu, Refusal> {
    let (pci, pci_ids) = place(nvml, card)?;
    let milliwatts = |limit: u32| limit / 1_000;
    let power_range = optional(nvml.ask_two(card, library::POWER_RANGE))?;
    let compute_capability = optional(nvml.ask_two(card, library::COMPUTE_CAPABILITY))?;
    Ok(Gpu {
        vendor: Vendor::Nvidia,
        index,
        node: optional(nvml.ask(card, &library::MINOR))?,
        model: nvml.ask_text(card, &library::NAME)?,
        uuid: uuid(nvml, card)?,
        pci,
        pci_ids,
        memory_bytes: nvml.ask(card, &library::MEMORY)?.total,
        compute_capability: compute_capability.map(|(major, minor)| ComputeCapability { major, minor }),
        gfx: None,
        cores: optional(nvml.ask(card, &library::CORES))?,
        memory_bus_bits: optional(nvml.ask(card, &library::MEMORY_BUS))?,
        power_limit_watts: optional(nvml.ask(card, &library::POWER_LIMIT))?.map(milliwatts),
        power_limit_max_watts: power_range.map(|(_, highest)| milliwatts(highest)),
        pcie: pcie(nvml, card)?,
        ecc: ecc(nvml, card)?,
        throttle: Throttle(optional(nvml.ask(card, &library::THROTTLE))?.unwrap_or_default()),
        mig: mig(nvml, card)?,
        nvlinks: nvlinks(nvml, card),
        numa_node: numa_node(root, pci),
    })
}

fn place(nvml: &Nvml, card: Handle<'_>) -> Result<(PciAddress, PciIds), Refusal> {
    let place = nvml.ask(card, &library::PCI)?;
    let byte = |number: u32| u8::try_from(number).map_err(|_| Refusal::MALFORMED);
    let pci = PciAddress { domain: place.domain, bus: byte(place.bus)?, device: byte(place.device)?, function: 0 };
    // the low half is the maker's number, the high half the model's
    let ids = PciIds { vendor: place.device_id as u16, device: (place.device_id >> 16) as u16 };
    Ok((pci, ids))
}

fn pcie(nvml: &Nvml, card: Handle<'_>) -> Result<Option<PcieLink>, Refusal> {
    let generation = optional(nvml.ask(card, &library::PCIE_GENERATION))?;
    let width = optional(nvml.ask(card, &library::PCIE_WIDTH))?;
    Ok(generation.zip(width).map(|(generation, width)| PcieLink { generation, width }))
}

fn ecc(nvml: &Nvml, card: Handle<'_>) -> Result<Option<Ecc>, Refusal> {
    let Some((current, _after_restart)) = optional(nvml.ask_two(card, library::ECC_MODE))? else { return Ok(None) };
    let enabled = current == 1;
    let uncorrected = if enabled { optional(nvml.uncorrected_errors(card))? } else { None };
    Ok(Some(Ecc { enabled, uncorrected }))
}

/// NVLinks that are up. A link that the card does not have is answered with a refusal, and so is the card that has none.
fn nvlinks(nvml: &Nvml, card: Handle<'_>) -> u32 {
    let up = |link: &u32| nvml.ask_numbered(card, &library::LINK_STATE, *link) == Ok(1);
    (0..MAX_NVLINKS).filter(up).count() as u32
}

fn mig(nvml: &Nvml, card: Handle<'_>) -> Result<Mig, Refusal> {
    match optional(nvml.ask_two(card, library::MIG_MODE))? {
        None => Ok(Mig::Unsupported),
        Some((1, _after_restart)) => {
            let slots = nvml.ask(card, &library::MIG_COUNT)?.min(MAX_MIG_INSTANCES);
            let mut instances = Vec::new();
            for index in 0..slots {
                // not every slot is taken
                if let Some(handle) = optional(nvml.mig_instance(card, index))? {
                    instances.push(instance(nvml, handle, index)?);
                }
            }
            Ok(Mig::Enabled(instances))
        }
        Some(_) => Ok(Mig::Disabled),
    }
}

fn instance(nvml: &Nvml, handle: Handle<'_>, index: u32) -> Result<MigInstance, Refusal> {
    let attributes = optional(nvml.ask(handle, &library::ATTRIBUTES))?;
    Ok(MigInstance {
        index,
        uuid: uuid(nvml, handle)?,
        profile: profile(&nvml.ask_text(handle, &library::NAME)?)?.to_owned(),
        memory_bytes: nvml.ask(handle, &library::MEMORY)?.total,
        multiprocessors: attributes.map(|attributes| attributes.multiprocessors),
        gpu_instance: nvml.ask(handle, &library::GPU_INSTANCE)?,
        compute_instance: nvml.ask(handle, &library::COMPUTE_INSTANCE)?,
    })
}

/// The driver names an instance after its card and its profile: `NVIDIA H100 80GB HBM3 MIG 1g.10gb`.
fn profile(name: &str) -> Result<&str, Refusal> {
    name.rsplit_once(" MIG ").map(|(_, profile)| profile).ok_or(Refusal::MALFORMED)
}

/// The kernel writes -1 where it knows of no groups.
fn numa_node(root: &Path, pci: PciAddress) -> Option<u32> {
    files::fact(&root.join(format!("sys/bus/pci/devices/{pci}/numa_node")))?.parse().ok()
}
