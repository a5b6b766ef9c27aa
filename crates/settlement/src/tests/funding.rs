//! The ways into the escrow: each for a token and an account that allow it, the cheapest first, and none that leaves an allowance behind.

use super::world::{DOLLAR, World, amount};
use crate::{
    Chain, EscrowAccount, PERMIT2, Path, Payer, Purpose, SettlementError, Wallet, Way,
    bindings::{Erc20, typed},
    deploy,
};
use alloy::{
    primitives::{Address, U256, hex, keccak256},
    sol_types::{SolCall, SolStruct},
};
use market::{
    mandate::{Funding, Mandate},
    quote::{Quote, SignedQuote},
};
use std::path::Path as File;

/// A quote for another renter than the world's own.
async fn quote_for(w: &World, renter: Address, token: Address) -> SignedQuote {
    let quote = w.quote(token).await.quote;
    w.sign(Quote { renter, ..quote })
}

fn mandate(w: &World, quote: &SignedQuote, funding: Funding) -> Mandate {
    Mandate { deposit: amount(2 * DOLLAR), funding, advance: w.voucher(quote, 100_000) }
}

/// A wallet with dollars and none of the chain's coin.
async fn without_gas(w: &World) -> (Wallet, EscrowAccount) {
    let wallet = Wallet::random();
    deploy::mint(w.url(), &w.rich, w.dollar, wallet.address(), U256::from(10 * DOLLAR)).await.unwrap();
    let account = w.account(&wallet).await;
    (wallet, account)
}

