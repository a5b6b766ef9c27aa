//! Every metric that a daemon exposes, once: its name, kind, labels and meaning. What is served, and the reference in `docs/metrics.md`,
//! are both made from this table. A label takes one of a few values known beforehand: never an id, a peer or an address of others.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Grows from zero at the start of the process.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Metric {
    /// As it is exposed: a counter's ends in `_total`, and the unit stands before that.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) labels: &'static [&'static str],
    /// In words, without a full stop.
    pub(crate) about: &'static str,
}

/// A part of the node, and what it exposes.
pub(crate) struct Chapter {
    #[cfg_attr(not(test), expect(dead_code, reason = "the reference page is written by a test"))]
    pub(crate) title: &'static str,
    pub(crate) metrics: &'static [Metric],
}

macro_rules! catalogue {
    ($($title:literal { $($id:ident: $kind:ident $name:literal [$($label:literal),*] $about:literal;)* })*) => {
        $($(pub(crate) const $id: Metric =
            Metric { name: $name, kind: Kind::$kind, labels: &[$($label),*], about: $about };)*)*

        /// Every metric, in the order of the page.
        pub(crate) const CHAPTERS: &[Chapter] = &[$(Chapter { title: $title, metrics: &[$($id),*] }),*];
    };
}

catalogue! {
    "Every node" {
        INFO: Gauge "gpulease_node_info" ["version", "network"] "Always 1; the labels say what runs";
        ROLE: Gauge "gpulease_node_role" ["role"] "1 for each role that the node plays";
    }
    "The process" {
        CPU: Counter "process_cpu_seconds_total" [] "Processor time used, by the program and the kernel for it";
        OPEN_FILES: Gauge "process_open_fds" [] "Open file descriptors";
        MAX_FILES: Gauge "process_max_fds" [] "The most file descriptors that may be open";
        MEMORY: Gauge "process_resident_memory_bytes" [] "Memory in use";
        THREADS: Gauge "process_threads" [] "Threads";
        STARTED: Gauge "process_start_time_seconds" [] "When the process started, in Unix time";
    }
    "The network" {
        PEERS: Gauge "gpulease_network_peers" [] "Peers that the node is connected to";
        MESSAGES: Counter "gpulease_network_messages_total" ["protocol", "direction"] "Announcements, requests and session streams";
        ANNOUNCEMENTS: Counter "gpulease_network_announcements_total" ["result"] "Announcements judged: accepted are passed on, ignored are old news, rejected cannot be honest";
        RATINGS: Counter "gpulease_network_ratings_total" ["result"] "Ratings judged by an indexer: accepted are passed on, ignored are known or not to be judged here, rejected can never count";
        ADS: Counter "gpulease_network_ads_total" ["result"] "Advertisements of others that were checked, by what came of them";
        DROPPED: Counter "gpulease_network_dropped_total" ["protocol", "reason"] "What was refused or dropped because a bound was reached, a queue was full, or nobody answered";
        DIALS_FAILED: Counter "gpulease_network_failed_dials_total" [] "Dials that led to nobody";
        PINGS_LOST: Counter "gpulease_network_lost_connections_total" [] "Connections closed because pings went unanswered";
    }
    "The offer book" {
        PROVIDERS: Gauge "gpulease_book_providers" [] "Providers whose advertisement is held";
        OFFERS: Gauge "gpulease_book_offers" [] "Offers held";
    }
    "The store" {
        RECORDS: Gauge "gpulease_store_records" ["table"] "Records kept, at most: what was written anew counts again until files are merged";
        STORE_FILES: Gauge "gpulease_store_file_bytes" [] "Size of the database's files, without its log";
        STORE_MEMORY: Gauge "gpulease_store_memory_bytes" [] "Memory that the database uses";
        DISK_FREE: Gauge "gpulease_data_free_bytes" [] "Space left where the data directory is";
    }
    "Settlement (providers and renters)" {
        PENDING: Gauge "gpulease_settlement_pending_transactions" ["chain"] "Transactions on disk whose outcome is open";
        TRANSACTIONS: Counter "gpulease_settlement_transactions_total" ["chain", "purpose", "outcome"] "Transactions that are final";
        FEES_RAISED: Counter "gpulease_settlement_raised_fees_total" ["chain"] "Fees raised because the chain was slow to take a transaction";
        FEES_CAPPED: Counter "gpulease_settlement_capped_fees_total" ["chain"] "Times that blocks asked for more than `max_fee_gwei` allows";
        RESENT: Counter "gpulease_settlement_resent_transactions_total" ["chain"] "Times a transaction was sent again";
        UNDONE: Counter "gpulease_settlement_undone_transactions_total" ["chain"] "Final transactions that the chain took back";
        GAS: Counter "gpulease_settlement_gas_used_total" ["chain"] "Gas used by confirmed transactions";
        ENDPOINT_GOOD: Gauge "gpulease_chain_endpoint_good" ["chain", "endpoint"] "1 while the endpoint is asked first, 0 while it rests, lags or serves another chain; numbered as configured";
        ENDPOINT_HEAD: Gauge "gpulease_chain_endpoint_head_block" ["chain", "endpoint"] "The newest block that the endpoint gave; 0 before the first";
        ENDPOINT_ANSWERS: Counter "gpulease_chain_endpoint_answers_total" ["chain", "endpoint", "result"] "Questions that the endpoint answered or failed at";
        FAIL_OVERS: Counter "gpulease_chain_fail_overs_total" ["chain"] "Questions that went on to another endpoint because one failed";
        DISAGREEMENTS: Counter "gpulease_chain_disagreements_total" ["chain"] "Times that endpoints told different things where they must agree";
    }
    "Providers" {
        PROVIDER_RENTALS: Gauge "gpulease_provider_rentals" ["phase"] "Rentals that are not over";
        SLOTS: Gauge "gpulease_provider_slots" ["state"] "Slots that are free or taken; taken ones may be held for a quote";
        ALARMS: Gauge "gpulease_provider_uncashed_rentals" [] "Rentals whose money is not cashed as it should be: see `node ps`";
        SESSIONS: Gauge "gpulease_provider_sessions" [] "Streams into sandboxes, and removals of sandboxes, under way";
        QUOTES: Counter "gpulease_provider_quotes_total" [] "Quotes signed";
        REFUSALS: Counter "gpulease_provider_refusals_total" ["reason"] "Questions of renters that were refused";
        VOUCHERS_TAKEN: Counter "gpulease_provider_vouchers_total" [] "Vouchers checked, stored and acknowledged";
        FREEZES: Counter "gpulease_provider_freezes_total" [] "Times a sandbox was frozen because an increment was unpaid";
        SERVED: Counter "gpulease_provider_served_seconds_total" [] "Time on the meters of rentals that have ended";
        FAILED: Counter "gpulease_provider_failed_rentals_total" [] "Rentals that this machine could not serve";
        PROVIDER_CLOSED: Counter "gpulease_provider_closed_rentals_total" [] "Rentals that the escrow has paid; one that the chain takes back and pays anew counts twice, here and in the sums";
        SIGNED_FOR: Counter "gpulease_provider_signed_base_units_total" ["chain_id", "token"] "What renters have signed for";
        EARNED: Counter "gpulease_provider_earned_base_units_total" ["chain_id", "token"] "What the escrow has paid";
    }
    "Renters" {
        RENTER_RENTALS: Gauge "gpulease_renter_rentals" ["phase"] "Rentals that are not over";
        RUNS: Gauge "gpulease_renter_runs" [] "Runs going on";
        RENTER_OPENED: Counter "gpulease_renter_opened_rentals_total" [] "Rentals whose deposit was locked";
        RENTER_CLOSED: Counter "gpulease_renter_closed_rentals_total" [] "Rentals that the escrow has settled";
        VOUCHERS_SIGNED: Counter "gpulease_renter_vouchers_total" [] "Vouchers signed and stored";
        MISSED_ACKS: Counter "gpulease_renter_missed_acks_total" [] "Vouchers that a provider did not acknowledge in time";
        HARDWARE_CHECKS: Counter "gpulease_renter_hardware_checks_total" ["outcome"] "Checks of rented hardware: passed, unmeasured (right, at a speed that nobody has measured), missed, or unknown because nothing could be asked";
        SIGNED: Counter "gpulease_renter_signed_base_units_total" ["chain_id", "token"] "What was signed for";
        SPENT: Counter "gpulease_renter_spent_base_units_total" ["chain_id", "token"] "What the escrow has paid to providers";
    }
    "Indexers" {
        KEPT: Counter "gpulease_indexer_changes_total" ["result"] "Changes of the book that were written to disk, or that it would not take";
        CORRUPT: Counter "gpulease_indexer_corrupt_records_total" [] "Records of the book that could not be read at the start";
        SEARCHES: Counter "gpulease_indexer_searches_total" ["result"] "Searches over the network and HTTP, answered, or refused because they could not be read";
        HTTP_LIMITED: Counter "gpulease_indexer_http_limited_total" [] "HTTP requests turned away because their sender sent too many";
        HTTP_UNCHANGED: Counter "gpulease_indexer_http_unchanged_total" [] "HTTP answers that the client had already";
        FOLLOWERS: Gauge "gpulease_indexer_followers" [] "HTTP clients that follow the changes of the book";
        LAGGING: Counter "gpulease_indexer_lagging_followers_total" [] "Of those, the ones let go because they read too slowly";
    }
}

