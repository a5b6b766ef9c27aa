//! Named lines at which a process can be made to die, for the tests that kill it at every one of them.
//!
//! What a node promises holds after `kill -9` at any line. To prove it, the lines that matter have names, and the environment variable
//! `GPULEASE_CRASH_AT` names one at which the process kills itself with SIGKILL: no unwinding, no flushing, no goodbye. A number after
//! the name (`provider.voucher.written:3`) lets it pass the line until that time. Optimised builds contain nothing of this.

/// The variable that names the line to die at.
pub const CRASH_AT: &str = "GPULEASE_CRASH_AT";

/// Dies here if this line was chosen. A name has three parts: who, doing what, and how far it is.
#[cfg(debug_assertions)]
pub fn crash_point(who: &str, what: &str, stage: &str) {
    if let Some(chosen) = chosen()
        && chosen.is_reached(who, what, stage)
    {
        tracing::error!(point = chosen.name, "dying here, as was asked for");
        let me = rustix::process::getpid();
        // the kernel delivers it before the call returns; should it ever fail, the test that waits for the death says so
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    }
}

/// See the other form: optimised builds have no such lines.
#[cfg(not(debug_assertions))]
pub const fn crash_point(_who: &str, _what: &str, _stage: &str) {}

#[cfg(debug_assertions)]
use chosen::chosen;

#[cfg(debug_assertions)]
mod chosen {
    use super::CRASH_AT;
    use std::sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering},
    };

    /// A line to die at.
    pub(super) struct Chosen {
        pub(super) name: String,
        /// How often it is passed first.
        passes: AtomicU64,
    }

    impl Chosen {
        pub(super) fn parse(text: &str) -> Option<Self> {
            let (name, time) = match text.rsplit_once(':') {
                Some((name, time)) => (name, time.parse().ok().filter(|time| *time > 0)?),
                None => (text, 1u64),
            };
            (!name.is_empty()).then(|| Self { name: name.to_owned(), passes: AtomicU64::new(time - 1) })
        }

        pub(super) fn is_reached(&self, who: &str, what: &str, stage: &str) -> bool {
            let mut parts = self.name.splitn(3, '.');
            let same = [who, what, stage].into_iter().all(|part| parts.next() == Some(part));
            let pass = |left: u64| left.checked_sub(1);
            same && self.passes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, pass).is_err()
        }
    }

    /// What the environment chose, read once.
    pub(super) fn chosen() -> Option<&'static Chosen> {
        static CHOSEN: OnceLock<Option<Chosen>> = OnceLock::new();
        CHOSEN.get_or_init(|| std::env::var(CRASH_AT).ok().and_then(|text| Chosen::parse(&text))).as_ref()
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_line_is_reached_at_the_time_that_was_named() {
            let third = Chosen::parse("provider.voucher.written:3").unwrap();
            let times = || third.is_reached("provider", "voucher", "written");
            assert_eq!([times(), times(), times()], [false, false, true]);
            let first = Chosen::parse("renter.opened.acted").unwrap();
            assert!(!first.is_reached("renter", "opened", "written") && first.is_reached("renter", "opened", "acted"));
        }

        #[test]
        fn nonsense_chooses_nothing() {
            for text in ["", "a.b.c:", "a.b.c:0", "a.b.c:x", ":2"] {
                assert!(Chosen::parse(text).is_none(), "{text}");
            }
        }
    }
}
