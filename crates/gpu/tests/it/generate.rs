//! CDI files of our own, where NVIDIA's toolkit wrote none.

use crate::machine::Machine;
use gpu::{
    cdi::{GenerateError, Registry, generate},
    inventory::{AmdProbe, Inventory, Probe, Vendor},
};
use std::{fs, os::unix::fs::symlink, path::PathBuf};

const VERSION: &str = "570.86.15";
const FOLDER: &str = "usr/lib/x86_64-linux-gnu";

/// A machine with cards, nodes and an installed driver; plain files stand for nodes and libraries.
fn machine(name: &str) -> Machine {
    let machine = Machine::named(name);
    for node in ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-modeset"] {
        machine.write(&format!("dev/{node}"), "");
    }
    for (library, alias) in [
        ("libcuda", "libcuda.so.1"),
        ("libnvidia-ml", "libnvidia-ml.so.1"),
        ("libnvidia-ptxjitcompiler", "libnvidia-ptxjitcompiler.so.1"),
        ("libGLX_nvidia", "libGLX_nvidia.so.0"),
    ] {
        machine.write(&format!("{FOLDER}/{library}.so.{VERSION}"), "");
        symlink(format!("{library}.so.{VERSION}"), machine.root().join(FOLDER).join(alias)).unwrap();
    }
    machine.write("usr/bin/nvidia-smi", "");
    machine
}

#[test]
fn a_card_gets_its_node_the_common_ones_and_the_drivers_libraries() {
    let machine = machine("mixed");
    let spec = generate(Vendor::Nvidia, &with_version(&machine), machine.root()).unwrap();
    let mut registry = Registry::default();
    registry.add("generated", spec).unwrap();
    let uuids = "GPU-5f2b7f00-1111-2222-3333-444444444444 GPU-5f2b7f01-1111-2222-3333-444444444444";
    let names: Vec<String> = format!("0 1 {uuids}").split(' ').map(|name| format!("nvidia.com/gpu={name}")).collect();
    assert_eq!(registry.devices(), names);

    let edits = registry.resolve(&[&names[3]]).unwrap();
    let nodes: Vec<_> = edits.nodes.iter().map(|node| node.inside.to_str().unwrap()).collect();
    assert_eq!(nodes, ["/dev/nvidia1", "/dev/nvidiactl", "/dev/nvidia-uvm"]);
    assert_eq!(edits.nodes[0].host, machine.root().join("dev/nvidia1"));
    let inside: Vec<_> = edits.mounts.iter().map(|mount| mount.inside.to_str().unwrap()).collect();
    let library = |name: &str| format!("/usr/local/nvidia/lib64/{name}");
    let expected = [
        library("libcuda.so.1"),
        library(&format!("libcuda.so.{VERSION}")),
        library("libnvidia-ml.so.1"),
        library(&format!("libnvidia-ml.so.{VERSION}")),
        library("libnvidia-ptxjitcompiler.so.1"),
        library(&format!("libnvidia-ptxjitcompiler.so.{VERSION}")),
        "/usr/bin/nvidia-smi".to_owned(),
    ];
    assert_eq!(inside, expected);
    let real: PathBuf = machine.root().join(FOLDER).canonicalize().unwrap().join(format!("libcuda.so.{VERSION}"));
    assert_eq!(edits.mounts[0].host, real);
    let environment: Vec<_> =
        edits.environment.iter().map(|variable| format!("{}={}", variable.name, variable.value)).collect();
    assert_eq!(environment, ["NVIDIA_VISIBLE_DEVICES=void", "LD_LIBRARY_PATH=/usr/local/nvidia/lib64"]);
    assert!(edits.links.is_empty() && edits.left_out.is_empty());
}

/// The inventory, with the version of the driver that [`machine`] installs.
fn with_version(machine: &Machine) -> Inventory {
    let mut inventory = machine.inventory();
    inventory.drivers[0].version = VERSION.to_owned();
    inventory
}

