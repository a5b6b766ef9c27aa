//! What is known of a provider beyond its own words: worked out by whoever follows the chain and keeps ratings, asked for in queries.

use serde::{Deserialize, Serialize};

/// A provider's record in numbers. `None` is "not known", which a query treats as neither true nor false.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Rentals that came to an end with something earned.
    pub completed: u32,
    /// Seconds that were paid for in them. Unverified volume: renting from oneself costs only gas.
    pub paid_seconds: u64,
    /// The share of rentals that went as promised, in millionths.
    pub reliability: Option<u32>,
    /// How many ratings count.
    pub ratings: u32,
    /// Their mean, in thousandths of a star: 1,000 to 5,000.
    pub rating: Option<u32>,
}
