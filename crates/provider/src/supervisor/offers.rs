//! What is offered: the slots as they stand, published when that changes.

use super::Supervisor;
use market::{id::RentalId, offer::MAX_BINDING_LIFETIME, quote::Quote, rental::provider::Rental, time::UnixMillis};
use network::AdDraft;
use std::collections::HashMap;

/// What a closing takes: the wait for company, and the chain's confirmation.
pub(super) const CLOSING_TAKES: u64 = 10_000;

impl Supervisor {
    /// When each rental is expected to give its slot back.
    pub(super) fn ends(&self) -> HashMap<RentalId, UnixMillis> {
        // one that is not open yet ends no later than if it is opened at the last moment
        let latest = |quote: &Quote| (u64::from(quote.expiry) + u64::from(quote.max_seconds)) * 1_000;
        let end = |rental: &Rental| match (rental.stopped_at, rental.meter()) {
            (Some(stopped), _) => UnixMillis(stopped.0 + CLOSING_TAKES),
            (None, Some(meter)) => meter.ends_at(),
            (None, None) => UnixMillis(latest(&rental.quote.quote)),
        };
        let open = self.live.values().map(|live| &live.rental).filter(|rental| rental.occupies_slot());
        open.map(|rental| (rental.id, end(rental))).collect()
    }

    /// Publishes the offers as they stand, if they changed.
    pub(super) async fn advertise(&mut self) {
        let now = UnixMillis::now();
        if self.binding.expires.saturating_sub(now.seconds()) < MAX_BINDING_LIFETIME / 2 {
            match self.keys.bind(self.binding.chain, &self.network.local_peer_id()) {
                Ok(binding) => self.binding = binding,
                Err(error) => tracing::error!(%error, "the wallet's binding could not be renewed"),
            }
        }
        let offers = self.inventory.offers((&self.config, &self.rules), &self.service(now), &self.ends(), now);
        let draft = AdDraft { binding: self.binding.clone(), region: self.config.region.clone(), offers };
        if self.advertised.as_ref() == Some(&draft) {
            return;
        }
        match self.network.publish_ad(draft.clone()).await {
            Ok(()) => self.advertised = Some(draft),
            Err(error) => tracing::error!(%error, "the offers could not be published"),
        }
    }
}
