//! Both machines against scripted events: each test is one way a rental can go.

use super::{Closing, Opening, StepError, provider, renter};
use crate::{
    id::{DeviceId, RentalId, numbered_peer},
    mandate::{Funding, MAX_FUNDING_SIGNATURE, Mandate},
    money::{Amount, Rate, Token},
    offer::Hardware,
    quote::{Quote, SignedQuote},
    signed::{Escrow, SignedRelease, SignedVoucher},
    terms::{Terms, Workload},
    time::UnixMillis,
};
use alloy_primitives::{Address, B256, Bytes, Signature, U256};

mod disputes;
mod preemption;

const READY_SECONDS: u32 = 30;
const START: u64 = 1_000_000;

fn signature() -> Signature {
    Signature::new(U256::from(1), U256::from(1), false)
}

fn agreed() -> (SignedQuote, Terms) {
    let escrow = Escrow { chain: 1, address: Address::repeat_byte(9) };
    let token = Token { chain: 1, address: Address::repeat_byte(8), symbol: "USD".into(), decimals: 6 };
    let terms = Terms {
        network: "main".into(),
        provider_peer: numbered_peer(1),
        renter_peer: numbered_peer(2),
        escrow,
        token: token.clone(),
        offer: "small".into(),
        slot: "small-1".into(),
        hardware: Hardware::default(),
        increment_millis: 10_000,
        ready_seconds: READY_SECONDS,
        frozen_seconds: 60,
        notice_seconds: 0,
        workload: Workload::default(),
        continues: None,
        salt: [0; 16],
    };
    let quote = Quote {
        provider: Address::repeat_byte(1),
        provider_key: Address::repeat_byte(2),
        renter: Address::repeat_byte(3),
        renter_key: Address::repeat_byte(4),
        token: token.address,
        rate: Rate::new(Amount::new(1_000_000).unwrap()),
        min_deposit: Amount::ZERO,
        max_seconds: 3_600 + READY_SECONDS,
        window: 86_400,
        expiry: 2_000,
        arbiter: Address::ZERO,
        device: DeviceId(B256::ZERO),
        spec: B256::ZERO,
    };
    (SignedQuote { escrow, quote, signature: signature() }, terms)
}

fn opening() -> Opening {
    Opening { deposit: Amount::new(3_600).unwrap(), start: START / 1_000, tx: B256::repeat_byte(1), block: 7 }
}

fn closing(paid: u128) -> Closing {
    let paid = Amount::new(paid).unwrap();
    Closing {
        paid,
        refunded: opening().deposit.saturating_sub(paid),
        elapsed: 1,
        kind: 1,
        tx: B256::repeat_byte(2),
        block: 9,
        time: 0,
    }
}

fn at(millis: u64) -> UnixMillis {
    UnixMillis(START + millis)
}

mod provider_side {
    use super::*;
    use provider::{Effect, Input, Phase, Rental};
    use secp256k1::{Message, SECP256K1, SecretKey};

    fn quoted() -> Rental {
        let (quote, terms) = agreed();
        Rental::new(quote, terms, Bytes::new(), 5)
    }

    fn serving() -> Rental {
        let mut rental = quoted();
        assert_eq!(rental.step(Input::Opened(opening()), at(0)), Ok(vec![Effect::Prepare]));
        assert_eq!(rental.step(Input::SandboxReady(signature()), at(0)), Ok(vec![]));
        assert_eq!(rental.phase, Phase::Serving);
        rental
    }

    #[test]
    fn a_quote_lapses_only_when_the_chains_own_time_is_past_its_expiry() {
        let mut rental = quoted();
        assert_eq!(rental.step(Input::BlockTime(2_000), at(9_999_999)), Ok(vec![]));
        assert_eq!(rental.step(Input::BlockTime(2_001), at(0)), Ok(vec![Effect::FreeSlot]));
        assert_eq!(rental.phase, Phase::Lapsed);
    }

