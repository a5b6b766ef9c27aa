//! Which offers meet a query, in which order; and how they are shown. Every daemon can be asked, whatever roles it plays, since the book
//! of offers belongs to its network.

use crate::types::{ApiError, ConditionRow, ErrorKind, Estimate, NearOffer, OfferExplanation, OfferQuery, OfferRow};
pub use market::book::Match;
use market::{
    book,
    money::Token,
    query::{Candidate, Job, Order, Query, QueryError, Rates},
    signed::Escrow,
};
use std::fmt::Display;

/// Rows that a search shows unless asked for more.
pub const DEFAULT_LIMIT: usize = 50;

/// A search that was understood.
#[derive(Clone, Debug)]
pub struct Search {
    query: Query,
    order: Order,
    job: Option<Job>,
    limit: usize,
}

impl Search {
    /// Reads what a client asks for.
    pub fn parse(asked: &OfferQuery) -> Result<Self, ApiError> {
        let query = Query::parse(&asked.query).map_err(|error| unreadable(&error))?;
        let job: Option<Job> = match asked.job.trim() {
            "" => None,
            job => Some(job.parse().map_err(|error| usage(&error, "as in --job 'tflop=1e6 gb=5e5'"))?),
        };
        let order = match (asked.order.trim(), job) {
            ("", Some(job)) => Order::by_cost(job),
            (order, Some(job)) => Order::parse(order).map_err(|error| unreadable(&error))?.for_job(job),
            (order, None) => Order::parse(order).map_err(|error| unreadable(&error))?,
        };
        if order.lacks_job() {
            return Err(usage(&"`cost` and `time` are those of a job", "describe it: --job 'tflop=1e6 gb=5e5'"));
        }
        let rates = Rates::parse(&asked.rates).map_err(|error| usage(&error, "see docs/query.md"))?;
        let limit = if asked.limit == 0 { DEFAULT_LIMIT } else { asked.limit };
        Ok(Self { query, order: order.with_rates(rates), job, limit })
    }

    /// What the book is asked, among the ways of paying that are `wanted`.
    pub fn of<'a>(&'a self, wanted: &'a dyn Fn(&Escrow, &Token) -> bool) -> book::Search<'a> {
        book::Search { query: &self.query, order: &self.order, wanted }
    }

    /// At most so many rows.
    pub const fn limit(&self) -> usize {
        self.limit
    }

    /// What was found as clients show it.
    pub fn rows(&self, matches: &[Match]) -> Vec<OfferRow> {
        matches.iter().map(|found| self.row(found)).collect()
    }

    /// One offer as clients show it, with the estimate for the job if one was described.
    pub fn row(&self, found: &Match) -> OfferRow {
        let (ad, offer, price) = (&found.ad, &found.offer, &found.price);
        let gpus: Vec<_> =
            offer.hardware.gpus.iter().map(|group| format!("{}x {}", group.count, group.model)).collect();
        let hourly = price.rate.hourly();
        let candidate = Candidate { ad, offer, price, standing: found.standing };
        let estimate = self.job.and_then(|job| job.seconds(&candidate)).map(|seconds| {
            let cost = price.rate.for_seconds(seconds);
            Estimate { seconds, cost, cost_text: price.token.show(cost) }
        });
        OfferRow {
            provider: ad.peer.to_base58(),
            wallet: ad.binding.wallet,
            offer: offer.name.clone(),
            class: offer.class().name().to_owned(),
            hardware: offer.hardware.to_string(),
            gpu: gpus.join(" + "),
            vram_gb: offer.hardware.gpus.iter().map(|group| group.vram_mib.div_ceil(1_024)).min().unwrap_or(0),
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
            standing: found.standing,
            estimate,
        }
    }

    /// An explanation as clients show it; `near` are the offers of its near misses.
    pub fn explanation(&self, told: &book::Explanation, near: &[Option<Match>]) -> OfferExplanation {
        let conditions = told.conditions.iter().map(|removal| ConditionRow {
            condition: removal.condition.clone(),
            failed: removal.failed,
            unknown: removal.unknown,
            alone: removal.alone,
        });
        let misses = told.near.iter().zip(near).filter_map(|(miss, found)| {
            let condition = told.conditions.get(miss.condition)?.condition.clone();
            Some(NearOffer { offer: self.row(found.as_ref()?), condition, found: miss.found.clone() })
        });
        OfferExplanation {
            offers: told.offers,
            matching: told.matching,
            conditions: conditions.collect(),
            near: misses.collect(),
        }
    }
}

fn usage(problem: &dyn Display, next: &str) -> ApiError {
    ApiError::new(ErrorKind::Usage, problem.to_string(), next)
}

fn unreadable(error: &QueryError) -> ApiError {
    let names = || market::query::fields().map(|(name, _)| name).collect::<Vec<_>>().join(", ");
    match error {
        QueryError::UnknownField { .. } => usage(error, &format!("fields are {}", names())),
        _ => usage(error, "write conditions like 'gpu=H100 price<=2.50 region in [KR,JP]'; see docs/query.md"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(query: OfferQuery) -> ApiError {
        let error = Search::parse(&query).unwrap_err();
        assert_eq!(error.kind, ErrorKind::Usage);
        error
    }

    #[test]
    fn what_cannot_be_read_is_told_with_what_to_do() {
        let unknown = refused(OfferQuery { query: "prise<2".into(), ..OfferQuery::default() });
        assert!(unknown.message.contains("did you mean `price`") && unknown.next.contains("reliability"));
        let jobless = refused(OfferQuery { order: "cost".into(), ..OfferQuery::default() });
        assert!(jobless.next.contains("--job"), "{}", jobless.next);
        refused(OfferQuery { job: "fast".into(), ..OfferQuery::default() });
        refused(OfferQuery { rates: "USDC 1".into(), ..OfferQuery::default() });
    }

    #[test]
    fn a_described_job_is_ranked_by_its_cost() {
        let asked = OfferQuery { job: "tflop=1e6".into(), rates: "USDC@8453 1".into(), ..OfferQuery::default() };
        let search = Search::parse(&asked).unwrap();
        let job = asked.job.parse().unwrap();
        assert_eq!(search.order, Order::by_cost(job).with_rates(Rates::parse(&asked.rates).unwrap()));
        assert_eq!(search.limit(), DEFAULT_LIMIT);
    }
}
