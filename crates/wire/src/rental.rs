//! Negotiation and metering: quotes, terms, vouchers and acks, to and from their messages.

use crate::{
    MAX_DETAIL_BYTES, MAX_MESSAGE_BYTES, WireError,
    convert::{
        address, amount, hash, invalid, peer, rate, required, settlement, settlement_to_proto, signature, text, token,
        token_to_proto,
    },
    decode, encode,
    mandate::bounded,
    offers::{hardware_from_proto, hardware_to_proto},
    proto,
};
use alloy_primitives::{Address, B256, Bytes, Signature, keccak256};
use market::{
    id::{DeviceId, PeerId, RentalId},
    money::{Amount, Rate},
    preemption::{PreemptReason, SignedNotice},
    quote::{Quote, SignedQuote},
    refusal::{Refusal, RefusalCode},
    signed::{self, AckStatement, Escrow, SignedAck, SignedRelease, SignedVoucher, signer_of},
    terms::{Image, MAX_INCREMENT_MILLIS, NetworkAccess, Terms, Workload},
    time::UnixMillis,
};

/// What a renter asks a provider for, as read from a request whose signature was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuoteAsk {
    /// Where it wants to settle.
    pub escrow: Escrow,
    /// What it wants to pay in.
    pub token: Address,
    /// The wallet that pays.
    pub wallet: Address,
    /// The session key that will sign vouchers.
    pub renter_key: Address,
    /// When it was asked, in Unix seconds.
    pub at: u64,
    /// The offer's name.
    pub offer: String,
    /// The most it pays, or its bid.
    pub rate: Rate,
    /// For how long, including the wait for the sandbox.
    pub max_seconds: u32,
    /// What it is ready to lock.
    pub deposit: Amount,
    /// Whether the rental may be preempted.
    pub interruptible: bool,
    /// What the sandbox is made from.
    pub workload: Workload,
    /// The rental to continue.
    pub continues: Option<RentalId>,
    /// How many slots, as one rental.
    pub slots: u32,
}

/// By whom a request was signed, as far as its bytes tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskedBy {
    /// The wallet's own key.
    Key,
    /// Not a key of that address: a smart account, if it is one and says that this holds (ERC-1271).
    Account {
        /// What was signed.
        digest: B256,
        /// The account's signature.
        signature: Bytes,
    },
}

impl QuoteAsk {
    /// The request's body: the bytes that are hashed into what the wallet signs, and transported.
    pub fn to_body(&self) -> Vec<u8> {
        encode(&proto::QuoteRequestBody {
            settlement: Some(settlement_to_proto(&self.escrow)),
            token: self.token.to_vec(),
            wallet: self.wallet.to_vec(),
            renter_key: self.renter_key.to_vec(),
            at: self.at,
            offer: self.offer.clone(),
            rate: self.rate.micro_units().to_string(),
            max_seconds: self.max_seconds,
            deposit: self.deposit.to_string(),
            interruptible: self.interruptible,
            workload: Some(workload_to_proto(&self.workload)),
            continues: self.continues.map_or_else(Vec::new, |id| id.0.to_vec()),
            slots: if self.slots == 1 { 0 } else { self.slots },
        })
    }

    /// What the wallet signs for a request with this body, between these two peers.
    pub fn digest(&self, body: &[u8], renter_peer: &PeerId, provider_peer: &PeerId) -> B256 {
        self.escrow.digest(&signed::QuoteRequest {
            renterPeer: renter_peer.to_bytes().into(),
            providerPeer: provider_peer.to_bytes().into(),
            wallet: self.wallet,
            renterKey: self.renter_key,
            request: keccak256(body),
            at: self.at,
        })
    }

