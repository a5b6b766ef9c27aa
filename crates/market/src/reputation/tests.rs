//! The formula's promises, over histories made up at random.

use super::*;
use alloy_primitives::B256;
use proptest::{prelude::*, sample::Index};

pub(crate) const NOW: u64 = 1_800_000_000;

/// An open rental, one of several that differ.
pub(crate) fn facts(number: u64) -> RentalFacts {
    RentalFacts {
        id: RentalId(B256::from(alloy_primitives::U256::from(number))),
        escrow: Escrow { chain: 1, address: Address::repeat_byte(9) },
        provider: Address::repeat_byte(1),
        provider_key: Address::repeat_byte(2),
        renter: Address::repeat_byte(3),
        renter_key: Address::repeat_byte(4),
        token: Address::ZERO,
        // a base unit a second
        rate: Rate::new(Amount::new(1_000_000).unwrap()),
        max_seconds: 1_000_000,
        device: DeviceId(B256::repeat_byte(5)),
        opened: NOW - 1_000_000,
        stop_reason: None,
        closed: None,
    }
}

/// It ended well after so many seconds, all of them paid.
pub(crate) fn kept(rental: RentalFacts, seconds: u32) -> RentalFacts {
    let paid = rental.rate.for_seconds(seconds);
    let closed = Closed { at: rental.opened + u64::from(seconds) + 10, paid, elapsed: seconds, kind: 1 };
    RentalFacts { closed: Some(closed), ..rental }
}

fn case(rental: &RentalFacts) -> Case<'_> {
    Case { rental, rating: None, checks: None, median: Some(rental.rate) }
}

type Told = (RentalFacts, Option<Stars>);

fn judge(history: &[Told]) -> (Standing, Record) {
    evaluate(history.iter().map(|(rental, rating)| Case { rating: *rating, ..case(rental) }), NOW)
}

/// A rental of one of a few renters on one of a few devices, with whatever end.
fn any_told() -> impl Strategy<Value = Told> {
    let end = prop_oneof![Just(None), (0u32..50_000, 0u32..50_000).prop_map(Some)];
    (any::<u64>(), 0u8..4, 0u8..3, 0u64..900_000, end, prop::option::of(0u32..8), prop::option::of(1u8..=5)).prop_map(
        |(number, renter, device, ago, end, stop_reason, stars)| {
            let rental = RentalFacts {
                renter: Address::repeat_byte(renter),
                device: DeviceId(B256::repeat_byte(device)),
                opened: NOW - 60_000 - ago,
                stop_reason,
                ..facts(number)
            };
            let closed = end.map(|(paid, elapsed)| Closed {
                at: rental.opened + u64::from(elapsed),
                paid: rental.rate.for_seconds(paid),
                elapsed,
                kind: 1,
            });
            (RentalFacts { closed, ..rental }, stars.map(|stars| Stars::try_from(stars).unwrap()))
        },
    )
}

fn any_history() -> impl Strategy<Value = Vec<Told>> {
    prop::collection::vec(any_told(), 0..40)
}

