//! See the module under test.

use super::*;

struct World {
    discovery: Discovery,
    provider: PeerId,
    announcer: PeerId,
    novelty: Novelty,
    now: Instant,
}

fn world() -> World {
    let discovery = Discovery::new(PeerId::random(), vec![None], Arc::default());
    let (provider, announcer) = (PeerId::random(), PeerId::random());
    World { discovery, provider, announcer, novelty: Novelty::Renewal, now: Instant::now() }
}

impl World {
    fn announce(&mut self, seq: u64) -> Reception {
        let announced = Announced {
            peer: self.provider,
            seq,
            expires: UnixMillis(u64::MAX),
            body_hash: B256::repeat_byte(seq as u8),
        };
        let message = MessageId::from(seq.to_be_bytes());
        let heard = Heard { announced, announcer: self.announcer, class: GpuClass::CPU, message };
        self.discovery.announced(heard, self.novelty, self.now)
    }

    fn gets(&mut self, others: &[PeerId]) -> Vec<(PeerId, Vec<PeerId>)> {
        self.discovery.next_gets(|_| true, |_| others.to_vec(), self.now)
    }
}

#[test]
fn each_source_is_asked_in_turn_and_never_two_at_once() {
    let (mut w, other) = (world(), PeerId::random());
    w.announce(1_000);
    for source in [w.announcer, w.provider, other] {
        assert_eq!(w.gets(&[other]), [(source, vec![w.provider])]);
        assert_eq!(w.gets(&[other]), [], "asked while a question is open");
        w.discovery.get_done(&source, &[w.provider]);
    }
    assert_eq!(w.gets(&[other]), [], "asked again without a pause");
    assert_eq!(w.gets(&[other]), []);
    w.now += FIRST_PAUSE;
    assert_eq!(w.gets(&[other]).len(), 1);
}

#[test]
fn what_nobody_has_is_given_up_and_may_be_announced_again() {
    let mut w = world();
    w.announce(1_000);
    for _ in 0..100 {
        for (source, subjects) in w.gets(&[]) {
            w.discovery.get_done(&source, &subjects);
        }
        w.now += FIRST_PAUSE;
    }
    assert!(w.discovery.is_idle());
    assert_eq!(w.discovery.counters.pulls_abandoned.get(), 1);
    w.announce(1_000);
    assert!(!w.discovery.is_idle());
}

#[test]
fn a_repetition_is_passed_on_but_a_flood_and_old_news_are_not() {
    let mut w = world();
    assert_eq!(w.announce(10_000), Reception::PassOn);
    assert_eq!(w.announce(10_000), Reception::PassOn);
    assert_eq!(w.announce(9_000), Reception::Ignore);
    assert_eq!(w.announce(10_000 + MIN_SEQ_STEP - 1), Reception::Ignore);
    assert_eq!(w.announce(10_000 + MIN_SEQ_STEP), Reception::PassOn);
}

#[test]
fn what_is_announced_must_be_what_comes() {
    let mut w = world();
    w.announce(7);
    assert!(w.discovery.agrees(&w.provider, 7, || B256::repeat_byte(7)));
    assert!(!w.discovery.agrees(&w.provider, 7, || B256::repeat_byte(8)));
    assert!(w.discovery.agrees(&w.provider, 8, || B256::repeat_byte(8)));
}

#[test]
fn who_does_not_answer_is_passed_over_and_who_answers_late_is_asked_no_second_time_meanwhile() {
    let (mut w, other) = (world(), PeerId::random());
    w.announce(1_000);
    assert_eq!(w.gets(&[other]), [(w.announcer, vec![w.provider])]);
    w.now += PATIENCE;
    assert_eq!(w.gets(&[other]), [(w.provider, vec![w.provider])]);
    w.now += PATIENCE;
    assert_eq!(w.gets(&[other]), [(other, vec![w.provider])]);
    for _ in 0..100 {
        w.now += PATIENCE;
        assert_eq!(w.gets(&[]), []);
    }
}

#[test]
fn a_late_answer_does_not_end_the_wait_for_another() {
    let mut w = world();
    w.announce(1_000);
    w.gets(&[]);
    w.now += PATIENCE;
    assert_eq!(w.gets(&[]).len(), 1);
    w.discovery.get_done(&w.announcer.clone(), &[w.provider]);
    assert_eq!(w.gets(&[]), [], "the provider has not answered yet");
}

#[test]
fn many_that_never_answer_do_not_keep_the_others_from_being_asked() {
    let mut w = world();
    for _ in 0..2 * MAX_ASKED {
        (w.provider, w.announcer) = (PeerId::random(), PeerId::random());
        w.announce(1_000);
    }
    assert_eq!(w.gets(&[]).len(), MAX_ASKED);
    assert_eq!(w.gets(&[]), []);
    w.now += PATIENCE;
    assert_eq!(w.gets(&[]).len(), MAX_ASKED);
}

#[test]
fn a_newcomer_is_passed_on_when_it_is_here_on_each_topic_that_named_it() {
    let mut w = world();
    w.novelty = Novelty::Newcomer;
    assert_eq!(w.announce(1_000), Reception::Wait);
    assert_eq!(w.announce(1_000), Reception::Wait);
    assert_eq!(w.discovery.have(&w.provider, 999), []);
    let waiting = (MessageId::from(1_000_u64.to_be_bytes()), w.announcer);
    assert_eq!(w.discovery.have(&w.provider, 1_000), [waiting.clone(), waiting]);
    assert_eq!(w.discovery.have(&w.provider, 1_000), []);
}

#[test]
fn a_neighbour_that_brings_too_many_newcomers_stands_back_for_the_others() {
    let mut w = world();
    w.novelty = Novelty::Newcomer;
    for _ in 0..MAX_NEWCOMERS {
        w.provider = PeerId::random();
        assert_eq!(w.announce(1_000), Reception::Wait);
    }
    w.provider = PeerId::random();
    assert_eq!(w.announce(1_000), Reception::Ignore);
    assert_eq!(w.discovery.counters.pulls_dropped.get(), 1);
    w.announcer = PeerId::random();
    assert_eq!(w.announce(1_000), Reception::Wait);
}
