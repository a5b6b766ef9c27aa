//! Asking a chain's endpoints: one after another until one answers, each with a limit. What a contract refuses is an answer, and
//! final; what an endpoint fails at is tried at the next.

use crate::{bindings::Revert, config::ChainConfig, error::SettlementError};
use alloy::{
    contract,
    primitives::Bytes,
    providers::RootProvider,
    rpc::client::RpcClient,
    transports::{TransportError, http::reqwest},
};
use std::{future::Future, time::Duration};
use tracing::debug;

/// How long one endpoint may take for one answer. Public endpoints answer within a second; ten means that it hangs.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How often all endpoints are tried for one question: the second time after a short pause bridges a reconnect.
const ROUNDS: u32 = 2;
/// The pause between rounds.
const PAUSE: Duration = Duration::from_millis(250);

/// The endpoints of one chain.
pub(crate) struct Endpoints {
    list: Vec<Endpoint>,
}

struct Endpoint {
    /// Scheme, host and port: the rest of an endpoint's address is often a secret.
    shown: String,
    provider: RootProvider,
}

/// How one attempt failed.
pub(crate) enum CallError {
    /// A contract refused.
    Revert(Revert),
    /// The endpoint failed.
    Failed(Box<TransportError>),
    /// The endpoint answered nonsense.
    Nonsense(String),
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

impl Endpoints {
    pub(crate) fn new(config: &ChainConfig) -> Result<Self, SettlementError> {
        let mut list = Vec::with_capacity(config.rpc.len());
        for url in &config.rpc {
            let shown = url.origin().ascii_serialization();
            let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
            let builder = reqwest::Client::builder().timeout(ANSWER_LIMIT);
            // a proxy of the environment cannot reach this machine's own loopback
            let client = if local { builder.no_proxy() } else { builder }.build();
            let client = client.map_err(|source| SettlementError::Client { endpoint: shown.clone(), source })?;
            list.push(Endpoint {
                shown,
                provider: RootProvider::new(RpcClient::new_http_with_client(client, url.clone())),
            });
        }
        if list.is_empty() {
            return Err(SettlementError::NoEndpoint { chain: config.name.clone() });
        }
        Ok(Self { list })
    }

    /// Asks until an endpoint answers; `what` completes "failed to tell …". A revert is an answer.
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
            for endpoint in &self.list {
                let shown = || endpoint.shown.clone();
                let error = match tokio::time::timeout(ANSWER_LIMIT, question(endpoint.provider.clone())).await {
                    Ok(Ok(answer)) => return Ok(Ok(answer)),
                    Ok(Err(error)) => match error.into() {
                        CallError::Revert(revert) => return Ok(Err(revert)),
                        CallError::Failed(source) => SettlementError::Rpc { what, endpoint: shown(), source },
                        CallError::Nonsense(why) => SettlementError::BadAnswer { what, endpoint: shown(), why },
                    },
                    Err(_) => SettlementError::RpcTimeout { what, endpoint: shown(), seconds: ANSWER_LIMIT.as_secs() },
                };
                debug!(endpoint = endpoint.shown, what, %error, "an endpoint failed");
                failure = Some(error);
            }
        }
        // there is at least one endpoint and one round
        Err(failure.unwrap_or(SettlementError::NoEndpoint { chain: String::new() }))
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
        match self.ask(what, question).await? {
            Ok(answer) => Ok(answer),
            Err(revert) => Err(self.nonsense(what, format!("refused: {revert}"))),
        }
    }

    /// Hands a signed transaction to every endpoint, so that one that drops it does not matter. The result is the first acceptance,
    /// else the first refusal.
    pub(crate) async fn broadcast(&self, raw: &Bytes) -> Result<(), TransportError> {
        use alloy::{providers::Provider, transports::TransportErrorKind};
        let mut outcome: Option<Result<(), TransportError>> = None;
        for endpoint in &self.list {
            let sent = match tokio::time::timeout(ANSWER_LIMIT, endpoint.provider.send_raw_transaction(raw)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(error),
                Err(_) => Err(TransportErrorKind::custom_str("no answer in time")),
            };
            if sent.is_ok() || outcome.is_none() {
                outcome = Some(sent);
            }
        }
        outcome.unwrap_or(Ok(()))
    }

    /// An answer that makes no sense.
    pub(crate) fn nonsense(&self, what: &'static str, why: String) -> SettlementError {
        let endpoint = self.list.first().map(|endpoint| endpoint.shown.clone()).unwrap_or_default();
        SettlementError::BadAnswer { what, endpoint, why }
    }
}
