//! Level 1: what true machines and lying ones say of themselves.

use crate::machine::Machine;
use gpu::{
    inventory::{KernelView, PciIds},
    specification::{Claim, Contradiction, Verdict, check, check_machine},
};

fn findings(machine: &Machine) -> gpu::specification::Findings {
    check_machine(&machine.inventory(), &KernelView::read(machine.root()))
}

#[test]
fn true_machines_are_consistent() {
    for name in ["h100", "h200x8", "mixed", "mig", "throttled", "lost"] {
        let machine = Machine::named(name).with_witness();
        let findings = findings(&machine);
        assert!(findings.are_consistent(), "{name}: {findings:?}");
        assert!(findings.cards.iter().all(|(_, verdict)| *verdict == Verdict::Consistent), "{name}: {findings:?}");
    }
}

#[test]
fn a_renamed_card_is_found_by_everything_that_was_not_renamed() {
    let machine = Machine::named("lying").with_witness();
    let findings = findings(&machine);
    assert!(!findings.are_consistent());
    let words = findings.cards[0].1.to_string();
    for wrong in [
        "H100 80GB HBM3 has 80 GiB of memory, not 24576 MiB",
        "is sm_90, not sm_86",
        "has 16896 cores, not 10496",
        "has 5120 bits of memory bus, not 384",
        "a card with the PCI number 2204 is a RTX 3090, not a H100 80GB HBM3",
    ] {
        assert!(words.contains(wrong), "{wrong}\nin {words}");
    }
}

#[test]
fn a_library_that_shows_cards_of_which_the_kernel_knows_nothing_is_found() {
    let machine = Machine::named("h100");
    let pci = machine.inventory().gpus[0].pci;
    assert_eq!(findings(&machine).machine, [Contradiction::Unwitnessed(pci)]);
}

#[test]
fn library_and_kernel_must_say_the_same() {
    let machine = Machine::named("h100").with_witness();
    let pci = machine.inventory().gpus[0].pci;
    machine.write(&format!("sys/bus/pci/devices/{pci}/device"), "0x2204\n");
    machine.write(
        &format!("proc/driver/nvidia/gpus/{pci}/information"),
        "Model: \t NVIDIA GeForce RTX 3090\nGPU UUID: \t GPU-0\nDevice Minor: \t 0\n",
    );
    machine.write("proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.1  Wed\n");
    let words: Vec<String> = findings(&machine).machine.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), 4, "{words:?}");
    assert!(
        words[0].ends_with("its model is NVIDIA H100 80GB HBM3, and the kernel that it is NVIDIA GeForce RTX 3090")
    );
    assert!(
        words[1].contains("UUID")
            && words[2].contains("its PCI number is 10de:2330, and the kernel that it is 10de:2204")
    );
    assert_eq!(words[3], "NVIDIA's library is of version 570.86.15 and the kernel driver of 535.1");
}

#[test]
fn a_card_that_the_library_hides_is_found_unless_it_is_lost() {
    let machine = Machine::named("h200x8").with_witness();
    let seven: String = std::fs::read_to_string(machine.root().join("machine")).unwrap();
    let end = seven.rfind("gpu\n").unwrap();
    machine.write("machine", &seven[..end]);
    let found = findings(&machine).machine;
    assert!(matches!(found.as_slice(), [Contradiction::Hidden(_)]), "{found:?}");

    machine.write("machine", &seven.replacen("minor = 7", "fail_handle = 15", 1));
    assert_eq!(findings(&machine).machine, []);
}

#[test]
fn a_driver_from_before_the_card_is_found() {
    let machine = Machine::named("h100").with_witness();
    let text = std::fs::read_to_string(machine.root().join("machine")).unwrap();
    machine.write("machine", &text.replace("cuda = 12080", "cuda = 11040"));
    let words: Vec<String> = findings(&machine).machine.iter().map(ToString::to_string).collect();
    assert_eq!(words, ["sm_90 needs a driver for CUDA 11.8 or later; this one is for 11.4"]);
}

#[test]
fn impossible_identities_are_found() {
    let machine = Machine::named("h200x8").with_witness();
    let mut inventory = machine.inventory();
    let kernel = KernelView::read(machine.root());
    inventory.gpus[0].uuid = "GPU-1".parse().unwrap();
    inventory.gpus[1].pci_ids = PciIds { vendor: 0x1002, device: 0x2335 };
    inventory.gpus[3].pci = inventory.gpus[2].pci;
    let found = check_machine(&inventory, &kernel).machine;
    assert!(found.iter().any(|found| matches!(found, Contradiction::Uuid(_))));
    assert!(found.iter().any(|found| matches!(found, Contradiction::OtherVendor(_))));
    assert!(found.contains(&Contradiction::SamePlace(inventory.gpus[2].pci)));
}

#[test]
fn instances_larger_than_their_card_are_found() {
    let machine = Machine::named("mig").with_witness();
    let text = std::fs::read_to_string(machine.root().join("machine")).unwrap();
    machine.write("machine", &text.replace("memory_mib = 40320", "memory_mib = 80640"));
    assert!(matches!(findings(&machine).machine.as_slice(), [Contradiction::Instances { .. }]));
}

/// What a person writes into an offer.
fn declared(model: &str, gib: u64, code: &str) -> Claim {
    Claim { model: model.to_owned(), memory_bytes: Some(gib << 30), code: Some(code.to_owned()), ..Claim::default() }
}

#[test]
fn what_an_offer_declares_is_held_against_every_board_of_the_name() {
    assert_eq!(check(&declared("H100", 80, "sm_90")), Verdict::Consistent);
    assert_eq!(check(&declared("H100", 94, "sm_90")), Verdict::Consistent);
    assert_eq!(check(&declared("RTX 3080", 12, "sm_86")), Verdict::Consistent);
    assert_eq!(check(&Claim { model: "H100".to_owned(), ..Claim::default() }), Verdict::Consistent);
    assert_eq!(check(&declared("RTX 4090 Laptop GPU", 16, "sm_89")), Verdict::Unlisted);
    let wrong = check(&declared("RTX 4090", 48, "sm_89"));
    assert_eq!(wrong.to_string(), "RTX 4090 has 24 GiB of memory, not 49152 MiB");
}

#[test]
fn nothing_is_faster_or_draws_more_than_its_model() {
    let fast = Claim { tflops_tenths: Some(20_000), memory_gb_per_s: Some(9_000), ..declared("H200", 141, "sm_90") };
    let words = check(&fast).to_string();
    assert!(words.contains("at most 4800 GB/s of memory bandwidth, not 9000"), "{words}");
    assert!(words.contains("at most 989 16-bit TFLOP/s, not 2000"), "{words}");

    // a board of another maker may draw more than the vendor's, an SXM module may not
    let overclocked = Claim { power_limit_watts: Some(600), ..declared("RTX 4090", 24, "sm_89") };
    assert_eq!(check(&overclocked), Verdict::Consistent);
    let module = Claim { power_limit_watts: Some(1_000), ..declared("H100", 80, "sm_90") };
    assert_eq!(check(&module).to_string(), "H100 80GB HBM3 has at most 700 watts of power limit, not 1000");
}

#[test]
fn what_no_text_says_of_a_model_is_not_held_against_a_card() {
    let claim = Claim { power_limit_watts: Some(5_000), nvlinks: Some(18), ..declared("GH200 480GB", 96, "sm_90") };
    assert_eq!(check(&claim), Verdict::Consistent);
    let more = Claim { nvlinks: Some(19), ..claim };
    assert_eq!(check(&more).to_string(), "GH200 480GB has at most 18 NVLinks, not 19");
}
