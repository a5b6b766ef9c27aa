//! The few things that matter here of an ELF file, be it a host's program or a cubin: its header, and where the sections with GPU
//! code and its description are.

use super::InspectError;
use object::elf::{EM_CUDA, FileHeader32, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader};
use object::{Endianness, ReadRef};

/// What a section is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Containers that the program gives to the driver.
    Linked,
    /// Containers of code that was still to be linked with other files' when this one was compiled. They never reach the driver.
    Relocatable,
    /// A cubin's machine code.
    Code,
    /// A cubin's record of what it needs.
    Compat,
    /// A cubin's record of how it was made.
    Toolkit,
}

impl Role {
    fn of(name: &[u8], machine: u16) -> Option<Self> {
        match name {
            b".nv_fatbin" => Some(Self::Linked),
            b"__nv_relfatbin" => Some(Self::Relocatable),
            b".nv.compat" => Some(Self::Compat),
            b".note.nv.tkinfo" => Some(Self::Toolkit),
            // host files can have thousands of these, and none of them matters
            name if machine == EM_CUDA && name.windows(5).any(|part| part == b".text") => Some(Self::Code),
            _ => None,
        }
    }
}

/// A section that matters, and where it is in the file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    pub(crate) role: Role,
    pub(crate) offset: u64,
    pub(crate) size: u64,
}

/// An ELF file, read.
#[derive(Debug)]
pub(crate) struct Elf {
    /// Whose machine code it is.
    pub(crate) machine: u16,
    /// Object file, program, or library.
    pub(crate) kind: u16,
    /// What the machine wants to know; a cubin's target.
    pub(crate) flags: u32,
    /// The version of the machine's rules, which says where in `flags` the target is.
    pub(crate) abi_version: u8,
    /// In the order of the file.
    pub(crate) sections: Vec<Section>,
}

impl Elf {
    /// Reads headers and section names.
    pub(crate) fn read<'d, R: ReadRef<'d>>(data: R) -> Result<Self, InspectError> {
        let class = data.read_bytes_at(4, 1).ok().and_then(|class| class.first().copied());
        let elf = match class {
            Some(object::elf::ELFCLASS32) => Self::of::<FileHeader32<Endianness>, R>(data),
            _ => Self::of::<FileHeader64<Endianness>, R>(data),
        };
        elf.map_err(|_| InspectError::Damaged { what: "table of sections" })
    }

    fn of<'d, H: FileHeader<Endian = Endianness>, R: ReadRef<'d>>(data: R) -> object::Result<Self> {
        let header = H::parse(data)?;
        let endian = header.endian()?;
        let machine = header.e_machine(endian);
        let table = header.sections(endian, data)?;
        let mut sections = Vec::new();
        // the first one is there to be skipped
        for section in table.iter().skip(1) {
            let Some((offset, size)) = section.file_range(endian) else { continue };
            let role = Role::of(table.section_name(endian, section)?, machine);
            sections.extend(role.map(|role| Section { role, offset, size }));
        }
        Ok(Self {
            machine,
            kind: header.e_type(endian),
            flags: header.e_flags(endian),
            abi_version: header.e_ident().abi_version,
            sections,
        })
    }

    /// Whether this is GPU code and not a host's program.
    pub(crate) fn is_cubin(&self) -> bool {
        self.machine == EM_CUDA
    }

    /// The first section of a role.
    pub(crate) fn section(&self, role: Role) -> Option<Section> {
        self.sections.iter().find(|section| section.role == role).copied()
    }
}
