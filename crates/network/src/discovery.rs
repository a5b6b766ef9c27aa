//! Which advertisements to fetch from whom: announce, then pull. A plain state machine without input or output; the node tells it what was
//! announced, who is there and what came back, and does what it says.
//!
//! An announced advertisement is asked for first where the announcement came from, then of the provider, then of others who follow the
//! same class; of one at a time unless that one is late, of each once a round, and for a bounded number of rounds.
//!
//! The renewal of an advertisement that is held is passed on at once. One of a provider never heard of is passed on when it is here: whoever
//! invents providers is believed by its own neighbours only, for a few seconds, and one place in the book costs it one real advertisement.

use crate::{ad::Announced, counters::Counters};
use alloy_primitives::B256;
use libp2p::{PeerId, gossipsub::MessageId};
use market::{
    book::MAX_PROVIDERS,
    class::{GpuClass, MAX_CLASSES},
    time::UnixMillis,
};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};
use wire::MAX_GET_PEERS;

mod lists;
mod parked;

pub use lists::{Listing, Lists};
pub use parked::Parked;

/// How far apart a peer's advertisements must be, in milliseconds of their sequence numbers: one that sends more often is flooding, and
/// its surplus is not passed on. Providers themselves keep twice this distance.
pub const MIN_SEQ_STEP: u64 = 500;
/// Advertisements waiting to be fetched: a minute's worth for a full indexer at the design's scale would be 20,000; one that is further
/// behind than this catches up by the next refresh.
const MAX_WANTED: usize = 4_096;
/// Peers asked at once. Each answer may be a mebibyte.
const MAX_ASKED: usize = 16;
/// Rounds in which every source is tried again, after [`FIRST_PAUSE`] and then twice as long each time: eight seconds in all.
const MAX_ROUNDS: u32 = 5;
/// The first pause: about the time a neighbour needs to fetch what it has just passed on.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// How long a source may take before the next one is asked as well: several round trips and the time for which it may itself wait. One that
/// never answers costs no more than this.
const PATIENCE: Duration = Duration::from_secs(1);
/// Of what is wanted, the newcomers that one neighbour may have brought. An honest one has what it passes on, and is asked within a round trip.
const MAX_NEWCOMERS: usize = 256;

/// What the book knows of an announced advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Novelty {
    /// It holds that one or a newer one, or would not take it.
    Old,
    /// It holds an older one of the same provider.
    Renewal,
    /// It holds nothing of that provider.
    Newcomer,
}

/// What is to become of an announcement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reception {
    /// News, or a repetition worth passing on.
    PassOn,
    /// Passed on when what it announces is here: see [`Discovery::have`].
    Wait,
    /// Old news or too much of it.
    Ignore,
}

/// A verified announcement and how it came.
#[derive(Clone, Debug)]
pub struct Heard {
    /// What it says.
    pub announced: Announced,
    /// From which neighbour.
    pub announcer: PeerId,
    /// On the topic of which class.
    pub class: GpuClass,
    /// What gossip calls it.
    pub message: MessageId,
}

/// An announcement to be passed on: what gossip calls it, and from whom it came.
pub type Waiting = (MessageId, PeerId);

#[derive(Clone, Copy, Debug)]
struct Seen {
    seq: u64,
    body_hash: B256,
    expires: UnixMillis,
}

#[derive(Debug)]
struct Wanted {
    announced: Announced,
    /// From whom the announcement came.
    announcer: PeerId,
    class: GpuClass,
    /// Announcements that wait for it: one for each of its classes at most.
    waiting: Vec<Waiting>,
    /// Who was asked in this round.
    tried: Vec<PeerId>,
    round: u32,
    due: Instant,
    /// Who was asked last and has not answered, and when.
    asked: Option<(PeerId, Instant)>,
}

impl Wanted {
    fn is_due(&self, now: Instant) -> bool {
        self.due <= now && self.asked.is_none_or(|(_, at)| is_late(at, now))
    }
}

