//! A rental's label: the name by which its renter calls it, instead of its id.

use market::id::{MIN_PREFIX_DIGITS, RentalId};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The longest label: it stands in a column of `node ps`.
pub const MAX_LABEL_BYTES: usize = 32;

/// What a renter calls a rental of its own. Never what could be the beginning of an id, so that each name means one thing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// Why a text is no label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LabelError {
    /// It would have to be quoted, or be taken for an option or a path.
    #[error(
        "a label begins with a letter or a digit and has letters, digits, `.`, `-` and `_`, at most {MAX_LABEL_BYTES}"
    )]
    Form,
    /// It could mean a rental by its id.
    #[error("a label of hex digits only, or after `0x`, would be taken for the beginning of an id: add another letter")]
    LikeAnId,
}

impl Label {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let begins = text.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !begins || text.len() > MAX_LABEL_BYTES || !text.chars().all(plain) {
            return Err(LabelError::Form);
        }
        if text.starts_with("0x") || is_id_prefix(text) { Err(LabelError::LikeAnId) } else { Ok(Self(text.to_owned())) }
    }
}

impl TryFrom<String> for Label {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a text could be the beginning of a rental's id.
pub fn is_id_prefix(text: &str) -> bool {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    (MIN_PREFIX_DIGITS..=64).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Whether `name` means this rental: by its id, by the beginning of it, or by its label.
pub fn is_named(id: RentalId, label: Option<&Label>, name: &str) -> bool {
    id.matches_prefix(name) || label.is_some_and(|label| label.as_str() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    #[test]
    fn a_label_is_a_plain_word_that_no_id_begins_with() {
        for good in ["train", "x", "2nd-try", "a.b_c", "abc", "cafe-1", "faces"] {
            assert_eq!(good.parse::<Label>().map(String::from), Ok(good.to_owned()));
        }
        for bad in ["", "-rf", ".hidden", "a b", "a/b", "a:b", "größe", &"x".repeat(MAX_LABEL_BYTES + 1)] {
            assert_eq!(bad.parse::<Label>(), Err(LabelError::Form), "{bad:?}");
        }
        for id in ["cafe", "0xcafe", "0xab", "12345678"] {
            assert_eq!(id.parse::<Label>(), Err(LabelError::LikeAnId), "{id}");
        }
    }

    #[test]
    fn a_rental_is_meant_by_its_id_and_by_its_label() {
        let (id, label) = (RentalId(B256::repeat_byte(0xab)), "train".parse().unwrap());
        assert!(is_named(id, Some(&label), "0xabab") && is_named(id, Some(&label), "train"));
        assert!(!is_named(id, Some(&label), "trai") && !is_named(id, None, "train"));
    }

    #[test]
    fn a_file_cannot_bring_a_label_that_nobody_may_give() {
        assert!(serde_json::from_str::<Label>("\"a b\"").is_err());
        assert_eq!(serde_json::from_str::<Label>("\"ok\"").unwrap().as_str(), "ok");
    }
}
