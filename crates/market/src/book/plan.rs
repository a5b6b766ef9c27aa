//! A query as it is asked of one shelf: texts become the codes that match, conditions that hold for no row or for all of them are known
//! before a row is read, and what is left is evaluated for 64 rows at a time, the narrowest condition first.
//!
//! Negations stand at the fields already, so that a row meets a query exactly when its conditions say yes: a mask of those that do is all
//! that is needed, and what is unknown is left out of it like what is not.

use super::{
    Book, Entry,
    column::{BLOCK, Column, Values, guess, mask},
    sets::Chosen,
    shelf::Shelf,
};
use crate::{
    id::PeerId,
    query::{Condition, Expr, FIELDS, Kind, Test, matches_any},
};
use std::collections::BTreeSet;

/// As many codes are compared one by one.
const FEW_CODES: usize = 4;
/// What a block costs, in units of about a nanosecond: a word of a set, and looking at the values themselves.
const WORD_COST: usize = 2;
const VALUES_COST: usize = 100;

/// A part of a query for one shelf.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    Never,
    Always,
    All(Vec<Plan>),
    Any(Vec<Plan>),
    /// Numbers and texts: sets of rows with accepted values, and a look at those rows that are in no set.
    Coded {
        field: usize,
        chosen: Chosen,
        accepted: Accepted,
        rows: usize,
    },
    Wide {
        field: usize,
        intervals: Vec<(i64, i64)>,
        rows: usize,
    },
    Providers {
        among: BTreeSet<u32>,
        negated: bool,
    },
    /// Ways of paying that the asker wants.
    Currencies {
        accepted: Vec<bool>,
    },
}

/// Which values of 32 bits are accepted: by intervals, which are quick to compare, or by all that there are.
#[derive(Clone, Debug)]
pub(super) enum Accepted {
    Within(Vec<(u32, u32)>),
    Codes(Vec<bool>),
}

impl Accepted {
    fn holds(&self, value: u32) -> bool {
        match self {
            Self::Within(intervals) => intervals.iter().any(|(low, high)| value.wrapping_sub(*low) <= high - low),
            Self::Codes(accepted) => accepted.get(value as usize).copied().unwrap_or(false),
        }
    }

    fn mask(&self, values: &[u32], block: usize, alive: u64) -> u64 {
        match self {
            Self::Within(intervals) => {
                among(values, block, alive, intervals, |value: u32, low, high| value.wrapping_sub(low) <= high - low)
            }
            Self::Codes(_) => mask(values, block, alive, |code| self.holds(code)),
        }
    }
}

impl Plan {
    /// What an expression means on a shelf.
    pub(super) fn new(expr: &Expr, shelf: &Shelf, book: &Book) -> Self {
        match expr {
            Expr::All(parts) => Self::all(parts.iter().map(|part| Self::new(part, shelf, book)), shelf),
            Expr::Any(parts) => Self::any(parts.iter().map(|part| Self::new(part, shelf, book))),
            Expr::Test(condition) => Self::test(condition, shelf, book),
        }
    }

    /// All of several plans. Those that leave the fewest rows are asked first.
    pub(super) fn all(parts: impl Iterator<Item = Self>, shelf: &Shelf) -> Self {
        let mut asked = Vec::new();
        for part in parts {
            match part {
                Self::Never => return Self::Never,
                Self::Always => {}
                Self::All(inner) => asked.extend(inner),
                part => asked.push(part),
            }
        }
        asked.sort_by_key(|part| part.expected(shelf.rows));
        match asked.len() {
            0 => Self::Always,
            1 => asked.pop().unwrap_or(Self::Always),
            _ => Self::All(asked),
        }
    }

    fn any(parts: impl Iterator<Item = Self>) -> Self {
        let mut asked = Vec::new();
        for part in parts {
            match part {
                Self::Always => return Self::Always,
                Self::Never => {}
                Self::Any(inner) => asked.extend(inner),
                part => asked.push(part),
            }
        }
        match asked.len() {
            0 => Self::Never,
            1 => asked.pop().unwrap_or(Self::Never),
            _ => Self::Any(asked),
        }
    }

