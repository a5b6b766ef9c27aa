//! Ratings, and the record of a provider, to and from their messages.

use crate::{
    WireError,
    convert::{address, amount, hash, invalid, required, settlement, settlement_to_proto, signature, text},
    proto,
    rental::id_from_proto,
};
use alloy_primitives::Address;
use market::{
    id::{DeviceId, RentalId},
    rating::{CheckSummary, HIGHEST_LEVEL, MAX_COMMENT_BYTES, RatingStatement, SignedRating, Stars},
    reputation::{Record, Volume},
    signed::Escrow,
    standing::Standing,
    time::UnixMillis,
};

/// The largest rating: its comment, a hash, an address, a signature and the sums of its checks.
pub const MAX_RATING_BYTES: usize = 512;
/// The largest request of `/gpulease/ratings/1`: a rating with room to spare.
pub const MAX_RATINGS_REQUEST_BYTES: usize = 1024;
/// The largest answer of `/gpulease/ratings/1`: a page of rentals, each with its rating.
pub const MAX_RATINGS_RESPONSE_BYTES: usize = 64 * 1024;
/// The most rentals in one page of a record.
pub const MAX_RECORD_PAGE: usize = 64;
/// The most tokens in which a record tells its volume: more than anybody takes.
pub(crate) const MAX_VOLUMES: usize = 64;

/// Writes a rating.
pub fn rating_to_proto(rating: &SignedRating) -> proto::Rating {
    let statement = &rating.statement;
    proto::Rating {
        settlement: Some(settlement_to_proto(&statement.escrow)),
        id: statement.id.0.to_vec(),
        stars: statement.stars.map_or(0, |stars| stars.get().into()),
        comment: statement.comment.clone(),
        at: statement.at.0,
        signature: rating.signature.as_bytes().to_vec(),
        checks: statement.checks.as_ref().map(checks_to_proto),
    }
}

fn checks_to_proto(checks: &CheckSummary) -> proto::HardwareChecks {
    proto::HardwareChecks {
        level: checks.level.into(),
        passed: checks.passed,
        unmeasured: checks.unmeasured,
        missed: checks.missed,
        last: checks.last.0,
        devices: checks.devices.map(|devices| devices.0.to_vec()).unwrap_or_default(),
        seen: checks.seen,
        least: checks.least,
    }
}

fn checks_from_proto(message: &proto::HardwareChecks) -> Result<CheckSummary, WireError> {
    let level = u8::try_from(message.level).ok().filter(|level| (1..=HIGHEST_LEVEL).contains(level));
    let devices = match &message.devices[..] {
        [] => None,
        devices => Some(hash("checks.devices", devices)?),
    };
    // zero is signed when there are none: the same signature must not stand for two messages
    if devices.is_some_and(|devices| devices.is_zero()) {
        return Err(invalid("checks.devices", "zero is no slot"));
    }
    let checks = CheckSummary {
        level: level.ok_or_else(|| invalid("checks.level", format!("a check has a level of 1 to {HIGHEST_LEVEL}")))?,
        passed: message.passed,
        unmeasured: message.unmeasured,
        missed: message.missed,
        last: UnixMillis(message.last),
        devices: devices.map(DeviceId),
        seen: message.seen,
        least: message.least,
    };
    if checks.is_empty() { Err(invalid("checks", "none is counted")) } else { Ok(checks) }
}

/// Reads a rating. Whether its signature counts, the chain tells.
pub fn rating_from_proto(message: proto::Rating) -> Result<SignedRating, WireError> {
    let checks = message.checks.as_ref().map(checks_from_proto).transpose()?;
    let stars = match u8::try_from(message.stars) {
        Ok(0) if checks.is_some() => None,
        stars => stars
            .ok()
            .and_then(|stars| Some(Some(Stars::try_from(stars).ok()?)))
            .ok_or_else(|| invalid("stars", "a rating has 1 to 5, or none if it tells of checks"))?,
    };
    let comment = text("comment", message.comment)?;
    if comment.len() > MAX_COMMENT_BYTES {
        return Err(invalid("comment", format!("{} bytes, at most {MAX_COMMENT_BYTES}", comment.len())));
    }
    let statement = RatingStatement {
        escrow: settlement(message.settlement)?,
        id: id_from_proto(&message.id)?,
        stars,
        comment,
        checks,
        at: UnixMillis(message.at),
    };
    Ok(SignedRating { statement, signature: signature("signature", &message.signature)? })
}

