//! Who prepares what: the same image is prepared by one at a time, and only a few are at all, so that strangers' images cannot take all
//! of the machine's disk and network at once.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::stop::Stop;
use super::{ImageDigest, ImageError};

/// Images prepared at the same time.
const MAX_PULLS: usize = 4;

/// How often a waiting call looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(200);

/// What is being prepared.
#[derive(Clone, Default)]
pub(crate) struct Making(Arc<(Mutex<HashSet<ImageDigest>>, Condvar)>);

/// The right to prepare one image.
pub(crate) struct Turn {
    making: Making,
    id: ImageDigest,
}

impl Making {
    /// Waits for the right to prepare this image.
    pub(crate) fn turn(&self, id: ImageDigest, stop: &Stop) -> Result<Turn, ImageError> {
        let (busy, changed) = &*self.0;
        let mut busy = busy.lock().unwrap_or_else(PoisonError::into_inner);
        while busy.contains(&id) || busy.len() >= MAX_PULLS {
            stop.check()?;
            busy = changed.wait_timeout(busy, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
        busy.insert(id);
        Ok(Turn { making: self.clone(), id })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let (busy, changed) = &*self.making.0;
        busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
        changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_prepares_an_image_and_whoever_is_no_longer_wanted_stops_waiting() {
        let (making, id) = (Making::default(), ImageDigest::of(b"image"));
        let (stop, waiter) = Stop::new();
        let first = making.turn(id, &stop).unwrap();
        let second = std::thread::spawn({
            let (making, stop) = (making.clone(), stop.clone());
            move || making.turn(id, &stop).map(drop)
        });
        let others: Vec<Turn> =
            (1..MAX_PULLS).map(|n| making.turn(ImageDigest::of(&[n as u8]), &stop).unwrap()).collect();
        drop(first);
        second.join().unwrap().unwrap();
        let _again = making.turn(id, &stop).unwrap();
        drop(waiter);
        assert!(matches!(making.turn(ImageDigest::of(b"one too many"), &stop), Err(ImageError::GivenUp(_))));
        drop(others);
    }
}
