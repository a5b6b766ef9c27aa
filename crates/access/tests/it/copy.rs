//! Copies both ways: everything a folder may hold, broken off and gone on, and never a byte outside.

use crate::support::{content, folder, rental, rental_for, within};
use access::{
    AccessError,
    copy::{Contents, Download, Progress, Upload},
    files::Files,
};
use std::{
    collections::BTreeMap,
    fs::{self, File, FileTimes, Permissions},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

async fn upload(files: &Files, from: &Path, to: &Path) -> Result<Progress, AccessError> {
    Upload::new(files, vec![from.into()], to, true).await?.run(files, &|_| {}).await
}

async fn download(files: &Files, from: &Path, to: &Path) -> Result<Progress, AccessError> {
    Download::new(files, &[from.into()], to.into(), true).await?.run(files, &|_| {}).await
}

/// All that is copied of a file: its kind, permissions, time, and content or text.
type Seen = BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)>;

fn seen(folder: &Path) -> Seen {
    let mut found = Seen::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for path in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            let metadata = path.symlink_metadata().unwrap();
            let content = if metadata.is_symlink() {
                fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
            } else if metadata.is_dir() {
                folders.push(path.clone());
                Vec::new()
            } else {
                fs::read(&path).unwrap()
            };
            let name = path.strip_prefix(folder).unwrap().to_path_buf();
            found.insert(name, (metadata.mode(), metadata.mtime(), metadata.mtime_nsec(), content));
        }
    }
    found
}

fn set(path: &Path, mode: u32, nanoseconds: u64) {
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_nanos(nanoseconds));
    File::open(path).unwrap().set_times(times).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// A folder with everything that a folder may hold.
