//! When the machine is not rented out: the windows that its owner has set, and how long a rental may last until the next one.

use crate::{Error, config::Maintenance};
use market::time::{UnixMillis, parse_duration};

/// Milliseconds of a week.
const WEEK: u64 = 7 * 86_400_000;

/// A window, once or every week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    start: UnixMillis,
    millis: u64,
    weekly: bool,
}

/// One time in which nothing is rented out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closure {
    pub(crate) start: UnixMillis,
    pub(crate) end: UnixMillis,
}

/// All windows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Windows(Vec<Window>);

impl Windows {
    /// Reads the configuration.
    pub(crate) fn new(config: &[Maintenance]) -> Result<Self, Error> {
        config.iter().map(Window::new).collect::<Result<_, _>>().map(Self)
    }

    /// The one that goes on at `now`, else the next.
    pub(crate) fn next(&self, now: UnixMillis) -> Option<Closure> {
        let next = self.0.iter().filter_map(|window| window.next(now)).min_by_key(|closure| closure.start)?;
        // those that follow without a gap are one
        let joined = |end: UnixMillis| self.0.iter().filter_map(|window| window.next(end)).find(|c| c.start <= end);
        let mut end = next.end;
        for _ in 0..self.0.len() {
            match joined(end) {
                Some(closure) if closure.end > end => end = closure.end,
                _ => break,
            }
        }
        Some(Closure { end, ..next })
    }
}

impl Window {
    fn new(config: &Maintenance) -> Result<Self, Error> {
        let wrong = |why: String| Error::Config(format!("maintenance: {why}"));
        let start = config.start.parse().map_err(|error| wrong(format!("start: {error}")))?;
        let seconds = parse_duration(&config.lasts).map_err(|error| wrong(format!("lasts: {error}")))?;
        let millis = u64::from(seconds) * 1_000;
        if config.weekly && millis >= WEEK {
            return Err(wrong(format!("{} every week leaves no time to rent out", config.lasts)));
        }
        Ok(Self { start, millis, weekly: config.weekly })
    }

    fn next(&self, now: UnixMillis) -> Option<Closure> {
        let past = if self.weekly { now.since(self.start) / WEEK } else { 0 };
        let occurrence = |number: u64| {
            let start = self.start.plus(number * WEEK);
            Closure { start, end: start.plus(self.millis) }
        };
        match occurrence(past) {
            closure if closure.end > now => Some(closure),
            _ => self.weekly.then(|| occurrence(past + 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000;

    fn windows(rows: &[(&str, &str, bool)]) -> Windows {
        let row = |(start, lasts, weekly): &(&str, &str, bool)| Maintenance {
            start: (*start).to_owned(),
            lasts: (*lasts).to_owned(),
            weekly: *weekly,
        };
        Windows::new(&rows.iter().map(row).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_next_closure_is_the_one_that_goes_on_or_comes() {
        let once = windows(&[("1970-01-01T10:00Z", "2h", false)]);
        let weekly = windows(&[("1970-01-01T10:00Z", "2h", true)]);
        let start = |windows: &Windows, hour: u64| windows.next(UnixMillis(hour * HOUR)).map(|c| c.start.0 / HOUR);
        for (hour, expected) in [(0, Some(10)), (11, Some(10)), (12, None)] {
            assert_eq!(start(&once, hour), expected, "once, at {hour}");
        }
        for (hour, expected) in [(0, 10), (11, 10), (12, 178), (178, 178), (180, 346)] {
            assert_eq!(start(&weekly, hour), Some(expected), "weekly, at {hour}");
        }
    }

    #[test]
    fn windows_that_touch_are_one() {
        let rows =
            [("1970-01-01T12:00Z", "1h", false), ("1970-01-01T10:00Z", "2h", false), ("1970-01-01T14:00Z", "1h", true)];
        let closure = windows(&rows).next(UnixMillis(0)).unwrap();
        assert_eq!((closure.start.0 / HOUR, closure.end.0 / HOUR), (10, 13));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        for (start, lasts, weekly, word) in [
            ("tomorrow", "1h", false, "tomorrow"),
            ("1970-01-01T10:00Z", "long", false, "long"),
            ("1970-01-01T10:00Z", "7d", true, "7d"),
        ] {
            let config = Maintenance { start: start.into(), lasts: lasts.into(), weekly };
            assert!(Windows::new(&[config]).unwrap_err().to_string().contains(word));
        }
    }
}
