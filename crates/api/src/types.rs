//! What the control API speaks of: plain records, the same for the daemon, the command line (`--json`) and the dashboard. Amounts are
//! decimal text of base units beside their token; ids are `0x` and 64 hex digits; moments are Unix milliseconds.

mod approvals;
mod checks;
mod console;
mod label;
mod offers;
mod reputation;
mod service;
mod shares;
mod visits;

pub use approvals::{Approval, Revocation, Revoked};
pub use checks::{CheckOutcome, CheckedDevice, Checks, HardwareCheck};
pub use console::{ConsoleLink, ConsoleRequest};
pub use label::{Label, LabelError, MAX_LABEL_BYTES, is_id_prefix, is_named};
pub use offers::{ConditionRow, Estimate, NearOffer, OfferExplanation};
pub use reputation::{PastRental, RatingRequest, RatingState, RatingView, Reputation, ReputationQuery};
pub use service::{DrainRequest, ExtendRequest, Reloaded, ServiceState};
pub use shares::{AcceptRequest, Share, ShareRequest, SharedRental, UnshareRequest};
pub use visits::{Visit, VisitKind, Visitor};

use market::{
    dispute::{Deadlines, StopReason},
    id::RentalId,
    money::{Amount, Token},
    standing::Standing,
    time::UnixMillis,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// The roles a node can play.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Offers machines.
    Provider,
    /// Rents machines.
    Renter,
    /// Keeps the book of all offers.
    Indexer,
}

/// The daemon itself.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct NodeInfo {
    /// Program version.
    pub version: String,
    /// libp2p peer id.
    pub peer: String,
    /// What it does.
    pub roles: Vec<Role>,
    /// `main` or a devnet's name.
    pub network: String,
    /// Multiaddresses it listens on, with its peer id.
    pub addresses: Vec<String>,
    /// How many peers it is connected to.
    pub peers: usize,
    /// Offers it knows of.
    pub offers: usize,
    /// Where it serves its metrics, if it does.
    #[serde(default)]
    pub metrics: Option<String>,
    /// Where it answers searches over HTTP, if it does.
    #[serde(default)]
    pub searches: Option<String>,
}

/// An indexer that a renter has asked for offers, and what came of it since the daemon started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IndexerRow {
    /// Its peer id.
    pub peer: String,
    /// How often it was asked.
    pub asked: u64,
    /// Rows of its last answer that hold.
    pub rows: usize,
    /// Rows that it left out of that answer though others had them. A few are normal: news takes a moment.
    pub missing: usize,
    /// Rows of all its answers that did not meet the query.
    pub wrong: u64,
    /// Advertisements that nobody had signed.
    pub forged: u64,
    /// Whether it is not asked any more, since it has forged something.
    pub distrusted: bool,
    /// Why its last answer did not come, if it did not.
    pub failure: Option<String>,
}

/// A search.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OfferQuery {
    /// Conditions in the query language; empty matches everything.
    #[serde(default)]
    pub query: String,
    /// Sort keys such as `price,-vram`; empty sorts by price, or by the cost of the job.
    #[serde(default)]
    pub order: String,
    /// At most so many rows; 0 means the default of 50.
    #[serde(default)]
    pub limit: usize,
    /// A job whose cost is estimated, such as `tflop=1e6 gb=5e5 seconds=60`; empty for none.
    #[serde(default)]
    pub job: String,
    /// What tokens are worth, one a line, such as `USDC@8453 1`; without them prices in different tokens are not compared.
    #[serde(default)]
    pub rates: String,
}

