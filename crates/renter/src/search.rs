//! Which offers meet a query, in which order; and how they are shown.

use api::types::{ApiError, ErrorKind, OfferRow};
use market::{
    offer::{Offer, Price, ProviderAd},
    query::{Candidate, Order, Query, Verdict},
};
use settlement::EscrowAccount;
use std::sync::Arc;

/// An offer at a price that this node can pay.
#[derive(Clone, Debug)]
pub(crate) struct Match {
    pub(crate) ad: Arc<ProviderAd>,
    pub(crate) offer: Offer,
    pub(crate) price: Price,
}

/// A search that was understood.
pub(crate) struct Search {
    query: Query,
    order: Order,
}

impl Search {
    /// Reads a query and its sort keys.
    pub(crate) fn parse(query: &str, order: &str) -> Result<Self, ApiError> {
        let fields = || {
            let names: Vec<_> = market::query::fields().map(|(name, _)| name).collect();
            format!("fields are {}", names.join(", "))
        };
        let usage = |error: market::query::QueryError| ApiError::new(ErrorKind::Usage, error.to_string(), fields());
        Ok(Self { query: Query::parse(query).map_err(usage)?, order: Order::parse(order).map_err(usage)? })
    }

    /// The matching offers, best first: those with a free slot before those without.
    pub(crate) fn find(&self, ads: &[Arc<ProviderAd>], accounts: &[EscrowAccount]) -> Vec<Match> {
        let mut matches = Vec::new();
        for ad in ads {
            for offer in &ad.offers {
                for price in offer.prices.iter().filter(|price| accounts.iter().any(|a| payable(a, price))) {
                    let candidate = Candidate { ad, offer, price };
                    if self.query.verdict(&candidate) == Verdict::Yes {
                        matches.push(Match { ad: Arc::clone(ad), offer: offer.clone(), price: price.clone() });
                    }
                }
            }
        }
        matches.sort_by(|a, b| {
            (a.offer.free == 0)
                .cmp(&(b.offer.free == 0))
                .then_with(|| self.order.compare(&a.candidate(), &b.candidate()))
        });
        matches
    }
}

/// Whether a price is at an escrow of ours, in a token that our own configuration describes the same way: a provider cannot make up
/// decimals.
fn payable(account: &EscrowAccount, price: &Price) -> bool {
    let chain = account.sender().chain();
    chain.escrow() == price.escrow && chain.config().tokens.contains(&price.token)
}

impl Match {
    pub(crate) fn candidate(&self) -> Candidate<'_> {
        Candidate { ad: &self.ad, offer: &self.offer, price: &self.price }
    }

    /// The offer as clients show it.
    pub(crate) fn row(&self) -> OfferRow {
        let (ad, offer, price) = (&self.ad, &self.offer, &self.price);
        let gpus: Vec<_> =
            offer.hardware.gpus.iter().map(|group| format!("{}x {}", group.count, group.model)).collect();
        let hourly = price.rate.hourly();
        OfferRow {
            provider: ad.peer.to_base58(),
            wallet: ad.binding.wallet,
            offer: offer.name.clone(),
            class: offer.class().name().to_owned(),
            hardware: offer.hardware.to_string(),
            gpu: gpus.join(" + "),
            vram_gb: offer.hardware.gpus.iter().map(|group| group.vram_mib / 1_024).min().unwrap_or(0),
            cpu_millis: offer.hardware.cpu_millis,
            memory_mib: offer.hardware.memory_mib,
            disk_mib: offer.hardware.disk_mib,
            slots: offer.slots,
            free: offer.free,
            busy_until: offer.busy_until,
            token: price.token.clone(),
            price_hour: hourly,
            price: price.token.show(hourly),
            region: ad.region.clone(),
            verified: offer.verification.level(),
            max_seconds: offer.max_seconds,
            expires: ad.expires,
        }
    }
}
