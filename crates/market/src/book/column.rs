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
/// Rows looked at to guess how many have some value.
const SAMPLE: usize = 16;

/// The values, and within which bounds they lie.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) values: Values,
    /// The least and the greatest number there ever was; rows that left do not narrow it.
    pub(super) bounds: Option<(i64, i64)>,
    /// Rows whose value is unknown.
    pub(super) unknown: usize,
}

/// Values in the order of rows.
#[derive(Debug)]
pub(super) enum Values {
    Narrow {
        numbers: Vec<u32>,
        sets: Sets,
    },
    Wide(Vec<i64>),
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
            Kind::Number(unit) if unit.wide => Values::Wide(Vec::new()),
            Kind::Version => Values::Wide(Vec::new()),
            Kind::Number(_) | Kind::Level(_) | Kind::Flag | Kind::Capability => {
                Values::Narrow { numbers: Vec::new(), sets: Sets::default() }
            }
            Kind::Text(_) => Values::Text { codes: Vec::new(), texts: Dictionary::default(), sets: Sets::default() },
            Kind::Provider | Kind::Wallet => Values::OfProvider,
        };
        Self { values, bounds: None, unknown: 0 }
    }

    /// Makes room for another block.
    pub(super) fn grow(&mut self, rows: usize) {
        match &mut self.values {
            Values::Narrow { numbers, sets } => {
                numbers.resize(rows, UNKNOWN_NARROW);
                sets.grow();
            }
            Values::Wide(values) => values.resize(rows, UNKNOWN_WIDE),
            Values::Text { codes, sets, .. } => {
                codes.resize(rows, UNKNOWN_CODE);
                sets.grow();
            }
            Values::OfProvider => {}
        }
    }

    /// Writes the value of a row that had none.
    pub(super) fn put(&mut self, row: usize, cell: Cell<'_>) {
        self.unknown += usize::from(cell == Cell::Unknown);
        if let Cell::Number(number) = cell {
            self.bounds = Some(self.bounds.map_or((number, number), |(low, high)| (low.min(number), high.max(number))));
        }
        match (&mut self.values, cell) {
            (Values::Narrow { numbers, sets }, cell) => {
                let number = narrow(&cell);
                set(numbers, row, number);
                sets.put(row, number);
            }
            (Values::Wide(values), Cell::Number(number)) => set(values, row, number),
            (Values::Wide(values), _) => set(values, row, UNKNOWN_WIDE),
            (Values::Text { codes, texts, sets }, cell) => {
                let code = if let Cell::Text(text) = cell { texts.take(&text) } else { UNKNOWN_CODE };
                set(codes, row, code);
                sets.put(row, code);
            }
            (Values::OfProvider, _) => {}
        }
    }

    /// Forgets the value of a row.
    pub(super) fn clear(&mut self, row: usize) {
        if !matches!(self.values, Values::OfProvider) && self.cell(row) == Cell::Unknown {
            self.unknown -= 1;
        }
        match &mut self.values {
            Values::Narrow { numbers, sets } => {
                sets.take(row, numbers.get(row).copied().unwrap_or(UNKNOWN_NARROW));
                set(numbers, row, UNKNOWN_NARROW);
            }
            Values::Wide(values) => set(values, row, UNKNOWN_WIDE),
            Values::Text { codes, texts, sets } => {
                let code = codes.get(row).copied().unwrap_or(UNKNOWN_CODE);
                sets.take(row, code);
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
            Values::Wide(values) => match values.get(row) {
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

/// How many of so many rows have a value that `holds`, guessed from some that lie evenly among them.
pub(super) fn guess<T: Copy>(values: &[T], rows: usize, holds: impl Fn(T) -> bool) -> usize {
    let step = (values.len() / SAMPLE).max(1);
    let (seen, held) =
        values.iter().step_by(step).fold((0, 0), |(seen, held), value| (seen + 1, held + usize::from(holds(*value))));
    // none in the sample is still some
    (rows * held / seen.max(1)).max(rows / (2 * SAMPLE))
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
        assert_eq!((column.cell(3), column.unknown), (Cell::Text("KR".into()), 1));
        column.clear(3);
        column.clear(4);
        assert_eq!((column.cell(3), column.unknown), (Cell::Unknown, 0));
        let Values::Text { texts, .. } = &column.values else { panic!("a column of texts") };
        assert_eq!(texts.values().flatten().count(), 0);
    }
}
