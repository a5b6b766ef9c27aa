//! An indexer's record of the chains: begun when a chain answers, so that one that is away does not keep the rest from starting.

use settlement::{Chain, ChainConfig};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a chain that does not answer is left alone before it is tried again.
const CONNECT_PAUSE: Duration = Duration::from_secs(15);

/// Follows the configured chains for `standings`: those that are connected already, and the others as soon as they answer.
pub(super) async fn follow(
    standings: indexer::Standings,
    mut chains: Vec<Chain>,
    configured: Vec<ChainConfig>,
    network: network::Handle,
    cancel: CancellationToken,
) {
    let missing = configured.into_iter().filter(|config| chains.iter().all(|chain| chain.config() != config));
    for config in missing.collect::<Vec<_>>() {
        tokio::select! {
            () = cancel.cancelled() => return,
            chain = connected(config) => chains.push(chain),
        }
    }
    standings.follow(chains, network, cancel).await;
}

async fn connected(config: ChainConfig) -> Chain {
    loop {
        match Chain::connect(config.clone()).await {
            Ok(chain) => return chain,
            Err(error) => tracing::warn!(chain = config.name, %error, "rentals of this chain cannot be followed yet"),
        }
        tokio::time::sleep(CONNECT_PAUSE).await;
    }
}
