//! What the owner asks through the control API: rentals, receipts, ending one.

use super::{Command, Supervisor};
use crate::{
    figures::Standing,
    records::{Receipts, Rentals},
    story,
};
use api::types::{ApiError, ErrorKind, Receipt, RentalRow, RentalStory, Role};
use market::{
    money::Amount,
    rental::provider::{Input, Phase, Rental},
    time::UnixMillis,
};
use std::collections::{BTreeMap, HashSet};
use store::StoreError;

impl Supervisor {
    pub(super) async fn command(&mut self, command: Command) {
        match command {
            Command::Rentals { all, reply } => {
                let now = UnixMillis::now();
                let live = self.live.values().filter(|live| !live.rental.phase.is_over());
                let mut rows: Vec<_> =
                    live.map(|live| RentalRow { warning: self.warning(live, now), ..row(&live.rental, now) }).collect();
                if all {
                    let shown: HashSet<_> = rows.iter().map(|row| row.id).collect();
                    rows.extend(
                        self.ended().await.iter().filter(|r| !shown.contains(&r.id)).map(|rental| row(rental, now)),
                    );
                }
                let _ = reply.send(rows);
            }
            Command::Standing { reply } => {
                let _ = reply.send(self.standing());
            }
            Command::Receipts { prefix, reply } => {
                let read = self
                    .store
                    .run(move |store| {
                        let rows = store.scan::<Receipts>(..)?.map(|row| row.map(|(_, receipt)| receipt.0));
                        let wanted = |receipt: &Receipt| prefix.is_empty() || receipt.id.matches_prefix(&prefix);
                        rows.filter(|row| row.as_ref().map_or(true, wanted)).collect::<Result<Vec<_>, _>>()
                    })
                    .await;
                let mut receipts = read.unwrap_or_else(|error| {
                    tracing::error!(%error, "receipts cannot be read");
                    vec![]
                });
                receipts.sort_by_key(|receipt| std::cmp::Reverse(receipt.closed.time));
                let _ = reply.send(receipts);
            }
            Command::Stories { prefix, reply } => {
                let (read, now) = (self.read_story(prefix).await, UnixMillis::now());
                let stories = read.unwrap_or_else(|error| {
                    tracing::error!(%error, "rentals cannot be read");
                    vec![]
                });
                let told = stories.into_iter().map(|(rental, receipt)| {
                    let steps = story::steps(&rental, receipt.as_ref(), now);
                    RentalStory { rental: row(&rental, now), steps, receipt, visits: Vec::new() }
                });
                let _ = reply.send(told.collect());
            }
            Command::Evidence { id, reply } => {
                let _ = reply.send(self.evidence(id).await);
            }
            Command::Drain { drain, reply } => {
                let _ = reply.send(self.order_drain(drain).await);
            }
            Command::Reload { config, reply } => {
                let _ = reply.send(self.reload(&config).await);
            }
            Command::Evict { prefix, reply } => {
                let _ = reply.send(self.evict(&prefix).await);
            }
        }
    }

    fn standing(&self) -> Standing {
        let mut rentals: BTreeMap<_, _> = Phase::GOING_ON.iter().map(|phase| (phase.name(), 0)).collect();
        let going_on = || self.live.values().filter(|live| !live.rental.phase.is_over());
        for live in going_on() {
            *rentals.entry(live.rental.phase.name()).or_default() += 1;
        }
        let now = UnixMillis::now();
        let alarms = going_on().filter(|live| self.warning(live, now).is_some()).count();
        let (free, taken) = self.inventory.count();
        let [slots_free, slots_taken, alarms, sessions] =
            [free, taken, alarms, self.sessions].map(|count| count as u64);
        Standing { rentals, slots_free, slots_taken, alarms, sessions }
    }

    async fn ended(&self) -> Vec<Rental> {
        let read = self
            .store
            .run(|store| {
                store
                    .scan::<Rentals>(..)?
                    .map(|row| row.map(|(_, rental)| rental.0))
                    .collect::<Result<Vec<_>, StoreError>>()
            })
            .await;
        read.unwrap_or_default()
    }

    /// Rentals whose id begins with `prefix`, with their receipts: the disk knows as much as the live ones, since every step is written
    /// before it is acted on.
    async fn read_story(&self, prefix: String) -> Result<Vec<(Rental, Option<Receipt>)>, StoreError> {
        self.store
            .run(move |store| {
                let mut found = Vec::new();
                for row in store.scan::<Rentals>(..)? {
                    let (id, rental) = row?;
                    if id.matches_prefix(&prefix) {
                        found.push((rental.0, store.get::<Receipts>(&id)?.map(|receipt| receipt.0)));
                    }
                }
                Ok(found)
            })
            .await
    }

    async fn evict(&mut self, prefix: &str) -> Result<RentalRow, ApiError> {
        let running = self.live.values().map(|live| &live.rental).filter(|rental| !rental.phase.is_over());
        let mut matching = running.map(|rental| rental.id).filter(|id| id.matches_prefix(prefix));
        let (first, second) = (matching.next(), matching.next());
        let id = match (first, second) {
            (Some(id), None) => id,
            (None, _) => {
                return Err(ApiError::new(
                    ErrorKind::Usage,
                    format!("no running rental begins with `{prefix}`"),
                    "see `node ps`",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(ApiError::new(
                    ErrorKind::Usage,
                    format!("several rentals begin with `{prefix}`"),
                    "give more digits",
                ));
            }
        };
        let now = UnixMillis::now();
        self.input(id, Input::Evict, now)
            .await
            .map_err(|error| ApiError::new(ErrorKind::Failed, error.to_string(), ""))?;
        let live = self.live.get(&id).ok_or_else(|| ApiError::new(ErrorKind::Failed, "the rental has ended", ""))?;
        Ok(row(&live.rental, now))
    }
}

fn row(rental: &Rental, now: UnixMillis) -> RentalRow {
    let token = &rental.terms.token;
    let seconds = rental.tariff().map_or(0, |tariff| tariff.billed_seconds(rental.served_millis(now)));
    RentalRow {
        id: rental.id,
        label: None,
        role: Role::Provider,
        phase: rental.phase.name().to_owned(),
        peer: rental.terms.renter_peer.to_base58(),
        offer: rental.terms.offer.clone(),
        ready_at: rental.ready.map(|(at, _)| at),
        seconds,
        cost: token.show(rental.closing.map_or(rental.covered(), |closing| closing.paid)),
        deposit: token.show(rental.opening.map_or(Amount::ZERO, |opening| opening.deposit)),
        ends_at: rental.meter().map(|meter| meter.ends_at()),
        warning: None,
    }
}
