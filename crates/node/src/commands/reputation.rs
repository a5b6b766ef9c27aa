//! `node reputation`: what is known of a provider, with what it follows from.

use super::Context;
use crate::{
    cli,
    output::{Output, Waiting, duration, printable},
};
use api::types::{ApiError, CheckOutcome, PastRental, Reputation, ReputationQuery};
use market::rating::CheckSummary;

pub(super) async fn reputation(context: &Context, args: cli::Reputation) -> Result<u8, ApiError> {
    let waiting = Waiting::begin("asking an indexer");
    let query = ReputationQuery { mine: args.mine, verify: args.verify };
    let known = context.daemon().await?.reputation(&args.provider, &query).await?;
    drop(waiting);
    context.output.result(&known, |output| text(output, &known))?;
    Ok(u8::from(known.rentals.iter().any(|rental| rental.verified == Some(false))))
}

fn text(output: &Output, known: &Reputation) -> String {
    let (standing, record) = (&known.standing, &known.record);
    let unknown = || "not known".to_owned();
    let seconds = |seconds: u64| duration(u32::try_from(seconds).unwrap_or(u32::MAX));
    let mut rows = vec![
        (
            "rentals",
            format!("{} completed, {} of them as promised, {} open", standing.completed, record.kept, record.open),
        ),
        ("seconds paid for", format!("{} (unverified volume)", seconds(standing.paid_seconds))),
        ("reliability", standing.reliability.map_or_else(unknown, percent)),
        ("uptime, 30 days", known.uptime_30d.map_or_else(unknown, percent)),
        (
            "rating",
            standing.rating.map_or_else(unknown, |rating| {
                format!("{}.{:02} of 5, by {}", rating / 1_000, rating % 1_000 / 10, standing.ratings)
            }),
        ),
        ("early ends", record.early_ends.to_string()),
        ("no-shows", record.no_shows.to_string()),
        ("failed checks", record.failed_checks.to_string()),
        (
            "checks, as renters say",
            format!(
                "passed in {} rentals, missed in {}, told by {} renters (some such hardware answered, not whose)",
                record.passed_checks, record.missed_checks, record.checking_renters
            ),
        ),
        ("other complaints", record.complaints.to_string()),
        ("renters, devices", format!("{}, {}", record.renters, record.devices)),
    ];
    if let (Some(trusted), Some(rank)) = (known.trusted_seconds, known.rank) {
        rows.push(("of your own past", format!("{} lead there; rank {}", seconds(trusted), percent(rank))));
    }
    rows.push(("worked out by", format!("{}, {}", printable(&known.source), printable(&record.formula))));
    let rows = rows.into_iter().map(|(what, value)| vec![what.to_owned(), value]).collect();
    let sums = output.table(&[("PROVIDER", false), (&known.wallet.to_string(), false)], rows);
    if known.rentals.is_empty() {
        return sums;
    }
    let columns = [
        ("RENTAL", false),
        ("CLOSED IN", true),
        ("STARS", true),
        ("CHECKS", false),
        ("COMMENT", false),
        ("ON CHAIN", false),
    ];
    format!("{sums}\n\n{}", output.table(&columns, known.rentals.iter().map(past).collect()))
}

fn past(rental: &PastRental) -> Vec<String> {
    let said = rental.rating.as_ref().map(|rating| &rating.statement);
    let on_chain = match (rental.verified, &rental.fault) {
        (None, None) => "not asked".to_owned(),
        (Some(true), _) => "holds".to_owned(),
        (_, Some(fault)) => printable(fault),
        (Some(false), None) => "does not hold".to_owned(),
    };
    vec![
        rental.id.short(),
        rental.closed_block.to_string(),
        said.and_then(|said| said.stars).map_or_else(|| "-".to_owned(), |stars| stars.to_string()),
        said.and_then(|said| said.checks).map_or("-", told).to_owned(),
        said.map_or_else(String::new, |said| printable(&said.comment)),
        on_chain,
    ]
}

fn told(checks: CheckSummary) -> &'static str {
    match checks {
        _ if checks.has_missed() => CheckOutcome::Missed.name(),
        _ if checks.has_passed() => CheckOutcome::Passed.name(),
        _ => CheckOutcome::Unmeasured.name(),
    }
}

/// Millionths as a percentage with two digits, cut rather than rounded up to a promise.
fn percent(millionths: u32) -> String {
    format!("{}.{:02} %", millionths / 10_000, millionths % 10_000 / 100)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::plain;
    use alloy_primitives::{Address, B256};
    use market::{id::RentalId, reputation::Record, signed::Escrow, standing::Standing};

    #[test]
    fn what_is_not_known_is_said_and_shares_are_never_rounded_up() {
        let known = Reputation {
            wallet: Address::repeat_byte(1),
            source: "this node".into(),
            standing: Standing { completed: 3, paid_seconds: 69, reliability: Some(999_999), ..Standing::default() },
            record: Record { formula: "reputation/1".into(), ..Record::default() },
            uptime_30d: None,
            trusted_seconds: None,
            rank: None,
            rentals: vec![PastRental {
                escrow: Escrow { chain: 1, address: Address::ZERO },
                id: RentalId(B256::repeat_byte(0xab)),
                opened_block: 1,
                closed_block: 2,
                rating: None,
                verified: Some(false),
                fault: Some("the chain\x1b has no such rental".into()),
            }],
        };
        let text = text(&plain(), &known);
        assert!(text.contains("99.99 %") && text.contains("1m 09s (unverified volume)"), "{text}");
        assert!(text.lines().any(|line| line.starts_with("rating") && line.contains("not known")), "{text}");
        assert!(text.contains("has no such rental") && !text.contains('\x1b'), "{text}");
    }
}
