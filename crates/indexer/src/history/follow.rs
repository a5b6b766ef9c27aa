//! Reads an escrow from the beginning of what counts to its newest block, in bounded portions and again and again, and puts what it tells
//! into the record. Where it stopped is on disk together with what it had read. When the chain changes its mind the record goes back to
//! where both agree.

use super::{Changed, Cursor, Cursors, apply, forget_old, key_of, newest_at, roll_back};
use crate::{Error, Standings};
use market::{reputation::WINDOW, time::UnixMillis};
use settlement::{Chain, Head, LOG_RANGE, REORG_DEPTH};
use std::time::Duration;
use store::{Store, crash_point};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// How often what is too old is looked for: a day's worth goes in a few rounds.
const FORGET_EVERY: Duration = Duration::from_secs(3_600);

/// One escrow, being read.
pub(crate) struct Reader {
    chain: Chain,
    store: Store,
    cursor: Option<Cursor>,
    /// Blocks in one question: halved when an endpoint finds the answer too long, and doubled again up to what endpoints allow.
    span: u64,
}

/// What a round of reading came to.
pub(crate) struct Read {
    pub(crate) changed: Changed,
    /// Whether more is to be read at once.
    pub(crate) more: bool,
}

impl Reader {
    pub(crate) async fn open(chain: Chain, store: Store) -> Result<Self, Error> {
        let key = key_of(&chain.escrow());
        let cursor = store.run(move |store| store.get::<Cursors>(&key)).await?.map(|cursor| cursor.0);
        Ok(Self { chain, store, cursor, span: LOG_RANGE })
    }

    /// Reads the next portion, or goes back when the last is not part of the chain any more.
    pub(crate) async fn read(&mut self) -> Result<Read, Error> {
        let head = self.chain.confirmed_head().await?;
        let Some(cursor) = self.cursor else { return self.begin(&head).await };
        if head.number < cursor.number {
            // an endpoint that lags behind, or a chain that went back: which of them shows when it has grown past the cursor
            return Ok(Read { changed: Changed::default(), more: false });
        }
        let there = if cursor.number == head.number { Some(head) } else { self.chain.block_at(cursor.number).await? };
        if there.is_some_and(|block| block.hash != cursor.hash) {
            return self.go_back(cursor).await;
        }
        if cursor.number == head.number {
            return Ok(Read { changed: Changed::default(), more: false });
        }
        self.advance(cursor, &head).await
    }

    /// Begins with the first block that can matter.
    async fn begin(&mut self, head: &Head) -> Result<Read, Error> {
        let since = UnixMillis::now().seconds().saturating_sub(WINDOW);
        let first = self.chain.first_block_since(since).await?.min(head.number);
        info!(chain = ?self.chain, from = first, until = head.number, "reading the escrow's past");
        // the block before, which is read; the genesis block has no events
        let before = first.saturating_sub(1);
        if let Some(block) = self.chain.block_at(before).await? {
            self.cursor = Some(Cursor { number: before, hash: block.hash });
        }
        Ok(Read { changed: Changed::default(), more: self.cursor.is_some() })
    }

    async fn advance(&mut self, cursor: Cursor, head: &Head) -> Result<Read, Error> {
        let until = head.number.min(cursor.number + self.span);
        let events = match self.chain.escrow_events(cursor.number + 1, until).await {
            Ok(events) => events,
            Err(error) => {
                self.span = (self.span / 2).max(1);
                return Err(error.into());
            }
        };
        self.span = (self.span * 2).min(LOG_RANGE);
        debug!(from = cursor.number + 1, until, events = events.len(), "read the escrow's events");
        let end = if until == head.number { Some(*head) } else { self.chain.block_at(until).await? };
        let Some(end) = end else { return Ok(Read { changed: Changed::default(), more: false }) };
        let (next, escrow) = (Cursor { number: until, hash: end.hash }, self.chain.escrow());
        crash_point("indexer", "history", "read");
        let changed = self.store.run(move |store| apply(store, escrow, &events, next)).await?;
        crash_point("indexer", "history", "written");
        self.cursor = Some(next);
        Ok(Read { changed, more: until < head.number })
    }

    /// Goes back by the depth that is usual, and further while what is on record there is not what the chain has there.
    async fn go_back(&mut self, cursor: Cursor) -> Result<Read, Error> {
        let escrow = self.chain.escrow();
        let mut number = cursor.number.saturating_sub(REORG_DEPTH);
        while let Some(row) = self.store.run(move |store| newest_at(store, escrow, number)).await? {
            let place = row.newest_place();
            match self.chain.block_at(place.block).await? {
                Some(block) if block.hash == place.hash => break,
                _ => number = place.block.saturating_sub(REORG_DEPTH),
            }
        }
        let missing = Read { changed: Changed::default(), more: false };
        let Some(block) = self.chain.block_at(number).await? else { return Ok(missing) };
        info!(chain = ?self.chain, from = cursor.number, to = number, "the chain was reorganised; taking back what followed");
        let to = Cursor { number, hash: block.hash };
        let changed = self.store.run(move |store| roll_back(store, escrow, to)).await?;
        self.cursor = Some(to);
        Ok(Read { changed, more: true })
    }
}

/// Follows one escrow until told to end. The standings hear of every change.
pub(crate) async fn follow(chain: Chain, standings: Standings, cancel: CancellationToken) {
    let mut tick = tokio::time::interval(chain.config().poll_interval());
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let follow = async {
        let mut reader = None;
        let mut forget_at = Instant::now();
        loop {
            tick.tick().await;
            if let Err(error) = round(&chain, &standings, &mut reader).await {
                warn!(?chain, %error, "the escrow's past could not be read; trying again");
            }
            if forget_at <= Instant::now() {
                forget_at = Instant::now() + FORGET_EVERY;
                let escrow = chain.escrow();
                match standings.store().run(move |store| forget_old(store, escrow, UnixMillis::now().seconds())).await {
                    Ok(changed) => standings.told(changed).await,
                    Err(error) => warn!(?chain, %error, "old rentals could not be forgotten"),
                }
            }
        }
    };
    tokio::select! {
        () = cancel.cancelled() => {}
        () = follow => {}
    }
}

async fn round(chain: &Chain, standings: &Standings, reader: &mut Option<Reader>) -> Result<(), Error> {
    let reader = match reader {
        Some(reader) => reader,
        None => reader.insert(Reader::open(chain.clone(), standings.store().clone()).await?),
    };
    loop {
        let read = reader.read().await?;
        standings.told(read.changed).await;
        if !read.more {
            return Ok(());
        }
    }
}
