//! From an offer to a binding quote: ask, signed by the wallet; then hold the answer against what was asked for, field by field.

use crate::{Parts, arbiters, records::short_peer};
use alloy_primitives::{Address, Bytes};
use api::{
    search::Match,
    types::{ApiError, ErrorKind},
};
use market::{
    id::RentalId,
    money::{Amount, Token},
    quote::{Asked, MAX_RENTAL_SECONDS, MAX_WINDOW, MIN_WINDOW, SignedQuote},
    refusal::Refusal,
    signed::Escrow,
    terms::{MAX_INCREMENT_MILLIS, Terms, Workload},
    time::UnixMillis,
};
use network::{AskError, Handle};
use settlement::{EscrowAccount, SettlementError, Wallet};
use std::time::Duration;
use wire::{QuoteAsk, proto};

/// The shortest challenge window that is accepted on a real chain: six hours, so that a provider that vanished holds a deposit no longer than needed, and one that sleeps a night is not robbed (DESIGN §7).
const MIN_CLIENT_WINDOW: u32 = 6 * 3_600;

/// Whether an escrow is ours, and a token one that our own configuration describes the same way: a provider cannot make up
/// decimals.
pub(crate) fn payable(accounts: &[EscrowAccount], escrow: &Escrow, token: &Token) -> bool {
    accounts
        .iter()
        .map(|account| account.sender().chain())
        .any(|chain| chain.escrow() == *escrow && chain.config().tokens.contains(token))
}

/// The shortest pause before a provider is asked again.
const LEAST_PAUSE: Duration = Duration::from_millis(250);

/// A promise that is good.
pub(crate) struct Promise {
    pub(crate) quote: SignedQuote,
    pub(crate) terms: Terms,
    pub(crate) terms_bytes: Bytes,
    pub(crate) session: Wallet,
    pub(crate) deposit: Amount,
    /// The newest block when it was asked for.
    pub(crate) block: u64,
}

/// Why there is no promise.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoPromise {
    /// The provider said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The provider could not be asked.
    #[error(transparent)]
    Unreachable(#[from] AskError),
    /// It answered with something that was not asked for, or not what it advertised.
    #[error("the quote is not acceptable: {0}")]
    Unacceptable(String),
    /// Disputes would go to somebody whom the configuration does not name.
    #[error(transparent)]
    Arbiter(#[from] arbiters::NotAccepted),
    /// The chain or the wallet failed.
    #[error(transparent)]
    Settlement(#[from] SettlementError),
}

impl NoPromise {
    /// After what pause the provider is worth asking again: if it says so, which lets none make anybody ask in a flurry, or when the
    /// connection was lost, as happens to whoever asks a provider that has just been started again over a connection to what it was before.
    pub(crate) fn ask_again(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) if refusal.retry_millis > 0 => {
                Some(Duration::from_millis(refusal.retry_millis.into()).max(LEAST_PAUSE))
            }
            Self::Unreachable(AskError::Lost) => Some(LEAST_PAUSE),
            _ => None,
        }
    }

    /// The error for whoever asked.
    pub(crate) fn into_api(self, provider: &network::PeerId) -> ApiError {
        let who = short_peer(provider);
        match self {
            Self::Refused(refusal) => ApiError::new(
                ErrorKind::Refused,
                format!("provider {who} refused: {refusal}"),
                "try again later, or widen the search with --where",
            ),
            Self::Unreachable(error) => ApiError::new(
                ErrorKind::Refused,
                format!("provider {who}: {error}"),
                "try again, or choose another offer",
            ),
            Self::Unacceptable(why) => {
                ApiError::new(ErrorKind::Refused, format!("provider {who}: {why}"), "choose another offer")
            }
            Self::Arbiter(not) => not.into_api(&who),
            Self::Settlement(error) => chain_error(&error),
        }
    }
}

/// A failure of the chain, as clients see it.
pub(crate) fn chain_error(error: &SettlementError) -> ApiError {
    let kind = match error {
        SettlementError::InsufficientFunds { .. }
        | SettlementError::InsufficientGas { .. }
        | SettlementError::NoWay { .. } => ErrorKind::Funds,
        SettlementError::NotConfirmed { .. } => ErrorKind::Timeout,
        _ => ErrorKind::Chain,
    };
    let next = match kind {
        ErrorKind::Funds => "see `node wallet balance`",
        ErrorKind::Timeout => "the transaction stays under way; see `node ps`",
        _ => "check the [[chain]] section and the endpoint",
    };
    ApiError::new(kind, error.to_string(), next)
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// How long, in seconds.
    pub(crate) seconds: u32,
    /// What it is ready to lock.
    pub(crate) deposit: Amount,
    /// How many slots, as one rental.
    pub(crate) slots: u32,
    /// Whether it may have to give way to others.
    pub(crate) interruptible: bool,
    /// The rental whose sandbox it keeps.
    pub(crate) continues: Option<RentalId>,
    /// What it runs in.
    pub(crate) workload: Workload,
}