    /// Reads a request, and who signed it for this pair of peers.
    pub fn from_proto(
        message: &proto::QuoteRequest,
        renter_peer: &PeerId,
        provider_peer: &PeerId,
    ) -> Result<(Self, AskedBy), WireError> {
        let body: proto::QuoteRequestBody = decode(&message.body, MAX_MESSAGE_BYTES)?;
        let ask = Self {
            escrow: settlement(body.settlement)?,
            token: address("token", &body.token)?,
            wallet: address("wallet", &body.wallet)?,
            renter_key: address("renter_key", &body.renter_key)?,
            at: body.at,
            offer: text("offer", body.offer)?,
            rate: rate("rate", &body.rate)?,
            max_seconds: body.max_seconds,
            deposit: amount("deposit", &body.deposit)?,
            interruptible: body.interruptible,
            workload: workload_from_proto(body.workload)?,
            continues: optional_id("continues", &body.continues)?,
            slots: body.slots.max(1),
        };
        let digest = ask.digest(&message.body, renter_peer, provider_peer);
        let by_key = signature("signature", &message.signature).ok().and_then(|signed| signer_of(&digest, &signed));
        let by = match by_key {
            Some(wallet) if wallet == ask.wallet => AskedBy::Key,
            _ => AskedBy::Account { digest, signature: bounded("signature", &message.signature)? },
        };
        Ok((ask, by))
    }
}

/// Writes an ack with its signature, usage report and phase.
pub fn ack_to_proto(ack: &SignedAck, phase: proto::Phase) -> proto::Ack {
    let SignedAck { statement, usage, signature } = ack;
    proto::Ack {
        id: statement.id.0.to_vec(),
        seq: statement.seq,
        cumulative: statement.cumulative.to_string(),
        served_millis: statement.served_millis,
        frozen_millis: statement.frozen_millis,
        metrics: statement.metrics.to_vec(),
        usage: usage.to_vec(),
        signature: signature.as_bytes().to_vec(),
        phase: phase.into(),
        notice: None,
    }
}

/// Writes a notice of preemption.
pub fn notice_to_proto(notice: &SignedNotice) -> proto::PreemptNotice {
    proto::PreemptNotice {
        id: notice.id.0.to_vec(),
        at: notice.at.0,
        reason: notice.reason.number().into(),
        signature: notice.signature.as_bytes().to_vec(),
    }
}

/// Reads a notice of preemption that `provider_key` must have signed at `escrow`.
pub fn notice_from_proto(
    message: &proto::PreemptNotice,
    provider_key: Address,
    escrow: &Escrow,
) -> Result<SignedNotice, WireError> {
    let reason =
        PreemptReason::from_number(message.reason).ok_or_else(|| invalid("notice.reason", "no such reason"))?;
    let (id, at) = (id_from_proto(&message.id)?, UnixMillis(message.at));
    let statement = SignedNotice::statement(id, at, reason);
    let signature = signed_by(provider_key, escrow.digest(&statement), &message.signature)?;
    Ok(SignedNotice { id, at, reason, signature })
}

/// Reads an ack that `provider_key` must have signed at `escrow`.
pub fn ack_from_proto(message: &proto::Ack, provider_key: Address, escrow: &Escrow) -> Result<SignedAck, WireError> {
    let statement = AckStatement {
        id: id_from_proto(&message.id)?,
        seq: message.seq,
        cumulative: amount("cumulative", &message.cumulative)?,
        served_millis: message.served_millis,
        frozen_millis: message.frozen_millis,
        metrics: hash("metrics", &message.metrics)?,
    };
    if keccak256(&message.usage) != statement.metrics {
        return Err(invalid("usage", "does not hash to metrics"));
    }
    let signature = signed_by(provider_key, escrow.digest(&statement.statement()), &message.signature)?;
    Ok(SignedAck { statement, usage: message.usage.clone().into(), signature })
}

pub(crate) fn signed_by(key: Address, digest: B256, bytes: &[u8]) -> Result<Signature, WireError> {
    let signature = signature("signature", bytes)?;
    if signer_of(&digest, &signature) == Some(key) {
        Ok(signature)
    } else {
        Err(invalid("signature", format!("not by {key}")))
    }
}

