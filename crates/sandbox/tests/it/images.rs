//! Sandboxes of images: every form an image can have, what it says of its programs, the pool that all sandboxes share, and registries
//! that lie.

mod made;
mod registry;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sandbox::{
    Backend, Error, Exit, ImageDigest, ImageError, ImageLimits, ImageSource, NativeBackend, ProcessSpec, Progress,
    Rootfs, SandboxSpec,
};

use crate::support::{Bench, config, exec, exec_spec, fresh_id, run, small, traces, until, within};
use made::{Made, Packing, index_digest, largest};
use registry::{Fault, Registry};

/// A pool of the usual size that takes registries of this machine.
const LIMITS: ImageLimits = ImageLimits { pool_bytes: 1 << 30, image_bytes: 256 << 20, loopback_registries: true };

fn bench(limits: ImageLimits) -> Bench<NativeBackend> {
    let state = tempfile::tempdir().unwrap();
    let backend = backend(state.path(), limits);
    Bench { backend: Arc::new(backend), state }
}

fn backend(state: &Path, limits: ImageLimits) -> NativeBackend {
    let mut config = config(state.into());
    config.images = limits;
    NativeBackend::new(config).unwrap()
}

fn of(source: ImageSource) -> SandboxSpec {
    SandboxSpec { rootfs: Rootfs::Image(source), ..small() }
}

/// A directory with this image in OCI layout.
fn layout(image: &Made) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    image.layout(directory.path(), Packing::Gzip);
    directory
}

