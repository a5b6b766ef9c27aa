//! Ratings as they come from strangers: what can be refused of one without looking at a chain; and the desk, kept by an indexer, that judges
//! the rest.

use libp2p::PeerId;
use market::{offer::MAX_SKEW, rating::SignedRating, time::UnixMillis};
use wire::{MAX_RATING_BYTES, proto};

/// What a desk does with a rating.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taking {
    /// It counts, and was not known.
    Kept,
    /// It, or a later one of the same rental, is kept already.
    Known,
    /// The chain does not show yet that it may count, or that chain is not read here: others may know more.
    Waiting,
    /// It waits already.
    StillWaiting,
    /// It does not count, or there is no room to wait; nobody has to be dishonest for that.
    Refused(String),
    /// It can never count, and whoever passed it on knew or should have known.
    Forged(String),
}

/// Who keeps ratings and the record of the chain. Called from the threads of the verification pool, so that it may read from a disk.
pub trait RatingDesk: Send + Sync {
    /// Takes a rating of good form that `from` has sent or passed on.
    fn take(&self, rating: SignedRating, from: PeerId) -> Taking;
    /// Answers a question about a provider; `None` for one that makes no sense.
    fn record(&self, request: &proto::RecordRequest) -> Option<proto::ProviderRecord>;
}

/// Why a rating is not even looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RatingFormFault {
    /// No honest peer would have sent it.
    Dishonest(String),
    /// Made in the future, unless our clock is wrong.
    Untimely,
}

/// Reads a rating that was gossiped.
pub(crate) fn open_gossiped(data: &[u8], now: UnixMillis) -> Result<SignedRating, RatingFormFault> {
    let message =
        wire::decode(data, MAX_RATING_BYTES).map_err(|error| RatingFormFault::Dishonest(error.to_string()))?;
    open(message, now)
}

/// Checks everything in a rating that does not depend on a chain: lengths, ranges, a signature that some key made, the time.
pub(crate) fn open(message: proto::Rating, now: UnixMillis) -> Result<SignedRating, RatingFormFault> {
    let rating = wire::rating_from_proto(message).map_err(|error| RatingFormFault::Dishonest(error.to_string()))?;
    if rating.signer().is_none() {
        return Err(RatingFormFault::Dishonest("the signature is not valid".to_owned()));
    }
    if rating.statement.at > now.plus(MAX_SKEW) {
        return Err(RatingFormFault::Untimely);
    }
    Ok(rating)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::signers::{SignerSync, local::PrivateKeySigner};
    use alloy_primitives::{Address, B256, Signature, U256};
    use market::{id::RentalId, rating::RatingStatement, signed::Escrow};

    const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

    fn rating(at: UnixMillis) -> SignedRating {
        let statement = RatingStatement {
            escrow: Escrow { chain: 1, address: Address::repeat_byte(1) },
            id: RentalId(B256::repeat_byte(2)),
            stars: Some(4.try_into().unwrap()),
            comment: "fast disk".to_owned(),
            checks: None,
            at,
        };
        let signature = PrivateKeySigner::random().sign_hash_sync(&statement.digest()).unwrap();
        SignedRating { statement, signature }
    }

    fn bytes(rating: &SignedRating) -> Vec<u8> {
        wire::encode(&wire::rating_to_proto(rating))
    }

    #[test]
    fn what_is_well_formed_is_left_to_the_chain_to_judge() {
        let honest = rating(NOW);
        assert_eq!(open_gossiped(&bytes(&honest), NOW), Ok(honest));
    }

    #[test]
    fn what_no_key_signed_or_is_too_long_is_dishonest_and_what_is_early_may_be_our_clock() {
        let unsigned = SignedRating { signature: Signature::new(U256::ZERO, U256::ZERO, false), ..rating(NOW) };
        assert!(matches!(open_gossiped(&bytes(&unsigned), NOW), Err(RatingFormFault::Dishonest(_))));
        let padded = [bytes(&rating(NOW)), vec![0; MAX_RATING_BYTES]].concat();
        assert!(matches!(open_gossiped(&padded, NOW), Err(RatingFormFault::Dishonest(_))));
        assert!(matches!(open_gossiped(b"nothing", NOW), Err(RatingFormFault::Dishonest(_))));
        let early = rating(NOW.plus(MAX_SKEW + 1));
        assert_eq!(open_gossiped(&bytes(&early), NOW), Err(RatingFormFault::Untimely));
    }
}
