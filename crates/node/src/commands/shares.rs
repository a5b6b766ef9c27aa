//! `node share`, `shares`, `unshare` and `accept`: letting other nodes into rentals of this one, and being let into theirs.

use super::Context;
use crate::{
    cli,
    output::{Output, Waiting, note, short_peer},
};
use api::types::{ApiError, Share, ShareRequest, SharedRental};
use market::time::UnixMillis;

/// `node share`
pub(super) async fn share(context: &Context, args: cli::Share) -> Result<(), ApiError> {
    let request = ShareRequest { peer: args.peer, seconds: args.seconds };
    let share = context.daemon().await?.share(&args.id, &request).await?;
    if !context.output.json {
        note(&format!("good until {}, for that node alone; there: node accept TOKEN", share.until));
    }
    context.output.result(&share, |_| share.token.clone().unwrap_or_default())
}

/// `node shares`
pub(super) async fn shares(context: &Context, args: cli::Shares) -> Result<(), ApiError> {
    let daemon = context.daemon().await?;
    let now = UnixMillis::now();
    if let Some(id) = args.id {
        let shares = daemon.shares(&id).await?;
        return context.output.result(&shares, |output| given(output, &shares, now));
    }
    let (shared, node) = (daemon.shared().await?, daemon.node().await?);
    context.output.result(&shared, |output| taken(output, &shared, &node.peer))
}

/// `node unshare`
pub(super) async fn unshare(context: &Context, args: cli::Unshare) -> Result<(), ApiError> {
    let waiting = Waiting::begin("telling the provider");
    let share = context.daemon().await?.unshare(&args.id, &args.peer).await?;
    drop(waiting);
    context.output.result(&share, |output| given(output, std::slice::from_ref(&share), UnixMillis::now()))
}

/// `node accept`
pub(super) async fn accept(context: &Context, args: cli::Accept) -> Result<(), ApiError> {
    let waiting = Waiting::begin("asking the provider");
    let rental = context.daemon().await?.accept(&args.token).await?;
    drop(waiting);
    context.output.result(&rental, |_| {
        let id = rental.id.short();
        format!("rental {id}, until {}: node ssh {id}", rental.until)
    })
}

fn given(output: &Output, shares: &[Share], now: UnixMillis) -> String {
    if shares.is_empty() {
        return "shared with nobody".to_owned();
    }
    let state = |share: &Share| match (share.taken_back, share.until <= now) {
        (true, _) => "taken back",
        (false, true) => "over",
        (false, false) => "shared",
    };
    let row = |share: &Share| vec![share.peer.clone(), state(share).to_owned(), share.until.to_string()];
    output.table(&[("PEER", false), ("STATE", false), ("UNTIL", false)], shares.iter().map(row).collect())
}

fn taken(output: &Output, rentals: &[SharedRental], here: &str) -> String {
    let row = |rental: &SharedRental| vec![rental.id.short(), short_peer(&rental.provider), rental.until.to_string()];
    let columns = [("ID", false), ("PROVIDER", false), ("UNTIL", false)];
    let shared = match rentals {
        [] => "nothing is shared with this node".to_owned(),
        rentals => output.table(&columns, rentals.iter().map(row).collect()),
    };
    format!("{shared}\n\nthis node is {here}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use market::id::RentalId;

    #[test]
    fn a_list_says_who_is_let_in_still() {
        let (id, now) = (RentalId(B256::repeat_byte(0xab)), UnixMillis(5_000));
        let share = |peer: &str, until, taken_back| Share {
            id,
            peer: peer.to_owned(),
            until: UnixMillis(until),
            taken_back,
            token: None,
        };
        let shares = [share("anna", 6_000, false), share("ben", 6_000, true), share("carl", 5_000, false)];
        let text = given(&Output::new(false), &shares, now);
        let states: Vec<_> = text.lines().skip(1).map(|line| line.split_whitespace().nth(1).unwrap()).collect();
        assert_eq!(states, ["shared", "taken", "over"]);
        assert_eq!(given(&Output::new(false), &[], now), "shared with nobody");
        let rental = SharedRental { id, provider: "12D3KooWprovider".into(), until: UnixMillis(6_000) };
        let text = taken(&Output::new(false), &[rental], "12D3KooWhere");
        assert!(text.contains(&id.short()) && text.ends_with("this node is 12D3KooWhere"), "{text}");
    }
}