#[test]
fn what_is_generated_is_read_again_from_a_file() {
    let machine = machine("h100");
    let spec = generate(Vendor::Nvidia, &machine.inventory(), machine.root()).unwrap();
    machine.write("etc/cdi/nvidia.json", &serde_json::to_string_pretty(&spec).unwrap());
    let registry = Registry::read(&[machine.root().join("etc/cdi")]);
    assert!(registry.faults.is_empty(), "{:?}", registry.faults);
    assert_eq!(registry.devices().len(), 2);
}

#[test]
fn a_vendors_file_counts_before_a_generated_one() {
    let machine = machine("h100");
    let vendors = r#"{"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [{"name": "0", "containerEdits": {"env": ["BY=vendor"]}}]}"#;
    machine.write("etc/cdi/nvidia.json", vendors);
    let mut registry = Registry::read(&[machine.root().join("etc/cdi")]);
    registry.add("generated", generate(Vendor::Nvidia, &machine.inventory(), machine.root()).unwrap()).unwrap();
    let edits = registry.resolve(&["nvidia.com/gpu=0"]).unwrap();
    assert_eq!((edits.environment[0].value.as_str(), edits.nodes.len()), ("vendor", 0));
}

#[test]
fn instances_get_the_nodes_of_their_parts_and_a_cut_card_is_not_given_whole() {
    let machine = machine("mig");
    let minors =
        "config 1\nmonitor 2\ngpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\ngpu0/gi7/access 66\ngpu0/gi7/ci0/access 67\n";
    machine.write("proc/driver/nvidia-caps/mig-minors", minors);
    for minor in [12, 13, 66, 67] {
        machine.write(&format!("dev/nvidia-caps/nvidia-cap{minor}"), "");
    }
    let spec = generate(Vendor::Nvidia, &machine.inventory(), machine.root()).unwrap();
    let names: Vec<_> = spec.devices.iter().map(|device| device.name.as_str()).collect();
    let instance = |number: u32| format!("MIG-0000000{number}-1111-2222-3333-444444444444");
    let card = "GPU-5f2b7f01-1111-2222-3333-444444444444";
    assert_eq!(names, ["0:0", &instance(1), "0:1", &instance(2), "1", card]);
    let nodes: Vec<_> = spec.devices[3].container_edits.device_nodes.iter().map(|node| node.path.as_str()).collect();
    assert_eq!(nodes, ["/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap66", "/dev/nvidia-caps/nvidia-cap67"]);

    fs::write(machine.root().join("proc/driver/nvidia-caps/mig-minors"), "config 1\n").unwrap();
    let error = generate(Vendor::Nvidia, &machine.inventory(), machine.root()).unwrap_err();
    assert!(matches!(error, GenerateError::NoCapability(name) if name == "gpu0/gi1/access"));
}

#[test]
fn another_drivers_libraries_and_those_outside_the_machine_do_not_count() {
    let machine = machine("h100");
    let library = machine.root().join(FOLDER).join(format!("libcuda.so.{VERSION}"));
    fs::rename(&library, machine.root().join(FOLDER).join("libcuda.so.535.1")).unwrap();
    let missing = |machine: &Machine| {
        let error = generate(Vendor::Nvidia, &machine.inventory(), machine.root()).unwrap_err();
        assert!(matches!(error, GenerateError::MissingLibrary { name: "libcuda", .. }), "{error}");
    };
    missing(&machine);
    let elsewhere = Machine::empty();
    elsewhere.write(&format!("libcuda.so.{VERSION}"), "");
    symlink(elsewhere.root().join(format!("libcuda.so.{VERSION}")), library).unwrap();
    missing(&machine);
}

