//! How the demonstration talks: one line a step, a spinner while it lasts when someone is watching, and nothing at all when it is driven
//! by tests. It talks on standard error; standard output belongs to the job.

use indicatif::{ProgressBar, ProgressStyle};
use std::{fmt::Display, io::IsTerminal, time::Duration};

/// Says the steps of something, or keeps silent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Steps {
    spoken: bool,
}

impl Steps {
    pub(crate) fn spoken() -> Self {
        Self { spoken: true }
    }

    /// A new part of the story.
    pub(crate) fn heading(&self, text: impl Display) {
        self.line(format_args!("\n{}", style("1", text)));
    }

    /// Something that is so.
    pub(crate) fn note(&self, text: impl Display) {
        self.line(format_args!("  {} {text}", style("32", "✓")));
    }

    /// Something worth knowing that needed no check.
    pub(crate) fn plain(&self, text: impl Display) {
        self.line(format_args!("    {text}"));
    }

    /// Something that is not as it should be.
    pub(crate) fn fault(&self, text: impl Display) {
        self.line(format_args!("  {} {text}", style("31;1", "✗")));
    }

    /// Begins something that takes a while.
    pub(crate) fn begin(&self, text: impl Display) -> Step {
        let bar = if self.spoken { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("  {spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(format!("{text} …"));
        bar.enable_steady_tick(Duration::from_millis(100));
        Step { steps: *self, bar }
    }

    fn line(&self, text: impl Display) {
        if self.spoken {
            eprintln!("{text}");
        }
    }
}

/// Something under way. Dropped without a word it vanishes: the error that did it speaks for itself.
pub(crate) struct Step {
    steps: Steps,
    bar: ProgressBar,
}

impl Step {
    /// Says how it went.
    pub(crate) fn done(self, text: impl Display) {
        self.bar.finish_and_clear();
        self.steps.note(text);
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Text in an ANSI style when a person is watching who does not mind.
pub(crate) fn style(code: &str, text: impl Display) -> String {
    if std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{code}m{text}\x1b[0m")
    } else {
        text.to_string()
    }
}
