//! Answering searches: which offers of the book meet a query, a page at a time, with the advertisements they stand in as their providers
//! signed them. Over the peer protocol here, over HTTP in [`crate::http`]; both from [`Searches::page`].
//!
//! Whoever asks need not believe any of it: the rows point into signed advertisements, and the query can be evaluated again. What it cannot
//! see is what was left out, which is why renters ask several indexers.

use crate::{book::DiskBook, figures::Figures};
use api::{
    search::Search,
    types::{ApiError, ErrorKind, OfferQuery, OfferRow},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use market::{
    book::{Book, Cursor, Hit},
    id::PeerId,
    refusal::{Refusal, RefusalCode},
    standing::Standing,
    time::UnixMillis,
};
use network::{Handle, IncomingSearch, ad};
use std::{collections::HashMap, sync::Arc};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use wire::{MAX_SEARCH_ROWS, proto};

/// The longest cursor: a row as far as sixteen sort keys look at it.
const MAX_CURSOR_BYTES: usize = 4 * 1024;
/// Searches evaluated at once: each may use a core for milliseconds, and the network needs one too.
const MAX_SEARCHES_AT_ONCE: usize = 4;

/// A page of an answer.
#[derive(Clone, Debug)]
pub struct Page {
    search: Search,
    /// What matches, best first.
    pub rows: Vec<Row>,
    /// The advertisements that the rows point into, each once.
    pub ads: Vec<PageAd>,
    /// The cursor of the next page.
    pub next: Option<String>,
    /// Offers held in all, each counted once for each of its prices.
    pub held: usize,
}

/// An offer at one of its prices, by reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its advertisement's place in [`Page::ads`].
    pub ad: usize,
    /// Which offer of it, and which price.
    pub hit: Hit,
}

/// An advertisement in an answer.
#[derive(Clone, Debug)]
pub struct PageAd {
    /// Whose it is.
    pub peer: PeerId,
    /// As it was signed.
    pub raw: Arc<[u8]>,
    /// When it was taken: from then on it is there after any restart. `None` while it is being written.
    pub updated_at: Option<u64>,
    /// What is known of its provider.
    pub standing: Option<Standing>,
}

impl Page {
    /// The rows as people read them.
    pub fn shown(&self) -> impl Iterator<Item = (Row, OfferRow)> {
        let read: Vec<_> = self.ads.iter().map(|ad| ad::read(&ad.raw).ok().map(Arc::new)).collect();
        self.rows.iter().filter_map(move |row| {
            let found = row.hit.of(read.get(row.ad)?.as_ref()?)?;
            Some((*row, self.search.row(&found)))
        })
    }
}

/// Answers searches. Clones share their bounds.
#[derive(Clone)]
pub struct Searches {
    network: Handle,
    book: Arc<DiskBook>,
    figures: Arc<Figures>,
    places: Arc<Semaphore>,
}

impl Searches {
    /// Over the network's book, of which `book` is the disk's side.
    pub fn new(network: Handle, book: Arc<DiskBook>, figures: Arc<Figures>) -> Self {
        Self { network, book, figures, places: Arc::new(Semaphore::new(MAX_SEARCHES_AT_ONCE)) }
    }

    /// A page of what matches, from where the page before ended.
    pub async fn page(&self, asked: &OfferQuery, cursor: &str) -> Result<Page, ApiError> {
        let found = self.evaluate(asked, cursor).await;
        match &found {
            Ok(_) => self.figures.searches.add(1),
            Err(_) => self.figures.refused.add(1),
        }
        found
    }

