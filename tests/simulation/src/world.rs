//! The world of the simulation: virtual time, links with delay and loss, nodes that come and go, providers that publish. One seed gives one
//! run, event for event.

use crate::{
    attack::{Attack, Attacker},
    gossip::{Control, first_heartbeat},
    node::{Effect, Node},
    post::{BEGINNING, Message, Post, QuestionId},
    provider::Provider,
    report::{Offer, Report},
};
use libp2p::PeerId;
use market::class::GpuClass;
use network::gossip::HEARTBEAT;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap},
    ops::RangeInclusive,
    sync::Arc,
};

/// Microseconds of virtual time.
pub type Micros = u64;
/// A thousand of them.
pub const MILLISECOND: Micros = 1_000;
/// A million.
pub const SECOND: Micros = 1_000_000;
/// The number of a node.
pub(crate) type Place = usize;
/// The number of a gossiped message.
pub(crate) type LetterId = u32;

/// How often a node looks at the clock.
const TICK: Micros = 250 * MILLISECOND;
/// How long the verification pool takes, with the way there and back.
const VERIFICATION: Micros = 500;
/// When a connection to a machine that vanished is given up: three pings.
const NOTICED: Micros = 45 * SECOND;
/// An offer must be known within this time.
pub const KNOWN_WITHIN: Micros = 5 * SECOND;

/// What becomes of a lost packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// What was in it is lost. Harsher than any transport we use.
    Outright,
    /// It is sent again after so long, and what follows it on the same link waits, as with TCP.
    Resent(Micros),
}

/// What is simulated.
#[derive(Clone, Debug)]
pub struct Parameters {
    /// One seed, one run.
    pub seed: u64,
    /// Nodes that follow classes: of a hundred, two follow all of them, the others one.
    pub followers: usize,
    /// Providers, which follow nothing.
    pub providers: usize,
    /// Classes of machine.
    pub classes: usize,
    /// Connections that each node makes, half of them to others of its class as rendezvous points name them, half to anybody.
    pub degree: usize,
    /// The delay of a link, one way.
    pub delay: RangeInclusive<Micros>,
    /// The share of packets that are lost.
    pub lost: f64,
    /// What that means.
    pub loss: Loss,
    /// The share of nodes that leave in an hour; as many come.
    pub churn: f64,
    /// The share of nodes that attack.
    pub attackers: f64,
    /// The time before the first offer, in which the meshes form.
    pub settling: Micros,
    /// The time between two offers.
    pub interval: Micros,
    /// Offers in all; the providers make them in turn, so that later ones renew earlier ones.
    pub offers: usize,
}

enum Event {
    Deliver { from: Place, to: Place, message: Message },
    Verified { place: Place, letter: LetterId, from: Place },
    Heartbeat(Place),
    Tick(Place),
    Pull(Place),
    GiveUp(Place, QuestionId),
    Lost { place: Place, other: Place },
    Offer(usize),
    Churn,
    Attack(Place),
}

struct Due {
    at: Micros,
    /// What happens at one time happens in the order in which it was planned.
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[derive(Clone, Copy, Debug)]
struct Link {
    delay: Micros,
    /// Until when what was sent before is on its way, from the lower to the higher place and back.
    busy: [Micros; 2],
}

/// Who lives at a place.
pub(crate) struct Inhabitant {
    pub(crate) node: Node,
    pub(crate) attacker: Option<Attacker>,
    class: Option<GpuClass>,
    /// What it sells, if it is a provider.
    provider: Option<Provider>,
    live: bool,
}

/// See the module.
pub struct World {
    parameters: Parameters,
    rng: StdRng,
    now: Micros,
    planned: u64,
    events: BinaryHeap<Reverse<Due>>,
    post: Post,
    nodes: Vec<Inhabitant>,
    links: HashMap<(Place, Place), Link>,
    classes: Vec<GpuClass>,
    /// Places of live providers, in the order in which they publish.
    sellers: Vec<Place>,
    offers: Vec<Offer>,
    /// The offers of each provider, oldest first.
    of: HashMap<PeerId, Vec<usize>>,
    keys: u64,
}

/// Runs a simulation to its end.
pub fn run(parameters: Parameters) -> anyhow::Result<Report> {
    let mut world = World::new(parameters)?;
    world.populate()?;
    while let Some(Reverse(due)) = world.events.pop() {
        if due.at > world.end() {
            break;
        }
        world.now = due.at;
        world.happen(due.event)?;
    }
    Ok(world.report())
}

fn key(a: Place, b: Place) -> (Place, Place) {
    (a.min(b), a.max(b))
}

impl World {
    fn new(parameters: Parameters) -> anyhow::Result<Self> {
        anyhow::ensure!(parameters.classes > 0 && parameters.providers > 0, "a market has a class and a provider");
        Ok(Self {
            rng: StdRng::seed_from_u64(parameters.seed),
            classes: GpuClass::all().take(parameters.classes).collect(),
            parameters,
            now: 0,
            planned: 0,
            events: BinaryHeap::new(),
            post: Post::new(),
            nodes: Vec::new(),
            links: HashMap::new(),
            sellers: Vec::new(),
            offers: Vec::new(),
            of: HashMap::new(),
            keys: 0,
        })
    }

