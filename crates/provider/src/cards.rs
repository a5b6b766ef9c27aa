//! The machine's GPUs as slots have them: what an offer says of them, and what a slot's sandbox is given.
//!
//! A card that contradicts itself, the kernel or the table of models is not rented out: the renter's own check would end the rental.

use crate::{Error, config::SlotConfig};
use gpu::{
    cdi::{self, Edits, Registry},
    inventory::{
        AmdProbe, ComputeCapability, Gpu, Inventory, KernelView, MigInstance, NvmlProbe, Probe, Reading, Uuid, Vendor,
        of_machine,
    },
    measure::{Benchmark, CardFigures},
    specification::{Verdict, check, check_machine},
};
use market::offer::{GpuGroup, Verification};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::sync::Mutex;

/// What a machine has, read once when the provider starts.
#[derive(Clone, Debug, Default)]
pub struct Cards {
    found: Vec<Card>,
    inventory: Inventory,
    root: PathBuf,
    /// What does not fit together between the cards and the kernel.
    doubts: Vec<String>,
}

/// One card, or one instance of a card that is cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Card {
    /// Its name in the world.
    pub(crate) uuid: Uuid,
    /// The names under which the vendor's file may have it, the surest first.
    names: Vec<String>,
    /// What an offer says of it.
    group: GpuGroup,
    vendor: Vendor,
    verdict: Verdict,
}

/// The cards of one slot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlotCards(Vec<Card>);

/// An eye on the cards of a sandbox.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Watched>);

struct Watched {
    uuids: Vec<Uuid>,
    nvml: NvmlProbe,
    amd: AmdProbe,
    asking: Arc<Mutex<()>>,
}

/// How long drivers may take to say what their cards do.
const READINGS_WAIT: Duration = Duration::from_secs(5);

/// What the cards of an offer's slots have in common.
pub(crate) struct OfCards {
    pub(crate) group: GpuGroup,
    pub(crate) driver_version: String,
    /// 131 is 13.1; 0 where it means nothing.
    pub(crate) cuda_version: u32,
    pub(crate) verification: Verification,
}

impl Cards {
    /// Asks the drivers of the machine whose file system starts at `root`. It blocks, and a sick driver can make it block for long.
    pub fn of_machine(root: &Path) -> Self {
        let inventory = of_machine(root);
        let doubts = check_machine(&inventory, &KernelView::read(root)).machine;
        let doubts = doubts.iter().map(ToString::to_string).collect();
        Self::new(inventory, doubts, root)
    }

    fn new(inventory: Inventory, doubts: Vec<String>, root: &Path) -> Self {
        let found = inventory.gpus.iter().flat_map(cards).collect();
        Self { found, inventory, root: root.to_owned(), doubts }
    }

    /// Deals out cards to the slots of one kind, each card once. `taken` holds what other kinds have.
    pub(crate) fn deal(&self, kind: &SlotConfig, taken: &mut Vec<Uuid>) -> Result<Vec<SlotCards>, Error> {
        let wrong = |why: String| Error::Config(format!("slot `{}`: {why}; see `node devices`", kind.name));
        if kind.gpus == 0 {
            return Ok(vec![SlotCards::default(); kind.count as usize]);
        }
        let fitting = self.found.iter().filter(|card| card.is_a(&kind.gpu_model) && !taken.contains(&card.uuid));
        let Some(first) = fitting.clone().next() else {
            return Err(wrong(format!("this machine has no free GPU `{}`, only {}", kind.gpu_model, self.names())));
        };
        let same: Vec<&Card> = fitting.filter(|card| card.group == first.group).collect();
        let needed = (kind.count as usize).saturating_mul(kind.gpus as usize);
        let Some(dealt) = same.get(..needed) else {
            let (model, found) = (&first.group.model, same.len());
            return Err(wrong(format!("{needed} GPUs of one kind are needed, and of `{model}` {found} are free")));
        };
        if let Some(doubt) = self.doubts.first() {
            return Err(wrong(format!("what the driver says is doubtful: {doubt}")));
        }
        if let Some(wrong_one) = dealt.iter().find(|card| matches!(card.verdict, Verdict::Contradicted(_))) {
            return Err(wrong(format!("`{}` is not what it says: {}", wrong_one.group.model, wrong_one.verdict)));
        }
        taken.extend(dealt.iter().map(|card| card.uuid.clone()));
        let slots = dealt.chunks(kind.gpus as usize);
        Ok(slots.map(|cards| SlotCards(cards.iter().map(|card| (*card).clone()).collect())).collect())
    }

