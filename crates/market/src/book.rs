//! The offer book: the newest valid advertisement of each provider, as a plain data structure. Whoever owns one feeds it with
//! advertisements whose signatures were checked, and with the time; it decides what is newer, what is stale and what is over.

use crate::{
    class::GpuClass,
    id::PeerId,
    offer::{MAX_AD_LIFETIME, MAX_OFFERS, MAX_SKEW, ProviderAd},
    time::UnixMillis,
};
use std::{collections::BTreeMap, ops::Bound, sync::Arc};

/// The most providers an ordinary book keeps: at 16 KiB each this stays under 1.6 GiB even when every advertisement is as large as
/// allowed, and covers the design's hundred thousand providers.
pub const MAX_PROVIDERS: usize = 100_000;

/// An advertisement as it arrived, and what it says.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The signed envelope, byte for byte: what is passed on and hashed.
    pub raw: Arc<[u8]>,
    /// Its content.
    pub ad: Arc<ProviderAd>,
    /// The classes of its offers, worked out once.
    pub classes: Arc<[GpuClass]>,
}

/// Why an advertisement was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stale {
    /// The book holds one of the same peer that is as new or newer.
    #[error("not newer than the one held")]
    NotNewer,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// Its sequence number lies too far ahead of our clock.
    #[error("made in the future")]
    FromTheFuture,
    /// It would live longer than advertisements may.
    #[error("lives longer than an hour")]
    TooLong,
    /// More offers than one advertisement may hold.
    #[error("holds too many offers")]
    TooManyOffers,
    /// The book is full of others.
    #[error("the book is full")]
    Full,
}

/// What a taken advertisement changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The provider was not known.
    New,
    /// It replaced an older one.
    Newer,
    /// The provider has withdrawn its offers.
    Withdrawn,
}

/// The newest advertisement of each provider. A withdrawn one stays until it expires, so that an older copy cannot revive it.
#[derive(Clone, Debug, Default)]
pub struct Book {
    entries: BTreeMap<Vec<u8>, Entry>,
}

impl Book {
    /// An empty book.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether an advertisement with these numbers would be news. Cheap: used on announcements before anything is fetched.
    pub fn would_take(&self, peer: &PeerId, seq: u64, expires: UnixMillis, now: UnixMillis) -> Result<(), Stale> {
        if expires <= now {
            return Err(Stale::Expired);
        }
        if seq > now.plus(MAX_SKEW).0 {
            return Err(Stale::FromTheFuture);
        }
        if expires.0.saturating_sub(seq) > MAX_AD_LIFETIME {
            return Err(Stale::TooLong);
        }
        match self.entries.get(&peer.to_bytes()) {
            Some(held) if held.ad.seq >= seq => Err(Stale::NotNewer),
            None if self.entries.len() >= MAX_PROVIDERS => Err(Stale::Full),
            _ => Ok(()),
        }
    }

    /// Takes an advertisement whose signatures were checked.
    pub fn insert(&mut self, raw: Arc<[u8]>, ad: ProviderAd, now: UnixMillis) -> Result<Inserted, Stale> {
        self.would_take(&ad.peer, ad.seq, ad.expires, now)?;
        if ad.offers.len() > MAX_OFFERS {
            return Err(Stale::TooManyOffers);
        }
        let withdrawn = ad.offers.is_empty();
        let before =
            self.entries.insert(ad.peer.to_bytes(), Entry { raw, classes: ad.classes().into(), ad: Arc::new(ad) });
        Ok(match before {
            _ if withdrawn => Inserted::Withdrawn,
            Some(_) => Inserted::Newer,
            None => Inserted::New,
        })
    }

    /// What is held of a provider.
    pub fn get(&self, peer: &PeerId) -> Option<&Entry> {
        self.entries.get(&peer.to_bytes())
    }

