//! A rental told in the order of its life, from what this side has written down. What was never written, such as the moment of each
//! freeze, is told as the sum that is kept.

use api::types::{Receipt, StoryStep};
use market::{
    money::Amount,
    rental::provider::{Phase, Rental},
    time::UnixMillis,
};

/// The steps of a rental up to `now`.
pub(crate) fn steps(rental: &Rental, receipt: Option<&Receipt>, now: UnixMillis) -> Vec<StoryStep> {
    let (token, q) = (&rental.terms.token, &rental.quote.quote);
    let mut steps = vec![StoryStep::new(
        "quoted",
        None,
        format!(
            "{} on {} at {} an hour for up to {} s, after block {}; to be opened by {}{}",
            rental.terms.offer,
            rental.terms.slot,
            token.show(q.rate.hourly()),
            q.max_seconds,
            rental.quoted_at_block,
            UnixMillis(u64::from(q.expiry) * 1_000),
            q.named_arbiter().map_or_else(String::new, |arbiter| format!("; disputes go to {arbiter}")),
        ),
    )];
    if rental.phase == Phase::Lapsed {
        steps.push(StoryStep::new("lapsed", None, "the quote was never opened; the slot is free again"));
    }
    if let Some(mandate) = &rental.mandate {
        let ahead = token.show(mandate.advance.cumulative);
        let detail = format!("the renter has no coin for gas: opened here in its name, with {ahead} in advance");
        steps.push(StoryStep::new("mandated", None, detail));
    }
    if let Some(opening) = rental.opening {
        let detail = format!("{} locked by {}", token.show(opening.deposit), q.renter);
        steps.push(StoryStep::on_chain("opened", opening.start, opening.tx, opening.block, detail));
    }
    if let Some(at) = rental.preparing_since {
        steps.push(StoryStep::new("preparing", Some(at), "the opening is confirmed; the sandbox is being made"));
    }
    if let Some((at, _)) = rental.ready {
        steps.push(StoryStep::new("ready", Some(at), "the sandbox is up and the meter runs"));
    }
    if let Some(notice) = rental.notice {
        steps.push(StoryStep::new("preempted", Some(notice.at), format!("gives way to {}", notice.reason)));
    }
    if let Some(voucher) = rental.voucher {
        let detail = format!("{} signed for, in {} vouchers taken", token.show(voucher.cumulative), rental.acks);
        steps.push(StoryStep::new("voucher", None, detail));
    }
    if rental.claimed > Amount::ZERO {
        let at = rental.claimed_at.map(|at| UnixMillis(at * 1_000));
        steps.push(StoryStep::new("claimed", at, format!("{} claimed part-way", token.show(rental.claimed))));
    }
    let frozen = rental.frozen_total(now);
    if frozen > 0 || rental.frozen_since.is_some() {
        let state = if rental.phase == Phase::Frozen { "unpaid and frozen since then" } else { "unpaid for a while" };
        let detail = format!("{state}; {}.{:03} s frozen in all", frozen / 1_000, frozen % 1_000);
        steps.push(StoryStep::new("frozen", rental.frozen_since, detail));
    }
    if let Some(fault) = &rental.fault {
        steps.push(StoryStep::new("failed", rental.stopped_at, fault.to_string()));
    }
    if let Some(at) = rental.stopped_at {
        let served = rental.served_millis(now);
        let detail = format!("served {}.{:03} s; the sandbox is removed", served / 1_000, served % 1_000);
        steps.push(StoryStep::new("finished", Some(at), detail));
    }
    if let Some(release) = receipt.and_then(|receipt| receipt.release) {
        steps.push(StoryStep::new(
            "released",
            None,
            format!("{} signed as the final total", token.show(release.cumulative)),
        ));
    }
    steps.extend(api::story::chain_end(q, token, rental.opening, rental.stop_time, rental.closing));
    if let Some(receipt) = receipt {
        let detail = format!("{} s billed; in full: node receipts {}", receipt.seconds, rental.id.short());
        steps.push(StoryStep::new("receipt", None, detail));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::{quoted, units};
    use alloy_primitives::B256;
    use market::rental::{
        Closing, Opening,
        provider::{Effect, Input},
    };

    fn names(steps: &[StoryStep]) -> Vec<&str> {
        steps.iter().map(|step| step.step.as_str()).collect()
    }

    #[test]
    fn a_rental_is_told_in_the_order_of_its_life_with_the_moments_that_are_known() {
        let mut rental = quoted();
        let at = UnixMillis;
        assert_eq!(names(&steps(&rental, None, at(0))), ["quoted"]);
        let opening = Opening { deposit: units(90_000), start: 20, tx: B256::repeat_byte(0x11), block: 4 };
        rental.step(Input::Opened(opening), at(21_000)).unwrap();
        rental.step(Input::SandboxReady(rental.quote.signature), at(22_000)).unwrap();
        assert_eq!(rental.step(Input::Tick, at(23_000)).unwrap(), [Effect::Freeze]);
        let told = steps(&rental, None, at(24_500));
        assert_eq!(names(&told), ["quoted", "opened", "preparing", "ready", "frozen"]);
        assert_eq!(told[4].at, Some(at(23_000)));
        assert!(told[4].detail.contains("1.500 s frozen in all"), "{}", told[4].detail);

        rental.step(Input::Evict, at(25_000)).unwrap();
        let closing = Closing {
            paid: Amount::ZERO,
            refunded: units(90_000),
            elapsed: 6,
            kind: 1,
            tx: B256::repeat_byte(0x22),
            block: 9,
            time: 26,
        };
        rental.step(Input::Closed(closing), at(27_000)).unwrap();
        let receipt = crate::closing::receipt(&rental, None).unwrap();
        let told = steps(&rental, Some(&receipt), at(99_000));
        assert_eq!(names(&told), ["quoted", "opened", "preparing", "ready", "frozen", "finished", "closed", "receipt"]);
        let moments: Vec<_> = told.iter().filter_map(|step| step.at).collect();
        assert!(moments.is_sorted(), "{moments:?}");
        assert_eq!((told[1].tx, told[1].block, told[1].at), (Some(opening.tx), Some(4), Some(at(20_000))));
        assert_eq!((told[6].tx, told[6].block, told[6].at), (Some(closing.tx), Some(9), Some(at(26_000))));
        assert!(told[4].detail.contains("2.000 s frozen in all"), "what was frozen stops with the serving");
        assert!(told[5].detail.contains("served 3.000 s"), "{}", told[5].detail);
        assert!(told[6].detail.contains("by the provider: 0 tUSD paid, 0.09 tUSD returned"), "{}", told[6].detail);
    }

    #[test]
    fn a_quote_that_nobody_opened_and_a_sandbox_that_did_not_come_up_say_so() {
        let mut rental = quoted();
        rental.step(Input::BlockTime(61), UnixMillis(0)).unwrap();
        assert_eq!(names(&steps(&rental, None, UnixMillis(1))), ["quoted", "lapsed"]);

        let mut rental = quoted();
        let opening = Opening { deposit: units(1), start: 20, tx: B256::ZERO, block: 4 };
        rental.step(Input::Opened(opening), UnixMillis(21_000)).unwrap();
        rental.step(Input::SandboxFailed("the disk is full".into()), UnixMillis(22_000)).unwrap();
        let told = steps(&rental, None, UnixMillis(30_000));
        assert_eq!(names(&told), ["quoted", "opened", "preparing", "failed", "finished"]);
        assert!(told[3].detail.contains("the disk is full"), "{}", told[3].detail);
    }
}