/// One offer at one price, ready to be shown.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct OfferRow {
    /// The provider's peer id.
    pub provider: String,
    /// The wallet it is paid to.
    #[schema(value_type = String)]
    pub wallet: alloy_primitives::Address,
    /// The provider's name for the offer.
    pub offer: String,
    /// The class it is gossiped under.
    pub class: String,
    /// The hardware of one slot in words.
    pub hardware: String,
    /// GPU model and count, such as `2x NVIDIA H200`; empty without GPUs.
    pub gpu: String,
    /// Memory of each GPU in GB; 0 without GPUs.
    pub vram_gb: u32,
    /// Thousandths of a core.
    pub cpu_millis: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Disk in MiB.
    pub disk_mib: u32,
    /// Slots, and how many are free.
    pub slots: u32,
    /// Free slots.
    pub free: u32,
    /// When the first slot comes back, if none is free.
    #[schema(value_type = Option<u64>)]
    pub busy_until: Option<UnixMillis>,
    /// What it is paid in.
    #[schema(value_type = Object)]
    pub token: Token,
    /// All-in price of a slot-hour in base units.
    #[schema(value_type = String)]
    pub price_hour: Amount,
    /// The same with its symbol.
    pub price: String,
    /// Where the machine stands; empty when not stated.
    pub region: String,
    /// 0 declared, 1 consistent, 2 measured, 3 attested.
    pub verified: u32,
    /// The longest rental, in seconds.
    pub max_seconds: u32,
    /// Who may rule on a rental that its renter stops on chain: quotes of this offer name one of them. Empty: nobody.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub arbiters: Vec<alloy_primitives::Address>,
    /// When the advertisement ends.
    #[schema(value_type = u64)]
    pub expires: UnixMillis,
    /// The provider's record, where one is kept.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub standing: Option<Standing>,
    /// What the described job takes there; absent without a job, or when it cannot be told or does not fit.
    #[serde(default)]
    pub estimate: Option<Estimate>,
}

/// An order to rent a machine, run a program there, and bring its outputs back.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct RunRequest {
    /// Which offers will do, in the query language.
    #[serde(default)]
    pub query: String,
    /// How to choose among them; empty is the cheapest.
    #[serde(default)]
    pub order: String,
    /// The longest the rental may last, in seconds.
    pub seconds: u32,
    /// The most that may be spent, as decimal text in the token (`1.50`); empty means no limit beyond the time.
    #[serde(default)]
    pub max_spend: String,
    /// Absolute path of a folder whose contents become `/job`; absent for none.
    pub input: Option<String>,
    /// Absolute path of the folder for outputs; absent for `./gpulease-out/<id8>` under `working_directory`.
    pub out: Option<String>,
    /// The caller's working directory, absolute.
    pub working_directory: String,
    /// The program and its arguments; none if the rental is to be held.
    #[serde(default)]
    pub argv: Vec<String>,
    /// Rent without a program: the rental is held until it is stopped or its time is over, and is used from outside.
    #[serde(default)]
    pub hold: bool,
    /// What to call the rental; no other that goes on may be called so.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub label: Option<Label>,
    /// Environment variables for it.
    #[serde(default)]
    pub env: std::collections::BTreeMap<String, String>,
    /// Whether the rental may have to give way to others, for a lower price.
    #[serde(default)]
    pub interruptible: bool,
    /// What is bid for a slot-hour of an interruptible rental, as decimal text in the token; empty for the least that is taken.
    #[serde(default)]
    pub bid: String,
    /// How many slots of one offer to rent together; 0 is one.
    #[serde(default)]
    pub slots: u32,
    /// The container image to run in, by digest (`name@sha256:…`); empty for the machine's own programs.
    #[serde(default)]
    pub image: String,
    /// Whether the program may reach public addresses.
    #[serde(default)]
    pub egress: bool,
    /// Whether the machine is not to be checked.
    #[serde(default)]
    pub no_check: bool,
}

/// A run that has begun.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunStarted {
    /// Names the run until it has a rental.
    pub run: u64,
}

/// What happens in a run, in order. Streamed as one JSON object a line; `number` lets a client resume.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RunEvent {
    /// Counts the events of a run from 0. A daemon that was started again in the middle of a run counts on from a much higher number, and
    /// tells again what it knows: the client leaves out what it has seen.
    pub number: u64,
    /// When it happened.
    #[schema(value_type = u64)]
    pub at: UnixMillis,
    /// What happened.
    pub step: RunStep,
}

/// A field of what is about to be signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SignedField {
    /// Its name in the type that is signed.
    pub name: String,
    /// Its value, for people.
    pub value: String,
}

