//! What a provider keeps on disk: its rentals, as the state machines they are, and the receipts they end in.

use api::types::Receipt;
use market::{id::RentalId, rental::provider::Rental};
use store::{Json, Table, TableDef};

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

/// The tables that [`store::Store::open`] must know for this role.
pub fn tables() -> [TableDef; 2] {
    [TableDef::of::<Rentals>(), TableDef::of::<Receipts>()]
}
