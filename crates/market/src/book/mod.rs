//! The offer book: the newest valid advertisement of each provider, as a plain data structure. Whoever owns one feeds it with
//! advertisements whose signatures were checked, and with the time; it decides what is newer, what is stale and what is over.
//!
//! Of an advertisement the book keeps the signed envelope and a few numbers. What it says lies in columns, one row for each offer at each
//! of its prices, on one shelf for each class of machine: that is what [`Book::search`] looks through. Whoever needs an advertisement
//! as a whole reads its envelope again.

mod bound;
mod column;
mod dictionary;
mod explain;
mod plan;
mod scan;
mod search;
mod sets;
mod shelf;
#[cfg(test)]
mod tests;
mod walk;

pub use explain::{Explanation, MAX_NEAR, NearMiss, Removal};
pub use search::{Cursor, Found, Hit, MAX_HITS, Match, Search, Total};

use crate::{
    class::GpuClass,
    id::PeerId,
    money::Token,
    offer::{MAX_AD_LIFETIME, MAX_OFFERS, MAX_SKEW, ProviderAd},
    query::{Candidate, Cell, REGION, standing_cells, tail},
    signed::Escrow,
    standing::Standing,
    time::UnixMillis,
};
use alloy_primitives::Address;
use dictionary::Dictionary;
use foldhash::fast::RandomState;
use shelf::{Place, Priced, Shelf};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::BuildHasher,
    ops::Bound,
    sync::Arc,
};

/// The most providers an ordinary book keeps: at 16 KiB each this stays under 1.6 GiB even when every advertisement is as large as
/// allowed, and covers the design's hundred thousand providers.
pub const MAX_PROVIDERS: usize = 100_000;
/// The most offers at their prices: four for each of the design's million offers, about 450 bytes each.
pub const MAX_ROWS: usize = 4_000_000;

/// What the book holds of a provider.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The signed envelope, byte for byte: what is passed on and hashed.
    pub raw: Arc<[u8]>,
    /// Whose it is.
    pub peer: PeerId,
    /// Its sequence number.
    pub seq: u64,
    /// When it stops to count.
    pub expires: UnixMillis,
    /// How many offers it makes; none in a tombstone.
    pub offers: usize,
    /// The classes of its offers, each once.
    pub classes: Arc<[GpuClass]>,
    /// The provider's record, where one is kept.
    pub standing: Option<Standing>,
    wallet: Address,
    shelved: Box<[Shelved]>,
    rows: Box<[RowId]>,
}

impl Entry {
    /// Each of its offers with the rows it has.
    fn by_offer(&self) -> impl Iterator<Item = (Shelved, &[RowId])> {
        let mut left = &self.rows[..];
        self.shelved.iter().filter_map(move |offer| {
            let (rows, rest) = left.split_at_checked(offer.prices.into())?;
            left = rest;
            Some((*offer, rows))
        })
    }
}

/// An offer as it stands on the shelves.
#[derive(Clone, Copy, Debug)]
struct Shelved {
    /// A hash of all that it says, by which it is known again.
    print: u64,
    /// How many rows it has.
    prices: u16,
}

/// Where a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct RowId {
    shelf: u16,
    row: u32,
}

/// Which offer of an advertisement, and which price of the offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct PriceAt {
    offer: u16,
    price: u16,
}

/// A way of paying: a token at an escrow.
type Currency = (Escrow, Token);

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
#[derive(Debug, Default)]
pub struct Book {
    /// The number of each provider, in the order of peer ids.
    numbers: BTreeMap<Box<[u8]>, u32>,
    entries: Vec<Option<Entry>>,
    unused: Vec<u32>,
    expiries: BTreeSet<(UnixMillis, u32)>,
    shelves: Vec<(GpuClass, Shelf)>,
    /// All rows by price for each way of paying, and those of each region in lower case, whatever their class.
    ladders: BTreeMap<(Option<Box<str>>, u32), BTreeSet<Priced>>,
    currencies: Dictionary<Currency>,
    standings: BTreeMap<Box<[u8]>, Standing>,
    rows: usize,
    prints: RandomState,
}

fn key(peer: &PeerId) -> Box<[u8]> {
    peer.to_bytes().into()
}

