//! Whether the GPU code of a program runs on a card. A driver looks for one image in *each* container, so a program is judged by
//! its worst container and a container by its best image.
//!
//! The rule errs to one side: what cannot be known is [`Verdict::Unknown`], never [`Verdict::No`]. Scripts, and programs that compile
//! while they run, have nothing in them to be judged by.

mod answer;
mod rule;

use crate::fatbin::{Inspection, Job, JobFile, PtxVersion};
use answer::Tally;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A version of CUDA. A driver supports all up to one, which it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CudaVersion {
    /// Before the dot.
    pub major: u32,
    /// Behind the dot.
    pub minor: u32,
}

impl CudaVersion {
    /// From tenths, as offers have it: `131` is 13.1.
    pub const fn from_tenths(tenths: u32) -> Self {
        Self { major: tenths / 10, minor: tenths % 10 }
    }

    /// The first version whose driver compiles a version of PTX, as NVIDIA's history of PTX releases says; none if that release came
    /// after this program.
    pub fn of_ptx(isa: PtxVersion) -> Option<Self> {
        let (major, minor) = match (isa.major, u32::from(isa.minor)) {
            // drivers older than that are in use nowhere
            (0..=5, _) => (8, 0),
            (6, minor @ 0..=2) => (9, minor),
            (6, minor) => (10, minor - 3),
            (7, minor) => (11, minor),
            (8, minor @ 0..=5) => (12, minor),
            // 8.5 was that of two versions of CUDA
            (8, minor) => (12, minor + 1),
            (9, minor) => (13, minor),
            _ => return None,
        };
        Some(Self { major, minor })
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A card, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device<'a> {
    /// What it is called.
    pub name: &'a str,
    /// Its compute capability times ten.
    pub sm: u32,
    /// What its driver supports, if that is known.
    pub cuda: Option<CudaVersion>,
}

impl fmt::Display for Device<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is sm_{}", self.name, self.sm)
    }
}

/// How a program and a card get on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All of it runs as it is.
    Native,
    /// All of it runs; the driver compiles some of it at the first start, which can take minutes.
    Jit,
    /// It would run under a newer driver.
    NeedsNewerDriver,
    /// Some of it runs, some cannot. Libraries choose among several ways by the card, so that can be all that is needed.
    Partial,
    /// None of it runs.
    No,
    /// Nothing says whether it runs.
    Unknown,
}

impl Verdict {
    /// Whether the program certainly does not run as it is.
    pub const fn is_against(self) -> bool {
        matches!(self, Self::NeedsNewerDriver | Self::No)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Jit => "jit",
            Self::NeedsNewerDriver => "needs_newer_driver",
            Self::Partial => "partial",
            Self::No => "no",
            Self::Unknown => "unknown",
        })
    }
}

/// A verdict, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// How they get on.
    pub verdict: Verdict,
    /// Why, in words for a person: `needs sm_90a; RTX 5090 is sm_120`.
    pub reason: String,
}

/// Judges what was found in the files of one program on one card.
pub fn judge<'a>(files: impl IntoIterator<Item = &'a Inspection>, device: &Device<'_>) -> Answer {
    weigh(files, device).answer(device)
}

/// Judges a job on one card. Where the program itself cannot run, libraries that can do not help; and what could not be read of a job
/// counts as code of which nobody can tell.
pub fn judge_job(job: &Job, device: &Device<'_>) -> Answer {
    let program = job.program.as_ref().and_then(JobFile::inspection).map(|program| judge([program], device));
    if let Some(answer) = program.filter(|own| matches!(own.verdict, Verdict::No | Verdict::NeedsNewerDriver)) {
        return answer;
    }
    let mut tally = weigh(job.files().filter_map(JobFile::inspection), device);
    if job.has_gaps() {
        tally.add_gap();
    }
    tally.answer(device)
}

fn weigh<'a>(files: impl IntoIterator<Item = &'a Inspection>, device: &Device<'_>) -> Tally {
    let mut tally = Tally::default();
    for file in files {
        tally.relocatable |= file.relocatable > 0;
        for blob in &file.blobs {
            tally.add(blob, rule::best(&blob.images, device));
        }
    }
    tally
}

#[cfg(test)]
mod tests;
