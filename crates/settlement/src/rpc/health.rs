//! What is known of an endpoint, and what follows from it: whether it is asked, left alone for a while, or put aside. No I/O: the time is
//! given, so that the rules can be tested without waiting.

use std::time::{Duration, Instant};

/// How long an endpoint rests after its first failure: a reconnect takes no longer.
const FIRST_REST: Duration = Duration::from_secs(1);
/// Doubled with every further failure in a row, up to this: an endpoint that comes back is noticed within a minute.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// How an endpoint is dealt with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndpointState {
    /// It is asked.
    Good,
    /// It failed, and is asked again after a while; until then only when no other answers.
    Resting,
    /// It is far behind others: asked only after them.
    Lagging {
        /// How many blocks behind.
        blocks: u64,
    },
    /// It serves another chain: never asked, but looked at again from time to time.
    OtherChain {
        /// The chain id it gives.
        found: u64,
    },
}

/// One endpoint, for metrics and `node doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointHealth {
    /// Scheme, host and port: the rest of an endpoint's address is often a secret.
    pub endpoint: String,
    /// How it is dealt with.
    pub state: EndpointState,
    /// The newest block it gave.
    pub head: Option<u64>,
    /// How long its last answer took.
    pub latency: Option<Duration>,
    /// Questions answered since the start.
    pub answers: u64,
    /// Questions not answered, not in time, or with nonsense.
    pub failures: u64,
}

/// All endpoints of a chain, for metrics and `node doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainHealth {
    /// Each, in the configured order.
    pub endpoints: Vec<EndpointHealth>,
    /// How often a question went on to another endpoint because one failed.
    pub fail_overs: u64,
    /// How often two endpoints told different things where they must agree.
    pub disagreements: u64,
}

/// What is remembered of one endpoint.
#[derive(Debug)]
pub(super) struct Health {
    /// Whether it has told the right chain id since it was last unreachable.
    verified: bool,
    other_chain: Option<u64>,
    lag: Option<u64>,
    /// Failures in a row that mean it is down.
    down: u32,
    rests_until: Option<Instant>,
    /// Whether somebody looks at the moment whether it is back.
    probed: bool,
    head: Option<u64>,
    latency: Option<Duration>,
    answers: u64,
    failures: u64,
}

/// How an endpoint failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, no answer in time, or nothing that is an answer: the same awaits the next question.
    Down,
    /// It answered that it cannot answer this one question.
    Refused,
}

impl Health {
    pub(super) const fn new() -> Self {
        Self {
            verified: false,
            other_chain: None,
            lag: None,
            down: 0,
            rests_until: None,
            probed: false,
            head: None,
            latency: None,
            answers: 0,
            failures: 0,
        }
    }

    pub(super) fn state(&self) -> EndpointState {
        match (self.other_chain, self.rests_until, self.lag) {
            (Some(found), _, _) => EndpointState::OtherChain { found },
            (None, Some(_), _) => EndpointState::Resting,
            (None, None, Some(blocks)) => EndpointState::Lagging { blocks },
            (None, None, None) => EndpointState::Good,
        }
    }

    /// Whether its chain id must be asked for before anything else.
    pub(super) const fn verified(&self) -> bool {
        self.verified
    }

    pub(super) fn answered(&mut self, latency: Duration) {
        self.answers += 1;
        self.latency = Some(latency);
        if self.other_chain.is_none() {
            (self.down, self.rests_until, self.probed) = (0, None, false);
        }
    }

    /// Counts a failure; true when the endpoint was good until now.
    pub(super) fn failed(&mut self, how: Failure, now: Instant) -> bool {
        self.failures += 1;
        if how == Failure::Refused {
            return false;
        }
        self.verified = false;
        self.rest(now)
    }

    fn rest(&mut self, now: Instant) -> bool {
        if self.rests_until.is_some_and(|until| until > now) {
            // one of several questions that fail together
            return false;
        }
        self.probed = false;
        let doubled = FIRST_REST.saturating_mul(1 << self.down.min(8));
        self.down = self.down.saturating_add(1);
        self.rests_until.replace(now + doubled.min(LONGEST_REST)).is_none()
    }

