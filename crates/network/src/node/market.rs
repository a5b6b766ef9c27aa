//! The market as the node sees it: announcements judged and passed on, advertisements of others fetched, listed and served.

use super::{Exchange, Node, serving::Answer};
use crate::{
    ad::{self, AdFault, Announced, AnnouncementFault, CheckedAd},
    codec::{Checked, Fault},
    config::{AdChange, BookObserver},
    discovery::{Discovery, Heard, Listing, Novelty, Parked, Reception, Waiting},
    limit::RateLimiter,
    store::StoreThread,
    verify::{Job, Verdict},
};
use ::market::{
    book::{Book, Stale},
    time::UnixMillis,
};
use libp2p::{
    PeerId,
    gossipsub::{self, MessageAcceptance, MessageId},
    request_response::{self, Message, OutboundRequestId},
};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::{oneshot, watch};
use wire::{MAX_LIST_PAGE, proto};

/// How often the book forgets what is over: a search may find it until then.
const EXPIRY: Duration = Duration::from_secs(1);
/// Questions for advertisements that one peer may ask: the list of a full book, 1,563 pages, is read in a quarter of a minute.
const OFFERS_PER_SECOND: u32 = 100;
/// And how many at once: a newcomer reads lists of several classes.
const OFFERS_BURST: u32 = 400;

type OffersEvent = request_response::Event<Checked<proto::OffersRequest>, Checked<proto::OffersResponse>>;

/// What a question of ours was about.
#[derive(Debug)]
enum Question {
    Get { subjects: Vec<PeerId> },
    List(Listing),
}

pub(super) struct Market {
    pub(super) book: Arc<RwLock<Book>>,
    pub(super) discovery: Discovery,
    changes: watch::Sender<u64>,
    store: Option<StoreThread>,
    observer: Option<Arc<dyn BookObserver>>,
    questions: HashMap<OutboundRequestId, (PeerId, Question)>,
    pub(super) parked: Parked<Answer>,
    pub(super) limiter: RateLimiter,
    expire_at: Instant,
}

impl Market {
    pub(super) fn new(
        book: Arc<RwLock<Book>>,
        discovery: Discovery,
        changes: watch::Sender<u64>,
        store: Option<StoreThread>,
        observer: Option<Arc<dyn BookObserver>>,
    ) -> Self {
        if let Some(observer) = &observer {
            // a book may be full from the start
            let held = book.read().unwrap_or_else(PoisonError::into_inner);
            held.live(UnixMillis::now()).for_each(|entry| observer.put(&entry.peer, entry.seq, entry.expires));
        }
        Self {
            book,
            discovery,
            changes,
            store,
            observer,
            questions: HashMap::new(),
            parked: Parked::default(),
            limiter: RateLimiter::new(OFFERS_PER_SECOND, OFFERS_BURST),
            expire_at: Instant::now(),
        }
    }

    pub(super) fn has_pulls(&self) -> bool {
        !self.discovery.is_idle()
    }

    /// Whether somebody follows the book, to reconcile it with those of others.
    pub(super) fn is_observed(&self) -> bool {
        self.observer.is_some()
    }

    /// The sequence number of what the book holds of a peer.
    pub(super) fn held(&self, peer: &PeerId) -> Option<u64> {
        let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
        book.get(peer).map(|entry| entry.seq)
    }

    /// Whether the book holds exactly this. It was checked when it came, and need not be again.
    fn holds(&self, raw: &[u8]) -> bool {
        let Some(peer) = ad::claimed_peer(raw) else { return false };
        let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
        book.get(&peer).is_some_and(|entry| *entry.raw == *raw)
    }

    pub(super) fn close(self) -> Option<JoinHandle<()>> {
        self.store.map(StoreThread::close)
    }

