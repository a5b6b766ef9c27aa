//! How gossip is set up: one topic for each class of machine, anonymous messages (what is said is signed by the application, so a
//! second signature would only cost), nothing passed on before it was verified, and scores that punish lies but not silence.

use crate::error::StartError;
use alloy_primitives::Keccak256;
use libp2p::gossipsub::{
    self, ConfigBuilder, IdentTopic, IdentityTransform, MaxCountSubscriptionFilter, MessageAuthenticity, MessageId,
    PeerScoreParams, PeerScoreThresholds, TopicHash, TopicScoreParams, ValidationMode, WhitelistSubscriptionFilter,
};
use market::{class::GpuClass, offer::DEFAULT_AD_LIFETIME};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};
use wire::MAX_ANNOUNCEMENT_BYTES;

pub(crate) type Gossip =
    gossipsub::Behaviour<IdentityTransform, MaxCountSubscriptionFilter<WhitelistSubscriptionFilter>>;

/// Topics a peer may be subscribed to, and that one message of it may name: the limit other implementations keep by default.
const MAX_TOPICS: usize = 100;
/// What a message needs beside its data: the topic's name and field tags.
const MESSAGE_OVERHEAD: usize = 128;
/// Bytes of a message id: enough that nobody makes two messages of one id.
const MESSAGE_ID_BYTES: usize = 20;
/// A message is recognised as a repetition for two refreshes of an advertisement. Older copies are expired or soon will be.
const DUPLICATE_CACHE: Duration = Duration::from_millis(DEFAULT_AD_LIFETIME / 3 * 2);
/// The time between two rounds of mesh upkeep; with the default history of five rounds, verification has five seconds.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Lies are forgiven after this long: a peer that was upgraded meanwhile is welcome back.
const LIE_DECAY: Duration = Duration::from_secs(3_600);
/// What one lie costs; the cost grows with the square of their number. One is a warning, the fourth ends all trade.
const LIE_WEIGHT: f64 = -20.0;
/// More peers than this at one address begin to look like one peer in many masks. GPU farms stand behind one address too, hence so many.
const PEERS_PER_ADDRESS: f64 = 64.0;

/// The topic of each class on one network, both ways.
#[derive(Clone, Debug)]
pub(crate) struct Topics {
    network: String,
    classes: HashMap<TopicHash, GpuClass>,
}

impl Topics {
    pub(crate) fn new(network: &str) -> Self {
        let network = network.to_owned();
        let classes = GpuClass::all().map(|class| (topic(&network, class).hash(), class)).collect();
        Self { network, classes }
    }

    pub(crate) fn of(&self, class: GpuClass) -> IdentTopic {
        topic(&self.network, class)
    }

    pub(crate) fn class(&self, topic: &TopicHash) -> Option<GpuClass> {
        self.classes.get(topic).copied()
    }
}

fn topic(network: &str, class: GpuClass) -> IdentTopic {
    IdentTopic::new(format!("/gpulease/1/{network}/ads/{class}"))
}

/// The gossip protocol, subscribed to the topics of `interests`.
pub(crate) fn behaviour(topics: &Topics, interests: &[GpuClass]) -> Result<Gossip, StartError> {
    let mut config = ConfigBuilder::default();
    config
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(message_id)
        .duplicate_cache_time(DUPLICATE_CACHE)
        .heartbeat_interval(HEARTBEAT)
        .heartbeat_initial_delay(HEARTBEAT)
        // 8, 6 and 12 neighbours in a mesh: what the large networks run with
        .mesh_n(8)
        .mesh_n_low(6)
        .mesh_n_high(12)
        // a provider with many classes would send to every peer it has
        .flood_publish(false);
    for topic in topics.classes.keys() {
        config.max_transmit_size_for_topic(MAX_ANNOUNCEMENT_BYTES + MESSAGE_OVERHEAD, topic.clone());
    }
    let config = config.build().map_err(|error| refused(error.to_string()))?;
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter(topics.classes.keys().cloned().collect()),
        max_subscribed_topics: MAX_TOPICS,
        max_subscriptions_per_request: MAX_TOPICS,
    };
    let mut gossip =
        Gossip::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter).map_err(refused)?;
    gossip.with_peer_score(score(topics), thresholds()).map_err(refused)?;
    for class in interests {
        gossip.subscribe(&topics.of(*class)).map_err(|error| refused(error.to_string()))?;
    }
    Ok(gossip)
}