/// Asks the provider of `chosen`, whose price and hardware are those of all the slots together.
pub(crate) async fn ask(
    parts: &Parts,
    account: &EscrowAccount,
    chosen: &Match,
    wanted: Wanted,
    accepted: &[Address],
) -> Result<Promise, NoPromise> {
    let Wanted { seconds, deposit, slots, interruptible, continues, .. } = wanted;
    let Parts { network, network_name, .. } = parts;
    let (chain, payer) = (account.sender().chain(), account.payer());
    let arbiters = arbiters::allowed(&chosen.offer.arbiters, accepted)?;
    let (provider, local) = (chosen.ad.peer, network.local_peer_id());
    let head = chain.head().await?;
    let session = Wallet::random();
    let question = QuoteAsk {
        escrow: chosen.price.escrow,
        token: chosen.price.token.address,
        wallet: payer.address(),
        renter_key: session.address(),
        at: UnixMillis::now().seconds(),
        offer: chosen.offer.name.clone(),
        rate: chosen.price.rate,
        max_seconds: seconds.saturating_add(chosen.offer.ready_seconds).min(MAX_RENTAL_SECONDS),
        deposit,
        interruptible,
        workload: wanted.workload.clone(),
        continues,
        slots,
    };
    let body = question.to_body();
    let signature = payer.sign(chain, &question.digest(&body, &local, &provider))?;
    let request = proto::QuoteRequest { body, signature: signature.to_vec() };
    let ask = || rental_request(network, provider, proto::rental_request::Request::Quote(request.clone()));
    let answer = match ask().await {
        // a connection from before the provider's last start shows that it is dead only when it is used
        Err(NoPromise::Unreachable(AskError::Lost)) => ask().await,
        answer => answer,
    };
    let reply = match answer? {
        proto::rental_response::Response::Quote(reply) => reply,
        _ => return Err(NoPromise::Unacceptable("another kind of answer was expected".to_owned())),
    };
    let terms_bytes = Bytes::from(reply.terms.clone());
    let (quote, terms) = wire::quote_from_proto(reply).map_err(|error| NoPromise::Unacceptable(error.to_string()))?;
    check_terms(&terms, chosen, wanted, (network_name, &local)).map_err(NoPromise::Unacceptable)?;
    let shortest = if chain.config().devnet { MIN_WINDOW } else { MIN_CLIENT_WINDOW };
    let asked = Asked {
        escrow: question.escrow,
        renter: question.wallet,
        renter_key: question.renter_key,
        provider: chosen.ad.binding.wallet,
        provider_key: chosen.ad.binding.provider_key,
        token: question.token,
        rate: question.rate,
        max_seconds: question.max_seconds,
        deposit,
        windows: shortest..=MAX_WINDOW,
        arbiters,
        spec: alloy_primitives::keccak256(&terms_bytes),
        block_time: head.timestamp,
    };
    quote.check(&asked).map_err(|mismatch| NoPromise::Unacceptable(mismatch.to_string()))?;
    // a quote may be cheaper than what was asked for, and no more can be locked than the whole rental costs
    let deposit = deposit.min(quote.quote.full_price());
    Ok(Promise { quote, terms, terms_bytes, session, deposit, block: head.number })
}

/// What the terms must say, given what was advertised.
fn check_terms(
    terms: &Terms,
    chosen: &Match,
    wanted: Wanted,
    (network_name, local): (&str, &network::PeerId),
) -> Result<(), String> {
    let same = |name: &str, equal: bool| {
        if equal { Ok(()) } else { Err(format!("the terms' {name} is not what was advertised or asked for")) }
    };
    same("network", terms.network == network_name)?;
    same("provider", terms.provider_peer == chosen.ad.peer)?;
    same("renter", terms.renter_peer == *local)?;
    same("escrow", terms.escrow == chosen.price.escrow)?;
    same("token", terms.token == chosen.price.token)?;
    same("hardware", terms.hardware == chosen.offer.hardware)?;
    same(
        "increment",
        terms.increment_millis == chosen.offer.increment_millis && terms.increment_millis <= MAX_INCREMENT_MILLIS,
    )?;
    same("time to get ready", terms.ready_seconds == chosen.offer.ready_seconds)?;
    same("rental to continue", terms.continues == wanted.continues)?;
    let notice = if wanted.interruptible { chosen.offer.notice_seconds } else { 0 };
    same("notice", terms.notice_seconds == notice)?;
    same("workload", terms.workload == wanted.workload)
}

/// One question to a provider; its refusal becomes an error.
pub(crate) async fn rental_request(
    network: &Handle,
    provider: network::PeerId,
    request: proto::rental_request::Request,
) -> Result<proto::rental_response::Response, NoPromise> {
    let response = network.ask(provider, proto::RentalRequest { request: Some(request) }).await?;
    match response.response {
        Some(proto::rental_response::Response::Refusal(refusal)) => {
            Err(NoPromise::Refused(wire::refusal_from_proto(refusal)))
        }
        Some(response) => Ok(response),
        None => Err(NoPromise::Unacceptable("an empty answer".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::refusal::RefusalCode;

    #[test]
    fn a_provider_is_asked_again_when_it_says_so_and_when_the_way_to_it_broke() {
        let refused = |retry_millis| {
            NoPromise::Refused(Refusal { retry_millis, ..Refusal::new(RefusalCode::NoSuchSlot, "in use") }).ask_again()
        };
        assert_eq!(refused(0), None);
        assert_eq!(refused(1), Some(LEAST_PAUSE));
        assert_eq!(refused(9_000), Some(Duration::from_secs(9)));
        assert_eq!(NoPromise::from(AskError::Lost).ask_again(), Some(LEAST_PAUSE));
        // nobody answered for as long as may be waited
        assert_eq!(NoPromise::from(AskError::Timeout).ask_again(), None);
    }
}
