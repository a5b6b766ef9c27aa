//! Which advertisements to fetch from whom: announce, then pull. A plain state machine without input or output; the node tells it what was
//! announced, who is there and what came back, and does what it says.
//!
//! An announced advertisement is asked for first where the announcement came from, then of the provider, then of others who follow the
//! same class; of one at a time, of each once a round, and for a bounded number of rounds, since the neighbour who passed the
//! announcement on may itself still be fetching.

use crate::{ad::Announced, counters::Counters};
use alloy_primitives::B256;
use libp2p::PeerId;
use market::{book::MAX_PROVIDERS, class::GpuClass, time::UnixMillis};
use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use wire::{MAX_GET_PEERS, MAX_LIST_PAGE};

/// How far apart a peer's advertisements must be, in milliseconds of their sequence numbers: one that sends more often is flooding, and
/// its surplus is not passed on. Providers themselves keep twice this distance.
pub(crate) const MIN_SEQ_STEP: u64 = 500;
/// Advertisements waiting to be fetched: a minute's worth for a full indexer at the design's scale would be 20,000; one that is further
/// behind than this catches up by the next refresh.
const MAX_WANTED: usize = 4_096;
/// Peers asked at once. Each answer may be a mebibyte.
const MAX_ASKED: usize = 16;
/// Rounds in which every source is tried again, after [`FIRST_PAUSE`] and then twice as long each time: eight seconds in all.
const MAX_ROUNDS: u32 = 5;
/// The first pause: about the time a neighbour needs to fetch what it has just passed on.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
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

/// What is to become of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reception {
    /// News, or a repetition worth passing on.
    PassOn,
    /// Old news or too much of it.
    Ignore,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    seq: u64,
    body_hash: B256,
    expires: UnixMillis,
}

#[derive(Debug)]
struct Wanted {
    announced: Announced,
    /// From whom the announcement came.
    announcer: PeerId,
    class: GpuClass,
    /// Who was asked in this round.
    tried: Vec<PeerId>,
    round: u32,
    due: Instant,
    asked: bool,
}

/// A list being read.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(crate) peer: PeerId,
    /// What is still to be listed, the present one last; `None` is every class.
    classes: Vec<Option<GpuClass>>,
    pub(crate) after: Vec<u8>,
    pages: usize,
    failures: u32,
    due: Instant,
}

