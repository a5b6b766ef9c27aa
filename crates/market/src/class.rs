//! GPU classes: the words under which offers are gossiped, one topic each. The table is data (`classes.txt`), at most
//! [`MAX_CLASSES`] rows, so that a node that joins every topic stays within the subscription limits other libp2p
//! implementations keep by default (100).

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr, sync::LazyLock};

/// The most classes the table may have. DESIGN: 100 topics is the default filter of other implementations; ratings and room for growth need the rest.
pub const MAX_CLASSES: usize = 60;

const TABLE: &str = include_str!("classes.txt");

/// A class of machine: `h200`, `rtx4090`, `cpu`, `other`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GpuClass(&'static str);

impl GpuClass {
    /// Machines rented for their processors alone.
    pub const CPU: Self = Self("cpu");
    /// GPUs that have no row of their own.
    pub const OTHER: Self = Self("other");

    /// Every class, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        rows().map(|(name, _)| Self(name))
    }

    /// The class of a model as NVML or a person names it, such as `NVIDIA GeForce RTX 4090`: the row with the longest name whose
    /// words stand together in the model's.
    pub fn of_model(model: &str) -> Self {
        let model: Vec<&str> = words(model).collect();
        let is = |part: &[&str], row: &[&str]| part.iter().zip(row).all(|(a, b)| a.eq_ignore_ascii_case(b));
        MODELS
            .iter()
            .filter(|(_, row)| model.windows(row.len()).any(|part| is(part, row)))
            .max_by_key(|(_, row)| row.iter().map(|word| word.len()).sum::<usize>())
            .map_or(Self::OTHER, |(name, _)| Self(name))
    }

    /// The class's name.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// The words of every model with its class: read once, since the class of each offer of each advertisement is looked up here.
static MODELS: LazyLock<Vec<(&str, Vec<&str>)>> = LazyLock::new(|| {
    let models = rows().flat_map(|(name, models)| models.split(',').map(move |model| (name, words(model).collect())));
    models.filter(|(_, words): &(&str, Vec<&str>)| !words.is_empty()).collect()
});

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty())
}

fn rows() -> impl Iterator<Item = (&'static str, &'static str)> {
    TABLE
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split_once(' ').unwrap_or((line, "")))
}

impl fmt::Display for GpuClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A word that is no class.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a class of machine")]
pub struct UnknownClass(pub String);

impl FromStr for GpuClass {
    type Err = UnknownClass;

    fn from_str(text: &str) -> Result<Self, UnknownClass> {
        Self::all().find(|class| class.0 == text).ok_or_else(|| UnknownClass(text.to_owned()))
    }
}

impl Serialize for GpuClass {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for GpuClass {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_small_and_its_names_are_unique() {
        let mut names: Vec<_> = GpuClass::all().collect();
        assert!(names.len() <= MAX_CLASSES && names.contains(&GpuClass::CPU) && names.contains(&GpuClass::OTHER));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn a_model_finds_its_most_specific_class() {
        for (model, class) in [
            ("NVIDIA GeForce RTX 4090", "rtx4090"),
            ("NVIDIA H200", "h200"),
            ("NVIDIA H100 80GB HBM3", "h100"),
            ("NVIDIA A100-SXM4-80GB", "a100"),
            ("NVIDIA GeForce RTX 4080 SUPER", "rtx4080"),
            ("Voodoo 2", "other"),
        ] {
            assert_eq!(GpuClass::of_model(model).name(), class, "{model}");
        }
    }
}
