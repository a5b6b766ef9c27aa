//! Files of our own making: the least that has the shape of one a compiler makes, so that every number in it can be wrong.

/// The magic of a container.
pub(crate) const MAGIC: u32 = 0xba55_ed50;

/// An image: its kind and card, its flags, and its bytes. The size says how many those are when unpacked.
pub(crate) fn entry(kind: u16, sm: u32, flags: u64, size: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64 + payload.len());
    bytes.extend(kind.to_le_bytes());
    bytes.extend(0x0101_u16.to_le_bytes());
    bytes.extend(64_u32.to_le_bytes());
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend((payload.len() as u32).to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    // version 8.0 of whatever it is
    bytes.extend([0, 0, 8, 0]);
    bytes.extend(sm.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(flags.to_le_bytes());
    bytes.extend([0; 8]);
    bytes.extend(size.to_le_bytes());
    bytes.extend(payload);
    bytes
}

/// A container of entries.
pub(crate) fn container(entries: &[Vec<u8>]) -> Vec<u8> {
    let body = entries.concat();
    let mut bytes = Vec::with_capacity(16 + body.len());
    bytes.extend(MAGIC.to_le_bytes());
    bytes.extend([1, 0, 16, 0]);
    bytes.extend((body.len() as u64).to_le_bytes());
    bytes.extend(body);
    bytes
}

/// A library with one section of that name. Its table of sections comes first, so that the section may be of any length.
pub(crate) fn library(name: &str, section: &[u8]) -> Vec<u8> {
    const HEADER: usize = 64;
    let names = format!("\0.shstrtab\0{name}\0");
    let start = (HEADER + 3 * HEADER + names.len()).next_multiple_of(8);
    let row = |name: u32, kind: u32, offset: usize, size: usize| {
        let mut row = [0; HEADER];
        row[..4].copy_from_slice(&name.to_le_bytes());
        row[4..8].copy_from_slice(&kind.to_le_bytes());
        row[24..32].copy_from_slice(&(offset as u64).to_le_bytes());
        row[32..40].copy_from_slice(&(size as u64).to_le_bytes());
        row
    };
    let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
    bytes.resize(16, 0);
    // a library, for x86-64
    bytes.extend([3, 0, 62, 0, 1, 0, 0, 0]);
    bytes.resize(40, 0);
    bytes.extend((HEADER as u64).to_le_bytes());
    bytes.extend([0; 4]);
    // lengths and counts: this header, no segments, three sections of which the second has the names
    bytes.extend([64, 0, 0, 0, 0, 0, 64, 0, 3, 0, 1, 0]);
    bytes.extend(row(0, 0, 0, 0));
    bytes.extend(row(1, 3, 4 * HEADER, names.len()));
    bytes.extend(row(11, 1, start, section.len()));
    bytes.extend(names.as_bytes());
    bytes.resize(start, 0);
    bytes.extend(section);
    bytes
}

/// A library of so many empty sections, each with a name of its own place.
pub(crate) fn many_sections(count: usize) -> Vec<u8> {
    let mut bytes = library(".nv_fatbin", &[]);
    let names = 64 + count * 64;
    // the second section has the names; how many there are stands in the first
    bytes.truncate(3 * 64);
    bytes[60..62].copy_from_slice(&[0, 0]);
    bytes[64 + 32..64 + 40].copy_from_slice(&(count as u64).to_le_bytes());
    bytes[128 + 24..128 + 32].copy_from_slice(&(names as u64).to_le_bytes());
    bytes[128 + 32..128 + 40].copy_from_slice(&(count as u64 * 2).to_le_bytes());
    for number in 2..count {
        let mut row = [0; 64];
        row[..4].copy_from_slice(&(number as u32 * 2).to_le_bytes());
        // contents of a program
        row[4] = 1;
        bytes.extend(row);
    }
    bytes.extend(b"x\0".repeat(count));
    bytes
}
