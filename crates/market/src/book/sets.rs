//! Which rows have which value, for the values of a column that came first: a condition about those costs one word for 64 rows and a value.

use super::column::BLOCK;

/// As many values are told apart; rows with another are looked up one by one. A word of bits for each is what four bytes a row cost.
const MAX_SETS: usize = 32;

/// Rows by their value.
#[derive(Debug, Default)]
pub(super) struct Sets {
    known: Vec<Set>,
    /// The rows with other values.
    others: Vec<u64>,
    others_rows: usize,
    blocks: usize,
}

/// The rows with one value.
#[derive(Debug)]
struct Set {
    value: u32,
    rows: usize,
    bits: Vec<u64>,
}

/// The sets whose values a condition accepts, as seen from the shorter side.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    sets: Vec<usize>,
    /// They are those that it does not accept.
    rejected: bool,
    /// How many rows have accepted values.
    pub(super) rows: usize,
    /// Every set is accepted.
    pub(super) all: bool,
}

impl Sets {
    pub(super) fn grow(&mut self) {
        self.blocks += 1;
        self.others.push(0);
        self.known.iter_mut().for_each(|set| set.bits.push(0));
    }

    /// Counts a row that had no value in.
    pub(super) fn put(&mut self, row: usize, value: u32) {
        let at = self.known.iter().position(|set| set.value == value).or_else(|| self.room(value));
        let (bits, rows) = match at.and_then(|at| self.known.get_mut(at)) {
            Some(set) => (&mut set.bits, &mut set.rows),
            None => (&mut self.others, &mut self.others_rows),
        };
        if let Some(word) = bits.get_mut(row / BLOCK) {
            *word |= 1 << (row % BLOCK);
            *rows += 1;
        }
    }

    /// A set for a value that has none: a new one, or one that no row is in any more. While others have the value, there is none.
    fn room(&mut self, value: u32) -> Option<usize> {
        if self.others_rows > 0 {
            return None;
        }
        let at = match self.known.iter().position(|set| set.rows == 0) {
            Some(unused) => unused,
            None if self.known.len() < MAX_SETS => {
                self.known.push(Set { value, rows: 0, bits: vec![0; self.blocks] });
                self.known.len() - 1
            }
            None => return None,
        };
        self.known.get_mut(at)?.value = value;
        Some(at)
    }

    /// Counts a row with this value out; one that was never put is in no set.
    pub(super) fn take(&mut self, row: usize, value: u32) {
        let (block, bit) = (row / BLOCK, 1 << (row % BLOCK));
        let set = self.known.iter_mut().find(|set| set.value == value).map(|set| (&mut set.bits, &mut set.rows));
        let (bits, rows) = set.unwrap_or((&mut self.others, &mut self.others_rows));
        if let Some(word) = bits.get_mut(block).filter(|word| **word & bit != 0) {
            *word &= !bit;
            *rows -= 1;
        }
    }

    /// The sets whose value is accepted.
    pub(super) fn choose(&self, accepts: impl Fn(u32) -> bool) -> Chosen {
        let used = || (0..).zip(&self.known).filter(|(_, set)| set.rows > 0);
        let (yes, no): (Vec<_>, Vec<_>) = used().partition(|(_, set)| accepts(set.value));
        let (rows, all) = (yes.iter().map(|(_, set)| set.rows).sum(), no.is_empty());
        let rejected = no.len() < yes.len();
        let sets = if rejected { no } else { yes };
        Chosen { sets: sets.into_iter().map(|(at, _)| at).collect(), rejected, rows, all }
    }

    /// How many rows have values that no set tells apart.
    pub(super) const fn others(&self) -> usize {
        self.others_rows
    }

    /// Which of the rows of a block that are still `alive` are in a chosen set, and which are in none.
    pub(super) fn mask(&self, chosen: &Chosen, block: usize, alive: u64) -> (u64, u64) {
        let word = |bits: &Vec<u64>| bits.get(block).copied().unwrap_or(0);
        let sets = chosen.sets.iter().filter_map(|at| self.known.get(*at));
        let named = sets.fold(0, |met, set| met | word(&set.bits));
        let others = if self.others_rows == 0 { 0 } else { word(&self.others) };
        let met = if chosen.rejected { !named & !others } else { named };
        (met & alive, others & alive)
    }
}

impl Chosen {
    /// Words to read for a block.
    pub(super) fn words(&self) -> usize {
        self.sets.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_the_set_of_its_value_or_among_the_others() {
        let mut sets = Sets::default();
        (0..2).for_each(|_| sets.grow());
        // forty values, three times each: more than are told apart
        (0..120).for_each(|row| sets.put(row, row as u32 % 40));
        let even = sets.choose(|value| value % 2 == 0);
        assert_eq!((even.rows, even.all, sets.others()), (48, false, 24));
        let (met, others) = sets.mask(&even, 0, u64::MAX);
        for row in 0..64 {
            let value = row % 40;
            let (is_met, is_other) = (met >> row & 1 == 1, others >> row & 1 == 1);
            assert_eq!((is_met, is_other), (value < 32 && value % 2 == 0, value >= 32), "row {row}");
        }
        // the longer side gives the same
        let most = sets.choose(|value| value != 3);
        assert_eq!(most.words(), 1);
        assert_eq!(sets.mask(&most, 0, u64::MAX).0, !(1 << 3 | 1 << 43) & !others);
    }

    #[test]
    fn a_set_without_rows_is_given_to_another_value() {
        let mut sets = Sets::default();
        sets.grow();
        (0..33).for_each(|row| sets.put(row, row as u32));
        sets.take(5, 5);
        sets.put(40, 99);
        assert_eq!(sets.others(), 2, "no set while others may have its value");
        sets.take(32, 32);
        sets.take(40, 99);
        sets.put(40, 99);
        assert_eq!((sets.others(), sets.choose(|value| value == 99).rows), (0, 1));
    }
}
