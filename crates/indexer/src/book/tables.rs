//! The tables of the book. An advertisement and its rows in the indexes are written in the same batch, so that they agree after any death.

use market::id::PeerId;
use std::sync::Arc;
use store::{CodecError, Json, Table, ValueCodec};

/// The newest advertisement of each provider.
pub(crate) struct Ads;
impl Table for Ads {
    const NAME: &'static str = "indexer_book";
    type Key = PeerId;
    type Value = Ad;
}

/// Whose advertisement was taken when: the order in which books are compared.
pub(crate) struct ByUpdate;
impl Table for ByUpdate {
    const NAME: &'static str = "indexer_book_by_update";
    type Key = u64;
    type Value = Peer;
}

/// Whose advertisement ends when: what is over is forgotten without being read.
pub(crate) struct ByExpiry;
impl Table for ByExpiry {
    const NAME: &'static str = "indexer_book_by_expiry";
    type Key = (u64, PeerId);
    type Value = ();
}

/// Who offers something in a class.
pub(crate) struct ByClass;
impl Table for ByClass {
    const NAME: &'static str = "indexer_book_by_class";
    type Key = (String, PeerId);
    type Value = ();
}

/// The last `updated_at` that was given, so that none is given twice, whatever becomes of the clock.
pub(crate) struct Mark;
impl Table for Mark {
    const NAME: &'static str = "indexer_book_mark";
    type Key = ();
    type Value = Json<u64>;
}

/// An advertisement on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ad {
    /// When it was taken.
    pub updated_at: u64,
    /// The signed envelope, byte for byte.
    pub raw: Arc<[u8]>,
}

/// The moment in eight bytes, and the envelope behind it.
impl ValueCodec for Ad {
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        Ok([&self.updated_at.to_be_bytes(), &*self.raw].concat())
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let (moment, raw) = bytes.split_first_chunk().ok_or(CodecError::Value("advertisement"))?;
        Ok(Self { updated_at: u64::from_be_bytes(*moment), raw: raw.into() })
    }
}

/// A peer as a value.
pub(crate) struct Peer(pub(crate) PeerId);

impl ValueCodec for Peer {
    fn encode(&self) -> Result<Vec<u8>, CodecError> {
        Ok(self.0.to_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        PeerId::from_bytes(bytes).map(Self).map_err(|_| CodecError::Value("peer id"))
    }
}
