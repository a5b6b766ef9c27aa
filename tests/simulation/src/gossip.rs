//! The mesh of one node, as a plain state machine: gossipsub as the specification has it and libp2p runs it, with the numbers that our
//! nodes are configured with. It exists because libp2p's own keeps real time.

use crate::world::{LetterId, Micros, Place, SECOND};
use libp2p::gossipsub::{PeerScoreParams, PeerScoreThresholds, TopicHash, TopicScoreParams};
use market::class::GpuClass;
use network::{
    gossip::{EXPECTED, HEARTBEAT, MESH, MESH_HIGH, MESH_LOW},
    scoring,
};
use rand::{
    Rng,
    rngs::StdRng,
    seq::{IndexedRandom, SliceRandom},
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

/// Neighbours dialled by this node that a mesh keeps: libp2p's default.
const OUTBOUND: usize = 2;
/// Neighbours outside the mesh that are told what there is: libp2p's defaults.
const LAZY: usize = 6;
/// See [`LAZY`].
const LAZY_SHARE: f64 = 0.25;
/// Heartbeats for which a message can be had, and for which it is told of: libp2p's defaults.
const HISTORY: usize = 5;
/// See [`HISTORY`].
const TOLD: usize = 3;
/// How long one who was turned away does not ask again: libp2p's default.
const BACKOFF: Micros = 60 * SECOND;
/// How long a promised message may take: libp2p's default.
const PROMISE: Micros = 3 * SECOND;
/// Heartbeats between two attempts to mix a poor mesh, and how many are added then: libp2p's defaults.
const MIX: u64 = 60;
/// See [`MIX`].
const MIXED_IN: usize = 2;

/// What one node tells another about gossip.
#[derive(Clone, Debug)]
pub(crate) enum Control {
    /// It follows these classes.
    Follows(Vec<GpuClass>),
    /// It wants to be in the other's mesh.
    Graft(GpuClass),
    /// It is no longer in the other's mesh, or will not be.
    Prune(GpuClass),
    /// It has these.
    Have(GpuClass, Vec<LetterId>),
    /// It wants these.
    Want(Vec<LetterId>),
}

/// The numbers of the score, from the same code as the nodes'.
#[derive(Debug)]
pub(crate) struct Rules {
    peers: PeerScoreParams,
    topic: TopicScoreParams,
    thresholds: PeerScoreThresholds,
}

impl Rules {
    pub(crate) fn new() -> Self {
        let hash = TopicHash::from_raw("any");
        let mut peers = EXPECTED.score(std::iter::once(&hash));
        let topic = peers.topics.remove(&hash).unwrap_or_default();
        Self { peers, topic, thresholds: scoring::thresholds() }
    }
}

#[derive(Debug, Default)]
struct TopicScore {
    in_mesh_since: Option<Micros>,
    first: f64,
    lies: f64,
}

#[derive(Debug)]
struct Neighbour {
    /// Dialled by this node.
    outbound: bool,
    follows: BTreeSet<GpuClass>,
    topics: BTreeMap<GpuClass, TopicScore>,
    broken: f64,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Gossip {
    follows: BTreeSet<GpuClass>,
    neighbours: BTreeMap<Place, Neighbour>,
    mesh: BTreeMap<GpuClass, BTreeSet<Place>>,
    /// For classes that are published to and not followed.
    fanout: BTreeMap<GpuClass, BTreeSet<Place>>,
    backoff: BTreeMap<(GpuClass, Place), Micros>,
    seen: HashSet<LetterId>,
    /// Who sent what is being verified.
    senders: HashMap<LetterId, Vec<Place>>,
    /// What was verified in each of the last heartbeats, the present one first.
    history: VecDeque<Vec<(GpuClass, LetterId)>>,
    promises: BTreeMap<LetterId, (Place, Micros)>,
    heartbeats: u64,
}

impl Gossip {
    pub(crate) fn new(follows: BTreeSet<GpuClass>) -> Self {
        Self {
            mesh: follows.iter().map(|class| (*class, BTreeSet::new())).collect(),
            follows,
            neighbours: BTreeMap::new(),
            fanout: BTreeMap::new(),
            backoff: BTreeMap::new(),
            seen: HashSet::new(),
            senders: HashMap::new(),
            history: VecDeque::from([Vec::new()]),
            promises: BTreeMap::new(),
            heartbeats: 0,
        }
    }

    pub(crate) fn follows(&self) -> &BTreeSet<GpuClass> {
        &self.follows
    }

    pub(crate) fn connected(&mut self, place: Place, outbound: bool) {
        let neighbour = Neighbour { outbound, follows: BTreeSet::new(), topics: BTreeMap::new(), broken: 0.0 };
        self.neighbours.insert(place, neighbour);
    }

    pub(crate) fn disconnected(&mut self, place: Place) {
        self.neighbours.remove(&place);
        for peers in self.mesh.values_mut().chain(self.fanout.values_mut()) {
            peers.remove(&place);
        }
    }

    pub(crate) fn is_connected(&self, place: Place) -> bool {
        self.neighbours.contains_key(&place)
    }

    /// Everyone connected.
    pub(crate) fn neighbours(&self) -> impl Iterator<Item = Place> {
        self.neighbours.keys().copied()
    }

    /// The connected that follow a class.
    pub(crate) fn followers(&self, class: GpuClass) -> Vec<Place> {
        let follows = |(place, neighbour): (&Place, &Neighbour)| neighbour.follows.contains(&class).then_some(*place);
        self.neighbours.iter().filter_map(follows).collect()
    }

    fn score(&self, place: Place, rules: &Rules, now: Micros) -> f64 {
        let Some(neighbour) = self.neighbours.get(&place) else { return 0.0 };
        let topic = |score: &TopicScore| {
            let stays = score
                .in_mesh_since
                .map_or(0.0, |since| (now - since) as f64 / rules.topic.time_in_mesh_quantum.as_micros() as f64);
            stays.min(rules.topic.time_in_mesh_cap) * rules.topic.time_in_mesh_weight
                + score.first * rules.topic.first_message_deliveries_weight
                + score.lies * score.lies * rules.topic.invalid_message_deliveries_weight
        };
        let topics: f64 = neighbour.topics.values().map(topic).sum();
        let broken = (neighbour.broken - rules.peers.behaviour_penalty_threshold).max(0.0);
        topics.min(rules.peers.topic_score_cap) + broken * broken * rules.peers.behaviour_penalty_weight
    }

    /// Some of those who follow a class and pass a test.
    fn some(
        &self,
        class: GpuClass,
        count: usize,
        rng: &mut StdRng,
        test: impl Fn(Place, &Neighbour) -> bool,
    ) -> Vec<Place> {
        let fit = |(place, neighbour): (&Place, &Neighbour)| {
            (neighbour.follows.contains(&class) && test(*place, neighbour)).then_some(*place)
        };
        let fit: Vec<Place> = self.neighbours.iter().filter_map(fit).collect();
        fit.choose_multiple(rng, count).copied().collect()
    }

    /// A message of this node's own: to whom it goes.
    pub(crate) fn publish(
        &mut self,
        class: GpuClass,
        letter: LetterId,
        rules: &Rules,
        now: Micros,
        rng: &mut StdRng,
    ) -> Vec<Place> {
        let good = |place| self.score(place, rules, now) >= rules.thresholds.publish_threshold;
        let chosen = self.mesh.get(&class).or_else(|| self.fanout.get(&class)).cloned().unwrap_or_default();
        let mut recipients: Vec<Place> = chosen.iter().copied().filter(|place| good(*place)).collect();
        let missing = MESH.saturating_sub(recipients.len());
        recipients.extend(self.some(class, missing, rng, |place, _| !chosen.contains(&place) && good(place)));
        if recipients.is_empty() {
            return recipients;
        }
        if !self.mesh.contains_key(&class) {
            self.fanout.insert(class, recipients.iter().copied().collect());
        }
        self.seen.insert(letter);
        self.remember(class, letter);
        recipients
    }

    fn remember(&mut self, class: GpuClass, letter: LetterId) {
        if let Some(present) = self.history.front_mut() {
            present.push((class, letter));
        }
    }

    /// A message came. `true` when it is new and is to be verified.
    pub(crate) fn heard(&mut self, from: Place, class: GpuClass, letter: LetterId, rules: &Rules, now: Micros) -> bool {
        if !self.follows.contains(&class) || self.score(from, rules, now) < rules.thresholds.graylist_threshold {
            return false;
        }
        self.promises.remove(&letter);
        let new = self.seen.insert(letter);
        if new {
            self.senders.insert(letter, vec![from]);
        } else if let Some(senders) = self.senders.get_mut(&letter) {
            senders.push(from);
        }
        new
    }

    /// It is passed on: to whom.
    pub(crate) fn accept(&mut self, class: GpuClass, letter: LetterId, rules: &Rules) -> Vec<Place> {
        let senders = self.senders.remove(&letter).unwrap_or_default();
        if let Some(neighbour) = senders.first().and_then(|first| self.neighbours.get_mut(first)) {
            let score = neighbour.topics.entry(class).or_default();
            score.first = (score.first + 1.0).min(rules.topic.first_message_deliveries_cap);
        }
        self.remember(class, letter);
        let mesh = self.mesh.get(&class).into_iter().flatten();
        mesh.copied().filter(|place| !senders.contains(place)).collect()
    }

    /// It is not passed on.
    pub(crate) fn ignore(&mut self, letter: LetterId) {
        self.senders.remove(&letter);
    }

    /// It is a lie, and so all who sent it lied.
    pub(crate) fn reject(&mut self, class: GpuClass, letter: LetterId) {
        for place in self.senders.remove(&letter).unwrap_or_default() {
            if let Some(neighbour) = self.neighbours.get_mut(&place) {
                neighbour.topics.entry(class).or_default().lies += 1.0;
            }
        }
    }

    /// What a neighbour says, and what is answered.
    pub(crate) fn control(&mut self, from: Place, control: Control, rules: &Rules, now: Micros) -> Answer {
        match control {
            Control::Follows(classes) => {
                if let Some(neighbour) = self.neighbours.get_mut(&from) {
                    neighbour.follows.extend(classes);
                }
                Answer::default()
            }
            Control::Graft(class) => self.grafted(from, class, rules, now),
            Control::Prune(class) => {
                self.leave(from, class, now);
                Answer::default()
            }
            Control::Have(class, letters) => {
                let deaf =
                    !self.follows.contains(&class) || self.score(from, rules, now) < rules.thresholds.gossip_threshold;
                let wanted: Vec<LetterId> = letters
                    .into_iter()
                    .filter(|letter| !deaf && !self.seen.contains(letter) && !self.promises.contains_key(letter))
                    .collect();
                self.promises.extend(wanted.iter().map(|letter| (*letter, (from, now + PROMISE))));
                Answer { control: (!wanted.is_empty()).then_some(Control::Want(wanted)), letters: Vec::new() }
            }
            Control::Want(wanted) => {
                if self.score(from, rules, now) < rules.thresholds.gossip_threshold {
                    return Answer::default();
                }
                let had = self.history.iter().flatten().filter(|(_, letter)| wanted.contains(letter));
                Answer { control: None, letters: had.copied().collect() }
            }
        }
    }

    fn grafted(&mut self, from: Place, class: GpuClass, rules: &Rules, now: Micros) -> Answer {
        let score = self.score(from, rules, now);
        let outbound = self.neighbours.get(&from).is_some_and(|neighbour| neighbour.outbound);
        let resting = self.backoff.get(&(class, from)).is_some_and(|until| *until > now);
        let Some(mesh) = self.mesh.get_mut(&class) else { return Answer::default() };
        if mesh.contains(&from) {
            return Answer::default();
        }
        if resting || score < 0.0 || (mesh.len() >= MESH_HIGH && !outbound) {
            self.backoff.insert((class, from), now + BACKOFF);
            return Answer { control: Some(Control::Prune(class)), letters: Vec::new() };
        }
        mesh.insert(from);
        self.joined(from, class, now);
        Answer::default()
    }

    fn joined(&mut self, place: Place, class: GpuClass, now: Micros) {
        if let Some(neighbour) = self.neighbours.get_mut(&place) {
            neighbour.topics.entry(class).or_default().in_mesh_since = Some(now);
        }
    }

    fn leave(&mut self, place: Place, class: GpuClass, now: Micros) {
        if let Some(mesh) = self.mesh.get_mut(&class) {
            mesh.remove(&place);
        }
        if let Some(score) = self.neighbours.get_mut(&place).and_then(|neighbour| neighbour.topics.get_mut(&class)) {
            score.in_mesh_since = None;
        }
        self.backoff.insert((class, place), now + BACKOFF);
    }

    /// The upkeep of every heartbeat: what is to be told to whom.
    pub(crate) fn heartbeat(&mut self, rules: &Rules, now: Micros, rng: &mut StdRng) -> Vec<(Place, Control)> {
        self.heartbeats += 1;
        self.decay(rules, now);
        let scores: BTreeMap<Place, f64> =
            self.neighbours.keys().map(|place| (*place, self.score(*place, rules, now))).collect();
        let mut told = Vec::new();
        for class in self.follows.clone() {
            self.keep_mesh(class, &scores, rules, now, rng, &mut told);
        }
        self.gossip(&scores, rules, rng, &mut told);
        self.history.push_front(Vec::new());
        self.history.truncate(HISTORY);
        told
    }

    fn decay(&mut self, rules: &Rules, now: Micros) {
        self.backoff.retain(|_, until| *until > now);
        let broken: Vec<(LetterId, Place)> = self
            .promises
            .iter()
            .filter(|(_, (_, until))| *until <= now)
            .map(|(letter, (place, _))| (*letter, *place))
            .collect();
        for (letter, place) in broken {
            self.promises.remove(&letter);
            if let Some(neighbour) = self.neighbours.get_mut(&place) {
                neighbour.broken += 1.0;
            }
        }
        for neighbour in self.neighbours.values_mut() {
            neighbour.broken *= rules.peers.behaviour_penalty_decay;
            for score in neighbour.topics.values_mut() {
                score.first *= rules.topic.first_message_deliveries_decay;
                score.lies *= rules.topic.invalid_message_deliveries_decay;
            }
        }
    }

    fn keep_mesh(
        &mut self,
        class: GpuClass,
        scores: &BTreeMap<Place, f64>,
        rules: &Rules,
        now: Micros,
        rng: &mut StdRng,
        told: &mut Vec<(Place, Control)>,
    ) {
        let score = |place: Place| scores.get(&place).copied().unwrap_or_default();
        let mut mesh = self.mesh.get(&class).cloned().unwrap_or_default();
        let mut pruned: Vec<Place> = mesh.iter().copied().filter(|place| score(*place) < 0.0).collect();
        mesh.retain(|place| !pruned.contains(place));
        let outbound = |place: &Place| self.neighbours.get(place).is_some_and(|neighbour| neighbour.outbound);
        let fit = |mesh: &BTreeSet<Place>, place: Place| {
            !mesh.contains(&place) && !self.backoff.contains_key(&(class, place)) && score(place) >= 0.0
        };
        let mut grafted = Vec::new();
        if mesh.len() < MESH_LOW {
            grafted.extend(self.some(class, MESH - mesh.len(), rng, |place, _| fit(&mesh, place)));
            mesh.extend(&grafted);
        }
        if mesh.len() >= MESH_HIGH {
            let mut all: Vec<Place> = mesh.iter().copied().collect();
            all.shuffle(rng);
            // the best are kept, of the others whoever comes; libp2p keeps four
            all.sort_by(|a, b| score(*a).total_cmp(&score(*b)));
            let best = all.len() - 4;
            all[..best].shuffle(rng);
            let mut dialled = mesh.iter().filter(|place| outbound(place)).count();
            for place in all {
                if mesh.len() <= MESH {
                    break;
                }
                if outbound(&place) {
                    if dialled <= OUTBOUND {
                        continue;
                    }
                    dialled -= 1;
                }
                mesh.remove(&place);
                pruned.push(place);
            }
        }
        let dialled = mesh.iter().filter(|place| outbound(place)).count();
        if mesh.len() >= MESH_LOW && dialled < OUTBOUND {
            let more =
                self.some(class, OUTBOUND - dialled, rng, |place, neighbour| neighbour.outbound && fit(&mesh, place));
            mesh.extend(&more);
            grafted.extend(more);
        }
        if self.heartbeats.is_multiple_of(MIX) && mesh.len() > 1 {
            let mut all: Vec<f64> = mesh.iter().map(|place| score(*place)).collect();
            all.sort_by(f64::total_cmp);
            let median = all[all.len() / 2];
            if median < rules.thresholds.opportunistic_graft_threshold {
                let more = self.some(class, MIXED_IN, rng, |place, _| fit(&mesh, place) && score(place) > median);
                mesh.extend(&more);
                grafted.extend(more);
            }
        }
        self.mesh.insert(class, mesh);
        for place in grafted {
            self.joined(place, class, now);
            told.push((place, Control::Graft(class)));
        }
        for place in pruned {
            self.leave(place, class, now);
            told.push((place, Control::Prune(class)));
        }
    }

    /// Tells some of those outside the mesh what there is.
    fn gossip(&self, scores: &BTreeMap<Place, f64>, rules: &Rules, rng: &mut StdRng, told: &mut Vec<(Place, Control)>) {
        for (class, mesh) in self.mesh.iter().chain(&self.fanout) {
            let recent = self.history.iter().take(TOLD).flatten();
            let letters: Vec<LetterId> = recent.filter(|(of, _)| of == class).map(|(_, letter)| *letter).collect();
            if letters.is_empty() {
                continue;
            }
            let good =
                |place: Place| scores.get(&place).copied().unwrap_or_default() >= rules.thresholds.gossip_threshold;
            let outside = self.some(*class, usize::MAX, rng, |place, _| !mesh.contains(&place) && good(place));
            let count = LAZY.max((LAZY_SHARE * outside.len() as f64) as usize);
            let chosen = outside.choose_multiple(rng, count);
            told.extend(chosen.map(|place| (*place, Control::Have(*class, letters.clone()))));
        }
    }
}

/// What is answered to a neighbour.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    pub(crate) control: Option<Control>,
    pub(crate) letters: Vec<(GpuClass, LetterId)>,
}

/// When a node's first heartbeat comes: they are not in step.
pub(crate) fn first_heartbeat(rng: &mut StdRng) -> Micros {
    rng.random_range(0..HEARTBEAT.as_micros() as Micros)
}
