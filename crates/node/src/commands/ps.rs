//! `node ps`: rentals of this node, whichever side it is on.

use super::Context;
use crate::{
    cli,
    output::{Output, duration, role_name, short_peer},
};
use api::types::{ApiError, ErrorKind, RentalRow};

pub(super) async fn ps(context: &Context, args: cli::Ps) -> Result<(), ApiError> {
    let mut rows = context.daemon().await?.rentals(args.all).await?;
    if let Some(name) = &args.id {
        rows.retain(|row| row.is_named(name));
        if rows.is_empty() {
            let next = if args.all { "see all: node ps --all" } else { "it may be over: node ps --all" };
            return Err(ApiError::new(ErrorKind::NoMatch, format!("no rental is named `{name}`"), next));
        }
    }
    context.output.result(&rows, |output| match (rows.is_empty(), args.all) {
        (false, _) => table(output, &rows),
        (true, false) => "no rental goes on; ended ones: node ps --all".to_owned(),
        (true, true) => "no rentals yet".to_owned(),
    })
}

/// Rentals, one a row; also what `stop` shows.
pub(super) fn table(output: &Output, rows: &[RentalRow]) -> String {
    let columns = [
        ("ID", false),
        ("LABEL", false),
        ("ROLE", false),
        ("PHASE", false),
        ("PEER", false),
        ("OFFER", false),
        ("TIME", true),
        ("COST", true),
        ("DEPOSIT", true),
        ("ENDS", false),
    ];
    let row = |rental: &RentalRow| {
        vec![
            rental.id.short(),
            rental.label.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string),
            role_name(rental.role).to_owned(),
            rental.phase.clone(),
            short_peer(&rental.peer),
            rental.offer.clone(),
            duration(rental.seconds),
            rental.cost.clone(),
            rental.deposit.clone(),
            rental.ends_at.map_or_else(|| "-".to_owned(), |at| at.to_string()),
        ]
    };
    let mut text = output.table(&columns, rows.iter().map(row).collect());
    for (id, warning) in rows.iter().filter_map(|rental| Some((rental.id, rental.warning.as_ref()?))) {
        text.push_str(&format!("\n! {}: {warning}", id.short()));
    }
    text
}