/// The reference page.
#[cfg(test)]
fn document() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         A daemon serves these in the OpenMetrics text format at `http://127.0.0.1:4702/metrics` (`[metrics]` in the configuration; an\n\
         empty address turns it off). Counters start from zero with the process. Amounts of money are in base units of their token;\n\
         Prometheus keeps them as floating point, so take receipts, not metrics, for accounts. No label ever holds a rental, a peer or an address.\n\n\
         This page is made from the program's own table; a test holds it against what running nodes serve.\n",
    );
    for chapter in CHAPTERS {
        page.push_str(&format!("\n## {}\n\n| metric | type | labels | meaning |\n|---|---|---|---|\n", chapter.title));
        for Metric { name, kind, labels, about } in chapter.metrics {
            let kind = if *kind == Kind::Counter { "counter" } else { "gauge" };
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            page.push_str(&format!("| `{name}` | {kind} | {} | {about} |\n", labels.join(", ")));
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = &'static Metric> {
        CHAPTERS.iter().flat_map(|chapter| chapter.metrics)
    }

    #[test]
    fn names_follow_the_conventions_of_prometheus() {
        let mut seen = std::collections::BTreeSet::new();
        for metric in all() {
            let Metric { name, kind, labels, about } = metric;
            assert!(seen.insert(name), "{name} twice");
            assert!(name.starts_with("gpulease_") || name.starts_with("process_"), "{name}");
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(!about.is_empty() && !about.ends_with('.'), "{name}: {about}");
            for unit in ["_ms", "_millis", "_kib", "_mib", "_minutes", "_hours"] {
                assert!(!name.contains(unit), "{name}: base units are seconds and bytes");
            }
            let ids = ["id", "rental", "peer", "address", "wallet"];
            assert!(labels.iter().all(|label| !ids.contains(label)), "{name} has a label without bound");
        }
    }

    #[test]
    fn the_reference_page_is_that_of_this_program() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        if std::env::var_os("WRITE_REFERENCE").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(path).unwrap(), document(), "write it again: WRITE_REFERENCE=1");
    }
}
