//! The end of a rental's story as both sides tell it alike, since the chain tells it to both: the stop, the ruling, the closing.

use crate::types::{StoryStep, closing_words};
use market::{
    dispute::Deadlines,
    money::Token,
    quote::Quote,
    rental::{Closing, Opening},
    time::UnixMillis,
};

/// The number of a closing by the arbiter.
const RULED: u8 = 5;

/// What the chain has shown of a rental's end, in order.
pub fn chain_end(
    quote: &Quote,
    token: &Token,
    opening: Option<Opening>,
    stop_time: Option<u64>,
    closing: Option<Closing>,
) -> Vec<StoryStep> {
    let mut steps = Vec::new();
    let moment = |seconds: u64| UnixMillis(seconds.saturating_mul(1_000));
    if let (Some(opening), Some(stop)) = (opening, stop_time) {
        let deadlines = Deadlines::of(quote, opening.start, stop);
        let arbiter = quote
            .named_arbiter()
            .map_or_else(String::new, |arbiter| format!("; {arbiter} may rule from {}", moment(deadlines.ruling)));
        let detail = format!(
            "the renter stopped the meter on chain{arbiter}; anybody may finalize from {}",
            moment(deadlines.finalizing)
        );
        steps.push(StoryStep::new("stopped", Some(moment(stop)), detail));
    }
    if let Some(closing) = closing {
        let (paid, back) = (token.show(closing.paid), token.show(closing.refunded));
        if closing.kind == RULED {
            let detail = format!("{} awarded the provider {paid}", quote.arbiter);
            steps.push(StoryStep::on_chain("ruled", closing.time, closing.tx, closing.block, detail));
        }
        let detail = format!("{}: {paid} paid, {back} returned", closing_words(closing.kind));
        steps.push(StoryStep::on_chain("closed", closing.time, closing.tx, closing.block, detail));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, B256};
    use market::{
        id::DeviceId,
        money::{Amount, Rate},
    };

    fn units(n: u128) -> Amount {
        Amount::new(n).unwrap()
    }

    fn told(arbiter: Address, kind: u8) -> Vec<(String, String)> {
        let quote = Quote {
            provider: Address::repeat_byte(2),
            provider_key: Address::repeat_byte(4),
            renter: Address::repeat_byte(1),
            renter_key: Address::repeat_byte(5),
            token: Address::ZERO,
            rate: Rate::new(units(100_000_000)),
            min_deposit: units(1),
            max_seconds: 3_600,
            window: 900,
            expiry: 60,
            arbiter,
            device: DeviceId(B256::ZERO),
            spec: B256::ZERO,
        };
        let token = Token { chain: 1, address: Address::ZERO, symbol: "ETH".into(), decimals: 3 };
        let opening = Opening { deposit: units(5), start: 20, tx: B256::ZERO, block: 4 };
        let closing =
            Closing { paid: units(2), refunded: units(3), elapsed: 10, kind, tx: B256::ZERO, block: 9, time: 500 };
        let steps = chain_end(&quote, &token, Some(opening), Some(30), Some(closing));
        steps.into_iter().map(|step| (step.step, step.detail)).collect()
    }

    #[test]
    fn a_ruling_is_told_with_its_arbiter_and_what_it_awarded() {
        let arbiter = Address::repeat_byte(7);
        let [(first, stopped), (second, ruled), (third, closed)] = &told(arbiter, RULED)[..] else { panic!() };
        assert_eq!([first, second, third], ["stopped", "ruled", "closed"]);
        assert!(stopped.contains(&format!("{arbiter} may rule from 1970-01-01T00:08:00Z")), "{stopped}");
        assert!(stopped.contains("anybody may finalize from 1970-01-01T00:15:30Z"), "{stopped}");
        assert_eq!(*ruled, format!("{arbiter} awarded the provider 0.002 ETH"));
        assert_eq!(closed, "ruled by the arbiter: 0.002 ETH paid, 0.003 ETH returned");
    }

    #[test]
    fn where_nobody_may_rule_nobody_is_named() {
        let [(_, stopped), (last, _)] = &told(Address::ZERO, 3)[..] else { panic!() };
        assert!(!stopped.contains("may rule") && last == "closed", "{stopped}");
    }
}