fn is_late(asked_at: Instant, now: Instant) -> bool {
    asked_at + PATIENCE <= now
}

/// See the module.
#[derive(Debug)]
pub struct Discovery {
    local: PeerId,
    counters: Arc<Counters>,
    seen: HashMap<PeerId, Seen>,
    wanted: BTreeMap<PeerId, Wanted>,
    /// Who owes an answer, since when. Bounded by the connections there are: nobody is asked twice at once.
    asked: HashMap<PeerId, Instant>,
    /// The lists of new peers.
    pub lists: Lists,
}

impl Discovery {
    /// Nothing is known yet. `interests` is what is listed of each new peer.
    pub fn new(local: PeerId, interests: Vec<Option<GpuClass>>, counters: Arc<Counters>) -> Self {
        Self {
            local,
            lists: Lists::new(interests, Arc::clone(&counters)),
            counters,
            seen: HashMap::new(),
            wanted: BTreeMap::new(),
            asked: HashMap::new(),
        }
    }

    /// Takes note of a verified announcement.
    pub fn announced(&mut self, heard: Heard, novelty: Novelty, now: Instant) -> Reception {
        let announced = &heard.announced;
        if announced.peer == self.local {
            return Reception::Ignore;
        }
        match self.seen.get(&announced.peer) {
            // the same announcement on the topic of another class, or of one we have already read from a list
            Some(seen) if seen.seq == announced.seq && seen.body_hash == announced.body_hash => {}
            Some(seen) if announced.seq < seen.seq.saturating_add(MIN_SEQ_STEP) => return Reception::Ignore,
            None if self.seen.len() >= MAX_PROVIDERS => return Reception::Ignore,
            _ => {
                let Announced { peer, seq, expires, body_hash } = *announced;
                self.seen.insert(peer, Seen { seq, body_hash, expires });
            }
        }
        match novelty {
            Novelty::Old => Reception::PassOn,
            Novelty::Renewal => {
                self.want(heard, None, now);
                Reception::PassOn
            }
            Novelty::Newcomer if self.has_too_many_of(&heard.announcer) => {
                // forgotten, so that the same announcement may be taken up from a neighbour who brings fewer
                self.seen.remove(&announced.peer);
                self.counters.pulls_dropped.add();
                Reception::Ignore
            }
            Novelty::Newcomer => {
                let waiting = (heard.message.clone(), heard.announcer);
                if self.want(heard, Some(waiting), now) { Reception::Wait } else { Reception::Ignore }
            }
        }
    }

    fn has_too_many_of(&self, announcer: &PeerId) -> bool {
        let newcomers = |wanted: &&Wanted| wanted.announcer == *announcer && !wanted.waiting.is_empty();
        self.wanted.len() >= MAX_NEWCOMERS && self.wanted.values().filter(newcomers).count() >= MAX_NEWCOMERS
    }

    /// `false` when there is no room for it.
    fn want(&mut self, heard: Heard, waiting: Option<Waiting>, now: Instant) -> bool {
        let Heard { announced, announcer, class, .. } = heard;
        let peer = announced.peer;
        // one that is being asked for stays so: the answer is judged by what is then wanted
        let (known, asked) = match self.wanted.get_mut(&peer) {
            Some(wanted) if wanted.announced.seq >= announced.seq => {
                // another class of the same advertisement
                wanted.waiting.extend(waiting.filter(|_| wanted.waiting.len() < MAX_CLASSES));
                return true;
            }
            Some(wanted) => (true, wanted.asked),
            None => (false, None),
        };
        if !known && self.wanted.len() >= MAX_WANTED {
            self.seen.remove(&peer);
            self.counters.pulls_dropped.add();
            return false;
        }
        let waiting = Vec::from_iter(waiting);
        let wanted = Wanted { announced, announcer, class, waiting, tried: Vec::new(), round: 0, due: now, asked };
        self.wanted.insert(peer, wanted);
        true
    }

