//! Honest ratings, questions about a provider, and answers.

use super::{chosen, frames};
use crate::identity::{ESCROW, NOW, address, sign};
use alloy_primitives::{Address, B256};
use market::{
    id::{DeviceId, RentalId},
    money::Amount,
    rating::{CheckSummary, RatingStatement, SignedRating},
    reputation::{FORMULA, Record, Volume},
    standing::Standing,
};
use wire::{PageEnd, PastRental, ProviderRecord, RecordAsk, encode, proto, rating_to_proto};

fn signed(statement: RatingStatement) -> SignedRating {
    SignedRating { signature: sign(&statement.digest()), statement }
}

fn ratings() -> [SignedRating; 3] {
    let checks = CheckSummary {
        passed: 3,
        unmeasured: 1,
        last: NOW,
        devices: Some(DeviceId(B256::repeat_byte(6))),
        seen: 2_500_000_000,
        least: 1_800_000_000,
        ..CheckSummary::at_level(2)
    };
    let stars = RatingStatement {
        escrow: ESCROW,
        id: RentalId(B256::repeat_byte(5)),
        stars: Some(4.try_into().expect("four of five")),
        comment: "as offered".into(),
        checks: None,
        at: NOW,
    };
    let both = RatingStatement { checks: Some(checks), ..stars.clone() };
    let alone = RatingStatement { stars: None, comment: String::new(), ..both.clone() };
    [stars, both, alone].map(signed)
}

pub(super) fn all() -> Vec<Vec<u8>> {
    use proto::{ratings_request::Request, ratings_response::Response};
    let ratings = ratings();
    let end = PageEnd { closed: NOW.seconds(), id: ratings[0].statement.id };
    let ask = RecordAsk { wallet: address(), asker: Some(Address::ZERO), before: Some(end), limit: 20 };
    let past = |rating: &SignedRating| PastRental {
        escrow: ESCROW,
        id: rating.statement.id,
        opened_block: 7,
        closed_block: 9,
        rating: Some(rating.clone()),
    };
    let volume = Volume { escrow: ESCROW, token: Address::ZERO, amount: Amount::new(5).expect("small") };
    let record = ProviderRecord {
        wallet: address(),
        standing: Standing { completed: 1, ratings: 1, rating: Some(4_000), ..Standing::default() },
        record: Record {
            formula: FORMULA.into(),
            completed: 1,
            stars: [0, 0, 0, 1, 0],
            passed_checks: 1,
            checking_renters: 1,
            volume: vec![volume],
            ..Record::default()
        },
        trusted_seconds: Some(60),
        rentals: ratings.iter().map(past).collect(),
        next: Some(end),
    };
    let requests = ratings
        .iter()
        .map(|rating| Request::Give(rating_to_proto(rating)))
        .chain([Request::Record(wire::record_ask_to_proto(&ask))])
        .map(|request| proto::RatingsRequest { request: Some(request) });
    let given = proto::Given { state: proto::given::State::Waiting.into(), detail: "not closed".into() };
    let responses = [Response::Given(given), Response::Record(wire::record_to_proto(&record))]
        .map(|response| proto::RatingsResponse { response: Some(response) });
    let mut inputs: Vec<_> = ratings.iter().map(|rating| chosen(0, &encode(&rating_to_proto(rating)))).collect();
    inputs.push(chosen(1, &frames(&requests.collect::<Vec<_>>())));
    inputs.push(chosen(2, &frames(&responses)));
    inputs
}
