//! The answering side of `/gpulease/sync/1`: who has a reconciliation open here, and what each question is answered. Without input or output;
//! whoever owns it brings the time and sends the answers.

use super::{
    ad_id::AdId,
    ledger::Ledger,
    session::{MAX_LACKED, Responder},
};
use market::{
    id::PeerId,
    offer::MAX_SKEW,
    refusal::{Refusal, RefusalCode},
    time::UnixMillis,
};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};
use wire::{SyncAnswer, SyncAsk};

/// Reconciliations open here at once: each keeps a picture of the book, of which most is shared with the others.
const MAX_SERVED: usize = 16;
/// How long one stays open. The longest, over slow lines, is a few hundred rounds.
const SERVED_LIMIT: Duration = Duration::from_secs(120);
/// How far apart one peer's must begin: each begins with a new picture.
const MIN_SPACING: Duration = Duration::from_secs(2);

#[derive(Debug)]
struct Served {
    responder: Responder,
    began: Instant,
    /// How many advertisements the peer has said we lack.
    told: usize,
}

/// What is to be done about a question.
#[derive(Debug)]
pub enum Reply {
    /// Send this.
    Say(SyncAnswer),
    /// Send what is held of these peers, in this order.
    Send(Vec<Option<PeerId>>),
    /// Say that it was noted, and fetch these from the one that asked.
    Note(Vec<AdId>),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Server {
    served: HashMap<PeerId, Served>,
}

impl Server {
    /// Nobody has anything open.
    pub fn new() -> Self {
        Self::default()
    }

    /// What to do about the question of `peer`. `clock` and `now` are the same moment.
    pub fn answer(
        &mut self,
        peer: PeerId,
        ask: SyncAsk,
        ledger: &Ledger,
        clock: UnixMillis,
        now: Instant,
    ) -> Result<Reply, Refusal> {
        match ask {
            SyncAsk::Open { at, frame } => {
                self.may_open(&peer, at, clock, now)?;
                let responder = Responder::new(ledger.view(at));
                self.served.insert(peer, Served { responder, began: now, told: 0 });
                self.frame(&peer, &frame)
            }
            SyncAsk::Next(frame) => self.frame(&peer, &frame),
            SyncAsk::Fetch(ids) => {
                let inventory = ledger.inventory();
                Ok(Reply::Send(ids.into_iter().map(|id| inventory.holder(&AdId::from_bytes(id))).collect()))
            }
            SyncAsk::Lacking(ids) => {
                let served = self.open(&peer)?;
                served.told += ids.len();
                if served.told > MAX_LACKED {
                    self.served.remove(&peer);
                    return Err(Refusal::new(RefusalCode::BadRequest, "more advertisements than a book holds"));
                }
                let inventory = ledger.inventory();
                let ids = ids.into_iter().map(AdId::from_bytes).filter(|id| inventory.is_news(id, clock));
                Ok(Reply::Note(ids.collect()))
            }
        }
    }

    fn may_open(&mut self, peer: &PeerId, at: UnixMillis, clock: UnixMillis, now: Instant) -> Result<(), Refusal> {
        let apart = at.0.abs_diff(clock.0);
        if apart > MAX_SKEW {
            let detail =
                format!("our clocks are {} s apart, at most {} s are allowed", apart / 1_000, MAX_SKEW / 1_000);
            return Err(Refusal::new(RefusalCode::BadRequest, detail));
        }
        self.served.retain(|_, served| now.duration_since(served.began) < SERVED_LIMIT);
        match self.served.get(peer) {
            Some(last) if now.duration_since(last.began) < MIN_SPACING => {
                Err(Refusal::new(RefusalCode::RateLimited, "the last reconciliation began just now, try again in 2 s"))
            }
            None if self.served.len() >= MAX_SERVED => {
                Err(Refusal::new(RefusalCode::RateLimited, "too many reconciliations are open here, try again later"))
            }
            _ => Ok(()),
        }
    }

    fn open(&mut self, peer: &PeerId) -> Result<&mut Served, Refusal> {
        let none = || Refusal::new(RefusalCode::WrongState, "no reconciliation is open here, begin one");
        self.served.get_mut(peer).ok_or_else(none)
    }

