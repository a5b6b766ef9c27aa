//! Looking at every row of the shelves that matter, in columns, and keeping the best.

use super::{
    RowId,
    bound::Bound,
    column::{BLOCK, UNKNOWN_NARROW, UNKNOWN_WIDE, Values, mask},
    plan::Plan,
    search::{RowAt, Task, Total},
    shelf::Shelf,
};
use crate::query::{Cell, FREE, Row};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

/// The best rows so far, in their order.
pub(super) struct Best<'a> {
    rows: Vec<RowAt<'a>>,
    limit: usize,
}

impl<'a> Best<'a> {
    pub(super) fn new(limit: usize) -> Self {
        Self { rows: Vec::new(), limit }
    }

    /// The row that another must go before, once there are as many as wanted.
    fn last(&self) -> Option<&RowAt<'a>> {
        self.rows.last().filter(|_| self.rows.len() >= self.limit)
    }

    pub(super) fn offer(&mut self, row: RowAt<'a>) {
        if self.limit == 0 || self.last().is_some_and(|last| row.compare(last) != Ordering::Less) {
            return;
        }
        let at = self.rows.partition_point(|known| known.compare(&row) == Ordering::Less);
        self.rows.insert(at, row);
        self.rows.truncate(self.limit);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Moves the rows behind others, and is empty again.
    pub(super) fn empty_into(&mut self, others: &mut Vec<RowAt<'a>>) {
        others.append(&mut self.rows);
    }

    /// How many are wanted from now on.
    pub(super) const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    pub(super) fn into_rows(self) -> Vec<RowAt<'a>> {
        self.rows
    }
}

/// The best of all rows, and how many there are after the last page.
pub(super) fn all<'a>(task: &'a Task<'a>, plans: &[(u16, &'a Shelf, Plan)]) -> (Vec<RowAt<'a>>, Total) {
    let (mut best, mut count) = (Best::new(task.limit), 0);
    let mut bound = None;
    for (at, shelf, plan) in best_first(task, plans) {
        let mut gate = Gate::new(task, shelf, best.last());
        let rest = plan.rest();
        for (block, likely) in plan.likely(shelf).into_iter().enumerate().filter(|(_, likely)| *likely != 0) {
            let met = rest.mask(shelf, block, likely);
            let mut left = gate.pass(block, met);
            // whatever goes behind the last of the best need not be looked at more closely: it stands on this page's successors
            count += (met & !left).count_ones() as usize;
            while left != 0 {
                let bit = left.trailing_zeros();
                left &= left - 1;
                let row = u32::try_from(block * BLOCK).unwrap_or(u32::MAX) + bit;
                if Bound::excludes(bound.as_ref(), task, shelf, row) {
                    count += 1;
                    continue;
                }
                let Some(row) = task.row(shelf, RowId { shelf: *at, row }) else { continue };
                if row.is_after(task.after) {
                    count += 1;
                    best.offer(row);
                    bound = best.last().map(|last| Bound::new(task, last.shelf, last.id.row));
                    gate = Gate::new(task, shelf, best.last());
                }
            }
        }
    }
    (best.into_rows(), Total::Exactly(count))
}

