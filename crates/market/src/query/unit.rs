//! Kinds of fields and the units in which people write their numbers. A number is kept in the smallest unit of its field as a whole; what
//! is written is an exact fraction of it, and whatever lies between two whole numbers is decided by which side it is asked from.

/// How a field is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// A number with units.
    Number(&'static Unit),
    /// One of several names, each more than the one before.
    Level(&'static [&'static str]),
    /// True or false.
    Flag,
    /// Numbers between points; what is written may leave the last ones open.
    Version,
    /// A compute capability: a number, or the target of compiled code, which is asked of the field `sm_code`.
    Capability,
    /// Words.
    Text(Match),
    /// A peer id.
    Provider,
    /// An address of a wallet.
    Wallet,
}

/// When a text is what was asked for; upper and lower case are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// It is the whole of it.
    Whole,
    /// It stands in it.
    Part,
    /// It is one of its items.
    Item,
    /// Code compiled for it runs on every item.
    Target,
}

/// How the numbers of a field are written.
#[derive(Debug)]
pub(crate) struct Unit {
    /// What a number without a unit is multiplied with to give the field's smallest unit.
    pub(crate) bare: (i128, i128),
    /// What follows a number where it is shown.
    pub(crate) shown: &'static str,
    /// The units that may follow a number, in lower case.
    pub(crate) names: &'static [(&'static str, (i128, i128))],
    /// Whether its numbers may need 64 bits.
    pub(crate) wide: bool,
}

impl Unit {
    const fn new(bare: i128, shown: &'static str, names: &'static [(&'static str, (i128, i128))]) -> Self {
        Self { bare: (bare, 1), shown, names, wide: false }
    }
}

impl PartialEq for Unit {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

const MIB: i128 = 1 << 20;

pub(crate) const COUNT: &Unit = &Unit::new(1, "", &[]);
/// Vendors' gigabytes are the driver's gibibytes, less what the driver keeps: 81,559 MiB is a card of 80 GB.
pub(crate) const VRAM: &Unit = &Unit::new(1, "GB", &[("gb", (1, 1)), ("gib", (1, 1)), ("g", (1, 1))]);
pub(crate) const MEMORY: &Unit = &Unit::new(
    1_024,
    "GiB",
    &[
        ("mib", (1, 1)),
        ("gib", (1_024, 1)),
        ("tib", (1_024 * 1_024, 1)),
        ("mb", (1_000_000, MIB)),
        ("gb", (1_000_000_000, MIB)),
        ("tb", (1_000_000_000_000, MIB)),
    ],
);
pub(crate) const PROCESSORS: &Unit = &Unit::new(1_000, "", &[]);
pub(crate) const POWER: &Unit = &Unit::new(1, "W", &[("w", (1, 1)), ("kw", (1_000, 1))]);
pub(crate) const CUDA: &Unit = &Unit::new(10, "", &[]);
pub(crate) const TFLOPS: &Unit = &Unit::new(
    10,
    "TFLOP/s",
    &[
        ("gflops", (1, 100)),
        ("tflops", (10, 1)),
        ("pflops", (10_000, 1)),
        ("tflop/s", (10, 1)),
        ("pflop/s", (10_000, 1)),
    ],
);
pub(crate) const MEMORY_SPEED: &Unit =
    &Unit::new(1, "GB/s", &[("gb/s", (1, 1)), ("tb/s", (1_000, 1)), ("gb", (1, 1)), ("tb", (1_000, 1))]);
pub(crate) const DISK_SPEED: &Unit =
    &Unit::new(1, "MB/s", &[("mb/s", (1, 1)), ("gb/s", (1_000, 1)), ("mb", (1, 1)), ("gb", (1_000, 1))]);
pub(crate) const BANDWIDTH: &Unit = &Unit::new(
    1,
    "Mbit/s",
    &[
        ("kbit", (1, 1_000)),
        ("mbit", (1, 1)),
        ("gbit", (1_000, 1)),
        ("mbit/s", (1, 1)),
        ("gbit/s", (1_000, 1)),
        ("mbps", (1, 1)),
        ("gbps", (1_000, 1)),
    ],
);
pub(crate) const SECONDS: &Unit = &Unit::new(1, "s", TIMES);
pub(crate) const HOURS: &Unit = &Unit::new(3_600, "h", TIMES);
pub(crate) const MILLISECONDS: &Unit = &Unit::new(
    1_000,
    "s",
    &[("ms", (1, 1)), ("s", (1_000, 1)), ("m", (60_000, 1)), ("h", (3_600_000, 1)), ("d", (86_400_000, 1))],
);
const TIMES: &[(&str, (i128, i128))] =
    &[("s", (1, 1)), ("m", (60, 1)), ("min", (60, 1)), ("h", (3_600, 1)), ("d", (86_400, 1)), ("w", (604_800, 1))];
pub(crate) const SHARE: &Unit = &Unit::new(1_000_000, "", &[("%", (10_000, 1))]);
pub(crate) const STARS: &Unit = &Unit::new(1_000, "", &[]);
pub(crate) const PERCENT: &Unit = &Unit::new(100, "%", &[("%", (100, 1)), ("bp", (1, 1))]);
pub(crate) const MONEY: &Unit = &Unit { wide: true, ..Unit::new(1_000_000_000, "", &[]) };
pub(crate) const PER_SPEED: &Unit = &Unit { wide: true, ..Unit::new(1_000_000_000_000, "", &[]) };
