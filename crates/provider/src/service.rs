//! Whether new quotes are given: not while the owner has taken the machine out of service, and not in a maintenance window. Rentals that
//! go on are left alone by either; none is promised that would reach into a window.

use crate::{Config, maintenance::Closure, rules::Rules};
use market::{
    pricing::PRICE_GRACE,
    refusal::{Refusal, RefusalCode},
    time::UnixMillis,
};
use serde::{Deserialize, Serialize};

/// What is advertised changes no more often than this on the way to a maintenance window, in seconds.
const FINEST_STEP: u64 = 60;

/// The owner's order to take the machine out of service. On disk, so that a restart keeps to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drain {
    /// When it is over by itself; at the owner's word alone unless set.
    pub(crate) until: Option<UnixMillis>,
}

/// Why nothing is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The owner said so.
    Drained,
    /// A window goes on.
    Maintenance,
}

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Service {
    /// Quotes are given, up to the next maintenance.
    Open { next: Option<Closure> },
    /// None are.
    Closed { until: Option<UnixMillis>, why: Why },
}

impl Service {
    /// How it stands at `now`.
    pub(crate) fn at(drain: Option<Drain>, rules: &Rules, now: UnixMillis) -> Self {
        if let Some(Drain { until }) = drain.filter(|drain| drain.until.is_none_or(|until| until > now)) {
            return Self::Closed { until, why: Why::Drained };
        }
        match rules.windows.next(now) {
            Some(closure) if closure.start <= now => Self::Closed { until: Some(closure.end), why: Why::Maintenance },
            next => Self::Open { next },
        }
    }

    /// Whether a rental may be promised that is served for so many seconds; or why not.
    pub(crate) fn admit(&self, serving: u32, config: &Config, now: UnixMillis) -> Result<(), Refusal> {
        match self {
            Self::Closed { until, why } => {
                let what = match why {
                    Why::Drained => "no new rentals are taken",
                    Why::Maintenance => "maintenance",
                };
                let until = until.map_or_else(String::new, |until| format!(" until {until}"));
                Err(Refusal::new(RefusalCode::Draining, format!("{what}{until}")))
            }
            Self::Open { next: Some(closure) } if serving > longest(self, config, now) => {
                let left = longest(self, config, now);
                let detail = format!("maintenance begins at {}: at most {left} seconds until then", closure.start);
                Err(Refusal::new(RefusalCode::Duration, detail))
            }
            Self::Open { .. } => Ok(()),
        }
    }
}

/// How long a rental that is promised at `now` may be served, in seconds. It may be opened at the last moment of its quote, and its sandbox
/// take all the time it has.
fn longest(service: &Service, config: &Config, now: UnixMillis) -> u32 {
    left(service, config, now).map_or(config.max_seconds, |left| at_most(left, config.max_seconds))
}

/// The same as it is advertised: in steps, so that the advertisement does not change with every second, and less what it needs to reach
/// everybody, so that what is shown can be rented.
pub(crate) fn longest_advertised(service: &Service, config: &Config, now: UnixMillis) -> u32 {
    let step = u64::from(config.ad_lifetime_seconds / 3).max(FINEST_STEP);
    let shown = |left: u64| left.saturating_sub(PRICE_GRACE / 1_000) / step * step;
    left(service, config, now).map_or(config.max_seconds, |left| at_most(shown(left), config.max_seconds))
}

fn left(service: &Service, config: &Config, now: UnixMillis) -> Option<u64> {
    let Service::Open { next: Some(closure) } = service else { return None };
    let before = u64::from(config.hold_seconds) + u64::from(config.ready_seconds());
    Some((closure.start.since(now) / 1_000).saturating_sub(before))
}

fn at_most(left: u64, max: u32) -> u32 {
    u32::try_from(left).map_or(max, |left| left.min(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000;

    fn config() -> Config {
        Config {
            hold_seconds: 30,
            ready_seconds: 30,
            max_seconds: 86_400,
            ad_lifetime_seconds: 900,
            ..Config::default()
        }
    }

    fn before(start: u64) -> Service {
        Service::Open { next: Some(Closure { start: UnixMillis(start), end: UnixMillis(start + 1) }) }
    }

    #[test]
    fn no_promise_reaches_into_a_maintenance_and_the_refusal_says_when_it_is() {
        let (service, now) = (before(3_660 * SECOND), UnixMillis(0));
        assert_eq!(service.admit(3_600, &config(), now), Ok(()));
        let refusal = service.admit(3_601, &config(), now).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Duration);
        assert!(refusal.detail.contains("1970-01-01T01:01:00Z: at most 3600 seconds"), "{refusal}");
    }

    #[test]
    fn a_drained_machine_says_so_and_until_when() {
        let rules = Rules::default();
        let drained = |until, now| Service::at(Some(Drain { until }), &rules, now).admit(1, &config(), now);
        let refusal = drained(Some(UnixMillis(9 * SECOND)), UnixMillis(8 * SECOND)).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Draining);
        assert!(refusal.detail.ends_with("until 1970-01-01T00:00:09Z"), "{refusal}");
        assert_eq!(drained(None, UnixMillis(u64::MAX)).unwrap_err().code, RefusalCode::Draining);
        assert_eq!(drained(Some(UnixMillis(9 * SECOND)), UnixMillis(9 * SECOND)), Ok(()));
    }

    #[test]
    fn what_is_advertised_before_a_maintenance_can_be_rented_until_it_is_advertised_anew() {
        let service = before(100_000 * SECOND);
        let mut last = u32::MAX;
        let mut changes = 0;
        for second in 0..100_000 {
            let shown = longest_advertised(&service, &config(), UnixMillis(second * SECOND));
            let heard = UnixMillis(second * SECOND + PRICE_GRACE);
            assert!(shown == 0 || service.admit(shown, &config(), heard).is_ok(), "{shown} at {second}");
            changes += u32::from(shown != last);
            last = shown;
        }
        // a day in steps of five minutes
        assert!(changes <= 86_400 / 300 + 1, "{changes}");
    }
}
