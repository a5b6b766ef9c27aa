//! What the tests share: a back end in a directory of its own, sandboxes that are destroyed at the end, tar streams, and waiting.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use sandbox::{
    Backend, ByteReader, Exit, LogEvent, NativeBackend, NativeConfig, Process, ProcessSpec, Sandbox, SandboxId,
    SandboxSpec, Stream,
};
use tokio::io::{AsyncRead, AsyncReadExt};

/// No test waits longer for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Makes the tests of a file part of the conformance suite: each is a function that gets a bench, and becomes one test for every back end.
/// A back end that comes gets a line here, and all of them.
macro_rules! on_every_backend {
    ($($name:ident),* $(,)?) => {
        mod native {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name($crate::support::Bench::native()).await;
                }
            )*
        }
    };
}
pub(crate) use on_every_backend;

/// A back end with its own state directory.
pub(crate) struct Bench<B: Backend + ?Sized + 'static = dyn Backend> {
    pub(crate) backend: Arc<B>,
    pub(crate) state: tempfile::TempDir,
}

impl Bench<NativeBackend> {
    /// For what is of the native back end alone.
    pub(crate) fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let backend = NativeBackend::new(config(state.path().into())).unwrap();
        Bench { backend: Arc::new(backend), state }
    }
}

impl Bench {
    /// For what every back end must do.
    pub(crate) fn native() -> Self {
        let state = tempfile::tempdir().unwrap();
        let backend = NativeBackend::new(config(state.path().into())).unwrap();
        Bench { backend: Arc::new(backend), state }
    }
}

impl<B: Backend + ?Sized> Bench<B> {
    /// A sandbox with a name that occurs nowhere else.
    pub(crate) async fn sandbox(&self, spec: &SandboxSpec) -> Arc<dyn Sandbox> {
        self.backend.create(&fresh_id(), spec).await.unwrap()
    }
}

impl<B: Backend + ?Sized> Drop for Bench<B> {
    /// A failed test leaves sandboxes behind; the machine should not keep them.
    fn drop(&mut self) {
        let backend = self.backend.clone();
        let cleaned = std::thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                for sandbox in backend.reconcile().await.unwrap() {
                    sandbox.destroy().await.unwrap();
                }
            });
        });
        let _ = cleaned.join();
    }
}

/// The set-up with the program of this crate as the builder.
pub(crate) fn config(state_dir: PathBuf) -> NativeConfig {
    let mut config = NativeConfig::new(state_dir);
    config.builder = env!("CARGO_BIN_EXE_sandbox").into();
    config
}

pub(crate) fn fresh_id() -> SandboxId {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    SandboxId::new(format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))).unwrap()
}

/// Small limits, so that many sandboxes fit on a small machine.
pub(crate) fn small() -> SandboxSpec {
    SandboxSpec { memory_bytes: 256 << 20, disk_bytes: 256 << 20, ..SandboxSpec::default() }
}

/// Both outputs and the end of a job.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) exit: Exit,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a shell script as the main job to its end.
pub(crate) async fn run(sandbox: &Arc<dyn Sandbox>, script: &str) -> Outcome {
    sandbox.start("job", ProcessSpec::new(["sh", "-c", script])).await.unwrap();
    let mut logs = within(sandbox.logs(0, true)).await.unwrap();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while let Some(event) = within(logs.next()).await {
        match event.unwrap() {
            LogEvent::Record(record) if record.stream == Stream::Stdout => stdout.extend(record.bytes),
            LogEvent::Record(record) => stderr.extend(record.bytes),
            LogEvent::Gap { from, to } => panic!("records {from} to {to} are missing"),
        }
    }
    let exit = within(sandbox.wait()).await.unwrap();
    Outcome { exit, stdout: String::from_utf8(stdout).unwrap(), stderr: String::from_utf8(stderr).unwrap() }
}

/// Runs a command beside the main job to its end.
pub(crate) async fn exec(sandbox: &Arc<dyn Sandbox>, argv: &[&str]) -> Outcome {
    exec_spec(sandbox, ProcessSpec::new(argv.iter().copied())).await
}

/// The same with an environment of its own.
pub(crate) async fn exec_spec(sandbox: &Arc<dyn Sandbox>, spec: ProcessSpec) -> Outcome {
    let mut process = sandbox.exec(spec).await.unwrap();
    drop(process.stdin.take());
    let (mut stdout, mut stderr) = (String::new(), String::new());
    within(async {
        let (out, err) =
            tokio::join!(process.stdout.read_to_string(&mut stdout), process.stderr.read_to_string(&mut stderr));
        out.and(err).unwrap();
    })
    .await;
    let exit = within(process.wait()).await.unwrap();
    Outcome { exit, stdout, stderr }
}

