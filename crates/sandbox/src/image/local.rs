//! Images in files of this machine: a directory in OCI layout, an archive of one, or what `docker save` writes. A stranger may have
//! uploaded them, so names are looked up below the directory only, never through a link, and every part that has a digest is held
//! against it.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use serde::Deserialize;
use tar::{Archive, EntryType};

use super::compression::{is_packed, unpacked};
use super::documents::{Configuration, Descriptor, Document, MAX_DOCUMENT, choose};
use super::{ImageDigest, ImageError};

/// The most files of an archive: three for each layer, and a few more.
const MAX_MEMBERS: usize = 4096;

/// What may describe one of them; see the same bound of unpacking.
const MAX_NAME: u64 = 64 << 10;

/// How often a list may name another list.
const MAX_NESTING: usize = 3;

/// A part of an image: a piece of a file.
pub(crate) struct Blob {
    pub(crate) file: File,
    pub(crate) start: u64,
    pub(crate) length: u64,
}

impl Blob {
    /// Its bytes, from the first.
    pub(crate) fn reader(self) -> io::Result<io::Take<File>> {
        let mut file = self.file;
        file.seek(SeekFrom::Start(self.start))?;
        Ok(file.take(self.length))
    }
}

/// A layer, and the digest that it must have as it lies there, if it is named by one.
pub(crate) struct LocalLayer {
    pub(crate) blob: Blob,
    pub(crate) digest: Option<ImageDigest>,
}

/// An image in files.
pub(crate) struct LocalImage {
    pub(crate) configuration: Configuration,
    pub(crate) layers: Vec<LocalLayer>,
}

impl LocalImage {
    /// Reads the description of an image in a directory.
    pub(crate) fn layout(directory: &Path) -> Result<LocalImage, ImageError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(CWD, directory, flags, Mode::empty()).map_err(io::Error::from);
        Files::Directory(opened.map_err(ImageError::at(directory))?).oci()
    }

    /// Reads the description of an image in an archive. One that is packed as a whole is unpacked to `scratch`, at most `limit` bytes.
    pub(crate) fn archive(path: &Path, scratch: &Path, limit: u64) -> Result<LocalImage, ImageError> {
        let file = open_file(path)?;
        let mut reader = BufReader::new(&file);
        let start = io::BufRead::fill_buf(&mut reader).map_err(ImageError::at(path))?;
        let file = if is_packed(start) {
            let plain = unpacked(reader).map_err(|error| ImageError::malformed("the archive", error))?;
            copy_bounded(plain, scratch, limit)?
        } else {
            drop(reader);
            file
        };
        let members = members(&file)?;
        let files = Files::Archive { file, members };
        if files.open("index.json").is_ok() { files.oci() } else { files.docker() }
    }
}

/// Opens a file to be read, and nothing else that has a path: a pipe would wait for ever.
pub(crate) fn open_file(path: &Path) -> Result<File, ImageError> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(CWD, path, flags, Mode::empty()).map_err(io::Error::from).map_err(ImageError::at(path))?;
    plain(file, &path.display().to_string())
}

fn plain(file: OwnedFd, name: &str) -> Result<File, ImageError> {
    let found = fstat(&file).map_err(io::Error::from).map_err(ImageError::at(Path::new(name)))?;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::RegularFile => Ok(file.into()),
        _ => Err(ImageError::malformed(name, "it is not a file")),
    }
}

fn copy_bounded(plain: impl Read, scratch: &Path, limit: u64) -> Result<File, ImageError> {
    let create = || File::options().read(true).write(true).create_new(true).open(scratch);
    let mut file = create().map_err(ImageError::at(scratch))?;
    let copied = io::copy(&mut plain.take(limit + 1), &mut file).map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ImageError::at(scratch)(error),
        _ => ImageError::malformed("the archive", error),
    })?;
    if copied > limit {
        return Err(ImageError::TooLarge { what: "the archive".into(), limit: format!("{} MiB", limit >> 20) });
    }
    Ok(file)
}

/// Where a file of an archive lies.
enum Member {
    File {
        start: u64,
        length: u64,
    },
    /// Another name of it.
    Link(String),
}

enum Files {
    Directory(OwnedFd),
    Archive { file: File, members: HashMap<String, Member> },
}

impl Files {
    fn open(&self, path: &str) -> Result<Blob, ImageError> {
        let missing = || ImageError::NotFound(format!("the image's file {}", path.escape_debug()));
        match self {
            Files::Directory(directory) => {
                let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
                let file = openat2(directory, path, flags, Mode::empty(), resolve).map_err(|_| missing())?;
                let file = plain(file, path)?;
                let length = file.metadata().map_err(ImageError::at(Path::new(path)))?.len();
                Ok(Blob { file, start: 0, length })
            }
            Files::Archive { file, members } => {
                let mut member = members.get(path);
                if let Some(Member::Link(target)) = member {
                    member = members.get(target);
                }
                let Some(Member::File { start, length }) = member else { return Err(missing()) };
                // Its own position, since several parts are open at once: a duplicate would share it.
                let file = reopen(file)?;
                Ok(Blob { file, start: *start, length: *length })
            }
        }
    }