fn tree(folder: &Path) {
    fs::create_dir_all(folder.join("deep/er/empty")).unwrap();
    fs::write(folder.join("deep/er/tool"), "#!/bin/sh\n").unwrap();
    fs::write(folder.join("deep/nothing"), "").unwrap();
    fs::write(folder.join("edge"), content(2, 65_536)).unwrap();
    fs::write(folder.join("over"), content(3, 65_537)).unwrap();
    fs::write(folder.join("large"), content(4, 20_000_003)).unwrap();
    fs::write(folder.join("ä name with spaces"), "x").unwrap();
    symlink("../over", folder.join("deep/link")).unwrap();
    symlink("/nowhere", folder.join("dangling")).unwrap();
    set(&folder.join("deep/er/tool"), 0o755, 1_000_000_000_000_000_001);
    set(&folder.join("large"), 0o400, 1_234_567_891_234_567_891);
    set(&folder.join("edge"), 0o640, 5);
    set(&folder.join("deep/er/empty"), 0o700, 1_500_000_000_123_456_789);
    set(&folder.join("deep/er"), 0o711, 1_600_000_000_000_000_000);
    set(&folder.join("deep"), 0o750, 1_700_000_000_000_000_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_goes_there_and_comes_back_as_it_was_and_a_second_time_nothing_is_copied() {
    let (files, disk) = (rental(), folder());
    let [here, there, back] = ["here", "there", "back"].map(|name| disk.path().join(name));
    fs::create_dir(&here).unwrap();
    tree(&here);
    let all = Contents { files: 8, bytes: 10 + 65_536 + 65_537 + 20_000_003 + 1 };
    for again in [false, true] {
        let up = Upload::new(&files, vec![here.clone()], &there, true).await;
        // The second time it would be copied below what is there, so it is settled as the first time.
        let up = if again { upload_to(&files, &here, &there).await } else { up.unwrap() };
        let sent = within(up.run(&files, &|_| {})).await.unwrap();
        assert_eq!((sent.found, sent.done), (all, all));
        // Links are made again.
        assert_eq!(sent.kept.files, if again { 6 } else { 0 });
        assert!(seen(&here) == seen(&there), "{:?}", seen(&there).keys());
    }
    let got = within(download(&files, &there, &back)).await.unwrap();
    assert_eq!((got.found, got.done, got.kept.files), (all, all, 0));
    assert!(seen(&here) == seen(&back), "{:?}", seen(&back).keys());
    let down = Download::new(&files, &[there.join("*")], back.clone(), true).await.unwrap();
    let kept = within(down.run(&files, &|_| {})).await.unwrap();
    assert_eq!((kept.done, kept.kept.files), (all, 6));
    assert!(seen(&here) == seen(&back));
}

/// What goes to exactly this name, which is there already.
async fn upload_to(files: &Files, here: &Path, there: &Path) -> Upload {
    let moved = there.with_extension("moved");
    fs::rename(there, &moved).unwrap();
    let settled = Upload::new(files, vec![here.into()], there, true).await.unwrap();
    fs::rename(&moved, there).unwrap();
    settled
}

/// Runs a copy over streams that break after so many bytes, until it is through.
async fn through(mut run: impl AsyncFnMut(&Files) -> Result<Progress, AccessError>, bytes: u64) -> (Progress, u32) {
    for broken in 0..20 {
        match within(run(&rental_for(bytes))).await {
            Ok(progress) => return (progress, broken),
            Err(error) => assert!(error.is_passing(), "{error}"),
        }
    }
    panic!("it never came through");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_breaks_off_goes_on_where_it_was_both_ways() {
    let disk = folder();
    let [here, there, back] = ["here", "there", "back"].map(|name| disk.path().join(name));
    let sent = content(9, 60_000_000);
    fs::write(&here, &sent).unwrap();
    let up = Upload::new(&rental(), vec![here.clone()], &there, false).await.unwrap();
    let (progress, broken) = through(async |files: &Files| up.run(files, &|_| {}).await, 25_000_000).await;
    assert!(broken >= 2, "{broken}");
    assert!(progress.kept.bytes >= 16 << 20, "{progress:?}");
    assert_eq!(progress.done, Contents { files: 1, bytes: 60_000_000 });
    assert!(fs::read(&there).unwrap() == sent);

    let down = Download::new(&rental(), &[there], back.clone(), false).await.unwrap();
    let (progress, broken) = through(async |files: &Files| down.run(files, &|_| {}).await, 25_000_000).await;
    assert!(broken >= 2, "{broken}");
    assert!(progress.kept.bytes >= 16 << 20, "{progress:?}");
    assert!(fs::read(&back).unwrap() == sent);
    assert_eq!(fs::read_dir(disk.path()).unwrap().count(), 3, "no part is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_breaks_off_goes_on_with_what_is_missing() {
    let disk = folder();
    let [here, there] = ["here", "there"].map(|name| disk.path().join(name));
    fs::create_dir(&here).unwrap();
    for number in 0..3_000u64 {
        fs::write(here.join(number.to_string()), content(number, 1_000)).unwrap();
    }
    let up = Upload::new(&rental(), vec![here.clone()], &there, true).await.unwrap();
    let (progress, broken) = through(async |files: &Files| up.run(files, &|_| {}).await, 1_500_000).await;
    assert!(broken >= 1 && progress.kept.files > 500, "{broken} {progress:?}");
    assert!(seen(&here) == seen(&there));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_something_else_is_kept_only_as_far_as_it_agrees() {
    let (files, disk) = (rental(), folder());
    let [here, there, back] = ["here", "there", "back"].map(|name| disk.path().join(name));
    let sent = content(5, 20_000_000);
    fs::write(&here, &sent).unwrap();
    let mut part = sent.clone();
    part[10_000_000] ^= 1;
    part.extend(content(6, 30_000_000));
    fs::write(disk.path().join(".there.gpulease-part"), &part).unwrap();
    let progress = within(upload(&files, &here, &there)).await.unwrap();
    assert_eq!(progress.kept.bytes, 8 << 20);
    assert!(fs::read(&there).unwrap() == sent);
    fs::write(disk.path().join(".back.gpulease-part"), &part).unwrap();
    let progress = within(download(&files, &there, &back)).await.unwrap();
    assert_eq!(progress.kept.bytes, 8 << 20);
    assert!(fs::read(&back).unwrap() == sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_stay_holes_both_ways_and_are_not_sent() {
    let disk = folder();
    let [here, there, back] = ["here", "there", "back"].map(|name| disk.path().join(name));
    let file = File::create(&here).unwrap();
    file.set_len(4 << 30).unwrap();
    let data = content(8, 200_000);
    // In the middle of a block, over the edge of two, and none at the end.
    for place in [5_000_000, (1 << 30) - 100_000, (2 << 30) + 4096] {
        file.write_all_at(&data, place).unwrap();
    }
    let check = |path: &Path| {
        let metadata = fs::metadata(path).unwrap();
        assert_eq!(metadata.len(), 4 << 30);
        assert!(metadata.blocks() * 512 < 4 << 20, "{} bytes", metadata.blocks() * 512);
        let file = File::open(path).unwrap();
        let mut got = vec![0; data.len()];
        for place in [5_000_000, (1 << 30) - 100_000, (2 << 30) + 4096] {
            file.read_exact_at(&mut got, place).unwrap();
            assert!(got == data, "{place}");
        }
    };
    // A stream that carries no more than that proves that the rest is not sent.
    let files = rental_for(4_000_000);
    let up = within(upload(&files, &here, &there)).await.unwrap();
    check(&there);
    let files = rental_for(4_000_000);
    let down = within(download(&files, &there, &back)).await.unwrap();
    check(&back);
    for progress in [up, down] {
        assert_eq!(progress.done, Contents { files: 1, bytes: 4 << 30 });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_where_is_as_with_cp() {
    let (files, disk) = (rental(), folder());
    let [one, two, dir, there] = ["one", "two", "dir", "there"].map(|name| disk.path().join(name));
    fs::write(&one, "1").unwrap();
    fs::write(&two, "2").unwrap();
    fs::create_dir_all(dir.join("below")).unwrap();
    fs::create_dir(&there).unwrap();
    upload(&files, &one, &there).await.unwrap();
    upload(&files, &one, &there.join("renamed")).await.unwrap();
    let both = Upload::new(&files, vec![two.clone(), dir.clone()], &there, true).await.unwrap();
    both.run(&files, &|_| {}).await.unwrap();
    let names: Vec<PathBuf> = seen(&there).into_keys().collect();
    assert_eq!(names, ["dir", "dir/below", "one", "renamed", "two"].map(PathBuf::from));
    for (sources, target, recursive, why) in [
        (vec![one.clone(), two.clone()], disk.path().join("none"), true, "is no directory"),
        (vec![one.clone(), two.clone()], there.join("one"), true, "is no directory"),
        (vec![dir.clone()], there.clone(), false, "-r"),
    ] {
        let error = Upload::new(&files, sources.clone(), &target, recursive).await.unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        let error = Download::new(&files, &sources, target, recursive).await.unwrap_err();
        assert!(error.to_string().contains(why) || error.to_string().contains("is no folder"), "{error}");
    }
    assert!(matches!(upload(&files, &disk.path().join("none"), &there).await, Err(AccessError::Local { .. })));
    assert!(matches!(download(&files, &disk.path().join("none"), &there).await, Err(AccessError::File(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn patterns_in_the_rental_mean_what_they_mean_in_a_shell() {
    let (files, disk) = (rental(), folder());
    let there = disk.path().join("there");
    for name in ["run1/best.pt", "run2/last.pt", "run2/best.pt", "run2/.hidden.pt", "other/best.pt", "run3"] {
        let path = there.join(name);
        if name.contains('/') {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
        }
        fs::write(path, name).unwrap();
    }
    for (number, (pattern, expected)) in [
        ("run*/*.pt", vec!["best.pt", "last.pt"]),
        ("run?/best.pt", vec!["best.pt"]),
        ("run[2-3]/l*", vec!["last.pt"]),
        ("run2/.h*", vec![".hidden.pt"]),
    ]
    .into_iter()
    .enumerate()
    {
        let to = disk.path().join(number.to_string());
        fs::create_dir(&to).unwrap();
        within(download(&files, &there.join(pattern), &to)).await.unwrap();
        let names: Vec<PathBuf> = seen(&to).into_keys().collect();
        assert_eq!(names, expected.iter().map(PathBuf::from).collect::<Vec<_>>(), "{pattern}");
    }
    let error = download(&files, &there.join("*.none"), disk.path()).await.unwrap_err();
    assert!(error.to_string().contains("matches"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_below_the_target_is_never_followed_and_no_program_becomes_another_user() {
    let (files, disk) = (rental(), folder());
    let [there, back, outside] = ["there", "back", "outside"].map(|name| disk.path().join(name));
    for folder in [there.join("sub"), back.clone(), outside.clone()] {
        fs::create_dir_all(folder).unwrap();
    }
    for name in ["sub/small", "small", "large", "suid"] {
        let length = if name == "large" { 1_000_000 } else { 100 };
        fs::write(there.join(name), content(1, length)).unwrap();
    }
    fs::set_permissions(there.join("suid"), Permissions::from_mode(0o6755)).unwrap();
    fs::write(outside.join("kept"), "kept").unwrap();
    // What an earlier copy of a stranger's links may have left.
    for name in ["small", ".small.gpulease-part", ".large.gpulease-part", "large"] {
        symlink(outside.join("kept"), back.join(name)).unwrap();
    }
    let all = Download::new(&files, &[there.join("*")], back.clone(), true).await.unwrap();
    assert!(matches!(within(all.run(&files, &|_| {})).await, Err(AccessError::Local { .. })));
    for name in [".small.gpulease-part", ".large.gpulease-part"] {
        fs::remove_file(back.join(name)).unwrap();
    }
    symlink(&outside, back.join("sub")).unwrap();
    assert!(matches!(within(all.run(&files, &|_| {})).await, Err(AccessError::Local { .. })));
    fs::remove_file(back.join("sub")).unwrap();
    within(all.run(&files, &|_| {})).await.unwrap();
    assert_eq!(
        seen(&outside).into_iter().map(|(name, seen)| (name, seen.3)).collect::<Vec<_>>(),
        [("kept".into(), b"kept".to_vec())]
    );
    assert!(back.join("small").symlink_metadata().unwrap().is_file());
    assert_eq!(fs::metadata(back.join("suid")).unwrap().mode() & 0o7777, 0o755);
}

#[tokio::test(flavor = "multi_thread")]
async fn pipes_and_sockets_are_left_out_and_hold_nothing_up() {
    let (files, disk) = (rental(), folder());
    let [here, there, back] = ["here", "there", "back"].map(|name| disk.path().join(name));
    fs::create_dir(&here).unwrap();
    fs::write(here.join("file"), "x").unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(here.join("socket")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, here.join("pipe"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    let sent = within(upload(&files, &here, &there)).await.unwrap();
    assert_eq!((sent.done.files, sent.left_out), (1, 2));
    let got = within(download(&files, &here, &back)).await.unwrap();
    assert_eq!((got.done.files, got.left_out), (1, 2));
    assert_eq!(seen(&there).len() + seen(&back).len(), 2);
}
