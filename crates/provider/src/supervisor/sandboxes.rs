//! The sandbox of a rental: made from its terms when its deposit is locked, and removed when it is over.

use super::{Done, Supervisor};
use crate::{desk::rootfs, keeper::Keeper};
use market::{
    id::RentalId,
    quote::SignedQuote,
    rental::provider::Input,
    signed::Ready,
    terms::{NetworkAccess, Terms},
    time::UnixMillis,
};
use sandbox::{Devices, Network, Rootfs, Sandbox, SandboxId, SandboxSpec};
use std::sync::Arc;
use store::crash_point;
use tokio::task::JoinError;
use tracing::Instrument;

/// Processes and threads for each processor of a slot: a numerical library starts a few for each, a loader of training data some hundred.
const MAX_PROCESSES_EACH: u64 = 512;
/// Open files of one process: what a loader of training data with many workers needs, and no more than most machines' own bound.
const MAX_OPEN_FILES: u64 = 4_096;

impl Supervisor {
    pub(super) async fn prepared(
        &mut self,
        id: RentalId,
        result: Result<Arc<dyn Sandbox>, sandbox::Error>,
        now: UnixMillis,
    ) {
        let Some(live) = self.live.get_mut(&id) else {
            // it came too late: nobody needs it any more
            if let Ok(sandbox) = result {
                self.destroy(sandbox);
            }
            return;
        };
        live.preparing = false;
        let input = match result {
            Ok(sandbox) => {
                let ready = Ready { id: id.0, at: now.0 };
                let SignedQuote { escrow, quote, .. } = &live.rental.quote;
                match self.keys.sign(quote, &escrow.digest(&ready)) {
                    Ok(signature) => {
                        match &live.keeper {
                            // handed over by the rental before: the one who froze it thaws it, or the two might cross
                            Some(keeper) => keeper.freeze(false),
                            None => {
                                let cards = self.cards.watch(&self.inventory.cards(&live.rental.terms.slot));
                                live.keeper = Some(Keeper::new(sandbox, cards, false));
                            }
                        }
                        Input::SandboxReady(signature)
                    }
                    Err(error) => Input::SandboxFailed(error.to_string()),
                }
            }
            Err(error) => {
                tracing::error!(rental = %id.short(), %error, "the sandbox could not be made");
                Input::SandboxFailed(error.to_string())
            }
        };
        self.happened(id, input, now).await;
    }

    pub(super) fn prepare(&mut self, id: RentalId) {
        if self.live.get(&id).is_some_and(|live| live.rental.terms.continues.is_some()) {
            return self.go_on(id);
        }
        if self.sends_away(id) {
            return;
        }
        let Some(live) = self.live.get_mut(&id).filter(|live| !live.preparing) else { return };
        live.preparing = true;
        let spec = spec(&id, &live.rental.terms);
        let (backend, cards) = (Arc::clone(&self.backend), Arc::clone(&self.cards));
        let slots = self.inventory.cards(&live.rental.terms.slot);
        let rootfs = rootfs(&live.rental.terms.workload);
        let preparing = async move {
            crash_point("provider", "sandbox", "creating");
            let create = async {
                let name = SandboxId::new(sandbox_name(&id))?;
                // Reads the vendor's files, which blocks.
                let devices = tokio::task::spawn_blocking(move || cards.devices(&slots)).await;
                let broken =
                    |error: JoinError| sandbox::Error::InvalidSpec { field: "devices", reason: error.to_string() };
                backend
                    .create(&name, &SandboxSpec { devices: devices.map_err(broken)??, rootfs: rootfs?, ..spec })
                    .await
            };
            let result = create.await;
            crash_point("provider", "sandbox", "created");
            Done::Prepared { id, result }
        };
        self.work.spawn(preparing.in_current_span());
    }

    pub(super) fn destroy(&mut self, sandbox: Arc<dyn Sandbox>) {
        self.sessions += 1;
        self.work.spawn(async move {
            crash_point("provider", "sandbox", "destroying");
            if let Err(error) = sandbox.destroy().await {
                tracing::error!(sandbox = %sandbox.id(), %error, "the sandbox could not be removed");
            }
            crash_point("provider", "sandbox", "destroyed");
            Done::Over
        });
    }
}

/// How the sandbox of a rental is called on disk.
pub(super) fn sandbox_name(id: &RentalId) -> String {
    id.to_string()
}

/// What the terms come to, but for what takes time to find out.
fn spec(id: &RentalId, terms: &Terms) -> SandboxSpec {
    let hardware = &terms.hardware;
    SandboxSpec {
        cpu_millis: hardware.cpu_millis,
        memory_bytes: u64::from(hardware.memory_mib) << 20,
        disk_bytes: u64::from(hardware.disk_mib) << 20,
        max_processes: MAX_PROCESSES_EACH * u64::from(hardware.cpu_millis.div_ceil(1_000)).max(1),
        max_open_files: MAX_OPEN_FILES,
        rootfs: Rootfs::HostUsr,
        network: match terms.workload.network {
            NetworkAccess::None => Network::None,
            NetworkAccess::Egress => Network::Egress,
        },
        devices: Devices::default(),
        env: [("GPULEASE_RENTAL".to_owned(), id.to_string())].into(),
    }
}
