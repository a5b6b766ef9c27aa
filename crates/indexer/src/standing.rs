//! What this indexer knows of providers, worked out from its record of the chain and its ratings. [`Standings`] is what other parts of the
//! node ask: [`Standings::of_wallet`] for one provider, [`Standings::changes`] for whose standing may have become another.

mod keys;
mod paths;

pub(crate) use keys::BoundKeys;

use crate::{
    Error,
    history::{self, ByKey, Changed, Rentals, Row},
    ratings::{Ratings, rating_of},
};
use alloy_primitives::Address;
use market::{
    class::GpuClass,
    reputation::{Case, Medians, Record, evaluate},
    standing::Standing,
    time::UnixMillis,
};
use network::{Handle, PeerId};
use settlement::Chain;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::Duration,
};
use store::{Json, Store, StoreError};
use tokio::{sync::broadcast, task::JoinSet};
use tokio_util::sync::CancellationToken;

/// Changes that wait for whoever listens; one that is slower is told that it missed some, and asks anew for all it cares for.
const CHANGES: usize = 4_096;
/// Standings kept in memory, some 500 bytes each: those of the design's providers. Beyond it all are worked out anew.
const MAX_CACHED: usize = 100_000;
/// How long one is believed: the window it looks at moves on, and so do the prices that bound volume.
const BELIEVED: Duration = Duration::from_secs(600);
/// The least pause between two looks at the market, for what is usual to pay and for keys that wallets have bound...
const LOOK_PAUSE: Duration = Duration::from_secs(2);
/// ...and how many times as long as the look itself it is, so that a full book takes no more than a twentieth of a processor.
const LOOK_REST: u32 = 20;
/// Rentals of one provider that are looked at, the newest: six a day for the whole window, on each of a hundred slots.
const MAX_CASES: usize = 100_000;

/// A provider's standing and what went into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// What follows.
    pub standing: Standing,
    /// From what.
    pub record: Record,
}

/// Whoever asks what is known of providers. Clones share everything.
#[derive(Clone)]
pub struct Standings {
    pub(crate) inner: Arc<Inner>,
}

impl std::fmt::Debug for Standings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Standings")
    }
}

pub(crate) struct Inner {
    pub(crate) store: Store,
    pub(crate) ratings: Ratings,
    cached: Mutex<HashMap<Address, (UnixMillis, Arc<Known>)>>,
    changes: broadcast::Sender<Address>,
    market: RwLock<Market>,
}

/// What the advertisements of others say, as far as it matters here.
#[derive(Default)]
struct Market {
    medians: Medians,
    classes: BTreeMap<Address, BTreeSet<GpuClass>>,
    wallets: HashMap<PeerId, Address>,
    peers: HashMap<Address, Vec<PeerId>>,
}

impl Standings {
    /// What this indexer has on disk. Nothing is followed yet: that begins with [`Self::follow`].
    pub fn open(store: Store) -> Self {
        let (changes, _) = broadcast::channel(CHANGES);
        let (ratings, cached, market) = Default::default();
        Self { inner: Arc::new(Inner { store, ratings, cached, changes, market }) }
    }