fn refused(reason: impl Into<String>) -> StartError {
    StartError::Configuration { protocol: "gossipsub", reason: reason.into() }
}

/// Content and topic make the id, since one announcement is sent on the topic of each of its classes. This runs for every copy of a
/// message on the swarm's task: it must stay one cheap hash.
fn message_id(message: &gossipsub::Message) -> MessageId {
    let mut hash = Keccak256::new();
    hash.update(message.topic.as_str());
    hash.update([0]);
    hash.update(&message.data);
    MessageId::from(&hash.finalize()[..MESSAGE_ID_BYTES])
}

fn score(topics: &Topics) -> PeerScoreParams {
    let topic = TopicScoreParams {
        topic_weight: 1.0,
        // a neighbour earns a little by staying, up to ten points after an hour and a half …
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(5),
        time_in_mesh_cap: 1_000.0,
        // … and by being first with news
        first_message_deliveries_weight: 0.5,
        first_message_deliveries_decay: gossipsub::score_parameter_decay(Duration::from_secs(600)),
        first_message_deliveries_cap: 20.0,
        // silence is no fault: classes may be quiet for minutes
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: LIE_WEIGHT,
        invalid_message_deliveries_decay: gossipsub::score_parameter_decay(LIE_DECAY),
        ..TopicScoreParams::default()
    };
    PeerScoreParams {
        topics: topics.classes.keys().map(|hash| (hash.clone(), topic.clone())).collect(),
        // merit in many topics must not outweigh lies in one
        topic_score_cap: 20.0,
        app_specific_weight: 0.0,
        ip_colocation_factor_weight: -1.0,
        ip_colocation_factor_threshold: PEERS_PER_ADDRESS,
        // a development network is all on one machine
        ip_colocation_factor_whitelist: [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].into(),
        // a few broken promises happen whenever connections are slow
        behaviour_penalty_threshold: 6.0,
        ..PeerScoreParams::default()
    }
}

/// One lie costs 20, two cost 80, three 180, four 320, and merit gives back at most 20: two lies end gossip with a peer, three end
/// publishing to it, four end listening to it.
fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: -50.0,
        publish_threshold: -150.0,
        graylist_threshold: -250.0,
        accept_px_threshold: 0.0,
        opportunistic_graft_threshold: 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_can_be_joined_and_the_scores_are_consistent() {
        let topics = Topics::new("devnet-0123abcd");
        let all: Vec<_> = GpuClass::all().collect();
        let gossip = behaviour(&topics, &all).unwrap();
        assert_eq!(gossip.topics().count(), all.len());
        assert_eq!(topics.of(GpuClass::CPU).to_string(), "/gpulease/1/devnet-0123abcd/ads/cpu");
        assert_eq!(topics.class(&topics.of(GpuClass::CPU).hash()), Some(GpuClass::CPU));
    }

    #[test]
    fn the_same_announcement_has_one_id_on_each_topic() {
        let topics = Topics::new("main");
        let message = |class, data: &[u8]| gossipsub::Message {
            source: None,
            data: data.to_vec(),
            sequence_number: None,
            topic: topics.of(class).hash(),
        };
        let here = message_id(&message(GpuClass::CPU, b"news"));
        assert_eq!(here, message_id(&message(GpuClass::CPU, b"news")));
        assert_ne!(here, message_id(&message(GpuClass::OTHER, b"news")));
        assert_ne!(here, message_id(&message(GpuClass::CPU, b"older")));
    }
}
