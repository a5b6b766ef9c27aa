//! From the containers of a program to one verdict, and to words.

use super::rule::{Doubt, Fit};
use super::{Answer, CudaVersion, Device, Verdict};
use crate::fatbin::{Blob, Code, Features, Image};
use std::{collections::BTreeMap, fmt::Write};

/// The most targets that a reason lists; what a library was compiled for can be a dozen.
pub(super) const MAX_LISTED: usize = 6;

/// What has been seen of a program's containers.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Whether there is code that is to be linked first.
    pub(super) relocatable: bool,
    /// How many containers there are.
    all: u64,
    /// How many of them can't run, for each thing that they need instead.
    lost: BTreeMap<String, u64>,
    compiled: bool,
    newer: Option<CudaVersion>,
    doubt: Option<Doubt>,
    runs: bool,
}

impl Tally {
    /// Takes in equal containers that get on with the card as `fit` says.
    pub(super) fn add(&mut self, blob: &Blob, fit: Fit) {
        self.all += u64::from(blob.count);
        match fit {
            Fit::Native => self.runs = true,
            Fit::Jit => {
                self.runs = true;
                self.compiled = true;
            }
            Fit::NeedsDriver(version) => self.newer = self.newer.max(Some(version)),
            Fit::Unknown(doubt) => self.doubt = self.doubt.or(Some(doubt)),
            Fit::No => {
                *self.lost.entry(needs(&blob.images)).or_default() += u64::from(blob.count);
            }
        }
    }

    /// Takes in that something could not be read.
    pub(super) fn add_gap(&mut self) {
        self.doubt = self.doubt.or(Some(Doubt::Gap));
    }

    /// The verdict. A program that would not start a single kernel is a `no`, even if a part of it waits for a newer driver.
    pub(super) fn answer(&self, device: &Device<'_>) -> Answer {
        // of several needs the most frequent one
        let lacking = self.lost.iter().max_by_key(|(_, count)| **count);
        let (verdict, reason) = match (lacking, self.doubt, self.newer) {
            (Some((lacking, _)), None, _) if !self.runs => (Verdict::No, format!("needs {lacking}; {device}")),
            (Some((lacking, count)), ..) => {
                let lost: u64 = self.lost.values().sum();
                let most =
                    if *count < lost { format!("other cards, {count} of them {lacking}") } else { lacking.clone() };
                (Verdict::Partial, format!("{lost} of {} parts need {most}; {device}", self.all))
            }
            (None, Some(doubt), _) => (Verdict::Unknown, doubtful(doubt)),
            (None, None, Some(version)) => {
                let driver = device.cuda.map(|cuda| format!("; that of {} has {cuda}", device.name));
                let reason = format!("needs a driver for CUDA {version}{}", driver.unwrap_or_default());
                (Verdict::NeedsNewerDriver, reason)
            }
            (None, None, None) if self.compiled => {
                (Verdict::Jit, format!("the driver compiles PTX for sm_{} at the first start", device.sm))
            }
            (None, None, None) if self.runs => (Verdict::Native, format!("has machine code for sm_{}", device.sm)),
            (None, None, None) => (Verdict::Unknown, self.empty().to_owned()),
        };
        Answer { verdict, reason }
    }

    fn empty(&self) -> &'static str {
        if self.relocatable {
            "its GPU code is still to be linked"
        } else {
            "has no GPU code in it; what it loads or compiles when it runs cannot be seen"
        }
    }
}

fn doubtful(doubt: Doubt) -> String {
    match doubt {
        Doubt::Driver(version) => format!("needs a driver for CUDA {version}, and the driver's version is not known"),
        Doubt::Isa(isa) => format!("has PTX {isa}, which is newer than this program"),
        Doubt::Kind => "has GPU code that is linked or translated only when it runs".to_owned(),
        Doubt::Gap => "some of its files could not be read".to_owned(),
    }
}

/// What a card would have to be for one of these images: `sm_90a or sm_100 or newer`.
fn needs(images: &[Image]) -> String {
    let mut targets: Vec<String> = images
        .iter()
        .map(|image| match (image.code, image.target.features) {
            (Code::Ptx { .. }, Features::Baseline) => format!("{} or newer", image.target),
            _ => image.target.to_string(),
        })
        .collect();
    targets.dedup();
    let more = targets.len().saturating_sub(MAX_LISTED);
    targets.truncate(MAX_LISTED);
    let mut text = targets.join(" or ");
    if more > 0 {
        // writing to a string cannot fail
        let _ = write!(text, " or one of {more} others");
    }
    text
}
