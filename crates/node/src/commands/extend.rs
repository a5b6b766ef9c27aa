//! `node extend`: has a rental go on for longer, in one that continues it.

use super::{Context, ps};
use crate::{cli, output::Waiting};
use api::types::{ApiError, ExtendRequest};

pub(super) async fn extend(context: &Context, args: cli::Extend) -> Result<(), ApiError> {
    let waiting = Waiting::begin("waiting for the chain");
    let rental = context.daemon().await?.extend(&args.id, ExtendRequest { seconds: args.seconds }).await?;
    drop(waiting);
    context.output.result(&rental, |output| ps::table(output, std::slice::from_ref(&rental)))
}
