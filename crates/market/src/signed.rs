//! What is signed with secp256k1 keys, as EIP-712 typed data.
//!
//! The first four types are the escrow's own and their text must match its source to the letter. The others never reach the chain:
//! they bind peers, requests and statements to the keys that the escrow knows. A signature is accepted only with a low `s`, as in the
//! contract.

use crate::{id::RentalId, money::Amount};
use alloy_primitives::{Address, B256, Bytes, Signature};
use alloy_sol_types::{Eip712Domain, SolStruct, eip712_domain, sol};
use serde::{Deserialize, Serialize};

sol! {
    /// A provider's binding promise to one renter; its digest is the id of the rental. Signed by `providerKey`.
    #[derive(Debug, PartialEq, Eq)]
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
    /// The renter's statement of the total owed so far. Signed by the quote's `renterKey`.
    #[derive(Debug, PartialEq, Eq)]
    struct Voucher { bytes32 id; uint96 cumulative; }
    /// The provider's statement of the final total. Signed by the quote's `providerKey`.
    #[derive(Debug, PartialEq, Eq)]
    struct Release { bytes32 id; uint96 cumulative; }
    /// The renter's order to freeze the meter on chain. Signed by the quote's `renterKey`.
    #[derive(Debug, PartialEq, Eq)]
    struct Stop { bytes32 id; uint32 reason; }

    /// Ties a provider's peer and hot key to the wallet that is paid. Signed by `wallet`, at most 30 days, newest wins;
    /// `expires == issuedAt` revokes. Times are Unix seconds; `role` is `provider`.
    #[derive(Debug, PartialEq, Eq)]
    struct NodeBinding { bytes peerId; address providerKey; address wallet; string role; uint64 issuedAt; uint64 expires; }
    /// A wallet asks a provider for a quote; `request` is keccak256 of the transported request, `at` is Unix seconds. Signed by `wallet`.
    #[derive(Debug, PartialEq, Eq)]
    struct QuoteRequest { bytes renterPeer; bytes providerPeer; address wallet; address renterKey; bytes32 request; uint64 at; }
    /// The sandbox is up and the meter runs since `at` (Unix milliseconds). Signed by `providerKey`.
    #[derive(Debug, PartialEq, Eq)]
    struct Ready { bytes32 id; uint64 at; }
    /// The provider has stored a voucher for `cumulative` and has served `servedMillis`, of which `frozenMillis` frozen; `metrics` is
    /// keccak256 of the usage report that came with it. Signed by `providerKey`.
    #[derive(Debug, PartialEq, Eq)]
    struct Ack { bytes32 id; uint64 seq; uint96 cumulative; uint64 servedMillis; uint64 frozenMillis; bytes32 metrics; }
    /// The rental `id` is interruptible, and is served until `at` (Unix milliseconds) and no longer; `reason` is 1 for a higher bid and 2 for
    /// a rental on demand. Signed by `providerKey`.
    #[derive(Debug, PartialEq, Eq)]
    struct PreemptNotice { bytes32 id; uint64 at; uint8 reason; }
    /// The renter's session key lets one peer open sessions of the rental at one provider's peer until `expires` (Unix seconds). `serial` is 0
    /// for the renter's own peer; of those given to another each has a higher one.
    #[derive(Debug, PartialEq, Eq)]
    struct SessionGrant { bytes32 id; bytes providerPeer; bytes guestPeer; uint64 serial; uint64 expires; }
    /// The renter's session key takes back the grants that one peer was given, up to and with `serial`.
    #[derive(Debug, PartialEq, Eq)]
    struct Unshare { bytes32 id; bytes providerPeer; bytes guestPeer; uint64 serial; }
}

/// Where a signature counts: one escrow on one chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Escrow {
    /// EIP-155 chain id.
    pub chain: u64,
    /// The escrow's address there.
    pub address: Address,
}

impl Escrow {
    /// The EIP-712 domain of everything that concerns one rental.
    pub fn domain(&self) -> Eip712Domain {
        eip712_domain! { name: "gpulease", version: "1", chain_id: self.chain, verifying_contract: self.address, }
    }

    /// What is signed for `statement` at this escrow.
    pub fn digest(&self, statement: &impl SolStruct) -> B256 {
        statement.eip712_signing_hash(&self.domain())
    }
}

/// The digest of a node binding: it names a chain but no escrow, since it ties keys together before any rental exists.
pub fn binding_digest(chain: u64, binding: &NodeBinding) -> B256 {
    binding.eip712_signing_hash(&eip712_domain! { name: "gpulease", version: "1", chain_id: chain, })
}

