//! Reading ahead. Whoever reads a file from one place on is sent what it will ask for next before it asks, so that the long way to the
//! sandbox is full of data however little the client keeps under way.

use sandbox::{Answer, FileCallError, FileClient, FileOperation, Handle};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// Bytes asked for ahead of one reader: at a round trip of 100 ms 200 MB/s, beside what the client itself keeps under way.
const AHEAD_LIMIT: u64 = 20 << 20;
/// No end is known.
const UNKNOWN: u64 = u64::MAX;

/// What one open file's reader does, and what was asked for on its behalf.
#[derive(Default)]
pub(super) struct Ahead {
    /// Where the last request ended.
    next: Option<u64>,
    /// How many requests have gone on where the one before ended.
    streak: u32,
    pieces: VecDeque<Piece>,
    end: End,
}

struct Piece {
    offset: u64,
    length: u32,
    answer: Answer,
}

/// Where a file was seen to end. Told by whoever sees an answer, and forgotten once it has been used: files grow.
#[derive(Clone)]
pub(super) struct End(Arc<AtomicU64>);

impl Default for End {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(UNKNOWN)))
    }
}

impl End {
    /// So many bytes came in answer to a request.
    pub(super) fn saw(&self, offset: u64, asked: u32, came: usize) {
        if came < asked as usize {
            self.0.fetch_min(offset.saturating_add(came as u64), Ordering::Relaxed);
        }
    }

    fn is_before(&self, offset: u64) -> bool {
        self.0.load(Ordering::Relaxed) <= offset
    }
}

impl Ahead {
    /// Bytes asked for and not yet read.
    pub(super) fn held(&self) -> u64 {
        self.pieces.iter().map(|piece| u64::from(piece.length)).sum()
    }

    /// What was asked for is no longer what is there.
    pub(super) fn forget(&mut self) {
        self.pieces.clear();
        self.end = End::default();
    }

    /// The answer to a request, which may be under way already; none where the file was just seen to end. `room` is how much may be
    /// asked for ahead.
    pub(super) async fn read(
        &mut self,
        (client, handle): (&FileClient, Handle),
        offset: u64,
        length: u32,
        room: u64,
    ) -> Result<Option<(Answer, End)>, FileCallError> {
        if self.end.is_before(offset) {
            self.forget();
            return Ok(None);
        }
        let answer = match self.take(offset, length) {
            Some(answer) => answer,
            None => ask(client, handle, offset, length).await?,
        };
        let follows = self.next == Some(offset);
        self.streak = if follows { self.streak.saturating_add(1) } else { 0 };
        self.next = Some(offset.saturating_add(length.into()));
        self.fill((client, handle), length, room).await?;
        Ok(Some((answer, self.end.clone())))
    }

    /// What was asked for, if it is that; a reader that goes elsewhere needs none of it.
    fn take(&mut self, offset: u64, length: u32) -> Option<Answer> {
        match self.pieces.pop_front() {
            Some(piece) if (piece.offset, piece.length) == (offset, length) => Some(piece.answer),
            Some(_) => {
                self.pieces.clear();
                None
            }
            None => None,
        }
    }

    async fn fill(
        &mut self,
        (client, handle): (&FileClient, Handle),
        length: u32,
        room: u64,
    ) -> Result<(), FileCallError> {
        let wanted = ahead(self.streak, length).min(room);
        let mut held = self.held();
        while held + u64::from(length) <= wanted {
            let last = self.pieces.back().map(|piece| piece.offset.saturating_add(piece.length.into()));
            let Some(offset) = last.or(self.next).filter(|offset| !self.end.is_before(*offset)) else { break };
            let answer = ask(client, handle, offset, length).await?;
            self.pieces.push_back(Piece { offset, length, answer });
            held += u64::from(length);
        }
        Ok(())
    }
}

/// How much to ask for ahead: nothing at first, since most files are small and many readers jump; then twice as much each time.
fn ahead(streak: u32, length: u32) -> u64 {
    if streak == 0 { 0 } else { (u64::from(length) << streak.min(16)).min(AHEAD_LIMIT) }
}

async fn ask(client: &FileClient, handle: Handle, offset: u64, length: u32) -> Result<Answer, FileCallError> {
    client.send(FileOperation::Read { handle, offset, length }, Vec::new()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_is_served_ahead_only_once_it_has_gone_on() {
        assert_eq!(ahead(0, 65_536), 0);
        assert_eq!(ahead(1, 65_536), 131_072);
        assert_eq!(ahead(40, 65_536), AHEAD_LIMIT);
    }

    #[test]
    fn a_short_answer_tells_where_the_file_ends() {
        let end = End::default();
        end.saw(0, 100, 100);
        assert!(!end.is_before(1 << 40));
        end.saw(100, 100, 20);
        assert!(end.is_before(120));
        assert!(!end.is_before(119));
    }
}
