//! What a provider keeps on disk: its rentals, as the state machines they are, and the receipts they end in.

use crate::{service::Drain, unshared::Unshared};
use api::types::Receipt;
use market::{id::RentalId, rental::provider::Rental};
use store::{Json, Store, StoreError, Table, TableDef};

/// Every rental that was ever quoted, by id.
pub(crate) struct Rentals;
impl Table for Rentals {
    const NAME: &'static str = "provider_rentals";
    type Key = RentalId;
    type Value = Json<Rental>;
}

/// One receipt for each rental that was opened and closed.
pub(crate) struct Receipts;
impl Table for Receipts {
    const NAME: &'static str = "provider_receipts";
    type Key = RentalId;
    type Value = Json<Receipt>;
}

/// What the renters of rentals that go on have taken back of what they gave to others.
pub(crate) struct Unshares;
impl Table for Unshares {
    const NAME: &'static str = "provider_unshares";
    type Key = RentalId;
    type Value = Json<Unshared>;
}

/// The owner's order to be out of service, while there is one.
pub(crate) struct DrainOrder;
impl Table for DrainOrder {
    const NAME: &'static str = "provider_drain";
    type Key = ();
    type Value = Json<Drain>;
}

/// Rentals that are over, and receipts, that are kept: years of them on most machines, and about as many as one answer of the control API
/// holds. The oldest go first; whoever needs them longer saves them with `node receipts --json`.
pub const MAX_HISTORY: usize = 10_000;

/// Forgets the oldest of what is over beyond [`MAX_HISTORY`], and says how many records that were.
pub fn forget_oldest(store: &Store) -> Result<usize, StoreError> {
    // rentals first: one that is kept without its receipt would have it written again
    let rentals = store.keep_newest::<Rentals>(MAX_HISTORY, |rental| rental.closing.map(|closing| closing.time))?;
    Ok(rentals + store.keep_newest::<Receipts>(MAX_HISTORY, |receipt| Some(receipt.closed.time))?)
}

/// The tables that [`store::Store::open`] must know for this role.
pub fn tables() -> [TableDef; 4] {
    [TableDef::of::<Rentals>(), TableDef::of::<Receipts>(), TableDef::of::<Unshares>(), TableDef::of::<DrainOrder>()]
}
