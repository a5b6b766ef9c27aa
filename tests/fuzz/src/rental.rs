//! Negotiation and metering: the frames of `/gpulease/rental/1` from either side, and their checked conversion: quote requests, quotes
//! with their terms, vouchers, acks, releases, refusals, session grants with what takes them back
//! and what carries them.

use crate::{
    choice,
    discovery::{messages, stable},
    identity::{ESCROW, address, provider_peer, renter_peer, sign},
    memory::bounded,
};
use alloy_primitives::keccak256;
use market::{
    quote::SignedQuote,
    refusal::Refusal,
    signed::{AckStatement, SignedAck},
    terms::Terms,
};
use wire::{
    AskedBy, Grant, MAX_DETAIL_BYTES, MAX_MESSAGE_BYTES, QuoteAsk, Unshare, ack_from_proto, decode, encode,
    final_from_proto, grant_from_proto, proto, quote_from_proto, quote_to_proto, ready_from_proto, refusal_from_proto,
    refusal_to_proto, share_token_from_bytes, share_token_to_bytes, terms_from_bytes, terms_to_bytes,
    unshare_from_proto, voucher_from_proto, voucher_to_proto,
};

/// The first byte says what the rest is: a renter's stream, a provider's stream, or the inner bytes that are signed, which are then
/// signed here, since no engine guesses signatures.
pub(crate) fn run(data: &[u8]) {
    match choice(data, 7) {
        Some((0, stream)) => {
            stable::<proto::RentalRequest>(stream, MAX_MESSAGE_BYTES);
            messages(stream, MAX_MESSAGE_BYTES, request);
        }
        Some((1, stream)) => {
            stable::<proto::RentalResponse>(stream, MAX_MESSAGE_BYTES);
            messages(stream, MAX_MESSAGE_BYTES, response);
        }
        Some((2, body)) => signed_request(body),
        Some((3, bytes)) => terms(bytes),
        Some((4, reply)) => signed_quote(reply),
        Some((5, grant)) => session_grant(grant),
        Some((_, token)) => share_token(token),
        None => {}
    }
}

fn request(message: &proto::RentalRequest) {
    use proto::rental_request::Request;
    match &message.request {
        Some(Request::Quote(quote)) => {
            if let Ok((ask, _)) = QuoteAsk::from_proto(quote, &renter_peer(), &provider_peer()) {
                examine_ask(&ask);
            }
        }
        Some(Request::Status(status)) => drop(wire::id_from_proto(&status.id)),
        Some(Request::Voucher(message)) => voucher(message),
        Some(Request::Finish(finish)) => finish.voucher.iter().for_each(voucher),
        Some(Request::Mandate(message)) => mandate(message),
        Some(Request::Carry(message)) => carry(message),
        Some(Request::Unshare(message)) => unshare(message),
        None => {}
    }
}

fn response(message: &proto::RentalResponse) {
    use proto::rental_response::Response;
    match message.response.clone() {
        Some(Response::Refusal(message)) => refusal(message),
        Some(Response::Mandated(message)) => drop(wire::id_from_proto(&message.id)),
        Some(Response::Carried(message)) => drop(wire::id_from_proto(&message.id)),
        Some(Response::Unshared(message)) => drop(wire::id_from_proto(&message.id)),
        Some(Response::Quote(reply)) => quote(reply),
        Some(Response::Status(status)) => {
            status.latest.iter().for_each(ack);
            status.fault.into_iter().for_each(refusal);
            if let Some(ready) = status.ready {
                let Ok(id) = wire::id_from_proto(&ready.id) else { return };
                let signed = market::signed::Ready { id: id.0, at: ready.at };
                let signature = sign(&ESCROW.digest(&signed));
                let (at, _) = ready_from_proto(
                    &wire::ready_to_proto(id, market::time::UnixMillis(ready.at), &signature),
                    id,
                    address(),
                    &ESCROW,
                )
                .expect("signed by the provider");
                assert_eq!(at.0, ready.at);
            }
        }
        Some(Response::Ack(message)) => ack(&message),
        Some(Response::Final(message)) => release(&message),
        None => {}
    }
}

fn voucher(message: &proto::Voucher) {
    let Ok(voucher) = voucher_from_proto(message) else { return };
    assert_eq!(voucher_from_proto(&voucher_to_proto(&voucher)), Ok(voucher));
    assert_eq!(voucher_to_proto(&voucher).cumulative, message.cumulative, "equal amounts are equal text");
    let _ = voucher.is_signed_by(address(), &ESCROW);
}

