//! One chain, checked at connection and asked afterwards. Everything here reads; what sends is in the sender.

use crate::{
    bindings::{Erc20, RentalEscrow, Revert, terms},
    config::ChainConfig,
    error::SettlementError,
    rpc::{CallError, ChainHealth, EndpointState, Endpoints},
};
use alloy::{
    eips::BlockId,
    network::TransactionBuilder,
    primitives::{Address, B256, Bytes, U256, keccak256},
    providers::{Provider, RootProvider},
    rpc::types::TransactionRequest,
    sol_types::SolCall,
};
use market::{
    id::RentalId,
    money::{Amount, Token},
    quote::Quote,
    signed::Escrow,
};
use std::{fmt, sync::Arc};

/// The gas that a closing must bring. It uses a sixth of it: the escrow keeps back what two payouts may burn, so that nobody can starve one
/// of them.
pub const GAS_TO_CLOSE: u64 = 400_000;

/// A chain that has been checked. Cheap to clone.
#[derive(Clone)]
pub struct Chain {
    inner: Arc<Inner>,
}

struct Inner {
    config: ChainConfig,
    endpoints: Endpoints,
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Chain").field(&self.inner.config.name).finish()
    }
}

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub number: u64,
    /// Its hash.
    pub hash: B256,
    /// Its time in Unix seconds: what the chain judges deadlines by.
    pub timestamp: u64,
}

impl Head {
    /// The newest block of one endpoint.
    pub(crate) async fn latest(provider: &RootProvider) -> Result<Self, CallError> {
        let head = Self::of(provider, BlockId::latest()).await?;
        head.ok_or_else(|| CallError::Nonsense("there is no latest block".to_owned()))
    }

    /// A block of one endpoint.
    pub(crate) async fn of(provider: &RootProvider, id: BlockId) -> Result<Option<Self>, CallError> {
        let block = provider.get_block(id).await?;
        let head = block.map(|b| Self { number: b.header.number, hash: b.header.hash, timestamp: b.header.timestamp });
        match (id.as_u64(), head) {
            (Some(asked), Some(head)) if head.number != asked => {
                Err(CallError::Nonsense(format!("block {} instead of {asked}", head.number)))
            }
            _ => Ok(head),
        }
    }
}

/// What became of a mined transaction, as far as it is settled by the block that it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mined {
    pub(crate) block: u64,
    pub(crate) block_hash: B256,
    pub(crate) succeeded: bool,
    pub(crate) gas_used: u64,
    pub(crate) gas_price: u128,
}

/// An open rental as the escrow holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnChainRental {
    /// Everything paid in.
    pub deposit: Amount,
    /// What the provider has taken out so far.
    pub claimed: Amount,
    /// Block time of the opening, in Unix seconds.
    pub start: u32,
    /// Block time at which the meter was frozen, if it was.
    pub stop_at: Option<u32>,
}

impl OnChainRental {
    async fn of(
        provider: RootProvider,
        escrow: Address,
        id: RentalId,
        block: BlockId,
    ) -> Result<Option<Self>, CallError> {
        let found = RentalEscrow::new(escrow, provider).rentalOf(id.0).block(block).call().await?;
        Ok((found.start != 0).then(|| Self {
            deposit: found.deposit.into(),
            claimed: found.claimed.into(),
            start: found.start,
            stop_at: (found.stopAt != 0).then_some(found.stopAt),
        }))
    }
}

/// What a unit of gas costs now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// The most that will be paid a unit, in base units of coin.
    pub max_fee_per_gas: u128,
    /// The part of it that goes to the block's maker.
    pub max_priority_fee_per_gas: u128,
}

impl Fees {
    /// The most that `gas` units cost.
    pub fn cost(&self, gas: u64) -> U256 {
        U256::from(self.max_fee_per_gas) * U256::from(gas)
    }
}

