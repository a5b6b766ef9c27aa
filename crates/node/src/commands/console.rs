//! `node console`: a link into the web console of this machine's daemon.

use super::Context;
use crate::cli;
use api::types::ApiError;

pub(super) async fn console(context: &Context, args: cli::Console) -> Result<(), ApiError> {
    let link = context.daemon().await?.console(&args.id.unwrap_or_default()).await?;
    context.output.result(&link, |_| link.url.clone())
}
