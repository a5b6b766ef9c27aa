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

    /// What a shell says to a script; `None` on a machine without it, which proves nothing either way.
    fn told(shell: &str, arguments: &[&str], script: &str) -> Option<(bool, String)> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("script");
        std::fs::write(&file, script).unwrap();
        match std::process::Command::new(shell).args(arguments).arg(&file).output() {
            Ok(done) => {
                let words = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
                Some((done.status.success(), words))
            }
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
                None
            }
        }
    }

    #[test]
    fn each_shell_can_read_its_script() {
        for (shell, program) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            if let Some((read, words)) = told(program, &["-n"], &script(shell, "gpulease").unwrap()) {
                assert!(read, "{program}: {words}");
            }
        }
    }

    #[test]
    fn bash_completes_commands_and_options() {
        let script = script(Shell::Bash, "gpulease").unwrap();
        for (line, expected) in [("gpulease rec", "receipts"), ("gpulease run --max", "--max-spend")] {
            let words = line.split(' ').count();
            let last = line.split(' ').next_back().unwrap();
            let ask = format!(
                "{script}\nCOMP_WORDS=({line}); COMP_CWORD={}; _gpulease gpulease '{last}' ''; echo \"${{COMPREPLY[@]}}\"\n",
                words - 1
            );
            if let Some((_, words)) = told("bash", &[], &ask) {
                assert_eq!(words.trim(), expected, "{line}");
            }
        }
    }
}
