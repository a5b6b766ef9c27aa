//! A made-up machine with cards: the stand-in driver (`tests/stub/cuda.c`) beside a list of them.

use gpu::cuda::Driver;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, LazyLock},
};
use tempfile::TempDir;

/// The stand-in, built once by the C compiler that links Rust programs.
static STUB: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libcuda.so.1");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stub/cuda.c");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-O2", "-pthread", "-o"]).arg(&library).arg(source).status();
    assert!(built.unwrap().success());
    (folder, library)
});

/// Two cards.
pub(crate) const FIRST: &str = "GPU-5f2b7f0c-0123-4567-89ab-cdef01234567";
pub(crate) const SECOND: &str = "GPU-00000000-1111-2222-3333-444444444444";

/// A made-up machine, gone when dropped.
pub(crate) struct Machine(TempDir);

impl Machine {
    /// A machine with cards of so many mebibytes.
    pub(crate) fn with(cards: &[(&str, u64)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // the stand-in reads the file beside it, so every machine has a copy of its own
        fs::copy(&STUB.1, folder.path().join("libcuda.so.1")).unwrap();
        let line = |(uuid, mib): &(&str, u64)| format!("{} {}\n", uuid[4..].replace('-', ""), mib << 20);
        fs::write(folder.path().join("cards"), cards.iter().map(line).collect::<String>()).unwrap();
        Self(folder)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn driver(&self) -> Arc<Driver> {
        Arc::new(Driver::load(&self.folder().join("libcuda.so.1")).unwrap())
    }
}
