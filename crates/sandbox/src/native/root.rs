//! The files a sandbox will see, put together outside by root: the disk, the given tree or a skeleton around the machine's `/usr`, devices,
//! the agent. Directories are opened step by step and never through a symbolic link, since a given tree may hold links meant for us.

use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, unlinkat};
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, mount, mount_bind, mount_remount, move_mount, open_tree,
};

use super::helper::{Failed, Plan, Step, c_path, fd_path};
use super::inside::AGENT_PATH;
use super::{devices, disk, secrecy, views};
use crate::WORKING_DIRECTORY;

/// Where the pieces are in the sandbox's state directory, in the builder's own mount namespace.
pub(crate) const ROOT: &str = "root";
const DISK: &str = "disk";
const LOWER: &str = "lower";

/// Where a renter puts what must not touch a disk, and the most bytes of it: keys and tokens are small. It is charged to the agent, which
/// writes it, and is never swapped out.
const SECRETS: &str = "run/secrets";
const SECRETS_BYTES: u64 = 1 << 20;

/// The kernel's constants that no library names yet.
const MOUNT_ATTR_RDONLY: u64 = 0x1;
const MOUNT_ATTR_NOSUID: u64 = 0x2;
const MOUNT_ATTR_NODEV: u64 = 0x4;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Puts everything together at `root`. `users` is the user namespace whose numbers the files get.
pub(crate) fn prepare(plan: &Plan, users: BorrowedFd<'_>) -> Result<(), Failed> {
    for directory in [ROOT, DISK, LOWER] {
        fs::create_dir_all(directory).step(|| format!("make {directory}"))?;
    }
    mount_disk(plan)?;
    match &plan.tree {
        None => mount_bind("disk/upper", ROOT).step(|| "mount the root".into())?,
        Some(tree) => mount_overlay(tree, users)?,
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, ROOT, flags, Mode::empty()).step(|| "open the root".into())?;
    let tree = Tree { root, owner: plan.uid_base };
    for (path, mode) in [
        ("proc", 0o555),
        ("dev", 0o755),
        ("tmp", 0o1777),
        ("run", 0o755),
        ("run/gpulease", 0o755),
        (views::PLACE, 0o755),
        (SECRETS, 0o700),
        ("sys", 0o555),
        (WORKING_DIRECTORY, 0o755),
    ] {
        tree.directory(path, mode)?;
    }
    if plan.tree.is_none() {
        host_usr(&tree, plan, users)?;
    }
    if let Some(network) = &plan.egress {
        tree.directory("etc", 0o755)?;
        tree.replace("etc/resolv.conf", network.resolv_conf().as_bytes())?;
    }
    devices::basic(&tree)?;
    devices::given(&tree, &plan.devices, users)?;
    secrets(&tree)?;
    let shown = clone_tree(Path::new(views::VIEWS), None).step(|| format!("show {}", views::VIEWS))?;
    place(&shown, &tree.directory(views::PLACE, 0o755)?).step(|| format!("show {}", views::PLACE))?;
    let target = tree.file(AGENT_PATH)?;
    let agent = clone_tree(&plan.agent, None).step(|| format!("show {}", plan.agent.display()))?;
    place(&agent, &target).step(|| "show the agent inside".into())
}

