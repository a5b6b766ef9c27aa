//! A rental whose renter stops it on chain and leaves the end to an arbiter.

use super::{agreed, at, closing, opening, signature};
use crate::{
    dispute::{Deadlines, StopReason},
    money::Amount,
    rental::{
        Closing, StepError,
        renter::{CLOSE_PATIENCE, Effect, Input, MAX_MISSED_ACKS, Phase, Rental},
    },
    signed::{SignedRelease, SignedVoucher},
};
use alloy_primitives::{Address, Bytes};

const WHY: StopReason = StopReason::Hardware;

fn quoted(arbiter: Address) -> Rental {
    let (mut quote, terms) = agreed();
    quote.quote.arbiter = arbiter;
    Rental::new(quote, terms, Bytes::new(), opening().deposit, 5)
}

fn waiting() -> Rental {
    let mut rental = quoted(Address::repeat_byte(7));
    rental.step(Input::Open, at(0)).unwrap();
    rental.step(Input::Opened(opening()), at(0)).unwrap();
    rental
}

fn serving() -> Rental {
    let mut rental = waiting();
    rental.step(Input::Ready(at(0), signature()), at(0)).unwrap();
    let cumulative = Amount::new(3).unwrap();
    let voucher = SignedVoucher { id: rental.id, cumulative, signature: signature() };
    rental.step(Input::Signed(voucher), at(3_000)).unwrap();
    rental
}

fn release(rental: &Rental) -> SignedRelease {
    SignedRelease { id: rental.id, cumulative: rental.signed_total(), signature: signature() }
}

fn ruled(paid: u128) -> Closing {
    Closing { kind: 5, ..closing(paid) }
}

#[test]
fn a_dispute_stops_on_chain_and_signs_and_agrees_to_nothing_more() {
    let mut rental = serving();
    assert_eq!(rental.step(Input::Dispute(WHY), at(4_000)), Ok(vec![Effect::SendStop]));
    assert_eq!((rental.phase, rental.stop_reason, rental.disputed_at), (Phase::Leaving, WHY, Some(at(4_000))));
    assert_eq!(rental.step(Input::Tick, at(5_000)), Ok(vec![Effect::SendStop]), "until the chain shows it");
    rental.step(Input::Stopping(1_010), at(6_000)).unwrap();
    for input in [Input::Tick, Input::Finish, Input::FinishMissed, Input::Acked(Amount::MAX), Input::AckMissed] {
        assert_eq!(rental.step(input, at(90_000)), Ok(vec![]));
    }
    let release = release(&rental);
    assert_eq!(rental.step(Input::Released(release), at(90_000)), Ok(vec![]));
    assert_eq!((rental.phase, rental.signed_total().get()), (Phase::Leaving, 3));
}

#[test]
fn a_ruling_ends_it_as_any_closing_does() {
    let mut rental = serving();
    rental.step(Input::Dispute(WHY), at(4_000)).unwrap();
    rental.step(Input::Stopping(1_010), at(6_000)).unwrap();
    assert_eq!(rental.step(Input::Closed(ruled(2)), at(7_000)), Ok(vec![Effect::Receipt]));
    assert_eq!((rental.phase, rental.closing), (Phase::Closed, Some(ruled(2))));
    assert_eq!(rental.seconds(at(99_999)), 4, "the meter stood still since the dispute");
    assert_eq!(rental.step(Input::Dispute(WHY), at(8_000)), Err(StepError::WrongPhase { phase: "closed" }));
}

#[test]
fn without_a_ruling_it_is_finalized_when_the_window_is_over() {
    let mut rental = serving();
    rental.step(Input::Dispute(WHY), at(4_000)).unwrap();
    rental.step(Input::Stopping(1_010), at(6_000)).unwrap();
    let deadlines = Deadlines::of(&rental.quote.quote, opening().start, 1_010);
    assert_eq!(deadlines, Deadlines { ruling: 1_010 + 43_200, finalizing: 1_010 + 86_400 });
    assert_eq!(rental.step(Input::BlockTime(deadlines.finalizing), at(7_000)), Ok(vec![]));
    assert_eq!(rental.step(Input::BlockTime(deadlines.finalizing + 1), at(7_000)), Ok(vec![Effect::SendFinalize]));
}

#[test]
fn a_stop_after_the_term_leaves_less_than_the_whole_window() {
    let rental = waiting();
    let term = opening().start + u64::from(rental.quote.quote.max_seconds);
    let deadlines = Deadlines::of(&rental.quote.quote, opening().start, term + 100);
    assert_eq!(deadlines, Deadlines { ruling: term + 100 + 43_200, finalizing: term + 86_400 });
}

#[test]
fn a_total_that_was_agreed_is_not_settled_by_the_renter_once_it_is_disputed() {
    let mut rental = serving();
    rental.step(Input::Finish, at(3_000)).unwrap();
    let release = release(&rental);
    rental.step(Input::Released(release), at(3_100)).unwrap();
    assert_eq!(rental.phase, Phase::Settling);
    assert_eq!(rental.step(Input::Dispute(WHY), at(4_000)), Ok(vec![Effect::SendStop]));
    assert_eq!(rental.step(Input::Tick, at(3_100 + CLOSE_PATIENCE)), Ok(vec![Effect::SendStop]));
    assert_eq!(rental.release, Some(release), "it stays as evidence");
}