impl Chain {
    /// Connects, and checks that the endpoint serves the configured chain and that the escrow's code there is the expected one.
    pub async fn connect(config: ChainConfig) -> Result<Self, SettlementError> {
        let chain = Self::connect_without_escrow(config).await?;
        let config = chain.config();
        let code = chain.code(config.escrow).await?;
        let found = keccak256(&code);
        if found != config.escrow_code_hash {
            return Err(SettlementError::WrongCode {
                address: config.escrow,
                expected: config.escrow_code_hash,
                found,
            });
        }
        Ok(chain)
    }

    /// As [`Self::connect`], before there is an escrow.
    pub(crate) async fn connect_without_escrow(config: ChainConfig) -> Result<Self, SettlementError> {
        let endpoints = Endpoints::new(&config)?;
        // each is looked at, and its chain id too: one that serves another chain is put aside, and that is said
        endpoints.heads().await?;
        Ok(Self { inner: Arc::new(Inner { config, endpoints }) })
    }

    /// What it was connected with.
    pub fn config(&self) -> &ChainConfig {
        &self.inner.config
    }

    /// Where signatures for this chain count.
    pub fn escrow(&self) -> Escrow {
        self.config().escrow_id()
    }

    /// How its endpoints are.
    pub fn health(&self) -> ChainHealth {
        self.endpoints().health()
    }

    pub(crate) fn endpoints(&self) -> &Endpoints {
        &self.inner.endpoints
    }

    /// The newest block: deadlines are judged by its time.
    pub async fn head(&self) -> Result<Head, SettlementError> {
        self.endpoints().read("the latest block", async |p| Head::latest(&p).await).await
    }

    /// The newest block that counts, by the chain's confirmation depth; where there are several endpoints, the newest that two of them
    /// have, and tell alike.
    pub async fn confirmed_head(&self) -> Result<Head, SettlementError> {
        let heads = self.endpoints().heads().await?;
        let shared = match heads.as_slice() {
            [only] if self.endpoints().alone() => only,
            [_, second, ..] => second,
            _ => {
                let (what, endpoint) = ("the latest block", self.only_endpoint_up());
                return Err(SettlementError::OneEndpoint { what, endpoint });
            }
        };
        let number = self.config().confirmed(shared.number);
        let told_by = heads.iter().filter(|head| *head == shared).count();
        if number == shared.number && (told_by > 1 || self.endpoints().alone()) {
            return Ok(*shared);
        }
        let missing = || self.endpoints().nonsense("the confirmed block", format!("there is no block {number}"));
        self.block_at(number).await?.ok_or_else(missing)
    }

    fn only_endpoint_up(&self) -> String {
        let endpoints = self.health().endpoints;
        let up = endpoints.into_iter().find(|endpoint| endpoint.state == EndpointState::Good);
        up.map(|endpoint| endpoint.endpoint).unwrap_or_default()
    }

    /// A block by its number.
    pub async fn block_at(&self, number: u64) -> Result<Option<Head>, SettlementError> {
        self.endpoints().agreed("a block", async |p| Head::of(&p, BlockId::number(number)).await).await
    }

    /// The code at an address.
    pub(crate) async fn code(&self, address: Address) -> Result<Bytes, SettlementError> {
        self.endpoints().agreed("a contract's code", async |p| p.get_code_at(address).await).await
    }

    /// Whether there is code at an address.
    pub async fn is_contract(&self, address: Address) -> Result<bool, SettlementError> {
        Ok(!self.code(address).await?.is_empty())
    }

    /// How much of the chain's coin an account has.
    pub async fn coin_balance(&self, account: Address) -> Result<U256, SettlementError> {
        self.endpoints().read("a balance", async |p| p.get_balance(account).await).await
    }

    /// How much of a token (zero: the chain's coin) an account has.
    pub async fn balance(&self, token: Address, account: Address) -> Result<U256, SettlementError> {
        if token.is_zero() {
            return self.coin_balance(account).await;
        }
        let question = async |p| Erc20::new(token, p).balanceOf(account).call().await;
        self.endpoints().read("a token balance", question).await
    }

