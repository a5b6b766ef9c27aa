//! The ratings that this indexer keeps, with what renters tell of their checks: one for each rental, the latest. A rating is taken when the record of the chain shows that its rental
//! is closed, that something was paid, and that its renter signed. One that comes before the chain shows that waits for a while.

use crate::history::{Changed, Rentals, Row};
use alloy_primitives::B256;
use market::{
    id::RentalId,
    rating::{RatingFault, SignedRating},
    signed::Escrow,
    time::UnixMillis,
};
use network::{PeerId, Taking};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};
use store::{Json, Store, StoreError, Table, TableDef};

/// Ratings that wait for the chain, each some 500 bytes.
const MAX_WAITING: usize = 4_096;
/// Of them, those that came from one peer: it takes sixty-four to fill the room.
const MAX_WAITING_OF_ONE: usize = 64;
/// How long one waits, in milliseconds: longer than any chain takes to settle an end. Its renter gives it again after that.
const WAIT: u64 = 900_000;

/// The ratings that count, as their renters signed them.
pub(crate) struct Kept;
impl Table for Kept {
    const NAME: &'static str = "indexer_ratings";
    type Key = RentalId;
    type Value = Json<SignedRating>;
}

/// The tables of this module.
pub(crate) const TABLES: [TableDef; 1] = [TableDef::of::<Kept>()];

/// The rating of a rental, if one is kept that counts by what the chain says now: an end that was taken back takes its rating along.
pub(crate) fn rating_of(store: &Store, row: &Row) -> Result<Option<SignedRating>, StoreError> {
    // who signed was checked when it was taken, and cannot change
    match row.facts.closed {
        Some(closed) if closed.paid.get() > 0 => Ok(store.get::<Kept>(&row.facts.id)?.map(|kept| kept.0)),
        _ => Ok(None),
    }
}

/// A rating that waits.
struct Waiting {
    rating: SignedRating,
    from: PeerId,
    until: UnixMillis,
}

/// Ratings that wait, and the one place where they are judged.
#[derive(Default)]
pub(crate) struct Ratings {
    /// Also held while a rating is compared with the one that is kept, so that of two at once the right one stays.
    waiting: Mutex<BTreeMap<(RentalId, B256), Waiting>>,
    /// The escrows whose record is kept here.
    judged: Mutex<BTreeSet<Escrow>>,
}

impl Ratings {
    /// Ratings of rentals at these escrows are judged; those at others are only passed on.
    pub(crate) fn judge_at(&self, escrows: impl Iterator<Item = Escrow>) {
        self.judged.lock().unwrap_or_else(PoisonError::into_inner).extend(escrows);
    }

    /// Takes a rating, or says why not. The second value is the rental, when its provider's standing is another now.
    pub(crate) fn take(
        &self,
        store: &Store,
        rating: SignedRating,
        from: PeerId,
    ) -> Result<(Taking, Option<Row>), StoreError> {
        let judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner).contains(&rating.statement.escrow);
        if !judged {
            return Ok((Taking::Waiting, None));
        }
        let mut waiting = self.waiting();
        let row = store.get::<Rentals>(&rating.statement.id)?.map(|row| row.0);
        match row.map(|row| (row, rating.check(&row.facts))) {
            Some((row, Ok(()))) => {
                let taken = keep(store, rating)?;
                Ok((taken.clone(), (taken == Taking::Kept).then_some(row)))
            }
            None | Some((_, Err(RatingFault::NotClosed))) => Ok((wait(&mut waiting, rating, from), None)),
            Some((_, Err(fault))) if fault.is_final() => Ok((Taking::Forged(fault.to_string()), None)),
            Some((_, Err(fault))) => Ok((Taking::Refused(fault.to_string()), None)),
        }
    }

    /// The record of the chain has changed: those that waited for it are judged, and those of rentals that are gone wait again.
    pub(crate) fn told(&self, store: &Store, changed: &Changed) -> Result<(), StoreError> {
        let mut waiting = self.waiting();
        let mut batch = store.batch();
        for id in &changed.gone {
            if let Some(Json(rating)) = store.get::<Kept>(id)? {
                batch.delete::<Kept>(id)?;
                // at nobody's expense: it counted a moment ago, and will again if the rental comes back
                wait(&mut waiting, rating, PeerId::random());
            }
        }
        for id in &changed.forgotten {
            batch.delete::<Kept>(id)?;
        }
        batch.commit()?;
        for id in &changed.ended {
            let Some(Json(row)) = store.get::<Rentals>(id)? else { continue };
            let first = (*id, B256::ZERO);
            let last = (*id, B256::repeat_byte(0xff));
            let due: Vec<_> = waiting.range(first..=last).map(|(key, _)| *key).collect();
            for rating in due.into_iter().filter_map(|key| waiting.remove(&key)) {
                if rating.rating.check(&row.facts).is_ok() {
                    keep(store, rating.rating)?;
                }
            }
        }
        Ok(())
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<(RentalId, B256), Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a rating, unless the one that is kept is as late or later.
fn keep(store: &Store, rating: SignedRating) -> Result<Taking, StoreError> {
    let id = rating.statement.id;
    if store.get::<Kept>(&id)?.is_some_and(|kept| !rating.supersedes(&kept)) {
        return Ok(Taking::Known);
    }
    // whoever gave it stops giving it when it hears that it is kept: so it is on the disk by then
    store.put_sync::<Kept>(&id, &Json(rating))?;
    Ok(Taking::Kept)
}

/// Lets a rating wait, if there is room.
fn wait(waiting: &mut BTreeMap<(RentalId, B256), Waiting>, rating: SignedRating, from: PeerId) -> Taking {
    let now = UnixMillis::now();
    let key = (rating.statement.id, rating.statement.digest());
    if waiting.contains_key(&key) {
        return Taking::StillWaiting;
    }
    let is_full = |waiting: &BTreeMap<_, Waiting>| {
        let of_one = waiting.values().filter(|waiting| waiting.from == from).count();
        waiting.len() >= MAX_WAITING || of_one >= MAX_WAITING_OF_ONE
    };
    if is_full(waiting) {
        waiting.retain(|_, waiting| waiting.until > now);
    }
    if is_full(waiting) {
        return Taking::Refused("too many ratings wait for the chain: give it again later".to_owned());
    }
    waiting.insert(key, Waiting { rating, from, until: now.plus(WAIT) });
    Taking::Waiting
}

#[cfg(test)]
mod tests;
