//! Reading tables in the order of their keys, forwards or backwards, always within two bounds.

use crate::{
    StoreError, Table,
    codec::{KeyCodec, ValueCodec, key_bytes, whole_key},
};
use rocksdb::{ColumnFamily, DB, DBIterator, IteratorMode, ReadOptions};
use std::{
    fmt,
    marker::PhantomData,
    ops::{Bound, RangeBounds},
};

/// The bytes between which a scan stays: the first included, the last excluded, absent for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    from: Option<Vec<u8>>,
    until: Option<Vec<u8>>,
}

impl Bounds {
    pub(crate) fn of_range<K: KeyCodec>(range: &impl RangeBounds<K>) -> Self {
        let from = match range.start_bound() {
            Bound::Included(key) => Some(key_bytes(key)),
            Bound::Excluded(key) => Some(after(key_bytes(key))),
            Bound::Unbounded => None,
        };
        let until = match range.end_bound() {
            Bound::Included(key) => Some(after(key_bytes(key))),
            Bound::Excluded(key) => Some(key_bytes(key)),
            Bound::Unbounded => None,
        };
        Self { from, until }
    }

    pub(crate) fn of_prefix(prefix: Vec<u8>) -> Self {
        Self { until: end_of_prefix(&prefix), from: Some(prefix) }
    }
}

/// The least bytes above `key`: no key is a prefix of another, so nothing lies between.
fn after(mut key: Vec<u8>) -> Vec<u8> {
    key.push(0);
    key
}

/// The least bytes above everything that begins with `prefix`; `None` when there are none.
fn end_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

/// The rows of a table between two bounds.
pub struct Scan<'a, T: Table> {
    db: &'a DB,
    family: &'a ColumnFamily,
    bounds: Bounds,
    rows: DBIterator<'a>,
    table: PhantomData<fn() -> T>,
}

impl<T: Table> fmt::Debug for Scan<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scan").field("table", &T::NAME).field("bounds", &self.bounds).finish()
    }
}

impl<'a, T: Table> Scan<'a, T> {
    pub(crate) fn new(db: &'a DB, family: &'a ColumnFamily, bounds: Bounds) -> Self {
        let rows = rows(db, family, &bounds, IteratorMode::Start);
        Self { db, family, bounds, rows, table: PhantomData }
    }

    /// The same rows from the last to the first, whatever was read already.
    #[must_use]
    pub fn backwards(mut self) -> Self {
        self.rows = rows(self.db, self.family, &self.bounds, IteratorMode::End);
        self
    }
}

fn rows<'a>(db: &'a DB, family: &'a ColumnFamily, bounds: &Bounds, mode: IteratorMode<'_>) -> DBIterator<'a> {
    let mut options = ReadOptions::default();
    if let Some(from) = &bounds.from {
        options.set_iterate_lower_bound(from.clone());
    }
    if let Some(until) = &bounds.until {
        options.set_iterate_upper_bound(until.clone());
    }
    db.iterator_cf_opt(family, options, mode)
}

impl<T: Table> Iterator for Scan<'_, T> {
    type Item = Result<(T::Key, T::Value), StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let decode = |key: &[u8], value: &[u8]| Ok((whole_key(key)?, T::Value::decode(value)?));
        let row = self.rows.next()?;
        Some(row.map_err(StoreError::Disk).and_then(|(key, value)| decode(&key, &value).map_err(crate::record::<T>)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_above_all_that_begins_with_it() {
        assert_eq!(end_of_prefix(&[1, 2]), Some(vec![1, 3]));
        assert_eq!(end_of_prefix(&[1, 255, 255]), Some(vec![2]));
        assert_eq!(end_of_prefix(&[255, 255]), None);
        assert_eq!(end_of_prefix(&[]), None);
    }
}
