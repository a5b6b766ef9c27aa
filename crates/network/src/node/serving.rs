//! What others ask of our book: advertisements of peers they name, and pages of lists.

use super::Node;
use crate::codec::Checked;
use ::market::time::UnixMillis;
use libp2p::{PeerId, request_response::ResponseChannel};
use std::{sync::PoisonError, time::Instant};
use wire::{
    MAX_GET_PEERS, MAX_LIST_PAGE,
    proto::{self, offers_request::Request},
};

/// The way to answer one question.
pub(super) type Answer = ResponseChannel<Checked<proto::OffersResponse>>;

impl Node {
    pub(super) fn on_offers_request(&mut self, asker: PeerId, request: Checked<proto::OffersRequest>, answer: Answer) {
        self.counters.offers_received.add();
        if !self.market.limiter.allow(&asker) {
            // without an answer the channel is dropped, and the stream ends
            return self.counters.rate_limited.add();
        }
        let request = match request {
            Ok(request) => request.request,
            Err(fault) => return self.count_message_fault(fault),
        };
        match request {
            Some(Request::Get(get)) => self.on_get(asker, &get, answer),
            Some(Request::List(list)) => match self.page(&list) {
                Some(page) => self.send_offers(answer, page),
                None => self.counters.messages_malformed.add(),
            },
            None => self.counters.messages_malformed.add(),
        }
    }

    fn on_get(&mut self, asker: PeerId, get: &proto::GetAds, answer: Answer) {
        let subjects =
            get.peers.iter().take(MAX_GET_PEERS).filter_map(|bytes| PeerId::from_bytes(bytes).ok()).collect();
        let discovery = &self.market.discovery;
        let is_fetching = |peer: &PeerId| discovery.is_fetching(peer);
        let at_once = self.market.parked.park(asker, subjects, answer, is_fetching, Instant::now());
        if let Some((subjects, answer)) = at_once {
            self.answer_get(&subjects, answer);
        }
    }

    /// Answers the questions that waited for something, as far as it is here or they have waited long enough.
    pub(super) fn answer_parked(&mut self, now: Instant) {
        let discovery = &self.market.discovery;
        for (subjects, answer) in self.market.parked.ready(|peer| discovery.is_fetching(peer), now) {
            self.answer_get(&subjects, answer);
        }
    }

    fn answer_get(&mut self, subjects: &[PeerId], answer: Answer) {
        let book = self.market.book.read().unwrap_or_else(PoisonError::into_inner);
        let ads = subjects.iter().filter_map(|peer| book.get(peer)).map(|entry| entry.raw.to_vec()).collect();
        drop(book);
        self.send_offers(answer, proto::OffersResponse { ads, next: Vec::new() });
    }

    fn page(&self, list: &proto::ListAds) -> Option<proto::OffersResponse> {
        let class = match list.class.as_str() {
            "" => None,
            // a class that this version does not know has no offers here
            name => match name.parse() {
                Ok(class) => Some(class),
                Err(_) => return Some(proto::OffersResponse::default()),
            },
        };
        let after = if list.after.is_empty() { None } else { Some(PeerId::from_bytes(&list.after).ok()?) };
        let limit = usize::try_from(list.limit).unwrap_or(MAX_LIST_PAGE).clamp(1, MAX_LIST_PAGE);
        let book = self.market.book.read().unwrap_or_else(PoisonError::into_inner);
        let (page, more) = book.list(class, after.as_ref(), limit, UnixMillis::now());
        let next = page.last().filter(|_| more).map_or_else(Vec::new, |entry| entry.peer.to_bytes());
        Some(proto::OffersResponse { ads: page.iter().map(|entry| entry.raw.to_vec()).collect(), next })
    }

    fn send_offers(&mut self, answer: Answer, response: proto::OffersResponse) {
        if self.swarm.behaviour_mut().offers.send_response(answer, Ok(response)).is_err() {
            tracing::debug!("asked for offers and did not wait");
        }
    }
}