    fn novelty(&self, announced: &Announced) -> Novelty {
        let Announced { peer, seq, expires, .. } = announced;
        let book = self.book.read().unwrap_or_else(PoisonError::into_inner);
        match book.would_take(peer, *seq, *expires, UnixMillis::now()) {
            Err(_) => Novelty::Old,
            Ok(()) if book.get(peer).is_some() => Novelty::Renewal,
            Ok(()) => Novelty::Newcomer,
        }
    }

    /// Puts a checked advertisement into the book,
    /// and returns the announcements that waited for it.
    pub(super) fn take(&mut self, checked: CheckedAd) -> Result<Vec<Waiting>, Stale> {
        let CheckedAd { raw, ad } = checked;
        let (peer, seq, expires) = (ad.peer, ad.seq, ad.expires);
        let classes = {
            let mut book = self.book.write().unwrap_or_else(PoisonError::into_inner);
            book.insert(Arc::clone(&raw), &ad, UnixMillis::now())?;
            book.get(&peer).map_or_else(Arc::default, |entry| Arc::clone(&entry.classes))
        };
        tracing::trace!(target: "network::saw", seq, saw = "advertisement");
        let waiting = self.discovery.have(&peer, seq);
        if let Some(observer) = &self.observer {
            observer.put(&peer, seq, expires);
        }
        if let Some(store) = &self.store {
            store.queue(AdChange::Put { peer, seq, expires, classes, raw });
        }
        self.changes.send_modify(|version| *version += 1);
        Ok(waiting)
    }
}

/// Announcements and advertisements of others.
impl Node {
    pub(super) fn on_gossip(&mut self, source: PeerId, id: MessageId, message: gossipsub::Message) {
        if message.topic == self.topics.ratings().hash() {
            return self.on_rating(source, id, message.data);
        }
        let Some(class) = self.topics.class(&message.topic) else {
            return self.judge(&id, &source, MessageAcceptance::Ignore);
        };
        self.counters.gossip_received.add();
        let job = Job::Announcement { id: id.clone(), source, class, data: message.data };
        match self.pool.add(job) {
            Ok(()) => self.gathering = true,
            Err(_) => {
                self.counters.pool_full.add();
                self.judge(&id, &source, MessageAcceptance::Ignore);
            }
        }
    }

    fn judge(&mut self, id: &MessageId, source: &PeerId, acceptance: MessageAcceptance) {
        match acceptance {
            MessageAcceptance::Accept => self.counters.announcements_accepted.add(),
            MessageAcceptance::Ignore => self.counters.announcements_ignored.add(),
            MessageAcceptance::Reject => self.counters.announcements_rejected.add(),
        }
        // false only when the verdict came too late for gossip to pass the message on
        self.swarm.behaviour_mut().gossip.report_message_validation_result(id, source, acceptance);
    }

