//! Money that is earned and not cashed: when its owner is told, and in which words.

use market::{
    money::Amount,
    rental::provider::{Phase, Rental},
    time::UnixMillis,
};

/// How long cashing may take before the owner is told: many blocks of a slow chain, and a small part of the shortest window (15 min).
const AFTER: u64 = 120_000;
/// How often an alarm is repeated in the log.
const EVERY: u64 = 60_000;

/// What goes wrong with the money of one rental.
#[derive(Default)]
pub(crate) struct Alarm {
    trouble: Option<Trouble>,
    /// When the owner was told last.
    sounded: Option<UnixMillis>,
}

/// Why money was not cashed when that was tried last, and since when that goes wrong.
struct Trouble {
    since: UnixMillis,
    why: String,
}

impl Alarm {
    /// Cashing was tried; it failed for this reason, or it did not fail.
    pub(crate) fn tried(&mut self, error: Option<String>, now: UnixMillis) {
        let since = self.trouble.take().map_or(now, |before| before.since);
        self.trouble = error.map(|why| Trouble { since, why });
    }

    /// What the owner should know, at a moment that is `chain_time` on chain (Unix seconds).
    pub(crate) fn warning(&self, rental: &Rental, chain_time: u64, now: UnixMillis) -> Option<String> {
        let since = match rental.phase {
            Phase::Closing => rental.stopped_at?,
            Phase::Preparing | Phase::Serving | Phase::Frozen => self.trouble.as_ref()?.since,
            Phase::Held | Phase::Closed | Phase::Lapsed => return None,
        };
        if rental.unclaimed() == Amount::ZERO || now.since(since) < AFTER {
            return None;
        }
        let at_stake = rental.terms.token.show(rental.unclaimed());
        let why = self.trouble.as_ref().map_or("the chain does not show the closing yet", |trouble| &trouble.why);
        Some(match rental.forfeit_at()?.saturating_sub(chain_time) {
            0 => format!("{at_stake} is not cashed, and from now on anybody may return it to the renter: {why}"),
            left => format!("{at_stake} is not cashed yet; after {left} s anybody may return it to the renter: {why}"),
        })
    }

    /// Whether it was not told for so long that it is time again.
    pub(crate) fn is_due(&self, now: UnixMillis) -> bool {
        self.sounded.is_none_or(|sounded| now.since(sounded) >= EVERY)
    }

    /// The owner was told.
    pub(crate) fn sounded(&mut self, now: UnixMillis) {
        self.sounded = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{covered, opened, units};
    use market::rental::provider::Input;

    /// Opened at second 20 for an hour with a window of 900 s, served from 22 s on, and 5,000 base units (0.005 tUSD) paid.
    fn serving() -> Rental {
        let mut rental = opened(21_000);
        rental.step(Input::SandboxReady(rental.quote.signature), UnixMillis(22_000)).unwrap();
        rental.voucher = Some(covered(&rental, 5_000));
        rental
    }

    const FORFEIT: u64 = 20 + 3_600 + 900;

    #[test]
    fn money_that_claims_do_not_fetch_for_two_minutes_is_told_with_the_reason_and_the_time_that_is_left() {
        let (rental, mut alarm) = (serving(), Alarm::default());
        assert_eq!(alarm.warning(&rental, 500, UnixMillis(500_000)), None, "nothing went wrong");
        alarm.tried(Some("no endpoint answers".into()), UnixMillis(500_000));
        assert_eq!(alarm.warning(&rental, 619, UnixMillis(619_999)), None, "it may take a while");
        // failing again does not begin anew, and the newest reason is told
        alarm.tried(Some("the account has no gas".into()), UnixMillis(600_000));
        let told = alarm.warning(&rental, 620, UnixMillis(620_000)).unwrap();
        assert_eq!(
            told,
            format!(
                "0.005 tUSD is not cashed yet; after {} s anybody may return it to the renter: the account has no gas",
                FORFEIT - 620
            )
        );
        let late = alarm.warning(&rental, FORFEIT, UnixMillis(FORFEIT * 1_000)).unwrap();
        assert!(late.contains("from now on anybody may return it"), "{late}");
        alarm.tried(None, UnixMillis(700_000));
        assert_eq!(alarm.warning(&rental, 900, UnixMillis(900_000)), None, "it went well again");
    }

    #[test]
    fn nothing_earned_is_nothing_to_warn_of() {
        let (mut rental, mut alarm) = (serving(), Alarm::default());
        alarm.tried(Some("no endpoint answers".into()), UnixMillis(0));
        rental.claimed = units(5_000);
        assert_eq!(alarm.warning(&rental, 900, UnixMillis(900_000)), None, "all of it is claimed");
        (rental.claimed, rental.voucher) = (Amount::ZERO, None);
        assert_eq!(alarm.warning(&rental, 900, UnixMillis(900_000)), None, "nothing was paid");
    }

    #[test]
    fn a_closing_that_the_chain_does_not_show_is_told_though_every_transaction_went_well() {
        let (mut rental, mut alarm) = (serving(), Alarm::default());
        rental.step(Input::StoppedOnChain(100), UnixMillis(100_000)).unwrap();
        alarm.tried(None, UnixMillis(101_000));
        assert_eq!(alarm.warning(&rental, 219, UnixMillis(219_999)), None);
        let told = alarm.warning(&rental, 220, UnixMillis(220_000)).unwrap();
        // the stop began the window
        assert!(told.contains(&format!("after {} s", 100 + 900 - 220)), "{told}");
        assert!(told.contains("the chain does not show the closing yet"), "{told}");
    }

    #[test]
    fn an_alarm_is_repeated_once_a_minute_however_often_cashing_is_tried() {
        let mut alarm = Alarm::default();
        alarm.tried(Some("no endpoint answers".into()), UnixMillis(0));
        assert!(alarm.is_due(UnixMillis(120_000)));
        alarm.sounded(UnixMillis(120_000));
        for (at, error) in [(125_000, None), (130_000, Some("no endpoint answers".to_owned())), (179_999, None)] {
            alarm.tried(error, UnixMillis(at));
            assert!(!alarm.is_due(UnixMillis(at)), "told {at} ms after the start already");
        }
        assert!(alarm.is_due(UnixMillis(180_000)));
    }
}
