//! The CDI files of a machine, and what a request for some of their devices comes to.

use super::{
    check,
    edits::Edits,
    error::{CdiError, Fault},
    spec::{Device, Spec},
};
use crate::files;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Where the specification says that files stand. What stands in a later folder counts before what stands in an earlier one.
pub const FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// The most bytes of a file: the toolkit writes about 30 KiB for eight cards, 300 KiB when all are cut into instances.
const MAX_FILE_BYTES: usize = 2 << 20;

/// The most files of a folder: a vendor writes one.
const MAX_FILES: usize = 64;

/// The most devices of one request.
const MAX_REQUEST: usize = 128;

/// How many devices an error names.
const NAMED: usize = 12;

/// The devices that a machine's CDI files describe.
#[derive(Debug, Default)]
pub struct Registry {
    specs: Vec<Source>,
    /// Files that were left out, and why.
    pub faults: Vec<CdiError>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    /// The number of its folder: the higher one counts.
    rank: usize,
    spec: Spec,
}

impl Registry {
    /// Reads all `*.json`, `*.yaml` and `*.yml` of some folders, the least important folder first. A folder that is not there is empty;
    /// a file that is wrong is left out and stands in [`Registry::faults`].
    pub fn read<P: AsRef<Path>>(folders: &[P]) -> Self {
        let mut registry = Self::default();
        for (rank, folder) in folders.iter().enumerate() {
            registry.read_folder(folder.as_ref(), rank);
        }
        registry
    }

    fn read_folder(&mut self, folder: &Path, rank: usize) {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| is_spec(path))
            .collect();
        paths.sort();
        if paths.len() > MAX_FILES {
            let fault = Fault::TooMany { what: "files", count: paths.len(), limit: MAX_FILES };
            self.faults.push(CdiError { path: folder.to_owned(), fault });
        }
        for path in paths.into_iter().take(MAX_FILES) {
            match read(&path) {
                Ok(spec) => self.specs.push(Source { path, rank, spec }),
                Err(fault) => self.faults.push(CdiError { path, fault }),
            }
        }
    }

    /// Adds a specification that stands in no file, such as a generated one. It counts less than every file.
    pub fn add(&mut self, name: &str, spec: Spec) -> Result<(), Fault> {
        check::spec(&spec)?;
        for source in &mut self.specs {
            source.rank += 1;
        }
        self.specs.push(Source { path: name.into(), rank: 0, spec });
        Ok(())
    }

    /// The full names of all devices, in alphabetical order.
    pub fn devices(&self) -> Vec<String> {
        let names = self.specs.iter().flat_map(|source| {
            source.spec.devices.iter().map(|device| format!("{}={}", source.spec.kind, device.name))
        });
        names.collect::<BTreeSet<String>>().into_iter().collect()
    }

    /// What a sandbox must be given for some devices, by their full names. Devices that are asked for twice count once; an unknown one
    /// is an error, and so is one that contradicts another.
    pub fn resolve<S: AsRef<str>>(&self, names: &[S]) -> Result<Edits, Fault> {
        if names.len() > MAX_REQUEST {
            return Err(Fault::TooMany { what: "devices in one request", count: names.len(), limit: MAX_REQUEST });
        }
        let mut edits = Edits::default();
        let mut used: Vec<&Source> = Vec::new();
        for name in names {
            let (source, device) = self.find(name.as_ref())?;
            edits.add(&device.container_edits)?;
            if !used.iter().any(|old| old.path == source.path) {
                used.push(source);
            }
        }
        for source in used {
            edits.add(&source.spec.container_edits)?;
        }
        edits.check_places()?;
        Ok(edits)
    }

    fn find(&self, name: &str) -> Result<(&Source, &Device), Fault> {
        let request = || Fault::Request(name.chars().take(check::MAX_VALUE_BYTES).collect());
        let (kind, wanted) = name.split_once('=').ok_or_else(request)?;
        check::kind(kind).and_then(|()| check::device_name(wanted)).map_err(|_| request())?;
        let described = self
            .specs
            .iter()
            .filter(|source| source.spec.kind == kind)
            .filter_map(|source| Some((source, source.spec.devices.iter().find(|device| device.name == wanted)?)));
        let mut found: Vec<_> = described.collect();
        let highest = found.iter().map(|(source, _)| source.rank).max();
        found.retain(|(source, _)| Some(source.rank) == highest);
        match found.as_slice() {
            [] => Err(Fault::Unknown { name: name.to_owned(), known: self.known() }),
            [one] => Ok(*one),
            [(first, _), (second, _), ..] => {
                Err(Fault::Ambiguous { name: name.to_owned(), first: first.path.clone(), second: second.path.clone() })
            }
        }
    }

    fn known(&self) -> String {
        let names = self.devices();
        let rest = names.len().saturating_sub(NAMED);
        let named = names.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        match (names.is_empty(), rest) {
            (true, _) => "none".to_owned(),
            (false, 0) => named,
            (false, rest) => format!("{named} and {rest} more"),
        }
    }
}

fn is_spec(path: &Path) -> bool {
    matches!(path.extension().and_then(|extension| extension.to_str()), Some("json" | "yaml" | "yml"))
}

fn read(path: &Path) -> Result<Spec, Fault> {
    let text = files::read_text(path, MAX_FILE_BYTES)?;
    parse(&text, path.extension().is_some_and(|extension| extension == "json"))
}

/// The YAML library bounds by itself how deep a text nests and what its references unfold to.
fn parse(text: &str, is_json: bool) -> Result<Spec, Fault> {
    let spec = if is_json {
        serde_json::from_str(text)?
    } else {
        serde_saphyr::from_str(text).map_err(|error| Fault::Yaml(error.to_string()))?
    };
    check::spec(&spec)?;
    Ok(spec)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sound file, changed a few thousand times: what is still accepted resolves or is refused.
    #[test]
    fn no_mutation_of_a_file_panics() {
        let sound = "cdiVersion: 0.6.0\nkind: v.t/g\ndevices:\n  - name: a\n    containerEdits:\n      deviceNodes:\n        - \
                     path: /dev/a\n      env: [A=1]\n      hooks:\n        - hookName: createContainer\n          path: /usr/bin/\
                     nvidia-ctk\n          args: [x, hook, create-symlinks, --link, 'a::/usr/lib/b']\n";
        assert!(parse(sound, false).is_ok());
        let mut seed: u64 = 7;
        let mut random = |below: usize| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        let marks = b"&*{}[]:-!|>'\"#%@\n\t 0a/.";
        let mut accepted = 0;
        for _ in 0..2_000 {
            let mut bytes = sound.as_bytes().to_vec();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = marks[random(marks.len())],
                    1 => bytes.truncate(at + 1),
                    _ => bytes.extend_from_within(at..),
                }
            }
            let Ok(text) = String::from_utf8(bytes) else { continue };
            if let Ok(spec) = parse(&text, false) {
                accepted += 1;
                let mut registry = Registry::default();
                registry.add("mutated", spec).unwrap();
                let names = registry.devices();
                drop(registry.resolve(&names));
            }
        }
        assert!(accepted > 100, "only {accepted} were sound enough to resolve");
    }
}