/// What is asked of an indexer about a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordAsk {
    /// The provider's wallet.
    pub wallet: Address,
    /// Whose own past is to be looked at.
    pub asker: Option<Address>,
    /// Where the page before ended.
    pub before: Option<PageEnd>,
    /// How many rentals are wanted at most.
    pub limit: usize,
}

/// The last rental of a page: pages go back in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PageEnd {
    /// Block time of its closing, in Unix seconds.
    pub closed: u64,
    /// The rental.
    pub id: RentalId,
}

/// Writes the end of a page.
pub fn page_end_to_bytes(end: &PageEnd) -> Vec<u8> {
    [&end.closed.to_be_bytes()[..], end.id.0.as_slice()].concat()
}

fn page_end(bytes: &[u8]) -> Result<Option<PageEnd>, WireError> {
    let Some((closed, id)) = bytes.split_first_chunk::<8>() else {
        return if bytes.is_empty() { Ok(None) } else { Err(invalid("before", "no end of a page")) };
    };
    Ok(Some(PageEnd { closed: u64::from_be_bytes(*closed), id: RentalId(hash("before", id)?) }))
}

/// Writes a question about a provider.
pub fn record_ask_to_proto(ask: &RecordAsk) -> proto::RecordRequest {
    proto::RecordRequest {
        wallet: ask.wallet.to_vec(),
        asker: ask.asker.map(|asker| asker.to_vec()).unwrap_or_default(),
        before: ask.before.as_ref().map(page_end_to_bytes).unwrap_or_default(),
        limit: u32::try_from(ask.limit).unwrap_or(u32::MAX),
    }
}

/// Reads a question about a provider.
pub fn record_ask_from_proto(message: &proto::RecordRequest) -> Result<RecordAsk, WireError> {
    let limit = match usize::try_from(message.limit) {
        Ok(0) | Err(_) => MAX_RECORD_PAGE,
        Ok(limit) => limit.min(MAX_RECORD_PAGE),
    };
    Ok(RecordAsk {
        wallet: address("wallet", &message.wallet)?,
        asker: if message.asker.is_empty() { None } else { Some(address("asker", &message.asker)?) },
        before: page_end(&message.before)?,
        limit,
    })
}

/// What an indexer knows of a provider, with a page of its rentals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProviderRecord {
    /// The provider's wallet.
    pub wallet: Address,
    /// What follows.
    pub standing: Standing,
    /// From what.
    pub record: Record,
    /// How much of the asker's own past leads there, if it was asked.
    pub trusted_seconds: Option<u64>,
    /// Rentals that ended, the latest first.
    pub rentals: Vec<PastRental>,
    /// Where the page ends, when more follow.
    pub next: Option<PageEnd>,
}

/// A rental that ended: where the chain tells of it, and how it was rated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastRental {
    /// Where it was paid.
    pub escrow: Escrow,
    /// Which.
    pub id: RentalId,
    /// The block of its opening.
    pub opened_block: u64,
    /// The block of its closing.
    pub closed_block: u64,
    /// As its renter signed it.
    pub rating: Option<SignedRating>,
}

/// Writes a record.
pub fn record_to_proto(of: &ProviderRecord) -> proto::ProviderRecord {
    let (record, standing) = (&of.record, &of.standing);
    let volume = |volume: &Volume| proto::Volume {
        settlement: Some(settlement_to_proto(&volume.escrow)),
        token: volume.token.to_vec(),
        amount: volume.amount.to_string(),
    };
    let rental = |rental: &PastRental| proto::PastRental {
        settlement: Some(settlement_to_proto(&rental.escrow)),
        id: rental.id.0.to_vec(),
        opened_block: rental.opened_block,
        closed_block: rental.closed_block,
        rating: rental.rating.as_ref().map(rating_to_proto),
    };
    proto::ProviderRecord {
        wallet: of.wallet.to_vec(),
        formula: record.formula.clone(),
        at: record.at,
        open: record.open,
        completed: record.completed,
        kept: record.kept,
        no_shows: record.no_shows,
        early_ends: record.early_ends,
        failed_checks: record.failed_checks,
        complaints: record.complaints,
        renters: record.renters,
        devices: record.devices,
        paid_seconds: record.paid_seconds,
        volume: record.volume.iter().take(MAX_VOLUMES).map(volume).collect(),
        served_30d: record.served_30d,
        elapsed_30d: record.elapsed_30d,
        stars: record.stars.to_vec(),
        passed_checks: record.passed_checks,
        missed_checks: record.missed_checks,
        checking_renters: record.checking_renters,
        reliability: standing.reliability,
        rating: standing.rating,
        trusted_seconds: of.trusted_seconds,
        rentals: of.rentals.iter().map(rental).collect(),
        next: of.next.as_ref().map(page_end_to_bytes).unwrap_or_default(),
    }
}

