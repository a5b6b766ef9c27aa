//! Earnings that go to another account than the wallet that works for them: here a smart account, which can sign nothing.

use alloy::{
    primitives::{Address, B256, Bytes, address, hex},
    sol,
    sol_types::SolCall,
};
use anyhow::{Result, ensure};
use api::types::Role;
use devnet::{
    Devnet, NodeSpec, Signal,
    books::{self, Books},
};
use std::{fs, time::Duration};
use tests::{books_balance, client::Client, eventually, failed_with, offers_arrive, phase, story};

/// The proxy through which anyone deploys at an address that follows from the code: every development chain has it.
const CREATE2_PROXY: Address = address!("4e59b44847b379578588920cA78FbF26c0B4956C");
/// A smart account in 26 bytes: whoever calls it with an address and a call's data has it make that call. As instructions: the length of the
/// data behind the address; a copy of that to memory; `CALL(gas, address, no value, the copy)`; `STOP` if it went well, or else `REVERT`. It
/// knows no owner, no signature and no ERC-1271.
const ACCOUNT: [u8; 26] = hex!("5f5f602036038060205f375f5f5f355af115601657005b5f5ffd");
/// Returns the 26 bytes behind itself as the code to be deployed.
const CONSTRUCTOR: [u8; 9] = hex!("601a8060093d393df3");
/// The longest that a rental may take to end.
const END: Duration = Duration::from_secs(60);

sol! {
    function transfer(address to, uint256 value) external returns (bool);
}

fn code() -> Vec<u8> {
    [CONSTRUCTOR.as_slice(), &ACCOUNT].concat()
}

/// Where the account is, or will be.
fn smart_account() -> Address {
    CREATE2_PROXY.create2_from_code(B256::ZERO, code())
}

#[tokio::test]
async fn earnings_go_to_a_smart_account_and_it_can_spend_them() -> Result<()> {
    story(async {
        let account = smart_account();
        let provider = NodeSpec::provider("provider-1").payout(account);
        let devnet = Devnet::builder().indexers(1).node(provider).renters(1).start().await?;
        devnet.chain.call(CREATE2_PROXY, [B256::ZERO.as_slice(), &code()].concat().into()).await?;
        let (renter, provider) = (devnet.node("renter-1")?, devnet.node("provider-1")?);
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;

        let done = renter.call(["run", "--for", "1m", "--", "sh", "-c", "sleep 2; echo hello"]).await?;
        ensure!(done.code == 0 && done.stdout == "hello\n", "{}{}", done.stdout, done.stderr);
        let receipts = books_balance(&devnet, &before).await?;
        let [receipt] = receipts.as_slice() else { panic!("{} receipts of one rental", receipts.len()) };
        assert_eq!(receipt.quote.quote.provider, account);
        assert_eq!(receipt.quote.quote.provider_key, provider.wallet, "the wallet signs for an account that cannot");
        let after = Books::read(&devnet).await?;
        assert_eq!(before.change(&after, &books::payout_of(provider)), i128::try_from(receipt.paid.get())?);
        assert_eq!(before.change(&after, &provider.name), 0, "the wallet earns nothing");
        for node in [renter, provider] {
            let verified = node.call(["receipts", "--verify"]).await?;
            ensure!(verified.code == 0, "{}: {}{}", node.name, verified.stdout, verified.stderr);
        }
        let doctor = provider.call(["doctor"]).await?;
        ensure!(doctor.stdout.contains(&format!("earnings go to the contract {account}")), "{}", doctor.stdout);

        // the account spends what it earned
        let heir = Address::repeat_byte(0x77);
        let transfer = transferCall { to: heir, value: receipt.paid.get().try_into()? }.abi_encode();
        let call = [devnet.chain.token.into_word().as_slice(), &transfer].concat();
        devnet.chain.call(account, Bytes::from(call)).await?;
        assert_eq!(devnet.chain.dollars(heir).await?, receipt.paid);
        devnet.stop()
    })
    .await
}

/// Writes another payout address into the configuration of a node that does not run.
fn configure(node: &devnet::Node, payout: Option<Address>) -> Result<()> {
    let path = node.data_dir.join("config.toml");
    let mut config: toml::Table = fs::read_to_string(&path)?.parse()?;
    if let Some(provider) = config.get_mut("provider").and_then(toml::Value::as_table_mut) {
        provider.remove("payout");
        provider.extend(payout.map(|payout| ("payout".to_owned(), payout.to_string().into())));
    }
    Ok(fs::write(&path, toml::to_string(&config)?)?)
}

#[tokio::test]
async fn a_payout_address_that_is_changed_during_a_rental_leaves_the_rental_as_it_was_agreed() -> Result<()> {
    story(async {
        let provider = NodeSpec::provider("provider-1").increment_millis(10_000);
        let devnet = Devnet::builder().indexers(1).node(provider).renters(1).start().await?;
        let (renter, provider) = (devnet.node("renter-1")?, devnet.node("provider-1")?);
        offers_arrive(&devnet, renter).await?;
        let before = Books::read(&devnet).await?;
        let run = Client::start(renter, ["run", "--for", "5m", "--", "sh", "-c", "echo one; sleep 12; echo two"])?;
        phase(renter, "serving").await?;
        devnet.signal("provider-1", Signal::KILL)?;
        configure(provider, Some(smart_account()))?;
        devnet.restart("provider-1").await?;
        let done = run.ended(END).await?;
        ensure!(done.code == 0 && done.stdout == "one\ntwo\n", "{}{}", done.stdout, done.stderr);
        let receipts = books_balance(&devnet, &before).await?;
        let [receipt] = receipts.as_slice() else { panic!("{} receipts of one rental", receipts.len()) };
        assert_eq!(receipt.quote.quote.provider, provider.wallet);
        assert_eq!(receipt.quote.quote.provider_key, provider.provider_key);
        devnet.stop()
    })
    .await
}

#[tokio::test]
async fn a_payout_address_that_would_lose_the_earnings_is_refused_at_the_start() -> Result<()> {
    story(async {
        let devnet = Devnet::builder().node(NodeSpec::provider("provider-1")).start().await?;
        let provider = devnet.node("provider-1")?;
        devnet.signal("provider-1", Signal::TERM)?;
        eventually("its end", async || devnet.exit_code("provider-1")).await?;
        let (escrow, token) = (devnet.chain.escrow, devnet.chain.token);
        for (payout, words) in
            [(Address::ZERO, "nobody's address"), (escrow, "is the escrow on devnet"), (token, "is the token tUSD")]
        {
            configure(provider, Some(payout))?;
            let done = provider.call(["--role", "provider"]).await?;
            failed_with(&done, 2, &["payout", words, "correct [provider]"])?;
            let doctor = provider.call(["doctor"]).await?;
            ensure!(doctor.code == 1 && doctor.stdout.contains(words), "{}", doctor.stdout);
        }
        assert_eq!(devnet.with_role(Role::Provider).count(), 1);
        devnet.stop()
    })
    .await
}