    #[test]
    fn an_unpaid_sandbox_is_frozen_after_one_increment_and_ended_after_the_agreed_wait() {
        let mut rental = serving();
        assert_eq!(rental.step(Input::Tick, at(9_999)), Ok(vec![]));
        assert_eq!(rental.step(Input::Tick, at(10_000)), Ok(vec![Effect::Freeze]));
        assert_eq!(rental.step(Input::Tick, at(69_999)), Ok(vec![]));
        assert_eq!(rental.step(Input::Tick, at(70_000)), Ok(vec![Effect::Destroy, Effect::Close]));
        assert_eq!((rental.phase, rental.frozen_total(at(80_000))), (Phase::Closing, 60_000));
    }

    #[test]
    fn a_voucher_of_another_key_changes_nothing() {
        let mut rental = serving();
        let before = rental.clone();
        let forged = SignedVoucher { id: rental.id, cumulative: Amount::new(5).unwrap(), signature: signature() };
        assert!(rental.step(Input::Voucher(forged), at(1_000)).is_err());
        assert_eq!(rental, before);
    }

    #[test]
    fn a_bad_last_voucher_does_not_keep_the_rental_open() {
        let mut rental = serving();
        let forged = SignedVoucher { id: rental.id, cumulative: Amount::new(5).unwrap(), signature: signature() };
        assert_eq!(rental.step(Input::Finish(Some(forged)), at(1_000)), Ok(vec![Effect::Destroy, Effect::Close]));
        assert_eq!((rental.phase, rental.covered()), (Phase::Closing, Amount::ZERO));
    }

    #[test]
    fn a_sandbox_that_does_not_come_up_ends_the_rental_with_a_reason() {
        let mut rental = quoted();
        rental.step(Input::Opened(opening()), at(0)).unwrap();
        assert_eq!(rental.step(Input::Tick, at(30_001)), Ok(vec![Effect::Destroy, Effect::Close]));
        assert!(rental.fault.is_some() && rental.ready.is_none());
        // one that comes up late is removed
        assert_eq!(rental.step(Input::SandboxReady(signature()), at(30_002)), Ok(vec![Effect::Destroy]));
    }

    #[test]
    fn the_slot_is_free_again_when_the_chain_shows_the_closing() {
        let mut rental = serving();
        rental.step(Input::Finish(None), at(500)).unwrap();
        assert_eq!(rental.step(Input::Closed(closing(0)), at(900)), Ok(vec![Effect::Receipt, Effect::FreeSlot]));
        assert_eq!(rental.step(Input::Closed(closing(0)), at(901)), Ok(vec![]));
        assert_eq!(rental.served_millis(at(99_999)), 500);
    }

    #[test]
    fn a_rental_that_ends_on_chain_by_itself_is_cleaned_up_and_not_closed_again() {
        let mut rental = serving();
        assert_eq!(
            rental.step(Input::Closed(closing(1)), at(900)),
            Ok(vec![Effect::Destroy, Effect::Receipt, Effect::FreeSlot])
        );
    }

    #[test]
    fn a_sandbox_that_comes_up_after_the_end_is_removed() {
        let mut rental = quoted();
        rental.step(Input::Opened(opening()), at(0)).unwrap();
        rental.step(Input::Closed(closing(0)), at(900)).unwrap();
        assert_eq!(rental.step(Input::SandboxReady(signature()), at(1_000)), Ok(vec![Effect::Destroy]));
    }

    #[test]
    fn a_receipt_that_a_crash_prevented_is_written_after_it() {
        let mut rental = serving();
        rental.step(Input::Closed(closing(1)), at(900)).unwrap();
        assert_eq!(rental.resume(), vec![Effect::Receipt, Effect::FreeSlot]);
    }

    /// With the session's key, for vouchers that count.
    fn payable_quote() -> (Rental, SecretKey) {
        let session = SecretKey::from_byte_array([7; 32]).unwrap();
        let (mut quote, terms) = agreed();
        let public = session.public_key(SECP256K1).serialize_uncompressed();
        quote.quote.renter_key = Address::from_raw_public_key(&public[1..]);
        (Rental::new(quote, terms, Bytes::new(), 5), session)
    }

