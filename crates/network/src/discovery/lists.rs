//! Whose lists are read: a new peer may know more than was ever announced to us. A plain state machine like [`Discovery`](super::Discovery), which owns it.

use crate::counters::Counters;
use libp2p::PeerId;
use market::{book::MAX_PROVIDERS, class::GpuClass};
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use wire::MAX_LIST_PAGE;

/// A list is read a second time after this: an advertisement that was on its way to the other side at the first reading, and that had
/// been passed on there before gossip knew us, would otherwise be missed until its renewal. Gossip has settled after two heartbeats.
const SECOND_READING: Duration = Duration::from_secs(3);
/// Peers whose list is read at once.
const MAX_LISTING: usize = 4;
/// Peers waiting for their list to be read.
const MAX_LISTS_WAITING: usize = 256;
/// How often in a row a page may stay unanswered, [`PAGE_PAUSE`] apart, before the list is given up.
const MAX_PAGE_FAILURES: u32 = 5;
/// The pause after an unanswered page: the other side limits how fast its list is read, and is empty-handed for a few seconds at most.
const PAGE_PAUSE: Duration = Duration::from_secs(2);
/// Pages read of one list: a full book.
const MAX_PAGES: usize = MAX_PROVIDERS / MAX_LIST_PAGE + 1;

/// A list being read.
#[derive(Debug)]
pub struct Listing {
    /// Whose it is.
    pub peer: PeerId,
    /// What is still to be listed, the present one last; `None` is every class.
    classes: Vec<Option<GpuClass>>,
    /// Where the page begins: behind this peer.
    pub after: Vec<u8>,
    pages: usize,
    failures: u32,
    due: Instant,
}

impl Listing {
    /// The class whose list it is; `None` is every class.
    pub fn class(&self) -> Option<GpuClass> {
        self.classes.last().copied().flatten()
    }
}

/// See the module.
#[derive(Debug)]
pub struct Lists {
    /// What is listed of each new peer.
    interests: Vec<Option<GpuClass>>,
    counters: Arc<Counters>,
    waiting: VecDeque<Listing>,
    listing: HashSet<PeerId>,
}

impl Lists {
    pub(crate) fn new(interests: Vec<Option<GpuClass>>, counters: Arc<Counters>) -> Self {
        Self { interests, counters, waiting: VecDeque::new(), listing: HashSet::new() }
    }

    /// A new peer may know more than was ever announced to us.
    pub fn want(&mut self, peer: PeerId, now: Instant) {
        if self.interests.is_empty() || self.waiting.iter().any(|listing| listing.peer == peer) {
            return;
        }
        for due in [now, now + SECOND_READING] {
            if self.waiting.len() >= MAX_LISTS_WAITING {
                return self.counters.lists_dropped.add();
            }
            self.waiting.push_back(Listing {
                peer,
                classes: self.interests.clone(),
                after: Vec::new(),
                pages: 0,
                failures: 0,
                due,
            });
        }
    }

    /// The next list to read a page of.
    pub fn next(&mut self, connected: impl Fn(&PeerId) -> bool, now: Instant) -> Option<Listing> {
        if self.listing.len() >= MAX_LISTING {
            return None;
        }
        self.waiting.retain(|listing| connected(&listing.peer));
        let at = self.waiting.iter().position(|listing| listing.due <= now && !self.listing.contains(&listing.peer))?;
        let listing = self.waiting.remove(at)?;
        self.listing.insert(listing.peer);
        Some(listing)
    }

    /// A page was not answered; it is asked for again, a few times.
    pub fn page_failed(&mut self, mut listing: Listing, now: Instant) {
        self.listing.remove(&listing.peer);
        listing.failures += 1;
        listing.due = now + PAGE_PAUSE;
        if listing.failures < MAX_PAGE_FAILURES {
            self.waiting.push_back(listing);
        }
    }

    /// A page was read; `next` is where the following one begins, empty at the end.
    pub fn page_done(&mut self, mut listing: Listing, next: Vec<u8>) {
        self.listing.remove(&listing.peer);
        listing.failures = 0;
        listing.pages += 1;
        // a next page that does not lie behind this one would go round in circles
        let ended = next.is_empty() || next <= listing.after || listing.pages >= MAX_PAGES;
        if ended {
            listing.classes.pop();
            listing.after = Vec::new();
        } else {
            listing.after = next;
        }
        if !listing.classes.is_empty() {
            self.waiting.push_front(listing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists() -> (Lists, PeerId, Instant) {
        (Lists::new(vec![None], Arc::default()), PeerId::random(), Instant::now())
    }

    #[test]
    fn a_list_is_read_to_its_end_even_when_the_other_side_goes_round_in_circles() {
        let (mut lists, peer, now) = lists();
        lists.want(peer, now);
        let first = lists.next(|_| true, now).unwrap();
        assert!(lists.next(|_| true, now).is_none());
        lists.page_done(first, vec![5]);
        let second = lists.next(|_| true, now).unwrap();
        assert_eq!(second.after, [5]);
        lists.page_done(second, vec![5]);
        assert!(lists.next(|_| true, now).is_none());
        assert!(lists.next(|_| true, now + SECOND_READING).is_some());
    }

    #[test]
    fn an_unanswered_page_is_asked_for_again_where_it_was() {
        let (mut lists, peer, mut now) = lists();
        lists.want(peer, now);
        let mut listing = lists.next(|_| true, now).unwrap();
        lists.page_done(listing, vec![5]);
        for _ in 0..MAX_PAGE_FAILURES {
            listing = lists.next(|_| true, now).unwrap();
            assert_eq!(listing.after, [5]);
            lists.waiting.clear();
            lists.page_failed(listing, now);
            assert!(lists.next(|_| true, now).is_none(), "asked again without a pause");
            now += PAGE_PAUSE;
        }
        assert!(lists.next(|_| true, now).is_none());
    }
}
