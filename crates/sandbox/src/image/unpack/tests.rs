//! What a stranger's tar may try. Every test has a directory beside the target that must stay as it is.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use tar::Header;

use super::*;
use crate::image::stop::Waiter;

/// Enough for every honest layer here.
const LIMIT: u64 = 64 << 20;

/// A target, and beside it what must not be touched.
struct Bench {
    directory: tempfile::TempDir,
    stop: Stop,
    _waiter: Waiter,
}

impl Bench {
    fn new() -> Bench {
        // In memory: thousands of trees are no work for a disk.
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        fs::create_dir_all(directory.path().join("outside/below")).unwrap();
        fs::write(directory.path().join("outside/victim"), "untouched").unwrap();
        fs::create_dir(directory.path().join("target")).unwrap();
        let (stop, _waiter) = Stop::new();
        Bench { directory, stop, _waiter }
    }

    fn outside(&self) -> String {
        self.directory.path().join("outside").to_str().unwrap().into()
    }

    fn target(&self, path: &str) -> PathBuf {
        self.directory.path().join("target").join(path)
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.target(path)).unwrap()
    }

    fn exists(&self, path: &str) -> bool {
        self.target(path).symlink_metadata().is_ok()
    }

    fn unpack(&self, layers: &[Tar]) -> Result<u64, ImageError> {
        self.unfinished(layers)?.finish()
    }

    fn unfinished(&self, layers: &[Tar]) -> Result<Unpacker, ImageError> {
        let mut unpacker = Unpacker::new(&self.target(""), LIMIT, &self.stop)?;
        for layer in layers {
            unpacker.layer(layer.0.as_slice())?;
        }
        Ok(unpacker)
    }

    /// The layers must be refused, with these words; nothing is outside.
    fn refuses(&self, layers: &[Tar], words: &str) {
        let error = self.unpack(layers).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        self.check_outside();
    }

    fn check_outside(&self) {
        assert_eq!(fs::read_to_string(self.directory.path().join("outside/victim")).unwrap(), "untouched");
        let names = |path: &str| {
            let entries = fs::read_dir(self.directory.path().join(path)).unwrap();
            let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names(""), ["outside", "target"]);
        assert_eq!(names("outside"), ["below", "victim"]);
        assert_eq!(names("outside/below"), [""; 0]);
        let victim = fs::metadata(self.directory.path().join("outside/victim")).unwrap();
        assert_eq!((victim.nlink(), victim.uid(), victim.permissions().mode() & 0o7777), (1, 0, 0o644));
    }
}

type Edit<'a> = Box<dyn FnOnce(&mut Header) + 'a>;

/// A tar that says what no honest packer would.
#[derive(Clone, Default)]
struct Tar(Vec<u8>);

impl Tar {
    fn file(self, name: &str, content: &str) -> Tar {
        self.entry(EntryType::Regular, name, "", content.as_bytes(), |_| {})
    }

    fn directory(self, name: &str) -> Tar {
        self.entry(EntryType::Directory, name, "", b"", |header| header.set_mode(0o755))
    }

    fn symlink(self, name: &str, target: &str) -> Tar {
        self.entry(EntryType::Symlink, name, target, b"", |_| {})
    }

    fn hard_link(self, name: &str, target: &str) -> Tar {
        self.entry(EntryType::Link, name, target, b"", |_| {})
    }

    /// Names that do not fit the header go before it, as GNU tar writes them.
    fn entry(self, kind: EntryType, name: &str, link: &str, content: &[u8], edit: impl FnOnce(&mut Header)) -> Tar {
        self.write(kind, name, link, content, Box::new(edit))
    }

