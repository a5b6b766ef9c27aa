//! Files asked for by number: every operation, what it refuses, and that many requests may be under way.

use std::path::{Path, PathBuf};

use futures::future::try_join_all;
use sandbox::{
    FileAnswer, FileCallError, FileChange, FileClient, FileEntry, FileErrorKind, FileExtent, FileHandle, FileHash,
    FileKind, FileMetadata, FileOperation, FileTime, MAX_HANDLES, MAX_PIECE, OpenMode, Sandbox, SandboxSpec, Target,
};

use crate::support::{Bench, exec, on_every_backend, small, untar, until, within};

const READ: OpenMode = OpenMode {
    read: true,
    write: false,
    append: false,
    create: false,
    truncate: false,
    exclusive: false,
    permissions: 0,
};
const NEW: OpenMode = OpenMode { read: false, write: true, create: true, permissions: 0o666, ..READ };

/// Asks one thing after the other.
struct Asker(FileClient);

impl Asker {
    async fn of(sandbox: &dyn Sandbox) -> Asker {
        let channel = within(sandbox.files()).await.unwrap();
        Asker(FileClient::new(channel.requests, channel.replies))
    }

    async fn ask(&self, operation: FileOperation) -> Result<FileAnswer, FileErrorKind> {
        self.ask_with(operation, Vec::new()).await.map(|(answer, _)| answer)
    }

    async fn ask_with(&self, operation: FileOperation, bytes: Vec<u8>) -> Result<(FileAnswer, Vec<u8>), FileErrorKind> {
        let asked = format!("{operation:?}");
        let answered = within(async { self.0.send(operation, bytes).await?.await }).await;
        answered.map_err(|error| match error {
            FileCallError::Failed(failed) => failed.kind,
            other => panic!("{asked}: {other}"),
        })
    }

    async fn open(&self, path: &str, mode: OpenMode) -> Result<FileHandle, FileErrorKind> {
        let handle = self.0.handle();
        self.ask(FileOperation::Open { handle: handle.number(), path: path.into(), mode }).await?;
        Ok(handle)
    }

    async fn read(&self, handle: &FileHandle, offset: u64, length: u32) -> Result<Vec<u8>, FileErrorKind> {
        let read = FileOperation::Read { handle: handle.number(), offset, length };
        let (answer, bytes) = self.ask_with(read, Vec::new()).await?;
        assert_eq!(answer, FileAnswer::Data);
        Ok(bytes)
    }

    async fn write(&self, handle: &FileHandle, offset: u64, bytes: &[u8]) -> Result<(), FileErrorKind> {
        self.ask_with(FileOperation::Write { handle: handle.number(), offset }, bytes.to_vec()).await.map(|_| ())
    }

    async fn stat(&self, path: &str, follow: bool) -> Result<FileMetadata, FileErrorKind> {
        match self.ask(FileOperation::Stat { target: Target::Path { path: path.into(), follow } }).await? {
            FileAnswer::Metadata(metadata) => Ok(metadata),
            other => panic!("{other:?}"),
        }
    }

    async fn set(&self, path: &str, follow: bool, change: FileChange) -> Result<FileAnswer, FileErrorKind> {
        self.ask(FileOperation::Set { target: Target::Path { path: path.into(), follow }, change }).await
    }

    async fn path(&self, operation: FileOperation) -> Result<PathBuf, FileErrorKind> {
        match self.ask(operation).await? {
            FileAnswer::Path(path) => Ok(path),
            other => panic!("{other:?}"),
        }
    }

    async fn extent(&self, handle: &FileHandle, from: u64) -> Option<FileExtent> {
        match self.ask(FileOperation::Extent { handle: handle.number(), from }).await.unwrap() {
            FileAnswer::Extent(extent) => extent,
            other => panic!("{other:?}"),
        }
    }

