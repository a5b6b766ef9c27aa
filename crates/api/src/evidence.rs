//! Evidence of one rental: everything that its two sides signed, as one file that a stranger can check without believing this program.
//! Each statement is typed data as wallets and libraries read it (EIP-712, the JSON of `eth_signTypedData_v4`) with its digest, who must
//! have signed it, and the signature. What is not signed is the maker's word, or stands on the chain.

use crate::types::Role;
use alloy_primitives::{Address, B256, Bytes, Signature, keccak256};
use alloy_sol_types::SolStruct;
use market::{
    dispute::{Deadlines, StopReason},
    id::RentalId,
    money::Amount,
    quote::{Quote, SignedQuote},
    rental::{Closing, Opening},
    signed::{AckStatement, Escrow, Ready, SignedAck, SignedRelease, SignedVoucher},
    terms::Terms,
    time::UnixMillis,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

/// The domain of every statement, as a type.
const DOMAIN_TYPE: &str = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";

/// What the file calls itself.
pub const FORMAT: &str = "gpulease-evidence";
/// The version of the format; a reader refuses any other.
pub const VERSION: u32 = 1;

/// What one side can show of a rental.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// `gpulease-evidence`.
    pub format: String,
    /// Of the format.
    pub version: u32,
    /// The rental: the digest of its quote.
    #[schema(value_type = String)]
    pub rental: RentalId,
    /// Whose file it is.
    pub made_by: Role,
    /// When it was made, by the maker's clock.
    #[schema(value_type = u64)]
    pub made_at: UnixMillis,
    /// The terms, as the maker reads them.
    #[schema(value_type = Object)]
    pub terms: Terms,
    /// The terms as they travelled (protobuf, `gpulease.v1.Terms`): keccak256 of these bytes is the quote's `spec`.
    #[schema(value_type = String)]
    pub terms_bytes: Bytes,
    /// The usage report behind the ack's `metrics` (protobuf, `gpulease.v1.Usage`), if it is kept.
    #[schema(value_type = Option<String>)]
    pub usage: Option<Bytes>,
    /// What was signed, each kind at most once and the quote first.
    pub statements: Vec<Statement>,
    /// What the chain has of it, for whoever wants to look it up.
    pub transactions: Vec<Transaction>,
    /// The stop, once the chain shows it.
    pub stop: Option<Stop>,
}

/// One signed statement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// `types`, `primaryType`, `domain` and `message`, as for `eth_signTypedData_v4`. Numbers are decimal text.
    pub typed_data: Value,
    /// Its EIP-712 digest.
    #[schema(value_type = String)]
    pub digest: B256,
    /// Who must have signed it, by the quote.
    #[schema(value_type = String)]
    pub signer: Address,
    /// 65 bytes: r, s, v.
    #[schema(value_type = String)]
    pub signature: Bytes,
}

/// A transaction that concerns the rental.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Transaction {
    /// `opened`, `stopped` or `closed`.
    pub what: String,
    /// Its hash.
    #[schema(value_type = String)]
    pub tx: B256,
    /// The block it is in.
    pub block: u64,
}

/// The stop on chain, and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// Block time of the stop, in Unix seconds.
    pub at: u64,
    /// Block time of the opening, in Unix seconds.
    pub opened_at: u64,
    /// From when on the arbiter may rule, and anybody finalize.
    #[schema(value_type = Object)]
    pub deadlines: Deadlines,
    /// Why the renter stopped it, if the maker knows.
    #[schema(value_type = Option<String>)]
    pub reason: Option<StopReason>,
}

impl Stop {
    /// The stop at `at` of a rental that was opened at `opened_at`, in Unix seconds of block time.
    pub fn new(quote: &SignedQuote, opened_at: u64, at: u64, reason: Option<StopReason>) -> Self {
        Self { at, opened_at, deadlines: Deadlines::of(&quote.quote, opened_at, at), reason }
    }
}

/// What evidence is made from: what one side has kept.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// Whose it is.
    pub side: Role,
    /// The promise.
    pub quote: &'a SignedQuote,
    /// Its terms.
    pub terms: &'a Terms,
    /// The terms as they travelled.
    pub terms_bytes: &'a Bytes,
    /// The start of the meter.
    pub ready: Option<(UnixMillis, Signature)>,
    /// The best voucher.
    pub voucher: Option<SignedVoucher>,
    /// The newest ack.
    pub ack: Option<&'a SignedAck>,
    /// The final total.
    pub release: Option<SignedRelease>,
    /// The opening, once seen.
    pub opening: Option<Opening>,
    /// The stop, once seen.
    pub stop: Option<Stop>,
    /// Its transaction and block, where they are known.
    pub stop_tx: Option<(B256, u64)>,
    /// The closing, once seen.
    pub closing: Option<Closing>,
}

