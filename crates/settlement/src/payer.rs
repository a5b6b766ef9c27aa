//! Who pays: the wallet that sends, or a smart account that takes the wallet's signature for its own (ERC-1271).

use crate::{
    bindings::{Erc1271, typed::SafeMessage},
    chain::Chain,
    error::SettlementError,
    wallet::Wallet,
};
use alloy::{
    primitives::{Address, B256, Bytes, FixedBytes},
    sol_types::{SolStruct, eip712_domain},
};

/// What `isValidSignature` answers when it holds: the function's own selector.
const HOLDS: FixedBytes<4> = FixedBytes([0x16, 0x26, 0xba, 0x7e]);
/// Something to sign when an account is looked at; nobody takes it for anything.
const PROBE: B256 = B256::repeat_byte(0x67);

/// In what form an account takes its owner's signature over a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// The account is the key's own.
    Own,
    /// The digest itself is signed.
    Plain,
    /// The digest is signed as a Safe's message; for a Safe of which one owner is enough.
    Safe,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Payer {
    address: Address,
    key: Wallet,
    form: Form,
}

impl Payer {
    /// The wallet itself.
    pub fn own(key: Wallet) -> Self {
        Self { address: key.address(), key, form: Form::Own }
    }

    /// A smart account on `chain`, which is asked whether it takes signatures of `key`.
    pub async fn account(chain: &Chain, address: Address, key: Wallet) -> Result<Self, SettlementError> {
        if address == key.address() {
            return Ok(Self::own(key));
        }
        for form in [Form::Plain, Form::Safe] {
            let payer = Self { address, key: key.clone(), form };
            if chain.accepts_signature(address, PROBE, payer.sign(chain, &PROBE)?).await? {
                return Ok(payer);
            }
        }
        Err(SettlementError::NotOurAccount { account: address, key: key.address() })
    }

    /// The account that pays, and is refunded.
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Whether the wallet's key is the account's own.
    pub fn is_own(&self) -> bool {
        self.form == Form::Own
    }

    /// The account's signature over a digest, as the account, a token or Permit2 reads it.
    pub fn sign(&self, chain: &Chain, digest: &B256) -> Result<Bytes, SettlementError> {
        let signed = match self.form {
            Form::Own | Form::Plain => *digest,
            Form::Safe => {
                let domain = eip712_domain! { chain_id: chain.config().chain_id, verifying_contract: self.address, };
                SafeMessage { message: digest.to_vec().into() }.eip712_signing_hash(&domain)
            }
        };
        Ok(Bytes::copy_from_slice(&self.key.sign_digest(&signed)?.as_bytes()))
    }
}

impl Chain {
    /// Whether a smart account takes a signature for its own. An address without code takes none.
    pub async fn accepts_signature(
        &self,
        account: Address,
        digest: B256,
        signature: Bytes,
    ) -> Result<bool, SettlementError> {
        let answer = self.view(account, Erc1271::isValidSignatureCall { digest, signature }).await?;
        Ok(answer.is_some_and(|answer| answer == HOLDS))
    }
}