    fn payable() -> (Rental, SecretKey) {
        let (mut rental, session) = payable_quote();
        rental.step(Input::Opened(opening()), at(0)).unwrap();
        rental.step(Input::SandboxReady(signature()), at(0)).unwrap();
        (rental, session)
    }

    fn voucher(rental: &Rental, session: &SecretKey, total: u128) -> SignedVoucher {
        let cumulative = Amount::new(total).unwrap();
        let digest = rental.quote.escrow.digest(&SignedVoucher::statement(rental.id, cumulative));
        let signed = SECP256K1.sign_ecdsa_recoverable(Message::from_digest(digest.0), session);
        let (parity, bytes) = signed.serialize_compact();
        let signature = Signature::from_bytes_and_parity(&bytes, i32::from(parity) == 1);
        SignedVoucher { id: rental.id, cumulative, signature }
    }

    fn pay(rental: &mut Rental, session: &SecretKey, total: u128, now: u64) -> Vec<Effect> {
        let voucher = voucher(rental, session, total);
        rental.step(Input::Voucher(voucher), at(now)).unwrap()
    }

    #[test]
    fn a_renter_that_heard_late_of_the_start_goes_on_without_paying_for_the_frozen_time() {
        let (mut rental, session) = payable();
        assert_eq!(rental.step(Input::Tick, at(10_000)), Ok(vec![Effect::Freeze]));
        // it heard of the start 35 s late, and counts from one increment before that
        assert_eq!(pay(&mut rental, &session, 10, 35_000), vec![Effect::Thaw]);
        assert_eq!((rental.served_millis(at(35_000)), rental.forgiven_millis), (10_000, 25_000));
        // later freezes are paid for
        assert_eq!(rental.step(Input::Tick, at(45_000)), Ok(vec![Effect::Freeze]));
        assert_eq!(pay(&mut rental, &session, 15, 50_000), vec![]);
        assert_eq!(pay(&mut rental, &session, 20, 50_000), vec![Effect::Thaw]);
        assert_eq!(rental.served_millis(at(50_000)), 25_000);
    }

    #[test]
    fn the_voucher_for_the_last_seconds_is_waited_for_frozen() {
        let (mut rental, session) = payable();
        pay(&mut rental, &session, 3_598, 3_599_000);
        assert_eq!(rental.step(Input::Tick, at(3_600_000)), Ok(vec![Effect::Freeze]));
        assert_eq!(rental.step(Input::Tick, at(3_601_000)), Ok(vec![]));
        assert_eq!(pay(&mut rental, &session, 3_600, 3_602_000), vec![Effect::Destroy, Effect::Close]);
        // and no longer than an increment
        let (mut rental, session) = payable();
        pay(&mut rental, &session, 3_598, 3_599_000);
        rental.step(Input::Tick, at(3_600_000)).unwrap();
        assert_eq!(rental.step(Input::Tick, at(3_609_999)), Ok(vec![]));
        assert_eq!(rental.step(Input::Tick, at(3_610_000)), Ok(vec![Effect::Destroy, Effect::Close]));
    }

    #[test]
    fn what_is_unclaimed_is_claimed_after_half_a_window_of_the_chains_time_or_when_it_is_worth_it() {
        let (mut rental, session) = payable();
        let (start, half) = (opening().start, 43_200);
        assert_eq!(rental.step(Input::BlockTime(start + half), at(0)), Ok(vec![]), "nothing was earned");
        pay(&mut rental, &session, 5, 5_000);
        assert_eq!(rental.step(Input::BlockTime(start + half - 1), at(5_000)), Ok(vec![]));
        assert_eq!(rental.step(Input::BlockTime(start + half), at(5_000)), Ok(vec![Effect::Claim]));
        assert_eq!(rental.step(Input::BlockTime(start + half), at(5_000)), Ok(vec![]), "one at a time");
        // a voucher that comes meanwhile is for the next claim, also after a restart
        pay(&mut rental, &session, 9, 9_000);
        assert_eq!(rental.claiming.unwrap().cumulative, Amount::new(5).unwrap());
        assert_eq!(rental.resume(), vec![Effect::Thaw, Effect::Claim]);
        rental.step(Input::Claimed(Amount::new(5).unwrap()), at(9_000)).unwrap();
        assert_eq!(rental.unclaimed(), Amount::new(4).unwrap());
        assert_eq!(rental.step(Input::BlockTime(start + 2 * half - 1), at(9_000)), Ok(vec![]));
        rental.worth_claiming = Amount::new(4);
        assert_eq!(rental.step(Input::BlockTime(start + 2 * half - 1), at(9_000)), Ok(vec![Effect::Claim]));
        // one that fails rests
        rental.step(Input::ClaimFailed, at(9_000)).unwrap();
        assert_eq!(rental.step(Input::BlockTime(start + 2 * half), at(9_000)), Ok(vec![]));
        assert_eq!(rental.step(Input::BlockTime(start + 2 * half + 60), at(9_000)), Ok(vec![Effect::Claim]));
    }