/// Writes a quote beside the terms it hashes.
pub fn quote_to_proto(quote: &SignedQuote, terms: Vec<u8>) -> proto::QuoteReply {
    let q = &quote.quote;
    proto::QuoteReply {
        terms,
        signature: quote.signature.as_bytes().to_vec(),
        quote: Some(proto::Quote {
            settlement: Some(settlement_to_proto(&quote.escrow)),
            provider: q.provider.to_vec(),
            provider_key: q.provider_key.to_vec(),
            renter: q.renter.to_vec(),
            renter_key: q.renter_key.to_vec(),
            token: q.token.to_vec(),
            rate: q.rate.micro_units().to_string(),
            min_deposit: q.min_deposit.to_string(),
            max_seconds: q.max_seconds,
            window: q.window,
            expiry: q.expiry,
            arbiter: q.arbiter.to_vec(),
            device: q.device.0.to_vec(),
            spec: q.spec.to_vec(),
        }),
    }
}

/// Reads a quote and its terms; the quote must be signed by the key it names and must hash these very terms.
pub fn quote_from_proto(message: proto::QuoteReply) -> Result<(SignedQuote, Terms), WireError> {
    let terms = terms_from_bytes(&message.terms)?;
    let q = required("quote", message.quote)?;
    let quote = SignedQuote {
        escrow: settlement(q.settlement)?,
        signature: signature("signature", &message.signature)?,
        quote: Quote {
            provider: address("provider", &q.provider)?,
            provider_key: address("provider_key", &q.provider_key)?,
            renter: address("renter", &q.renter)?,
            renter_key: address("renter_key", &q.renter_key)?,
            token: address("token", &q.token)?,
            rate: rate("rate", &q.rate)?,
            min_deposit: amount("min_deposit", &q.min_deposit)?,
            max_seconds: q.max_seconds,
            window: q.window,
            expiry: q.expiry,
            arbiter: address("arbiter", &q.arbiter)?,
            device: DeviceId(hash("device", &q.device)?),
            spec: hash("spec", &q.spec)?,
        },
    };
    if quote.quote.spec != keccak256(&message.terms) {
        return Err(invalid("spec", "is not the hash of the terms"));
    }
    if !quote.is_authentic() {
        return Err(invalid("signature", "not by the quote's provider key"));
    }
    Ok((quote, terms))
}

/// The bytes of terms, whose hash goes into the quote.
pub fn terms_to_bytes(terms: &Terms) -> Vec<u8> {
    encode(&proto::Terms {
        network: terms.network.clone(),
        provider_peer: terms.provider_peer.to_bytes(),
        renter_peer: terms.renter_peer.to_bytes(),
        settlement: Some(settlement_to_proto(&terms.escrow)),
        token: Some(token_to_proto(&terms.token)),
        offer: terms.offer.clone(),
        slot: terms.slot.clone(),
        hardware: Some(hardware_to_proto(&terms.hardware)),
        increment_millis: terms.increment_millis,
        ready_seconds: terms.ready_seconds,
        frozen_seconds: terms.frozen_seconds,
        notice_seconds: terms.notice_seconds,
        workload: Some(workload_to_proto(&terms.workload)),
        continues: terms.continues.map_or_else(Vec::new, |id| id.0.to_vec()),
        salt: terms.salt.to_vec(),
    })
}

/// Reads terms.
pub fn terms_from_bytes(bytes: &[u8]) -> Result<Terms, WireError> {
    let message: proto::Terms = decode(bytes, MAX_MESSAGE_BYTES)?;
    let escrow = settlement(message.settlement)?;
    if !(1..=MAX_INCREMENT_MILLIS).contains(&message.increment_millis) {
        return Err(invalid("increment_millis", "must be 1 to 60,000"));
    }
    Ok(Terms {
        network: text("network", message.network)?,
        provider_peer: peer("provider_peer", &message.provider_peer)?,
        renter_peer: peer("renter_peer", &message.renter_peer)?,
        escrow,
        token: token(message.token, escrow.chain)?,
        offer: text("offer", message.offer)?,
        slot: text("slot", message.slot)?,
        hardware: hardware_from_proto(required("hardware", message.hardware)?)?,
        increment_millis: message.increment_millis,
        ready_seconds: message.ready_seconds,
        frozen_seconds: message.frozen_seconds,
        notice_seconds: message.notice_seconds,
        workload: workload_from_proto(message.workload)?,
        continues: optional_id("continues", &message.continues)?,
        salt: message.salt.try_into().map_err(|_| invalid("salt", "must be 16 bytes"))?,
    })
}

