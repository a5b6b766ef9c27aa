//! `node man`: manual pages, generated from the same definition that reads the command line, so that the two agree.

use crate::{
    cli::{self, Cli},
    output::Output,
};
use api::types::{ApiError, ErrorKind};
use clap::CommandFactory;
use clap_mangen::Man;
use std::{fs, io, path::Path, path::PathBuf};

pub(super) fn man(output: Output, args: &cli::Man) -> Result<(), ApiError> {
    let written = write(&args.directory, &args.name).map_err(|error| {
        let message = format!("cannot write to {}: {error}", args.directory.display());
        ApiError::new(ErrorKind::Failed, message, "give a folder that is yours to write")
    })?;
    output.result(&written, |_| written.iter().map(|page| page.display().to_string()).collect::<Vec<_>>().join("\n"))
}

/// Writes all pages, and says where each is.
fn write(directory: &Path, name: &str) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    // clap takes names that live as long as the program, and so does this one
    let program: &'static str = name.to_owned().leak();
    let mut command = Cli::command().name(program).disable_help_subcommand(true);
    command.build();
    let mut written = Vec::new();
    pages(&command, name, directory, &mut written)?;
    Ok(written)
}

fn pages(command: &clap::Command, name: &str, directory: &Path, written: &mut Vec<PathBuf>) -> io::Result<()> {
    let mut page = Vec::new();
    Man::new(command.clone()).title(name.to_uppercase()).render(&mut page)?;
    let path = directory.join(format!("{name}.1"));
    fs::write(&path, page)?;
    written.push(path);
    for inner in command.get_subcommands() {
        pages(inner, &format!("{name}-{}", inner.get_name()), directory, written)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_page_for_every_command_with_its_options_and_examples() {
        let folder = tempfile::tempdir().unwrap();
        let written = write(&folder.path().join("man1"), "gpulease").unwrap();
        let names: Vec<_> = written.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        for command in Cli::command().get_subcommands() {
            let name = format!("gpulease-{}.1", command.get_name());
            assert!(names.contains(&name.as_str()), "{name} is not among {names:?}");
        }
        assert!(names.contains(&"gpulease.1") && names.contains(&"gpulease-wallet-new.1"), "{names:?}");
        let run = fs::read_to_string(folder.path().join("man1/gpulease-run.1")).unwrap();
        assert!(run.contains("max\\-spend") && run.contains("Examples:"), "{run}");
    }
}
