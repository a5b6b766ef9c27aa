//! What people write: queries, sort keys, amounts, durations, ids. It comes from the user, but also from scripts and, through an
//! indexer, from others.

use crate::{choice, memory::bounded, seeds};
use alloy_primitives::B256;
use market::{
    id::{MIN_PREFIX_DIGITS, RentalId},
    money::{MAX_DECIMALS, format_units, parse_units},
    query::{Candidate, Order, Query, QueryError},
    time::parse_duration,
};

/// The first byte says what the rest, if it is text, is read as.
pub(crate) fn run(data: &[u8]) {
    let Some((way, rest)) = choice(data, 5) else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match way {
        0 => query(text),
        1 => order(text),
        2 => amount(text),
        3 => duration(text),
        _ => id(text),
    }
}

fn query(text: &str) {
    match bounded(text.as_bytes(), |_| Query::parse(text)) {
        Ok(query) => {
            assert_eq!(Query::parse(&format!(" {text} ")).as_ref(), Ok(&query), "blanks around it change its meaning");
            let ad = seeds::ad();
            let candidates: Vec<_> = ad
                .offers
                .iter()
                .flat_map(|offer| offer.prices.iter().map(|price| Candidate { ad, offer, price }))
                .collect();
            for candidate in &candidates {
                let verdict = query.verdict(candidate);
                // the same conditions twice are the same question
                let twice = Query::parse(&format!("{text} and {text}"));
                if let Ok(twice) = twice {
                    assert_eq!(twice.verdict(candidate), verdict);
                }
            }
        }
        Err(error) => shown(&error, text),
    }
}

fn order(text: &str) {
    match bounded(text.as_bytes(), |_| Order::parse(text)) {
        Ok(order) => {
            let ad = seeds::ad();
            let (offer, other) = (&ad.offers[0], &ad.offers[1]);
            let one = Candidate { ad, offer, price: &offer.prices[0] };
            let two = Candidate { ad, offer: other, price: &other.prices[0] };
            assert_eq!(order.compare(&one, &two), order.compare(&two, &one).reverse());
        }
        Err(error) => shown(&error, text),
    }
}

/// An error points into the text, and can be told.
fn shown(error: &QueryError, text: &str) {
    let at = match error {
        QueryError::UnknownField { at, .. } | QueryError::Operator { at, .. } | QueryError::Value { at, .. } => *at,
    };
    assert!((1..=text.chars().count() + 1).contains(&at), "{error} points outside of {text:?}");
    assert!(!error.to_string().is_empty());
}

fn amount(text: &str) {
    for decimals in [0, 6, 18, MAX_DECIMALS] {
        if let Ok(amount) = parse_units(text, decimals) {
            let written = format_units(amount, decimals);
            assert_eq!(parse_units(&written, decimals), Ok(amount), "{text} is read as {written}");
        }
    }
}

fn duration(text: &str) {
    if let Ok(seconds) = parse_duration(text) {
        assert!(seconds > 0);
        assert_eq!(parse_duration(&format!("{seconds}s")), Ok(seconds));
    }
}

fn id(text: &str) {
    if let Ok(id) = text.parse::<RentalId>() {
        assert_eq!(id.to_string().parse::<RentalId>(), Ok(id));
        assert!(id.matches_prefix(&id.short()) && id.matches_prefix(&id.hex8()));
    }
    if RentalId(B256::repeat_byte(0xab)).matches_prefix(text) {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        assert!((MIN_PREFIX_DIGITS..=64).contains(&digits.len()) && digits.to_ascii_lowercase().starts_with("abab"));
    }
}
