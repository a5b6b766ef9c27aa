//! How gossip is set up: one topic for each class of machine, anonymous messages (what is said is signed by the application, so a
//! second signature would only cost), nothing passed on before it was verified, and scores that punish lies but not silence.

use crate::{
    error::StartError,
    scoring::{self, Expected},
};
use alloy_primitives::Keccak256;
use libp2p::gossipsub::{
    self, ConfigBuilder, IdentTopic, IdentityTransform, MaxCountSubscriptionFilter, MessageAuthenticity, MessageId,
    TopicHash, ValidationMode, WhitelistSubscriptionFilter,
};
use market::{
    book::MAX_PROVIDERS,
    class::{GpuClass, MAX_CLASSES},
    offer::DEFAULT_AD_LIFETIME,
};
use std::{collections::HashMap, time::Duration};
use wire::{MAX_ANNOUNCEMENT_BYTES, MAX_RATING_BYTES};

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
pub const HEARTBEAT: Duration = Duration::from_secs(1);
/// Neighbours in the mesh of a topic: what the large networks run with, as are the fewest and the most.
pub const MESH: usize = 8;
/// Fewer neighbours than this are made up for at the next heartbeat.
pub const MESH_LOW: usize = 6;
/// As many as this are too many, and all above [`MESH`] are given up.
pub const MESH_HIGH: usize = 12;
/// What the scores are derived from.
pub const EXPECTED: Expected = Expected {
    providers: MAX_PROVIDERS as f64 / MAX_CLASSES as f64,
    renewal: Duration::from_millis(DEFAULT_AD_LIFETIME / 3),
    neighbours: MESH as f64,
    interval: HEARTBEAT,
};

/// The topic of each class on one network, both ways.
#[derive(Clone, Debug)]
pub(crate) struct Topics {
    network: String,
    classes: HashMap<TopicHash, GpuClass>,
    ratings: IdentTopic,
}

impl Topics {
    pub(crate) fn new(network: &str) -> Self {
        let network = network.to_owned();
        let classes = GpuClass::all().map(|class| (topic(&network, class).hash(), class)).collect();
        let ratings = IdentTopic::new(format!("/gpulease/1/{network}/ratings"));
        Self { network, classes, ratings }
    }

    pub(crate) fn of(&self, class: GpuClass) -> IdentTopic {
        topic(&self.network, class)
    }

    pub(crate) fn class(&self, topic: &TopicHash) -> Option<GpuClass> {
        self.classes.get(topic).copied()
    }

    /// The topic of what renters say of closed rentals.
    pub(crate) fn ratings(&self) -> IdentTopic {
        self.ratings.clone()
    }

    /// Every topic there is.
    fn all(&self) -> impl Iterator<Item = TopicHash> {
        self.classes.keys().cloned().chain([self.ratings.hash()])
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
        .mesh_n(MESH)
        .mesh_n_low(MESH_LOW)
        .mesh_n_high(MESH_HIGH)
        // a provider with many classes would send to every peer it has
        .flood_publish(false);
    for topic in topics.classes.keys() {
        config.max_transmit_size_for_topic(MAX_ANNOUNCEMENT_BYTES + MESSAGE_OVERHEAD, topic.clone());
    }
    config.max_transmit_size_for_topic(MAX_RATING_BYTES + MESSAGE_OVERHEAD, topics.ratings().hash());
    let config = config.build().map_err(|error| refused(error.to_string()))?;
    let filter = MaxCountSubscriptionFilter {
        filter: WhitelistSubscriptionFilter(topics.all().collect()),
        max_subscribed_topics: MAX_TOPICS,
        max_subscriptions_per_request: MAX_TOPICS,
    };
    let mut gossip =
        Gossip::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter).map_err(refused)?;
    let scored: Vec<_> = topics.all().collect();
    gossip.with_peer_score(EXPECTED.score(scored.iter()), scoring::thresholds()).map_err(refused)?;
    for class in interests {
        gossip.subscribe(&topics.of(*class)).map_err(|error| refused(error.to_string()))?;
    }
    Ok(gossip)
}

pub(crate) fn refused(reason: impl Into<String>) -> StartError {
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
        assert_eq!(topics.ratings().to_string(), "/gpulease/1/devnet-0123abcd/ratings");
        assert_eq!(topics.class(&topics.ratings().hash()), None);
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
