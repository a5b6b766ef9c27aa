//! Giving up: whoever waited for an image went away, or it takes too long. What reads and writes looks here between two pieces.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::ImageError;

/// How long an image may take in all: 40 GiB at 100 Mbit/s.
const PULL_LIMIT: Duration = Duration::from_secs(3_600);

/// Seen by the work.
#[derive(Clone)]
pub(crate) struct Stop {
    abandoned: Arc<AtomicBool>,
    deadline: Instant,
}

/// Held by whoever waits; dropping it ends the work.
pub(crate) struct Waiter(Arc<AtomicBool>);

impl Stop {
    /// Work that somebody waits for, and the one who waits.
    pub(crate) fn new() -> (Stop, Waiter) {
        let abandoned = Arc::new(AtomicBool::new(false));
        (Stop { abandoned: abandoned.clone(), deadline: Instant::now() + PULL_LIMIT }, Waiter(abandoned))
    }

    /// An error when the work should end.
    pub(crate) fn check(&self) -> Result<(), ImageError> {
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(ImageError::GivenUp("nobody waits for it any more"));
        }
        if Instant::now() > self.deadline {
            return Err(ImageError::GivenUp("it took more than an hour"));
        }
        Ok(())
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
