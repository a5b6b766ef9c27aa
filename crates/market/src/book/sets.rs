//! Which rows of a column have about which value: the values are cut into a few ranges, each with the set of rows in it. A condition then costs
//! one word for 64 rows and each range that it takes in whole or leaves out, and a look at the values only of the rows in those ranges that
//! it cuts through.
//!
//! Numbers are cut so that each range has about as many rows; a value that many rows have is a range by itself. Texts are their codes, of
//! which the first ones are told apart.

use super::column::BLOCK;
use std::iter;

/// Ranges of a column: a bit for each row and range, which is as much again as a column of 32 bits.
const RANGES: usize = 32;
/// Values from which the cuts are chosen: 32 for each range.
const SAMPLE: usize = 1_024;
/// Turns row numbers into numbers without a pattern: 2⁶⁴ over the golden ratio (Knuth, TAOCP 6.4).
const SCATTER: u64 = 0x9e37_79b9_7f4a_7c15;
/// The rows from which on numbers are cut, and again whenever they have doubled.
const FIRST_CUT: usize = 64;

/// Rows by their value.
#[derive(Debug)]
pub(super) struct Sets {
    /// The greatest value of each range but the last.
    cuts: Vec<i64>,
    ranges: Vec<Set>,
    /// The rows without a value.
    unknown: Set,
    rows: usize,
    blocks: usize,
    /// How many rows there are when the ranges are cut again.
    next_cut: usize,
}

/// The rows of a range.
#[derive(Debug)]
struct Set {
    /// The least and the greatest value there ever was since it was cut.
    bounds: Option<(i64, i64)>,
    rows: usize,
    bits: Vec<u64>,
}

impl Set {
    fn new(blocks: usize) -> Self {
        Self { bounds: None, rows: 0, bits: vec![0; blocks] }
    }

    fn add(&mut self, row: usize) {
        if let Some(word) = self.bits.get_mut(row / BLOCK) {
            *word |= 1 << (row % BLOCK);
            self.rows += 1;
        }
    }

    fn remove(&mut self, row: usize) -> bool {
        let bit = 1 << (row % BLOCK);
        let Some(word) = self.bits.get_mut(row / BLOCK).filter(|word| **word & bit != 0) else { return false };
        *word &= !bit;
        self.rows -= 1;
        true
    }

    fn word(&self, block: usize) -> u64 {
        self.bits.get(block).copied().unwrap_or(0)
    }
}

/// How much of a range a condition accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    Nothing,
    Part,
    All,
}

/// The ranges that a condition accepts.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    /// The ranges that it accepts whole, or when there are more of these, all that it does not.
    named: Vec<usize>,
    rejected: bool,
    /// The ranges that it accepts in part.
    parts: Vec<usize>,
    /// How many rows are accepted, those of a part by half.
    pub(super) rows: usize,
    /// Whether every row is.
    pub(super) all: bool,
}

impl Sets {
    /// For numbers, which are cut by what there is.
    pub(super) fn of_numbers() -> Self {
        Self::new(Vec::new(), FIRST_CUT)
    }

    /// For the codes of texts, which are counted from zero.
    pub(super) fn of_codes() -> Self {
        Self::new((0..).take(RANGES - 1).collect(), usize::MAX)
    }

    fn new(cuts: Vec<i64>, next_cut: usize) -> Self {
        let ranges = iter::repeat_with(|| Set::new(0)).take(cuts.len() + 1).collect();
        Self { cuts, ranges, unknown: Set::new(0), rows: 0, blocks: 0, next_cut }
    }

    pub(super) fn grow(&mut self) {
        self.blocks += 1;
        self.ranges.iter_mut().filter(|set| !set.bits.is_empty()).for_each(|set| set.bits.push(0));
        self.unknown.bits.push(0);
    }

    /// Counts a row in.
    pub(super) fn put(&mut self, row: usize, value: Option<i64>) {
        let Some(value) = value else { return self.unknown.add(row) };
        let (at, blocks) = (self.range_of(value), self.blocks);
        if let Some(set) = self.ranges.get_mut(at) {
            // room only for what is in use
            if set.bits.is_empty() {
                set.bits = vec![0; blocks];
            }
            set.bounds = Some(set.bounds.map_or((value, value), |(low, high)| (low.min(value), high.max(value))));
            set.add(row);
        }
        self.rows += 1;
    }

