//! Rentals that give way to others.

use super::*;
use crate::preemption::{PreemptReason, SignedNotice};

const NOTICE: u32 = 30;

fn notice(id: RentalId, at: u64) -> SignedNotice {
    SignedNotice { id, at: UnixMillis(at), reason: PreemptReason::OnDemand, signature: signature() }
}

/// A provider's rental whose meter runs since [`START`], and that may have to give way.
fn interruptible(notice_seconds: u32) -> provider::Rental {
    let (quote, terms) = agreed();
    let mut rental = provider::Rental::new(quote, Terms { notice_seconds, ..terms }, Bytes::new(), 1);
    rental.step(provider::Input::Opened(opening()), at(0)).unwrap();
    rental.step(provider::Input::SandboxReady(signature()), at(0)).unwrap();
    assert_eq!(rental.phase, provider::Phase::Serving);
    rental
}

#[test]
fn a_rental_that_gives_way_is_served_until_the_moment_of_its_notice_and_not_longer() {
    use provider::{Effect, Input, Phase};
    let mut rental = interruptible(NOTICE);
    let end = START + 5_000;
    assert_eq!(rental.step(Input::Preempt(notice(rental.id, end)), at(1_000)).unwrap(), [Effect::Notify]);
    // told twice, the first word holds
    assert_eq!(rental.step(Input::Preempt(notice(rental.id, end - 3_000)), at(1_500)).unwrap(), []);
    assert_eq!(rental.resume(), [Effect::Thaw, Effect::Notify], "a restart tells the program again");
    assert_eq!(rental.step(Input::Tick, at(4_999)).unwrap(), []);
    assert_eq!(rental.phase, Phase::Serving);
    assert_eq!(rental.step(Input::Tick, at(5_000)).unwrap(), [Effect::Destroy, Effect::Close]);
    assert_eq!((rental.phase, rental.stopped_at), (Phase::Closing, Some(at(5_000))));
}

#[test]
fn a_rental_on_demand_gives_way_to_nobody() {
    let mut rental = interruptible(0);
    assert_eq!(rental.step(provider::Input::Preempt(notice(rental.id, START)), at(1_000)).unwrap(), []);
    assert_eq!(rental.step(provider::Input::Tick, at(2_000)).unwrap(), []);
    assert_eq!(rental.phase, provider::Phase::Serving);
}

#[test]
fn a_renter_keeps_the_first_notice_of_a_rental_that_may_give_way_and_no_other() {
    let noticed = |notice_seconds, of: Option<RentalId>| {
        let (quote, terms) = agreed();
        let terms = Terms { notice_seconds, ..terms };
        let mut rental = renter::Rental::new(quote, terms, Bytes::new(), opening().deposit, 1);
        rental.step(renter::Input::Open, at(0)).unwrap();
        rental.step(renter::Input::Opened(opening()), at(0)).unwrap();
        rental.step(renter::Input::Ready(at(0), signature()), at(0)).unwrap();
        let id = of.unwrap_or(rental.id);
        for end in [START + 9_000, START + 3_000] {
            rental.step(renter::Input::Noticed(notice(id, end)), at(1_000)).unwrap();
        }
        rental.notice.map(|notice| notice.at.0)
    };
    assert_eq!(noticed(NOTICE, None), Some(START + 9_000));
    assert_eq!(noticed(0, None), None, "nothing of that was agreed");
    assert_eq!(noticed(NOTICE, Some(RentalId(B256::repeat_byte(9)))), None);
}
