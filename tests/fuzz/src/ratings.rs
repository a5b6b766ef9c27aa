//! Ratings with what checks have shown, gossiped and given, and the questions and answers of `/gpulease/ratings/1`.

use crate::{
    choice,
    discovery::{messages, stable},
    identity::sign,
    memory::bounded,
};
use market::rating::{HIGHEST_LEVEL, MAX_COMMENT_BYTES, SignedRating};
use wire::{
    MAX_RATING_BYTES, MAX_RATINGS_REQUEST_BYTES, MAX_RATINGS_RESPONSE_BYTES, MAX_RECORD_PAGE, decode, proto,
    rating_from_proto, rating_to_proto, record_ask_from_proto, record_ask_to_proto, record_from_proto, record_to_proto,
};

/// The first byte says what the rest is: what is gossiped, a question, or an answer.
pub(crate) fn run(data: &[u8]) {
    match choice(data, 3) {
        Some((0, gossiped)) => {
            if let Ok(rating) = bounded(gossiped, |bytes| decode(bytes, MAX_RATING_BYTES).and_then(rating_from_proto)) {
                examine(&rating);
            }
        }
        Some((1, stream)) => {
            stable::<proto::RatingsRequest>(stream, MAX_RATINGS_REQUEST_BYTES);
            messages(stream, MAX_RATINGS_REQUEST_BYTES, request);
        }
        Some((_, stream)) => {
            stable::<proto::RatingsResponse>(stream, MAX_RATINGS_RESPONSE_BYTES);
            messages(stream, MAX_RATINGS_RESPONSE_BYTES, response);
        }
        None => {}
    }
}

fn request(message: &proto::RatingsRequest) {
    use proto::ratings_request::Request;
    match message.request.clone() {
        Some(Request::Give(rating)) => {
            if let Ok(rating) = rating_from_proto(rating) {
                examine(&rating);
            }
        }
        Some(Request::Record(ask)) => {
            if let Ok(ask) = record_ask_from_proto(&ask) {
                assert!((1..=MAX_RECORD_PAGE).contains(&ask.limit));
                assert_eq!(record_ask_from_proto(&record_ask_to_proto(&ask)), Ok(ask));
            }
        }
        None => {}
    }
}

fn response(message: &proto::RatingsResponse) {
    let Some(proto::ratings_response::Response::Record(record)) = message.response.clone() else { return };
    let Ok(record) = record_from_proto(record) else { return };
    assert!(record.rentals.len() <= MAX_RECORD_PAGE);
    record.rentals.iter().filter_map(|rental| rental.rating.as_ref()).for_each(examine);
    assert_eq!(record_from_proto(record_to_proto(&record)), Ok(record));
}

fn examine(rating: &SignedRating) {
    assert_eq!(rating_from_proto(rating_to_proto(rating)).as_ref(), Ok(rating));
    let statement = &rating.statement;
    assert!(statement.comment.len() <= MAX_COMMENT_BYTES && !statement.comment.contains(char::is_control));
    assert!(statement.stars.is_some() || statement.checks.is_some(), "a rating that says nothing");
    if let Some(checks) = &statement.checks {
        assert!((1..=HIGHEST_LEVEL).contains(&checks.level) && !checks.is_empty());
        assert!(!(checks.has_passed() && checks.has_missed()));
    }
    let _ = rating.signer();
    // what was signed cannot be read as anything else that is signed in the same place
    let signed = SignedRating { signature: sign(&statement.digest()), ..rating.clone() };
    let mut without = signed.clone();
    without.statement.checks = None;
    assert!(statement.checks.is_none() || without.signer() != signed.signer(), "checks can be taken off");
}
