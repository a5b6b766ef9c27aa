//! What commands print: tables and colours for people at a terminal, plain lines for pipes, JSON for programs. Results go to standard
//! output, everything else to standard error; a reader that goes away early is no error.

use api::types::{ApiError, Role};
use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};
use serde::Serialize;
use std::io::{self, IsTerminal, Write};

/// Where results go, and in which form.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// JSON instead of text.
    pub(crate) json: bool,
    /// Standard output is a terminal.
    terminal: bool,
    /// Colours on standard output.
    style: Style,
}

impl Output {
    /// For this process.
    pub(crate) fn new(json: bool) -> Self {
        let terminal = io::stdout().is_terminal();
        Self { json, terminal, style: Style::on(terminal) }
    }

    /// Prints a result as JSON, or else as the text that `text` makes of it.
    pub(crate) fn result<T: Serialize>(&self, value: &T, text: impl FnOnce(&Self) -> String) -> Result<(), ApiError> {
        if self.json {
            let json = if self.terminal { serde_json::to_string_pretty(value) } else { serde_json::to_string(value) };
            print(&json.map_err(|error| ApiError::new(api::types::ErrorKind::Failed, error.to_string(), ""))?);
        } else {
            print(&text(self));
        }
        Ok(())
    }

    /// A table with a heading. Columns marked `true` hold numbers and stand to the right. At a terminal it is fitted to its width; in a
    /// pipe each row is one line.
    pub(crate) fn table(&self, columns: &[(&str, bool)], rows: Vec<Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(if self.terminal {
            ContentArrangement::Dynamic
        } else {
            ContentArrangement::Disabled
        });
        if !self.style.colours {
            table.force_no_tty();
        }
        table.set_header(columns.iter().map(|(name, _)| Cell::new(name).add_attribute(Attribute::Bold)));
        table.add_rows(rows.into_iter().map(|row| row.into_iter().map(|cell| printable(&cell))));
        for (column, (_, number)) in table.column_iter_mut().zip(columns) {
            column.set_padding((0, 2));
            column.set_cell_alignment(if *number { CellAlignment::Right } else { CellAlignment::Left });
        }
        table.trim_fmt()
    }
}

/// Says on standard error, to people at a terminal, what is being waited for; gone when dropped.
pub(crate) struct Waiting(indicatif::ProgressBar);

impl Waiting {
    /// How often the sign of life moves.
    const TICK: std::time::Duration = std::time::Duration::from_millis(120);

    pub(crate) fn begin(what: &str) -> Self {
        // draws nothing where standard error is no terminal
        let bar = indicatif::ProgressBar::new_spinner().with_message(printable(what));
        bar.enable_steady_tick(Self::TICK);
        Self(bar)
    }

    pub(crate) fn now(&self, what: &str) {
        self.0.set_message(printable(what));
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Prints to standard output. Whoever read it may have seen enough (`node offers | head`).
pub(crate) fn print(text: &str) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// Says something on standard error that is neither a result nor an error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable(text));
}

/// Prints an error to standard error: what happened, and what to do next. As JSON when that was asked for.
pub(crate) fn print_error(error: &ApiError, json: bool) {
    let mut stderr = io::stderr().lock();
    let text = if json {
        serde_json::json!({ "error": error }).to_string()
    } else {
        error_text(error, Style::on(io::stderr().is_terminal()))
    };
    // there is no one left to tell
    let _ = writeln!(stderr, "{text}");
}

fn error_text(error: &ApiError, style: Style) -> String {
    let mut text = style.red("error:");
    for (at, line) in error.message.trim_end().lines().chain(error.next.lines()).enumerate() {
        text.push_str(if at == 0 { " " } else { "\n  " });
        text.push_str(&printable(line));
    }
    text
}

/// Colours, or none: only at a terminal, and not where NO_COLOR (no-color.org) is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Style {
    colours: bool,
}

