//! The record of every transaction this node has promised to send: on disk before it is sent, found by what it is for.

use crate::{bindings::Revert, error::SettlementError};
use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use market::{id::RentalId, money::Amount};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, slice,
};
use store::{Json, Store, StoreError, Table, TableDef};

/// The tables of this crate, for `Store::open`.
pub const TABLES: [TableDef; 4] = [
    TableDef::of::<Transactions>(),
    TableDef::of::<Pending>(),
    TableDef::of::<Settled>(),
    TableDef::of::<crate::follower::Cursors>(),
];

/// Every transaction by chain, account and purpose.
pub(crate) struct Transactions;
impl Table for Transactions {
    const NAME: &'static str = "transactions";
    type Key = (u64, Address, String);
    type Value = Json<TransactionRecord>;
}

/// Those that are not final, by chain, account and nonce: the key of each in [`Transactions`]. Always written in one batch with it.
pub(crate) struct Pending;
impl Table for Pending {
    const NAME: &'static str = "transactions_pending";
    type Key = (u64, Address, u64);
    type Value = Json<String>;
}

/// Those that are final but not yet so deep that nothing can undo them, by chain, account and nonce; the one with the highest nonce stays.
/// Always written in one batch with [`Transactions`].
pub(crate) struct Settled;
impl Table for Settled {
    const NAME: &'static str = "transactions_settled";
    type Key = (u64, Address, u64);
    type Value = Json<Place>;
}

/// The block that made a transaction final.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// The transaction's key in [`Transactions`].
    pub(crate) purpose: String,
    /// The number of the block.
    pub(crate) block: u64,
    /// Its hash.
    pub(crate) block_hash: B256,
}

/// Final transactions that are kept: several for each rental whose history the roles keep. A purpose whose record is gone could be served
/// again, so this is far more than can happen on chain while one rental lasts on a machine of any size.
pub const MAX_HISTORY: usize = 50_000;

/// Forgets the oldest final transactions beyond [`MAX_HISTORY`], and says how many.
pub fn forget_oldest(store: &Store) -> Result<usize, StoreError> {
    store.keep_newest::<Transactions>(MAX_HISTORY, |record| match &record.state {
        TransactionState::Pending => None,
        _ => Some(record.attempts.last().map_or(0, |attempt| attempt.made_at)),
    })
}

/// The tokens and spenders of the approvals that an account has sent, as far back as they are kept.
pub async fn recorded_spenders(
    store: &Store,
    chain: u64,
    account: Address,
) -> Result<BTreeSet<(Address, Address)>, StoreError> {
    let key = move |text: &str| (chain, account, text.to_owned());
    store
        .run(move |store| {
            let mut found = BTreeSet::new();
            // all keys that begin with the word, and a blank after it
            for row in store.scan::<Transactions>(key("approve ")..key("approve!"))? {
                if let Purpose::Approve { token, spender, .. } = row?.1.0.purpose {
                    found.insert((token, spender));
                }
            }
            Ok(found)
        })
        .await
}

/// What a transaction is for. The same purpose is served by one transaction, however often it is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Purpose {
    /// Open the rental.
    Open(RentalId),
    /// Pay the provider part-way, up to this total.
    Claim(RentalId, Amount),
    /// Close it as its provider.
    Close(RentalId),
    /// Close these in one transaction, as their provider.
    CloseMany(Vec<RentalId>),
    /// Close it by a release.
    Release(RentalId),
    /// Freeze its meter.
    Stop(RentalId),
    /// Close it when its window is over.
    Finalize(RentalId),
    /// Let `spender` take `amount` of `token`.
    Approve {
        /// The token.
        token: Address,
        /// Who may take it.
        spender: Address,
        /// How much.
        amount: Amount,
    },
    /// Pull what could not be paid out in this token.
    Withdraw(Address),
    /// Use a nonce up that nothing else uses, so that the transactions after it can be mined.
    Fill(u64),
    /// Anything else; the text tells it from others of the kind.
    Other(String),
}

impl Purpose {
    /// Whether a confirmed transaction settles the purpose for good. Approvals are used up and credits come again: asked for anew
    /// after the last one is final, they are sent anew.
    pub const fn happens_once(&self) -> bool {
        !matches!(self, Self::Approve { .. } | Self::Withdraw(_) | Self::Fill(_))
    }

    /// The rental it is about, if it is about one.
    pub const fn rental(&self) -> Option<RentalId> {
        match self {
            Self::Open(id)
            | Self::Claim(id, _)
            | Self::Close(id)
            | Self::Release(id)
            | Self::Stop(id)
            | Self::Finalize(id) => Some(*id),
            Self::CloseMany(_) | Self::Approve { .. } | Self::Withdraw(_) | Self::Fill(_) | Self::Other(_) => None,
        }
    }