/// Mounts the disk image. The loop device frees itself when the last mount of it is gone, that is, with the sandbox.
fn mount_disk(plan: &Plan) -> Result<(), Failed> {
    let (device, path) =
        disk::attach(Path::new(disk::IMAGE)).step(|| "attach the disk image to a loop device".into())?;
    // No background zeroing of unused tables: it would fill the sparse file. Discard gives the space of deleted files back. No
    // barriers: what a crash of the machine leaves is thrown away, and so is all of it at the end, which need not reach the device first.
    let options = c"noinit_itable,discard,nobarrier,errors=remount-ro";
    mount(&path, DISK, "ext4", MountFlags::NOSUID | MountFlags::NODEV, options)
        .step(|| format!("mount {}", path.display()))?;
    drop(device);
    let key = secrecy::add_key(Path::new(DISK)).step(|| "give the disk a key".into())?;
    for directory in ["disk/upper", "disk/work"] {
        fs::create_dir(directory).step(|| format!("make {directory}"))?;
        if let Some(key) = &key {
            secrecy::encrypt(Path::new(directory), key).step(|| format!("encrypt {directory}"))?;
        }
        chown(directory, Some(plan.uid_base), Some(plan.uid_base)).step(|| format!("own {directory}"))?;
        fs::set_permissions(directory, Permissions::from_mode(0o755)).step(|| format!("open {directory}"))?;
    }
    if key.is_some() {
        // Only what says so is spared the overwriting at the end.
        fs::write(disk::ENCRYPTED, b"").step(|| "note that the disk is encrypted".into())
    } else {
        // What is deleted must be there at the end, to be overwritten with the rest.
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount(DISK, flags, c"nodiscard").step(|| "keep what is deleted on the disk".into())
    }
}

/// The given tree below, owned by the sandbox's users, and the disk on top of it.
fn mount_overlay(tree: &Path, users: BorrowedFd<'_>) -> Result<(), Failed> {
    let lower = clone_tree(tree, Some(users)).step(|| {
        format!(
            "map the users of {} (its file system must support id-mapped mounts: ext4, xfs, btrfs or tmpfs)",
            tree.display()
        )
    })?;
    place(&lower, &File::open(LOWER).step(|| format!("open {LOWER}"))?).step(|| format!("mount {}", tree.display()))?;
    // Relative names: the path of a data directory may hold characters that mean something in these options.
    let options = c"lowerdir=lower,upperdir=disk/upper,workdir=disk/work";
    mount("overlay", ROOT, "overlay", MountFlags::NOSUID | MountFlags::NODEV, options)
        .step(|| "mount the overlay".into())
}

/// The skeleton around the machine's own programs.
fn host_usr(tree: &Tree, plan: &Plan, users: BorrowedFd<'_>) -> Result<(), Failed> {
    for (path, mode) in [("etc", 0o755), ("var", 0o755), ("var/tmp", 0o1777)] {
        tree.directory(path, mode)?;
    }
    let usr = tree.directory("usr", 0o755)?;
    show_read_only(Path::new("/usr"), &usr, users)?;
    for name in ["bin", "sbin", "lib", "lib32", "lib64", "libx32"] {
        let host = Path::new("/").join(name);
        let Ok(metadata) = fs::symlink_metadata(&host) else { continue };
        if metadata.is_symlink() {
            let target = fs::read_link(&host).step(|| format!("read {}", host.display()))?;
            tree.link(name, &target)?;
        } else if metadata.is_dir() {
            show_read_only(&host, &tree.directory(name, 0o755)?, users)?;
        }
    }
    let hosts = format!("127.0.0.1 localhost {0}\n::1 localhost {0}\n", plan.hostname);
    let hostname = format!("{}\n", plan.hostname);
    let names = if plan.egress.is_some() { "files dns" } else { "files" };
    let services = format!("passwd: files\ngroup: files\nhosts: {names}\n");
    for (name, content) in [
        ("etc/passwd", "root:x:0:0:root:/job:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"),
        ("etc/group", "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"),
        ("etc/nsswitch.conf", services.as_str()),
        ("etc/hosts", hosts.as_str()),
        ("etc/hostname", hostname.as_str()),
        ("etc/resolv.conf", ""),
    ] {
        tree.write(name, content.as_bytes())?;
    }
    // Where libraries are, and which of several programs a name means: both only speak of /usr. Some machines have hundreds of the latter.
    if let Ok(cache) = fs::read("/etc/ld.so.cache") {
        tree.write("etc/ld.so.cache", &cache)?;
    }
    let alternatives = Path::new("/etc/alternatives");
    if alternatives.is_dir() {
        show_read_only(alternatives, &tree.directory("etc/alternatives", 0o755)?, users)?;
    }
    Ok(())
}

