//! How images are named. The terms of a rental name an image by its digest, so that what runs is what was agreed on; a tag is a name
//! that can be moved, and is turned into a digest on the renter's side before anything is signed.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{ImageDigest, ImageError};

/// The longest name of a registry with its repository that others take.
const MAX_NAME: usize = 255;

/// The longest tag that others take.
const MAX_TAG: usize = 128;

/// Where names without a registry are looked up, as everybody's tools do.
const DEFAULT_REGISTRY: &str = "docker.io";

/// A repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Repository {
    /// Host and, if it is not the usual one, port.
    pub(crate) registry: String,
    /// The path below it.
    pub(crate) path: String,
}

/// An image of a registry that is the same for good: `registry/repository@sha256:…`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageReference {
    pub(crate) repository: Repository,
    pub(crate) digest: ImageDigest,
}

impl ImageReference {
    /// The digest of the image's manifest, or of its list of manifests for several platforms.
    pub fn digest(&self) -> ImageDigest {
        self.digest
    }
}

/// An image by a tag, which may mean another image tomorrow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaggedImage {
    pub(crate) repository: Repository,
    pub(crate) tag: String,
}

impl FromStr for ImageReference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<ImageReference, ImageError> {
        let without =
            "it has no digest, and a tag may mean another image tomorrow: resolve it first, then give `name@sha256:…`";
        let (name, digest) = text.split_once('@').ok_or_else(|| wrong(text, without))?;
        // A tag before a digest says nothing that counts.
        let (name, _) = split_tag(name);
        Ok(ImageReference { repository: repository(text, name)?, digest: digest.parse()? })
    }
}

impl FromStr for TaggedImage {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<TaggedImage, ImageError> {
        let (name, tag) = split_tag(text);
        let tag = tag.unwrap_or("latest");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
        if tag.is_empty() || tag.len() > MAX_TAG || tag.starts_with(['.', '-']) || !tag.chars().all(plain) {
            return Err(wrong(text, "a tag is up to 128 letters, digits, `_`, `.` and `-`"));
        }
        Ok(TaggedImage { repository: repository(text, name)?, tag: tag.into() })
    }
}

/// A colon after the last slash begins a tag; one before it belongs to a port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
        _ => (name, None),
    }
}

fn repository(given: &str, name: &str) -> Result<Repository, ImageError> {
    if name.len() > MAX_NAME {
        return Err(wrong(given, "the name is longer than 255 characters"));
    }
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest.to_string()),
        Some(_) => (DEFAULT_REGISTRY, name.to_string()),
        // Its own images have names of one word.
        None => (DEFAULT_REGISTRY, format!("library/{name}")),
    };
    let (host, port) = registry.split_once(':').unwrap_or((registry, "443"));
    let host_is_plain = host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    if host.is_empty() || !host_is_plain || host.starts_with(['.', '-']) || port.parse::<u16>().is_err() {
        return Err(wrong(
            given,
            "the registry before the first `/` is a host name, with a port after a colon if need be",
        ));
    }
    if !path.split('/').all(is_path_word) {
        return Err(wrong(given, "the repository is words of a-z, 0-9, `.`, `_` and `-`, separated by `/`"));
    }
    Ok(Repository { registry: registry.to_ascii_lowercase(), path })
}

fn is_path_word(word: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '_' | '-');
    let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    word.chars().all(inner) && word.starts_with(outer) && word.ends_with(outer)
}

fn wrong(given: &str, reason: &'static str) -> ImageError {
    ImageError::Reference { given: given.chars().take(MAX_NAME).collect(), reason }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.repository, self.digest)
    }
}

impl TryFrom<String> for ImageReference {
    type Error = ImageError;

    fn try_from(text: String) -> Result<ImageReference, ImageError> {
        text.parse()
    }
}

impl From<ImageReference> for String {
    fn from(reference: ImageReference) -> String {
        reference.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_name_is_read_as_everybody_reads_it() {
        for (given, meant) in [
            ("busybox", "docker.io/library/busybox"),
            ("pytorch/pytorch", "docker.io/pytorch/pytorch"),
            ("registry.example/a/b-c/d", "registry.example/a/b-c/d"),
            ("registry.example:5000/a", "registry.example:5000/a"),
            ("localhost/a", "localhost/a"),
            ("127.0.0.1:80/a:tag", "127.0.0.1:80/a"),
        ] {
            let reference: ImageReference = format!("{given}@{DIGEST}").parse().unwrap();
            assert_eq!(reference.to_string(), format!("{meant}@{DIGEST}"));
            assert_eq!(reference.to_string().parse::<ImageReference>().unwrap(), reference);
        }
    }

    #[test]
    fn a_tag_alone_is_refused_with_what_to_do() {
        for given in ["busybox", "busybox:1.36", "registry.example:5000/a"] {
            let error = given.parse::<ImageReference>().unwrap_err().to_string();
            assert!(error.contains("resolve it first, then give `name@sha256:…`"), "{error}");
        }
    }

    #[test]
    fn a_name_that_could_become_another_address_is_refused() {
        for name in [
            "",
            "/a",
            "a//b",
            "a/../b",
            "A/b",
            "x y/a",
            "user@h.example/a",
            "h.example/a?b",
            "h.example:99999/a",
            "h.example:/a",
            ".example/a",
            "h.example/a#b",
            "h.example/-a",
            &"a".repeat(256),
        ] {
            assert!(format!("{name}@{DIGEST}").parse::<ImageReference>().is_err(), "{name}");
        }
        assert!("busybox@sha256:12".parse::<ImageReference>().is_err());
    }

    #[test]
    fn a_tag_is_told_from_a_port() {
        let tagged = |text: &str| text.parse::<TaggedImage>().map(|image| (image.repository.to_string(), image.tag));
        assert_eq!(tagged("busybox").unwrap(), ("docker.io/library/busybox".into(), "latest".into()));
        assert_eq!(tagged("h.example:5000/a").unwrap(), ("h.example:5000/a".into(), "latest".into()));
        assert_eq!(tagged("h.example:5000/a:1.0").unwrap(), ("h.example:5000/a".into(), "1.0".into()));
        assert!(tagged("a:").is_err() && tagged("a:x/y/").is_err() && tagged("a:-").is_err());
    }
}
