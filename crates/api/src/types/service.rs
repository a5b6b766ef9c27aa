//! A provider's service: whether it takes new rentals, and by which configuration.

use market::time::UnixMillis;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// An order to take no new rentals.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct DrainRequest {
    /// When it is over by itself; only when told otherwise, if absent.
    #[serde(default)]
    #[schema(value_type = Option<u64>)]
    pub until: Option<UnixMillis>,
}

/// Whether new rentals are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServiceState {
    /// Whether quotes are given.
    pub taking_rentals: bool,
    /// If not: until when, where that is known.
    #[schema(value_type = Option<u64>)]
    pub until: Option<UnixMillis>,
    /// Rentals that go on.
    pub rentals: u64,
}

/// What reading the configuration again has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reloaded {
    /// Keys of `[provider]` that are in force from now on, for new quotes.
    pub taken: Vec<String>,
    /// Keys that differ and are read at the daemon's start only.
    pub at_restart: Vec<String>,
}

/// An order to have a rental go on after its end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExtendRequest {
    /// For how long, in seconds.
    pub seconds: u32,
}
