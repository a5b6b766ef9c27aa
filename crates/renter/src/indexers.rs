//! Asking indexers for offers. Two or three that this node is connected to are asked at once; what they give is checked as if a stranger
//! had sent it, since one has, and what holds goes into this node's own book, where the newest of each provider counts. An indexer can thus
//! leave something out, which another one shows, but it can make nothing up: one that tries is not asked again while this node runs.

use api::{
    search::Search,
    types::{IndexerRow, OfferQuery},
};
use futures::future::join_all;
use market::{
    id::PeerId,
    offer::{BindingFault, ProviderAd},
    query::{Candidate, Order, Query, Verdict},
    standing::Standing,
    time::UnixMillis,
};
use network::{
    Handle,
    ad::{self, AdFault, CheckedAd},
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use wire::{MAX_SEARCH_ROWS, proto, proto::search_response::Response};

/// The most indexers that are asked at once, whatever is configured: each answer may be a mebibyte.
pub(crate) const MAX_ASKED: usize = 8;
/// How long they may take, all together: a person waits. What has come by then counts.
const ASK_WAIT: Duration = Duration::from_secs(3);
/// Pages read of one answer: the thousand rows that a person may ask for.
const MAX_PAGES: usize = 16;
/// Indexers that are remembered: more than a node is connected to in a day.
const MAX_REMEMBERED: usize = 1_024;

/// What came of asking the indexers so far.
#[derive(Debug, Default)]
pub(crate) struct Indexers(Mutex<HashMap<PeerId, IndexerRow>>);

/// An offer at one of its prices, by what it is called.
type RowKey = (PeerId, String, u32);

/// What one indexer has answered, checked.
#[derive(Debug, Default)]
struct Answer {
    ads: Vec<CheckedAd>,
    rows: Vec<Found>,
    /// Rows that do not meet the query, or point nowhere.
    wrong: usize,
    forged: Option<AdFault>,
    /// Whether there was more than was asked for.
    cut: bool,
}

/// A row that holds.
#[derive(Clone, Debug)]
struct Found {
    ad: Arc<ProviderAd>,
    offer: usize,
    price: usize,
    /// What the indexer says of the provider.
    standing: Option<Standing>,
}

impl Found {
    fn candidate(&self) -> Option<Candidate<'_>> {
        let offer = self.ad.offers.get(self.offer)?;
        Some(Candidate { ad: &self.ad, offer, price: offer.prices.get(self.price)?, standing: self.standing })
    }

    fn key(&self) -> RowKey {
        let name = self.ad.offers.get(self.offer).map_or_else(String::new, |offer| offer.name.clone());
        (self.ad.peer, name, u32::try_from(self.price).unwrap_or(u32::MAX))
    }

    fn comes_before(&self, other: &Self, order: &Order) -> bool {
        self.candidate().zip(other.candidate()).is_some_and(|(a, b)| order.compare(&a, &b).is_lt())
    }
}

impl Indexers {
    fn lock(&self) -> MutexGuard<'_, HashMap<PeerId, IndexerRow>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What came of asking each so far, by peer.
    pub(crate) fn rows(&self) -> Vec<IndexerRow> {
        let mut rows: Vec<_> = self.lock().values().cloned().collect();
        rows.sort_by(|a, b| a.peer.cmp(&b.peer));
        rows
    }

    /// Asks up to `most` of the connected indexers, and puts what holds into the node's book. A query that cannot be read is for others to
    /// complain about.
    pub(crate) async fn ask(&self, network: &Handle, query: &OfferQuery, most: usize) {
        let Ok(search) = Search::parse(query) else { return };
        let chosen = self.choose(&network.indexers(), most.min(MAX_ASKED));
        let asking = chosen.into_iter().map(|peer| {
            let search = search.clone();
            async move { (peer, ask_one(network, peer, query, search).await) }
        });
        let answers = join_all(asking).await;
        let news = news(network, &answers);
        if !news.is_empty() && network.load_ads(news).await.is_err() {
            tracing::debug!("the network ended meanwhile");
        }
        believe(network, &answers);
        self.note(answers, search.of(&|_, _| true).order);
    }

