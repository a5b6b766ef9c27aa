//! A made-up machine: a folder that stands for its root, with the stand-in library (`tests/stub/nvml.c`) beside a description of its cards.

use gpu::inventory::{Inventory, NvmlProbe, Probe};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};
use tempfile::TempDir;

/// The stand-in, built once by the C compiler that links Rust programs.
static STUB: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libnvidia-ml.so.1");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stub/nvml.c");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source).status().unwrap();
    assert!(built.success());
    (folder, library)
});

/// A made-up machine, gone when dropped.
pub(crate) struct Machine {
    folder: TempDir,
}

impl Machine {
    /// A machine with the cards of `tests/machines/<name>`.
    pub(crate) fn named(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/machines").join(name);
        Self::described(&fs::read_to_string(path).unwrap())
    }

    /// A machine with these cards. The library reads the file beside it, so every machine has a copy of its own: the loader takes
    /// them for different libraries.
    pub(crate) fn described(text: &str) -> Self {
        let machine = Self::empty();
        fs::copy(&STUB.1, machine.library()).unwrap();
        machine.write("machine", text);
        machine
    }

    /// A machine of which nothing is known.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn library(&self) -> PathBuf {
        self.root().join("libnvidia-ml.so.1")
    }

    /// Puts a file into the machine.
    pub(crate) fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn probe(&self) -> NvmlProbe {
        NvmlProbe::new(self.root()).with_library(self.library())
    }

    pub(crate) fn inventory(&self) -> Inventory {
        self.probe().inventory()
    }

    /// Lets the kernel say of the cards what the library says.
    pub(crate) fn with_witness(self) -> Self {
        let inventory = self.inventory();
        for driver in &inventory.drivers {
            let line = format!(
                "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  {}  Release Build\nGCC\n",
                driver.version
            );
            self.write("proc/driver/nvidia/version", &line);
        }
        for gpu in &inventory.gpus {
            let node = gpu.node.unwrap();
            let text = format!(
                "Model: \t\t {}\nIRQ:   \t\t 18\nGPU UUID: \t {}\nBus Location: \t {}\nDevice Minor: \t {node}\n",
                gpu.model, gpu.uuid, gpu.pci
            );
            self.write(&format!("proc/driver/nvidia/gpus/{}/information", gpu.pci), &text);
            let device = format!("sys/bus/pci/devices/{}", gpu.pci);
            self.write(&format!("{device}/vendor"), "0x10de\n");
            self.write(&format!("{device}/device"), &format!("0x{:04x}\n", gpu.pci_ids.device));
            self.write(&format!("{device}/numa_node"), "1\n");
        }
        self
    }
}
