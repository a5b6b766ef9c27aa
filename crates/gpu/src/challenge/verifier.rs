//! The verifier's side, as a chain of states without clocks, randomness or input and output of its own: each takes an answer with the time
//! that it took, and gives the next state or the verdict.

use super::{
    digest::Digest,
    expectation::{Expectation, Rate},
    inspection::Inspection,
    message::{Committed, Opened, Recalled, Request},
    nonces::{NonceSpent, Nonces},
    stream::Binding,
    verdict::{Miss, Seen, Verdict},
    work::{Device, Parties, Work},
};
use std::time::Duration;

/// Allowed beyond the computation: two messages, threads that must wake up, a busy machine.
const COMPUTE_SLACK: Duration = Duration::from_millis(1_000);

/// Allowed for the digests of the whole memory: this share of the time that the computation took. A card reads and hashes its memory
/// thirty times as fast as it fills it, a processor seven times at sizes of 512 and more.
const RECALL_SHARE: u32 = 6;

/// And this on top of it.
const RECALL_SLACK: Duration = Duration::from_millis(500);

/// The most that is believed of the way to the prover and back: once around the world by satellite.
const MAX_ROUND_TRIP: Duration = Duration::from_millis(800);

/// Random bytes that nobody may know before they are sent.
#[derive(Clone, Copy)]
pub struct Secrets {
    /// Chooses what is shown of the products, and is the key of the digests of the memory.
    pub opening: [u8; 32],
    /// Chooses the digests that are checked.
    pub recall: [u8; 32],
}

/// A challenge that cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChallengeError {
    /// It would be the same as an earlier one.
    #[error(transparent)]
    Nonce(#[from] NonceSpent),
    /// The expectations are about other devices.
    #[error("each device of the work needs one expectation, in the same order")]
    Expectations,
}

/// A challenge as the verifier knows it.
struct Terms {
    work: Work,
    parties: Parties,
    expectations: Vec<Expectation>,
    deadline: Duration,
    round_trip: Duration,
    opening: Digest,
    recall: Digest,
}

/// A challenge that was made and not answered yet.
pub struct Verifier(Box<Terms>);

/// The prover has committed to what it computed.
pub struct AwaitingOpening {
    terms: Box<Terms>,
    roots: Vec<Digest>,
    computed_in: Duration,
}

/// The prover has shown the samples, and committed to the digests of its memory.
pub struct AwaitingRecall {
    terms: Box<Terms>,
    roots: Vec<Digest>,
    recalled: Vec<Digest>,
    computed_in: Duration,
}

impl Verifier {
    /// A new challenge. `deadline` bounds the computation whatever is known of the devices; `round_trip` is the time that a message and
    /// its answer are known to be on their way, measured where the prover cannot stretch it.
    pub fn new(
        work: Work,
        parties: Parties,
        expectations: Vec<Expectation>,
        deadline: Duration,
        round_trip: Duration,
        secrets: Secrets,
        nonces: &mut Nonces,
    ) -> Result<Self, ChallengeError> {
        let asked = work.shares().iter().map(|share| &share.device);
        if !asked.eq(expectations.iter().map(|expectation| &expectation.device)) {
            return Err(ChallengeError::Expectations);
        }
        nonces.spend(parties.nonce())?;
        let round_trip = round_trip.min(MAX_ROUND_TRIP);
        let (opening, recall) = (secrets.opening.into(), secrets.recall.into());
        Ok(Self(Box::new(Terms { work, parties, expectations, deadline, round_trip, opening, recall })))
    }

    /// The first request, which is not timed.
    pub fn preparation(&self) -> Request {
        Request::Prepare(self.0.work.clone())
    }

    /// The second, with which the clock starts.
    pub fn beginning(&self) -> Request {
        Request::Begin(self.0.parties.clone())
    }

    /// Takes the commitments.
    pub fn committed(self, answer: &Committed, took: Duration) -> Result<AwaitingOpening, Verdict> {
        let terms = self.0;
        let computed_in = took.saturating_sub(terms.round_trip);
        if answer.nonce != terms.parties.nonce() {
            return Err(Verdict::Missed(vec![Miss::OtherChallenge]));
        }
        terms.are_asked(answer.devices.iter().map(|commitment| &commitment.device))?;
        terms.in_time(computed_in)?;
        let roots = answer.devices.iter().map(|commitment| commitment.root).collect();
        Ok(AwaitingOpening { terms, roots, computed_in })
    }
}

impl AwaitingOpening {
    /// The third request, with which the clock starts again.
    pub fn request(&self) -> Request {
        Request::Open(self.terms.opening)
    }

    /// How long the answer may take.
    pub fn limit(&self) -> Duration {
        self.computed_in / RECALL_SHARE + RECALL_SLACK + self.terms.round_trip
    }

