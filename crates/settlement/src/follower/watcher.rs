//! The task behind a [`super::Follower`].

use super::{ChainEvent, Cursor, Cursors, Place, REORG_DEPTH, Wanted, Wish};
use crate::{
    chain::{Chain, Head},
    error::SettlementError,
    events::{LIFE, LOG_RANGE, RentalEvent},
};
use market::{id::RentalId, rental};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};
use store::{Json, Store, crash_point};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How much is read event by event after an absence; beyond it the state of each watched rental tells all there is.
const CATCH_UP: u64 = 20 * LOG_RANGE;
/// With more rentals than this all of the escrow's events are read and sorted out here, since endpoints limit the size of a question.
const IDS_IN_A_QUESTION: usize = 200;
/// Every watched rental is compared with the chain's state about this often, by blocks...
const RECONCILE_BLOCKS: u32 = 30;
/// ...but not more often than this.
const RECONCILE_AT_LEAST: Duration = Duration::from_secs(5);
/// Rentals compared in one go, so that many of them do not hold up the news.
const RECONCILED_AT_ONCE: usize = 32;

/// What has been reported of a rental.
#[derive(Clone, Copy, Debug)]
struct Watched {
    since: u64,
    opened: Option<Place>,
    stopping: bool,
    closed: Option<Place>,
    /// What was reported may not be so any more, or is not known to be: to be looked up from the beginning.
    suspect: bool,
}

impl Watched {
    fn of(wish: Wish) -> Self {
        Self {
            // a chain that goes back may take it into a block before the one that was the newest then
            since: wish.since.saturating_sub(REORG_DEPTH),
            opened: wish.known.opened,
            stopping: false,
            closed: wish.known.closed,
            suspect: true,
        }
    }
}

/// The receiver of the events is gone.
struct Unread;

enum Stop {
    Failed(SettlementError),
    Unread,
}

impl From<SettlementError> for Stop {
    fn from(error: SettlementError) -> Self {
        Self::Failed(error)
    }
}

impl From<Unread> for Stop {
    fn from(_: Unread) -> Self {
        Self::Unread
    }
}

pub(super) struct Watcher {
    chain: Chain,
    store: Store,
    name: String,
    events: mpsc::Sender<ChainEvent>,
    cursor: Cursor,
    wanted: Wanted,
    /// The head that was reported last.
    announced: Option<u64>,
    watched: BTreeMap<RentalId, Watched>,
    /// Rentals to be compared with the chain's state, in this order.
    due: VecDeque<RentalId>,
    reconciled: Instant,
}

