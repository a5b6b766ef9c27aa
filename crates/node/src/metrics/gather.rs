//! Where each metric comes from. Every part of the daemon counts for itself; here the counts are read and given their names.

use super::{Readings, catalogue as metric, process};
use crate::output::role_name;
use api::types::{CheckOutcome, Role};
use market::{money::Sums, refusal::RefusalCode};
use std::path::PathBuf;
use store::Store;

/// What is read for a page.
#[derive(Clone)]
pub(crate) struct Sources {
    pub(crate) network: network::Handle,
    pub(crate) network_name: String,
    pub(crate) roles: Vec<Role>,
    pub(crate) store: Store,
    pub(crate) data_directory: PathBuf,
    pub(crate) senders: Vec<settlement::TransactionSender>,
    pub(crate) provider: Option<provider::Provider>,
    pub(crate) renter: Option<renter::Renter>,
    pub(crate) indexer: Option<indexer::Indexer>,
}

impl Sources {
    /// Reads everything.
    pub(super) async fn read(&self) -> Readings {
        let mut readings = Readings::default();
        self.node(&mut readings);
        process::read(&mut readings);
        self.network(&mut readings);
        if let Some(indexer) = &self.indexer {
            indexing(&mut readings, indexer.figures());
        }
        self.store(&mut readings).await;
        for sender in &self.senders {
            settlement(&mut readings, sender);
        }
        if let Some(provider) = &self.provider {
            self::provider(&mut readings, &provider.counts(), provider.standing().await.as_ref());
        }
        if let Some(renter) = &self.renter {
            self::renter(&mut readings, &renter.counts(), &renter.standing());
        }
        readings
    }

    fn node(&self, readings: &mut Readings) {
        readings.set(metric::INFO, &[env!("CARGO_PKG_VERSION"), &self.network_name], 1.0);
        for role in &self.roles {
            readings.set(metric::ROLE, &[role_name(*role)], 1.0);
        }
    }

    fn network(&self, readings: &mut Readings) {
        readings.set(metric::PEERS, &[], self.network.connected_peers().len() as f64);
        let held = self.network.held();
        readings.set(metric::PROVIDERS, &[], held.providers as f64);
        readings.set(metric::OFFERS, &[], held.offers as f64);
        for (counter, value) in self.network.counters().all() {
            if let Some((metric, labels)) = counted(counter) {
                readings.set(metric, labels, value as f64);
            }
        }
    }

    async fn store(&self, readings: &mut Readings) {
        match self.store.run(Store::sizes).await {
            Ok(sizes) => {
                for (table, records) in &sizes.records {
                    readings.set(metric::RECORDS, &[table], *records as f64);
                }
                readings.set(metric::STORE_FILES, &[], sizes.files as f64);
                readings.set(metric::STORE_MEMORY, &[], sizes.memory as f64);
            }
            Err(error) => tracing::warn!(%error, "the size of the database cannot be read"),
        }
        if let Ok(disk) = rustix::fs::statvfs(&self.data_directory) {
            readings.set(metric::DISK_FREE, &[], (disk.f_bavail * disk.f_frsize) as f64);
        }
    }
}

