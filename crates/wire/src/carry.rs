//! The request to carry a renter's signed Stop to the chain, to and from its message.

use crate::{
    WireError,
    convert::{required, settlement, settlement_to_proto, signature},
    proto,
    rental::id_from_proto,
};
use alloy_primitives::Signature;
use market::{id::RentalId, signed::Escrow};

/// What is to be carried. Whether the session key signed it is known once the rental's quote is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarryAsk {
    /// Where the rental is open.
    pub escrow: Escrow,
    /// Which.
    pub id: RentalId,
    /// The block of its opening, in which the whole quote stands.
    pub block: u64,
    /// Why it is stopped.
    pub reason: u32,
    /// By the rental's session key, over the EIP-712 `Stop`.
    pub signature: Signature,
}

/// Writes a request to carry.
pub fn carry_to_proto(ask: &CarryAsk) -> proto::CarryRequest {
    proto::CarryRequest {
        settlement: Some(settlement_to_proto(&ask.escrow)),
        id: ask.id.0.to_vec(),
        block: ask.block,
        reason: ask.reason,
        signature: ask.signature.as_bytes().to_vec(),
    }
}

/// Reads a request to carry.
pub fn carry_from_proto(message: &proto::CarryRequest) -> Result<CarryAsk, WireError> {
    Ok(CarryAsk {
        escrow: settlement(Some(required("settlement", message.settlement.clone())?))?,
        id: id_from_proto(&message.id)?,
        block: message.block,
        reason: message.reason,
        signature: signature("signature", &message.signature)?,
    })
}
