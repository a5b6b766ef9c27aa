//! Tar streams from a provider, unpacked on the renter's machine: nothing may be written, linked or changed outside the output folder,
//! and no more than the stream holds may be written inside it.

use crate::choice;
use access::archive::{Contents, unpack_blocking};
use std::{
    cell::OnceCell,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};
use tempfile::TempDir;

/// The file beside the output folder that nothing may touch.
const OUTSIDE: &str = "outside";
const UNTOUCHED: &[u8] = b"as it was";

thread_local! {
    /// A folder with the output folder in it, for all runs of a thread: only what a run made is removed after it.
    static ROOM: OnceCell<TempDir> = const { OnceCell::new() };
}

/// The size of a header and of whatever follows it.
const BLOCK: usize = 512;
/// Where a header has its size and its checksum.
const SIZE: std::ops::Range<usize> = 124..136;
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// The first byte says whether the rest is unpacked as it is, or with good checksums, since no engine guesses those.
pub(crate) fn run(data: &[u8]) {
    match choice(data, 2) {
        Some((0, stream)) => unpacked(stream),
        Some((_, stream)) => unpacked(&with_checksums(stream.to_vec())),
        None => {}
    }
}

/// Puts the right checksum into each header: the first block, and each one behind the content of the one before.
fn with_checksums(mut stream: Vec<u8>) -> Vec<u8> {
    let mut at = 0;
    while let Some(header) = stream.get_mut(at..at + BLOCK) {
        // as the format says: the sum of all bytes, with blanks in place of the sum
        header[CHECKSUM].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        if sum != CHECKSUM.len() as u32 * u32::from(b' ') {
            header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        } else {
            // the empty block that ends an archive has no sum
            header[CHECKSUM].fill(0);
        }
        let digits = String::from_utf8_lossy(&header[SIZE]).trim_matches(['\0', ' ']).to_owned();
        let size = usize::from_str_radix(&digits, 8).unwrap_or(0);
        at = at.saturating_add(BLOCK).saturating_add(size.next_multiple_of(BLOCK));
    }
    stream
}

fn unpacked(data: &[u8]) {
    ROOM.with(|room| {
        let room = room.get_or_init(|| tempfile::tempdir().expect("a folder for temporary files")).path();
        let (outside, inside) = (room.join(OUTSIDE), room.join("in"));
        if !outside.exists() {
            fs::write(&outside, UNTOUCHED).expect("a small file");
        }
        let before = fs::metadata(&outside).expect("it is there");
        let result = unpack_blocking(data, &inside);
        let after = fs::symlink_metadata(&outside).expect("the file outside is gone");
        assert!(after.is_file() && after.ino() == before.ino() && after.nlink() == 1, "the file outside was linked");
        assert_eq!((after.mode(), after.mtime()), (before.mode(), before.mtime()), "the file outside was changed");
        assert_eq!(fs::read(&outside).expect("it is there"), UNTOUCHED);
        assert_eq!(fs::read_dir(room).expect("it is there").count(), 2, "something was made beside the folder");
        let mut found = Contents::default();
        measure(&inside, &mut found, 0);
        assert!(found.bytes <= data.len() as u64, "{} bytes came out of {}", found.bytes, data.len());
        if let Ok(contents) = result {
            assert!(found.files <= contents.files, "{found:?} is more than {contents:?}");
            assert!(contents.bytes <= data.len() as u64, "{contents:?} out of {} bytes", data.len());
        }
        open_up(&inside);
        fs::remove_dir_all(&inside).expect("what was unpacked can be removed");
    });
}

/// Counts files and their bytes, one of several hard links once.
fn measure(folder: &Path, found: &mut Contents, depth: usize) {
    // a path of 4 KiB has fewer parts than this
    assert!(depth < 4_096);
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        let kind = metadata.file_type();
        assert!(kind.is_dir() || kind.is_file() || kind.is_symlink(), "{:?} is a {kind:?}", entry.path());
        assert_eq!(metadata.mode() & 0o7000, 0, "{:?} is set-user-id or the like", entry.path());
        if kind.is_dir() {
            measure(&entry.path(), found, depth + 1);
        } else {
            found.files += 1;
            found.bytes += if kind.is_file() { metadata.len() / metadata.nlink() } else { 0 };
        }
    }
}

/// Makes folders that were unpacked without permissions removable for whoever is not root.
fn open_up(folder: &Path) {
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path());
        }
    }
}
