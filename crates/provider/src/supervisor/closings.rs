//! Closings that are due, gathered by chain: rentals that end at about the same time are closed in one transaction, which costs a third of
//! the gas. Each is asked for again until the chain shows its end.

use super::{Done, Supervisor, span};
use crate::closing;
use market::{
    id::RentalId,
    rental::provider::{Phase, Rental},
    time::UnixMillis,
};
use settlement::{ClosingOutcome, MAX_BATCH, SettlementError};
use std::time::{Duration, Instant};
use tracing::{Instrument, Span};

/// How long a closing that ended, well or not, rests before it is asked for again.
const CLOSE_RETRY: u64 = 5_000;
/// The shortest time that a closing waits for company: renters that stop at one moment are heard within a second.
const SHORTEST_GATHERING: Duration = Duration::from_secs(1);
/// The longest, however slow the chain: a renter waits a minute for its refund before it pays for a closing of its own.
const LONGEST_GATHERING: Duration = Duration::from_secs(5);

/// How long closings are gathered: one block's time, which each waits for the chain in any case.
fn gathering_time(block_time: Duration) -> Duration {
    block_time.clamp(SHORTEST_GATHERING, LONGEST_GATHERING)
}

/// The closings of one chain that wait for company.
#[derive(Default)]
pub(super) struct Gathering {
    ids: Vec<RentalId>,
    /// When the first of them came.
    since: Option<Instant>,
}

impl Gathering {
    fn add(&mut self, id: RentalId, now: Instant) {
        self.ids.push(id);
        self.since.get_or_insert(now);
    }

    /// Those that go out now: when they have waited for `time`, when there are as many as fit, or when nobody is left who could join them.
    fn take(&mut self, time: Duration, others_may_come: bool, now: Instant) -> Vec<RentalId> {
        let waited = self.since.is_some_and(|since| now.duration_since(since) >= time);
        if !waited && others_may_come && self.ids.len() < MAX_BATCH {
            return Vec::new();
        }
        let taken: Vec<_> = self.ids.drain(..self.ids.len().min(MAX_BATCH)).collect();
        // the rest are more than fit into one block's transaction, and have waited as long
        self.since = self.since.filter(|_| !self.ids.is_empty());
        taken
    }
}

impl Supervisor {
    /// Has a rental closed together with others that end now.
    pub(super) fn close(&mut self, id: RentalId) {
        let Some(live) = self.live.get_mut(&id).filter(|live| live.closing != Some(None)) else { return };
        let escrow = live.rental.quote.escrow;
        let Some(settling) = self.chains.iter_mut().find(|s| s.account.sender().chain().escrow() == escrow) else {
            return;
        };
        live.closing = Some(None);
        settling.gathering.add(id, Instant::now());
    }

    /// Asks again for closings that have rested, and sends those that have gathered.
    pub(super) fn close_what_is_due(&mut self, now: UnixMillis) {
        for id in self.closings_due(now) {
            self.close(id);
        }
        let moment = Instant::now();
        for chain in 0..self.chains.len() {
            let others_may_come = self.others_may_come(chain);
            let Some(settling) = self.chains.get_mut(chain) else { continue };
            let time = gathering_time(settling.account.sender().chain().config().block_time());
            let taken = settling.gathering.take(time, others_may_come, moment);
            if !taken.is_empty() {
                self.close_together(chain, taken);
            }
        }
    }

    /// Whether a rental of this chain goes on that may end any moment.
    fn others_may_come(&self, chain: usize) -> bool {
        let going_on = |phase| matches!(phase, Phase::Preparing | Phase::Serving | Phase::Frozen);
        let mut here = self.rentals_on(chain).into_iter().filter_map(|id| self.live.get(&id));
        here.any(|live| going_on(live.rental.phase))
    }