impl Evidence {
    /// The file of what was kept, made at `now`.
    pub fn new(kept: Kept<'_>, now: UnixMillis) -> Self {
        let transaction = |what: &str, tx, block| Transaction { what: what.to_owned(), tx, block };
        let opened = kept.opening.map(|opening| transaction("opened", opening.tx, opening.block));
        let stopped = kept.stop_tx.map(|(tx, block)| transaction("stopped", tx, block));
        let closed = kept.closing.map(|closing| transaction("closed", closing.tx, closing.block));
        let usage = kept.ack.filter(|ack| keccak256(&ack.usage) == ack.statement.metrics).map(|ack| ack.usage.clone());
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            rental: kept.quote.id(),
            made_by: kept.side,
            made_at: now,
            terms: kept.terms.clone(),
            terms_bytes: kept.terms_bytes.clone(),
            usage,
            statements: statements(&kept),
            transactions: [opened, stopped, closed].into_iter().flatten().collect(),
            stop: kept.stop,
        }
    }
}

/// Everything signed that was kept, the quote first.
fn statements(kept: &Kept<'_>) -> Vec<Statement> {
    let (escrow, q, id) = (&kept.quote.escrow, &kept.quote.quote, kept.quote.id());
    let total = |cumulative: Amount| json!({ "id": id, "cumulative": cumulative.to_string() });
    let mut statements =
        vec![Statement::of(escrow, &q.statement(), quote_message(q), q.provider_key, &kept.quote.signature)];
    if let Some((at, signature)) = kept.ready {
        let message = json!({ "id": id, "at": at.0.to_string() });
        statements.push(Statement::of(escrow, &Ready { id: id.0, at: at.0 }, message, q.provider_key, &signature));
    }
    if let Some(SignedVoucher { cumulative, signature, .. }) = kept.voucher {
        let voucher = SignedVoucher::statement(id, cumulative);
        statements.push(Statement::of(escrow, &voucher, total(cumulative), q.renter_key, &signature));
    }
    if let Some(SignedAck { statement: ack, signature, .. }) = kept.ack {
        statements.push(Statement::of(escrow, &ack.statement(), ack_message(ack), q.provider_key, signature));
    }
    if let Some(SignedRelease { cumulative, signature, .. }) = kept.release {
        let release = SignedRelease::statement(id, cumulative);
        statements.push(Statement::of(escrow, &release, total(cumulative), q.provider_key, &signature));
    }
    statements
}

fn quote_message(q: &Quote) -> Value {
    json!({
        "provider": q.provider,
        "providerKey": q.provider_key,
        "renter": q.renter,
        "renterKey": q.renter_key,
        "token": q.token,
        "rate": q.rate.micro_units().to_string(),
        "minDeposit": q.min_deposit.to_string(),
        "maxSeconds": q.max_seconds.to_string(),
        "window": q.window.to_string(),
        "expiry": q.expiry.to_string(),
        "arbiter": q.arbiter,
        "device": q.device,
        "spec": q.spec,
    })
}

fn ack_message(ack: &AckStatement) -> Value {
    json!({
        "id": ack.id,
        "seq": ack.seq.to_string(),
        "cumulative": ack.cumulative.to_string(),
        "servedMillis": ack.served_millis.to_string(),
        "frozenMillis": ack.frozen_millis.to_string(),
        "metrics": ack.metrics,
    })
}

impl Statement {
    fn of<S: SolStruct>(
        escrow: &Escrow,
        statement: &S,
        message: Value,
        signer: Address,
        signature: &Signature,
    ) -> Self {
        Self {
            typed_data: typed_data::<S>(escrow, message),
            digest: escrow.digest(statement),
            signer,
            signature: signature.as_bytes().into(),
        }
    }
}

/// A message of type `S` as wallets and libraries read it.
pub fn typed_data<S: SolStruct>(escrow: &Escrow, message: Value) -> Value {
    json!({
        "types": { "EIP712Domain": fields(DOMAIN_TYPE), S::NAME: fields(&S::eip712_root_type()) },
        "primaryType": S::NAME,
        "domain": {
            "name": "gpulease",
            "version": "1",
            "chainId": escrow.chain.to_string(),
            "verifyingContract": escrow.address,
        },
        "message": message,
    })
}

/// The fields of a type, such as `Ready(bytes32 id,uint64 at)`, as typed data lists them.
fn fields(type_text: &str) -> Value {
    let inside = type_text.split_once('(').map_or("", |(_, rest)| rest.trim_end_matches(')'));
    let pairs = inside.split(',').filter_map(|field| field.split_once(' '));
    pairs.map(|(kind, name)| json!({ "name": name, "type": kind })).collect()
}
