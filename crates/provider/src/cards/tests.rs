use super::*;
use gpu::inventory::{Driver, Mig, Throttle};

/// A card as its driver would describe it.
fn card(number: u32, model: &str, gib: u64, capability: (u32, u32)) -> Gpu {
    Gpu {
        vendor: Vendor::Nvidia,
        index: number,
        node: Some(number),
        model: model.to_owned(),
        uuid: format!("GPU-5f2b7f0{number}-1111-2222-3333-444444444444").parse().unwrap(),
        pci: format!("0000:{number}7:00.0").parse().unwrap(),
        pci_ids: gpu::inventory::PciIds { vendor: 0x10de, device: 0 },
        memory_bytes: gib << 30,
        compute_capability: Some(ComputeCapability { major: capability.0, minor: capability.1 }),
        gfx: None,
        cores: None,
        memory_bus_bits: None,
        power_limit_watts: Some(450),
        power_limit_max_watts: None,
        pcie: None,
        ecc: None,
        throttle: Throttle::default(),
        mig: Mig::Unsupported,
        nvlinks: 0,
        numa_node: None,
    }
}

fn machine(gpus: Vec<Gpu>) -> Cards {
    let cuda = Some(gpu::compatibility::CudaVersion { major: 13, minor: 1 });
    let drivers = vec![Driver { vendor: Vendor::Nvidia, version: "590.44.01".to_owned(), cuda }];
    Cards::new(Inventory { drivers, gpus, ..Inventory::default() }, vec![], Path::new("/nowhere"))
}

fn kind(count: u32, gpus: u32, model: &str) -> SlotConfig {
    let gpu_model = model.to_owned();
    let (name, splits) = ("gpu".to_owned(), vec![]);
    SlotConfig { name, count, cpu_millis: 1_000, memory_mib: 1_024, disk_mib: 1_024, splits, gpus, gpu_model }
}

fn uuids(slots: &[SlotCards]) -> Vec<Vec<&str>> {
    slots.iter().map(|slot| slot.0.iter().map(|card| card.uuid.as_str()).collect()).collect()
}

fn workstation() -> Cards {
    let model = "NVIDIA GeForce RTX 4090";
    let cards = (0..3).map(|number| card(number, model, 24, (8, 9)));
    machine(cards.chain([card(3, "NVIDIA GeForce RTX 3090", 24, (8, 6))]).collect())
}

#[test]
fn every_slot_gets_cards_of_its_own_and_of_one_kind() {
    let (cards, mut taken) = (workstation(), vec![]);
    let pair = cards.deal(&kind(1, 2, "rtx 4090"), &mut taken).unwrap();
    assert_eq!(pair.iter().map(|slot| slot.0.len()).collect::<Vec<_>>(), [2]);
    let single = cards.deal(&kind(1, 1, "4090"), &mut taken).unwrap();
    let other = cards.deal(&kind(1, 1, "RTX 3090"), &mut taken).unwrap();
    let names: Vec<_> = [uuids(&pair), uuids(&single), uuids(&other)].concat().concat();
    let expected: Vec<String> = (0..4).map(|n| format!("GPU-5f2b7f0{n}-1111-2222-3333-444444444444")).collect();
    assert_eq!(names, expected);
    assert_eq!(cards.deal(&kind(2, 0, ""), &mut taken).unwrap(), [SlotCards::default(), SlotCards::default()]);
}

#[test]
fn cards_that_are_not_there_are_not_offered_and_the_error_names_those_that_are() {
    let cards = workstation();
    let refused = |kind: SlotConfig| cards.deal(&kind, &mut vec![]).unwrap_err().to_string();
    let none = refused(kind(1, 1, "H100"));
    assert!(none.contains("no free GPU `H100`") && none.contains("RTX 4090") && none.contains("RTX 3090"), "{none}");
    let few = refused(kind(2, 2, "RTX 4090"));
    assert!(few.contains("4 GPUs of one kind are needed") && few.contains("3 are free"), "{few}");
    // Cards of two kinds do not make up one slot.
    assert!(refused(kind(1, 4, "GeForce")).contains("3 are free"));
    let bare = Cards::default().deal(&kind(1, 1, "H100"), &mut vec![]).unwrap_err().to_string();
    assert!(bare.contains("only none at all"), "{bare}");
}

#[test]
fn an_offer_says_what_the_driver_says() {
    let cards = workstation();
    let slots = cards.deal(&kind(1, 3, "RTX 4090"), &mut vec![]).unwrap();
    let told = cards.of_slot(&slots[0], None).unwrap();
    assert_eq!((told.group.model.as_str(), told.group.count), ("NVIDIA GeForce RTX 4090", 3));
    assert_eq!((told.group.vram_mib, told.group.sm, told.group.sm_features.as_str()), (24_576, 89, ""));
    assert_eq!((told.driver_version.as_str(), told.cuda_version), ("590.44.01", 131));
    assert_eq!(told.verification, Verification::Consistent);
    assert!(cards.of_slot(&SlotCards::default(), None).is_none());
    let strange = machine(vec![card(0, "NVIDIA Unheard-of 9000", 10, (12, 0))]);
    let slots = strange.deal(&kind(1, 1, "9000"), &mut vec![]).unwrap();
    let told = strange.of_slot(&slots[0], None).unwrap();
    assert_eq!((told.verification, told.group.sm_features.as_str()), (Verification::Declared, "af"));
}

