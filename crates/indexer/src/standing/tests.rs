//! Standings from a record: whose rentals they are, what changes them, and who hears of it.

use super::*;
use crate::history::{
    apply, roll_back,
    tests::{ESCROW, closed, cursor, key_for, opened, opening, store, wallet},
};
use alloy_primitives::{Signature, U256};
use market::{
    offer::Binding,
    rating::{CheckSummary, RatingStatement, SignedRating},
};
use network::{RatingDesk, Taking};
use settlement::{Opening, Wallet};
use std::cell::Cell;
use wire::RecordAsk;

struct Scene {
    _folder: tempfile::TempDir,
    standings: Standings,
    block: Cell<u64>,
}

fn scene() -> Scene {
    let (_folder, store) = store();
    let standings = Standings::open(store);
    standings.inner.ratings.judge_at([ESCROW].into_iter());
    Scene { _folder, standings, block: Cell::new(0) }
}

impl Scene {
    /// The provider advertises, bound to its key.
    fn advertise(&self, provider: u8) {
        let binding = Binding {
            chain: ESCROW.chain,
            provider_key: key_for(provider),
            wallet: wallet(provider),
            issued_at: 0,
            expires: 1,
            signature: Signature::new(U256::from(1), U256::from(1), false),
        };
        let fresh = keys::learn(&self.standings.inner.store, [&binding].into_iter(), 1).unwrap();
        self.standings.forget(fresh);
    }

    /// A rental from its opening to its end, each in a block of its own.
    fn rent(&self, renter: Address, session: Address, provider: u8, seconds: u32) -> Opening {
        let block = self.block.get() + 2;
        self.block.set(block);
        let rental = opening(block, provider, renter, session, block - 1);
        let changed = apply(
            &self.standings.inner.store,
            ESCROW,
            &[opened(&rental), closed(&rental, seconds, block)],
            cursor(block),
        )
        .unwrap();
        self.standings.inner.ratings.told(&self.standings.inner.store, &changed).unwrap();
        self.standings.forget(changed.providers);
        rental
    }

    fn of(&self, provider: u8) -> Arc<Known> {
        self.standings.of_wallet(wallet(provider)).unwrap()
    }

    fn trusted(&self, asker: u8, provider: u8) -> u64 {
        let now = UnixMillis::now().seconds();
        self.standings.trusted_seconds(wallet(asker), wallet(provider), now).unwrap()
    }
}

fn rating(rental: &Opening, key: &Wallet, stars: u8) -> SignedRating {
    let statement = RatingStatement {
        escrow: ESCROW,
        id: rental.id,
        stars: Some(stars.try_into().unwrap()),
        comment: String::new(),
        checks: Some(CheckSummary { passed: 1, ..CheckSummary::at_level(2) }),
        at: UnixMillis(10),
    };
    let signature = key.sign_digest(&statement.digest()).unwrap();
    SignedRating { statement, signature }
}

#[test]
fn a_provider_that_is_seen_later_has_its_past_and_nobody_has_anothers() {
    let scene = scene();
    scene.rent(wallet(0xa0), wallet(0xa1), 1, 60);
    assert_eq!(scene.of(1).standing.completed, 0, "anybody can name anybody as payee");
    scene.advertise(1);
    assert_eq!((scene.of(1).standing.completed, scene.of(1).standing.paid_seconds), (1, 60));
    assert_eq!(scene.of(2).standing, Standing::default());
}

#[test]
fn a_change_is_told_and_what_was_worked_out_before_is_not_believed_any_more() {
    let scene = scene();
    scene.advertise(1);
    let mut changes = scene.standings.changes();
    assert_eq!(scene.of(1).standing.completed, 0);
    let session = Wallet::random();
    let rental = scene.rent(wallet(0xa0), session.address(), 1, 60);
    assert_eq!(changes.try_recv().unwrap(), wallet(1));
    assert_eq!(scene.of(1).standing.completed, 1);

    while changes.try_recv().is_ok() {}
    let from = network::PeerId::random();
    assert_eq!(scene.standings.take(rating(&rental, &session, 4), from), Taking::Kept);
    assert_eq!(changes.try_recv().unwrap(), wallet(1));
    assert_eq!((scene.of(1).standing.ratings, scene.of(1).standing.rating), (1, Some(4_000)));
    while changes.try_recv().is_ok() {}
    assert_eq!(scene.standings.take(rating(&rental, &session, 4), from), Taking::Known);
    assert!(changes.try_recv().is_err(), "nothing changed");

    let undone = roll_back(&scene.standings.inner.store, ESCROW, cursor(1)).unwrap();
    scene.standings.forget(undone.providers);
    assert_eq!(scene.of(1).standing, Standing::default());
    assert_eq!(scene.of(1).record.open, 1);
}

#[test]
fn a_record_is_told_in_pages_with_the_signed_originals() {
    let scene = scene();
    scene.advertise(1);
    let session = Wallet::random();
    let rentals: Vec<_> = (0..5).map(|_| scene.rent(wallet(0xa0), session.address(), 1, 60)).collect();
    let rated = rating(&rentals[3], &session, 2);
    scene.standings.take(rated.clone(), network::PeerId::random());
    let (mut told, mut before) = (Vec::new(), None);
    loop {
        let ask = RecordAsk { wallet: wallet(1), asker: None, before, limit: 2 };
        let page = scene.standings.tell(&ask).unwrap();
        assert_eq!((page.standing.completed, page.record.stars), (5, [0, 1, 0, 0, 0]));
        assert_eq!((page.record.passed_checks, page.record.checking_renters), (1, 1));
        told.extend(page.rentals);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let ids: Vec<_> = told.iter().map(|rental| rental.id).collect();
    assert_eq!(ids, rentals.iter().rev().map(|rental| rental.id).collect::<Vec<_>>(), "the latest first, each once");
    assert_eq!(told[1].rating, Some(rated));
    assert_eq!((told[1].opened_block, told[1].closed_block), (7, 8));
}

#[test]
fn a_ring_has_a_great_past_and_none_of_it_leads_to_the_asker() {
    let scene = scene();
    (1..=4).for_each(|provider| scene.advertise(provider));
    // the asker and another rented from the first; the other also from the second
    scene.rent(wallet(0xaa), wallet(0xa1), 1, 100);
    scene.rent(wallet(0xbb), wallet(0xa1), 1, 80);
    scene.rent(wallet(0xbb), wallet(0xa1), 2, 500);
    // the third and the fourth deal with themselves
    for provider in [3, 4, 3, 4] {
        scene.rent(wallet(0xc0 + provider), wallet(0xa1), provider, 3_600);
    }
    assert!(scene.of(3).standing.paid_seconds > scene.of(2).standing.paid_seconds);
    assert_eq!((scene.trusted(0xaa, 1), scene.trusted(0xaa, 2)), (100, 80));
    assert_eq!((scene.trusted(0xaa, 3), scene.trusted(0xaa, 4)), (0, 0));
}

#[test]
fn a_rental_that_was_rated_badly_vouches_for_nobody() {
    let scene = scene();
    scene.advertise(1);
    let session = Wallet::random();
    let rental = scene.rent(wallet(0xaa), session.address(), 1, 100);
    assert_eq!(scene.trusted(0xaa, 1), 100);
    scene.standings.take(rating(&rental, &session, 1), network::PeerId::random());
    assert_eq!(scene.trusted(0xaa, 1), 0);
}
