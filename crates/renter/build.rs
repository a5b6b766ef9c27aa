//! Builds the program of the hardware check and hands its paths to the library, which embeds it, as `sandbox` does with the agent. It is linked
//! twice from the same objects: statically for the processor, so that it runs in every image; and with the machine's C library for
//! cards, whose driver can be loaded by such a program only.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let gpu = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../gpu");
    for input in ["src", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", gpu.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(variable("OUT_DIR")?);
    for (name, linked, key) in [
        ("challenge-static", "+crt-static", "CHALLENGE_STATIC"),
        ("challenge-dynamic", "-crt-static", "CHALLENGE_DYNAMIC"),
    ] {
        let path = out.join(name);
        link(&gpu, &out, linked, &path)?;
        println!("cargo::rustc-env={key}={}", path.display());
    }
    Ok(())
}

/// Builds the program, linked as said, and copies it to `path`: both have one name in the target directory.
fn link(gpu: &Path, out: &Path, linked: &str, path: &Path) -> Result<(), String> {
    let (target, directory) = (variable("TARGET")?, out.join("challenge-target"));
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.args(["rustc", "--locked", "--quiet", "--profile", "challenge", "--bin", "challenge", "--target", &target]);
    cargo.arg("--manifest-path").arg(gpu.join("Cargo.toml")).arg("--target-dir").arg(&directory);
    cargo.args(["--", "-C", &format!("target-feature={linked}")]);
    // What the outer call says about flags, wrappers (clippy) and directories is not meant for this program.
    for outer in
        ["CARGO_ENCODED_RUSTFLAGS", "RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "RUSTC_WORKSPACE_WRAPPER"]
    {
        cargo.env_remove(outer);
    }
    let output = cargo.output().map_err(|error| format!("cannot start cargo for the challenge: {error}"))?;
    if !output.status.success() {
        // One line per message: that is how cargo takes them.
        let text = String::from_utf8_lossy(&output.stderr).replace('\n', " | ");
        return Err(format!("the challenge does not build: {text}"));
    }
    let built = directory.join(target).join("challenge").join("challenge");
    std::fs::copy(&built, path).map_err(|error| format!("{}: {error}", built.display()))?;
    Ok(())
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("cargo did not set {name}"))
}
