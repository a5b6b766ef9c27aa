//! AMD's cards, as the kernel's `amdgpu` driver shows them in `/sys`. What is read here is declared, not checked: verification level 0.

use super::{
    Absence, Driver, Gpu, Inventory, Lost, Mig, PciAddress, PciIds, PcieLink, Probe, Reading, Throttle, Uuid, Vendor,
};
use crate::files;
use std::{
    fs,
    path::{Path, PathBuf},
    str::FromStr,
};

/// AMD's number on the PCI bus.
const AMD: u16 = 0x1002;

/// The most entries of one folder of `/sys` that are looked at; the fullest (processors and cards of a large machine) hold some dozens.
const MAX_ENTRIES: usize = 512;

/// Stream processors of one compute unit, on every architecture so far.
const STREAM_PROCESSORS: u32 = 64;

/// Reads the cards of AMD from `/sys`.
pub struct AmdProbe {
    sysfs: PathBuf,
}

impl AmdProbe {
    /// A probe of the machine whose file system starts at `root` (`/`, save in tests).
    pub fn new(root: impl AsRef<Path>) -> Self {
        Self { sysfs: root.as_ref().join("sys") }
    }

    /// The render nodes of AMD's cards, with what the driver says of each.
    fn nodes(&self) -> Vec<Node> {
        let mut nodes: Vec<Node> = entries(&self.sysfs.join("class/drm"))
            .filter_map(|(name, path)| {
                let number = name.strip_prefix("renderD")?.parse().ok()?;
                Node::new(number, path.join("device"))
            })
            .collect();
        nodes.sort_by_key(|node| node.number);
        nodes
    }

    /// The entry of the compute driver that belongs to a render node.
    fn compute(&self, node: u32) -> Option<Properties> {
        entries(&self.sysfs.join("class/kfd/kfd/topology/nodes"))
            .filter_map(|(_, path)| Some(Properties(files::fact(&path.join("properties"))?)))
            .find(|properties| properties.number("drm_render_minor") == Some(node))
    }
}

impl Probe for AmdProbe {
    fn inventory(&self) -> Inventory {
        let nodes = self.nodes();
        if nodes.is_empty() {
            return Inventory::none(Absence::NoAmdCards);
        }
        let version = files::fact(&self.sysfs.join("module/amdgpu/version"));
        let drivers = version.map(|version| Driver { vendor: Vendor::Amd, version, cuda: None });
        let mut inventory = Inventory { drivers: drivers.into_iter().collect(), ..Inventory::default() };
        for (index, node) in (0..).zip(&nodes) {
            match node.card(index, self.compute(node.number)) {
                Ok(gpu) => inventory.gpus.push(gpu),
                Err(reason) => inventory.lost.push(Lost { index, reason: reason.to_owned() }),
            }
        }
        inventory
    }

    fn readings(&self) -> Vec<Reading> {
        self.nodes().iter().filter_map(Node::reading).collect()
    }
}

/// The entries of a folder; none when it is not there.
fn entries(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_ENTRIES);
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
}

/// A card's folder in `/sys`.
struct Node {
    number: u32,
    folder: PathBuf,
    ids: PciIds,
}

impl Node {
    /// None for another vendor's card, and for one that `amdgpu` does not drive.
    fn new(number: u32, folder: PathBuf) -> Option<Self> {
        let id = |name: &str| {
            let text = files::fact(&folder.join(name))?;
            u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
        };
        let ids = PciIds { vendor: id("vendor")?, device: id("device")? };
        let node = Self { number, folder, ids };
        (ids.vendor == AMD && node.event("DRIVER").as_deref() == Some("amdgpu")).then_some(node)
    }

    fn fact<T: FromStr>(&self, name: &str) -> Option<T> {
        files::fact(&self.folder.join(name))?.parse().ok()
    }

