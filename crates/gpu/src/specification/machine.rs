//! A whole machine: whether what NVIDIA's library says of it agrees with itself, with the kernel, and with the table.

use super::{Contradiction, Verdict, check};
use crate::{
    compatibility::CudaVersion,
    inventory::{ComputeCapability, Gpu, Inventory, KernelGpu, KernelView, Uuid, Vendor},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What was found of a machine's cards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Each card, held against its model.
    pub cards: Vec<(Uuid, Verdict)>,
    /// What does not fit together between the cards and their witnesses.
    pub machine: Vec<Contradiction>,
}

impl Findings {
    /// Whether nothing is wrong. A machine with cards that stand in no table can be consistent: ask [`Verdict`] which are.
    pub fn are_consistent(&self) -> bool {
        let sound = |(_, verdict): &(Uuid, Verdict)| !matches!(verdict, Verdict::Contradicted(_));
        self.machine.is_empty() && self.cards.iter().all(sound)
    }
}

/// Since which CUDA a driver knows a card: the first toolkit that compiles for it, by CMake's list (`CMakeCUDAArchitecturesAll`).
const SINCE: [(ComputeCapability, CudaVersion); 12] = [
    (capability(6, 0), cuda(8, 0)),
    (capability(6, 1), cuda(8, 0)),
    (capability(7, 0), cuda(9, 0)),
    (capability(7, 5), cuda(10, 0)),
    (capability(8, 0), cuda(11, 0)),
    (capability(8, 6), cuda(11, 1)),
    (capability(8, 9), cuda(11, 8)),
    (capability(9, 0), cuda(11, 8)),
    (capability(10, 0), cuda(12, 8)),
    (capability(10, 3), cuda(12, 9)),
    (capability(12, 0), cuda(12, 8)),
    (capability(12, 1), cuda(12, 9)),
];

const fn capability(major: u32, minor: u32) -> ComputeCapability {
    ComputeCapability { major, minor }
}

const fn cuda(major: u32, minor: u32) -> CudaVersion {
    CudaVersion { major, minor }
}

/// NVIDIA's number on the PCI bus.
const NVIDIA: u16 = 0x10de;

/// Holds an inventory against the kernel's view of the same machine and against the table.
pub fn check_machine(inventory: &Inventory, kernel: &KernelView) -> Findings {
    let cards = inventory.gpus.iter().map(|gpu| (gpu.uuid.clone(), check(&gpu.into()))).collect();
    let mut machine = Vec::new();
    let nvidia: Vec<&Gpu> = inventory.gpus.iter().filter(|gpu| gpu.vendor == Vendor::Nvidia).collect();
    let has = inventory.driver(Vendor::Nvidia);
    let mut places = BTreeSet::new();
    for gpu in &nvidia {
        if !places.insert(gpu.pci) {
            machine.push(Contradiction::SamePlace(gpu.pci));
        }
        machine.extend(card(gpu, has.and_then(|driver| driver.cuda)));
        match kernel.at(gpu.pci) {
            Some(witness) => machine.extend(differences(gpu, witness)),
            None => machine.push(Contradiction::Unwitnessed(gpu.pci)),
        }
    }
    // a lost card is one that the kernel still shows
    if inventory.lost.is_empty() && !nvidia.is_empty() {
        let hidden = kernel.gpus.iter().filter(|witness| !places.contains(&witness.pci));
        machine.extend(hidden.map(|witness| Contradiction::Hidden(witness.pci)));
    }
    let versions = has.map(|driver| &driver.version).zip(kernel.driver_version.as_ref());
    if let Some((library, kernel)) = versions.filter(|(library, kernel)| library != kernel) {
        machine.push(Contradiction::DriverVersion { library: library.clone(), kernel: kernel.clone() });
    }
    Findings { cards, machine }
}

/// What is wrong with an NVIDIA card whatever its model.
fn card(gpu: &Gpu, driver: Option<CudaVersion>) -> Vec<Contradiction> {
    let mut found = Vec::new();
    if gpu.pci_ids.vendor != NVIDIA {
        found.push(Contradiction::OtherVendor(gpu.pci_ids));
    }
    if !gpu.uuid.is_well_formed_card() {
        found.push(Contradiction::Uuid(gpu.uuid.clone()));
    }
    let since = gpu.compute_capability.and_then(|code| SINCE.iter().find(|(known, _)| *known == code));
    if let Some(((code, needed), has)) = since.zip(driver).filter(|((_, needed), has)| has < needed) {
        found.push(Contradiction::DriverTooOld { code: *code, needed: *needed, has });
    }
    let instances: u64 = gpu.mig.instances().iter().map(|instance| instance.memory_bytes >> 20).sum();
    if instances > gpu.memory_bytes >> 20 {
        let card_mib = gpu.memory_bytes >> 20;
        found.push(Contradiction::Instances { card: gpu.uuid.clone(), instances_mib: instances, card_mib });
    }
    found
}

/// What the library and the kernel say differently of one card. What the kernel does not say is not held against anybody.
fn differences(gpu: &Gpu, witness: &KernelGpu) -> Vec<Contradiction> {
    let differ = |what: &str, library: Option<String>, kernel: Option<String>| {
        let (library, kernel) = library.zip(kernel).filter(|(library, kernel)| library != kernel)?;
        Some(Contradiction::Witness { pci: gpu.pci, what: what.to_owned(), library, kernel })
    };
    let number = |number: Option<u32>| number.map(|number| number.to_string());
    let found = [
        differ("model", Some(gpu.model.clone()), witness.model.clone()),
        differ("UUID", Some(gpu.uuid.to_string()), witness.uuid.as_ref().map(ToString::to_string)),
        differ("PCI number", Some(gpu.pci_ids.to_string()), witness.pci_ids.map(|ids| ids.to_string())),
        differ("device node", number(gpu.node), number(witness.node)),
    ];
    found.into_iter().flatten().collect()
}