    /// The rentals that it closes as their provider.
    pub fn closes(&self) -> &[RentalId] {
        match self {
            Self::Close(id) => slice::from_ref(id),
            Self::CloseMany(ids) => ids,
            _ => &[],
        }
    }

    /// Every kind of purpose, in a word.
    pub const KINDS: [&'static str; 11] =
        ["open", "claim", "close", "close_many", "release", "stop", "finalize", "approve", "withdraw", "fill", "other"];

    /// What kind of purpose it is: one of [`Self::KINDS`].
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Open(_) => "open",
            Self::Claim(..) => "claim",
            Self::Close(_) => "close",
            Self::CloseMany(_) => "close_many",
            Self::Release(_) => "release",
            Self::Stop(_) => "stop",
            Self::Finalize(_) => "finalize",
            Self::Approve { .. } => "approve",
            Self::Withdraw(_) => "withdraw",
            Self::Fill(_) => "fill",
            Self::Other(_) => "other",
        }
    }
}

/// The form is the key in the database: it must not change.
impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(id) => write!(f, "open {id}"),
            Self::Claim(id, total) => write!(f, "claim {total} of {id}"),
            Self::Close(id) => write!(f, "close {id}"),
            // keys stay short however many there are
            Self::CloseMany(ids) => write!(f, "close {} together, {}", ids.len(), digest(ids)),
            Self::Release(id) => write!(f, "release {id}"),
            Self::Stop(id) => write!(f, "stop {id}"),
            Self::Finalize(id) => write!(f, "finalize {id}"),
            Self::Approve { token, spender, amount } => write!(f, "approve {amount} of {token} to {spender}"),
            Self::Withdraw(token) => write!(f, "withdraw {token}"),
            Self::Fill(nonce) => write!(f, "fill nonce {nonce}"),
            Self::Other(text) => write!(f, "other {text}"),
        }
    }
}

/// What tells one batch of rentals from another.
fn digest(ids: &[RentalId]) -> B256 {
    keccak256(ids.iter().flat_map(|id| id.0.0).collect::<Vec<u8>>())
}

/// What to send, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// What it is for.
    pub purpose: Purpose,
    /// The contract or account called.
    pub to: Address,
    /// Coin that goes along, in base units.
    pub value: U256,
    /// The call's data.
    pub data: Bytes,
}

/// A transaction that this node has promised to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransactionRecord {
    /// What it is for.
    pub purpose: Purpose,
    /// Its nonce; never another one while the outcome is open.
    pub nonce: u64,
    /// The contract or account called.
    pub to: Address,
    /// Coin that goes along, in base units.
    pub value: U256,
    /// The call's data.
    pub data: Bytes,
    /// The most gas it may use.
    pub gas_limit: u64,
    /// The signed forms, each with a higher fee than the one before; any of them may be mined.
    pub attempts: Vec<Attempt>,
    /// What became of it.
    pub state: TransactionState,
}

/// One signed form of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The transaction's hash.
    pub hash: B256,
    /// What is sent.
    pub raw: Bytes,
    /// The most it pays for a unit of gas.
    pub max_fee_per_gas: u128,
    /// The part of it for the block's maker.
    pub max_priority_fee_per_gas: u128,
    /// The newest block when it was made.
    pub made_at: u64,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransactionState {
    /// Not mined, or not deep enough.
    Pending,
    /// Mined, deep enough, and it did what it should.
    Confirmed(Confirmed),
    /// Mined, deep enough, and refused by the contract.
    Reverted {
        /// The transaction.
        transaction: B256,
        /// The contract's data, as far as it could be had afterwards.
        data: Bytes,
    },
    /// Its nonce went to a transaction of another program.
    Superseded,
}

/// A transaction that has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confirmed {
    /// Its hash.
    pub transaction: B256,
    /// The number of its block.
    pub block_number: u64,
    /// The hash of its block.
    pub block_hash: B256,
    /// The gas it used.
    pub gas_used: u64,
    /// What a unit of it cost, in base units of coin.
    pub gas_price: u128,
}

impl TransactionRecord {
    /// The outcome, once there is one.
    pub fn outcome(&self) -> Option<Result<Confirmed, SettlementError>> {
        match &self.state {
            TransactionState::Pending => None,
            TransactionState::Confirmed(confirmed) => Some(Ok(*confirmed)),
            TransactionState::Reverted { transaction, data } => Some(Err(SettlementError::Reverted {
                purpose: Box::new(self.purpose.clone()),
                transaction: Some(*transaction),
                reason: Box::new(Revert::decode(data)),
            })),
            TransactionState::Superseded => {
                Some(Err(SettlementError::Superseded { purpose: Box::new(self.purpose.clone()), nonce: self.nonce }))
            }
        }
    }

