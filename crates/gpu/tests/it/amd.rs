//! AMD's cards, as the kernel shows them.

use crate::machine::Machine;
use gpu::inventory::{Absence, AmdProbe, PcieLink, Probe, Vendor};

/// An MI300X as `amdgpu` shows it, and a card of another vendor beside it.
pub(crate) fn machine() -> Machine {
    let machine = Machine::empty();
    let facts = [
        ("vendor", "0x1002\n"),
        ("device", "0x74a1\n"),
        ("uevent", "DRIVER=amdgpu\nPCI_CLASS=120000\nPCI_SLOT_NAME=0000:05:00.0\n"),
        ("product_name", "AMD Instinct MI300X OAM\n"),
        ("unique_id", "a1b2c3d4e5f60718\n"),
        ("mem_info_vram_total", "206141652992\n"),
        ("mem_info_vram_used", "296910848\n"),
        ("gpu_busy_percent", "12\n"),
        ("max_link_speed", "32.0 GT/s PCIe\n"),
        ("max_link_width", "16\n"),
        ("numa_node", "-1\n"),
        ("hwmon/hwmon3/power1_cap", "750000000\n"),
        ("hwmon/hwmon3/power1_cap_max", "750000000\n"),
        ("hwmon/hwmon3/power1_input", "131000000\n"),
        ("hwmon/hwmon3/temp1_input", "39000\n"),
    ];
    for (name, text) in facts {
        machine.write(&format!("sys/class/drm/renderD128/device/{name}"), text);
    }
    machine.write("sys/class/drm/renderD129/device/vendor", "0x10de\n");
    machine.write("sys/class/drm/renderD129/device/device", "0x2330\n");
    machine.write("sys/class/kfd/kfd/topology/nodes/0/properties", "cpu_cores_count 96\ndrm_render_minor 0\n");
    let properties = "simd_count 1216\nsimd_per_cu 4\ngfx_target_version 90402\ndrm_render_minor 128\n";
    machine.write("sys/class/kfd/kfd/topology/nodes/1/properties", properties);
    machine.write("sys/module/amdgpu/version", "6.10.5\n");
    machine
}

#[test]
fn a_card_is_described_by_its_files() {
    let machine = machine();
    let inventory = AmdProbe::new(machine.root()).inventory();
    assert_eq!(inventory.driver(Vendor::Amd).unwrap().version, "6.10.5");
    let [card] = inventory.gpus.as_slice() else { panic!("one card") };
    assert_eq!((card.model.as_str(), card.uuid.as_str()), ("AMD Instinct MI300X OAM", "GPU-a1b2c3d4e5f60718"));
    assert_eq!((card.pci.to_string(), card.node, card.numa_node), ("0000:05:00.0".to_owned(), Some(128), None));
    assert_eq!((card.memory_bytes, card.gfx.as_deref(), card.cores), (206_141_652_992, Some("gfx942"), Some(19_456)));
    assert_eq!((card.power_limit_watts, card.pcie), (Some(750), Some(PcieLink { generation: 5, width: 16 })));
}

#[test]
fn live_figures_come_from_its_sensors() {
    let machine = machine();
    let [reading] = AmdProbe::new(machine.root()).readings().try_into().unwrap();
    assert_eq!((reading.utilisation_percent, reading.memory_used_bytes), (Some(12), Some(296_910_848)));
    assert_eq!((reading.temperature_celsius, reading.power_milliwatts), (Some(39), Some(131_000)));
}

#[test]
fn a_card_that_cannot_be_told_from_another_is_not_rented() {
    let machine = machine();
    std::fs::remove_file(machine.root().join("sys/class/drm/renderD128/device/unique_id")).unwrap();
    let inventory = AmdProbe::new(machine.root()).inventory();
    assert_eq!((inventory.gpus.len(), inventory.lost.len()), (0, 1));
    assert!(inventory.lost[0].reason.contains("unique_id"));
}

#[test]
fn a_machine_without_cards_says_so() {
    let machine = Machine::empty();
    let probe = AmdProbe::new(machine.root());
    assert_eq!(probe.inventory().absent, [Absence::NoAmdCards]);
    assert!(probe.readings().is_empty());
}

#[test]
fn both_vendors_stand_in_one_inventory() {
    let nvidia = Machine::named("h100").inventory();
    let machine = machine();
    let both = nvidia.join(AmdProbe::new(machine.root()).inventory());
    assert_eq!(both.gpus.iter().map(|gpu| gpu.vendor).collect::<Vec<_>>(), [Vendor::Nvidia, Vendor::Amd]);
    assert_eq!(both.drivers.len(), 2);
}
