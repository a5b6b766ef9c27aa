//! Sets of whole numbers as intervals: what every condition about a number comes down to, so that one test serves `<`, `in`, ranges, and
//! their negations, and the index can compare machine words.

/// The least number a field may have: the one below stands for "unknown" where values are kept in columns.
pub(crate) const LEAST: i64 = i64::MIN + 1;
/// The greatest number a field may have.
pub(crate) const GREATEST: i64 = i64::MAX;

/// Disjoint intervals, both ends included, in ascending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(i64, i64)>);

impl Ranges {
    /// The numbers in any of these intervals; one that ends before it begins is empty.
    pub(crate) fn any_of(intervals: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut sorted: Vec<_> = intervals.into_iter().filter(|(low, high)| low <= high).collect();
        sorted.sort_unstable();
        let mut joined: Vec<(i64, i64)> = Vec::with_capacity(sorted.len());
        for (low, high) in sorted {
            match joined.last_mut() {
                Some((_, last)) if low <= last.saturating_add(1) => *last = high.max(*last),
                _ => joined.push((low, high)),
            }
        }
        Self(joined)
    }

    /// The numbers in none of the intervals.
    pub(crate) fn complement(&self) -> Self {
        let mut gaps = Vec::with_capacity(self.0.len() + 1);
        let mut next = Some(LEAST);
        for (low, high) in &self.0 {
            if let Some(from) = next.filter(|from| from < low) {
                gaps.push((from, low - 1));
            }
            next = high.checked_add(1);
        }
        gaps.extend(next.map(|from| (from, GREATEST)));
        Self(gaps)
    }

    /// Whether a number is in the set.
    pub(crate) fn contains(&self, number: i64) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&number))
    }

    /// The intervals.
    pub(crate) fn intervals(&self) -> &[(i64, i64)] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn neighbours_are_joined_and_empty_ones_left_out() {
        assert_eq!(Ranges::any_of([(5, 7), (1, 4), (9, 8)]).intervals(), [(1, 7)]);
        assert_eq!(Ranges::default().complement().intervals(), [(LEAST, GREATEST)]);
        assert_eq!(Ranges::any_of([(LEAST, GREATEST)]).complement(), Ranges::default());
    }

    proptest! {
        #[test]
        fn a_number_is_in_a_set_or_in_its_complement(
            intervals in proptest::collection::vec((-20i64..20, -20i64..20), 0..5), number in -25i64..25
        ) {
            let set = Ranges::any_of(intervals.clone());
            let among = intervals.iter().any(|(low, high)| (*low..=*high).contains(&number));
            prop_assert_eq!(set.contains(number), among);
            prop_assert_eq!(set.complement().contains(number), !among);
            prop_assert_eq!(set.complement().complement(), set);
        }
    }
}