    /// Takes the samples, and checks them: the longest computation of the verifier.
    pub fn opened(self, answer: &Opened, took: Duration) -> Result<AwaitingRecall, Verdict> {
        let limit = self.limit();
        if took > limit {
            return Err(Verdict::Missed(vec![Miss::RecalledLate {
                took_millis: took.as_millis() as u64,
                limit_millis: limit.as_millis() as u64,
            }]));
        }
        let Self { terms, roots, computed_in } = self;
        terms.are_asked(answer.devices.iter().map(|opening| &opening.device))?;
        let openings = terms.inspections(&roots).zip(&answer.devices);
        verdict_of(openings.map(|(inspection, opening)| inspection.samples(terms.opening, &opening.samples)))?;
        let recalled = answer.devices.iter().map(|opening| opening.recalled).collect();
        Ok(AwaitingRecall { terms, roots, recalled, computed_in })
    }
}

impl AwaitingRecall {
    /// The last request.
    pub fn request(&self) -> Request {
        Request::Recall(self.terms.recall)
    }

    /// Takes the last answer. How long it took does not matter: nothing can be changed any more.
    pub fn recalled(self, answer: &Recalled) -> Verdict {
        self.inspect(answer).err().unwrap_or_else(|| self.terms.verdict(self.computed_in))
    }

    fn inspect(&self, answer: &Recalled) -> Result<(), Verdict> {
        self.terms.are_asked(answer.devices.iter().map(|recollection| &recollection.device))?;
        let recollections = self.terms.inspections(&self.roots).zip(&self.recalled).zip(&answer.devices);
        verdict_of(recollections.map(|((inspection, recalled), recollection)| {
            let keys = (self.terms.opening, self.terms.recall);
            inspection.chunks(keys, *recalled, &recollection.chunks)
        }))
    }
}

/// Every device's first miss, or nothing.
fn verdict_of(found: impl Iterator<Item = Result<(), Miss>>) -> Result<(), Verdict> {
    let misses: Vec<Miss> = found.filter_map(Result::err).collect();
    if misses.is_empty() { Ok(()) } else { Err(Verdict::Missed(misses)) }
}

impl Terms {
    /// Each device against its commitment.
    fn inspections<'a>(&'a self, roots: &'a [Digest]) -> impl Iterator<Item = Inspection<'a>> {
        self.work.shares().iter().zip(roots).map(|(share, root)| Inspection {
            binding: Binding::new(&self.parties, &self.work, share),
            size: self.work.size(),
            share,
            root: *root,
        })
    }

    /// Whether exactly the devices answered that were asked.
    fn are_asked<'a>(&self, answered: impl ExactSizeIterator<Item = &'a Device>) -> Result<(), Verdict> {
        let (asked, answered_count) = (self.work.shares(), answered.len());
        if answered.eq(asked.iter().map(|share| &share.device)) {
            return Ok(());
        }
        Err(Verdict::Missed(vec![Miss::OtherDevices { asked: asked.len(), answered: answered_count }]))
    }

    /// Whether the computation was in time: all devices work at once, so the slowest of them sets the limit.
    fn in_time(&self, took: Duration) -> Result<(), Verdict> {
        if took > self.deadline {
            let (took_millis, limit_millis) = (took.as_millis() as u64, self.deadline.as_millis() as u64);
            return Err(Verdict::Missed(vec![Miss::Late { took_millis, limit_millis }]));
        }
        let limit = |(share, expectation): (_, &Expectation)| expectation.limit(self.work.multiply_adds(share));
        let limits: Option<Vec<Duration>> = self.work.shares().iter().zip(&self.expectations).map(limit).collect();
        let slowest = limits.and_then(|limits| limits.into_iter().max());
        if slowest.is_none_or(|limit| took <= limit + COMPUTE_SLACK) {
            return Ok(());
        }
        let slow = self.work.shares().iter().zip(&self.expectations).filter_map(|(share, expectation)| {
            let (seen, floor) = (rate(self.work.multiply_adds(share), took), expectation.floor()?);
            let (device, model) = (share.device.clone(), expectation.model.clone());
            (seen < floor).then_some(Miss::TooSlow { device, model, seen, floor })
        });
        Err(Verdict::Missed(slow.collect()))
    }

    fn verdict(&self, computed_in: Duration) -> Verdict {
        let seen = self.work.shares().iter().zip(&self.expectations).map(|(share, expectation)| Seen {
            device: share.device.clone(),
            expected: expectation.rate,
            multiply_adds_per_second: rate(self.work.multiply_adds(share), computed_in),
            held_bytes: self.work.bytes(share),
        });
        let seen: Vec<Seen> = seen.collect();
        let measured = self.expectations.iter().all(|expectation| matches!(expectation.rate, Rate::Measured(_)));
        if measured { Verdict::Passed(seen) } else { Verdict::Unmeasured(seen) }
    }
}

fn rate(multiply_adds: u64, took: Duration) -> u64 {
    u64::try_from(u128::from(multiply_adds) * 1_000_000 / took.as_micros().max(1)).unwrap_or(u64::MAX)
}
