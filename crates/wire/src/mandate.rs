//! The order to open a rental in the renter's name, to and from its message.

use crate::{
    WireError,
    convert::{amount, hash, invalid, required},
    proto,
    rental::{id_from_proto, voucher_from_proto, voucher_to_proto},
};
use alloy_primitives::{Bytes, U256};
use market::{
    id::RentalId,
    mandate::{Funding, MAX_FUNDING_SIGNATURE, Mandate},
};
use proto::mandate_request::Funding as Message;

/// Writes a mandate for a rental.
pub fn mandate_to_proto(id: RentalId, mandate: &Mandate) -> proto::MandateRequest {
    let funding = match &mandate.funding {
        Funding::Authorization { signature } => Message::Authorization(signature.to_vec()),
        Funding::Permit2 { nonce, deadline, signature } => Message::Permit2(proto::Permit2 {
            nonce: nonce.to_be_bytes_vec(),
            deadline: *deadline,
            signature: signature.to_vec(),
        }),
    };
    proto::MandateRequest {
        id: id.0.to_vec(),
        deposit: mandate.deposit.to_string(),
        funding: Some(funding),
        advance: Some(voucher_to_proto(&mandate.advance)),
    }
}

/// Reads a mandate; whether it fits the rental is for whoever knows that to check.
pub fn mandate_from_proto(message: &proto::MandateRequest) -> Result<(RentalId, Mandate), WireError> {
    let funding = match required("funding", message.funding.as_ref())? {
        Message::Authorization(signature) => Funding::Authorization { signature: bounded("authorization", signature)? },
        Message::Permit2(permit) => Funding::Permit2 {
            nonce: U256::from_be_bytes(hash("nonce", &permit.nonce)?.0),
            deadline: permit.deadline,
            signature: bounded("signature", &permit.signature)?,
        },
    };
    let advance = voucher_from_proto(required("advance", message.advance.as_ref())?)?;
    let deposit = amount("deposit", &message.deposit)?;
    Ok((id_from_proto(&message.id)?, Mandate { deposit, funding, advance }))
}

/// A signature of an account, which may be one with code.
pub(crate) fn bounded(field: &'static str, bytes: &[u8]) -> Result<Bytes, WireError> {
    if bytes.len() > MAX_FUNDING_SIGNATURE {
        return Err(invalid(field, format!("{} bytes, at most {MAX_FUNDING_SIGNATURE} are read", bytes.len())));
    }
    Ok(Bytes::copy_from_slice(bytes))
}
