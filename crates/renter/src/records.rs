//! What a renter keeps on disk: its rentals with their session keys, and the receipts they end in.
//!
//! A session key can sign vouchers for one rental only, and no more than the time that has passed on chain; whoever steals it can cost its
//! owner what that rental costs anyway. It lies in the node's data directory, which only its user may read.

use crate::{
    ratings::OwnRatings,
    shares::{Given, Taken},
    visits::Visits,
};
use alloy_primitives::{B256, Bytes};
use api::types::{Checks, JobSummary, Label, Receipt};
use market::{
    id::{PeerId, RentalId},
    rental::renter::{Phase, Rental},
    signed::SignedAck,
    time::UnixMillis,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf};
use store::{Json, Store, StoreError, Table, TableDef};

/// A rental, its key and what it is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The state machine.
    pub(crate) rental: Rental,
    /// The session key.
    pub(crate) session_key: B256,
    /// The run it serves.
    pub(crate) job: Job,
    /// Milliseconds frozen, by the provider's last signed ack.
    pub(crate) frozen_millis: u64,
    /// The provider's newest ack, as it signed it.
    #[serde(default)]
    pub(crate) last_ack: Option<SignedAck>,
    /// How often a start of this node has taken it up again: so many times its run was told before.
    #[serde(default)]
    pub(crate) taken_up: u32,
}

/// The longest usage report that is kept beside an ack: many times a provider's own. The ack holds the hash of a longer one.
const MAX_USAGE_BYTES: usize = 1_024;

impl Record {
    /// Keeps the newest of the provider's acks.
    pub(crate) fn remember_ack(&mut self, mut ack: SignedAck) {
        if self.last_ack.as_ref().is_some_and(|last| last.statement.seq > ack.statement.seq) {
            return;
        }
        if ack.usage.len() > MAX_USAGE_BYTES {
            ack.usage = Bytes::new();
        }
        self.last_ack = Some(ack);
    }
}

/// What a run does with its rental, and how far it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// The run's number.
    pub(crate) run: u64,
    /// What the rental is called.
    #[serde(default)]
    pub(crate) label: Option<Label>,
    /// The program and its arguments; empty for a rental that is held without one.
    pub(crate) argv: Vec<String>,
    /// Its environment.
    pub(crate) env: BTreeMap<String, String>,
    /// The folder to send.
    pub(crate) input: Option<PathBuf>,
    /// The folder for outputs.
    pub(crate) out: PathBuf,
    /// SHA-256 of the input as it was sent, once it was: it is not sent again.
    pub(crate) uploaded: Option<String>,
    /// How the program ended, once it did.
    pub(crate) ended: Option<Ended>,
    /// SHA-256 of the outputs, once they are here.
    pub(crate) fetched: Option<String>,
    /// How many slots it has, as one.
    #[serde(default = "one")]
    pub(crate) slots: u32,
    /// The rental in which it goes on, or will once that is open.
    #[serde(default)]
    pub(crate) continued_by: Option<RentalId>,
    /// Whether the machine is not to be checked.
    #[serde(default)]
    pub(crate) no_check: bool,
    /// What the checks of the machine have shown.
    #[serde(default)]
    pub(crate) checks: Checks,
}

const fn one() -> u32 {
    1
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// As a shell reports it.
    pub(crate) code: i32,
    /// In words.
    pub(crate) how: String,
}

impl Job {
    /// Whether the rental has no program of its own: it is there for whoever gets in.
    pub(crate) fn is_held(&self) -> bool {
        self.argv.is_empty()
    }

    /// The job's part of the receipt.
    pub(crate) fn summary(&self) -> JobSummary {
        let not_ended = || match self.continued_by {
            Some(next) => format!("went on in rental {}", next.short()),
            None if self.is_held() => "held without a program".to_owned(),
            None => "did not end".to_owned(),
        };
        JobSummary {
            label: self.label.clone(),
            argv: self.argv.clone(),
            exit_code: self.ended.as_ref().map(|ended| ended.code),
            how: self.ended.as_ref().map_or_else(not_ended, |ended| ended.how.clone()),
            input_sha256: self.uploaded.clone().unwrap_or_default(),
            output_sha256: self.fetched.clone().unwrap_or_default(),
            output_directory: self.fetched.as_ref().map_or_else(String::new, |_| self.out.display().to_string()),
        }
    }
}

/// Every rental that was ever quoted to this node, by id.
pub(crate) struct Rentals;
impl Table for Rentals {
    const NAME: &'static str = "renter_rentals";
    type Key = RentalId;
    type Value = Json<Record>;
}

/// One receipt for each rental that was opened and closed.
pub(crate) struct Receipts;
impl Table for Receipts {
    const NAME: &'static str = "renter_receipts";
    type Key = RentalId;
    type Value = Json<Receipt>;
}

/// Whom this node shares its rentals with, by rental.
pub(crate) struct Shares;
impl Table for Shares {
    const NAME: &'static str = "renter_shares";
    type Key = RentalId;
    type Value = Json<Vec<Given>>;
}

/// What others share with this node, by rental.
pub(crate) struct Accepted;
impl Table for Accepted {
    const NAME: &'static str = "renter_accepted";
    type Key = RentalId;
    type Value = Json<Taken>;
}