/// Reads a record. Its sums are the indexer's word; each of its rentals can be looked up.
pub fn record_from_proto(message: proto::ProviderRecord) -> Result<ProviderRecord, WireError> {
    let stars =
        <[u32; 5]>::try_from(message.stars).map_err(|stars| invalid("stars", format!("{} numbers", stars.len())))?;
    if message.volume.len() > MAX_VOLUMES || message.rentals.len() > MAX_RECORD_PAGE {
        return Err(invalid("rentals", "more than a page"));
    }
    let volume = |volume: proto::Volume| {
        let (escrow, token) = (settlement(volume.settlement)?, address("volume.token", &volume.token)?);
        Ok(Volume { escrow, token, amount: amount("volume.amount", &volume.amount)? })
    };
    let record = Record {
        formula: text("formula", message.formula)?,
        at: message.at,
        open: message.open,
        completed: message.completed,
        kept: message.kept,
        no_shows: message.no_shows,
        early_ends: message.early_ends,
        failed_checks: message.failed_checks,
        complaints: message.complaints,
        renters: message.renters,
        devices: message.devices,
        paid_seconds: message.paid_seconds,
        volume: message.volume.into_iter().map(volume).collect::<Result<_, WireError>>()?,
        served_30d: message.served_30d,
        elapsed_30d: message.elapsed_30d,
        stars,
        passed_checks: message.passed_checks,
        missed_checks: message.missed_checks,
        checking_renters: message.checking_renters,
    };
    let standing = Standing {
        completed: message.completed,
        paid_seconds: message.paid_seconds,
        reliability: message.reliability,
        ratings: stars.iter().fold(0, |sum, count| sum.saturating_add(*count)),
        rating: message.rating,
    };
    Ok(ProviderRecord {
        wallet: address("wallet", &message.wallet)?,
        standing,
        record,
        trusted_seconds: message.trusted_seconds,
        rentals: message.rentals.into_iter().map(past_rental).collect::<Result<_, _>>()?,
        next: page_end(&message.next)?,
    })
}