    fn end(&self) -> Micros {
        let Parameters { settling, interval, offers, .. } = self.parameters;
        settling + interval * offers as Micros + KNOWN_WITHIN + SECOND
    }

    fn plan(&mut self, at: Micros, event: Event) {
        self.planned += 1;
        self.events.push(Reverse(Due { at, number: self.planned, event }));
    }

    fn populate(&mut self) -> anyhow::Result<()> {
        let Parameters { followers, providers, attackers, .. } = self.parameters;
        let bad = ((followers + providers) as f64 * attackers / (1.0 - attackers)) as usize;
        for number in 0..followers {
            self.add_follower(number)?;
        }
        for number in 0..providers {
            self.add_provider(number)?;
        }
        for number in 0..bad {
            self.add_attacker(number)?;
        }
        for place in 0..self.nodes.len() {
            self.join(place);
        }
        for number in 0..self.parameters.offers {
            self.plan(self.parameters.settling + self.parameters.interval * number as Micros, Event::Offer(number));
        }
        self.plan_churn();
        Ok(())
    }

    fn add(&mut self, follows: BTreeSet<GpuClass>, class: Option<GpuClass>) -> anyhow::Result<(Place, Provider)> {
        // everyone has a provider's keys; only providers use them
        let provider = Provider::numbered(self.keys, BEGINNING)?;
        self.keys += 1;
        let place = self.post.settle(provider.peer());
        let node = Node::new(provider.peer(), follows);
        self.nodes.push(Inhabitant { node, attacker: None, class, provider: None, live: true });
        let heartbeat = self.now + first_heartbeat(&mut self.rng);
        let tick = self.now + self.rng.random_range(0..TICK);
        self.plan(heartbeat, Event::Heartbeat(place));
        self.plan(tick, Event::Tick(place));
        Ok((place, provider))
    }

    fn add_follower(&mut self, number: usize) -> anyhow::Result<Place> {
        let class = self.classes[number % self.classes.len()];
        let everything = number.is_multiple_of(50);
        let follows = if everything { self.classes.iter().copied().collect() } else { BTreeSet::from([class]) };
        Ok(self.add(follows, Some(class))?.0)
    }

    fn add_provider(&mut self, number: usize) -> anyhow::Result<Place> {
        let class = self.classes[number % self.classes.len()];
        let (place, provider) = self.add(BTreeSet::new(), Some(class))?;
        self.nodes[place].provider = Some(provider);
        self.sellers.push(place);
        Ok(place)
    }

    fn add_attacker(&mut self, number: usize) -> anyhow::Result<()> {
        let attack = Attack::ALL[number % Attack::ALL.len()];
        // an eclipse needs them all at one place
        let class = if attack == Attack::Eclipse { self.classes[0] } else { self.classes[number % self.classes.len()] };
        let (place, _) = self.add(BTreeSet::from([class]), Some(class))?;
        self.nodes[place].attacker = Some(Attacker::new(attack, class, number as u64));
        self.plan(self.now + SECOND, Event::Attack(place));
        Ok(())
    }

    /// A node comes and makes its connections.
    fn join(&mut self, place: Place) {
        let greed = if self.nodes[place].attacker.as_ref().is_some_and(Attacker::is_greedy) { 3 } else { 1 };
        let class = self.nodes[place].class;
        for number in 0..self.parameters.degree * greed {
            self.dial(place, class.filter(|_| number % 2 == 0 || greed > 1));
        }
    }

    /// Connects to somebody new, of those who follow `class` if it is named.
    fn dial(&mut self, place: Place, class: Option<GpuClass>) {
        let fits = |other: &Place| {
            let node = &self.nodes[*other];
            *other != place
                && node.live
                && !self.links.contains_key(&key(place, *other))
                && class.is_none_or(|class| node.node.gossip.follows().contains(&class))
        };
        let all: Vec<Place> = (0..self.nodes.len()).filter(fits).collect();
        let Some(other) = all.choose(&mut self.rng).copied() else { return };
        let delay = self.rng.random_range(self.parameters.delay.clone());
        self.links.insert(key(place, other), Link { delay, busy: [self.now; 2] });
        self.nodes[place].node.gossip.connected(other, true);
        self.nodes[other].node.gossip.connected(place, false);
        // a connection is made and secured in three crossings; then each says what it follows
        for (from, to) in [(place, other), (other, place)] {
            let follows = self.nodes[from].node.gossip.follows().iter().copied().collect();
            let message = Message::Control(Control::Follows(follows));
            self.plan(self.now + 4 * delay, Event::Deliver { from, to, message });
        }
    }