    /// An order to open by the session key `session`, with an advance of `total`.
    fn mandate(rental: &Rental, session: &SecretKey, total: u128) -> Mandate {
        let (deposit, funding) = (opening().deposit, Funding::Authorization { signature: Bytes::from([7; 65]) });
        Mandate { deposit, funding, advance: voucher(rental, session, total) }
    }

    #[test]
    fn a_mandated_rental_is_opened_by_the_provider_until_it_is_open_or_lapses() {
        let (mut rental, session) = payable_quote();
        let order = mandate(&rental, &session, 10);
        assert_eq!(rental.step(Input::Mandated(order.clone()), at(0)), Ok(vec![Effect::SendOpen]));
        assert_eq!((rental.covered(), rental.phase), (Amount::new(10).unwrap(), Phase::Held));
        assert_eq!(rental.resume(), vec![Effect::SendOpen]);
        assert_eq!(rental.step(Input::Mandated(order.clone()), at(1)), Ok(vec![]), "asked again, it is under way");
        assert!(rental.step(Input::Mandated(Mandate { deposit: Amount::new(99).unwrap(), ..order }), at(1)).is_err());
        let mut late = rental.clone();
        assert_eq!(rental.step(Input::Opened(opening()), at(2)), Ok(vec![Effect::Prepare]));
        assert_eq!(rental.step(Input::OpeningUndone, at(3)), Ok(vec![Effect::SendOpen]));
        assert_eq!(late.step(Input::BlockTime(2_001), at(4)), Ok(vec![Effect::FreeSlot]));
    }

    #[test]
    fn the_advance_is_served_before_anything_else_is_due() {
        let (mut rental, session) = payable_quote();
        rental.step(Input::Mandated(mandate(&rental, &session, 10)), at(0)).unwrap();
        rental.step(Input::Opened(opening()), at(0)).unwrap();
        rental.step(Input::SandboxReady(signature()), at(0)).unwrap();
        assert_eq!(rental.step(Input::Tick, at(19_999)), Ok(vec![]));
        assert_eq!(rental.step(Input::Tick, at(20_000)), Ok(vec![Effect::Freeze]));
    }

    #[test]
    fn a_provider_that_fails_keeps_no_advance() {
        let (mut rental, session) = payable_quote();
        rental.step(Input::Mandated(mandate(&rental, &session, 10)), at(0)).unwrap();
        rental.step(Input::Opened(opening()), at(0)).unwrap();
        rental.step(Input::SandboxFailed("no disk left".into()), at(1)).unwrap();
        assert_eq!(rental.step(Input::Finish(Some(voucher(&rental, &session, 10))), at(2)), Ok(vec![]));
        assert_eq!((rental.phase, rental.covered()), (Phase::Closing, Amount::ZERO));
    }

