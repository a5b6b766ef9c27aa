//! What an indexer says of a provider, to and from its message.

use crate::proto;
use market::standing::Standing;

/// Writes a provider's record.
pub fn standing_to_proto(standing: &Standing) -> proto::Standing {
    proto::Standing {
        completed: standing.completed,
        paid_seconds: standing.paid_seconds,
        reliability: standing.reliability,
        ratings: standing.ratings,
        rating: standing.rating,
    }
}

/// Reads a provider's record. Nobody signs it; a share above one, or more stars than there are, is brought back into range.
pub fn standing_from_proto(message: &proto::Standing) -> Standing {
    Standing {
        completed: message.completed,
        paid_seconds: message.paid_seconds,
        reliability: message.reliability.map(|share| share.min(1_000_000)),
        ratings: message.ratings,
        rating: message.rating.map(|stars| stars.clamp(1_000, 5_000)),
    }
}
