//! What lies on this machine: the data directory, its keys, the configuration, and what sandboxes need of the kernel.

use super::{Finding, Patient};
use crate::{config::Config, datadir::DataDir, failure::with_causes};
use api::types::Role;
use sandbox::{Backend, NativeBackend, NativeConfig};
use settlement::Keystore;
use std::{
    fs::{self, Metadata},
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

/// The program that makes a sandbox's disk, and where it may be beside the PATH.
const MKFS: &str = "mkfs.ext4";
const MKFS_PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];

/// The directory itself: it holds keys, so it is its user's alone.
pub(super) fn data_directory(dir: &DataDir) -> Vec<Finding> {
    let path = dir.path();
    let found = |text: String| Finding::ok("data", text, "a directory of yours, mode 0700");
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => return vec![found(format!("{} is no directory", path.display())).problem("give another --data-dir")],
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return vec![found(format!("{} does not exist", path.display())).problem("set it up: node init")];
        }
        Err(error) => {
            return vec![
                found(format!("{}: {error}", path.display())).problem("check that it is yours, or give --data-dir"),
            ];
        }
    };
    let shown = found(format!("{}, {}", path.display(), mode_and_owner(&metadata)));
    vec![private(shown, path, &metadata, "chmod 700")]
}

/// Whether the file or folder belongs to this user, and to nobody else.
fn private(finding: Finding, path: &Path, metadata: &Metadata, chmod: &str) -> Finding {
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != me {
        let remedy = format!("run this as its owner, or: chown {me} {}", path.display());
        // the superuser reads it all the same
        return if me == 0 { finding.warning(remedy) } else { finding.problem(remedy) };
    }
    finding.must(metadata.permissions().mode() & 0o077 == 0, format!("{chmod} {}", path.display()))
}

fn mode_and_owner(metadata: &Metadata) -> String {
    format!("mode {:04o}, owner {}", metadata.permissions().mode() & 0o7777, metadata.uid())
}

/// A configuration that was read.
pub(super) fn configured(dir: &DataDir) -> Finding {
    let path = dir.config();
    let finding = |found: String| Finding::ok("config", found, "a configuration that can be read");
    match path.exists() {
        true => finding(format!("{} is understood", path.display())),
        false => finding(format!("{} does not exist: the defaults hold", path.display())).warning("node init"),
    }
}

/// The identity and the keys: there, and readable by their owner only.
pub(super) fn keys(dir: &DataDir, config: &Config) -> Vec<Finding> {
    if !dir.path().is_dir() {
        return Vec::new();
    }
    let peer = match dir.peer_key() {
        Ok(key) => Finding::ok("keys.peer", key.public().to_peer_id().to_string(), "this node's identity, mode 0600"),
        Err(error) => Finding::ok("keys.peer", with_causes(&error), "this node's identity, mode 0600")
            .problem(api::types::ApiError::from(error).next),
    };
    let peer_key = dir.path().join("peer.key");
    let peer = match fs::metadata(&peer_key) {
        Ok(metadata) if peer.remedy.is_empty() => private(peer, &peer_key, &metadata, "chmod 600"),
        _ => peer,
    };
    let mut findings = vec![peer];
    let names = Keystore::list(&dir.keystore()).unwrap_or_default();
    let mut wanted = vec![&config.keystore.wallet];
    if !config.provider.slot.is_empty() {
        wanted.push(&config.keystore.provider_key);
    }
    for name in wanted.into_iter().filter(|name| !names.contains(name)) {
        let finding = Finding::ok(format!("keys.{name}"), "there is no such key", "a key, mode 0600");
        findings.push(finding.problem("node init"));
    }
    findings.extend(names.iter().map(|name| {
        key_file(&format!("keys.{name}"), &dir.keystore().join(name).with_extension("json"), "a key, mode 0600")
    }));
    if let Some(file) = &config.keystore.passphrase_file {
        findings.push(key_file("keys.passphrase", file, "a file with the passphrase, mode 0600"));
    }
    findings
}

fn key_file(id: &str, path: &Path, needed: &str) -> Finding {
    match fs::metadata(path) {
        Ok(metadata) => {
            let found = format!("{}, {}", path.display(), mode_and_owner(&metadata));
            private(Finding::ok(id, found, needed), path, &metadata, "chmod 600")
        }
        Err(error) => Finding::ok(id, format!("{}: {error}", path.display()), needed)
            .problem("restore it, or correct [keystore] in config.toml"),
    }
}

