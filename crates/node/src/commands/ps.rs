//! `node ps`: rentals of this node, whichever side it is on.

use super::Context;
use crate::{
    cli,
    output::{Output, duration, role_name, short_peer},
};
use api::types::{ApiError, RentalRow};

pub(super) async fn ps(context: &Context, args: cli::Ps) -> Result<(), ApiError> {
    let rows = context.daemon().await?.rentals(args.all).await?;
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
