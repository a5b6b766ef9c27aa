//! The devnet's chain: starting anvil, putting the escrow and the test dollar on it, giving accounts money, and reading back what
//! happened. The reading is done with plain bindings of this crate's own, not with those of the nodes it is a check on.

use crate::{
    port::Port,
    spec::DOLLAR_DECIMALS,
    warden::{Order, Start, Warden},
};
use alloy::{
    consensus::Transaction,
    eips::Encodable2718,
    network::TransactionBuilder,
    primitives::{Address, B256, Bytes, U256},
    providers::{DynProvider, Provider, ProviderBuilder},
    rpc::types::{Filter, TransactionReceipt, TransactionRequest},
    sol_types::{SolCall, SolEvent},
};
use anyhow::{Context, Result, bail, ensure};
use market::money::{Amount, Token};
use settlement::{Wallet, deploy, escrow_code_hash};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// The chain id of development chains everywhere.
pub const CHAIN_ID: u32 = 31_337;
/// What the test dollar calls itself.
pub const TOKEN_SYMBOL: &str = "tUSD";

/// Seconds between blocks.
const BLOCK_SECONDS: u64 = 1;
/// How long anvil may take to answer; it needs half a second on an idle machine.
const CHAIN_STARTS: Duration = Duration::from_secs(30);
/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(50);

#[allow(missing_docs, unreachable_pub, clippy::too_many_arguments, reason = "generated from the interface")]
mod bindings {
    alloy::sol! {
        #[sol(rpc)]
        interface TestDollar {
            event Transfer(address indexed from, address indexed to, uint256 value);
            function balanceOf(address account) external view returns (uint256);
            function allowance(address owner, address spender) external view returns (uint256);
            function approve(address spender, uint256 value) external returns (bool);
        }

        #[sol(rpc)]
        interface Escrow {
            event Opened(
                bytes32 indexed id, address indexed provider, address indexed renter, address providerKey, address renterKey,
                address token, uint96 rate, uint96 minDeposit, uint32 maxSeconds, uint32 window, uint32 expiry, address arbiter,
                bytes32 device, bytes32 spec, uint96 deposit
            );
            event Closed(
                bytes32 indexed id, address indexed provider, address indexed renter, uint96 paid, uint96 refunded, uint32 elapsed,
                uint8 kind
            );
            struct Quote {
                address provider;
                address providerKey;
                address renter;
                address renterKey;
                address token;
                uint96 rate;
                uint96 minDeposit;
                uint32 maxSeconds;
                uint32 window;
                uint32 expiry;
                address arbiter;
                bytes32 device;
                bytes32 spec;
            }
            function rentalOf(bytes32 id) external view returns (uint96 deposit, uint96 claimed, uint32 start, uint32 stopAt);
            function rule(Quote calldata q, uint96 cumulative) external;
        }
    }
}

/// What the chain says about the opening of a rental.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// Who is paid.
    pub provider: Address,
    /// Who pays.
    pub renter: Address,
    /// What was locked, in base units.
    pub deposit: Amount,
    /// The block it is in.
    pub block: u64,
}

/// What the chain says about the end of a rental.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// What the provider was paid in all, in base units.
    pub paid: Amount,
    /// What the renter got back.
    pub refunded: Amount,
    /// How it was closed, as the escrow numbers it.
    pub kind: u8,
    /// The block it is in.
    pub block: u64,
}

/// A running development chain with the contracts on it.
#[derive(Clone, Debug)]
pub struct Chain {
    /// Its JSON-RPC endpoint.
    pub rpc: String,
    /// The one that the nodes are told of: the same, or one in front of it that can be killed.
    pub nodes_rpc: String,
    /// The escrow.
    pub escrow: Address,
    /// The hash of the escrow's code.
    pub escrow_code_hash: B256,
    /// The test dollar.
    pub token: Address,
    pub(crate) pid: i32,
    _port: Port,
    provider: DynProvider,
}

