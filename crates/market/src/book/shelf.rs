//! The rows of one GPU class: each an offer at one of its prices, in columns, and in the order of price for each way of paying.

use super::{
    PriceAt, RowId,
    column::{BLOCK, Column, Values},
};
use crate::class::GpuClass;
use crate::query::{CLASS, Candidate, Cell, FIELDS, FREE, PRICE, tail};
use std::collections::{BTreeMap, BTreeSet};

/// Where a row comes from.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// The provider's number in the book.
    pub(super) provider: u32,
    /// Which offer of its advertisement, and which price of that.
    pub(super) at: PriceAt,
}

/// A row in the order in which it is walked: what is free first, then by price, then by the end of the peer id.
pub(super) type Priced = (u64, u64, RowId);

/// The bit above all prices that is set when nothing is free.
pub(super) const BUSY: u64 = 1 << 63;

/// Rows of one class.
#[derive(Debug)]
pub(super) struct Shelf {
    /// One for each field, in the order of the table of fields.
    pub(super) columns: Vec<Column>,
    pub(super) places: Vec<Place>,
    /// The way of paying of each row, by its number in the book.
    pub(super) currencies: Vec<u32>,
    /// Which rows of each block are in use.
    pub(super) live: Vec<u64>,
    /// Rows by price, for each way of paying.
    pub(super) prices: BTreeMap<u32, BTreeSet<Priced>>,
    /// How many rows are in use.
    pub(super) rows: usize,
    unused: Vec<u32>,
}

impl Default for Shelf {
    fn default() -> Self {
        Self {
            columns: FIELDS.iter().map(|field| Column::new(field.kind)).collect(),
            places: Vec::new(),
            currencies: Vec::new(),
            live: Vec::new(),
            prices: BTreeMap::new(),
            rows: 0,
            unused: Vec::new(),
        }
    }
}

impl Shelf {
    /// Puts an offer at one of its prices on the shelf, which has this number in the book and is that of a class, and says where it stands
    /// in the order of price.
    pub(super) fn put(
        &mut self,
        (shelf, class): (u16, GpuClass),
        candidate: &Candidate<'_>,
        place: Place,
        currency: u32,
    ) -> Priced {
        if self.unused.is_empty() {
            self.grow();
        }
        let row = self.unused.pop().unwrap_or_default();
        let at = row as usize;
        for (number, (column, field)) in self.columns.iter_mut().zip(FIELDS).enumerate() {
            match (&column.values, number) {
                (Values::OfProvider, _) => {}
                // known already: finding it among the models takes longer than all the rest
                (_, CLASS) => column.put(at, Cell::Text(class.name().into())),
                _ => column.put(at, (field.read)(candidate)),
            }
        }
        if let (Some(to), Some(paid)) = (self.places.get_mut(at), self.currencies.get_mut(at)) {
            (*to, *paid) = (place, currency);
        }
        if let Some(live) = self.live.get_mut(at / BLOCK) {
            *live |= 1 << (at % BLOCK);
        }
        self.rows += 1;
        let priced = self.priced(RowId { shelf, row }, tail(&candidate.ad.peer));
        self.prices.entry(currency).or_default().insert(priced);
        priced
    }

    /// Takes a row of a peer away, and says where it stood in the order of price and how it was paid.
    pub(super) fn take(&mut self, id: RowId, tail: u64) -> (Priced, u32) {
        let (at, priced) = (id.row as usize, self.priced(id, tail));
        let currency = self.currencies.get(at).copied().unwrap_or_default();
        if let Some(prices) = self.prices.get_mut(&currency) {
            prices.remove(&priced);
            if prices.is_empty() {
                self.prices.remove(&currency);
            }
        }
        self.columns.iter_mut().for_each(|column| column.clear(at));
        if let Some(live) = self.live.get_mut(at / BLOCK) {
            *live &= !(1 << (at % BLOCK));
        }
        self.rows -= 1;
        self.unused.push(id.row);
        (priced, currency)
    }

    /// Writes some fields of a row again, from what is not in the advertisement.
    pub(super) fn write(&mut self, row: u32, cells: impl Iterator<Item = (usize, Cell<'static>)>) {
        for (field, cell) in cells {
            if let Some(column) = self.columns.get_mut(field) {
                column.clear(row as usize);
                column.put(row as usize, cell);
            }
        }
    }

    /// The value of a field.
    pub(super) fn cell(&self, row: u32, field: usize) -> Cell<'_> {
        self.columns.get(field).map_or(Cell::Unknown, |column| column.cell(row as usize))
    }

    fn priced(&self, id: RowId, tail: u64) -> Priced {
        let price = match self.cell(id.row, PRICE) {
            Cell::Number(price) => u64::try_from(price).unwrap_or_default(),
            _ => 0,
        };
        let busy = if self.cell(id.row, FREE) == Cell::Number(0) { BUSY } else { 0 };
        (price | busy, tail, id)
    }

    fn grow(&mut self) {
        let rows = self.places.len() + BLOCK;
        self.columns.iter_mut().for_each(|column| column.grow(rows));
        self.places.resize(rows, Place::default());
        self.currencies.resize(rows, 0);
        self.live.push(0);
        // the first is taken first
        let new = (self.places.len() - BLOCK..rows).rev().filter_map(|row| u32::try_from(row).ok());
        self.unused.extend(new);
    }
}
