//! Files, by the programs people move them with.

use crate::world::{World, amount, fed, noise, said, within};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Output,
};

/// A folder with what folders have: files of several sizes, an empty one, a program, a link, a name with a space.
fn fill(folder: &Path) {
    fs::create_dir_all(folder.join("deep/er")).unwrap();
    for (name, length) in [("empty", 0), ("one", 1), ("deep/piece", 65_536), ("deep/er/two pieces", 131_073)] {
        fs::write(folder.join(name), noise(length)).unwrap();
    }
    fs::write(folder.join("tool"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(folder.join("tool"), fs::Permissions::from_mode(0o750)).unwrap();
    symlink("deep/piece", folder.join("link")).unwrap();
}

fn same(one: &Path, other: &Path) {
    let output = std::process::Command::new("diff").arg("-r").arg(one).arg(other).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

async fn run(world: &World, program: &str, arguments: &[&str]) -> Output {
    within(program, world.client(program).args(arguments).output()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn scp_brings_a_folder_in_and_out_in_both_of_its_ways() {
    let world = World::new().await;
    fill(&world.path("folder"));
    let from = world.path("folder");
    for (number, protocol) in ["-s", "-O"].into_iter().enumerate() {
        let (inside, back) = (format!("copy{number}"), world.path(&format!("back{number}")));
        said(run(&world, "scp", &[protocol, "-rp", from.to_str().unwrap(), &format!("rental:{inside}")]).await);
        said(run(&world, "scp", &[protocol, "-rp", &format!("rental:/job/{inside}"), back.to_str().unwrap()]).await);
        same(&from, &back);
        let mode = fs::metadata(back.join("tool")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o750, "{protocol}");
    }
    assert!(!run(&world, "scp", &["rental:no-such-file", "/dev/null"]).await.status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_arrives_whole_both_ways() {
    let world = World::new().await;
    let bytes = noise(amount(48 << 20, 384 << 20));
    fs::write(world.path("large"), &bytes).unwrap();
    said(run(&world, "scp", &[world.path("large").to_str().unwrap(), "rental:large"]).await);
    said(run(&world, "scp", &["rental:large", world.path("back").to_str().unwrap()]).await);
    assert!(fs::read(world.path("back")).unwrap() == bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn sftp_does_what_it_is_told_in_a_batch() {
    let world = World::new().await;
    fs::write(world.path("here"), noise(200_000)).unwrap();
    let batch = format!(
        "pwd\nmkdir dir\nput {here} dir/a\nrename dir/a dir/b\nln -s b dir/c\nls -l dir\nchmod 600 dir/b\n\
         reget dir/b {back}\ndf\n-rm dir/no-such-file\nrm dir/c\nrm dir/b\nrmdir dir\n",
        here = world.path("here").display(),
        back = world.path("back").display(),
    );
    let mut command = world.client("sftp");
    command.args(["-b", "-", "rental"]);
    let output = fed(command, batch.into_bytes()).await;
    let text = said(output);
    assert!(text.contains("Remote working directory: /job\n"), "{text}");
    assert!(text.lines().any(|line| line.starts_with("-rw-r--r--") && line.ends_with(" b")), "{text}");
    assert!(text.lines().any(|line| line.starts_with('l') && line.ends_with(" c")), "{text}");
    assert_eq!(fs::read(world.path("back")).unwrap(), noise(200_000));
    assert_eq!(world.inside("ls").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_an_error_of_the_copy_that_filled_it() {
    let world = World::new().await;
    fs::write(world.path("large"), vec![1; 600 << 20]).unwrap();
    let output = run(&world, "scp", &[world.path("large").to_str().unwrap(), "rental:large"]).await;
    assert!(!output.status.success(), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rsync_sends_nothing_the_second_time() {
    let world = World::new().await;
    fill(&world.path("folder"));
    let from = format!("{}/", world.path("folder").display());
    let shell = format!("ssh -F {}", world.path("config").display());
    let sync = |from: String, to: String| {
        let mut command = tokio::process::Command::new("rsync");
        command.args(["-a", "--stats", "-e", &shell, &from, &to]).kill_on_drop(true);
        async move { said(within("rsync", command.output()).await.unwrap()) }
    };
    let transferred = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("Number of regular files transferred: ")).unwrap();
        line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(transferred(&sync(from.clone(), "rental:copy/".into()).await), 5);
    assert_eq!(transferred(&sync(from, "rental:copy/".into()).await), 0);
    sync("rental:copy/".into(), format!("{}/", world.path("back").display())).await;
    same(&world.path("folder"), &world.path("back"));
}

#[tokio::test(flavor = "multi_thread")]
async fn git_clones_from_the_sandbox_and_pushes_to_it() {
    let world = World::new().await;
    world.inside("git init -q --bare model.git").await;
    let git = |arguments: &[&str]| {
        let mut command = tokio::process::Command::new("git");
        command.env("GIT_SSH_COMMAND", format!("ssh -F {}", world.path("config").display()));
        command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(arguments).current_dir(world.folder.path());
        async move { said(within("git", command.output()).await.unwrap()) }
    };
    git(&["clone", "-q", "rental:/job/model.git", "one"]).await;
    fs::write(world.path("one/weights"), noise(300_000)).unwrap();
    git(&["-C", "one", "add", "."]).await;
    git(&["-C", "one", "commit", "-q", "-m", "weights"]).await;
    git(&["-C", "one", "push", "-q", "origin", "HEAD"]).await;
    git(&["clone", "-q", "rental:/job/model.git", "two"]).await;
    assert_eq!(fs::read(world.path("two/weights")).unwrap(), noise(300_000));
}

/// A mount that is taken away again, whatever happens.
struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("fusermount3").arg("-uz").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sshfs_shows_the_sandbox_as_a_folder() {
    let world = World::new().await;
    fill(&world.path("folder"));
    let at = world.path("mount");
    fs::create_dir(&at).unwrap();
    let mut command = tokio::process::Command::new("sshfs");
    command.arg("-F").arg(world.path("config")).arg("rental:").arg(&at);
    said(within("sshfs", command.output()).await.unwrap());
    let mounted = Mounted(at.clone());
    let (from, to) = (world.path("folder"), at.join("copy"));
    let copied = tokio::task::spawn_blocking(move || {
        let copy = std::process::Command::new("cp").arg("-rp").arg(&from).arg(&to).output().unwrap();
        assert!(copy.status.success(), "{}", String::from_utf8_lossy(&copy.stderr));
        same(&from, &to);
        assert!(std::os::unix::fs::chown(to.join("one"), Some(12_345), None).is_err());
        fs::rename(to.join("one"), to.join("two")).unwrap();
        fs::OpenOptions::new().append(true).open(to.join("two")).unwrap().set_len(3).unwrap();
    });
    within("the copy", copied).await.unwrap();
    drop(mounted);
    assert_eq!(world.inside("stat -c %s copy/two; cat 'copy/deep/er/two pieces' | wc -c").await, "3\n131073\n");
}