/// The metric, and the values of its labels, that a counter of the network is exposed as.
fn counted(counter: &str) -> Option<(metric::Metric, &'static [&'static str])> {
    Some(match counter {
        "gossip_received" => (metric::MESSAGES, &["gossip", "received"]),
        "gossip_sent" => (metric::MESSAGES, &["gossip", "sent"]),
        "offers_received" => (metric::MESSAGES, &["offers", "received"]),
        "offers_sent" => (metric::MESSAGES, &["offers", "sent"]),
        "rentals_received" => (metric::MESSAGES, &["rental", "received"]),
        "rentals_sent" => (metric::MESSAGES, &["rental", "sent"]),
        "searches_received" => (metric::MESSAGES, &["search", "received"]),
        "searches_sent" => (metric::MESSAGES, &["search", "sent"]),
        "syncs_received" => (metric::MESSAGES, &["sync", "received"]),
        "syncs_sent" => (metric::MESSAGES, &["sync", "sent"]),
        "sessions_received" => (metric::MESSAGES, &["session", "received"]),
        "sessions_sent" => (metric::MESSAGES, &["session", "sent"]),
        "announcements_accepted" => (metric::ANNOUNCEMENTS, &["accepted"]),
        "announcements_ignored" => (metric::ANNOUNCEMENTS, &["ignored"]),
        "announcements_rejected" => (metric::ANNOUNCEMENTS, &["rejected"]),
        "ratings_received" => (metric::MESSAGES, &["ratings", "received"]),
        "ratings_accepted" => (metric::RATINGS, &["accepted"]),
        "ratings_ignored" => (metric::RATINGS, &["ignored"]),
        "ratings_rejected" => (metric::RATINGS, &["rejected"]),
        "ads_accepted" => (metric::ADS, &["accepted"]),
        "ads_bad_signature" => (metric::ADS, &["bad_signature"]),
        "ads_unasked" => (metric::ADS, &["unasked"]),
        "ads_malformed" => (metric::ADS, &["malformed"]),
        "ads_oversize" => (metric::ADS, &["oversize"]),
        "ads_bad_binding" => (metric::ADS, &["bad_binding"]),
        "ads_stale" => (metric::ADS, &["stale"]),
        "pool_full" => (metric::DROPPED, &["verification", "queue_full"]),
        "pulls_abandoned" => (metric::DROPPED, &["offers", "nobody_delivered"]),
        "pulls_dropped" => (metric::DROPPED, &["offers", "too_many_waiting"]),
        "lists_dropped" => (metric::DROPPED, &["offers", "too_many_lists"]),
        "store_dropped" => (metric::DROPPED, &["store", "queue_full"]),
        "publish_failed" => (metric::DROPPED, &["gossip", "not_taken"]),
        "gossip_dropped" => (metric::DROPPED, &["gossip", "slow_neighbour"]),
        "rendezvous_refused" => (metric::DROPPED, &["rendezvous", "refused"]),
        "messages_oversize" => (metric::DROPPED, &["request", "too_long"]),
        "messages_malformed" => (metric::DROPPED, &["request", "malformed"]),
        "rate_limited" => (metric::DROPPED, &["request", "too_often"]),
        "rentals_queue_full" => (metric::DROPPED, &["rental", "queue_full"]),
        "rentals_unanswered" => (metric::DROPPED, &["rental", "unanswered"]),
        "searches_queue_full" => (metric::DROPPED, &["search", "queue_full"]),
        "searches_unanswered" => (metric::DROPPED, &["search", "unanswered"]),
        "syncs_queue_full" => (metric::DROPPED, &["sync", "queue_full"]),
        "syncs_unanswered" => (metric::DROPPED, &["sync", "unanswered"]),
        "sessions_queue_full" => (metric::DROPPED, &["session", "queue_full"]),
        "sessions_dropped" => (metric::DROPPED, &["session", "no_header"]),
        "dials_failed" => (metric::DIALS_FAILED, &[]),
        "pings_lost" => (metric::PINGS_LOST, &[]),
        _ => return None,
    })
}

/// The protocol and the reason of a counter that counts drops.
pub(crate) fn dropped(counter: &str) -> Option<(&'static str, &'static str)> {
    match counted(counter)? {
        (metric, [protocol, reason]) if metric.name == metric::DROPPED.name => Some((protocol, reason)),
        _ => None,
    }
}

fn settlement(readings: &mut Readings, sender: &settlement::TransactionSender) {
    let (chain, sending, asking) = (&*sender.chain().config().name, sender.health(), sender.chain().health());
    readings.set(metric::PENDING, &[chain], sending.pending as f64);
    for ((purpose, outcome), count) in &sending.finished {
        readings.set(metric::TRANSACTIONS, &[chain, purpose, outcome], *count as f64);
    }
    readings.set(metric::FEES_RAISED, &[chain], sending.raised as f64);
    readings.set(metric::FEES_CAPPED, &[chain], sending.capped as f64);
    readings.set(metric::RESENT, &[chain], sending.resent as f64);
    readings.set(metric::UNDONE, &[chain], sending.undone as f64);
    readings.set(metric::GAS, &[chain], sending.gas as f64);
    readings.set(metric::FAIL_OVERS, &[chain], asking.fail_overs as f64);
    readings.set(metric::DISAGREEMENTS, &[chain], asking.disagreements as f64);
    for (number, endpoint) in (1..).zip(&asking.endpoints) {
        let labels = [chain, &number.to_string()];
        let good = endpoint.state == settlement::EndpointState::Good;
        readings.set(metric::ENDPOINT_GOOD, &labels, f64::from(u8::from(good)));
        readings.set(metric::ENDPOINT_HEAD, &labels, endpoint.head.unwrap_or_default() as f64);
        let counted = [("answered", endpoint.answers), ("failed", endpoint.failures)];
        for (result, count) in counted {
            readings.set(metric::ENDPOINT_ANSWERS, &[labels[0], labels[1], result], count as f64);
        }
    }
}

