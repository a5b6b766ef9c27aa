//! Builds the agent as a static program and hands its path to the library, which embeds it: one `cargo build` then gives one program
//! with the agent inside. The agent has its own target directory, because its flags differ from everybody else's.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    match build() {
        Ok(agent) => {
            println!("cargo::rustc-env=AGENT_BINARY={}", agent.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("cargo::error={error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<PathBuf, String> {
    let here = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let agent = here.join("../agent");
    for input in ["src", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", agent.join(input).display());
    }
    println!("cargo::rerun-if-changed=build.rs");

    let target = variable("TARGET")?;
    if !target.contains("linux") {
        return Err(format!("sandboxes need Linux; {target} is not supported"));
    }
    let directory = PathBuf::from(variable("OUT_DIR")?).join("agent-target");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo.args(["build", "--locked", "--quiet", "--profile", "agent", "--bin", "agent", "--target", &target]);
    cargo.arg("--manifest-path").arg(agent.join("Cargo.toml")).arg("--target-dir").arg(&directory);
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    // What the outer call says about flags, wrappers (clippy) and directories is not meant for this program.
    for outer in ["CARGO_ENCODED_RUSTFLAGS", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "RUSTC_WORKSPACE_WRAPPER"] {
        cargo.env_remove(outer);
    }
    let output = cargo.output().map_err(|error| format!("cannot start cargo for the agent: {error}"))?;
    if !output.status.success() {
        // One line per message: that is how cargo takes them.
        let text = String::from_utf8_lossy(&output.stderr).replace('\n', " | ");
        return Err(format!("the agent does not build: {text}"));
    }
    Ok(directory.join(target).join("agent").join("agent"))
}

fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("cargo did not set {name}"))
}
