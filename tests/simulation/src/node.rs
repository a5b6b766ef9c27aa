//! One node of the simulation: the nodes' own discovery, book and parked questions, beside the model of gossip. It does what the swarm's
//! task of a real node does with them, and gives back what is to be done in the world.

use crate::{
    gossip::{Control, Gossip},
    post::{Message, Post, QuestionId},
    world::{LetterId, MILLISECOND, Micros, Place, SECOND},
};
use libp2p::{PeerId, gossipsub::MessageId};
use market::{book::Book, class::GpuClass};
use network::{
    ad::{self, Announced, AnnouncementFault},
    discovery::{Discovery, Heard, Listing, Novelty, Parked, Reception},
};
use rand::rngs::StdRng;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use wire::MAX_LIST_PAGE;

/// How often announced advertisements are fetched, as the nodes have it.
const PULL_PAUSE: Micros = 10 * MILLISECOND;
/// How long a question for advertisements may take, as the nodes have it.
const OFFERS_WAIT: Micros = 10 * SECOND;

/// What is to be done in the world.
#[derive(Debug)]
pub(crate) enum Effect {
    /// A message goes out.
    Send(Place, Message),
    /// A message of gossip is to be verified.
    Verify(LetterId, Place),
    /// [`Node::pull`] is to be called then.
    PullAt(Micros),
    /// [`Node::unanswered`] is to be called then.
    GiveUpAt(Micros, QuestionId),
    /// An advertisement is in the book.
    Took(PeerId, u64),
}

/// What a question was about.
#[derive(Debug)]
enum Question {
    Get(Vec<PeerId>),
    List(Listing),
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) gossip: Gossip,
    pub(crate) book: Book,
    discovery: Discovery,
    parked: Parked<(Place, QuestionId)>,
    questions: BTreeMap<QuestionId, (Place, Question)>,
    asked: QuestionId,
    pulled: Micros,
    pull_waits: bool,
}

impl Node {
    pub(crate) fn new(peer: PeerId, follows: BTreeSet<GpuClass>) -> Self {
        let interests = if follows.len() > 3 { vec![None] } else { follows.iter().copied().map(Some).collect() };
        Self {
            gossip: Gossip::new(follows),
            book: Book::new(),
            discovery: Discovery::new(peer, interests, Arc::default()),
            parked: Parked::default(),
            questions: BTreeMap::new(),
            asked: 0,
            pulled: 0,
            pull_waits: false,
        }
    }

    /// A message came from a connected node.
    pub(crate) fn receive(
        &mut self,
        from: Place,
        sender: PeerId,
        message: Message,
        post: &mut Post,
        now: Micros,
        out: &mut Vec<Effect>,
    ) {
        match message {
            Message::Control(control) => {
                let introduces = matches!(control, Control::Follows(_));
                let answer = self.gossip.control(from, control, &post.rules, now);
                out.extend(answer.control.map(|control| Effect::Send(from, Message::Control(control))));
                out.extend(answer.letters.into_iter().map(|(_, letter)| Effect::Send(from, Message::News(letter))));
                if introduces {
                    self.discovery.lists.want(sender, post.instant(now));
                    self.send_lists(post, now, out);
                }
            }
            Message::News(letter) => {
                let class = post.letter(letter).class;
                if self.gossip.heard(from, class, letter, &post.rules, now) {
                    out.push(Effect::Verify(letter, from));
                }
            }
            Message::Get(question, subjects) => {
                let discovery = &self.discovery;
                let is_fetching = |peer: &PeerId| discovery.is_fetching(peer);
                let at_once = self.parked.park(sender, subjects, (from, question), is_fetching, post.instant(now));
                out.extend(at_once.map(|(subjects, to)| self.answer(&subjects, to)));
            }
            Message::List(question, class, after) => {
                let after = PeerId::from_bytes(&after).ok();
                let (page, more) = self.book.list(class, after.as_ref(), MAX_LIST_PAGE, post.time(now));
                let next = page.last().filter(|_| more).map_or_else(Vec::new, |entry| entry.peer.to_bytes());
                let ads = page.into_iter().map(|entry| Arc::clone(&entry.raw)).collect();
                out.push(Effect::Send(from, Message::Ads(question, ads, next)));
            }
            Message::Ads(question, ads, next) => self.answered(question, ads, next, post, now, out),
        }
    }