    /// How many rows may be left, roughly.
    pub(super) fn expected(&self, rows: usize) -> usize {
        match self {
            Self::Never => 0,
            Self::Providers { negated: false, .. } => 1,
            Self::Coded { rows, .. } | Self::Wide { rows, .. } => *rows,
            Self::All(parts) => parts.iter().map(|part| part.expected(rows)).min().unwrap_or(rows),
            Self::Any(parts) => parts.iter().map(|part| part.expected(rows)).sum::<usize>().min(rows),
            Self::Always | Self::Providers { .. } | Self::Currencies { .. } => rows,
        }
    }

    fn test(condition: &Condition, shelf: &Shelf, book: &Book) -> Self {
        let (Some(column), Some(field)) = (shelf.columns.get(condition.field), FIELDS.get(condition.field)) else {
            return Self::Never;
        };
        match (&condition.test, &column.values) {
            (Test::Within(ranges), Values::Narrow { .. } | Values::Wide(_)) => {
                Self::numbers(condition.field, ranges.intervals(), column, shelf.rows)
            }
            (Test::Words { words, negated }, Values::Text { texts, sets, .. }) => {
                let mut rows = 0;
                let accepted: Vec<bool> = texts
                    .values()
                    .map(|text| {
                        let wanted = text.filter(|(text, _)| matches_any(field.kind, words, text) != *negated);
                        rows += wanted.map_or(0, |(_, users)| users as usize);
                        wanted.is_some()
                    })
                    .collect();
                let codes: Vec<(u32, u32)> =
                    (0..).zip(&accepted).filter(|(_, accepted)| **accepted).map(|(code, _)| (code, code)).collect();
                let accepted =
                    if codes.len() <= FEW_CODES { Accepted::Within(codes) } else { Accepted::Codes(accepted) };
                match rows {
                    0 => Self::Never,
                    all if all == shelf.rows => Self::Always,
                    _ => {
                        let chosen = sets.choose(|code| accepted.holds(code));
                        Self::Coded { field: condition.field, chosen, accepted, rows }
                    }
                }
            }
            (Test::Words { words, negated }, Values::OfProvider) => {
                let among = providers(field.kind, words, book);
                if among.is_empty() && !*negated {
                    return Self::Never;
                }
                Self::Providers { among, negated: *negated }
            }
            _ => Self::Never,
        }
    }

    fn numbers(field: usize, intervals: &[(i64, i64)], column: &Column, rows: usize) -> Self {
        let Some((least, greatest)) = column.bounds else { return Self::Never };
        let left: Vec<(i64, i64)> = intervals
            .iter()
            .map(|(low, high)| ((*low).max(least), (*high).min(greatest)))
            .filter(|(low, high)| low <= high)
            .collect();
        if left.is_empty() {
            return Self::Never;
        }
        if column.unknown == 0 && left == [(least, greatest)] {
            return Self::Always;
        }
        match &column.values {
            Values::Narrow { numbers, sets } => {
                // the bounds are those of the column, so that they fit
                let fit = |number: i64| u32::try_from(number).unwrap_or(u32::MAX - 1);
                let accepted = Accepted::Within(left.into_iter().map(|(low, high)| (fit(low), fit(high))).collect());
                let chosen = sets.choose(|number| accepted.holds(number));
                match (sets.others(), chosen.rows) {
                    (0, 0) => Self::Never,
                    (0, _) if chosen.all => Self::Always,
                    (0, rows) => Self::Coded { field, chosen, accepted, rows },
                    _ => {
                        let rows = guess(numbers, rows, |number| accepted.holds(number));
                        Self::Coded { field, chosen, accepted, rows }
                    }
                }
            }
            Values::Wide(numbers) => {
                let within = |number: i64| left.iter().any(|(low, high)| number >= *low && number <= *high);
                let rows = guess(numbers, rows, within);
                Self::Wide { field, intervals: left, rows }
            }
            Values::Text { .. } | Values::OfProvider => Self::Never,
        }
    }