proptest! {
    #[test]
    fn one_more_completed_rental_never_lowers(
        history in any_history(), renter in 0u8..5, device in 0u8..4, ago in 0u64..900_000, seconds in 1u32..50_000,
    ) {
        let (before, record) = judge(&history);
        let rental = RentalFacts {
            renter: Address::repeat_byte(renter),
            device: DeviceId(B256::repeat_byte(device)),
            opened: NOW - 60_000 - ago,
            ..facts(0)
        };
        let mut grown = history;
        grown.push((kept(rental, seconds), None));
        let (after, grown) = judge(&grown);
        prop_assert_eq!(after.completed, before.completed + 1);
        prop_assert!(after.paid_seconds >= before.paid_seconds);
        prop_assert!(after.reliability >= before.reliability, "{:?} to {:?}", before, after);
        prop_assert_eq!((after.ratings, after.rating), (before.ratings, before.rating));
        let amount = |record: &Record| record.volume.first().map(|volume| volume.amount);
        prop_assert!(amount(&grown) >= amount(&record));
    }

    #[test]
    fn five_stars_more_never_lower_a_rating_and_one_star_never_raises_it(history in any_history(), renter in 0u8..5) {
        let (before, _) = judge(&history);
        let rental = kept(RentalFacts { renter: Address::repeat_byte(renter), ..facts(0) }, 60);
        let with = |stars: u8| {
            let mut grown = history.clone();
            grown.push((rental, Some(Stars::try_from(stars).unwrap())));
            judge(&grown).0
        };
        prop_assert!(with(5).rating >= before.rating);
        if let Some(rating) = before.rating {
            prop_assert!(with(1).rating <= Some(rating));
        }
    }

    #[test]
    fn the_order_in_which_rentals_are_told_does_not_matter(mut history in any_history(), swaps in prop::collection::vec(any::<(Index, Index)>(), 0..40)) {
        let told = judge(&history);
        for (a, b) in swaps {
            if !history.is_empty() {
                let (a, b) = (a.index(history.len()), b.index(history.len()));
                history.swap(a, b);
            }
        }
        prop_assert_eq!(judge(&history), told);
    }

    #[test]
    fn volume_is_bounded_by_the_machines_and_the_usual_price_whatever_is_dealt_with_oneself(
        rentals in prop::collection::vec((0u8..3, 0u64..100_000, 1u32..50_000, 1u128..1 << 80), 1..40),
    ) {
        let median = Rate::new(Amount::new(2_000_000).unwrap());
        let made_up: Vec<_> = rentals
            .iter()
            .enumerate()
            .map(|(number, (device, ago, seconds, rate))| {
                let rental = RentalFacts {
                    rate: Rate::new(Amount::new(*rate).unwrap()),
                    renter: Address::from_word(B256::from(alloy_primitives::U256::from(number))),
                    device: DeviceId(B256::repeat_byte(*device)),
                    opened: NOW - 200_000 + ago,
                    ..facts(number as u64)
                };
                kept(rental, *seconds)
            })
            .collect();
        let (standing, record) = evaluate(made_up.iter().map(|rental| Case { median: Some(median), ..case(rental) }), NOW);
        // three devices, and no rental began before or ended after these 150,000 seconds
        prop_assert!(standing.paid_seconds <= 3 * 150_000);
        let seconds: u32 = rentals.iter().map(|(_, _, seconds, _)| seconds).sum();
        let amount = record.volume.first().map_or(0, |volume| volume.amount.get());
        prop_assert!(amount <= median.for_seconds(seconds).get());
    }

    #[test]
    fn one_renter_has_a_bounded_say(kept_by in prop::collection::vec(10u8..250, 8..30), complaints in 1u64..500) {
        // others were content; one complains as often as it likes
        let mut history: Vec<Told> = kept_by
            .iter()
            .enumerate()
            .map(|(number, renter)| (kept(RentalFacts { renter: Address::repeat_byte(*renter), ..facts(number as u64) }, 60), None))
            .collect();
        let (before, _) = judge(&history);
        let spiteful = RentalFacts { renter: Address::repeat_byte(255), stop_reason: Some(6), ..kept(facts(0), 60) };
        history.extend((0..complaints).map(|number| (RentalFacts { id: facts(1_000 + number).id, ..spiteful }, None)));
        let (after, _) = judge(&history);
        let weight = |standing: Standing| u64::from(standing.reliability.unwrap());
        // as many as eight failures at most: the sum of weights grows by eight
        prop_assert!(weight(after) * 17 >= weight(before) * 9 - 17, "{:?} to {:?}", before, after);
    }
}

#[test]
fn nobody_has_a_perfect_record_and_who_has_no_rentals_has_none() {
    assert_eq!(judge(&[]).0, Standing::default());
    let ten: Vec<Told> = (0..10)
        .map(|number| (kept(RentalFacts { renter: Address::repeat_byte(number), ..facts(number.into()) }, 60), None))
        .collect();
    assert_eq!(judge(&ten[..1]).0.reliability, Some(500_000));
    assert_eq!(judge(&ten).0.reliability, Some(909_090));
}

