//! The sandbox's disk: a sparse file with an ext4 file system of exactly the size bought, mounted through a loop device that frees
//! itself with the last mount. It costs only what is written, and a full one is a full disk and nothing worse.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use rustix::fs::{SeekFrom, copy_file_range, seek};
use rustix::io::Errno;

use crate::Error;

/// The image's name in the sandbox's state directory.
pub(crate) const IMAGE: &str = "disk.img";

/// Where the templates are in the state directory: a name that no sandbox can have.
pub(crate) const TEMPLATES: &str = ".templates";

/// A file beside the image that says that what the sandbox wrote is encrypted with a key that is gone with its mount.
pub(crate) const ENCRYPTED: &str = "encrypted";

/// The program that makes the file system, and where it is when `PATH` does not say.
const MKFS: &str = "mkfs.ext4";
const MKFS_PLACES: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

/// Ends the name of a template that is being made.
const UNFINISHED: &str = "unfinished";

/// Sizes of disk that a template is kept for: a provider sells few different ones, and each takes some MiB.
const MAX_TEMPLATES: usize = 16;

/// Bytes overwritten at once: large enough for the device's own speed.
const SCRUB_BLOCK: usize = 1 << 20;

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

/// The images made for one machine: for each size one empty file system, of which every sandbox gets a copy. Making one takes the
/// program that makes file systems 30 ms and more; copying what it wrote, a few MiB of an otherwise empty file, takes two.
pub(crate) struct Templates {
    directory: PathBuf,
    /// Held while a template is made or removed.
    making: Mutex<()>,
}

impl Templates {
    /// The templates in a directory, which is made if it is not there. What an interrupted run left half made is removed.
    pub(crate) fn open(directory: PathBuf) -> io::Result<Templates> {
        fs::create_dir_all(&directory)?;
        for entry in fs::read_dir(&directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                fs::remove_file(path)?;
            }
        }
        Ok(Templates { directory, making: Mutex::new(()) })
    }

    /// Makes a sandbox's image.
    pub(crate) fn create(&self, image: &Path, bytes: u64) -> Result<(), Error> {
        let template = self.template(bytes)?;
        copy_written(&template, image, bytes).map_err(|error| Error::Disk(format!("{}: {error}", image.display())))
    }

    /// The template of this size, opened, so that it stays readable when its name is removed meanwhile.
    fn template(&self, bytes: u64) -> Result<File, Error> {
        let path = self.directory.join(format!("{bytes}.img"));
        let wrong = |error: io::Error| Error::Disk(format!("{}: {error}", path.display()));
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        match File::open(&path) {
            Ok(template) => {
                // The time of last use, by which the oldest is found.
                template.set_modified(SystemTime::now()).map_err(wrong)?;
                return Ok(template);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(wrong(error)),
        }
        self.make_room().map_err(wrong)?;
        let fresh = path.with_extension(UNFINISHED);
        make_file_system(&fresh, bytes)?;
        fs::rename(&fresh, &path).map_err(wrong)?;
        File::open(&path).map_err(wrong)
    }

    /// Removes the template unused for longest when there are too many.
    fn make_room(&self) -> io::Result<()> {
        let mut known: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            known.push((entry.metadata()?.modified()?, entry.path()));
        }
        known.sort();
        let surplus = (known.len() + 1).saturating_sub(MAX_TEMPLATES);
        known.into_iter().take(surplus).try_for_each(|(_, path)| fs::remove_file(path))
    }
}

