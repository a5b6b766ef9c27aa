//! What people write: queries, sort keys, amounts, durations, ids, rates, jobs. It comes from the user, but also from scripts and, through
//! an indexer, from others.

use crate::{choice, identity::NOW, memory::bounded, seeds};
use alloy_primitives::B256;
use market::{
    book::{Book, Search},
    id::{MIN_PREFIX_DIGITS, RentalId},
    money::{MAX_DECIMALS, format_units, parse_units},
    query::{Candidate, Job, MAX_QUERY_BYTES, Order, Query, QueryError, Rates, Verdict},
    standing::Standing,
    time::parse_duration,
};
use std::sync::{Arc, LazyLock};

/// The first byte says what the rest, if it is text, is read as.
pub(crate) fn run(data: &[u8]) {
    let Some((way, rest)) = choice(data, 7) else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match way {
        0 => query(text),
        1 => order(text),
        2 => amount(text),
        3 => duration(text),
        4 => rates(text),
        5 => job(text),
        _ => id(text),
    }
}

const STANDING: Standing =
    Standing { completed: 3, paid_seconds: 10_800, reliability: Some(990_000), ratings: 1, rating: None };

/// The candidates that queries are asked of, and a book that holds them.
static MARKET: LazyLock<(Vec<Candidate<'static>>, Book)> = LazyLock::new(|| {
    let ad = seeds::ad();
    let mut book = Book::new();
    book.insert(Arc::from([]), ad, NOW).expect("it is new");
    book.set_standing(&ad.peer, STANDING);
    (Candidate::all(ad, Some(STANDING)).collect(), book)
});

fn query(text: &str) {
    let (candidates, book) = &*MARKET;
    match bounded(text.as_bytes(), |_| Query::parse(text)) {
        Ok(query) => {
            if text.len() + 2 <= MAX_QUERY_BYTES {
                assert_eq!(
                    Query::parse(&format!(" {text} ")).as_ref(),
                    Ok(&query),
                    "blanks around it change its meaning"
                );
            }
            // the same conditions twice are the same question, and the contrary of a question has the contrary answer
            let (twice, not) = (Query::parse(&format!("{text} and {text}")), Query::parse(&format!("not ({text})")));
            for candidate in candidates {
                let verdict = query.verdict(candidate);
                twice.iter().for_each(|twice| assert_eq!(twice.verdict(candidate), verdict));
                not.iter().for_each(|not| assert_eq!(not.verdict(candidate), contrary(verdict)));
            }
            // and the index finds what meets it
            let search = Search { query: &query, order: &Order::default(), wanted: &|_, _| true };
            let met = candidates.iter().filter(|candidate| query.verdict(candidate) == Verdict::Yes).count();
            assert_eq!(book.search(&search, None, candidates.len()).hits.len(), met, "{text:?}");
            let told = book.explain(&search, candidates.len());
            assert_eq!((told.matching, told.conditions.len()), (met, query.conditions().count()));
        }
        Err(error) => shown(&error, text),
    }
}

const fn contrary(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Yes => Verdict::No,
        Verdict::No => Verdict::Yes,
        Verdict::Unknown => Verdict::Unknown,
    }
}

fn order(text: &str) {
    let (candidates, book) = &*MARKET;
    match bounded(text.as_bytes(), |_| Order::parse(text)) {
        Ok(order) => {
            let (one, two) = (&candidates[0], &candidates[1]);
            assert_eq!(order.compare(one, two), order.compare(two, one).reverse());
            let search = Search { query: &Query::default(), order: &order, wanted: &|_, _| true };
            let first = book.search(&search, None, 1);
            let best = candidates.iter().min_by(|a, b| order.compare(a, b)).expect("there are some");
            assert_eq!(first.hits.first().map(|hit| hit.offer), best.ad.offers.iter().position(|o| o == best.offer));
            // the next page begins behind it
            assert!(book.search(&search, first.next.as_ref(), 1).hits != first.hits);
        }
        Err(error) => shown(&error, text),
    }
}

/// An error points into the text, and can be told.
fn shown(error: &QueryError, text: &str) {
    assert!((1..=text.chars().count() + 1).contains(&error.at()), "{error} points outside of {text:?}");
    assert!(!error.to_string().is_empty());
}

fn rates(text: &str) {
    if let Ok(rates) = bounded(text.as_bytes(), |_| Rates::parse(text)) {
        let (candidates, _) = &*MARKET;
        let order = Order::default().with_rates(rates);
        let (one, two) = (&candidates[0], &candidates[1]);
        assert_eq!(order.compare(one, two), order.compare(two, one).reverse());
    }
}

fn job(text: &str) {
    let (candidates, _) = &*MARKET;
    match text.parse::<Job>() {
        Ok(job) => candidates.iter().for_each(|candidate| {
            // what fits is never longer than the offer allows
            assert!(job.seconds(candidate).is_none_or(|seconds| seconds <= candidate.offer.max_seconds));
            assert!(Order::by_cost(job).compare(candidate, candidate).is_eq());
        }),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
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