    #[test]
    fn an_order_that_does_not_fit_the_quote_is_refused_for_its_reason() {
        let (mut rental, session) = payable_quote();
        let good = mandate(&rental, &session, 10);
        let mut refused = |order: Mandate| match rental.step(Input::Mandated(order), at(0)) {
            Err(StepError::Mandate(fault)) => fault.to_string(),
            other => panic!("{other:?}"),
        };
        let low =
            Mandate { advance: SignedVoucher { cumulative: Amount::new(9).unwrap(), ..good.advance }, ..good.clone() };
        assert!(refused(low).contains("the first increment costs 10"));
        let none = Mandate { deposit: Amount::ZERO, ..good.clone() };
        assert!(refused(none).contains("not between"));
        let over = Mandate { deposit: Amount::new(1_000_000).unwrap(), ..good.clone() };
        assert!(refused(over).contains("not between"));
        let forged = Mandate { advance: SignedVoucher { signature: signature(), ..good.advance }, ..good.clone() };
        assert!(refused(forged).contains("not signed"));
        let long = Funding::Authorization { signature: vec![1; MAX_FUNDING_SIGNATURE + 1].into() };
        assert!(refused(Mandate { funding: long, ..good }).contains("4097 bytes"));
    }

    #[test]
    fn nothing_is_served_while_the_chain_has_taken_the_opening_back() {
        let (mut rental, session) = payable();
        pay(&mut rental, &session, 5, 5_000);
        assert_eq!(rental.step(Input::OpeningUndone, at(6_000)), Ok(vec![Effect::Freeze]));
        assert_eq!((rental.phase, rental.keeps_sandbox(), rental.occupies_slot()), (Phase::Held, true, true));
        assert_eq!(rental.resume(), vec![Effect::Freeze]);
        // whoever asks is told to ask again, not that it is over
        let voucher = SignedVoucher { cumulative: Amount::new(6).unwrap(), ..rental.voucher.unwrap() };
        assert_eq!(rental.step(Input::Voucher(voucher), at(7_000)), Err(StepError::NotOpen));
        assert_eq!(rental.step(Input::Finish(None), at(7_000)), Err(StepError::NotOpen));
        // it comes back in another block
        let again = Opening { block: 12, start: opening().start + 5, ..opening() };
        assert_eq!(rental.step(Input::Opened(again), at(8_000)), Ok(vec![Effect::Thaw]));
        assert_eq!((rental.phase, rental.opening), (Phase::Serving, Some(again)));
        // or not in time
        rental.step(Input::OpeningUndone, at(9_000)).unwrap();
        assert_eq!(rental.step(Input::BlockTime(2_001), at(9_000)), Ok(vec![Effect::Destroy, Effect::FreeSlot]));
        assert_eq!(rental.phase, Phase::Lapsed);
    }

    #[test]
    fn an_end_that_the_chain_takes_back_is_made_again() {
        let mut rental = serving();
        rental.step(Input::Finish(None), at(500)).unwrap();
        rental.step(Input::Closed(closing(0)), at(900)).unwrap();
        assert_eq!(rental.step(Input::ClosingUndone, at(950)), Ok(vec![Effect::Retract, Effect::Close]));
        assert_eq!((rental.phase, rental.occupies_slot()), (Phase::Closing, false));
        let moved = Closing { block: 11, ..closing(0) };
        assert_eq!(rental.step(Input::Closed(moved), at(990)), Ok(vec![Effect::Receipt, Effect::FreeSlot]));
        assert_eq!(rental.closing, Some(moved));
    }

    #[test]
    fn what_is_not_cashed_can_be_lost_from_the_end_of_the_window_on() {
        let mut rental = serving();
        let term = opening().start + 3_630;
        assert_eq!(rental.forfeit_at(), Some(term + 86_400));
        rental.step(Input::StoppedOnChain(opening().start + 10), at(10_000)).unwrap();
        assert_eq!(rental.forfeit_at(), Some(opening().start + 10 + 86_400));
    }

    #[test]
    fn the_machine_survives_being_written_and_read() {
        let rental = serving();
        let text = serde_json::to_string(&rental).unwrap();
        assert_eq!(serde_json::from_str::<Rental>(&text).unwrap(), rental);
        assert_eq!(rental.resume(), vec![Effect::Thaw]);
    }
}

