//! Signing and checking what travels in public: advertisements in their envelopes, and the announcements that are gossiped for them.
//! Pure functions of bytes, keys and the time; everything a stranger may have made up is refused here, with the reason.

use alloy_primitives::{B256, keccak256};
use libp2p::{
    PeerId,
    core::{SignedEnvelope, signed_envelope::ReadPayloadError},
    identity::{Keypair, PublicKey},
};
use market::{
    class::GpuClass,
    offer::{BindingFault, MAX_AD_LIFETIME, MAX_SKEW, ProviderAd},
    time::UnixMillis,
};
use std::sync::Arc;
use wire::{MAX_AD_BYTES, MAX_ANNOUNCEMENT_BYTES, WireError, proto};

/// The domain in which advertisements are signed, so that no other signature of the key can stand for one.
const AD_DOMAIN: &str = "gpulease-ad-v1";
/// The envelope's payload type.
const AD_PAYLOAD_TYPE: &[u8] = b"/gpulease/ad/1";
/// What precedes the body where an announcement is signed, for the same reason.
const ANNOUNCEMENT_DOMAIN: &[u8] = b"gpulease-announcement-v1";

/// What is wrong with an advertisement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdFault {
    /// Larger than advertisements may be.
    #[error("{0} bytes, at most {MAX_AD_BYTES} are allowed")]
    Oversize(usize),
    /// No signed envelope, or one with a wrong signature or for another purpose.
    #[error("the envelope is not a validly signed advertisement")]
    Envelope,
    /// Signed by another peer than the one it speaks for.
    #[error("signed by another peer than the one it names")]
    WrongKey,
    /// An answer about a peer that was not asked about.
    #[error("not asked for")]
    Unasked,
    /// Not what was announced.
    #[error("differs from what was announced")]
    WrongHash,
    /// The content cannot be read.
    #[error(transparent)]
    Content(#[from] WireError),
    /// The wallet's statement does not hold.
    #[error(transparent)]
    Binding(#[from] BindingFault),
}

/// An advertisement whose every signature was checked.
#[derive(Clone, Debug)]
pub(crate) struct CheckedAd {
    pub(crate) raw: Arc<[u8]>,
    pub(crate) ad: ProviderAd,
}

/// Signs an advertisement and gives its envelope.
pub(crate) fn seal(key: &Keypair, ad: &ProviderAd) -> Result<Vec<u8>, libp2p::identity::SigningError> {
    let payload = wire::encode(&wire::ad_to_proto(ad));
    let envelope = SignedEnvelope::new(key, AD_DOMAIN.to_owned(), AD_PAYLOAD_TYPE.to_vec(), payload)?;
    Ok(envelope.into_protobuf_encoding())
}

/// Opens an advertisement's envelope and checks everything in it that does not depend on what is already known.
pub(crate) fn open(raw: &[u8], now: UnixMillis) -> Result<CheckedAd, AdFault> {
    if raw.len() > MAX_AD_BYTES {
        return Err(AdFault::Oversize(raw.len()));
    }
    let envelope = SignedEnvelope::from_protobuf_encoding(raw).map_err(|_| AdFault::Envelope)?;
    let (payload, key) = envelope
        .payload_and_signing_key(AD_DOMAIN.to_owned(), AD_PAYLOAD_TYPE)
        .map_err(|_: ReadPayloadError| AdFault::Envelope)?;
    let signer = key.to_peer_id();
    let ad = wire::ad_from_proto(wire::decode(payload, MAX_AD_BYTES)?)?;
    if ad.peer != signer {
        return Err(AdFault::WrongKey);
    }
    ad.binding.check(&ad.peer, now)?;
    Ok(CheckedAd { raw: raw.into(), ad })
}

/// What is announced of an advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    pub(crate) peer: PeerId,
    pub(crate) seq: u64,
    pub(crate) expires: UnixMillis,
    pub(crate) body_hash: B256,
}

/// Why an announcement is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AnnouncementFault {
    /// No honest peer would have sent it.
    Dishonest,
    /// It is over, or our clock differs too much.
    Untimely,
}

/// The hash by which an advertisement is announced.
pub(crate) fn body_hash(raw: &[u8]) -> B256 {
    keccak256(raw)
}

/// Signs the announcement of an advertisement on the topics of `classes`.
pub(crate) fn announce(
    key: &Keypair,
    ad: &ProviderAd,
    raw: &[u8],
    classes: &[GpuClass],
) -> Result<Vec<u8>, libp2p::identity::SigningError> {
    let body = wire::encode(&proto::AnnouncementBody {
        peer: ad.peer.to_bytes(),
        seq: ad.seq,
        expires: ad.expires.0,
        body_hash: body_hash(raw).to_vec(),
        classes: classes.iter().map(|class| class.name().to_owned()).collect(),
    });
    let signature = key.sign(&[ANNOUNCEMENT_DOMAIN, &body].concat())?;
    Ok(wire::encode(&proto::Announcement { body, signature, public_key: key.public().encode_protobuf() }))
}

/// Checks an announcement that came in on the topic of `class`.
pub(crate) fn open_announcement(data: &[u8], class: GpuClass, now: UnixMillis) -> Result<Announced, AnnouncementFault> {
    use AnnouncementFault::{Dishonest, Untimely};
    let message: proto::Announcement = wire::decode(data, MAX_ANNOUNCEMENT_BYTES).map_err(|_| Dishonest)?;
    let body: proto::AnnouncementBody = wire::decode(&message.body, MAX_ANNOUNCEMENT_BYTES).map_err(|_| Dishonest)?;
    let key = PublicKey::try_decode_protobuf(&message.public_key).map_err(|_| Dishonest)?;
    let peer = PeerId::from_bytes(&body.peer).map_err(|_| Dishonest)?;
    let body_hash = B256::try_from(body.body_hash.as_slice()).map_err(|_| Dishonest)?;
    if key.to_peer_id() != peer || !body.classes.iter().any(|name| name == class.name()) {
        return Err(Dishonest);
    }
    if !key.verify(&[ANNOUNCEMENT_DOMAIN, &message.body].concat(), &message.signature) {
        return Err(Dishonest);
    }
    if body.expires.saturating_sub(body.seq) > MAX_AD_LIFETIME {
        return Err(Dishonest);
    }
    let expires = UnixMillis(body.expires);
    if expires <= now || body.seq > now.plus(MAX_SKEW).0 {
        return Err(Untimely);
    }
    Ok(Announced { peer, seq: body.seq, expires, body_hash })
}