impl Chain {
    /// Starts anvil as a ward, with a block every second, and puts the contracts on it.
    pub(crate) async fn start(warden: &mut Warden, root: &Path, logs: &Path, port: Port) -> Result<Self> {
        let pid = warden.spawn(Start {
            name: "anvil".into(),
            program: anvil(root)?,
            args: [
                "--host",
                "127.0.0.1",
                "--block-time",
                &BLOCK_SECONDS.to_string(),
                "--quiet",
                "--chain-id",
                &CHAIN_ID.to_string(),
                "--port",
                &port.number().to_string(),
            ]
            .map(str::to_owned)
            .to_vec(),
            env: BTreeMap::new(),
            out: logs.join("anvil.out"),
            log: logs.join("anvil.log"),
            order: Order::Chain,
            control: Vec::new(),
        })?;
        let rpc = format!("http://127.0.0.1:{}", port.number());
        let provider = ProviderBuilder::new().connect_http(rpc.parse()?).erased();
        let until = Instant::now() + CHAIN_STARTS;
        let found = loop {
            if let Some(code) = warden.exit_code(pid)? {
                bail!(
                    "anvil ended with {code}: {}",
                    std::fs::read_to_string(logs.join("anvil.log")).unwrap_or_default().trim()
                );
            }
            match provider.get_chain_id().await {
                Ok(id) => break id,
                Err(_) if Instant::now() < until => tokio::time::sleep(POLL).await,
                Err(error) => return Err(error).context("anvil does not answer"),
            }
        };
        ensure!(found == u64::from(CHAIN_ID), "something else answers at {rpc}: chain {found}");
        let (nodes_rpc, escrow_code_hash) = (rpc.clone(), escrow_code_hash());
        let blank = Self {
            rpc,
            nodes_rpc,
            escrow: Address::ZERO,
            escrow_code_hash,
            token: Address::ZERO,
            pid,
            _port: port,
            provider,
        };
        blank.with_contracts().await
    }

    /// Deploys at the addresses that follow from the code alone. Two accounts do it, so that both fit one block.
    async fn with_contracts(mut self) -> Result<Self> {
        let (first, second) = futures::try_join!(self.helper(), self.helper())?;
        let rpc = self.rpc.parse()?;
        (self.escrow, self.token) =
            futures::try_join!(deploy::deploy_escrow(&rpc, &first), deploy::deploy_test_dollar(&rpc, &second))?;
        Ok(self)
    }

    /// Takes the dollar without signatures for the test dollar.
    pub(crate) async fn use_plain_token(&mut self) -> Result<()> {
        self.token = deploy::deploy_plain_dollar(&self.rpc.parse()?, &self.helper().await?).await?;
        Ok(())
    }

    /// A fresh account with coin for gas.
    async fn helper(&self) -> Result<Wallet> {
        let wallet = Wallet::random();
        self.set_coin(wallet.address(), 10u128.pow(18)).await?;
        Ok(wallet)
    }

    /// The test dollar as the nodes know it.
    pub fn dollar(&self) -> Token {
        Token {
            chain: u64::from(CHAIN_ID),
            address: self.token,
            symbol: TOKEN_SYMBOL.into(),
            decimals: DOLLAR_DECIMALS,
        }
    }

    /// Gives an account so much of the coin, whatever it had.
    pub async fn set_coin(&self, account: Address, wei: u128) -> Result<()> {
        let result: Result<(), _> =
            self.provider.raw_request("anvil_setBalance".into(), (account, U256::from(wei))).await;
        result.context("setting a coin balance")
    }

    /// Makes test dollars for an account and waits until they are there.
    pub async fn mint(&self, account: Address, amount: Amount) -> Result<()> {
        let minter = self.helper().await?;
        Ok(deploy::mint(&self.rpc.parse()?, &minter, self.token, account, U256::from(amount.get())).await?)
    }

    /// Makes a smart account that `owner` signs for.
    pub(crate) async fn smart_account(&self, owner: Address) -> Result<Address> {
        let maker = self.helper().await?;
        Ok(deploy::deploy_test_account(&self.rpc.parse()?, &maker, owner, false).await?)
    }

    /// Calls a contract, as some account that is nobody's here, and waits until that is mined.
    pub async fn call(&self, to: Address, data: Bytes) -> Result<()> {
        let from = self.provider.get_accounts().await?.first().copied().context("anvil has accounts of its own")?;
        let call = TransactionRequest::default().with_from(from).with_to(to).with_input(data);
        let receipt = self.provider.send_transaction(call).await?.get_receipt().await?;
        ensure!(receipt.status(), "the call of {to} was refused");
        Ok(())
    }

    /// Has an account allow another to take so much of its test dollars, without its key: as a program beside its node would.
    pub async fn approve(&self, owner: Address, spender: Address, units: U256) -> Result<()> {
        let impersonate = |method: &'static str| self.provider.raw_request::<_, ()>(method.into(), (owner,));
        impersonate("anvil_impersonateAccount").await?;
        let approve = bindings::TestDollar::approveCall { spender, value: units }.abi_encode();
        // the node sends from this account as well, so that a nonce is good for one moment only
        let nonce = self.provider.get_transaction_count(owner).await?;
        let call = TransactionRequest::default().with_from(owner).with_to(self.token).with_input(approve);
        let call = call.with_nonce(nonce);
        let receipt = self.provider.send_transaction(call).await?.get_receipt().await?;
        impersonate("anvil_stopImpersonatingAccount").await?;
        ensure!(receipt.status(), "the approval by {owner} was refused");
        Ok(())
    }

