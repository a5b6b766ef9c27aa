//! What a client has sent on a channel and the sandbox has not yet taken.
//!
//! russh grants the client a new window as soon as data arrives, not when it is used, and its own queues, once full, would hold up the whole
//! connection: the other channels, and the news that the client is gone. So each channel has an inbox, which never refuses, and what is
//! granted next follows from the fullest of them ([`next_window`]): the client runs out of window there and waits, as it should. Because
//! russh grants only on arrival, a window is never less than [`TRICKLE`]: those few bytes keep asking whether there is room again,
//! and an overfull inbox takes each only after [`PATIENCE`].

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Notify, time::timeout};
use tokio_util::bytes::{Bytes, BytesMut};

/// Bytes that a client may send before it is granted more. The way to it lies within this machine, so this is time for a thread to be
/// scheduled, not for a packet to travel.
pub(super) const WINDOW: u32 = 2 << 20;
/// Bytes in an inbox from which on it is full. What was granted before that may still come: at most as much again.
const INBOX_LIMIT: usize = 2 << 20;
/// The smallest window: the least of which half is not nothing, since russh grants when less than half is left.
const TRICKLE: u32 = 2;
/// How long a full inbox holds up its connection for each packet: 400 bytes a second may come in while nothing is taken out, and a key
/// pressed in another channel waits no longer than that.
const PATIENCE: Duration = Duration::from_millis(5);
/// Bytes taken at once. What is taken no longer counts, so it is little.
const PIECE: usize = 64 * 1024;

/// The inbox of one channel.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    held: Mutex<Held>,
    arrived: Notify,
    taken: Notify,
}

#[derive(Debug, Default)]
struct Held {
    bytes: BytesMut,
    /// The client has said that no more comes.
    ended: bool,
    /// Nobody takes anything any more.
    shut: bool,
}

impl Inbox {
    /// Adds what arrived, and waits a little if that is too much already.
    pub(super) async fn put(&self, data: &[u8]) {
        {
            let mut held = self.lock();
            if held.shut {
                return;
            }
            held.bytes.extend_from_slice(data);
        }
        self.arrived.notify_one();
        let room = async {
            while self.len() >= INBOX_LIMIT {
                self.taken.notified().await;
            }
        };
        // whether there is room or not: what was granted is taken
        let _ = timeout(PATIENCE, room).await;
    }

    /// No more comes.
    pub(super) fn end(&self) {
        self.lock().ended = true;
        self.arrived.notify_one();
    }

    /// Whether no more comes.
    pub(super) fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Throws away what is here and what will come.
    pub(super) fn shut(&self) {
        let mut held = self.lock();
        held.shut = true;
        drop(mem::take(&mut held.bytes));
        self.taken.notify_one();
    }

    /// The next bytes, in any number but none; nothing at the end. For one reader.
    pub(super) async fn next(&self) -> Option<Bytes> {
        loop {
            {
                let mut held = self.lock();
                if !held.bytes.is_empty() {
                    let length = held.bytes.len().min(PIECE);
                    let piece = held.bytes.split_to(length).freeze();
                    self.taken.notify_one();
                    return Some(piece);
                }
                if held.ended {
                    return None;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Bytes that wait here.
    pub(super) fn len(&self) -> usize {
        self.lock().bytes.len()
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The window to be granted next, to whichever channel asks: what the fullest inbox has room for.
pub(super) fn next_window<'a>(inboxes: impl IntoIterator<Item = &'a Inbox>) -> u32 {
    let fullest = inboxes.into_iter().map(Inbox::len).max().unwrap_or_default();
    u32::try_from(INBOX_LIMIT.saturating_sub(fullest)).unwrap_or(WINDOW).clamp(TRICKLE, WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::Arc, time::Instant};

    #[tokio::test]
    async fn what_is_put_in_comes_out_in_order_and_then_the_end() {
        let inbox = Inbox::default();
        inbox.put(b"one ").await;
        inbox.put(&[7; PIECE]).await;
        inbox.end();
        let mut bytes = Vec::new();
        while let Some(piece) = inbox.next().await {
            assert!(piece.len() <= PIECE);
            bytes.extend_from_slice(&piece);
        }
        assert_eq!(bytes, [&b"one "[..], &[7; PIECE]].concat());
        assert_eq!(inbox.next().await, None);
    }

    #[tokio::test]
    async fn a_reader_that_waits_is_woken() {
        let inbox = Arc::new(Inbox::default());
        let reader = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.next().await }
        });
        tokio::task::yield_now().await;
        inbox.put(b"x").await;
        assert_eq!(reader.await.unwrap().unwrap(), &b"x"[..]);
    }

    #[tokio::test]
    async fn the_window_is_what_the_fullest_inbox_has_room_for() {
        let (empty, full) = (Inbox::default(), Inbox::default());
        assert_eq!(next_window([&empty, &full]), WINDOW);
        full.put(&[0; 1000]).await;
        assert_eq!(next_window([&empty, &full]), WINDOW - 1000);
        full.put(&[0; INBOX_LIMIT]).await;
        assert_eq!(next_window([&empty, &full]), TRICKLE);
        full.shut();
        assert_eq!(next_window([&empty, &full]), WINDOW);
    }

    #[tokio::test]
    async fn a_full_inbox_holds_up_whoever_fills_it_for_a_moment() {
        let inbox = Inbox::default();
        inbox.put(&[0; INBOX_LIMIT - 1]).await;
        let before = Instant::now();
        inbox.put(b"x").await;
        assert!(before.elapsed() >= PATIENCE, "{:?}", before.elapsed());
    }

    #[tokio::test]
    async fn a_full_inbox_holds_up_nobody_once_there_is_room() {
        let inbox = Arc::new(Inbox::default());
        inbox.put(&[0; INBOX_LIMIT - 1]).await;
        let filling = tokio::spawn({
            let inbox = inbox.clone();
            async move { inbox.put(b"x").await }
        });
        tokio::task::yield_now().await;
        assert!(!filling.is_finished());
        inbox.next().await.unwrap();
        // the runtime's clock stands on the next task's turn: the patience cannot have run out
        tokio::task::yield_now().await;
        assert!(filling.is_finished());
    }

    /// What russh does with a window, to a client that sends whatever it may and a sandbox that takes nothing.
    #[tokio::test]
    async fn a_client_that_floods_a_sandbox_that_takes_nothing_fills_little_more_than_an_inbox() {
        const PACKET: u32 = 32 * 1024;
        let inbox = Inbox::default();
        let (mut window, mut target) = (WINDOW, WINDOW);
        let mut trickled = 0;
        while trickled < 10 {
            let packet = window.min(PACKET);
            trickled += u32::from(packet <= TRICKLE);
            window -= packet;
            if window < target / 2 {
                window = target;
                target = next_window([&inbox]);
            }
            inbox.put(&vec![0; packet as usize]).await;
            assert!(inbox.len() < 2 * INBOX_LIMIT, "{} bytes", inbox.len());
        }
    }
}
