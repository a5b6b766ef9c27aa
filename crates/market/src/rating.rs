//! A rating: what the renter of a closed rental says of it, in one to five stars and a few words, and what its checks of the hardware have
//! shown; either may be missing. It is signed in the domain of the rental's escrow by the rental's session key or by the wallet that paid,
//! both of which the chain names in the opening; so anybody who can read the chain can tell a real rating from an invented one, whoever
//! carries it.

mod checked;

pub use checked::{CheckSummary, HIGHEST_LEVEL};

use crate::{
    id::RentalId,
    money::Amount,
    reputation::RentalFacts,
    signed::{Escrow, signer_of},
    time::UnixMillis,
};
use alloy_primitives::{Address, B256, Signature};
use alloy_sol_types::sol;
use serde::{Deserialize, Serialize};
use std::fmt;

sol! {
    /// Signed by the quote's `renterKey`, or by `renter` if that is a key's own address. `at` is Unix milliseconds; the latest counts.
    #[derive(Debug, PartialEq, Eq)]
    struct Rating { bytes32 id; uint8 stars; string comment; uint64 at; }

    /// The same of a rental whose hardware was checked. No stars are written as zero.
    #[derive(Debug, PartialEq, Eq)]
    struct CheckedRating { bytes32 id; uint8 stars; string comment; uint64 at; Checks checks; }

    /// See [`CheckSummary`]; what is not known is written as zero.
    #[derive(Debug, PartialEq, Eq)]
    struct Checks {
        uint8 level; uint32 passed; uint32 unmeasured; uint32 missed; uint64 last; bytes32 devices; uint64 seen; uint64 least;
    }
}

/// The longest comment: three lines of a terminal, so that thousands of ratings stay a small table.
pub const MAX_COMMENT_BYTES: usize = 256;
/// The most stars.
pub const MAX_STARS: u8 = 5;

/// One to five stars.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Stars(u8);

impl Stars {
    /// The number, 1 to 5.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Stars {
    type Error = StarsError;

    fn try_from(stars: u8) -> Result<Self, StarsError> {
        if (1..=MAX_STARS).contains(&stars) { Ok(Self(stars)) } else { Err(StarsError(stars)) }
    }
}

impl From<Stars> for u8 {
    fn from(stars: Stars) -> Self {
        stars.0
    }
}

impl fmt::Display for Stars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number of stars that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} stars: a rating has 1 to {MAX_STARS}")]
pub struct StarsError(pub u8);

/// What is said of a rental.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RatingStatement {
    /// Where the rental was paid: the domain of the signature.
    pub escrow: Escrow,
    /// The rental.
    pub id: RentalId,
    /// How good it was; nothing from a renter whose node tells only of its checks.
    pub stars: Option<Stars>,
    /// In words; may be empty.
    pub comment: String,
    /// What the checks of the hardware have shown, if any showed something.
    #[serde(default)]
    pub checks: Option<CheckSummary>,
    /// When it was said. Of two ratings of one rental the later counts.
    pub at: UnixMillis,
}

impl RatingStatement {
    /// What is signed.
    pub fn digest(&self) -> B256 {
        let (id, stars, at) = (self.id.0, self.stars.map_or(0, Stars::get), self.at.0);
        let comment = self.comment.clone();
        match self.checks {
            None => self.escrow.digest(&Rating { id, stars, comment, at }),
            Some(checks) => self.escrow.digest(&CheckedRating { id, stars, comment, at, checks: checks.into() }),
        }
    }
}

/// A rating with its signature: what is gossiped, kept and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRating {
    /// What is said.
    pub statement: RatingStatement,
    /// By the session key or the wallet of the rental's renter.
    pub signature: Signature,
}