    /// Counts a row out; one that was never put is in no set.
    pub(super) fn take(&mut self, row: usize, value: Option<i64>) {
        let Some(value) = value else {
            self.unknown.remove(row);
            return;
        };
        let at = self.range_of(value);
        self.rows -= usize::from(self.ranges.get_mut(at).is_some_and(|set| set.remove(row)));
    }

    fn range_of(&self, value: i64) -> usize {
        self.cuts.partition_point(|cut| *cut < value)
    }

    /// Whether the ranges should be cut again.
    pub(super) const fn is_cut_due(&self) -> bool {
        self.rows >= self.next_cut
    }

    /// Cuts the ranges by the values that there are.
    pub(super) fn cut(&mut self, value: impl Fn(usize) -> i64) {
        self.next_cut = 2 * self.rows;
        let rows: Vec<usize> = (0..self.blocks).flat_map(|block| bits(self.named(block), block)).collect();
        let step = rows.len().div_ceil(SAMPLE).max(1);
        // neighbours are offers of one provider, in an order of its own: scattered, the sample falls in step with none
        let scattered = |row: &&usize| (**row as u64).wrapping_mul(SCATTER) as usize >> 32;
        let sampled = rows.iter().filter(|row| scattered(row).is_multiple_of(step));
        let mut sample: Vec<i64> = sampled.map(|row| value(*row)).collect();
        sample.sort_unstable();
        let mut distinct = sample.clone();
        distinct.dedup();
        let mut cuts = if distinct.len() <= RANGES {
            distinct
        } else {
            (1..=RANGES)
                .filter_map(|part| sample.get((sample.len() * part / RANGES).saturating_sub(1)).copied())
                .collect()
        };
        cuts.dedup();
        cuts.pop();
        let (unknown, blocks, next_cut) =
            (std::mem::replace(&mut self.unknown, Set::new(0)), self.blocks, self.next_cut);
        *self = Self { unknown, blocks, ..Self::new(cuts, next_cut) };
        rows.into_iter().for_each(|row| self.put(row, Some(value(row))));
    }

    /// The rows of a block that have a value.
    fn named(&self, block: usize) -> u64 {
        self.ranges.iter().fold(0, |all, set| all | set.word(block))
    }

    /// The ranges that are accepted, by the least and the greatest value in each.
    pub(super) fn choose(&self, share: impl Fn(i64, i64) -> Share) -> Chosen {
        let (mut whole, mut parts, mut left_out, mut rows) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for (at, set) in self.ranges.iter().enumerate().filter(|(_, set)| set.rows > 0) {
            match set.bounds.map_or(Share::Nothing, |(least, greatest)| share(least, greatest)) {
                Share::Nothing => left_out.push(at),
                Share::Part => {
                    rows += set.rows / 2;
                    parts.push(at);
                }
                Share::All => {
                    rows += set.rows;
                    whole.push(at);
                }
            }
        }
        let all = parts.is_empty() && left_out.is_empty() && self.unknown.rows == 0;
        let rejected = left_out.len() + parts.len() < whole.len();
        if rejected {
            left_out.extend(&parts);
            whole = left_out;
        }
        Chosen { named: whole, rejected, parts, rows, all }
    }

    /// Which of the rows of a block that are still `alive` are accepted, and which are to be looked at.
    pub(super) fn mask(&self, chosen: &Chosen, block: usize, alive: u64) -> (u64, u64) {
        let union = |ranges: &[usize]| {
            ranges.iter().filter_map(|at| self.ranges.get(*at)).fold(0, |rows, set| rows | set.word(block))
        };
        let named = union(&chosen.named);
        let met = if chosen.rejected { !(named | self.unknown.word(block)) } else { named };
        (met & alive, if chosen.parts.is_empty() { 0 } else { union(&chosen.parts) & alive })
    }

    /// Leaves of the rows of all blocks those that are accepted or to be looked at.
    pub(super) fn narrow(&self, chosen: &Chosen, rows: &mut [u64]) {
        let mut met = vec![0; rows.len()];
        let sets = |ranges: &[usize], met: &mut [u64]| {
            ranges.iter().filter_map(|at| self.ranges.get(*at)).for_each(|set| unite(met, &set.bits));
        };
        sets(&chosen.named, &mut met);
        if chosen.rejected {
            unite(&mut met, &self.unknown.bits);
            met.iter_mut().for_each(|word| *word = !*word);
        }
        sets(&chosen.parts, &mut met);
        rows.iter_mut().zip(met).for_each(|(row, met)| *row &= met);
    }
}

