//! What one schedule is like: its numbers, its faults, who cheats, and which bug is planted.

use crate::{bugs::Bug, random::Random};

/// The wall clock when a schedule begins, in Unix milliseconds.
pub(crate) const BEGIN: u64 = 1_800_000_000_000;

/// A connection that is quick: nobody notices it.
const SHORT_DELAY: u64 = 50;

/// One of the two who matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Provider,
    Renter,
}

/// How a provider cheats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProviderVice {
    /// Goes away for good at the planned crash.
    Vanishes,
    /// Takes the opening and never makes a sandbox.
    NeverReady,
    /// Says that the meter began long ago.
    BackdatesReady,
    /// Signs the release and never closes.
    NeverCloses,
    /// Closes with the first voucher it got.
    ClosesWithOld,
    /// Does not answer the end.
    RefusesRelease,
    /// Signs acks with another key.
    ForgesAcks,
    /// Signs the release with another key.
    ForgesRelease,
    /// Signs a release of the whole deposit and waits for the renter to use it.
    GreedyRelease,
    /// Takes vouchers and does not acknowledge them.
    Silent,
    /// Serves nobody, and never ends a rental: it takes whatever is signed and answers.
    NeverEnds,
    /// Claims part-way whenever it can, and goes away.
    Claims,
}

const PROVIDER_VICES: [ProviderVice; 12] = [
    ProviderVice::Vanishes,
    ProviderVice::NeverReady,
    ProviderVice::BackdatesReady,
    ProviderVice::NeverCloses,
    ProviderVice::ClosesWithOld,
    ProviderVice::RefusesRelease,
    ProviderVice::ForgesAcks,
    ProviderVice::ForgesRelease,
    ProviderVice::GreedyRelease,
    ProviderVice::Silent,
    ProviderVice::NeverEnds,
    ProviderVice::Claims,
];

/// How a renter cheats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RenterVice {
    /// Signs a few vouchers and no more.
    StopsSigning,
    /// Signs half of what it owes.
    SignsLow,
    /// Signs with another key.
    Forges,
    /// Sends its first voucher again in between.
    Replays,
    /// Is not heard of after the opening.
    VanishesAfterOpening,
    /// Opens, and stops on chain at once.
    OpensAndStops,
    /// Signs for more than the deposit.
    Overdraws,
}

const RENTER_VICES: [RenterVice; 7] = [
    RenterVice::StopsSigning,
    RenterVice::SignsLow,
    RenterVice::Forges,
    RenterVice::Replays,
    RenterVice::VanishesAfterOpening,
    RenterVice::OpensAndStops,
    RenterVice::Overdraws,
];

/// A crash to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outage {
    pub(crate) at: u64,
    /// How many more points of the program are passed before it dies.
    pub(crate) fuse: u32,
    /// How long it stays away.
    pub(crate) down: u64,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) bug: Option<Bug>,
    pub(crate) increment_millis: u32,
    pub(crate) ready_seconds: u32,
    pub(crate) frozen_seconds: u32,
    pub(crate) rental_seconds: u32,
    pub(crate) rate: u128,
    pub(crate) rentals: u8,
    /// What a clock shows beyond the true time, in milliseconds; of provider and renter.
    pub(crate) offset: [i64; 2],
    /// By how much it gains, in millionths.
    pub(crate) drift: [i64; 2],
    /// How often the provider looks at its meters.
    pub(crate) provider_tick: u64,
    pub(crate) block_millis: u64,
    /// Blocks until one counts, itself included. Only in schedules that say so is a reorganisation as deep.
    pub(crate) confirmations: u64,
    pub(crate) reorg_percent: u64,
    /// The chance that a block takes a waiting transaction.
    pub(crate) inclusion_percent: u64,
    pub(crate) loss_percent: u64,
    pub(crate) duplicate_percent: u64,
    /// The longest a message takes.
    pub(crate) delay: u64,
    pub(crate) provider_vice: Option<ProviderVice>,
    pub(crate) renter_vice: Option<RenterVice>,
    /// Does not come back from its first crash.
    pub(crate) dies: Option<Side>,
    pub(crate) outages: Vec<(Side, Outage)>,
    /// Whether the chain takes back what counted, now and then.
    pub(crate) deep: bool,
    /// Unclaimed earnings that the provider finds worth a claim, in seconds of service.
    pub(crate) worth_claiming: Option<u64>,
    /// The notice that interruptible rentals get; 0 where there are none.
    pub(crate) notice_seconds: u32,
    /// Whether the renter has no coin for gas, and lets the provider open.
    pub(crate) mandated: bool,
    /// From here on messages arrive, nobody crashes, and the chain does not go back.
    pub(crate) calm: u64,
}