    /// One of the variables that the kernel tells programs about the device.
    fn event(&self, name: &str) -> Option<String> {
        let text = files::fact(&self.folder.join("uevent"))?;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned))
    }

    /// A figure of the card's sensors.
    fn sensor(&self, name: &str) -> Option<u64> {
        entries(&self.folder.join("hwmon")).find_map(|(_, sensors)| files::fact(&sensors.join(name))?.parse().ok())
    }

    fn uuid(&self) -> Option<Uuid> {
        let unique: String = self.fact("unique_id")?;
        format!("GPU-{unique}").parse().ok()
    }

    /// What is said of the card, or why it cannot be rented.
    fn card(&self, index: u32, compute: Option<Properties>) -> Result<Gpu, &'static str> {
        let pci: Option<PciAddress> = self.event("PCI_SLOT_NAME").and_then(|text| text.parse().ok());
        let watts = |microwatts: u64| u32::try_from(microwatts / 1_000_000).ok();
        let printable = |model: &String| model.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
        Ok(Gpu {
            vendor: Vendor::Amd,
            index,
            node: Some(self.number),
            model: self.fact("product_name").filter(printable).unwrap_or_else(|| format!("AMD {}", self.ids)),
            uuid: self.uuid().ok_or("it has no unique_id, so nobody could tell it from another")?,
            pci: pci.ok_or("the kernel does not say where it is plugged in")?,
            pci_ids: self.ids,
            memory_bytes: self.fact("mem_info_vram_total").ok_or("the kernel does not say how much memory it has")?,
            compute_capability: None,
            gfx: compute.as_ref().and_then(Properties::gfx),
            cores: compute.as_ref().and_then(Properties::stream_processors),
            memory_bus_bits: None,
            power_limit_watts: self.sensor("power1_cap").and_then(watts),
            power_limit_max_watts: self.sensor("power1_cap_max").and_then(watts),
            pcie: self.pcie(),
            ecc: None,
            throttle: Throttle::default(),
            mig: Mig::Unsupported,
            nvlinks: 0,
            numa_node: self.fact("numa_node"),
        })
    }

    fn pcie(&self) -> Option<PcieLink> {
        let speed: String = self.fact("max_link_speed")?;
        let generation = match speed.split_whitespace().next()? {
            "2.5" => 1,
            "5.0" => 2,
            "8.0" => 3,
            "16.0" => 4,
            "32.0" => 5,
            "64.0" => 6,
            _ => return None,
        };
        Some(PcieLink { generation, width: self.fact("max_link_width")? })
    }

    fn reading(&self) -> Option<Reading> {
        let milliwatts = |microwatts: u64| u32::try_from(microwatts / 1_000).ok();
        Some(Reading {
            uuid: self.uuid()?,
            utilisation_percent: self.fact("gpu_busy_percent"),
            memory_used_bytes: self.fact("mem_info_vram_used"),
            temperature_celsius: self.sensor("temp1_input").and_then(|milli| u32::try_from(milli / 1_000).ok()),
            power_milliwatts: self.sensor("power1_average").or(self.sensor("power1_input")).and_then(milliwatts),
            throttle: Throttle::default(),
            processes: None,
        })
    }
}

/// The page of names and numbers on which the compute driver describes a card.
struct Properties(String);

impl Properties {
    fn number(&self, name: &str) -> Option<u32> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// 90402 is gfx942, 90010 is gfx90a: two decimal digits each of minor version and stepping, which the name writes as one
    /// hexadecimal digit each.
    fn gfx(&self) -> Option<String> {
        let version = self.number("gfx_target_version").filter(|version| *version > 0)?;
        Some(format!("gfx{}{:x}{:x}", version / 10_000, version / 100 % 100, version % 100))
    }

    fn stream_processors(&self) -> Option<u32> {
        let units = self.number("simd_count")?.checked_div(self.number("simd_per_cu")?)?;
        units.checked_mul(STREAM_PROCESSORS)
    }
}
