//! Ratings, and what is known of a provider.

use market::{
    id::RentalId, rating::SignedRating, reputation::Record, signed::Escrow, standing::Standing, time::UnixMillis,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What the renter of a closed rental says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RatingRequest {
    /// One to five.
    pub stars: u8,
    /// In words, at most 256 bytes; may be empty.
    #[serde(default)]
    pub comment: String,
}

/// How far a rating has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RatingState {
    /// Written down and told; no indexer has it yet, and it is told again.
    Told,
    /// An indexer keeps it.
    Kept,
    /// No indexer took it in days.
    GivenUp,
}

/// A rating of this node's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RatingView {
    /// The rental.
    #[schema(value_type = String)]
    pub id: RentalId,
    /// One to five.
    pub stars: u8,
    /// In words.
    pub comment: String,
    /// When it was signed.
    #[schema(value_type = u64)]
    pub at: UnixMillis,
    /// How far it has come.
    pub state: RatingState,
    /// What the last indexer that did not keep it said; else empty.
    pub detail: String,
}

/// A question about a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ReputationQuery {
    /// Also ask how much of one's own past leads there. It tells the indexer that is asked which wallet is one's own.
    #[serde(default)]
    pub mine: bool,
    /// Also look each of the latest rentals and ratings up on the chain.
    #[serde(default)]
    pub verify: bool,
}

/// What is known of a provider, and from what it follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reputation {
    /// Its wallet.
    #[schema(value_type = String)]
    pub wallet: alloy_primitives::Address,
    /// Who worked it out: the peer id of an indexer, this node's own if it is one.
    pub source: String,
    /// What follows. Numbers of rentals and seconds are unverified volume: renting from oneself costs only gas.
    #[schema(value_type = Object)]
    pub standing: Standing,
    /// From what, with the name of the formula.
    #[schema(value_type = Object)]
    pub record: Record,
    /// The share of the last 30 days' metered time that was served, in millionths.
    pub uptime_30d: Option<u32>,
    /// The seconds of one's own past that lead to it, if they were asked for.
    pub trusted_seconds: Option<u64>,
    /// What it is worth to the asker by that, in millionths.
    pub rank: Option<u32>,
    /// Its latest rentals that ended.
    pub rentals: Vec<PastRental>,
}

/// A rental of a provider that ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PastRental {
    /// Where it was paid.
    #[schema(value_type = Object)]
    pub escrow: Escrow,
    /// Which.
    #[schema(value_type = String)]
    pub id: RentalId,
    /// The block of its opening.
    pub opened_block: u64,
    /// The block of its closing.
    pub closed_block: u64,
    /// Its rating as its renter signed it.
    #[schema(value_type = Option<Object>)]
    pub rating: Option<SignedRating>,
    /// Whether the chain says so too; absent when it was not asked.
    pub verified: Option<bool>,
    /// What the chain says otherwise, or why it could not be asked.
    pub fault: Option<String>,
}
