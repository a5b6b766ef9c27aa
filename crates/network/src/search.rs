//! Searching the market: the book finds, and only what is shown is read from its envelope, after the book is let go.

use crate::{Handle, ad};
use libp2p::PeerId;
use market::{
    book::{Book, Cursor, Explanation, Hit, Match, Search, Total},
    offer::ProviderAd,
    time::UnixMillis,
};
use std::{collections::BTreeMap, sync::Arc};

/// Offers that were found, as their providers signed them.
#[derive(Clone, Debug)]
pub struct Page {
    /// Best first.
    pub matches: Vec<Match>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
    /// How many there are from this page on.
    pub total: Total,
}

impl Handle {
    /// The offers that meet a search, best first.
    pub fn search(&self, search: &Search<'_>, after: Option<&Cursor>, limit: usize) -> Page {
        let (found, envelopes) = self.read_book(|book| {
            let found = book.search(search, after, limit);
            let envelopes = envelopes(book, found.hits.iter());
            (found, envelopes)
        });
        let ads = read(&envelopes);
        let matches = found.hits.iter().filter_map(|hit| hit.of(ads.get(&hit.peer)?)).collect();
        Page { matches, next: found.next, total: found.total }
    }

    /// Why a search finds so little, with at most `near` near misses: each with the offer, unless that has expired meanwhile.
    pub fn explain(&self, search: &Search<'_>, near: usize) -> (Explanation, Vec<Option<Match>>) {
        let (told, envelopes) = self.read_book(|book| {
            let told = book.explain(search, near);
            let envelopes = envelopes(book, told.near.iter().map(|miss| &miss.hit));
            (told, envelopes)
        });
        let ads = read(&envelopes);
        let near = told.near.iter().map(|miss| miss.hit.of(ads.get(&miss.hit.peer)?)).collect();
        (told, near)
    }
}

/// The envelopes of what was found and is not over, each once.
fn envelopes<'a>(book: &Book, hits: impl Iterator<Item = &'a Hit>) -> BTreeMap<PeerId, Arc<[u8]>> {
    let now = UnixMillis::now();
    let live = hits.filter_map(|hit| book.get(&hit.peer)).filter(|entry| entry.expires > now);
    live.map(|entry| (entry.peer, Arc::clone(&entry.raw))).collect()
}

fn read(envelopes: &BTreeMap<PeerId, Arc<[u8]>>) -> BTreeMap<PeerId, Arc<ProviderAd>> {
    envelopes.iter().filter_map(|(peer, raw)| Some((*peer, Arc::new(ad::read(raw).ok()?)))).collect()
}
