//! What becomes of ratings, honest and forged, early and late.

use super::*;
use crate::history::{
    apply, roll_back,
    tests::{ESCROW, closed, cursor, opened, opening, store},
};
use alloy_primitives::Address;
use market::rating::{RatingStatement, Stars};
use settlement::{Opening, Wallet};

struct Scene {
    _folder: tempfile::TempDir,
    store: Store,
    ratings: Ratings,
    session: Wallet,
    renter: Wallet,
    rental: Opening,
}

fn scene() -> Scene {
    let (_folder, store) = store();
    let (session, renter) = (Wallet::random(), Wallet::random());
    let rental = opening(1, 1, renter.address(), session.address(), 5);
    let ratings = Ratings::default();
    ratings.judge_at([ESCROW].into_iter());
    Scene { _folder, store, ratings, session, renter, rental }
}

impl Scene {
    fn tell(&self, events: &[settlement::RentalEvent], number: u64) {
        let changed = apply(&self.store, ESCROW, events, cursor(number)).unwrap();
        self.ratings.told(&self.store, &changed).unwrap();
    }

    fn close(&self, seconds: u32) {
        self.tell(&[opened(&self.rental), closed(&self.rental, seconds, 8)], 8);
    }

    fn signed(&self, by: &Wallet, stars: u8, at: u64) -> SignedRating {
        let statement = RatingStatement {
            escrow: ESCROW,
            id: self.rental.id,
            stars: Some(stars.try_into().unwrap()),
            comment: String::new(),
            checks: None,
            at: UnixMillis(at),
        };
        let signature = by.sign_digest(&statement.digest()).unwrap();
        SignedRating { statement, signature }
    }

    fn take(&self, rating: SignedRating) -> Taking {
        self.ratings.take(&self.store, rating, PeerId::random()).unwrap().0
    }

    /// The stars that count.
    fn stars(&self) -> Option<u8> {
        let row = self.store.get::<Rentals>(&self.rental.id).unwrap()?.0;
        rating_of(&self.store, &row).unwrap()?.statement.stars.map(Stars::get)
    }
}

#[test]
fn a_rating_of_a_closed_rental_counts_once_and_the_latest_wins() {
    let scene = scene();
    scene.close(60);
    assert_eq!(scene.take(scene.signed(&scene.session, 5, 10)), Taking::Kept);
    assert_eq!(scene.take(scene.signed(&scene.session, 5, 10)), Taking::Known);
    assert_eq!(scene.take(scene.signed(&scene.renter, 2, 20)), Taking::Kept);
    assert_eq!(scene.take(scene.signed(&scene.session, 4, 15)), Taking::Known);
    assert_eq!(scene.stars(), Some(2));
    assert_eq!(scene.store.scan::<Kept>(..).unwrap().count(), 1);
}

#[test]
fn of_two_at_the_same_moment_everybody_keeps_the_same() {
    let (one, other) = (scene(), scene());
    one.close(60);
    let (a, b) = (one.signed(&one.session, 1, 10), one.signed(&one.session, 5, 10));
    other.tell(&[opened(&one.rental), closed(&one.rental, 60, 8)], 8);
    one.take(a.clone());
    one.take(b.clone());
    other.take(b);
    other.take(a);
    let kept = |scene: &Scene| scene.store.get::<Kept>(&one.rental.id).unwrap().unwrap().0;
    assert_eq!(kept(&one), kept(&other));
}

#[test]
fn a_stranger_s_rating_is_a_forgery_and_one_of_an_unpaid_rental_counts_nothing() {
    let forged = scene();
    forged.close(60);
    assert!(matches!(forged.take(forged.signed(&Wallet::random(), 5, 10)), Taking::Forged(_)));
    let unpaid = scene();
    unpaid.close(0);
    assert!(matches!(unpaid.take(unpaid.signed(&unpaid.session, 5, 10)), Taking::Refused(_)));
    assert_eq!((forged.stars(), unpaid.stars()), (None, None));
}

#[test]
fn a_rating_that_is_ahead_of_the_chain_waits_for_it() {
    let scene = scene();
    assert_eq!(scene.take(scene.signed(&scene.session, 4, 10)), Taking::Waiting);
    assert_eq!(scene.take(scene.signed(&scene.session, 4, 10)), Taking::StillWaiting);
    scene.tell(&[opened(&scene.rental)], 6);
    assert_eq!(scene.take(scene.signed(&scene.session, 3, 9)), Taking::Waiting);
    // a forgery can wait while nobody knows who rented
    assert_eq!(scene.stars(), None);
    scene.tell(&[closed(&scene.rental, 60, 8)], 8);
    assert_eq!(scene.stars(), Some(4));
}

#[test]
fn a_forgery_that_waited_is_dropped_when_the_chain_tells_who_rented() {
    let scene = scene();
    assert_eq!(scene.take(scene.signed(&Wallet::random(), 5, 10)), Taking::Waiting);
    scene.close(60);
    assert_eq!(scene.stars(), None);
    assert!(scene.ratings.waiting().is_empty());
}

#[test]
fn an_end_that_is_taken_back_takes_its_rating_along_and_brings_it_back() {
    let scene = scene();
    scene.close(60);
    scene.take(scene.signed(&scene.session, 5, 10));
    for number in [6, 2] {
        let changed = roll_back(&scene.store, ESCROW, cursor(number)).unwrap();
        scene.ratings.told(&scene.store, &changed).unwrap();
        assert_eq!(scene.stars(), None, "back to block {number}");
        scene.close(60);
        assert_eq!(scene.stars(), Some(5), "on from block {number}");
    }
}

#[test]
fn the_room_to_wait_is_bounded_for_each_peer_and_for_all() {
    let scene = scene();
    let signed = scene.signed(&scene.session, 5, 10);
    let other = |number: u64| {
        let mut rating = signed.clone();
        rating.statement.id = RentalId(B256::from(alloy_primitives::U256::from(number)));
        rating
    };
    let flood = PeerId::random();
    let take = |number, from| scene.ratings.take(&scene.store, other(number), from).unwrap().0;
    let taken = (100..100 + 2 * MAX_WAITING_OF_ONE as u64).filter(|number| take(*number, flood) == Taking::Waiting);
    assert_eq!(taken.count(), MAX_WAITING_OF_ONE);
    assert_eq!(take(1_000, PeerId::random()), Taking::Waiting);
    for number in 0..MAX_WAITING as u64 {
        take(2_000 + number, PeerId::random());
    }
    assert_eq!(scene.ratings.waiting().len(), MAX_WAITING);
}

#[test]
fn a_rating_of_an_escrow_that_is_not_read_here_is_only_passed_on() {
    let scene = scene();
    let mut rating = scene.signed(&scene.session, 5, 10);
    rating.statement.escrow.address = Address::repeat_byte(1);
    assert_eq!(scene.take(rating), Taking::Waiting);
    assert!(scene.ratings.waiting().is_empty());
}