/// Puts this program into the sandbox, to run one test of it there.
async fn bring_inside(sandbox: &Arc<dyn Sandbox>, test: &str, env: &[(&str, String)]) -> ProcessSpec {
    let program = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let tar = tar_of(&[("tests", &program, 0o755)]);
    sandbox.put("/tmp/inside", tar).await.unwrap();
    let mut spec = ProcessSpec::new(["/tmp/inside/tests", "--ignored", "--exact", "--nocapture", test]);
    spec.env = env.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    spec
}

/// Starts a test of this program inside the sandbox that goes on for ever, and waits until it says that it is ready.
pub(crate) async fn serve_inside(sandbox: &Arc<dyn Sandbox>, test: &str, env: &[(&str, String)]) -> Process {
    let spec = bring_inside(sandbox, test, env).await;
    let mut process = sandbox.exec(spec).await.unwrap();
    read_until(&mut process.stdout, "ready\n").await;
    process
}

/// Reads up to and with a piece of text, and answers all that was read.
pub(crate) async fn read_until(from: &mut (impl AsyncRead + Unpin), text: &str) -> String {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(text) {
        let mut byte = [0];
        let n = within(from.read(&mut byte)).await.unwrap();
        assert_eq!(n, 1, "ended without {text:?}: {}", String::from_utf8_lossy(&read));
        read.extend(byte);
    }
    String::from_utf8_lossy(&read).into_owned()
}

/// Runs a test of this program inside the sandbox, where `inside` marks it as one of those.
pub(crate) async fn run_inside(sandbox: &Arc<dyn Sandbox>, test: &str, env: &[(&str, String)]) {
    let spec = bring_inside(sandbox, test, env).await;
    let outcome = exec_spec(sandbox, spec).await;
    assert!(outcome.stdout.contains("1 passed"), "{test} inside: {}\n{}", outcome.stdout, outcome.stderr);
    assert_eq!(outcome.exit, Exit::Code { code: 0 });
}

/// A tar stream of files: path, content, permissions.
pub(crate) fn tar_of(files: &[(&str, &[u8], u32)]) -> ByteReader {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, content, mode) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(*mode);
        header.set_mtime(1_000_000_000);
        builder.append_data(&mut header, path, *content).unwrap();
    }
    Box::new(std::io::Cursor::new(builder.into_inner().unwrap()))
}

/// What a tar stream holds: content and permissions by path.
pub(crate) async fn untar(mut stream: ByteReader) -> BTreeMap<String, (Vec<u8>, u32)> {
    let mut bytes = Vec::new();
    within(stream.read_to_end(&mut bytes)).await.unwrap();
    let mut files = BTreeMap::new();
    for entry in tar::Archive::new(bytes.as_slice()).entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_string();
        let mode = entry.header().mode().unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        assert!(files.insert(path.clone(), (content, mode)).is_none(), "{path} twice");
    }
    files
}

/// The result, or a failed test when it takes too long.
pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("takes too long")
}

/// Waits until a condition holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Everything on this machine that still carries a sandbox's name or its state directory.
pub(crate) fn traces(id: &SandboxId, state: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    let state = state.canonicalize().unwrap();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        if let Ok(groups) = std::fs::read_to_string(entry.path().join("cgroup"))
            && groups.contains(&format!("/{id}/"))
        {
            found.push(format!("process {:?}", entry.file_name()));
        }
    }
    for entry in std::fs::read_dir("/sys/block").unwrap().flatten() {
        if let Ok(file) = std::fs::read_to_string(entry.path().join("loop/backing_file"))
            && file.starts_with(state.to_str().unwrap())
        {
            found.push(format!("{:?} of {file}", entry.file_name()));
        }
    }
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    found.extend(mounts.lines().filter(|line| line.contains(state.to_str().unwrap())).map(String::from));
    let mut directories = vec![PathBuf::from("/sys/fs/cgroup"), state];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_str() == Some(id.as_str()) {
                    found.push(format!("directory {}", entry.path().display()));
                }
                directories.push(entry.path());
            }
        }
    }
    found
}

/// A root with a shell, its libraries and a note.
pub(crate) fn small_tree() -> tempfile::TempDir {
    let tree = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        let to = tree.path().join(to.trim_start_matches('/'));
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    };
    copy("/bin/sh", "/bin/sh");
    let libraries = std::process::Command::new("ldd").arg("/bin/sh").output().unwrap();
    for word in String::from_utf8(libraries.stdout).unwrap().split_whitespace().filter(|word| word.starts_with('/')) {
        copy(word, word);
    }
    std::fs::write(tree.path().join("note"), "outside\n").unwrap();
    std::fs::set_permissions(tree.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    tree
}
