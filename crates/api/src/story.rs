//! The end of a rental's story as both sides tell it alike, since the chain tells it to both: the stop, the ruling, the closing.

use crate::types::{StoryStep, closing_words};
use market::{
    dispute::Deadlines,
    money::Token,
    quote::Quote,
    rental::{Closing, Opening},
    time::UnixMillis,
};

/// The number of a closing by the arbiter.
const RULED: u8 = 5;

/// What the chain has shown of a rental's end, in order.
pub fn chain_end(
    quote: &Quote,
    token: &Token,
    opening: Option<Opening>,
    stop_time: Option<u64>,
    closing: Option<Closing>,
) -> Vec<StoryStep> {
    let mut steps = Vec::new();
    let moment = |seconds: u64| UnixMillis(seconds.saturating_mul(1_000));
    if let (Some(opening), Some(stop)) = (opening, stop_time) {
        let deadlines = Deadlines::of(quote, opening.start, stop);
        let arbiter = quote
            .named_arbiter()
            .map_or_else(String::new, |arbiter| format!("; {arbiter} may rule from {}", moment(deadlines.ruling)));
        let detail = format!(
            "the renter stopped the meter on chain{arbiter}; anybody may finalize from {}",
            moment(deadlines.finalizing)
        );
        steps.push(StoryStep::new("stopped", Some(moment(stop)), detail));
    }
    if let Some(closing) = closing {
        let (paid, back) = (token.show(closing.paid), token.show(closing.refunded));
        if closing.kind == RULED {
            let detail = format!("{} awarded the provider {paid}", quote.arbiter);
            steps.push(StoryStep::on_chain("ruled", closing.time, closing.tx, closing.block, detail));
        }
        let detail = format!("{}: {paid} paid, {back} returned", closing_words(closing.kind));
        steps.push(StoryStep::on_chain("closed", closing.time, closing.tx, closing.block, detail));
    }
    steps
}