    /// Follows the escrows of `chains`, and the market for what is usual, until cancelled.
    pub async fn follow(&self, chains: Vec<Chain>, network: Handle, cancel: CancellationToken) {
        let mut tasks = JoinSet::new();
        self.inner.ratings.judge_at(chains.iter().map(Chain::escrow));
        for chain in chains {
            tasks.spawn(history::follow(chain, self.clone(), cancel.clone()));
        }
        let standings = self.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = standings.keep_looking(&network) => {}
                () = standings.keep_telling(&network) => {}
            }
        });
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "the record of the chain is not followed any more");
                // a panic is told by the daemon, which then ends; the others end with it
            }
        }
    }

    pub(crate) fn store(&self) -> &Store {
        &self.inner.store
    }

    /// The wallet that a peer's advertisement is bound to, as of the last look at the market.
    pub fn wallet_of(&self, peer: &PeerId) -> Option<Address> {
        self.market().wallets.get(peer).copied()
    }

    /// What is known of a provider, by its wallet. Blocks while the disk is read: from a task, call it with [`Store::run`] or on a thread.
    pub fn of_wallet(&self, wallet: Address) -> Result<Arc<Known>, StoreError> {
        let now = UnixMillis::now();
        if let Some((at, known)) = self.cached().get(&wallet)
            && now.since(*at) < u64::try_from(BELIEVED.as_millis()).unwrap_or(u64::MAX)
        {
            return Ok(Arc::clone(known));
        }
        let known = Arc::new(self.work_out(wallet, now)?);
        let mut cached = self.cached();
        if cached.len() >= MAX_CACHED {
            cached.clear();
        }
        cached.insert(wallet, (now, Arc::clone(&known)));
        Ok(known)
    }

    /// What is known of a provider, by its peer; `None` for a peer that does not advertise.
    pub fn of_peer(&self, peer: &PeerId) -> Result<Option<Arc<Known>>, StoreError> {
        self.wallet_of(peer).map(|wallet| self.of_wallet(wallet)).transpose()
    }

    /// Wallets whose standing may have become another; ask for it with [`Self::of_wallet`]. Addresses that are no provider's come too.
    pub fn changes(&self) -> broadcast::Receiver<Address> {
        self.inner.changes.subscribe()
    }

    fn work_out(&self, wallet: Address, now: UnixMillis) -> Result<Known, StoreError> {
        let rows = self.rentals_of(wallet)?;
        let mut rated = Vec::with_capacity(rows.len());
        for row in &rows {
            rated.push(rating_of(&self.inner.store, row)?.map(|rating| rating.statement));
        }
        let market = self.market();
        let classes: Vec<_> = market.classes.get(&wallet).into_iter().flatten().copied().collect();
        let cases = rows.iter().zip(rated).map(|(row, said)| {
            let rental = &row.facts;
            let (rating, checks) = said.map_or((None, None), |said| (said.stars, said.checks));
            Case { rental, rating, checks, median: market.medians.bound(rental.escrow, rental.token, &classes) }
        });
        let (standing, record) = evaluate(cases, now.seconds());
        Ok(Known { standing, record })
    }

    /// The newest rentals that are a wallet's own: their quotes were signed by it, or by a key that it has bound and for its account.
    pub(crate) fn rentals_of(&self, wallet: Address) -> Result<Vec<Row>, StoreError> {
        let store = &self.inner.store;
        let mut rows = Vec::new();
        for key in keys::of(store, wallet)? {
            let own = key == wallet;
            for entry in store.scan_prefix::<ByKey, _>(&key)?.backwards() {
                let ((_, _, id), ()) = entry?;
                if let Some(Json(row)) = store.get::<Rentals>(&id)?
                    && (own || row.facts.provider == wallet)
                {
                    rows.push(row);
                }
                if rows.len() >= MAX_CASES {
                    return Ok(rows);
                }
            }
        }
        Ok(rows)
    }

    /// The record of the chain has changed.
    pub(crate) async fn told(&self, changed: Changed) {
        if changed == Changed::default() {
            return;
        }
        let (standings, store) = (self.clone(), self.inner.store.clone());
        let touched = store.run(move |store| standings.inner.ratings.told(store, &changed).map(|()| changed.providers));
        match touched.await {
            Ok(providers) => self.forget(providers),
            Err(error) => tracing::warn!(%error, "ratings that waited could not be written"),
        }
    }

    /// Works the standings of these out anew when they are next asked for, and says so.
    pub(crate) fn forget(&self, wallets: impl IntoIterator<Item = Address>) {
        for wallet in wallets {
            self.cached().remove(&wallet);
            // nobody may listen
            let _ = self.inner.changes.send(wallet);
        }
    }

    /// Looks at the market whenever it has changed, until the network ends.
    async fn keep_looking(&self, network: &Handle) {
        let mut offers = network.watch_offers();
        // what the book held before anybody watched is new to us
        offers.mark_changed();
        while offers.changed().await.is_ok() {
            let began = tokio::time::Instant::now();
            if let Err(error) = self.look_around(network).await {
                tracing::warn!(%error, "the market could not be looked at");
            }
            tokio::time::sleep(LOOK_PAUSE.max(began.elapsed() * LOOK_REST)).await;
        }
    }

    /// Writes into the book that searches read what is known of whoever advertises, whenever that becomes another.
    async fn keep_telling(&self, network: &Handle) {
        let mut changes = self.changes();
        loop {
            let wallets = match changes.recv().await {
                Ok(wallet) => vec![wallet],
                // some were missed: all are told again
                Err(broadcast::error::RecvError::Lagged(_)) => self.market().peers.keys().copied().collect(),
                Err(broadcast::error::RecvError::Closed) => return,
            };
            let (standings, network) = (self.clone(), network.clone());
            let told = self.inner.store.run(move |_| standings.tell_book(&network, wallets)).await;
            if let Err(error) = told {
                tracing::warn!(%error, "a standing could not be worked out");
            }
        }
    }

    fn tell_book(&self, network: &Handle, wallets: Vec<Address>) -> Result<(), StoreError> {
        for wallet in wallets {
            let peers = self.market().peers.get(&wallet).cloned().unwrap_or_default();
            if peers.is_empty() {
                continue;
            }
            let known = self.of_wallet(wallet)?;
            for peer in peers {
                // a book that keeps no more says so itself
                network.set_standing(&peer, known.standing);
            }
        }
        Ok(())
    }

    /// Learns from the market: usual prices, classes, and which keys wallets have bound.
    async fn look_around(&self, network: &Handle) -> Result<(), Error> {
        let (standings, network) = (self.clone(), network.clone());
        let look = move |store: &Store| {
            let ads = network.offers();
            let mut market = Market { medians: Medians::of(ads.iter().map(AsRef::as_ref)), ..Market::default() };
            for ad in &ads {
                market.wallets.insert(ad.peer, ad.binding.wallet);
                market.peers.entry(ad.binding.wallet).or_default().push(ad.peer);
                market.classes.entry(ad.binding.wallet).or_default().extend(ad.classes());
            }
            let mut fresh = keys::learn(store, ads.iter().map(|ad| &ad.binding), UnixMillis::now().seconds())?;
            let mut known = standings.inner.market.write().unwrap_or_else(PoisonError::into_inner);
            let repriced = known.medians != market.medians;
            // searches hear of a newcomer that has a past
            let new = market.wallets.iter().filter(|(peer, _)| !known.wallets.contains_key(peer));
            fresh.extend(new.map(|(_, wallet)| *wallet));
            *known = market;
            drop(known);
            if repriced {
                standings.cached().clear();
            }
            Ok(fresh)
        };
        let fresh: BTreeSet<Address> = self.inner.store.run(look).await?;
        self.forget(fresh);
        Ok(())
    }

    fn cached(&self) -> MutexGuard<'_, HashMap<Address, (UnixMillis, Arc<Known>)>> {
        self.inner.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn market(&self) -> std::sync::RwLockReadGuard<'_, Market> {
        self.inner.market.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
