//! The containers ("fatbins") in which CUDA compilers put the GPU code of one translation unit, once for each card and form. The
//! layout is not documented by its maker; it was read off the files of compilers from CUDA 12.1 to 13.5.

use super::target::{Code, Compression, Features, Image, PtxVersion, Target};
use super::{InspectError, source::Part};

/// The first four bytes of every container.
pub(crate) const MAGIC: u32 = 0xba55_ed50;
/// Bytes of a container's header: magic, version, its own length, and the length of what follows.
pub(crate) const HEADER: usize = 16;
/// Bytes of an image's header, without extensions.
pub(crate) const ENTRY: usize = 64;
/// The most padding between containers, in bytes: a page.
pub(crate) const MAX_PADDING: u64 = 4 << 10;
/// The longest header of an image, in bytes. Only that of several images packed as one grows, by 64 bytes for each.
pub(crate) const MAX_ENTRY_HEADER: u64 = 64 << 10;

/// Containers begin at multiples of this.
const ALIGNMENT: u64 = 8;

const PTX: u16 = 1;
const CUBIN: u16 = 2;
const LTO_IR: u16 = 8;
/// Several images, joined and then packed (`nvcc --concat`); an extension of the header describes each.
const JOINED: u16 = 0x100;

const FLAG_LZ4: u64 = 0x2000;
const FLAG_ZSTD: u64 = 0x8000;
const FLAG_ARCHITECTURE: u64 = 0x10_0000;
const FLAG_FAMILY: u64 = 0x20_0000;

fn damaged(what: &'static str) -> InspectError {
    InspectError::Damaged { what }
}

/// Little-endian numbers at fixed places of a header.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&self, offset: usize) -> Result<[u8; N], InspectError> {
        let bytes = self.0.get(offset..).and_then(|rest| rest.first_chunk().copied());
        bytes.ok_or(damaged("header of an image"))
    }

    fn u16(&self, offset: usize) -> Result<u16, InspectError> {
        self.array(offset).map(u16::from_le_bytes)
    }

    fn u32(&self, offset: usize) -> Result<u32, InspectError> {
        self.array(offset).map(u32::from_le_bytes)
    }

    fn u64(&self, offset: usize) -> Result<u64, InspectError> {
        self.array(offset).map(u64::from_le_bytes)
    }

    /// The image that the 64 bytes of a header describe.
    fn image(&self) -> Result<Image, InspectError> {
        let flags = self.u64(0x28)?;
        let code = match self.u16(0)? {
            CUBIN => Code::Cubin,
            PTX => Code::Ptx { isa: PtxVersion { major: self.u16(0x1a)?, minor: self.u16(0x18)? } },
            LTO_IR => Code::LtoIr,
            number => Code::Other { number },
        };
        let features = if flags & FLAG_ARCHITECTURE != 0 {
            Features::Architecture
        } else if flags & FLAG_FAMILY != 0 {
            Features::Family
        } else {
            Features::Baseline
        };
        let compression = if flags & FLAG_ZSTD != 0 {
            Compression::Zstd
        } else if flags & FLAG_LZ4 != 0 {
            Compression::Lz4
        } else {
            Compression::None
        };
        let sm = self.u32(0x1c)?.try_into().map_err(|_| damaged("target of an image"))?;
        Ok(Image { code, target: Target { sm, features }, compression })
    }
}

/// The containers of a section, one after the other.
pub(crate) struct Containers<'a> {
    section: Part<'a>,
    offset: u64,
}

impl<'a> Containers<'a> {
    /// Those of `section`.
    pub(crate) fn of(section: Part<'a>) -> Self {
        Self { section, offset: 0 }
    }