/// The steps of a run.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum RunStep {
    /// An offer was chosen.
    Matched {
        /// The offer.
        offer: Box<OfferRow>,
        /// How many offers met the conditions.
        candidates: usize,
    },
    /// A provider said no, and why; the next one is tried.
    Refused {
        /// The provider's peer id.
        provider: String,
        /// Its reason.
        reason: String,
    },
    /// The provider's binding promise arrived and was checked.
    Quoted {
        /// The rental's id.
        #[schema(value_type = String)]
        id: RentalId,
        /// What will be locked.
        deposit: String,
        /// The price of an hour.
        price_hour: String,
        /// The estimated network fee of opening, with the coin's symbol; empty when it could not be estimated.
        gas: String,
        /// Who may rule on it once it is stopped on chain, if anybody may.
        #[serde(default)]
        #[schema(value_type = Option<String>)]
        arbiter: Option<alloy_primitives::Address>,
    },
    /// Something is about to be signed, or sent, with the wallet.
    Signing {
        /// What kind of thing it is.
        what: String,
        /// Its fields, decoded, in the order in which they are signed.
        fields: Vec<SignedField>,
    },
    /// The provider opens the rental in the renter's name, who has no coin for gas, and is paid its first increment in advance.
    Mandated {
        /// What is paid in advance.
        advance: String,
    },
    /// The opening was sent.
    Opening {
        /// Transaction hash.
        #[schema(value_type = String)]
        tx: alloy_primitives::B256,
    },
    /// The opening is confirmed: the deposit is locked.
    Opened {
        /// Transaction hash.
        #[schema(value_type = String)]
        tx: alloy_primitives::B256,
        /// Block number.
        block: u64,
    },
    /// The rental gives way to another: the program was told to end, and its outputs are fetched in time.
    Preempted {
        /// When it is over.
        #[schema(value_type = u64)]
        at: UnixMillis,
        /// What it gives way to.
        reason: String,
    },
    /// The run goes on in another rental, in the same sandbox: it was extended.
    Continued {
        /// That rental's id.
        #[schema(value_type = String)]
        id: RentalId,
        /// The price of an hour from now on.
        price_hour: String,
    },
    /// The sandbox is up and the meter runs.
    Ready {
        /// When, by the provider's signed statement.
        #[schema(value_type = u64)]
        at: UnixMillis,
    },
    /// The input folder is being sent.
    Uploading {
        /// Bytes so far.
        sent: u64,
        /// Bytes in all.
        total: u64,
    },
    /// The program was started.
    Started,
    /// Output of the program.
    Log {
        /// True for standard error.
        stderr: bool,
        /// The record's number in the job's log.
        seq: u64,
        /// Where in the record these bytes begin: long ones come in pieces, which are cut the same way each time.
        #[serde(default)]
        offset: u64,
        /// The bytes, base-64.
        data: String,
    },
    /// The provider's log ring had dropped what came before this record.
    LogGap {
        /// The first record after the hole.
        next: u64,
    },
    /// A voucher was acknowledged.
    Paid {
        /// Seconds served so far.
        seconds: u32,
        /// The total so far, with its symbol.
        cost: String,
    },
    /// The program ended.
    Exited {
        /// Its exit code, as a shell reports it.
        code: i32,
        /// In words: `exited with 3`, `killed: out of memory`.
        how: String,
    },
    /// Outputs are being fetched.
    Fetching {
        /// Bytes so far.
        received: u64,
    },
    /// Outputs are on disk.
    Fetched {
        /// Files received.
        files: u64,
        /// Bytes received.
        bytes: u64,
        /// Where they are.
        directory: String,
    },
    /// The rental is over; the last voucher was handed in and the escrow is being closed.
    Settling {
        /// The total, with its symbol.
        total: String,
    },
    /// The escrow paid both sides in one transaction. Every run that opened comes to this.
    Settled {
        /// The whole story, checked against the chain.
        receipt: Box<Receipt>,
        /// Why the run did not do what it should, all the same: the program did not end, or its outputs were lost.
        error: Option<ApiError>,
    },
    /// No rental came about, or it could not be settled while this node runs.
    Failed {
        /// What went wrong.
        error: ApiError,
    },
}

impl RunStep {
    /// Whether nothing can follow.
    pub const fn is_last(&self) -> bool {
        matches!(self, Self::Settled { .. } | Self::Failed { .. })
    }
}

/// One rental, as `ps` shows it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RentalRow {
    /// The rental's id.
    #[schema(value_type = String)]
    pub id: RentalId,
    /// What its renter calls it, on the renter's side.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub label: Option<Label>,
    /// Which side this node is on.
    pub role: Role,
    /// Where it stands: `opening`, `preparing`, `serving`, `frozen`, `closing`, `closed`, ….
    pub phase: String,
    /// The other side's peer id.
    pub peer: String,
    /// The offer's name.
    pub offer: String,
    /// When the meter started.
    #[schema(value_type = Option<u64>)]
    pub ready_at: Option<UnixMillis>,
    /// Seconds on the meter.
    pub seconds: u32,
    /// The total owed so far, with its symbol.
    pub cost: String,
    /// What is locked, with its symbol.
    pub deposit: String,
    /// When it ends at the latest.
    #[schema(value_type = Option<u64>)]
    pub ends_at: Option<UnixMillis>,
    /// What is wrong about its money and needs somebody's hand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
}

