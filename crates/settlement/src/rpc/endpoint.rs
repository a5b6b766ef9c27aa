//! One endpoint: asked within a limit, and judged by how it answers.

use super::health::{EndpointHealth, EndpointState, Failure, Health};
use crate::{bindings::Revert, error::SettlementError};
use alloy::{
    contract,
    providers::{Provider, RootProvider},
    rpc::client::RpcClient,
    transports::{
        TransportError,
        http::reqwest::{self, Url},
    },
};
use std::{
    future::Future,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tracing::{debug, info, warn};

/// How long one endpoint may take for one answer. Public endpoints answer within a second; ten means that it hangs.
pub(super) const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// The same while another endpoint can be asked instead: slow is then as good as dead.
pub(super) const IMPATIENT_LIMIT: Duration = Duration::from_secs(3);

/// How one attempt failed.
pub(crate) enum CallError {
    /// A contract refused.
    Revert(Revert),
    /// The endpoint failed.
    Failed(Box<TransportError>),
    /// The endpoint answered nonsense.
    Nonsense(String),
    /// The endpoint serves another chain.
    OtherChain(u64),
}

impl From<TransportError> for CallError {
    fn from(error: TransportError) -> Self {
        match error.as_error_resp() {
            // 3 is what nodes give for a revert; not all of them put data with it
            Some(response) if response.code == 3 || response.message.contains("execution reverted") => {
                Self::Revert(Revert::decode(&response.as_revert_data().unwrap_or_default()))
            }
            _ => Self::Failed(Box::new(error)),
        }
    }
}

impl From<contract::Error> for CallError {
    fn from(error: contract::Error) -> Self {
        match error {
            contract::Error::TransportError(error) => error.into(),
            // an address without code answers with nothing
            other => Self::Nonsense(other.to_string()),
        }
    }
}

/// One endpoint and what is remembered of it.
pub(super) struct Endpoint {
    /// Scheme, host and port: the rest of an endpoint's address is often a secret.
    pub(super) shown: String,
    chain: String,
    chain_id: u64,
    provider: RootProvider,
    health: Mutex<Health>,
}

impl Endpoint {
    pub(super) fn new(chain: &str, chain_id: u64, url: &Url) -> Result<Self, SettlementError> {
        let provider = provider(url)?;
        let (chain, health) = (chain.to_owned(), Mutex::new(Health::new()));
        Ok(Self { shown: shown(url), chain, chain_id, provider, health })
    }

    /// Asks it once. A revert is an answer.
    pub(super) async fn attempt<T, E, F>(
        &self,
        what: &'static str,
        limit: Duration,
        question: &impl Fn(RootProvider) -> F,
    ) -> Result<Result<T, Revert>, SettlementError>
    where
        E: Into<CallError>,
        F: Future<Output = Result<T, E>>,
    {
        let began = Instant::now();
        let asking = async {
            self.verify().await?;
            question(self.provider.clone()).await.map_err(Into::into)
        };
        let endpoint = self.shown.clone();
        let (failure, error) = match tokio::time::timeout(limit, asking).await {
            Ok(Ok(answer)) => {
                self.health().answered(began.elapsed());
                return Ok(Ok(answer));
            }
            Ok(Err(CallError::Revert(revert))) => {
                self.health().answered(began.elapsed());
                return Ok(Err(revert));
            }
            Ok(Err(CallError::OtherChain(found))) => return Err(self.is_of_another_chain(found)),
            Ok(Err(CallError::Failed(source))) => {
                let failure = if source.is_error_resp() { Failure::Refused } else { Failure::Down };
                (failure, SettlementError::Rpc { what, endpoint, source })
            }
            Ok(Err(CallError::Nonsense(why))) => (Failure::Refused, SettlementError::BadAnswer { what, endpoint, why }),
            Err(_) => (Failure::Down, SettlementError::RpcTimeout { what, endpoint, seconds: limit.as_secs() }),
        };
        debug!(endpoint = self.shown, what, %error, "an endpoint failed");
        if self.health().failed(failure, Instant::now()) {
            warn!(endpoint = self.shown, %error, "an endpoint is left alone for a while");
        }
        Err(error)
    }

    /// Looks whether it serves the right chain, unless it was looked at since it was last down.
    async fn verify(&self) -> Result<(), CallError> {
        if self.health().verified() {
            return Ok(());
        }
        let found = self.provider.get_chain_id().await?;
        if found != self.chain_id {
            return Err(CallError::OtherChain(found));
        }
        if self.health().right_chain() {
            info!(endpoint = self.shown, "the endpoint serves the right chain again");
        }
        Ok(())
    }

    pub(super) fn is_of_another_chain(&self, found: u64) -> SettlementError {
        if self.health().wrong_chain(found, Instant::now()) {
            let (endpoint, expected) = (&self.shown, self.chain_id);
            warn!(endpoint, found, expected, "the endpoint serves another chain and is not used: correct `rpc`");
        }
        SettlementError::WrongChain { name: self.chain.clone(), expected: self.chain_id, found }
    }

    /// Takes note of its newest block, and of how many blocks that is behind the others', if that is far.
    pub(super) fn has_head(&self, number: u64, lag: Option<u64>) {
        if self.health().head(number, lag) {
            match lag {
                Some(blocks) => warn!(
                    endpoint = self.shown,
                    blocks, "the endpoint lags behind others and is asked last: use another in `rpc`"
                ),
                None => info!(endpoint = self.shown, "the endpoint keeps up again"),
            }
        }
    }

    pub(super) fn state(&self) -> EndpointState {
        self.health().state()
    }

    pub(super) fn should_be_probed(&self) -> bool {
        self.health().should_be_probed(Instant::now())
    }

    /// Looks whether it is back.
    pub(super) async fn probe(&self) {
        let question = async |provider: RootProvider| provider.get_chain_id().await;
        // how it went is noted on the way
        let _ = self.attempt("the chain's id", ANSWER_LIMIT, &question).await;
    }

    pub(super) fn shown_health(&self) -> EndpointHealth {
        self.health().shown(self.shown.clone())
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // nothing in there is left half done
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The chain that an endpoint serves.
pub(crate) async fn chain_id(url: &Url) -> Result<u64, SettlementError> {
    let (what, endpoint) = ("the chain's id", shown(url));
    let provider = provider(url)?;
    provider.get_chain_id().await.map_err(|source| SettlementError::Rpc { what, endpoint, source: Box::new(source) })
}

fn shown(url: &Url) -> String {
    url.origin().ascii_serialization()
}

fn provider(url: &Url) -> Result<RootProvider, SettlementError> {
    let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
    let builder = reqwest::Client::builder().timeout(ANSWER_LIMIT);
    // a proxy of the environment cannot reach this machine's own loopback
    let client = if local { builder.no_proxy() } else { builder }.build();
    let client = client.map_err(|source| SettlementError::Client { endpoint: shown(url), source })?;
    Ok(RootProvider::new(RpcClient::new_http_with_client(client, url.clone())))
}