impl Style {
    /// For a stream that is or is not a terminal.
    pub(crate) fn on(terminal: bool) -> Self {
        Self { colours: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
    }

    /// No colours.
    #[cfg(test)]
    pub(crate) const fn plain() -> Self {
        Self { colours: false }
    }

    fn paint(self, code: u8, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.paint(1, text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.paint(2, text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.paint(31, text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.paint(32, text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint(33, text)
    }

    pub(crate) fn cyan(self, text: &str) -> String {
        self.paint(36, text)
    }
}

/// Text of others without what would command the terminal: control characters show as `\u{1b}` and the like.
pub(crate) fn printable(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut clean, c| {
        if c.is_control() {
            clean.extend(c.escape_default())
        } else {
            clean.push(c)
        }
        clean
    })
}

/// A command as one would type it: words that a shell would take apart are quoted.
pub(crate) fn command_line(argv: &[String]) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%^".contains(c);
    let word = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    printable(&argv.iter().map(word).collect::<Vec<_>>().join(" "))
}

/// A peer as it is shown to people: the end of its id, which is where peer ids differ.
pub(crate) fn short_peer(peer: &str) -> String {
    const SHOWN: usize = 8;
    match peer.char_indices().rev().nth(SHOWN - 1) {
        Some((at, _)) if at > 0 => format!("…{}", &peer[at..]),
        _ => peer.to_owned(),
    }
}

/// A number of bytes as people read it.
pub(crate) fn bytes(count: u64) -> String {
    match count {
        1 => "1 byte".to_owned(),
        0..1_024 => format!("{count} bytes"),
        _ => indicatif::BinaryBytes(count).to_string(),
    }
}

/// A number of seconds as people read it: `1h 02m 03s`.
pub(crate) fn duration(seconds: u32) -> String {
    let (h, m, s) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (h, m) {
        (0, 0) => format!("{s}s"),
        (0, _) => format!("{m}m {s:02}s"),
        _ => format!("{h}h {m:02}m {s:02}s"),
    }
}

/// What a role is called.
pub(crate) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Provider => "provider",
        Role::Renter => "renter",
        Role::Indexer => "indexer",
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use api::types::ErrorKind;

    pub(crate) fn plain() -> Output {
        Output { json: false, terminal: false, style: Style::plain() }
    }

    #[test]
    fn an_error_says_what_happened_and_what_to_do() {
        let error = ApiError::new(ErrorKind::NoDaemon, "no daemon listens", "start it: node --role renter");
        assert_eq!(error_text(&error, Style::plain()), "error: no daemon listens\n  start it: node --role renter");
        let error = ApiError::new(ErrorKind::Failed, "at line 2\n2 | x\x1b", "mend it");
        assert_eq!(error_text(&error, Style::plain()), "error: at line 2\n  2 | x\\u{1b}\n  mend it");
        let error = ApiError::new(ErrorKind::Failed, "it broke", "");
        assert_eq!(error_text(&error, Style { colours: true }), "\x1b[31merror:\x1b[0m it broke");
    }

    #[test]
    fn nothing_that_others_say_commands_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\r\n"), "a\\u{1b}[2Jb\\r\\n");
    }

    #[test]
    fn a_command_is_shown_as_one_would_type_it() {
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(command_line(&argv(&["sh", "-c", "echo it's\n done", ""])), r"sh -c 'echo it'\''s\n done' ''");
        assert_eq!(command_line(&argv(&["./job", "--seed=7"])), "./job --seed=7");
    }

    #[test]
    fn sizes_times_and_peers_are_shown_as_people_read_them() {
        assert_eq!([bytes(0), bytes(1), bytes(999), bytes(1 << 20)], ["0 bytes", "1 byte", "999 bytes", "1.00 MiB"]);
        assert_eq!([duration(9), duration(69), duration(3_723)], ["9s", "1m 09s", "1h 02m 03s"]);
        assert_eq!(short_peer("12D3KooWabcdefghABCDEFGH"), "…ABCDEFGH");
        assert_eq!(short_peer("short"), "short");
    }
}
