//! The GPU code inside a file, without running it: programs, shared and static libraries, object files, cubins, fatbins and PTX.
//!
//! A CUDA compiler puts one *container* into a program for each translation unit, and into the container one *image* for each card it
//! was told to compile for: machine code (a cubin), PTX that the driver compiles, or intermediate code. At run time the driver picks
//! an image from each container, so a program runs in full only on cards for which every container has one. Which that is says
//! [`compatibility`](crate::compatibility).
//!
//! What comes from strangers is damaged or hostile until read: every count and length is checked, nothing is unpacked beyond a few
//! KiB, and less than 16 MB of memory is taken. A file without GPU code is a finding, not an error.

mod archive;
mod container;
mod cubin;
mod elf;
mod error;
mod found;
mod inflate;
mod job;
mod ptx;
mod source;
mod target;
mod words;

pub use error::InspectError;
pub use job::{Job, JobFile, Outcome};
pub use target::{Code, Compression, Features, Image, NotATarget, PtxVersion, Target};

use found::Found;
use serde::{Deserialize, Serialize};
use source::Part;
use std::{fmt, fs::File, path::Path};

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// A program or shared library.
    Linked,
    /// What a compiler makes of one source file.
    Object,
    /// A static library.
    Archive,
    /// GPU machine code by itself.
    Cubin,
    /// A container by itself.
    Fatbin,
    /// PTX by itself.
    Ptx,
    /// Anything else: a script, data.
    Other,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linked => "program or library",
            Self::Object => "object file",
            Self::Archive => "static library",
            Self::Cubin => "cubin",
            Self::Fatbin => "fatbin",
            Self::Ptx => "PTX",
            Self::Other => "no program",
        })
    }
}

/// Containers with the same images: of each the driver needs one that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blob {
    /// How many such containers there are.
    pub count: u32,
    /// What each of them holds, in its order.
    pub images: Vec<Image>,
}

/// The GPU code of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// What the file is.
    pub form: Form,
    /// What it gives to the driver. Empty when it has no GPU code of its own, which says nothing of what it loads or compiles later.
    pub blobs: Vec<Blob>,
    /// Containers with nothing to run, as linkers leave them behind.
    pub stubs: u32,
    /// Containers that are to be linked first and cannot run as they are.
    pub relocatable: u32,
}

/// Reads the GPU code of a file.
pub fn inspect(path: &Path) -> Result<Inspection, InspectError> {
    let failed = |source| InspectError::Open { path: path.to_path_buf(), source };
    // looked at before it is opened, since opening a pipe waits for its other end
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(InspectError::NotAFile { path: path.to_path_buf() });
    }
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    inspect_part(Part::whole(&file, length))
}

/// Reads the GPU code of a file that is in memory.
pub fn inspect_bytes(bytes: &[u8]) -> Result<Inspection, InspectError> {
    inspect_part(Part::whole(&bytes, bytes.len() as u64))
}

fn inspect_part(file: Part<'_>) -> Result<Inspection, InspectError> {
    let mut found = Found::default();
    let form = match file.array::<8>(0)? {
        Some(archive::MAGIC) => {
            archive::members(file, &mut found)?;
            Form::Archive
        }
        Some(archive::THIN_MAGIC) => return Err(InspectError::ThinArchive),
        Some(magic) if magic.starts_with(&object::elf::ELFMAG) => found.elf(file)?,
        Some(magic) if magic.starts_with(&container::MAGIC.to_le_bytes()) => {
            found.containers(file)?;
            Form::Fatbin
        }
        _ => found.text(file)?,
    };
    Ok(found.into_inspection(form))
}
