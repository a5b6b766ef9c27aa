//! One small task for each running sandbox: it freezes and thaws as told, the latest order winning, and looks after what the sandbox
//! uses. So a slow kernel call for one rental never delays the meters of others.

use crate::cards::Watch;
use gpu::inventory::Reading;
use sandbox::{Sandbox, Stats};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle, time::MissedTickBehavior};
use wire::proto;

/// How often usage is read: once a second, as people watch it.
const USAGE_INTERVAL: Duration = Duration::from_secs(1);

/// What a sandbox uses and what its cards do, as the renter is told.
fn usage(stats: &Stats, cards: &[Reading]) -> proto::Usage {
    let cards = cards.iter().map(|card| proto::GpuUsage {
        utilisation_percent: card.utilisation_percent,
        memory_bytes: card.memory_used_bytes,
        celsius: card.temperature_celsius,
        milliwatts: card.power_milliwatts,
    });
    proto::Usage {
        cpu_millis: stats.cpu_nanos / 1_000_000,
        memory_bytes: stats.memory_bytes,
        memory_peak_bytes: stats.memory_peak_bytes,
        disk_bytes: stats.disk_bytes,
        network_received_bytes: stats.network_received_bytes,
        network_sent_bytes: stats.network_sent_bytes,
        gpus: cards.collect(),
    }
}

/// A sandbox in care. Dropped, the care ends and the sandbox runs on.
pub(crate) struct Keeper {
    pub(crate) sandbox: Arc<dyn Sandbox>,
    frozen: watch::Sender<bool>,
    usage: watch::Receiver<Option<proto::Usage>>,
    task: JoinHandle<()>,
}

impl Keeper {
    pub(crate) fn new(sandbox: Arc<dyn Sandbox>, cards: Watch, frozen: bool) -> Self {
        let (frozen, mut wanted) = watch::channel(frozen);
        let (publish, published) = watch::channel(None);
        let kept = Arc::clone(&sandbox);
        let task = tokio::spawn(async move {
            let mut every = tokio::time::interval(USAGE_INTERVAL);
            every.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // whatever an earlier run left is brought to what is wanted
            wanted.mark_changed();
            loop {
                tokio::select! {
                    changed = wanted.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        let freeze = *wanted.borrow_and_update();
                        let done = if freeze { kept.freeze().await } else { kept.thaw().await };
                        match done {
                            Ok(()) => tracing::debug!(sandbox = %kept.id(), freeze, "the sandbox obeys"),
                            Err(error) => tracing::warn!(sandbox = %kept.id(), freeze, %error, "the sandbox did not obey"),
                        }
                    }
                    _ = every.tick() => {
                        if let Ok(stats) = kept.stats().await {
                            let cards = cards.readings().await;
                            publish.send_replace(Some(usage(&stats, &cards)));
                        }
                    }
                }
            }
        });
        Self { sandbox, frozen, usage: published, task }
    }

    /// Orders the sandbox to be frozen or to run.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_if_modified(|wanted| std::mem::replace(wanted, frozen) != frozen);
    }

    /// The usage last read.
    pub(crate) fn usage(&self) -> watch::Receiver<Option<proto::Usage>> {
        self.usage.clone()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}
