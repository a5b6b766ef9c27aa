//! `node drain`, `node undrain` and `node reload`: what a provider's owner orders while rentals go on.

use super::Context;
use crate::cli;
use api::types::{ApiError, DrainRequest, Reloaded, ServiceState};

pub(super) async fn drain(context: &Context, args: cli::Drain) -> Result<(), ApiError> {
    let state = context.daemon().await?.drain(DrainRequest { until: args.until }).await?;
    context.output.result(&state, |_| words(&state))
}

pub(super) async fn undrain(context: &Context) -> Result<(), ApiError> {
    let state = context.daemon().await?.undrain().await?;
    context.output.result(&state, |_| words(&state))
}

pub(super) async fn reload(context: &Context) -> Result<(), ApiError> {
    let reloaded = context.daemon().await?.reload().await?;
    context.output.result(&reloaded, |_| changes(&reloaded))
}

fn words(state: &ServiceState) -> String {
    let until = state.until.map_or_else(String::new, |until| format!(" until {until}"));
    let taking = if state.taking_rentals { "new rentals are taken" } else { "no new rentals are taken" };
    match state.rentals {
        0 => format!("{taking}{until}; none goes on"),
        1 => format!("{taking}{until}; one goes on: node ps"),
        more => format!("{taking}{until}; {more} go on: node ps"),
    }
}

fn changes(reloaded: &Reloaded) -> String {
    let mut lines = vec![match reloaded.taken.as_slice() {
        [] => "nothing has changed that is read again".to_owned(),
        taken => format!("in force for new quotes: {}", taken.join(", ")),
    }];
    if !reloaded.at_restart.is_empty() {
        lines.push(format!("read at the daemon's start only: {}", reloaded.at_restart.join(", ")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::time::UnixMillis;

    #[test]
    fn what_was_ordered_is_said_in_words() {
        let drained = ServiceState { taking_rentals: false, until: Some(UnixMillis(0)), rentals: 2 };
        assert_eq!(words(&drained), "no new rentals are taken until 1970-01-01T00:00:00Z; 2 go on: node ps");
        let open = ServiceState { taking_rentals: true, until: None, rentals: 0 };
        assert_eq!(words(&open), "new rentals are taken; none goes on");
        let reloaded = Reloaded { taken: vec!["pricing".into()], at_restart: vec!["slot".into()] };
        assert_eq!(changes(&reloaded), "in force for new quotes: pricing\nread at the daemon's start only: slot");
    }
}
