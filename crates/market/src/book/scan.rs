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

    pub(super) fn into_rows(self) -> Vec<RowAt<'a>> {
        self.rows
    }
}

/// The best of all rows, and how many there are after the last page.
pub(super) fn all<'a>(task: &'a Task<'a>, plans: &[(u16, &'a Shelf, Plan)]) -> (Vec<RowAt<'a>>, Total) {
    let (mut best, mut count) = (Best::new(task.limit), 0);
    let mut bound = None;
    for (at, shelf, plan) in plans {
        let gate = Gate::new(task, shelf);
        for (block, live) in shelf.live.iter().enumerate() {
            let met = plan.mask(shelf, block, *live);
            let mut left = gate.pass(block, met, best.last());
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
                }
            }
        }
    }
    (best.into_rows(), Total::Exactly(count))
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

/// Passes only the rows of a block that may go before the last of the best, as far as the first key shows it in a column.
struct Gate<'a> {
    shelf: &'a Shelf,
    /// The field of the first key and whether downwards, where columns can be compared: not by amounts of different tokens.
    first: Option<(usize, bool)>,
}

impl<'a> Gate<'a> {
    fn new(task: &Task<'_>, shelf: &'a Shelf) -> Self {
        let first = task.search.order.keys().first().filter(|key| !key.is_money() || is_one_token(task));
        Self { shelf, first: first.and_then(|key| key.field()) }
    }

    fn pass(&self, block: usize, met: u64, last: Option<&RowAt<'_>>) -> u64 {
        let (Some(last), Some((field, descending))) = (last, self.first) else { return met };
        if met == 0 {
            return 0;
        }
        if last.cell(FREE) == Cell::Number(0) {
            return met;
        }
        let free = match self.values(FREE) {
            Some(Values::Narrow(values)) => mask(values, block, met, |free| free != 0),
            _ => met,
        };
        match (self.values(field), last.cell(field)) {
            (Some(Values::Narrow(values)), Cell::Number(number)) => {
                let bound = u32::try_from(number).unwrap_or(UNKNOWN_NARROW - 1);
                if descending {
                    mask(values, block, free, |value| value >= bound && value != UNKNOWN_NARROW)
                } else {
                    mask(values, block, free, |value| value <= bound)
                }
            }
            (Some(Values::Wide(values)), Cell::Number(bound)) => {
                if descending {
                    mask(values, block, free, |value| value >= bound)
                } else {
                    mask(values, block, free, |value| value <= bound && value != UNKNOWN_WIDE)
                }
            }
            _ => free,
        }
    }

    fn values(&self, field: usize) -> Option<&'a Values> {
        self.shelf.columns.get(field).map(|column| &column.values)
    }
}

/// Whether all amounts are of the same token, so that they compare as they are written.
fn is_one_token(task: &Task<'_>) -> bool {
    let mut wanted = task.paid.iter().flatten().map(|paid| (paid.group, paid.worth));
    wanted.next().is_none_or(|first| wanted.all(|other| other == first))
}
