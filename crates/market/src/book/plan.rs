//! A query as it is asked of one shelf: texts become the codes that match, conditions that hold for no row or for all of them are known
//! before a row is read, and what is left is evaluated for 64 rows at a time, the narrowest condition first.
//!
//! Negations stand at the fields already, so that a row meets a query exactly when its conditions say yes: a mask of those that do is all
//! that is needed, and what is unknown is left out of it like what is not.

use super::{
    Book, Entry,
    column::{Column, Values, mask},
    shelf::Shelf,
};
use crate::{
    id::PeerId,
    query::{Condition, Expr, FIELDS, Kind, Test, matches_any},
};
use std::collections::BTreeSet;

/// As many codes are compared one by one.
const FEW_CODES: usize = 4;

/// A part of a query for one shelf.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    Never,
    Always,
    All(Vec<Plan>),
    Any(Vec<Plan>),
    Narrow {
        field: usize,
        intervals: Vec<(u32, u32)>,
    },
    Wide {
        field: usize,
        intervals: Vec<(i64, i64)>,
    },
    /// Texts that match: by their codes where they are few, which is quick to compare, else by all that there are.
    Code {
        field: usize,
        codes: Vec<u32>,
        rows: usize,
    },
    Codes {
        field: usize,
        accepted: Vec<bool>,
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

    /// How many rows may be left, roughly: what is known of texts, a guess of numbers.
    fn expected(&self, rows: usize) -> usize {
        match self {
            Self::Never => 0,
            Self::Providers { negated: false, .. } => 1,
            Self::Code { rows, .. } | Self::Codes { rows, .. } => *rows,
            Self::Narrow { .. } | Self::Wide { .. } => rows / 3,
            Self::All(parts) => parts.iter().map(|part| part.expected(rows)).min().unwrap_or(rows),
            Self::Any(_) | Self::Always | Self::Providers { .. } | Self::Currencies { .. } => rows,
        }
    }

    fn test(condition: &Condition, shelf: &Shelf, book: &Book) -> Self {
        let (Some(column), Some(field)) = (shelf.columns.get(condition.field), FIELDS.get(condition.field)) else {
            return Self::Never;
        };
        match (&condition.test, &column.values) {
            (Test::Within(ranges), Values::Narrow(_) | Values::Wide(_)) => {
                Self::numbers(condition.field, ranges.intervals(), column)
            }
            (Test::Words { words, negated }, Values::Text { texts, .. }) => {
                let mut rows = 0;
                let accepted: Vec<bool> = texts
                    .values()
                    .map(|text| {
                        let wanted = text.filter(|(text, _)| matches_any(field.kind, words, text) != *negated);
                        rows += wanted.map_or(0, |(_, users)| users as usize);
                        wanted.is_some()
                    })
                    .collect();
                let codes: Vec<u32> =
                    (0..).zip(&accepted).filter(|(_, accepted)| **accepted).map(|(code, _)| code).collect();
                match rows {
                    0 => Self::Never,
                    all if all == shelf.rows => Self::Always,
                    _ if codes.len() <= FEW_CODES => Self::Code { field: condition.field, codes, rows },
                    _ => Self::Codes { field: condition.field, accepted, rows },
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

    fn numbers(field: usize, intervals: &[(i64, i64)], column: &Column) -> Self {
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
        match column.values {
            Values::Narrow(_) => {
                // the bounds are those of the column, so that they fit
                let fit = |number: i64| u32::try_from(number).unwrap_or(u32::MAX - 1);
                let intervals = left.into_iter().map(|(low, high)| (fit(low), fit(high))).collect();
                Self::Narrow { field, intervals }
            }
            _ => Self::Wide { field, intervals: left },
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
            Self::Narrow { field, intervals } => match shelf.columns.get(*field).map(|column| &column.values) {
                Some(Values::Narrow(values)) => among(values, block, alive, intervals, |value: u32, low, high| {
                    value.wrapping_sub(low) <= high - low
                }),
                _ => 0,
            },
            Self::Wide { field, intervals } => match shelf.columns.get(*field).map(|column| &column.values) {
                Some(Values::Wide(values)) => among(values, block, alive, intervals, |value: i64, low, high| {
                    // what is unknown lies below all bounds
                    value >= low && value <= high
                }),
                _ => 0,
            },
            Self::Code { field, codes: asked, .. } => match shelf.columns.get(*field).map(|column| &column.values) {
                Some(Values::Text { codes, .. }) => {
                    asked.iter().fold(0, |met, wanted| met | mask(codes, block, alive & !met, |code| code == *wanted))
                }
                _ => 0,
            },
            Self::Codes { field, accepted, .. } => match shelf.columns.get(*field).map(|column| &column.values) {
                Some(Values::Text { codes, .. }) => {
                    mask(codes, block, alive, |code| accepted.get(code as usize).copied().unwrap_or(false))
                }
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

    /// The interval of a wide field that every row must lie in, as far as one condition says it.
    pub(super) fn bounds_of(&self, asked: usize) -> Option<(i64, i64)> {
        match self {
            Self::Wide { field, intervals } if *field == asked => Some((intervals.first()?.0, intervals.last()?.1)),
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
