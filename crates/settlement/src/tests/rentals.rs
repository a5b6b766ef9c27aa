//! What rentals do with money, through the account's operations.

use super::world::{DOLLAR, World, amount};
use crate::{Chain, ClosingKind, EscrowRevert, Purpose, Revert, SettlementError, Wallet, deploy, escrow_code_hash};
use alloy::primitives::{Address, B256, KECCAK256_EMPTY, U256};
use market::signed::{Escrow, Stop};

/// The escrow's own reason in an error that cost nothing.
fn refusal(error: SettlementError) -> EscrowRevert {
    match error {
        SettlementError::Reverted { transaction: None, reason, .. } => match *reason {
            Revert::Escrow(reason) => reason,
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_rental_in_dollars_pays_both_to_the_unit() {
    let w = World::new().await;
    let (renter, provider) = (w.account(&w.renter).await, w.account(&w.provider).await);
    let quote = w.quote(w.dollar).await;
    let opened = renter.open(&quote, amount(3 * DOLLAR)).await.unwrap();
    let rental = w.chain.rental(quote.id()).await.unwrap().unwrap();
    assert_eq!((rental.deposit, rental.claimed, rental.stop_at), (amount(3 * DOLLAR), amount(0), None));
    assert_eq!(
        w.chain.allowance(w.dollar, w.renter.address()).await.unwrap(),
        U256::ZERO,
        "more was approved than used"
    );
    let opening = w.chain.opening(quote.id(), 0).await.unwrap().unwrap();
    assert_eq!((&opening.quote, opening.transaction, opening.start), (&quote.quote, opened.transaction, rental.start));

    w.pass(100).await;
    let claimed = w.voucher(&quote, 300_000);
    provider.claim(&quote.quote, &claimed).await.unwrap();
    assert_eq!(w.balance(w.dollar, w.provider.address()).await, 300_000);
    let best = w.voucher(&quote, 777_777);
    assert_eq!(w.chain.due(&quote.quote, best.cumulative).await.unwrap(), best.cumulative);
    let closed = provider.close(&quote.quote, Some(&best)).await.unwrap();

    assert_eq!(w.balance(w.dollar, w.provider.address()).await, 777_777);
    assert_eq!(w.balance(w.dollar, w.renter.address()).await, 100 * DOLLAR - 777_777);
    assert_eq!(w.balance(w.dollar, w.config.escrow).await, 0);
    assert_eq!(w.chain.rental(quote.id()).await.unwrap(), None);
    let closing = w.chain.closing(quote.id(), 0).await.unwrap().unwrap();
    assert_eq!((closing.paid, closing.refunded), (amount(777_777), amount(3 * DOLLAR - 777_777)));
    assert_eq!(
        (closing.kind, closing.transaction, closing.block),
        (ClosingKind::Provider, closed.transaction, closed.block_number)
    );
    assert!(closing.elapsed >= 100, "{closing:?}");
    assert!(opened.gas_used < crate::Way::Permit.gas() && closed.gas_used < 75_000, "{opened:?} {closed:?}");
}

#[tokio::test]
async fn a_rental_in_coin_pays_both_to_the_unit() {
    let w = World::new().await;
    let (renter, provider) = (w.account(&w.renter).await, w.account(&w.provider).await);
    let (quote, nothing) = (w.quote(Address::ZERO).await, Address::ZERO);
    let renter_before = w.balance(nothing, w.renter.address()).await;
    let opened = renter.open(&quote, amount(2 * DOLLAR)).await.unwrap();
    w.pass(60).await;
    let provider_before = w.balance(nothing, w.provider.address()).await;
    let closed = provider.close(&quote.quote, Some(&w.voucher(&quote, 123_456))).await.unwrap();

    let gas = |c: &crate::Confirmed| u128::from(c.gas_used) * c.gas_price;
    assert_eq!(w.balance(nothing, w.renter.address()).await, renter_before - 123_456 - gas(&opened));
    assert_eq!(w.balance(nothing, w.provider.address()).await, provider_before + 123_456 - gas(&closed));
}

#[tokio::test]
async fn a_rental_without_its_provider_is_stopped_and_finalized_by_a_stranger() {
    let w = World::new().await;
    let (renter, stranger) = (w.account(&w.renter).await, w.account(&w.rich).await);
    let quote = w.quote(w.dollar).await;
    renter.open(&quote, amount(2 * DOLLAR)).await.unwrap();
    w.pass(30).await;
    // anyone may carry the signed order
    let digest = quote.escrow.digest(&Stop { id: quote.id().0, reason: 3 });
    stranger.stop(&quote.quote, 3, Some(&w.renter_key.sign_digest(&digest).unwrap())).await.unwrap();
    assert!(w.chain.rental(quote.id()).await.unwrap().unwrap().stop_at.is_some());
    stranger.claim(&quote.quote, &w.voucher(&quote, 200_000)).await.unwrap();

    assert!(matches!(refusal(stranger.finalize(&quote.quote).await.unwrap_err()), EscrowRevert::TooEarly(_)));
    w.pass(901).await;
    stranger.finalize(&quote.quote).await.unwrap();
    assert_eq!(w.balance(w.dollar, w.provider.address()).await, 200_000);
    assert_eq!(w.balance(w.dollar, w.renter.address()).await, 100 * DOLLAR - 200_000);
    assert_eq!(w.chain.closing(quote.id(), 0).await.unwrap().unwrap().kind, ClosingKind::FinalizedAfterStop);
}

#[tokio::test]
async fn a_release_lets_the_renter_close_at_once() {
    let w = World::new().await;
    let renter = w.account(&w.renter).await;
    let quote = w.quote(w.dollar).await;
    renter.open(&quote, amount(2 * DOLLAR)).await.unwrap();
    w.pass(30).await;
    renter.release(&quote.quote, &w.release(&quote, 150_000), None).await.unwrap();
    assert_eq!(w.balance(w.dollar, w.provider.address()).await, 150_000);
    assert_eq!(w.chain.closing(quote.id(), 0).await.unwrap().unwrap().kind, ClosingKind::Release);
}

#[tokio::test]
async fn what_the_escrow_refuses_is_said_in_words_and_costs_nothing() {
    let w = World::new().await;
    let renter = w.account(&w.renter).await;
    let coin = w.quote(Address::ZERO).await;
    let before = w.mined(w.renter.address()).await;

    let mut expired = coin.quote.clone();
    expired.expiry = 1;
    let error = renter.open(&w.sign(expired), amount(DOLLAR)).await.unwrap_err();
    assert!(error.to_string().contains("the quote expired at block time 1"), "{error}");
    assert!(matches!(refusal(error), EscrowRevert::QuoteExpired(e) if e.expiry == 1));

    let mut terms = coin.quote.clone();
    terms.window = 1;
    assert!(matches!(
        refusal(renter.open(&w.sign(terms), amount(DOLLAR)).await.unwrap_err()),
        EscrowRevert::BadTerms(_)
    ));

    let mut forged = coin.clone();
    forged.signature = w.renter.sign_digest(&coin.id().0).unwrap();
    assert!(matches!(refusal(renter.open(&forged, amount(DOLLAR)).await.unwrap_err()), EscrowRevert::BadSignature(_)));

    assert!(matches!(refusal(renter.open(&coin, amount(1)).await.unwrap_err()), EscrowRevert::BadDeposit(_)));
    assert!(matches!(refusal(renter.finalize(&coin.quote).await.unwrap_err()), EscrowRevert::NotOpen(_)));
    assert!(matches!(
        refusal(renter.withdraw(Address::ZERO, w.renter.address()).await.unwrap_err()),
        EscrowRevert::NoCredit(_)
    ));
    assert_eq!(w.mined(w.renter.address()).await, before);

    let elsewhere = market::quote::SignedQuote { escrow: Escrow { chain: 1, ..coin.escrow }, ..coin };
    let error = renter.open(&elsewhere, amount(DOLLAR)).await.unwrap_err();
    assert!(matches!(error, SettlementError::OtherEscrow { .. }), "{error:?}");
}

#[tokio::test]
async fn too_little_of_the_token_is_said_before_anything_is_sent() {
    let w = World::new().await;
    let renter = w.account(&w.renter).await;
    let mut quote = w.quote(w.dollar).await.quote;
    quote.max_seconds = 86_400;
    let quote = w.sign(quote);
    let error = renter.open(&quote, amount(101 * DOLLAR)).await.unwrap_err();
    assert!(matches!(error, SettlementError::InsufficientFunds { .. }), "{error:?}");
    assert!(error.to_string().contains("has 100 tUSD and needs 101 tUSD"), "{error}");
    assert_eq!(w.mined(w.renter.address()).await, 0);
    assert_eq!(renter.sender().record(&Purpose::Open(quote.id())).await.unwrap(), None);
}

#[tokio::test]
async fn two_openings_at_once_do_not_take_each_others_approval() {
    let w = World::new().await;
    let plain = deploy::deploy_plain_dollar(w.url(), &w.rich).await.unwrap();
    deploy::mint(w.url(), &w.rich, plain, w.renter.address(), U256::from(10 * DOLLAR)).await.unwrap();
    let renter = w.account(&w.renter).await;
    // by approvals, and by permits, which have an order too
    for token in [plain, w.dollar] {
        let (a, b) = (w.quote(token).await, w.quote(token).await);
        let (one, other) = tokio::join!(renter.open(&a, amount(2 * DOLLAR)), renter.open(&b, amount(DOLLAR)));
        one.unwrap();
        other.unwrap();
        assert_eq!(w.balance(token, w.config.escrow).await, 3 * DOLLAR);
    }
}

#[tokio::test]
async fn the_escrow_and_market_agree_on_the_id_of_a_quote() {
    let w = World::new().await;
    for token in [Address::ZERO, w.dollar] {
        let quote = w.quote(token).await;
        assert_eq!(w.chain.id_of(&quote.quote).await.unwrap(), quote.id());
    }
}

#[tokio::test]
async fn a_chain_or_an_escrow_that_is_not_what_it_says_is_refused() {
    let w = World::new().await;
    let mut config = w.config.clone();
    config.chain_id = 1;
    let error = Chain::connect(config).await.unwrap_err();
    assert!(matches!(error, SettlementError::WrongChain { expected: 1, found: 31_337, .. }), "{error:?}");

    let mut config = w.config.clone();
    config.escrow_code_hash = B256::repeat_byte(1);
    let error = Chain::connect(config).await.unwrap_err();
    let expected_hash = B256::repeat_byte(1);
    assert!(
        matches!(error, SettlementError::WrongCode { address, expected, found }
            if address == w.config.escrow && expected == expected_hash && found == escrow_code_hash()),
        "{error:?}"
    );

    let mut config = w.config.clone();
    config.escrow = Address::repeat_byte(9);
    let error = Chain::connect(config).await.unwrap_err();
    assert!(matches!(error, SettlementError::WrongCode { found: KECCAK256_EMPTY, .. }), "{error:?}");
}

#[tokio::test]
async fn a_dead_endpoint_is_passed_over_and_none_at_all_is_an_error() {
    let w = World::new().await;
    // bound once and given up: nobody listens there
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dead: alloy::transports::http::reqwest::Url = format!("http://127.0.0.1:{port}/secret-key").parse().unwrap();
    let mut config = w.config.clone();
    // of three, two that live are enough
    let mut same = w.url().clone();
    same.set_query(Some("again"));
    config.rpc = vec![dead.clone(), w.url().clone(), same];
    Chain::connect(config.clone()).await.unwrap();

    config.rpc = vec![w.url().clone(), w.url().clone()];
    let chain = Chain::connect(config.clone()).await.unwrap();
    assert_eq!(chain.health().endpoints.len(), 1, "one that is named twice is still one");

    config.rpc = vec![dead];
    let error = Chain::connect(config.clone()).await.unwrap_err();
    assert!(matches!(error, SettlementError::Rpc { .. }), "{error:?}");
    assert!(!error.to_string().contains("secret-key"), "{error}");
    config.rpc.clear();
    assert!(matches!(Chain::connect(config).await.unwrap_err(), SettlementError::NoEndpoint { .. }));
}

#[tokio::test]
async fn deploying_twice_gives_the_same_contracts() {
    let w = World::new().await;
    let before = w.mined(w.rich.address()).await;
    assert_eq!(deploy::deploy_escrow(w.url(), &w.rich).await.unwrap(), w.config.escrow);
    assert_eq!(deploy::deploy_test_dollar(w.url(), &w.rich).await.unwrap(), w.dollar);
    assert_eq!(w.mined(w.rich.address()).await, before);
    assert_eq!(
        w.chain.token_metadata(w.dollar).await.unwrap(),
        market::money::Token { symbol: "tUSD".into(), ..w.chain.token(w.dollar) }
    );
    let error = w.chain.token_metadata(Wallet::random().address()).await.unwrap_err();
    assert!(matches!(error, SettlementError::NotAToken { .. }), "{error:?}");
}