    /// Puts the code of one contract at another address as well.
    pub async fn copy_code(&self, from: Address, to: Address) -> Result<()> {
        let code = self.provider.get_code_at(from).await?;
        let result: Result<(), _> = self.provider.raw_request("anvil_setCode".into(), (to, code)).await;
        result.context("setting an account's code")
    }

    /// What a spender may take of an account's test dollars.
    pub async fn allowance(&self, owner: Address, spender: Address) -> Result<U256> {
        Ok(bindings::TestDollar::new(self.token, &self.provider).allowance(owner, spender).call().await?)
    }

    /// What an account holds in test dollars.
    pub async fn dollars(&self, account: Address) -> Result<Amount> {
        let units = bindings::TestDollar::new(self.token, &self.provider).balanceOf(account).call().await?;
        u128::try_from(units).ok().and_then(Amount::new).context("a balance beyond 96 bits")
    }

    /// What an account holds of the chain's coin, in wei.
    pub async fn coin(&self, account: Address) -> Result<U256> {
        Ok(self.provider.get_balance(account).await?)
    }

    /// What is locked for a rental: nothing once it is closed.
    pub async fn is_open(&self, id: B256) -> Result<bool> {
        Ok(bindings::Escrow::new(self.escrow, &self.provider).rentalOf(id).call().await?.start != 0)
    }

    /// The `Opened` event of rental `id` in transaction `tx`, which must have succeeded.
    pub async fn opened(&self, tx: B256, id: B256) -> Result<Opened> {
        let (receipt, event) = self.event::<bindings::Escrow::Opened>(tx, |event| event.id == id).await?;
        let block = receipt.block_number.context("a pending transaction")?;
        Ok(Opened { provider: event.provider, renter: event.renter, deposit: event.deposit.into(), block })
    }

    /// The `Closed` event of rental `id` in transaction `tx`, which must have succeeded.
    pub async fn closed(&self, tx: B256, id: B256) -> Result<Closed> {
        let (receipt, event) = self.event::<bindings::Escrow::Closed>(tx, |event| event.id == id).await?;
        let block = receipt.block_number.context("a pending transaction")?;
        Ok(Closed { paid: event.paid.into(), refunded: event.refunded.into(), kind: event.kind, block })
    }

    /// What the escrow paid out in test dollars in transaction `tx`, to whom, in the order it happened.
    pub async fn payouts(&self, tx: B256) -> Result<Vec<(Address, Amount)>> {
        let receipt = self
            .provider
            .get_transaction_receipt(tx)
            .await?
            .with_context(|| format!("no transaction {tx} on the chain"))?;
        let own = receipt.inner.logs().iter().filter(|log| log.address() == self.token);
        let transfers =
            own.filter_map(|log| bindings::TestDollar::Transfer::decode_log(&log.inner).ok()).map(|log| log.data);
        let payouts = transfers.filter(|transfer| transfer.from == self.escrow).map(|transfer| {
            let amount = u128::try_from(transfer.value).ok().and_then(Amount::new).context("more than 96 bits")?;
            Ok((transfer.to, amount))
        });
        payouts.collect()
    }

    /// How often a rental was opened and closed, by the escrow's events.
    pub async fn life_of(&self, id: B256) -> Result<(usize, usize)> {
        let count = async |signature| -> Result<usize> {
            let filter = Filter::new().address(self.escrow).event_signature(signature).topic1(id).from_block(0);
            Ok(self.provider.get_logs(&filter).await?.len())
        };
        Ok((
            count(bindings::Escrow::Opened::SIGNATURE_HASH).await?,
            count(bindings::Escrow::Closed::SIGNATURE_HASH).await?,
        ))
    }

    /// Calls of contracts in the blocks from `first` on: by whom, and what for.
    pub async fn calls_since(&self, first: u64) -> Result<Vec<(Address, Bytes)>> {
        let mut calls = Vec::new();
        for number in first..=self.height().await? {
            let block = self.provider.get_block_by_number(number.into()).full().await?.context("no such block")?;
            let sent = block.transactions.txns();
            calls.extend(sent.map(|sent| (sent.inner.signer(), sent.inner.inner().input().clone())));
        }
        Ok(calls)
    }

    /// How many transactions an account has had mined.
    pub async fn sent_by(&self, account: Address) -> Result<u64> {
        Ok(self.provider.get_transaction_count(account).await?)
    }

    /// The newest block's number.
    pub async fn height(&self) -> Result<u64> {
        Ok(self.provider.get_block_number().await?)
    }

