//! Counts of what the network layer sent and received, and of what it refused, dropped or failed at. Nothing is dropped without being counted here, so that a node whose
//! market looks thin can be told apart from a market that is thin.

use std::sync::atomic::{AtomicU64, Ordering};

/// One monotone count.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub(crate) fn add(&self) {
        self.add_many(1);
    }

    /// Adds `n`.
    pub(crate) fn add_many(&self, n: u64) {
        // counts are read for people and graphs; they order nothing
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Everything that is counted, since the node started.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub $name: Counter,)*
        }

        impl Counters {
            /// Every count with its name, in the order of declaration.
            pub fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Announcements received by gossip, whatever came of them.
    gossip_received,
    /// Announcements of our own that gossip took.
    gossip_sent,
    /// Questions about offers that were asked of this node.
    offers_received,
    /// Questions about offers that this node asked.
    offers_sent,
    /// Rental requests that were asked of this node.
    rentals_received,
    /// Rental requests that this node asked.
    rentals_sent,
    /// Searches that were asked of this node.
    searches_received,
    /// Searches that this node asked.
    searches_sent,
    /// Frames of reconciliation that were asked of this node.
    syncs_received,
    /// Frames of reconciliation that this node sent.
    syncs_sent,
    /// Session streams that peers opened here.
    sessions_received,
    /// Session streams that this node opened.
    sessions_sent,
    /// Announcements that were verified and passed on.
    announcements_accepted,
    /// Announcements that were not passed on though nobody is to blame: expired, repeated too soon, or older than one known.
    announcements_ignored,
    /// Announcements that cannot be honest: undecodable, oversized, wrongly signed, or on a topic they do not name.
    announcements_rejected,
    /// Ratings received by gossip, whatever came of them.
    ratings_received,
    /// Ratings that were passed on.
    ratings_accepted,
    /// Ratings that were not passed on though nobody is to blame: known already, or not to be judged here.
    ratings_ignored,
    /// Ratings that can never count: unreadable, or signed by somebody who did not rent.
    ratings_rejected,
    /// Advertisements taken into the book.
    ads_accepted,
    /// Advertisements with a wrong signature, key, payload type or hash.
    ads_bad_signature,
    /// Advertisements of peers that were not asked about, in answers about others.
    ads_unasked,
    /// Advertisements whose envelope is right but whose content cannot be read.
    ads_malformed,
    /// Advertisements larger than allowed.
    ads_oversize,
    /// Advertisements whose wallet binding does not hold.
    ads_bad_binding,
    /// Advertisements that were no news: as old as or older than the one held, expired, or from the future.
    ads_stale,
    /// Pieces of work turned away because the verification pool was full.
    pool_full,
    /// Announced advertisements that nobody asked could deliver.
    pulls_abandoned,
    /// Announced advertisements not fetched because too many were waiting.
    pulls_dropped,
    /// Newly connected peers not asked for their list because too many were waiting.
    lists_dropped,
    /// Advertisements not handed to the store because its queue was full.
    store_dropped,
    /// Announcements of our own that gossip would not take.
    publish_failed,
    /// Messages of gossip not sent because the queue of the neighbour they were for was full.
    gossip_dropped,
    /// Registrations and questions that this node refused as a rendezvous point.
    rendezvous_refused,
    /// Messages, in either direction of a request protocol, that were longer than allowed.
    messages_oversize,
    /// Messages of the request protocols, and session headers, that could not be read.
    messages_malformed,
    /// Requests and streams turned away because their peer sent too many.
    rate_limited,
    /// Rental requests turned away because the queue of the provider role was full.
    rentals_queue_full,
    /// Rental requests that the provider role left without an answer.
    rentals_unanswered,
    /// Searches turned away because the queue of the indexer role was full.
    searches_queue_full,
    /// Searches that the indexer role left without an answer.
    searches_unanswered,
    /// Frames of reconciliation turned away because the queue of the indexer role was full.
    syncs_queue_full,
    /// Frames of reconciliation that the indexer role left without an answer.
    syncs_unanswered,
    /// Session streams turned away because the accept queue was full.
    sessions_queue_full,
    /// Session streams that sent no header in time, or too many at once to be answered.
    sessions_dropped,
    /// Dials that led to nobody.
    dials_failed,
    /// Connections closed because pings went unanswered.
    pings_lost,
}