    /// It told the right chain id. True when it was on another chain before.
    pub(super) const fn right_chain(&mut self) -> bool {
        self.verified = true;
        self.other_chain.take().is_some()
    }

    /// It told another chain id. True when that is news.
    pub(super) fn wrong_chain(&mut self, found: u64, now: Instant) -> bool {
        self.rest(now);
        self.other_chain.replace(found) != Some(found)
    }

    /// Its newest block is known. True when whether it lags has changed.
    pub(super) fn head(&mut self, number: u64, lag: Option<u64>) -> bool {
        self.head = Some(number);
        std::mem::replace(&mut self.lag, lag).is_some() != lag.is_some()
    }

    /// Whether its rest is over, so that somebody should look whether it is back. Says so once for each rest.
    pub(super) fn should_be_probed(&mut self, now: Instant) -> bool {
        let due = !self.probed && self.rests_until.is_some_and(|until| until <= now);
        self.probed |= due;
        due
    }

    pub(super) fn shown(&self, endpoint: String) -> EndpointHealth {
        let Self { head, latency, answers, failures, .. } = *self;
        EndpointHealth { endpoint, state: self.state(), head, latency, answers, failures }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_fails_rests_longer_each_time_up_to_a_limit() {
        let (mut health, mut now) = (Health::new(), Instant::now());
        assert!(health.failed(Failure::Down, now), "it was good");
        let mut rests = Vec::new();
        for _ in 0..8 {
            let began = now;
            while !health.should_be_probed(now) {
                now += Duration::from_secs(1);
            }
            rests.push((now - began).as_secs());
            assert!(!health.should_be_probed(now), "one probe for each rest");
            assert!(!health.failed(Failure::Down, now), "it was resting");
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn an_answer_ends_the_rest_and_forgets_the_failures() {
        let (mut health, now) = (Health::new(), Instant::now());
        for second in 0..5 {
            health.failed(Failure::Down, now + Duration::from_secs(second * 60));
        }
        assert_eq!(health.state(), EndpointState::Resting);
        health.answered(Duration::from_millis(3));
        assert_eq!(health.state(), EndpointState::Good);
        health.failed(Failure::Down, now);
        assert!(health.should_be_probed(now + FIRST_REST), "as after the first failure");
        assert_eq!((health.answers, health.failures), (1, 6));
    }

    #[test]
    fn questions_that_fail_together_are_one_reason_to_rest() {
        let (mut health, now) = (Health::new(), Instant::now());
        for _ in 0..20 {
            health.failed(Failure::Down, now);
        }
        assert_eq!(health.failures, 20);
        assert!(health.should_be_probed(now + FIRST_REST));
    }

    #[test]
    fn a_question_that_is_refused_is_counted_and_no_reason_to_rest() {
        let mut health = Health::new();
        assert!(!health.failed(Failure::Refused, Instant::now()));
        assert_eq!((health.state(), health.failures), (EndpointState::Good, 1));
    }

    #[test]
    fn an_endpoint_of_another_chain_stays_aside_until_it_tells_the_right_one() {
        let (mut health, now) = (Health::new(), Instant::now());
        assert!(health.wrong_chain(1, now));
        assert!(!health.wrong_chain(1, now), "no news");
        health.answered(Duration::ZERO);
        assert_eq!(health.state(), EndpointState::OtherChain { found: 1 });
        assert!(health.should_be_probed(now + LONGEST_REST), "it is looked at again");
        assert!(health.right_chain());
        health.answered(Duration::ZERO);
        assert_eq!(health.state(), EndpointState::Good);
    }

    #[test]
    fn an_endpoint_that_lags_is_put_aside_until_it_keeps_up() {
        let mut health = Health::new();
        assert!(health.head(7, Some(100)));
        assert!(!health.head(8, Some(120)), "no news");
        assert_eq!(health.state(), EndpointState::Lagging { blocks: 120 });
        assert!(health.head(128, None));
        assert_eq!(health.state(), EndpointState::Good);
    }
}