    /// How much of a token the escrow may take from an account.
    pub async fn allowance(&self, token: Address, owner: Address) -> Result<U256, SettlementError> {
        self.allowance_of(token, owner, self.config().escrow).await
    }

    /// How much of a token a spender may take from an account.
    pub async fn allowance_of(
        &self,
        token: Address,
        owner: Address,
        spender: Address,
    ) -> Result<U256, SettlementError> {
        let question = async |p| Erc20::new(token, p).allowance(owner, spender).call().await;
        self.endpoints().read("an allowance", question).await
    }

    /// The token as configured; an unknown one is shown by its address, in base units.
    pub fn token(&self, address: Address) -> Token {
        let config = self.config();
        let known = config.tokens.iter().find(|token| token.address == address).cloned();
        known.unwrap_or_else(|| match address.is_zero() {
            // 18 digits and this name are what practically every chain's coin has
            true => Token { chain: config.chain_id, address, symbol: "ETH".into(), decimals: 18 },
            false => Token { chain: config.chain_id, address, symbol: format!("base units of {address}"), decimals: 0 },
        })
    }

    /// What a token's contract says of itself.
    pub async fn token_metadata(&self, address: Address) -> Result<Token, SettlementError> {
        let symbol =
            self.endpoints().ask("a token's symbol", async |p| Erc20::new(address, p).symbol().call().await).await;
        let decimals =
            self.endpoints().ask("a token's decimals", async |p| Erc20::new(address, p).decimals().call().await).await;
        let not_a_token = || SettlementError::NotAToken { address };
        let answer = |e| if matches!(e, SettlementError::BadAnswer { .. }) { not_a_token() } else { e };
        let symbol = symbol.map_err(answer)?.map_err(|_| not_a_token())?;
        let decimals = decimals.map_err(answer)?.map_err(|_| not_a_token())?;
        Ok(Token { chain: self.config().chain_id, address, symbol, decimals })
    }

    /// What gas costs now.
    pub async fn fees(&self) -> Result<Fees, SettlementError> {
        let fees = self.endpoints().read("the price of gas", async |p| p.estimate_eip1559_fees().await).await?;
        Ok(Fees { max_fee_per_gas: fees.max_fee_per_gas, max_priority_fee_per_gas: fees.max_priority_fee_per_gas })
    }

    /// The open rental of that id, at the newest block. For showing: what value hangs on is read with [`Self::rental_at`].
    pub async fn rental(&self, id: RentalId) -> Result<Option<OnChainRental>, SettlementError> {
        let escrow = self.config().escrow;
        self.endpoints().read("a rental", async |p| OnChainRental::of(p, escrow, id, BlockId::latest()).await).await
    }

    /// The open rental of that id as it was at a block.
    pub async fn rental_at(&self, id: RentalId, block: u64) -> Result<Option<OnChainRental>, SettlementError> {
        let (escrow, block) = (self.config().escrow, BlockId::number(block));
        self.endpoints().agreed("a rental", async |p| OnChainRental::of(p, escrow, id, block).await).await
    }

    /// What closing now with a voucher for `cumulative` would pay the provider in all.
    pub async fn due(&self, quote: &Quote, cumulative: Amount) -> Result<Amount, SettlementError> {
        let escrow = self.config().escrow;
        let question = async |p| RentalEscrow::new(escrow, p).due(terms(quote), cumulative.into()).call().await;
        Ok(self.endpoints().read("what is due", question).await?.into())
    }

    /// The id that the escrow gives a quote.
    pub async fn id_of(&self, quote: &Quote) -> Result<RentalId, SettlementError> {
        let escrow = self.config().escrow;
        let question = async |p| RentalEscrow::new(escrow, p).idOf(terms(quote)).call().await;
        self.endpoints().read("a quote's id", question).await.map(RentalId)
    }