/// Adds the rows of one set to those of another.
pub(super) fn unite(rows: &mut [u64], others: &[u64]) {
    rows.iter_mut().zip(others).for_each(|(row, other)| *row |= other);
}

impl Chosen {
    /// Whether no row is accepted.
    pub(super) const fn is_empty(&self) -> bool {
        self.named.is_empty() && self.parts.is_empty() && !self.rejected
    }

    /// Words to read for a block.
    pub(super) const fn words(&self) -> usize {
        self.named.len() + self.parts.len()
    }

    /// Whether values are to be looked at.
    pub(super) const fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }
}

/// The rows of a word of a block.
fn bits(mut word: u64, block: usize) -> impl Iterator<Item = usize> {
    iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros())?;
        word &= word - 1;
        Some(block * BLOCK + bit as usize)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at_least(limit: i64) -> impl Fn(i64, i64) -> Share {
        move |least, greatest| match (least >= limit, greatest >= limit) {
            (true, _) => Share::All,
            (false, true) => Share::Part,
            (false, false) => Share::Nothing,
        }
    }

    proptest! {
        #[test]
        fn what_is_met_or_to_be_looked_at_is_all_that_a_condition_accepts(
            values in proptest::collection::vec(proptest::option::of(-50i64..50), 1..500), limit in -60i64..60, gone in 0usize..7
        ) {
            let mut sets = Sets::of_numbers();
            (0..8).for_each(|_| sets.grow());
            for (row, value) in values.iter().enumerate() {
                sets.put(row, *value);
                if sets.is_cut_due() {
                    sets.cut(|row| values[row].unwrap());
                }
            }
            let is_gone = |row: usize| row % 7 == gone;
            (0..values.len()).filter(|row| is_gone(*row)).for_each(|row| sets.take(row, values[row]));
            let chosen = sets.choose(at_least(limit));
            for (row, value) in values.iter().enumerate().filter(|(row, _)| !is_gone(*row)) {
                let (met, asked) = sets.mask(&chosen, row / BLOCK, 1 << (row % BLOCK));
                let holds = value.is_some_and(|value| value >= limit);
                prop_assert!(met & asked == 0);
                prop_assert!(if holds { met | asked != 0 } else { met == 0 }, "row {row}");
            }
            prop_assert!(!chosen.all || values.iter().enumerate().all(|(row, value)| is_gone(row) || value.is_some_and(|value| value >= limit)));
            let left = values.iter().enumerate().filter(|(row, _)| !is_gone(*row));
            let holding = left.filter(|(_, value)| value.is_some_and(|value| value >= limit)).count();
            prop_assert!(holding == 0 || !chosen.is_empty());
        }
    }

    #[test]
    fn few_values_are_told_apart_exactly_and_many_by_about_as_many_rows() {
        let (mut few, mut many) = (Sets::of_numbers(), Sets::of_numbers());
        for block in 0..64 {
            few.grow();
            many.grow();
            for row in block * BLOCK..(block + 1) * BLOCK {
                few.put(row, Some(row as i64 % 20));
                many.put(row, Some(row as i64));
            }
        }
        few.cut(|row| row as i64 % 20);
        many.cut(|row| row as i64);
        assert!(!few.choose(at_least(7)).has_parts());
        let half = many.choose(at_least(2_000));
        assert!(half.has_parts() && half.rows.abs_diff(2_096) < 4_096 / RANGES);
    }

    #[test]
    fn the_first_texts_are_told_apart() {
        let mut sets = Sets::of_codes();
        sets.grow();
        (0..40).for_each(|row| sets.put(row, Some(row as i64)));
        sets.put(40, None);
        let even = sets.choose(|least, greatest| match (least == greatest, least % 2) {
            (false, _) => Share::Part,
            (true, 0) => Share::All,
            (true, _) => Share::Nothing,
        });
        let (met, asked) = sets.mask(&even, 0, u64::MAX);
        for row in 0..41 {
            let expected = (row < 31 && row % 2 == 0, (31..40).contains(&row));
            assert_eq!((met >> row & 1 == 1, asked >> row & 1 == 1), expected, "row {row}");
        }
    }
}
