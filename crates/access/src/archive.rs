//! Folders as tar streams. Reading and unpacking block, so each runs on a thread of its own, joined to the asynchronous side by a
//! small pipe.

use crate::AccessError;
use sha2::{Digest, Sha256};
use std::{
    cell::Cell,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};
use tokio::{
    io::{AsyncRead, DuplexStream},
    task::JoinHandle,
};
use tokio_util::io::SyncIoBridge;

/// What a pipe between a thread and the network holds: two data frames, so that neither waits for the other at each.
pub(crate) const PIPE: usize = 2 * wire::MAX_DATA_BYTES;

/// What a folder held, or what was unpacked into one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contents {
    /// Files and links.
    pub files: u64,
    /// Bytes of file content.
    pub bytes: u64,
}

/// A folder being read; see [`pack`].
pub struct Packing {
    /// The tar stream.
    pub stream: DuplexStream,
    /// Ends with what was packed, or with why it could not be.
    pub done: JoinHandle<Result<Contents, AccessError>>,
}

/// How much a folder holds, for a progress bar.
pub async fn measure(folder: PathBuf) -> Result<Contents, AccessError> {
    tokio::task::spawn_blocking(move || {
        let mut contents = Contents::default();
        walk(&folder, &mut |_, metadata| {
            if !metadata.is_dir() {
                contents.files += 1;
                contents.bytes += if metadata.is_file() { metadata.len() } else { 0 };
            }
            Ok(())
        })?;
        Ok(contents)
    })
    .await
    .map_err(|_| AccessError::Interrupted)?
}

/// Reads a folder as a tar stream: its contents, not its name. Links are packed as links; sockets, pipes and devices are left out.
pub fn pack(folder: PathBuf) -> Packing {
    let (stream, writer) = tokio::io::duplex(PIPE);
    let writer = SyncIoBridge::new(writer);
    let done = tokio::task::spawn_blocking(move || {
        let mut builder = tar::Builder::new(writer);
        builder.follow_symlinks(false);
        // holes are sent as zeros: the other side takes plain files only
        builder.sparse(false);
        let mut contents = Contents::default();
        walk(&folder, &mut |path, metadata| {
            let name = path.strip_prefix(&folder).map_err(|error| local(path, io::Error::other(error)))?;
            let kind = metadata.file_type();
            if !(kind.is_dir() || kind.is_file() || kind.is_symlink()) {
                return Ok(());
            }
            builder.append_path_with_name(path, name).map_err(|error| local(path, error))?;
            if !kind.is_dir() {
                contents.files += 1;
                contents.bytes += if kind.is_file() { metadata.len() } else { 0 };
            }
            Ok(())
        })?;
        let mut writer = builder.into_inner().map_err(|error| local(&folder, error))?;
        writer.flush().and_then(|()| writer.shutdown()).map_err(|error| local(&folder, error))?;
        Ok(contents)
    });
    Packing { stream, done }
}

/// Unpacks a tar stream below `folder`, which is made if need be. Nothing is ever written outside it, whatever the stream says.
pub async fn unpack(stream: impl AsyncRead + Unpin + Send + 'static, folder: PathBuf) -> Result<Contents, AccessError> {
    let reader = SyncIoBridge::new(stream);
    tokio::task::spawn_blocking(move || unpack_blocking(reader, &folder)).await.map_err(|_| AccessError::Interrupted)?
}

/// [`unpack`], on the caller's own thread.
pub fn unpack_blocking(stream: impl Read, folder: &Path) -> Result<Contents, AccessError> {
    let failed = |error| local(folder, error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let ration = Cell::new(0);
    let mut archive = tar::Archive::new(Rationed { stream, ration: &ration });
    archive.set_preserve_permissions(false);
    archive.set_preserve_mtime(true);
    let mut contents = Contents::default();
    let mut entries = archive.entries().map_err(failed)?;
    loop {
        ration.set(MAX_DESCRIPTION);
        let Some(entry) = entries.next() else { break };
        let mut entry = entry.map_err(failed)?;
        ration.set(u64::MAX);
        let kind = entry.header().entry_type();
        if kind.is_gnu_sparse() {
            // a few bytes of stream would claim any size on this disk; we send none
            return Err(AccessError::Archive("sparse files are not taken"));
        }
        let wanted = kind.is_dir() || kind.is_file() || kind.is_symlink() || kind.is_hard_link();
        let taken = wanted && entry.unpack_in(folder).map_err(failed)?;
        let size = entry.size();
        // read to its end, so that what lies between two entries is only the description of the second
        io::copy(&mut entry, &mut io::sink()).map_err(failed)?;
        if taken && !kind.is_dir() {
            contents.files += 1;
            contents.bytes += if kind.is_file() { size } else { 0 };
        }
    }
    // what follows the end mark is padding; the sender waits until it is read
    ration.set(u64::MAX);
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(failed)?;
    Ok(contents)
}

/// The bytes that may describe one entry: its header, and extensions with names that the header cannot hold. The tar library keeps
/// those in memory as long as they are; the longest path of Linux is 4 KiB, and two of them may be given in two ways.
const MAX_DESCRIPTION: u64 = 64 * 1024;

/// A stream that gives no more than its ration.
struct Rationed<'a, R> {
    stream: R,
    ration: &'a Cell<u64>,
}

impl<R: Read> Read for Rationed<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ration = self.ration.get();
        if ration == 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an entry's name or attributes are too long"));
        }
        let room = usize::try_from(ration).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.stream.read(&mut buffer[..room])?;
        self.ration.set(ration - read as u64);
        Ok(read)
    }
}

