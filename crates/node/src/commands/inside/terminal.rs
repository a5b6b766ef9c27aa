//! The terminal that this command runs in.

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use sandbox::TerminalSize;
use std::{collections::BTreeMap, io};

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