#[test]
fn what_is_missing_is_named_with_what_helps() {
    let machine = machine("h100");
    assert!(matches!(generate(Vendor::Nvidia, &Inventory::default(), machine.root()), Err(GenerateError::NoCards)));
    fs::remove_file(machine.root().join("dev/nvidia-uvm")).unwrap();
    let error = generate(Vendor::Nvidia, &machine.inventory(), machine.root()).unwrap_err().to_string();
    assert!(error.contains("dev/nvidia-uvm") && error.contains("nvidia-modprobe"), "{error}");

    let mut inventory = machine.inventory();
    inventory.drivers.clear();
    assert!(matches!(generate(Vendor::Nvidia, &inventory, machine.root()), Err(GenerateError::NoVersion)));
}

#[test]
fn the_loaders_cache_tells_where_the_libraries_are() {
    let machine = machine("h100");
    fs::remove_dir_all(machine.root().join("usr/lib")).unwrap();
    let mut libraries = Vec::new();
    for library in ["libcuda", "libnvidia-ml"] {
        machine.write(&format!("opt/driver/{library}.so.{VERSION}"), "");
        symlink(format!("{library}.so.{VERSION}"), machine.root().join(format!("opt/driver/{library}.so.1"))).unwrap();
        libraries.push((format!("{library}.so.1"), format!("/opt/driver/{library}.so.1")));
    }
    assert!(matches!(
        generate(Vendor::Nvidia, &machine.inventory(), machine.root()),
        Err(GenerateError::MissingLibrary { .. })
    ));
    machine.write("etc/ld.so.cache", "");
    fs::write(machine.root().join("etc/ld.so.cache"), cache(&libraries)).unwrap();
    let spec = generate(Vendor::Nvidia, &machine.inventory(), machine.root()).unwrap();
    let mounts: Vec<_> = spec.container_edits.mounts.iter().map(|mount| mount.container_path.as_str()).collect();
    let expected =
        ["/usr/local/nvidia/lib64/libcuda.so.1", "/usr/local/nvidia/lib64/libnvidia-ml.so.1", "/usr/bin/nvidia-smi"];
    assert_eq!(mounts, expected);
    assert!(spec.container_edits.mounts[0].host_path.ends_with(&format!("/opt/driver/libcuda.so.{VERSION}")));
}

/// The loader's cache as `ldconfig` writes it: a header of 48 bytes, 24 for each library, then the texts.
fn cache(libraries: &[(String, String)]) -> Vec<u8> {
    let flags: u32 = if cfg!(target_arch = "aarch64") { 0x0a03 } else { 0x0303 };
    let (mut entries, mut texts) = (Vec::new(), Vec::new());
    for (name, path) in libraries {
        let mut words = vec![flags];
        for text in [name, path] {
            words.push((48 + 24 * libraries.len() + texts.len()) as u32);
            texts.extend(text.bytes().chain([0]));
        }
        words.extend([0; 3]);
        entries.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
    }
    let mut bytes = b"glibc-ld.so.cache1.1".to_vec();
    bytes.extend((libraries.len() as u32).to_ne_bytes());
    bytes.resize(48, 0);
    [bytes, entries, texts].concat()
}

#[test]
fn a_card_of_amd_gets_its_node_and_the_common_one() {
    let machine = crate::amd::machine();
    let inventory = AmdProbe::new(machine.root()).inventory();
    assert!(matches!(generate(Vendor::Amd, &inventory, machine.root()), Err(GenerateError::MissingNode(_))));
    machine.write("dev/kfd", "");
    machine.write("dev/dri/renderD128", "");
    let mut registry = Registry::default();
    registry.add("generated", generate(Vendor::Amd, &inventory, machine.root()).unwrap()).unwrap();
    let edits = registry.resolve(&["amd.com/gpu=GPU-a1b2c3d4e5f60718"]).unwrap();
    let nodes: Vec<_> = edits.nodes.iter().map(|node| node.inside.to_str().unwrap()).collect();
    assert_eq!((nodes, edits.mounts.len()), (vec!["/dev/dri/renderD128", "/dev/kfd"], 0));
}
