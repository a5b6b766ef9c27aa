//! What is signed and written of a rental, by its renter and by its checks, and how it is told.

use super::*;
use crate::story::tests::quoted;
use alloy_primitives::B256;
use api::types::{CheckedDevice, HardwareCheck};
use market::{money::Amount, rental::Closing};

fn closed(paid: u128) -> Record {
    let mut record = quoted();
    record.rental.closing = Some(Closing {
        paid: Amount::new(paid).unwrap(),
        refunded: Amount::ZERO,
        elapsed: 60,
        kind: 1,
        tx: Default::default(),
        block: 7,
        time: 1,
    });
    record
}

async fn store(record: Record) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &crate::tables()).unwrap();
    let id = record.rental.id;
    store.put::<Rentals>(&id, &Json(record)).unwrap();
    (folder, store)
}

fn request(stars: u8, comment: &str) -> RatingRequest {
    RatingRequest { stars, comment: comment.to_owned() }
}

#[tokio::test]
async fn a_rating_is_on_disk_before_it_is_told_and_a_later_one_takes_its_place() {
    let record = closed(1);
    let (id, key) = (record.rental.id, Wallet::from_key(&record.session_key).unwrap().address());
    let (_folder, store) = store(record).await;
    let first = sign(&store, id, request(2, "slow")).await.unwrap();
    assert_eq!(store.get::<OwnRatings>(&id).unwrap().unwrap().0, first);
    assert_eq!(first.rating.signer(), Some(key));
    let second = sign(&store, id, request(4, "not so slow")).await.unwrap();
    assert!(second.rating.supersedes(&first.rating));
    assert_eq!(store.get::<OwnRatings>(&id).unwrap().unwrap().0, second);
}

fn checked(at: u64, outcome: CheckOutcome, devices: &[(&str, u64)]) -> HardwareCheck {
    let device = |(device, seen): &(&str, u64)| CheckedDevice {
        device: (*device).to_owned(),
        model: String::new(),
        least: Some(600),
        seen: *seen,
        held_bytes: 0,
    };
    let devices = devices.iter().map(device).collect();
    HardwareCheck { at: UnixMillis(at), level: 2, outcome, detail: String::new(), devices }
}

#[test]
fn the_sum_of_checks_tells_the_latest_that_showed_something_and_the_cards_that_answered_it() {
    let mut checks = Checks::default();
    assert_eq!(summary(&checks), None);
    checks.add(checked(1, CheckOutcome::Unknown, &[]));
    assert_eq!(summary(&checks), None, "nothing was shown");
    checks.add(checked(2, CheckOutcome::Passed, &[("cpu", 700)]));
    let of_processors = summary(&checks).unwrap();
    assert_eq!((of_processors.devices, of_processors.seen, of_processors.least), (None, 700, 600));
    checks.add(checked(3, CheckOutcome::Passed, &[("GPU-b", 900), ("GPU-a", 800)]));
    checks.add(checked(4, CheckOutcome::Unknown, &[]));
    let of_cards = summary(&checks).unwrap();
    assert_eq!((of_cards.passed, of_cards.last, of_cards.seen), (2, UnixMillis(3), 800));
    assert_eq!(of_cards.devices, Some(DeviceId::of_gpus(["GPU-a", "GPU-b"])));
    let mut silent = checks.clone();
    (5..50).for_each(|at| silent.add(checked(at, CheckOutcome::Unknown, &[])));
    let long_ago = summary(&silent).unwrap();
    assert_eq!((long_ago.passed, long_ago.last, long_ago.devices), (2, UnixMillis(0), None));
    checks.add(checked(5, CheckOutcome::Missed, &[("GPU-b", 100)]));
    let missed = summary(&checks).unwrap();
    assert_eq!((missed.missed, missed.seen, missed.devices), (1, 100, None));
}