#[test]
fn what_is_measured_of_a_slot_is_that_of_its_slowest_card() {
    let cards = workstation();
    let slots = cards.deal(&kind(1, 2, "RTX 4090"), &mut vec![]).unwrap();
    let of = |number: usize, copied: u64| gpu::measure::CardFigures {
        uuid: cards.found[number].uuid.clone(),
        multiply_adds_per_second: copied / 1_000,
        memory_copied_bytes_per_second: copied,
        to_card_bytes_per_second: 1,
        from_card_bytes_per_second: 1,
    };
    let found =
        |cards| Benchmark { measured_at_unix_seconds: 1, cpu: None, memory: None, disk: None, cards, missing: vec![] };
    let both = found(vec![of(0, 450_000_000_000), of(1, 440_000_000_000)]);
    let group = cards.of_slot(&slots[0], Some(&both)).unwrap().group;
    assert_eq!((group.memory_gb_per_s, group.mega_multiply_adds), (880, 440));
    let one = found(vec![of(0, 450_000_000_000)]);
    assert_eq!(cards.of_slot(&slots[0], Some(&one)).unwrap().group.memory_gb_per_s, 0);
}

#[test]
fn a_card_that_contradicts_its_model_or_the_kernel_is_not_rented_out() {
    let renamed = machine(vec![card(0, "NVIDIA H100 80GB HBM3", 24, (8, 9))]);
    let error = renamed.deal(&kind(1, 1, "H100"), &mut vec![]).unwrap_err().to_string();
    assert!(error.contains("is not what it says"), "{error}");
    let mut doubtful = workstation();
    doubtful.doubts = vec!["the kernel sees two cards and the library four".to_owned()];
    let error = doubtful.deal(&kind(1, 1, "RTX 4090"), &mut vec![]).unwrap_err().to_string();
    assert!(error.contains("the kernel sees two cards"), "{error}");
}

#[test]
fn instances_of_a_cut_card_are_cards_and_the_card_is_not() {
    let mut whole = card(0, "NVIDIA H100 80GB HBM3", 80, (9, 0));
    let instance = |index: u32, profile: &str, gib: u64| MigInstance {
        index,
        uuid: format!("MIG-0000000{index}-1111-2222-3333-444444444444").parse().unwrap(),
        profile: profile.to_owned(),
        memory_bytes: gib << 30,
        multiprocessors: None,
        gpu_instance: index,
        compute_instance: 0,
    };
    whole.mig = Mig::Enabled(vec![instance(0, "1g.10gb", 10), instance(1, "1g.10gb", 10), instance(2, "3g.40gb", 40)]);
    let cards = machine(vec![whole]);
    let slots = cards.deal(&kind(2, 1, "H100 1g.10gb"), &mut vec![]).unwrap();
    let told = cards.of_slot(&slots[1], None).unwrap();
    assert_eq!((told.group.mig_profile.as_str(), told.group.vram_mib, told.group.sm), ("1g.10gb", 10_240, 90));
    assert_eq!(slots[1].0[0].names[1], "nvidia.com/gpu=0:1");
    assert!(cards.deal(&kind(3, 1, "H100 1g.10gb"), &mut vec![]).is_err());
}

#[test]
fn a_slots_devices_are_those_of_the_vendors_file() {
    let machine = tempfile::tempdir().unwrap();
    let mut cards = workstation();
    machine.path().clone_into(&mut cards.root);
    let slots = cards.deal(&kind(2, 1, "RTX 4090"), &mut vec![]).unwrap();
    assert_eq!(cards.devices(&[SlotCards::default()]).unwrap(), Edits::default());
    // Neither a file nor the driver's nodes from which one could be made.
    assert!(cards.devices(&slots[1..]).unwrap_err().to_string().starts_with("devices: "));
    let device = |name: &str| {
        let nodes = serde_json::json!([{ "path": format!("/dev/nvidia{name}") }]);
        serde_json::json!({ "name": name, "containerEdits": { "deviceNodes": nodes } })
    };
    let file = serde_json::json!({
        "cdiVersion": "0.6.0", "kind": "nvidia.com/gpu", "devices": [device("0"), device("1")],
        "containerEdits": { "env": ["NVIDIA_VISIBLE_DEVICES=void"] },
    });
    std::fs::create_dir_all(machine.path().join("etc/cdi")).unwrap();
    std::fs::write(machine.path().join("etc/cdi/nvidia.json"), file.to_string()).unwrap();
    let edits = cards.devices(&slots[1..]).unwrap();
    assert_eq!(edits.nodes.len(), 1);
    assert_eq!(edits.nodes[0].inside, Path::new("/dev/nvidia1"));
    assert_eq!(edits.environment[0].value, "void");
}
