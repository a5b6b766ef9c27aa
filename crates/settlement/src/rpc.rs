//! Asking a chain's endpoints. What a contract refuses is an answer, and final; what an endpoint fails at is asked of the next. An
//! endpoint that fails is remembered and left alone for a while, so that a dead one costs nothing but its first question. What value
//! hangs on must be told alike by two, where two are configured.

mod endpoint;
mod health;

pub(crate) use endpoint::{CallError, chain_id};
pub use health::{ChainHealth, EndpointHealth, EndpointState};

use crate::{bindings::Revert, chain::Head, config::ChainConfig, error::SettlementError};
use alloy::{
    primitives::Bytes,
    providers::{Provider, RootProvider},
};
use endpoint::{ANSWER_LIMIT, Endpoint, IMPATIENT_LIMIT};
use futures::future::join_all;
use std::{
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;
use tracing::warn;

/// How often all endpoints are tried for one question: the second time after a short pause bridges a reconnect, and the moment in which
/// one endpoint has a block already and another has not.
const ROUNDS: u32 = 2;
/// The pause between rounds.
const PAUSE: Duration = Duration::from_millis(250);

/// The endpoints of one chain.
pub(crate) struct Endpoints {
    chain: String,
    list: Vec<Arc<Endpoint>>,
    /// More blocks than this behind the others is far.
    lag_limit: u64,
    fail_overs: AtomicU64,
    disagreements: AtomicU64,
    /// Looks whether resting endpoints are back, one at a time for each; ended with this.
    probes: Mutex<JoinSet<()>>,
}

impl Endpoints {
    pub(crate) fn new(config: &ChainConfig) -> Result<Self, SettlementError> {
        let make = |url| Endpoint::new(&config.name, config.chain_id, url).map(Arc::new);
        // one that is named twice cannot agree with itself
        let distinct = config.rpc.iter().enumerate().filter(|(n, url)| !config.rpc[..*n].contains(url));
        let list = distinct.map(|(_, url)| make(url)).collect::<Result<Vec<_>, _>>()?;
        if list.is_empty() {
            return Err(SettlementError::NoEndpoint { chain: config.name.clone() });
        }
        Ok(Self {
            chain: config.name.clone(),
            list,
            lag_limit: config.far_behind(),
            fail_overs: AtomicU64::new(0),
            disagreements: AtomicU64::new(0),
            probes: Mutex::default(),
        })
    }

    /// Whether there is one endpoint only, which then has to be believed.
    pub(crate) fn alone(&self) -> bool {
        self.list.len() == 1
    }

    pub(crate) fn health(&self) -> ChainHealth {
        ChainHealth {
            endpoints: self.list.iter().map(|endpoint| endpoint.shown_health()).collect(),
            fail_overs: self.fail_overs.load(Ordering::Relaxed),
            disagreements: self.disagreements.load(Ordering::Relaxed),
        }
    }

    /// Asks until an endpoint answers; `what` completes "failed to tell …". A revert is an answer, when two endpoints give it.
    pub(crate) async fn ask<T, E, F>(
        &self,
        what: &'static str,
        question: impl Fn(RootProvider) -> F,
    ) -> Result<Result<T, Revert>, SettlementError>
    where
        E: Into<CallError>,
        F: Future<Output = Result<T, E>>,
    {
        let mut failure = None;
        for round in 0..ROUNDS {
            if round > 0 {
                tokio::time::sleep(PAUSE).await;
            }
            let mut refused: Option<&str> = None;
            for (endpoint, limit) in self.candidates() {
                match endpoint.attempt(what, limit, &question).await {
                    Ok(Ok(answer)) => match refused.take() {
                        None => return Ok(Ok(answer)),
                        Some(other) => {
                            failure = Some(self.disagreement(what, &[other, &endpoint.shown]));
                            break;
                        }
                    },
                    Ok(Err(revert)) if self.alone() || refused.is_some() => return Ok(Err(revert)),
                    Ok(Err(_)) => refused = Some(&endpoint.shown),
                    Err(error) => {
                        self.fail_overs.fetch_add(u64::from(!self.alone()), Ordering::Relaxed);
                        failure = Some(error);
                    }
                }
            }
            if let Some(endpoint) = refused {
                failure = Some(SettlementError::OneEndpoint { what, endpoint: endpoint.to_owned() });
            }
        }
        Err(failure.unwrap_or_else(|| self.none()))
    }

    /// As [`Self::ask`], for what no contract can refuse.
    pub(crate) async fn read<T, E, F>(
        &self,
        what: &'static str,
        question: impl Fn(RootProvider) -> F,
    ) -> Result<T, SettlementError>
    where
        E: Into<CallError>,
        F: Future<Output = Result<T, E>>,
    {
        self.ask(what, question).await?.map_err(|revert| self.nonsense(what, format!("refused: {revert}")))
    }

    /// Asks until two endpoints tell the same: for what value hangs on. With one endpoint configured, its word counts.
    pub(crate) async fn agreed<T, E, F>(
        &self,
        what: &'static str,
        question: impl Fn(RootProvider) -> F,
    ) -> Result<T, SettlementError>
    where
        T: PartialEq,
        E: Into<CallError>,
        F: Future<Output = Result<T, E>>,
    {
        if self.alone() {
            return self.read(what, question).await;
        }
        if let Ok(answer) = self.compare(what, &question).await {
            return Ok(answer);
        }
        tokio::time::sleep(PAUSE).await;
        let compared = self.compare(what, &question).await;
        if let Err(SettlementError::Disagreement { endpoints, .. }) = &compared {
            self.disagreement(what, &[endpoints]);
        }
        compared
    }

    /// One round of [`Self::agreed`]: the first two at once, then one after another, until any two agree.
    async fn compare<T, E, F>(
        &self,
        what: &'static str,
        question: &impl Fn(RootProvider) -> F,
    ) -> Result<T, SettlementError>
    where
        T: PartialEq,
        E: Into<CallError>,
        F: Future<Output = Result<T, E>>,
    {
        let candidates = self.candidates();
        let (mut told, mut failure): (Vec<(&str, T)>, _) = (Vec::new(), None);
        let mut asked = 0;
        while asked < candidates.len() {
            let together = if asked == 0 { 2 } else { 1 };
            let next = &candidates[asked..candidates.len().min(asked + together)];
            asked += next.len();
            let answers = join_all(next.iter().map(|(e, _)| e.attempt(what, IMPATIENT_LIMIT, question))).await;
            for ((endpoint, _), answer) in next.iter().zip(answers) {
                match answer {
                    Ok(Ok(answer)) => {
                        let agrees = told.iter().any(|(_, other)| *other == answer);
                        told.push((&endpoint.shown, answer));
                        if agrees && told.len() > 2 {
                            self.disagreement(what, &names(&told));
                        }
                        if let Some((_, answer)) = told.pop_if(|_| agrees) {
                            return Ok(answer);
                        }
                    }
                    Ok(Err(revert)) => failure = Some(self.nonsense(what, format!("refused: {revert}"))),
                    Err(error) => {
                        self.fail_overs.fetch_add(1, Ordering::Relaxed);
                        failure = Some(error);
                    }
                }
            }
        }
        Err(match told.as_slice() {
            [] => failure.unwrap_or_else(|| self.none()),
            [(endpoint, _)] => SettlementError::OneEndpoint { what, endpoint: (*endpoint).to_owned() },
            several => SettlementError::Disagreement { what, endpoints: names(several).join(", ") },
        })
    }

    /// The newest block of every endpoint that answers, the highest first. Whoever is far behind is put aside.
    pub(crate) async fn heads(&self) -> Result<Vec<Head>, SettlementError> {
        let question = async |provider: RootProvider| Head::latest(&provider).await;
        let mut found = self.everyone("the latest block", question).await?;
        found.sort_by_key(|(_, head)| std::cmp::Reverse(head.number));
        // one endpoint that invents a head cannot put two honest ones aside
        let newest = found.get(usize::from(found.len() > 2)).map_or(0, |(_, head)| head.number);
        for (endpoint, head) in &found {
            let behind = newest.saturating_sub(head.number);
            endpoint.has_head(head.number, (behind > self.lag_limit).then_some(behind));
        }
        Ok(found.into_iter().map(|(_, head)| head).collect())
    }

    /// The highest number that two endpoints tell, or one where only one answers: for what endpoints may well differ in.
    pub(crate) async fn highest_of_two<E, F>(
        &self,
        what: &'static str,
        question: impl Fn(RootProvider) -> F,
    ) -> Result<u64, SettlementError>
    where
        E: Into<CallError>,
        F: Future<Output = Result<u64, E>>,
    {
        let mut told: Vec<u64> = self.everyone(what, question).await?.into_iter().map(|(_, number)| number).collect();
        told.sort_unstable_by_key(|number| std::cmp::Reverse(*number));
        Ok(told.get(1).or(told.first()).copied().unwrap_or_default())
    }

    /// Hands a signed transaction to every endpoint that is up, so that one that drops it does not matter. What each said is returned.
    pub(crate) async fn broadcast(&self, raw: &Bytes) -> Vec<Result<(), SettlementError>> {
        let what = "that it took a transaction";
        let question = async |provider: RootProvider| provider.send_raw_transaction(raw).await.map(drop);
        let asked = self.all_up();
        let said = join_all(asked.iter().map(|(e, limit)| e.attempt(what, *limit, &question))).await;
        let refused = |revert| self.nonsense(what, format!("refused: {revert}"));
        said.into_iter().map(|said| said.and_then(|said| said.map_err(refused))).collect()
    }

    /// What each endpoint that is up answers; an error when none does.
    async fn everyone<T, E, F>(
        &self,
        what: &'static str,
        question: impl Fn(RootProvider) -> F,
    ) -> Result<Vec<(&Endpoint, T)>, SettlementError>
    where
        E: Into<CallError>,
        F: Future<Output = Result<T, E>>,
    {
        let asked = self.all_up();
        let answers = join_all(asked.iter().map(|(e, limit)| e.attempt(what, *limit, &question))).await;
        let (mut told, mut failure) = (Vec::new(), None);
        for ((endpoint, _), answer) in asked.iter().zip(answers) {
            match answer {
                Ok(Ok(answer)) => told.push((*endpoint, answer)),
                Ok(Err(revert)) => failure = Some(self.nonsense(what, format!("refused: {revert}"))),
                Err(error) => failure = Some(error),
            }
        }
        if told.is_empty() { Err(failure.unwrap_or_else(|| self.none())) } else { Ok(told) }
    }

    /// The endpoints that are not resting; all that may be asked, when every one is.
    fn all_up(&self) -> Vec<(&Endpoint, Duration)> {
        let mut candidates = self.candidates();
        let resting = |endpoint: &Endpoint| endpoint.state() == EndpointState::Resting;
        if candidates.iter().any(|(endpoint, _)| !resting(endpoint)) {
            candidates.retain(|(endpoint, _)| !resting(endpoint));
        }
        candidates
    }

    /// Whom to ask, in this order, and how long each may take: those that are good, then those that lag, then those that rest.
    fn candidates(&self) -> Vec<(&Endpoint, Duration)> {
        self.look_after_resting();
        let rank = |endpoint: &Endpoint| match endpoint.state() {
            EndpointState::Good => 0,
            EndpointState::Lagging { .. } => 1,
            EndpointState::Resting => 2,
            EndpointState::OtherChain { .. } => 3,
        };
        let mut ranked: Vec<_> = self.list.iter().map(|endpoint| (rank(endpoint), endpoint)).collect();
        ranked.retain(|(rank, _)| *rank < 3);
        ranked.sort_by_key(|(rank, _)| *rank);
        let good = ranked.iter().filter(|(rank, _)| *rank == 0).count();
        let limit = |position: usize| match position + 1 == good || self.alone() {
            true => ANSWER_LIMIT,
            false => IMPATIENT_LIMIT,
        };
        ranked.into_iter().enumerate().map(|(position, (_, endpoint))| (&**endpoint, limit(position))).collect()
    }

    /// Looks in the background whether endpoints are back whose rest is over, so that no question waits for one that is not.
    fn look_after_resting(&self) {
        for endpoint in self.list.iter().filter(|endpoint| endpoint.should_be_probed()) {
            let endpoint = endpoint.clone();
            let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
            while probes.try_join_next().is_some() {}
            probes.spawn(async move { endpoint.probe().await });
        }
    }

    fn disagreement(&self, what: &'static str, endpoints: &[&str]) -> SettlementError {
        self.disagreements.fetch_add(1, Ordering::Relaxed);
        let endpoints = endpoints.join(", ");
        warn!(endpoints, "endpoints disagree about {what}: replace the one that is wrong, or add a third to `rpc`");
        SettlementError::Disagreement { what, endpoints }
    }

    /// The error when not one endpoint may be asked: all of them serve another chain.
    fn none(&self) -> SettlementError {
        let found = self.list.iter().find_map(|endpoint| match endpoint.state() {
            EndpointState::OtherChain { found } => Some(endpoint.is_of_another_chain(found)),
            _ => None,
        });
        found.unwrap_or_else(|| SettlementError::NoEndpoint { chain: self.chain.clone() })
    }

    /// An answer that makes no sense.
    pub(crate) fn nonsense(&self, what: &'static str, why: String) -> SettlementError {
        let endpoint = self.list.first().map(|endpoint| endpoint.shown.clone()).unwrap_or_default();
        SettlementError::BadAnswer { what, endpoint, why }
    }
}

fn names<'a, T>(told: &[(&'a str, T)]) -> Vec<&'a str> {
    told.iter().map(|(endpoint, _)| *endpoint).collect()
}