fn workload_to_proto(workload: &Workload) -> proto::Workload {
    proto::Workload {
        image: Some(match &workload.image {
            Image::HostUsr => proto::workload::Image::HostUsr(proto::HostUsr {}),
            Image::Oci(reference) => proto::workload::Image::Oci(reference.clone()),
        }),
        network: match workload.network {
            NetworkAccess::None => proto::NetworkAccess::None,
            NetworkAccess::Egress => proto::NetworkAccess::Egress,
        }
        .into(),
    }
}

fn workload_from_proto(message: Option<proto::Workload>) -> Result<Workload, WireError> {
    let message = required("workload", message)?;
    Ok(Workload {
        image: match required("workload.image", message.image)? {
            proto::workload::Image::HostUsr(_) => Image::HostUsr,
            proto::workload::Image::Oci(reference) => Image::Oci(text("workload.oci", reference)?),
        },
        network: match proto::NetworkAccess::try_from(message.network) {
            Ok(proto::NetworkAccess::None) => NetworkAccess::None,
            Ok(proto::NetworkAccess::Egress) => NetworkAccess::Egress,
            Err(_) => return Err(invalid("workload.network", "unknown kind of access")),
        },
    })
}

/// Reads a rental id.
pub fn id_from_proto(bytes: &[u8]) -> Result<RentalId, WireError> {
    hash("id", bytes).map(RentalId)
}

fn optional_id(field: &'static str, bytes: &[u8]) -> Result<Option<RentalId>, WireError> {
    if bytes.is_empty() { Ok(None) } else { hash(field, bytes).map(|id| Some(RentalId(id))) }
}

/// Reads a peer id.
pub fn peer_from_proto(bytes: &[u8]) -> Result<PeerId, WireError> {
    peer("peer", bytes)
}

/// Writes a provider's start of the meter.
pub fn ready_to_proto(id: RentalId, at: UnixMillis, signature: &Signature) -> proto::Ready {
    proto::Ready { id: id.0.to_vec(), at: at.0, signature: signature.as_bytes().to_vec() }
}

/// Reads a start of the meter that `provider_key` must have signed for rental `id`.
pub fn ready_from_proto(
    message: &proto::Ready,
    id: RentalId,
    provider_key: Address,
    escrow: &Escrow,
) -> Result<(UnixMillis, Signature), WireError> {
    if id_from_proto(&message.id)? != id {
        return Err(invalid("ready.id", "another rental's"));
    }
    let statement = signed::Ready { id: id.0, at: message.at };
    let signature = signed_by(provider_key, escrow.digest(&statement), &message.signature)?;
    Ok((UnixMillis(message.at), signature))
}

/// Writes a voucher.
pub fn voucher_to_proto(voucher: &SignedVoucher) -> proto::Voucher {
    proto::Voucher {
        id: voucher.id.0.to_vec(),
        cumulative: voucher.cumulative.to_string(),
        signature: voucher.signature.as_bytes().to_vec(),
    }
}

/// Reads a voucher; whether the session key signed it is for whoever knows the rental to check.
pub fn voucher_from_proto(message: &proto::Voucher) -> Result<SignedVoucher, WireError> {
    Ok(SignedVoucher {
        id: id_from_proto(&message.id)?,
        cumulative: amount("cumulative", &message.cumulative)?,
        signature: signature("signature", &message.signature)?,
    })
}

