//! What this node's book holds, in the order in which books are compared. It follows the book change by change, and gives a picture of one
//! moment to each reconciliation, in buckets by sequence number: one that did not change since the last picture is shared with it, and only
//! the others are written out anew. Advertisements are renewed every few minutes, so at any time most changes fall into the present bucket
//! and into the few that hold what is being replaced.

use super::ad_id::{AdId, Tag};
use market::{
    id::PeerId,
    offer::{MAX_AD_LIFETIME, MAX_SKEW},
    time::UnixMillis,
};
use negentropy::{Bound, Error, Item, NegentropyStorageBase};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// What expires within this many milliseconds takes no part. Two clocks that agree to [`MAX_SKEW`] then never show what the other side has
/// already dropped, with half a minute for the reconciliation itself.
pub const LEAVES_BEFORE: u64 = 2 * MAX_SKEW;
/// A bucket holds 65.5 s of sequence numbers: of a book that is renewed every five minutes a fifth, so that most are left as they are between
/// two pictures, and there are at most 56.
const BUCKET_BITS: u32 = 16;

#[derive(Debug)]
struct Held {
    peer: PeerId,
    id: AdId,
    expires: UnixMillis,
    /// Whether it takes part.
    shown: bool,
}

/// The advertisements of one span of time, and the last picture that was made of them, unless they have changed since.
#[derive(Debug, Default)]
struct Bucket {
    items: BTreeSet<Item>,
    sealed: Option<Arc<[Item]>>,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Inventory {
    /// The moment of the newest picture: what had left by then does not come back.
    at: UnixMillis,
    held: HashMap<Tag, Held>,
    /// When what takes part leaves.
    leaving: BTreeSet<(UnixMillis, Tag)>,
    buckets: BTreeMap<u64, Bucket>,
}

impl Inventory {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// The book holds this now of `peer`, in place of whatever it held before.
    pub fn put(&mut self, peer: PeerId, seq: u64, expires: UnixMillis) {
        let (id, tag) = (AdId::new(&peer, seq), Tag::of(&peer));
        self.remove_tag(&tag);
        let leaves = UnixMillis(expires.0.saturating_sub(LEAVES_BEFORE));
        let shown = leaves > self.at;
        if shown {
            let bucket = self.buckets.entry(seq >> BUCKET_BITS).or_default();
            bucket.items.insert(id.item());
            bucket.sealed = None;
            self.leaving.insert((leaves, tag));
        }
        self.held.insert(tag, Held { peer, id, expires, shown });
    }

    /// The book holds nothing of `peer` any more.
    pub fn remove(&mut self, peer: &PeerId) {
        self.remove_tag(&Tag::of(peer));
    }

    fn remove_tag(&mut self, tag: &Tag) {
        if let Some(held) = self.held.remove(tag).filter(|held| held.shown) {
            self.leaving.remove(&(UnixMillis(held.expires.0.saturating_sub(LEAVES_BEFORE)), *tag));
            self.hide(&held.id);
        }
    }

    fn hide(&mut self, id: &AdId) {
        let number = id.seq() >> BUCKET_BITS;
        let Some(bucket) = self.buckets.get_mut(&number) else { return };
        bucket.items.remove(&id.item());
        bucket.sealed = None;
        if bucket.items.is_empty() {
            self.buckets.remove(&number);
        }
    }

    /// A picture of what takes part at `at`.
    pub fn view(&mut self, at: UnixMillis) -> View {
        self.at = self.at.max(at);
        while let Some((leaves, tag)) = self.leaving.first().copied().filter(|(leaves, _)| *leaves <= self.at) {
            self.leaving.remove(&(leaves, tag));
            if let Some(held) = self.held.get_mut(&tag) {
                held.shown = false;
                let id = held.id;
                self.hide(&id);
            }
        }
        let mut first = 0;
        let parts = self.buckets.values_mut().map(|Bucket { items, sealed }| {
            let items = Arc::clone(sealed.get_or_insert_with(|| items.iter().copied().collect()));
            let part = Part { first, items };
            first += part.items.len();
            part
        });
        View { parts: parts.collect(), size: first }
    }