/// What a provider's sandboxes need; nothing of it matters to others.
pub(super) async fn sandboxes(patient: &Patient<'_>) -> Vec<Finding> {
    let provider = &patient.config.provider;
    if !patient.provides() {
        return vec![Finding::ok("provider", "no slots are configured", "slots, only to rent this machine out")];
    }
    let slots: u32 = provider.slot.iter().map(|slot| slot.count).sum();
    let found = format!("{slots} slots of {} kinds, {} prices", provider.slot.len(), provider.pricing.len());
    let mut findings =
        vec![Finding::ok("provider", found, "slots and their prices").must(
            slots > 0 && !provider.pricing.is_empty(),
            "add [[provider.slot]] and [[provider.pricing]] sections",
        )];
    let root = rustix::process::geteuid().is_root();
    findings.push(
        Finding::ok("sandbox.root", if root { "root" } else { "not root" }, "root, to isolate workloads")
            .must(root, "run the provider, and this, as root"),
    );
    findings.push(mkfs(find_mkfs()));
    let offered = |root: &str| fs::read_to_string(Path::new(root).join("cgroup.controllers")).unwrap_or_default();
    findings.push(cgroups(&fs::read_to_string("/proc/self/mounts").unwrap_or_default(), offered));
    if patient.plays(Role::Provider) {
        findings.push(Finding::ok("sandbox", "the running daemon has tried it", "a sandbox that starts"));
    } else if root {
        findings.push(try_out(patient).await);
    }
    findings
}

fn mkfs(found: Option<PathBuf>) -> Finding {
    let shown = found.as_ref().map_or_else(|| "not found".to_owned(), |path| path.display().to_string());
    Finding::ok("sandbox.mkfs", shown, format!("{MKFS}, for the disks of sandboxes"))
        .must(found.is_some(), "install the package e2fsprogs")
}

/// What a sandbox is limited by, in either version of the control groups.
const CONTROLLERS: [&str; 4] = ["cpu", "memory", "pids", "freezer"];

/// The control groups that this machine has mounted, in the order in which the back end would use them; `offered` reads what the root of
/// a version 2 hierarchy offers.
fn cgroups(mounts: &str, offered: impl Fn(&str) -> String) -> Finding {
    let needed = "version 2, or version 1 with cpu, memory, pids and freezer";
    let finding = |found: &str| Finding::ok("sandbox.cgroups", found, needed);
    let remedy = "mount them (mount -t cgroup2 none /sys/fs/cgroup); a container must be started with its own";
    let (mut first, mut second) = (Vec::new(), None);
    for mount in mounts.lines() {
        match mount.split(' ').collect::<Vec<_>>()[..] {
            [_, target, "cgroup2", ..] => second = Some(target),
            [_, _, "cgroup", options, ..] => first.extend(options.split(',')),
            _ => {}
        }
    }
    // in version 2 every group can be frozen, without a controller
    let offered = second.map(offered).unwrap_or_default();
    let lacks = |name: &&str| *name != "freezer" && !offered.split_whitespace().any(|found| found == *name);
    match (CONTROLLERS.iter().all(|name| first.contains(name)), second) {
        (true, _) => finding("version 1"),
        (false, None) if first.is_empty() => finding("none are mounted").problem(remedy),
        (false, None) => finding("version 1, and not all of it").problem(remedy),
        (false, Some(_)) => match CONTROLLERS.into_iter().filter(lacks).collect::<Vec<_>>() {
            lacking if lacking.is_empty() => finding("version 2"),
            lacking => finding(&format!("version 2 without {}", lacking.join(", "))).problem(remedy),
        },
    }
}

fn find_mkfs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(MKFS_PLACES.iter().map(PathBuf::from));
    places.map(|place| place.join(MKFS)).find(|program| program.is_file())
}

