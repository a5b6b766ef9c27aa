//! What a piece of GPU code was compiled for, and in which form it is kept.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

/// How far code relies on what only some cards of a generation have: nothing, or the `f` or `a` behind its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Features {
    /// What every later card has too: `sm_90`.
    Baseline,
    /// What the later cards of the same generation have: `sm_100f`.
    Family,
    /// What this one card has: `sm_90a`.
    Architecture,
}

/// The card a piece of GPU code was compiled for, as the compiler names it: `sm_90a`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Compute capability times ten: `90` is SM 9.0.
    pub sm: u16,
    /// What it needs beyond the number.
    pub features: Features,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = match self.features {
            Features::Baseline => "",
            Features::Family => "f",
            Features::Architecture => "a",
        };
        write!(f, "sm_{}{suffix}", self.sm)
    }
}

/// A word that names no target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a target such as sm_90, sm_90a or sm_100f")]
pub struct NotATarget(pub String);

impl FromStr for Target {
    type Err = NotATarget;

    fn from_str(text: &str) -> Result<Self, NotATarget> {
        let number = text.trim_start_matches("sm_");
        let (number, features) = match number.as_bytes().last() {
            Some(b'a') => (number.trim_end_matches('a'), Features::Architecture),
            Some(b'f') => (number.trim_end_matches('f'), Features::Family),
            _ => (number, Features::Baseline),
        };
        let target = number.parse().map(|sm| Self { sm, features }).map_err(|_| NotATarget(text.to_owned()))?;
        // what `trim` let through more than once, or not at all
        if target.to_string() == text { Ok(target) } else { Err(NotATarget(text.to_owned())) }
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

/// The version of the PTX language a text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PtxVersion {
    /// Before the dot.
    pub major: u16,
    /// Behind the dot.
    pub minor: u16,
}

impl fmt::Display for PtxVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What kind of code an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Code {
    /// Machine code: runs as it is on the cards it was made for.
    Cubin,
    /// Assembly that the driver compiles when the program starts.
    Ptx {
        /// The language's version, which the driver must know.
        isa: PtxVersion,
    },
    /// A compiler's intermediate code, which something has to link before it can run.
    LtoIr,
    /// A kind that this program does not know.
    Other {
        /// The number it has in the container.
        number: u16,
    },
}

/// How an image is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// As it is.
    None,
    /// LZ4: compilers up to CUDA 12, and later ones that were asked for speed.
    Lz4,
    /// Zstandard: compilers since CUDA 13.
    Zstd,
}

/// One piece of GPU code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Image {
    /// What kind of code it is.
    #[serde(flatten)]
    pub code: Code,
    /// What it was compiled for.
    pub target: Target,
    /// How it is packed.
    pub compression: Compression,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_code(f)?;
        match self.compression {
            Compression::None => Ok(()),
            Compression::Lz4 => f.write_str(" (lz4)"),
            Compression::Zstd => f.write_str(" (zstd)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_read_as_it_is_written_and_nothing_else_is() {
        for text in ["sm_75", "sm_90a", "sm_100f", "sm_121a"] {
            assert_eq!(text.parse::<Target>().unwrap().to_string(), text);
        }
        for text in ["", "sm_", "90a", "sm_sm_90", "sm_90aa", "sm_90af", "sm_090", "sm_99999999", "sm_+90"] {
            assert_eq!(text.parse::<Target>(), Err(NotATarget(text.to_owned())));
        }
    }

    #[test]
    fn an_image_is_the_same_after_its_json() {
        let target = "sm_100f".parse().unwrap();
        let isa = PtxVersion { major: 9, minor: 5 };
        for code in [Code::Cubin, Code::Ptx { isa }, Code::LtoIr, Code::Other { number: 77 }] {
            let image = Image { code, target, compression: Compression::Zstd };
            let json = serde_json::to_string(&image).unwrap();
            assert_eq!(serde_json::from_str::<Image>(&json).unwrap(), image, "{json}");
        }
    }
}