    /// What an offer says of slots with such cards; nothing of slots without.
    pub(crate) fn of_slot(&self, slot: &SlotCards, benchmark: Option<&Benchmark>) -> Option<OfCards> {
        let first = slot.0.first()?;
        let driver = self.inventory.driver(first.vendor);
        let count = u32::try_from(slot.0.len()).unwrap_or(u32::MAX);
        Some(OfCards {
            group: GpuGroup {
                count,
                memory_gb_per_s: slot.memory_gb_per_s(benchmark),
                mega_multiply_adds: slot.mega_multiply_adds(benchmark),
                ..first.group.clone()
            },
            driver_version: driver.map_or_else(String::new, |driver| driver.version.clone()),
            cuda_version: driver.and_then(|driver| driver.cuda).map_or(0, |cuda| cuda.major * 10 + cuda.minor),
            verification: match slot.0.iter().all(|card| matches!(card.verdict, Verdict::Consistent)) {
                true => Verification::Consistent,
                false => Verification::Declared,
            },
        })
    }

    /// What a sandbox is given for some slots' cards: by the vendors' files, read anew because an update of the driver changes them, or by
    /// a list made from the inventory where there are none. It blocks.
    pub(crate) fn devices(&self, slots: &[SlotCards]) -> Result<Edits, sandbox::Error> {
        let cards: Vec<&Card> = slots.iter().flat_map(|slot| &slot.0).collect();
        if cards.is_empty() {
            return Ok(Edits::default());
        }
        let wrong = |reason: String| sandbox::Error::InvalidSpec { field: "devices", reason };
        let folders = cdi::FOLDERS.map(|folder| self.root.join(folder.trim_start_matches('/')));
        let mut registry = Registry::read(&folders);
        for vendor in [Vendor::Nvidia, Vendor::Amd] {
            let missing = |card: &&&Card| card.vendor == vendor && card.known_to(&registry).is_none();
            if cards.iter().any(|card| missing(&card)) {
                let made =
                    cdi::generate(vendor, &self.inventory, &self.root).map_err(|error| wrong(error.to_string()))?;
                registry.add("the inventory", made).map_err(|fault| wrong(fault.to_string()))?;
            }
        }
        let names: Vec<String> = cards.iter().filter_map(|card| card.known_to(&registry)).collect();
        if names.len() < cards.len() {
            return Err(wrong("the vendor's files do not name a card that is rented out".into()));
        }
        registry.resolve(&names).map_err(|fault| wrong(fault.to_string()))
    }

    /// An eye on some slots' cards.
    pub(crate) fn watch(&self, slots: &[SlotCards]) -> Watch {
        let uuids = slots.iter().flat_map(|slot| &slot.0).map(|card| card.uuid.clone()).collect();
        let (nvml, amd) = (NvmlProbe::new(&self.root), AmdProbe::new(&self.root));
        Watch(Arc::new(Watched { uuids, nvml, amd, asking: Arc::default() }))
    }

    fn names(&self) -> String {
        let mut names: Vec<&str> = self.found.iter().map(|card| card.group.model.as_str()).collect();
        names.dedup();
        if names.is_empty() { "none at all".to_owned() } else { names.join(", ") }
    }
}

impl Card {
    /// Whether every word of a name that a person wrote stands in the card's: `RTX 4090` in `NVIDIA GeForce RTX 4090`, `H100 1g.10gb` in
    /// an instance of one.
    fn is_a(&self, name: &str) -> bool {
        let has = format!("{} {}", self.group.model, self.group.mig_profile).to_lowercase();
        let has: Vec<&str> = words(&has).collect();
        words(&name.to_lowercase()).all(|word| has.contains(&word))
    }

    fn known_to(&self, registry: &Registry) -> Option<String> {
        let devices = registry.devices();
        self.names.iter().find(|name| devices.contains(name)).cloned()
    }
}