impl RentalRow {
    /// Whether its renter can do nothing with it any more.
    pub fn is_over(&self) -> bool {
        matches!(self.phase.as_str(), "closed" | "lapsed")
    }

    /// Whether `name` means this rental: by its id, by the beginning of it, or by its label.
    pub fn is_named(&self, name: &str) -> bool {
        is_named(self.id, self.label.as_ref(), name)
    }
}

/// A rental as one side knows it, in the order of its life.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct RentalStory {
    /// The rental as it stands.
    pub rental: RentalRow,
    /// What happened, in order. What is not written down, such as the moment of each freeze, is not told.
    pub steps: Vec<StoryStep>,
    /// Its receipt, once it is closed.
    pub receipt: Option<Receipt>,
    /// Who has been in it, as its renter's node has seen it, the oldest first.
    #[serde(default)]
    pub visits: Vec<Visit>,
}

/// One thing that happened to a rental.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoryStep {
    /// `quoted`, `opened`, `ready`, `voucher`, `frozen`, `finished`, `released`, `closed`, ….
    pub step: String,
    /// When, where that is written down: block time for what the chain did, this node's clock else.
    #[schema(value_type = Option<u64>)]
    pub at: Option<UnixMillis>,
    /// The particulars, in words.
    pub detail: String,
    /// The transaction that did it.
    #[schema(value_type = Option<String>)]
    pub tx: Option<alloy_primitives::B256>,
    /// The block that transaction is in.
    pub block: Option<u64>,
}

impl StoryStep {
    /// Something that this node did or heard.
    pub fn new(step: &str, at: Option<UnixMillis>, detail: impl Into<String>) -> Self {
        Self { step: step.to_owned(), at, detail: detail.into(), tx: None, block: None }
    }

    /// Something that a transaction did, in a block of this time (Unix seconds).
    pub fn on_chain(
        step: &str,
        block_time: u64,
        tx: alloy_primitives::B256,
        block: u64,
        detail: impl Into<String>,
    ) -> Self {
        let at = UnixMillis(block_time.saturating_mul(1_000));
        Self { tx: Some(tx), block: Some(block), ..Self::new(step, Some(at), detail) }
    }
}

/// Everything both sides signed and the chain recorded of one rental. Enough to check every number without this program.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The rental's id: the EIP-712 digest of the quote.
    #[schema(value_type = String)]
    pub id: RentalId,
    /// Which side wrote it.
    pub role: Role,
    /// The quote and the provider's signature.
    #[schema(value_type = Object)]
    pub quote: market::quote::SignedQuote,
    /// The full terms whose hash stands in the quote.
    #[schema(value_type = Object)]
    pub terms: market::terms::Terms,
    /// The terms as they travelled, hex: keccak256 of these bytes is `quote.spec`.
    #[schema(value_type = String)]
    pub terms_bytes: alloy_primitives::Bytes,
    /// The transaction that opened it.
    pub opened: TransactionRef,
    /// The transaction that closed it.
    pub closed: TransactionRef,
    /// The provider's signed start of the meter (Unix milliseconds); absent when it never started.
    #[schema(value_type = Option<u64>)]
    pub ready_at: Option<UnixMillis>,
    /// When serving ended.
    #[schema(value_type = Option<u64>)]
    pub stopped_at: Option<UnixMillis>,
    /// Seconds billed.
    pub seconds: u32,
    /// Seconds of them frozen.
    pub frozen_seconds: u32,
    /// What was locked, base units.
    #[schema(value_type = String)]
    pub deposit: Amount,
    /// What the provider received, base units, from the chain's `Closed` event.
    #[schema(value_type = String)]
    pub paid: Amount,
    /// What the renter got back, base units, from the same event.
    #[schema(value_type = String)]
    pub refunded: Amount,
    /// How it was closed: 1 by the provider, 2 released, 3 finalized after a stop, 4 finalized after its term, 5 ruled.
    pub kind: u8,
    /// The highest voucher.
    #[schema(value_type = Option<Object>)]
    pub voucher: Option<market::signed::SignedVoucher>,
    /// The provider's release.
    #[schema(value_type = Option<Object>)]
    pub release: Option<market::signed::SignedRelease>,
    /// What was run, on the renter's side.
    pub job: Option<JobSummary>,
    /// What the renter's checks of the hardware have shown, on its side.
    #[serde(default, skip_serializing_if = "Checks::is_empty")]
    pub checks: Checks,
}

