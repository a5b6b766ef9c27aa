//! One small task for each running sandbox: it freezes and thaws as told, the latest order winning, and looks after what the sandbox
//! uses. So a slow kernel call for one rental never delays the meters of others.

use crate::cards::Watch;
use gpu::inventory::Reading;
use sandbox::{Sandbox, Stats};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle, time::MissedTickBehavior};

/// How often usage is read: once a second, as people watch it.
const USAGE_INTERVAL: Duration = Duration::from_secs(1);

/// What a sandbox uses, and what its cards do.
#[derive(Clone, Debug)]
pub(crate) struct Usage {
    pub(crate) stats: Stats,
    pub(crate) cards: Vec<Reading>,
}

/// A sandbox in care. Dropped, the care ends and the sandbox runs on.
pub(crate) struct Keeper {
    pub(crate) sandbox: Arc<dyn Sandbox>,
    frozen: watch::Sender<bool>,
    usage: watch::Receiver<Option<Usage>>,
    task: JoinHandle<()>,
}

impl Keeper {
    pub(crate) fn new(sandbox: Arc<dyn Sandbox>, cards: Watch, frozen: bool) -> Self {
        let (frozen, mut wanted) = watch::channel(frozen);
        let (publish, usage) = watch::channel(None);
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
                            publish.send_replace(Some(Usage { stats, cards }));
                        }
                    }
                }
            }
        });
        Self { sandbox, frozen, usage, task }
    }

    /// Orders the sandbox to be frozen or to run.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.frozen.send_if_modified(|wanted| std::mem::replace(wanted, frozen) != frozen);
    }

    /// The usage last read.
    pub(crate) fn usage(&self) -> Option<Usage> {
        self.usage.borrow().clone()
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.task.abort();
    }
}
