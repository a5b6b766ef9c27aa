//! The escrow as one account uses it: every operation of a rental, each sent once however often it is asked for.

mod approvals;
mod batch;

use crate::{
    bindings::{Erc20, RentalEscrow, terms, wide},
    error::SettlementError,
    funding::{self, Decoded, Means, Way},
    payer::Payer,
    sender::TransactionSender,
    transactions::{Call, Confirmed, Purpose},
};
use alloy::{
    primitives::{Address, B256, Bytes, Signature, U256},
    sol_types::SolCall,
};
use market::{
    id::RentalId,
    mandate::{Funding, Mandate},
    money::Amount,
    quote::{Quote, SignedQuote},
    signed::{SignedRelease, SignedVoucher},
};
use std::sync::Arc;
use tokio::sync::Mutex;

pub use approvals::Allowance;
pub use batch::{ClosingOutcome, MAX_BATCH, ToClose};

/// How a deposit gets into the escrow, and who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The renter sends the opening, and pays its gas.
    Own(Way),
    /// The renter has no coin for gas: the provider sends what it signs.
    Mandate(Way),
}

/// One account at one escrow. Cheap to clone. Every operation waits for confirmation, within a bound; dropped or timed out, what was sent
/// stays under way, and asking again goes on waiting.
#[derive(Clone, Debug)]
pub struct EscrowAccount {
    sender: TransactionSender,
    payer: Payer,
    /// Held from an approval to the opening that uses it up: approvals replace each other, so two openings must not overlap.
    approving: Arc<Mutex<()>>,
}

impl EscrowAccount {
    /// The account behind `sender`. Make one for each sender, and clone it.
    pub fn new(sender: TransactionSender) -> Self {
        let payer = Payer::own(sender.wallet().clone());
        Self { sender, payer, approving: Arc::default() }
    }

    /// What it sends with.
    pub const fn sender(&self) -> &TransactionSender {
        &self.sender
    }

    /// The same, with a smart account of the wallet's as the one that pays and is refunded.
    pub async fn paying_from(self, account: Address) -> Result<Self, SettlementError> {
        let payer = Payer::account(self.sender.chain(), account, self.sender.wallet().clone()).await?;
        Ok(Self { payer, ..self })
    }

    /// Who pays.
    pub const fn payer(&self) -> &Payer {
        &self.payer
    }

    /// How a deposit would be paid in, at the least cost that this account can bear; or what it lacks.
    pub async fn path(&self, token: Address, deposit: Amount) -> Result<Path, SettlementError> {
        let (chain, payer) = (self.sender.chain(), &self.payer);
        let ((), coin, fees) = tokio::try_join!(
            self.check_balance(token, deposit),
            chain.coin_balance(self.sender.address()),
            chain.fees(),
        )?;
        let no_gas = |way: Way, value: U256| SettlementError::InsufficientGas {
            account: self.sender.address(),
            have: coin,
            need: fees.cost(way.gas_limit()) + value,
            purpose: Box::new(Purpose::Other("opening a rental".to_owned())),
        };
        if token.is_zero() {
            let affordable = coin >= fees.cost(Way::Coin.gas_limit()) + wide(deposit);
            return match payer.is_own() {
                true if affordable => Ok(Path::Own(Way::Coin)),
                true => Err(no_gas(Way::Coin, wide(deposit))),
                false => Err(self.no_way(token, "a smart account pays in tokens only")),
            };
        }
        let ways = Means::of(chain, token, payer.address()).await?.ways(payer, deposit);
        let affordable = |way: &&Way| coin >= fees.cost(way.gas_limit());
        if let Some(way) = ways.iter().find(affordable) {
            return Ok(Path::Own(*way));
        }
        match (ways.iter().find(|way| way.can_be_mandated()), ways.first()) {
            (Some(way), _) => Ok(Path::Mandate(*way)),
            (None, Some(way)) => Err(no_gas(*way, U256::ZERO)),
            (None, None) => {
                Err(self.no_way(token, "the token takes no signatures (ERC-3009), and Permit2 has no allowance"))
            }
        }
    }

