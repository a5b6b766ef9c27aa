//! That NVIDIA's assembler takes the kernels, for every architecture. It is not here when the tests run, so what it said stands in a file,
//! which belongs to one text.

use sha2::{Digest, Sha256};
use std::{env, fs, path::PathBuf, process::Command};

/// Architectures from the oldest that the kernels are written for to the newest that an assembler knows: those of CUDA 12.9, the last that
/// knows the oldest, and of CUDA 13.5.
const ARCHITECTURES: [&str; 22] = [
    "50", "52", "53", "60", "61", "62", "70", "72", "75", "80", "86", "87", "89", "90", "90a", "100", "101", "103",
    "107", "110", "120", "121",
];

fn listing() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/challenge-kernels.txt")
}

fn text_line() -> String {
    let digest = Sha256::digest(gpu::challenge::kernels());
    format!("text {}\n", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

#[test]
fn the_kernels_are_those_that_the_assembler_took_for_every_architecture() {
    let listing = fs::read_to_string(listing()).unwrap();
    assert!(
        listing.starts_with(&text_line()),
        "the kernels changed: assemble them again (see the ignored test beside this)"
    );
    for architecture in ARCHITECTURES {
        let kernels =
            listing.lines().filter(|line| line.split(' ').nth(1) == Some(&format!("sm_{architecture}"))).count();
        assert!(matches!(kernels, 3 | 6), "sm_{architecture}: {kernels} kernels");
    }
    // with more registers a block of 256 threads would not fit an old card twice, and spilled ones would be slow
    for line in listing.lines().skip(1) {
        let registers: u32 = line.split(' ').nth(3).unwrap().parse().unwrap();
        assert!(registers <= 128 && line.ends_with(" 0 spilled"), "{line}");
    }
}

#[test]
#[ignore = "needs NVIDIA's assemblers: PTXAS=.../ptxas:.../ptxas cargo test -p gpu --test challenge assemble -- --ignored"]
fn assemble_the_kernels_and_write_down_what_the_assemblers_say() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("kernels.ptx");
    fs::write(&source, gpu::challenge::kernels()).unwrap();
    let mut listing = text_line();
    for ptxas in env::var("PTXAS").unwrap().split(':') {
        let version = Command::new(ptxas).arg("--version").output().unwrap().stdout;
        let version = String::from_utf8(version).unwrap();
        let version = version.split("release ").nth(1).unwrap().split(',').next().unwrap().to_owned();
        for architecture in ARCHITECTURES {
            let mut command = Command::new(ptxas);
            command.args(["-v", "-arch", &format!("sm_{architecture}"), "-o"]).arg(folder.path().join("kernels.cubin"));
            let output = command.arg(&source).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            if said.contains("is not defined for option 'gpu-name'") {
                continue;
            }
            assert!(output.status.success(), "sm_{architecture}: {said}");
            listing.extend(kernels_of(&said).map(|kernel| format!("{version} sm_{architecture} {kernel}\n")));
        }
    }
    fs::write(self::listing(), listing).unwrap();
}

/// Of each kernel the name, and what it uses: `multiply 96 registers, 0 spilled`.
fn kernels_of(said: &str) -> impl Iterator<Item = String> {
    said.split("Compiling entry function '").skip(1).map(|kernel| {
        let before = |what: &str| kernel.split(what).next().unwrap().rsplit(' ').next().unwrap();
        let name = kernel.split('\'').next().unwrap();
        format!("{name} {} registers, {} spilled", before(" registers"), before(" bytes spill stores"))
    })
}
