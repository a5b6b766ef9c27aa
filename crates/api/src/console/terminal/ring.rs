//! The newest output of a shell, each byte with its number: what a page shows again after it was loaded anew, or after its connection broke.

use std::collections::VecDeque;

/// What is kept of a shell's output. More than may be on its way to a page ([`super::shell::MAX_UNACKNOWLEDGED_BYTES`]), so that a connection
/// that breaks loses nothing; and some ten thousand lines of history for a page that is loaded anew.
pub(super) const MAX_RING_BYTES: usize = 2 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ring {
    bytes: VecDeque<u8>,
    end: u64,
}

impl Ring {
    /// Adds output; the oldest goes.
    pub(super) fn push(&mut self, output: &[u8]) {
        self.end += output.len() as u64;
        let output = &output[output.len().saturating_sub(MAX_RING_BYTES)..];
        let beyond = (self.bytes.len() + output.len()).saturating_sub(MAX_RING_BYTES);
        self.bytes.drain(..beyond);
        self.bytes.extend(output);
    }

    /// The number of the first byte that is still here.
    pub(super) fn start(&self) -> u64 {
        self.end - self.bytes.len() as u64
    }

    /// The number behind the newest byte.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// At most `limit` bytes from number `from` on, which must not lie before the start.
    pub(super) fn read(&self, from: u64, limit: usize) -> Vec<u8> {
        let skipped = usize::try_from(from.saturating_sub(self.start())).unwrap_or(usize::MAX);
        self.bytes.iter().skip(skipped).take(limit).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_read_from_its_number_on() {
        let mut ring = Ring::default();
        ring.push(b"hello ");
        ring.push(b"world");
        assert_eq!((ring.start(), ring.end()), (0, 11));
        assert_eq!(ring.read(6, 100), b"world");
        assert_eq!(ring.read(6, 2), b"wo");
        assert_eq!(ring.read(11, 100), b"");
    }

    #[test]
    fn the_newest_bytes_stay_and_keep_their_numbers() {
        let mut ring = Ring::default();
        ring.push(&vec![b'a'; MAX_RING_BYTES]);
        ring.push(b"bcd");
        assert_eq!((ring.start(), ring.end()), (3, MAX_RING_BYTES as u64 + 3));
        assert_eq!(ring.read(MAX_RING_BYTES as u64 - 1, 10), b"abcd");
    }

    #[test]
    fn output_larger_than_the_ring_leaves_its_end() {
        let mut ring = Ring::default();
        let mut output = vec![b'a'; MAX_RING_BYTES + 10];
        output.extend(b"end");
        ring.push(&output);
        assert_eq!(ring.end(), output.len() as u64);
        assert_eq!(ring.read(ring.end() - 3, 10), b"end");
    }
}
