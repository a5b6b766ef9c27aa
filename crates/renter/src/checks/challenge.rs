//! One check: a challenge to the program inside the sandbox, timed by this node's own clock, and what its verdict is worth. Wrong products
//! count at once. Slowness counts only where the offer has a measured figure, the renter's own program leaves the machine idle, and it is
//! seen twice. Whatever was not shown counts for nothing: connections break, and sandboxes end.

use super::asked::{Asked, OtherCards};
use api::types::{CheckOutcome, CheckedDevice, HardwareCheck};
use futures::future::BoxFuture;
use gpu::challenge::{
    Expectation, Miss, Nonces, Parties, Rate, Secrets, Seen, Verdict, Verifier, Work,
    program::{self, ProgramError},
};
use market::time::UnixMillis;
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::SyncIoBridge;

/// The level of verification that a challenge stands for: DESIGN §11.
const LEVEL: u8 = 2;

/// How long processors and cards may compute, whatever is known of them: many times what they are asked for.
const PROCESSORS_DEADLINE: Duration = Duration::from_secs(15);
const CARDS_DEADLINE: Duration = Duration::from_secs(40);

/// What a whole challenge may take beyond that before nothing is waited for any more: sending the program, and three more answers.
const BEYOND_DEADLINE: Duration = Duration::from_secs(5);

/// Between a challenge that was answered too slowly and its repetition: what disturbed it may be over by then.
const REPEAT_PAUSE: Duration = Duration::from_secs(5);

/// The machine that is checked.
pub(super) trait Machine: Sync {
    /// Starts the program in it.
    fn start(&self) -> BoxFuture<'_, Result<Started, String>>;
    /// Whether programs of the renter's own use it so much that a speed says nothing; looked at for a moment.
    fn is_busy(&self) -> BoxFuture<'_, bool>;
}

/// The program, started.
pub(super) struct Started {
    /// What it reads.
    pub(super) input: Box<dyn AsyncWrite + Send + Unpin>,
    /// What it writes.
    pub(super) output: Box<dyn AsyncRead + Send + Unpin>,
    /// To be awaited when it has answered something, and so does not need its file any more.
    pub(super) arrived: BoxFuture<'static, ()>,
    /// What it complained of, once its output has ended.
    pub(super) complaint: BoxFuture<'static, String>,
    /// Ends it when dropped.
    pub(super) _life: Box<dyn Send>,
}

/// Whether the check is beside the renter's program, and how long it pauses before it repeats a challenge.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) beside: bool,
    pub(super) repeat: Duration,
}

impl Pace {
    /// Beside the renter's program, or before it.
    pub(super) fn new(beside: bool) -> Self {
        Self { beside, repeat: REPEAT_PAUSE }
    }
}

/// The time since any fixed moment.
pub(super) type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Makes challenges, no two the same.
pub(super) struct Challenger {
    nonces: Mutex<Nonces>,
    clock: Clock,
}

impl Default for Challenger {
    fn default() -> Self {
        let start = Instant::now();
        Self::with_clock(Arc::new(move || start.elapsed()))
    }
}

/// What a challenge has shown.
enum Shown {
    /// Something.
    Verdict(Verdict),
    /// Nothing, and why.
    Nothing(String),
}

impl Shown {
    fn nothing(why: impl Into<String>) -> Self {
        Self::Nothing(why.into())
    }
}

impl Challenger {
    pub(super) fn with_clock(clock: Clock) -> Self {
        Self { nonces: Mutex::default(), clock }
    }

    /// Checks a machine of which this is asked, in the name of these peers: the renter, the provider.
    pub(super) async fn check(
        &self,
        machine: &impl Machine,
        asked: Result<Asked, &'static str>,
        peers: (&str, &str),
        pace: Pace,
    ) -> HardwareCheck {
        let at = UnixMillis::now();
        let (outcome, detail, devices) = match asked {
            Ok(asked) => self.judged(machine, &asked, peers, pace).await,
            Err(why) => (CheckOutcome::Unknown, why.to_owned(), vec![]),
        };
        HardwareCheck { at, level: LEVEL, outcome, detail: wire::shown(&detail), devices }
    }

    async fn judged(
        &self,
        machine: &impl Machine,
        asked: &Asked,
        peers: (&str, &str),
        pace: Pace,
    ) -> (CheckOutcome, String, Vec<CheckedDevice>) {
        let mut is_second = false;
        loop {
            let misses = match self.challenge(machine, asked, peers).await {
                Shown::Verdict(Verdict::Passed(seen)) => {
                    return (CheckOutcome::Passed, String::new(), asked.devices(seen));
                }
                Shown::Verdict(Verdict::Unmeasured(seen)) => {
                    let why = "the products are right; nobody has measured how fast such a machine is";
                    return (CheckOutcome::Unmeasured, why.to_owned(), asked.devices(seen));
                }
                Shown::Verdict(Verdict::Missed(misses)) => misses,
                Shown::Nothing(why) => return (CheckOutcome::Unknown, why, vec![]),
            };
            let (told, devices) = (told(&misses), slow(&misses));
            if misses.iter().any(|miss| matches!(miss, Miss::Refused { .. })) {
                return (CheckOutcome::Unknown, told, devices);
            }
            if !misses.iter().all(is_of_time) {
                return (CheckOutcome::Missed, told, devices);
            }
            if !asked.is_measured() {
                return (
                    CheckOutcome::Unknown,
                    format!("{told}; the offer has no figure to hold that against"),
                    devices,
                );
            }
            if pace.beside && machine.is_busy().await {
                return (CheckOutcome::Unknown, format!("{told}; but your own programs use the machine"), devices);
            }
            if is_second {
                return (CheckOutcome::Missed, told, devices);
            }
            is_second = true;
            tokio::time::sleep(pace.repeat).await;
        }
    }