    pub(crate) fn send(&mut self, from: Place, to: Place, message: Message) {
        // a question has a stream of its own: the two agree on the protocol, there and back, before it is sent
        let crossings = if matches!(message, Message::Get(..) | Message::List(..)) { 3 } else { 1 };
        let Some(link) = self.links.get_mut(&key(from, to)) else { return };
        let mut at = self.now + link.delay * crossings;
        for _ in 0..crossings {
            match self.parameters.loss {
                Loss::Outright if self.rng.random_bool(self.parameters.lost) => return,
                Loss::Resent(after) if self.rng.random_bool(self.parameters.lost) => at += after,
                Loss::Outright | Loss::Resent(_) => {}
            }
        }
        if crossings == 1 {
            let busy = &mut link.busy[usize::from(from > to)];
            at = at.max(*busy);
            *busy = at;
        }
        self.plan(at, Event::Deliver { from, to, message });
    }

    fn happen(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
            Event::Verified { place, letter, from } => self.step(place, |node, post, now, out| {
                if let Some(announcer) = post.peer(from) {
                    node.verified(letter, announcer, post, now, out);
                }
            }),
            Event::Heartbeat(place) => {
                let mut out = Vec::new();
                let Self { nodes, post, rng, now, .. } = self;
                if nodes[place].live && nodes[place].attacker.is_none() {
                    nodes[place].node.heartbeat(post, *now, rng, &mut out);
                    self.carry_out(place, out);
                    self.plan(self.now + HEARTBEAT.as_micros() as Micros, Event::Heartbeat(place));
                }
            }
            Event::Tick(place) => {
                self.step(place, Node::tick);
                if self.nodes[place].live {
                    self.plan(self.now + TICK, Event::Tick(place));
                }
            }
            Event::Pull(place) => self.step(place, Node::pull),
            Event::GiveUp(place, question) => {
                self.step(place, |node, post, now, out| node.unanswered(question, post, now, out))
            }
            Event::Lost { place, other } => {
                self.links.remove(&key(place, other));
                self.step(place, |node, post, now, out| node.lost(other, post, now, out));
                if self.nodes[place].live {
                    self.dial(place, self.nodes[place].class);
                }
            }
            Event::Offer(number) => self.offer(number)?,
            Event::Churn => self.churn()?,
            Event::Attack(place) => self.attack(place),
        }
        Ok(())
    }

    /// One step of one honest node that is there.
    fn step(&mut self, place: Place, step: impl FnOnce(&mut Node, &mut Post, Micros, &mut Vec<Effect>)) {
        let mut out = Vec::new();
        let inhabitant = &mut self.nodes[place];
        if inhabitant.live && inhabitant.attacker.is_none() {
            step(&mut inhabitant.node, &mut self.post, self.now, &mut out);
            self.carry_out(place, out);
        }
    }