    fn write(mut self, kind: EntryType, name: &str, link: &str, content: &[u8], edit: Edit<'_>) -> Tar {
        for (long, kind) in [(name, EntryType::GNULongName), (link, EntryType::GNULongLink)] {
            if long.len() > 100 {
                self = self.write(kind, "././@LongLink", "", format!("{long}\0").as_bytes(), Box::new(|_| {}));
            }
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        let old = header.as_old_mut();
        for (field, text) in [(&mut old.name, name), (&mut old.linkname, link)] {
            for (to, from) in field.iter_mut().zip(text.bytes()) {
                *to = from;
            }
        }
        edit(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(content);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }
}

fn tar() -> Tar {
    Tar::default()
}

#[test]
fn files_directories_and_links_come_out_as_they_were_packed() {
    let bench = Bench::new();
    let owned = |header: &mut Header| {
        header.set_uid(1000);
        header.set_gid(65_535);
        header.set_mode(0o750);
    };
    let layer = tar()
        .entry(EntryType::XGlobalHeader, "pax_global_header", "", b"17 path=elsewhere", |_| {})
        .directory("./")
        .entry(EntryType::Directory, "./usr/", "", b"", owned)
        .entry(EntryType::Regular, "./usr/file", "", b"content", owned)
        .symlink("usr/link", "../nowhere/at/all")
        .hard_link("usr/same", "./usr/file")
        .file("not/named/before", "x");
    let stored = bench.unpack(&[layer]).unwrap();
    assert!((8 * BLOCK..10 * BLOCK).contains(&stored), "{stored}");
    assert_eq!(bench.read("usr/file"), "content");
    let file = fs::metadata(bench.target("usr/file")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode() & 0o7777, file.mtime()), (1000, 65_535, 0o750, 1_000_000_000));
    assert_eq!(fs::metadata(bench.target("usr")).unwrap().uid(), 1000);
    assert_eq!(fs::read_link(bench.target("usr/link")).unwrap().to_str(), Some("../nowhere/at/all"));
    assert_eq!(fs::metadata(bench.target("usr/same")).unwrap().ino(), file.ino());
    assert_eq!(fs::metadata(bench.target("not/named")).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_path_with_two_dots_is_refused_and_one_from_the_root_lands_in_the_target() {
    for name in ["../outside/victim", "a/../../outside/victim", "..", "/../outside/victim", "a/.."] {
        Bench::new().refuses(&[tar().file(name, "changed")], "`..`");
        Bench::new().refuses(&[tar().file("a", "x").hard_link("b", name)], "`..`");
    }
    let bench = Bench::new();
    let victim = format!("{}/victim", bench.outside());
    bench.unpack(&[tar().file(&victim, "inside")]).unwrap();
    assert_eq!(bench.read(victim.trim_start_matches('/')), "inside");
    bench.check_outside();
}

#[test]
fn a_link_as_a_parent_leads_nowhere_but_inside() {
    let bench = Bench::new();
    for target in [bench.outside(), "../outside".into(), "../../../../../../outside".into(), "/proc/self/cwd".into()] {
        // Inside there is no such directory, and a link in its place is not replaced by one.
        bench.refuses(&[tar().symlink("out", &target).file("out/victim", "changed")], "`out/victim` is refused");
        bench.refuses(&[tar().symlink("out", &target), tar().directory("out/below/made")], "is refused");
    }
    // A link to a directory of the image is followed as a program of the image would follow it.
    let usual = tar().directory("usr/lib").symlink("lib", "/usr/lib").symlink("up", "../../../usr");
    bench.unpack(&[usual, tar().file("lib/one", "1").file("up/lib/two", "2")]).unwrap();
    assert_eq!((bench.read("usr/lib/one"), bench.read("usr/lib/two")), ("1".into(), "2".into()));
    bench.check_outside();
}

#[test]
fn a_file_replaces_a_link_of_its_name_and_is_not_written_through_it() {
    let bench = Bench::new();
    let victim = format!("{}/victim", bench.outside());
    bench
        .unpack(&[tar()
            .symlink("file", &victim)
            .symlink("directory", &bench.outside())
            .file("file", "new")
            .directory("directory")])
        .unwrap();
    assert_eq!(bench.read("file"), "new");
    assert!(bench.target("file").symlink_metadata().unwrap().is_file());
    assert!(bench.target("directory").symlink_metadata().unwrap().is_dir());
    bench.check_outside();
}

#[test]
fn a_hard_link_reaches_no_file_outside_and_no_directory() {
    let bench = Bench::new();
    let outside = bench.outside();
    let victim = format!("{outside}/victim");
    // The path of a hard link begins at the target's root.
    bench.refuses(&[tar().hard_link("mine", &victim)], "No such file");
    bench.refuses(&[tar().symlink("out", &outside).hard_link("mine", "out/victim")], "No such file");
    bench.refuses(&[tar().symlink("out", "../outside").hard_link("mine", "out/victim")], "No such file");
    bench.refuses(&[tar().directory("d").hard_link("mine", "d")], "no file");
    bench.refuses(&[tar().hard_link("mine", "/")], "the root");
    // Of a link it is a second name of the link, not of what the link says.
    bench.unpack(&[tar().symlink("out", &victim).hard_link("mine", "out").file("mine", "new")]).unwrap();
    assert_eq!(bench.read("mine"), "new");
    bench.check_outside();
}

#[test]
fn writing_to_one_name_of_a_file_leaves_its_other_names_alone() {
    let bench = Bench::new();
    let layers = [tar().file("a", "old").hard_link("b", "a").hard_link("a", "a"), tar().file("b", "new")];
    bench.unpack(&layers).unwrap();
    assert_eq!((bench.read("a"), bench.read("b")), ("old".into(), "new".into()));
}

#[test]
fn a_mark_of_removal_removes_nothing_outside() {
    let bench = Bench::new();
    let outside = bench.outside();
    for name in ["out/.wh.victim", "out/.wh..wh..opq", "out/.wh.below"] {
        for target in [outside.as_str(), "../outside", "/proc/self/cwd"] {
            bench.unpack(&[tar().symlink("out", target), tar().file(name, "")]).unwrap();
            bench.check_outside();
        }
    }
    for name in [".wh..", ".wh...", ".wh.", "a/.wh..."] {
        bench.refuses(&[tar().directory("a"), tar().file(name, "")], "a mark of removal without a name");
    }
    // A mark on a link removes the link.
    bench.unpack(&[tar().symlink("out", &outside), tar().file(".wh.out", "")]).unwrap();
    assert!(!bench.exists("out"));
    bench.check_outside();
}

#[test]
fn marks_of_removal_take_away_what_lower_layers_have_and_not_what_their_own_has() {
    let bench = Bench::new();
    let lower =
        tar().file("gone", "x").file("dir/old", "x").file("dir/sub/old", "x").file("kept/a", "x").file("tree/a/b", "x");
    let upper = tar()
        .file(".wh.gone", "")
        .file("dir/before", "new")
        .file("dir/sub/before", "new")
        .file("dir/.wh..wh..opq", "")
        .file("dir/after", "new")
        .file("both", "new")
        .file(".wh.both", "")
        .file(".wh.tree", "")
        .file("kept/.wh..wh.plnk", "")
        .file("nowhere/.wh.x", "");
    bench.unpack(&[lower, upper]).unwrap();
    let paths = ["gone", "dir/old", "dir/sub/old", "tree", "nowhere", "kept/.wh..wh.plnk", "dir/.wh..wh..opq"];
    assert_eq!(paths.map(|path| bench.exists(path)), [false; 7]);
    assert_eq!(["dir/before", "dir/sub/before", "dir/after", "both"].map(|path| bench.read(path)), ["new"; 4]);
    assert_eq!(bench.read("kept/a"), "x");
}

#[test]
fn a_later_layer_may_put_another_kind_of_file_in_a_place() {
    let bench = Bench::new();
    let lower = tar().file("a/deep/file", "x").file("b", "x").symlink("c", "b").directory("d").file("d/kept", "x");
    let upper =
        tar().file("a", "file").directory("b").file("b/in", "x").directory("c").symlink("a2", "a").directory("d");
    bench.unpack(&[lower, upper, tar().directory("a").file("a/again", "x")]).unwrap();
    assert_eq!((bench.read("a/again"), bench.read("b/in"), bench.read("d/kept")), ("x".into(), "x".into(), "x".into()));
    assert!(bench.target("c").symlink_metadata().unwrap().is_dir());
    assert!(!bench.exists("a/deep"));
}

#[test]
fn a_directory_that_is_replaced_while_it_is_the_current_one_gets_no_more_files() {
    let bench = Bench::new();
    let layer = tar().file("a/b/one", "1").symlink("a/b", "/a/c").file("a/c/x", "x").file("a/b/two", "2");
    bench.unpack(&[layer]).unwrap();
    assert_eq!(bench.read("a/c/two"), "2");
    assert!(!bench.exists("a/c/one"));
}

#[test]
fn devices_and_pipes_are_not_made_and_dangerous_bits_and_attributes_are_dropped() {
    let bench = Bench::new();
    let device = |header: &mut Header| {
        header.set_device_major(8).unwrap();
        header.set_device_minor(0).unwrap();
    };
    let mut pax = tar::Builder::new(Vec::new());
    let attributes = [
        ("SCHILY.xattr.security.capability", &b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"[..]),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.note", b"n"),
    ];
    pax.append_pax_extensions(attributes).unwrap();
    let mut pax = pax.into_inner().unwrap();
    pax.truncate(pax.len() - 1024);
    let layer = Tar(pax)
        .file("attributes", "x")
        .entry(EntryType::Block, "disk", "", b"", device)
        .entry(EntryType::Char, "whiteout", "", b"", |_| {})
        .entry(EntryType::Fifo, "pipe", "", b"", |_| {})
        .entry(EntryType::Regular, "root-shell", "", b"x", |header| header.set_mode(0o6755))
        .entry(EntryType::Directory, "shared", "", b"", |header| header.set_mode(0o7777));
    bench.unpack(&[layer]).unwrap();
    assert_eq!(["disk", "whiteout", "pipe"].map(|path| bench.exists(path)), [false; 3]);
    let mode = |path: &str| fs::metadata(bench.target(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("root-shell"), mode("shared")), (0o755, 0o3777));
    let mut names = vec![0; 1024];
    assert_eq!(rustix::fs::listxattr(bench.target("attributes"), &mut names).unwrap(), 0, "{names:?}");
}

#[test]
fn an_owner_that_a_sandbox_cannot_have_is_refused() {
    for owner in [65_536, u64::from(u32::MAX), 1 << 40] {
        let layer = tar().entry(EntryType::Regular, "file", "", b"", |header| header.set_uid(owner));
        Bench::new().refuses(&[layer], "its user is");
        let layer = tar().entry(EntryType::Directory, "file", "", b"", |header| header.set_gid(owner));
        Bench::new().refuses(&[layer], "its group is");
    }
}

#[test]
fn a_sparse_file_is_refused_whoever_packed_it() {
    let sparse = |header: &mut Header| {
        let gnu = header.as_gnu_mut().unwrap();
        gnu.realsize = *b"77777777777\0";
        gnu.sparse[0].offset = *b"77777777777\0";
        gnu.sparse[0].numbytes = *b"00000000000\0";
    };
    Bench::new().refuses(&[tar().entry(EntryType::GNUSparse, "big", "", b"", sparse)], "sparse");
    let mut pax = tar::Builder::new(Vec::new());
    pax.append_pax_extensions([("GNU.sparse.major", &b"1"[..]), ("GNU.sparse.realsize", b"999999999999")]).unwrap();
    let mut pax = pax.into_inner().unwrap();
    pax.truncate(pax.len() - 1024);
    Bench::new().refuses(&[Tar(pax).file("big", "0\n")], "sparse");
}

#[test]
fn what_is_larger_than_allowed_stops_where_the_limit_is() {
    let bench = Bench::new();
    let mut unpacker = Unpacker::new(&bench.target(""), 1 << 20, &bench.stop).unwrap();
    // A terabyte of zeros, as a bomb of a few kilobytes would become.
    let header = tar().entry(EntryType::Regular, "bomb", "", b"", |header| header.set_size(1 << 40));
    let error = unpacker.layer(header.0.chain(io::repeat(0))).unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    assert!(fs::metadata(bench.target("bomb")).unwrap().len() <= 1 << 20);
    // What follows the end of an archive counts too.
    let mut unpacker = Unpacker::new(&bench.target(""), 1 << 20, &bench.stop).unwrap();
    let error = unpacker.layer(io::repeat(0)).unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
}

#[test]
fn more_entries_than_allowed_are_refused() {
    let bench = Bench::new();
    let mut unpacker = Unpacker::new(&bench.target(""), LIMIT, &bench.stop).unwrap();
    unpacker.entries = MAX_ENTRIES - 2;
    unpacker.layer(tar().file("a", "").file("b", "").0.as_slice()).unwrap();
    let error = unpacker.layer(tar().file("c", "").0.as_slice()).unwrap_err();
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
}

#[test]
fn names_that_are_too_long_are_refused_and_not_kept_in_memory() {
    let bench = Bench::new();
    bench.refuses(&[tar().file(&"n".repeat(256), "")], "File name too long");
    bench.refuses(&[tar().symlink("a", &"n".repeat(4097))], "without a target that can be");
    bench.refuses(&[tar().file(&"n/".repeat(2100), "")], "longer than 4096 bytes");
    let endless = tar().entry(EntryType::GNULongName, "x", "", b"", |header| header.set_size(1 << 40));
    let mut unpacker = Unpacker::new(&bench.target(""), LIMIT, &bench.stop).unwrap();
    let error = unpacker.layer(endless.0.chain(io::repeat(b'n'))).unwrap_err();
    assert!(error.to_string().contains("name or attributes are too long"), "{error}");
}

#[test]
fn a_tree_is_only_so_deep_even_through_links() {
    let bench = Bench::new();
    bench.refuses(&[tar().directory(&"d/".repeat(130))], "directories deep");
    let bench = Bench::new();
    let deep = "d/".repeat(100);
    let layer = tar().directory(&deep).symlink("short", deep.trim_end_matches('/'));
    bench.refuses(&[layer.clone().directory(&format!("short/{}", "e/".repeat(40)))], "directories deep");
    bench.refuses(&[layer.file(&format!("short/{}x", "e/".repeat(40)), "")], "directories deep");
}

#[test]
fn nobody_waits_any_more_and_unpacking_ends() {
    let bench = Bench::new();
    let (stop, waiter) = Stop::new();
    let mut unpacker = Unpacker::new(&bench.target(""), LIMIT, &stop).unwrap();
    drop(waiter);
    let error = unpacker.layer(tar().file("a", "x").0.as_slice()).unwrap_err();
    assert!(matches!(error, ImageError::GivenUp(_)), "{error}");
}

#[test]
fn two_thousand_damaged_layers_never_write_outside_the_target() {
    let bench = Bench::new();
    let outside = bench.outside();
    let honest = tar()
        .directory("usr/lib")
        .file("usr/lib/a", "library")
        .symlink("lib", "usr/lib")
        .file("lib/b", "x")
        .hard_link("c", "usr/lib/a")
        .symlink("out", &outside)
        .symlink("up", "../outside")
        .file("usr/.wh.lib", "")
        .file(&format!("far/{}", "n".repeat(120)), "long")
        .symlink("near/up", "../../outside")
        .directory("near/dir");
    // The same pieces again: names and targets that lead out are one changed byte away from many others.
    let pieces: [&[u8]; 9] =
        [b"../", b"/", b"out/victim", b"up/victim", b".wh.", b"\0", b"7777777", b"up/.wh.victim", b"2"];
    bench.unpack(&[honest.clone(), honest.clone()]).unwrap();
    let mut random = numbers(0x5EED);
    let mut whole = 0;
    for _ in 0..2_000 {
        let mut layer = honest.0.clone();
        for _ in 0..1 + random() % 4 {
            let block = 512 * (random() % (layer.len() / 512));
            // Mostly the fields of a header that mean something: name, owner, size, kind, link.
            let at = block + [0, 0, 108, 124, 156, 157, random() % 500][random() % 7];
            let piece = pieces[random() % pieces.len()];
            let end = (at + piece.len()).min(layer.len());
            layer[at..end].copy_from_slice(&piece[..end - at]);
        }
        mend(&mut layer);
        // Other layers below and above, as an image has them.
        if bench.unfinished(&[honest.clone(), Tar(layer), honest.clone()]).is_ok() {
            whole += 1;
        }
        bench.check_outside();
        fs::remove_dir_all(bench.target("")).unwrap();
        fs::create_dir(bench.target("")).unwrap();
    }
    println!("{whole} of 2,000 damaged layers were taken");
    assert!((100..1_900).contains(&whole), "{whole} of 2,000 were taken: they test either nothing or only the parser");
}

/// Makes the checksums of headers right again, so that the damage reaches more than the parser.
fn mend(layer: &mut [u8]) {
    for block in layer.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            let mut header = Header::new_gnu();
            header.as_mut_bytes().copy_from_slice(block);
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
    }
}

/// Numbers that look like chance and are the same every time.
fn numbers(seed: u64) -> impl FnMut() -> usize {
    let mut state = seed;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 16) as usize
    }
}

#[test]
fn a_tree_that_holds_links_out_is_removed_without_following_them() {
    let bench = Bench::new();
    let outside = bench.outside();
    symlink(&outside, bench.target("link")).unwrap();
    bench
        .unpack(&[tar().symlink("d/out", &outside), tar().file("d", "replaces a directory with a link out in it")])
        .unwrap();
    assert!(bench.target("d").is_file());
    bench.check_outside();
}
