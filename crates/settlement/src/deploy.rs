//! Setting up a development chain: the escrow, a dollar to pay with, and coin for everyone. Anyone may deploy the escrow on any chain;
//! the rest is worth nothing and belongs on development chains only.
//!
//! These calls take the account's next nonce from the chain and wait for each transaction: use them with a key that no
//! [`crate::TransactionSender`] owns.

use crate::{
    bindings::{Erc20, PlainDollar, RentalEscrow, Revert, TestAccount, TestDollar},
    chain::{Chain, request},
    config::{CREATE2_PROXY, CREATE2_SALT, ChainConfig, escrow_address, escrow_code_hash},
    error::SettlementError,
    transactions::Purpose,
    wallet::Wallet,
};
use alloy::{
    consensus::TxEip1559,
    eips::BlockId,
    primitives::{Address, Bytes, TxKind, U256, keccak256},
    sol_types::{SolCall, SolConstructor},
    transports::http::reqwest::Url,
};
use std::time::{Duration, Instant};

/// How often a transaction's receipt is looked for.
const POLL: Duration = Duration::from_millis(50);
/// How long a transaction may take: a development chain answers at once, a public one within minutes.
const PATIENCE: Duration = Duration::from_secs(180);

/// Puts the escrow at its address, unless it is there.
pub async fn deploy_escrow(rpc: &Url, key: &Wallet) -> Result<Address, SettlementError> {
    let deployer = Deployer::connect(rpc, key).await?;
    let address = deployer.create2(&RentalEscrow::BYTECODE).await?;
    let found = keccak256(&deployer.chain.code(address).await?);
    if found != escrow_code_hash() {
        return Err(SettlementError::WrongCode { address, expected: escrow_code_hash(), found });
    }
    Ok(address)
}

/// Puts the test dollar at its address, unless it is there.
pub async fn deploy_test_dollar(rpc: &Url, key: &Wallet) -> Result<Address, SettlementError> {
    Deployer::connect(rpc, key).await?.create2(&TestDollar::BYTECODE).await
}

/// Puts the plain dollar, which takes no signatures, at its address, unless it is there.
pub async fn deploy_plain_dollar(rpc: &Url, key: &Wallet) -> Result<Address, SettlementError> {
    Deployer::connect(rpc, key).await?.create2(&PlainDollar::BYTECODE).await
}

/// Makes a smart account that `owner` signs for: over digests themselves, or over a Safe's messages.
pub async fn deploy_test_account(
    rpc: &Url,
    key: &Wallet,
    owner: Address,
    like_a_safe: bool,
) -> Result<Address, SettlementError> {
    let arguments = TestAccount::constructorCall { owner_: owner, likeASafe_: like_a_safe }.abi_encode();
    let code = [TestAccount::BYTECODE.as_ref(), &arguments].concat();
    Deployer::connect(rpc, key).await?.create2(&code.into()).await
}

/// Makes test dollars, or plain ones, for `to`.
pub async fn mint(rpc: &Url, key: &Wallet, token: Address, to: Address, value: U256) -> Result<(), SettlementError> {
    let data = TestDollar::mintCall { to, value }.abi_encode();
    Deployer::connect(rpc, key).await?.send("mint", token, U256::ZERO, data.into()).await
}

/// Moves tokens.
pub async fn send_token(
    rpc: &Url,
    key: &Wallet,
    token: Address,
    to: Address,
    value: U256,
) -> Result<(), SettlementError> {
    let data = Erc20::transferCall { to, value }.abi_encode();
    Deployer::connect(rpc, key).await?.send("transfer", token, U256::ZERO, data.into()).await
}

/// Moves the chain's coin.
pub async fn send_coin(rpc: &Url, key: &Wallet, to: Address, value: U256) -> Result<(), SettlementError> {
    Deployer::connect(rpc, key).await?.send("transfer coin", to, value, Bytes::new()).await
}

struct Deployer<'a> {
    chain: Chain,
    key: &'a Wallet,
}

impl<'a> Deployer<'a> {
    async fn connect(rpc: &Url, key: &'a Wallet) -> Result<Self, SettlementError> {
        let config = ChainConfig {
            name: "deployment".to_owned(),
            chain_id: crate::rpc::chain_id(rpc).await?,
            rpc: vec![rpc.clone()],
            escrow: escrow_address(),
            escrow_code_hash: escrow_code_hash(),
            tokens: Vec::new(),
            confirmations: 1,
            block_time_ms: 1_000,
            max_fee_gwei: u64::MAX,
            devnet: true,
        };
        Ok(Self { chain: Chain::connect_without_escrow(config).await?, key })
    }

    async fn create2(&self, init_code: &Bytes) -> Result<Address, SettlementError> {
        let address = CREATE2_PROXY.create2_from_code(CREATE2_SALT, init_code);
        if !self.chain.code(address).await?.is_empty() {
            return Ok(address);
        }
        if self.chain.code(CREATE2_PROXY).await?.is_empty() {
            return Err(SettlementError::NoDeployer { proxy: CREATE2_PROXY });
        }
        let data = [CREATE2_SALT.as_slice(), init_code].concat();
        self.send("deploy", CREATE2_PROXY, U256::ZERO, data.into()).await?;
        Ok(address)
    }

    async fn send(&self, what: &str, to: Address, value: U256, data: Bytes) -> Result<(), SettlementError> {
        let refused = |reason: Revert| SettlementError::Reverted {
            purpose: Box::new(Purpose::Other(what.to_owned())),
            transaction: None,
            reason: Box::new(reason),
        };
        let from = self.key.address();
        let gas_limit = self.chain.gas_for(&request(from, to, value, &data)).await?.map_err(refused)?;
        let fees = self.chain.fees().await?;
        let transaction = TxEip1559 {
            chain_id: self.chain.config().chain_id,
            nonce: self.chain.nonce(from, BlockId::pending()).await?,
            gas_limit,
            max_fee_per_gas: fees.max_fee_per_gas,
            max_priority_fee_per_gas: fees.max_priority_fee_per_gas,
            to: TxKind::Call(to),
            value,
            access_list: Default::default(),
            input: data,
        };
        let (hash, raw) = self.key.sign_transaction(transaction)?;
        // there is one endpoint
        self.chain.endpoints().broadcast(&raw).await.into_iter().collect::<Result<(), _>>()?;

        let started = Instant::now();
        loop {
            match self.chain.mined(hash).await? {
                Some(mined) if mined.succeeded => return Ok(()),
                Some(_) => return Err(refused(Revert::Unknown(Bytes::new()))),
                None if started.elapsed() > PATIENCE => {
                    let purpose = Box::new(Purpose::Other(what.to_owned()));
                    return Err(SettlementError::NotConfirmed {
                        purpose,
                        transaction: hash,
                        seconds: PATIENCE.as_secs(),
                    });
                }
                None => tokio::time::sleep(POLL).await,
            }
        }
    }
}
