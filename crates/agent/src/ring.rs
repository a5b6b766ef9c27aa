//! The output of a session that has not been acknowledged: what a process wrote, in the order in which it was read, each piece with its place.
//! Nothing is ever dropped before it is acknowledged; when there is no room the process is not read.

use std::collections::VecDeque;

use agent::protocol::Stream;

/// Pieces up to this size are joined with what was written to the same stream before.
const JOINED: usize = 16 * 1024;

/// What a piece costs beside its bytes, so that a process that writes single bytes to both streams in turn cannot outgrow its room.
pub(crate) const PIECE_COST: usize = 64;

/// The ring.
#[derive(Default)]
pub(crate) struct Ring {
    pieces: VecDeque<Piece>,
    acknowledged: u64,
    end: u64,
    kept: usize,
}

struct Piece {
    start: u64,
    stream: Stream,
    bytes: Vec<u8>,
}

impl Piece {
    fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    fn cost(&self) -> usize {
        self.bytes.capacity() + PIECE_COST
    }
}

impl Ring {
    /// Adds what was written.
    pub(crate) fn push(&mut self, stream: Stream, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        match self.pieces.back_mut() {
            Some(last) if last.stream == stream && last.bytes.len() + bytes.len() <= JOINED => {
                self.kept -= last.cost();
                last.bytes.extend_from_slice(bytes);
                self.kept += last.cost();
            }
            _ => {
                let piece = Piece { start: self.end, stream, bytes: bytes.to_vec() };
                self.kept += piece.cost();
                self.pieces.push_back(piece);
            }
        }
        self.end += bytes.len() as u64;
    }

    /// The piece that stands at a place, from there on.
    pub(crate) fn at(&self, offset: u64) -> Option<(Stream, &[u8])> {
        let after = self.pieces.partition_point(|piece| piece.end() <= offset);
        let piece = self.pieces.get(after)?;
        let skipped = usize::try_from(offset.checked_sub(piece.start)?).ok()?;
        Some((piece.stream, piece.bytes.get(skipped..)?))
    }

    /// Lets go of what has arrived.
    pub(crate) fn acknowledge(&mut self, offset: u64) {
        self.acknowledged = self.acknowledged.max(offset.min(self.end));
        while let Some(first) = self.pieces.front()
            && first.end() <= self.acknowledged
        {
            self.kept -= first.cost();
            self.pieces.pop_front();
        }
        if self.pieces.is_empty() {
            self.pieces = VecDeque::new();
        }
    }

    /// The first byte that may be sent again.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// All bytes that were ever added.
    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    /// Memory in use.
    pub(crate) fn kept(&self) -> usize {
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything from a place on, by stream.
    fn rest(ring: &Ring, mut offset: u64) -> Vec<(Stream, Vec<u8>)> {
        let mut found: Vec<(Stream, Vec<u8>)> = Vec::new();
        while let Some((stream, bytes)) = ring.at(offset) {
            match found.last_mut() {
                Some((last, joined)) if *last == stream => joined.extend(bytes),
                _ => found.push((stream, bytes.to_vec())),
            }
            offset += bytes.len() as u64;
        }
        assert_eq!(offset, ring.end());
        found
    }

    #[test]
    fn what_is_not_acknowledged_is_read_again_from_any_place_in_order() {
        let mut ring = Ring::default();
        ring.push(Stream::Stdout, b"one ");
        ring.push(Stream::Stdout, b"two ");
        ring.push(Stream::Stderr, b"three ");
        ring.push(Stream::Stdout, b"four");
        let all = vec![
            (Stream::Stdout, b"one two ".to_vec()),
            (Stream::Stderr, b"three ".to_vec()),
            (Stream::Stdout, b"four".to_vec()),
        ];
        assert_eq!(rest(&ring, 0), all);
        ring.acknowledge(10);
        assert_eq!(ring.acknowledged(), 10);
        assert_eq!(rest(&ring, 10), [(Stream::Stderr, b"ree ".to_vec()), (Stream::Stdout, b"four".to_vec())]);
        ring.acknowledge(3);
        assert_eq!(ring.acknowledged(), 10, "an acknowledgement is not taken back");
        ring.acknowledge(u64::MAX);
        assert_eq!((ring.acknowledged(), ring.end(), ring.kept()), (18, 18, 0));
        assert!(ring.at(18).is_none() && ring.at(0).is_none() && ring.at(u64::MAX).is_none());
    }

    #[test]
    fn single_bytes_to_both_streams_in_turn_cost_what_they_take() {
        let mut ring = Ring::default();
        for n in 0..10_000 {
            ring.push(if n % 2 == 0 { Stream::Stdout } else { Stream::Stderr }, b"x");
        }
        assert!(ring.kept() >= 10_000 * PIECE_COST);
        assert_eq!(rest(&ring, 5_000).len(), 5_000);
        ring.acknowledge(10_000);
        assert_eq!(ring.kept(), 0);
    }

    #[test]
    fn many_small_pieces_of_one_stream_cost_little_more_than_their_bytes() {
        let mut ring = Ring::default();
        for _ in 0..100_000 {
            ring.push(Stream::Stdout, b"0123456789");
        }
        assert!(ring.kept() <= 2 * 1_000_000, "{}", ring.kept());
    }
}
