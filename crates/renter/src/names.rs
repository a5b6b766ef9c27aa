//! Which rental is meant by a name: the beginning of its id, or the label that its renter gave it. Of rentals that go on only one bears a
//! label, but for one that continues another under the same: then the name means the one that serves.

use crate::records::Record;
use api::types::{ApiError, ErrorKind, is_named};
use market::id::RentalId;
use std::collections::HashSet;

/// Whether `name` means the rental of this record.
pub(crate) fn means(record: &Record, name: &str) -> bool {
    is_named(record.rental.id, record.job.label.as_ref(), name)
}

/// The one rental among those that go on that `name` means.
pub(crate) fn the_one<T>(
    going_on: impl IntoIterator<Item = T>,
    name: &str,
    record: impl Fn(&T) -> &Record,
) -> Result<T, ApiError> {
    let mut found: Vec<T> = going_on.into_iter().filter(|one| means(record(one), name)).collect();
    if found.len() > 1 && found.iter().all(|one| !record(one).rental.id.matches_prefix(name)) {
        let serves = serving(found.iter().map(&record));
        found.retain(|one| serves.contains(&record(one).rental.id));
    }
    match (found.pop(), found.is_empty()) {
        (Some(one), true) => Ok(one),
        (None, _) => {
            let message = format!("no running rental is named `{name}`");
            Err(ApiError::new(ErrorKind::NoMatch, message, "give the beginning of its id, or its label: node ps"))
        }
        (Some(_), false) => {
            Err(ApiError::new(ErrorKind::Usage, format!("several rentals are named `{name}`"), "give more digits"))
        }
    }
}

/// Of rentals with one label: those that have the sandbox. One that was told to end has handed it on, and one that continues another which
/// goes on does not have it yet.
fn serving<'a>(records: impl Iterator<Item = &'a Record>) -> HashSet<RentalId> {
    let going_on: Vec<&Record> = records.filter(|record| record.rental.stopped_at.is_none()).collect();
    let ids: HashSet<RentalId> = going_on.iter().map(|record| record.rental.id).collect();
    let waits = |record: &&&Record| record.rental.terms.continues.is_some_and(|before| ids.contains(&before));
    going_on.iter().filter(|record| !waits(record)).map(|record| record.rental.id).collect()
}

/// The records that `name` means, of all that were ever written: by a label the one that goes on, or else the newest.
pub(crate) fn latest(mut records: Vec<Record>, name: &str) -> Vec<Record> {
    records.retain(|record| means(record, name));
    if records.iter().any(|record| record.rental.id.matches_prefix(name)) {
        return records;
    }
    if let Ok(one) = the_one(records.iter().filter(|record| !record.rental.phase.is_over()), name, |record| record) {
        return vec![one.clone()];
    }
    let newest = records.into_iter().max_by_key(|record| (record.job.run, record.rental.quoted_at_block));
    newest.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::tests::quoted;
    use alloy_primitives::B256;
    use market::time::UnixMillis;

    fn rental(byte: u8, label: &str) -> Record {
        let mut record = quoted();
        record.rental.id = RentalId(B256::repeat_byte(byte));
        record.job.label = label.parse().ok();
        record
    }

    fn named(records: &[Record], name: &str) -> Result<u8, ErrorKind> {
        the_one(records, name, |record| record).map(|record| record.rental.id.0[0]).map_err(|error| error.kind)
    }

    #[test]
    fn a_rental_is_found_by_its_id_and_by_its_label() {
        let records = [rental(0xab, "train"), rental(0xcd, "")];
        assert_eq!(named(&records, "0xabab"), Ok(0xab));
        assert_eq!(named(&records, "train"), Ok(0xab));
        assert_eq!(named(&records, "cdcd"), Ok(0xcd));
        assert_eq!([named(&records, "0xffff"), named(&records, "tra")], [Err(ErrorKind::NoMatch); 2]);
    }

    #[test]
    fn a_label_leads_to_the_one_that_has_the_sandbox_while_another_takes_over() {
        let (mut old, mut new) = (rental(0xab, "train"), rental(0xcd, "train"));
        new.rental.terms.continues = Some(old.rental.id);
        assert_eq!(named(&[old.clone(), new.clone()], "train"), Ok(0xab), "the new one is not open yet");
        old.rental.stopped_at = Some(UnixMillis(5));
        assert_eq!(named(&[old, new], "train"), Ok(0xcd), "the old one has handed it on");
    }

    #[test]
    fn of_rentals_that_are_over_a_label_means_the_newest() {
        let (mut first, mut second) = (rental(0xab, "train"), rental(0xcd, "train"));
        for record in [&mut first, &mut second] {
            record.rental.phase = market::rental::renter::Phase::Lapsed;
        }
        second.job.run += 1;
        let found = latest(vec![second.clone(), first.clone()], "train");
        assert_eq!(found.iter().map(|record| record.rental.id).collect::<Vec<_>>(), [second.rental.id]);
        assert_eq!(latest(vec![first, second], "abab").len(), 1);
    }
}
