//! How peers are scored by gossip, derived from what is expected of them: how many providers a class has, how often each renews, how many
//! neighbours share the news. A change of any of these changes the scores with it, and none is a guess of its own.
//!
//! A neighbour earns merit by staying and by being first with news, and loses it by lies (announcements that cannot be honest), by broken
//! promises (news it said it had and did not deliver), and by standing at one address with too many others. Silence is no fault: a class
//! may be quiet for minutes, so the penalties for missing deliveries (P3 of the specification) are off.

use libp2p::gossipsub::{PeerScoreParams, PeerScoreThresholds, TopicHash, TopicScoreParams};
use market::offer::DEFAULT_AD_LIFETIME;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

/// The most merit, in points: half for staying, half for being first with news. Everything else is a multiple of it.
const MERIT: f64 = 20.0;
/// Merit in many topics counts no more than in one: it must not outweigh lies.
const MERIT_FOR_STAYING: f64 = MERIT / 2.0;
/// See [`MERIT`].
const MERIT_FOR_NEWS: f64 = MERIT / 2.0;
/// All merit for staying is earned in this time.
const STAY: Duration = Duration::from_secs(3_600);
/// News counts for two renewals of every advertisement.
const NEWS_DECAY: Duration = Duration::from_millis(DEFAULT_AD_LIFETIME / 3 * 2);
/// Lies are forgiven after this long: a peer that was upgraded meanwhile is welcome back.
const LIE_DECAY: Duration = Duration::from_secs(3_600);
/// So many lies end gossip with a peer: one may be an accident.
const LIES_TO_GOSSIP: u32 = 2;
/// So many end publishing to it.
const LIES_TO_PUBLISH: u32 = 3;
/// So many end listening to it.
const LIES_TO_LISTEN: u32 = 4;
/// Promises are forgotten after this long.
const PROMISE_DECAY: Duration = Duration::from_secs(100);
/// Broken promises a second, kept up, which say nothing but that a machine is busy: whoever is punished for that leaves the meshes, and the
/// others have more to do.
const SLOW_PROMISES: f64 = 1.0;
/// Broken promises a second, kept up, that end gossip with a peer: there is at most one for each class and heartbeat.
const BROKEN_PROMISES: f64 = 5.0;
/// More peers than this at one address begin to look like one peer in many masks. GPU farms stand behind one address too, hence so many.
const PEERS_PER_ADDRESS: f64 = 64.0;
/// So many at one address end gossip with all of them.
const CROWD: f64 = 2.0 * PEERS_PER_ADDRESS;
/// A counter below this counts as nothing.
const NOTHING: f64 = 0.01;

/// What is expected of one topic.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    /// Providers of one class: the design's hundred thousand, spread evenly over the sixty classes.
    pub providers: f64,
    /// How often each of them renews its advertisement.
    pub renewal: Duration,
    /// Neighbours among whom the news is shared.
    pub neighbours: f64,
    /// How often scores decay: once a heartbeat.
    pub interval: Duration,
}

impl Expected {
    /// Announcements that one neighbour is first with in one interval, when all are equal.
    fn fair_share(&self) -> f64 {
        self.providers * self.interval.as_secs_f64() / self.renewal.as_secs_f64() / self.neighbours
    }

    /// The factor by which a counter shrinks in each interval to be nothing after `time`.
    fn decay(&self, time: Duration) -> f64 {
        NOTHING.powf(self.interval.as_secs_f64() / time.as_secs_f64())
    }

    /// Where a counter settles that grows by `each` in every interval and shrinks by `decay`.
    fn settled(each: f64, decay: f64) -> f64 {
        each / (1.0 - decay)
    }

    /// What one topic adds to a score.
    fn topic(&self) -> TopicScoreParams {
        let news_decay = self.decay(NEWS_DECAY);
        // all the merit goes to whoever brings twice its share
        let most_news = Self::settled(2.0 * self.fair_share(), news_decay);
        let most_stays = STAY.as_secs_f64() / self.interval.as_secs_f64();
        TopicScoreParams {
            topic_weight: 1.0,
            time_in_mesh_quantum: self.interval,
            time_in_mesh_cap: most_stays,
            time_in_mesh_weight: MERIT_FOR_STAYING / most_stays,
            first_message_deliveries_decay: news_decay,
            first_message_deliveries_cap: most_news,
            first_message_deliveries_weight: MERIT_FOR_NEWS / most_news,
            mesh_message_deliveries_weight: 0.0,
            mesh_failure_penalty_weight: 0.0,
            // grows with the square of their number, and the first takes all the merit there can be
            invalid_message_deliveries_weight: -MERIT,
            invalid_message_deliveries_decay: self.decay(LIE_DECAY),
            ..TopicScoreParams::default()
        }
    }