#[test]
fn what_became_of_a_rental_is_told_by_its_end_and_its_stop() {
    let stopped = |reason| RentalFacts { stop_reason: Some(reason), ..kept(facts(1), 60) }.outcome();
    assert_eq!(facts(1).outcome(), None);
    assert_eq!(kept(facts(1), 60).outcome(), Some(Outcome::Kept));
    assert_eq!(kept(facts(1), 0).outcome(), Some(Outcome::NoShow));
    assert_eq!(stopped(0), Some(Outcome::Kept));
    assert_eq!(stopped(StopReason::Unanswered.number()), Some(Outcome::EarlyEnd));
    assert_eq!(stopped(StopReason::Ended.number()), Some(Outcome::EarlyEnd));
    assert_eq!(stopped(StopReason::Hardware.number()), Some(Outcome::FailedCheck));
    assert_eq!(stopped(StopReason::Data.number()), Some(Outcome::Complaint));
    assert_eq!(stopped(77), Some(Outcome::Complaint));
}

#[test]
fn what_ended_before_the_window_does_not_count_and_uptime_looks_at_thirty_days() {
    let ended = |ago: u64| {
        let rental = kept(RentalFacts { opened: NOW - ago - 60, ..facts(1) }, 50);
        let closed = rental.closed.map(|closed| Closed { elapsed: 60, at: NOW - ago, ..closed });
        (RentalFacts { closed, ..rental }, Some(Stars::try_from(4).unwrap()))
    };
    assert_eq!(judge(&[ended(WINDOW + 1)]).0, Standing::default());
    let (standing, record) = judge(&[ended(WINDOW)]);
    assert_eq!((standing.completed, standing.rating, record.uptime_30d()), (1, Some(4_000), None));
    let (_, record) = judge(&[ended(UPTIME_WINDOW)]);
    assert_eq!((record.served_30d, record.elapsed_30d, record.uptime_30d()), (50, 60, Some(833_333)));
}

#[test]
fn a_device_rented_at_two_escrows_at_once_serves_its_seconds_once() {
    let here = kept(facts(1), 1_000);
    let there = kept(RentalFacts { opened: here.opened + 400, ..facts(2) }, 1_000);
    assert_eq!(judge(&[(here, None), (there, None)]).0.paid_seconds, 1_400);
}

#[test]
fn money_is_not_counted_where_nobody_says_what_is_usual() {
    let rental = kept(facts(1), 60);
    let (_, record) = evaluate([Case { median: None, ..case(&rental) }], NOW);
    assert_eq!((record.volume, record.paid_seconds), (vec![], 60));
}

#[test]
fn checks_are_counted_once_a_rental_by_different_renters_and_change_no_standing() {
    let renter = |byte| RentalFacts { renter: Address::repeat_byte(byte), ..facts(1) };
    let summary = CheckSummary::at_level(2);
    let passed = CheckSummary { passed: 9, ..summary };
    let missed = CheckSummary { missed: 1, ..passed };
    let told = [(1, Some(passed)), (1, Some(passed)), (2, Some(missed)), (3, Some(summary)), (4, None)];
    let rentals: Vec<_> = told.map(|(byte, checks)| (kept(renter(byte), 60), checks)).into();
    let with = |checks: &dyn Fn(Option<CheckSummary>) -> Option<CheckSummary>| {
        let of = rentals.iter().map(|(rental, told)| Case { checks: checks(*told), ..case(rental) });
        evaluate(of, NOW)
    };
    let (standing, record) = with(&|told| told);
    assert_eq!((record.passed_checks, record.missed_checks, record.checking_renters), (2, 1, 2));
    assert_eq!(standing, with(&|_| None).0);
    // of a rental for which nothing was paid nobody's word counts
    let unpaid = kept(facts(2), 0);
    let (_, record) = evaluate([Case { checks: Some(passed), ..case(&unpaid) }], NOW);
    assert_eq!(record.passed_checks, 0);
}
