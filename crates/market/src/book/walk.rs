//! Walking the rows in the order of price until a page is full: sorted rows for each way of paying, of everything, of a region, or of each
//! class that matters, merged.

use super::{
    column::BLOCK,
    plan::Plan,
    scan::Best,
    search::{Cursor, RowAt, Task, Total},
    shelf::{BUSY, Priced, Shelf},
};
use crate::query::{Cell, PRICE, Row, is_busy};
use std::{
    cell::OnceCell,
    cmp::{Ordering, Reverse},
    collections::{BTreeSet, BinaryHeap, btree_set},
};

/// What a row that is walked to costs, in the units of [`Plan::cost`].
const WALK_COST: usize = 150;
/// What a row that a scan finds costs.
const FOUND_COST: usize = 40;
/// After so many rows, and again after each such number of them, it is asked whether the rest of the page will be found in less time than
/// a scan takes, at the rate so far.
const OUTLOOK: usize = 256;
/// Regions that are walked side by side; more are as good as all.
const REGIONS_SIDE_BY_SIDE: usize = 8;

/// Rows in the order of price for one way of paying.
struct Stream<'a> {
    worth: u64,
    rows: btree_set::Range<'a, Priced>,
}

/// The head of a stream: what it is worth, the end of the peer id, the row, and which stream.
type Head = Reverse<(u128, u64, super::RowId, usize)>;

/// The best rows by price, when that is the order; `None` when it is not, or the walk would take longer than a scan.
pub(super) fn by_price<'a>(task: &'a Task<'a>) -> Option<(Vec<RowAt<'a>>, Total)> {
    let keys = task.search.order.keys();
    if keys.first().and_then(|key| key.field()) != Some((PRICE, false)) {
        return None;
    }
    let mut groups: Vec<u32> = task.paid.iter().flatten().map(|paid| paid.group).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut walk = Walk::new(task, keys.len() == 1);
    for busy in [0, BUSY] {
        for group in &groups {
            let streams = walk.streams(busy, *group);
            if walk.merge(streams)? {
                // one more than the page was found
                let count = walk.found.len();
                walk.found.truncate(task.limit);
                return Some((walk.found, Total::AtLeast(count)));
            }
        }
    }
    let count = walk.found.len();
    Some((walk.found, Total::Exactly(count)))
}

/// Sorted rows for one way of paying.
type Ladder<'a> = (u32, &'a BTreeSet<Priced>);

struct Walk<'a> {
    task: &'a Task<'a>,
    /// What the query means on each shelf of the book, worked out when the walk comes to a row of it.
    plans: Vec<OnceCell<Plan>>,
    /// The condition that every row walked to meets, since there are only such.
    met_by_all: Option<usize>,
    ladders: Vec<Ladder<'a>>,
    /// Between which prices.
    prices: (u64, u64),
    /// In their order.
    found: Vec<RowAt<'a>>,
    walked: usize,
    /// Of those walked, the rows that meet the query.
    met: usize,
    /// Rows to walk in the time of a scan, once that matters.
    budget: Option<usize>,
    /// Whether price is all that is sorted by, so that the order of the streams is nearly that of the rows.
    alone: bool,
}

impl<'a> Walk<'a> {
    fn new(task: &'a Task<'a>, alone: bool) -> Self {
        let (ladders, met_by_all) = ladders(task);
        let plans = std::iter::repeat_with(OnceCell::new).take(task.book.shelves.len()).collect();
        let prices = task.prices();
        Self { task, plans, met_by_all, ladders, prices, found: Vec::new(), walked: 0, met: 0, budget: None, alone }
    }

    fn plan(&self, shelf: u16) -> Option<(&'a Shelf, &Plan)> {
        let (_, on) = self.task.book.shelves.get(usize::from(shelf))?;
        let plan = self.plans.get(usize::from(shelf))?.get_or_init(|| self.task.plan(on, self.met_by_all));
        Some((on, plan))
    }

    /// As many rows as can be walked to while a scan looks at all that matter. Few are walked to their end.
    fn budget(&self) -> usize {
        let shelves = (0..).take(self.task.book.shelves.len()).filter_map(|shelf| self.plan(shelf));
        let scan =
            shelves.map(|(shelf, plan)| plan.cost(shelf) * shelf.live.len() + plan.expected(shelf.rows) * FOUND_COST);
        let budget = scan.sum::<usize>() / WALK_COST;
        let walkable: usize = self.ladders.iter().map(|(_, rows)| rows.len()).sum();
        if walkable <= budget { usize::MAX } else { budget }
    }

