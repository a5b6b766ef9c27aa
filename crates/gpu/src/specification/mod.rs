//! Level 1 of the hardware check: whether what a card or an offer says of itself can be true. A table of the common models
//! (`models.txt`, each line with the texts in which its figures stand) says what a model is, as far as one of them does; [`check`] holds
//! one claim against it, [`check_machine`] a whole inventory against the table, the kernel and itself.
//!
//! This finds a card that was renamed, an offer with invented figures and a library that is not NVIDIA's. It proves nothing about a
//! provider that lies consistently: that is what measurements inside the rented sandbox are for.

mod claim;
mod contradiction;
mod machine;
mod models;
mod rules;

use serde::{Deserialize, Serialize};
use std::fmt;

pub use claim::Claim;
pub use contradiction::Contradiction;
pub use machine::{Findings, check_machine};
pub use models::Model;

/// What the table says to a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that was said agrees with a model of that name.
    Consistent,
    /// There is no such model in the table: nothing can be said.
    Unlisted,
    /// What was said cannot all be true; of several models of that name, against the one that fits best.
    Contradicted(Vec<Contradiction>),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consistent => f.write_str("consistent"),
            Self::Unlisted => f.write_str("a model of which no figures are known"),
            Self::Contradicted(all) => {
                for (number, contradiction) in all.iter().enumerate() {
                    let separator = if number == 0 { "" } else { "; " };
                    write!(f, "{separator}{contradiction}")?;
                }
                Ok(())
            }
        }
    }
}

/// Holds what is said of a card against the models of its name.
pub fn check(claim: &Claim) -> Verdict {
    let best = Model::named(&claim.model).map(|model| rules::contradictions(claim, model)).min_by_key(Vec::len);
    match best {
        None => Verdict::Unlisted,
        Some(none) if none.is_empty() => Verdict::Consistent,
        Some(some) => Verdict::Contradicted(some),
    }
}