    fn bytes(&self, path: &str) -> Result<Vec<u8>, ImageError> {
        let blob = self.open(path)?;
        if blob.length > MAX_DOCUMENT {
            let limit = format!("{} MiB", MAX_DOCUMENT >> 20);
            return Err(ImageError::TooLarge { what: format!("the image's file {}", path.escape_debug()), limit });
        }
        let mut bytes = Vec::new();
        blob.reader().and_then(|mut reader| reader.read_to_end(&mut bytes)).map_err(ImageError::at(Path::new(path)))?;
        Ok(bytes)
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let bytes = self.bytes(&blob_path(&descriptor.digest))?;
        let found = ImageDigest::of(&bytes);
        if found == descriptor.digest {
            return Ok(bytes);
        }
        let (wanted, found) = (descriptor.digest.to_string(), found.to_string());
        Err(ImageError::DigestMismatch { what: "a document of the image".into(), wanted, found })
    }

    /// An image in OCI layout.
    fn oci(&self) -> Result<LocalImage, ImageError> {
        let mut bytes = self.bytes("index.json")?;
        for _ in 0..MAX_NESTING {
            match Document::parse("index.json", &bytes)? {
                Document::Index(manifests) => bytes = self.document(choose(&manifests)?)?,
                Document::Manifest(manifest) => {
                    let configuration = Configuration::parse("its configuration", &self.document(&manifest.config)?)?;
                    let layer = |layer: &Descriptor| {
                        let blob = self.open(&blob_path(&layer.digest))?;
                        Ok(LocalLayer { blob, digest: Some(layer.digest) })
                    };
                    let layers = manifest.layers.iter().map(layer).collect::<Result<_, ImageError>>()?;
                    return Ok(LocalImage { configuration, layers });
                }
            }
        }
        Err(ImageError::malformed("index.json", "lists of lists of lists lead nowhere"))
    }

    /// An image as `docker save` wrote it before it knew the OCI layout: names without digests, so that what holds the layers is the
    /// configuration.
    fn docker(&self) -> Result<LocalImage, ImageError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Saved {
            config: String,
            layers: Vec<String>,
        }
        let what = "manifest.json";
        let saved: Vec<Saved> =
            serde_json::from_slice(&self.bytes(what)?).map_err(|e| ImageError::malformed(what, e))?;
        let [saved] = saved.as_slice() else {
            return Err(ImageError::malformed(what, "it must name exactly one image: save only one"));
        };
        let configuration = Configuration::parse(&saved.config, &self.bytes(&saved.config)?)?;
        let layer = |name: &String| Ok(LocalLayer { blob: self.open(name)?, digest: None });
        let layers = saved.layers.iter().map(layer).collect::<Result<_, ImageError>>()?;
        Ok(LocalImage { configuration, layers })
    }
}

fn blob_path(digest: &ImageDigest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn reopen(file: &File) -> Result<File, ImageError> {
    let path = super::tree::descriptor_path(file);
    File::open(&path).map_err(ImageError::at(&path))
}

/// A file whose reader is told how much may describe the next member.
struct Rationed<'a> {
    file: &'a File,
    ration: &'a Cell<u64>,
}

impl Read for Rationed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ration = self.ration.get();
        if ration == 0 && !buffer.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a name in it is too long"));
        }
        let most = usize::try_from(ration).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(buffer.get_mut(..most).unwrap_or_default())?;
        self.ration.set(ration.saturating_sub(read as u64));
        Ok(read)
    }
}

impl Seek for Rationed<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// The files of an archive, by name. Only headers are read.
fn members(mut file: &File) -> Result<HashMap<String, Member>, ImageError> {
    let broken = |error: io::Error| ImageError::malformed("the archive", error);
    file.seek(SeekFrom::Start(0)).map_err(broken)?;
    let ration = Cell::new(0);
    let mut archive = Archive::new(Rationed { file, ration: &ration });
    let mut entries = archive.entries_with_seek().map_err(broken)?;
    let mut members = HashMap::new();
    loop {
        ration.set(MAX_NAME);
        let Some(entry) = entries.next() else { break };
        let entry = entry.map_err(broken)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_string();
        let target = || String::from_utf8_lossy(&entry.link_name_bytes().unwrap_or_default()).into_owned();
        let member = match entry.header().entry_type() {
            EntryType::Regular => Member::File { start: entry.raw_file_position(), length: entry.size() },
            EntryType::Link => Member::Link(beside("", &target())),
            EntryType::Symlink => Member::Link(beside(&name, &target())),
            _ => continue,
        };
        if members.len() == MAX_MEMBERS {
            let limit = format!("{MAX_MEMBERS} files");
            return Err(ImageError::TooLarge { what: "the archive".into(), limit });
        }
        members.insert(name, member);
    }
    Ok(members)
}

/// The member that a link means: a path beside its own.
fn beside(name: &str, target: &str) -> String {
    let mut parts: Vec<&str> = name.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_of_an_archive_means_the_member_beside_it_and_never_more() {
        assert_eq!(beside("abc/layer.tar", "../def/layer.tar"), "def/layer.tar");
        assert_eq!(beside("abc/layer.tar", "../../../etc/shadow"), "etc/shadow");
        assert_eq!(beside("", "def/layer.tar"), "def/layer.tar");
    }
}
