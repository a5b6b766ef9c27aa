//! The provider role: from the machine's slots to offers, quotes, supervised rentals and closed escrows.
//!
//! ```text
//!   config ──▶ inventory ──▶ offers ──▶ network (gossip)
//!   QuoteRequest ──▶ desk (may it be?) ──▶ hold a slot ──▶ quote, on disk ──▶ renter
//!   chain: opened ──▶ sandbox ──▶ Ready          voucher ──▶ checked, on disk ──▶ ack; unpaid ──▶ freeze
//!   finish, or unpaid too long ──▶ destroy ──▶ close the escrow with the best voucher ──▶ receipt
//! ```
//!
//! One task, the [`supervisor`], owns every rental. What each may do next is decided by `market::rental::provider`; the supervisor
//! writes the decision to disk and only then acts on it. A voucher is therefore *made* in the renter's `meter`, *checked* in
//! `market::rental::provider::Rental::step`, *stored* in [`supervisor`] and *cashed* in [`closing`].

mod alarm;
mod cards;
mod closing;
mod config;
mod desk;
mod figures;
mod inventory;
mod keeper;
mod maintenance;
mod payout;
mod records;
mod rules;
mod service;
mod story;
mod supervisor;
mod unshared;

#[cfg(test)]
mod example;

pub use cards::Cards;
pub use config::{Changes, Config, DiscountConfig, HoursConfig, Maintenance, Pricing, Renters, SlotConfig};
pub use figures::{Counts, Standing};
pub use payout::check_payout;
pub use records::{MAX_HISTORY, forget_oldest, tables};

use api::{
    evidence::Evidence,
    types::{ApiError, ErrorKind, Receipt, Reloaded, RentalRow, RentalStory, ServiceState},
};
use figures::Figures;
use gpu::measure::Benchmark;
use market::{id::RentalId, time::UnixMillis};
use sandbox::Backend;
use settlement::{EscrowAccount, SettlementError, Wallet};
use std::sync::Arc;
use store::{Store, StoreError};
use supervisor::{Command, Supervisor};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Commands of the control API that may wait: a person types slower.
const COMMANDS: usize = 32;

/// What the provider is built from.
pub struct Parts {
    /// The network's handle.
    pub network: network::Handle,
    /// The network's name, which stands in the terms.
    pub network_name: String,
    /// The wallet's account at each escrow that it settles at. There is one sender for an account in a node: roles share it.
    pub accounts: Vec<EscrowAccount>,
    /// The account that sends transactions; it is paid too, unless the configuration names a payout address.
    pub wallet: Wallet,
    /// The key that signs quotes, acks and releases where the wallet is paid. With a payout address the wallet signs.
    pub provider_key: Wallet,
    /// Its memory.
    pub store: Store,
    /// The machine's GPUs.
    pub cards: Cards,
    /// What `node devices bench` found, if it was run.
    pub benchmark: Option<Benchmark>,
    /// What runs workloads.
    pub backend: Arc<dyn Backend>,
    /// Where requests to carry a renter's Stop go, if this node carries them.
    pub carrier: Option<mpsc::Sender<network::IncomingRental>>,
    /// Ends everything.
    pub cancel: CancellationToken,
}