    fn no_way(&self, token: Address, why: &str) -> SettlementError {
        let token = self.sender.chain().token(token).symbol;
        SettlementError::NoWay { account: self.payer.address(), token, why: why.to_owned() }
    }

    /// What will be signed, or sent, to pay a deposit in: for a person to read before it is.
    pub async fn decoded(
        &self,
        quote: &SignedQuote,
        deposit: Amount,
        way: Way,
    ) -> Result<Vec<Decoded>, SettlementError> {
        let (chain, payer) = (self.sender.chain(), &self.payer);
        let means = Means::of(chain, quote.quote.token, payer.address()).await?;
        Ok(funding::decoded(chain, &means, payer, quote, deposit, way))
    }

    /// Signs what lets the provider open the rental in the payer's name.
    pub async fn fund(&self, quote: &SignedQuote, deposit: Amount, way: Way) -> Result<Funding, SettlementError> {
        self.check_here(quote)?;
        let (chain, payer) = (self.sender.chain(), &self.payer);
        let means = Means::of(chain, quote.quote.token, payer.address()).await?;
        let signed = funding::sign(chain, &means, payer, quote, deposit, way)?;
        signed.ok_or_else(|| self.no_way(quote.quote.token, way.name()))
    }

    /// Opens the rental, as its renter, with `deposit` paid in: in the cheapest way that the token and the account allow, which is found
    /// by trying each on the chain's state without sending it.
    pub async fn open(&self, quote: &SignedQuote, deposit: Amount) -> Result<Confirmed, SettlementError> {
        self.check_here(quote)?;
        let purpose = Purpose::Open(quote.id());
        if self.sender.record(&purpose).await?.is_some_and(|record| record.settles()) {
            return self.sender.confirmed(&purpose).await;
        }
        let token = quote.quote.token;
        if token.is_zero() {
            return self.send(purpose, opening(quote, deposit), wide(deposit)).await;
        }
        // held until the opening is on its way: two of them must not count on one allowance
        let one_at_a_time = self.approving.lock().await;
        self.check_balance(token, deposit).await?;
        let means = Means::of(self.sender.chain(), token, self.payer.address()).await?;
        let mut refused = self.no_way(token, "the token takes no signatures (ERC-3009), and Permit2 has no allowance");
        for way in means.ways(&self.payer, deposit) {
            match self.submit(&means, quote, deposit, way).await {
                Ok(()) => {
                    let outcome = self.sender.confirmed(&purpose).await;
                    drop(one_at_a_time);
                    return outcome;
                }
                // this token does not take it that way
                Err(error @ SettlementError::Reverted { transaction: None, .. }) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
    }

    async fn submit(
        &self,
        means: &Means,
        quote: &SignedQuote,
        deposit: Amount,
        way: Way,
    ) -> Result<(), SettlementError> {
        let (chain, payer) = (self.sender.chain(), &self.payer);
        let data = match way {
            Way::Permit => match funding::permit(chain, means, payer, quote, deposit) {
                Some(draft) => permitted(quote, deposit, &draft.sign(chain, payer)?),
                None => return Err(self.no_way(quote.quote.token, way.name())),
            },
            Way::Permit2 | Way::Authorization => match funding::sign(chain, means, payer, quote, deposit, way)? {
                Some(funding) => funded(quote, deposit, &funding),
                None => return Err(self.no_way(quote.quote.token, way.name())),
            },
            Way::Approval => {
                self.approve(quote.quote.token, deposit).await?;
                opening(quote, deposit).abi_encode().into()
            }
            Way::Coin | Way::Allowance => opening(quote, deposit).abi_encode().into(),
        };
        let to = chain.config().escrow;
        self.sender.submit(Call { purpose: Purpose::Open(quote.id()), to, value: U256::ZERO, data }).await
    }

    /// Opens a rental in its renter's name, by its mandate.
    pub async fn open_mandated(&self, quote: &SignedQuote, mandate: &Mandate) -> Result<Confirmed, SettlementError> {
        self.check_here(quote)?;
        self.sender.send(self.mandated(quote, mandate)).await
    }

    /// Whether a mandate would go through now. Costs nothing.
    pub async fn check_mandate(&self, quote: &SignedQuote, mandate: &Mandate) -> Result<(), SettlementError> {
        self.check_here(quote)?;
        self.sender.check(&self.mandated(quote, mandate)).await.map(|_| ())
    }

    fn mandated(&self, quote: &SignedQuote, mandate: &Mandate) -> Call {
        let (purpose, to) = (Purpose::Open(quote.id()), self.sender.chain().config().escrow);
        Call { purpose, to, value: U256::ZERO, data: funded(quote, mandate.deposit, &mandate.funding) }
    }

    fn check_here(&self, quote: &SignedQuote) -> Result<(), SettlementError> {
        let here = self.sender.chain().escrow();
        if quote.escrow == here { Ok(()) } else { Err(SettlementError::OtherEscrow { quoted: quote.escrow, here }) }
    }

    /// Whether the deposit is there: a token's own refusal tells less.
    async fn check_balance(&self, token: Address, deposit: Amount) -> Result<(), SettlementError> {
        let (chain, account) = (self.sender.chain(), self.payer.address());
        let have = chain.balance(token, account).await?;
        if have >= wide(deposit) {
            return Ok(());
        }
        let have = u128::try_from(have).ok().and_then(Amount::new).unwrap_or(Amount::MAX);
        Err(SettlementError::InsufficientFunds { account, token: Box::new(chain.token(token)), have, need: deposit })
    }

    /// Pays the provider part-way; anyone may.
    pub async fn claim(&self, quote: &Quote, voucher: &SignedVoucher) -> Result<Confirmed, SettlementError> {
        let purpose = Purpose::Claim(self.id(quote), voucher.cumulative);
        let call = RentalEscrow::claimCall {
            q: terms(quote),
            cumulative: voucher.cumulative.into(),
            voucherSig: encode(&voucher.signature),
        };
        self.send(purpose, call, U256::ZERO).await
    }

    /// Closes the rental as its provider or its signing key, with the best voucher; without one, everything not claimed goes back.
    pub async fn close(&self, quote: &Quote, voucher: Option<&SignedVoucher>) -> Result<Confirmed, SettlementError> {
        let call = RentalEscrow::closeCall {
            q: terms(quote),
            cumulative: voucher.map_or(Amount::ZERO, |v| v.cumulative).into(),
            voucherSig: voucher.map(|v| encode(&v.signature)).unwrap_or_default(),
        };
        self.send(Purpose::Close(self.id(quote)), call, U256::ZERO).await
    }

    /// Closes the rental by the provider's release: as the renter or its session key; as anyone with a voucher for the same total.
    pub async fn release(
        &self,
        quote: &Quote,
        release: &SignedRelease,
        voucher: Option<&SignedVoucher>,
    ) -> Result<Confirmed, SettlementError> {
        let call = RentalEscrow::releaseCall {
            q: terms(quote),
            cumulative: release.cumulative.into(),
            releaseSig: encode(&release.signature),
            voucherSig: voucher.map(|v| encode(&v.signature)).unwrap_or_default(),
        };
        self.send(Purpose::Release(self.id(quote)), call, U256::ZERO).await
    }

    /// Freezes the meter and starts the challenge window: as the renter or its session key, or as anyone with its signature.
    pub async fn stop(
        &self,
        quote: &Quote,
        reason: u32,
        signature: Option<&Signature>,
    ) -> Result<Confirmed, SettlementError> {
        let call =
            RentalEscrow::stopCall { q: terms(quote), reason, stopSig: signature.map(encode).unwrap_or_default() };
        self.send(Purpose::Stop(self.id(quote)), call, U256::ZERO).await
    }

    /// Closes the rental once its window is over; anyone may.
    pub async fn finalize(&self, quote: &Quote) -> Result<Confirmed, SettlementError> {
        self.send(Purpose::Finalize(self.id(quote)), RentalEscrow::finalizeCall { q: terms(quote) }, U256::ZERO).await
    }

    /// Pulls what the escrow could not pay out to this account, to wherever is wanted.
    pub async fn withdraw(&self, token: Address, to: Address) -> Result<Confirmed, SettlementError> {
        self.send(Purpose::Withdraw(token), RentalEscrow::withdrawCall { token, to }, U256::ZERO).await
    }

    fn id(&self, quote: &Quote) -> RentalId {
        quote.id(&self.sender.chain().escrow())
    }

    async fn send(&self, purpose: Purpose, call: impl SolCall, value: U256) -> Result<Confirmed, SettlementError> {
        let to = self.sender.chain().config().escrow;
        self.sender.send(Call { purpose, to, value, data: call.abi_encode().into() }).await
    }

    /// Sees to it that the escrow may take `amount`.
    async fn approve(&self, token: Address, amount: Amount) -> Result<(), SettlementError> {
        let (chain, owner) = (self.sender.chain(), self.sender.address());
        let allowed = chain.allowance(token, owner).await?;
        if allowed >= wide(amount) {
            return Ok(());
        }
        match self.send_approval(token, amount).await {
            // Tether's dollar among others wants an allowance to be zero before it is changed
            Err(SettlementError::Reverted { .. }) if !allowed.is_zero() => {
                self.send_approval(token, Amount::ZERO).await?;
                self.send_approval(token, amount).await
            }
            other => other,
        }
    }

    async fn send_approval(&self, token: Address, amount: Amount) -> Result<(), SettlementError> {
        let spender = self.sender.chain().config().escrow;
        let data = Erc20::approveCall { spender, value: wide(amount) }.abi_encode().into();
        let purpose = Purpose::Approve { token, spender, amount };
        self.sender.send(Call { purpose, to: token, value: U256::ZERO, data }).await?;
        Ok(())
    }
}

/// The opening as its renter sends it.
fn opening(quote: &SignedQuote, deposit: Amount) -> RentalEscrow::openCall {
    RentalEscrow::openCall { q: terms(&quote.quote), deposit: deposit.into(), providerSig: encode(&quote.signature) }
}

/// The opening with a permit of these 65 bytes (r, s, v).
fn permitted(quote: &SignedQuote, deposit: Amount, signature: &[u8]) -> Bytes {
    let word = |at: usize| B256::from_slice(signature.get(at..at + 32).unwrap_or(&[0; 32]));
    RentalEscrow::openWithPermitCall {
        q: terms(&quote.quote),
        deposit: deposit.into(),
        providerSig: encode(&quote.signature),
        deadline: U256::from(quote.quote.expiry),
        v: signature.last().copied().unwrap_or_default(),
        r: word(0),
        s: word(32),
    }
    .abi_encode()
    .into()
}

/// The opening as anybody sends it with the renter's signature.
fn funded(quote: &SignedQuote, deposit: Amount, funding: &Funding) -> Bytes {
    let (q, deposit, provider_signature) = (terms(&quote.quote), deposit.into(), encode(&quote.signature));
    let data = match funding {
        Funding::Authorization { signature } => RentalEscrow::openWithAuthorizationCall {
            q,
            deposit,
            providerSig: provider_signature,
            renterSig: signature.clone(),
        }
        .abi_encode(),
        Funding::Permit2 { nonce, deadline, signature } => RentalEscrow::openWithPermit2Call {
            q,
            deposit,
            providerSig: provider_signature,
            nonce: *nonce,
            deadline: U256::from(*deadline),
            renterSig: signature.clone(),
        }
        .abi_encode(),
    };
    data.into()
}

/// The 65 bytes (r, s, v) that the escrow reads.
fn encode(signature: &Signature) -> Bytes {
    Bytes::copy_from_slice(&signature.as_bytes())
}