    pub(super) fn on_verdict(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Announcement { id, source, class, result } => {
                let reception = result.map(|announced| {
                    let novelty = self.market.novelty(&announced);
                    let seq = announced.seq;
                    let heard = Heard { announced, announcer: source, class, message: id.clone() };
                    (seq, self.market.discovery.announced(heard, novelty, Instant::now()))
                });
                match reception {
                    Ok((seq, Reception::PassOn)) => {
                        tracing::trace!(target: "network::saw", seq, saw = "announcement");
                        self.judge(&id, &source, MessageAcceptance::Accept);
                    }
                    // judged when it is here, or never: gossip forgets it after a few seconds
                    Ok((_, Reception::Wait)) => {}
                    Ok((_, Reception::Ignore)) | Err(AnnouncementFault::Untimely) => {
                        self.judge(&id, &source, MessageAcceptance::Ignore);
                    }
                    Err(AnnouncementFault::Dishonest) => {
                        tracing::debug!(%source, %class, "an announcement that cannot be honest");
                        self.judge(&id, &source, MessageAcceptance::Reject);
                    }
                }
            }
            Verdict::Ads { exchange, ads } => self.on_ads(exchange, ads),
            Verdict::Rating { id, source, acceptance } => self.judge_rating(&id, &source, acceptance),
            Verdict::Ratings(answered) => self.answer_ratings(answered),
        }
    }

    fn on_ads(&mut self, exchange: Exchange, ads: Vec<Result<CheckedAd, AdFault>>) {
        let mut taken = 0;
        for result in ads {
            let outcome = result.and_then(|checked| match &exchange {
                Exchange::Get { subjects, .. } if !subjects.contains(&checked.ad.peer) => Err(AdFault::Unasked),
                _ if !self
                    .market
                    .discovery
                    .agrees(&checked.ad.peer, checked.ad.seq, || ad::body_hash(&checked.raw)) =>
                {
                    Err(AdFault::WrongHash)
                }
                _ => Ok(checked),
            });
            match outcome.map(|checked| self.market.take(checked)) {
                Ok(Ok(waiting)) => {
                    taken += 1;
                    self.counters.ads_accepted.add();
                    for (id, source) in waiting {
                        self.judge(&id, &source, MessageAcceptance::Accept);
                    }
                }
                // a list repeats what is known; that is no fault, and neither is an answer that came twice
                Ok(Err(Stale::NotNewer)) if matches!(exchange, Exchange::List { .. }) => {}
                Ok(Err(_)) => self.counters.ads_stale.add(),
                Err(fault) => self.count_fault(&fault),
            }
        }
        match exchange {
            Exchange::Get { source, subjects } => {
                self.market.discovery.get_done(&source, &subjects);
                self.send_gets(Instant::now());
                self.answer_parked(Instant::now());
            }
            Exchange::List { listing, next } => {
                self.market.discovery.lists.page_done(listing, next);
                self.send_lists(Instant::now());
            }
            Exchange::Load { reply } => {
                // whoever asked may have gone; the book is filled all the same
                let _ = reply.send(taken);
            }
        }
    }

    fn count_fault(&self, fault: &AdFault) {
        tracing::debug!(%fault, "refused an advertisement");
        match fault {
            AdFault::Oversize(_) => self.counters.ads_oversize.add(),
            AdFault::Envelope | AdFault::WrongKey | AdFault::WrongHash => self.counters.ads_bad_signature.add(),
            AdFault::Unasked => self.counters.ads_unasked.add(),
            AdFault::Content(_) => self.counters.ads_malformed.add(),
            AdFault::Binding(_) => self.counters.ads_bad_binding.add(),
        }
    }

    /// Asks for announced advertisements, as far as may be asked now.
    pub(super) fn send_gets(&mut self, now: Instant) {
        let (swarm, topics) = (&self.swarm, &self.topics);
        let gets = self.market.discovery.next_gets(
            |peer| swarm.is_connected(peer),
            |class| Self::followers(swarm, topics, class),
            now,
        );
        for (source, subjects) in gets {
            let get = proto::GetAds { peers: subjects.iter().map(|peer| peer.to_bytes()).collect() };
            self.question(source, proto::offers_request::Request::Get(get), Question::Get { subjects });
        }
    }

    /// Reads lists, as far as may be read now.
    pub(super) fn send_lists(&mut self, now: Instant) {
        while let Some(listing) = self.market.discovery.lists.next(|peer| self.swarm.is_connected(peer), now) {
            let list = proto::ListAds {
                class: listing.class().map_or_else(String::new, |class| class.name().to_owned()),
                after: listing.after.clone(),
                limit: MAX_LIST_PAGE as u32,
            };
            self.question(listing.peer, proto::offers_request::Request::List(list), Question::List(listing));
        }
    }

    fn question(&mut self, peer: PeerId, request: proto::offers_request::Request, question: Question) {
        let request = proto::OffersRequest { request: Some(request) };
        self.counters.offers_sent.add();
        let id = self.swarm.behaviour_mut().offers.send_request(&peer, Ok(request));
        self.market.questions.insert(id, (peer, question));
    }

    /// Puts what a role was given into the book.
    pub(super) fn load(&mut self, ads: Vec<Vec<u8>>, reply: oneshot::Sender<usize>) {
        if let Err(job) = self.pool.submit(Job::Ads { exchange: Exchange::Load { reply }, ads })
            && let Job::Ads { exchange: Exchange::Load { reply }, .. } = *job
        {
            self.counters.pool_full.add();
            let _ = reply.send(0);
        }
    }

    pub(super) fn on_offers_event(&mut self, event: OffersEvent) {
        match event {
            request_response::Event::Message { peer, message: Message::Request { request, channel, .. }, .. } => {
                self.on_offers_request(peer, request, channel);
            }
            request_response::Event::Message { message: Message::Response { request_id, response }, .. } => {
                let Some((source, question)) = self.market.questions.remove(&request_id) else { return };
                match response {
                    Ok(response) => self.check_answer(source, question, response),
                    Err(fault) => {
                        self.count_message_fault(fault);
                        self.unanswered(source, question);
                    }
                }
            }
            request_response::Event::OutboundFailure { peer, request_id, error, .. } => {
                tracing::debug!(%peer, %error, "no answer about offers");
                if let Some((source, question)) = self.market.questions.remove(&request_id) {
                    self.unanswered(source, question);
                }
            }
            request_response::Event::InboundFailure { .. } | request_response::Event::ResponseSent { .. } => {}
        }
    }

    pub(super) fn count_message_fault(&self, fault: Fault) {
        match fault {
            Fault::TooLong => self.counters.messages_oversize.add(),
            Fault::Malformed => self.counters.messages_malformed.add(),
        }
    }

    fn check_answer(&mut self, source: PeerId, question: Question, response: proto::OffersResponse) {
        let (exchange, limit) = match question {
            Question::Get { subjects } => {
                let limit = subjects.len();
                (Exchange::Get { source, subjects }, limit)
            }
            Question::List(listing) => (Exchange::List { listing, next: response.next }, MAX_LIST_PAGE),
        };
        // the lists of neighbours are much alike: only what is new is worth a signature's check
        let ads = response.ads.into_iter().take(limit).filter(|raw| !self.market.holds(raw)).collect();
        if let Err(job) = self.pool.submit(Job::Ads { exchange, ads })
            && let Job::Ads { exchange, .. } = *job
        {
            self.counters.pool_full.add();
            match exchange {
                Exchange::Get { subjects, .. } => self.unanswered(source, Question::Get { subjects }),
                Exchange::List { listing, .. } => self.unanswered(source, Question::List(listing)),
                Exchange::Load { .. } => {}
            }
        }
    }

    fn unanswered(&mut self, source: PeerId, question: Question) {
        match question {
            Question::Get { subjects } => self.market.discovery.get_done(&source, &subjects),
            Question::List(listing) => self.market.discovery.lists.page_failed(listing, Instant::now()),
        }
    }

    /// A peer that speaks the protocol of offers has come.
    pub(super) fn want_list(&mut self, peer: PeerId) {
        let now = Instant::now();
        self.market.discovery.lists.want(peer, now);
        self.send_lists(now);
    }

    pub(super) fn expire_ads(&mut self, now: Instant) {
        if self.market.expire_at > now {
            return;
        }
        self.market.expire_at = now + EXPIRY;
        let now = UnixMillis::now();
        self.market.discovery.expire(now);
        let over = self.market.book.write().unwrap_or_else(PoisonError::into_inner).expire(now);
        if over.is_empty() {
            return;
        }
        if let Some(observer) = &self.market.observer {
            over.iter().for_each(|peer| observer.removed(peer));
        }
        if let Some(store) = &self.market.store {
            over.iter().for_each(|peer| store.queue(AdChange::Removed { peer: *peer }));
        }
        self.market.changes.send_modify(|version| *version += 1);
    }
}