/// How a rental was closed, by the number in its receipt, in words.
pub const fn closing_words(kind: u8) -> &'static str {
    match kind {
        1 => "by the provider",
        2 => "released",
        3 => "finalized after a stop",
        4 => "finalized after its term",
        5 => "ruled by the arbiter",
        _ => "in an unknown way",
    }
}

/// A transaction on the rental's chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TransactionRef {
    /// Its hash.
    #[schema(value_type = String)]
    pub tx: alloy_primitives::B256,
    /// The block it is in.
    pub block: u64,
    /// That block's time, Unix seconds.
    pub time: u64,
}

/// The program of a run and how it ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct JobSummary {
    /// What the rental was called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub label: Option<Label>,
    /// The command; empty of a rental that was held without one.
    pub argv: Vec<String>,
    /// As a shell reports it; absent when it did not end.
    pub exit_code: Option<i32>,
    /// In words.
    pub how: String,
    /// SHA-256 of the input tar stream, hex; empty for none.
    pub input_sha256: String,
    /// SHA-256 of the output tar stream, hex.
    pub output_sha256: String,
    /// Where the outputs are.
    pub output_directory: String,
}

/// A rental's dispute, as its renter sees it.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Dispute {
    /// The rental as it stands.
    pub rental: RentalRow,
    /// Who may rule.
    #[schema(value_type = String)]
    pub arbiter: alloy_primitives::Address,
    /// When this node was told to dispute it; absent before.
    #[schema(value_type = Option<u64>)]
    pub ordered_at: Option<UnixMillis>,
    /// Why it is stopped on chain: `unanswered`, `not-served`, `hardware`, `ended`, `data` or `other`. It counts once it is ordered, or the
    /// chain shows the stop.
    #[schema(value_type = String)]
    pub reason: StopReason,
    /// Block time of the stop, in Unix seconds, once the chain shows it.
    pub stopped_at: Option<u64>,
    /// From when on the arbiter may rule, and anybody finalize.
    #[schema(value_type = Option<Object>)]
    pub deadlines: Option<Deadlines>,
    /// How it ended, once it did.
    pub receipt: Option<Receipt>,
}

/// An order to dispute a rental.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, ToSchema)]
pub struct DisputeRequest {
    /// Why: it goes into the chain's record of the stop.
    #[schema(value_type = String)]
    pub reason: StopReason,
}

/// A wallet of this node.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct WalletView {
    /// Its name in the keystore.
    pub name: String,
    /// Its address.
    #[schema(value_type = String)]
    pub address: alloy_primitives::Address,
    /// What it holds, per chain and token.
    pub balances: Vec<Balance>,
}

/// A balance.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct Balance {
    /// The chain's name in the configuration.
    pub chain: String,
    /// The token.
    #[schema(value_type = Object)]
    pub token: Token,
    /// Base units.
    #[schema(value_type = String)]
    pub amount: Amount,
    /// With its symbol.
    pub shown: String,
}

/// Why a request failed: the class decides the exit code of the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The class of failure.
    pub kind: ErrorKind,
    /// What happened and why.
    pub message: String,
    /// What to do next; empty when nothing helps.
    pub next: String,
}

impl ApiError {
    /// An error of `kind` with words for a person.
    pub fn new(kind: ErrorKind, message: impl Into<String>, next: impl Into<String>) -> Self {
        Self { kind, message: message.into(), next: next.into() }
    }
}

/// Classes of failure, with the exit code each has on the command line (DESIGN §17).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// 1: anything else.
    Failed,
    /// 2: the request makes no sense.
    Usage,
    /// 3: no daemon is listening.
    NoDaemon,
    /// 4: no offer matches, or there is no such rental.
    NoMatch,
    /// 5: too little money or gas.
    Funds,
    /// 6: the provider refused.
    Refused,
    /// 7: the chain is wrong, unreachable or rejected the transaction.
    Chain,
    /// 8: it took too long.
    Timeout,
}

impl ErrorKind {
    /// The exit code of a command that fails so.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NoDaemon => 3,
            Self::NoMatch => 4,
            Self::Funds => 5,
            Self::Refused => 6,
            Self::Chain => 7,
            Self::Timeout => 8,
        }
    }
}