    /// Those that were asked least often, so that in time every one is heard.
    fn choose(&self, connected: &[PeerId], most: usize) -> Vec<PeerId> {
        let known = self.lock();
        let asked = |peer: &PeerId| known.get(peer).map_or(0, |row| row.asked);
        let distrusted = |peer: &PeerId| known.get(peer).is_some_and(|row| row.distrusted);
        let mut chosen: Vec<_> = connected.iter().filter(|peer| !distrusted(peer)).copied().collect();
        chosen.sort_by_key(|peer| (asked(peer), peer.to_bytes()));
        chosen.truncate(most);
        chosen
    }

    /// Takes note of who answered what, and of what each left out that another had.
    fn note(&self, answers: Vec<(PeerId, Result<Answer, String>)>, order: &Order) {
        let mut all: BTreeMap<RowKey, Found> = BTreeMap::new();
        for row in answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).flat_map(|answer| &answer.rows) {
            all.entry(row.key()).or_insert_with(|| row.clone());
        }
        let mut known = self.lock();
        if known.len() >= MAX_REMEMBERED {
            known.retain(|_, row| row.distrusted);
        }
        if known.len() >= MAX_REMEMBERED {
            // whoever makes up a thousand liars is asked again, and found out again
            known.clear();
        }
        for (peer, answer) in answers {
            let row =
                known.entry(peer).or_insert_with(|| IndexerRow { peer: peer.to_base58(), ..IndexerRow::default() });
            row.asked += 1;
            match answer {
                Err(error) => row.failure = Some(error),
                Ok(answer) => {
                    row.failure = None;
                    row.rows = answer.rows.len();
                    row.missing = missing(&answer, all.values(), order);
                    row.wrong += answer.wrong as u64;
                    if let Some(fault) = answer.forged {
                        tracing::warn!(%peer, %fault, "an indexer gave a forged advertisement, and is not asked again");
                        row.forged += 1;
                        row.distrusted = true;
                    }
                }
            }
        }
    }
}

/// How many rows an answer left out that others had, as far as it went.
fn missing<'a>(answer: &Answer, all: impl Iterator<Item = &'a Found>, order: &Order) -> usize {
    let own: BTreeSet<_> = answer.rows.iter().map(Found::key).collect();
    let last = answer.rows.last().filter(|_| answer.cut);
    let within = |row: &&Found| last.is_none_or(|last| row.comes_before(last, order));
    all.filter(within).filter(|row| !own.contains(&row.key())).count()
}

/// The answers of those that forged nothing.
fn honest(answers: &[(PeerId, Result<Answer, String>)]) -> impl Iterator<Item = &Answer> {
    answers.iter().filter_map(|(_, answer)| answer.as_ref().ok()).filter(|answer| answer.forged.is_none())
}

/// The newest advertisement of each provider, but for what stands in the book already.
fn news(network: &Handle, answers: &[(PeerId, Result<Answer, String>)]) -> Vec<Vec<u8>> {
    let mut newest: HashMap<PeerId, &CheckedAd> = HashMap::new();
    for checked in honest(answers).flat_map(|answer| &answer.ads) {
        let held = newest.entry(checked.ad.peer).or_insert(checked);
        if checked.ad.seq > held.ad.seq {
            *held = checked;
        }
    }
    network.read_book(|book| {
        let is_news = |checked: &&&CheckedAd| book.get(&checked.ad.peer).is_none_or(|entry| entry.seq < checked.ad.seq);
        newest.values().filter(is_news).map(|checked| checked.raw.to_vec()).collect()
    })
}

/// Writes down what indexers say of providers: where they differ the least flattering, so that none can praise alone.
fn believe(network: &Handle, answers: &[(PeerId, Result<Answer, String>)]) {
    let mut least: HashMap<PeerId, Standing> = HashMap::new();
    for found in honest(answers).flat_map(|answer| &answer.rows) {
        let Some(standing) = found.standing else { continue };
        let held = least.entry(found.ad.peer).or_insert(standing);
        // what is not known comes before any share
        if standing.reliability < held.reliability {
            *held = standing;
        }
    }
    for (peer, standing) in least {
        network.set_standing(&peer, standing);
    }
}

