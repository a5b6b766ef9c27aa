//! The market at scale, in virtual time: more than a thousand nodes that announce, verify, pass on, fetch and list advertisements, with
//! delay, loss, nodes that come and go, and others that attack. What a node decides is decided by the nodes' own code
//! ([`network::discovery`], [`network::ad`], [`market::book`]); gossip and the links are models.
//!
//! `cargo run --release -p simulation` runs the whole: the model held against twenty real nodes, the large network, and the large network
//! under attack. It prints what it found and fails when a bar is missed. What it found is recorded in `docs/performance.md`.
//!
//! ```text
//!   provider ─▶ node ── effects ─▶ world ── after the link's delay ─▶ node ─▶ report
//!              (gossip, discovery, book)   (seed, clock, links, churn)
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test that cannot go on fails"))]

mod attack;
pub mod bare;
mod gossip;
pub mod load;
mod node;
mod post;
pub mod provider;
pub mod proxy;
pub mod real;
pub mod report;
pub mod world;

#[cfg(test)]
mod tests {
    use super::world::{self, Loss, MILLISECOND, Parameters, SECOND};

    fn small(seed: u64) -> Parameters {
        Parameters {
            seed,
            followers: 60,
            providers: 10,
            classes: 2,
            degree: 8,
            delay: 10 * MILLISECOND..=50 * MILLISECOND,
            lost: 0.02,
            loss: Loss::Outright,
            churn: 0.2,
            attackers: 0.1,
            settling: 5 * SECOND,
            interval: 500 * MILLISECOND,
            offers: 20,
        }
    }

    #[test]
    fn one_seed_gives_one_run_event_for_event() {
        let [one, same, other] = [1, 1, 2].map(|seed| world::run(small(seed)).unwrap());
        assert_eq!((one.events, one.delays(|_| true)), (same.events, same.delays(|_| true)));
        assert_ne!(one.events, other.events);
    }

    #[test]
    fn offers_reach_a_small_market_under_attack_and_nothing_else_gets_into_its_books() {
        let report = world::run(small(3)).unwrap();
        let delays = report.delays(|_| true);
        assert!(delays.in_time() >= 0.99, "{delays}");
        assert!(report.held > 0);
        assert_eq!(report.untrue, 0);
    }

    #[test]
    fn without_any_link_nothing_is_known() {
        let report = world::run(Parameters { degree: 0, ..small(4) }).unwrap();
        let delays = report.delays(|_| true);
        assert_eq!((delays.never(), delays.in_time()), (delays.len(), 0.0));
    }
}