/// Puts Permit2 where it is on every chain. The package's code keeps the domain of a test of its own on a chain of this very number; with
/// the main network's number there instead, it works out the domain of where it is, as it does on every chain but its first.
async fn put_permit2(w: &World) {
    let file = "../../contracts/node_modules/@uniswap/v4-periphery/lib/permit2/test/utils/DeployPermit2.sol";
    let source = std::fs::read_to_string(File::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let digits = source.split_once("hex\"").unwrap().1.split_once('"').unwrap().0;
    let word = |number: u64| format!("{number:064x}");
    assert!(digits.contains(&word(w.config.chain_id)), "another package");
    let code = digits.replace(&word(w.config.chain_id), &word(1));
    w.control("anvil_setCode", serde_json::json!([PERMIT2, format!("0x{code}")])).await;
}

async fn approve_permit2(w: &World, account: &EscrowAccount, value: u128) {
    let data = Erc20::approveCall { spender: PERMIT2, value: U256::from(value) }.abi_encode().into();
    let purpose = Purpose::Other("an allowance for Permit2".to_owned());
    account.sender().send(crate::Call { purpose, to: w.dollar, value: U256::ZERO, data }).await.unwrap();
}

async fn is_open(chain: &Chain, quote: &SignedQuote) -> bool {
    chain.rental(quote.id()).await.unwrap().is_some_and(|rental| rental.deposit == amount(2 * DOLLAR))
}

#[test]
fn the_types_read_as_the_standards_write_them() {
    let permit = "Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)";
    assert_eq!(typed::Permit::eip712_root_type(), permit);
    assert_eq!(
        hex::encode(keccak256(permit)),
        "6e71edae12b1b97f4d1f60370fef10105fa2faae0126114a169c64845d6126c9",
        "what tokens with PERMIT_TYPEHASH() name"
    );
    let quote = typed::Quote::eip712_encode_type();
    assert_eq!(quote, market::signed::Quote::eip712_encode_type());
    let witnessed = format!(
        "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,Quote witness)\
         {quote}TokenPermissions(address token,uint256 amount)"
    );
    assert_eq!(typed::PermitWitnessTransferFrom::eip712_encode_type(), witnessed);
}

#[tokio::test]
async fn a_token_with_permits_is_paid_in_with_one_transaction() {
    let w = World::new().await;
    let renter = w.account(&w.renter).await;
    let quote = w.quote(w.dollar).await;
    assert_eq!(renter.path(w.dollar, amount(2 * DOLLAR)).await.unwrap(), Path::Own(Way::Permit));
    let shown = renter.decoded(&quote, amount(2 * DOLLAR), Way::Permit).await.unwrap();
    let [permit, open] = shown.as_slice() else { panic!("{shown:?}") };
    assert_eq!(permit.what, "Permit (ERC-2612) of tUSD");
    assert!(permit.fields.contains(&("value", "2 tUSD".to_owned())), "{permit:?}");
    assert!(open.fields.contains(&("rental", quote.id().to_string())), "{open:?}");

    let opened = renter.open(&quote, amount(2 * DOLLAR)).await.unwrap();
    assert!(is_open(&w.chain, &quote).await);
    assert_eq!(w.mined(w.renter.address()).await, 1);
    assert_eq!(w.chain.allowance(w.dollar, w.renter.address()).await.unwrap(), U256::ZERO);
    assert!(opened.gas_used < Way::Permit.gas(), "{opened:?}");
}

#[tokio::test]
async fn an_allowance_that_is_there_is_used_before_anything_is_signed() {
    let w = World::new().await;
    let renter = w.account(&w.renter).await;
    let data = Erc20::approveCall { spender: w.config.escrow, value: U256::from(5 * DOLLAR) }.abi_encode().into();
    let purpose = Purpose::Other("an allowance of before".to_owned());
    renter.sender().send(crate::Call { purpose, to: w.dollar, value: U256::ZERO, data }).await.unwrap();
    assert_eq!(renter.path(w.dollar, amount(2 * DOLLAR)).await.unwrap(), Path::Own(Way::Allowance));
    let quote = w.quote(w.dollar).await;
    renter.open(&quote, amount(2 * DOLLAR)).await.unwrap();
    assert!(is_open(&w.chain, &quote).await);
    assert_eq!(w.chain.allowance(w.dollar, w.renter.address()).await.unwrap(), U256::from(3 * DOLLAR));
}

#[tokio::test]
async fn a_plain_token_is_approved_for_exactly_the_deposit_even_over_an_old_allowance() {
    let w = World::new().await;
    let plain = deploy::deploy_plain_dollar(w.url(), &w.rich).await.unwrap();
    deploy::mint(w.url(), &w.rich, plain, w.renter.address(), U256::from(10 * DOLLAR)).await.unwrap();
    let renter = w.account(&w.renter).await;
    // this token refuses to change an allowance that is not zero
    let data = Erc20::approveCall { spender: w.config.escrow, value: U256::from(1) }.abi_encode().into();
    let purpose = Purpose::Other("an allowance of before".to_owned());
    renter.sender().send(crate::Call { purpose, to: plain, value: U256::ZERO, data }).await.unwrap();
    assert_eq!(renter.path(plain, amount(2 * DOLLAR)).await.unwrap(), Path::Own(Way::Approval));
    let quote = w.quote(plain).await;
    renter.open(&quote, amount(2 * DOLLAR)).await.unwrap();
    assert!(is_open(&w.chain, &quote).await);
    assert_eq!(w.chain.allowance(plain, w.renter.address()).await.unwrap(), U256::ZERO);
    assert_eq!(w.mined(w.renter.address()).await, 4, "the old one, to zero, to the deposit, and the opening");
}

#[tokio::test]
async fn a_wallet_without_coin_mandates_the_provider() {
    let w = World::new().await;
    let (wallet, renter) = without_gas(&w).await;
    let provider = w.account(&w.provider).await;
    let quote = quote_for(&w, wallet.address(), w.dollar).await;
    assert_eq!(renter.path(w.dollar, amount(2 * DOLLAR)).await.unwrap(), Path::Mandate(Way::Authorization));
    let funding = renter.fund(&quote, amount(2 * DOLLAR), Way::Authorization).await.unwrap();
    let order = mandate(&w, &quote, funding);
    provider.check_mandate(&quote, &order).await.unwrap();
    let opened = provider.open_mandated(&quote, &order).await.unwrap();
    assert!(is_open(&w.chain, &quote).await);
    assert_eq!(w.mined(wallet.address()).await, 0);
    assert!(opened.gas_used < Way::Authorization.gas(), "{opened:?}");

    // the signature opens that rental and no other, and no more than once
    let other = quote_for(&w, wallet.address(), w.dollar).await;
    assert!(provider.check_mandate(&other, &order).await.is_err());
    let more = Mandate { deposit: amount(3 * DOLLAR), ..order };
    assert!(provider.check_mandate(&quote, &more).await.is_err());
}

#[tokio::test]
async fn permit2_is_used_where_its_allowance_is_and_costs_the_renter_no_coin_either() {
    let w = World::new().await;
    put_permit2(&w).await;
    let (wallet, renter) = without_gas(&w).await;
    deploy::send_coin(w.url(), &w.rich, wallet.address(), U256::from(10u64.pow(17))).await.unwrap();
    approve_permit2(&w, &renter, 2 * DOLLAR).await;
    // all of it is given away again
    w.control("anvil_setBalance", serde_json::json!([wallet.address(), "0x0"])).await;
    assert_eq!(renter.path(w.dollar, amount(2 * DOLLAR)).await.unwrap(), Path::Mandate(Way::Permit2));
    let quote = quote_for(&w, wallet.address(), w.dollar).await;
    let funding = renter.fund(&quote, amount(2 * DOLLAR), Way::Permit2).await.unwrap();
    let provider = w.account(&w.provider).await;
    provider.open_mandated(&quote, &mandate(&w, &quote, funding)).await.unwrap();
    assert!(is_open(&w.chain, &quote).await);
    // beyond the allowance there is still the token's own way
    assert_eq!(renter.path(w.dollar, amount(3 * DOLLAR)).await.unwrap(), Path::Mandate(Way::Authorization));
}

#[tokio::test]
async fn a_smart_account_pays_by_its_owners_signature_in_both_forms() {
    let w = World::new().await;
    let provider = w.account(&w.provider).await;
    for like_a_safe in [false, true] {
        let owner = Wallet::random();
        let account = deploy::deploy_test_account(w.url(), &w.rich, owner.address(), like_a_safe).await.unwrap();
        deploy::mint(w.url(), &w.rich, w.dollar, account, U256::from(10 * DOLLAR)).await.unwrap();
        let renter = w.account(&owner).await.paying_from(account).await.unwrap();
        assert_eq!(renter.payer().address(), account);
        assert_eq!(renter.path(w.dollar, amount(2 * DOLLAR)).await.unwrap(), Path::Mandate(Way::Authorization));
        let quote = quote_for(&w, account, w.dollar).await;
        let funding = renter.fund(&quote, amount(2 * DOLLAR), Way::Authorization).await.unwrap();
        provider.open_mandated(&quote, &mandate(&w, &quote, funding)).await.unwrap();
        assert!(is_open(&w.chain, &quote).await);

        // with coin for gas its owner sends it
        deploy::send_coin(w.url(), &w.rich, owner.address(), U256::from(10u64.pow(17))).await.unwrap();
        assert_eq!(renter.path(w.dollar, amount(2 * DOLLAR)).await.unwrap(), Path::Own(Way::Authorization));
        let quote = quote_for(&w, account, w.dollar).await;
        renter.open(&quote, amount(2 * DOLLAR)).await.unwrap();
        assert!(is_open(&w.chain, &quote).await);
        provider.close(&quote.quote, None).await.unwrap();
        assert_eq!(w.balance(w.dollar, account).await, 8 * DOLLAR, "it is refunded, not its owner");

        let stranger = Payer::account(&w.chain, account, Wallet::random()).await;
        assert!(matches!(stranger, Err(SettlementError::NotOurAccount { .. })), "{stranger:?}");
    }
}

#[tokio::test]
async fn whoever_cannot_pay_in_is_told_what_is_missing() {
    let w = World::new().await;
    let plain = deploy::deploy_plain_dollar(w.url(), &w.rich).await.unwrap();
    let (wallet, renter) = without_gas(&w).await;
    deploy::mint(w.url(), &w.rich, plain, wallet.address(), U256::from(10 * DOLLAR)).await.unwrap();
    match renter.path(plain, amount(2 * DOLLAR)).await {
        Err(SettlementError::InsufficientGas { account, have, need, .. }) => {
            assert_eq!((account, have), (wallet.address(), U256::ZERO));
            assert!(need > U256::ZERO);
        }
        other => panic!("{other:?}"),
    }
    match renter.path(w.dollar, amount(11 * DOLLAR)).await {
        Err(SettlementError::InsufficientFunds { have, need, .. }) => {
            assert_eq!((have, need), (amount(10 * DOLLAR), amount(11 * DOLLAR)));
        }
        other => panic!("{other:?}"),
    }
    let account = deploy::deploy_test_account(w.url(), &w.rich, wallet.address(), false).await.unwrap();
    deploy::mint(w.url(), &w.rich, plain, account, U256::from(10 * DOLLAR)).await.unwrap();
    let smart = renter.paying_from(account).await.unwrap();
    let error = smart.path(plain, amount(2 * DOLLAR)).await.unwrap_err();
    assert!(error.to_string().contains("takes no signatures"), "{error}");
}
