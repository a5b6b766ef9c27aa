//! Rentals that are shared between nodes.

use market::{id::RentalId, time::UnixMillis};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Asks that another node be let into a rental.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ShareRequest {
    /// That node's peer id.
    pub peer: String,
    /// For how long, in seconds; until the rental's end, if absent.
    #[serde(default)]
    pub seconds: Option<u32>,
}

/// Asks that a node be let into a rental no more.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct UnshareRequest {
    /// That node's peer id.
    pub peer: String,
}

/// A node that was let into a rental of this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Share {
    /// The rental.
    #[schema(value_type = String)]
    pub id: RentalId,
    /// The other node's peer id.
    pub peer: String,
    /// When it is over by itself; a rental that ends before ends it too.
    #[schema(value_type = u64)]
    pub until: UnixMillis,
    /// Whether it was taken back.
    pub taken_back: bool,
    /// What the other node accepts; said once, when it is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Takes up what another node has shared.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct AcceptRequest {
    /// What that node has said.
    pub token: String,
}

/// A rental that another node shares with this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SharedRental {
    /// The rental.
    #[schema(value_type = String)]
    pub id: RentalId,
    /// Its provider's peer id.
    pub provider: String,
    /// When it is over by itself; its renter may end it before.
    #[schema(value_type = u64)]
    pub until: UnixMillis,
}