    fn frame(&mut self, peer: &PeerId, frame: &[u8]) -> Result<Reply, Refusal> {
        match self.open(peer)?.responder.answer(frame) {
            Ok(answer) => Ok(Reply::Say(SyncAnswer::Frame(answer))),
            Err(fault) => {
                self.served.remove(peer);
                Err(Refusal::new(RefusalCode::BadRequest, fault.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::fixtures::peer;

    const CLOCK: UnixMillis = UnixMillis(1_767_225_600_000);

    struct World {
        server: Server,
        ledger: Ledger,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            let ledger = Ledger::new();
            ledger.inventory().put(peer(1), CLOCK.0 - 1_000, CLOCK.plus(600_000));
            Self { server: Server::new(), ledger, now: Instant::now() }
        }

        fn ask(&mut self, from: u64, ask: SyncAsk) -> Result<Reply, Refusal> {
            self.server.answer(peer(from), ask, &self.ledger, CLOCK, self.now)
        }

        fn code(&mut self, from: u64, ask: SyncAsk) -> RefusalCode {
            self.ask(from, ask).unwrap_err().code
        }
    }

    /// A frame that says: here is nothing, what have you?
    fn frame() -> Vec<u8> {
        vec![0x61, 0, 0, 2, 0]
    }

    fn open() -> SyncAsk {
        SyncAsk::Open { at: CLOCK, frame: frame() }
    }

    #[test]
    fn a_reconciliation_is_opened_before_it_goes_on() {
        let mut w = World::new();
        assert_eq!(w.code(9, SyncAsk::Next(frame())), RefusalCode::WrongState);
        assert_eq!(w.code(9, SyncAsk::Lacking(vec![[0; 32]])), RefusalCode::WrongState);
        let id = AdId::new(&peer(1), CLOCK.0 - 1_000).to_bytes();
        for ask in [open(), SyncAsk::Next(frame())] {
            let Ok(Reply::Say(SyncAnswer::Frame(answer))) = w.ask(9, ask) else { panic!("no frame") };
            assert!(answer.ends_with(&id), "the one advertisement is named");
        }
        assert_eq!(w.code(9, SyncAsk::Next(vec![0x61, 0, 0, 9])), RefusalCode::BadRequest);
        assert_eq!(w.code(9, SyncAsk::Next(frame())), RefusalCode::WrongState, "garbage ended it");
    }

    #[test]
    fn clocks_that_differ_too_much_are_told_so() {
        let mut w = World::new();
        for at in [CLOCK.0 - MAX_SKEW - 1, CLOCK.0 + MAX_SKEW + 1, 0, u64::MAX] {
            assert_eq!(w.code(9, SyncAsk::Open { at: UnixMillis(at), frame: frame() }), RefusalCode::BadRequest);
        }
        assert!(w.ask(9, SyncAsk::Open { at: UnixMillis(CLOCK.0 - MAX_SKEW), frame: frame() }).is_ok());
    }

    #[test]
    fn one_peer_opens_now_and_then_and_all_together_a_few() {
        let mut w = World::new();
        assert!(w.ask(100, open()).is_ok());
        assert_eq!(w.code(100, open()), RefusalCode::RateLimited);
        w.now += MIN_SPACING;
        assert!(w.ask(100, open()).is_ok());
        for other in 1..MAX_SERVED as u64 {
            assert!(w.ask(100 + other, open()).is_ok());
        }
        assert_eq!(w.code(999, open()), RefusalCode::RateLimited);
        w.now += SERVED_LIMIT;
        assert!(w.ask(999, open()).is_ok(), "what was left open is forgotten");
    }

    #[test]
    fn what_is_lacked_is_noted_where_it_is_news_and_never_more_than_a_book_holds() {
        let mut w = World::new();
        w.ask(9, open()).unwrap();
        let ids = [(1, CLOCK.0 - 1_000), (1, CLOCK.0), (2, CLOCK.0), (3, 5)];
        let ids = ids.map(|(number, seq)| AdId::new(&peer(number), seq));
        let Ok(Reply::Note(noted)) = w.ask(9, SyncAsk::Lacking(ids.map(AdId::to_bytes).to_vec())) else { panic!() };
        assert_eq!(noted, ids[1..3]);
        let many = vec![[7; 32]; wire::MAX_SYNC_IDS];
        let taken =
            std::iter::repeat_with(|| w.ask(9, SyncAsk::Lacking(many.clone()))).take_while(Result::is_ok).count();
        assert_eq!(taken, (MAX_LACKED - ids.len()) / wire::MAX_SYNC_IDS);
        assert_eq!(w.code(9, SyncAsk::Lacking(many)), RefusalCode::WrongState);
    }

    #[test]
    fn whoever_asks_for_an_advertisement_gets_it_or_a_newer_one_in_the_order_asked() {
        let mut w = World::new();
        let ids = [(1, 5), (2, CLOCK.0), (1, CLOCK.0 - 1_000), (1, CLOCK.0)];
        let ids = ids.map(|(number, seq)| AdId::new(&peer(number), seq).to_bytes());
        let Ok(Reply::Send(holders)) = w.ask(9, SyncAsk::Fetch(ids.to_vec())) else { panic!() };
        assert_eq!(holders, [Some(peer(1)), None, Some(peer(1)), None]);
    }
}