fn past_rental(message: proto::PastRental) -> Result<PastRental, WireError> {
    let rental = PastRental {
        escrow: settlement(Some(required("settlement", message.settlement)?))?,
        id: id_from_proto(&message.id)?,
        opened_block: message.opened_block,
        closed_block: message.closed_block,
        rating: message.rating.map(rating_from_proto).transpose()?,
    };
    let of_another =
        |rating: &SignedRating| rating.statement.id != rental.id || rating.statement.escrow != rental.escrow;
    if rental.rating.as_ref().is_some_and(of_another) {
        return Err(invalid("rating", "of another rental"));
    }
    Ok(rental)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{B256, Signature, U256};
    use market::money::Amount;
    use prost::Message;

    fn rating(comment: &str) -> SignedRating {
        let statement = RatingStatement {
            escrow: Escrow { chain: u64::MAX, address: Address::repeat_byte(1) },
            id: RentalId(B256::repeat_byte(2)),
            stars: Some(Stars::try_from(5).unwrap()),
            comment: comment.to_owned(),
            checks: Some(CheckSummary {
                level: 2,
                passed: u32::MAX,
                unmeasured: u32::MAX,
                missed: u32::MAX,
                last: UnixMillis(u64::MAX),
                devices: Some(DeviceId(B256::repeat_byte(3))),
                seen: u64::MAX,
                least: u64::MAX,
            }),
            at: UnixMillis(u64::MAX),
        };
        SignedRating { statement, signature: Signature::new(U256::MAX, U256::MAX, true) }
    }

    #[test]
    fn a_rating_is_read_as_it_was_written_and_the_longest_fits() {
        let longest = rating(&"ü".repeat(MAX_COMMENT_BYTES / 2));
        let message = rating_to_proto(&longest);
        assert!(message.encoded_len() <= MAX_RATING_BYTES, "{} bytes", message.encoded_len());
        assert_eq!(rating_from_proto(message).unwrap(), longest);
    }

    #[test]
    fn stars_and_checks_may_each_be_missing_and_not_both() {
        let mut of_checks = rating("");
        of_checks.statement.stars = None;
        assert_eq!(rating_from_proto(rating_to_proto(&of_checks)).unwrap(), of_checks);
        let mut of_stars = rating("");
        of_stars.statement.checks = None;
        assert_eq!(rating_from_proto(rating_to_proto(&of_stars)).unwrap(), of_stars);
        let nothing = proto::Rating { stars: 0, ..rating_to_proto(&of_stars) };
        assert!(matches!(rating_from_proto(nothing), Err(WireError::Invalid { field: "stars", .. })));
    }

    #[test]
    fn a_rating_out_of_bounds_is_refused_with_the_field() {
        let fields = |change: &dyn Fn(&mut proto::Rating)| {
            let mut message = rating_to_proto(&rating("fine"));
            change(&mut message);
            match rating_from_proto(message) {
                Err(WireError::Invalid { field, .. } | WireError::Missing(field)) => field,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(fields(&|message| (message.stars, message.checks) = (0, None)), "stars");
        assert_eq!(fields(&|message| message.stars = 6), "stars");
        assert_eq!(fields(&|message| message.stars = 261), "stars");
        assert_eq!(fields(&|message| message.comment = "x".repeat(MAX_COMMENT_BYTES + 1)), "comment");
        assert_eq!(fields(&|message| message.comment = "\x1b[2J".to_owned()), "comment");
        assert_eq!(fields(&|message| message.signature.truncate(64)), "signature");
        assert_eq!(fields(&|message| message.settlement = None), "settlement");
        let checks =
            |change: &dyn Fn(&mut proto::HardwareChecks)| fields(&|message| change(message.checks.as_mut().unwrap()));
        assert_eq!(checks(&|checks| checks.level = 0), "checks.level");
        assert_eq!(checks(&|checks| checks.level = 258), "checks.level");
        assert_eq!(checks(&|checks| checks.devices.truncate(31)), "checks.devices");
        assert_eq!(checks(&|checks| checks.devices = vec![0; 32]), "checks.devices");
        assert_eq!(checks(&|checks| (checks.passed, checks.unmeasured, checks.missed) = (0, 0, 0)), "checks");
    }

    fn record() -> ProviderRecord {
        let rental = PastRental {
            escrow: rating("").statement.escrow,
            id: rating("").statement.id,
            opened_block: u64::MAX,
            closed_block: u64::MAX,
            rating: Some(rating(&"x".repeat(MAX_COMMENT_BYTES))),
        };
        let volume = Volume { escrow: rental.escrow, token: Address::repeat_byte(7), amount: Amount::MAX };
        let stars = [1, 2, 3, 4, 5];
        let standing = Standing { completed: 1, paid_seconds: 2, reliability: Some(3), ratings: 15, rating: Some(4) };
        let record = Record {
            formula: market::reputation::FORMULA.to_owned(),
            at: u64::MAX,
            completed: 1,
            paid_seconds: 2,
            volume: vec![volume; MAX_VOLUMES],
            stars,
            ..Record::default()
        };
        let next = Some(PageEnd { closed: 7, id: rental.id });
        let rentals = vec![rental; MAX_RECORD_PAGE];
        ProviderRecord { wallet: Address::repeat_byte(9), standing, record, trusted_seconds: Some(0), rentals, next }
    }

    #[test]
    fn a_record_is_read_as_it_was_written_and_the_longest_fits() {
        let message = record_to_proto(&record());
        assert!(message.encoded_len() < MAX_RATINGS_RESPONSE_BYTES, "{} bytes", message.encoded_len());
        assert_eq!(record_from_proto(message).unwrap(), record());
    }

    #[test]
    fn a_rating_cannot_stand_beside_another_rental() {
        let mut message = record_to_proto(&record());
        message.rentals[0].id = vec![9; 32];
        assert!(matches!(record_from_proto(message), Err(WireError::Invalid { field: "rating", .. })));
    }

    #[test]
    fn a_question_is_read_as_it_was_written() {
        for (asker, before) in
            [(None, None), (Some(Address::ZERO), Some(PageEnd { closed: 5, id: RentalId(B256::ZERO) }))]
        {
            let ask = RecordAsk { wallet: Address::repeat_byte(1), asker, before, limit: 7 };
            assert_eq!(record_ask_from_proto(&record_ask_to_proto(&ask)).unwrap(), ask);
        }
        let endless = proto::RecordRequest { wallet: vec![1; 20], limit: 1_000, ..proto::RecordRequest::default() };
        assert_eq!(record_ask_from_proto(&endless).unwrap().limit, MAX_RECORD_PAGE);
        let odd = proto::RecordRequest { wallet: vec![1; 20], before: vec![0; 7], ..proto::RecordRequest::default() };
        assert!(record_ask_from_proto(&odd).is_err());
    }
}
