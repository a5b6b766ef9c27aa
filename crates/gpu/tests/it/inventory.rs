//! NVIDIA's cards, through a library that is loaded at run time.

use crate::machine::Machine;
use gpu::compatibility::CudaVersion;
use gpu::inventory::{
    Absence, ComputeCapability, Ecc, Inventory, KernelView, LinkPath, Mig, NvmlProbe, PcieLink, Probe, Process, Vendor,
};

#[test]
fn a_card_is_described_in_full() {
    let machine = Machine::named("h100").with_witness();
    let inventory = machine.inventory();
    let driver = inventory.driver(Vendor::Nvidia).unwrap();
    assert_eq!((driver.version.as_str(), driver.cuda), ("570.86.15", Some(CudaVersion { major: 12, minor: 8 })));
    assert!(inventory.absent.is_empty() && inventory.lost.is_empty());

    let [card] = inventory.gpus.as_slice() else { panic!("one card") };
    assert_eq!(card.model, "NVIDIA H100 80GB HBM3");
    assert_eq!(card.uuid.as_str(), "GPU-5f2b7f00-1111-2222-3333-444444444444");
    assert_eq!((card.pci.to_string(), card.pci_ids.to_string()), ("0000:17:00.0".to_owned(), "10de:2330".to_owned()));
    assert_eq!((card.node, card.numa_node), (Some(0), Some(1)));
    assert_eq!(card.memory_bytes, 81_559 << 20);
    assert_eq!(card.compute_capability, Some(ComputeCapability { major: 9, minor: 0 }));
    assert_eq!((card.cores, card.memory_bus_bits), (Some(16_896), Some(5_120)));
    assert_eq!((card.power_limit_watts, card.power_limit_max_watts), (Some(700), Some(700)));
    assert_eq!(card.pcie, Some(PcieLink { generation: 5, width: 16 }));
    assert_eq!(card.ecc, Some(Ecc { enabled: true, uncorrected: Some(0) }));
    assert_eq!((&card.mig, card.nvlinks), (&Mig::Disabled, 18));
    assert!(!card.throttle.is_fault());
}

#[test]
fn what_a_card_does_not_support_is_absent_and_not_zero() {
    let bare = "driver = 390.1\ngpu\nname = Old\nuuid = GPU-1\npci = 0000:01:00.0\nmemory_mib = 2048\n";
    let inventory = Machine::described(bare).inventory();
    let card = &inventory.gpus[0];
    assert_eq!((card.node, card.cores, card.power_limit_watts), (None, None, None));
    assert_eq!((card.compute_capability, card.pcie, card.ecc), (None, None, None));
    assert_eq!((&card.mig, card.nvlinks), (&Mig::Unsupported, 0));
    assert_eq!(inventory.drivers[0].cuda, None);
}

#[test]
fn eight_cards_are_joined_by_nvlink_each_pair_once() {
    let inventory = Machine::named("h200x8").inventory();
    assert_eq!(inventory.gpus.len(), 8);
    assert_eq!(inventory.connections.len(), 28);
    assert!(inventory.connections.iter().all(|connection| connection.path == LinkPath::NvLink));
    let (first, last) = (&inventory.gpus[0].uuid, &inventory.gpus[7].uuid);
    assert_eq!(inventory.path(last, first), Some(LinkPath::NvLink));
    assert_eq!(inventory.path(first, first), None);
    assert_eq!(inventory.gpus[0].interconnect().as_deref(), Some("nvlink4"));
}

#[test]
fn models_may_differ_and_stand_on_different_switches() {
    let inventory = Machine::named("mixed").inventory();
    let models: Vec<_> = inventory.gpus.iter().map(|gpu| gpu.model.as_str()).collect();
    assert_eq!(models, ["NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3090"]);
    assert_eq!(inventory.connections[0].path, LinkPath::System);
    assert_eq!(inventory.gpus[0].interconnect().as_deref(), Some("pcie4"));
}

