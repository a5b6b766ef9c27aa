//! Texts that many rows share, each kept once and known by a number, with how many rows have it: a condition about a text is worked out
//! once for each text instead of once for each row, and what no row has any more is forgotten.

use foldhash::fast::RandomState;
use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::Arc,
};

/// The code of nothing.
pub(super) const UNKNOWN_CODE: u32 = u32::MAX;

/// Values by their codes.
#[derive(Debug)]
pub(super) struct Dictionary<T: ?Sized> {
    codes: HashMap<Arc<T>, u32, RandomState>,
    values: Vec<Option<(Arc<T>, u32)>>,
    unused: Vec<u32>,
}

impl<T: ?Sized> Default for Dictionary<T> {
    fn default() -> Self {
        Self { codes: HashMap::default(), values: Vec::new(), unused: Vec::new() }
    }
}

impl<T: ?Sized + Eq + Hash> Dictionary<T> {
    /// The code of a value, which one more row has.
    pub(super) fn take(&mut self, value: &T) -> u32
    where
        Arc<T>: for<'a> From<&'a T>,
    {
        if let Some(code) = self.codes.get(value) {
            if let Some(Some((_, users))) = self.values.get_mut(*code as usize) {
                *users += 1;
            }
            return *code;
        }
        self.add(Arc::from(value))
    }

    /// [`Dictionary::take`] for a value that is owned.
    pub(super) fn take_owned(&mut self, value: Arc<T>) -> u32 {
        match self.codes.entry(value) {
            Entry::Occupied(known) => {
                let code = *known.get();
                if let Some(Some((_, users))) = self.values.get_mut(code as usize) {
                    *users += 1;
                }
                code
            }
            Entry::Vacant(new) => {
                let value = Arc::clone(new.key());
                let code = *new.insert(place(&mut self.unused, self.values.len()));
                put(&mut self.values, code, value);
                code
            }
        }
    }

    fn add(&mut self, value: Arc<T>) -> u32 {
        let code = place(&mut self.unused, self.values.len());
        self.codes.insert(Arc::clone(&value), code);
        put(&mut self.values, code, value);
        code
    }

    /// One row less has the value.
    pub(super) fn release(&mut self, code: u32) {
        let Some(slot) = self.values.get_mut(code as usize) else { return };
        if let Some((value, users)) = slot {
            *users -= 1;
            if *users == 0 {
                self.codes.remove(value);
                *slot = None;
                self.unused.push(code);
            }
        }
    }

    /// The value of a code.
    pub(super) fn get(&self, code: u32) -> Option<&T> {
        self.values.get(code as usize)?.as_ref().map(|(value, _)| &**value)
    }

    /// Every value with the number of rows that have it, in the order of codes.
    pub(super) fn values(&self) -> impl Iterator<Item = Option<(&T, u32)>> {
        self.values.iter().map(|slot| slot.as_ref().map(|(value, users)| (&**value, *users)))
    }
}

fn place(unused: &mut Vec<u32>, len: usize) -> u32 {
    // rows are bounded far below
    unused.pop().unwrap_or_else(|| u32::try_from(len).unwrap_or(UNKNOWN_CODE - 1))
}

fn put<T: ?Sized>(values: &mut Vec<Option<(Arc<T>, u32)>>, code: u32, value: Arc<T>) {
    let at = code as usize;
    if at >= values.len() {
        values.resize_with(at + 1, || None);
    }
    if let Some(slot) = values.get_mut(at) {
        *slot = Some((value, 1));
    }
}