/// An ack as it came, and the same statement with a good signature.
fn ack(message: &proto::Ack) {
    let _ = ack_from_proto(message, address(), &ESCROW);
    if let Some(message) = &message.notice {
        notice(message);
    }
    let metrics = keccak256(&message.usage).to_vec();
    let unsigned = proto::Ack { metrics, signature: vec![0; 65], ..message.clone() };
    let (Ok(id), Ok(cumulative)) = (wire::id_from_proto(&message.id), message.cumulative.parse::<u128>()) else {
        return;
    };
    let Some(cumulative) = market::money::Amount::new(cumulative) else { return };
    let statement = AckStatement {
        id,
        seq: message.seq,
        cumulative,
        served_millis: message.served_millis,
        frozen_millis: message.frozen_millis,
        metrics: keccak256(&message.usage),
    };
    assert!(ack_from_proto(&unsigned, address(), &ESCROW).is_err(), "an unsigned ack is believed");
    let signature = sign(&ESCROW.digest(&statement.statement()));
    let signed = SignedAck { statement, usage: message.usage.clone().into(), signature };
    let sent = wire::ack_to_proto(&signed, proto::Phase::Serving);
    assert_eq!(ack_from_proto(&sent, address(), &ESCROW), Ok(signed));
    let _ = decode::<proto::Usage>(&message.usage, MAX_MESSAGE_BYTES);
}

fn notice(message: &proto::PreemptNotice) {
    if let Ok(notice) = wire::notice_from_proto(message, address(), &ESCROW) {
        assert_eq!(wire::notice_from_proto(&wire::notice_to_proto(&notice), address(), &ESCROW), Ok(notice));
    }
}

fn mandate(message: &proto::MandateRequest) {
    if let Ok((id, mandate)) = wire::mandate_from_proto(message) {
        assert_eq!(wire::mandate_from_proto(&wire::mandate_to_proto(id, &mandate)), Ok((id, mandate)));
    }
}

fn carry(message: &proto::CarryRequest) {
    if let Ok(ask) = wire::carry_from_proto(message) {
        assert_eq!(wire::carry_from_proto(&wire::carry_to_proto(&ask)), Ok(ask));
    }
}

fn release(message: &proto::Final) {
    if let Some(message) = &message.notice {
        notice(message);
    }
    if let Ok(release) = final_from_proto(message, address(), &ESCROW) {
        assert_eq!(final_from_proto(&wire::final_to_proto(&release), address(), &ESCROW), Ok(release));
    }
}

fn refusal(message: proto::Refusal) {
    let refusal: Refusal = refusal_from_proto(message);
    assert!(refusal.detail.len() <= MAX_DETAIL_BYTES, "{} bytes of detail", refusal.detail.len());
    assert!(!refusal.detail.contains(char::is_control));
    assert_eq!(refusal_from_proto(refusal_to_proto(&refusal)), refusal);
}

/// A request that its wallet has signed, whatever it says.
fn signed_request(body: &[u8]) {
    let Ok(message) = decode::<proto::QuoteRequestBody>(body, MAX_MESSAGE_BYTES) else { return };
    let mine = encode(&proto::QuoteRequestBody { wallet: address().to_vec(), ..message });
    // the digest needs a request that was read: read it with no signature first, by the same rules
    let (renter, provider) = (renter_peer(), provider_peer());
    let unsigned = proto::QuoteRequest { body: mine.clone(), signature: vec![0; 65] };
    let unsigned = QuoteAsk::from_proto(&unsigned, &renter, &provider);
    assert!(!matches!(unsigned, Ok((_, AskedBy::Key))), "an unsigned request is believed");
    let Some(digest) = digest_of(&mine) else { return };
    let signed = proto::QuoteRequest { body: mine, signature: sign(&digest).as_bytes().to_vec() };
    let read = bounded(body, |_| QuoteAsk::from_proto(&signed, &renter, &provider));
    if let Ok((ask, by)) = read {
        assert_eq!(by, AskedBy::Key);
        examine_ask(&ask);
        let elsewhere = QuoteAsk::from_proto(&signed, &provider, &renter);
        assert!(!matches!(elsewhere, Ok((_, AskedBy::Key))), "a request is good for another peer");
    }
}

/// What the wallet signs for a body, as the protocol says.
fn digest_of(body: &[u8]) -> Option<alloy_primitives::B256> {
    let message: proto::QuoteRequestBody = decode(body, MAX_MESSAGE_BYTES).ok()?;
    let settlement = message.settlement?;
    let escrow =
        market::signed::Escrow { chain: settlement.chain, address: settlement.escrow.as_slice().try_into().ok()? };
    Some(escrow.digest(&market::signed::QuoteRequest {
        renterPeer: renter_peer().to_bytes().into(),
        providerPeer: provider_peer().to_bytes().into(),
        wallet: address(),
        renterKey: message.renter_key.as_slice().try_into().ok()?,
        request: keccak256(body),
        at: message.at,
    }))
}

fn examine_ask(ask: &QuoteAsk) {
    let body = ask.to_body();
    let signature = sign(&ask.digest(&body, &renter_peer(), &provider_peer()));
    let message = proto::QuoteRequest { body, signature: signature.as_bytes().to_vec() };
    let again = QuoteAsk::from_proto(&message, &renter_peer(), &provider_peer());
    let (again, by) = again.expect("what was written is read");
    assert_eq!((&again, by == AskedBy::Key), (ask, ask.wallet == address()), "signed by another wallet");
    let _ = ask.rate.for_seconds(ask.max_seconds);
}

fn terms(bytes: &[u8]) {
    if let Ok(terms) = bounded(bytes, terms_from_bytes) {
        examine_terms(&terms);
    }
}