    /// Whether what is called so would be news at `now`: nothing as new is held of that peer, and an advertisement made then can be in force.
    pub fn is_news(&self, id: &AdId, now: UnixMillis) -> bool {
        let in_force = id.seq() <= now.plus(MAX_SKEW).0 && now.since(UnixMillis(id.seq())) < MAX_AD_LIFETIME;
        in_force && self.held.get(&id.tag()).is_none_or(|held| held.id.seq() < id.seq())
    }

    /// Whose advertisement answers for that name: the one that is called so, or a newer one of the same peer.
    pub fn holder(&self, id: &AdId) -> Option<PeerId> {
        self.held.get(&id.tag()).filter(|held| held.id.seq() >= id.seq()).map(|held| held.peer)
    }

    /// How many advertisements the book holds.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[derive(Clone, Debug)]
struct Part {
    /// How many items stand before these.
    first: usize,
    items: Arc<[Item]>,
}

/// What took part at one moment, in order. Cheap to clone.
#[derive(Clone, Debug)]
pub struct View {
    parts: Arc<[Part]>,
    size: usize,
}

impl View {
    /// How many advertisements take part.
    pub fn len(&self) -> usize {
        self.size
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// The names, in order.
    pub fn ids(&self) -> impl Iterator<Item = AdId> + '_ {
        self.parts.iter().flat_map(|part| part.items.iter()).map(|item| AdId::from(item.id))
    }
}

impl NegentropyStorageBase for View {
    fn size(&self) -> Result<usize, Error> {
        Ok(self.size)
    }

    fn get_item(&self, at: usize) -> Result<Option<Item>, Error> {
        let part = self.parts.partition_point(|part| part.first <= at).checked_sub(1).and_then(|n| self.parts.get(n));
        Ok(part.and_then(|part| part.items.get(at - part.first)).copied())
    }

