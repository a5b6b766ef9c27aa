//! When each announcement was sent, and how long it took to each node. The nodes are watched from outside: what they tell `tracing`
//! about an announcement or an advertisement names its sequence number, and that is unique in a run.

use simulation::bare::Witness;
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
    subscriber::Interest,
};

/// One run: messages numbered from `first`, each of which is to reach `receivers` nodes.
#[derive(Debug)]
pub(crate) struct Arrivals {
    first: u64,
    receivers: u8,
    messages: Vec<Passage>,
}

/// One message on its way.
#[derive(Debug, Default)]
struct Passage {
    sent: Mutex<Option<Instant>>,
    arrived: AtomicU8,
    /// How long it took to each node that it reached.
    took: Mutex<Vec<Duration>>,
}

impl Arrivals {
    pub(crate) fn new(first: u64, count: usize, receivers: u8) -> Arc<Self> {
        let messages = (0..count).map(|_| Passage::default()).collect();
        Arc::new(Self { first, receivers, messages })
    }

    fn passage(&self, seq: u64) -> Option<&Passage> {
        self.messages.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    fn sent(&self, seq: u64) {
        if let Some(passage) = self.passage(seq) {
            *lock(&passage.sent) = Some(Instant::now());
        }
    }

    /// A node has it. Where it was put before it was sent does not count.
    fn arrived(&self, seq: u64) {
        let Some(passage) = self.passage(seq) else { return };
        let Some(sent) = *lock(&passage.sent) else { return };
        passage.arrived.fetch_add(1, Ordering::Relaxed);
        lock(&passage.took).push(sent.elapsed());
    }

    /// How many of them have reached every node.
    pub(crate) fn is_complete(&self) -> bool {
        self.messages.iter().all(|passage| passage.arrived.load(Ordering::Relaxed) >= self.receivers)
    }

    pub(crate) fn outcome(&self) -> Outcome {
        let mut took: Vec<Duration> = self.messages.iter().flat_map(|passage| lock(&passage.took).clone()).collect();
        took.sort_unstable();
        // one that came twice does not make up for one that did not come
        let delivered: usize = self
            .messages
            .iter()
            .map(|passage| usize::from(passage.arrived.load(Ordering::Relaxed).min(self.receivers)))
            .sum();
        let due = self.messages.len() * usize::from(self.receivers);
        let at = |share: f64| {
            let index = (took.len().saturating_sub(1)) as f64 * share;
            took.get(index.ceil() as usize).copied().unwrap_or(Duration::MAX)
        };
        Outcome { delivery: delivered as f64 / due as f64, p50: at(0.50), p99: at(0.99), worst: at(1.0) }
    }
}

/// What came of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) delivery: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) worst: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delivery, p50, p99, worst } = self;
        write!(f, "delivered {:.3} %, p50 {p50:.1?}, p99 {p99:.1?}, worst {worst:.1?}", delivery * 100.0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the nodes say when they have taken something: the message of the event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saying {
    /// An announcement was verified and is passed on.
    Announced,
    /// An advertisement is in the book.
    Taken,
}

/// Who is told, and of what.
type Listening = Option<(Saying, Arc<Arrivals>)>;

/// Listens to the nodes, and to nothing else.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listener(Arc<Mutex<Listening>>);

impl Listener {
    /// From now on, what says `saying` belongs to this run.
    pub(crate) fn listen(&self, saying: Saying, arrivals: &Arc<Arrivals>) {
        *lock(&self.0) = Some((saying, Arc::clone(arrivals)));
    }

    fn arrived(&self, saying: Saying, seq: u64) {
        let listening = lock(&self.0).clone();
        if let Some((wanted, arrivals)) = listening
            && saying == wanted
        {
            arrivals.arrived(seq);
        }
    }

    pub(crate) fn install(&self) -> anyhow::Result<()> {
        Ok(tracing::subscriber::set_global_default(self.clone())?)
    }
}

impl Witness for Listener {
    fn sent(&self, seq: u64) {
        if let Some((_, arrivals)) = &*lock(&self.0) {
            arrivals.sent(seq);
        }
    }

    fn heard(&self, seq: u64) {
        self.arrived(Saying::Announced, seq);
    }
}

#[derive(Default)]
struct Heard {
    seq: Option<u64>,
    saying: Option<Saying>,
}

impl Visit for Heard {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "seq" {
            self.seq = Some(value);
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "saw" {
            self.saying = match value {
                "announcement" => Some(Saying::Announced),
                "advertisement" => Some(Saying::Taken),
                _ => None,
            };
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

impl Subscriber for Listener {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.enabled(metadata) { Interest::always() } else { Interest::never() }
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target() == "network::saw"
    }

    fn event(&self, event: &Event<'_>) {
        let mut heard = Heard::default();
        event.record(&mut heard);
        if let (Some(seq), Some(saying)) = (heard.seq, heard.saying) {
            self.arrived(saying, seq);
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}