mod renter_side {
    use super::*;
    use renter::{CLOSE_PATIENCE, Effect, Input, MAX_FINISH_ATTEMPTS, MAX_MISSED_ACKS, Phase, Rental};

    fn opened() -> Rental {
        let (quote, terms) = agreed();
        let mut rental = Rental::new(quote, terms, Bytes::new(), opening().deposit, 5);
        assert_eq!(rental.step(Input::Open, at(0)), Ok(vec![Effect::SendOpen]));
        assert_eq!(rental.step(Input::Opened(opening()), at(0)), Ok(vec![]));
        rental
    }

    fn serving() -> Rental {
        let mut rental = opened();
        rental.step(Input::Ready(at(0), signature()), at(0)).unwrap();
        assert_eq!(rental.phase, Phase::Serving);
        rental
    }

    fn voucher(id: RentalId, total: u128) -> SignedVoucher {
        SignedVoucher { id, cumulative: Amount::new(total).unwrap(), signature: signature() }
    }

    #[test]
    fn it_signs_for_the_seconds_that_have_begun_and_never_for_less_than_before() {
        let mut rental = serving();
        assert_eq!(rental.step(Input::Tick, at(1_001)), Ok(vec![Effect::Sign(Amount::new(2).unwrap())]));
        rental.step(Input::Signed(voucher(rental.id, 2)), at(1_001)).unwrap();
        // a clock that jumps back does not take anything back
        assert_eq!(rental.step(Input::Tick, at(100)), Ok(vec![Effect::Sign(Amount::new(2).unwrap())]));
    }

    #[test]
    fn a_renter_that_was_away_signs_one_increment_beyond_the_last_ack_and_catches_up_with_the_next() {
        let mut rental = serving();
        rental.step(Input::Signed(voucher(rental.id, 3)), at(3_000)).unwrap();
        rental.step(Input::Acked(Amount::new(3).unwrap()), at(3_000)).unwrap();
        assert_eq!(rental.step(Input::Tick, at(50_000)), Ok(vec![Effect::Sign(Amount::new(13).unwrap())]));
        rental.step(Input::Signed(voucher(rental.id, 13)), at(50_000)).unwrap();
        // unacknowledged, it goes no further; acknowledged, it does
        assert_eq!(rental.step(Input::Tick, at(50_001)), Ok(vec![Effect::Sign(Amount::new(13).unwrap())]));
        rental.step(Input::Acked(Amount::new(13).unwrap()), at(50_002)).unwrap();
        assert_eq!(rental.step(Input::Tick, at(50_003)), Ok(vec![Effect::Sign(Amount::new(51).unwrap())]));
    }

    #[test]
    fn a_renter_that_was_away_longer_than_a_frozen_sandbox_waits_ends_the_rental() {
        let mut rental = serving();
        rental.step(Input::Acked(Amount::ZERO), at(3_000)).unwrap();
        // an increment that was covered, one that was not, and the wait
        assert_eq!(rental.step(Input::Tick, at(83_000)), Ok(vec![Effect::Sign(Amount::new(13).unwrap())]));
        let effects = rental.step(Input::Tick, at(83_001)).unwrap();
        assert_eq!(effects, vec![Effect::Sign(Amount::new(13).unwrap()), Effect::TellFinish]);
    }

    #[test]
    fn backdating_and_silence_cost_one_increment_together() {
        let mut rental = opened();
        // eight seconds before it was heard: two are left to go ahead
        rental.step(Input::Ready(at(2_000), signature()), at(10_000)).unwrap();
        assert_eq!(rental.step(Input::Tick, at(30_000)), Ok(vec![Effect::Sign(Amount::new(10).unwrap())]));
    }

    #[test]
    fn a_release_of_more_than_was_signed_is_no_answer() {
        let mut rental = serving();
        rental.step(Input::Signed(voucher(rental.id, 3)), at(3_000)).unwrap();
        rental.step(Input::Finish, at(3_000)).unwrap();
        let release = SignedRelease { id: rental.id, cumulative: Amount::new(4).unwrap(), signature: signature() };
        for _ in 1..MAX_FINISH_ATTEMPTS {
            assert_eq!(rental.step(Input::Released(release), at(3_100)), Ok(vec![Effect::TellFinish]));
        }
        assert_eq!(rental.step(Input::Released(release), at(3_100)), Ok(vec![Effect::SendStop]));
        assert_eq!(rental.release, None);
    }

