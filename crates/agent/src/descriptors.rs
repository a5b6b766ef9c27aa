//! How many files this program may have open: it lives under the same limit as the renter's programs, so what may come in any number
//! takes its share beforehand and gives it back at its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, getrlimit};

/// Descriptors kept for what takes no share: the inherited ones, the job's pipes, and the ends of pipes while a process starts.
const KEPT: u64 = 32;

/// Descriptors that sessions leave to connections, so that somebody can still come and ask for one to be ended.
pub const RESERVED: u64 = 32;

/// The descriptors that are left.
pub struct Descriptors {
    left: AtomicU64,
}

/// A share, given back when it is dropped.
pub struct Taken {
    from: Arc<Descriptors>,
    share: u64,
}

impl Descriptors {
    /// As many as this process may have.
    pub fn of_this_process() -> Descriptors {
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        Descriptors::of(limit.saturating_sub(KEPT))
    }

    /// So many.
    pub fn of(left: u64) -> Descriptors {
        Descriptors { left: AtomicU64::new(left) }
    }

    /// Takes so many, if at least `leave` are left then.
    pub fn take(self: &Arc<Self>, share: u64, leave: u64) -> Option<Taken> {
        let less = |left: u64| left.checked_sub(share).filter(|left| *left >= leave);
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).ok()?;
        Some(Taken { from: self.clone(), share })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.from.left.fetch_add(self.share, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_taken_again_and_no_more_than_there_is() {
        let descriptors = Arc::new(Descriptors::of(5));
        assert!(descriptors.take(4, 2).is_none());
        let four = descriptors.take(4, 1).unwrap();
        assert!(descriptors.take(2, 0).is_none());
        let one = descriptors.take(1, 0).unwrap();
        drop(four);
        assert!(descriptors.take(5, 0).is_none());
        drop(one);
        assert!(descriptors.take(5, 0).is_some());
    }
}