#[test]
fn the_instances_of_a_cut_card_are_listed_with_profile_and_name() {
    let inventory = Machine::named("mig").inventory();
    let instances = inventory.gpus[0].mig.instances();
    let profiles: Vec<_> = instances.iter().map(|instance| instance.profile.as_str()).collect();
    assert_eq!(profiles, ["3g.40gb", "1g.10gb"]);
    let second = &instances[1];
    assert_eq!(second.uuid.as_str(), "MIG-00000002-1111-2222-3333-444444444444");
    assert_eq!((second.gpu_instance, second.compute_instance, second.multiprocessors), (7, 0, Some(16)));
    assert_eq!(second.memory_bytes, 9_984 << 20);
    assert_eq!(inventory.gpus[1].mig, Mig::Disabled);
}

#[test]
fn heat_and_failing_memory_are_seen() {
    let inventory = Machine::named("throttled").inventory();
    let card = &inventory.gpus[0];
    assert!(card.throttle.is_fault());
    assert_eq!(card.throttle.to_string(), "heat, by software, heat, by hardware");
    assert_eq!(card.ecc.unwrap().uncorrected, Some(3));
}

#[test]
fn cards_that_do_not_answer_are_lost_with_the_reason_and_hide_no_other() {
    let machine = Machine::named("lost");
    let inventory = machine.inventory();
    assert_eq!(inventory.gpus.len(), 1);
    let lost: Vec<_> = inventory.lost.iter().map(|lost| (lost.index, lost.reason.as_str())).collect();
    let fallen = "the card has fallen off the bus; restart the machine, and check its power and its seat";
    assert_eq!(lost, [(1, fallen), (2, fallen), (3, "the driver's answer makes no sense")]);
    // the last one lost its name and still answers to its UUID
    assert_eq!(machine.probe().readings().len(), 2);
}

#[test]
fn live_figures_are_read_and_unknown_ones_are_absent() {
    let machine = Machine::named("h100");
    let probe = machine.probe();
    let [reading] = probe.readings().try_into().unwrap();
    assert_eq!(reading.uuid, probe.inventory().gpus[0].uuid);
    assert_eq!((reading.utilisation_percent, reading.temperature_celsius), (Some(37), Some(41)));
    assert_eq!((reading.memory_used_bytes, reading.power_milliwatts), (Some(1 << 30), Some(123_456)));
    let processes = [Process { pid: 100, memory_bytes: Some(512 << 20) }, Process { pid: 101, memory_bytes: None }];
    assert_eq!(reading.processes.unwrap(), processes);
}

#[test]
fn instances_have_live_figures_of_their_own() {
    let readings = Machine::named("mig").probe().readings();
    let names: Vec<_> = readings.iter().map(|reading| reading.uuid.as_str().split_at(4).0).collect();
    assert_eq!(names, ["GPU-", "MIG-", "MIG-", "GPU-"]);
    assert_eq!((readings[1].memory_used_bytes, readings[1].temperature_celsius), (Some(12 << 20), None));
}

#[test]
fn a_change_is_seen_in_the_next_inventory() {
    let machine = Machine::named("mixed");
    let probe = machine.probe();
    assert_eq!(probe.inventory().gpus.len(), 2);
    machine.write("machine", "driver = 1.2\n");
    let inventory = probe.inventory();
    assert_eq!((inventory.gpus.len(), inventory.absent.as_slice()), (0, [Absence::NoCards].as_slice()));
    assert!(probe.readings().is_empty());
}

#[test]
fn a_machine_without_driver_has_no_cards_and_says_why() {
    let probe = NvmlProbe::new("/").with_library("/nonexistent/libnvidia-ml.so.1");
    let inventory = probe.inventory();
    assert!(matches!(inventory.absent.as_slice(), [Absence::NoLibrary { detail }] if detail.contains("nonexistent")));
    assert_eq!(Inventory { absent: Vec::new(), ..inventory }, Inventory::default());
    assert!(probe.readings().is_empty());
}

