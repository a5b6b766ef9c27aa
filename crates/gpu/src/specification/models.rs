//! The table of models (`models.txt`), read once.

use crate::inventory::PcieLink;
use std::sync::LazyLock;

const TABLE: &str = include_str!("models.txt");

/// Words that drivers put before or after a model's name and people leave out.
const DECORATION: [&str; 7] = ["NVIDIA", "TESLA", "GEFORCE", "AMD", "INSTINCT", "RADEON", "GRAPHICS"];

/// What a model is, as far as a text says that was opened (`models.txt` names them). What is absent is not known, and not checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    names: Vec<Vec<String>>,
    /// The name that the driver uses, without the maker's.
    pub name: String,
    /// Nominal memory.
    pub memory_gib: u32,
    /// Machine code: `sm_90`, `gfx942`.
    pub code: String,
    /// CUDA cores or stream processors.
    pub cores: Option<u32>,
    /// Width of the memory bus.
    pub memory_bus_bits: Option<u32>,
    /// Memory bandwidth in GB/s.
    pub memory_gb_per_s: Option<u32>,
    /// Dense 16-bit matrix throughput in tenths of a TFLOP/s.
    pub tflops_tenths: Option<u32>,
    /// Power limit.
    pub power_watts: Option<u32>,
    /// Whether others than the vendor build the board, and give it higher limits.
    pub many_makers: bool,
    /// The link to the machine.
    pub pcie: Option<PcieLink>,
    /// The most NVLinks.
    pub nvlinks: Option<u32>,
    /// Device numbers on the PCI bus.
    pub pci_devices: Vec<u16>,
    /// Where the figures are from: keys of the table's list.
    pub sources: Vec<String>,
}

impl Model {
    /// Every model of the table.
    pub fn all() -> &'static [Self] {
        &MODELS
    }

    /// The models of a name, as a driver or a person writes it: several where boards of one name differ. The whole name must be known: a
    /// `RTX 4090 Laptop GPU` is no RTX 4090.
    pub fn named(name: &str) -> impl Iterator<Item = &'static Self> {
        let wanted = words(name);
        MODELS.iter().filter(move |model| model.names.contains(&wanted))
    }

    /// The models of a device number.
    pub(super) fn of_pci_device(device: u16) -> impl Iterator<Item = &'static Self> {
        MODELS.iter().filter(move |model| model.pci_devices.contains(&device))
    }

    fn read(line: &str) -> Option<Self> {
        let mut cells = line.split('|').map(str::trim);
        let mut cell = || cells.next().filter(|cell| !cell.is_empty());
        let names = cell()?;
        let model = Self {
            names: names.split(',').map(words).collect(),
            name: names.split(',').next()?.trim().to_owned(),
            memory_gib: cell()?.parse().ok()?,
            code: cell()?.to_owned(),
            cores: stated(cell()?, number)?,
            memory_bus_bits: stated(cell()?, number)?,
            memory_gb_per_s: stated(cell()?, number)?,
            tflops_tenths: stated(cell()?, tenths)?,
            power_watts: stated(cell()?, number)?,
            many_makers: match cell()? {
                "one" => false,
                "many" => true,
                _ => return None,
            },
            pcie: stated(cell()?, link)?,
            nvlinks: stated(cell()?, number)?,
            pci_devices: cell()?.split(' ').map(|id| u16::from_str_radix(id, 16).ok()).collect::<Option<_>>()?,
            sources: cell()?.split('+').map(str::to_owned).collect(),
        };
        cell().is_none().then_some(model)
    }
}

static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| rows().filter_map(Model::read).collect());

fn rows() -> impl Iterator<Item = &'static str> {
    TABLE.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty())
}

/// A figure that the table may leave out with a dash. None is a fault of the table.
fn stated<T>(cell: &str, read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    if cell == "-" { Some(None) } else { read(cell).map(Some) }
}

fn number(cell: &str) -> Option<u32> {
    cell.parse().ok()
}

fn link(cell: &str) -> Option<PcieLink> {
    let (generation, width) = cell.split_once('x')?;
    Some(PcieLink { generation: generation.parse().ok()?, width: width.parse().ok()? })
}