    /// Whether there is anything to fetch.
    pub fn is_idle(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Whether something of that peer is on its way here.
    pub fn is_fetching(&self, peer: &PeerId) -> bool {
        self.wanted.contains_key(peer)
    }

    /// Whom to ask for which advertisements now. `others` gives the connected peers that follow a class.
    pub fn next_gets(
        &mut self,
        connected: impl Fn(&PeerId) -> bool,
        others: impl Fn(GpuClass) -> Vec<PeerId>,
        now: Instant,
    ) -> Vec<(PeerId, Vec<PeerId>)> {
        let asked = &self.asked;
        let patient = asked.values().filter(|at| !is_late(**at, now)).count();
        let mut followers: HashMap<GpuClass, Vec<PeerId>> = HashMap::new();
        let mut gets: BTreeMap<PeerId, Vec<PeerId>> = BTreeMap::new();
        let mut hopeless = Vec::new();
        for (subject, wanted) in self.wanted.iter_mut().filter(|(_, wanted)| wanted.is_due(now)) {
            let usable = |peer: &PeerId| connected(peer) && asked.get(peer).is_none_or(|at| !is_late(*at, now));
            let untried = |peer: &PeerId| !wanted.tried.contains(peer) && usable(peer);
            let first = [wanted.announcer, *subject].into_iter().find(untried);
            let any =
                || followers.entry(wanted.class).or_insert_with(|| others(wanted.class)).iter().copied().find(untried);
            match first.or_else(any) {
                Some(source) if asked.contains_key(&source) => {}
                Some(source) => {
                    let room = gets.len() + patient < MAX_ASKED;
                    let batch = match gets.get_mut(&source) {
                        Some(batch) => batch,
                        None if room => gets.entry(source).or_default(),
                        None => continue,
                    };
                    if batch.len() < MAX_GET_PEERS {
                        batch.push(*subject);
                        wanted.asked = Some((source, now));
                        wanted.tried.push(source);
                    }
                }
                None if wanted.round >= MAX_ROUNDS => hopeless.push(*subject),
                None => {
                    wanted.due = now + FIRST_PAUSE * 2_u32.pow(wanted.round);
                    wanted.round += 1;
                    wanted.tried.clear();
                }
            }
        }
        for subject in hopeless {
            self.wanted.remove(&subject);
            // forgotten, so that the same announcement may be taken up again from elsewhere
            self.seen.remove(&subject);
            self.counters.pulls_abandoned.add();
        }
        self.asked.extend(gets.keys().map(|source| (*source, now)));
        gets.into_iter().collect()
    }

    /// Whether an advertisement that came from outside is what was announced of its peer; so is anything newer, and anything nobody
    /// announced.
    pub fn agrees(&self, peer: &PeerId, seq: u64, hash: impl FnOnce() -> B256) -> bool {
        match self.wanted.get(peer) {
            Some(wanted) if wanted.announced.seq == seq => wanted.announced.body_hash == hash(),
            _ => true,
        }
    }

    /// An advertisement of `peer` is in the book. Returns the announcements that waited for it, and may be passed on now.
    pub fn have(&mut self, peer: &PeerId, seq: u64) -> Vec<Waiting> {
        match self.wanted.get(peer) {
            Some(wanted) if wanted.announced.seq <= seq => {
                self.wanted.remove(peer).map_or_else(Vec::new, |wanted| wanted.waiting)
            }
            _ => Vec::new(),
        }
    }

    /// A question was answered, however well. What is still wanted is asked of the next source.
    pub fn get_done(&mut self, source: &PeerId, subjects: &[PeerId]) {
        self.asked.remove(source);
        for subject in subjects {
            if let Some(wanted) = self.wanted.get_mut(subject)
                && wanted.asked.is_some_and(|(asked, _)| asked == *source)
            {
                wanted.asked = None;
            }
        }
    }

    /// Forgets what is over.
    pub fn expire(&mut self, now: UnixMillis) {
        self.seen.retain(|_, seen| seen.expires > now);
        self.wanted.retain(|_, wanted| wanted.asked.is_some() || wanted.announced.expires > now);
    }
}

#[cfg(test)]
mod tests;
