//! Constant load on one real node: providers that exist only as keys advertise in turn, faster than any node could in its own name. What they
//! announce comes from a bare gossip peer, and is fetched from a node of ours that holds it.

use crate::{
    bare::{self, Bare, Letter},
    provider::Provider,
};
use anyhow::Context as _;
use libp2p::{Multiaddr, gossipsub::IdentTopic, identity::Keypair};
use market::{class::GpuClass, time::UnixMillis};
use network::{Config, Network};
use std::{sync::Arc, time::Duration};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// See the module. Ends when it is dropped.
#[derive(Debug)]
pub struct Load {
    task: JoinHandle<anyhow::Result<()>>,
    _source: Network,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Load {
    /// Puts a node of `network` under the load of so many providers, one advertisement every `pause` in all.
    pub async fn start(network: &str, node: Multiaddr, providers: u64, pause: Duration) -> anyhow::Result<Self> {
        let class = GpuClass::CPU;
        let mut config = Config::new(Keypair::generate_ed25519(), network);
        config.bootstrap = vec![node.clone()];
        let source = Network::start(config, CancellationToken::new()).await?;
        let feeder = bare::start(vec![node], &[], Arc::new(())).await?;
        let now = UnixMillis::now();
        let providers =
            (0..providers).map(|number| Provider::numbered(number, now)).collect::<anyhow::Result<Vec<_>>>()?;
        let topic = IdentTopic::new(format!("/gpulease/1/{network}/ads/{class}"));
        let task = tokio::spawn(advertise(source.handle(), feeder, providers, topic, class, pause));
        Ok(Self { task, _source: source })
    }

    /// Whether it still goes on.
    pub fn goes_on(&self) -> bool {
        !self.task.is_finished()
    }
}

async fn advertise(
    source: network::Handle,
    feeder: Bare,
    providers: Vec<Provider>,
    topic: IdentTopic,
    class: GpuClass,
    pause: Duration,
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(pause);
    for provider in providers.iter().cycle() {
        tick.tick().await;
        let published = provider.publish(UnixMillis::now().0, class)?;
        source.load_ads(vec![published.envelope.to_vec()]).await?;
        let letter = Letter { seq: published.seq, topic: topic.clone(), data: published.announcement };
        feeder.letters.send(letter).await.ok().context("the feeder has ended")?;
    }
    Ok(())
}
