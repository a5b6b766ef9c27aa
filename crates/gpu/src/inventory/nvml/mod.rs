//! NVIDIA's cards, through the management library that comes with the driver.

mod card;
mod library;
mod live;

use super::{Absence, Connection, Driver, Inventory, LinkPath, Lost, Probe, Reading, Uuid, Vendor};
use crate::compatibility::CudaVersion;
use libloading::Library;
use library::{Handle, Nvml, Refusal};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// The most cards of a machine that are looked at: twice as many as the largest machines sold have.
const MAX_GPUS: u32 = 32;

/// The name under which the loader finds the library of the installed driver.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// Asks NVIDIA's management library. The library is loaded when it is first asked, and anew for every inventory, so that a driver that
/// was installed, restarted or removed meanwhile is noticed.
pub struct NvmlProbe {
    root: PathBuf,
    library: PathBuf,
    nvml: Mutex<Option<Nvml>>,
}

impl NvmlProbe {
    /// A probe of the machine whose file system starts at `root` (`/`, save in tests), with the installed driver's library.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), library: LIBRARY.into(), nvml: Mutex::new(None) }
    }

    /// The same with the library at a path.
    pub fn with_library(self, library: impl Into<PathBuf>) -> Self {
        Self { library: library.into(), ..self }
    }

    fn open(&self) -> Result<Nvml, Absence> {
        // SAFETY: loading runs the library's initialisers. It is the library that the loader's administrator or the caller named:
        // the same one that every CUDA program of this machine runs.
        let library =
            unsafe { Library::new(&self.library) }.map_err(|error| Absence::NoLibrary { detail: error.to_string() })?;
        for symbol in ["nvmlInit_v2", "nvmlShutdown", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2"] {
            // SAFETY: only looked for, never called with this type.
            if unsafe { library.get::<unsafe extern "C" fn()>(symbol.as_bytes()) }.is_err() {
                return Err(Absence::NotNvml { library: self.library.clone(), symbol: symbol.to_owned() });
            }
        }
        Nvml::new(library).map_err(|refusal| match refusal {
            Refusal::DRIVER_NOT_LOADED => Absence::NoDriver,
            Refusal::VERSION_MISMATCH => Absence::VersionMismatch,
            Refusal::NO_PERMISSION => Absence::Forbidden,
            other => Absence::Failed { what: other.to_string() },
        })
    }
}

impl Probe for NvmlProbe {
    fn inventory(&self) -> Inventory {
        let mut held = self.nvml.lock().unwrap_or_else(PoisonError::into_inner);
        // first gives the old one back: the driver counts its users
        *held = None;
        match self.open() {
            Ok(nvml) => take(held.insert(nvml), &self.root),
            Err(absence) => Inventory::none(absence),
        }
    }

    fn readings(&self) -> Vec<Reading> {
        let mut held = self.nvml.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = self.open().ok();
        }
        let Some(nvml) = held.as_ref() else { return Vec::new() };
        let count = nvml.count().unwrap_or(0).min(MAX_GPUS);
        (0..count).filter_map(|index| nvml.card(index).ok()).flat_map(|card| live::readings(nvml, card)).collect()
    }
}

fn take(nvml: &Nvml, root: &Path) -> Inventory {
    let count = match nvml.count() {
        Ok(0) => return Inventory { drivers: driver(nvml).into_iter().collect(), ..Inventory::none(Absence::NoCards) },
        Ok(count) => count,
        Err(refusal) => return Inventory::none(Absence::Failed { what: refusal.to_string() }),
    };
    let mut inventory = Inventory { drivers: driver(nvml).into_iter().collect(), ..Inventory::default() };
    let mut answering: Vec<(Uuid, Handle<'_>)> = Vec::new();
    for index in 0..count.min(MAX_GPUS) {
        let card = nvml.card(index).and_then(|handle| Ok((card::card(nvml, handle, index, root)?, handle)));
        match card {
            Ok((gpu, _)) if answering.iter().any(|(uuid, _)| uuid == &gpu.uuid) => {
                let reason = format!("it has the UUID of another card, {}", gpu.uuid);
                inventory.lost.push(Lost { index, reason });
            }
            Ok((gpu, handle)) => {
                answering.push((gpu.uuid.clone(), handle));
                inventory.gpus.push(gpu);
            }
            Err(refusal) => inventory.lost.push(Lost { index, reason: refusal.to_string() }),
        }
    }
    if count > MAX_GPUS {
        let reason = format!("the driver speaks of {count} cards, and only the first {MAX_GPUS} are looked at");
        inventory.lost.push(Lost { index: MAX_GPUS, reason });
    }
    inventory.connections = connections(nvml, &answering);
    inventory
}

fn driver(nvml: &Nvml) -> Option<Driver> {
    let version = nvml.driver_version().ok()?;
    let cuda = nvml.cuda_version().ok().and_then(|version| u32::try_from(version).ok()).filter(|version| *version > 0);
    let cuda = cuda.map(|version| CudaVersion { major: version / 1_000, minor: version % 1_000 / 10 });
    Some(Driver { vendor: Vendor::Nvidia, version, cuda })
}

/// How every two cards are connected; pairs of which the driver knows nothing are left out.
fn connections(nvml: &Nvml, cards: &[(Uuid, Handle<'_>)]) -> Vec<Connection> {
    let mut found = Vec::new();
    for (number, (a, first)) in cards.iter().enumerate() {
        for (b, second) in cards.iter().skip(number + 1) {
            if let Some(path) = path(nvml, *first, *second) {
                found.push(Connection { a: a.clone(), b: b.clone(), path });
            }
        }
    }
    found
}

fn path(nvml: &Nvml, a: Handle<'_>, b: Handle<'_>) -> Option<LinkPath> {
    if nvml.joined_by_nvlink(a, b) == Ok(true) {
        return Some(LinkPath::NvLink);
    }
    // the levels of nvmlGpuTopologyLevel_t
    match nvml.common_ancestor(a, b).ok()? {
        0 => Some(LinkPath::Board),
        10 => Some(LinkPath::Switch),
        20 => Some(LinkPath::Switches),
        30 => Some(LinkPath::Bridge),
        40 => Some(LinkPath::Node),
        50 => Some(LinkPath::System),
        _ => None,
    }
}
