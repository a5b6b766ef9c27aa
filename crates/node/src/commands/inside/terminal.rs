//! The terminal that this command runs in.

use rustix::{
    fs::OFlags,
    termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr},
};
use sandbox::TerminalSize;
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::fs::OpenOptionsExt,
    },
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf, unix::AsyncFd};

/// What a terminal is taken for whose size is unknown.
const USUAL: TerminalSize = TerminalSize { columns: 80, rows: 24 };
/// Variables that say how a terminal is spoken to and in which language: those that SSH clients send by custom.
const PASSED_ON: [&str; 8] = ["TERM", "COLORTERM", "LANG", "LC_ALL", "LC_CTYPE", "LC_MESSAGES", "LC_TIME", "TZ"];

/// How large it is.
pub(super) fn size() -> TerminalSize {
    let known = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_col > 0 && size.ws_row > 0);
    known.map_or(USUAL, |size| TerminalSize { columns: size.ws_col, rows: size.ws_row })
}

/// What a shell should know of it.
pub(super) fn environment() -> BTreeMap<String, String> {
    PASSED_ON.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect()
}

/// Keys go to the program as they are pressed, Ctrl-C among them, until this is dropped.
pub(super) struct Raw(Termios);

impl Raw {
    /// Where standard input is a terminal.
    pub(super) fn enter() -> Option<Self> {
        let before = tcgetattr(io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs no setting.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}

/// A terminal opened once more for this command alone. The runtime waits for it itself, without a thread between, which each key would wait
/// for; and whoever shares the terminal does not find it changed.
pub(super) struct Screen(AsyncFd<File>);

impl Screen {
    /// The one that a standard stream leads to, to be waited for in this way alone: each key that is waited for is room too, and to be told of
    /// both costs twice.
    pub(super) fn of(stream: &impl AsFd, interest: Interest) -> io::Result<Self> {
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let path = format!("/proc/self/fd/{}", stream.as_fd().as_raw_fd());
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        // SAFETY: the file owns its descriptor, and nobody replaces or closes it before both are dropped together.
        Ok(Self(unsafe { AsyncFd::register_with_interest(file, interest)? }))
    }
}

impl AsyncRead for Screen {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let mut ready = ready!(self.0.poll_read_ready(cx))?;
            if let Ok(read) = ready.try_io(|file| file.get_ref().read(buf.initialize_unfilled())) {
                return Poll::Ready(read.map(|length| buf.advance(length)));
            }
        }
    }
}

impl AsyncWrite for Screen {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut ready = ready!(self.0.poll_write_ready(cx))?;
            if let Ok(written) = ready.try_io(|file| file.get_ref().write(bytes)) {
                return Poll::Ready(written);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Watches what is typed for the way out of a shell that does not answer: `~.` at the beginning of a line.
#[derive(Debug)]
pub(super) struct WayOut {
    seen: Seen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    LineStart,
    Tilde,
    Other,
}

impl WayOut {
    pub(super) fn new() -> Self {
        Self { seen: Seen::LineStart }
    }

    /// Whether it was typed. The keys themselves are passed on, as long as they are not it.
    pub(super) fn in_keys(&mut self, keys: &[u8]) -> bool {
        for key in keys {
            self.seen = match (self.seen, key) {
                (_, b'\r' | b'\n') => Seen::LineStart,
                (Seen::LineStart, b'~') => Seen::Tilde,
                (Seen::Tilde, b'.') => return true,
                _ => Seen::Other,
            };
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_out_is_a_tilde_and_a_dot_at_the_beginning_of_a_line_however_they_arrive() {
        let typed = |pieces: &[&str]| {
            let mut way_out = WayOut::new();
            pieces.iter().any(|piece| way_out.in_keys(piece.as_bytes()))
        };
        assert!(typed(&["~."]));
        assert!(typed(&["ls\r~", "."]));
        assert!(!typed(&["cat a~.\r"]));
        assert!(!typed(&["cd ~\r", "."]));
        assert!(!typed(&["~~."]));
    }
}