    async fn challenge(&self, machine: &impl Machine, asked: &Asked, peers: (&str, &str)) -> Shown {
        let limit = asked.deadline() + BEYOND_DEADLINE;
        match tokio::time::timeout(limit, self.converse(machine, asked, peers)).await {
            Ok(shown) => shown,
            Err(_) => Shown::Nothing(format!("nothing came within {} s", limit.as_secs())),
        }
    }

    /// Starts the program, asks it, and looks at its answers. Dropped, it ends the program, and with it the threads that wait for it.
    async fn converse(&self, machine: &impl Machine, asked: &Asked, peers: (&str, &str)) -> Shown {
        let Started { input, output, arrived, complaint, _life } = match machine.start().await {
            Ok(started) => started,
            Err(why) => return Shown::Nothing(format!("the program could not be started there: {why}")),
        };
        let (clock, has_cards) = (Arc::clone(&self.clock), matches!(asked, Asked::Cards(_)));
        let met = blocking(move || {
            let (mut to, mut from) = (SyncIoBridge::new(input), SyncIoBridge::new(output));
            let round_trip = program::round_trip(&mut to, &mut from, &*clock)?;
            let cards = if has_cards { program::cards(&mut to, &mut from)? } else { Ok(vec![]) };
            Ok((to, from, round_trip, cards))
        });
        let (mut to, mut from, round_trip, cards) = match met.await {
            Ok(met) => met,
            Err(error) => return Shown::Nothing(format!("{error}: {}", complaint.await)),
        };
        arrived.await;
        let (work, expectations) = match (asked, cards) {
            (Asked::Processors(work, expectation), _) => (work.clone(), vec![expectation.clone()]),
            (Asked::Cards(_), Err(why)) => return Shown::Nothing(format!("no card answers: {why}")),
            (Asked::Cards(promised), Ok(shown)) => match promised.work(&shown) {
                Ok(work) => work,
                Err(OtherCards::Instances) => return Shown::nothing("programs see one instance of a card only"),
                Err(OtherCards::Fewer) => {
                    let (asked, answered) = (promised.count() as usize, shown.len());
                    return Shown::Verdict(Verdict::Missed(vec![Miss::OtherDevices { asked, answered }]));
                }
            },
        };
        let verifier = match self.verifier(work, expectations, peers, (asked.deadline(), round_trip)) {
            Ok(verifier) => verifier,
            Err(why) => return Shown::Nothing(why),
        };
        let clock = Arc::clone(&self.clock);
        match blocking(move || program::examine(verifier, &mut to, &mut from, &*clock)).await {
            Ok(verdict) => Shown::Verdict(verdict),
            Err(error) => Shown::Nothing(format!("{error}: {}", complaint.await)),
        }
    }

    fn verifier(
        &self,
        work: Work,
        expectations: Vec<Expectation>,
        (renter, provider): (&str, &str),
        (deadline, round_trip): (Duration, Duration),
    ) -> Result<Verifier, String> {
        let parties = Parties::new(rand::random(), renter.to_owned(), provider.to_owned());
        let parties = parties.map_err(|error| error.to_string())?;
        let secrets = Secrets { opening: rand::random(), recall: rand::random() };
        let nonces = &mut self.nonces.lock().unwrap_or_else(PoisonError::into_inner);
        Verifier::new(work, parties, expectations, deadline, round_trip, secrets, nonces)
            .map_err(|error| error.to_string())
    }
}

impl Asked {
    fn deadline(&self) -> Duration {
        match self {
            Self::Processors(..) => PROCESSORS_DEADLINE,
            Self::Cards(_) => CARDS_DEADLINE,
        }
    }

    fn model(&self) -> &str {
        match self {
            Self::Processors(_, expectation) => &expectation.model,
            Self::Cards(cards) => cards.model(),
        }
    }

    fn devices(&self, seen: Vec<Seen>) -> Vec<CheckedDevice> {
        let of = |seen: Seen| {
            let measured = matches!(seen.expected, Rate::Measured(_));
            let expected =
                Expectation { device: seen.device.clone(), model: self.model().to_owned(), rate: seen.expected };
            CheckedDevice {
                device: seen.device.to_string(),
                least: expected.floor().filter(|_| measured),
                model: expected.model,
                seen: seen.multiply_adds_per_second,
                held_bytes: seen.held_bytes,
            }
        };
        seen.into_iter().map(of).collect()
    }
}

/// Runs what blocks on a thread of its own.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ProgramError> + Send + 'static,
) -> Result<T, ProgramError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(ProgramError::Pipe(std::io::Error::other("the check's thread ended early"))))
}

fn is_of_time(miss: &Miss) -> bool {
    matches!(miss, Miss::Late { .. } | Miss::TooSlow { .. } | Miss::RecalledLate { .. })
}

fn told(misses: &[Miss]) -> String {
    misses.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The devices that were too slow.
fn slow(misses: &[Miss]) -> Vec<CheckedDevice> {
    let of = |miss: &Miss| match miss {
        Miss::TooSlow { device, model, seen, floor } => Some(CheckedDevice {
            device: device.to_string(),
            model: model.clone(),
            least: Some(*floor),
            seen: *seen,
            held_bytes: 0,
        }),
        _ => None,
    };
    misses.iter().filter_map(of).collect()
}