    fn carry_out(&mut self, place: Place, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send(to, message) => self.send(place, to, message),
                Effect::Verify(letter, from) => {
                    self.plan(self.now + VERIFICATION, Event::Verified { place, letter, from })
                }
                Effect::PullAt(at) => self.plan(at, Event::Pull(place)),
                Effect::GiveUpAt(at, question) => self.plan(at, Event::GiveUp(place, question)),
                Effect::Took(peer, seq) => self.took(place, &peer, seq),
            }
        }
    }

    fn deliver(&mut self, from: Place, to: Place, message: Message) {
        if !self.links.contains_key(&key(from, to)) || !self.nodes[to].live {
            return;
        }
        if let Some(mut attacker) = self.nodes[to].attacker.take() {
            let node = &mut self.nodes[to].node;
            if let Message::Control(control) = &message {
                node.gossip.control(from, control.clone(), &self.post.rules, self.now);
            }
            let answer = attacker.receive(message, &self.post);
            self.nodes[to].attacker = Some(attacker);
            if let Some(answer) = answer {
                self.send(to, from, answer);
            }
            return;
        }
        let Some(sender) = self.post.peer(from) else { return };
        self.step(to, |node, post, now, out| node.receive(from, sender, message, post, now, out));
    }

    /// A provider publishes.
    fn offer(&mut self, number: usize) -> anyhow::Result<()> {
        let place = self.sellers[number % self.sellers.len()];
        let time = self.post.time(self.now);
        let Inhabitant { node, class, provider, .. } = &mut self.nodes[place];
        let (Some(provider), Some(class)) = (provider, *class) else { return Ok(()) };
        let published = provider.publish(time.0, class)?;
        let checked = network::ad::open(&published.envelope, time)?;
        node.book.insert(checked.raw, &checked.ad, time)?;
        let letter = self.post.number(class, &published.announcement);
        let recipients = node.gossip.publish(class, letter, &self.post.rules, self.now, &mut self.rng);
        let renews = self.of.get(&published.peer).is_some_and(|earlier| !earlier.is_empty());
        let audience = (0..self.nodes.len()).filter(|other| self.hears(*other, class)).collect();
        self.of.entry(published.peer).or_default().push(self.offers.len());
        self.offers.push(Offer { published, at: self.now, renews, audience, known: BTreeMap::new() });
        recipients.into_iter().for_each(|to| self.send(place, to, Message::News(letter)));
        Ok(())
    }

    fn hears(&self, place: Place, class: GpuClass) -> bool {
        let Inhabitant { node, attacker, live, .. } = &self.nodes[place];
        *live && attacker.is_none() && node.gossip.follows().contains(&class)
    }

    fn took(&mut self, place: Place, peer: &PeerId, seq: u64) {
        for number in self.of.get(peer).into_iter().flatten() {
            let offer = &mut self.offers[*number];
            if offer.published.seq <= seq {
                offer.known.entry(place).or_insert(self.now - offer.at);
            }
        }
    }

    fn plan_churn(&mut self) {
        let Parameters { churn, followers, providers, .. } = self.parameters;
        let an_hour = churn * (followers + providers) as f64;
        if an_hour > 0.0 {
            // memoryless, as people are
            let wait = -self.rng.random::<f64>().max(f64::MIN_POSITIVE).ln() * 3_600.0 / an_hour;
            self.plan(self.now + (wait * SECOND as f64) as Micros, Event::Churn);
        }
    }

    /// One node leaves, and another comes in its place: one time in two without a word.
    fn churn(&mut self) -> anyhow::Result<()> {
        let honest: Vec<Place> = (0..self.nodes.len())
            .filter(|place| self.nodes[*place].live && self.nodes[*place].attacker.is_none())
            .collect();
        if let Some(place) = honest.choose(&mut self.rng).copied() {
            self.nodes[place].live = false;
            let silent = self.rng.random_bool(0.5);
            let neighbours: Vec<Place> = self.nodes[place].node.gossip.neighbours().collect();
            for other in neighbours {
                let delay = self.links.get(&key(place, other)).map_or(0, |link| link.delay);
                let noticed = if silent { NOTICED } else { delay };
                self.plan(self.now + noticed, Event::Lost { place: other, other: place });
            }
            let number = self.nodes.len();
            let new = match self.sellers.iter().position(|seller| *seller == place) {
                Some(turn) => {
                    let new = self.add_provider(number)?;
                    self.sellers.pop();
                    self.sellers[turn] = new;
                    new
                }
                None => self.add_follower(number)?,
            };
            self.join(new);
        }
        self.plan_churn();
        Ok(())
    }

    fn attack(&mut self, place: Place) {
        let Some(mut attacker) = self.nodes[place].attacker.take() else { return };
        let neighbours: Vec<Place> = self.nodes[place].node.gossip.neighbours().collect();
        let messages = attacker.act(&mut self.post, self.now);
        self.nodes[place].attacker = Some(attacker);
        for message in messages {
            for other in &neighbours {
                self.send(place, *other, message.clone());
            }
        }
        self.plan(self.now + SECOND, Event::Attack(place));
    }

    fn report(mut self) -> Report {
        let honest = self.nodes.iter().filter(|inhabitant| inhabitant.attacker.is_none());
        let live: BTreeSet<Place> = (0..self.nodes.len())
            .filter(|place| self.nodes[*place].live && self.nodes[*place].attacker.is_none())
            .collect();
        let said: BTreeSet<Arc<[u8]>> = self.offers.iter().map(|offer| Arc::clone(&offer.published.envelope)).collect();
        let end = self.post.time(self.now);
        let mut untrue = 0;
        let mut held = 0;
        for inhabitant in honest {
            for entry in inhabitant.node.book.live(end) {
                held += 1;
                untrue += usize::from(!said.contains(&entry.raw));
            }
        }
        Report { offers: std::mem::take(&mut self.offers), live, held, untrue, events: self.planned }
    }
}
