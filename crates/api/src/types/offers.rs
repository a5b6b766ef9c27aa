//! What is told of offers beyond the offers themselves: estimates for a job, and why a search finds so little.

use super::OfferRow;
use market::money::Amount;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a described job takes on an offer: as good as the throughput that the provider states.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Estimate {
    /// How long, in seconds.
    pub seconds: u32,
    /// What it costs, in base units.
    #[schema(value_type = String)]
    pub cost: Amount,
    /// The same with its symbol.
    pub cost_text: String,
}

/// Why a search finds so little. Offers are counted once for each of their prices.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OfferExplanation {
    /// Offers that were looked at.
    pub offers: usize,
    /// Those that meet every condition.
    pub matching: usize,
    /// What each condition removes, in the order of the query.
    pub conditions: Vec<ConditionRow>,
    /// Offers that fail at one condition only, in the order of the search.
    pub near: Vec<NearOffer>,
}

/// What one condition removes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConditionRow {
    /// The condition as it was written.
    pub condition: String,
    /// Offers that do not meet it.
    pub failed: usize,
    /// Offers of which it is not known whether they do.
    pub unknown: usize,
    /// Of both, those that meet all the others: what would be found without it.
    pub alone: usize,
}

/// An offer that meets every condition but one.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NearOffer {
    /// The offer.
    pub offer: OfferRow,
    /// The condition that it does not meet.
    pub condition: String,
    /// What it has instead, such as `vram is 48 GB`.
    pub found: String,
}
