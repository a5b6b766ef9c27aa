//! Walking the rows in the order of price until a page is full: the sorted rows of each shelf and way of paying, merged.

use super::{
    RowId,
    column::BLOCK,
    plan::Plan,
    scan::Best,
    search::{Cursor, RowAt, Task, Total},
    shelf::{BUSY, Priced, Shelf},
};
use crate::query::{Cell, PRICE, Row};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, btree_set},
};

/// Rows that are walked before all are scanned instead: about the time of scanning a million.
const WALK_BUDGET: usize = 6_000;
/// After so many rows, and again after each such number of them, it is asked whether the rest of the page will be found within the budget
/// at the rate so far.
const OUTLOOK: usize = 256;

/// Rows in the order of price, on one shelf and for one way of paying.
struct Stream<'a> {
    shelf: &'a Shelf,
    plan: &'a Plan,
    at: u16,
    worth: u64,
    rows: btree_set::Range<'a, Priced>,
}

/// The head of a stream: what it is worth, whose it is, and which stream.
type Head = Reverse<(u128, u64, usize, u32)>;

/// The best rows by price, when that is the order; `None` when it is not, or the walk takes too long.
pub(super) fn by_price<'a>(task: &'a Task<'a>, plans: &'a [(u16, &'a Shelf, Plan)]) -> Option<(Vec<RowAt<'a>>, Total)> {
    let keys = task.search.order.keys();
    if keys.first().and_then(|key| key.field()) != Some((PRICE, false)) {
        return None;
    }
    let mut walk = Walk { task, found: Vec::new(), walked: 0, met: 0, alone: keys.len() == 1 };
    let mut groups: Vec<u32> = task.paid.iter().flatten().map(|paid| paid.group).collect();
    groups.sort_unstable();
    groups.dedup();
    for busy in [0, BUSY] {
        for group in &groups {
            let streams = streams(task, plans, busy, *group);
            if walk.merge(streams)? {
                // one more than the page was found
                let more = walk.found.len() > task.limit;
                let count = walk.found.len();
                walk.found.truncate(task.limit);
                return Some((walk.found, if more { Total::AtLeast(count) } else { Total::Exactly(count) }));
            }
        }
    }
    let count = walk.found.len();
    Some((walk.found, Total::Exactly(count)))
}

fn streams<'a>(task: &Task<'_>, plans: &'a [(u16, &'a Shelf, Plan)], busy: u64, group: u32) -> Vec<Stream<'a>> {
    let mut streams = Vec::new();
    for (at, shelf, plan) in plans {
        let (low, high) = plan.bounds_of(PRICE).unwrap_or((0, i64::MAX));
        let (low, high) = (u64::try_from(low).unwrap_or(0), u64::try_from(high).unwrap_or(0));
        for (currency, rows) in &shelf.prices {
            let Some(Some(paid)) = task.paid.get(*currency as usize) else { continue };
            if paid.group != group {
                continue;
            }
            let worth = paid.worth.unwrap_or(1);
            let Some(low) = first_price(task.after, busy, paid.group, task, worth).map(|from| from.max(low)) else {
                continue;
            };
            if low <= high {
                let rows = rows.range((low | busy, 0, 0)..=(high | busy, u64::MAX, u32::MAX));
                streams.push(Stream { shelf, plan, at: *at, worth, rows });
            }
        }
    }
    streams
}

/// The least price at which rows of a group may still come after the cursor; `None` when all come before.
fn first_price(after: Option<&Cursor>, busy: u64, group: u32, task: &Task<'_>, worth: u64) -> Option<u64> {
    let Some(cursor) = after else { return Some(0) };
    let was_busy = if crate::query::is_busy(cursor) { BUSY } else { 0 };
    let rates = task.search.order.rates();
    let Cell::Number(price) = cursor.cell(PRICE) else { return Some(0) };
    let price = u128::try_from(price).unwrap_or(0);
    let (was_in, worth_then) = match rates.of(cursor.token()) {
        Some(worth) => (Some(0), worth),
        // a token that the book no longer has: its place is found row by row
        None => (task.group_of(cursor.token()), 1),
    };
    let Some(was_in) = was_in else { return Some(0) };
    match (was_busy, was_in).cmp(&(busy, group)) {
        std::cmp::Ordering::Less => Some(0),
        std::cmp::Ordering::Greater => None,
        std::cmp::Ordering::Equal => {
            u64::try_from(price.saturating_mul(u128::from(worth_then)) / u128::from(worth)).ok()
        }
    }
}

struct Walk<'a> {
    task: &'a Task<'a>,
    /// In their order.
    found: Vec<RowAt<'a>>,
    walked: usize,
    /// Of those walked, the rows that meet the query.
    met: usize,
    /// Whether price is all that is sorted by, so that the order of the streams is nearly that of the rows.
    alone: bool,
}

impl<'a> Walk<'a> {
    /// Goes through streams that are compared with each other; whether more than the page was found. `None` when it takes too long.
    fn merge(&mut self, mut streams: Vec<Stream<'a>>) -> Option<bool> {
        let mut heads: BinaryHeap<Head> = BinaryHeap::with_capacity(streams.len());
        for (at, stream) in streams.iter_mut().enumerate() {
            heads.extend(head(stream, at));
        }
        // rows that are equal as far as the walk can see, sorted once they are together
        let mut equal: Option<(u128, u64)> = None;
        let mut together = self.batch();
        while let Some(Reverse((worth, tail, at, row))) = heads.pop() {
            self.walked += 1;
            if self.walked.is_multiple_of(OUTLOOK) && self.met * WALK_BUDGET < self.task.limit * self.walked {
                return None;
            }
            let same = equal.is_some_and(|(w, t)| w == worth && (!self.alone || t == tail));
            if !same {
                let done = std::mem::replace(&mut together, self.batch());
                if self.close(done) {
                    return Some(true);
                }
                equal = Some((worth, tail));
            }
            let Some(stream) = streams.get_mut(at) else { continue };
            if stream.plan.mask(stream.shelf, row as usize / BLOCK, 1 << (row as usize % BLOCK)) != 0
                && let Some(row) = self.task.row(stream.shelf, RowId { shelf: stream.at, row })
                && row.is_after(self.task.after)
            {
                self.met += 1;
                together.offer(row);
            }
            heads.extend(head(stream, at));
        }
        Some(self.close(together))
    }

    /// Room for as many rows as the page still lacks, and one that tells that there are more.
    fn batch(&self) -> Best<'a> {
        Best::new(self.task.limit.saturating_add(1).saturating_sub(self.found.len()))
    }

    fn close(&mut self, done: Best<'a>) -> bool {
        self.found.extend(done.into_rows());
        self.found.len() > self.task.limit
    }
}

fn head(stream: &mut Stream<'_>, at: usize) -> Option<Head> {
    let (price, tail, row) = *stream.rows.next()?;
    Some(Reverse((u128::from(price & !BUSY) * u128::from(stream.worth), tail, at, row)))
}
