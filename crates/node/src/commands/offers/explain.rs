//! `node offers --explain`: what each condition removes, and the offers that are nearly what was asked for.

use crate::output::{Output, short_peer};
use api::types::OfferExplanation;

/// The explanation for people.
pub(super) fn text(output: &Output, told: &OfferExplanation) -> String {
    let all = if told.matching == told.offers { "all" } else { &told.matching.to_string() };
    let mut parts = vec![match told.offers {
        0 => "no offers are known".to_owned(),
        1 => format!("1 offer is known; {} of it meets every condition", told.matching),
        offers => format!("{offers} offers are known; {all} of them meet every condition"),
    }];
    if !told.conditions.is_empty() {
        parts.push(removals(output, told));
    }
    if !told.near.is_empty() {
        parts.push("Offers that fail at one condition only:".to_owned());
        parts.push(near(output, told));
    }
    parts.join("\n\n")
}

fn removals(output: &Output, told: &OfferExplanation) -> String {
    let columns = [("CONDITION", false), ("REMOVES", true), ("UNKNOWN", true), ("WITHOUT IT", true)];
    let rows = told.conditions.iter().map(|row| {
        let found = told.matching + row.alone;
        vec![row.condition.clone(), row.failed.to_string(), row.unknown.to_string(), found.to_string()]
    });
    output.table(&columns, rows.collect())
}

fn near(output: &Output, told: &OfferExplanation) -> String {
    let columns = [("OFFER", false), ("PROVIDER", false), ("PRICE/H", true), ("WANTED", false), ("BUT", false)];
    let rows = told.near.iter().map(|miss| {
        let (offer, provider) = (miss.offer.offer.clone(), short_peer(&miss.offer.provider));
        vec![offer, provider, miss.offer.price.clone(), miss.condition.clone(), miss.found.clone()]
    });
    output.table(&columns, rows.collect())
}

#[cfg(test)]
mod tests {
    use super::{super::tests::offer, *};
    use crate::output::tests::plain;
    use api::types::{ConditionRow, NearOffer};

    #[test]
    fn each_condition_is_told_with_what_it_costs() {
        let row =
            |condition: &str, failed, alone| ConditionRow { condition: condition.into(), failed, unknown: 2, alone };
        let told = OfferExplanation {
            offers: 40,
            matching: 3,
            conditions: vec![row("vram>=80GB", 30, 7), row("(region=KR or region=JP)", 20, 0)],
            near: vec![NearOffer { offer: offer(), condition: "vram>=80GB".into(), found: "vram is 48 GB".into() }],
        };
        let text = text(&plain(), &told);
        let words = |line: usize| text.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>();
        assert_eq!(text.lines().next(), Some("40 offers are known; 3 of them meet every condition"));
        assert_eq!(words(2), ["CONDITION", "REMOVES", "UNKNOWN", "WITHOUT", "IT"]);
        assert_eq!(words(3), ["vram>=80GB", "30", "2", "10"]);
        assert!(text.lines().last().unwrap().ends_with("vram>=80GB  vram is 48 GB"), "{text}");
    }
}
