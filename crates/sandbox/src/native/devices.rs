//! Devices inside: the few that every program expects, and those that were rented, with the files that belong to them.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::mount::{MountFlags, mount, mount_bind, mount_bind_recursive};

use super::helper::{Failed, Step, c_path, fd_path};
use super::root::{Tree, show_read_only};
use crate::Devices;
use crate::spec::DEVICE_LIBRARIES;

/// Devices that every program may expect. All are open to everyone and hold no state of the machine.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// A small `/dev` of its own. The names are the machine's, and so is only what is listed.
pub(super) fn basic(tree: &Tree) -> Result<(), Failed> {
    let dev = tree.directory("dev", 0o755)?;
    let options = format!("mode=755,size=64k,uid={0},gid={0}", tree.owner);
    let options = c_path(Path::new(&options)).step(|| "mount /dev".into())?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("tmpfs", fd_path(&dev), "tmpfs", flags, options.as_c_str()).step(|| "mount /dev".into())?;
    for name in DEVICES {
        let target = tree.file(&format!("dev/{name}"))?;
        mount_bind_recursive(Path::new("/dev").join(name), fd_path(&target)).step(|| format!("show /dev/{name}"))?;
    }
    tree.directory("dev/pts", 0o755)?;
    tree.directory("dev/shm", 0o1777)?;
    for (name, target) in [
        ("dev/ptmx", "pts/ptmx"),
        ("dev/fd", "/proc/self/fd"),
        ("dev/stdin", "/proc/self/fd/0"),
        ("dev/stdout", "/proc/self/fd/1"),
        ("dev/stderr", "/proc/self/fd/2"),
    ] {
        tree.link(name, Path::new(target))?;
    }
    Ok(())
}

/// What belongs to the rented devices: their nodes, the vendor's files read-only, and links. A place that the root has already, such as a
/// library of the machine's own `/usr`, is covered by a node or a file and kept by a link.
pub(super) fn given(tree: &Tree, devices: &Devices, users: BorrowedFd<'_>) -> Result<(), Failed> {
    for node in &devices.nodes {
        let target = tree.place_of(&node.inside)?.file()?;
        mount_bind(&node.host, fd_path(&target)).step(|| format!("show {}", node.inside.display()))?;
    }
    for mount in &devices.mounts {
        let place = tree.place_of(&mount.inside)?;
        let target = if mount.host.is_dir() { place.directory()? } else { place.file()? };
        show_read_only(&mount.host, &target, users)?;
    }
    for link in &devices.links {
        tree.place_of(&link.path)?.link(&link.target)?;
    }
    if !devices.mounts.is_empty() {
        tree.directory(DEVICE_LIBRARIES, 0o755)?;
        for link in devices.library_links() {
            tree.place_of(&Path::new(DEVICE_LIBRARIES).join(link.path))?.link(&link.target)?;
        }
    }
    Ok(())
}
