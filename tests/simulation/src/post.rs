//! What is on its way between nodes, and the checks of it: done by the nodes' own code, and remembered, since a thousand nodes check the
//! same bytes.

use crate::{
    gossip::{Control, Rules},
    world::{LetterId, Micros, Place},
};
use libp2p::PeerId;
use market::{class::GpuClass, offer::MAX_SKEW, time::UnixMillis};
use network::ad::{self, AdFault, Announced, AnnouncementFault, Bindings, CheckedAd};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// A question's number, of the asker's own counting.
pub(crate) type QuestionId = u64;

/// What one node sends another.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    /// Of gossip, beside the messages themselves.
    Control(Control),
    /// An announcement.
    News(LetterId),
    /// A question for the advertisements of these peers.
    Get(QuestionId, Vec<PeerId>),
    /// A question for a page of the list of a class.
    List(QuestionId, Option<GpuClass>, Vec<u8>),
    /// An answer, and where the next page begins.
    Ads(QuestionId, Vec<Arc<[u8]>>, Vec<u8>),
}

/// A gossiped message: its bytes on the topic of a class.
#[derive(Debug)]
pub(crate) struct Letter {
    pub(crate) class: GpuClass,
    pub(crate) data: Arc<[u8]>,
    check: Option<Result<Announced, AnnouncementFault>>,
}

/// What all nodes of a simulation share: the clock, the rules, and what has been checked already.
#[derive(Debug)]
pub(crate) struct Post {
    pub(crate) rules: Rules,
    letters: Vec<Letter>,
    numbers: HashMap<(GpuClass, Arc<[u8]>), LetterId>,
    ads: HashMap<Arc<[u8]>, Result<CheckedAd, AdFault>>,
    bindings: Bindings,
    places: HashMap<PeerId, Place>,
    peers: Vec<PeerId>,
    epoch: Instant,
}

/// Where virtual time begins.
pub(crate) const BEGINNING: UnixMillis = UnixMillis(1_767_225_600_000);

impl Post {
    pub(crate) fn new() -> Self {
        Self {
            rules: Rules::new(),
            letters: Vec::new(),
            numbers: HashMap::new(),
            ads: HashMap::new(),
            bindings: Bindings::default(),
            places: HashMap::new(),
            peers: Vec::new(),
            // only differences count
            epoch: Instant::now(),
        }
    }

    pub(crate) fn instant(&self, now: Micros) -> Instant {
        self.epoch + Duration::from_micros(now)
    }

    pub(crate) fn time(&self, now: Micros) -> UnixMillis {
        BEGINNING.plus(now / 1_000)
    }

    /// A new node: where it lives from now on.
    pub(crate) fn settle(&mut self, peer: PeerId) -> Place {
        let place = self.peers.len();
        self.places.insert(peer, place);
        self.peers.push(peer);
        place
    }

    pub(crate) fn peer(&self, place: Place) -> Option<PeerId> {
        self.peers.get(place).copied()
    }

    pub(crate) fn place(&self, peer: &PeerId) -> Option<Place> {
        self.places.get(peer).copied()
    }

    /// The number of a message: the same for the same bytes on the same topic.
    pub(crate) fn number(&mut self, class: GpuClass, data: &Arc<[u8]>) -> LetterId {
        let next = self.letters.len() as LetterId;
        let number = *self.numbers.entry((class, Arc::clone(data))).or_insert(next);
        if number == next {
            self.letters.push(Letter { class, data: Arc::clone(data), check: None });
        }
        number
    }

    pub(crate) fn letter(&self, number: LetterId) -> &Letter {
        &self.letters[number as usize]
    }

    /// Checks an announcement as a node does.
    pub(crate) fn check(&mut self, number: LetterId, now: Micros) -> Result<Announced, AnnouncementFault> {
        let time = self.time(now);
        let letter = &mut self.letters[number as usize];
        let check = letter.check.get_or_insert_with(|| ad::open_announcement(&letter.data, letter.class, time));
        let announced = check.clone()?;
        if announced.expires <= time || announced.seq > time.plus(MAX_SKEW).0 {
            return Err(AnnouncementFault::Untimely);
        }
        Ok(announced)
    }

    /// Checks an advertisement as a node does.
    pub(crate) fn open(&mut self, envelope: &Arc<[u8]>, now: Micros) -> Result<CheckedAd, AdFault> {
        let time = self.time(now);
        let Self { ads, bindings, .. } = self;
        ads.entry(Arc::clone(envelope)).or_insert_with(|| ad::open_with(envelope, time, bindings)).clone()
    }
}
