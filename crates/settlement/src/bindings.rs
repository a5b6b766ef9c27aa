//! The contracts as Rust types, made from the artifacts that `contracts/build` commits, and what their errors mean in words.

use alloy::{
    primitives::{Bytes, U256, hex},
    sol_types::{ContractError, Revert as SolRevert, SolError, SolInterface},
};
use market::{quote::Quote, signed};
use std::fmt;

pub(crate) use escrow::RentalEscrow;
pub(crate) use token::{Erc20, Erc1271, FundedToken, PlainDollar, TestAccount, TestDollar};

/// Generated code, whose items carry the documentation of the Solidity source at best.
#[allow(missing_docs, unreachable_pub, clippy::too_many_arguments)]
mod escrow {
    alloy::sol!(
        #[sol(rpc)]
        #[derive(Debug, PartialEq, Eq)]
        RentalEscrow,
        "../../contracts/artifacts/RentalEscrow.json"
    );
}

#[allow(missing_docs, unreachable_pub, clippy::too_many_arguments)]
mod token {
    alloy::sol!(
        #[sol(rpc)]
        #[derive(Debug, PartialEq, Eq)]
        TestDollar,
        "../../contracts/artifacts/TestDollar.json"
    );
    alloy::sol!(PlainDollar, "../../contracts/artifacts/PlainDollar.json");
    alloy::sol!(TestAccount, "../../contracts/artifacts/TestAccount.json");
    alloy::sol! {
        #[sol(rpc)]
        interface Erc20 {
            function symbol() external view returns (string);
            function decimals() external view returns (uint8);
            function balanceOf(address account) external view returns (uint256);
            function allowance(address owner, address spender) external view returns (uint256);
            function approve(address spender, uint256 value) external returns (bool);
            function transfer(address to, uint256 value) external returns (bool);
        }
        /// What tokens that take signatures tell: ERC-2612, ERC-3009, and what their domains are made of.
        interface FundedToken {
            function name() external view returns (string);
            function version() external view returns (string);
            function DOMAIN_SEPARATOR() external view returns (bytes32);
            function PERMIT_TYPEHASH() external view returns (bytes32);
            function nonces(address owner) external view returns (uint256);
            function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
        }
        interface Erc1271 {
            function isValidSignature(bytes32 digest, bytes signature) external view returns (bytes4);
        }
    }
}

/// What is signed towards tokens and Permit2, as EIP-712 typed data. The quote stands here once more since typed data that holds another is
/// hashed with the text of both.
#[allow(missing_docs, unreachable_pub)]
pub(crate) mod typed {
    alloy::sol! {
        struct Permit { address owner; address spender; uint256 value; uint256 nonce; uint256 deadline; }
        struct ReceiveWithAuthorization {
            address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce;
        }
        /// What a Safe's owner signs for a message: `CompatibilityFallbackHandler` of safe-smart-account 1.3 and later.
        struct SafeMessage { bytes message; }
        struct TokenPermissions { address token; uint256 amount; }
        struct Quote {
            address provider; address providerKey; address renter; address renterKey; address token; uint96 rate; uint96 minDeposit;
            uint32 maxSeconds; uint32 window; uint32 expiry; address arbiter; bytes32 device; bytes32 spec;
        }
        struct PermitWitnessTransferFrom {
            TokenPermissions permitted; address spender; uint256 nonce; uint256 deadline; Quote witness;
        }
    }

    /// The quote as Permit2's witness.
    pub(crate) fn quote(quote: &market::quote::Quote) -> Quote {
        let super::RentalEscrow::Quote {
            provider,
            providerKey,
            renter,
            renterKey,
            token,
            rate,
            minDeposit,
            maxSeconds,
            window,
            expiry,
            arbiter,
            device,
            spec,
        } = super::terms(quote);
        Quote {
            provider,
            providerKey,
            renter,
            renterKey,
            token,
            rate,
            minDeposit,
            maxSeconds,
            window,
            expiry,
            arbiter,
            device,
            spec,
        }
    }
}

/// What the escrow says when it refuses.
pub use escrow::RentalEscrow::RentalEscrowErrors as EscrowRevert;

