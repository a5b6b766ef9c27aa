//! Files out of a sandbox: what was there arrives as it was, and a hostile tree costs nothing but its own transfer.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};
use std::sync::Arc;

use sandbox::{ByteReader, Error, JobState, ProcessSpec, Sandbox, SandboxSpec};
use tar::{Builder, EntryType, Header};
use tokio::io::AsyncReadExt;

use crate::support::{Bench, exec, on_every_backend, read_until, run, small, tar_of, untar, until, within};

/// All that a tar stream says of an entry.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    kind: EntryType,
    mode: u32,
    modified: u64,
    link: Option<String>,
    content: Vec<u8>,
}

async fn entries(mut stream: ByteReader) -> BTreeMap<String, Entry> {
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.unwrap();
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().trim_end_matches('/').to_string();
        let link = entry.link_name().unwrap().map(|target| target.to_str().unwrap().to_string());
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        let (kind, mode, modified) = (header.entry_type(), header.mode().unwrap(), header.mtime().unwrap());
        assert!(found.insert(path.clone(), Entry { kind, mode, modified, link, content }).is_none(), "{path} twice");
    }
    found
}

fn header(kind: EntryType, mode: u32, modified: u64, size: usize) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(modified);
    header.set_size(size as u64);
    header
}

/// A tree with everything that a tree may have.
fn tree() -> Vec<u8> {
    let content: Vec<u8> = (0..300_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut tar = Builder::new(Vec::new());
    for (path, mode, modified, content) in [
        ("large.bin", 0o640, 1_000_000_001, content.as_slice()),
        ("deep/er/tool", 0o755, 1_000_000_002, b"#!/bin/sh\n"),
        ("deep/secret", 0o400, 1, b"s"),
        ("deep/empty", 0o666, 1_700_000_000, b""),
        ("a name with spaces and ä", 0o644, 5, b"x"),
        (&format!("{}long", "directory-with-a-long-name/".repeat(8)), 0o644, 6, b"y"),
    ] {
        tar.append_data(&mut header(EntryType::Regular, mode, modified, content.len()), path, content).unwrap();
    }
    for (path, target) in [
        ("deep/link", "er/tool"),
        ("absolute", "/etc/passwd"),
        ("dangling", "nowhere"),
        ("self", "self"),
        ("up", ".."),
        ("far", &"x/".repeat(100)),
    ] {
        tar.append_link(&mut header(EntryType::Symlink, 0o777, 7, 0), path, target).unwrap();
    }
    // Before and after what it holds: its own time stays.
    for (path, mode, modified) in
        [("no files", 0o700, 8), ("deep", 0o750, 9), ("first/", 0o711, 10), ("first/second", 0o555, 11)]
    {
        tar.append_data(&mut header(EntryType::Directory, mode, modified, 0), path, std::io::empty()).unwrap();
    }
    tar.append_data(&mut header(EntryType::Regular, 0o644, 12, 1), "first/second/below", &b"z"[..]).unwrap();
    tar.into_inner().unwrap()
}

async fn a_tree_comes_out_as_it_went_in_with_permissions_times_and_links(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let sent = tree();
    sandbox.put("/data/tree", Box::new(Cursor::new(sent.clone()))).await.unwrap();
    let sent = entries(Box::new(Cursor::new(sent))).await;
    let mut got = entries(sandbox.get("/data/tree").await.unwrap()).await;
    for (path, entry) in &sent {
        let found = got.remove(path).unwrap_or_else(|| panic!("{path} is missing"));
        match entry.kind {
            EntryType::Symlink => assert_eq!((found.kind, &found.link), (entry.kind, &entry.link), "{path}"),
            _ => assert!(found == *entry, "{path}: mode {:o}, time {}", found.mode, found.modified),
        }
    }
    let directories: Vec<&String> = got.keys().collect();
    assert_eq!(directories.len(), 9, "{directories:?}");
    assert!(got.values().all(|entry| entry.kind == EntryType::Directory), "{directories:?}");
    sandbox.destroy().await.unwrap();
}

async fn one_file_comes_under_its_name_also_by_a_link_and_what_is_none_is_refused(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    sandbox.put("/job", tar_of(&[("dir/model.bin", b"weights", 0o600)])).await.unwrap();
    exec(&sandbox, &["sh", "-c", "ln -s dir/model.bin latest; ln -s dir here; mkfifo pipe; ln -s a b; ln -s b a"])
        .await;
    for path in ["/job/dir/model.bin", "/job/latest", "/job/here/model.bin", "/job/here/../dir/model.bin"] {
        let files = untar(sandbox.get(path).await.unwrap()).await;
        assert_eq!(
            files.into_iter().collect::<Vec<_>>(),
            [("model.bin".into(), (b"weights".to_vec(), 0o600))],
            "{path}"
        );
    }
    assert_eq!(untar(sandbox.get("/job/here").await.unwrap()).await["model.bin"].0, b"weights");
    for (path, why) in [
        ("/job/pipe", "neither a file nor a directory"),
        ("/dev/zero", "neither a file nor a directory"),
        ("/job/nowhere", "No such file"),
        ("/job/a", "symbolic links"),
        ("job", "not an absolute path"),
    ] {
        let error = within(sandbox.get(path)).await.err().unwrap();
        assert!(matches!(error, Error::Refused(_)) && error.to_string().contains(why), "{path}: {error}");
    }
    sandbox.destroy().await.unwrap();
}

async fn no_path_leads_out_of_the_sandbox(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    exec(&sandbox, &["sh", "-c", "ln -s /etc/passwd passwd; ln -s / up; ln -s /proc/1/root agent"]).await;
    let inside = exec(&sandbox, &["cat", "/etc/passwd"]).await.stdout.into_bytes();
    assert_ne!(inside, std::fs::read("/etc/passwd").unwrap());
    for path in ["/job/passwd", "/job/up/etc/passwd", "/../../../etc/passwd", "/proc/self/root/etc/passwd"] {
        assert_eq!(untar(sandbox.get(path).await.unwrap()).await["passwd"].0, inside, "{path}");
    }
    // The state directory, and what the agent itself has open or in memory.
    let state = bench.state.path().join(sandbox.id().as_str()).join("record.json");
    let mut paths: Vec<String> = (0..20).map(|number| format!("/proc/self/fd/{number}")).collect();
    paths.extend([state.to_str().unwrap(), "/etc/shadow", "/proc/kcore", "/proc/1/mem"].map(String::from));
    for path in paths {
        let Ok(mut stream) = sandbox.get(&path).await else { continue };
        let mut got = Vec::new();
        let whole = within(stream.read_to_end(&mut got)).await;
        assert!(
            whole.is_err() || untar(Box::new(Cursor::new(got))).await.values().all(|(content, _)| content.is_empty()),
            "{path}"
        );
    }
    sandbox.destroy().await.unwrap();
}

async fn pipes_sockets_and_loops_hold_nothing_up_and_too_deep_a_tree_is_an_error(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let script = "mkdir /job/t; cd /job/t; mkfifo pipe; ln -s loop loop; ln -s . here; ln -s /dev/zero zero; echo x > file; \
                  mkdir ../deep; cd ../deep; for i in $(seq 200); do mkdir d; cd d; done; echo made";
    assert_eq!(exec(&sandbox, &["sh", "-c", script]).await.stdout, "made\n");
    let got = entries(sandbox.get("/job/t").await.unwrap()).await;
    let kinds: Vec<(&str, EntryType)> = got.iter().map(|(path, entry)| (path.as_str(), entry.kind)).collect();
    let link = EntryType::Symlink;
    assert_eq!(kinds, [("file", EntryType::Regular), ("here", link), ("loop", link), ("zero", link)]);
    let mut deep = sandbox.get("/job/deep").await.unwrap();
    let error = within(deep.read_to_end(&mut Vec::new())).await.unwrap_err();
    assert!(error.to_string().contains("more than 128 directories deep"), "{error}");
    assert_eq!(exec(&sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    sandbox.destroy().await.unwrap();
}

async fn files_that_grow_shrink_vanish_and_turn_into_links_still_make_a_whole_stream(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let script = "mkdir t; cd t; head -c 1000000 /dev/zero > kept; echo ready; i=0; while :; do i=$((i+1)); \
                  head -c 300000 /dev/zero >> grown; [ $((i % 20)) = 0 ] && : > grown; \
                  mkdir -p d; echo x > d/f; rm -r d; ln -sfn /etc d; rm d; done";
    let mut churn = sandbox.exec(ProcessSpec::new(["sh", "-c", script])).await.unwrap();
    read_until(&mut churn.stdout, "ready\n").await;
    for _ in 0..30 {
        let got = entries(sandbox.get("/job/t").await.unwrap()).await;
        assert_eq!(got["kept"].content.len(), 1_000_000);
        assert!(!got.keys().any(|path| path.contains("passwd")), "{:?}", got.keys());
    }
    drop(churn);
    sandbox.destroy().await.unwrap();
}

async fn a_transfer_that_nobody_takes_holds_nobody_up_and_the_log_is_its_own(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let outcome = run(&sandbox, "head -c 50000000 /dev/zero > big; echo logged").await;
    assert_eq!(outcome.stdout, "logged\n");
    let left: Vec<ByteReader> =
        within(futures::future::try_join_all((0..8).map(|_| sandbox.get("/job/big")))).await.unwrap();
    assert_eq!(exec(&sandbox, &["echo", "beside"]).await.stdout, "beside\n");
    let whole = untar(sandbox.get_changed("/job").await.unwrap()).await;
    assert_eq!(whole["big"].0.len(), 50_000_000);
    drop(left);
    until("it answers", || async { sandbox.status().await.is_ok() }).await;
    sandbox.destroy().await.unwrap();
}

/// How a job that runs a script on a small disk ends.
async fn ended(sandbox: &Arc<dyn Sandbox>, script: &str) -> JobState {
    run(sandbox, script).await;
    sandbox.status().await.unwrap().job
}

async fn a_job_that_failed_while_its_disk_was_full_says_so_and_others_do_not(bench: Bench) {
    let spec = SandboxSpec { disk_bytes: 32 << 20, ..small() };
    for (script, expected) in [
        ("cat /dev/zero > big", true),
        // As programs do that write piece by piece and give up.
        ("while head -c 100000 /dev/zero >> big 2>/dev/null; do :; done; exit 3", true),
        ("i=0; while : > f$i; do i=$((i+1)); done; exit 3", true),
        ("cat /dev/zero > big; rm big; exit 3", false),
        ("cat /dev/zero > big; exit 0", false),
        ("exit 3", false),
    ] {
        let sandbox = bench.sandbox(&spec).await;
        let state = ended(&sandbox, script).await;
        assert!(matches!(state, JobState::Ended { disk_full, .. } if disk_full == expected), "{script}: {state:?}");
        sandbox.destroy().await.unwrap();
    }
}

on_every_backend! {
    a_tree_comes_out_as_it_went_in_with_permissions_times_and_links,
    one_file_comes_under_its_name_also_by_a_link_and_what_is_none_is_refused,
    no_path_leads_out_of_the_sandbox,
    pipes_sockets_and_loops_hold_nothing_up_and_too_deep_a_tree_is_an_error,
    files_that_grow_shrink_vanish_and_turn_into_links_still_make_a_whole_stream,
    a_transfer_that_nobody_takes_holds_nobody_up_and_the_log_is_its_own,
    a_job_that_failed_while_its_disk_was_full_says_so_and_others_do_not,
}
