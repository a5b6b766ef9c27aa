//! `node rate`: says what its renter thinks of a closed rental, and how far that has come.

use super::Context;
use crate::{
    cli,
    output::{Waiting, printable},
};
use api::types::{ApiError, RatingRequest, RatingState, RatingView};

pub(super) async fn rate(context: &Context, args: cli::Rate) -> Result<(), ApiError> {
    let waiting = Waiting::begin("telling indexers");
    let request = RatingRequest { stars: args.stars, comment: args.comment };
    let rating = context.daemon().await?.rate(&args.id, &request).await?;
    drop(waiting);
    context.output.result(&rating, |_| text(&rating))
}

fn text(rating: &RatingView) -> String {
    let stars = if rating.stars == 1 { "star" } else { "stars" };
    let far = match rating.state {
        RatingState::Kept => "an indexer keeps it".to_owned(),
        RatingState::Told if rating.detail.is_empty() => "the daemon tells it until an indexer keeps it".to_owned(),
        RatingState::Told => format!("the daemon tells it until an indexer keeps it ({})", printable(&rating.detail)),
        RatingState::GivenUp => format!("no indexer has taken it ({})", printable(&rating.detail)),
    };
    format!("rental {}: {} {stars}, signed; {far}", rating.id, rating.stars)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use market::{id::RentalId, time::UnixMillis};

    #[test]
    fn a_rating_says_how_far_it_has_come() {
        let rating = |stars, state, detail: &str| RatingView {
            id: RentalId(B256::repeat_byte(0xab)),
            stars,
            comment: String::new(),
            at: UnixMillis(1),
            state,
            detail: detail.to_owned(),
        };
        assert!(text(&rating(5, RatingState::Kept, "")).ends_with("5 stars, signed; an indexer keeps it"));
        let told = text(&rating(1, RatingState::Told, "no indexer\x1b is connected"));
        assert!(told.contains("1 star,") && told.contains("no indexer") && !told.contains('\x1b'), "{told}");
    }
}
