//! Everything that crosses the network: the messages generated from `proto/`, and their checked conversion to and from the types
//! of [`market`].
//!
//! Decoding is where a stranger's bytes become our types. [`decode`] bounds the size before it reads anything, and each conversion
//! names the field at fault. Nothing past this crate needs to check lengths, ranges or encodings again.

mod carry;
mod convert;
mod grant;
mod mandate;
mod offers;
mod rating;
mod rental;
mod search;
mod sync;

pub use carry::{CarryAsk, carry_from_proto, carry_to_proto};
pub use grant::{
    Grant, ShareToken, Unshare, grant_from_proto, grant_to_proto, share_token_from_bytes, share_token_to_bytes,
    unshare_from_proto, unshare_to_proto,
};
pub use mandate::{mandate_from_proto, mandate_to_proto};
pub use offers::{ad_from_proto, ad_to_proto, classes_from_proto};
pub use rating::{
    MAX_RATING_BYTES, MAX_RATINGS_REQUEST_BYTES, MAX_RATINGS_RESPONSE_BYTES, MAX_RECORD_PAGE, PageEnd, PastRental,
    ProviderRecord, RecordAsk, page_end_to_bytes, rating_from_proto, rating_to_proto, record_ask_from_proto,
    record_ask_to_proto, record_from_proto, record_to_proto,
};
pub use rental::{
    AskedBy, QuoteAsk, ack_from_proto, ack_to_proto, final_from_proto, final_to_proto, id_from_proto,
    notice_from_proto, notice_to_proto, peer_from_proto, quote_from_proto, quote_to_proto, ready_from_proto,
    ready_to_proto, refusal_from_proto, refusal_to_proto, shown, terms_from_bytes, terms_to_bytes, voucher_from_proto,
    voucher_to_proto,
};

pub use search::{standing_from_proto, standing_to_proto};
pub use sync::{
    MAX_SYNC_IDS, SYNC_ID_BYTES, SyncAnswer, SyncAsk, sync_ads, sync_answer_from_proto, sync_answer_to_proto,
    sync_from_proto, sync_size, sync_to_proto,
};

/// The generated messages.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated from proto/, which carries the documentation")]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/gpulease.v1.rs"));
}

/// The largest signed advertisement: DESIGN §5.
pub const MAX_AD_BYTES: usize = 16 * 1024;
/// The largest announcement: two keys, a hash and at most sixty class names.
pub const MAX_ANNOUNCEMENT_BYTES: usize = 1024;
/// The largest request of `/gpulease/offers/1`: 32 peer ids fit many times over.
pub const MAX_OFFERS_REQUEST_BYTES: usize = 16 * 1024;
/// The largest answer of `/gpulease/offers/1`: 64 advertisements of full size.
pub const MAX_OFFERS_RESPONSE_BYTES: usize = 1024 * 1024 + 64 * 1024;
/// The most peers one `GetAds` may name.
pub const MAX_GET_PEERS: usize = 32;
/// The most advertisements in one page of `ListAds`.
pub const MAX_LIST_PAGE: usize = 64;
/// The largest message of `/gpulease/rental/1` and the largest frame of `/gpulease/session/1`.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;
/// The largest request of `/gpulease/search/1`: as long a query as anybody would write, several times over.
pub const MAX_SEARCH_REQUEST_BYTES: usize = 16 * 1024;
/// The largest answer of `/gpulease/search/1`: 64 advertisements of full size, like a page of a list.
pub const MAX_SEARCH_RESPONSE_BYTES: usize = MAX_OFFERS_RESPONSE_BYTES;
/// The most rows in one answer of `/gpulease/search/1`, so that every one of them can stand in an advertisement of its own.
pub const MAX_SEARCH_ROWS: usize = 64;
/// The largest frame of `/gpulease/sync/1`: a round that names a few thousand advertisements.
pub const MAX_SYNC_FRAME_BYTES: usize = 128 * 1024;
/// The largest message of `/gpulease/sync/1`: a frame with its numbers, or a refusal.
pub const MAX_SYNC_MESSAGE_BYTES: usize = MAX_SYNC_FRAME_BYTES + 4 * 1024;
/// The largest request or reply about files: 64 KiB of content, or a hundred entries of a directory, with all that describes them.
pub const MAX_FILE_MESSAGE_BYTES: usize = 72 * 1024;
/// The most bytes one data frame of a session carries: half a frame, so that headers always fit.
pub const MAX_DATA_BYTES: usize = 32 * 1024;
/// The longest name, model, symbol or other short text.
pub const MAX_TEXT_BYTES: usize = 256;
/// The longest explanation in a refusal.
pub const MAX_DETAIL_BYTES: usize = 1024;

/// What is wrong with a message from outside.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Longer than this kind of message may be; nothing of it was read.
    #[error("message of {got} bytes, at most {max} are accepted")]
    Oversize {
        /// Its length.
        got: usize,
        /// The bound.
        max: usize,
    },
    /// No protobuf of the expected kind.
    #[error("malformed message: {0}")]
    Malformed(String),
    /// A field that must be there is not.
    #[error("field `{0}` is missing")]
    Missing(&'static str),
    /// A field's value is out of range or of the wrong shape.
    #[error("field `{field}` is invalid: {problem}")]
    Invalid {
        /// The field's name in `proto/`.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// Decodes a message of at most `max` bytes.
pub fn decode<M: prost::Message + Default>(bytes: &[u8], max: usize) -> Result<M, WireError> {
    if bytes.len() > max {
        return Err(WireError::Oversize { got: bytes.len(), max });
    }
    M::decode(bytes).map_err(|error| WireError::Malformed(error.to_string()))
}

/// Encodes a message.
pub fn encode(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

#[cfg(test)]
mod tests;
