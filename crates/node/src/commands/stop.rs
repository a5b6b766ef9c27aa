//! `node stop`: orders the end of a rental; the daemon settles it.

use super::{Context, ps};
use crate::{cli, output::Waiting};
use api::types::ApiError;

pub(super) async fn stop(context: &Context, args: cli::Stop) -> Result<(), ApiError> {
    let waiting = Waiting::begin("ordering the end");
    let rental = context.daemon().await?.stop(&args.id).await?;
    drop(waiting);
    context.output.result(&rental, |output| ps::table(output, std::slice::from_ref(&rental)))
}