/// Rentals that are over, and receipts, that are kept: years of them for most people, and about as many as one answer of the control API
/// holds. The oldest go first; whoever needs them longer saves them with `node receipts --json`.
pub const MAX_HISTORY: usize = 10_000;

/// Forgets the oldest of what is over beyond [`MAX_HISTORY`], and says how many records that were.
pub fn forget_oldest(store: &Store) -> Result<usize, StoreError> {
    // rentals first: one that is kept without its receipt would have it written again
    let over = |record: &Json<Record>| {
        let rental = &record.rental;
        let lapsed = (rental.phase == Phase::Lapsed).then_some(u64::from(rental.quote.quote.expiry));
        rental.closing.map(|closing| closing.time).or(lapsed)
    };
    let rentals = store.keep_newest::<Rentals>(MAX_HISTORY, over)?;
    let receipts = store.keep_newest::<Receipts>(MAX_HISTORY, |receipt| Some(receipt.closed.time))?;
    forget_shares(store, UnixMillis::now())?;
    let visits = store.keep_newest::<Visits>(MAX_HISTORY, |visits| crate::visits::newest(&visits.0))?;
    Ok(rentals
        + receipts
        + visits
        + store.keep_newest::<OwnRatings>(MAX_HISTORY, |told| Some(told.rating.statement.at.0))?)
}

/// Forgets what was shared and is over, on either side.
fn forget_shares(store: &Store, now: UnixMillis) -> Result<(), StoreError> {
    let mut batch = store.batch();
    for row in store.scan::<Shares>(..)? {
        let (id, _) = row?;
        if store.get::<Rentals>(&id)?.is_none_or(|record| record.rental.phase.is_over()) {
            batch.delete::<Shares>(&id)?;
        }
    }
    for row in store.scan::<Accepted>(..)? {
        let (id, taken) = row?;
        if taken.0.is_over(now) {
            batch.delete::<Accepted>(&id)?;
        }
    }
    batch.commit()
}

/// The tables that [`store::Store::open`] must know for this role.
pub fn tables() -> [TableDef; 6] {
    [
        TableDef::of::<Rentals>(),
        TableDef::of::<Receipts>(),
        TableDef::of::<OwnRatings>(),
        TableDef::of::<Shares>(),
        TableDef::of::<Accepted>(),
        TableDef::of::<Visits>(),
    ]
}

/// The provider's peer, for messages.
pub(crate) fn short_peer(peer: &PeerId) -> String {
    let text = peer.to_base58();
    text.get(text.len().saturating_sub(8)..).unwrap_or(&text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::story::tests::quoted;
    use alloy_primitives::{Signature, U256, keccak256};
    use market::{money::Amount, signed::AckStatement};

    fn ack(seq: u64, usage: Vec<u8>) -> SignedAck {
        let statement = AckStatement {
            id: quoted().rental.id,
            seq,
            cumulative: Amount::ZERO,
            served_millis: seq,
            frozen_millis: 0,
            metrics: keccak256(&usage),
        };
        SignedAck { statement, usage: usage.into(), signature: Signature::new(U256::from(5), U256::from(7), false) }
    }

    #[test]
    fn the_newest_ack_is_kept_and_no_flood_of_usage_with_it() {
        let mut record = quoted();
        record.remember_ack(ack(2, vec![1]));
        record.remember_ack(ack(1, vec![2]));
        assert_eq!(record.last_ack, Some(ack(2, vec![1])));
        record.remember_ack(ack(3, vec![3; MAX_USAGE_BYTES]));
        assert_eq!(record.last_ack, Some(ack(3, vec![3; MAX_USAGE_BYTES])));
        record.remember_ack(ack(4, vec![4; MAX_USAGE_BYTES + 1]));
        let last = record.last_ack.unwrap();
        assert_eq!((last.statement.seq, last.usage.len()), (4, 0));
    }

    #[test]
    fn what_was_shared_is_forgotten_when_it_is_over_on_either_side() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), &tables()).unwrap();
        let (record, gone) = (quoted(), RentalId(keccak256("a rental that is over")));
        let id = record.rental.id;
        assert!(!record.rental.phase.is_over());
        store.put_sync::<Rentals>(&id, &Json(record)).unwrap();
        let now = UnixMillis(5_000_000);
        let taken = |expires| {
            let grant = wire::proto::SessionGrant { expires, ..wire::proto::SessionGrant::default() };
            let (provider, guest) = (quoted().rental.provider, quoted().rental.provider);
            Json(Taken::from(&wire::ShareToken { network: String::new(), provider, guest, id, grant }))
        };
        for (id, until) in [(id, 5_001), (gone, 5_000)] {
            store.put_sync::<Shares>(&id, &Json(Vec::new())).unwrap();
            store.put_sync::<Accepted>(&id, &taken(until)).unwrap();
        }
        forget_shares(&store, now).unwrap();
        for (id, kept) in [(id, true), (gone, false)] {
            assert_eq!(store.contains::<Shares>(&id).unwrap(), kept);
            assert_eq!(store.contains::<Accepted>(&id).unwrap(), kept);
        }
    }
}
