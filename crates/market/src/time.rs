//! Moments and durations. Wall-clock moments are Unix milliseconds, durations of a rental are whole seconds; deadlines that the
//! chain judges are Unix seconds of block time and never mix with the wall clock.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A moment of the wall clock, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// The present moment. The only place where this crate's callers should read the wall clock.
    pub fn now() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// Milliseconds from `earlier` to this moment; zero when it lies in the future.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The moment `millis` later.
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Whole seconds since 1970.
    pub const fn seconds(self) -> u64 {
        self.0 / 1_000
    }
}

impl fmt::Display for UnixMillis {
    /// RFC 3339 in UTC, to the second (days-to-date arithmetic after Howard Hinnant's `civil_from_days`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.seconds();
        let (days, rest) = (seconds / 86_400, seconds % 86_400);
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        let year = year_of_era + era * 400 + u64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3_600, rest / 60 % 60, rest % 60)
    }
}

impl FromStr for UnixMillis {
    type Err = MomentError;

    /// Reads RFC 3339 in UTC, with or without seconds (date-to-days arithmetic after Howard Hinnant's `days_from_civil`).
    fn from_str(text: &str) -> Result<Self, MomentError> {
        read_moment(text).filter(|moment| is_as_written(*moment, text)).ok_or_else(|| MomentError(text.to_owned()))
    }
}

fn read_moment(text: &str) -> Option<UnixMillis> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.splitn(3, '-').map(str::parse::<u64>);
    let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
    let mut time = time.splitn(3, ':').map(str::parse::<u64>);
    let (hour, minute) = (time.next()?.ok()?, time.next()?.ok()?);
    let second = time.next().transpose().ok()?.unwrap_or_default();
    if !(1_970..=9_999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = year - u64::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let days = (era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year) - 719_468;
    Some(UnixMillis((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000))
}

/// Whether a moment is the one that was written: a 31st of February is another day.
fn is_as_written(moment: UnixMillis, text: &str) -> bool {
    let (shown, text) = (moment.to_string(), text.trim_end_matches('Z'));
    shown.trim_end_matches('Z') == text || shown.strip_suffix(":00Z") == Some(text)
}

/// A moment that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a moment: write it in UTC, like 2026-12-24T18:00Z")]
pub struct MomentError(pub String);

/// Reads a duration as people write it: `90`, `90s`, `15m`, `1h`, `2d`, `1h30m`. The result is in seconds.
pub fn parse_duration(text: &str) -> Result<u32, DurationError> {
    let bad = || DurationError(text.to_owned());
    let mut total: u64 = 0;
    let mut digits = String::new();
    for c in text.trim().chars() {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        let unit = match c {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return Err(bad()),
        };
        total = digits
            .parse::<u64>()
            .ok()
            .and_then(|n| n.checked_mul(unit))
            .and_then(|n| total.checked_add(n))
            .ok_or_else(bad)?;
        digits.clear();
    }
    if !digits.is_empty() {
        total = digits.parse::<u64>().ok().and_then(|n| total.checked_add(n)).ok_or_else(bad)?;
    }
    match u32::try_from(total) {
        Ok(seconds) if seconds > 0 => Ok(seconds),
        _ => Err(bad()),
    }
}

/// A duration that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: write it like 90s, 15m, 1h30m or 2d")]
pub struct DurationError(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_prints_as_rfc_3339() {
        assert_eq!(UnixMillis(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(UnixMillis(951_782_400_000).to_string(), "2000-02-29T00:00:00Z");
        assert_eq!(UnixMillis(1_795_284_726_999).to_string(), "2026-11-21T18:12:06Z");
    }

    #[test]
    fn a_moment_is_read_as_it_prints() {
        for at in [0, 951_782_400_000, 1_795_284_726_000, 4_102_444_799_000] {
            assert_eq!(UnixMillis(at).to_string().parse(), Ok(UnixMillis(at)));
        }
        assert_eq!("2000-02-29T00:00Z".parse(), Ok(UnixMillis(951_782_400_000)));
        for bad in ["", "2026-02-31T00:00Z", "2026-12-24", "2026-12-24T18:00", "2026-12-24T25:00Z", "1969-01-01T00:00Z"]
        {
            assert!(bad.parse::<UnixMillis>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        assert_eq!(parse_duration("90"), Ok(90));
        assert_eq!(parse_duration("1h30m"), Ok(5_400));
        assert_eq!(parse_duration("2d"), Ok(172_800));
        for bad in ["", "0", "m", "1x", "99999999d", "-5s"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