#[test]
fn another_library_under_that_name_is_told_apart() {
    let machine = Machine::empty();
    let source = machine.root().join("other.c");
    machine.write("other.c", "int other(void) { return 0; }");
    let cc =
        std::process::Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(machine.library()).arg(source).status();
    assert!(cc.unwrap().success());
    let absent = machine.inventory().absent;
    assert!(matches!(absent.as_slice(), [Absence::NotNvml { symbol, .. }] if symbol == "nvmlInit_v2"));
}

#[test]
fn a_driver_that_does_not_start_says_what_helps() {
    for (code, absence, help) in [
        (9, Absence::NoDriver, "modprobe nvidia"),
        (18, Absence::VersionMismatch, "restart"),
        (4, Absence::Forbidden, "root"),
        (999, Absence::Failed { what: "NVML error 999".to_owned() }, "dmesg"),
    ] {
        let inventory = Machine::described(&format!("init = {code}\n")).inventory();
        assert_eq!(inventory.absent, std::slice::from_ref(&absence));
        assert!(absence.to_string().contains(help), "{absence}");
    }
}

#[test]
fn counts_that_cannot_be_are_cut_and_told() {
    let card = |number: u32| {
        format!(
            "gpu\nname = X\nuuid = GPU-{number}\npci = 0000:{number:02x}:00.0\nmemory_mib = 1\nprocesses = 4000000000\nboast = 1\n"
        )
    };
    let text = format!("claimed_count = 4000000000\n{}", (0..40).map(card).collect::<String>());
    let machine = Machine::described(&text);
    let inventory = machine.inventory();
    assert_eq!(inventory.gpus.len(), 32);
    assert_eq!(inventory.lost[0].reason, "the driver speaks of 4000000000 cards, and only the first 32 are looked at");
    assert!(machine.probe().readings().iter().all(|reading| reading.processes.as_ref().unwrap().len() == 256));
}

#[test]
fn more_programs_than_are_looked_at_do_not_spoil_the_other_figures() {
    let text = "gpu\nname = X\nuuid = GPU-1\npci = 0:1:0.0\nmemory_mib = 1\nprocesses = 300\nbusy = 5\n";
    let [reading] = Machine::described(text).probe().readings().try_into().unwrap();
    assert_eq!((reading.utilisation_percent, reading.processes), (Some(5), None));
}

#[test]
fn one_uuid_names_one_card() {
    let card = "gpu\nname = X\nuuid = GPU-1\npci = 0:1:0.0\nmemory_mib = 1\n";
    let inventory = Machine::described(&card.repeat(2)).inventory();
    assert_eq!(
        (inventory.gpus.len(), inventory.lost[0].reason.as_str()),
        (1, "it has the UUID of another card, GPU-1")
    );
}

#[test]
fn texts_that_no_driver_writes_are_refused() {
    for name in ["uuid = GPU-1/../..", "uuid = \u{1b}[31mGPU-1", "name = a\u{7}b", "uuid = ENDLESS"] {
        let text = format!("gpu\n{name}\nname = X\nuuid = GPU-1\npci = 0:1:0.0\nmemory_mib = 1\n");
        let inventory = Machine::described(&text).inventory();
        assert_eq!((inventory.gpus.len(), inventory.lost.len()), (0, 1), "{name}");
    }
}

#[test]
fn an_inventory_survives_a_round_trip_as_json() {
    let inventory = Machine::named("mig").inventory();
    let text = serde_json::to_string(&inventory).unwrap();
    assert_eq!(serde_json::from_str::<Inventory>(&text).unwrap(), inventory);
}

#[test]
fn the_kernel_tells_whether_profilers_may_be_used() {
    let machine = Machine::empty();
    assert_eq!(KernelView::read(machine.root()), KernelView::default());
    for (value, profiling) in [("1", Some(false)), ("0", Some(true)), ("x", None)] {
        machine.write("proc/driver/nvidia/params", &format!("EnableMSI: 1\nRmProfilingAdminOnly: {value}\nTail: 0\n"));
        assert_eq!(KernelView::read(machine.root()).profiling, profiling);
    }
}
