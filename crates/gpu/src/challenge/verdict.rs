//! What the verifier finds.

use super::{expectation::Rate, work::Device};
use serde::{Deserialize, Serialize};

/// What a challenge showed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything is right, and as fast as such devices were measured to be.
    Passed(Vec<Seen>),
    /// Everything is right; but of at least one device's model nobody has measured the speed, so that it says little.
    Unmeasured(Vec<Seen>),
    /// Something is not as it was promised.
    Missed(Vec<Miss>),
}

/// What was seen of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Which.
    pub device: Device,
    /// What was expected of it.
    pub expected: Rate,
    /// What it did at least, by the verifier's clock.
    pub multiply_adds_per_second: u64,
    /// How much memory it held.
    pub held_bytes: u64,
}

/// One thing that is not as it was promised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Miss {
    /// The prover did not do the work.
    #[error("it was refused: {reason}")]
    Refused {
        /// In the prover's words.
        reason: String,
    },
    /// Not those devices answered that were asked.
    #[error("{answered} devices answered and not the {asked} that were asked, in their order")]
    OtherDevices {
        /// How many were asked.
        asked: usize,
        /// How many answered.
        answered: usize,
    },
    /// An old answer, or one to somebody else.
    #[error("the answer is to another challenge")]
    OtherChallenge,
    /// The prover ended with something else than the protocol asks for, or with too much or too little of it.
    #[error("{device} does not show what was asked for: {what}")]
    Malformed {
        /// Whose answer.
        device: Device,
        /// Which part of it.
        what: String,
    },
    /// Beyond the limit for everybody.
    #[error("it took {took_millis} ms, and {limit_millis} ms was the limit")]
    Late {
        /// How long it took, without what the way there and back takes.
        took_millis: u64,
        /// The limit.
        limit_millis: u64,
    },
    /// Within that limit, and slower than the model is.
    #[error("{device} is too slow for {model}: {seen} multiply-adds a second, where at least {floor} are expected")]
    TooSlow {
        /// Which device.
        device: Device,
        /// As what it was offered.
        model: String,
        /// What it did.
        seen: u64,
        /// What it should have done.
        floor: u64,
    },
    /// Something is shown that was not committed to.
    #[error("{device} shows a part of product {product} that it did not commit to")]
    NotCommitted {
        /// Which device.
        device: Device,
        /// Which product.
        product: u32,
    },
    /// Freivalds' check failed.
    #[error("product {product} of {device} is wrong")]
    WrongProduct {
        /// Which device.
        device: Device,
        /// Which product.
        product: u32,
    },
    /// The image is right and the committed row is not: the image was not computed from the product.
    #[error("row {row} of product {product} of {device} is wrong")]
    WrongRow {
        /// Which device.
        device: Device,
        /// Which product.
        product: u32,
        /// Which row.
        row: u32,
    },
    /// Not all digests came while only somebody with the memory could have computed them.
    #[error("digests of what should be in memory took {took_millis} ms, and {limit_millis} ms was the limit")]
    RecalledLate {
        /// How long they took.
        took_millis: u64,
        /// The limit.
        limit_millis: u64,
    },
    /// A part of the memory did not hold what was computed.
    #[error("{device} did not hold chunk {chunk} of product {product}")]
    NotHeld {
        /// Which device.
        device: Device,
        /// Which product.
        product: u32,
        /// Which chunk.
        chunk: u32,
    },
}
