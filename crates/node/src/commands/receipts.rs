//! `node receipts`: what is left of closed rentals, as a list or one in full.

use super::Context;
use crate::{
    cli,
    output::Style,
    receipt::{receipt_text, receipts_table},
};
use api::types::{ApiError, ErrorKind};
use std::io::{IsTerminal, stdout};

pub(super) async fn receipts(context: &Context, args: cli::Receipts) -> Result<(), ApiError> {
    let prefix = args.id.unwrap_or_default();
    let receipts = context.daemon().await?.receipts(&prefix).await?;
    if receipts.is_empty() && !prefix.is_empty() {
        let next = "receipts come when a rental is closed; those that go on: node ps";
        return Err(ApiError::new(
            ErrorKind::NoMatch,
            format!("there is no receipt whose id begins with {prefix}"),
            next,
        ));
    }
    context.output.result(&receipts, |output| match &receipts[..] {
        [] => "no receipts yet: they come when a rental is closed".to_owned(),
        [one] if !prefix.is_empty() => receipt_text(one, Style::on(stdout().is_terminal())),
        all => receipts_table(output, all),
    })
}