/// SHA-256 of a stream in hex, as receipts show it.
pub fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Counts and hashes what passes.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    hasher: Sha256,
    /// Bytes so far.
    pub(crate) bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, data: &[u8]) {
        self.hasher.update(data);
        self.bytes += data.len() as u64;
    }

    pub(crate) fn finish(self) -> (u64, [u8; 32]) {
        (self.bytes, self.hasher.finalize().into())
    }
}

fn local(path: &Path, source: io::Error) -> AccessError {
    AccessError::Local { path: path.to_path_buf(), source }
}

/// Visits everything below a folder, parents before children and in the order of names, so that equal folders make equal streams.
fn walk(
    folder: &Path,
    visit: &mut impl FnMut(&Path, &std::fs::Metadata) -> Result<(), AccessError>,
) -> Result<(), AccessError> {
    let entries = std::fs::read_dir(folder).map_err(|error| local(folder, error))?;
    let mut paths = entries
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| local(folder, error))?;
    paths.sort_unstable();
    for path in paths {
        let metadata = path.symlink_metadata().map_err(|error| local(&path, error))?;
        visit(&path, &metadata)?;
        if metadata.is_dir() {
            walk(&path, visit)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    #[tokio::test]
    async fn a_folder_comes_out_as_it_went_in() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir_all(from.path().join("a/b")).unwrap();
        std::fs::write(from.path().join("a/b/data"), vec![7u8; 300_000]).unwrap();
        std::fs::write(from.path().join("tool"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(from.path().join("tool"), std::fs::Permissions::from_mode(0o755)).unwrap();
        symlink("a/b/data", from.path().join("link")).unwrap();

        let packing = pack(from.path().to_path_buf());
        let unpacked = unpack(packing.stream, to.path().to_path_buf()).await.unwrap();
        let packed = packing.done.await.unwrap().unwrap();
        assert_eq!(packed, unpacked);
        assert_eq!(packed, measure(from.path().to_path_buf()).await.unwrap());
        assert_eq!(std::fs::read(to.path().join("a/b/data")).unwrap(), vec![7u8; 300_000]);
        assert_eq!(std::fs::metadata(to.path().join("tool")).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(std::fs::read_link(to.path().join("link")).unwrap(), Path::new("a/b/data"));
    }

    #[tokio::test]
    async fn nothing_is_written_outside_the_folder() {
        let outside = tempfile::tempdir().unwrap();
        let inside = outside.path().join("in");
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "up", "..").unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        let name = b"up/evil";
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
        header.set_cksum();
        builder.append(&header, &b"evil"[..]).unwrap();
        let tar = builder.into_inner().unwrap();
        let result = unpack(io::Cursor::new(tar), inside).await;
        assert!(result.is_err(), "{result:?}");
        assert!(!outside.path().join("evil").exists());
    }

    #[tokio::test]
    async fn a_file_with_holes_arrives_as_a_plain_file() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let file = std::fs::File::create(from.path().join("holes")).unwrap();
        file.set_len(1 << 20).unwrap();
        let packing = pack(from.path().to_path_buf());
        let unpacked = unpack(packing.stream, to.path().to_path_buf()).await.unwrap();
        assert_eq!(unpacked, Contents { files: 1, bytes: 1 << 20 });
        assert_eq!(std::fs::metadata(to.path().join("holes")).unwrap().len(), 1 << 20);
    }

    #[test]
    fn a_few_bytes_cannot_claim_a_huge_file() {
        let to = tempfile::tempdir().unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_path("huge").unwrap();
        header.set_entry_type(tar::EntryType::GNUSparse);
        header.set_size(0);
        header.as_gnu_mut().unwrap().set_real_size(1 << 40);
        header.as_gnu_mut().unwrap().sparse[0].set_offset(1 << 40);
        header.as_gnu_mut().unwrap().sparse[0].set_length(0);
        header.set_cksum();
        let result = unpack_blocking(&header.as_bytes()[..], to.path());
        assert!(matches!(result, Err(AccessError::Archive(_))), "{result:?}");
        assert!(!to.path().join("huge").exists());
    }

    #[test]
    fn a_name_without_end_is_not_kept_in_memory() {
        let to = tempfile::tempdir().unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_path("././@LongLink").unwrap();
        header.set_entry_type(tar::EntryType::GNULongName);
        header.set_size(1 << 40);
        header.set_cksum();
        let taken = Cell::new(0);
        let endless = header.as_bytes().chain(io::repeat(b'a').take(1 << 30));
        let result = unpack_blocking(Watched { stream: endless, taken: &taken }, to.path());
        assert!(result.is_err());
        assert!(taken.get() <= MAX_DESCRIPTION, "{} bytes were taken", taken.get());
    }

    #[test]
    fn a_link_that_claims_content_is_counted_as_a_link() {
        let to = tempfile::tempdir().unwrap();
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_path("link").unwrap();
        header.set_link_name("nowhere").unwrap();
        header.set_size(600);
        header.set_cksum();
        builder.append(&header, &[7; 600][..]).unwrap();
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        builder.append_data(&mut header, "after", &b"end"[..]).unwrap();
        let tar = builder.into_inner().unwrap();
        assert_eq!(unpack_blocking(tar.as_slice(), to.path()).unwrap(), Contents { files: 2, bytes: 3 });
        assert_eq!(std::fs::read(to.path().join("after")).unwrap(), b"end");
    }

    /// Counts what is read of a stream.
    struct Watched<'a, R> {
        stream: R,
        taken: &'a Cell<u64>,
    }

    impl<R: Read> Read for Watched<'_, R> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.stream.read(buffer)?;
            self.taken.set(self.taken.get() + read as u64);
            Ok(read)
        }
    }
}