    async fn evaluate(&self, asked: &OfferQuery, cursor: &str) -> Result<Page, ApiError> {
        let search = Search::parse(asked)?;
        let after = if cursor.is_empty() { None } else { Some(read_cursor(cursor)?) };
        let failed = |why: String| ApiError::new(ErrorKind::Failed, why, "try again, or ask another indexer");
        // the semaphore is never closed
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|error| failed(error.to_string()))?;
        let this = self.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _place = place;
            this.find(search, after.as_ref())
        });
        work.await.map_err(|error| failed(error.to_string()))
    }

    fn find(&self, search: Search, after: Option<&Cursor>) -> Page {
        let limit = search.limit().min(MAX_SEARCH_ROWS);
        let (rows, ads, next, held) = self.network.read_book(|book| {
            let found = book.search(&search.of(&|_, _| true), after, limit);
            let (rows, ads) = self.gather(book, &found.hits);
            (rows, ads, found.next, book.rows())
        });
        let next = next.and_then(|cursor| Some(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&cursor).ok()?)));
        Page { search, rows, ads, next, held }
    }

    /// The rows, and the advertisements that they stand in, each once. What is over and not yet forgotten is left out.
    fn gather(&self, book: &Book, hits: &[Hit]) -> (Vec<Row>, Vec<PageAd>) {
        let now = UnixMillis::now();
        let (mut rows, mut ads, mut places) = (Vec::new(), Vec::new(), HashMap::new());
        for hit in hits {
            let Some(entry) = book.get(&hit.peer).filter(|entry| entry.expires > now) else { continue };
            let ad = *places.entry(hit.peer).or_insert_with(|| {
                let updated_at = self.book.updated_at(&entry.peer, entry.seq);
                let (peer, raw) = (entry.peer, Arc::clone(&entry.raw));
                ads.push(PageAd { peer, raw, updated_at, standing: entry.standing });
                ads.len() - 1
            });
            rows.push(Row { ad, hit: *hit });
        }
        (rows, ads)
    }

    /// Answers peers until cancelled.
    pub async fn serve(self, mut asked: mpsc::Receiver<IncomingSearch>, cancel: CancellationToken) {
        let mut answering = JoinSet::new();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                Some(_) = answering.join_next() => {}
                Some(incoming) = asked.recv(), if answering.len() < MAX_SEARCHES_AT_ONCE => {
                    let this = self.clone();
                    answering.spawn(async move { this.answer(incoming).await });
                }
                else => return,
            }
        }
    }

    async fn answer(&self, incoming: IncomingSearch) {
        use proto::search_response::Response;
        let proto::SearchRequest { query, order, limit, cursor, job, rates } = incoming.request;
        let limit = usize::try_from(limit).unwrap_or(MAX_SEARCH_ROWS);
        let response = match self.page(&OfferQuery { query, order, limit, job, rates }, &cursor).await {
            Ok(page) => Response::Page(page_to_proto(&page)),
            Err(error) => Response::Refusal(wire::refusal_to_proto(&refusal(&error))),
        };
        incoming.reply.send(proto::SearchResponse { response: Some(response) });
    }
}

fn refusal(error: &ApiError) -> Refusal {
    let code = if error.kind == ErrorKind::Usage { RefusalCode::BadRequest } else { RefusalCode::Internal };
    Refusal::new(code, format!("{}; {}", error.message, error.next))
}

/// A cursor is the last row of a page; what it looks like is nobody's business.
fn read_cursor(text: &str) -> Result<Cursor, ApiError> {
    let decoded =
        Some(text).filter(|text| text.len() <= MAX_CURSOR_BYTES).and_then(|text| URL_SAFE_NO_PAD.decode(text).ok());
    let cursor = decoded.and_then(|json| serde_json::from_slice(&json).ok());
    cursor.ok_or_else(|| ApiError::new(ErrorKind::Usage, "the cursor is none of ours", "begin without one"))
}

fn page_to_proto(page: &Page) -> proto::SearchPage {
    // a page has a few dozen of each
    let short = |place: usize| u32::try_from(place).unwrap_or(u32::MAX);
    let ads = page.ads.iter().map(|ad| proto::SearchAd {
        envelope: ad.raw.to_vec(),
        updated_at: ad.updated_at.unwrap_or_default(),
        standing: ad.standing.as_ref().map(wire::standing_to_proto),
    });
    let row =
        |row: &Row| proto::SearchRow { ad: short(row.ad), offer: short(row.hit.offer), price: short(row.hit.price) };
    proto::SearchPage {
        rows: page.rows.iter().map(row).collect(),
        ads: ads.collect(),
        next: page.next.clone().unwrap_or_default(),
        held: page.held as u64,
    }
}
