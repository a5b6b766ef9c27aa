//! The hash of what passes through an open file, kept while it passes: whoever copies a file asks for the hash of each part behind it, and
//! then nothing has to be read again.

use crate::file_protocol::FileHash;

/// What has passed in one go, from one place on.
#[derive(Default)]
pub(super) struct Hashed {
    /// Nothing before the first hash is asked for: most who read or write want none.
    run: Option<Box<Run>>,
}

struct Run {
    hasher: blake3::Hasher,
    start: u64,
    end: u64,
}

impl Run {
    fn begin(at: u64) -> Run {
        Run { hasher: blake3::Hasher::new(), start: at, end: at }
    }
}

impl Hashed {
    /// This was read, or is written.
    pub(super) fn passed(&mut self, offset: u64, bytes: &[u8]) {
        let Some(run) = &mut self.run else { return };
        if run.end != offset {
            **run = Run::begin(offset);
        }
        run.hasher.update(bytes);
        run.end = run.end.saturating_add(bytes.len() as u64);
    }

    /// The file was changed in another way: what has passed may not be what it holds.
    pub(super) fn forget(&mut self) {
        if let Some(run) = &mut self.run {
            **run = Run::begin(run.end);
        }
    }

    /// The hash of this part, if it is just what has passed. What follows it is hashed from now on.
    pub(super) fn take(&mut self, from: u64, length: u64) -> Option<FileHash> {
        let next = from.saturating_add(length);
        let run = self.run.replace(Box::new(Run::begin(next)))?;
        let whole = length > 0 && (run.start, run.end) == (from, next);
        whole.then(|| FileHash(run.hasher.finalize().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Option<FileHash> {
        Some(FileHash(blake3::hash(bytes).into()))
    }

    #[test]
    fn a_part_that_has_passed_whole_is_hashed_already() {
        let mut hashed = Hashed::default();
        hashed.passed(0, b"nobody has asked yet");
        assert_eq!(hashed.take(0, 20), None);
        hashed.passed(20, b"one ");
        hashed.passed(24, b"two");
        assert_eq!(hashed.take(20, 7), of(b"one two"));
        hashed.passed(27, b"three");
        assert_eq!(hashed.take(27, 5), of(b"three"));
    }

    #[test]
    fn a_part_with_a_hole_or_more_or_less_of_it_is_read() {
        let mut hashed = Hashed::default();
        hashed.take(0, 0);
        hashed.passed(0, b"one");
        hashed.passed(7, b"two");
        assert_eq!(hashed.take(0, 10), None);
        hashed.passed(10, b"three");
        assert_eq!(hashed.take(10, 4), None);
        hashed.passed(14, b"four");
        assert_eq!(hashed.take(14, 5), None);
        assert_eq!(hashed.take(19, 0), None);
    }

    #[test]
    fn what_was_cut_off_meanwhile_does_not_count() {
        let mut hashed = Hashed::default();
        hashed.take(0, 0);
        hashed.passed(0, b"one");
        hashed.forget();
        assert_eq!(hashed.take(0, 3), None);
    }
}