/// Makes the smallest sandbox there can be, beside where the provider makes its own, and removes it with its folder.
async fn try_out(patient: &Patient<'_>) -> Finding {
    let needed = "control groups, and a sandbox that starts";
    let finding = |found: String| Finding::ok("sandbox", found, needed);
    let folder = match tempfile::Builder::new().prefix(".doctor-").tempdir_in(patient.context.dir.path()) {
        Ok(folder) => folder,
        Err(error) => {
            return finding(format!("not tried: {error}")).warning("set the data directory right, and look again");
        }
    };
    let backend = match NativeBackend::new(NativeConfig::new(folder.path())) {
        Ok(backend) => backend,
        Err(error) => return finding(with_causes(&error)).problem("a provider needs root on Linux"),
    };
    let found = backend.probe().await;
    if found.problems.is_empty() {
        let version = found.cgroups.map_or_else(String::new, |version| format!(", cgroups {version:?}"));
        return finding(format!("one was made and removed; kernel {}{version}", found.kernel));
    }
    finding(found.problems.join("; ")).problem("mend what is named, or go without the provider role")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::State;
    use settlement::Passphrase;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[tokio::test]
    async fn a_directory_as_init_makes_it_is_sound_and_one_that_others_may_read_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::find(Some(&folder.path().join("data"))).unwrap();
        let state = |findings: Vec<Finding>| findings.iter().map(|finding| finding.state).collect::<Vec<_>>();
        assert_eq!(state(data_directory(&dir)), [State::Problem], "it does not exist yet");
        assert!(keys(&dir, &Config::default()).is_empty());

        dir.create().unwrap();
        assert_eq!(state(data_directory(&dir)), [State::Ok]);
        let missing = keys(&dir, &Config::default());
        assert_eq!(state(missing.clone()), [State::Problem, State::Problem], "{missing:?}");
        assert!(missing.iter().all(|finding| finding.remedy.contains("node init")), "{missing:?}");

        dir.create_peer_key().unwrap();
        Keystore::create(&dir.keystore(), "wallet", &Passphrase::new("x")).await.unwrap();
        assert_eq!(state(keys(&dir, &Config::default())), [State::Ok, State::Ok]);

        set_mode(&dir.keystore().join("wallet.json"), 0o640);
        let findings = keys(&dir, &Config::default());
        assert_eq!(state(findings.clone()), [State::Ok, State::Problem]);
        assert!(findings[1].found.contains("mode 0640") && findings[1].remedy.starts_with("chmod 600 "));
        set_mode(&dir.path().join("peer.key"), 0o604);
        assert_eq!(state(keys(&dir, &Config::default()))[0], State::Problem);
        set_mode(dir.path(), 0o755);
        let findings = data_directory(&dir);
        assert!(findings[0].found.contains("mode 0755") && findings[0].remedy.starts_with("chmod 700 "));
    }

    #[test]
    fn a_missing_or_open_passphrase_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("passphrase");
        assert_eq!(key_file("keys.passphrase", &file, "").state, State::Problem);
        fs::write(&file, "x").unwrap();
        set_mode(&file, 0o644);
        assert_eq!(key_file("keys.passphrase", &file, "").state, State::Problem);
        set_mode(&file, 0o600);
        assert_eq!(key_file("keys.passphrase", &file, "").state, State::Ok);
    }

    #[test]
    fn control_groups_of_either_version_will_do_if_they_are_whole() {
        let mount = |kind: &str, options: &str| format!("cgroup /sys/fs/cgroup {kind} rw{options} 0 0\n");
        let look = |mounts: &str, offered: &str| cgroups(mounts, |_| offered.to_owned());
        assert_eq!(look("", "").state, State::Problem);
        assert_eq!(look(&mount("cgroup2", ""), "cpuset cpu memory pids\n").found, "version 2");
        let bare = look(&mount("cgroup2", ""), "cpuset cpu\n");
        assert_eq!((bare.state, bare.found.as_str()), (State::Problem, "version 2 without memory, pids"));
        let most = ["cpu,cpuacct", "memory", "freezer"].map(|name| mount("cgroup", &format!(",{name}"))).concat();
        assert_eq!(look(&most, "").state, State::Problem);
        // a machine may have both, and then the first is the one in use
        let both = most + &mount("cgroup", ",pids") + &mount("cgroup2", "");
        assert_eq!(look(&both, "").found, "version 1");
    }

    #[test]
    fn without_the_program_for_disks_its_package_is_named() {
        assert!(mkfs(None).remedy.contains("e2fsprogs"));
        assert_eq!(mkfs(Some("/sbin/mkfs.ext4".into())).state, State::Ok);
    }

    #[test]
    fn a_configuration_that_is_not_there_is_a_warning() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::find(Some(folder.path())).unwrap();
        assert_eq!(configured(&dir).state, State::Warning);
        dir.write_config("").unwrap();
        assert_eq!(configured(&dir).state, State::Ok);
    }
}