/// Shows a directory of the machine inside. Where its file system cannot map users its files belong to `nobody`, and are read as well.
pub(super) fn show_read_only(host: &Path, target: &impl AsRawFd, users: BorrowedFd<'_>) -> Result<(), Failed> {
    let show = || clone_tree(host, Some(users)).or_else(|_| clone_tree(host, None));
    show().and_then(|tree| place(&tree, target)).step(|| format!("show {} inside", host.display()))
}

/// A place in memory for secrets.
fn secrets(tree: &Tree) -> Result<(), Failed> {
    let directory = tree.directory(SECRETS, 0o700)?;
    let options = format!("mode=700,size={SECRETS_BYTES},uid={0},gid={0}", tree.owner);
    let options = c_path(Path::new(&options)).step(|| "mount the secrets".into())?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", fd_path(&directory), "tmpfs", flags, options.as_c_str()).step(|| "mount the secrets".into())
}

/// The root being put together.
pub(super) struct Tree {
    root: OwnedFd,
    /// The number outside of the sandbox's user 0.
    pub(super) owner: u32,
}

impl Tree {
    /// Opens a path below the root. A symbolic link anywhere in it is an error.
    fn open(&self, path: &str, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(&self.root, path.trim_start_matches('/'), flags | OFlags::CLOEXEC, Mode::empty(), resolve)
    }

    /// Opens the directory of a path, and names the rest.
    fn parent<'a>(&self, path: &'a str) -> Result<(OwnedFd, &'a str), Failed> {
        let path = path.trim_start_matches('/');
        let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
        let opened = self.open(directory, OFlags::PATH | OFlags::DIRECTORY);
        Ok((opened.step(|| format!("open /{directory} of the root (it must be a real directory)"))?, name))
    }

    /// A directory, made if it is not there, with these permissions if it was made.
    pub(super) fn directory(&self, path: &str, mode: u32) -> Result<OwnedFd, Failed> {
        let (parent, name) = self.parent(path)?;
        let made = match mkdirat(&parent, name, Mode::from_raw_mode(0o700)) {
            Ok(()) => true,
            Err(rustix::io::Errno::EXIST) => false,
            Err(error) => return Err(error).step(|| format!("make {path} in the root")),
        };
        let opened = self.open(path, OFlags::PATH | OFlags::DIRECTORY);
        let directory = opened.step(|| format!("open {path} of the root (it must be a real directory, not a link)"))?;
        if made {
            let real = fd_path(&directory);
            let own = || -> io::Result<()> {
                chown(&real, Some(self.owner), Some(self.owner))?;
                fs::set_permissions(&real, Permissions::from_mode(mode))
            };
            own().step(|| format!("own {path} in the root"))?;
        }
        Ok(directory)
    }

    /// An empty file to mount something on, made if it is not there.
    pub(super) fn file(&self, path: &str) -> Result<OwnedFd, Failed> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&parent, name, flags, Mode::from_raw_mode(0o444)).step(|| format!("make {path} in the root"))?;
        self.open(path, OFlags::PATH).step(|| format!("open {path} of the root"))
    }

    /// A new file with this content, readable by all.
    fn write(&self, path: &str, content: &[u8]) -> Result<(), Failed> {
        let (parent, name) = self.parent(path)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let write = || -> io::Result<()> {
            let mut file = File::from(openat(&parent, name, flags, Mode::from_raw_mode(0o644))?);
            file.write_all(content)?;
            std::os::unix::fs::fchown(&file, Some(self.owner), Some(self.owner))
        };
        write().step(|| format!("write {path} in the root"))
    }

    /// A file with this content in place of whatever file or link has its name.
    fn replace(&self, path: &str, content: &[u8]) -> Result<(), Failed> {
        let (parent, name) = self.parent(path)?;
        match unlinkat(&parent, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => self.write(path, content),
            Err(error) => Err(error).step(|| format!("remove {path} in the root")),
        }
    }

    /// A new symbolic link.
    pub(super) fn link(&self, path: &str, target: &Path) -> Result<(), Failed> {
        let (parent, name) = self.parent(path)?;
        let link = fd_path(&parent).join(name);
        let make = symlink(target, &link).and_then(|()| lchown(&link, Some(self.owner), Some(self.owner)));
        make.step(|| format!("link {path} in the root"))
    }
}

