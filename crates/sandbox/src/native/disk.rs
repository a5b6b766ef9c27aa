//! The sandbox's disk: a sparse file with an ext4 file system of exactly the size bought, mounted through a loop device that frees
//! itself with the last mount. It costs only what is written, and a full one is a full disk and nothing worse.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Error;

/// The image's name in the sandbox's state directory.
pub(crate) const IMAGE: &str = "disk.img";

/// The program that makes the file system, and where it is when `PATH` does not say.
const MKFS: &str = "mkfs.ext4";
const MKFS_PLACES: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

const LOOP_CONFIGURE: libc::Ioctl = 0x4C0A;
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4C82;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// How often another process may snatch the free loop device we were told of.
const LOOP_ATTEMPTS: usize = 64;

/// The kernel's `struct loop_config`, with its `struct loop_info64` written out.
#[repr(C)]
#[derive(Clone, Copy)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
    reserved: [u64; 8],
}

/// Finds the program that makes file systems.
pub(crate) fn find_mkfs() -> Result<PathBuf, Error> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain(std::env::split_paths(MKFS_PLACES));
    let found = places.find_map(|place| Some(place.join(MKFS)).filter(|program| program.is_file()));
    found.ok_or_else(|| Error::Disk(format!("{MKFS} is not installed; install the package e2fsprogs")))
}

/// Makes the image. No journal: after a crash of the machine the image is thrown away.
pub(crate) fn create(path: &Path, bytes: u64) -> Result<(), Error> {
    let wrong = |error: io::Error| Error::Disk(format!("{}: {error}", path.display()));
    let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(wrong)?;
    file.set_len(bytes).map_err(wrong)?;
    drop(file);
    let mut mkfs = Command::new(find_mkfs()?);
    mkfs.args(["-q", "-F", "-m", "0", "-O", "^has_journal", "-E", "lazy_itable_init=1,nodiscard"]).arg(path);
    let output = mkfs.stdin(Stdio::null()).output().map_err(|error| Error::Disk(format!("{MKFS}: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Disk(format!("{MKFS} failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim())))
}

/// Attaches an image to a free loop device. Keep the device open until it is mounted: it frees itself at the last close.
pub(crate) fn attach(image: &Path) -> io::Result<(File, PathBuf)> {
    let backing = OpenOptions::new().read(true).write(true).open(image)?;
    let control = OpenOptions::new().read(true).write(true).open("/dev/loop-control")?;
    for _ in 0..LOOP_ATTEMPTS {
        // SAFETY: this call takes no argument and returns a number.
        let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
        if number < 0 {
            return Err(io::Error::last_os_error());
        }
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = OpenOptions::new().read(true).write(true).open(&path)?;
        // SAFETY: zero is a valid value of every field.
        let mut config: LoopConfig = unsafe { std::mem::zeroed() };
        config.fd = u32::try_from(backing.as_raw_fd()).unwrap_or(u32::MAX);
        config.flags = LO_FLAGS_AUTOCLEAR;
        // SAFETY: the kernel reads one `struct loop_config`, which this is.
        if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) } == 0 {
            return Ok((device, path));
        }
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EBUSY) {
            return Err(error);
        }
    }
    Err(io::Error::other("no loop device stays free long enough"))
}

/// The size of the loop device that an image is attached to, as the kernel has it; `None` when it is attached to none.
pub(crate) fn attached_size(image: &Path) -> io::Result<Option<u64>> {
    for entry in fs::read_dir("/sys/block")? {
        let device = entry?.path();
        let Ok(backing) = fs::read_to_string(device.join("loop/backing_file")) else { continue };
        if Path::new(backing.trim_end_matches('\n')) == image {
            let sectors: u64 = fs::read_to_string(device.join("size"))?.trim().parse().map_err(io::Error::other)?;
            // The kernel counts sectors of 512 bytes whatever the device's own are.
            return Ok(Some(sectors * 512));
        }
    }
    Ok(None)
}