#[tokio::test]
async fn checks_of_a_closed_rental_are_told_once_and_go_with_the_rating_that_follows() {
    let mut record = closed(1);
    record.job.checks.add(checked(2, CheckOutcome::Passed, &[("cpu", 700)]));
    let (id, shown) = (record.rental.id, summary(&record.job.checks));
    let (_folder, store) = store(record.clone()).await;
    let untold = Untold::default();
    tell_checks(&store, &untold, id).await;
    let told = untold.lock().get(&id).cloned().unwrap();
    assert_eq!((told.rating.statement.stars, told.rating.statement.checks), (None, shown));
    assert_eq!(store.get::<OwnRatings>(&id).unwrap().unwrap().0, told);
    assert_eq!(sign_checks(&store, id).await.unwrap(), None, "each start asks for it again");

    let rated = sign(&store, id, request(3, "fine")).await.unwrap();
    assert_eq!((rated.rating.statement.stars.map(Stars::get), rated.rating.statement.checks), (Some(3), shown));
    assert!(rated.rating.supersedes(&told.rating));
    record.job.checks.add(checked(3, CheckOutcome::Passed, &[("cpu", 800)]));
    store.put::<Rentals>(&id, &Json(record)).unwrap();
    let again = sign_checks(&store, id).await.unwrap().unwrap().rating;
    assert_eq!((again.statement.stars.map(Stars::get), again.statement.comment.as_str()), (Some(3), "fine"));
    assert_eq!(again.statement.checks.map(|checks| checks.passed), Some(2));
}

#[tokio::test]
async fn what_is_said_in_this_run_is_not_replaced_by_what_an_earlier_one_left() {
    let mut record = closed(1);
    let id = record.rental.id;
    let (_folder, store) = store(record.clone()).await;
    let earlier = sign(&store, id, request(2, "slow")).await.unwrap();
    record.job.checks.add(checked(2, CheckOutcome::Passed, &[("cpu", 700)]));
    store.put::<Rentals>(&id, &Json(record)).unwrap();
    let untold = Untold::default();
    tell_checks(&store, &untold, id).await;
    let now = untold.lock().get(&id).cloned().unwrap();
    untold.remember([(id, earlier.clone())].into());
    assert_eq!(untold.lock().get(&id), Some(&now));
    let other = RentalId(B256::repeat_byte(9));
    untold.remember([(other, earlier.clone())].into());
    assert_eq!(untold.lock().get(&other), Some(&earlier));
}

#[tokio::test]
async fn nothing_is_told_of_checks_that_showed_nothing_or_of_a_rental_for_which_nothing_was_paid() {
    let mut silent = closed(1);
    silent.job.checks.add(checked(1, CheckOutcome::Unknown, &[]));
    let mut unpaid = closed(0);
    unpaid.job.checks.add(checked(1, CheckOutcome::Passed, &[("cpu", 700)]));
    let mut open = quoted();
    open.job.checks = unpaid.job.checks.clone();
    for record in [silent, unpaid, open] {
        let id = record.rental.id;
        let (_folder, store) = store(record).await;
        assert_eq!(sign_checks(&store, id).await.unwrap(), None);
        assert!(store.get::<OwnRatings>(&id).unwrap().is_none());
    }
}

#[tokio::test]
async fn what_would_count_nowhere_is_refused_with_the_reason() {
    let refused = async |record: Record, request: RatingRequest| {
        let id = record.rental.id;
        let (_folder, store) = store(record).await;
        let error = sign(&store, id, request).await.unwrap_err();
        assert!(store.get::<OwnRatings>(&id).unwrap().is_none());
        (error.kind, error.message)
    };
    let (kind, message) = refused(quoted(), request(5, "")).await;
    assert!(kind == ErrorKind::Usage && message.contains("not closed"), "{message}");
    let (kind, message) = refused(closed(0), request(5, "")).await;
    assert!(kind == ErrorKind::Usage && message.contains("nothing was paid"), "{message}");
    let (kind, message) = refused(closed(1), request(6, "")).await;
    assert!(kind == ErrorKind::Usage && message.contains("1 to 5"), "{message}");
    let (kind, message) = refused(closed(1), request(5, &"x".repeat(300))).await;
    assert!(kind == ErrorKind::Usage && message.contains("comment"), "{message}");
}

#[tokio::test]
async fn a_rating_that_nobody_keeps_is_told_ever_more_seldom_and_given_up_at_last() {
    let record = closed(1);
    let id = record.rental.id;
    let (_folder, store) = store(record).await;
    let mut told = sign(&store, id, request(5, "")).await.unwrap();
    let (mut now, began) = (UnixMillis(0), UnixMillis(0));
    while !told.is_over() {
        told.postpone(now);
        assert!(told.next.since(now) <= MAX_PAUSE * 5 / 4);
        now = told.next;
    }
    assert!(now.since(began) > 86_400_000, "{} ms in all", now.since(began));
    assert_eq!(told.view().state, RatingState::GivenUp);
}
