//! What can go wrong between this node and a chain: one variant for each cause, and what to do about it.

use crate::{bindings::Revert, transactions::Purpose};
use alloy::{
    primitives::{Address, B256, U256, utils::format_ether},
    transports::TransportError,
};
use market::{
    money::{Amount, Token},
    signed::Escrow,
};
use std::{io, path::PathBuf};
use store::StoreError;

/// Why settlement did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum SettlementError {
    /// The configuration names no endpoint.
    #[error("chain `{chain}` has no RPC endpoint: set `rpc` in its [[chain]] section")]
    NoEndpoint {
        /// The chain's name.
        chain: String,
    },
    /// The HTTP client could not be made.
    #[error("the HTTP client for {endpoint} cannot be set up")]
    Client {
        /// The endpoint, without what may be secret in it.
        endpoint: String,
        /// What the client said.
        source: alloy::transports::http::reqwest::Error,
    },
    /// No endpoint gave an answer.
    #[error("the chain's endpoint {endpoint} failed to tell {what}: check that it is up and reachable")]
    Rpc {
        /// What was asked.
        what: &'static str,
        /// The endpoint that failed last, without what may be secret in it.
        endpoint: String,
        /// How it failed.
        source: Box<TransportError>,
    },
    /// An endpoint did not answer in time.
    #[error(
        "the chain's endpoint {endpoint} took longer than {seconds} s to tell {what}: check that it is up and reachable"
    )]
    RpcTimeout {
        /// What was asked.
        what: &'static str,
        /// The endpoint, without what may be secret in it.
        endpoint: String,
        /// The limit.
        seconds: u64,
    },
    /// An endpoint answered with something that makes no sense.
    #[error("the chain's endpoint {endpoint} gave an impossible answer for {what}: {why}")]
    BadAnswer {
        /// What was asked.
        what: &'static str,
        /// The endpoint, without what may be secret in it.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// Endpoints tell different things where value hangs on it. Nothing was done.
    #[error(
        "the chain's endpoints {endpoints} disagree about {what}: nothing is done until two agree; replace the one that is wrong, or add a third to `rpc`"
    )]
    Disagreement {
        /// What was asked.
        what: &'static str,
        /// The endpoints, without what may be secret in them.
        endpoints: String,
    },
    /// Only one of several configured endpoints tells what two must agree on. Nothing was done.
    #[error(
        "only the chain's endpoint {endpoint} tells {what}, and two must agree: nothing is done until another is back; a third in `rpc` makes up for one that is down"
    )]
    OneEndpoint {
        /// What was asked.
        what: &'static str,
        /// The endpoint that answered, without what may be secret in it.
        endpoint: String,
    },
    /// The endpoint serves another chain than configured.
    #[error(
        "`{name}` is configured as chain {expected}, but its endpoint serves chain {found}: correct `chain_id` or `rpc`"
    )]
    WrongChain {
        /// The chain's name.
        name: String,
        /// The configured id.
        expected: u64,
        /// The endpoint's id.
        found: u64,
    },
    /// There is no code, or other code, at the escrow's address.
    #[error(
        "the code at the escrow's address {address} has hash {found}, expected {expected}: no money is sent there; check `escrow`, or deploy the escrow"
    )]
    WrongCode {
        /// The configured address.
        address: Address,
        /// The configured hash.
        expected: B256,
        /// The hash of what is there; that of nothing is `0xc5d2…a470`.
        found: B256,
    },
    /// A quote for another escrow or chain than this one.
    #[error("the quote is for escrow {} on chain {}, this is {} on chain {}", quoted.address, quoted.chain, here.address, here.chain)]
    OtherEscrow {
        /// The quote's.
        quoted: Escrow,
        /// This chain's.
        here: Escrow,
    },
    /// More rentals than one transaction closes.
    #[error("{given} rentals are too many to be closed in one transaction; {limit} are the most")]
    BatchTooLarge {
        /// How many were given.
        given: usize,
        /// The most.
        limit: usize,
    },
    /// The token's contract does not tell its symbol and decimals.
    #[error("{address} does not answer as an ERC-20 token")]
    NotAToken {
        /// The contract.
        address: Address,
    },
    /// A smart account does not take this key's signature for its own.
    #[error(
        "the account {account} does not take signatures of {key} for its own (ERC-1271): name an account of which that key alone is enough, or none"
    )]
    NotOurAccount {
        /// The account.
        account: Address,
        /// The wallet's key.
        key: Address,
    },
    /// The account has no way to pay in that it could use.
    #[error("{account} cannot pay {token} in: {why}")]
    NoWay {
        /// Who pays.
        account: Address,
        /// The token's symbol.
        token: String,
        /// What is missing.
        why: String,
    },
    /// Too little coin for the gas of a transaction.
    #[error("{account} has {} of the chain's coin and needs {} for {purpose} with its gas: send it some", format_ether(*have), format_ether(*need))]
    InsufficientGas {
        /// Who sends.
        account: Address,
        /// Its coin that is not bound by transactions under way, in base units.
        have: U256,
        /// Value and gas at the highest price that may be asked, in base units.
        need: U256,
        /// What for.
        purpose: Box<Purpose>,
    },
    /// Too little of the token for the payment itself.
    #[error("{account} has {} and needs {}: send it some, or rent for less", token.show(*have), token.show(*need))]
    InsufficientFunds {
        /// Who pays.
        account: Address,
        /// What with.
        token: Box<Token>,
        /// Its balance.
        have: Amount,
        /// What the payment takes.
        need: Amount,
    },
    /// A contract refuses. Without a transaction it was found by simulation and has cost nothing.
    #[error("{purpose} was refused: {reason}")]
    Reverted {
        /// What was tried.
        purpose: Box<Purpose>,
        /// The transaction, when it was mined.
        transaction: Option<B256>,
        /// Why.
        reason: Box<Revert>,
    },
    /// The transaction is on its way but not confirmed within the wait; asking again for the same purpose goes on waiting.
    #[error("{purpose} is not confirmed after {seconds} s (transaction {transaction}): it stays under way, ask again")]
    NotConfirmed {
        /// What was tried.
        purpose: Box<Purpose>,
        /// Its latest transaction.
        transaction: B256,
        /// How long was waited.
        seconds: u64,
    },
    /// Another transaction of the account, not sent by this node, took the nonce. Nothing happened; asking again sends anew.
    #[error(
        "{purpose} did not happen: another program used the account's nonce {nonce}; keep this key for one node alone, and try again"
    )]
    Superseded {
        /// What was tried.
        purpose: Box<Purpose>,
        /// The nonce.
        nonce: u64,
    },
    /// Another program on this machine sends with the same key.
    #[error(
        "{account} on chain {chain} is used by another program on this machine{}: end it, or give this node a key of its own", .pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
    )]
    AccountInUse {
        /// The account.
        account: Address,
        /// The chain's id.
        chain: u64,
        /// The other program, as it wrote itself down.
        pid: Option<u32>,
    },
    /// The place where programs of this user claim accounts cannot be used.
    #[error("{} cannot be used to claim the account for this program: set XDG_RUNTIME_DIR to a folder of yours", path.display())]
    AccountLock {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The task that sends transactions has ended.
    #[error("the transaction sender has stopped: the node is shutting down")]
    SenderStopped,
    /// More rentals are watched than a follower holds.
    #[error("more than {limit} rentals are watched on one chain")]
    TooManyWatched {
        /// The limit.
        limit: usize,
    },
    /// The chain lacks the proxy that puts the escrow at its address.
    #[error(
        "the deployment proxy {proxy} does not exist on this chain: deploy it first (it is the same on every chain)"
    )]
    NoDeployer {
        /// Its address.
        proxy: Address,
    },
    /// There is no such key.
    #[error("there is no key at {}: make one with `node wallet new`", path.display())]
    NoKey {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A key of that name exists; it is never overwritten.
    #[error("a key exists at {}: choose another name", path.display())]
    KeyExists {
        /// The existing file.
        path: PathBuf,
    },
    /// A name that cannot be a file's.
    #[error("`{name}` cannot be a key's name: use letters, digits, `-` and `_`, at most {limit} of them")]
    KeyName {
        /// What was given.
        name: String,
        /// The most characters.
        limit: usize,
    },
    /// The passphrase does not open the key.
    #[error("the passphrase does not open the key at {}", path.display())]
    WrongPassphrase {
        /// The key.
        path: PathBuf,
    },
    /// The file is not a key store.
    #[error("the file at {} is not a keystore: {why}", path.display())]
    BadKeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The key's file or folder cannot be read or written.
    #[error("{} cannot be read or written", path.display())]
    KeyFile {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A task that stretches keys died with the program's shutdown, or by a panic.
    #[error("the task that unlocks keys ended before it was done")]
    Interrupted(#[source] tokio::task::JoinError),
    /// Making a signature failed.
    #[error("the key cannot sign")]
    Signing(#[from] alloy::signers::Error),
    /// The node's own records cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}
