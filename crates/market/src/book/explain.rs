//! Why a search finds so little: how many offers each condition removes, and the offers that fail at one condition only, with what they
//! have instead. Worked out in columns like the search itself, so that it may be asked of a full book.

use super::{
    Book, Hit, RowId, Search,
    column::BLOCK,
    plan::Plan,
    scan::Best,
    search::{RowAt, Task},
};
use crate::query::Row;
use serde::{Deserialize, Serialize};

/// The most near misses that are told.
pub const MAX_NEAR: usize = 100;
/// Values of one failed condition that are told: it may join several fields by "or".
const TOLD: usize = 4;

/// What became of the offers, each counted once for each of its prices.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Offers at prices that are wanted.
    pub offers: usize,
    /// Those that meet every condition.
    pub matching: usize,
    /// Each condition, in the order of the query.
    pub conditions: Vec<Removal>,
    /// Those that fail at one condition only, in the order of the search.
    pub near: Vec<NearMiss>,
}

/// What one condition removes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removal {
    /// The condition as it was written.
    pub condition: String,
    /// Offers that do not meet it.
    pub failed: usize,
    /// Offers of which it is not known whether they do.
    pub unknown: usize,
    /// Of both, those that meet all the others: what would be found without it.
    pub alone: usize,
}

/// An offer that meets every condition but one.
#[derive(Clone, Debug)]
pub struct NearMiss {
    /// The offer.
    pub hit: Hit,
    /// Which condition.
    pub condition: usize,
    /// What the offer has instead, such as `vram is 48 GB`.
    pub found: String,
}

/// Masks of the rows of one block.
#[derive(Clone, Copy, Default)]
struct Tally {
    /// Rows that fail at one condition at least.
    once: u64,
    /// Rows that fail at two at least.
    twice: u64,
}

impl Book {
    /// Explains a search, with at most `near` (and [`MAX_NEAR`]) near misses.
    pub fn explain(&self, search: &Search<'_>, near: usize) -> Explanation {
        let task = Task::new(self, search, None, near.min(MAX_NEAR), false);
        let conditions = search.query.conjuncts.iter().map(|conjunct| Removal {
            condition: conjunct.text.clone(),
            failed: 0,
            unknown: 0,
            alone: 0,
        });
        let mut told = Explanation { offers: 0, matching: 0, conditions: conditions.collect(), near: Vec::new() };
        let mut best = Best::new(task.limit);
        for at in 0..self.shelves.len() {
            explain_shelf(&task, at, &mut told, &mut best);
        }
        told.near = best.into_rows().iter().map(|row| near_miss(&task, row)).collect();
        told
    }
}

fn explain_shelf<'a>(task: &'a Task<'a>, at: usize, told: &mut Explanation, best: &mut Best<'a>) {
    let Some((_, shelf)) = task.book.shelves.get(at) else { return };
    let wanted = task.wanted(shelf);
    let plans: Vec<(Plan, Plan)> = (task.search.query.conjuncts.iter())
        .map(|conjunct| {
            let plan = |expr| Plan::new(expr, shelf, task.book);
            (plan(&conjunct.expr), plan(&conjunct.expr.clone().negate()))
        })
        .collect();
    for (block, live) in shelf.live.iter().enumerate() {
        let rows = wanted.mask(shelf, block, *live);
        let masks: Vec<(u64, u64)> =
            plans.iter().map(|(yes, no)| (yes.mask(shelf, block, rows), no.mask(shelf, block, rows))).collect();
        let tally = masks.iter().fold(Tally::default(), |tally, (yes, _)| {
            let failing = rows & !yes;
            Tally { once: tally.once | failing, twice: tally.twice | tally.once & failing }
        });
        let near = tally.once & !tally.twice;
        told.offers += count(rows);
        told.matching += count(rows & !tally.once);
        for (removal, (yes, no)) in told.conditions.iter_mut().zip(&masks) {
            removal.failed += count(*no);
            removal.unknown += count(rows & !yes & !no);
            removal.alone += count(near & !yes);
        }
        let mut left = near;
        while left != 0 {
            let row = u32::try_from(block * BLOCK).unwrap_or(u32::MAX) + left.trailing_zeros();
            left &= left - 1;
            let shelf_at = u16::try_from(at).unwrap_or_default();
            if let Some(row) = task.row(shelf, RowId { shelf: shelf_at, row }) {
                best.offer(row);
            }
        }
    }
}

const fn count(mask: u64) -> usize {
    mask.count_ones() as usize
}

fn near_miss(task: &Task<'_>, row: &RowAt<'_>) -> NearMiss {
    let (block, bit) = (row.id.row as usize / BLOCK, row.id.row as usize % BLOCK);
    let fails = |expr| Plan::new(expr, row.shelf, task.book).mask(row.shelf, block, 1 << bit) == 0;
    let failed = task.search.query.conjuncts.iter().enumerate().find(|(_, conjunct)| fails(&conjunct.expr));
    let (condition, found) = failed.map_or((0, String::new()), |(at, conjunct)| {
        let mut told: Vec<String> = Vec::new();
        for condition in conjunct.expr.conditions() {
            let value = condition.shown(&row.cell(condition.field));
            if !told.contains(&value) && told.len() < TOLD {
                told.push(value);
            }
        }
        (at, told.join(", "))
    });
    NearMiss { hit: row.hit(), condition, found }
}
