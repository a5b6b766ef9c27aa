//! Names of bytes: images, their parts and unpacked trees are called by the SHA-256 of what they hold.

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::ImageError;

/// A SHA-256 digest, written `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageDigest([u8; 32]);

impl ImageDigest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> ImageDigest {
        ImageDigest(Sha256::digest(bytes).into())
    }

    /// The 64 digits alone: a safe file name.
    pub(crate) fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl FromStr for ImageDigest {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<ImageDigest, ImageError> {
        let reason = "a digest is `sha256:` and 64 hexadecimal digits in lower case";
        let wrong = || ImageError::Reference { given: text.chars().take(100).collect(), reason };
        let digits = text.strip_prefix("sha256:").ok_or_else(wrong)?.as_bytes();
        let mut bytes = [0; 32];
        if digits.len() != 64 {
            return Err(wrong());
        }
        let value = |digit: &u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(wrong()),
        };
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            for digit in pair {
                *byte = *byte << 4 | value(digit)?;
            }
        }
        Ok(ImageDigest(bytes))
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl TryFrom<String> for ImageDigest {
    type Error = ImageError;

    fn try_from(text: String) -> Result<ImageDigest, ImageError> {
        text.parse()
    }
}

impl From<ImageDigest> for String {
    fn from(digest: ImageDigest) -> String {
        digest.to_string()
    }
}

/// The name of a tree made of these layers, lowest first: each one's name depends on all below it. `None` without any layer.
pub(crate) fn chain_id(layers: &[ImageDigest]) -> Option<ImageDigest> {
    layers.iter().copied().reduce(|below, layer| ImageDigest::of(format!("{below} {layer}").as_bytes()))
}

/// A hash that grows.
#[derive(Clone, Default)]
pub(crate) struct Hasher(Sha256);

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn digest(&self) -> ImageDigest {
        ImageDigest(self.0.clone().finalize().into())
    }
}

/// A stream that is hashed as it is read.
pub(crate) struct Hashed<R> {
    stream: R,
    hasher: Hasher,
}

impl<R: Read> Hashed<R> {
    pub(crate) fn new(stream: R) -> Hashed<R> {
        Hashed { stream, hasher: Hasher::default() }
    }

    /// The digest of what was read so far.
    pub(crate) fn digest(&self) -> ImageDigest {
        self.hasher.digest()
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.hasher.update(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_read_as_it_is_written_and_nothing_else_is_taken() {
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(ImageDigest::of(b"abc").to_string(), text);
        assert_eq!(text.parse::<ImageDigest>().unwrap(), ImageDigest::of(b"abc"));
        for wrong in ["", "sha256:", &text[7..], &text[..70], &format!("{text}0"), &text.to_uppercase(), "sha512:00"] {
            assert!(wrong.parse::<ImageDigest>().is_err(), "{wrong}");
        }
        assert!(format!("sha256:../{}", "a".repeat(61)).parse::<ImageDigest>().is_err());
    }

    #[test]
    fn the_name_of_a_tree_depends_on_every_layer_and_their_order() {
        let (a, b) = (ImageDigest::of(b"a"), ImageDigest::of(b"b"));
        assert_eq!(chain_id(&[]), None);
        assert_eq!(chain_id(&[a]), Some(a));
        assert_eq!(chain_id(&[a, b]), Some(ImageDigest::of(format!("{a} {b}").as_bytes())));
        assert_ne!(chain_id(&[a, b]), chain_id(&[b, a]));
    }
}
