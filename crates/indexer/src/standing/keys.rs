//! Which keys sign quotes for which wallets, by the wallets' own bindings. The chain cannot tell: an escrow opens any quote for any payee,
//! so that a rental in somebody's name is somebody's doing only when one of these keys signed it. Bindings are learnt from advertisements
//! and kept beside the rentals, since a provider may change its key and keeps its past.

use alloy_primitives::Address;
use market::{offer::Binding, quote::MAX_RENTAL_SECONDS, reputation::WINDOW};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use store::{Json, Store, StoreError, Table};

/// Keys of one wallet that are looked at: one a month for years.
const MAX_KEYS: usize = 32;
/// A key is written again when it was last seen so many seconds ago, so that one in use is not forgotten.
const SEEN_AGAIN: u64 = 86_400;
/// A key that no advertisement has named for so many seconds cannot have signed anything that still counts.
const UNSEEN: u64 = WINDOW + MAX_RENTAL_SECONDS as u64;

/// Bindings, by wallet and key.
pub(crate) struct BoundKeys;
impl Table for BoundKeys {
    const NAME: &'static str = "indexer_bound_keys";
    type Key = (Address, Address);
    type Value = Json<Bound>;
}

/// When a binding was seen, and the binding itself: it is the wallet's signed statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bound {
    seen: u64,
    binding: Binding,
}

/// The keys that sign for a wallet: its own, and those it has bound.
pub(super) fn of(store: &Store, wallet: Address) -> Result<BTreeSet<Address>, StoreError> {
    let mut keys = BTreeSet::from([wallet]);
    for entry in store.scan_prefix::<BoundKeys, _>(&wallet)?.take(MAX_KEYS) {
        keys.insert(entry?.0.1);
    }
    Ok(keys)
}

/// Whether an address is that of a wallet that advertises, or did.
pub(super) fn has_bound(store: &Store, wallet: Address) -> Result<bool, StoreError> {
    Ok(store.scan_prefix::<BoundKeys, _>(&wallet)?.next().transpose()?.is_some())
}

/// Remembers bindings that were checked, and says whose are new. Those unseen for too long are forgotten.
pub(super) fn learn<'a>(
    store: &Store,
    bindings: impl Iterator<Item = &'a Binding>,
    now: u64,
) -> Result<BTreeSet<Address>, StoreError> {
    let (mut fresh, mut batch) = (BTreeSet::new(), store.batch());
    for binding in bindings {
        let key = (binding.wallet, binding.provider_key);
        let known = store.get::<BoundKeys>(&key)?;
        if known.as_ref().is_some_and(|known| known.seen + SEEN_AGAIN > now) {
            continue;
        }
        if known.is_none() {
            fresh.insert(binding.wallet);
            forget_unseen(store, &mut batch, binding.wallet, now)?;
        }
        batch.put::<BoundKeys>(&key, &Json(Bound { seen: now, binding: binding.clone() }))?;
    }
    batch.commit()?;
    Ok(fresh)
}

fn forget_unseen(store: &Store, batch: &mut store::Batch<'_>, wallet: Address, now: u64) -> Result<(), StoreError> {
    for entry in store.scan_prefix::<BoundKeys, _>(&wallet)? {
        let (key, known) = entry?;
        if known.seen + UNSEEN < now {
            batch.delete::<BoundKeys>(&key)?;
        }
    }
    Ok(())
}
