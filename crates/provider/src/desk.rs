//! Where a renter's question is weighed: everything that can be said without asking the chain. Each "no" has its code and its words.

use crate::{Config, inventory::Inventory};
use market::{
    offer::{Offer, Price},
    refusal::{Refusal, RefusalCode},
    terms::{Image, NetworkAccess},
    time::UnixMillis,
};
use wire::QuoteAsk;

/// How far the moment in a request may lie from our clock, in seconds: twice the skew of advertisements, for it also travelled.
const MAX_REQUEST_AGE: u64 = 60;

/// The offer and price that a question is about, if it can be agreed to at all.
pub(crate) fn weigh<'a>(
    ask: &QuoteAsk,
    config: &Config,
    inventory: &'a Inventory,
    now: UnixMillis,
) -> Result<(&'a Offer, &'a Price), Refusal> {
    let no = |code, detail: String| Err(Refusal::new(code, detail));
    if ask.at.abs_diff(now.seconds()) > MAX_REQUEST_AGE {
        return no(
            RefusalCode::BadRequest,
            format!("the request's time is {} s away from mine", ask.at.abs_diff(now.seconds())),
        );
    }
    let Some(offer) = inventory.offer(&ask.offer) else {
        return no(RefusalCode::NoSuchSlot, format!("there is no offer `{}` here", ask.offer));
    };
    let Some(price) = offer.price_in(&ask.escrow, ask.token) else {
        return no(
            RefusalCode::Settlement,
            format!("`{}` has no price in that token on chain {}", offer.name, ask.escrow.chain),
        );
    };
    if ask.interruptible || ask.continues.is_some() {
        return no(RefusalCode::Price, "only new rentals on demand are taken".to_owned());
    }
    if ask.rate < price.rate {
        let hourly = price.token.show(price.rate.hourly());
        return no(RefusalCode::Price, format!("the price is {hourly} an hour"));
    }
    let serving = ask.max_seconds.saturating_sub(config.ready_seconds);
    if !(config.min_seconds..=config.max_seconds).contains(&serving) {
        let range = format!("{} to {} seconds", config.min_seconds, config.max_seconds);
        return no(RefusalCode::Duration, format!("rentals last {range}, {serving} were asked for"));
    }
    if ask.workload.image != Image::HostUsr || ask.workload.network != NetworkAccess::None {
        return no(RefusalCode::Image, "only the machine's own /usr without network is offered".to_owned());
    }
    if ask.deposit < price.min_deposit || ask.deposit.get() == 0 {
        return no(RefusalCode::Funds, format!("the least deposit is {}", price.token.show(price.min_deposit)));
    }
    if ask.deposit > price.rate.for_seconds(ask.max_seconds) {
        return no(RefusalCode::BadRequest, "the deposit is more than the longest rental costs".to_owned());
    }
    Ok((offer, price))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::tests::two_slots;
    use alloy_primitives::Address;
    use market::{
        money::{Amount, Rate},
        signed::Escrow,
        terms::Workload,
    };

    const NOW: UnixMillis = UnixMillis(1_000_000_000);

    fn refused(change: impl FnOnce(&mut QuoteAsk)) -> Option<RefusalCode> {
        let mut ask = QuoteAsk {
            escrow: Escrow { chain: 1, address: Address::repeat_byte(9) },
            token: Address::repeat_byte(8),
            wallet: Address::repeat_byte(1),
            renter_key: Address::repeat_byte(2),
            at: NOW.seconds(),
            offer: "small".into(),
            rate: Rate::from_hourly(Amount::new(3_600_000).unwrap()).unwrap(),
            max_seconds: 60 + 30,
            deposit: Amount::new(60_000).unwrap(),
            interruptible: false,
            workload: Workload::default(),
            continues: None,
        };
        change(&mut ask);
        let config = Config { min_seconds: 10, max_seconds: 3_600, ..Config::default() };
        weigh(&ask, &config, &two_slots(), NOW).err().map(|refusal| refusal.code)
    }

    #[test]
    fn a_fair_question_is_not_refused() {
        assert_eq!(refused(|_| {}), None);
    }

    #[test]
    fn each_unfair_question_is_refused_for_its_own_reason() {
        assert_eq!(refused(|ask| ask.at -= 61), Some(RefusalCode::BadRequest));
        assert_eq!(refused(|ask| ask.offer = "large".into()), Some(RefusalCode::NoSuchSlot));
        assert_eq!(refused(|ask| ask.escrow.chain = 2), Some(RefusalCode::Settlement));
        assert_eq!(refused(|ask| ask.token = Address::ZERO), Some(RefusalCode::Settlement));
        assert_eq!(refused(|ask| ask.rate = Rate::default()), Some(RefusalCode::Price));
        assert_eq!(refused(|ask| ask.interruptible = true), Some(RefusalCode::Price));
        assert_eq!(refused(|ask| ask.max_seconds = 39), Some(RefusalCode::Duration));
        assert_eq!(refused(|ask| ask.max_seconds = 3_631), Some(RefusalCode::Duration));
        assert_eq!(refused(|ask| ask.workload.network = NetworkAccess::Egress), Some(RefusalCode::Image));
        assert_eq!(refused(|ask| ask.deposit = Amount::new(9_999).unwrap()), Some(RefusalCode::Funds));
        assert_eq!(refused(|ask| ask.deposit = Amount::new(90_001).unwrap()), Some(RefusalCode::BadRequest));
    }
}
