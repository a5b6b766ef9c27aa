//! The sort keys of a row, taken from its columns alone: enough to pass over most rows without looking at whose they are.

use super::{search::Task, shelf::Shelf};
use crate::query::{Cell, FIELDS, FREE, Key, Kind};
use std::{borrow::Cow, cmp::Ordering};

/// What the last of the best rows has for each key, as far as columns show it.
pub(super) struct Bound<'a> {
    busy: bool,
    ranks: Vec<Rank<'a>>,
}

/// One key of one row.
enum Rank<'a> {
    /// A number, after those of lower groups: amounts of tokens without rates are not mixed.
    Number(u32, i128),
    Text(Cow<'a, str>),
    Unknown,
}

impl Rank<'_> {
    fn compare(&self, other: &Self, descending: bool) -> Ordering {
        let directed = |ordering: Ordering| if descending { ordering.reverse() } else { ordering };
        match (self, other) {
            (Self::Number(group, number), Self::Number(others, than)) => {
                group.cmp(others).then_with(|| directed(number.cmp(than)))
            }
            (Self::Text(text), Self::Text(than)) => directed(text.cmp(than)),
            _ => matches!(self, Self::Unknown).cmp(&matches!(other, Self::Unknown)),
        }
    }
}

impl<'a> Bound<'a> {
    pub(super) fn new(task: &Task<'_>, shelf: &'a Shelf, row: u32) -> Self {
        let ranks = keys(task).map(|key| rank(key, task, shelf, row)).collect();
        Self { busy: is_busy(shelf, row), ranks }
    }

    /// Whether a row certainly goes behind the one of the bound.
    pub(super) fn excludes(bound: Option<&Self>, task: &Task<'_>, shelf: &Shelf, row: u32) -> bool {
        let Some(bound) = bound else { return false };
        let mut ordering = is_busy(shelf, row).cmp(&bound.busy);
        for (key, than) in task.search.order.keys().iter().zip(&bound.ranks) {
            if ordering != Ordering::Equal {
                break;
            }
            ordering = rank(key, task, shelf, row).compare(than, key.is_descending());
        }
        ordering == Ordering::Greater
    }
}

fn is_busy(shelf: &Shelf, row: u32) -> bool {
    shelf.cell(row, FREE) == Cell::Number(0)
}

/// The keys before the first that is not in the columns.
fn keys<'a>(task: &Task<'a>) -> impl Iterator<Item = &'a Key> {
    let is_of_provider =
        |field: usize| FIELDS.get(field).is_some_and(|field| matches!(field.kind, Kind::Provider | Kind::Wallet));
    task.search.order.keys().iter().take_while(move |key| !key.fields().iter().any(|field| is_of_provider(*field)))
}

fn rank<'a>(key: &Key, task: &Task<'_>, shelf: &'a Shelf, row: u32) -> Rank<'a> {
    match key.cell(|field| shelf.cell(row, field), task.search.order) {
        Cell::Unknown => Rank::Unknown,
        Cell::Text(text) => Rank::Text(text),
        Cell::Number(number) if key.is_money() => {
            let code = shelf.currencies.get(row as usize).map_or(0, |code| *code as usize);
            let Some(Some(paid)) = task.paid.get(code) else { return Rank::Unknown };
            match paid.worth {
                Some(worth) => Rank::Number(0, i128::from(number) * i128::from(worth)),
                None => Rank::Number(paid.group, i128::from(number)),
            }
        }
        Cell::Number(number) => Rank::Number(0, i128::from(number)),
    }
}