/// The quote as the escrow's functions take it.
pub(crate) fn terms(quote: &Quote) -> RentalEscrow::Quote {
    let signed::Quote {
        provider,
        providerKey,
        renter,
        renterKey,
        token,
        rate,
        minDeposit,
        maxSeconds,
        window,
        expiry,
        arbiter,
        device,
        spec,
    } = quote.statement();
    RentalEscrow::Quote {
        provider,
        providerKey,
        renter,
        renterKey,
        token,
        rate,
        minDeposit,
        maxSeconds,
        window,
        expiry,
        arbiter,
        device,
        spec,
    }
}

/// Why a contract refused a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revert {
    /// One of the escrow's own errors.
    Escrow(EscrowRevert),
    /// A contract's text, as tokens give it.
    Message(String),
    /// Data that is neither; empty when nothing was said.
    Unknown(Bytes),
}

impl Revert {
    /// Reads the data that came with a revert.
    pub fn decode(data: &Bytes) -> Self {
        match ContractError::<EscrowRevert>::abi_decode(data) {
            Ok(ContractError::CustomError(error)) => Self::Escrow(error),
            Ok(ContractError::Revert(text)) => Self::Message(text.reason),
            Ok(ContractError::Panic(panic)) => Self::Message(panic.to_string()),
            Err(_) => Self::Unknown(data.clone()),
        }
    }

    /// The data it is decoded from.
    pub(crate) fn data(&self) -> Bytes {
        match self {
            Self::Escrow(error) => error.abi_encode().into(),
            Self::Message(text) => SolRevert::from(text.clone()).abi_encode().into(),
            Self::Unknown(data) => data.clone(),
        }
    }
}

impl fmt::Display for Revert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Escrow(error) => explain(error, f),
            Self::Message(text) => write!(f, "the contract says: {text}"),
            Self::Unknown(data) if data.is_empty() => f.write_str("the contract refused without a reason"),
            Self::Unknown(data) => write!(f, "the contract refused with {}", hex::encode_prefixed(data)),
        }
    }
}

fn explain(error: &EscrowRevert, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match error {
        EscrowRevert::NotRenter(_) => f.write_str("only the quote's renter may do this"),
        EscrowRevert::NotProvider(_) => f.write_str("only the quote's provider or its signing key may do this"),
        EscrowRevert::BadTerms(_) => {
            f.write_str("the quote's terms are out of range: 1 s to 366 days, a window of 900 s to 7 days, a provider that can be paid")
        }
        EscrowRevert::QuoteExpired(e) => write!(f, "the quote expired at block time {}; ask for a new one", e.expiry),
        EscrowRevert::QuoteUsed(e) => write!(f, "the quote of rental {} was opened before; ask for a new one", e.id),
        EscrowRevert::NotOpen(e) => write!(f, "rental {} is not open: never opened, or closed already", e.id),
        EscrowRevert::BadSignature(e) => write!(f, "the signature is not by {}", e.expected),
        EscrowRevert::BadDeposit(e) => write!(f, "a deposit of {} is not between {} and {}", e.given, e.min, e.max),
        EscrowRevert::WrongValue(e) => write!(f, "{} of coin was sent, expected {}", e.given, e.expected),
        EscrowRevert::TransferMismatch(e) => write!(f, "the token moved {} instead of {}", e.received, e.expected),
        EscrowRevert::NothingToClaim(e) => write!(f, "{} is claimed already, the voucher adds nothing", e.claimed),
        EscrowRevert::AlreadyStopped(e) => write!(f, "the rental was stopped at block time {}", e.stopAt),
        EscrowRevert::TooEarly(e) => write!(f, "this is possible from block time {}", e.until),
        EscrowRevert::NoCredit(_) => f.write_str("there is nothing to withdraw"),
        EscrowRevert::Reentered(_) => f.write_str("the escrow was entered twice in one call"),
        EscrowRevert::GasTooLow(_) => f.write_str("the transaction has too little gas for the payouts"),
        EscrowRevert::NotArbiter(_) => f.write_str("only the quote's arbiter may do this"),
    }
}

/// The value of an amount as the chain's arithmetic has it.
pub(crate) fn wide(amount: market::money::Amount) -> U256 {
    U256::from(amount.get())
}