fn examine_terms(terms: &Terms) {
    assert_eq!(terms_from_bytes(&terms_to_bytes(terms)).as_ref(), Ok(terms));
    assert!((1..=market::terms::MAX_INCREMENT_MILLIS).contains(&terms.increment_millis));
    for text in [&terms.network, &terms.offer, &terms.slot, &terms.token.symbol] {
        assert!(text.len() <= wire::MAX_TEXT_BYTES && !text.contains(char::is_control));
    }
    let _ = terms.hardware.to_string();
}

fn quote(reply: proto::QuoteReply) {
    if let Ok((quote, terms)) = quote_from_proto(reply) {
        examine_quote(&quote, &terms);
    }
}

/// A quote whose provider signed it and the terms it came with, whatever they say.
fn signed_quote(reply: &[u8]) {
    let Ok(mut reply) = decode::<proto::QuoteReply>(reply, MAX_MESSAGE_BYTES) else { return };
    let Some(fields) = reply.quote.as_mut() else { return };
    fields.spec = keccak256(&reply.terms).to_vec();
    fields.provider_key = address().to_vec();
    reply.signature = vec![0; 65];
    // the digest of what the reply says, taken from the refusal's own reading of it
    let Some(digest) = quote_digest(fields) else { return };
    reply.signature = sign(&digest).as_bytes().to_vec();
    quote(reply);
}

fn quote_digest(fields: &proto::Quote) -> Option<alloy_primitives::B256> {
    let address = |bytes: &[u8]| alloy_primitives::Address::try_from(bytes).ok();
    let hash = |bytes: &[u8]| alloy_primitives::B256::try_from(bytes).ok();
    let amount = |text: &str| market::money::Amount::new(text.parse().ok()?);
    let settlement = fields.settlement.as_ref()?;
    let escrow = market::signed::Escrow { chain: settlement.chain, address: address(&settlement.escrow)? };
    Some(escrow.digest(&market::signed::Quote {
        provider: address(&fields.provider)?,
        providerKey: address(&fields.provider_key)?,
        renter: address(&fields.renter)?,
        renterKey: address(&fields.renter_key)?,
        token: address(&fields.token)?,
        rate: amount(&fields.rate)?.into(),
        minDeposit: amount(&fields.min_deposit)?.into(),
        maxSeconds: fields.max_seconds,
        window: fields.window,
        expiry: fields.expiry,
        arbiter: address(&fields.arbiter)?,
        device: hash(&fields.device)?,
        spec: hash(&fields.spec)?,
    }))
}

fn examine_quote(quote: &SignedQuote, terms: &Terms) {
    assert!(quote.is_authentic());
    examine_terms(terms);
    let bytes = terms_to_bytes(terms);
    // read again only if the terms were in our own encoding: their hash is part of what was signed
    if keccak256(&bytes) == quote.quote.spec {
        assert_eq!(quote_from_proto(quote_to_proto(quote, bytes)), Ok((quote.clone(), terms.clone())));
    }
    let _ = quote.quote.full_price();
}

fn session_grant(grant: &[u8]) {
    let Ok(message) = decode::<proto::SessionGrant>(grant, MAX_MESSAGE_BYTES) else { return };
    let (provider, guest) = (provider_peer(), renter_peer());
    let Ok(id) = wire::id_from_proto(&message.id) else { return };
    let grant = Grant { id, serial: message.serial, expires: message.expires };
    let signed = wire::grant_to_proto(&grant, &sign(&grant.digest(&provider, &guest, &ESCROW)));
    assert_eq!(grant_from_proto(&signed, &provider, &guest, address(), &ESCROW), Ok(grant));
    assert!(grant_from_proto(&signed, &guest, &provider, address(), &ESCROW).is_err());
    let forged = grant_from_proto(&message, &provider, &guest, address(), &ESCROW);
    assert!(forged.is_err() || message.signature == signed.signature);
}

/// Taking grants back, as it came, and the same with a good signature.
fn unshare(message: &proto::UnshareRequest) {
    let provider = provider_peer();
    let forged = unshare_from_proto(message, &provider, address(), &ESCROW);
    let (Ok(id), Ok(guest)) = (wire::id_from_proto(&message.id), wire::peer_from_proto(&message.guest_peer)) else {
        return assert!(forged.is_err());
    };
    let unshare = Unshare { id, guest, serial: message.serial };
    let signed = wire::unshare_to_proto(&unshare, &sign(&unshare.digest(&provider, &ESCROW)));
    assert_eq!(unshare_from_proto(&signed, &provider, address(), &ESCROW), Ok(unshare));
    assert!(forged.is_err() || message.signature == signed.signature);
}

fn share_token(bytes: &[u8]) {
    if let Ok(token) = bounded(bytes, share_token_from_bytes) {
        assert_eq!(share_token_from_bytes(&share_token_to_bytes(&token)).as_ref(), Ok(&token));
        assert!(token.network.len() <= wire::MAX_TEXT_BYTES && !token.network.contains(char::is_control));
    }
}