impl Listing {
    pub(crate) fn class(&self) -> Option<GpuClass> {
        self.classes.last().copied().flatten()
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Discovery {
    local: PeerId,
    counters: Arc<Counters>,
    /// What is listed of each new peer.
    interests: Vec<Option<GpuClass>>,
    seen: HashMap<PeerId, Seen>,
    wanted: BTreeMap<PeerId, Wanted>,
    asked: HashSet<PeerId>,
    lists: VecDeque<Listing>,
    listing: HashSet<PeerId>,
}

impl Discovery {
    pub(crate) fn new(local: PeerId, interests: Vec<Option<GpuClass>>, counters: Arc<Counters>) -> Self {
        Self {
            local,
            counters,
            interests,
            seen: HashMap::new(),
            wanted: BTreeMap::new(),
            asked: HashSet::new(),
            lists: VecDeque::new(),
            listing: HashSet::new(),
        }
    }

    /// Takes note of a verified announcement. `is_news` says whether the book would take what is announced.
    pub(crate) fn announced(
        &mut self,
        announced: Announced,
        announcer: PeerId,
        class: GpuClass,
        is_news: bool,
        now: Instant,
    ) -> Reception {
        if announced.peer == self.local {
            return Reception::Ignore;
        }
        match self.seen.get(&announced.peer) {
            // the same announcement on the topic of another class, or of one we have already read from a list
            Some(seen) if seen.seq == announced.seq && seen.body_hash == announced.body_hash => {}
            Some(seen) if announced.seq < seen.seq.saturating_add(MIN_SEQ_STEP) => return Reception::Ignore,
            None if self.seen.len() >= MAX_PROVIDERS => return Reception::Ignore,
            _ => {
                let Announced { peer, seq, expires, body_hash } = announced;
                self.seen.insert(peer, Seen { seq, body_hash, expires });
            }
        }
        if is_news {
            self.want(announced, announcer, class, now);
        }
        Reception::PassOn
    }

    fn want(&mut self, announced: Announced, announcer: PeerId, class: GpuClass, now: Instant) {
        let peer = announced.peer;
        // one that is being asked for stays so: the answer is judged by what is then wanted
        let (known, asked) = match self.wanted.get(&peer) {
            Some(wanted) if wanted.announced.seq >= announced.seq => return,
            Some(wanted) => (true, wanted.asked),
            None => (false, false),
        };
        if !known && self.wanted.len() >= MAX_WANTED {
            return self.counters.pulls_dropped.add();
        }
        self.wanted.insert(peer, Wanted { announced, announcer, class, tried: Vec::new(), round: 0, due: now, asked });
    }

    /// Whether there is anything to fetch.
    pub(crate) fn is_idle(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whom to ask for which advertisements now. `others` gives the connected peers that follow a class.
    pub(crate) fn next_gets(
        &mut self,
        connected: impl Fn(&PeerId) -> bool,
        others: impl Fn(GpuClass) -> Vec<PeerId>,
        now: Instant,
    ) -> Vec<(PeerId, Vec<PeerId>)> {
        let asked = &self.asked;
        let mut gets: BTreeMap<PeerId, Vec<PeerId>> = BTreeMap::new();
        let mut hopeless = Vec::new();
        for (subject, wanted) in self.wanted.iter_mut().filter(|(_, wanted)| !wanted.asked && wanted.due <= now) {
            let untried = |peer: &PeerId| connected(peer) && !wanted.tried.contains(peer);
            let first = [wanted.announcer, *subject].into_iter().find(untried);
            match first.or_else(|| others(wanted.class).into_iter().find(untried)) {
                Some(source) if asked.contains(&source) => {}
                Some(source) => {
                    let room = gets.len() + asked.len() < MAX_ASKED;
                    let batch = match gets.get_mut(&source) {
                        Some(batch) => batch,
                        None if room => gets.entry(source).or_default(),
                        None => continue,
                    };
                    if batch.len() < MAX_GET_PEERS {
                        batch.push(*subject);
                        wanted.asked = true;
                        wanted.tried.push(source);
                    }
                }
                None if wanted.round >= MAX_ROUNDS => hopeless.push(*subject),
                None => {
                    wanted.due = now + FIRST_PAUSE * 2_u32.pow(wanted.round);
                    wanted.round += 1;
                    wanted.tried.clear();
                }
            }
        }
        for subject in hopeless {
            self.wanted.remove(&subject);
            // forgotten, so that the same announcement may be taken up again from elsewhere
            self.seen.remove(&subject);
            self.counters.pulls_abandoned.add();
        }
        self.asked.extend(gets.keys());
        gets.into_iter().collect()
    }

    /// Whether an advertisement that came from outside is what was announced of its peer; so is anything newer, and anything nobody
    /// announced.
    pub(crate) fn agrees(&self, peer: &PeerId, seq: u64, hash: impl FnOnce() -> B256) -> bool {
        match self.wanted.get(peer) {
            Some(wanted) if wanted.announced.seq == seq => wanted.announced.body_hash == hash(),
            _ => true,
        }
    }

    /// An advertisement of `peer` is in the book.
    pub(crate) fn have(&mut self, peer: &PeerId, seq: u64) {
        if self.wanted.get(peer).is_some_and(|wanted| wanted.announced.seq <= seq) {
            self.wanted.remove(peer);
        }
    }

    /// A question was answered, however well. What is still wanted is asked of the next source.
    pub(crate) fn get_done(&mut self, source: &PeerId, subjects: &[PeerId]) {
        self.asked.remove(source);
        for subject in subjects {
            if let Some(wanted) = self.wanted.get_mut(subject) {
                wanted.asked = false;
            }
        }
    }

    /// A new peer may know more than was ever announced to us.
    pub(crate) fn want_list(&mut self, peer: PeerId, now: Instant) {
        if self.interests.is_empty() || self.lists.iter().any(|listing| listing.peer == peer) {
            return;
        }
        for due in [now, now + SECOND_READING] {
            if self.lists.len() >= MAX_LISTS_WAITING {
                return self.counters.lists_dropped.add();
            }
            self.lists.push_back(Listing {
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
    pub(crate) fn next_list(&mut self, connected: impl Fn(&PeerId) -> bool, now: Instant) -> Option<Listing> {
        if self.listing.len() >= MAX_LISTING {
            return None;
        }
        self.lists.retain(|listing| connected(&listing.peer));
        let at = self.lists.iter().position(|listing| listing.due <= now && !self.listing.contains(&listing.peer))?;
        let listing = self.lists.remove(at)?;
        self.listing.insert(listing.peer);
        Some(listing)
    }

    /// A page was not answered; it is asked for again, a few times.
    pub(crate) fn page_failed(&mut self, mut listing: Listing, now: Instant) {
        self.listing.remove(&listing.peer);
        listing.failures += 1;
        listing.due = now + PAGE_PAUSE;
        if listing.failures < MAX_PAGE_FAILURES {
            self.lists.push_back(listing);
        }
    }

    /// A page was read; `next` is where the following one begins, empty at the end.
    pub(crate) fn page_done(&mut self, mut listing: Listing, next: Vec<u8>) {
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
            self.lists.push_front(listing);
        }
    }

    /// Forgets what is over.
    pub(crate) fn expire(&mut self, now: UnixMillis) {
        self.seen.retain(|_, seen| seen.expires > now);
        self.wanted.retain(|_, wanted| wanted.asked || wanted.announced.expires > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct World {
        discovery: Discovery,
        provider: PeerId,
        announcer: PeerId,
        now: Instant,
    }

    fn world() -> World {
        let discovery = Discovery::new(PeerId::random(), vec![None], Arc::default());
        World { discovery, provider: PeerId::random(), announcer: PeerId::random(), now: Instant::now() }
    }

    impl World {
        fn announce(&mut self, seq: u64) -> Reception {
            let announced = Announced {
                peer: self.provider,
                seq,
                expires: UnixMillis(u64::MAX),
                body_hash: B256::repeat_byte(seq as u8),
            };
            self.discovery.announced(announced, self.announcer, GpuClass::CPU, true, self.now)
        }

        fn gets(&mut self, others: &[PeerId]) -> Vec<(PeerId, Vec<PeerId>)> {
            self.discovery.next_gets(|_| true, |_| others.to_vec(), self.now)
        }
    }

    #[test]
    fn each_source_is_asked_in_turn_and_never_two_at_once() {
        let (mut w, other) = (world(), PeerId::random());
        w.announce(1_000);
        for source in [w.announcer, w.provider, other] {
            assert_eq!(w.gets(&[other]), [(source, vec![w.provider])]);
            assert_eq!(w.gets(&[other]), [], "asked while a question is open");
            w.discovery.get_done(&source, &[w.provider]);
        }
        assert_eq!(w.gets(&[other]), [], "asked again without a pause");
        assert_eq!(w.gets(&[other]), []);
        w.now += FIRST_PAUSE;
        assert_eq!(w.gets(&[other]).len(), 1);
    }

    #[test]
    fn what_nobody_has_is_given_up_and_may_be_announced_again() {
        let mut w = world();
        w.announce(1_000);
        for _ in 0..100 {
            for (source, subjects) in w.gets(&[]) {
                w.discovery.get_done(&source, &subjects);
            }
            w.now += FIRST_PAUSE;
        }
        assert!(w.discovery.is_idle());
        assert_eq!(w.discovery.counters.pulls_abandoned.get(), 1);
        w.announce(1_000);
        assert!(!w.discovery.is_idle());
    }

    #[test]
    fn a_repetition_is_passed_on_but_a_flood_and_old_news_are_not() {
        let mut w = world();
        assert_eq!(w.announce(10_000), Reception::PassOn);
        assert_eq!(w.announce(10_000), Reception::PassOn);
        assert_eq!(w.announce(9_000), Reception::Ignore);
        assert_eq!(w.announce(10_000 + MIN_SEQ_STEP - 1), Reception::Ignore);
        assert_eq!(w.announce(10_000 + MIN_SEQ_STEP), Reception::PassOn);
    }

    #[test]
    fn what_is_announced_must_be_what_comes() {
        let mut w = world();
        w.announce(7);
        assert!(w.discovery.agrees(&w.provider, 7, || B256::repeat_byte(7)));
        assert!(!w.discovery.agrees(&w.provider, 7, || B256::repeat_byte(8)));
        assert!(w.discovery.agrees(&w.provider, 8, || B256::repeat_byte(8)));
    }

    #[test]
    fn a_list_is_read_to_its_end_even_when_the_other_side_goes_round_in_circles() {
        let mut w = world();
        w.discovery.want_list(w.provider, w.now);
        let first = w.discovery.next_list(|_| true, w.now).unwrap();
        assert!(w.discovery.next_list(|_| true, w.now).is_none());
        w.discovery.page_done(first, vec![5]);
        let second = w.discovery.next_list(|_| true, w.now).unwrap();
        assert_eq!(second.after, [5]);
        w.discovery.page_done(second, vec![5]);
        assert!(w.discovery.next_list(|_| true, w.now).is_none());
        assert!(w.discovery.next_list(|_| true, w.now + SECOND_READING).is_some());
    }
    #[test]
    fn an_unanswered_page_is_asked_for_again_where_it_was() {
        let mut w = world();
        w.discovery.want_list(w.provider, w.now);
        let mut listing = w.discovery.next_list(|_| true, w.now).unwrap();
        w.discovery.page_done(listing, vec![5]);
        for _ in 0..MAX_PAGE_FAILURES {
            listing = w.discovery.next_list(|_| true, w.now).unwrap();
            assert_eq!(listing.after, [5]);
            w.discovery.lists.clear();
            w.discovery.page_failed(listing, w.now);
            assert!(w.discovery.next_list(|_| true, w.now).is_none(), "asked again without a pause");
            w.now += PAGE_PAUSE;
        }
        assert!(w.discovery.next_list(|_| true, w.now).is_none());
    }
}