    fn close_together(&mut self, chain: usize, ids: Vec<RentalId>) {
        let Some(account) = self.chains.get(chain).map(|settling| settling.account.clone()) else { return };
        let (mut together, mut alone): (Vec<Rental>, Vec<Rental>) = Default::default();
        for id in ids {
            let Some(live) = self.live.get_mut(&id) else { continue };
            if live.rental.phase != Phase::Closing {
                // the chain has shown its end meanwhile; should it go back on that, it is closed anew
                live.closing = None;
                continue;
            }
            if live.closes_alone { &mut alone } else { &mut together }.push(live.rental.clone());
        }
        let about = match (together.as_slice(), alone.as_slice()) {
            ([only], []) | ([], [only]) => span(&only.id),
            ([], []) => return,
            _ => Span::none(),
        };
        let closing = async move { Done::Closings(closing::close(account, together, alone).await) };
        self.work.spawn(closing.instrument(about));
    }

    /// Closings have ended, for better or worse. Each is asked for again until the chain shows the end: one that was mined may be taken back.
    pub(super) fn closings_ended(&mut self, outcomes: Vec<ClosingOutcome>, now: UnixMillis) {
        for ClosingOutcome { id, result } in outcomes {
            let Some(live) = self.live.get_mut(&id) else { continue };
            live.closing = Some(Some(now.plus(CLOSE_RETRY)));
            let error = result.as_ref().err().map(AsRef::as_ref);
            live.closes_alone = match error {
                None => false,
                Some(SettlementError::Reverted { .. }) => true,
                Some(_) => live.closes_alone,
            };
            live.tried(error, now);
        }
    }

    fn closings_due(&self, now: UnixMillis) -> Vec<RentalId> {
        let due = |live: &&super::Live| {
            live.rental.phase == Phase::Closing && live.closing.flatten().is_some_and(|at| at <= now)
        };
        self.live.values().filter(due).map(|live| live.rental.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    const TIME: Duration = Duration::from_secs(2);

    fn ids(count: usize) -> Vec<RentalId> {
        (1..=count).map(|n| RentalId(B256::with_last_byte(u8::try_from(n).unwrap()))).collect()
    }

    fn gathering(ids: &[RentalId], at: Instant) -> Gathering {
        let mut gathering = Gathering::default();
        ids.iter().for_each(|id| gathering.add(*id, at));
        gathering
    }

    #[test]
    fn closings_wait_for_company_from_the_first_on() {
        let (begun, ids) = (Instant::now(), ids(2));
        let mut gathering = gathering(&ids[..1], begun);
        assert_eq!(gathering.take(TIME, true, begun + TIME - Duration::from_millis(1)), []);
        gathering.add(ids[1], begun + TIME - Duration::from_millis(1));
        assert_eq!(gathering.take(TIME, true, begun + TIME), ids, "the second does not make the first wait longer");
        assert_eq!(gathering.take(TIME, false, begun + TIME * 2), [], "each goes out once");
        gathering.add(ids[0], begun + TIME * 2);
        assert_eq!(gathering.take(TIME, true, begun + TIME * 2), [], "the next waits for company anew");
    }

    #[test]
    fn a_closing_that_nobody_can_join_waits_for_nobody() {
        let (begun, ids) = (Instant::now(), ids(1));
        assert_eq!(gathering(&ids, begun).take(TIME, false, begun), ids);
    }

    #[test]
    fn more_than_fit_into_one_transaction_go_out_in_several() {
        let (begun, ids) = (Instant::now(), ids(MAX_BATCH + 2));
        let mut gathering = gathering(&ids, begun);
        assert_eq!(gathering.take(TIME, true, begun), ids[..MAX_BATCH], "a full one does not wait");
        assert_eq!(gathering.take(TIME, true, begun), []);
        assert_eq!(gathering.take(TIME, true, begun + TIME), ids[MAX_BATCH..]);
    }

    #[test]
    fn gathering_takes_a_block_but_never_so_long_that_a_renter_would_close_itself() {
        let times = [250, 2_000, 12_000].map(|millis| gathering_time(Duration::from_millis(millis)));
        assert_eq!(times, [SHORTEST_GATHERING, Duration::from_secs(2), LONGEST_GATHERING]);
        let patience = Duration::from_millis(market::rental::renter::CLOSE_PATIENCE);
        assert!(LONGEST_GATHERING * 10 < patience);
    }
}