    fn answer(&self, subjects: &[PeerId], (to, question): (Place, QuestionId)) -> Effect {
        let ads = subjects.iter().filter_map(|peer| self.book.get(peer)).map(|entry| Arc::clone(&entry.raw)).collect();
        Effect::Send(to, Message::Ads(question, ads, Vec::new()))
    }

    /// The verification pool has looked at a message.
    pub(crate) fn verified(
        &mut self,
        letter: LetterId,
        announcer: PeerId,
        post: &mut Post,
        now: Micros,
        out: &mut Vec<Effect>,
    ) {
        let class = post.letter(letter).class;
        match post.check(letter, now) {
            Ok(announced) => {
                let novelty = self.novelty(&announced, post, now);
                let message = MessageId::from(letter.to_be_bytes());
                let heard = Heard { announced, announcer, class, message };
                match self.discovery.announced(heard, novelty, post.instant(now)) {
                    Reception::PassOn => self.pass_on(letter, post, out),
                    Reception::Wait => {}
                    Reception::Ignore => self.gossip.ignore(letter),
                }
                self.pull_soon(now, out);
            }
            Err(AnnouncementFault::Untimely) => self.gossip.ignore(letter),
            Err(AnnouncementFault::Dishonest) => self.gossip.reject(class, letter),
        }
    }

    fn novelty(&self, announced: &Announced, post: &Post, now: Micros) -> Novelty {
        let Announced { peer, seq, expires, .. } = announced;
        match self.book.would_take(peer, *seq, *expires, post.time(now)) {
            Err(_) => Novelty::Old,
            Ok(()) if self.book.get(peer).is_some() => Novelty::Renewal,
            Ok(()) => Novelty::Newcomer,
        }
    }

    fn pass_on(&mut self, letter: LetterId, post: &Post, out: &mut Vec<Effect>) {
        let class = post.letter(letter).class;
        let recipients = self.gossip.accept(class, letter, &post.rules);
        out.extend(recipients.into_iter().map(|place| Effect::Send(place, Message::News(letter))));
    }

    fn answered(
        &mut self,
        question: QuestionId,
        ads: Vec<Arc<[u8]>>,
        next: Vec<u8>,
        post: &mut Post,
        now: Micros,
        out: &mut Vec<Effect>,
    ) {
        let Some((source, question)) = self.questions.remove(&question) else { return };
        for envelope in ads {
            let Ok(checked) = post.open(&envelope, now) else { continue };
            let (peer, seq) = (checked.ad.peer, checked.ad.seq);
            let unasked = matches!(&question, Question::Get(subjects) if !subjects.contains(&peer));
            if unasked || !self.discovery.agrees(&peer, seq, || ad::body_hash(&checked.raw)) {
                continue;
            }
            if self.book.insert(checked.raw, &checked.ad, post.time(now)).is_ok() {
                out.push(Effect::Took(peer, seq));
                for (message, _) in self.discovery.have(&peer, seq) {
                    let number = message.0.as_slice().try_into().map(LetterId::from_be_bytes);
                    if let Ok(letter) = number {
                        self.pass_on(letter, post, out);
                    }
                }
            }
        }
        self.done(source, question, Some(next), post, now, out);
    }

    /// A question has waited long enough, or its peer has gone.
    pub(crate) fn unanswered(&mut self, question: QuestionId, post: &mut Post, now: Micros, out: &mut Vec<Effect>) {
        if let Some((source, question)) = self.questions.remove(&question) {
            self.done(source, question, None, post, now, out);
        }
    }

