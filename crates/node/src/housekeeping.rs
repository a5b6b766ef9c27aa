//! What a daemon does from time to time, whatever its roles: it forgets the oldest history beyond its bounds, and says in its log what
//! was dropped because a bound was reached. Drops are counted where they happen; told once a minute, a flood of them cannot become a
//! flood of lines.

use crate::metrics::dropped;
use std::{collections::BTreeMap, time::Duration};
use store::{Store, StoreError};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

/// How often drops are told.
pub(crate) const TELL_EVERY: Duration = Duration::from_secs(60);
/// How often history is looked through: it grows by the rentals of an hour in between.
pub(crate) const FORGET_EVERY: Duration = Duration::from_secs(3_600);

/// Forgets the oldest records of one table or several, and says how many.
type Forget = fn(&Store) -> Result<usize, StoreError>;

/// The history of each part of the node.
const HISTORIES: [(&str, Forget); 3] = [
    ("provider", provider::forget_oldest),
    ("renter", renter::forget_oldest),
    ("settlement", settlement::forget_oldest),
];

/// Keeps house until cancelled.
pub(crate) async fn run(network: network::Handle, store: Store, cancel: CancellationToken) {
    let (mut tell, mut forget) = (tokio::time::interval(TELL_EVERY), tokio::time::interval(FORGET_EVERY));
    tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
    forget.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = BTreeMap::new();
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = tell.tick() => {
                for line in news(&mut told, network.counters().all()) {
                    tracing::warn!("{line}");
                }
            }
            _ = forget.tick() => forget_oldest(&store).await,
        }
    }
}

/// What to say about drops since the last time.
fn news(told: &mut BTreeMap<&'static str, u64>, counts: Vec<(&'static str, u64)>) -> Vec<String> {
    let drops = counts.into_iter().filter_map(|(counter, count)| Some((counter, count, dropped(counter)?)));
    drops
        .filter_map(|(counter, count, (protocol, reason))| {
            let before = told.insert(counter, count).unwrap_or_default();
            let more = count.checked_sub(before).filter(|more| *more > 0)?;
            Some(format!("{protocol}: {more} dropped in the last minute ({reason}), {count} since the start"))
        })
        .collect()
}

async fn forget_oldest(store: &Store) {
    for (part, forget) in HISTORIES {
        match store.run(forget).await {
            Ok(0) => {}
            Ok(gone) => tracing::info!(part, gone, "the oldest history was forgotten"),
            Err(error) => tracing::warn!(part, %error, "old history could not be forgotten; trying again in an hour"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_told_once_and_only_when_there_are_more() {
        let mut told = BTreeMap::new();
        let counts = |dropped| vec![("rate_limited", dropped), ("ads_accepted", 9), ("rentals_queue_full", 0)];
        assert_eq!(
            news(&mut told, counts(3)),
            ["request: 3 dropped in the last minute (too_often), 3 since the start"]
        );
        assert!(news(&mut told, counts(3)).is_empty());
        assert_eq!(
            news(&mut told, counts(5)),
            ["request: 2 dropped in the last minute (too_often), 5 since the start"]
        );
    }
}
