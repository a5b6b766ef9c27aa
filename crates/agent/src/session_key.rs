//! The name of a session: chosen by whoever opens it, so that opening it again after a lost answer opens nothing twice.

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Sixteen bytes, chosen at random: who knows them may attach.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionKey([u8; 16]);

/// A text that is not the 32 hexadecimal digits of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoSessionKey;

impl SessionKey {
    /// The bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl From<[u8; 16]> for SessionKey {
    fn from(bytes: [u8; 16]) -> Self {
        SessionKey(bytes)
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({self})")
    }
}

impl fmt::Display for NoSessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the key of a session has 32 hexadecimal digits")
    }
}

impl std::error::Error for NoSessionKey {}

impl FromStr for SessionKey {
    type Err = NoSessionKey;

    fn from_str(text: &str) -> Result<Self, NoSessionKey> {
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(NoSessionKey);
        }
        let number = u128::from_str_radix(text, 16).map_err(|_| NoSessionKey)?;
        Ok(SessionKey(number.to_be_bytes()))
    }
}

impl Serialize for SessionKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_back_from_its_digits_and_nothing_else_is_one() {
        let key = SessionKey::from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(key.to_string(), "000102030405060708090a0b0c0d0eff");
        assert_eq!(key.to_string().parse(), Ok(key));
        assert_eq!(serde_json::to_string(&key).unwrap(), "\"000102030405060708090a0b0c0d0eff\"");
        for text in ["", "00", "+00102030405060708090a0b0c0d0eff", "000102030405060708090a0b0c0d0eff0", "ä"] {
            assert_eq!(text.parse::<SessionKey>(), Err(NoSessionKey), "{text}");
        }
    }
}
