//! Which offers meet a query, in which order; and how they are shown. Every daemon can be asked, whatever roles it plays, since the book
//! of offers belongs to its network.

use crate::types::{ApiError, ErrorKind, OfferQuery, OfferRow};
use market::{
    offer::{Offer, Price, ProviderAd},
    query::{Candidate, Order, Query, Verdict},
};
use std::sync::Arc;

/// Rows that a search shows unless asked for more.
pub const DEFAULT_LIMIT: usize = 50;

/// An offer at one of its prices.
#[derive(Clone, Debug)]
pub struct Match {
    /// The advertisement it stands in.
    pub ad: Arc<ProviderAd>,
    /// The offer.
    pub offer: Offer,
    /// The price.
    pub price: Price,
}

/// A search that was understood.
#[derive(Debug)]
pub struct Search {
    query: Query,
    order: Order,
}

impl Search {
    /// Reads a query and its sort keys.
    pub fn parse(query: &str, order: &str) -> Result<Self, ApiError> {
        let fields = || {
            let names: Vec<_> = market::query::fields().map(|(name, _)| name).collect();
            format!("fields are {}", names.join(", "))
        };
        let usage = |error: market::query::QueryError| ApiError::new(ErrorKind::Usage, error.to_string(), fields());
        Ok(Self { query: Query::parse(query).map_err(usage)?, order: Order::parse(order).map_err(usage)? })
    }

    /// What a client's query shows of these advertisements, among the prices that are `wanted`.
    pub fn rows(
        query: &OfferQuery,
        ads: &[Arc<ProviderAd>],
        wanted: impl Fn(&Price) -> bool,
    ) -> Result<Vec<OfferRow>, ApiError> {
        let matches = Self::parse(&query.query, &query.order)?.find(ads, wanted);
        let limit = if query.limit == 0 { DEFAULT_LIMIT } else { query.limit };
        Ok(matches.iter().take(limit).map(Match::row).collect())
    }

    /// The matching offers at prices that are `wanted`, best first: those with a free slot before those without.
    pub fn find(&self, ads: &[Arc<ProviderAd>], wanted: impl Fn(&Price) -> bool) -> Vec<Match> {
        let mut matches = Vec::new();
        for ad in ads {
            for offer in &ad.offers {
                for price in offer.prices.iter().filter(|price| wanted(price)) {
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

impl Match {
    fn candidate(&self) -> Candidate<'_> {
        Candidate { ad: &self.ad, offer: &self.offer, price: &self.price }
    }

    /// The offer as clients show it.
    pub fn row(&self) -> OfferRow {
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
            arbiters: offer.arbiters.clone(),
            expires: ad.expires,
        }
    }
}
