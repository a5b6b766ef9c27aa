//! Everything of a job that may hold GPU code: the program itself and the shared libraries of the folder that goes with it. A Python
//! program is a script with such libraries beside it.

use super::{Inspection, inspect};
use serde::{Deserialize, Serialize};
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

/// The most entries of a folder that are looked at; a Python environment has some ten thousand.
pub(crate) const MAX_ENTRIES: usize = 200_000;
/// The deepest folder within it; a Python environment goes down to about ten.
pub(crate) const MAX_DEPTH: usize = 24;
/// The most libraries that are inspected; PyTorch with everything it brings has some hundred.
pub(crate) const MAX_LIBRARIES: usize = 2_048;
/// The largest file that is inspected, in bytes; the largest libraries have two or three gigabytes.
pub(crate) const MAX_FILE_BYTES: u64 = 16 << 30;

/// What a file of a job turned out to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was read.
    Found(Inspection),
    /// It was not, and why.
    Unread(String),
}

/// A file of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it turned out to be.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The GPU code of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// The program, if it is here and not at the provider's.
    pub program: Option<JobFile>,
    /// The libraries that have GPU code or could not be read, in the order of their paths.
    pub libraries: Vec<JobFile>,
    /// Whether there was more than is looked at: too many files, too deep, or a folder that cannot be read.
    pub incomplete: bool,
}

impl Job {
    /// Looks into a program and into the shared libraries below a folder. Links are not followed.
    pub fn inspect(program: Option<&Path>, folder: Option<&Path>) -> Self {
        let mut search = Search::default();
        if let Some(folder) = folder {
            search.folder(folder, 0);
        }
        search.libraries.sort();
        search.libraries.retain(|library| Some(library.as_path()) != program);
        let program = program.map(|path| JobFile { path: path.to_path_buf(), outcome: outcome(path) });
        let libraries = search.libraries.into_iter().map(|path| JobFile { outcome: outcome(&path), path });
        Self { program, libraries: libraries.filter(JobFile::matters).collect(), incomplete: search.incomplete }
    }

    /// The program and the libraries.
    pub fn files(&self) -> impl Iterator<Item = &JobFile> {
        self.program.iter().chain(&self.libraries)
    }

    /// Whether something was not read that may hold GPU code.
    pub fn has_gaps(&self) -> bool {
        self.incomplete || self.files().any(|file| file.inspection().is_none())
    }
}

impl JobFile {
    /// What was found, if it was read.
    pub fn inspection(&self) -> Option<&Inspection> {
        match &self.outcome {
            Outcome::Found(inspection) => Some(inspection),
            Outcome::Unread(_) => None,
        }
    }

    /// Whether it says anything: a library without GPU code does not.
    fn matters(&self) -> bool {
        self.inspection().is_none_or(|found| !found.blobs.is_empty() || found.relocatable > 0)
    }
}

fn outcome(path: &Path) -> Outcome {
    match path.metadata() {
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => {
            Outcome::Unread(format!("larger than {} GiB", MAX_FILE_BYTES >> 30))
        }
        // what is wrong with the path is told by the attempt
        _ => inspect(path).map_or_else(|error| Outcome::Unread(error.to_string()), Outcome::Found),
    }
}

/// The libraries found so far.
#[derive(Default)]
struct Search {
    libraries: Vec<PathBuf>,
    entries: usize,
    incomplete: bool,
}

impl Search {
    fn folder(&mut self, folder: &Path, depth: usize) {
        if depth == MAX_DEPTH || self.read(folder, depth).is_err() {
            self.incomplete = true;
        }
    }

    fn read(&mut self, folder: &Path, depth: usize) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            self.entries += 1;
            if self.entries > MAX_ENTRIES || self.libraries.len() == MAX_LIBRARIES {
                self.incomplete = true;
                return Ok(());
            }
            let kind = entry.file_type()?;
            if kind.is_dir() {
                self.folder(&entry.path(), depth + 1);
            } else if kind.is_file() && is_library(&entry.file_name().to_string_lossy()) {
                self.libraries.push(entry.path());
            }
        }
        Ok(())
    }
}

/// `libfoo.so` and `libfoo.so.12.1`.
fn is_library(name: &str) -> bool {
    name.rsplit_once(".so").is_some_and(|(_, version)| {
        version.is_empty()
            || version.starts_with('.') && version.bytes().all(|byte| byte == b'.' || byte.is_ascii_digit())
    })
}

impl fmt::Display for JobFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Found(found) => write!(f, "{}: {found}", self.path.display()),
            Outcome::Unread(why) => write!(f, "{}: not inspected: {why}", self.path.display()),
        }
    }
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files().try_for_each(|file| writeln!(f, "{file}"))?;
        if self.incomplete { f.write_str("the folder has more than was looked at\n") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_known_by_their_names() {
        for name in
            ["libfoo.so", "libfoo.so.12", "libfoo.so.12.1.3", "ext.cpython-311-x86_64-linux-gnu.so", "a.some.so"]
        {
            assert!(is_library(name), "{name}");
        }
        for name in ["foo", "foo.sock", "foo.so.old", "foo.song", "foo.c", "so", "foo.so_"] {
            assert!(!is_library(name), "{name}");
        }
    }
}