/// Why a rating does not count, as far as its rental tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RatingFault {
    /// No key made the signature.
    #[error("the signature is not valid")]
    Signature,
    /// Somebody else than the rental's renter signed.
    #[error("signed by {0}, who did not rent")]
    NotTheRenter(Address),
    /// The rental is of another escrow.
    #[error("the rental is of another escrow")]
    OtherEscrow,
    /// The chain does not show the rental's end, not yet or not any more.
    #[error("the rental is not closed")]
    NotClosed,
    /// Nothing was earned, so that nothing was rented: such ratings would cost gas alone.
    #[error("nothing was paid for the rental")]
    NothingPaid,
}

impl RatingFault {
    /// Whether no reading of the chain can ever make the rating good: who signed and who rents never changes, how a rental ended may.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Signature | Self::NotTheRenter(_) | Self::OtherEscrow)
    }
}

impl SignedRating {
    /// Who signed.
    pub fn signer(&self) -> Option<Address> {
        signer_of(&self.statement.digest(), &self.signature)
    }

    /// Whether this one counts and `other`, of the same rental, does not: the later one; of two at the same moment, the greater digest, so
    /// that everybody keeps the same.
    pub fn supersedes(&self, other: &Self) -> bool {
        let order = |rating: &Self| (rating.statement.at, rating.statement.digest());
        order(self) > order(other)
    }

