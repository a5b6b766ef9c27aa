//! The record against made-up events: what is told twice, taken back, and grown old.

use super::*;
use alloy_primitives::keccak256;
use market::{
    id::DeviceId,
    money::{Amount, Rate},
    quote::Quote,
};
use settlement::ClosingKind;

pub(crate) const ESCROW: Escrow = Escrow { chain: 31_337, address: Address::repeat_byte(0xe5) };
/// When the first rental of a test begins, in Unix seconds: lately.
pub(crate) fn lately() -> u64 {
    market::time::UnixMillis::now().seconds() - 10_000
}

pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &crate::tables()).unwrap();
    (folder, store)
}

fn hash(block: u64) -> B256 {
    keccak256(block.to_be_bytes())
}

pub(crate) fn cursor(number: u64) -> Cursor {
    Cursor { number, hash: hash(number) }
}

/// Wallets: providers are below 0x50, their keys 0x80 above, renters the rest.
pub(crate) fn wallet(byte: u8) -> Address {
    Address::repeat_byte(byte)
}

pub(crate) fn key_for(provider: u8) -> Address {
    wallet(provider + 0x80)
}

pub(crate) fn opening(number: u64, provider: u8, renter: Address, renter_key: Address, block: u64) -> Opening {
    let quote = Quote {
        provider: wallet(provider),
        provider_key: key_for(provider),
        renter,
        renter_key,
        token: Address::ZERO,
        rate: Rate::new(Amount::new(1_000_000).unwrap()),
        min_deposit: Amount::ZERO,
        max_seconds: 3_600,
        window: 900,
        expiry: 0,
        arbiter: Address::ZERO,
        device: DeviceId(B256::repeat_byte(provider)),
        spec: keccak256(number.to_be_bytes()),
    };
    Opening {
        id: quote.id(&ESCROW),
        quote,
        deposit: Amount::new(3_600).unwrap(),
        start: u32::try_from(lately() + block).unwrap(),
        transaction: keccak256(format!("open {number} in {block}")),
        block,
        block_hash: hash(block),
    }
}

pub(crate) fn closing(opening: &Opening, seconds: u32, block: u64) -> Closing {
    let paid = opening.quote.rate.for_seconds(seconds);
    Closing {
        id: opening.id,
        provider: opening.quote.provider,
        renter: opening.quote.renter,
        paid,
        refunded: opening.deposit.saturating_sub(paid),
        elapsed: seconds,
        kind: ClosingKind::Provider,
        time: u64::from(opening.start) + u64::from(seconds),
        transaction: keccak256(format!("close in {block}")),
        block,
        block_hash: hash(block),
    }
}

pub(crate) fn opened(opening: &Opening) -> RentalEvent {
    RentalEvent::Opened(Box::new(opening.clone()))
}

pub(crate) fn closed(opening: &Opening, seconds: u32, block: u64) -> RentalEvent {
    RentalEvent::Closed(Box::new(closing(opening, seconds, block)))
}

fn stopping(opening: &Opening, reason: u32, block: u64) -> RentalEvent {
    RentalEvent::Stopping { id: opening.id, stop_at: 0, reason, block }
}

fn rental(number: u64, block: u64) -> Opening {
    opening(number, 1, wallet(0xa0), wallet(0xa1), block)
}

/// Everything the record holds, index rows too.
fn dump(store: &Store) -> (Vec<Row>, usize, usize, Vec<(u64, RentalId)>) {
    let rows = store.scan::<Rentals>(..).unwrap().map(|row| row.unwrap().1.0).collect();
    let blocks =
        store.scan::<ByBlock>(..).unwrap().map(|row| row.unwrap().0).map(|(_, block, id)| (block, id)).collect();
    (rows, store.scan::<ByKey>(..).unwrap().count(), store.scan::<ByRenter>(..).unwrap().count(), blocks)
}

#[test]
fn a_rental_is_recorded_from_its_opening_to_its_end() {
    let (_folder, store) = store();
    let rental = rental(1, 5);
    let events = [opened(&rental), stopping(&rental, 3, 7), closed(&rental, 60, 9)];
    let changed = apply(&store, ESCROW, &events, cursor(10)).unwrap();
    assert_eq!(changed.providers, [wallet(1), key_for(1)].into());
    assert_eq!(changed.ended, [rental.id].into());
    let row = store.get::<Rentals>(&rental.id).unwrap().unwrap().0;
    assert_eq!((row.facts.stop_reason, row.facts.closed.unwrap().elapsed), (Some(3), 60));
    assert_eq!(row.facts.provider_key, key_for(1));
    assert_eq!(store.get::<Cursors>(&key_of(&ESCROW)).unwrap().unwrap().0, cursor(10));
}

