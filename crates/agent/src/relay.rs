//! Carries bytes both ways between a connection of the node's and something inside. One that does not read holds up its own direction and
//! nothing else, and no more than one buffer a direction is held here.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::shutdown;

/// Bytes of a direction held at once.
const BUFFER: usize = 32 * 1024;

/// One direction.
struct Flow {
    buffer: Vec<u8>,
    written: usize,
    ended: bool,
}

impl Flow {
    /// Nothing yet.
    fn new() -> Flow {
        Flow { buffer: Vec::new(), written: 0, ended: false }
    }

    /// All that was read is written.
    fn is_empty(&self) -> bool {
        self.written == self.buffer.len()
    }

    /// All that will ever come is written.
    fn is_over(&self) -> bool {
        self.ended && self.is_empty()
    }

    /// Nothing more is to be read or written.
    fn abandon(&mut self) {
        self.ended = true;
        self.buffer = Vec::new();
        self.written = 0;
    }

    /// What to wait for at the end that is read.
    fn input(&self) -> PollFlags {
        if self.is_empty() && !self.ended { PollFlags::IN } else { PollFlags::empty() }
    }

    /// What to wait for at the end that is written.
    fn output(&self) -> PollFlags {
        if self.is_empty() { PollFlags::empty() } else { PollFlags::OUT }
    }

    /// Reads, if there is something, and writes on what is possible at once.
    fn advance(&mut self, readable: bool, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        if readable && self.is_empty() && !self.ended {
            self.buffer.resize(BUFFER, 0);
            let outcome = unless_blocked(rustix::io::read(from, &mut self.buffer));
            self.buffer.truncate(outcome.as_ref().map_or(0, |read| read.unwrap_or(0)));
            self.written = 0;
            self.ended = outcome? == Some(0);
        }
        while !self.is_empty() {
            match unless_blocked(rustix::io::write(to, &self.buffer[self.written..]))? {
                Some(0) | None => return Ok(()),
                Some(n) => self.written += n,
            }
        }
        // An idle direction costs nothing.
        self.buffer = Vec::new();
        self.written = 0;
        Ok(())
    }
}

/// `None` where an end that does not wait would have to.
pub(crate) fn unless_blocked(outcome: rustix::io::Result<usize>) -> io::Result<Option<usize>> {
    match outcome {
        Ok(n) => Ok(Some(n)),
        Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Waits for what is wanted of the node's end and of the inner one, and answers what each is ready for. An end of which nothing is wanted
/// would still report its hang-up, again and again: it is then left out.
fn wait(node: Option<PollFd<'_>>, inner: Option<PollFd<'_>>) -> io::Result<[PollFlags; 2]> {
    let watches = [node.is_some(), inner.is_some()];
    let mut watched: Vec<PollFd<'_>> = node.into_iter().chain(inner).collect();
    match poll(&mut watched, None) {
        Ok(_) => {}
        Err(Errno::INTR) => return Ok([PollFlags::empty(); 2]),
        Err(error) => return Err(error.into()),
    }
    let mut ready = watched.iter().map(PollFd::revents);
    let none = PollFlags::empty();
    Ok(watches.map(|watches| if watches { ready.next().unwrap_or(none) } else { none }))
}

/// Carries bytes until both directions are over or the node is gone. The end of one direction is passed on and leaves the other open.
pub(crate) fn between(node: &UnixStream, inner: BorrowedFd<'_>) -> io::Result<()> {
    let (mut inward, mut outward) = (Flow::new(), Flow::new());
    let (mut inward_told, mut outward_told) = (false, false);
    while !(inward_told && outward_told) {
        let (of_node, of_inner) = (inward.input() | outward.output(), outward.input() | inward.output());
        // That the node is gone is worth knowing, until its end reports a hang-up when it has merely said all, because we have too.
        let node_end = (!of_node.is_empty() || !outward_told).then(|| PollFd::new(node, of_node));
        let inner_end = (!of_inner.is_empty()).then(|| PollFd::from_borrowed_fd(inner, of_inner));
        let [near, far] = wait(node_end, inner_end)?;
        if near.intersects(PollFlags::ERR) || (near.intersects(PollFlags::HUP) && !outward_told) {
            return Ok(());
        }
        if inward.advance(!near.is_empty(), node.as_fd(), inner).is_err() {
            // It takes no more, but what it still has to say is carried on.
            inward.abandon();
            let _ = node.shutdown(Shutdown::Read);
        }
        if outward.advance(!far.is_empty(), inner, node.as_fd()).is_err() {
            outward.abandon();
        }
        if inward.is_over() && !inward_told {
            // One that is gone already need not be told.
            let _ = shutdown(inner, rustix::net::Shutdown::Write);
            inward_told = true;
        }
        if outward.is_over() && !outward_told {
            let _ = node.shutdown(Shutdown::Write);
            outward_told = true;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Two pairs with a relay between them: what the node holds, and what is inside.
    fn ends() -> (UnixStream, UnixStream, std::thread::JoinHandle<()>) {
        let (node, near) = UnixStream::pair().unwrap();
        let (far, inner) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let relay = std::thread::spawn(move || between(&near, far.as_fd()).unwrap());
        (node, inner, relay)
    }

    #[test]
    fn the_end_of_one_direction_leaves_the_other_open_and_both_ends_end_it() {
        let (mut node, mut inner, relay) = ends();
        let question = vec![7; 1 << 20];
        let sent = question.clone();
        let asking = std::thread::spawn(move || {
            node.write_all(&sent).unwrap();
            node.shutdown(Shutdown::Write).unwrap();
            let mut answer = String::new();
            node.read_to_string(&mut answer).unwrap();
            answer
        });
        let mut asked = Vec::new();
        inner.read_to_end(&mut asked).unwrap();
        assert!(asked == question);
        inner.write_all(b"the answer").unwrap();
        drop(inner);
        assert_eq!(asking.join().unwrap(), "the answer");
        relay.join().unwrap();
    }

    #[test]
    fn a_node_that_is_gone_ends_it_though_the_inner_end_says_nothing() {
        let (node, mut inner, relay) = ends();
        drop(node);
        relay.join().unwrap();
        assert_eq!(inner.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn what_the_node_says_last_arrives_though_both_have_ended_their_ways_by_then() {
        let (mut node, mut inner, relay) = ends();
        inner.write_all(b"the question").unwrap();
        inner.shutdown(Shutdown::Write).unwrap();
        let mut question = String::new();
        node.read_to_string(&mut question).unwrap();
        assert_eq!(question, "the question");
        // As much as goes in before every buffer on the way is full, whatever they hold: some of it is unread when the node's end is there.
        node.set_nonblocking(true).unwrap();
        let (mut answer, mut refused) = (0, 0);
        while refused < 20 {
            match node.write(&[7; 4096]) {
                Ok(n) => (answer, refused) = (answer + n, 0),
                Err(_) => {
                    refused += 1;
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            }
        }
        drop(node);
        let mut arrived = Vec::new();
        inner.read_to_end(&mut arrived).unwrap();
        assert_eq!(arrived.len(), answer);
        relay.join().unwrap();
    }

    #[test]
    fn one_that_takes_no_more_can_still_have_said_something() {
        let (mut node, mut inner, relay) = ends();
        inner.shutdown(Shutdown::Read).unwrap();
        inner.write_all(b"busy").unwrap();
        // Written until it is refused: how soon depends on buffers.
        while node.write(&[0; 1024]).is_ok() {}
        drop(inner);
        // What was said comes first; after it the end, or word that something written was never taken.
        let mut answer = [0; 4];
        node.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"busy");
        relay.join().unwrap();
    }
}