    #[test]
    fn a_backdated_start_costs_one_increment_at_most() {
        let mut rental = opened();
        rental.step(Input::Ready(UnixMillis(5), signature()), at(20_000)).unwrap();
        assert_eq!(rental.meter().unwrap().owed(at(20_000)), Amount::new(10).unwrap());
    }

    #[test]
    fn a_provider_that_misses_three_acks_is_left_on_chain() {
        let mut rental = serving();
        for _ in 1..MAX_MISSED_ACKS {
            assert_eq!(rental.step(Input::AckMissed, at(1_000)), Ok(vec![]));
        }
        assert_eq!(rental.step(Input::AckMissed, at(2_000)), Ok(vec![Effect::SendStop]));
        rental.step(Input::Stopping(1_010), at(3_000)).unwrap();
        assert_eq!(rental.step(Input::BlockTime(1_010 + 86_400), at(4_000)), Ok(vec![]));
        assert_eq!(rental.step(Input::BlockTime(1_011 + 86_400), at(4_000)), Ok(vec![Effect::SendFinalize]));
    }

    #[test]
    fn an_ack_in_between_forgives() {
        let mut rental = serving();
        for _ in 0..10 {
            assert_eq!(rental.step(Input::AckMissed, at(1_000)), Ok(vec![]));
            rental.step(Input::Acked(Amount::ZERO), at(1_000)).unwrap();
        }
    }

    #[test]
    fn the_last_voucher_is_signed_before_the_end_is_told() {
        let mut rental = serving();
        let effects = rental.step(Input::Finish, at(4_500)).unwrap();
        assert_eq!(effects, vec![Effect::Sign(Amount::new(5).unwrap()), Effect::TellFinish]);
        assert_eq!(rental.seconds(at(99_999)), 5);
    }

    #[test]
    fn a_provider_that_does_not_answer_the_end_is_left_on_chain() {
        let mut rental = serving();
        rental.step(Input::Finish, at(4_500)).unwrap();
        for _ in 1..MAX_FINISH_ATTEMPTS {
            assert_eq!(rental.step(Input::FinishMissed, at(5_000)), Ok(vec![Effect::TellFinish]));
        }
        assert_eq!(rental.step(Input::FinishMissed, at(6_000)), Ok(vec![Effect::SendStop]));
        assert_eq!(rental.phase, Phase::Leaving);
    }

    #[test]
    fn a_provider_that_does_not_close_is_closed_with_its_own_release() {
        let mut rental = serving();
        rental.step(Input::Finish, at(1_000)).unwrap();
        rental.step(Input::Signed(voucher(rental.id, 1)), at(1_000)).unwrap();
        let release = SignedRelease { id: rental.id, cumulative: Amount::new(1).unwrap(), signature: signature() };
        rental.step(Input::Released(release), at(1_000)).unwrap();
        assert_eq!(rental.step(Input::Tick, at(1_000 + CLOSE_PATIENCE - 1)), Ok(vec![]));
        assert_eq!(rental.step(Input::Tick, at(1_000 + CLOSE_PATIENCE)), Ok(vec![Effect::SendRelease]));
        assert_eq!(rental.step(Input::Closed(closing(1)), at(90_000)), Ok(vec![Effect::Receipt]));
    }

    #[test]
    fn a_sandbox_that_never_comes_is_left_for_free() {
        let mut rental = opened();
        assert_eq!(rental.step(Input::Tick, at(31_000)), Ok(vec![]));
        assert_eq!(rental.step(Input::Tick, at(31_001)), Ok(vec![Effect::TellFinish]));
        assert_eq!(rental.signed_total(), Amount::ZERO);
    }