    /// The scores of a network with these topics.
    pub fn score<'a>(&self, topics: impl Iterator<Item = &'a TopicHash>) -> PeerScoreParams {
        let topic = self.topic();
        let promise_decay = self.decay(PROMISE_DECAY);
        let settled = |a_second: f64| Self::settled(a_second * self.interval.as_secs_f64(), promise_decay);
        let (slow, broken) = (settled(SLOW_PROMISES), settled(BROKEN_PROMISES));
        PeerScoreParams {
            topics: topics.map(|hash| (hash.clone(), topic.clone())).collect(),
            topic_score_cap: MERIT,
            app_specific_weight: 0.0,
            behaviour_penalty_threshold: slow,
            behaviour_penalty_decay: promise_decay,
            // against all the merit there can be
            behaviour_penalty_weight: (threshold(LIES_TO_GOSSIP) - MERIT) / (broken - slow).powi(2),
            ip_colocation_factor_threshold: PEERS_PER_ADDRESS,
            ip_colocation_factor_weight: (threshold(LIES_TO_GOSSIP) - MERIT) / (CROWD - PEERS_PER_ADDRESS).powi(2),
            // a development network is all on one machine
            ip_colocation_factor_whitelist: [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].into(),
            decay_interval: self.interval,
            decay_to_zero: NOTHING,
            retain_score: LIE_DECAY,
            ..PeerScoreParams::default()
        }
    }
}

/// The score after so many lies, told at once by a peer with that much merit.
fn after(lies: u32, merit: f64) -> f64 {
    merit - MERIT * f64::from(lies).powi(2)
}

/// A threshold that so many lies always cross and one less never does, whatever the merit: halfway between.
fn threshold(lies: u32) -> f64 {
    (after(lies, MERIT) + after(lies - 1, 0.0)) / 2.0
}

/// What a peer with such a score is no longer good for.
pub fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: threshold(LIES_TO_GOSSIP),
        publish_threshold: threshold(LIES_TO_PUBLISH),
        graylist_threshold: threshold(LIES_TO_LISTEN),
        accept_px_threshold: 0.0,
        // a mesh whose middle neighbour has not earned this after minutes is worth mixing
        opportunistic_graft_threshold: MERIT / 20.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPECTED: Expected = Expected {
        providers: 1_000.0,
        renewal: Duration::from_secs(300),
        neighbours: 8.0,
        interval: Duration::from_secs(1),
    };

    #[test]
    fn thresholds_are_crossed_by_the_lies_they_are_for_and_by_no_fewer() {
        for lies in [LIES_TO_GOSSIP, LIES_TO_PUBLISH, LIES_TO_LISTEN] {
            assert!(after(lies, MERIT) < threshold(lies), "{lies} lies of the best");
            assert!(after(lies - 1, 0.0) > threshold(lies), "{} lies of a newcomer", lies - 1);
        }
    }

    #[test]
    fn merit_is_full_for_twice_the_share_of_news_whatever_the_rate() {
        for providers in [10.0, 1_000.0, 100_000.0] {
            let expected = Expected { providers, ..EXPECTED };
            let topic = expected.topic();
            let mut news = 0.0;
            for _ in 0..10_000 {
                news = news * topic.first_message_deliveries_decay + 2.0 * expected.fair_share();
            }
            let earned = news.min(topic.first_message_deliveries_cap) * topic.first_message_deliveries_weight;
            assert!((earned - MERIT_FOR_NEWS).abs() < 0.1, "{earned} of {providers} providers");
        }
    }

    #[test]
    fn what_is_expected_fits_the_protocol_and_silence_costs_nothing() {
        let topic = TopicHash::from_raw("topic");
        let score = EXPECTED.score([&topic].into_iter());
        score.validate().unwrap();
        thresholds().validate().unwrap();
        let topic = &score.topics[&topic];
        assert_eq!((topic.mesh_message_deliveries_weight, topic.mesh_failure_penalty_weight), (0.0, 0.0));
    }

    #[test]
    fn broken_promises_at_the_stated_rate_end_gossip_even_with_the_best_and_a_busy_machine_s_cost_nothing() {
        let score = EXPECTED.score(std::iter::empty());
        let penalty = |a_second: f64| {
            let settled = (0..10_000).fold(0.0, |broken, _| broken * score.behaviour_penalty_decay + a_second);
            (settled - score.behaviour_penalty_threshold).max(0.0).powi(2) * score.behaviour_penalty_weight
        };
        assert!(MERIT + penalty(BROKEN_PROMISES) <= thresholds().gossip_threshold + 1e-6);
        assert!(penalty(SLOW_PROMISES) > -1e-6);
    }
}