    /// A page of live advertisements in the order of peer ids: those of `class` (every class when `None`) after `after`, at most
    /// `limit`, and whether more follow.
    pub fn list(
        &self,
        class: Option<GpuClass>,
        after: Option<&PeerId>,
        limit: usize,
        now: UnixMillis,
    ) -> (Vec<&Entry>, bool) {
        let from = after.map_or(Bound::Unbounded, |peer| Bound::Excluded(peer.to_bytes()));
        let mut matching = self
            .entries
            .range((from, Bound::Unbounded))
            .map(|(_, entry)| entry)
            .filter(|entry| entry.ad.expires > now && class.is_none_or(|c| entry.classes.contains(&c)));
        let page: Vec<_> = matching.by_ref().take(limit).collect();
        (page, matching.next().is_some())
    }

    /// Every advertisement that is not over.
    pub fn live(&self, now: UnixMillis) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(move |entry| entry.ad.expires > now)
    }

    /// Forgets what is over and returns whose it was.
    pub fn expire(&mut self, now: UnixMillis) -> Vec<PeerId> {
        let mut over = Vec::new();
        self.entries.retain(|_, entry| {
            let keep = entry.ad.expires > now;
            if !keep {
                over.push(entry.ad.peer);
            }
            keep
        });
        over
    }

    /// How many providers are held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::numbered_peer, offer::Binding};
    use alloy_primitives::{Address, Signature, U256};

    fn ad(peer: PeerId, seq: u64, offers: Vec<crate::offer::Offer>) -> ProviderAd {
        let signature = Signature::new(U256::from(1), U256::from(1), false);
        let binding = Binding {
            chain: 1,
            provider_key: Address::ZERO,
            wallet: Address::ZERO,
            issued_at: 0,
            expires: 1,
            signature,
        };
        ProviderAd { peer, seq, expires: UnixMillis(seq + 1_000), binding, region: String::new(), offers }
    }

    fn raw() -> Arc<[u8]> {
        Arc::from([1u8, 2, 3])
    }

    #[test]
    fn only_a_newer_advertisement_replaces_an_older() {
        let (mut book, peer, now) = (Book::new(), numbered_peer(1), UnixMillis(10_000));
        assert_eq!(book.insert(raw(), ad(peer, 10_000, vec![]), now), Ok(Inserted::Withdrawn));
        assert_eq!(book.insert(raw(), ad(peer, 10_000, vec![]), now), Err(Stale::NotNewer));
        assert_eq!(book.insert(raw(), ad(peer, 9_999, vec![]), now), Err(Stale::NotNewer));
        assert!(book.insert(raw(), ad(peer, 10_001, vec![]), now).is_ok());
        assert_eq!(book.len(), 1);
    }

    #[test]
    fn what_is_expired_or_from_the_future_is_not_taken() {
        let (mut book, peer, now) = (Book::new(), numbered_peer(1), UnixMillis(1_000_000));
        assert_eq!(book.insert(raw(), ad(peer, 999_000, vec![]), now), Err(Stale::Expired));
        assert_eq!(book.insert(raw(), ad(peer, now.0 + MAX_SKEW + 1, vec![]), now), Err(Stale::FromTheFuture));
        let mut long = ad(peer, now.0, vec![]);
        long.expires = now.plus(MAX_AD_LIFETIME + 1);
        assert_eq!(book.insert(raw(), long, now), Err(Stale::TooLong));
    }

    #[test]
    fn a_withdrawn_provider_cannot_be_revived_by_an_older_copy() {
        let (mut book, peer, now) = (Book::new(), numbered_peer(1), UnixMillis(10_000));
        book.insert(raw(), ad(peer, 10_000, vec![]), now).unwrap();
        assert_eq!(book.insert(raw(), ad(peer, 9_500, vec![]), now), Err(Stale::NotNewer));
        assert_eq!(book.expire(UnixMillis(11_000)), vec![peer]);
        assert!(book.is_empty());
    }

    #[test]
    fn pages_cover_everything_once() {
        let (mut book, now) = (Book::new(), UnixMillis(10_000));
        for number in 0..10 {
            book.insert(raw(), ad(numbered_peer(number), 10_000, vec![]), now).unwrap();
        }
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let (page, more) = book.list(None, after.as_ref(), 3, now);
            seen.extend(page.iter().map(|entry| entry.ad.peer));
            after = seen.last().copied();
            if !more {
                break;
            }
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10);
    }
}
