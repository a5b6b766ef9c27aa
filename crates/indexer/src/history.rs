//! The past of every rental at the followed escrows, as the chain tells it: opened by whom, from whom, how it ended. It is kept for as long
//! as it counts, and what the chain takes back is taken back here.
//!
//! All rentals are kept, not only those of providers that advertise now, so that a provider that is seen later has its past. A rental is
//! some 900 bytes with its indexes; half a year of ten thousand a day are 1.6 GB before compression.

mod follow;

pub(crate) use follow::follow;

use alloy_primitives::{Address, B256};
use market::{
    id::RentalId,
    reputation::{RentalFacts, WINDOW},
    signed::Escrow,
};
use serde::{Deserialize, Serialize};
use settlement::{Closing, Opening, RentalEvent};
use std::collections::{BTreeMap, BTreeSet};
use store::{Json, Store, StoreError, Table, TableDef};

/// How long beyond the formula's window an ended rental is kept, in seconds: nobody's clock is that wrong.
const GRACE: u64 = 86_400;
/// Rentals forgotten in one round, so that it never holds up anything else for long.
const FORGOTTEN_AT_ONCE: usize = 4_096;

/// A block up to which the record is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cursor {
    pub(crate) number: u64,
    pub(crate) hash: B256,
}

/// Where on the chain something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) block: u64,
    pub(crate) hash: B256,
}

/// One rental.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) facts: RentalFacts,
    pub(crate) opened: Place,
    /// The block of the stop.
    #[serde(default)]
    pub(crate) stopped: Option<u64>,
    #[serde(default)]
    pub(crate) closed: Option<Place>,
    /// The challenge window, in seconds: when an open rental is forgotten at last.
    pub(crate) window: u32,
}

/// How far each escrow was read.
pub(crate) struct Cursors;
impl Table for Cursors {
    const NAME: &'static str = "indexer_history_cursors";
    type Key = (u64, Address);
    type Value = Json<Cursor>;
}

/// Every rental.
pub(crate) struct Rentals;
impl Table for Rentals {
    const NAME: &'static str = "indexer_rentals";
    type Key = RentalId;
    type Value = Json<Row>;
}

/// Rentals by the key that signed their quotes, and the time of their openings.
pub(crate) struct ByKey;
impl Table for ByKey {
    const NAME: &'static str = "indexer_rentals_by_key";
    type Key = (Address, u64, RentalId);
    type Value = ();
}

/// Rentals by who paid, and the time of their openings.
pub(crate) struct ByRenter;
impl Table for ByRenter {
    const NAME: &'static str = "indexer_rentals_by_renter";
    type Key = (Address, u64, RentalId);
    type Value = ();
}

/// Rentals by escrow and by the blocks in which something happened to them: what a reorganisation takes back, and what grows old.
pub(crate) struct ByBlock;
impl Table for ByBlock {
    const NAME: &'static str = "indexer_rentals_by_block";
    type Key = ((u64, Address), u64, RentalId);
    type Value = ();
}

/// The tables of this module.
pub(crate) const TABLES: [TableDef; 5] = [
    TableDef::of::<Cursors>(),
    TableDef::of::<Rentals>(),
    TableDef::of::<ByKey>(),
    TableDef::of::<ByRenter>(),
    TableDef::of::<ByBlock>(),
];

/// What a change of the record touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changed {
    /// Whose standing may be another now: payees and the keys that signed for them.
    pub(crate) providers: BTreeSet<Address>,
    /// Rentals whose end is known now.
    pub(crate) ended: BTreeSet<RentalId>,
    /// Rentals whose opening the chain has taken back.
    pub(crate) gone: BTreeSet<RentalId>,
    /// Rentals that are too old to count.
    pub(crate) forgotten: BTreeSet<RentalId>,
}

impl Changed {
    fn touch(&mut self, facts: &RentalFacts) {
        self.providers.extend([facts.provider, facts.provider_key]);
    }
}

impl Row {
    fn of(escrow: Escrow, opening: &Opening) -> Self {
        let opened = Place { block: opening.block, hash: opening.block_hash };
        Self { facts: opening.facts(escrow), opened, stopped: None, closed: None, window: opening.quote.window }
    }

    fn close(&mut self, closing: &Closing) {
        self.facts.closed = Some(closing.facts());
        self.closed = Some(Place { block: closing.block, hash: closing.block_hash });
    }

    /// Takes back what happened after a block. `false` when nothing is left.
    fn undo_after(&mut self, block: u64) -> bool {
        if self.closed.is_some_and(|closed| closed.block > block) {
            (self.closed, self.facts.closed) = (None, None);
        }
        if self.stopped.is_some_and(|stopped| stopped > block) {
            (self.stopped, self.facts.stop_reason) = (None, None);
        }
        self.opened.block <= block
    }

    /// The newest block in which something happened, and what it was called then.
    pub(crate) fn newest_place(&self) -> Place {
        self.closed.unwrap_or(self.opened)
    }

    /// The last moment at which it can still count for anything.
    fn over(&self) -> u64 {
        let latest = self.facts.opened + u64::from(self.facts.max_seconds) + u64::from(self.window);
        self.facts.closed.map_or(latest, |closed| closed.at)
    }

    fn blocks(&self) -> impl Iterator<Item = u64> {
        [Some(self.opened.block), self.stopped, self.closed.map(|closed| closed.block)].into_iter().flatten()
    }
}