/// The shelves whose rows may be the best by the first key before the others, which then need not be looked at closely.
fn best_first<'p, 'a>(task: &Task<'_>, plans: &'p [(u16, &'a Shelf, Plan)]) -> Vec<&'p (u16, &'a Shelf, Plan)> {
    let mut sorted: Vec<_> = plans.iter().collect();
    if let Some((field, descending)) = task.search.order.keys().first().and_then(|key| key.field()) {
        sorted.sort_by_key(|(_, shelf, _)| {
            let (low, high) = shelf.columns.get(field).and_then(|column| column.bounds).unwrap_or((i64::MAX, i64::MIN));
            if descending { i128::from(high).wrapping_neg() } else { i128::from(low) }
        });
    }
    sorted
}

/// The best rows of the few providers that a condition names.
pub(super) fn of_providers<'a>(
    task: &'a Task<'a>,
    condition: usize,
    providers: &BTreeSet<u32>,
) -> (Vec<RowAt<'a>>, Total) {
    let (mut best, mut count) = (Best::new(task.limit), 0);
    let mut plans: BTreeMap<u16, Plan> = BTreeMap::new();
    for id in providers.iter().filter_map(|number| task.book.entry(*number)).flat_map(|entry| &entry.rows) {
        let Some((_, shelf)) = task.book.shelves.get(usize::from(id.shelf)) else { continue };
        let plan = plans.entry(id.shelf).or_insert_with(|| task.plan(shelf, Some(condition)));
        let (block, bit) = (id.row as usize / BLOCK, id.row as usize % BLOCK);
        if plan.mask(shelf, block, 1 << bit) != 0
            && let Some(row) = task.row(shelf, *id)
            && row.is_after(task.after)
        {
            count += 1;
            best.offer(row);
        }
    }
    (best.into_rows(), Total::Exactly(count))
}

/// Passes only the rows of a block that may go before the last of the best, as far as its first two keys show it in columns.
struct Gate<'a> {
    shelf: &'a Shelf,
    /// Whether what has nothing free goes behind.
    free: bool,
    fences: Vec<Fence>,
}

/// What a row must have for one key so that it does not go behind the last of the best.
struct Fence {
    field: usize,
    descending: bool,
    limit: Limit,
}

/// The value of the last of the best.
enum Limit {
    Number(i64),
    /// An amount as it would be written in each way of paying, by its number.
    Amounts(Vec<i64>),
}

impl<'a> Gate<'a> {
    fn new(task: &Task<'_>, shelf: &'a Shelf, last: Option<&RowAt<'_>>) -> Self {
        let Some(last) = last else { return Self { shelf, free: false, fences: Vec::new() } };
        let mut fences = Vec::new();
        for key in task.search.order.keys().iter().take(2) {
            let Some((field, descending)) = key.field() else { break };
            let Cell::Number(number) = last.cell(field) else { break };
            let limit = match key.is_money() && !is_one_token(task) {
                false => Limit::Number(number),
                true => match last.amounts(number, descending) {
                    Some(amounts) => Limit::Amounts(amounts),
                    None => break,
                },
            };
            let is_last = matches!(limit, Limit::Amounts(_));
            fences.push(Fence { field, descending, limit });
            if is_last {
                break;
            }
        }
        Self { shelf, free: last.cell(FREE) != Cell::Number(0), fences }
    }

    fn pass(&self, block: usize, met: u64) -> u64 {
        // before something that is not free goes all that is
        if met == 0 || !self.free {
            return met;
        }
        let Some((first, others)) = self.fences.split_first() else { return met };
        let (before, equal) = first.split(self.shelf, block, met);
        let equal = others.iter().fold(equal, |equal, fence| {
            let (before, level) = fence.split(self.shelf, block, equal);
            before | level
        });
        let left = before | equal;
        match self.shelf.columns.get(FREE).map(|column| &column.values) {
            Some(Values::Narrow { numbers, .. }) if left != 0 => mask(numbers, block, left, |free| free != 0),
            _ => left,
        }
    }
}

impl Fence {
    /// Of the rows of a block, those that go before, and those that the next key decides about.
    fn split(&self, shelf: &Shelf, block: usize, met: u64) -> (u64, u64) {
        let Some(column) = shelf.columns.get(self.field) else { return (met, 0) };
        if met == 0 {
            return (0, 0);
        }
        match (&column.values, &self.limit) {
            (_, Limit::Number(limit)) if self.is_beyond(column.bounds, *limit) => (0, 0),
            (Values::Narrow { numbers, .. }, Limit::Number(limit)) => {
                let limit = u32::try_from(*limit).unwrap_or(UNKNOWN_NARROW - 1);
                let before = match self.descending {
                    true => mask(numbers, block, met, |number| number > limit && number != UNKNOWN_NARROW),
                    false => mask(numbers, block, met, |number| number < limit),
                };
                (before, mask(numbers, block, met & !before, |number| number == limit))
            }
            (Values::Wide { numbers, .. }, Limit::Number(limit)) => {
                let before = match self.descending {
                    true => mask(numbers, block, met, |number| number > *limit),
                    false => mask(numbers, block, met, |number| number < *limit && number != UNKNOWN_WIDE),
                };
                (before, mask(numbers, block, met & !before, |number| number == *limit))
            }
            (Values::Wide { numbers, .. }, Limit::Amounts(limits)) => {
                let from = block * BLOCK;
                let mut left = met;
                let mut passed = 0;
                while left != 0 {
                    let bit = left.trailing_zeros();
                    left &= left - 1;
                    let at = from + bit as usize;
                    let code = shelf.currencies.get(at).map_or(usize::MAX, |code| *code as usize);
                    if let (Some(number), Some(limit)) = (numbers.get(at), limits.get(code)) {
                        let goes = if self.descending { number >= limit } else { number <= limit };
                        passed |= u64::from(goes && *number != UNKNOWN_WIDE) << bit;
                    }
                }
                (0, passed)
            }
            _ => (met, 0),
        }
    }

    /// Whether all rows of a shelf go behind.
    fn is_beyond(&self, bounds: Option<(i64, i64)>, limit: i64) -> bool {
        bounds.is_some_and(|(low, high)| if self.descending { high < limit } else { low > limit })
    }
}

/// Whether all amounts are of the same token, so that they compare as they are written.
fn is_one_token(task: &Task<'_>) -> bool {
    let mut wanted = task.paid.iter().flatten().map(|paid| (paid.group, paid.worth));
    wanted.next().is_none_or(|first| wanted.all(|other| other == first))
}
