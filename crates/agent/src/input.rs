//! The input of a session on its way to the process: what has come and was not taken yet. Each byte has its place, so that what is sent again
//! after a broken connection is taken once.

use std::collections::VecDeque;

use agent::session_frame::INPUT_WINDOW;

/// The input.
#[derive(Default)]
pub(crate) struct Input {
    waiting: VecDeque<u8>,
    taken: u64,
    ended: bool,
    /// Nobody reads it any more: what comes is passed over.
    closed: bool,
}

/// Input that cannot be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// Something before it is missing, or it comes after the end.
    Place,
    /// More than the window.
    TooMuch,
}

impl Input {
    /// Where the next byte stands that has not come yet.
    fn end(&self) -> u64 {
        self.taken + self.waiting.len() as u64
    }

    /// How many of these bytes, sent for this place, are new.
    pub(crate) fn new_bytes<'a>(&self, offset: u64, bytes: &'a [u8]) -> Result<&'a [u8], Wrong> {
        if self.closed {
            return Ok(&[]);
        }
        let known = self.end().checked_sub(offset).ok_or(Wrong::Place)?;
        let new = usize::try_from(known).ok().and_then(|known| bytes.get(known..)).unwrap_or_default();
        if new.is_empty() {
            return Ok(new);
        }
        if self.ended {
            return Err(Wrong::Place);
        }
        if self.waiting.len() as u64 + new.len() as u64 > INPUT_WINDOW {
            return Err(Wrong::TooMuch);
        }
        Ok(new)
    }

    /// Keeps them.
    pub(crate) fn push(&mut self, new: &[u8]) {
        self.waiting.extend(new);
    }

    /// There is no more than so many bytes.
    pub(crate) fn end_at(&mut self, offset: u64) -> Result<(), Wrong> {
        if self.closed {
            return Ok(());
        }
        if offset != self.end() {
            return Err(Wrong::Place);
        }
        self.ended = true;
        Ok(())
    }

    /// What the process may take next.
    pub(crate) fn next(&self) -> &[u8] {
        self.waiting.as_slices().0
    }

    /// The process has taken so many.
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.waiting.drain(..bytes);
        self.taken += bytes as u64;
        if self.waiting.is_empty() {
            // An idle session keeps nothing.
            self.waiting = VecDeque::new();
        }
    }

    /// Nobody reads it any more.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.waiting = VecDeque::new();
    }

    /// True when all has been taken and no more will come.
    pub(crate) fn is_over(&self) -> bool {
        self.ended && self.waiting.is_empty()
    }

    /// Bytes that the process has taken.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// Memory in use.
    pub(crate) fn kept(&self) -> usize {
        self.waiting.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(input: &mut Input, offset: u64, bytes: &[u8]) -> Result<(), Wrong> {
        let new = input.new_bytes(offset, bytes)?.to_vec();
        input.push(&new);
        Ok(())
    }

    fn take(input: &mut Input, most: usize) -> Vec<u8> {
        let next = input.next()[..input.next().len().min(most)].to_vec();
        input.advance(next.len());
        next
    }

    #[test]
    fn what_is_sent_again_is_taken_once_and_a_hole_is_refused() {
        let mut input = Input::default();
        put(&mut input, 0, b"hello ").unwrap();
        assert_eq!(take(&mut input, 4), b"hell");
        // Sent again from what was taken, and from the start.
        put(&mut input, 4, b"o world").unwrap();
        put(&mut input, 0, b"hello wor").unwrap();
        assert_eq!(put(&mut input, 12, b"!"), Err(Wrong::Place));
        assert_eq!(input.end_at(10), Err(Wrong::Place));
        input.end_at(11).unwrap();
        assert_eq!(put(&mut input, 11, b"!"), Err(Wrong::Place));
        put(&mut input, 6, b"world").unwrap();
        input.end_at(11).unwrap();
        let mut rest = take(&mut input, 100);
        rest.extend(take(&mut input, 100));
        assert_eq!(rest, b"o world");
        assert!(input.is_over());
        assert_eq!((input.taken(), input.kept()), (11, 0));
    }

    #[test]
    fn no_more_than_the_window_is_kept_and_nothing_for_one_that_does_not_read() {
        let mut input = Input::default();
        let window = vec![7; INPUT_WINDOW as usize];
        put(&mut input, 0, &window).unwrap();
        assert_eq!(put(&mut input, INPUT_WINDOW, b"x"), Err(Wrong::TooMuch));
        assert_eq!(put(&mut input, u64::MAX, b"x"), Err(Wrong::Place));
        input.close();
        put(&mut input, 5 * INPUT_WINDOW, b"x").unwrap();
        assert_eq!((input.taken(), input.kept(), input.next().len()), (0, 0, 0));
    }
}
