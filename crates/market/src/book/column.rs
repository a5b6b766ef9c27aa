//! One field of every row of a shelf, so that a condition reads only what it is about, 64 rows at a time.

use super::{
    dictionary::{Dictionary, UNKNOWN_CODE},
    sets::Sets,
};
use crate::query::{Cell, Kind};
use std::borrow::Cow;

/// Rows that are looked at together: the bits of a mask.
pub(super) const BLOCK: usize = 64;
/// "Unknown" among numbers of 32 bits; no field reaches it.
pub(super) const UNKNOWN_NARROW: u32 = u32::MAX;
/// "Unknown" among numbers of 64 bits.
pub(super) const UNKNOWN_WIDE: i64 = i64::MIN;
/// With fewer rows than this left in a block, looking at them one by one is cheaper than at all.
const FEW: u32 = 8;

/// The values, and within which bounds they lie.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) values: Values,
    /// The least and the greatest number there ever was; rows that left do not narrow it.
    pub(super) bounds: Option<(i64, i64)>,
}

/// Values in the order of rows.
#[derive(Debug)]
pub(super) enum Values {
    Narrow {
        numbers: Vec<u32>,
        sets: Sets,
    },
    Wide {
        numbers: Vec<i64>,
        sets: Sets,
    },
    Text {
        codes: Vec<u32>,
        texts: Dictionary<str>,
        sets: Sets,
    },
    /// What belongs to the provider is not repeated for each of its rows.
    OfProvider,
}

impl Column {
    pub(super) fn new(kind: Kind) -> Self {
        let values = match kind {
            Kind::Number(unit) if unit.wide => Values::Wide { numbers: Vec::new(), sets: Sets::of_numbers() },
            Kind::Version => Values::Wide { numbers: Vec::new(), sets: Sets::of_numbers() },
            Kind::Number(_) | Kind::Level(_) | Kind::Flag | Kind::Capability => {
                Values::Narrow { numbers: Vec::new(), sets: Sets::of_numbers() }
            }
            Kind::Text(_) => Values::Text { codes: Vec::new(), texts: Dictionary::default(), sets: Sets::of_codes() },
            Kind::Provider | Kind::Wallet => Values::OfProvider,
        };
        Self { values, bounds: None }
    }

    /// Makes room for another block.
    pub(super) fn grow(&mut self, rows: usize) {
        match &mut self.values {
            Values::Narrow { numbers, sets } => {
                numbers.resize(rows, UNKNOWN_NARROW);
                sets.grow();
            }
            Values::Wide { numbers, sets } => {
                numbers.resize(rows, UNKNOWN_WIDE);
                sets.grow();
            }
            Values::Text { codes, sets, .. } => {
                codes.resize(rows, UNKNOWN_CODE);
                sets.grow();
            }
            Values::OfProvider => {}
        }
    }

    /// Writes the value of a row that had none.
    pub(super) fn put(&mut self, row: usize, cell: Cell<'_>) {
        if let Cell::Number(number) = cell {
            self.bounds = Some(self.bounds.map_or((number, number), |(low, high)| (low.min(number), high.max(number))));
        }
        match &mut self.values {
            Values::Narrow { numbers, sets } => {
                let number = narrow(&cell);
                set(numbers, row, number);
                sets.put(row, known(number));
                if sets.is_cut_due() {
                    sets.cut(|row| numbers.get(row).copied().and_then(known).unwrap_or_default());
                }
            }
            Values::Wide { numbers, sets } => {
                let number = if let Cell::Number(number) = cell { Some(number) } else { None };
                set(numbers, row, number.unwrap_or(UNKNOWN_WIDE));
                sets.put(row, number);
                if sets.is_cut_due() {
                    sets.cut(|row| numbers.get(row).copied().unwrap_or_default());
                }
            }
            Values::Text { codes, texts, sets } => {
                let code = if let Cell::Text(text) = cell { texts.take(&text) } else { UNKNOWN_CODE };
                set(codes, row, code);
                sets.put(row, known(code));
            }
            Values::OfProvider => {}
        }
    }