/// Why the provider did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration names something that does not exist, or leaves out what is needed.
    #[error("provider configuration: {0}")]
    Config(String),
    /// This machine cannot isolate and limit workloads, so nothing is offered.
    #[error("this machine cannot run sandboxes: {0}")]
    Sandboxes(String),
    /// Sandboxes of an earlier run could not be taken over.
    #[error("cannot take over the sandboxes of an earlier run: {0}")]
    Adoption(#[source] sandbox::Error),
    /// The chain or a key failed.
    #[error(transparent)]
    Settlement(#[from] SettlementError),
    /// The node's memory failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The network gives its requests to one provider only, and one has them.
    #[error("a provider runs in this node already")]
    Twice,
}

/// The running provider. Clones speak to the same one.
#[derive(Clone)]
pub struct Provider {
    commands: mpsc::Sender<Command>,
    figures: Arc<Figures>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
    cancel: CancellationToken,
    /// Cancelled by the end of the task, however it comes.
    ended: CancellationToken,
}

impl Provider {
    /// Takes up the rentals of an earlier run, offers the configured slots, and serves until cancelled.
    pub async fn start(config: Config, parts: Parts) -> Result<Self, Error> {
        let cancel = parts.cancel.clone();
        let (commands, inbox) = mpsc::channel(COMMANDS);
        let supervisor = Supervisor::load(config, parts).await?;
        let (figures, ended) = (supervisor.figures(), CancellationToken::new());
        let running = ended.clone().drop_guard();
        let task = tokio::spawn(async move {
            let _running = running;
            supervisor.run(inbox).await;
        });
        Ok(Self { commands, figures, task: Arc::new(Mutex::new(Some(task))), cancel, ended })
    }

    /// Waits until the supervisor has ended, by order or by a fault of ours. No rental is looked after from then on.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// The rentals it serves; ended ones too when `all`.
    pub async fn rentals(&self, all: bool) -> Result<Vec<RentalRow>, ApiError> {
        self.ask(|reply| Command::Rentals { all, reply }).await.ok_or_else(gone)
    }

    /// What was counted since the start.
    pub fn counts(&self) -> Counts {
        self.figures.read()
    }

    /// How rentals, slots and sessions stand; `None` when the supervisor has ended.
    pub async fn standing(&self) -> Option<Standing> {
        self.ask(|reply| Command::Standing { reply }).await
    }

    /// Receipts whose id begins with `prefix`, newest first.
    pub async fn receipts(&self, prefix: String) -> Result<Vec<Receipt>, ApiError> {
        self.ask(|reply| Command::Receipts { prefix, reply }).await.ok_or_else(gone)
    }

    /// The whole story of each rental whose id begins with `prefix`.
    pub async fn stories(&self, prefix: String) -> Result<Vec<RentalStory>, ApiError> {
        self.ask(|reply| Command::Stories { prefix, reply }).await.ok_or_else(gone)
    }

    /// Everything signed of a rental that this side has kept, if it is one of its own.
    pub async fn evidence(&self, id: RentalId) -> Result<Option<Evidence>, ApiError> {
        self.ask(|reply| Command::Evidence { id, reply }).await.ok_or_else(gone)
    }

    /// Takes the machine out of service, until then or until told otherwise: no new quotes, while rentals that go on finish. A restart
    /// keeps to it.
    pub async fn drain(&self, until: Option<UnixMillis>) -> Result<ServiceState, ApiError> {
        let drain = Some(service::Drain { until });
        self.ask(|reply| Command::Drain { drain, reply }).await.unwrap_or_else(|| Err(gone()))
    }

    /// Takes the machine back into service.
    pub async fn undrain(&self) -> Result<ServiceState, ApiError> {
        self.ask(|reply| Command::Drain { drain: None, reply }).await.unwrap_or_else(|| Err(gone()))
    }

    /// Takes up what `config` says of prices and of whom and when to serve. One that makes no sense changes nothing.
    pub async fn reload(&self, config: Config) -> Result<Reloaded, ApiError> {
        let config = Box::new(config);
        let answer = self.ask(|reply| Command::Reload { config, reply }).await.ok_or_else(gone)?;
        let Changes { taken, at_restart } = answer.map_err(|error| {
            ApiError::new(ErrorKind::Usage, error.to_string(), "nothing has changed; correct [provider] and try again")
        })?;
        Ok(Reloaded { taken, at_restart })
    }

    /// Ends the rental named by a prefix of its id.
    pub async fn stop(&self, prefix: String) -> Result<RentalRow, ApiError> {
        self.ask(|reply| Command::Evict { prefix, reply }).await.unwrap_or_else(|| Err(gone()))
    }

    /// Withdraws the offers and ends the task. Sandboxes go on running, for the next start to take over.
    pub async fn shutdown(&self) {
        self.cancel.cancel();
        if let Some(task) = self.task.lock().await.take() {
            // a panic in the task was reported where it happened
            let _ = task.await;
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.ok()?;
        answer.await.ok()
    }
}

/// Nobody looks after the rentals any more, so that nothing can be said of them.
fn gone() -> ApiError {
    ApiError::new(ErrorKind::Failed, "the provider has ended", "see the daemon's log, and start it again")
}
