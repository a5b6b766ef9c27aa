//! What the network asks of an indexer about ratings: to take one, and to tell what is known of a provider with the signed originals.

use crate::{history::Row, ratings::rating_of, standing::Standings};
use market::{rating::SignedRating, time::UnixMillis};
use network::{PeerId, RatingDesk, Taking};
use store::StoreError;
use wire::{PageEnd, PastRental, ProviderRecord, RecordAsk, proto};

impl RatingDesk for Standings {
    fn take(&self, rating: SignedRating, from: PeerId) -> Taking {
        match self.inner.ratings.take(&self.inner.store, rating, from) {
            Ok((taking, row)) => {
                self.forget(row.into_iter().flat_map(|row| [row.facts.provider, row.facts.provider_key]));
                taking
            }
            Err(error) => {
                tracing::warn!(%error, "a rating could not be written");
                Taking::Refused("the indexer's disk failed".to_owned())
            }
        }
    }

    fn record(&self, request: &proto::RecordRequest) -> Option<proto::ProviderRecord> {
        let ask = wire::record_ask_from_proto(request).ok()?;
        match self.tell(&ask) {
            Ok(record) => Some(wire::record_to_proto(&record)),
            Err(error) => {
                tracing::warn!(%error, "a record could not be read");
                None
            }
        }
    }
}

impl Standings {
    /// What is known of a provider, with a page of the rentals behind it. Blocks, as [`Self::of_wallet`] does.
    pub fn tell(&self, ask: &RecordAsk) -> Result<ProviderRecord, StoreError> {
        let known = self.of_wallet(ask.wallet)?;
        let now = UnixMillis::now().seconds();
        let trusted = ask.asker.map(|asker| self.trusted_seconds(asker, ask.wallet, now)).transpose()?;
        let mut ended: Vec<(PageEnd, Row)> =
            self.rentals_of(ask.wallet)?.into_iter().filter_map(|row| Some((end_of(&row)?, row))).collect();
        ended.sort_unstable_by_key(|(end, _)| std::cmp::Reverse(*end));
        let mut page = ended.into_iter().filter(|(end, _)| ask.before.is_none_or(|before| *end < before));
        let (mut rentals, mut last) = (Vec::new(), None);
        for (end, row) in page.by_ref().take(ask.limit) {
            rentals.push(past(&row, rating_of(&self.inner.store, &row)?));
            last = Some(end);
        }
        let next = last.filter(|_| page.next().is_some());
        let (standing, record) = (known.standing, known.record.clone());
        Ok(ProviderRecord { wallet: ask.wallet, standing, record, trusted_seconds: trusted, rentals, next })
    }
}

fn end_of(row: &Row) -> Option<PageEnd> {
    Some(PageEnd { closed: row.facts.closed?.at, id: row.facts.id })
}

fn past(row: &Row, rating: Option<SignedRating>) -> PastRental {
    PastRental {
        escrow: row.facts.escrow,
        id: row.facts.id,
        opened_block: row.opened.block,
        closed_block: row.newest_place().block,
        rating,
    }
}