/// Under which name the rows of a region are kept, where one is stated.
fn region_key(region: &str) -> Option<Box<str>> {
    (!region.is_empty()).then(|| region.to_lowercase().into())
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
        match self.get(peer) {
            Some(held) if held.seq >= seq => Err(Stale::NotNewer),
            None if self.numbers.len() >= MAX_PROVIDERS => Err(Stale::Full),
            _ => Ok(()),
        }
    }

    /// Takes an advertisement whose signatures were checked.
    pub fn insert(&mut self, raw: Arc<[u8]>, ad: &ProviderAd, now: UnixMillis) -> Result<Inserted, Stale> {
        self.would_take(&ad.peer, ad.seq, ad.expires, now)?;
        if ad.offers.len() > MAX_OFFERS {
            return Err(Stale::TooManyOffers);
        }
        let number = self.number(&ad.peer);
        let held = number.and_then(|number| self.entry(number)).map_or(0, |entry| entry.rows.len());
        let rows = ad.offers.iter().map(|offer| offer.prices.len()).sum::<usize>();
        if self.rows - held + rows > MAX_ROWS {
            return Err(Stale::Full);
        }
        self.write(number, raw, ad);
        Ok(match number {
            _ if ad.offers.is_empty() => Inserted::Withdrawn,
            Some(_) => Inserted::Newer,
            None => Inserted::New,
        })
    }

    /// Writes down what a provider says, in the place of what it said before.
    fn write(&mut self, known: Option<u32>, raw: Arc<[u8]>, ad: &ProviderAd) {
        // bounded by MAX_PROVIDERS
        let new = |unused: &mut Vec<u32>, all: usize| unused.pop().unwrap_or(u32::try_from(all).unwrap_or_default());
        let number = known.unwrap_or_else(|| new(&mut self.unused, self.entries.len()));
        let old = self.entries.get_mut(number as usize).and_then(Option::take);
        match &old {
            Some(old) => _ = self.expiries.remove(&(old.expires, number)),
            None => _ = self.numbers.insert(key(&ad.peer), number),
        }
        let (shelved, rows, classes) = self.shelve(number, ad, old.as_ref());
        let entry = Entry {
            raw,
            peer: ad.peer,
            seq: ad.seq,
            expires: ad.expires,
            offers: ad.offers.len(),
            classes,
            standing: old.map_or_else(|| self.standing(&ad.peer), |old| old.standing),
            wallet: ad.binding.wallet,
            shelved: shelved.into(),
            rows: rows.into(),
        };
        self.expiries.insert((entry.expires, number));
        match self.entries.get_mut(number as usize) {
            Some(slot) => *slot = Some(entry),
            None => self.entries.push(Some(entry)),
        }
    }

    /// Puts offers on the shelves, and takes those off that stood there before. One that is as it was stays where it is.
    fn shelve(
        &mut self,
        provider: u32,
        ad: &ProviderAd,
        old: Option<&Entry>,
    ) -> (Vec<Shelved>, Vec<RowId>, Arc<[GpuClass]>) {
        let (standing, region) = (self.standing(&ad.peer), region_key(&ad.region));
        let mut before = old.into_iter().flat_map(Entry::by_offer);
        let mut classes = Vec::with_capacity(ad.offers.len());
        let (mut shelved, mut rows) = (Vec::with_capacity(ad.offers.len()), Vec::with_capacity(ad.offers.len()));
        for (offer_at, offer) in (0..).zip(&ad.offers) {
            let print = self.prints.hash_one((&ad.region, offer));
            // bounded by what an advertisement may be long
            shelved.push(Shelved { print, prices: u16::try_from(offer.prices.len()).unwrap_or(u16::MAX) });
            let gone = match before.next() {
                Some((was, kept)) if was.print == print => {
                    rows.extend(kept);
                    let of_row = |row: &RowId| self.shelves.get(usize::from(row.shelf)).map(|(class, _)| *class);
                    classes.push(kept.first().and_then(of_row).unwrap_or_else(|| offer.class()));
                    continue;
                }
                gone => gone.map(|(_, rows)| rows),
            };
            if let Some(gone) = gone {
                self.unshelve(&ad.peer, gone);
            }
            let class = offer.class();
            let shelf = self.shelf(class);
            classes.push(class);
            for (price_at, price) in (0..).zip(&offer.prices) {
                let currency = self.currencies.take_owned(Arc::new((price.escrow, price.token.clone())));
                let candidate = Candidate { ad, offer, price, standing };
                let place = Place { provider, at: PriceAt { offer: offer_at, price: price_at } };
                if let Some((_, on)) = self.shelves.get_mut(usize::from(shelf)) {
                    let priced = on.put((shelf, class), &candidate, place, currency);
                    self.ladders.entry((None, currency)).or_default().insert(priced);
                    if let Some(region) = &region {
                        self.ladders.entry((Some(region.clone()), currency)).or_default().insert(priced);
                    }
                    self.rows += 1;
                    rows.push(priced.2);
                }
            }
        }
        for (_, gone) in before {
            self.unshelve(&ad.peer, gone);
        }
        classes.sort_unstable();
        classes.dedup();
        let same = old.map(|old| &old.classes).filter(|known| ***known == *classes);
        (shelved, rows, same.map_or_else(|| classes.into(), Arc::clone))
    }

    fn unshelve(&mut self, peer: &PeerId, rows: &[RowId]) {
        let tail = tail(peer);
        for id in rows {
            if let Some((_, on)) = self.shelves.get_mut(usize::from(id.shelf)) {
                let region = match on.cell(id.row, REGION) {
                    Cell::Text(region) => region_key(&region),
                    _ => None,
                };
                let (priced, currency) = on.take(*id, tail);
                self.descend((None, currency), &priced);
                if region.is_some() {
                    self.descend((region, currency), &priced);
                }
                self.currencies.release(currency);
                self.rows -= 1;
            }
        }
    }

    fn shelf(&mut self, class: GpuClass) -> u16 {
        let at = self.shelves.iter().position(|(known, _)| *known == class).unwrap_or_else(|| {
            self.shelves.push((class, Shelf::default()));
            self.shelves.len() - 1
        });
        // there are at most as many as classes
        u16::try_from(at).unwrap_or_default()
    }

    fn remove(&mut self, peer: &PeerId) {
        let Some(number) = self.numbers.remove(&key(peer)) else { return };
        let Some(entry) = self.entries.get_mut(number as usize).and_then(Option::take) else { return };
        self.expiries.remove(&(entry.expires, number));
        self.unused.push(number);
        self.unshelve(peer, &entry.rows);
    }

    fn descend(&mut self, ladder: (Option<Box<str>>, u32), priced: &Priced) {
        if let Some(rows) = self.ladders.get_mut(&ladder) {
            rows.remove(priced);
            if rows.is_empty() {
                self.ladders.remove(&ladder);
            }
        }
    }

    /// Writes down what is known of a provider; it is kept until it is written again, whether the provider has offers or not. Only as many
    /// are kept as there may be providers: `false` when it was one too many.
    pub fn set_standing(&mut self, peer: &PeerId, standing: Standing) -> bool {
        let full = self.standings.len() >= MAX_PROVIDERS;
        if full && !self.standings.contains_key(&*key(peer)) {
            return false;
        }
        self.standings.insert(key(peer), standing);
        self.write_standing(peer, Some(standing));
        true
    }

    /// Forgets what is known of a provider.
    pub fn forget_standing(&mut self, peer: &PeerId) {
        self.standings.remove(&key(peer));
        self.write_standing(peer, None);
    }

    fn write_standing(&mut self, peer: &PeerId, standing: Option<Standing>) {
        let Some(number) = self.number(peer) else { return };
        let Some(Some(entry)) = self.entries.get_mut(number as usize) else { return };
        entry.standing = standing;
        for RowId { shelf, row } in &entry.rows {
            if let Some((_, on)) = self.shelves.get_mut(usize::from(*shelf)) {
                on.write(*row, standing_cells(standing).into_iter());
            }
        }
    }

    /// What is known of a provider.
    pub fn standing(&self, peer: &PeerId) -> Option<Standing> {
        self.standings.get(&*key(peer)).copied()
    }

    /// What is held of a provider.
    pub fn get(&self, peer: &PeerId) -> Option<&Entry> {
        self.entry(self.number(peer)?)
    }

    fn number(&self, peer: &PeerId) -> Option<u32> {
        self.numbers.get(&*key(peer)).copied()
    }

    fn entry(&self, number: u32) -> Option<&Entry> {
        self.entries.get(number as usize)?.as_ref()
    }

    fn numbered(&self) -> impl Iterator<Item = (u32, &Entry)> {
        (0..).zip(&self.entries).filter_map(|(number, entry)| Some((number, entry.as_ref()?)))
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
        let from = after.map_or(Bound::Unbounded, |peer| Bound::Excluded(key(peer)));
        let mut matching = self
            .numbers
            .range((from, Bound::Unbounded))
            .filter_map(|(_, number)| self.entry(*number))
            .filter(|entry| entry.expires > now && class.is_none_or(|c| entry.classes.contains(&c)));
        let page: Vec<_> = matching.by_ref().take(limit).collect();
        (page, matching.next().is_some())
    }

    /// Everything that is not over, in the order of peer ids.
    pub fn live(&self, now: UnixMillis) -> impl Iterator<Item = &Entry> {
        self.numbers.values().filter_map(|number| self.entry(*number)).filter(move |entry| entry.expires > now)
    }

    /// Forgets what is over and returns whose it was.
    pub fn expire(&mut self, now: UnixMillis) -> Vec<PeerId> {
        let over = self.expiries.range(..=(now, u32::MAX));
        let over: Vec<PeerId> = over.filter_map(|(_, number)| Some(self.entry(*number)?.peer)).collect();
        for peer in &over {
            self.remove(peer);
        }
        over
    }

    /// How many providers are held.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// How many offers are held, each counted once for each of its prices.
    pub fn rows(&self) -> usize {
        self.rows
    }
}
