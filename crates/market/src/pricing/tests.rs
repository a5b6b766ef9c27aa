//! The pricing policy as a table: who asks when, for how long, holding what, and what it costs.

use super::*;
use crate::money::Token;
use proptest::prelude::*;

const ESCROW: Escrow = Escrow { chain: 1, address: Address::repeat_byte(9) };
const DOLLAR: Address = Address::repeat_byte(8);
const FRIEND: Address = Address::repeat_byte(1);
const STRANGER: Address = Address::repeat_byte(2);
const ART: Holding = Holding { chain: 10, token: Address::repeat_byte(7) };
const HOUR: u64 = 3_600_000;
/// A midnight.
const MIDNIGHT: u64 = 20_000 * 24 * HOUR;

fn rate(units: u128) -> Rate {
    Rate::new(Amount::new(units).unwrap())
}

fn listed(units: u128, least: u128) -> ListPrice {
    let token = Token { chain: 1, address: DOLLAR, symbol: "USD".into(), decimals: 6 };
    let price = Price { escrow: ESCROW, token, rate: rate(units), floor: None, min_deposit: Amount::ZERO };
    ListPrice { price, least: rate(least) }
}

/// A thousand by day, 700 by night from ten to six, 10 % off from a day on, 25 % for holders, 30 % for a friend; never below 600.
fn policy() -> Policy {
    let off = |percent: u32| Reduction { basis_points: percent * 100, ..Reduction::default() };
    Policy {
        list: vec![listed(1_000, 600)],
        hours: vec![Hours { from: 22 * 60, to: 6 * 60, percent: 70 }],
        reductions: vec![
            Reduction { at_least: 86_400, ..off(10) },
            Reduction { holding: Some(ART), ..off(25) },
            Reduction { wallets: vec![FRIEND], ..off(30) },
        ],
    }
}

#[test]
fn what_it_costs_depends_on_the_hour_the_length_the_wallet_and_what_it_holds() {
    let (noon, night, short, day) = (12 * HOUR, 23 * HOUR, 3_600, 86_400);
    let table = [
        ("anybody by day", STRANGER, noon, short, false, 1_000),
        ("anybody by night", STRANGER, night, short, false, 700),
        ("after midnight it is still night", STRANGER, HOUR, short, false, 700),
        ("a day or more", STRANGER, noon, day, false, 900),
        ("a second less than a day", STRANGER, noon, day - 1, false, 1_000),
        ("a holder", STRANGER, noon, short, true, 750),
        ("the greatest discount counts, not the sum", STRANGER, noon, day, true, 750),
        ("a friend", FRIEND, noon, day, true, 700),
        ("nothing goes below the least", FRIEND, night, day, true, 600),
        ("a dearer hour that has just begun still costs what was shown", STRANGER, 6 * HOUR, short, false, 700),
        ("until everybody has heard of it", STRANGER, 6 * HOUR + PRICE_GRACE, short, false, 1_000),
        ("a cheaper one counts at once", STRANGER, 22 * HOUR, short, false, 700),
    ];
    for (what, wallet, time, seconds, holds, expected) in table {
        let asker = Asker { escrow: ESCROW, token: DOLLAR, wallet, seconds };
        let price = price(&policy(), &asker, UnixMillis(MIDNIGHT + time), |holding| holds && *holding == ART);
        assert_eq!(price, Some(rate(expected)), "{what}");
    }
}

#[test]
fn there_is_no_price_in_a_token_that_is_not_listed() {
    let asker = Asker { escrow: ESCROW, token: Address::ZERO, wallet: STRANGER, seconds: 60 };
    assert_eq!(price(&policy(), &asker, UnixMillis(0), |_| true), None);
}

#[test]
fn only_what_every_holder_gets_is_advertised_and_only_as_far_as_the_least_price_allows() {
    let shown = |hour: u64| {
        let discounts = policy().advertised_discounts(UnixMillis(MIDNIGHT + hour * HOUR));
        discounts.iter().map(|discount| (discount.chain, discount.token, discount.basis_points)).collect::<Vec<_>>()
    };
    assert_eq!(shown(12), [(ART.chain, ART.token, 2_500)]);
    // at 700 an hour there is only a hundred to give
    assert_eq!(shown(23), [(ART.chain, ART.token, 1_428)]);
    let mut firm = policy();
    firm.list.push(listed(500, 500));
    assert_eq!(firm.advertised_discounts(UnixMillis(0)), [], "a price that cannot be lowered has no discount");
}

#[test]
fn two_tokens_have_a_price_each() {
    let mut both = policy();
    let mut euro = listed(900, 0);
    euro.price.token.address = Address::repeat_byte(6);
    both.list.push(euro);
    let ask = |token| {
        let asker = Asker { escrow: ESCROW, token, wallet: STRANGER, seconds: 60 };
        price(&both, &asker, UnixMillis(MIDNIGHT + 12 * HOUR), |_| false)
    };
    assert_eq!(ask(DOLLAR), Some(rate(1_000)));
    assert_eq!(ask(Address::repeat_byte(6)), Some(rate(900)));
}

proptest! {
    /// Promise 6: whoever works out its price from what is advertised is not refused.
    #[test]
    fn what_is_advertised_can_be_rented(
        listed_at in 1u128..1 << 60,
        least in 0u128..1 << 60,
        percent in 1u32..500,
        off in 1u32..WHOLE,
        minute in 0u64..2 * DAY_MINUTES,
        delay in 0..PRICE_GRACE,
    ) {
        let policy = Policy {
            list: vec![listed(listed_at, least)],
            hours: vec![Hours { from: 600, to: 60, percent }],
            reductions: vec![Reduction { basis_points: off, holding: Some(ART), ..Reduction::default() }],
        };
        let seen_at = UnixMillis(MIDNIGHT + minute * 60_000);
        let shown = policy.advertised(seen_at)[0].rate;
        let discount = policy.advertised_discounts(seen_at).first().map_or(0, |discount| discount.basis_points);
        let asker = Asker { escrow: ESCROW, token: DOLLAR, wallet: STRANGER, seconds: 60 };
        let asked_at = seen_at.plus(delay);
        prop_assert!(price(&policy, &asker, asked_at, |_| false).unwrap() <= shown);
        prop_assert!(price(&policy, &asker, asked_at, |_| true).unwrap() <= shown.less(discount));
    }
}