    /// Whether it counts, by what the chain says of its rental.
    pub fn check(&self, rental: &RentalFacts) -> Result<(), RatingFault> {
        if self.statement.escrow != rental.escrow || self.statement.id != rental.id {
            return Err(RatingFault::OtherEscrow);
        }
        let signer = self.signer().ok_or(RatingFault::Signature)?;
        if signer != rental.renter_key && signer != rental.renter {
            return Err(RatingFault::NotTheRenter(signer));
        }
        match rental.closed {
            None => Err(RatingFault::NotClosed),
            Some(closed) if closed.paid == Amount::ZERO => Err(RatingFault::NothingPaid),
            Some(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reputation::tests::{facts, kept};
    use alloy_primitives::{U256, keccak256};
    use alloy_sol_types::SolStruct;
    use secp256k1::{Message, SECP256K1, SecretKey};

    fn key(byte: u8) -> (SecretKey, Address) {
        let secret = SecretKey::from_byte_array([byte; 32]).unwrap();
        let public = secret.public_key(SECP256K1).serialize_uncompressed();
        (secret, Address::from_slice(&keccak256(&public[1..])[12..]))
    }

    fn sign(secret: &SecretKey, statement: RatingStatement) -> SignedRating {
        let message = Message::from_digest(statement.digest().0);
        let (recovery, bytes) = SECP256K1.sign_ecdsa_recoverable(message, secret).serialize_compact();
        let signature = Signature::from_bytes_and_parity(&bytes, i32::from(recovery) == 1);
        SignedRating { statement, signature }
    }

    fn statement(stars: u8, at: u64) -> RatingStatement {
        let facts = facts(1);
        RatingStatement {
            escrow: facts.escrow,
            id: facts.id,
            stars: Some(stars.try_into().unwrap()),
            comment: "as offered".to_owned(),
            checks: None,
            at: UnixMillis(at),
        }
    }

    #[test]
    fn the_type_reads_as_documented() {
        assert_eq!(Rating::eip712_root_type(), "Rating(bytes32 id,uint8 stars,string comment,uint64 at)");
        assert_eq!(
            CheckedRating::eip712_encode_type(),
            "CheckedRating(bytes32 id,uint8 stars,string comment,uint64 at,Checks checks)Checks(uint8 level,uint32 passed,\
             uint32 unmeasured,uint32 missed,uint64 last,bytes32 devices,uint64 seen,uint64 least)"
        );
    }

    #[test]
    fn what_checks_have_shown_is_signed_and_ratings_from_before_there_were_checks_are_read() {
        let (session, session_key) = key(1);
        let rental = RentalFacts { renter_key: session_key, ..kept(facts(1), 60) };
        let passed = CheckSummary { passed: 2, ..CheckSummary::at_level(2) };
        let told = sign(&session, RatingStatement { stars: None, checks: Some(passed), ..statement(5, 1) });
        assert_eq!(told.check(&rental), Ok(()));
        let mut changed = told.clone();
        changed.statement.checks = Some(CheckSummary { passed: 3, ..passed });
        assert!(matches!(changed.check(&rental), Err(RatingFault::NotTheRenter(_))));
        changed.statement.checks = None;
        assert!(matches!(changed.check(&rental), Err(RatingFault::NotTheRenter(_))));

        let mut before = serde_json::to_value(sign(&session, statement(5, 1))).unwrap();
        before["statement"].as_object_mut().unwrap().remove("checks");
        assert_eq!(serde_json::from_value::<SignedRating>(before).unwrap().check(&rental), Ok(()));
    }

    #[test]
    fn the_session_key_and_the_wallet_of_a_closed_rental_may_rate_it_and_nobody_else() {
        let ((session, session_key), (wallet, renter), (stranger, other)) = (key(1), key(2), key(3));
        let rental = RentalFacts { renter, renter_key: session_key, ..kept(facts(1), 60) };
        assert_eq!(sign(&session, statement(5, 1)).check(&rental), Ok(()));
        assert_eq!(sign(&wallet, statement(5, 1)).check(&rental), Ok(()));
        assert_eq!(sign(&stranger, statement(5, 1)).check(&rental), Err(RatingFault::NotTheRenter(other)));

        let mut changed = sign(&session, statement(5, 1));
        changed.statement.stars = Some(1.try_into().unwrap());
        assert!(matches!(changed.check(&rental), Err(RatingFault::NotTheRenter(_))));
        let open = RentalFacts { closed: None, ..rental };
        assert_eq!(sign(&session, statement(5, 1)).check(&open), Err(RatingFault::NotClosed));
        let unpaid = RentalFacts { renter_key: session_key, ..kept(facts(1), 0) };
        assert_eq!(sign(&session, statement(5, 1)).check(&unpaid), Err(RatingFault::NothingPaid));
    }

    #[test]
    fn a_rating_does_not_carry_to_another_rental_or_escrow() {
        let (session, session_key) = key(1);
        let rating = sign(&session, statement(5, 1));
        let other = RentalFacts { renter_key: session_key, ..kept(facts(2), 60) };
        assert_eq!(rating.check(&other), Err(RatingFault::OtherEscrow));
        let elsewhere = Escrow { chain: 2, ..facts(1).escrow };
        let moved = RentalFacts { escrow: elsewhere, renter_key: session_key, ..kept(facts(1), 60) };
        assert_eq!(rating.check(&moved), Err(RatingFault::OtherEscrow));
    }

    #[test]
    fn the_latest_rating_counts_and_a_tie_is_broken_alike_by_everybody() {
        let (session, _) = key(1);
        let (early, late) = (sign(&session, statement(5, 1)), sign(&session, statement(1, 2)));
        assert!(late.supersedes(&early) && !early.supersedes(&late) && !early.supersedes(&early));
        let tie = sign(&session, statement(4, 2));
        assert_ne!(tie.supersedes(&late), late.supersedes(&tie));
    }

    #[test]
    fn there_are_one_to_five_stars() {
        assert!(Stars::try_from(0).is_err() && Stars::try_from(6).is_err());
        assert!((1..=5).all(|stars| Stars::try_from(stars).is_ok()));
        assert!(serde_json::from_str::<Stars>("6").is_err());
    }

    #[test]
    fn a_signature_that_fits_no_key_is_refused() {
        let (_, session_key) = key(1);
        let rental = RentalFacts { renter_key: session_key, ..kept(facts(1), 60) };
        let nobody =
            SignedRating { signature: Signature::new(U256::ZERO, U256::ZERO, false), statement: statement(5, 1) };
        assert_eq!(nobody.check(&rental), Err(RatingFault::Signature));
    }
}
