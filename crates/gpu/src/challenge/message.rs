//! What renter and prover say to each other, in the order in which they say it.

use super::{
    digest::Digest,
    work::{Device, Parties, Work},
};
use serde::{Deserialize, Serialize};

/// What the renter asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// To answer at once: that is how long a message and its answer are on their way.
    Echo,
    /// To say which cards the sandbox has.
    List,
    /// To make room and compile the kernels. Not timed.
    Prepare(Work),
    /// To compute. The clock starts when this is sent.
    Begin(Parties),
    /// To show some of what was computed, and digests of all of it under keys that were not known before. The clock starts again.
    Open(Digest),
    /// To show that some of those digests are right.
    Recall(Digest),
}

/// What the prover answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// At once.
    Echoed,
    /// The cards that the driver shows, in its order.
    Listed(Vec<Device>),
    /// Every device has room.
    Ready,
    /// Everything is computed.
    Committed(Committed),
    /// What was asked for.
    Opened(Opened),
    /// What was asked for.
    Recalled(Recalled),
    /// It cannot be done, and why.
    Refused(String),
}

/// What the prover cannot change any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// Whose nonce this answers.
    pub nonce: Digest,
    /// One commitment of each device.
    pub devices: Vec<Commitment>,
}

/// All products of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment {
    /// Whose.
    pub device: Device,
    /// The root of the tree over the roots of its products.
    pub root: Digest,
    /// How long the device says that it worked; told, not believed.
    pub worked_millis: u64,
}

/// What lies behind the commitments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// One opening of each device.
    pub devices: Vec<Opening>,
}

/// What one device shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Whose.
    pub device: Device,
    /// The products that the nonce chose.
    pub samples: Vec<Sample>,
    /// The root of the tree over all products under the new keys.
    pub recalled: Digest,
}

/// A digest, and the way from its place to a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// What stands at the place.
    pub digest: Digest,
    /// What stands beside the way to the root.
    pub path: Vec<Digest>,
}

/// One product, as far as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The root of the product before, from which this one's factors follow; none before the first.
    pub before: Option<Located>,
    /// Its own root.
    pub root: Located,
    /// The digest of the image of the random vectors.
    pub image: Digest,
    /// The rows that the nonce chose.
    pub rows: Vec<Row>,
}

/// One row of a product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// All its words.
    pub words: Vec<u32>,
    /// The way from the row to the product's root.
    pub path: Vec<Digest>,
}

/// What the last nonce chose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recalled {
    /// Of each device.
    pub devices: Vec<Recollection>,
}

/// What one device still has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recollection {
    /// Whose.
    pub device: Device,
    /// The chunks that the nonce chose.
    pub chunks: Vec<Chunk>,
}

/// One chunk, which is not shown itself: the verifier computes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunk {
    /// The committed root of the product before, from which the factors follow; none before the first.
    pub before: Option<Located>,
    /// The way from the chunk to its product's root under the new keys.
    pub path: Vec<Digest>,
    /// That root.
    pub root: Located,
}