    fn streams(&self, busy: u64, group: u32) -> Vec<Stream<'a>> {
        let (low, high) = self.prices;
        let streams = self.ladders.iter().filter_map(|(currency, rows)| {
            let paid = self.task.paid.get(*currency as usize).copied().flatten().filter(|paid| paid.group == group)?;
            let worth = paid.worth.unwrap_or(1);
            let low = first_price(self.task, busy, group, worth)?.max(low);
            (low <= high).then(|| Stream { worth, rows: rows.range(from(low | busy)..=to(high | busy)) })
        });
        streams.collect()
    }

    /// Goes through streams that are compared with each other; whether more than the page was found. `None` when it takes too long.
    fn merge(&mut self, mut streams: Vec<Stream<'a>>) -> Option<bool> {
        let mut heads: BinaryHeap<Head> = BinaryHeap::with_capacity(streams.len());
        for (at, stream) in streams.iter_mut().enumerate() {
            heads.extend(head(stream, at));
        }
        // rows that are equal as far as the walk can see, sorted once they are together
        let mut equal: Option<(u128, u64)> = None;
        let mut together = Best::new(self.room());
        while let Some(Reverse((worth, tail, id, at))) = heads.pop() {
            self.walked += 1;
            if self.walked.is_multiple_of(OUTLOOK) && self.is_hopeless() {
                return None;
            }
            let same = equal.is_some_and(|(w, t)| w == worth && (!self.alone || t == tail));
            if !same {
                equal = Some((worth, tail));
                if !together.is_empty() && self.close(&mut together) {
                    return Some(true);
                }
            }
            if let Some((shelf, plan)) = self.plan(id.shelf)
                && plan.mask(shelf, id.row as usize / BLOCK, 1 << (id.row as usize % BLOCK)) != 0
                && let Some(row) = self.task.row(shelf, id)
                && row.is_after(self.task.after)
            {
                self.met += 1;
                together.offer(row);
            }
            if let Some(stream) = streams.get_mut(at) {
                heads.extend(head(stream, at));
            }
        }
        Some(self.close(&mut together))
    }

    /// Whether the page would be full only after more rows than a scan is worth.
    fn is_hopeless(&mut self) -> bool {
        let budget = self.budget.unwrap_or_else(|| self.budget());
        self.budget = Some(budget);
        self.met.saturating_mul(budget) < self.task.limit.saturating_mul(self.walked)
    }

    /// As many rows as the page still lacks, and one that tells that there are more.
    const fn room(&self) -> usize {
        self.task.limit.saturating_add(1).saturating_sub(self.found.len())
    }

    /// Takes the rows over that stand together; whether more than the page was found.
    fn close(&mut self, together: &mut Best<'a>) -> bool {
        together.empty_into(&mut self.found);
        together.set_limit(self.room());
        self.found.len() > self.task.limit
    }
}

/// The sorted rows to walk: of the regions that are named, of each class when few matter, else of everything; and the condition that all of
/// them meet by that.
fn ladders<'a>(task: &'a Task<'a>) -> (Vec<Ladder<'a>>, Option<usize>) {
    let book = task.book;
    let wanted = (0..).zip(&task.paid).filter(|(_, paid)| paid.is_some()).map(|(currency, _)| currency);
    let of = |lead: Option<Box<str>>| {
        let wanted = wanted.clone();
        wanted.filter_map(move |currency| Some((currency, book.ladders.get(&(lead.clone(), currency))?)))
    };
    let shelves = task.shelves();
    if shelves.len() * 2 <= book.shelves.len() {
        let of_shelf = |shelf: &'a Shelf| shelf.prices.iter().map(|(currency, rows)| (*currency, rows));
        return (shelves.into_iter().flat_map(of_shelf).collect(), None);
    }
    match task.regions() {
        Some((condition, regions)) if regions.len() <= REGIONS_SIDE_BY_SIDE => {
            let named: BTreeSet<&str> = regions.iter().map(String::as_str).collect();
            (named.into_iter().flat_map(|region| of(Some(region.into()))).collect(), Some(condition))
        }
        _ => (of(None).collect(), None),
    }
}

/// The least price at which rows of a group may still come after the cursor; `None` when all come before.
fn first_price(task: &Task<'_>, busy: u64, group: u32, worth: u64) -> Option<u64> {
    let Some(cursor) = task.after else { return Some(0) };
    let was_busy = if is_busy(cursor) { BUSY } else { 0 };
    let Cell::Number(price) = cursor.cell(PRICE) else { return Some(0) };
    let price = u128::try_from(price).unwrap_or(0);
    let (was_in, worth_then) = place(task, cursor);
    // a token that the book no longer has: its place is found row by row
    let Some(was_in) = was_in else { return Some(0) };
    match (was_busy, was_in).cmp(&(busy, group)) {
        Ordering::Less => Some(0),
        Ordering::Greater => None,
        Ordering::Equal => u64::try_from(price.saturating_mul(u128::from(worth_then)) / u128::from(worth)).ok(),
    }
}

/// The group of the cursor's token, and its worth.
fn place(task: &Task<'_>, cursor: &Cursor) -> (Option<u32>, u64) {
    match task.search.order.rates().of(cursor.token()) {
        Some(worth) => (Some(0), worth),
        None => (task.group_of(cursor.token()), 1),
    }
}

/// Below every row of a price.
const fn from(key: u64) -> Priced {
    (key, 0, super::RowId { shelf: 0, row: 0 })
}

/// Above every row of a price.
const fn to(key: u64) -> Priced {
    (key, u64::MAX, super::RowId { shelf: u16::MAX, row: u32::MAX })
}

fn head(stream: &mut Stream<'_>, at: usize) -> Option<Head> {
    let (price, tail, id) = *stream.rows.next()?;
    Some(Reverse((u128::from(price & !BUSY) * u128::from(stream.worth), tail, id, at)))
}