/// A place in the root that something of the machine shall take: a directory, and the name in it.
pub(super) struct Place<'a> {
    tree: &'a Tree,
    directory: OwnedFd,
    name: &'a OsStr,
    path: &'a Path,
}

impl Tree {
    /// The place of a path, its directories made where they are not there. Links on the way are followed as a program inside would: they
    /// cannot lead out of the root.
    pub(super) fn place_of<'a>(&'a self, path: &'a Path) -> Result<Place<'a>, Failed> {
        let shown = || format!("open the place of {} in the root", path.display());
        let name = path.file_name().ok_or("it is no path of a file").step(shown)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut directory = openat(&self.root, ".", flags, Mode::empty()).step(shown)?;
        let mut so_far = PathBuf::from("/");
        for part in path.parent().into_iter().flat_map(Path::components) {
            let Component::Normal(part) = part else { continue };
            so_far.push(part);
            let open = || openat2(&self.root, &so_far, flags, Mode::empty(), ResolveFlags::IN_ROOT);
            directory = match open() {
                Ok(found) => found,
                Err(rustix::io::Errno::NOENT) => {
                    mkdirat(&directory, part, Mode::from_raw_mode(0o755)).step(shown)?;
                    let made = open().step(shown)?;
                    chown(fd_path(&made), Some(self.owner), Some(self.owner)).step(shown)?;
                    made
                }
                Err(error) => return Err(error).step(shown),
            };
        }
        Ok(Place { tree: self, directory, name, path })
    }
}

impl Place<'_> {
    fn open(&self, kind: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC | kind;
        openat(&self.directory, self.name, flags, Mode::empty())
    }

    fn what(&self, verb: &str) -> String {
        format!("{verb} {} in the root", self.path.display())
    }

    /// A file to mount something on, made if nothing is there.
    pub(super) fn file(&self) -> Result<OwnedFd, Failed> {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        match openat(&self.directory, self.name, flags, Mode::from_raw_mode(0o444)) {
            Ok(_) | Err(rustix::io::Errno::EXIST) => self.open(OFlags::empty()).step(|| self.what("open")),
            Err(error) => Err(error).step(|| self.what("make")),
        }
    }

    /// A directory to mount something on, made if nothing is there.
    pub(super) fn directory(&self) -> Result<OwnedFd, Failed> {
        match mkdirat(&self.directory, self.name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => self.open(OFlags::DIRECTORY).step(|| self.what("open")),
            Err(error) => Err(error).step(|| self.what("make")),
        }
    }

    /// A symbolic link, unless something is there.
    pub(super) fn link(&self, target: &Path) -> Result<(), Failed> {
        let link = fd_path(&self.directory).join(self.name);
        match symlink(target, &link) {
            Ok(()) => lchown(&link, Some(self.tree.owner), Some(self.tree.owner)).step(|| self.what("own")),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error).step(|| self.what("link")),
        }
    }
}

/// A detached read-only copy of a mount, without set-user files and devices, its files mapped to the given users.
pub(super) fn clone_tree(path: &Path, users: Option<BorrowedFd<'_>>) -> io::Result<OwnedFd> {
    let path = PathBuf::from(path);
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let tree = open_tree(CWD, &path, flags)?;
    let mut attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
    if users.is_some() {
        attributes |= MOUNT_ATTR_IDMAP;
    }
    let attributes = libc::mount_attr {
        attr_set: attributes,
        attr_clr: 0,
        propagation: 0,
        userns_fd: users.map_or(0, |users| users.as_raw_fd() as u64),
    };
    // SAFETY: an empty path means the open tree; the kernel reads one `struct mount_attr`, whose size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            AtFlags::EMPTY_PATH.bits(),
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(tree) } else { Err(io::Error::last_os_error()) }
}

/// Attaches a detached mount on an open file or directory.
pub(super) fn place(tree: &OwnedFd, target: &impl AsRawFd) -> io::Result<()> {
    Ok(move_mount(
        tree.as_fd(),
        "",
        CWD,
        fd_path(target),
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS,
    )?)
}