    #[test]
    fn an_end_ordered_during_the_opening_is_not_told_after_a_restart_before_it_is_open() {
        let (quote, terms) = agreed();
        let mut rental = Rental::new(quote, terms, Bytes::new(), opening().deposit, 5);
        rental.step(Input::Open, at(0)).unwrap();
        rental.step(Input::Finish, at(1)).unwrap();
        assert_eq!(rental.resume(), vec![Effect::Retract]);
        rental.step(Input::Opened(opening()), at(2)).unwrap();
        assert_eq!(rental.resume(), vec![Effect::Retract, Effect::TellFinish]);
        rental.step(Input::Closed(closing(0)), at(3)).unwrap();
        assert_eq!(rental.resume(), vec![Effect::Receipt]);
    }

    #[test]
    fn nothing_is_signed_while_the_chain_has_taken_the_opening_back() {
        let mut rental = serving();
        rental.step(Input::Signed(voucher(rental.id, 3)), at(3_000)).unwrap();
        assert_eq!(rental.step(Input::OpeningUndone, at(4_000)), Ok(vec![Effect::SendOpen]));
        assert_eq!(rental.step(Input::Tick, at(5_000)), Ok(vec![]));
        assert_eq!(rental.step(Input::Opened(opening()), at(6_000)), Ok(vec![]));
        assert_eq!(rental.phase, Phase::Serving);
        // or it comes back no more
        rental.step(Input::OpeningUndone, at(7_000)).unwrap();
        rental.step(Input::NotOpened, at(60_000)).unwrap();
        assert_eq!(rental.phase, Phase::Lapsed);
    }

    #[test]
    fn an_end_that_is_agreed_while_the_chain_has_taken_the_opening_back_holds_when_it_returns() {
        let mut rental = serving();
        rental.step(Input::Finish, at(1_000)).unwrap();
        assert_eq!(rental.step(Input::OpeningUndone, at(2_000)), Ok(vec![]));
        let release = SignedRelease { id: rental.id, cumulative: Amount::ZERO, signature: signature() };
        rental.step(Input::Released(release), at(3_000)).unwrap();
        assert_eq!(rental.step(Input::Opened(opening()), at(4_000)), Ok(vec![]));
        assert_eq!((rental.phase, rental.opening), (Phase::Settling, Some(opening())));
    }

    #[test]
    fn an_end_that_the_chain_takes_back_is_sought_again_as_before() {
        let mut rental = serving();
        rental.step(Input::Signed(voucher(rental.id, 1)), at(1_000)).unwrap();
        rental.step(Input::Finish, at(1_000)).unwrap();
        let release = SignedRelease { id: rental.id, cumulative: Amount::new(1).unwrap(), signature: signature() };
        rental.step(Input::Released(release), at(1_000)).unwrap();
        rental.step(Input::Closed(closing(1)), at(2_000)).unwrap();
        assert_eq!(rental.step(Input::ClosingUndone, at(3_000)), Ok(vec![Effect::Retract]));
        assert_eq!(rental.step(Input::Tick, at(3_000 + CLOSE_PATIENCE)), Ok(vec![Effect::SendRelease]));

        let mut left = serving();
        left.step(Input::Stopping(1_010), at(1_000)).unwrap();
        left.step(Input::Closed(closing(0)), at(2_000)).unwrap();
        assert_eq!(left.step(Input::ClosingUndone, at(3_000)), Ok(vec![Effect::Retract]));
        assert_eq!(left.step(Input::BlockTime(1_011 + 86_400), at(4_000)), Ok(vec![Effect::SendFinalize]));
    }

    #[test]
    fn a_stop_during_the_opening_takes_effect_when_it_is_open() {
        let (quote, terms) = agreed();
        let mut rental = Rental::new(quote, terms, Bytes::new(), opening().deposit, 5);
        rental.step(Input::Open, at(0)).unwrap();
        assert_eq!(rental.step(Input::Finish, at(1)), Ok(vec![]));
        assert_eq!(rental.step(Input::Opened(opening()), at(2)), Ok(vec![Effect::TellFinish]));
        assert_eq!(rental.phase, Phase::Finishing);
    }
}
