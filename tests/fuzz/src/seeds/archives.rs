//! Tar streams: an honest one, and one for each way out of the folder, into memory, onto the disk or to privilege that was thought of.

use super::chosen;
use crate::identity::NOW;

/// The inputs of the target `archive`.
pub(super) fn all() -> Vec<Vec<u8>> {
    let header = |kind: tar::EntryType, size: u64| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        header.set_mtime(NOW.seconds());
        header
    };
    let build = |fill: &dyn Fn(&mut tar::Builder<Vec<u8>>) -> std::io::Result<()>| {
        let mut builder = tar::Builder::new(Vec::new());
        fill(&mut builder).expect("into memory");
        builder.into_inner().expect("into memory")
    };
    let plain = build(&|tar| {
        tar.append_data(&mut header(tar::EntryType::Directory, 0), "out/", &b""[..])?;
        tar.append_data(&mut header(tar::EntryType::Regular, 5), "out/result", &b"42.0\n"[..])?;
        tar.append_link(&mut header(tar::EntryType::Symlink, 0), "latest", "out/result")?;
        tar.append_link(&mut header(tar::EntryType::Link, 0), "same", "out/result")
    });
    let climbing = build(&|tar| {
        tar.append_link(&mut header(tar::EntryType::Symlink, 0), "up", "..")?;
        let mut evil = header(tar::EntryType::Regular, 4);
        evil.as_gnu_mut().expect("made as GNU").name[..10].copy_from_slice(b"up/outside");
        evil.set_cksum();
        tar.append(&evil, &b"evil"[..])?;
        let mut evil = header(tar::EntryType::Link, 0);
        evil.as_gnu_mut().expect("made as GNU").name[..4].copy_from_slice(b"link");
        evil.as_gnu_mut().expect("made as GNU").linkname[..10].copy_from_slice(b"../outside");
        evil.set_cksum();
        tar.append(&evil, &b""[..])
    });
    let long = build(&|tar| {
        tar.append_data(&mut header(tar::EntryType::Regular, 1), "d/".repeat(120) + "file", &b"x"[..])?;
        tar.append_pax_extensions([("path", b"by-pax".as_slice()), ("mtime", b"1.5")])?;
        tar.append_data(&mut header(tar::EntryType::Regular, 1), "replaced", &b"x"[..])
    });
    let sparse = build(&|tar| {
        let mut sparse = header(tar::EntryType::GNUSparse, 0);
        sparse.set_path("huge")?;
        let gnu = sparse.as_gnu_mut().expect("made as GNU");
        gnu.set_real_size(1 << 40);
        gnu.sparse[0].set_offset(1 << 40);
        gnu.sparse[0].set_length(0);
        sparse.set_cksum();
        tar.append(&sparse, &b""[..])
    });
    let set_user_id = build(&|tar| {
        let mut header = header(tar::EntryType::Regular, 1);
        header.set_mode(0o6755);
        tar.append_data(&mut header, "tool", &b"x"[..])
    });
    let archives = [plain, climbing, long, sparse, set_user_id];
    (0..2).flat_map(|way| archives.iter().map(move |archive| chosen(way, archive))).collect()
}
