//! Memory that the sessions share. Each has a little for sure; what it needs beyond that comes out of a common pool, of which one alone can
//! never take so much that nothing is left for another.

/// Bytes that a session can always keep, of its output and of its input each.
pub(crate) const LEAST: usize = 64 * 1024;

/// The pool.
pub(crate) struct Pool {
    bytes: usize,
    used: usize,
}

/// What one session keeps.
#[derive(Default)]
pub(crate) struct Share {
    kept: usize,
}

impl Pool {
    /// Of this many bytes.
    pub(crate) fn new(bytes: usize) -> Pool {
        Pool { bytes, used: 0 }
    }

    /// How much more a share may keep, if it may keep this much in all. A session that needs much gets no more than it leaves free, so a few
    /// floods share the pool evenly and a new session finds some.
    pub(crate) fn fair_room(&self, share: &Share, most: usize) -> usize {
        let beyond = share.kept.saturating_sub(LEAST);
        self.room_with(share, most, self.free().saturating_sub(beyond) / 2)
    }

    /// The same without regard to others.
    pub(crate) fn room(&self, share: &Share, most: usize) -> usize {
        self.room_with(share, most, self.free())
    }

    fn room_with(&self, share: &Share, most: usize, of_pool: usize) -> usize {
        let own = LEAST.saturating_sub(share.kept);
        (own + of_pool).min(most.saturating_sub(share.kept))
    }

    /// Takes down that a share now keeps this much. One that keeps nothing owes nothing.
    pub(crate) fn settle(&mut self, share: &mut Share, kept: usize) {
        self.used -= share.kept.saturating_sub(LEAST);
        self.used += kept.saturating_sub(LEAST);
        share.kept = kept;
    }

    /// Buffers grow in steps, so a little more than the pool may be in use.
    fn free(&self) -> usize {
        self.bytes.saturating_sub(self.used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_a_little_for_sure_and_floods_share_the_rest() {
        let mut pool = Pool::new(16 << 20);
        let mut shares: Vec<Share> = (0..240).map(|_| Share::default()).collect();
        // Each takes all it gets, a little at a time.
        for _ in 0..1000 {
            for share in &mut shares {
                let room = pool.fair_room(share, 4 << 20).min(32 * 1024);
                let kept = share.kept + room;
                pool.settle(share, kept);
            }
        }
        assert!(shares.iter().all(|share| share.kept >= LEAST));
        let sum: usize = shares.iter().map(|share| share.kept).sum();
        assert!(sum <= 240 * LEAST + (16 << 20), "{sum}");
        for share in &mut shares {
            pool.settle(share, 0);
        }
        assert_eq!(pool.used, 0, "all of it is given back");
    }

    #[test]
    fn one_flood_does_not_take_what_another_needs() {
        let mut pool = Pool::new(1 << 20);
        let (mut first, mut second) = (Share::default(), Share::default());
        for _ in 0..1000 {
            let kept = first.kept + pool.fair_room(&first, 4 << 20);
            pool.settle(&mut first, kept);
        }
        let room = pool.fair_room(&second, 4 << 20);
        assert!(room > LEAST * 2, "{room}");
        let all = pool.room(&second, usize::MAX);
        pool.settle(&mut second, all);
        assert_eq!((pool.free(), pool.room(&first, usize::MAX)), (0, 0));
    }
}