    fn done(
        &mut self,
        source: Place,
        question: Question,
        next: Option<Vec<u8>>,
        post: &mut Post,
        now: Micros,
        out: &mut Vec<Effect>,
    ) {
        match (question, next) {
            (Question::Get(subjects), _) => {
                if let Some(peer) = post.peer(source) {
                    self.discovery.get_done(&peer, &subjects);
                }
                self.send_gets(post, now, out);
            }
            (Question::List(listing), Some(next)) => {
                self.discovery.lists.page_done(listing, next);
                self.send_lists(post, now, out);
            }
            (Question::List(listing), None) => self.discovery.lists.page_failed(listing, post.instant(now)),
        }
        self.answer_parked(post, now, out);
    }

    /// A neighbour is gone, as far as this node can tell.
    pub(crate) fn lost(&mut self, place: Place, post: &mut Post, now: Micros, out: &mut Vec<Effect>) {
        self.gossip.disconnected(place);
        let open: Vec<QuestionId> =
            self.questions.iter().filter(|(_, (source, _))| *source == place).map(|(question, _)| *question).collect();
        open.into_iter().for_each(|question| self.unanswered(question, post, now, out));
    }

    fn pull_soon(&mut self, now: Micros, out: &mut Vec<Effect>) {
        if !self.pull_waits && !self.discovery.is_idle() {
            self.pull_waits = true;
            out.push(Effect::PullAt(now.max(self.pulled + PULL_PAUSE)));
        }
    }

    /// Fetches what was announced.
    pub(crate) fn pull(&mut self, post: &mut Post, now: Micros, out: &mut Vec<Effect>) {
        self.pull_waits = false;
        self.pulled = now;
        self.send_gets(post, now, out);
        self.answer_parked(post, now, out);
    }

    /// What a node looks at every quarter of a second.
    pub(crate) fn tick(&mut self, post: &mut Post, now: Micros, out: &mut Vec<Effect>) {
        self.send_gets(post, now, out);
        self.send_lists(post, now, out);
        self.answer_parked(post, now, out);
    }

    fn send_gets(&mut self, post: &Post, now: Micros, out: &mut Vec<Effect>) {
        let gossip = &self.gossip;
        let connected = |peer: &PeerId| post.place(peer).is_some_and(|place| gossip.is_connected(place));
        let others = |class| gossip.followers(class).into_iter().filter_map(|place| post.peer(place)).collect();
        let gets = self.discovery.next_gets(connected, others, post.instant(now));
        for (source, subjects) in gets {
            if let Some(place) = post.place(&source) {
                let question = self.question(place, Question::Get(subjects.clone()), now, out);
                out.push(Effect::Send(place, Message::Get(question, subjects)));
            }
        }
    }

    fn send_lists(&mut self, post: &Post, now: Micros, out: &mut Vec<Effect>) {
        loop {
            let gossip = &self.gossip;
            let connected = |peer: &PeerId| post.place(peer).is_some_and(|place| gossip.is_connected(place));
            let Some(listing) = self.discovery.lists.next(connected, post.instant(now)) else { return };
            let Some(place) = post.place(&listing.peer) else { return };
            let (class, after) = (listing.class(), listing.after.clone());
            let question = self.question(place, Question::List(listing), now, out);
            out.push(Effect::Send(place, Message::List(question, class, after)));
        }
    }

    fn question(&mut self, source: Place, about: Question, now: Micros, out: &mut Vec<Effect>) -> QuestionId {
        self.asked += 1;
        self.questions.insert(self.asked, (source, about));
        out.push(Effect::GiveUpAt(now + OFFERS_WAIT, self.asked));
        self.asked
    }

    fn answer_parked(&mut self, post: &Post, now: Micros, out: &mut Vec<Effect>) {
        let discovery = &self.discovery;
        for (subjects, to) in self.parked.ready(|peer| discovery.is_fetching(peer), post.instant(now)) {
            out.push(self.answer(&subjects, to));
        }
    }

    /// The upkeep of gossip.
    pub(crate) fn heartbeat(&mut self, post: &Post, now: Micros, rng: &mut StdRng, out: &mut Vec<Effect>) {
        let told = self.gossip.heartbeat(&post.rules, now, rng);
        out.extend(told.into_iter().map(|(place, control)| Effect::Send(place, Message::Control(control))));
    }
}
