//! What came of a run, and how two are compared.

use crate::{
    provider::Published,
    world::{KNOWN_WITHIN, Micros},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

/// One offer and who came to know it.
#[derive(Clone, Debug)]
pub struct Offer {
    /// What was published.
    pub published: Published,
    /// When.
    pub at: Micros,
    /// Whether its provider was known already.
    pub renews: bool,
    /// Who followed its class at that time.
    pub audience: BTreeSet<usize>,
    /// How long it took to whom.
    pub known: BTreeMap<usize, Micros>,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every offer.
    pub offers: Vec<Offer>,
    /// The honest nodes that were there to the end.
    pub live: BTreeSet<usize>,
    /// Advertisements in their books.
    pub held: usize,
    /// Of those, the ones that no honest provider has signed like that.
    pub untrue: usize,
    /// What happened in all.
    pub events: u64,
}

/// How long it took, over all offers and everyone who should know them. The last are those to whom an offer never came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delays(Vec<Micros>);

/// It never came.
const NEVER: Micros = Micros::MAX;

impl Delays {
    /// Of these delays.
    pub fn new(mut delays: Vec<Micros>) -> Self {
        delays.sort_unstable();
        Self(delays)
    }

    /// All of these together.
    pub fn merge(all: Vec<Self>) -> Self {
        Self::new(all.into_iter().flat_map(|delays| delays.0).collect())
    }

    /// The delay that this share stays within.
    pub fn at(&self, share: f64) -> Duration {
        let index = (self.0.len().saturating_sub(1) as f64 * share).ceil() as usize;
        self.0.get(index).map_or(Duration::MAX, |delay| Duration::from_micros(*delay))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// To how many an offer never came.
    pub fn never(&self) -> usize {
        self.0.len() - self.0.partition_point(|delay| *delay < NEVER)
    }

    /// The share within the time in which an offer must be known.
    pub fn in_time(&self) -> f64 {
        let in_time = self.0.partition_point(|delay| *delay <= KNOWN_WITHIN);
        in_time as f64 / self.0.len() as f64
    }
}

impl fmt::Display for Delays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for share in [0.50, 0.90, 0.99, 0.999] {
            write!(f, "p{} {:.0} ms, ", share * 100.0, self.at(share).as_secs_f64() * 1_000.0)?;
        }
        write!(f, "{:.3} % of {} within 5 s, {} never", self.in_time() * 100.0, self.len(), self.never())
    }
}

impl Report {
    /// The delays of the offers that pass a test; of live nodes only, and for ever where one never came to know.
    pub fn delays(&self, which: impl Fn(&Offer) -> bool) -> Delays {
        let delays = self.offers.iter().filter(|offer| which(offer)).flat_map(|offer| {
            let live = offer.audience.intersection(&self.live);
            live.map(|place| offer.known.get(place).copied().unwrap_or(NEVER))
        });
        Delays::new(delays.collect())
    }
}
