//! How much of an asker's own past leads to a provider, from the record of the chain (see [`market::reputation::trust`]).

use super::{Standings, keys};
use crate::{
    history::{ByRenter, Rentals, Row},
    ratings::rating_of,
};
use alloy_primitives::Address;
use market::reputation::trust::{Dealings, Neighbourhood, nearest, seconds_of};
use std::collections::BTreeMap;
use store::{Json, Store, StoreError};

/// Rentals of one renter, or of one provider, that are looked at for paths: the newest.
const MAX_PATH_RENTALS: usize = 1_024;

impl Standings {
    /// The seconds of `asker`'s own past that lead to the provider: rented there, or flowing there through others. Blocks, as
    /// [`Self::of_wallet`] does.
    pub fn trusted_seconds(&self, asker: Address, wallet: Address, now: u64) -> Result<u64, StoreError> {
        let own = nearest(self.rented_by(asker, now)?);
        let mut renters = BTreeMap::new();
        for provider in own.keys().filter(|provider| **provider != wallet) {
            renters.insert(*provider, nearest(self.rented_from(*provider, now)?));
        }
        let subject = self.rented_from(wallet, now)?;
        Ok(Neighbourhood { own, renters, subject }.trusted_seconds(asker, wallet))
    }

    fn rented_from(&self, wallet: Address, now: u64) -> Result<Dealings, StoreError> {
        let mut dealings = Dealings::new();
        for row in self.rentals_of(wallet)?.iter().take(MAX_PATH_RENTALS) {
            *dealings.entry(row.facts.renter).or_default() += self.speaking_for(row, now)?;
        }
        Ok(dealings)
    }

    fn rented_by(&self, renter: Address, now: u64) -> Result<Dealings, StoreError> {
        let store = &self.inner.store;
        let mut dealings = Dealings::new();
        for entry in store.scan_prefix::<ByRenter, _>(&renter)?.backwards().take(MAX_PATH_RENTALS) {
            let ((_, _, id), ()) = entry?;
            let Some(Json(row)) = store.get::<Rentals>(&id)? else { continue };
            if let Some(owner) = owner(store, &row)? {
                *dealings.entry(owner).or_default() += self.speaking_for(&row, now)?;
            }
        }
        Ok(dealings)
    }

    fn speaking_for(&self, row: &Row, now: u64) -> Result<u64, StoreError> {
        let rating = rating_of(&self.inner.store, row)?.and_then(|rating| rating.statement.stars);
        Ok(seconds_of(&row.facts, rating, now))
    }
}

/// The wallet whose doing a rental is.
pub(crate) fn owner(store: &Store, row: &Row) -> Result<Option<Address>, StoreError> {
    let (payee, key) = (row.facts.provider, row.facts.provider_key);
    if keys::of(store, payee)?.contains(&key) {
        return Ok(Some(payee));
    }
    // a wallet that signs its quotes itself may have another account paid
    Ok(keys::has_bound(store, key)?.then_some(key))
}