    /// Undoes the blocks from `first` on and puts as many others in their place, with these transactions in them (raw, each with the place
    /// of its block among the new ones) and no other of those that were undone.
    pub async fn reorganise(&self, first: u64, transactions: &[(Bytes, u64)]) -> Result<()> {
        // no block may come in between, or one too few would be undone
        self.mine_every(0).await?;
        let undone = async {
            let depth = self.height().await?.saturating_sub(first) + 1;
            let result: Result<(), _> = self.provider.raw_request("anvil_reorg".into(), (depth, transactions)).await;
            result.with_context(|| format!("undoing {depth} blocks"))
        };
        let undone = undone.await;
        self.mine_every(BLOCK_SECONDS).await?;
        undone
    }

    async fn mine_every(&self, seconds: u64) -> Result<()> {
        let result: Result<(), _> = self.provider.raw_request("evm_setIntervalMining".into(), (seconds,)).await;
        result.context("setting the time between blocks")
    }

    /// Lets so much time pass on the chain, at once.
    pub async fn pass(&self, seconds: u64) -> Result<()> {
        let _: serde_json::Value =
            self.provider.raw_request("evm_increaseTime".into(), (seconds,)).await.context("letting time pass")?;
        let _: serde_json::Value =
            self.provider.raw_request("evm_mine".into(), ()).await.context("making a block of that time")?;
        Ok(())
    }

    /// Rules on rental `id` as the account `arbiter`, which is given coin for it: the provider gets `cumulative` in all, as far as the meter
    /// and the deposit go. What the chain tells of the opening is enough to do so. Returns the transaction, which must have succeeded.
    pub async fn rule(&self, id: B256, arbiter: Address, cumulative: Amount) -> Result<B256> {
        let filter = Filter::new()
            .address(self.escrow)
            .event_signature(bindings::Escrow::Opened::SIGNATURE_HASH)
            .topic1(id)
            .from_block(0);
        let logs = self.provider.get_logs(&filter).await?;
        let opened = logs.first().with_context(|| format!("rental {id} was never opened"))?;
        let event = bindings::Escrow::Opened::decode_log(&opened.inner)?.data;
        let quote = bindings::Escrow::Quote {
            provider: event.provider,
            providerKey: event.providerKey,
            renter: event.renter,
            renterKey: event.renterKey,
            token: event.token,
            rate: event.rate,
            minDeposit: event.minDeposit,
            maxSeconds: event.maxSeconds,
            window: event.window,
            expiry: event.expiry,
            arbiter: event.arbiter,
            device: event.device,
            spec: event.spec,
        };
        self.set_coin(arbiter, 10u128.pow(18)).await?;
        let _: serde_json::Value = self
            .provider
            .raw_request("anvil_impersonateAccount".into(), (arbiter,))
            .await
            .context("acting as the arbiter")?;
        let escrow = bindings::Escrow::new(self.escrow, &self.provider);
        let ruling = escrow.rule(quote, cumulative.into()).from(arbiter).send().await.context("ruling")?;
        let receipt = ruling.get_receipt().await?;
        ensure!(receipt.status(), "the ruling {} failed", receipt.transaction_hash);
        Ok(receipt.transaction_hash)
    }

    /// A transaction as it was sent, and its block if it is in one.
    pub async fn transaction(&self, tx: B256) -> Result<Option<(Bytes, Option<u64>)>> {
        let Some(found) = self.provider.get_transaction_by_hash(tx).await? else { return Ok(None) };
        Ok(Some((found.inner.inner().encoded_2718().into(), found.block_number)))
    }

    /// The time of a block, in Unix seconds.
    pub async fn block_time(&self, number: u64) -> Result<u64> {
        let block = self.provider.get_block_by_number(number.into()).await?.context("no such block")?;
        Ok(block.header.timestamp)
    }

    async fn event<E: SolEvent>(&self, tx: B256, wanted: impl Fn(&E) -> bool) -> Result<(TransactionReceipt, E)> {
        let receipt = self
            .provider
            .get_transaction_receipt(tx)
            .await?
            .with_context(|| format!("no transaction {tx} on the chain"))?;
        ensure!(receipt.status(), "transaction {tx} failed");
        let own = receipt.inner.logs().iter().filter(|log| log.address() == self.escrow);
        let event =
            own.filter_map(|log| E::decode_log(&log.inner).ok()).map(|log| log.data).find(|event| wanted(event));
        let event = event.with_context(|| format!("transaction {tx} has no such {}", E::SIGNATURE))?;
        Ok((receipt, event))
    }
}

/// The executable itself, not npm's wrapper around it: a signal has to reach it.
fn anvil(root: &Path) -> Result<PathBuf> {
    let packages = root.join("contracts/node_modules/@foundry-rs");
    let entries = std::fs::read_dir(&packages)
        .with_context(|| format!("{} is missing: run devnet/install", packages.display()))?;
    let mut found = entries.flatten().map(|entry| entry.path().join("bin/anvil")).filter(|path| path.is_file());
    found.next().with_context(|| format!("no anvil under {}: run devnet/install", packages.display()))
}