    /// What the escrow holds for an account because it could not be paid out.
    pub async fn credit(&self, token: Address, account: Address) -> Result<U256, SettlementError> {
        let escrow = self.config().escrow;
        let question = async |p| RentalEscrow::new(escrow, p).credit(token, account).call().await;
        self.endpoints().read("a credit", question).await
    }

    /// What a contract answers that may not have the function: `None` if it refuses, or says nothing that can be read.
    pub(crate) async fn view<C: SolCall>(&self, to: Address, call: C) -> Result<Option<C::Return>, SettlementError> {
        let question = request(Address::ZERO, to, U256::ZERO, &call.abi_encode().into());
        let answer = self.simulate(&question, BlockId::latest()).await?;
        Ok(answer.ok().and_then(|data| C::abi_decode_returns(&data).ok()))
    }

    /// Runs a call without sending it.
    pub(crate) async fn simulate(
        &self,
        call: &TransactionRequest,
        block: BlockId,
    ) -> Result<Result<Bytes, Revert>, SettlementError> {
        self.endpoints().ask("how a call would end", async |p| p.call(call.clone()).block(block).await).await
    }

    /// The gas a call needs.
    pub(crate) async fn gas_for(&self, call: &TransactionRequest) -> Result<Result<u64, Revert>, SettlementError> {
        self.endpoints()
            .ask("the gas a call needs", async |p| p.estimate_gas(call.clone()).block(BlockId::latest()).await)
            .await
    }

    /// How many transactions of an account there are up to a block, as one endpoint has it.
    pub(crate) async fn nonce(&self, account: Address, block: BlockId) -> Result<u64, SettlementError> {
        let question = async |p: RootProvider| p.get_transaction_count(account).block_id(block).await;
        self.endpoints().read("an account's nonce", question).await
    }

    /// How many transactions of an account there are up to a block that counts: nonces below are used for good.
    pub(crate) async fn settled_nonce(&self, account: Address, block: u64) -> Result<u64, SettlementError> {
        let block = BlockId::number(block);
        let question = async |p: RootProvider| p.get_transaction_count(account).block_id(block).await;
        self.endpoints().agreed("an account's settled nonce", question).await
    }

    /// The nonce after the transactions of an account that wait, as two endpoints have them: pools differ.
    pub(crate) async fn waiting_nonce(&self, account: Address) -> Result<u64, SettlementError> {
        let question = async |p: RootProvider| p.get_transaction_count(account).pending().await;
        self.endpoints().highest_of_two("an account's next nonce", question).await
    }

    /// What became of a transaction, if it is mined.
    pub(crate) async fn mined(&self, transaction: B256) -> Result<Option<Mined>, SettlementError> {
        self.endpoints().agreed("a receipt", async |p| Mined::of(p, transaction).await).await
    }
}

impl Mined {
    async fn of(provider: RootProvider, transaction: B256) -> Result<Option<Self>, CallError> {
        let nonsense = |why: &str| CallError::Nonsense(why.to_owned());
        let Some(receipt) = provider.get_transaction_receipt(transaction).await? else { return Ok(None) };
        if receipt.transaction_hash != transaction {
            return Err(nonsense("the receipt of another transaction"));
        }
        let (Some(block), Some(block_hash)) = (receipt.block_number, receipt.block_hash) else {
            return Err(nonsense("a receipt that names no block"));
        };
        Ok(Some(Self {
            block,
            block_hash,
            succeeded: receipt.status(),
            gas_used: receipt.gas_used,
            gas_price: receipt.effective_gas_price,
        }))
    }
}

/// A call as endpoints take it.
pub(crate) fn request(from: Address, to: Address, value: U256, data: &Bytes) -> TransactionRequest {
    TransactionRequest::default().with_from(from).with_to(to).with_value(value).with_input(data.clone())
}