fn indexing(readings: &mut Readings, figures: &indexer::Figures) {
    for (result, figure) in [("written", &figures.written), ("failed", &figures.unwritten)] {
        readings.set(metric::KEPT, &[result], figure.get() as f64);
    }
    readings.set(metric::CORRUPT, &[], figures.corrupt.get() as f64);
    for (result, figure) in [("answered", &figures.searches), ("refused", &figures.refused)] {
        readings.set(metric::SEARCHES, &[result], figure.get() as f64);
    }
    readings.set(metric::HTTP_LIMITED, &[], figures.limited.get() as f64);
    readings.set(metric::HTTP_UNCHANGED, &[], figures.unchanged.get() as f64);
    readings.set(metric::FOLLOWERS, &[], figures.followers.get() as f64);
    readings.set(metric::LAGGING, &[], figures.lagging.get() as f64);
}

fn provider(readings: &mut Readings, counts: &provider::Counts, standing: Option<&provider::Standing>) {
    // one that has ended stands nowhere: that is not the same as standing idle
    if let Some(standing) = standing {
        for (phase, count) in &standing.rentals {
            readings.set(metric::PROVIDER_RENTALS, &[phase], *count as f64);
        }
        readings.set(metric::SLOTS, &["free"], standing.slots_free as f64);
        readings.set(metric::SLOTS, &["taken"], standing.slots_taken as f64);
        readings.set(metric::ALARMS, &[], standing.alarms as f64);
        readings.set(metric::SESSIONS, &[], standing.sessions as f64);
    }
    readings.set(metric::QUOTES, &[], counts.quotes as f64);
    for code in RefusalCode::ALL {
        let count = counts.refused.get(&code).copied().unwrap_or_default();
        readings.set(metric::REFUSALS, &[&code.to_string().replace(' ', "_")], count as f64);
    }
    readings.set(metric::VOUCHERS_TAKEN, &[], counts.vouchers as f64);
    readings.set(metric::FREEZES, &[], counts.freezes as f64);
    readings.set(metric::SERVED, &[], counts.served_millis as f64 / 1_000.0);
    readings.set(metric::FAILED, &[], counts.failed as f64);
    readings.set(metric::PROVIDER_CLOSED, &[], counts.closed as f64);
    sums(readings, metric::SIGNED_FOR, &counts.signed);
    sums(readings, metric::EARNED, &counts.earned);
}

fn renter(readings: &mut Readings, counts: &renter::Counts, standing: &renter::Standing) {
    for (phase, count) in &standing.rentals {
        readings.set(metric::RENTER_RENTALS, &[phase], *count as f64);
    }
    readings.set(metric::RUNS, &[], standing.runs as f64);
    readings.set(metric::RENTER_OPENED, &[], counts.opened as f64);
    readings.set(metric::RENTER_CLOSED, &[], counts.closed as f64);
    readings.set(metric::VOUCHERS_SIGNED, &[], counts.vouchers as f64);
    readings.set(metric::MISSED_ACKS, &[], counts.missed_acks as f64);
    for outcome in CheckOutcome::ALL {
        let count = counts.checks.get(&outcome).copied().unwrap_or_default();
        readings.set(metric::HARDWARE_CHECKS, &[outcome.name()], count as f64);
    }
    sums(readings, metric::SIGNED, &counts.signed);
    sums(readings, metric::SPENT, &counts.spent);
}

/// Money by chain and token.
fn sums(readings: &mut Readings, metric: metric::Metric, sums: &Sums) {
    for (chain, token, sum) in sums.iter() {
        readings.set(metric, &[&chain.to_string(), token], sum as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_of_the_network_is_exposed_under_labels_of_its_own() {
        let mut seen = std::collections::BTreeSet::new();
        for (counter, _) in network::Counters::default().all() {
            let (metric, labels) = counted(counter).unwrap_or_else(|| panic!("{counter} is not exposed"));
            assert_eq!(metric.labels.len(), labels.len(), "{counter}");
            assert!(seen.insert((metric.name, labels)), "{counter} shares its labels");
        }
    }
}