impl Watcher {
    pub(super) async fn load(
        chain: Chain,
        store: Store,
        name: String,
        events: mpsc::Sender<ChainEvent>,
        wanted: Wanted,
    ) -> Result<Self, SettlementError> {
        let head = chain.confirmed_head().await?;
        let key = (chain.config().chain_id, chain.config().escrow, name.clone());
        let kept = store.run(move |store| store.get::<Cursors>(&key)).await?.map(|cursor| cursor.0);
        let start = Cursor { number: head.number, hash: head.hash };
        let cursor = match kept {
            Some(kept) if kept.number <= head.number && head.number - kept.number <= CATCH_UP => kept,
            // never followed, away for long, or another chain under the same name: the state of each rental tells
            _ => start,
        };
        let (watched, due, reconciled) = (BTreeMap::new(), VecDeque::new(), Instant::now());
        Ok(Self { chain, store, name, events, wanted, cursor, announced: None, watched, due, reconciled })
    }

    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let mut tick = tokio::time::interval(self.chain.config().poll_interval());
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let follow = async {
            loop {
                tick.tick().await;
                match self.poll().await {
                    Ok(()) => {}
                    Err(Stop::Unread) => return,
                    Err(Stop::Failed(error)) => {
                        warn!(chain = ?self.chain, %error, "the chain could not be followed; trying again")
                    }
                }
            }
        };
        // Everything that may take long lies within, so that the end of the node never waits for it.
        tokio::select! {
            () = cancel.cancelled() => {}
            () = follow => {}
        }
    }

    /// Takes up what is wanted, and drops what no longer is.
    async fn take_wishes(&mut self) {
        let wanted = self.wanted.lock().await;
        self.watched.retain(|id, _| wanted.contains_key(id));
        for (id, wish) in wanted.iter() {
            self.watched.entry(*id).or_insert_with(|| {
                self.due.push_front(*id);
                Watched::of(*wish)
            });
        }
    }

    /// Reports what is new up to the newest block that counts.
    async fn poll(&mut self) -> Result<(), Stop> {
        self.take_wishes().await;
        let head = self.chain.confirmed_head().await?;
        if head.number < self.cursor.number {
            // an endpoint that lags behind, or a chain that went back: which of them shows when it has grown past the cursor
            return Ok(());
        }
        self.check_cursor(&head).await?;
        self.read_events(&head).await?;
        if self.reconciled.elapsed() >= self.reconcile_interval() {
            self.reconciled = Instant::now();
            let open = |watched: &Watched| watched.closed.is_none() || watched.suspect;
            self.due = self.watched.iter().filter(|(_, watched)| open(watched)).map(|(id, _)| *id).collect();
        }
        for _ in 0..self.due.len().min(RECONCILED_AT_ONCE) {
            let Some(id) = self.due.pop_front() else { break };
            if let Err(stop) = self.reconcile(id, &head).await {
                self.due.push_back(id);
                return Err(stop);
            }
        }
        self.settle(&head).await?;
        if self.announced != Some(head.number) {
            self.emit(ChainEvent::Head { number: head.number, timestamp: head.timestamp }).await?;
            self.announced = Some(head.number);
            self.advance(Cursor { number: head.number, hash: head.hash }).await?;
        }
        Ok(())
    }

    fn reconcile_interval(&self) -> Duration {
        self.chain.config().block_time().saturating_mul(RECONCILE_BLOCKS).max(RECONCILE_AT_LEAST)
    }

    /// When the last block read is no longer part of the chain, goes back and looks at everything anew.
    async fn check_cursor(&mut self, head: &Head) -> Result<(), Stop> {
        let stands = if self.cursor.number == head.number {
            self.cursor.hash == head.hash
        } else {
            // an endpoint that does not know the block yet lags behind: that is no reorganisation
            let block = self.chain.block_at(self.cursor.number).await?;
            block.is_none_or(|block| block.hash == self.cursor.hash)
        };
        if stands {
            return Ok(());
        }
        let number = self.cursor.number.saturating_sub(REORG_DEPTH);
        info!(chain = ?self.chain, from = self.cursor.number, to = number, "the chain was reorganised; reading again");
        if let Some(block) = self.chain.block_at(number).await? {
            self.cursor = Cursor { number, hash: block.hash };
            for watched in self.watched.values_mut() {
                (watched.suspect, watched.stopping) = (true, false);
            }
            self.due = self.watched.keys().copied().collect();
        }
        Ok(())
    }

    async fn read_events(&mut self, head: &Head) -> Result<(), Stop> {
        while self.cursor.number < head.number && !self.watched.is_empty() {
            let from = self.cursor.number + 1;
            let until = head.number.min(self.cursor.number + LOG_RANGE);
            let ids: Vec<_> = self.watched.keys().copied().collect();
            let asked = if ids.len() <= IDS_IN_A_QUESTION { &ids[..] } else { &[] };
            let events = self.chain.rental_events(&LIFE, asked, from, until).await?;
            debug!(from, until, events = events.len(), "read the escrow's events");
            for event in events {
                self.report(event).await?;
            }
            if until == head.number {
                // the caller advances past the head, together with the reports that hang on it
                break;
            }
            let Some(block) = self.chain.block_at(until).await? else { break };
            self.advance(Cursor { number: until, hash: block.hash }).await?;
        }
        Ok(())
    }

    /// Compares one rental with the escrow's state, and reports what the events have not told.
    async fn reconcile(&mut self, id: RentalId, head: &Head) -> Result<(), Stop> {
        let Some(watched) = self.watched.get(&id).copied() else { return Ok(()) };
        let state = self.chain.rental_at(id, head.number).await?;
        if watched.opened.is_none() || watched.suspect {
            // Open or over, or never opened: only the event tells the last two apart.
            match self.chain.opening(id, watched.since).await? {
                // the chain has grown meanwhile: told with its block, behind which the cursor then stands
                Some(opening) if opening.block > head.number => {
                    self.due.push_back(id);
                    return Ok(());
                }
                Some(opening) => self.report(RentalEvent::Opened(Box::new(opening))).await?,
                None if watched.opened.is_some() => return Ok(self.opening_undone(id).await?),
                None => return Ok(()),
            }
        }
        match state {
            Some(rental) => {
                if watched.closed.is_some() {
                    self.closing_undone(id).await?;
                }
                if let Some(stop_at) = rental.stop_at {
                    self.stopping(id, stop_at).await?;
                }
            }
            None => match self.chain.closing(id, watched.since).await? {
                Some(closing) if closing.block > head.number => {
                    self.due.push_back(id);
                    return Ok(());
                }
                Some(closing) => self.report(RentalEvent::Closed(Box::new(closing))).await?,
                // between two answers of the chain: looked at again
                None => return Ok(()),
            },
        }
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.suspect = false;
        }
        Ok(())
    }

    async fn opening_undone(&mut self, id: RentalId) -> Result<(), Unread> {
        warn!(chain = ?self.chain, rental = %id.short(), "the chain went back: the rental is not open any more");
        if let Some(watched) = self.watched.get_mut(&id) {
            (watched.opened, watched.stopping, watched.closed) = (None, false, None);
        }
        self.emit(ChainEvent::OpeningUndone { id }).await
    }

    async fn closing_undone(&mut self, id: RentalId) -> Result<(), Unread> {
        warn!(chain = ?self.chain, rental = %id.short(), "the chain went back: the rental is open again");
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.closed = None;
        }
        self.emit(ChainEvent::ClosingUndone { id }).await
    }

    /// Forgets the rentals whose end is so deep that it stands.
    async fn settle(&mut self, head: &Head) -> Result<(), Unread> {
        let deep = |w: &Watched| !w.suspect && w.closed.is_some_and(|end| head.number >= end.block + REORG_DEPTH);
        let settled: Vec<_> = self.watched.iter().filter(|(_, watched)| deep(watched)).map(|(id, _)| *id).collect();
        for id in settled {
            self.emit(ChainEvent::Settled { id }).await?;
            self.watched.remove(&id);
            self.wanted.lock().await.remove(&id);
        }
        Ok(())
    }

    /// Passes an event of a watched rental on, unless it was reported already.
    async fn report(&mut self, event: RentalEvent) -> Result<(), Unread> {
        let id = event.id();
        let Some(watched) = self.watched.get_mut(&id) else { return Ok(()) };
        if watched.opened.is_none() && !matches!(event, RentalEvent::Opened(_)) {
            // the opening lies before the cursor: the comparison reports both in their order
            self.due.push_front(id);
            return Ok(());
        }
        match event {
            RentalEvent::Opened(opening) => {
                let opening = rental::Opening::from(&*opening);
                let place = Some(Place::from(&opening));
                if std::mem::replace(&mut watched.opened, place) != place {
                    self.emit(ChainEvent::Opened { id, opening }).await?;
                }
            }
            RentalEvent::Stopping { id, stop_at, .. } => self.stopping(id, stop_at).await?,
            RentalEvent::Closed(closing) => {
                let closing = rental::Closing::from(&*closing);
                let place = Some(Place::from(&closing));
                if std::mem::replace(&mut watched.closed, place) != place {
                    self.emit(ChainEvent::Closed { id, closing }).await?;
                }
            }
        }
        Ok(())
    }

    /// Reports a stop, unless it was reported already.
    async fn stopping(&mut self, id: RentalId, stop_at: u32) -> Result<(), Unread> {
        let Some(watched) = self.watched.get_mut(&id) else { return Ok(()) };
        if !std::mem::replace(&mut watched.stopping, true) {
            self.emit(ChainEvent::Stopping { id, stop_at }).await?;
        }
        Ok(())
    }

    async fn emit(&self, event: ChainEvent) -> Result<(), Unread> {
        self.events.send(event).await.map_err(|_| Unread)
    }

    async fn advance(&mut self, cursor: Cursor) -> Result<(), SettlementError> {
        self.cursor = cursor;
        let key = (self.chain.config().chain_id, self.chain.config().escrow, self.name.clone());
        crash_point(&self.name, "cursor", "advancing");
        // not a promise: an older cursor only means reading twice
        self.store.run(move |store| store.put::<Cursors>(&key, &Json(cursor))).await?;
        crash_point(&self.name, "cursor", "advanced");
        Ok(())
    }
}
