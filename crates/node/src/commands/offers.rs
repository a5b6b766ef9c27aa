//! `node offers`: what can be rented, as far as the daemon has heard; and with `--explain` why it is so little.

mod explain;

use super::Context;
use crate::{
    cli,
    output::{Output, short_peer},
};
use api::types::{ApiError, ErrorKind, Estimate, IndexerRow, OfferQuery, OfferRow};
use std::{fs::File, io::Read, path::Path};

/// The largest table of rates that is read: many times what the most rates need.
const MAX_RATES_BYTES: u64 = 64 << 10;

pub(super) async fn offers(context: &Context, args: cli::Offers) -> Result<(), ApiError> {
    let rates = args.rates.as_deref().map(read_rates).transpose()?.unwrap_or_default();
    let query = OfferQuery { query: args.query, order: args.order, limit: args.limit.into(), job: args.job, rates };
    let daemon = context.daemon().await?;
    if args.explain {
        let told = daemon.explain(&query).await?;
        return context.output.result(&told, |output| explain::text(output, &told));
    }
    let rows = daemon.offers(&query).await?;
    // not a part of the answer: standard output is for the offers
    daemon.indexers().await?.iter().filter_map(amiss).for_each(|line| eprintln!("{line}"));
    if rows.is_empty() {
        return Err(nothing(&query.query));
    }
    context.output.result(&rows, |output| table(output, &rows))
}

fn read_rates(path: &Path) -> Result<String, ApiError> {
    let failed = |problem: String| {
        let next = "give a file with one rate a line, such as `USDC@8453 1`";
        ApiError::new(ErrorKind::Usage, format!("{}: {problem}", path.display()), next)
    };
    let mut text = String::new();
    let file = File::open(path).map_err(|error| failed(error.to_string()))?;
    file.take(MAX_RATES_BYTES + 1).read_to_string(&mut text).map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > MAX_RATES_BYTES {
        return Err(failed("too large for a table of rates".to_owned()));
    }
    Ok(text)
}

/// What a person should know of an indexer's last answer; `None` when all is well.
fn amiss(indexer: &IndexerRow) -> Option<String> {
    let peer = short_peer(&indexer.peer);
    if indexer.distrusted {
        return Some(format!("indexer {peer} gave a forged advertisement and is not asked any more"));
    }
    match (&indexer.failure, indexer.missing) {
        (Some(failure), _) => Some(format!("indexer {peer} did not answer: {failure}")),
        (None, 0) => None,
        (None, missing) => Some(format!("indexer {peer} left out {missing} offers that others know")),
    }
}

fn nothing(query: &str) -> ApiError {
    if query.is_empty() {
        let next = "a daemon that has just started hears of offers within seconds; else check bootstrap in [network]";
        return ApiError::new(ErrorKind::NoMatch, "no offers are known", next);
    }
    ApiError::new(
        ErrorKind::NoMatch,
        format!("no offer meets `{query}`"),
        "see which condition is to blame: add --explain",
    )
}

fn table(output: &Output, rows: &[OfferRow]) -> String {
    let named = rows.iter().any(|offer| !offer.arbiters.is_empty());
    let estimated = rows.iter().any(|offer| offer.estimate.is_some());
    let recorded = rows.iter().any(|offer| offer.standing.is_some());
    let mut columns = vec![
        ("OFFER", false),
        ("PROVIDER", false),
        ("HARDWARE", false),
        ("PRICE/H", true),
        ("FREE", true),
        ("REGION", false),
        ("VERIFIED", false),
    ];
    columns.extend(recorded.then_some(("RELIABLE", true)));
    columns.extend(estimated.then_some(("JOB TAKES", true)));
    columns.extend(estimated.then_some(("JOB COSTS", true)));
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
        cells.extend(recorded.then(|| reliability(offer)));
        let estimate =
            |told: fn(&Estimate) -> String| offer.estimate.as_ref().map_or_else(|| "unknown".to_owned(), told);
        cells.extend(estimated.then(|| estimate(|estimate| duration(estimate.seconds))));
        cells.extend(estimated.then(|| estimate(|estimate| estimate.cost_text.clone())));
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

/// The share of rentals that went as promised, which nobody can say of a new provider.
fn reliability(offer: &OfferRow) -> String {
    let millionths = offer.standing.and_then(|standing| standing.reliability);
    millionths.map_or_else(|| "unknown".to_owned(), |share| format!("{}.{:02} %", share / 10_000, share % 10_000 / 100))
}

/// Two of days, hours, minutes and seconds.
fn duration(seconds: u32) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
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
pub(super) mod tests {
    use super::*;
    use crate::output::tests::plain;
    use alloy_primitives::Address;
    use market::{
        money::{Amount, Token},
        time::UnixMillis,
    };

    pub(super) fn offer() -> OfferRow {
        OfferRow {
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
            standing: None,
            estimate: None,
        }
    }

    #[test]
    fn what_a_job_takes_is_shown_where_it_is_known() {
        let mut known = offer();
        known.estimate = Some(Estimate { seconds: 3_725, cost: Amount::ZERO, cost_text: "0.37 tUSD".into() });
        known.standing = Some(market::standing::Standing { reliability: Some(995_500), ..Default::default() });
        let shown = super::table(&plain(), &[known, offer()]);
        let lines: Vec<&str> = shown.lines().collect();
        assert!(
            lines[0].contains("JOB TAKES") && lines[0].contains("JOB COSTS") && lines[0].contains("RELIABLE"),
            "{shown}"
        );
        assert!(
            lines[1].contains("1 h 2 min") && lines[1].contains("0.37 tUSD") && lines[1].contains("99.55 %"),
            "{shown}"
        );
        assert_eq!(lines[2].matches("unknown").count(), 3, "{shown}");
        assert_eq!(
            (duration(59), duration(61), duration(90_000)),
            ("59 s".into(), "1 min 1 s".into(), "1 d 1 h".into())
        );
    }

    #[test]
    fn an_offer_is_one_row_with_its_price_and_what_is_free() {
        let offer = offer();
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
    fn an_indexer_is_spoken_of_when_its_answer_was_not_whole() {
        let well = IndexerRow { peer: "12D3KooWabcdefghABCDEFGH".into(), rows: 3, ..IndexerRow::default() };
        assert_eq!(amiss(&well), None);
        let short = amiss(&IndexerRow { missing: 2, ..well.clone() }).unwrap();
        assert!(short.contains("…ABCDEFGH left out 2 offers"), "{short}");
        let silent = amiss(&IndexerRow { failure: Some("no answer within 3 s".into()), ..well.clone() }).unwrap();
        assert!(silent.ends_with("no answer within 3 s"), "{silent}");
        assert!(amiss(&IndexerRow { distrusted: true, ..well }).unwrap().contains("forged"));
    }

    #[test]
    fn nothing_found_is_exit_code_4_and_says_so() {
        let error = nothing("gpu=H100");
        assert_eq!(error.kind.exit_code(), 4);
        assert!(error.message.contains("gpu=H100"));
        assert_eq!(nothing("").kind.exit_code(), 4);
    }
}
