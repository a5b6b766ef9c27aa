//! Why a provider says no. The code travels with the answer and reaches the person who asked.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The reasons a request can be refused for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The provider has no offer of that name.
    NoSuchSlot,
    /// All slots of the offer are taken; the detail says until when.
    BusyUntil,
    /// The rate asked for is below the provider's.
    Price,
    /// Shorter or longer than the offer allows.
    Duration,
    /// The root file system is not available.
    Image,
    /// The provider does not serve the renter's region.
    Region,
    /// The wallet does not hold what the rental would lock.
    Funds,
    /// The program needs hardware that the slot does not have.
    UnsupportedBinary,
    /// The request is malformed or its signature is wrong.
    BadRequest,
    /// Another request of the same wallet or peer is still held.
    HoldInUse,
    /// The chain, escrow or token is not one the provider settles on.
    Settlement,
    /// No such rental, or not the caller's.
    NoSuchRental,
    /// The rental is not in a state that allows this.
    WrongState,
    /// The chain does not show the rental open: not yet, or not any more. Asked again it may be.
    NotOpen,
    /// The provider is going out of service, or in maintenance; the detail says until when.
    Draining,
    /// The provider does not serve this renter.
    Renter,
    /// Asked too often; the detail says when to come back.
    RateLimited,
    /// The provider failed; the detail says how.
    Internal,
    /// No process of that key runs in the sandbox, or its end is no longer remembered.
    NoSuchProcess,
    /// Nothing answers at the address inside the sandbox.
    NotConnected,
    /// What would let the caller into the rental is over.
    Expired,
    /// The renter has taken back what would let the caller in.
    Unshared,
}

impl RefusalCode {
    /// Every reason.
    pub const ALL: [Self; 22] = [
        Self::NoSuchSlot,
        Self::BusyUntil,
        Self::Price,
        Self::Duration,
        Self::Image,
        Self::Region,
        Self::Funds,
        Self::UnsupportedBinary,
        Self::BadRequest,
        Self::HoldInUse,
        Self::Settlement,
        Self::NoSuchRental,
        Self::WrongState,
        Self::NotOpen,
        Self::Draining,
        Self::Renter,
        Self::RateLimited,
        Self::Internal,
        Self::NoSuchProcess,
        Self::NotConnected,
        Self::Expired,
        Self::Unshared,
    ];
}

/// A refusal with its words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub struct Refusal {
    /// The reason.
    pub code: RefusalCode,
    /// What a person should know about it.
    pub detail: String,
    /// Asked again after so many milliseconds it may be a yes; 0 when that is not to be expected soon.
    #[serde(default)]
    pub retry_millis: u32,
}

impl Refusal {
    /// A refusal for `code`, explained by `detail`.
    pub fn new(code: RefusalCode, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), retry_millis: 0 }
    }

    /// The same, for something that passes by itself within moments.
    #[must_use]
    pub fn retry_after(self, millis: u32) -> Self {
        Self { retry_millis: millis, ..self }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchSlot => "no such slot",
            Self::BusyUntil => "busy until",
            Self::Price => "price",
            Self::Duration => "duration",
            Self::Image => "image",
            Self::Region => "region",
            Self::Funds => "funds",
            Self::UnsupportedBinary => "unsupported binary",
            Self::BadRequest => "bad request",
            Self::HoldInUse => "another quote is still held",
            Self::Settlement => "settlement",
            Self::NoSuchRental => "no such rental",
            Self::WrongState => "wrong state",
            Self::NotOpen => "not open on chain",
            Self::Draining => "going out of service",
            Self::Renter => "this renter is not served",
            Self::RateLimited => "asked too often",
            Self::Internal => "the provider failed",
            Self::NoSuchProcess => "no such process",
            Self::NotConnected => "not connected",
            Self::Expired => "expired",
            Self::Unshared => "not shared any more",
        })
    }
}
