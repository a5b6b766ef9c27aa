//! Static libraries: every member that is an object file is looked into. A linker would take only some of them, so a library can be
//! found to need more than the program that was made with it.

use super::source::{Headers, Part};
use super::{InspectError, found::Found};
use object::read::archive::ArchiveFile;

/// The most members of an archive; the largest of CUDA's libraries have a few thousand.
pub(crate) const MAX_MEMBERS: u64 = 65_536;

/// The first eight bytes of an archive.
pub(crate) const MAGIC: [u8; 8] = object::archive::MAGIC;
/// The first eight bytes of an archive that only names its members.
pub(crate) const THIN_MAGIC: [u8; 8] = object::archive::THIN_MAGIC;

/// Looks into every member.
pub(crate) fn members(file: Part<'_>, found: &mut Found) -> Result<(), InspectError> {
    let damaged = || InspectError::Damaged { what: "list of members" };
    let headers = Headers::of(file);
    let archive = ArchiveFile::parse(&headers).map_err(|_| damaged())?;
    for (number, member) in (0..).zip(archive.members()) {
        if number == MAX_MEMBERS {
            return Err(InspectError::TooMuch { what: "members", limit: MAX_MEMBERS });
        }
        let (offset, size) = member.map_err(|_| damaged())?.file_range();
        let member = file.part(offset, size).ok_or_else(damaged)?;
        if member.array(0)? == Some(object::elf::ELFMAG) {
            found.elf(member)?;
        }
    }
    Ok(())
}
