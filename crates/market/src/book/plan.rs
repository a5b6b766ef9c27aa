//! A query as it is asked of one shelf: texts become the codes that match, conditions that hold for no row or for all of them are known
//! before a row is read, and what is left is evaluated for 64 rows at a time, the narrowest condition first.
//!
//! Negations stand at the fields already, so that a row meets a query exactly when its conditions say yes: a mask of those that do is all
//! that is needed, and what is unknown is left out of it like what is not.

use super::{
    Book, Entry,
    column::{BLOCK, Column, UNKNOWN_NARROW, Values, mask},
    sets::{Chosen, Share, unite},
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
const WORD_COST: usize = 1;
const VALUES_COST: usize = 100;

/// A part of a query for one shelf.
#[derive(Clone, Debug)]
pub(super) enum Plan {
    Never,
    Always,
    All(Vec<Plan>),
    Any(Vec<Plan>),
    /// Numbers and texts: sets of rows, and a look at the values of those in ranges that are accepted in part.
    Values {
        field: usize,
        chosen: Chosen,
        accepted: Accepted,
    },
    /// The same by the values alone: of the few rows that sets have left, these lie closer together.
    Look {
        field: usize,
        accepted: Accepted,
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

/// Which values are accepted: by intervals, which are quick to compare, or by all that there are.
#[derive(Clone, Debug)]
pub(super) enum Accepted {
    Narrow(Vec<(u32, u32)>),
    Wide(Vec<(i64, i64)>),
    Codes(Vec<bool>),
}

impl Accepted {
    fn mask(&self, values: &Values, block: usize, alive: u64) -> u64 {
        match (self, values) {
            (Self::Narrow(intervals), Values::Narrow { numbers: values, .. } | Values::Text { codes: values, .. }) => {
                among(values, block, alive, intervals, |value: u32, low, high| value.wrapping_sub(low) <= high - low)
            }
            // what is unknown lies below all bounds
            (Self::Wide(intervals), Values::Wide { numbers, .. }) => {
                among(numbers, block, alive, intervals, |value: i64, low, high| value >= low && value <= high)
            }
            (Self::Codes(accepted), Values::Text { codes, .. }) => {
                mask(codes, block, alive, |code| accepted.get(code as usize).copied().unwrap_or(false))
            }
            _ => 0,
        }
    }
}

/// How much of a range of numbers lies within intervals.
fn share_of(intervals: &[(i64, i64)], least: i64, greatest: i64) -> Share {
    match intervals {
        _ if intervals.iter().any(|(low, high)| *low <= least && greatest <= *high) => Share::All,
        _ if intervals.iter().any(|(low, high)| *low <= greatest && least <= *high) => Share::Part,
        _ => Share::Nothing,
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
            Self::Values { chosen, .. } => chosen.rows,
            Self::All(parts) => parts.iter().map(|part| part.expected(rows)).min().unwrap_or(rows),
            Self::Any(parts) => parts.iter().map(|part| part.expected(rows)).sum::<usize>().min(rows),
            Self::Always | Self::Look { .. } | Self::Providers { .. } | Self::Currencies { .. } => rows,
        }
    }

    pub(super) fn test(condition: &Condition, shelf: &Shelf, book: &Book) -> Self {
        let (Some(column), Some(field)) = (shelf.columns.get(condition.field), FIELDS.get(condition.field)) else {
            return Self::Never;
        };
        match (&condition.test, &column.values) {
            (Test::Within(ranges), Values::Narrow { .. } | Values::Wide { .. }) => {
                Self::numbers(condition.field, ranges.intervals(), column)
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
                if rows == 0 {
                    return Self::Never;
                }
                if rows == shelf.rows {
                    return Self::Always;
                }
                let is = |code: i64| usize::try_from(code).ok().and_then(|code| accepted.get(code).copied());
                let chosen = sets.choose(|first, last| match first == last {
                    true if is(first) == Some(true) => Share::All,
                    false if (first..=last).any(|code| is(code) == Some(true)) => Share::Part,
                    _ => Share::Nothing,
                });
                let codes = (0..).zip(&accepted).filter(|(_, accepted)| **accepted).map(|(code, _)| (code, code));
                let few: Vec<(u32, u32)> = codes.take(FEW_CODES + 1).collect();
                let accepted = if few.len() > FEW_CODES { Accepted::Codes(accepted) } else { Accepted::Narrow(few) };
                Self::Values { field: condition.field, chosen, accepted }
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
        let (Values::Narrow { sets, .. } | Values::Wide { sets, .. }) = &column.values else { return Self::Never };
        let chosen = sets.choose(|least, greatest| share_of(&left, least, greatest));
        if chosen.is_empty() {
            return Self::Never;
        }
        if chosen.all {
            return Self::Always;
        }
        // the bounds are those of the column, so that they fit
        let fit = |number: i64| u32::try_from(number).unwrap_or(UNKNOWN_NARROW - 1);
        let accepted = match &column.values {
            Values::Wide { .. } => Accepted::Wide(left),
            _ => Accepted::Narrow(left.into_iter().map(|(low, high)| (fit(low), fit(high))).collect()),
        };
        Self::Values { field, chosen, accepted }
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
            Self::Values { field, chosen, accepted } => {
                let Some(values) = shelf.columns.get(*field).map(|column| &column.values) else { return 0 };
                let (Values::Narrow { sets, .. } | Values::Wide { sets, .. } | Values::Text { sets, .. }) = values
                else {
                    return 0;
                };
                let (met, asked) = sets.mask(chosen, block, alive);
                if asked == 0 { met } else { met | accepted.mask(values, block, asked) }
            }
            Self::Look { field, accepted } => {
                shelf.columns.get(*field).map_or(0, |column| accepted.mask(&column.values, block, alive))
            }
            Self::Providers { among, negated } => {
                mask(&shelf.places, block, alive, |place| among.contains(&place.provider) != *negated)
            }
            Self::Currencies { accepted } => {
                mask(&shelf.currencies, block, alive, |code| accepted.get(code as usize).copied().unwrap_or(false))
            }
        }
    }

    /// The rows of a whole shelf that may meet it, as far as sets of rows tell, a word for each block: what is left is looked at by
    /// [`Plan::mask`].
    pub(super) fn likely(&self, shelf: &Shelf) -> Vec<u64> {
        let mut rows = shelf.live.clone();
        self.narrow(shelf, &mut rows);
        rows
    }

    /// What is left to be asked of the rows that [`Plan::likely`] leaves.
    pub(super) fn rest(&self) -> Self {
        match self {
            Self::Values { chosen, .. } if !chosen.has_parts() => Self::Always,
            Self::Values { field, accepted, .. } => Self::Look { field: *field, accepted: accepted.clone() },
            Self::All(parts) => {
                Self::All(parts.iter().map(Self::rest).filter(|part| !matches!(part, Self::Always)).collect())
            }
            plan => plan.clone(),
        }
    }

    fn narrow(&self, shelf: &Shelf, rows: &mut [u64]) {
        match self {
            Self::Never => rows.fill(0),
            Self::All(parts) => parts.iter().for_each(|part| part.narrow(shelf, rows)),
            Self::Any(parts) => {
                let mut any = vec![0; rows.len()];
                for part in parts {
                    let mut met = rows.to_vec();
                    part.narrow(shelf, &mut met);
                    unite(&mut any, &met);
                }
                rows.copy_from_slice(&any);
            }
            Self::Values { field, chosen, .. } => match shelf.columns.get(*field).map(|column| &column.values) {
                Some(Values::Narrow { sets, .. } | Values::Wide { sets, .. } | Values::Text { sets, .. }) => {
                    sets.narrow(chosen, rows);
                }
                _ => rows.fill(0),
            },
            Self::Always | Self::Look { .. } | Self::Providers { .. } | Self::Currencies { .. } => {}
        }
    }

    /// What looking at the rows of a block costs, in units of about a nanosecond: what stands behind a condition is asked only of blocks
    /// in which that leaves a row.
    pub(super) fn cost(&self, shelf: &Shelf) -> usize {
        match self {
            Self::Never | Self::Always => 1,
            Self::Values { chosen, .. } => {
                WORD_COST * (1 + chosen.words()) + usize::from(chosen.has_parts()) * VALUES_COST
            }
            Self::Look { .. } | Self::Providers { .. } | Self::Currencies { .. } => VALUES_COST,
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
