//! `node completions`: a script for a shell, generated from the same definition that reads the command line, so that the two agree.

use crate::{
    cli::{self, Cli, Shell},
    output::Output,
};
use api::types::{ApiError, ErrorKind};
use clap::CommandFactory;
use clap_complete::{
    generate,
    shells::{Bash, Fish, Zsh},
};
use serde::Serialize;

#[derive(Serialize)]
struct Script {
    name: String,
    script: String,
}

pub(super) fn completions(output: Output, args: &cli::Completions) -> Result<(), ApiError> {
    let made = Script { name: args.name.clone(), script: script(args.shell, &args.name)? };
    output.result(&made, |_| made.script.trim_end().to_owned())
}

fn script(shell: Shell, name: &str) -> Result<String, ApiError> {
    let (mut command, mut script) = (Cli::command(), Vec::new());
    match shell {
        Shell::Bash => generate(Bash, &mut command, name, &mut script),
        Shell::Zsh => generate(Zsh, &mut command, name, &mut script),
        Shell::Fish => generate(Fish, &mut command, name, &mut script),
    }
    String::from_utf8(script).map_err(|error| ApiError::new(ErrorKind::Failed, error.to_string(), ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shell_is_told_every_command_and_the_programs_name() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let script = script(shell, "gpulease").unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(script.contains(command.get_name()), "{shell:?} does not know {}", command.get_name());
            }
            assert!(script.contains("gpulease") && script.contains("max-spend"), "{shell:?}");
        }
    }

    #[test]
    fn the_script_for_bash_is_one_that_bash_can_read() {
        let script = script(Shell::Bash, "gpulease").unwrap();
        match std::process::Command::new("bash").args(["-n", "-c", &script]).output() {
            Ok(read) => assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr)),
            // a machine without bash proves nothing either way
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
}