/// The names in a part of the pool, which is made when the first image comes.
fn pool(state: &Path, part: &str) -> BTreeSet<String> {
    let entries = fs::read_dir(state.join(".images").join(part)).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn trees(state: &Path) -> usize {
    pool(state, "trees").iter().filter(|name| !name.ends_with(".json")).count()
}

/// Nothing of a failed image is in the pool.
fn assert_empty(state: &Path) {
    for part in ["trees", "references", "partial"] {
        assert_eq!(pool(state, part), BTreeSet::new(), "{part}");
    }
}

async fn refused(bench: &Bench<NativeBackend>, source: ImageSource) -> ImageError {
    let id = fresh_id();
    let error = within(bench.backend.create(&id, &of(source))).await.err().expect("refused");
    assert_eq!(traces(&id, bench.state.path()), Vec::<String>::new());
    assert_empty(bench.state.path());
    match error {
        Error::Image(error) => error,
        other => panic!("not about the image: {other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_from_every_form_of_image_with_its_environment_where_it_says() {
    let bench = bench(LIMITS);
    let (image, files) = (Made::shell(), tempfile::tempdir().unwrap());
    let path = |name: &str| files.path().join(name);
    let digest = image.layout(&path("layout"), Packing::Gzip);
    image.layout(&path("plain"), Packing::Plain);
    image.archive(&path("archive.tar.gz"));
    image.saved(&path("saved.tar"));
    let registry = Registry::serve(path("layout"));
    for source in [
        ImageSource::Layout(path("layout")),
        ImageSource::Layout(path("plain")),
        ImageSource::Archive(path("archive.tar.gz")),
        ImageSource::Archive(path("saved.tar")),
        ImageSource::Registry(registry.image(digest)),
        ImageSource::Registry(registry.image(index_digest(&path("layout")))),
    ] {
        let sandbox = bench.sandbox(&of(source)).await;
        let outcome =
            run(&sandbox, "echo $GREETING; pwd; read line < line; echo $line; read note < /note; echo $note").await;
        assert_eq!(outcome.stdout, "hello\n/srv/data\nof the image\noutside\n", "{outcome:?}");
        assert_eq!(outcome.exit, Exit::Code { code: 0 });
        assert_eq!(exec_spec(&sandbox, ProcessSpec::new([""; 0])).await.stdout, "by itself\n");
        assert_eq!(sandbox.image().unwrap().working_directory.as_deref(), Some("/srv/data"));
        sandbox.destroy().await.unwrap();
    }
    // One and the same image, whatever its form.
    assert_eq!(trees(bench.state.path()), 1);
    assert_eq!(pool(bench.state.path(), "partial"), BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_from_a_tar_of_a_root_packed_or_not_and_it_is_unpacked_once() {
    let bench = bench(LIMITS);
    let (image, files) = (Made::shell(), tempfile::tempdir().unwrap());
    for (name, packing) in [("root.tar", Packing::Plain), ("root.tar.gz", Packing::Gzip)] {
        image.tar(&files.path().join(name), packing);
        let sandbox = bench.sandbox(&of(ImageSource::Tar(files.path().join(name)))).await;
        let outcome = run(&sandbox, "test -O /note && pwd; read line < /note; echo $line").await;
        assert_eq!(outcome.stdout, "/job\noutside\n", "{outcome:?}");
        sandbox.destroy().await.unwrap();
    }
    assert_eq!(trees(bench.state.path()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_upper_layer_removes_is_not_there_and_what_it_replaces_is_new() {
    let bench = bench(LIMITS);
    let image = Made::shell().with_layer(&[("note", b"new\n"), ("srv/.wh.data", b""), ("srv/more", b"more\n")]);
    let sandbox = bench.sandbox(&of(ImageSource::Layout(layout(&image).path().into()))).await;
    let mut script = ProcessSpec::new([
        "sh",
        "-c",
        "read a < /note; read b < /srv/more; echo $a $b; test -e /srv/data || echo gone",
    ]);
    script.cwd = Some("/".into());
    let outcome = exec_spec(&sandbox, script).await;
    assert_eq!(outcome.stdout, "new more\ngone\n", "{outcome:?}");
    sandbox.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_sandboxes_share_one_tree_and_neither_changes_it() {
    let bench = bench(LIMITS);
    let layout = layout(&Made::shell());
    let spec = of(ImageSource::Layout(layout.path().into()));
    let (first, second) = tokio::join!(bench.sandbox(&spec), bench.sandbox(&spec));
    assert_eq!(trees(bench.state.path()), 1);
    let script = "echo mine > /note; echo made > /made; echo x > /bin/added; read line < /note; echo $line";
    assert_eq!(exec(&first, &["sh", "-c", script]).await.stdout, "mine\n");
    let script = "read line < /note; echo $line; test -e /made || test -e /bin/added || echo clean";
    assert_eq!(exec(&second, &["sh", "-c", script]).await.stdout, "outside\nclean\n");
    first.destroy().await.unwrap();
    second.destroy().await.unwrap();
    let name = pool(bench.state.path(), "trees").into_iter().find(|name| !name.ends_with(".json")).unwrap();
    let tree = bench.state.path().join(".images/trees").join(name);
    assert_eq!(fs::read_to_string(tree.join("note")).unwrap(), "outside\n");
    assert!(!tree.join("made").exists() && !tree.join("bin/added").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_keeps_its_image_through_a_restart_of_the_node() {
    let bench = bench(LIMITS);
    let (image, other) = (layout(&Made::shell()), layout(&Made::shell().with_layer(&[("x", b"y")])));
    let sandbox = bench.sandbox(&of(ImageSource::Layout(image.path().into()))).await;
    drop(sandbox);
    let restarted = backend(bench.state.path(), ImageLimits { pool_bytes: 0, ..LIMITS });
    let adopted = restarted.reconcile().await.unwrap().pop().unwrap();
    // No room at all, and still it stays: it is in use.
    let error = restarted.images().prepare(&ImageSource::Layout(other.path().into()), None).await.err().unwrap();
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    assert_eq!(exec(&adopted, &["sh", "-c", "echo $GREETING; pwd"]).await.stdout, "hello\n/srv/data\n");
    adopted.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_not_what_its_digest_says_is_refused_and_leaves_nothing() {
    let bench = bench(LIMITS);
    let layout = layout(&Made::shell());
    let largest = largest(layout.path());
    let honest = fs::read(&largest).unwrap();
    let mut changed = honest.clone();
    changed[50_000] ^= 1;
    let cut = honest[..honest.len() - 1000].to_vec();
    let longer = [&honest[..], b"more"].concat();
    for content in [changed, cut, longer, Vec::new()] {
        fs::write(&largest, content).unwrap();
        let error = refused(&bench, ImageSource::Layout(layout.path().into())).await;
        assert!(matches!(error, ImageError::DigestMismatch { .. }), "{error}");
    }
    fs::remove_file(&largest).unwrap();
    let error = refused(&bench, ImageSource::Layout(layout.path().into())).await;
    assert!(matches!(error, ImageError::NotFound(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saved_image_whose_layer_is_not_that_of_its_configuration_is_refused() {
    let bench = bench(LIMITS);
    let (files, mut image) = (tempfile::tempdir().unwrap(), Made::shell());
    let path = files.path().join("saved.tar");
    image.saved(&path);
    let honest = fs::read(&path).unwrap();
    let at = honest.windows(13).position(|window| window == b"of the image\n").unwrap();
    let mut changed = honest;
    changed[at] = b'O';
    fs::write(&path, changed).unwrap();
    let error = refused(&bench, ImageSource::Archive(path.clone())).await;
    assert!(matches!(error, ImageError::DigestMismatch { .. }), "{error}");
    image.architecture = "s390x";
    image.saved(&path);
    let error = refused(&bench, ImageSource::Archive(path)).await;
    assert!(matches!(error, ImageError::WrongPlatform { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layout_with_links_out_gives_nothing_of_the_machine() {
    let bench = bench(LIMITS);
    let layout = layout(&Made::shell());
    let (secret, largest) = (layout.path().join("../secret-of-the-machine"), largest(layout.path()));
    fs::rename(&largest, &secret).unwrap();
    std::os::unix::fs::symlink(&secret, &largest).unwrap();
    let error = refused(&bench, ImageSource::Layout(layout.path().into())).await;
    fs::remove_file(&secret).unwrap();
    assert!(matches!(error, ImageError::NotFound(_)), "{error}");
    // A pipe would keep a reader waiting for ever.
    fs::remove_file(&largest).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&largest).status().unwrap().success());
    let error = refused(&bench, ImageSource::Layout(layout.path().into())).await;
    assert!(matches!(error, ImageError::Malformed { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lies_or_leads_elsewhere_is_not_believed() {
    let bench = bench(LIMITS);
    let layout = layout(&Made::shell());
    let registry = Registry::serve(layout.path().into());
    let image = || ImageSource::Registry(registry.image(index_digest(layout.path())));
    let metadata = "http://169.254.169.254/latest/meta-data";
    for (fault, words) in [
        (Fault::Lying, "is not what its digest says"),
        (Fault::NoToken, "only public images"),
        (Fault::TokenAt(metadata.into()), "the registry leads to http://169.254.169.254"),
        (Fault::TokenAt("https://192.168.1.1/token".into()), "the registry leads to https://192.168.1.1"),
        (Fault::SentOn(metadata.into()), "the registry leads to http://169.254.169.254"),
        (Fault::Endless, "too large"),
    ] {
        registry.misbehave(fault);
        let error = refused(&bench, image()).await.to_string();
        assert!(error.contains(words), "{error}");
    }
    registry.misbehave(Fault::None);
    let error = refused(&bench, ImageSource::Registry(registry.image(ImageDigest::of(b"never pushed")))).await;
    assert!(matches!(error, ImageError::NotFound(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_of_this_machine_is_out_of_reach_unless_its_owner_allows_it() {
    let bench = bench(ImageLimits { loopback_registries: false, ..LIMITS });
    let layout = layout(&Made::shell());
    let registry = Registry::serve(layout.path().into());
    let error = refused(&bench, ImageSource::Registry(registry.image(index_digest(layout.path())))).await;
    assert!(matches!(error, ImageError::Address(_)), "{error}");
    assert_eq!(registry.requests(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_transfer_goes_on_where_it_stopped_and_a_known_image_is_not_asked_for_again() {
    let bench = bench(LIMITS);
    let layout = layout(&Made::shell());
    let registry = Registry::serve(layout.path().into());
    registry.misbehave(Fault::Truncated(2));
    let image = ImageSource::Registry(registry.image(index_digest(layout.path())));
    let (sender, mut progress) = tokio::sync::watch::channel(Progress::default());
    let first = within(bench.backend.images().prepare(&image, Some(sender))).await.unwrap();
    assert_eq!(*progress.borrow_and_update(), Progress::Ready);
    let resumed = registry.requests().iter().filter(|path| path.contains(" from ")).count();
    assert_eq!(resumed, 2);
    drop(registry);
    let again = within(bench.backend.images().prepare(&image, None)).await.unwrap();
    assert_eq!((first.tree(), first.config()), (again.tree(), again.config()));
    let sandbox = bench.sandbox(&of(image)).await;
    assert_eq!(exec(&sandbox, &["sh", "-c", "echo $GREETING"]).await.stdout, "hello\n");
    sandbox.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_becomes_the_digest_that_terms_name() {
    let layout = layout(&Made::shell());
    let registry = Registry::serve(layout.path().into());
    let found = within(sandbox::ImageReference::resolve(&registry.tag())).await.unwrap();
    assert_eq!(found, registry.image(index_digest(layout.path())));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_an_image_any_more_and_its_remains_go() {
    let bench = bench(LIMITS);
    let layout = layout(&Made::shell());
    let registry = Registry::serve(layout.path().into());
    registry.misbehave(Fault::Stalled);
    let image = ImageSource::Registry(registry.image(index_digest(layout.path())));
    let (sender, mut progress) = tokio::sync::watch::channel(Progress::default());
    let images = bench.backend.images().clone();
    let waiting = tokio::spawn(async move { images.prepare(&image, Some(sender)).await.map(drop) });
    within(progress.wait_for(|progress| matches!(progress, Progress::Fetching { bytes, .. } if *bytes > 0)))
        .await
        .unwrap();
    assert_eq!(pool(bench.state.path(), "partial").len(), 1);
    waiting.abort();
    until("its remains go", || async { pool(bench.state.path(), "partial").is_empty() }).await;
    assert_empty(bench.state.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn images_that_nobody_uses_make_room_the_longest_unused_first() {
    let layouts: Vec<_> = (0..4_u8).map(|n| layout(&Made::shell().with_layer(&[("number", &[n])]))).collect();
    let source = |n: usize| ImageSource::Layout(layouts[n].path().into());
    let bench = bench(LIMITS);
    let first = bench.backend.images().prepare(&source(0), None).await.unwrap();
    let size = fs::read_dir(bench.state.path().join(".images/trees"))
        .unwrap()
        .flatten()
        .find(|entry| entry.path().extension().is_some())
        .unwrap()
        .path();
    let size: serde_json::Value = serde_json::from_slice(&fs::read(size).unwrap()).unwrap();
    let size = size["bytes"].as_u64().unwrap();
    drop(first);

    // Room for two.
    let pool_of_two = ImageLimits { pool_bytes: 2 * size + size / 2, ..LIMITS };
    let backend = backend(bench.state.path(), pool_of_two);
    let images = backend.images();
    let names = || pool(bench.state.path(), "trees");
    let sandbox = backend.create(&fresh_id(), &of(source(0))).await.unwrap();
    let unused = images.prepare(&source(1), None).await.unwrap().tree();
    let held = images.prepare(&source(2), None).await.unwrap();
    // The one in a sandbox stays though it was used before the one that went.
    assert!(!names().contains(&unused.to_string().replace("sha256:", "")));
    assert_eq!(trees(bench.state.path()), 2);
    assert_eq!(exec(&sandbox, &["sh", "-c", "read line < /note; echo $line"]).await.stdout, "outside\n");
    let error = images.prepare(&source(3), None).await.err().unwrap();
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    assert_eq!((trees(bench.state.path()), pool(bench.state.path(), "partial").len()), (2, 0));
    drop(held);
    // One that cannot fit at all costs nobody theirs.
    let huge = layout(&Made::shell().with_layer(&[("huge", &vec![7; 3 * size as usize])]));
    let error = images.prepare(&ImageSource::Layout(huge.path().into()), None).await.err().unwrap();
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    assert_eq!(trees(bench.state.path()), 2);
    images.prepare(&source(3), None).await.unwrap();
    sandbox.destroy().await.unwrap();
    images.prepare(&source(1), None).await.unwrap();
    assert_eq!(trees(bench.state.path()), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_leaves_is_gone_at_the_next_start_and_never_taken_for_whole() {
    let bench = bench(LIMITS);
    let layout = layout(&Made::shell());
    let source = ImageSource::Layout(layout.path().into());
    let tree = bench.backend.images().prepare(&source, None).await.unwrap().tree().to_string().replace("sha256:", "");
    let place = bench.state.path().join(".images");
    // Killed while it unpacked, while it installed a tree, and while it removed one.
    fs::create_dir_all(place.join("partial/0/tree/half")).unwrap();
    fs::remove_file(place.join("trees").join(format!("{tree}.json"))).unwrap();
    fs::remove_file(place.join("trees").join(&tree).join("note")).unwrap();
    fs::write(place.join("trees").join(format!("{}.json", "a".repeat(64))), r#"{"bytes":5}"#).unwrap();

    let restarted = backend(bench.state.path(), LIMITS);
    assert_eq!(pool(bench.state.path(), "partial"), BTreeSet::new());
    let sandbox = restarted.create(&fresh_id(), &of(source)).await.unwrap();
    assert_eq!(exec(&sandbox, &["sh", "-c", "read line < /note; echo $line"]).await.stdout, "outside\n");
    sandbox.destroy().await.unwrap();
    assert_eq!(pool(bench.state.path(), "trees"), BTreeSet::from([format!("{tree}.json"), tree]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_and_an_image_beyond_the_limit_are_told_apart() {
    let full = Full::new();
    let images = backend(&full.0, LIMITS);
    let big = layout(&Made::shell().with_layer(&[("big", &[7; 8 << 20])]));
    let source = ImageSource::Layout(big.path().into());
    let error = images.images().prepare(&source, None).await.err().unwrap();
    assert!(matches!(error, ImageError::DiskFull(_)), "{error}");
    assert_empty(&full.0);
    drop(images);

    let bench = bench(ImageLimits { image_bytes: 4 << 20, ..LIMITS });
    let error = refused(&bench, source).await;
    assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
}

/// A small disk, gone at the end.
struct Full(PathBuf, Option<tempfile::TempDir>);

impl Full {
    fn new() -> Full {
        let directory = tempfile::tempdir().unwrap();
        let options = c"size=8m";
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("tmpfs", directory.path(), "tmpfs", flags, options).unwrap();
        Full(directory.path().into(), Some(directory))
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
        drop(self.1.take());
    }
}

/// Who a shell is, as the kernel says.
const WHO: &str = "while read key real rest; do case $key in Uid:|Gid:) echo $key $real;; Groups:) echo $key $real $rest;; esac; done \
    < /proc/self/status; echo $USER";

/// A shell with users of its own, which runs as the one that is named.
fn with_user(user: &str) -> Made {
    let passwd = b"root:x:0:0::/root:/bin/sh\napp:x:1000:100:App:/home/app:/bin/sh\n";
    let group = b"users:x:100:\nvideo:x:44:app\naudio:x:29:other,app\n";
    let mut image = Made::shell().with_layer(&[("etc/passwd", passwd), ("etc/group", group)]);
    image.runtime["User"] = user.into();
    image
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_runs_as_the_user_that_its_image_names_and_whatever_else_runs_beside_it_as_root() {
    let bench = bench(LIMITS);
    let image = layout(&with_user("app").with_layer(&[("job/model", b"large")]));
    let sandbox = bench.sandbox(&of(ImageSource::Layout(image.path().into()))).await;
    let mut uploaded = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o600);
    uploaded.append_data(&mut header, "brought/note", &b"own\n"[..]).unwrap();
    let uploaded = uploaded.into_inner().unwrap();
    sandbox.put("/job", Box::new(std::io::Cursor::new(uploaded))).await.unwrap();

    // It reads what was brought, writes beside it, opens its own output by name, and cannot do what root does. The image's own files stay
    // root's, since to give them away would copy them to the rental's disk.
    let script = format!(
        "{WHO}; cd /job; read own < brought/note; echo $own; echo new > brought/made; echo by name > /dev/stdout; \
         (echo x > /etc/passwd) 2>/dev/null || echo refused; (echo s > /run/secrets/key) && echo kept; \
         (echo x >> model) 2>/dev/null || echo not mine"
    );
    let outcome = run(&sandbox, &script).await;
    assert_eq!(
        outcome.stdout, "Uid: 1000\nGid: 100\nGroups: 29 44\napp\nown\nby name\nrefused\nkept\nnot mine\n",
        "{outcome:?}"
    );
    assert_eq!(outcome.exit, Exit::Code { code: 0 });

    // What was brought is not its work, though its owner is another now.
    let mut reader = sandbox.get_changed("/job").await.unwrap();
    let mut bytes = Vec::new();
    tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut bytes).await.unwrap();
    let mut changed = tar::Archive::new(&bytes[..]);
    let mut names: Vec<_> =
        changed.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().into_owned()).collect();
    names.sort();
    assert_eq!(names, [PathBuf::from("brought/made"), PathBuf::from("model")]);

    let beside = exec(&sandbox, &["/bin/sh", "-c", WHO]).await;
    assert_eq!(beside.stdout, "Uid: 0\nGid: 0\nGroups:\nroot\n", "{beside:?}");
    sandbox.destroy().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_is_named_by_number_too_and_one_that_is_not_there_fails_the_job_with_the_reason() {
    let bench = bench(LIMITS);
    for (user, expected) in [
        ("1000:44", "Uid: 1000\nGid: 44\nGroups:\napp\n"),
        ("4711", "Uid: 4711\nGid: 0\nGroups:\n\n"),
        ("root", "Uid: 0\nGid: 0\nGroups:\nroot\n"),
    ] {
        let image = layout(&with_user(user));
        let sandbox = bench.sandbox(&of(ImageSource::Layout(image.path().into()))).await;
        let outcome = run(&sandbox, WHO).await;
        assert_eq!((outcome.stdout.as_str(), outcome.exit), (expected, Exit::Code { code: 0 }), "{user}: {outcome:?}");
        sandbox.destroy().await.unwrap();
    }
    let image = layout(&with_user("nobody"));
    let sandbox = bench.sandbox(&of(ImageSource::Layout(image.path().into()))).await;
    let outcome = run(&sandbox, WHO).await;
    assert_eq!(outcome.exit, Exit::Code { code: 126 }, "{outcome:?}");
    assert!(outcome.stderr.contains("`nobody`, which its /etc/passwd does not have"), "{outcome:?}");
    sandbox.destroy().await.unwrap();
}