impl Plan {
    /// The schedule of a seed.
    pub(crate) fn of(seed: u64, bug: Option<Bug>) -> Self {
        let mut r = Random::seeded(seed);
        let calm = BEGIN + r.range(60_000, 300_000);
        let cheat = r.range(0, 10);
        let provider_vice = (cheat < 3).then(|| r.pick(&PROVIDER_VICES));
        let renter_vice = (3..5).contains(&cheat).then(|| r.pick(&RENTER_VICES));
        let dies = match r.range(0, 12) {
            0 => Some(Side::Provider),
            1 => Some(Side::Renter),
            _ => None,
        };
        // a schedule of faults, or one that tests what is left when nothing goes wrong
        let rough = r.percent(80);
        let crashes = if rough { r.range(0, 6) } else { 0 };
        let mut outages: Vec<_> = (0..crashes)
            .map(|_| {
                let side = r.pick(&[Side::Provider, Side::Renter]);
                let at = BEGIN + r.range(0, calm - BEGIN);
                let down = r.pick(&[500, 3_000, 12_000, 40_000, 100_000]);
                (side, Outage { at, fuse: r.range(0, 12) as u32, down: r.range(down / 4, down) })
            })
            .collect();
        let leaves = dies.or(match provider_vice {
            Some(ProviderVice::Vanishes | ProviderVice::Claims) => Some(Side::Provider),
            _ => None,
        });
        if let Some(side) = leaves {
            outages.push((side, Outage { at: BEGIN + r.range(0, calm - BEGIN), fuse: r.range(0, 12) as u32, down: 0 }));
        }
        let skewed = r.percent(50);
        let mut skew = |limit: i64| if skewed { r.around_zero(limit) } else { 0 };
        let (offset, drift) = ([skew(15_000), skew(15_000)], [skew(200), skew(200)]);
        Self {
            seed,
            bug,
            increment_millis: r.pick(&[4_000, 10_000, 10_000]),
            ready_seconds: r.pick(&[5, 20]),
            frozen_seconds: r.pick(&[10, 60]),
            rental_seconds: r.range(8, 45) as u32,
            rate: r.pick(&[333_333, 1_000_000, 7_654_321]),
            rentals: r.pick(&[1, 1, 2, 3]),
            offset,
            drift,
            provider_tick: r.pick(&[100, 250, 500]),
            block_millis: r.pick(&[1_000, 2_000, 5_000, 12_000]),
            confirmations: r.range(2, 5),
            reorg_percent: if rough { r.pick(&[0, 5, 20]) } else { 0 },
            inclusion_percent: r.pick(&[30, 80, 100]),
            loss_percent: if rough { r.pick(&[0, 3, 25]) } else { 0 },
            duplicate_percent: if rough { r.pick(&[0, 10]) } else { 0 },
            delay: r.pick(&[SHORT_DELAY, 500, 3_000]),
            provider_vice,
            renter_vice,
            dies: leaves,
            outages,
            calm,
            deep: rough && r.percent(20),
            worth_claiming: r.percent(30).then(|| r.range(1, 20)),
            mandated: r.percent(25),
            notice_seconds: r.pick(&[0, 0, 1, 5]),
        }
    }

    /// Whether a side keeps to the rules. A side that dies keeps to them until then.
    pub(crate) fn honest(&self, side: Side) -> bool {
        match side {
            Side::Provider => self.provider_vice.is_none(),
            Side::Renter => self.renter_vice.is_none(),
        }
    }

    /// Whether a side keeps to the rules and is there in the end.
    pub(crate) fn stays(&self, side: Side) -> bool {
        self.honest(side) && self.dies != Some(side)
    }

    /// Whether nothing goes wrong but clocks that differ: then nobody who pays may be frozen.
    pub(crate) fn is_smooth(&self) -> bool {
        let stay = self.stays(Side::Provider) && self.stays(Side::Renter);
        stay && !self.deep && self.outages.is_empty() && self.loss_percent == 0 && self.delay <= SHORT_DELAY
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}
