//! What a client has seen of a run. A daemon that was started again tells the run anew from what it has on disk and from the provider's
//! log; held against this, the story goes on where it stopped, with nothing missing and nothing twice.

use crate::types::RunStep;
use std::mem::{Discriminant, discriminant};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The steps that a run has once.
    steps: Vec<Discriminant<RunStep>>,
    /// The newest piece of output: its record, and where in it the piece begins.
    output: Option<(u64, u64)>,
}

impl Seen {
    /// Takes note of a step; false if it was seen before.
    pub(crate) fn is_new(&mut self, step: &RunStep) -> bool {
        match step {
            RunStep::Log { seq, offset, .. } => {
                let new = self.output.is_none_or(|newest| newest < (*seq, *offset));
                if new {
                    self.output = Some((*seq, *offset));
                }
                new
            }
            // the hole begins behind what is here already
            RunStep::LogGap { next } => self.output.is_none_or(|(newest, _)| newest + 1 < *next),
            RunStep::Quoted { .. }
            | RunStep::Mandated { .. }
            | RunStep::Opening { .. }
            | RunStep::Opened { .. }
            | RunStep::Ready { .. }
            | RunStep::Started
            | RunStep::Exited { .. }
            | RunStep::Preempted { .. }
            | RunStep::Fetched { .. }
            | RunStep::Settling { .. } => {
                let new = !self.steps.contains(&discriminant(step));
                if new {
                    self.steps.push(discriminant(step));
                }
                new
            }
            // what comes several times in a run, and its last step
            RunStep::Matched { .. }
            | RunStep::Refused { .. }
            | RunStep::Signing { .. }
            | RunStep::Uploading { .. }
            | RunStep::Continued { .. }
            | RunStep::Paid { .. }
            | RunStep::Fetching { .. }
            | RunStep::Settled { .. }
            | RunStep::Failed { .. } => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(seq: u64, offset: u64) -> RunStep {
        RunStep::Log { stderr: false, seq, offset, data: String::new() }
    }

    #[test]
    fn output_that_is_told_again_is_seen_once() {
        let mut seen = Seen::default();
        let told = [log(0, 0), log(1, 0), log(1, 100), log(0, 0), log(1, 0), log(1, 100), log(2, 0)];
        assert_eq!(told.map(|step| seen.is_new(&step)), [true, true, true, false, false, false, true]);
    }

    #[test]
    fn a_hole_before_what_was_seen_is_none() {
        let mut seen = Seen::default();
        assert!(seen.is_new(&log(4, 0)));
        assert!(!seen.is_new(&RunStep::LogGap { next: 5 }));
        assert!(seen.is_new(&RunStep::LogGap { next: 6 }));
    }

    #[test]
    fn a_step_that_a_run_has_once_is_seen_once_and_a_running_cost_each_time() {
        let mut seen = Seen::default();
        let paid = || RunStep::Paid { seconds: 1, cost: String::new() };
        let told = [RunStep::Started, paid(), RunStep::Started, paid()];
        assert_eq!(told.map(|step| seen.is_new(&step)), [true, true, false, true]);
    }
}
