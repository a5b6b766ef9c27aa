//! How keys and values become bytes. Keys are written so that their bytes sort as the keys do and no key is a prefix of another, so
//! tuples can be scanned by their first parts. Values are JSON unless a table says otherwise: records stay readable, and gain
//! optional fields without a migration.

use crate::error::CodecError;
use alloy_primitives::{Address, B256};
use market::id::{DeviceId, PeerId, RentalId};
use serde::{Serialize, de::DeserializeOwned};
use std::ops::Deref;

/// A key. Its encoding must say where it ends (no encoding is a prefix of another) and, unless the type states otherwise, sort like the keys.
pub trait KeyCodec: Sized {
    /// Appends the key.
    fn encode(&self, out: &mut Vec<u8>);
    /// Takes one key off the front.
    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError>;
}

/// A value.
pub trait ValueCodec: Sized {
    /// The value as bytes.
    fn encode(&self) -> Result<Vec<u8>, CodecError>;
    /// The value behind `bytes`.
    fn decode(bytes: &[u8]) -> Result<Self, CodecError>;
}

/// The leading parts of a tuple key: what a table can be scanned by.
pub trait PrefixOf<K>: KeyCodec {}

impl<A: KeyCodec, B> PrefixOf<(A, B)> for A {}
impl<A: KeyCodec, B, C> PrefixOf<(A, B, C)> for A {}
impl<A: KeyCodec, B: KeyCodec, C> PrefixOf<(A, B, C)> for (A, B) {}

fn take<'a>(bytes: &mut &'a [u8], count: usize, what: &'static str) -> Result<&'a [u8], CodecError> {
    let (head, rest) = bytes.split_at_checked(count).ok_or(CodecError::Key(what))?;
    *bytes = rest;
    Ok(head)
}

macro_rules! integer_keys {
    ($($t:ty),*) => {$(
        impl KeyCodec for $t {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
                let head = take(bytes, size_of::<$t>(), stringify!($t))?;
                head.try_into().map(<$t>::from_be_bytes).map_err(|_| CodecError::Key(stringify!($t)))
            }
        }
    )*};
}
integer_keys!(u8, u32, u64);

impl KeyCodec for () {
    fn encode(&self, _: &mut Vec<u8>) {}

    fn decode(_: &mut &[u8]) -> Result<Self, CodecError> {
        Ok(())
    }
}

impl KeyCodec for B256 {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_slice());
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        take(bytes, 32, "32-byte id").map(Self::from_slice)
    }
}

impl KeyCodec for Address {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_slice());
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        take(bytes, 20, "address").map(Self::from_slice)
    }
}

impl KeyCodec for RentalId {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        B256::decode(bytes).map(Self)
    }
}

impl KeyCodec for DeviceId {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        B256::decode(bytes).map(Self)
    }
}

/// Peers are grouped, not sorted in any order that means something. A peer id is at most 44 bytes, so its length fits one.
impl KeyCodec for PeerId {
    fn encode(&self, out: &mut Vec<u8>) {
        let bytes = self.to_bytes();
        out.push(u8::try_from(bytes.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(&bytes);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        let length = u8::decode(bytes)?;
        let id = take(bytes, usize::from(length), "peer id")?;
        Self::from_bytes(id).map_err(|_| CodecError::Key("peer id"))
    }
}

/// Text ends with 00 01; a 00 inside is written 00 ff. So a text sorts before every longer one that it begins.
impl KeyCodec for String {
    fn encode(&self, out: &mut Vec<u8>) {
        for byte in self.bytes() {
            out.push(byte);
            if byte == 0 {
                out.push(0xff);
            }
        }
        out.extend_from_slice(&[0, 1]);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        let mut text = Vec::new();
        loop {
            match take(bytes, 1, "text")?[0] {
                0 => match take(bytes, 1, "text")?[0] {
                    0xff => text.push(0),
                    1 => return Self::from_utf8(text).map_err(|_| CodecError::Key("text")),
                    _ => return Err(CodecError::Key("text")),
                },
                byte => text.push(byte),
            }
        }
    }
}

impl<A: KeyCodec, B: KeyCodec> KeyCodec for (A, B) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        Ok((A::decode(bytes)?, B::decode(bytes)?))
    }
}

