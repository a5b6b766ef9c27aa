//! Links into the web console.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Asks for a link into the web console.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ConsoleRequest {
    /// The rental to open it at, by its id or a prefix of it; empty for the list of all.
    #[serde(default)]
    pub rental: String,
}

/// A link into the web console.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsoleLink {
    /// To be opened in a browser of this machine, once and soon.
    pub url: String,
}
