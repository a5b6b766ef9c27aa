//! `node offers`: what can be rented, as far as the daemon has heard.

use super::Context;
use crate::{
    cli,
    output::{Output, short_peer},
};
use api::types::{ApiError, ErrorKind, OfferQuery, OfferRow};

pub(super) async fn offers(context: &Context, args: cli::Offers) -> Result<(), ApiError> {
    let query = OfferQuery { query: args.query, order: args.order, limit: usize::from(args.limit) };
    let rows = context.daemon().await?.offers(&query).await?;
    if rows.is_empty() {
        return Err(nothing(&query.query));
    }
    context.output.result(&rows, |output| table(output, &rows))
}

fn nothing(query: &str) -> ApiError {
    if query.is_empty() {
        let next = "a daemon that has just started hears of offers within seconds; else check bootstrap in [network]";
        return ApiError::new(ErrorKind::NoMatch, "no offers are known", next);
    }
    ApiError::new(ErrorKind::NoMatch, format!("no offer meets `{query}`"), "ask for less, or see them all: node offers")
}

fn table(output: &Output, rows: &[OfferRow]) -> String {
    let named = rows.iter().any(|offer| !offer.arbiters.is_empty());
    let mut columns = vec![
        ("OFFER", false),
        ("PROVIDER", false),
        ("HARDWARE", false),
        ("PRICE/H", true),
        ("FREE", true),
        ("REGION", false),
        ("VERIFIED", false),
    ];
    // most offers name nobody, and an address is wide
    columns.extend(named.then_some(("DISPUTES GO TO", false)));
    let row = |offer: &OfferRow| {
        let mut cells = vec![
            offer.offer.clone(),
            short_peer(&offer.provider),
            offer.hardware.clone(),
            offer.price.clone(),
            format!("{} of {}", offer.free, offer.slots),
            if offer.region.is_empty() { "-".to_owned() } else { offer.region.clone() },
            verified(offer.verified).to_owned(),
        ];
        cells.extend(named.then(|| arbiters(offer)));
        cells
    };
    output.table(&columns, rows.iter().map(row).collect())
}

fn arbiters(offer: &OfferRow) -> String {
    match &offer.arbiters[..] {
        [] => "-".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}

const fn verified(level: u32) -> &'static str {
    match level {
        0 => "declared",
        1 => "consistent",
        2 => "measured",
        3 => "attested",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::plain;
    use alloy_primitives::Address;
    use market::{
        money::{Amount, Token},
        time::UnixMillis,
    };

    #[test]
    fn an_offer_is_one_row_with_its_price_and_what_is_free() {
        let offer = OfferRow {
            provider: "12D3KooWabcdefghABCDEFGH".into(),
            wallet: Address::ZERO,
            offer: "cpu".into(),
            class: "cpu".into(),
            hardware: "1 CPU, 1 GiB memory, 10 GiB disk".into(),
            gpu: String::new(),
            vram_gb: 0,
            cpu_millis: 1_000,
            memory_mib: 1_024,
            disk_mib: 10_240,
            slots: 2,
            free: 1,
            busy_until: None,
            token: Token { chain: 1, address: Address::ZERO, symbol: "tUSD".into(), decimals: 6 },
            price_hour: Amount::ZERO,
            price: "0.36 tUSD".into(),
            region: String::new(),
            verified: 1,
            max_seconds: 1,
            arbiters: vec![],
            expires: UnixMillis(1),
        };
        let mut disputed = offer.clone();
        disputed.arbiters = vec![Address::repeat_byte(7)];
        let both = super::table(&plain(), &[offer.clone(), disputed]);
        assert!(both.lines().next().unwrap().contains("DISPUTES GO TO"), "{both}");
        assert!(both.lines().nth(2).unwrap().contains(&Address::repeat_byte(7).to_string()), "{both}");
        let table = table(&plain(), &[offer]);
        let cells = |line: usize| -> Vec<String> {
            table
                .lines()
                .nth(line)
                .unwrap()
                .split("  ")
                .map(str::trim)
                .filter(|cell| !cell.is_empty())
                .map(str::to_owned)
                .collect()
        };
        assert_eq!(cells(0), ["OFFER", "PROVIDER", "HARDWARE", "PRICE/H", "FREE", "REGION", "VERIFIED"]);
        assert_eq!(
            cells(1),
            ["cpu", "…ABCDEFGH", "1 CPU, 1 GiB memory, 10 GiB disk", "0.36 tUSD", "1 of 2", "-", "consistent"]
        );
    }

    #[test]
    fn nothing_found_is_exit_code_4_and_says_so() {
        let error = nothing("gpu=H100");
        assert_eq!(error.kind.exit_code(), 4);
        assert!(error.message.contains("gpu=H100"));
        assert_eq!(nothing("").kind.exit_code(), 4);
    }
}
