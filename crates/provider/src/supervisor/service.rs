//! What the owner may change while rentals go on: whether new ones are taken, and at what price. Running rentals and quotes already given
//! keep what was agreed.

use super::Supervisor;
use crate::{
    Config, Error,
    config::Changes,
    desk::Desk,
    records::DrainOrder,
    rules::Rules,
    service::{Drain, Service},
};
use alloy_primitives::Address;
use api::types::{ApiError, ErrorKind, ServiceState};
use market::{pricing::Holding, time::UnixMillis};
use settlement::Chain;
use std::collections::BTreeSet;
use store::Json;

impl Supervisor {
    /// Whether new quotes are given.
    pub(super) fn service(&self, now: UnixMillis) -> Service {
        Service::at(self.drain, &self.rules, now)
    }

    /// What questions are weighed by.
    pub(super) fn desk<'a>(&'a self, service: &'a Service) -> Desk<'a> {
        Desk { config: &self.config, rules: &self.rules, inventory: &self.inventory, service }
    }

    /// What must be known of an asker's wallet, and where that is asked.
    pub(super) fn wanted_holdings(&self, offer: &str) -> Vec<(Chain, Holding)> {
        let policy = self.rules.policy(offer);
        let wanted: Vec<_> = policy.into_iter().flat_map(|policy| policy.holdings()).collect();
        let chains = || self.chains.iter().map(|settling| settling.account.sender().chain());
        let chain_of = |holding: &Holding| chains().find(|chain| chain.config().chain_id == holding.chain).cloned();
        wanted.into_iter().filter_map(|holding| Some((chain_of(&holding)?, holding))).collect()
    }

    /// Takes the machine out of service, or back into it: on disk first.
    pub(super) async fn order_drain(&mut self, drain: Option<Drain>) -> Result<ServiceState, ApiError> {
        let written = self.store.run(move |store| match drain {
            Some(drain) => store.put_sync::<DrainOrder>(&(), &Json(drain)),
            None => store.delete::<DrainOrder>(&()),
        });
        written.await.map_err(|error| ApiError::new(ErrorKind::Failed, error.to_string(), "see the daemon's log"))?;
        self.drain = drain;
        tracing::info!(drained = drain.is_some(), "the owner's order is on disk");
        self.advertise().await;
        Ok(self.service_state())
    }

    fn service_state(&self) -> ServiceState {
        let now = UnixMillis::now();
        let going_on = self.live.values().filter(|live| !live.rental.phase.is_over()).count();
        let (taken, until) = match self.service(now) {
            Service::Open { .. } => (true, None),
            Service::Closed { until, .. } => (false, until),
        };
        ServiceState { taking_rentals: taken, until, rentals: going_on as u64 }
    }

    /// Takes up what another configuration says of prices and of whom and when to serve; one that makes no sense changes nothing.
    pub(super) async fn reload(&mut self, new: &Config) -> Result<Changes, Error> {
        let (config, changes) = self.config.with(new);
        let chains: Vec<_> = self.chains.iter().map(|settling| settling.account.sender().chain().clone()).collect();
        let rules = Rules::new(&config, &chains)?;
        (self.config, self.rules) = (config, rules);
        let (taken, at_restart) = (changes.taken.join(", "), changes.at_restart.join(", "));
        tracing::info!(taken, at_restart, "the configuration was read again");
        self.advertise().await;
        Ok(changes)
    }
}

/// What of the wanted a wallet holds. A chain that cannot be asked earns nobody a discount, and keeps nobody from renting.
pub(super) async fn held_by(wallet: Address, wanted: Vec<(Chain, Holding)>) -> Vec<Holding> {
    let (mut held, mut asked) = (Vec::new(), BTreeSet::new());
    for (chain, holding) in wanted {
        if !asked.insert((holding.chain, holding.token)) {
            continue;
        }
        match chain.balance(holding.token, wallet).await {
            Ok(balance) if balance.is_zero() => {}
            Ok(_) => held.push(holding),
            Err(error) => tracing::warn!(token = %holding.token, %error, "what a renter holds cannot be asked"),
        }
    }
    held
}