/// Reads the pages of one indexer's answer, as far as they are wanted and there is time.
async fn ask_one(network: &Handle, peer: PeerId, query: &OfferQuery, search: Search) -> Result<Answer, String> {
    let (wanted, search) = (search.limit(), Arc::new(search));
    let deadline = tokio::time::Instant::now() + ASK_WAIT;
    let (mut answer, mut cursor) = (Answer::default(), String::new());
    for page in 0..MAX_PAGES {
        let limit = (wanted - answer.rows.len().min(wanted)).min(MAX_SEARCH_ROWS);
        let request = proto::SearchRequest {
            query: query.query.clone(),
            order: query.order.clone(),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            cursor: std::mem::take(&mut cursor),
            job: query.job.clone(),
            rates: query.rates.clone(),
        };
        let asked = tokio::time::timeout_at(deadline, network.ask_search(peer, request)).await;
        let read = match asked {
            Err(_) => Err(format!("no answer within {} s", ASK_WAIT.as_secs())),
            Ok(Err(error)) => Err(error.to_string()),
            Ok(Ok(response)) => match response.response {
                Some(Response::Page(page)) => Ok(page),
                Some(Response::Refusal(refusal)) => Err(format!("refused: {}", wire::refusal_from_proto(refusal))),
                None => Err("an empty answer".to_owned()),
            },
        };
        let read = match read {
            Ok(read) => read,
            // what came before counts all the same
            Err(_) if page > 0 => break,
            Err(error) => return Err(error),
        };
        cursor.clone_from(&read.next);
        let search = Arc::clone(&search);
        let checking = move || check(read, search.of(&|_, _| true).query, UnixMillis::now());
        let checked = tokio::task::spawn_blocking(checking).await;
        let checked = checked.map_err(|error| error.to_string())?;
        answer.cut = !cursor.is_empty();
        answer.wrong += checked.wrong;
        answer.ads.extend(checked.ads);
        answer.rows.extend(checked.rows);
        answer.forged = answer.forged.or(checked.forged);
        if cursor.is_empty() || answer.rows.len() >= wanted || answer.forged.is_some() {
            break;
        }
    }
    Ok(answer)
}

/// What of a page holds: every signature is checked, and the query is evaluated again.
fn check(page: proto::SearchPage, conditions: &Query, now: UnixMillis) -> Answer {
    let mut answer = Answer::default();
    let (mut opened, mut standings) = (Vec::new(), Vec::new());
    for sent in page.ads.into_iter().take(MAX_SEARCH_ROWS) {
        standings.push(sent.standing.as_ref().map(wire::standing_from_proto));
        opened.push(match ad::open(&sent.envelope, now) {
            Ok(checked) if checked.ad.expires > now => Some(checked),
            Ok(_) => None,
            Err(fault) if is_forged(&fault) => {
                answer.forged.get_or_insert(fault);
                None
            }
            // of a newer version, or over: nobody's fault
            Err(_) => None,
        });
    }
    let shared: Vec<_> = opened.iter().map(|ad| ad.as_ref().map(|checked| Arc::new(checked.ad.clone()))).collect();
    for row in page.rows.iter().take(MAX_SEARCH_ROWS) {
        let [ad, offer, price] =
            [row.ad, row.offer, row.price].map(|place| usize::try_from(place).unwrap_or(usize::MAX));
        match shared.get(ad) {
            Some(Some(shared)) => {
                let standing = standings.get(ad).copied().flatten();
                let found = Found { ad: Arc::clone(shared), offer, price, standing };
                let meets = found.candidate().is_some_and(|candidate| conditions.verdict(&candidate) == Verdict::Yes);
                if meets {
                    answer.rows.push(found);
                } else {
                    answer.wrong += 1;
                }
            }
            Some(None) => {}
            None => answer.wrong += 1,
        }
    }
    answer.ads = opened.into_iter().flatten().collect();
    answer
}

/// Whether only somebody who lies gives this away.
const fn is_forged(fault: &AdFault) -> bool {
    matches!(fault, AdFault::Envelope | AdFault::WrongKey | AdFault::Binding(BindingFault::Signature))
}

#[cfg(test)]
pub(crate) mod tests;