    async fn list(&self, path: &str) -> Vec<FileEntry> {
        let handle = self.0.handle();
        self.ask(FileOperation::OpenDirectory { handle: handle.number(), path: path.into() }).await.unwrap();
        let mut all = Vec::new();
        loop {
            match self.ask(FileOperation::List { handle: handle.number() }).await.unwrap() {
                FileAnswer::Entries { entries, last } => {
                    all.extend(entries);
                    if last {
                        all.sort_by(|one, other| one.name.cmp(&other.name));
                        return all;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn store(&self, path: &str, bytes: &[u8], hash: FileHash) -> Result<FileAnswer, FileErrorKind> {
        let modified = Some(FileTime { seconds: 1_000_000_000, nanoseconds: 5 });
        let store = FileOperation::Store { path: path.into(), permissions: 0o640, modified, hash };
        self.ask_with(store, bytes.to_vec()).await.map(|(answer, _)| answer)
    }
}

fn hash_of(bytes: &[u8]) -> FileHash {
    FileHash(blake3::hash(bytes).into())
}

fn path(path: &str) -> PathBuf {
    path.into()
}

async fn a_file_is_made_written_read_hashed_and_cut_at_any_place(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let asker = Asker::of(&*sandbox).await;
    let content: Vec<u8> = (0..200_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let file = asker.open("/job/new", OpenMode { read: true, ..NEW }).await.unwrap();
    // The end first: what is written knows its place.
    for (number, piece) in content.chunks(MAX_PIECE).enumerate().collect::<Vec<_>>().into_iter().rev() {
        asker.write(&file, (number * MAX_PIECE) as u64, piece).await.unwrap();
    }
    assert_eq!(asker.read(&file, 100_000, 50_000).await.unwrap(), content[100_000..150_000]);
    assert_eq!(asker.read(&file, 199_990, 50_000).await.unwrap(), content[199_990..]);
    assert_eq!(asker.read(&file, 200_000, 1).await.unwrap(), b"");
    assert_eq!(asker.read(&file, 0, MAX_PIECE as u32 + 1).await, Err(FileErrorKind::BadRequest));
    let hash = |from, length| asker.ask(FileOperation::Hash { handle: file.number(), from, length });
    let whole = FileAnswer::Hash { hash: hash_of(&content), length: 200_000 };
    assert_eq!(hash(0, 1 << 20).await.unwrap(), whole);
    let part = FileAnswer::Hash { hash: hash_of(&content[70_000..140_001]), length: 70_001 };
    assert_eq!(hash(70_000, 70_001).await.unwrap(), part);
    assert_eq!(hash(0, u64::MAX).await, Err(FileErrorKind::BadRequest));
    asker.ask(FileOperation::Sync { handle: file.number() }).await.unwrap();
    asker.set("/job/new", true, FileChange { size: Some(3), ..FileChange::default() }).await.unwrap();
    let target = Target::Handle(file.number());
    let change = FileChange { size: Some(5), permissions: Some(0o4711), ..FileChange::default() };
    asker.ask(FileOperation::Set { target: target.clone(), change }).await.unwrap();
    let FileAnswer::Metadata(metadata) = asker.ask(FileOperation::Stat { target }).await.unwrap() else { panic!() };
    assert_eq!((metadata.kind, metadata.size, metadata.permissions), (FileKind::File, 5, 0o4711));
    within(file.close()).await.unwrap();
    let seen = exec(&sandbox, &["sh", "-c", "stat -c '%a %s %u' new; od -An -tx1 new | tail -c 7"]).await.stdout;
    assert_eq!(seen, "4711 5 0\n 00 00\n");
    sandbox.destroy().await.unwrap();
}

async fn a_file_is_opened_only_as_was_asked(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let asker = Asker::of(&*sandbox).await;
    exec(&sandbox, &["sh", "-c", "echo old > file; mkdir dir; ln -s file link; ln -s nowhere dangling"]).await;
    let exclusive = OpenMode { exclusive: true, ..NEW };
    for (path, mode, expected) in [
        ("/job/none", READ, FileErrorKind::NotFound),
        ("/job/dir", READ, FileErrorKind::IsADirectory),
        ("/job/dir", NEW, FileErrorKind::IsADirectory),
        ("/job/file/below", READ, FileErrorKind::NotADirectory),
        ("/job/file", exclusive, FileErrorKind::AlreadyExists),
        ("/job/link", exclusive, FileErrorKind::AlreadyExists),
        ("/job/dangling", exclusive, FileErrorKind::AlreadyExists),
        ("/job/file", OpenMode { read: false, ..READ }, FileErrorKind::BadRequest),
        ("job/file", READ, FileErrorKind::BadRequest),
        ("/job/fi\0le", READ, FileErrorKind::BadRequest),
        (&format!("/{}", "x".repeat(5000)), READ, FileErrorKind::BadRequest),
        (&format!("/{}", "x".repeat(300)), READ, FileErrorKind::BadRequest),
    ] {
        assert_eq!(asker.open(path, mode).await.err(), Some(expected), "{path} {mode:?}");
    }
    let appended = asker.open("/job/link", OpenMode { append: true, ..READ }).await.unwrap();
    asker.write(&appended, 0, b"new\n").await.unwrap();
    assert_eq!(asker.read(&appended, 0, 100).await.unwrap(), b"old\nnew\n");
    let read_only = asker.open("/job/file", READ).await.unwrap();
    assert_eq!(asker.write(&read_only, 0, b"x").await, Err(FileErrorKind::BadRequest));
    let write_only = asker.open("/job/file", OpenMode { truncate: true, ..NEW }).await.unwrap();
    assert_eq!(asker.read(&write_only, 0, 1).await, Err(FileErrorKind::BadRequest));
    assert_eq!(asker.stat("/job/file", false).await.unwrap().size, 0);
    let made = asker.open("/job/made", OpenMode { permissions: 0o777, ..exclusive }).await.unwrap();
    assert_eq!(asker.stat("/job/made", false).await.unwrap().permissions, 0o755);
    // A name for a handle is good for one file at a time, and for none after it is closed.
    let again = FileOperation::Open { handle: made.number(), path: path("/job/file"), mode: READ };
    assert_eq!(asker.ask(again).await, Err(FileErrorKind::BadRequest));
    asker.ask(FileOperation::Close { handle: made.number() }).await.unwrap();
    assert_eq!(asker.read(&made, 0, 1).await, Err(FileErrorKind::BadRequest));
    sandbox.destroy().await.unwrap();
}

async fn names_are_made_listed_moved_linked_and_removed(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let asker = Asker::of(&*sandbox).await;
    use FileErrorKind::{AlreadyExists, BadRequest, IsADirectory, NotADirectory, NotEmpty, NotFound};
    let make = |name: &str| FileOperation::MakeDirectory { path: path(name), permissions: 0o777 };
    let remove = |name: &str| FileOperation::Remove { path: path(name) };
    let remove_directory = |name: &str| FileOperation::RemoveDirectory { path: path(name) };
    let rename = |from: &str, to: &str, replace| FileOperation::Rename { from: path(from), to: path(to), replace };
    let link = |from: &str, to: &str| FileOperation::Link { from: path(from), to: path(to) };
    let symlink = |target: &str, name: &str| FileOperation::Symlink { target: path(target), path: path(name) };
    asker.ask(make("/job/d")).await.unwrap();
    asker.store("/job/d/one", b"1", hash_of(b"1")).await.unwrap();
    asker.store("/job/d/two", b"22", hash_of(b"22")).await.unwrap();
    asker.ask(link("/job/d/one", "/job/d/same")).await.unwrap();
    asker.ask(symlink("../elsewhere", "/job/d/link")).await.unwrap();
    let names = |entries: &[FileEntry]| -> Vec<(String, FileKind, u64, u64)> {
        let of = |entry: &FileEntry| {
            let metadata = entry.metadata;
            (entry.name.to_str().unwrap().into(), metadata.kind, metadata.size, metadata.links)
        };
        entries.iter().map(of).collect()
    };
    let listed = names(&asker.list("/job/d").await);
    assert_eq!(
        listed,
        [
            ("link".into(), FileKind::Symlink, 12, 1),
            ("one".into(), FileKind::File, 1, 2),
            ("same".into(), FileKind::File, 1, 2),
            ("two".into(), FileKind::File, 2, 1),
        ]
    );
    assert_eq!(asker.path(FileOperation::ReadLink { path: path("/job/d/link") }).await.unwrap(), path("../elsewhere"));
    for (operation, expected) in [
        (make("/job/d"), AlreadyExists),
        (make("/job/none/below"), NotFound),
        (make("/"), BadRequest),
        (make("/job/.."), BadRequest),
        (remove("/job/d"), IsADirectory),
        (remove("/job/none"), NotFound),
        (remove_directory("/job/d"), NotEmpty),
        (remove_directory("/job/d/one"), NotADirectory),
        (rename("/job/d/one", "/job/d/two", false), AlreadyExists),
        (rename("/job/d/one", "/tmp", true), IsADirectory),
        (rename("/job/none", "/job/x", true), NotFound),
        (link("/job/d/one", "/job/d/two"), AlreadyExists),
        (symlink("x", "/job/d/two"), AlreadyExists),
        (symlink("", "/job/d/empty"), BadRequest),
        (FileOperation::ReadLink { path: path("/job/d/two") }, BadRequest),
        (FileOperation::OpenDirectory { handle: 7, path: path("/job/d/two") }, NotADirectory),
    ] {
        let asked = format!("{operation:?}");
        assert_eq!(asker.ask(operation).await, Err(expected), "{asked}");
    }
    asker.ask(rename("/job/d/one", "/job/d/two", true)).await.unwrap();
    asker.ask(rename("/job/d/two", "/job/three", false)).await.unwrap();
    asker.ask(remove("/job/d/link")).await.unwrap();
    asker.ask(remove("/job/d/same")).await.unwrap();
    asker.ask(remove_directory("/job/d")).await.unwrap();
    assert_eq!(exec(&sandbox, &["sh", "-c", "ls -A; cat three"]).await.stdout, "three\n1");
    sandbox.destroy().await.unwrap();
}

async fn times_and_permissions_are_set_of_what_is_named_and_kept_to_the_nanosecond(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let asker = Asker::of(&*sandbox).await;
    exec(&sandbox, &["sh", "-c", "echo x > file; mkdir dir; ln -s file link"]).await;
    let time = |seconds| FileTime { seconds, nanoseconds: 123_456_789 };
    let change =
        |seconds| FileChange { modified: Some(time(seconds)), accessed: Some(time(1)), ..FileChange::default() };
    asker.set("/job/link", false, change(-5)).await.unwrap();
    asker.set("/job/link", true, FileChange { permissions: Some(0o600), ..change(7) }).await.unwrap();
    asker.set("/job/dir", true, FileChange { permissions: Some(0o1770), ..change(9) }).await.unwrap();
    let seen = async |path, follow| {
        let metadata = asker.stat(path, follow).await.unwrap();
        (metadata.kind, metadata.modified, metadata.permissions)
    };
    assert_eq!(asker.stat("/job/file", true).await.unwrap().accessed, time(1));
    assert_eq!(seen("/job/link", false).await, (FileKind::Symlink, time(-5), 0o777));
    assert_eq!(seen("/job/file", false).await, (FileKind::File, time(7), 0o600));
    assert_eq!(seen("/job/dir", false).await, (FileKind::Directory, time(9), 0o1770));
    // What is not given stays.
    asker.set("/job/file", true, FileChange { permissions: Some(0o644), ..FileChange::default() }).await.unwrap();
    assert_eq!(seen("/job/file", false).await, (FileKind::File, time(7), 0o644));
    let no_time = FileTime { seconds: 0, nanoseconds: 1_000_000_000 };
    let change = FileChange { modified: Some(no_time), ..FileChange::default() };
    assert_eq!(asker.set("/job/file", true, change).await, Err(FileErrorKind::BadRequest));
    sandbox.destroy().await.unwrap();
}

async fn a_small_file_is_stored_and_fetched_whole_and_a_damaged_one_is_not_stored(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let asker = Asker::of(&*sandbox).await;
    exec(&sandbox, &["sh", "-c", "echo kept > target; ln -s target file; mkdir dir"]).await;
    let full = vec![7; MAX_PIECE];
    for content in [&b""[..], b"content", &full] {
        asker.store("/job/file", content, hash_of(content)).await.unwrap();
        let fetch = |longest| FileOperation::Fetch { path: path("/job/file"), longest };
        let length = content.len() as u32;
        let (answer, bytes) = asker.ask_with(fetch(length), Vec::new()).await.unwrap();
        assert_eq!(bytes, content);
        let FileAnswer::Fetched { metadata, hash } = answer else { panic!("{answer:?}") };
        assert_eq!(hash, hash_of(content));
        assert_eq!((metadata.permissions, metadata.size), (0o640, u64::from(length)));
        assert_eq!(metadata.modified, FileTime { seconds: 1_000_000_000, nanoseconds: 5 });
        if length > 0 {
            assert_eq!(asker.ask(fetch(length - 1)).await, Err(FileErrorKind::TooLarge));
        }
    }
    assert_eq!(asker.store("/job/file", b"changed", hash_of(b"sent")).await, Err(FileErrorKind::Damaged));
    assert_eq!(asker.store("/job/dir", b"x", hash_of(b"x")).await, Err(FileErrorKind::IsADirectory));
    assert_eq!(asker.store("/job/none/x", b"x", hash_of(b"x")).await, Err(FileErrorKind::NotFound));
    assert_eq!(
        exec(&sandbox, &["sh", "-c", "ls -A; cat target; wc -c < file"]).await.stdout,
        "dir\nfile\ntarget\nkept\n65536\n"
    );
    sandbox.destroy().await.unwrap();
}

async fn a_directory_of_many_comes_in_batches_and_any_bytes_are_a_name(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let asker = Asker::of(&*sandbox).await;
    exec(&sandbox, &["sh", "-c", "mkdir many; cd many; for i in $(seq 1000); do : > $i; done"]).await;
    assert_eq!(asker.list("/job/many").await.len(), 1000);
    let odd = std::ffi::OsStr::new("ä\n\u{1}").to_owned();
    let bytes = [odd.as_encoded_bytes(), &[0xff, 0xfe]].concat();
    let name = PathBuf::from(<std::ffi::OsString as std::os::unix::ffi::OsStringExt>::from_vec(bytes));
    let full = Path::new("/job").join(&name);
    let store = FileOperation::Store { path: full.clone(), permissions: 0o600, modified: None, hash: hash_of(b"odd") };
    asker.ask_with(store, b"odd".to_vec()).await.unwrap();
    assert!(asker.list("/job").await.iter().any(|entry| entry.name == name));
    let (_, content) = asker.ask_with(FileOperation::Fetch { path: full, longest: 9 }, Vec::new()).await.unwrap();
    assert_eq!(content, b"odd");
    sandbox.destroy().await.unwrap();
}

async fn no_path_of_a_request_leads_out_of_the_sandbox_or_into_the_agent(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let asker = Asker::of(&*sandbox).await;
    let script = "ln -s /etc/passwd passwd; ln -s / up; ln -s /proc/1/root root; ln -s /proc/self/fd/3 socket; \
                  ln -s /proc/1/mem memory";
    exec(&sandbox, &["sh", "-c", script]).await;
    let inside = exec(&sandbox, &["cat", "/etc/passwd"]).await.stdout.into_bytes();
    assert_ne!(inside, std::fs::read("/etc/passwd").unwrap());
    for name in ["/job/passwd", "/job/up/etc/passwd", "/../../../etc/passwd", "/job/../../etc/passwd"] {
        let file = asker.open(name, READ).await.unwrap();
        assert_eq!(asker.read(&file, 0, 4096).await.unwrap(), inside[..inside.len().min(4096)], "{name}");
        let real = asker.path(FileOperation::RealPath { path: path(name) }).await.unwrap();
        assert_eq!(real, path("/etc/passwd"), "{name}");
    }
    let state = bench.state.path().join(sandbox.id().as_str()).join("record.json");
    assert_eq!(asker.open(state.to_str().unwrap(), READ).await.err(), Some(FileErrorKind::NotFound));
    // What the agent has open or in memory: neither by the links of /proc nor by its files.
    let mut names: Vec<String> = (0..20).map(|number| format!("/proc/self/fd/{number}")).collect();
    names.extend(
        ["/job/root/etc/passwd", "/job/socket", "/job/memory", "/proc/self/mem", "/proc/1/mem", "/proc/self/exe"]
            .map(String::from),
    );
    names.extend(["/proc/self/maps", "/proc/thread-self/mem", "/proc/self/cwd/etc/passwd"].map(String::from));
    for name in &names {
        for mode in [READ, OpenMode { write: true, ..READ }, OpenMode { truncate: true, ..NEW }] {
            assert!(asker.open(name, mode).await.is_err(), "{name} {mode:?}");
        }
        assert!(asker.ask(FileOperation::Fetch { path: path(name), longest: 9 }).await.is_err(), "{name}");
        // A link of /job would be replaced.
        if name.starts_with("/proc") {
            assert!(asker.store(name, b"x", hash_of(b"x")).await.is_err(), "{name}");
        }
        let change = FileChange { permissions: Some(0o777), ..FileChange::default() };
        assert!(asker.set(name, true, change).await.is_err(), "{name}");
    }
    assert!(asker.path(FileOperation::ReadLink { path: path("/proc/self/fd/3") }).await.is_err());
    assert_eq!(exec(&sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    sandbox.destroy().await.unwrap();
}

async fn pipes_devices_and_memory_are_refused_and_hold_nothing_up(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let asker = Asker::of(&*sandbox).await;
    let mut reader = sandbox
        .exec(sandbox::ProcessSpec::new(["sh", "-c", "mkfifo pipe; ln -s pipe link; cat < pipe; echo read"]))
        .await
        .unwrap();
    until("the pipe is there", || async { asker.stat("/job/link", true).await.is_ok() }).await;
    for name in ["/job/pipe", "/job/link", "/dev/zero", "/dev/null", "/dev/ptmx", "/dev/tty"] {
        for mode in [READ, NEW, OpenMode { read: true, ..NEW }] {
            assert_eq!(asker.open(name, mode).await.err(), Some(FileErrorKind::Unsupported), "{name} {mode:?}");
        }
    }
    assert_eq!(asker.open("/dev/shm/x", NEW).await.err(), Some(FileErrorKind::Unsupported));
    assert_eq!(asker.store("/dev/shm/x", b"x", hash_of(b"x")).await, Err(FileErrorKind::Unsupported));
    assert_eq!(asker.stat("/job/pipe", true).await.unwrap().kind, FileKind::Other);
    // Whoever waits at the other end of the pipe has not noticed.
    exec(&sandbox, &["sh", "-c", "echo through > pipe"]).await;
    crate::support::read_until(&mut reader.stdout, "through\nread\n").await;
    sandbox.destroy().await.unwrap();
}

async fn eight_mebibytes_under_way_come_back_in_order(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let asker = Asker::of(&*sandbox).await;
    let content: Vec<u8> = (0..8u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let handle = asker.0.handle();
    let mut answers = Vec::new();
    // All is sent before any answer is taken, the opening of the file too.
    within(async {
        let open = FileOperation::Open {
            handle: handle.number(),
            path: path("/job/big"),
            mode: OpenMode { read: true, ..NEW },
        };
        answers.push(asker.0.send(open, Vec::new()).await.unwrap());
        for (number, piece) in content.chunks(MAX_PIECE).enumerate() {
            let write = FileOperation::Write { handle: handle.number(), offset: (number * MAX_PIECE) as u64 };
            answers.push(asker.0.send(write, piece.to_vec()).await.unwrap());
        }
    })
    .await;
    within(try_join_all(answers)).await.unwrap();
    let mut answers = Vec::new();
    within(async {
        for offset in (0..content.len()).step_by(MAX_PIECE) {
            let read = FileOperation::Read { handle: handle.number(), offset: offset as u64, length: MAX_PIECE as u32 };
            answers.push(asker.0.send(read, Vec::new()).await.unwrap());
        }
    })
    .await;
    let pieces = within(try_join_all(answers)).await.unwrap();
    assert!(pieces.into_iter().flat_map(|(_, bytes)| bytes).eq(content));
    sandbox.destroy().await.unwrap();
}

async fn many_files_can_be_open_and_one_more_is_refused_until_one_is_closed(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let (asker, other) = (Asker::of(&*sandbox).await, Asker::of(&*sandbox).await);
    exec(&sandbox, &["sh", "-c", "echo x > file"]).await;
    let mut open = Vec::new();
    for _ in 0..MAX_HANDLES {
        open.push(asker.open("/job/file", READ).await.unwrap());
    }
    assert_eq!(asker.open("/job/file", READ).await.err(), Some(FileErrorKind::TooManyHandles));
    assert!(other.open("/job/file", READ).await.is_ok(), "the bound is each connection's own");
    open.pop();
    // Closing needs no waiting: what is asked next comes after it.
    open.push(asker.open("/job/file", READ).await.unwrap());
    assert_eq!(exec(&sandbox, &["echo", "beside"]).await.stdout, "beside\n");
    sandbox.destroy().await.unwrap();
}

async fn a_sandbox_with_few_open_files_refuses_more_and_goes_on(bench: Bench) {
    let sandbox = bench.sandbox(&SandboxSpec { max_open_files: 128, ..small() }).await;
    let asker = Asker::of(&*sandbox).await;
    let mut open = Vec::new();
    let refused = loop {
        match asker.open("/etc/passwd", READ).await {
            Ok(handle) => open.push(handle),
            Err(kind) => break kind,
        }
    };
    assert_eq!(refused, FileErrorKind::TooManyHandles);
    assert!((8..128).contains(&open.len()), "{}", open.len());
    drop(open);
    assert_eq!(exec(&sandbox, &["echo", "alive"]).await.stdout, "alive\n");
    sandbox.destroy().await.unwrap();
}

async fn a_full_disk_is_told_as_such_and_leaves_no_half_of_a_small_file(bench: Bench) {
    let sandbox = bench.sandbox(&SandboxSpec { disk_bytes: 32 << 20, ..small() }).await;
    let asker = Asker::of(&*sandbox).await;
    let file = asker.open("/job/big", NEW).await.unwrap();
    let piece = vec![1; MAX_PIECE];
    let mut outcome = Ok(());
    let mut offset = 0;
    while outcome.is_ok() && offset < 64 << 20 {
        outcome = asker.write(&file, offset, &piece).await;
        offset += piece.len() as u64;
    }
    assert_eq!(outcome, Err(FileErrorKind::NoSpace));
    assert_eq!(asker.store("/job/small", &piece, hash_of(&piece)).await, Err(FileErrorKind::NoSpace));
    assert_eq!(exec(&sandbox, &["ls", "-A"]).await.stdout, "big\n");
    let FileAnswer::Space(space) = asker.ask(FileOperation::Space { path: path("/job") }).await.unwrap() else {
        panic!()
    };
    assert!(
        space.blocks * space.block_size > 16 << 20 && space.available_blocks * space.block_size < 1 << 20,
        "{space:?}"
    );
    drop(file);
    asker.ask(FileOperation::Remove { path: path("/job/big") }).await.unwrap();
    asker.store("/job/small", &piece, hash_of(&piece)).await.unwrap();
    sandbox.destroy().await.unwrap();
}

async fn the_holes_of_a_sparse_file_are_seen_and_take_no_room(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let asker = Asker::of(&*sandbox).await;
    let file = asker.open("/job/sparse", OpenMode { read: true, ..NEW }).await.unwrap();
    asker.set("/job/sparse", true, FileChange { size: Some(4 << 30), ..FileChange::default() }).await.unwrap();
    assert_eq!(asker.extent(&file, 0).await, None);
    let piece = vec![9; 1 << 16];
    asker.write(&file, 1 << 30, &piece).await.unwrap();
    let extent = asker.extent(&file, 0).await.unwrap();
    assert_eq!((extent.start, extent.end), (1 << 30, (1 << 30) + (1 << 16)));
    assert_eq!(asker.extent(&file, (1 << 30) + 5).await.map(|extent| extent.start), Some((1 << 30) + 5));
    assert_eq!(asker.extent(&file, extent.end).await, None);
    assert_eq!(asker.extent(&file, 5 << 30).await, None);
    let metadata = asker.stat("/job/sparse", true).await.unwrap();
    assert_eq!(metadata.size, 4 << 30);
    assert!(metadata.allocated < 1 << 20, "{}", metadata.allocated);
    assert_eq!(asker.read(&file, 3 << 30, 4).await.unwrap(), [0; 4]);
    sandbox.destroy().await.unwrap();
}

async fn what_an_asker_leaves_open_is_closed_with_its_connection(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let asker = Asker::of(&*sandbox).await;
    let file = asker.open("/job/file", NEW).await.unwrap();
    asker.write(&file, 0, &vec![1; MAX_PIECE]).await.unwrap();
    asker.ask(FileOperation::Remove { path: path("/job/file") }).await.unwrap();
    let watcher = Asker::of(&*sandbox).await;
    let files = async || {
        let answer = watcher.ask(FileOperation::Space { path: path("/job") }).await.unwrap();
        let FileAnswer::Space(space) = answer else { panic!("{answer:?}") };
        space.free_files
    };
    let before = files().await;
    drop((asker, file));
    until("the removed file is gone for good", || async { files().await > before }).await;
    sandbox.destroy().await.unwrap();
}

async fn what_the_asker_brought_or_has_fetched_is_known_and_the_rest_would_be_lost(bench: Bench) {
    let sandbox = bench.sandbox(&small()).await;
    let asker = Asker::of(&*sandbox).await;
    let lost = async || {
        let found = within(sandbox.unfetched("/job")).await.unwrap();
        let names: Vec<String> = found.largest.into_iter().map(|file| file.path).collect();
        assert_eq!(found.files, names.len() as u64);
        names
    };
    let fetch = async |name: &str| {
        asker.ask(FileOperation::Fetch { path: path(name), longest: MAX_PIECE as u32 }).await.unwrap();
    };
    asker.store("/job/brought", b"small", hash_of(b"small")).await.unwrap();
    let large = asker.open("/job/part", NEW).await.unwrap();
    asker.write(&large, 0, b"piece").await.unwrap();
    asker.write(&large, 1 << 20, b"piece").await.unwrap();
    let rename = FileOperation::Rename { from: path("/job/part"), to: path("/job/large"), replace: true };
    asker.ask(rename).await.unwrap();
    within(large.close()).await.unwrap();
    let change = FileChange { permissions: Some(0o700), ..FileChange::default() };
    asker.set("/job/brought", true, change).await.unwrap();
    assert_eq!(lost().await, [""; 0], "all of it came from outside");

    exec(
        &sandbox,
        &["sh", "-c", "echo two long lines > small; head -c 100000 /dev/zero > great; echo more >> brought"],
    )
    .await;
    assert_eq!(lost().await, ["great", "small", "brought"]);
    fetch("/job/small").await;
    let great = asker.open("/job/great", READ).await.unwrap();
    asker.read(&great, 0, 60_000).await.unwrap();
    within(great.close()).await.unwrap();
    assert_eq!(lost().await, ["great", "brought"], "half of it is not all of it");
    let great = asker.open("/job/great", READ).await.unwrap();
    asker.read(&great, 0, 60_000).await.unwrap();
    asker.read(&great, 60_000, 60_000).await.unwrap();
    within(great.close()).await.unwrap();
    fetch("/job/brought").await;
    assert_eq!(lost().await, [""; 0]);
    exec(&sandbox, &["sh", "-c", "echo again >> small"]).await;
    assert_eq!(lost().await, ["small"]);

    let outputs = untar(sandbox.get_changed("/job").await.unwrap()).await;
    assert_eq!(
        outputs.keys().collect::<Vec<_>>(),
        ["brought", "great", "small"],
        "what was fetched is one all the same"
    );
    sandbox.destroy().await.unwrap();
}

on_every_backend! {
    what_the_asker_brought_or_has_fetched_is_known_and_the_rest_would_be_lost,
    a_file_is_made_written_read_hashed_and_cut_at_any_place,
    a_file_is_opened_only_as_was_asked,
    names_are_made_listed_moved_linked_and_removed,
    times_and_permissions_are_set_of_what_is_named_and_kept_to_the_nanosecond,
    a_small_file_is_stored_and_fetched_whole_and_a_damaged_one_is_not_stored,
    a_directory_of_many_comes_in_batches_and_any_bytes_are_a_name,
    no_path_of_a_request_leads_out_of_the_sandbox_or_into_the_agent,
    pipes_devices_and_memory_are_refused_and_hold_nothing_up,
    eight_mebibytes_under_way_come_back_in_order,
    many_files_can_be_open_and_one_more_is_refused_until_one_is_closed,
    a_sandbox_with_few_open_files_refuses_more_and_goes_on,
    a_full_disk_is_told_as_such_and_leaves_no_half_of_a_small_file,
    the_holes_of_a_sparse_file_are_seen_and_take_no_room,
    what_an_asker_leaves_open_is_closed_with_its_connection,
}