#[test]
fn a_provider_that_was_left_already_keeps_the_reason_that_was_given() {
    let mut rental = serving();
    for _ in 0..MAX_MISSED_ACKS {
        rental.step(Input::AckMissed, at(4_000)).unwrap();
    }
    assert_eq!(rental.step(Input::Dispute(WHY), at(5_000)), Ok(vec![]), "the stop is under way");
    assert_eq!((rental.stop_reason, rental.disputed_at), (StopReason::Unanswered, Some(at(5_000))));
    assert_eq!(rental.step(Input::Dispute(WHY), at(6_000)), Ok(vec![]));
    assert_eq!(rental.disputed_at, Some(at(5_000)), "given again it changes nothing");
}

#[test]
fn what_is_not_open_and_what_nobody_can_rule_on_is_not_disputed() {
    let mut rental = quoted(Address::repeat_byte(7));
    assert_eq!(rental.step(Input::Dispute(WHY), at(0)), Err(StepError::NotOpen));
    rental.step(Input::Open, at(0)).unwrap();
    assert_eq!(rental.step(Input::Dispute(WHY), at(0)), Err(StepError::NotOpen));
    assert_eq!(rental.disputed_at, None);

    let mut rental = quoted(Address::ZERO);
    rental.step(Input::Open, at(0)).unwrap();
    rental.step(Input::Opened(opening()), at(0)).unwrap();
    assert_eq!(rental.step(Input::Dispute(WHY), at(0)), Err(StepError::NoArbiter));
}

#[test]
fn a_failed_check_leaves_by_the_chain_though_nobody_could_rule_and_signs_for_nothing_more() {
    let mut rental = serving();
    rental.quote.quote.arbiter = Address::ZERO;
    assert_eq!(rental.step(Input::Leave(WHY), at(4_000)), Ok(vec![Effect::SendStop]));
    assert_eq!((rental.phase, rental.stop_reason, rental.disputed_at), (Phase::Leaving, WHY, None));
    for input in [Input::Leave(StopReason::Other), Input::Finish, Input::AckMissed] {
        assert_eq!(rental.step(input, at(5_000)), Ok(vec![]));
    }
    assert_eq!((rental.stop_reason, rental.signed_total().get(), rental.seconds(at(9_000))), (WHY, 3, 4));
    // what the chain takes back is left again
    assert_eq!(rental.step(Input::OpeningUndone, at(6_000)), Ok(vec![]));
    assert_eq!(rental.step(Input::Opened(opening()), at(7_000)), Ok(vec![Effect::SendStop]));
    assert_eq!(rental.step(Input::Closed(closing(3)), at(8_000)), Ok(vec![Effect::Receipt]));
    assert_eq!(rental.step(Input::ClosingUndone, at(9_000)), Ok(vec![Effect::Retract]));
    assert_eq!((rental.phase, rental.stop_reason), (Phase::Leaving, WHY));
}

#[test]
fn a_rental_that_is_ending_already_is_not_left_for_a_failed_check() {
    let mut rental = serving();
    rental.step(Input::Finish, at(3_000)).unwrap();
    assert_eq!(rental.step(Input::Leave(WHY), at(4_000)), Ok(vec![]));
    assert_eq!((rental.phase, rental.stop_reason), (Phase::Finishing, StopReason::Unanswered));
}

#[test]
fn a_chain_that_goes_back_does_not_undo_the_dispute() {
    let mut rental = waiting();
    rental.step(Input::Dispute(WHY), at(4_000)).unwrap();
    assert_eq!(rental.resume(), [Effect::Retract, Effect::SendStop]);
    assert_eq!(rental.step(Input::Closed(ruled(2)), at(7_000)), Ok(vec![Effect::Receipt]));
    assert_eq!(rental.step(Input::ClosingUndone, at(8_000)), Ok(vec![Effect::Retract]));
    assert_eq!(rental.step(Input::Tick, at(8_100)), Ok(vec![Effect::SendStop]));
    assert_eq!(rental.step(Input::OpeningUndone, at(9_000)), Ok(vec![]));
    assert_eq!(rental.step(Input::Opened(opening()), at(10_000)), Ok(vec![Effect::SendStop]));
    assert_eq!((rental.phase, rental.disputed_at), (Phase::Leaving, Some(at(4_000))));
}

#[test]
fn a_disputed_rental_survives_being_written_and_one_from_before_disputes_is_read() {
    let mut rental = serving();
    let text = serde_json::to_string(&rental).unwrap();
    let older = text.replace("\"disputed_at\":null,\"stop_reason\":\"unanswered\",", "");
    assert_ne!(older, text);
    assert_eq!(serde_json::from_str::<Rental>(&older).unwrap(), rental);
    rental.step(Input::Dispute(WHY), at(4_000)).unwrap();
    let text = serde_json::to_string(&rental).unwrap();
    assert_eq!(serde_json::from_str::<Rental>(&text).unwrap(), rental);
}
