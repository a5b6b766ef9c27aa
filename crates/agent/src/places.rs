//! Places for a bounded number of things at once, each with the open files it needs, and free again when what holds it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use agent::descriptors::{Descriptors, Taken};

/// The places.
pub(crate) struct Places {
    taken: AtomicUsize,
    most: usize,
    /// Open files of each, and those that are left to others.
    each: u64,
    to_be_left: u64,
    descriptors: Arc<Descriptors>,
}

/// One of them.
pub(crate) struct Place {
    among: Arc<Places>,
    _share: Taken,
}

impl Places {
    /// So many at most, and no more than there can be open files for, of which each needs so many and some are left to others.
    pub(crate) fn new(most: usize, each: u64, to_be_left: u64, descriptors: &Arc<Descriptors>) -> Arc<Places> {
        Arc::new(Places { taken: AtomicUsize::new(0), most, each, to_be_left, descriptors: descriptors.clone() })
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::SeqCst)
    }

    /// One, if one is free.
    pub(crate) fn take(self: &Arc<Places>) -> Option<Place> {
        let _share = self.descriptors.take(self.each, self.to_be_left)?;
        let more = |taken| (taken < self.most).then_some(taken + 1);
        self.taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).ok()?;
        Some(Place { among: self.clone(), _share })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.among.taken.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_no_more_places_than_there_are_and_one_given_up_is_free() {
        let descriptors = Arc::new(Descriptors::of(10));
        let places = Places::new(2, 1, 0, &descriptors);
        let (first, second) = (places.take(), places.take());
        assert!(first.is_some() && second.is_some() && places.take().is_none());
        drop(first);
        assert!(places.take().is_some());
        let greedy = Places::new(9, 4, 0, &descriptors);
        let held = [greedy.take(), greedy.take(), greedy.take()];
        assert_eq!(held.map(|place| place.is_some()), [true, true, false]);
    }
}
