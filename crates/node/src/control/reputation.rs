//! Ratings, and what is known of a provider: worked out here when this node keeps the record, else asked of an indexer; and looked up on the
//! chain for whoever wants to believe neither.

use super::NodeControl;
use alloy_primitives::Address;
use api::types::{ApiError, ErrorKind, PastRental, RatingRequest, RatingView, Reputation, ReputationQuery};
use market::{
    rating::SignedRating,
    reputation::{FORMULA, RentalFacts, trust::rank},
};
use settlement::SettlementError;
use std::collections::BTreeSet;
use wire::{ProviderRecord, RecordAsk, proto};

/// Rentals that an answer shows.
const SHOWN: usize = 20;
/// Indexers that are asked one after another until one answers.
const ASKED: usize = 3;

impl NodeControl {
    pub(super) async fn rate_rental(&self, prefix: String, request: RatingRequest) -> Result<RatingView, ApiError> {
        let id = self.rented(&prefix).await?;
        self.renter()?.rate(id, request).await
    }

    pub(super) async fn reputation_of(&self, named: String, query: ReputationQuery) -> Result<Reputation, ApiError> {
        let wallet = self.wallet_named(&named)?;
        let asker = if query.mine { Some(self.own_wallet()?) } else { None };
        let ask = RecordAsk { wallet, asker, before: None, limit: SHOWN };
        let (source, known) = self.record_of(ask).await?;
        let rentals = known.rentals.iter().map(|rental| PastRental {
            escrow: rental.escrow,
            id: rental.id,
            opened_block: rental.opened_block,
            closed_block: rental.closed_block,
            rating: rental.rating.clone(),
            verified: None,
            fault: None,
        });
        let mut rentals: Vec<_> = rentals.collect();
        if query.verify {
            for rental in &mut rentals {
                self.verify(wallet, rental).await;
            }
        }
        Ok(Reputation {
            wallet,
            source,
            uptime_30d: known.record.uptime_30d(),
            trusted_seconds: known.trusted_seconds,
            rank: known.trusted_seconds.map(|trusted| rank(&known.standing, trusted)),
            standing: known.standing,
            record: known.record,
            rentals,
        })
    }

    /// The wallet that a person means by an address, a peer id or the end of one.
    fn wallet_named(&self, named: &str) -> Result<Address, ApiError> {
        if let Ok(wallet) = named.parse() {
            return Ok(wallet);
        }
        let end = named.trim_start_matches('…');
        let ads = self.network.offers();
        let meant = ads.iter().filter(|ad| !end.is_empty() && ad.peer.to_string().ends_with(end));
        let wallets: BTreeSet<Address> = meant.map(|ad| ad.binding.wallet).collect();
        let next = "give its wallet, as `node offers --json` shows it";
        match wallets.into_iter().collect::<Vec<_>>()[..] {
            [wallet] => Ok(wallet),
            [] => Err(ApiError::new(ErrorKind::NoMatch, format!("no provider {named} advertises"), next)),
            _ => Err(ApiError::new(ErrorKind::Usage, format!("{named} is the end of several peer ids"), next)),
        }
    }

    fn own_wallet(&self) -> Result<Address, ApiError> {
        let wallet = self.wallets.first().map(|(_, address)| *address);
        let next = "start it as a renter, or leave --mine out";
        wallet.ok_or_else(|| ApiError::new(ErrorKind::NoDaemon, "this daemon has no wallet", next))
    }

    /// What this node knows itself, or else the first indexer that answers.
    async fn record_of(&self, ask: RecordAsk) -> Result<(String, ProviderRecord), ApiError> {
        let failed = |error: &dyn std::fmt::Display| ApiError::new(ErrorKind::Failed, error.to_string(), "");
        if let Some(standings) = self.standings.clone() {
            let told = tokio::task::spawn_blocking(move || standings.tell(&ask)).await;
            let record = told.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
            return Ok((self.network.local_peer_id().to_string(), record));
        }
        let keepers = self.network.rating_keepers().await.map_err(|error| failed(&error))?;
        let mut last = "no indexer is connected".to_owned();
        for keeper in keepers.into_iter().take(ASKED) {
            match self.ask_record(keeper, &ask).await {
                Ok(record) => return Ok((keeper.to_string(), record)),
                Err(error) => last = format!("{keeper}: {error}"),
            }
        }
        let next = "try again when one is, or see bootstrap in [network]";
        Err(ApiError::new(ErrorKind::NoMatch, format!("nobody tells what is known of the provider: {last}"), next))
    }

    async fn ask_record(&self, keeper: network::PeerId, ask: &RecordAsk) -> Result<ProviderRecord, String> {
        use proto::{ratings_request::Request, ratings_response::Response};
        let request = proto::RatingsRequest { request: Some(Request::Record(wire::record_ask_to_proto(ask))) };
        let answer = self.network.ask_ratings(keeper, request).await.map_err(|error| error.to_string())?;
        let Some(Response::Record(record)) = answer.response else {
            return Err("an answer to something else".to_owned());
        };
        let record = wire::record_from_proto(record).map_err(|error| error.to_string())?;
        if record.wallet != ask.wallet || record.record.formula != FORMULA {
            return Err(format!("an answer about another provider or by another formula: {}", record.record.formula));
        }
        Ok(record)
    }

    /// Looks a rental and its rating up on the chain.
    async fn verify(&self, wallet: Address, rental: &mut PastRental) {
        match self.look_up(rental).await {
            Ok(Some(facts)) => {
                let whose = facts.provider == wallet || facts.provider_key == wallet;
                let rated = rental.rating.as_ref().map_or(Ok(()), |rating: &SignedRating| rating.check(&facts));
                rental.verified = Some(whose && rated.is_ok());
                rental.fault = match rated {
                    _ if !whose => Some("the rental is another provider's".to_owned()),
                    Ok(()) => None,
                    Err(fault) => Some(fault.to_string()),
                };
            }
            Ok(None) => {
                rental.verified = Some(false);
                rental.fault = Some("the chain does not show it in those blocks".to_owned());
            }
            Err(error) => rental.fault = Some(error),
        }
    }

    async fn look_up(&self, rental: &PastRental) -> Result<Option<RentalFacts>, String> {
        let chain = self.chains.iter().find(|chain| chain.escrow() == rental.escrow);
        let chain = chain.ok_or_else(|| format!("chain {} is not configured here", rental.escrow.chain))?;
        let words = |error: SettlementError| error.to_string();
        let opening = chain.opening_in(rental.id, rental.opened_block).await.map_err(words)?;
        let closing = chain.closing_in(rental.id, rental.closed_block).await.map_err(words)?;
        let both = opening.zip(closing);
        Ok(both.map(|(opening, closing)| RentalFacts { closed: Some(closing.facts()), ..opening.facts(rental.escrow) }))
    }
}