/// Copies the written parts of a sparse file; the holes stay holes.
fn copy_written(template: &File, image: &Path, bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(image)?;
    file.set_len(bytes)?;
    for (start, end) in written(template)? {
        let (mut from, mut to) = (start, start);
        while from < end {
            let length = usize::try_from(end - from).unwrap_or(usize::MAX);
            if copy_file_range(template, Some(&mut from), &file, Some(&mut to), length)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
    Ok(())
}

/// The written parts of a sparse file, first to one past last byte.
fn written(file: &File) -> io::Result<Vec<(u64, u64)>> {
    let (mut parts, mut at) = (Vec::new(), 0);
    loop {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No more data.
            Err(Errno::NXIO) => return Ok(parts),
            Err(error) => return Err(error.into()),
        };
        at = seek(file, SeekFrom::Hole(start))?;
        parts.push((start, at));
    }
}

/// Makes what a sandbox has written unreadable for good: encrypted data is so already, other data is overwritten with zeros down to the
/// device. An image that is gone already is fine.
pub(crate) fn scrub(directory: &Path) -> io::Result<()> {
    if directory.join(ENCRYPTED).exists() {
        return Ok(());
    }
    let image = directory.join(IMAGE);
    let file = match OpenOptions::new().read(true).write(true).open(image) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let zeros = vec![0; SCRUB_BLOCK];
    for (start, end) in written(&file)? {
        let mut at = start;
        while at < end {
            let length = zeros.len().min(usize::try_from(end - at).unwrap_or(usize::MAX));
            file.write_all_at(zeros.get(..length).unwrap_or(&zeros), at)?;
            at += length as u64;
        }
    }
    file.sync_data()
}

/// An empty file system. No journal: after a crash of the machine the image is thrown away.
fn make_file_system(path: &Path, bytes: u64) -> Result<(), Error> {
    let wrong = |error: io::Error| Error::Disk(format!("{}: {error}", path.display()));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(wrong)?;
    file.set_len(bytes).map_err(wrong)?;
    drop(file);
    let mut mkfs = Command::new(find_mkfs()?);
    mkfs.args(["-q", "-F", "-m", "0", "-O", "^has_journal,encrypt", "-E", "lazy_itable_init=1,nodiscard"]).arg(path);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_is_not_encrypted_is_overwritten_where_it_was_written_and_nowhere_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(IMAGE);
        let file = OpenOptions::new().write(true).create_new(true).open(&path).unwrap();
        file.set_len(1 << 30).unwrap();
        file.write_all_at(&[7; 3_000_000], 5 << 20).unwrap();
        file.write_all_at(b"the end", (1 << 30) - 7).unwrap();
        let before = written(&File::open(&path).unwrap()).unwrap();
        scrub(directory.path()).unwrap();
        let scrubbed = File::open(&path).unwrap();
        assert_eq!(written(&scrubbed).unwrap(), before, "holes stay holes");
        for (start, end) in before {
            let mut bytes = vec![1; usize::try_from(end - start).unwrap()];
            scrubbed.read_exact_at(&mut bytes, start).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 0));
        }
        std::fs::remove_file(&path).unwrap();
        scrub(directory.path()).unwrap();
    }

    #[test]
    fn a_copy_of_a_template_is_the_file_system_that_was_made_and_old_templates_make_room() {
        let directory = tempfile::tempdir().unwrap();
        let templates = Templates::open(directory.path().join(TEMPLATES)).unwrap();
        let unfinished = directory.path().join(TEMPLATES).join("1.unfinished");
        fs::write(&unfinished, "").unwrap();
        let templates_again = Templates::open(directory.path().join(TEMPLATES)).unwrap();
        assert!(!unfinished.exists());
        for megabytes in 0..=MAX_TEMPLATES as u64 {
            let bytes = (16 + megabytes) << 20;
            let (one, two) = (directory.path().join(format!("{bytes}.a")), directory.path().join(format!("{bytes}.b")));
            templates.create(&one, bytes).unwrap();
            templates_again.create(&two, bytes).unwrap();
            assert_eq!(fs::metadata(&one).unwrap().len(), bytes);
            assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap());
            let checked = Command::new("e2fsck").args(["-fn"]).arg(&one).output().unwrap();
            assert!(checked.status.success(), "{checked:?}");
        }
        let kept = fs::read_dir(directory.path().join(TEMPLATES)).unwrap().count();
        assert_eq!(kept, MAX_TEMPLATES);
    }
}
