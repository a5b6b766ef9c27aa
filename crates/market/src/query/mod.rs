//! The query language of renters: `gpu=H100 num_gpus>=4 price<=2.50 region in [KR,JP] not (verified<2 or profiling=false)`.
//! The reference, with every field and unit, is `docs/query.md`.
//!
//! A field that does not exist is an error that names the nearest one. A value that is not known (a provider that states no region)
//! is neither true nor false: the offer is left out, and counted as unknown rather than refused. Numbers are exact.

mod expr;
mod fields;
mod job;
mod operand;
mod order;
mod parse;
mod ranges;
mod rates;
mod read;
#[cfg(test)]
mod tests;
mod unit;

pub use job::{Job, JobError};
pub use order::{MAX_KEYS, Order};
pub use parse::{MAX_NESTING, MAX_QUERY_BYTES, MAX_TERMS};
pub use rates::{MAX_RATES, Rates, RatesError};

pub(crate) use {
    expr::{Condition, Expr, Test, matches_any},
    fields::{CLASS, FIELDS, FREE, GPU, OFFER, PRICE, REGION, SM_CODE, TOKEN, standing_cells},
    order::{Key, Row, is_busy, tail, token_order},
    read::Cell,
    unit::{Kind, Match},
};

use crate::{
    offer::{Offer, Price, ProviderAd},
    standing::Standing,
};
use std::fmt;

/// One offer at one of its prices: what a query is asked of.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The provider's advertisement.
    pub ad: &'a ProviderAd,
    /// The offer.
    pub offer: &'a Offer,
    /// The price that would be paid.
    pub price: &'a Price,
    /// The provider's record, where somebody keeps one.
    pub standing: Option<Standing>,
}

impl<'a> Candidate<'a> {
    /// Every offer of an advertisement at each of its prices.
    pub fn all(ad: &'a ProviderAd, standing: Option<Standing>) -> impl Iterator<Item = Self> {
        ad.offers
            .iter()
            .flat_map(move |offer| offer.prices.iter().map(move |price| Self { ad, offer, price, standing }))
    }
}

/// Every field with its meaning, for help pages.
pub fn fields() -> impl Iterator<Item = (&'static str, &'static str)> {
    FIELDS.iter().map(|field| (field.name, field.meaning))
}

/// The units that a field's numbers may be written in, for help pages; the first is that of a number without one.
pub fn units(field: &str) -> Vec<&'static str> {
    match fields::find(field).and_then(|at| FIELDS.get(at)).map(|field| field.kind) {
        Some(Kind::Number(unit)) => unit.names.iter().map(|(name, _)| *name).collect(),
        _ => Vec::new(),
    }
}

/// A condition that must be met, and how it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Conjunct {
    pub(crate) text: String,
    pub(crate) expr: Expr,
}

/// A parsed query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pub(crate) conjuncts: Vec<Conjunct>,
}

/// Whether a candidate meets a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every condition is met.
    Yes,
    /// A condition is not met.
    No,
    /// None is broken, but one asks for what is not known.
    Unknown,
}

/// A query that cannot be read. Characters are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No such field.
    #[error("at character {at}: there is no field `{word}`{}", suggestion(.nearest))]
    UnknownField {
        /// Where it stands.
        at: usize,
        /// What was written.
        word: String,
        /// The nearest field.
        nearest: Option<&'static str>,
    },
    /// No operator where one is needed.
    #[error("at character {at}: expected one of = != < <= > >= in after `{field}`")]
    Operator {
        /// Where it is missing.
        at: usize,
        /// The field before it.
        field: &'static str,
    },
    /// No value, an unclosed list or quotation, or a value of the wrong kind.
    #[error("at character {at}: {problem}")]
    Value {
        /// Where it stands.
        at: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// A condition or a parenthesis is missing, or one too many.
    #[error("at character {at}: {problem}")]
    Syntax {
        /// Where.
        at: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// Longer or deeper than queries may be.
    #[error("at character {at}: {problem}")]
    Bound {
        /// Where it becomes too much.
        at: usize,
        /// Which bound.
        problem: &'static str,
    },
}

impl QueryError {
    /// The character it is about, counted from 1.
    pub const fn at(&self) -> usize {
        match self {
            Self::UnknownField { at, .. }
            | Self::Operator { at, .. }
            | Self::Value { at, .. }
            | Self::Syntax { at, .. }
            | Self::Bound { at, .. } => *at,
        }
    }
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

impl Query {
    /// Reads a query; the empty one matches everything.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        parse::query(text).map(|conjuncts| Self { conjuncts })
    }

    /// Whether the candidate meets every condition.
    pub fn verdict(&self, candidate: &Candidate<'_>) -> Verdict {
        let mut verdict = Verdict::Yes;
        for conjunct in &self.conjuncts {
            match conjunct.expr.holds(candidate) {
                Some(true) => {}
                Some(false) => return Verdict::No,
                None => verdict = Verdict::Unknown,
            }
        }
        verdict
    }

    /// The conditions as they were written, all of which must be met.
    pub fn conditions(&self) -> impl Iterator<Item = &str> {
        self.conjuncts.iter().map(|conjunct| conjunct.text.as_str())
    }
}

/// How many single-letter edits away a suggestion may be.
const MAX_EDITS: usize = 3;

fn nearest_field(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    FIELDS
        .iter()
        .map(|field| (strsim::damerau_levenshtein(field.name, &word), field.name))
        .min()
        .filter(|(edits, name)| *edits <= MAX_EDITS.min(name.len().saturating_sub(1)))
        .map(|(_, name)| name)
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "matches",
            Self::No => "does not match",
            Self::Unknown => "unknown",
        })
    }
}