    /// Forgets the value of a row.
    pub(super) fn clear(&mut self, row: usize) {
        match &mut self.values {
            Values::Narrow { numbers, sets } => {
                sets.take(row, numbers.get(row).copied().and_then(known));
                set(numbers, row, UNKNOWN_NARROW);
            }
            Values::Wide { numbers, sets } => {
                sets.take(row, numbers.get(row).copied().filter(|number| *number != UNKNOWN_WIDE));
                set(numbers, row, UNKNOWN_WIDE);
            }
            Values::Text { codes, texts, sets } => {
                let code = codes.get(row).copied().unwrap_or(UNKNOWN_CODE);
                sets.take(row, known(code));
                texts.release(code);
                set(codes, row, UNKNOWN_CODE);
            }
            Values::OfProvider => {}
        }
    }

    /// The value of a row.
    pub(super) fn cell(&self, row: usize) -> Cell<'_> {
        match &self.values {
            Values::Narrow { numbers, .. } => match numbers.get(row) {
                None | Some(&UNKNOWN_NARROW) => Cell::Unknown,
                Some(number) => Cell::Number(i64::from(*number)),
            },
            Values::Wide { numbers, .. } => match numbers.get(row) {
                None | Some(&UNKNOWN_WIDE) => Cell::Unknown,
                Some(number) => Cell::Number(*number),
            },
            Values::Text { codes, texts, .. } => {
                let text = codes.get(row).and_then(|code| texts.get(*code));
                text.map_or(Cell::Unknown, |text| Cell::Text(Cow::Borrowed(text)))
            }
            Values::OfProvider => Cell::Unknown,
        }
    }
}

/// A number of 32 bits, or the code of a text, that is one.
fn known(value: u32) -> Option<i64> {
    (value != UNKNOWN_NARROW).then(|| i64::from(value))
}

fn set<T>(values: &mut [T], row: usize, value: T) {
    if let Some(slot) = values.get_mut(row) {
        *slot = value;
    }
}

fn narrow(cell: &Cell<'_>) -> u32 {
    match cell {
        Cell::Number(number) => u32::try_from(*number).unwrap_or(UNKNOWN_NARROW - 1),
        _ => UNKNOWN_NARROW,
    }
}

/// Which of the rows of a block that are still `alive` have a value that `holds`; `values` are those of the whole column.
pub(super) fn mask<T: Copy>(values: &[T], block: usize, alive: u64, holds: impl Fn(T) -> bool) -> u64 {
    let from = block * BLOCK;
    // an array, whose length the compiler knows
    let Some(values) = values.get(from..from + BLOCK).and_then(|values| values.first_chunk::<BLOCK>()) else {
        return 0;
    };
    if alive.count_ones() < FEW {
        let mut left = alive;
        let mut found = 0;
        while left != 0 {
            let bit = left.trailing_zeros();
            left &= left - 1;
            let is = values.get(bit as usize).is_some_and(|value| holds(*value));
            found |= u64::from(is) << bit;
        }
        return found;
    }
    let mut flags = [0u8; BLOCK];
    for (flag, value) in flags.iter_mut().zip(values) {
        *flag = u8::from(holds(*value));
    }
    pack(&flags) & alive
}

/// 64 flags as the bits of one word, the first the lowest.
fn pack(flags: &[u8; BLOCK]) -> u64 {
    /// Moves the lowest bits of eight bytes into the highest byte of their product.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let mut packed = 0;
    for (at, eight) in flags.as_chunks::<8>().0.iter().enumerate() {
        packed |= (u64::from_le_bytes(*eight).wrapping_mul(GATHER) >> 56) << (at * 8);
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_the_bits_of_the_rows_that_hold() {
        let values: Vec<u32> = (0..128).collect();
        let odd = |value: u32| value % 2 == 1;
        assert_eq!(mask(&values, 1, u64::MAX, odd), 0xaaaa_aaaa_aaaa_aaaa);
        assert_eq!(mask(&values, 0, 0b1111, odd), 0b1010, "few rows give the same as many");
        assert_eq!(mask(&values, 0, u64::MAX, |value| value == 0 || value == 63), 1 | 1 << 63);
        assert_eq!(mask(&values, 2, u64::MAX, odd), 0);
    }

    #[test]
    fn what_is_cleared_is_forgotten() {
        let mut column = Column::new(Kind::Text(crate::query::Match::Whole));
        column.grow(BLOCK);
        column.put(3, Cell::Text("KR".into()));
        column.put(4, Cell::Unknown);
        assert_eq!(column.cell(3), Cell::Text("KR".into()));
        column.clear(3);
        column.clear(4);
        assert_eq!(column.cell(3), Cell::Unknown);
        let Values::Text { texts, .. } = &column.values else { panic!("a column of texts") };
        assert_eq!(texts.values().flatten().count(), 0);
    }
}