    /// Which of the rows of a block that are still `alive` meet it.
    pub(super) fn mask(&self, shelf: &Shelf, block: usize, alive: u64) -> u64 {
        if alive == 0 {
            return 0;
        }
        match self {
            Self::Never => 0,
            Self::Always => alive,
            Self::All(parts) => parts.iter().fold(alive, |left, part| part.mask(shelf, block, left)),
            Self::Any(parts) => parts.iter().fold(0, |met, part| met | part.mask(shelf, block, alive & !met)),
            Self::Coded { field, chosen, accepted, .. } => match shelf.columns.get(*field).map(|column| &column.values)
            {
                Some(Values::Narrow { numbers: codes, sets } | Values::Text { codes, sets, .. }) => {
                    let (met, others) = sets.mask(chosen, block, alive);
                    if others == 0 { met } else { met | accepted.mask(codes, block, others) }
                }
                _ => 0,
            },
            Self::Wide { field, intervals, .. } => match shelf.columns.get(*field).map(|column| &column.values) {
                Some(Values::Wide(values)) => among(values, block, alive, intervals, |value: i64, low, high| {
                    // what is unknown lies below all bounds
                    value >= low && value <= high
                }),
                _ => 0,
            },
            Self::Providers { among, negated } => {
                mask(&shelf.places, block, alive, |place| among.contains(&place.provider) != *negated)
            }
            Self::Currencies { accepted } => {
                mask(&shelf.currencies, block, alive, |code| accepted.get(code as usize).copied().unwrap_or(false))
            }
        }
    }

    /// What looking at the rows of a block costs, in units of about a nanosecond: what stands behind a condition is asked only of blocks
    /// in which that leaves a row.
    pub(super) fn cost(&self, shelf: &Shelf) -> usize {
        match self {
            Self::Never | Self::Always => 1,
            Self::Coded { field, chosen, .. } => {
                let others = match shelf.columns.get(*field).map(|column| &column.values) {
                    Some(Values::Narrow { sets, .. } | Values::Text { sets, .. }) => sets.others(),
                    _ => 0,
                };
                let looked_at = (others * BLOCK / shelf.rows.max(1)).min(1) * VALUES_COST;
                WORD_COST * (1 + chosen.words()) + looked_at
            }
            Self::Wide { intervals, .. } => VALUES_COST * intervals.len(),
            Self::Providers { .. } | Self::Currencies { .. } => VALUES_COST,
            Self::Any(parts) => parts.iter().map(|part| part.cost(shelf)).sum(),
            Self::All(parts) => {
                let mut reached = 1.0;
                let cost = parts.iter().map(|part| {
                    let cost = part.cost(shelf) as f64 * reached;
                    let share = part.expected(shelf.rows) as f64 / shelf.rows.max(1) as f64;
                    reached *= (share * BLOCK as f64).min(1.0);
                    cost
                });
                cost.sum::<f64>() as usize
            }
        }
    }

    /// The interval of a wide field that every row must lie in, as far as one condition says it.
    pub(super) fn bounds_of(&self, asked: usize) -> Option<(i64, i64)> {
        match self {
            Self::Wide { field, intervals, .. } if *field == asked => Some((intervals.first()?.0, intervals.last()?.1)),
            Self::All(parts) => parts.iter().find_map(|part| match part {
                Self::Wide { .. } => part.bounds_of(asked),
                _ => None,
            }),
            _ => None,
        }
    }
}

fn among<T: Copy>(
    values: &[T],
    block: usize,
    alive: u64,
    intervals: &[(T, T)],
    within: impl Fn(T, T, T) -> bool,
) -> u64 {
    intervals
        .iter()
        .fold(0, |met, (low, high)| met | mask(values, block, alive & !met, |value| within(value, *low, *high)))
}

/// The numbers of the providers that a condition names.
pub(super) fn providers(kind: Kind, words: &[String], book: &Book) -> BTreeSet<u32> {
    match kind {
        Kind::Provider => {
            // an id has one spelling
            let named = words.iter().filter_map(|word| word.parse::<PeerId>().ok());
            named.filter_map(|peer| book.number(&peer)).collect()
        }
        _ => {
            let wallets: Vec<_> =
                words.iter().filter(|word| word.starts_with("0x")).filter_map(|word| word.parse().ok()).collect();
            book.numbered()
                .filter(|(_, entry): &(u32, &Entry)| wallets.contains(&entry.wallet))
                .map(|(number, _)| number)
                .collect()
        }
    }
}