/// Writes a release.
pub fn final_to_proto(release: &SignedRelease) -> proto::Final {
    proto::Final {
        id: release.id.0.to_vec(),
        cumulative: release.cumulative.to_string(),
        signature: release.signature.as_bytes().to_vec(),
        notice: None,
    }
}

/// Reads a release that `provider_key` must have signed at `escrow`.
pub fn final_from_proto(
    message: &proto::Final,
    provider_key: Address,
    escrow: &Escrow,
) -> Result<SignedRelease, WireError> {
    let release = SignedRelease {
        id: id_from_proto(&message.id)?,
        cumulative: amount("cumulative", &message.cumulative)?,
        signature: signature("signature", &message.signature)?,
    };
    if release.is_signed_by(provider_key, escrow) {
        Ok(release)
    } else {
        Err(invalid("signature", format!("not by {provider_key}")))
    }
}

/// The codes in the order of their numbers in `proto/`.
const CODES: &[(proto::RefusalCode, RefusalCode)] = &[
    (proto::RefusalCode::NoSuchSlot, RefusalCode::NoSuchSlot),
    (proto::RefusalCode::BusyUntil, RefusalCode::BusyUntil),
    (proto::RefusalCode::Price, RefusalCode::Price),
    (proto::RefusalCode::Duration, RefusalCode::Duration),
    (proto::RefusalCode::Image, RefusalCode::Image),
    (proto::RefusalCode::Region, RefusalCode::Region),
    (proto::RefusalCode::Funds, RefusalCode::Funds),
    (proto::RefusalCode::UnsupportedBinary, RefusalCode::UnsupportedBinary),
    (proto::RefusalCode::BadRequest, RefusalCode::BadRequest),
    (proto::RefusalCode::HoldInUse, RefusalCode::HoldInUse),
    (proto::RefusalCode::Settlement, RefusalCode::Settlement),
    (proto::RefusalCode::NoSuchRental, RefusalCode::NoSuchRental),
    (proto::RefusalCode::WrongState, RefusalCode::WrongState),
    (proto::RefusalCode::Draining, RefusalCode::Draining),
    (proto::RefusalCode::RateLimited, RefusalCode::RateLimited),
    (proto::RefusalCode::Internal, RefusalCode::Internal),
    (proto::RefusalCode::NotOpen, RefusalCode::NotOpen),
    (proto::RefusalCode::Renter, RefusalCode::Renter),
    (proto::RefusalCode::NoSuchProcess, RefusalCode::NoSuchProcess),
    (proto::RefusalCode::NotConnected, RefusalCode::NotConnected),
    (proto::RefusalCode::Expired, RefusalCode::Expired),
    (proto::RefusalCode::Unshared, RefusalCode::Unshared),
];

/// Writes a refusal; an over-long detail is cut.
pub fn refusal_to_proto(refusal: &Refusal) -> proto::Refusal {
    let code =
        CODES.iter().find(|(_, code)| *code == refusal.code).map_or(proto::RefusalCode::Internal, |(wire, _)| *wire);
    let end = refusal.detail.floor_char_boundary(MAX_DETAIL_BYTES);
    proto::Refusal { code: code.into(), detail: refusal.detail[..end].to_owned(), retry_millis: refusal.retry_millis }
}

/// Reads a refusal. A code of a newer version becomes [`RefusalCode::Internal`].
pub fn refusal_from_proto(message: proto::Refusal) -> Refusal {
    let code =
        CODES.iter().find(|(wire, _)| *wire as i32 == message.code).map_or(RefusalCode::Internal, |(_, code)| *code);
    Refusal { code, detail: shown(&message.detail), retry_millis: message.retry_millis }
}

/// A stranger's words as people may see them: at most [`MAX_DETAIL_BYTES`] of them, with blanks for control characters, which a terminal
/// would obey.
pub fn shown(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_DETAIL_BYTES);
    text[..end].chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