fn tenths(cell: &str) -> Option<u32> {
    let (whole, tenth) = cell.split_once('.').unwrap_or((cell, "0"));
    (tenth.len() == 1).then_some(whole.parse::<u32>().ok()? * 10 + tenth.parse::<u32>().ok()?)
}

/// The words of a name that tell models apart, in capitals.
fn words(name: &str) -> Vec<String> {
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_uppercase).filter(|word| !DECORATION.contains(&word.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    #[test]
    fn every_line_of_the_table_is_read_and_names_its_sources() {
        let head: Vec<&str> = TABLE.lines().filter(|line| line.starts_with("# [")).collect();
        let mut used = BTreeSet::new();
        for line in rows() {
            let model = Model::read(line).unwrap_or_else(|| panic!("not understood: {line}"));
            for source in model.sources {
                assert!(
                    head.iter().any(|known| known.contains(&format!("[{source}] "))),
                    "unknown source {source}: {line}"
                );
                used.insert(source);
            }
        }
        let listed = head.iter().flat_map(|line| line.matches("] ")).count();
        assert_eq!(used.len(), listed, "a source of the list is used by no line");
        assert!(Model::all().len() > 60);
    }

    #[test]
    fn a_figure_that_nobody_states_is_absent_and_one_that_is_garbled_is_a_fault() {
        let line = "Card | 8 | sm_90 | - | - | - | - | - | one | - | - | 0001 | cc";
        let model = Model::read(line).unwrap();
        assert_eq!((model.cores, model.tflops_tenths, model.power_watts), (None, None, None));
        assert_eq!((model.pcie, model.nvlinks, model.memory_gb_per_s), (None, None, None));
        for garbled in ["Card | - | sm_90", "Card | 8 | sm_90 | x"] {
            assert_eq!(Model::read(&line.replacen(&line[..garbled.len()], garbled, 1)), None, "{garbled}");
        }
    }

    #[test]
    fn a_device_number_belongs_to_one_model_or_to_models_that_share_a_chip_and_a_name() {
        let mut owners: BTreeMap<u16, Vec<&Model>> = BTreeMap::new();
        for model in Model::all() {
            model.pci_devices.iter().for_each(|device| owners.entry(*device).or_default().push(model));
        }
        // pci.ids itself has one number for both
        let shared = [0x25b6, 0x744c];
        for (device, models) in owners {
            let one = models.iter().all(|model| model.name == models[0].name);
            assert!(one || shared.contains(&device), "{device:04x} has {} models", models.len());
        }
    }

    #[test]
    fn figures_of_one_line_agree_with_each_other() {
        for model in Model::all() {
            // a bus moves at most 36 Gbit/s a line (GDDR7), and at least 1.4 (the first HBM2)
            if let (Some(bits), Some(speed)) = (model.memory_bus_bits, model.memory_gb_per_s) {
                let per_line = speed as f64 * 8.0 / bits as f64;
                assert!((1.3..36.0).contains(&per_line), "{}: {per_line} Gbit/s a line", model.name);
            }
            if let Some(link) = model.pcie {
                assert!((1..=6).contains(&link.generation) && [8, 16].contains(&link.width), "{}", model.name);
            }
            assert!(model.code.starts_with("sm_") || model.code.starts_with("gfx"), "{}", model.name);
        }
    }

    #[test]
    fn a_driver_and_a_person_name_the_same_model() {
        let names = |name: &str| Model::named(name).map(|model| model.name.as_str()).collect::<Vec<_>>();
        assert_eq!(names("NVIDIA H100 80GB HBM3"), ["H100 80GB HBM3"]);
        assert_eq!(names("h100 pcie"), ["H100 PCIe"]);
        assert_eq!(names("H100"), ["H100 80GB HBM3", "H100 PCIe", "H100 NVL"]);
        assert_eq!(names("Tesla V100-SXM2-16GB"), ["V100-SXM2-16GB"]);
        assert_eq!(names("AMD Instinct MI300X OAM"), ["MI300X"]);
        for unlisted in ["NVIDIA GeForce RTX 4090 Laptop GPU", "NVIDIA GeForce RTX 4090 D", "Voodoo 2", ""] {
            assert!(names(unlisted).is_empty(), "{unlisted}");
        }
    }
}
