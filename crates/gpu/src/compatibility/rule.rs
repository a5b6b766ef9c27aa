//! Which image runs on which card.

use super::{CudaVersion, Device};
use crate::fatbin::{Code, Features, Image, PtxVersion, Target};

/// Cards of small computers and cars, whose machine code is their own: the documentation promises compatibility among other cards
/// alone.
const TEGRA: [u32; 4] = [53, 62, 72, 87];

/// How an image gets on with a card, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// Runs as it is.
    Native,
    /// The driver compiles it.
    Jit,
    /// A driver for this version would compile it.
    NeedsDriver(CudaVersion),
    /// Nobody can tell.
    Unknown(Doubt),
    /// Cannot run.
    No,
}

/// Why nobody can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Doubt {
    /// The driver's version is not known, and matters.
    Driver(CudaVersion),
    /// A version of PTX that came after this program.
    Isa(PtxVersion),
    /// Code that something links or translates first.
    Kind,
    /// A file that could not be read.
    Gap,
}

/// How the best of a container's images gets on with a card.
pub(super) fn best(images: &[Image], device: &Device<'_>) -> Fit {
    images.iter().map(|image| fit(image, device)).min().unwrap_or(Fit::No)
}

fn fit(image: &Image, device: &Device<'_>) -> Fit {
    match image.code {
        Code::Cubin if cubin_runs(image.target, device.sm) => Fit::Native,
        Code::Ptx { isa } if ptx_compiles(image.target, device.sm) => match (CudaVersion::of_ptx(isa), device.cuda) {
            (None, _) => Fit::Unknown(Doubt::Isa(isa)),
            (Some(needed), None) => Fit::Unknown(Doubt::Driver(needed)),
            (Some(needed), Some(supported)) if needed > supported => Fit::NeedsDriver(needed),
            _ => Fit::Jit,
        },
        Code::Cubin | Code::Ptx { .. } => Fit::No,
        Code::LtoIr | Code::Other { .. } => Fit::Unknown(Doubt::Kind),
    }
}

/// Machine code runs on the card it was made for and on later ones of the same generation.
fn cubin_runs(target: Target, sm: u32) -> bool {
    let made_for = u32::from(target.sm);
    let own = renamed(made_for) == renamed(sm);
    match target.features {
        Features::Architecture => own,
        Features::Family => in_family(made_for, sm),
        Features::Baseline => own || in_family(made_for, sm) && !TEGRA.contains(&made_for) && !TEGRA.contains(&sm),
    }
}

/// PTX can be compiled for every later card, unless it uses what only some have. Checked against the compiler itself: see the test.
fn ptx_compiles(target: Target, sm: u32) -> bool {
    let made_for = u32::from(target.sm);
    match target.features {
        Features::Architecture => renamed(made_for) == renamed(sm),
        Features::Family => in_family(made_for, sm),
        Features::Baseline => renamed(sm) >= made_for,
    }
}

fn in_family(made_for: u32, sm: u32) -> bool {
    let (made_for, sm) = (renamed(made_for), renamed(sm));
    made_for / 10 == sm / 10 && sm >= made_for
}

/// CUDA 13 calls 110 what CUDA 12 called 101.
fn renamed(sm: u32) -> u32 {
    if sm == 101 { 110 } else { sm }
}