    /// Whether asking again for the purpose is answered by this one, rather than sent anew.
    pub fn settles(&self) -> bool {
        match self.state {
            TransactionState::Pending => true,
            TransactionState::Confirmed(_) => self.purpose.happens_once(),
            TransactionState::Reverted { .. } | TransactionState::Superseded => false,
        }
    }

    /// The hash of the newest form.
    pub fn latest_hash(&self) -> B256 {
        self.attempts.last().map(|attempt| attempt.hash).unwrap_or_default()
    }

    /// The most it can cost, value and gas.
    pub fn greatest_cost(&self) -> U256 {
        let fee = self.attempts.iter().map(|attempt| attempt.max_fee_per_gas).max().unwrap_or_default();
        self.value.saturating_add(U256::from(fee).saturating_mul(U256::from(self.gas_limit)))
    }
}

/// The transactions of one account on one chain.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    store: Store,
    chain: u64,
    account: Address,
}

impl Ledger {
    pub(crate) const fn new(store: Store, chain: u64, account: Address) -> Self {
        Self { store, chain, account }
    }

    /// The record for a purpose.
    pub(crate) async fn find(&self, purpose: &Purpose) -> Result<Option<TransactionRecord>, StoreError> {
        self.at(purpose.to_string()).await
    }

    async fn at(&self, purpose: String) -> Result<Option<TransactionRecord>, StoreError> {
        let key = (self.chain, self.account, purpose);
        Ok(self.store.run(move |store| store.get::<Transactions>(&key)).await?.map(|record| record.0))
    }

    /// Writes a record to the disk, and where it stands: under way, final by a block, or final by the loss of its nonce.
    pub(crate) async fn save(&self, record: &TransactionRecord, place: Option<&Place>) -> Result<(), StoreError> {
        let (chain, account, record, place) = (self.chain, self.account, record.clone(), place.cloned());
        self.store
            .run(move |store| {
                let purpose = record.purpose.to_string();
                let nonce = (chain, account, record.nonce);
                let mut batch = store.batch();
                match record.state {
                    TransactionState::Pending => batch.put::<Pending>(&nonce, &Json(purpose.clone()))?,
                    _ => batch.delete::<Pending>(&nonce)?,
                }
                match place {
                    Some(place) => batch.put::<Settled>(&nonce, &Json(place))?,
                    None => batch.delete::<Settled>(&nonce)?,
                }
                batch.put::<Transactions>(&(chain, account, purpose), &Json(record))?;
                batch.commit_sync()
            })
            .await
    }

    /// See [`recorded_spenders`].
    pub(crate) async fn recorded_spenders(&self) -> Result<BTreeSet<(Address, Address)>, StoreError> {
        recorded_spenders(&self.store, self.chain, self.account).await
    }

    /// Everything that is not final, by nonce.
    pub(crate) async fn pending(&self) -> Result<Vec<TransactionRecord>, StoreError> {
        let (chain, account) = (self.chain, self.account);
        self.store
            .run(move |store| {
                let mut records = Vec::new();
                for row in store.scan_prefix::<Pending, _>(&(chain, account))? {
                    let (_, purpose) = row?;
                    records.extend(store.get::<Transactions>(&(chain, account, purpose.0))?.map(|record| record.0));
                }
                Ok(records)
            })
            .await
    }

    /// Where final transactions stand that may still be undone, by nonce; and that of the highest nonce, however old.
    pub(crate) async fn settled(&self) -> Result<BTreeMap<u64, Place>, StoreError> {
        let (chain, account) = (self.chain, self.account);
        self.store
            .run(move |store| {
                let rows = store.scan_prefix::<Settled, _>(&(chain, account))?;
                rows.map(|row| row.map(|((_, _, nonce), place)| (nonce, place.0))).collect()
            })
            .await
    }

    /// The final transaction of a nonce, unless its purpose has gone on to another one since.
    pub(crate) async fn settled_at(&self, nonce: u64, place: &Place) -> Result<Option<TransactionRecord>, StoreError> {
        Ok(self.at(place.purpose.clone()).await?.filter(|record| record.nonce == nonce))
    }

    /// Nothing can undo these any more.
    pub(crate) async fn forget(&self, nonces: Vec<u64>) -> Result<(), StoreError> {
        let (chain, account) = (self.chain, self.account);
        self.store
            .run(move |store| {
                let mut batch = store.batch();
                for nonce in nonces {
                    batch.delete::<Settled>(&(chain, account, nonce))?;
                }
                batch.commit()
            })
            .await
    }
}
