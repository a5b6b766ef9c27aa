//! What has been found in a file so far. Equal containers are counted, not repeated: a library has hundreds of translation units,
//! nearly all compiled for the same cards.

use super::container::{Containers, Entries, Entry};
use super::elf::{Elf, Role};
use super::inflate::inflate;
use super::source::{Headers, Part};
use super::target::{Code, Compression, Image};
use super::{Blob, Form, InspectError, Inspection, cubin, ptx};
use std::collections::BTreeMap;

/// The most containers and images of one file. The largest libraries (cuBLASLt, PyTorch) have some ten thousand.
pub(crate) const MAX_IMAGES: u64 = 1 << 18;
/// The largest image that can be without anything to run, in bytes, unpacked; those seen have 70 to 2,000.
pub(crate) const MAX_STUB: u64 = 8 << 10;
/// The most bytes of small images that are looked into, unpacked. Those of a container are, until one has something to run.
pub(crate) const MAX_LOOKED_INTO: u64 = 64 << 20;

/// Findings, and how much work they were.
#[derive(Default)]
pub(crate) struct Found {
    blobs: BTreeMap<Vec<Image>, u32>,
    stubs: u32,
    relocatable: u32,
    images: u64,
    looked_into: u64,
}

impl Found {
    /// What was found, in a file of that form.
    pub(crate) fn into_inspection(self, form: Form) -> Inspection {
        let blobs = self.blobs.into_iter().map(|(images, count)| Blob { images, count }).collect();
        Inspection { form, blobs, stubs: self.stubs, relocatable: self.relocatable }
    }

    /// An ELF file: a cubin, or a host's file with containers in it.
    pub(crate) fn elf(&mut self, file: Part<'_>) -> Result<Form, InspectError> {
        let elf = Elf::read(&Headers::of(file))?;
        let relocatable = elf.kind == object::elf::ET_REL;
        if elf.is_cubin() {
            if relocatable {
                self.relocatable += 1;
            } else {
                let image =
                    Image { code: Code::Cubin, target: cubin::target(&elf, file)?, compression: Compression::None };
                self.add(vec![image]);
            }
            return Ok(Form::Cubin);
        }
        for section in &elf.sections {
            let damaged = InspectError::Damaged { what: "table of sections" };
            let part = file.part(section.offset, section.size).ok_or(damaged)?;
            match section.role {
                Role::Linked => self.containers(part)?,
                Role::Relocatable => self.relocatable_containers(part)?,
                Role::Code | Role::Compat | Role::Toolkit => {}
            }
        }
        Ok(if relocatable { Form::Object } else { Form::Linked })
    }

    /// A text, which may be PTX.
    pub(crate) fn text(&mut self, file: Part<'_>) -> Result<Form, InspectError> {
        let preamble = file.part(0, file.length().min(ptx::MAX_PREAMBLE));
        let preamble = preamble.map(|preamble| preamble.bytes(ptx::MAX_PREAMBLE)).transpose()?.flatten();
        let Some(image) = preamble.and_then(|preamble| ptx::image(&preamble)) else { return Ok(Form::Other) };
        self.add(vec![image]);
        Ok(Form::Ptx)
    }

    /// Containers that the driver is given.
    pub(crate) fn containers(&mut self, section: Part<'_>) -> Result<(), InspectError> {
        let mut containers = Containers::of(section);
        while let Some(container) = containers.next()? {
            self.count(1)?;
            self.container(container)?;
        }
        Ok(())
    }

    fn relocatable_containers(&mut self, section: Part<'_>) -> Result<(), InspectError> {
        let mut containers = Containers::of(section);
        while containers.next()?.is_some() {
            self.count(1)?;
            self.relocatable += 1;
        }
        Ok(())
    }

    /// A container is a stub if nothing in it can be run. Linkers leave such ones behind when nothing was left to be linked, and
    /// compilers for sources without GPU code. The linker's own mark (version 2 of the record that points to a container) does not
    /// tell: it is also on the real code of programs that were linked for the GPU.
    fn container(&mut self, container: Part<'_>) -> Result<(), InspectError> {
        let mut entries = Entries::of(container);
        let mut images = Vec::new();
        let mut runs = false;
        while let Some(entry) = entries.next()? {
            self.count(entry.images.len() as u64)?;
            runs = runs || !self.is_empty(&entry)?;
            images.extend(entry.images);
        }
        if runs {
            self.add(images);
        } else {
            self.stubs += 1;
        }
        Ok(())
    }

    fn is_empty(&mut self, entry: &Entry<'_>) -> Result<bool, InspectError> {
        let [image] = entry.images[..] else { return Ok(false) };
        let is_empty = match image.code {
            Code::Cubin => cubin::is_empty,
            Code::Ptx { .. } => ptx::is_empty,
            Code::LtoIr | Code::Other { .. } => return Ok(false),
        };
        if entry.size > MAX_STUB {
            return Ok(false);
        }
        let Some(packed) = entry.packed.bytes(MAX_STUB)? else { return Ok(false) };
        self.looked_into += entry.size;
        if self.looked_into > MAX_LOOKED_INTO {
            return Err(InspectError::TooMuch { what: "bytes of small images", limit: MAX_LOOKED_INTO });
        }
        let bytes = usize::try_from(entry.size).ok().and_then(|size| inflate(&packed, image.compression, size));
        Ok(bytes.is_some_and(|bytes| is_empty(&bytes)))
    }

    fn add(&mut self, mut images: Vec<Image>) {
        // most have one to four, and there can be many
        images.shrink_to_fit();
        *self.blobs.entry(images).or_default() += 1;
    }

    /// Every count of this file is below the limit, so none overflows.
    fn count(&mut self, more: u64) -> Result<(), InspectError> {
        self.images += more;
        let limit = MAX_IMAGES;
        if self.images > limit { Err(InspectError::TooMuch { what: "images of GPU code", limit }) } else { Ok(()) }
    }
}
