//! That NVIDIA's assembler takes the kernels, for every architecture. It is not here when the tests run, so what it said stands in a file,
//! which belongs to one text.

use sha2::{Digest, Sha256};
use std::{env, fs, path::PathBuf, process::Command};

/// Architectures since the oldest that the kernels are written for, as `ptxas` of CUDA 12.9 names them: the last that knows them all.
const ARCHITECTURES: [&str; 20] = [
    "50", "52", "53", "60", "61", "62", "70", "72", "75", "80", "86", "87", "89", "90", "90a", "100", "101", "103",
    "120", "121",
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
        let kernels = listing.lines().filter(|line| line.starts_with(&format!("sm_{architecture} "))).count();
        assert_eq!(kernels, 3, "sm_{architecture}");
    }
    // with more registers a block of 256 threads would not fit an old card twice, and spilled ones would be slow
    for line in listing.lines().filter(|line| line.starts_with("sm_")) {
        let registers: u32 = line.split(' ').nth(2).unwrap().parse().unwrap();
        assert!(registers <= 128 && line.ends_with(" 0 spilled"), "{line}");
    }
}

#[test]
#[ignore = "needs NVIDIA's assembler: PTXAS=.../ptxas cargo test -p gpu --test challenge assemble -- --ignored"]
fn assemble_the_kernels_and_write_down_what_the_assembler_says() {
    let ptxas = env::var("PTXAS").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("kernels.ptx");
    fs::write(&source, gpu::challenge::kernels()).unwrap();
    let mut listing = text_line();
    for architecture in ARCHITECTURES {
        let mut command = Command::new(&ptxas);
        command
            .args(["-v", "-arch", &format!("sm_{architecture}"), "-o"])
            .arg(folder.path().join("kernels.cubin"))
            .arg(&source);
        let output = command.output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "sm_{architecture}: {said}");
        let after = |line: &str, word: &str| {
            let words: Vec<&str> = line.split([' ', ',']).filter(|word| !word.is_empty()).collect();
            words.windows(2).find(|pair| pair[1] == word).map_or("0".to_owned(), |pair| pair[0].to_owned())
        };
        let lines: Vec<&str> = said.lines().collect();
        for (number, line) in lines.iter().enumerate().filter(|(_, line)| line.contains("Compiling entry function")) {
            let name = line.split('\'').nth(1).unwrap();
            let spilled = lines[number..].iter().find(|line| line.contains("spill stores")).unwrap();
            let used = lines[number..].iter().find(|line| line.contains(" registers")).unwrap();
            let spilled = spilled.split("frame, ").nth(1).unwrap().split(' ').next().unwrap();
            listing += &format!("sm_{architecture} {name} {} registers, {spilled} spilled\n", after(used, "registers"));
        }
    }
    fs::write(self::listing(), listing).unwrap();
}
