//! Cubins: GPU machine code as an ELF file. In a container the target stands outside; of a bare one it has to be found inside, at a
//! place that changed with the compilers.

use super::InspectError;
use super::elf::{Elf, Role};
use super::source::Part;
use super::target::{Features, Target};

/// The most that is read of a record inside a cubin, in bytes; real ones have less than 200.
pub(crate) const MAX_RECORD: u64 = 4 << 10;

/// Since this version of the rules the number stands in the second byte of the flags.
const SECOND_BYTE_ABI: u8 = 8;
/// `a` in the flags, before that version.
const ARCHITECTURE_BEFORE: u32 = 0x800;
/// `a` in the flags since; compilers of CUDA 12.9 set it, those of 13.5 don't.
const ARCHITECTURE_SINCE: u32 = 0x8;
/// The attribute of `.nv.compat` that is 1 for code with an `a`.
const ARCHITECTURE_ATTRIBUTE: u8 = 9;
/// The format of a `.nv.compat` record that has its length behind the attribute; the others are four bytes long.
const SIZED_FORMAT: u8 = 4;

/// What a bare cubin was compiled for.
pub(crate) fn target(elf: &Elf, file: Part<'_>) -> Result<Target, InspectError> {
    let (sm, bit) = if elf.abi_version < SECOND_BYTE_ABI {
        (elf.flags & 0xff, ARCHITECTURE_BEFORE)
    } else {
        (elf.flags >> 8 & 0xff, ARCHITECTURE_SINCE)
    };
    // two bytes at most
    let sm = sm as u16;
    let compat = record(elf, Role::Compat, file)?;
    let toolkit = record(elf, Role::Toolkit, file)?;
    let told = told_architecture(&toolkit).filter(|told| told.sm == sm).map(|told| told.features);
    let features = if elf.flags & bit != 0 || needs_architecture(&compat) {
        Features::Architecture
    } else {
        // the only place that tells `f`
        told.unwrap_or(Features::Baseline)
    };
    Ok(Target { sm, features })
}

/// Whether a cubin has nothing to run.
pub(crate) fn is_empty(bytes: &[u8]) -> bool {
    Elf::read(bytes).is_ok_and(|elf| elf.is_cubin() && elf.section(Role::Code).is_none())
}

fn record(elf: &Elf, role: Role, file: Part<'_>) -> Result<Vec<u8>, InspectError> {
    let Some(section) = elf.section(role) else { return Ok(Vec::new()) };
    let damaged = InspectError::Damaged { what: "description of a cubin" };
    file.part(section.offset, section.size).ok_or(damaged)?.bytes(MAX_RECORD).map(Option::unwrap_or_default)
}

fn needs_architecture(mut compat: &[u8]) -> bool {
    while let Some((&[format, attribute, low, high], rest)) = compat.split_first_chunk() {
        if format != SIZED_FORMAT && attribute == ARCHITECTURE_ATTRIBUTE {
            return low != 0;
        }
        let size = if format == SIZED_FORMAT { usize::from(u16::from_le_bytes([low, high])) } else { 0 };
        compat = rest.get(size..).unwrap_or_default();
    }
    false
}

/// What the compiler was told, from the command line it left: `-arch sm_100f -m 64`.
fn told_architecture(toolkit: &[u8]) -> Option<Target> {
    const OPTION: &[u8] = b"-arch ";
    let at = toolkit.windows(OPTION.len()).position(|found| found == OPTION)?;
    let word = toolkit.get(at + OPTION.len()..)?.split(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').next()?;
    std::str::from_utf8(word).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_cubin_needs_is_found_behind_other_records() {
        let sized = [4, 11, 8, 0, 9, 9, 9, 9, 9, 9, 9, 9];
        let with = |value| [&sized[..], &[2, 12, 0, 0, 2, 9, value, 0, 3, 13, 1, 1]].concat();
        assert!(needs_architecture(&with(1)));
        assert!(!needs_architecture(&with(0)));
        for end in 0..20 {
            assert!(!needs_architecture(&with(1)[..end]), "cut at {end}");
        }
        assert!(!needs_architecture(&[4, 11, 255, 255, 2, 9, 1, 0]));
    }

    #[test]
    fn the_compilers_command_line_names_the_family() {
        assert_eq!(told_architecture(b"ptxas\0-arch sm_100f -m 64 \0"), "sm_100f".parse().ok());
        assert_eq!(told_architecture(b"-arch sm_90"), "sm_90".parse().ok());
        for other in [&b"-arch native"[..], b"-arch ", b"sm_90", b"-arch \xff"] {
            assert_eq!(told_architecture(other), None);
        }
    }
}