impl SlotCards {
    /// The memory bandwidth of the slowest card, in GB/s; 0 unless all were measured.
    fn memory_gb_per_s(&self, benchmark: Option<&Benchmark>) -> u32 {
        // Every byte that is copied is read once and written once.
        self.slowest(benchmark, |card| card.memory_copied_bytes_per_second.saturating_mul(2) / 1_000_000_000)
    }

    /// The millions of 32-bit multiply-adds a second of the slowest card; 0 unless all were measured.
    fn mega_multiply_adds(&self, benchmark: Option<&Benchmark>) -> u32 {
        self.slowest(benchmark, |card| card.multiply_adds_per_second / 1_000_000)
    }

    fn slowest(&self, benchmark: Option<&Benchmark>, figure: impl Fn(&CardFigures) -> u64) -> u32 {
        let measured = |card: &Card| {
            let found = benchmark?.cards.iter().find(|found| found.uuid == card.uuid)?;
            u32::try_from(figure(found)).ok()
        };
        self.0.iter().map(|card| measured(card).unwrap_or(0)).min().unwrap_or(0)
    }
}

impl Watch {
    /// What the cards do now, in their order; a card that does not answer is missing. A driver that hangs is not asked a second time before
    /// it has answered.
    pub(crate) async fn readings(&self) -> Vec<Reading> {
        if self.0.uuids.is_empty() {
            return vec![];
        }
        let Ok(asking) = Arc::clone(&self.0.asking).try_lock_owned() else { return vec![] };
        let watched = Arc::clone(&self.0);
        let question = tokio::task::spawn_blocking(move || {
            let _asking = asking;
            let mut all = watched.nvml.readings();
            all.extend(watched.amd.readings());
            let of = |uuid: &Uuid| all.iter().find(|reading| reading.uuid == *uuid).cloned();
            watched.uuids.iter().filter_map(of).collect()
        });
        match tokio::time::timeout(READINGS_WAIT, question).await {
            Ok(Ok(readings)) => readings,
            _ => vec![],
        }
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '.').filter(|word| !word.is_empty())
}

/// A card, or its instances when it is cut.
fn cards(gpu: &Gpu) -> Vec<Card> {
    let kind = match gpu.vendor {
        Vendor::Nvidia => "nvidia.com/gpu",
        Vendor::Amd => "amd.com/gpu",
    };
    let verdict = check(&gpu.into());
    let whole = GpuGroup {
        model: gpu.model.clone(),
        count: 1,
        vram_mib: mib(gpu.memory_bytes),
        sm: gpu.compute_capability.map_or(0, |capability| capability.major * 10 + capability.minor),
        sm_features: gpu.compute_capability.map_or("", features).to_owned(),
        mig_profile: String::new(),
        interconnect: gpu.interconnect().unwrap_or_default(),
        power_limit_watts: gpu.power_limit_watts.unwrap_or(0),
        profiling: false,
        tflops: 0,
        memory_gb_per_s: 0,
        mega_multiply_adds: 0,
    };
    let named = |names: [String; 2]| names.map(|name| format!("{kind}={name}")).to_vec();
    let card = |uuid: &Uuid, names, group| Card {
        uuid: uuid.clone(),
        names: named(names),
        group,
        vendor: gpu.vendor,
        verdict: verdict.clone(),
    };
    let instance = |instance: &MigInstance| {
        let group = GpuGroup {
            vram_mib: mib(instance.memory_bytes),
            mig_profile: instance.profile.clone(),
            interconnect: String::new(),
            power_limit_watts: 0,
            ..whole.clone()
        };
        let names = [instance.uuid.to_string(), format!("{}:{}", gpu.index, instance.index)];
        card(&instance.uuid, names, group)
    };
    if matches!(gpu.mig, gpu::inventory::Mig::Enabled(_)) {
        return gpu.mig.instances().iter().map(instance).collect();
    }
    vec![card(&gpu.uuid, [gpu.uuid.to_string(), gpu.index.to_string()], whole.clone())]
}

/// Which of a capability's special forms of code there are: `a` since 9.0, `f` since 10.0.
fn features(capability: ComputeCapability) -> &'static str {
    match capability.major {
        0..=8 => "",
        9 => "a",
        _ => "af",
    }
}

fn mib(bytes: u64) -> u32 {
    u32::try_from(bytes >> 20).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
