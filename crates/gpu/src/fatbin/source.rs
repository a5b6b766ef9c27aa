//! Bytes that can be read at any place, a few at a time. Files are read, not mapped: a mapped one that somebody shortens would kill
//! the program, and what has to be read is only headers.

use super::InspectError;
use object::ReadRef;
use object::read::{ReadCache, ReadCacheOps};
use std::{cell::Cell, fs::File, io, ops::Range, os::unix::fs::FileExt};

/// The most that is read at once, in bytes: section and name tables of the largest real files have a few hundred KiB.
pub(crate) const MAX_READ: u64 = 8 << 20;

/// What the shortest read counts as: so much it costs to remember it.
const LEAST_SPENT: u64 = 64;

/// Where bytes come from.
pub(crate) trait Source {
    /// Fills `buffer` from `offset` on, or fails.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
}

impl Source for File {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        FileExt::read_exact_at(self, buffer, offset)
    }
}

impl Source for &[u8] {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        let found = rest.and_then(|rest| rest.get(..buffer.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        Ok(())
    }
}

/// A stretch of a source: a whole file, a member of an archive, or a section.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    source: &'a dyn Source,
    start: u64,
    length: u64,
}

impl<'a> Part<'a> {
    /// All `length` bytes of a source.
    pub(crate) fn whole(source: &'a dyn Source, length: u64) -> Self {
        Self { source, start: 0, length }
    }

    /// How many bytes it has.
    pub(crate) fn length(self) -> u64 {
        self.length
    }

    /// A stretch of this one, if it lies within.
    pub(crate) fn part(self, offset: u64, length: u64) -> Option<Self> {
        let end = offset.checked_add(length)?;
        (end <= self.length).then_some(Self { source: self.source, start: self.start.checked_add(offset)?, length })
    }

    /// `N` bytes from `offset` on, or nothing where it ends before.
    pub(crate) fn array<const N: usize>(self, offset: u64) -> Result<Option<[u8; N]>, InspectError> {
        let Some(part) = self.part(offset, N as u64) else { return Ok(None) };
        let mut bytes = [0; N];
        self.source.read_exact_at(&mut bytes, part.start)?;
        Ok(Some(bytes))
    }

    /// All bytes of it, if they are no more than `most`.
    pub(crate) fn bytes(self, most: u64) -> Result<Option<Vec<u8>>, InspectError> {
        let Some(length) = usize::try_from(self.length).ok().filter(|_| self.length <= most.min(MAX_READ)) else {
            return Ok(None);
        };
        let mut bytes = vec![0; length];
        self.source.read_exact_at(&mut bytes, self.start)?;
        Ok(Some(bytes))
    }
}

/// A part as a stream, from which `object` reads what it needs.
pub(crate) struct Stream<'a> {
    part: Part<'a>,
    position: u64,
}

impl ReadCacheOps for Stream<'_> {
    fn len(&mut self) -> Result<u64, ()> {
        Ok(self.part.length)
    }

    fn seek(&mut self, position: u64) -> Result<u64, ()> {
        self.position = position;
        Ok(position)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ()> {
        let left = self.part.length.saturating_sub(self.position);
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.read_exact(buffer.get_mut(..count).ok_or(())?)?;
        Ok(count)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ()> {
        let part = self.part.part(self.position, buffer.len() as u64).ok_or(())?;
        part.source.read_exact_at(buffer, part.start).map_err(|_| ())?;
        self.position += buffer.len() as u64;
        Ok(())
    }
}

/// What has been read of a part, and how much more may be. A file says itself how large its tables are, so a damaged or hostile one
/// could ask for any amount.
pub(crate) struct Headers<'a> {
    cache: ReadCache<Stream<'a>>,
    left: Cell<u64>,
}

impl<'a> Headers<'a> {
    /// Nothing read yet.
    pub(crate) fn of(part: Part<'a>) -> Self {
        Self { cache: ReadCache::new(Stream { part, position: 0 }), left: Cell::new(MAX_READ) }
    }

    fn spend(&self, bytes: u64) -> Result<(), ()> {
        self.left.set(self.left.get().checked_sub(bytes.max(LEAST_SPENT)).ok_or(())?);
        Ok(())
    }
}

impl<'h> ReadRef<'h> for &'h Headers<'_> {
    fn len(self) -> Result<u64, ()> {
        (&self.cache).len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'h [u8], ()> {
        self.spend(size)?;
        (&self.cache).read_bytes_at(offset, size)
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'h [u8], ()> {
        let text = (&self.cache).read_bytes_at_until(range, delimiter)?;
        self.spend(text.len() as u64)?;
        Ok(text)
    }
}