    /// What the next one holds.
    pub(crate) fn next(&mut self) -> Result<Option<Part<'a>>, InspectError> {
        let Some(header) = self.header()? else { return Ok(None) };
        let fields = Fields(&header);
        let length = u64::from(fields.u16(6)?);
        let size = fields.u64(8)?;
        if fields.u32(0)? != MAGIC || length < HEADER as u64 {
            return Err(damaged("section of GPU code"));
        }
        let start = self.offset.saturating_add(length);
        let body = self.section.part(start, size).ok_or(damaged("container of GPU code"))?;
        // both lie within the section, which lies within a file
        self.offset = (start + size).next_multiple_of(ALIGNMENT);
        Ok(Some(body))
    }

    /// The next header, behind any padding.
    fn header(&mut self) -> Result<Option<[u8; HEADER]>, InspectError> {
        match self.section.array::<HEADER>(self.offset)? {
            Some(header) if header.starts_with(&[0; 4]) => self.skip_padding()?,
            header => return Ok(header),
        }
        self.section.array(self.offset)
    }

    fn skip_padding(&mut self) -> Result<(), InspectError> {
        let left = self.section.length().saturating_sub(self.offset);
        let padding = self.section.part(self.offset, left.min(MAX_PADDING));
        let bytes = padding.map(|padding| padding.bytes(MAX_PADDING)).transpose()?.flatten().unwrap_or_default();
        let zeros = match bytes.iter().position(|byte| *byte != 0) {
            // the magic has no zero in it, so it begins where the zeros end
            Some(zeros) => zeros as u64,
            None if left <= MAX_PADDING => left,
            None => return Err(damaged("section of GPU code")),
        };
        self.offset += zeros;
        Ok(())
    }
}

/// One image of a container, or several that were packed together.
pub(crate) struct Entry<'a> {
    /// What it is; of several, what each is.
    pub(crate) images: Vec<Image>,
    /// Its bytes as they are kept, without padding.
    pub(crate) packed: Part<'a>,
    /// How many they are, unpacked.
    pub(crate) size: u64,
}

/// The entries of a container, one after the other.
pub(crate) struct Entries<'a> {
    container: Part<'a>,
    offset: u64,
}

impl<'a> Entries<'a> {
    /// Those of `container`.
    pub(crate) fn of(container: Part<'a>) -> Self {
        Self { container, offset: 0 }
    }

    /// The next one.
    pub(crate) fn next(&mut self) -> Result<Option<Entry<'a>>, InspectError> {
        if self.offset >= self.container.length() {
            return Ok(None);
        }
        let header = self.container.array::<ENTRY>(self.offset)?.ok_or(damaged("header of an image"))?;
        let fields = Fields(&header);
        let length = u64::from(fields.u32(4)?);
        let padded = fields.u64(8)?;
        let header = self.container.part(self.offset, length).filter(|_| length >= ENTRY as u64);
        let header = header.ok_or(damaged("header of an image"))?;
        // within the container, as the header is
        let start = self.offset + length;
        let payload = self.container.part(start, padded).ok_or(damaged("image of GPU code"))?;
        self.offset = start + padded;

        let image = fields.image()?;
        let images = match image.code {
            Code::Other { number: JOINED } => joined(header, u64::from(fields.u32(0x14)?), image.compression)?,
            _ => vec![image],
        };
        let (stored, size) = match image.compression {
            Compression::None => (padded, padded),
            _ => (u64::from(fields.u32(0x10)?), fields.u64(0x38)?),
        };
        let packed = payload.part(0, stored).ok_or(damaged("image of GPU code"))?;
        Ok(Some(Entry { images, packed, size }))
    }
}

/// The images that were packed as one: a count, the length of the whole, and a header of 64 bytes for each.
fn joined(header: Part<'_>, extension: u64, compression: Compression) -> Result<Vec<Image>, InspectError> {
    const WHAT: &str = "list of joined images";
    let length = header.length().checked_sub(extension).ok_or(damaged(WHAT))?;
    let list = header.part(extension, length).ok_or(damaged(WHAT))?;
    let limit = MAX_ENTRY_HEADER;
    let list = list.bytes(limit)?.ok_or(InspectError::TooMuch { what: "bytes of one image's header", limit })?;
    let count = Fields(&list).u32(0)?.try_into().map_err(|_| damaged(WHAT))?;
    let (headers, _) = list.get(8..).unwrap_or_default().as_chunks::<ENTRY>();
    let headers = headers.get(..count).filter(|headers| !headers.is_empty()).ok_or(damaged(WHAT))?;
    headers.iter().map(|header| Ok(Image { compression, ..Fields(header).image()? })).collect()
}