fn key_of(escrow: &Escrow) -> (u64, Address) {
    (escrow.chain, escrow.address)
}

/// Which rentals the events of a portion are about, as they are after it.
type Overlay = BTreeMap<RentalId, Row>;

/// Writes what a portion of the chain told, and how far that is, in one batch. Told again, it changes nothing.
pub(crate) fn apply(
    store: &Store,
    escrow: Escrow,
    events: &[RentalEvent],
    cursor: Cursor,
) -> Result<Changed, StoreError> {
    let (mut overlay, mut changed) = (Overlay::new(), Changed::default());
    for event in events {
        let id = event.id();
        let known = match overlay.get(&id) {
            Some(row) => Some(*row),
            None => store.get::<Rentals>(&id)?.map(|row| row.0),
        };
        let row = match (event, known) {
            (RentalEvent::Opened(opening), known) => {
                // an opening told again must not forget the end that followed it
                known.filter(|row| row.opened.block == opening.block).unwrap_or_else(|| Row::of(escrow, opening))
            }
            (RentalEvent::Stopping { reason, block, .. }, Some(mut row)) => {
                (row.stopped, row.facts.stop_reason) = (Some(*block), Some(*reason));
                row
            }
            (RentalEvent::Closed(closing), Some(mut row)) => {
                row.close(closing);
                changed.ended.insert(id);
                row
            }
            // opened before this record begins
            (_, None) => continue,
        };
        changed.touch(&row.facts);
        overlay.insert(id, row);
    }
    let mut batch = store.batch();
    for (id, row) in &overlay {
        let facts = &row.facts;
        batch.put::<Rentals>(id, &Json(*row))?;
        batch.put::<ByKey>(&(facts.provider_key, facts.opened, *id), &())?;
        batch.put::<ByRenter>(&(facts.renter, facts.opened, *id), &())?;
        for block in row.blocks() {
            batch.put::<ByBlock>(&(key_of(&escrow), block, *id), &())?;
        }
    }
    batch.put::<Cursors>(&key_of(&escrow), &Json(cursor))?;
    batch.commit()?;
    Ok(changed)
}

/// Takes back everything that happened after a block, and goes on from there.
pub(crate) fn roll_back(store: &Store, escrow: Escrow, to: Cursor) -> Result<Changed, StoreError> {
    let key = key_of(&escrow);
    let (mut changed, mut batch) = (Changed::default(), store.batch());
    let (first, last) =
        ((key, to.number + 1, RentalId(B256::ZERO)), (key, u64::MAX, RentalId(B256::repeat_byte(0xff))));
    let mut undone = BTreeSet::new();
    for entry in store.scan::<ByBlock>(first..=last)? {
        let (entry, ()) = entry?;
        batch.delete::<ByBlock>(&entry)?;
        undone.insert(entry.2);
    }
    for id in undone {
        let Some(Json(mut row)) = store.get::<Rentals>(&id)? else { continue };
        changed.touch(&row.facts);
        if row.undo_after(to.number) {
            batch.put::<Rentals>(&id, &Json(row))?;
        } else {
            remove(&mut batch, &row)?;
            changed.gone.insert(id);
        }
    }
    batch.put::<Cursors>(&key, &Json(to))?;
    batch.commit()?;
    Ok(changed)
}

fn remove(batch: &mut store::Batch<'_>, row: &Row) -> Result<(), StoreError> {
    let facts = &row.facts;
    batch.delete::<Rentals>(&facts.id)?;
    batch.delete::<ByKey>(&(facts.provider_key, facts.opened, facts.id))?;
    batch.delete::<ByRenter>(&(facts.renter, facts.opened, facts.id))?;
    for block in row.blocks() {
        batch.delete::<ByBlock>(&(key_of(&facts.escrow), block, facts.id))?;
    }
    Ok(())
}

/// Forgets rentals that were over long before `now`, the oldest first.
pub(crate) fn forget_old(store: &Store, escrow: Escrow, now: u64) -> Result<Changed, StoreError> {
    let (mut changed, mut batch) = (Changed::default(), store.batch());
    for entry in store.scan_prefix::<ByBlock, _>(&key_of(&escrow))? {
        let ((_, _, id), ()) = entry?;
        let Some(Json(row)) = store.get::<Rentals>(&id)? else { continue };
        if row.facts.opened + WINDOW + GRACE >= now || changed.forgotten.len() >= FORGOTTEN_AT_ONCE {
            // what follows happened later still
            break;
        }
        if row.over() + WINDOW + GRACE < now {
            remove(&mut batch, &row)?;
            changed.touch(&row.facts);
            changed.forgotten.insert(id);
        }
    }
    batch.commit()?;
    Ok(changed)
}

/// The rental whose newest event lies highest at or below a block: where to look whether the record and the chain still agree.
fn newest_at(store: &Store, escrow: Escrow, block: u64) -> Result<Option<Row>, StoreError> {
    let key = key_of(&escrow);
    let (first, last) = ((key, 0, RentalId(B256::ZERO)), (key, block, RentalId(B256::repeat_byte(0xff))));
    for entry in store.scan::<ByBlock>(first..=last)?.backwards() {
        let ((_, at, id), ()) = entry?;
        if let Some(Json(row)) = store.get::<Rentals>(&id)?
            && row.newest_place().block == at
        {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

#[cfg(test)]
pub(crate) mod tests;
