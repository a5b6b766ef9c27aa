//! `node show`: the whole story of one rental in order, as this node has written it down; twice when the node is on both sides.

use super::Context;
use crate::{
    cli,
    output::{Output, duration, role_name},
};
use api::types::{ApiError, RentalStory, StoryStep, Visit};
use market::time::UnixMillis;

pub(super) async fn show(context: &Context, args: cli::Show) -> Result<(), ApiError> {
    let stories = context.daemon().await?.story(&args.id).await?;
    context
        .output
        .result(&stories, |output| stories.iter().map(|story| text(output, story)).collect::<Vec<_>>().join("\n\n"))
}

fn text(output: &Output, story: &RentalStory) -> String {
    let rental = &story.rental;
    let row = |step: &StoryStep| {
        let at = step.at.map_or_else(|| "-".to_owned(), |at| at.to_string());
        let on_chain = match (step.tx, step.block) {
            (Some(tx), Some(block)) => format!(" ({tx} in block {block})"),
            _ => String::new(),
        };
        vec![at, step.step.clone(), format!("{}{on_chain}", step.detail)]
    };
    let table =
        output.table(&[("TIME", false), ("STEP", false), ("WHAT", false)], story.steps.iter().map(row).collect());
    let visits = match story.visits.is_empty() {
        true => String::new(),
        false => format!("\n\n{}", output.table(&VISITS, story.visits.iter().map(visited).collect())),
    };
    format!(
        "rental {} ({}, {}): {} on the meter, {} of {}\n{table}{visits}",
        rental.id,
        role_name(rental.role),
        crate::output::printable(&rental.phase),
        duration(rental.seconds),
        crate::output::printable(&rental.cost),
        crate::output::printable(&rental.deposit),
    )
}

/// The columns of the history of logins.
const VISITS: [(&str, bool); 5] = [("CAME", false), ("BY", false), ("FOR", false), ("STAYED", true), ("ENDED", false)];

fn visited(visit: &Visit) -> Vec<String> {
    let stayed = |ended: UnixMillis| duration(u32::try_from(ended.since(visit.at) / 1_000).unwrap_or(u32::MAX));
    vec![
        visit.at.to_string(),
        visit.visitor.name().to_owned(),
        visit.kind.name().to_owned(),
        visit.ended.map_or_else(|| "-".to_owned(), stayed),
        if visit.ended.is_some() { visit.how.clone() } else { "still there".to_owned() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::tests::plain;
    use alloy_primitives::B256;
    use api::types::{RentalRow, Role, VisitKind, Visitor};
    use market::id::RentalId;

    #[test]
    fn each_step_is_a_line_with_its_time_and_its_transaction() {
        let rental = RentalRow {
            id: RentalId(B256::repeat_byte(0xab)),
            label: None,
            role: Role::Provider,
            phase: "closed".into(),
            peer: String::new(),
            offer: "cpu".into(),
            ready_at: None,
            seconds: 69,
            cost: "0.01 tUSD".into(),
            deposit: "0.09 tUSD".into(),
            ends_at: None,
            warning: None,
        };
        let steps = vec![
            StoryStep::new("quoted", None, "cpu\x1b[2J"),
            StoryStep::on_chain("opened", 1_795_284_726, B256::repeat_byte(0x11), 4, "0.09 tUSD locked"),
            StoryStep::new("ready", Some(UnixMillis(1_795_284_727_000)), "the meter runs"),
        ];
        let visit = Visit {
            at: UnixMillis(1_795_284_728_000),
            visitor: Visitor::Ssh,
            kind: VisitKind::Shell,
            ended: Some(UnixMillis(1_795_284_790_000)),
            how: "exited with 0\x1b".into(),
        };
        let text = text(&plain(), &RentalStory { rental, steps, receipt: None, visits: vec![visit] });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 8, "{text}");
        assert!(
            lines[7].contains("ssh") && lines[7].contains("1m 02s  exited with 0") && !lines[7].contains('\x1b'),
            "{text}"
        );
        assert!(lines[0].ends_with("(provider, closed): 1m 09s on the meter, 0.01 tUSD of 0.09 tUSD"), "{text}");
        assert!(lines[2].starts_with("- ") && lines[2].contains("quoted") && !lines[2].contains('\x1b'), "{text}");
        assert!(lines[3].starts_with("2026-11-21T18:12:06Z"), "{text}");
        assert!(lines[3].contains(&format!("0.09 tUSD locked ({} in block 4)", B256::repeat_byte(0x11))), "{text}");
        assert!(lines[4].contains("18:12:07Z") && lines[4].contains("the meter runs"), "{text}");
    }
}