impl<A: KeyCodec, B: KeyCodec, C: KeyCodec> KeyCodec for (A, B, C) {
    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
        self.2.encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<Self, CodecError> {
        Ok((A::decode(bytes)?, B::decode(bytes)?, C::decode(bytes)?))
    }
}

/// A whole key as bytes.
pub(crate) fn key_bytes<K: KeyCodec>(key: &K) -> Vec<u8> {
    let mut out = Vec::new();
    key.encode(&mut out);
    out
}

/// The key that `bytes` are, all of them.
pub(crate) fn whole_key<K: KeyCodec>(mut bytes: &[u8]) -> Result<K, CodecError> {
    let key = K::decode(&mut bytes)?;
    if bytes.is_empty() { Ok(key) } else { Err(CodecError::Key("whole key")) }
}

/// A record kept as JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Serialize + DeserializeOwned> ValueCodec for Json<T> {
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        Ok(serde_json::to_vec(&self.0)?)
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        Ok(Self(serde_json::from_slice(bytes)?))
    }
}

/// Bytes kept as they came: what somebody signed must never be re-encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raw(pub Vec<u8>);

impl ValueCodec for Raw {
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        Ok(self.0.clone())
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        Ok(Self(bytes.to_vec()))
    }
}

/// Rows of an index, where the key says everything.
impl ValueCodec for () {
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        Ok(Vec::new())
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.is_empty() { Ok(()) } else { Err(CodecError::NotEmpty) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::fmt::Debug;

    fn round_trips<K: KeyCodec + PartialEq + Debug>(key: K) {
        assert_eq!(whole_key::<K>(&key_bytes(&key)).unwrap(), key);
    }

    fn sorts_alike<K: KeyCodec + Ord + Debug>(a: K, b: K) {
        assert_eq!(key_bytes(&a).cmp(&key_bytes(&b)), a.cmp(&b), "{a:?} and {b:?}");
    }

    // few letters, so that prefixes and equal parts are common
    fn text() -> impl Strategy<Value = String> {
        "[\0\u{1}ab\u{ff}]{0,4}"
    }

    proptest! {
        #[test]
        fn every_key_is_read_back(n: u64, small: u8, id: [u8; 32], t in text()) {
            round_trips(n);
            round_trips(RentalId(B256::from(id)));
            round_trips((t.clone(), n));
            round_trips((Address::from_slice(&id[..20]), DeviceId(B256::from(id)), t));
            round_trips((small, ()));
        }

        #[test]
        fn keys_sort_as_their_bytes_do(a: (u64, u32), b: (u64, u32), s in (text(), text(), 0u8..3), t in (text(), text(), 0u8..3)) {
            sorts_alike(a, b);
            sorts_alike(s, t);
        }

        #[test]
        fn no_bytes_make_a_key_panic(bytes: Vec<u8>) {
            let _ = whole_key::<(PeerId, String, u64)>(&bytes);
            let _ = whole_key::<(String, B256)>(&bytes);
        }
    }

    #[test]
    fn a_peer_is_read_back() {
        let peer = PeerId::random();
        round_trips((peer, 7u64));
    }

    #[test]
    fn a_key_with_something_behind_it_is_refused() {
        let mut bytes = key_bytes(&5u32);
        bytes.push(0);
        assert!(whole_key::<u32>(&bytes).is_err());
    }

    #[test]
    fn a_record_may_gain_an_optional_field() {
        #[derive(serde::Serialize, serde::Deserialize)]
        struct Old {
            a: u32,
        }
        #[derive(serde::Serialize, serde::Deserialize)]
        struct New {
            a: u32,
            b: Option<String>,
        }
        let written = Json(Old { a: 1 }).encode().unwrap();
        let read = Json::<New>::decode(&written).unwrap();
        assert_eq!((read.a, read.b.as_deref()), (1, None));
    }
}