    fn iterate(
        &self,
        begin: usize,
        end: usize,
        each: &mut dyn FnMut(Item, usize) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        if begin > end || end > self.size {
            return Err(Error::BadRange);
        }
        let started = self.parts.partition_point(|part| part.first + part.items.len() <= begin);
        for part in self.parts.iter().skip(started).take_while(|part| part.first < end) {
            let from = begin.saturating_sub(part.first);
            let until = (end - part.first).min(part.items.len());
            for (at, item) in part.items.iter().enumerate().take(until).skip(from) {
                if !each(*item, part.first + at)? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn find_lower_bound(&self, first: usize, last: usize, bound: &Bound) -> usize {
        let whole = self.parts.partition_point(|part| part.items.last().is_some_and(|item| *item < bound.item));
        let found = self
            .parts
            .get(whole)
            .map_or(self.size, |part| part.first + part.items.partition_point(|item| *item < bound.item));
        found.clamp(first, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::fixtures::peer as numbered_peer;
    use negentropy::Id;

    const NOW: UnixMillis = UnixMillis(1_767_225_600_000);
    const LIFETIME: u64 = 900_000;

    fn filled(count: u64) -> Inventory {
        let mut inventory = Inventory::new();
        for number in 0..count {
            let seq = NOW.0 - number * 1_000;
            inventory.put(numbered_peer(number), seq, UnixMillis(seq + LIFETIME));
        }
        inventory
    }

    #[test]
    fn a_view_is_one_ordered_list_whatever_buckets_it_lies_in() {
        let view = filled(200).view(NOW);
        assert!(view.parts.len() > 2);
        let ids: Vec<AdId> = view.ids().collect();
        assert_eq!(ids.len(), 200);
        assert!(ids.is_sorted_by_key(AdId::item));
        for (at, id) in ids.iter().enumerate() {
            assert_eq!(view.get_item(at).unwrap(), Some(id.item()));
            let bound = Bound::from_item(&id.item());
            assert_eq!(view.find_lower_bound(0, view.len(), &bound), at);
            assert_eq!(view.find_lower_bound(at.min(190), 190, &bound), at.min(190));
        }
        for (begin, end) in [(0, 200), (0, 0), (63, 71), (199, 200), (200, 200)] {
            let mut seen = Vec::new();
            let take = &mut |item: Item, at| {
                seen.push((at, AdId::from(item.id)));
                Ok(true)
            };
            view.iterate(begin, end, take).unwrap();
            let expected: Vec<_> = (begin..end).map(|at| (at, ids[at])).collect();
            assert_eq!(seen, expected);
        }
        assert_eq!(view.get_item(200).unwrap(), None);
        assert!(view.iterate(150, 201, &mut |_, _| Ok(true)).is_err());
        let beyond = Bound::from_item(&Item::with_timestamp_and_id(u64::MAX, Id::default()));
        assert_eq!(view.find_lower_bound(5, 200, &beyond), 200);
    }

    #[test]
    fn only_the_buckets_that_changed_are_made_anew() {
        let mut inventory = filled(200);
        let before = inventory.view(NOW);
        inventory.put(numbered_peer(100), NOW.0 + 1, NOW.plus(LIFETIME));
        let after = inventory.view(NOW);
        let shared = after.parts.iter().filter(|part| before.parts.iter().any(|b| Arc::ptr_eq(&b.items, &part.items)));
        assert_eq!(shared.count() + 2, after.parts.len());
        assert_eq!((before.len(), after.len()), (200, 200));
    }

    #[test]
    fn what_is_about_to_expire_takes_no_part_but_is_no_news_either() {
        let mut inventory = Inventory::new();
        let (peer, seq) = (numbered_peer(1), NOW.0);
        inventory.put(peer, seq, NOW.plus(LIFETIME));
        assert_eq!(inventory.view(NOW.plus(LIFETIME - LEAVES_BEFORE - 1)).len(), 1);
        let late = NOW.plus(LIFETIME - LEAVES_BEFORE);
        assert_eq!(inventory.view(late).len(), 0);
        assert!(inventory.view(NOW).is_empty(), "it has left for good");
        let id = AdId::new(&peer, seq);
        assert!(!inventory.is_news(&id, late));
        assert_eq!(inventory.holder(&id), Some(peer), "whoever asks for it still gets it");
        inventory.remove(&peer);
        assert!(inventory.is_empty() && inventory.holder(&id).is_none());
        inventory.put(peer, seq, NOW.plus(LIFETIME));
        assert!(inventory.view(late).is_empty(), "it came when it was all but over");
    }

    #[test]
    fn news_is_what_is_newer_than_the_held_and_can_be_in_force() {
        let mut inventory = Inventory::new();
        let peer = numbered_peer(1);
        inventory.put(peer, NOW.0, NOW.plus(LIFETIME));
        let news = |seq| inventory.is_news(&AdId::new(&peer, seq), NOW);
        assert!(!news(NOW.0 - 1) && !news(NOW.0) && news(NOW.0 + 1));
        assert!(!news(NOW.0 + MAX_SKEW + 1), "made in the future");
        let other = |seq| inventory.is_news(&AdId::new(&numbered_peer(2), seq), NOW);
        assert!(
            other(NOW.0 - MAX_AD_LIFETIME + 1) && !other(NOW.0 - MAX_AD_LIFETIME),
            "no advertisement lives so long"
        );
        assert_eq!(inventory.holder(&AdId::new(&peer, NOW.0 - 5)), Some(peer), "a newer one answers for an older");
        assert_eq!(inventory.holder(&AdId::new(&peer, NOW.0 + 5)), None);
    }
}
