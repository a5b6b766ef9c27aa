//! The escrow as one account uses it: every operation of a rental, each sent once however often it is asked for.

use crate::{
    bindings::{Erc20, RentalEscrow, terms, wide},
    error::SettlementError,
    sender::TransactionSender,
    transactions::{Call, Confirmed, Purpose},
};
use alloy::{
    primitives::{Address, Bytes, Signature, U256},
    sol_types::SolCall,
};
use market::{
    id::RentalId,
    money::Amount,
    quote::{Quote, SignedQuote},
    signed::{SignedRelease, SignedVoucher},
};
use std::sync::Arc;
use tokio::sync::Mutex;

/// One account at one escrow. Cheap to clone. Every operation waits for confirmation, within a bound; dropped or timed out, what was sent
/// stays under way, and asking again goes on waiting.
#[derive(Clone, Debug)]
pub struct EscrowAccount {
    sender: TransactionSender,
    /// Held from an approval to the opening that uses it up: approvals replace each other, so two openings must not overlap.
    approving: Arc<Mutex<()>>,
}

impl EscrowAccount {
    /// The account behind `sender`. Make one for each sender, and clone it.
    pub fn new(sender: TransactionSender) -> Self {
        Self { sender, approving: Arc::default() }
    }

    /// What it sends with.
    pub const fn sender(&self) -> &TransactionSender {
        &self.sender
    }

    /// Opens the rental, as its renter, with `deposit` paid in. For a token the escrow is first allowed to take exactly that, in a
    /// transaction of its own, unless it may already.
    pub async fn open(&self, quote: &SignedQuote, deposit: Amount) -> Result<Confirmed, SettlementError> {
        let here = self.sender.chain().escrow();
        if quote.escrow != here {
            return Err(SettlementError::OtherEscrow { quoted: quote.escrow, here });
        }
        let purpose = Purpose::Open(quote.id());
        let known = self.sender.record(&purpose).await?.is_some_and(|record| record.settles());
        if known {
            return self.sender.confirmed(&purpose).await;
        }
        let token = quote.quote.token;
        let data = RentalEscrow::openCall {
            q: terms(&quote.quote),
            deposit: deposit.into(),
            providerSig: encode(&quote.signature),
        };
        let value = if token.is_zero() { wide(deposit) } else { U256::ZERO };
        if token.is_zero() {
            return self.send(purpose, data, value).await;
        }
        let _one_at_a_time = self.approving.lock().await;
        self.approve(token, deposit).await?;
        self.send(purpose, data, value).await
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

    /// Sees to it that the escrow may take `amount`, after checking that it is there: a token's own refusal tells less.
    async fn approve(&self, token: Address, amount: Amount) -> Result<(), SettlementError> {
        let (chain, owner) = (self.sender.chain(), self.sender.address());
        let have = chain.balance(token, owner).await?;
        if have < wide(amount) {
            let have = u128::try_from(have).ok().and_then(Amount::new).unwrap_or(Amount::MAX);
            return Err(SettlementError::InsufficientFunds {
                account: owner,
                token: Box::new(chain.token(token)),
                have,
                need: amount,
            });
        }
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

/// The 65 bytes (r, s, v) that the escrow reads.
fn encode(signature: &Signature) -> Bytes {
    Bytes::copy_from_slice(&signature.as_bytes())
}