#[test]
fn what_is_told_again_in_other_portions_changes_nothing() {
    let ((_one, once), (_two, again)) = (store(), store());
    let rentals = [rental(1, 5), rental(2, 6), rental(3, 6)];
    let events: Vec<_> =
        rentals.iter().map(opened).chain([stopping(&rentals[0], 1, 7), closed(&rentals[0], 5, 8)]).collect();
    apply(&once, ESCROW, &events, cursor(8)).unwrap();
    apply(&again, ESCROW, &events[..2], cursor(6)).unwrap();
    apply(&again, ESCROW, &events, cursor(8)).unwrap();
    apply(&again, ESCROW, &events[..3], cursor(8)).unwrap();
    assert_eq!(dump(&once), dump(&again));
}

#[test]
fn an_end_without_a_beginning_is_left_alone() {
    let (_folder, store) = store();
    let changed = apply(&store, ESCROW, &[closed(&rental(1, 5), 60, 9)], cursor(9)).unwrap();
    assert_eq!(changed, Changed::default());
    assert!(dump(&store).0.is_empty());
}

#[test]
fn what_the_chain_takes_back_is_as_if_it_had_never_been() {
    let ((_one, never), (_two, back)) = (store(), store());
    let (kept, reopened, gone) = (rental(1, 5), rental(2, 6), rental(3, 12));
    let before = [opened(&kept), closed(&kept, 10, 8), opened(&reopened)];
    apply(&never, ESCROW, &before, cursor(10)).unwrap();
    apply(&back, ESCROW, &before, cursor(10)).unwrap();
    let after = [stopping(&reopened, 2, 11), opened(&gone), closed(&reopened, 20, 13), closed(&gone, 1, 14)];
    apply(&back, ESCROW, &after, cursor(20)).unwrap();
    let changed = roll_back(&back, ESCROW, cursor(10)).unwrap();
    assert_eq!(changed.gone, [gone.id].into());
    assert_eq!(changed.providers, [wallet(1), key_for(1)].into());
    assert_eq!(dump(&back), dump(&never));
    // and told again, it is there again
    apply(&back, ESCROW, &after, cursor(20)).unwrap();
    apply(&never, ESCROW, &after, cursor(20)).unwrap();
    assert_eq!(dump(&back), dump(&never));
}

#[test]
fn an_opening_that_comes_again_in_another_block_begins_anew() {
    let (_folder, store) = store();
    let first = rental(1, 5);
    apply(&store, ESCROW, &[opened(&first), closed(&first, 10, 8)], cursor(8)).unwrap();
    let moved = Opening { block: 6, block_hash: hash(6), ..first.clone() };
    apply(&store, ESCROW, &[opened(&moved)], cursor(8)).unwrap();
    let row = store.get::<Rentals>(&first.id).unwrap().unwrap().0;
    assert_eq!((row.opened.block, row.closed), (6, None));
}

#[test]
fn a_rollback_at_one_escrow_leaves_another_alone() {
    let (_folder, store) = store();
    let rental = rental(1, 5);
    apply(&store, ESCROW, &[opened(&rental)], cursor(5)).unwrap();
    roll_back(&store, Escrow { chain: 1, ..ESCROW }, cursor(0)).unwrap();
    assert_eq!(dump(&store).0.len(), 1);
}

#[test]
fn the_newest_event_below_a_block_tells_where_the_record_can_be_compared() {
    let (_folder, store) = store();
    let (first, second) = (rental(1, 5), rental(2, 7));
    apply(&store, ESCROW, &[opened(&first), opened(&second), closed(&first, 1, 9)], cursor(9)).unwrap();
    let newest = |block| newest_at(&store, ESCROW, block).unwrap().map(|row| row.newest_place());
    assert_eq!(newest(100), Some(Place { block: 9, hash: hash(9) }));
    // the block in which the first was opened says nothing any more: the record has moved on to its end
    assert_eq!(newest(8), Some(Place { block: 7, hash: hash(7) }));
    assert_eq!(newest(4), None);
}

#[test]
fn what_no_longer_counts_is_forgotten_with_its_indexes_and_what_goes_on_is_not() {
    let (_folder, store) = store();
    let (ended, open) = (rental(1, 5), rental(2, 6));
    apply(&store, ESCROW, &[opened(&ended), opened(&open), closed(&ended, 10, 8)], cursor(8)).unwrap();
    let end = closing(&ended, 10, 8).time;
    assert_eq!(forget_old(&store, ESCROW, end + WINDOW + GRACE).unwrap(), Changed::default());
    let changed = forget_old(&store, ESCROW, end + WINDOW + GRACE + 1).unwrap();
    assert_eq!(changed.forgotten, [ended.id].into());
    let (rows, by_key, by_renter, blocks) = dump(&store);
    assert_eq!((rows.len(), by_key, by_renter, blocks.len()), (1, 1, 1, 1));
    // an open one goes when it must long be over
    let over = u64::from(open.start) + 3_600 + 900;
    assert_eq!(forget_old(&store, ESCROW, over + WINDOW + GRACE + 1).unwrap().forgotten, [open.id].into());
    assert_eq!(dump(&store), (vec![], 0, 0, vec![]));
}