/// Who made `signature` over `digest`. `None` for a high `s` (every signature has one valid form) and for one that fits no key.
pub fn signer_of(digest: &B256, signature: &Signature) -> Option<Address> {
    if signature.normalize_s().is_some() {
        return None;
    }
    signature.recover_address_from_prehash(digest).ok().filter(|address| !address.is_zero())
}

/// A voucher with its signature: what the provider keeps, and cashes in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedVoucher {
    /// The rental it pays for.
    pub id: RentalId,
    /// The total owed so far.
    pub cumulative: Amount,
    /// By the renter's session key.
    pub signature: Signature,
}

impl SignedVoucher {
    /// The typed data behind the signature.
    pub fn statement(id: RentalId, cumulative: Amount) -> Voucher {
        Voucher { id: id.0, cumulative: cumulative.into() }
    }

    /// Whether `renter_key` signed exactly this at `escrow`.
    pub fn is_signed_by(&self, renter_key: Address, escrow: &Escrow) -> bool {
        signer_of(&escrow.digest(&Self::statement(self.id, self.cumulative)), &self.signature) == Some(renter_key)
    }
}

/// A release with its signature: with it the renter can close at once, should the provider not do so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRelease {
    /// The rental it ends.
    pub id: RentalId,
    /// The final total.
    pub cumulative: Amount,
    /// By the provider's key.
    pub signature: Signature,
}

impl SignedRelease {
    /// The typed data behind the signature.
    pub fn statement(id: RentalId, cumulative: Amount) -> Release {
        Release { id: id.0, cumulative: cumulative.into() }
    }

    /// Whether `provider_key` signed exactly this at `escrow`.
    pub fn is_signed_by(&self, provider_key: Address, escrow: &Escrow) -> bool {
        signer_of(&escrow.digest(&Self::statement(self.id, self.cumulative)), &self.signature) == Some(provider_key)
    }
}

/// What a provider says of a running rental when it takes a voucher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AckStatement {
    /// The rental.
    pub id: RentalId,
    /// Counts the acks of a rental.
    pub seq: u64,
    /// The highest voucher it holds.
    pub cumulative: Amount,
    /// Milliseconds served.
    pub served_millis: u64,
    /// Milliseconds of them frozen.
    pub frozen_millis: u64,
    /// keccak256 of the usage report.
    pub metrics: B256,
}

impl AckStatement {
    /// The typed data that the provider signs.
    pub fn statement(&self) -> Ack {
        Ack {
            id: self.id.0,
            seq: self.seq,
            cumulative: self.cumulative.into(),
            servedMillis: self.served_millis,
            frozenMillis: self.frozen_millis,
            metrics: self.metrics,
        }
    }
}

/// An ack with its signature and the usage report behind its hash: the provider's own word on what it served. Each side keeps the newest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedAck {
    /// What is said.
    pub statement: AckStatement,
    /// The report that `metrics` is the hash of.
    pub usage: Bytes,
    /// By the provider's key.
    pub signature: Signature,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::keccak256;

    #[test]
    fn the_types_read_as_the_escrow_writes_them() {
        assert_eq!(
            Quote::eip712_root_type(),
            "Quote(address provider,address providerKey,address renter,address renterKey,address token,uint96 rate,\
             uint96 minDeposit,uint32 maxSeconds,uint32 window,uint32 expiry,address arbiter,bytes32 device,bytes32 spec)"
        );
        assert_eq!(Voucher::eip712_root_type(), "Voucher(bytes32 id,uint96 cumulative)");
        assert_eq!(Release::eip712_root_type(), "Release(bytes32 id,uint96 cumulative)");
        assert_eq!(Stop::eip712_root_type(), "Stop(bytes32 id,uint32 reason)");
    }

    #[test]
    fn a_signature_does_not_carry_to_another_chain_or_escrow() {
        let voucher = SignedVoucher::statement(RentalId(keccak256("a rental")), Amount::MAX);
        let here = Escrow { chain: 1, address: Address::repeat_byte(1) };
        let digest = here.digest(&voucher);
        assert_ne!(digest, Escrow { chain: 2, ..here }.digest(&voucher));
        assert_ne!(digest, Escrow { address: Address::repeat_byte(2), ..here }.digest(&voucher));
    }

    #[test]
    fn a_high_s_signature_is_refused() {
        // secp256k1 order minus a small s is a high s; whoever it would recover to, it does not count
        let order = alloy_primitives::U256::from_str_radix(
            "FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141",
            16,
        )
        .unwrap();
        let low = Signature::new(alloy_primitives::U256::from(5), alloy_primitives::U256::from(7), false);
        let high = Signature::new(low.r(), order - low.s(), !low.v());
        let digest = keccak256("message");
        assert!(signer_of(&digest, &high).is_none());
        assert_eq!(high.recover_address_from_prehash(&digest).ok(), low.recover_address_from_prehash(&digest).ok());
    }
}
