//! A target under libFuzzer: `tests/fuzz/run` builds and starts it. The target is named by `FUZZ_TARGET`; `FUZZ_SEEDS` names a folder into
//! which the honest inputs are written before the engine reads it.

#![no_main]

use fuzz::{Target, seeds, target};
use libfuzzer_sys::fuzz_target;
use std::{env, fs, path::Path, sync::OnceLock};

static TARGET: OnceLock<&Target> = OnceLock::new();

fn chosen() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = env::var("FUZZ_TARGET").unwrap_or_default();
        target(&name).unwrap_or_else(|| panic!("FUZZ_TARGET is `{name}`, which is no target"))
    })
}

fuzz_target!(
    init: {
        if let Ok(folder) = env::var("FUZZ_SEEDS") {
            for (number, seed) in seeds::of(chosen().name).iter().enumerate() {
                let path = Path::new(&folder).join(format!("seed-{number:02}"));
                fs::write(&path, seed).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            }
        }
    },
    |data: &[u8]| (chosen().run)(data)
);
