//! The small conversions that every message needs: addresses, hashes, amounts, signatures, bounded text.

use crate::{MAX_TEXT_BYTES, WireError, proto};
use alloy_primitives::{Address, B256, Signature};
use market::{
    id::PeerId,
    money::{Amount, MAX_DECIMALS, Rate, Token},
    signed::Escrow,
};

pub(crate) fn invalid(field: &'static str, problem: impl Into<String>) -> WireError {
    WireError::Invalid { field, problem: problem.into() }
}

pub(crate) fn required<T>(field: &'static str, value: Option<T>) -> Result<T, WireError> {
    value.ok_or(WireError::Missing(field))
}

pub(crate) fn text(field: &'static str, value: String) -> Result<String, WireError> {
    if value.len() > MAX_TEXT_BYTES {
        return Err(invalid(field, format!("{} bytes of text, at most {MAX_TEXT_BYTES}", value.len())));
    }
    // terminals obey control characters, and this text is shown to people
    let is_plain = value.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !is_plain && value.chars().any(char::is_control) {
        return Err(invalid(field, "control characters"));
    }
    Ok(value)
}

pub(crate) fn address(field: &'static str, bytes: &[u8]) -> Result<Address, WireError> {
    Address::try_from(bytes).map_err(|_| invalid(field, format!("{} bytes, an address has 20", bytes.len())))
}

pub(crate) fn hash(field: &'static str, bytes: &[u8]) -> Result<B256, WireError> {
    B256::try_from(bytes).map_err(|_| invalid(field, format!("{} bytes, a hash has 32", bytes.len())))
}

/// In the one way that the chain takes it: the last byte, which others also write as 0 or 1, is 27 or 28.
pub(crate) fn signature(field: &'static str, bytes: &[u8]) -> Result<Signature, WireError> {
    let read = Signature::from_raw(bytes).ok().filter(|signature| signature.as_bytes()[..] == *bytes);
    read.ok_or_else(|| invalid(field, "not a signature of 65 bytes that end with 27 or 28"))
}

pub(crate) fn peer(field: &'static str, bytes: &[u8]) -> Result<PeerId, WireError> {
    PeerId::from_bytes(bytes).map_err(|error| invalid(field, error.to_string()))
}

pub(crate) fn amount(field: &'static str, digits: &str) -> Result<Amount, WireError> {
    // only the canonical form: no sign, no leading zeros, so that equal amounts are equal bytes
    let canonical = digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    let number = if canonical { digits.parse().ok() } else { None };
    number.and_then(Amount::new).ok_or_else(|| invalid(field, "not an amount of at most 96 bits"))
}

pub(crate) fn rate(field: &'static str, digits: &str) -> Result<Rate, WireError> {
    amount(field, digits).map(Rate::new)
}

pub(crate) fn settlement_to_proto(escrow: &Escrow) -> proto::Settlement {
    proto::Settlement { chain: escrow.chain, escrow: escrow.address.to_vec() }
}

pub(crate) fn settlement(message: Option<proto::Settlement>) -> Result<Escrow, WireError> {
    let message = required("settlement", message)?;
    Ok(Escrow { chain: message.chain, address: address("settlement.escrow", &message.escrow)? })
}

pub(crate) fn token_to_proto(token: &Token) -> proto::Token {
    proto::Token { address: token.address.to_vec(), symbol: token.symbol.clone(), decimals: u32::from(token.decimals) }
}

pub(crate) fn token(message: Option<proto::Token>, chain: u64) -> Result<Token, WireError> {
    let message = required("token", message)?;
    let decimals = u8::try_from(message.decimals).ok().filter(|d| *d <= MAX_DECIMALS);
    Ok(Token {
        chain,
        address: address("token.address", &message.address)?,
        symbol: text("token.symbol", message.symbol)?,
        decimals: decimals.ok_or_else(|| invalid("token.decimals", format!("at most {MAX_DECIMALS}")))?,
    })
}
