//! The disk: reading and writing past the page cache, so that memory is not taken for a disk.

use super::{MeasureError, rate};
use crate::challenge::fill_words;
use rustix::fs::{FsWord, OFlags, fstatfs};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
    process, thread,
    time::{Duration, Instant},
};

/// The largest file that is written.
const MAX_DISK_BYTES: u64 = 1 << 30;

/// Bytes of one sequential transfer, and of one random one.
const BLOCK: usize = 1 << 20;
const PAGE: usize = 4 << 10;

/// File systems in memory, tmpfs and ramfs by their numbers; since Linux 6.6 they do as if they could be read past the cache.
const IN_MEMORY: [FsWord; 2] = [0x0102_1994, 0x8584_58f6];

/// Random reads under way at once: enough for a drive to show what it can do, and what a loader of training data has.
const READERS: u64 = 16;

/// What a disk manages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFigures {
    /// Bytes written one mebibyte after the other, and on the disk at the end.
    pub sequential_written_bytes_per_second: u64,
    /// The same bytes read.
    pub sequential_read_bytes_per_second: u64,
    /// Reads of 4 KiB at random places of them, sixteen at once.
    pub random_reads_per_second: u64,
}

/// Measures the disk under a folder, with a file that has no name any more when it is written to.
pub fn disk(folder: &Path, time: Duration) -> Result<DiskFigures, MeasureError> {
    measured(folder, time).map_err(|source| MeasureError::Disk { folder: folder.to_owned(), source })
}

fn measured(folder: &Path, time: Duration) -> io::Result<DiskFigures> {
    let file = nameless(folder)?;
    let mut block = Aligned::new(BLOCK);
    // zeros would be no work for a disk that packs what it is given
    fill_words([1, 2, 3, 4], 0, block.words());
    let (mut bytes, started) = (0, Instant::now());
    while bytes < MAX_DISK_BYTES && (started.elapsed() < time || bytes == 0) {
        file.write_all_at(block.bytes(), bytes)?;
        bytes += BLOCK as u64;
    }
    file.sync_data()?;
    let sequential_written_bytes_per_second = rate(bytes, started.elapsed());
    let (mut read, started) = (0, Instant::now());
    while read < bytes && (started.elapsed() < time || read == 0) {
        file.read_exact_at(block.bytes(), read)?;
        read += BLOCK as u64;
    }
    let sequential_read_bytes_per_second = rate(read, started.elapsed());
    let random_reads_per_second = random_reads(&file, bytes / PAGE as u64, time)?;
    Ok(DiskFigures { sequential_written_bytes_per_second, sequential_read_bytes_per_second, random_reads_per_second })
}

fn nameless(folder: &Path) -> io::Result<File> {
    let path = folder.join(format!(".gpulease-measurement-{}", process::id()));
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(OFlags::DIRECT.bits() as i32)
        .open(&path);
    // some file systems make the file and then refuse to read past the cache
    match &file {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        _ => drop(fs::remove_file(path)),
    }
    let file = file?;
    if IN_MEMORY.contains(&fstatfs(&file)?.f_type) {
        return Err(io::Error::other("it is in memory"));
    }
    Ok(file)
}

fn random_reads(file: &File, pages: u64, time: Duration) -> io::Result<u64> {
    let read = &|reader: u64| {
        let (mut page, mut place) = (Aligned::new(PAGE), [0]);
        let (mut reads, started) = (0, Instant::now());
        while started.elapsed() < time || reads == 0 {
            fill_words([5, 6, 7, reader as u32], reads as u32, &mut place);
            file.read_exact_at(page.bytes(), u64::from(place[0]) % pages * PAGE as u64)?;
            reads += 1;
        }
        Ok(rate(reads, started.elapsed()))
    };
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|reader| scope.spawn(move || read(reader))).collect();
        let gone = |_| io::Error::other("a reader ended early");
        readers.into_iter().map(|reader| reader.join().map_err(gone)?).sum()
    })
}

/// Bytes that begin at a page, as transfers past the cache demand.
struct Aligned {
    pages: Vec<Page>,
}

#[derive(Clone)]
#[repr(C, align(4096))]
struct Page([u32; PAGE / 4]);

impl Aligned {
    fn new(bytes: usize) -> Self {
        Self { pages: vec![Page([0; PAGE / 4]); bytes / PAGE] }
    }

    fn words(&mut self) -> &mut [u32] {
        // SAFETY: a page is nothing but its words, and pages follow each other without gaps.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_mut_ptr().cast(), self.pages.len() * PAGE / 4) }
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: as above; any bytes are words, and words bytes.
        unsafe { std::slice::from_raw_parts_mut(self.pages.as_mut_ptr().cast(), self.pages.len() * PAGE) }
    }
}
