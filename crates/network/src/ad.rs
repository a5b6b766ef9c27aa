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
    offer::{Binding, BindingFault, MAX_AD_LIFETIME, MAX_SKEW, ProviderAd},
    time::UnixMillis,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
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
pub struct CheckedAd {
    /// The envelope, byte for byte.
    pub raw: Arc<[u8]>,
    /// What it says.
    pub ad: ProviderAd,
}

/// Signs an advertisement and gives its envelope.
pub fn seal(key: &Keypair, ad: &ProviderAd) -> Result<Vec<u8>, libp2p::identity::SigningError> {
    let payload = wire::encode(&wire::ad_to_proto(ad));
    let envelope = SignedEnvelope::new(key, AD_DOMAIN.to_owned(), AD_PAYLOAD_TYPE.to_vec(), payload)?;
    Ok(envelope.into_protobuf_encoding())
}

/// Opens an advertisement's envelope and checks everything in it that does not depend on what is already known.
pub fn open(raw: &[u8], now: UnixMillis) -> Result<CheckedAd, AdFault> {
    open_with(raw, now, &Bindings::default())
}

/// [`open`], without checking the wallet's signature of a binding again that is among `bindings`.
pub fn open_with(raw: &[u8], now: UnixMillis, bindings: &Bindings) -> Result<CheckedAd, AdFault> {
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
    ad.binding.check_times(now)?;
    if !bindings.hold(&ad.peer, &ad.binding) {
        return Err(BindingFault::Signature.into());
    }
    Ok(CheckedAd { raw: raw.into(), ad })
}

/// The content of an envelope that was checked when it came in; nothing is checked again.
pub fn read(raw: &[u8]) -> Result<ProviderAd, AdFault> {
    /// Of the signed envelope's fields the one with the content.
    #[derive(prost::Message)]
    struct Envelope {
        #[prost(bytes = "vec", tag = "3")]
        payload: Vec<u8>,
    }
    let envelope: Envelope = wire::decode(raw, MAX_AD_BYTES)?;
    Ok(wire::ad_from_proto(wire::decode(&envelope.payload, MAX_AD_BYTES)?)?)
}

/// Whose advertisement an envelope claims to be, by the key in it. Nothing is checked.
pub(crate) fn claimed_peer(raw: &[u8]) -> Option<PeerId> {
    /// Of the signed envelope's fields the one with the key.
    #[derive(prost::Message)]
    struct Signed {
        #[prost(bytes = "vec", tag = "1")]
        public_key: Vec<u8>,
    }
    let Signed { public_key } = wire::decode(raw, MAX_AD_BYTES).ok()?;
    // an ed25519 key is so short that the peer's id is the key itself, behind the code of that "hash" and the length
    PeerId::from_bytes(&[&[0, u8::try_from(public_key.len()).ok()?], &public_key[..]].concat()).ok()
}

/// Reads an advertisement that this node has checked before and kept where nobody else writes. No signature is checked: that is most of
/// the work of [`open`], and an indexer that starts again has a hundred thousand to read.
pub fn open_kept(raw: Arc<[u8]>, now: UnixMillis) -> Result<CheckedAd, AdFault> {
    let ad = read(&raw)?;
    ad.binding.check_times(now)?;
    Ok(CheckedAd { raw, ad })
}

/// The most bindings that are remembered: one for each provider of the book, about 250 bytes each.
const MAX_BINDINGS: usize = market::book::MAX_PROVIDERS;

/// Bindings whose wallet's signature was checked. A provider's advertisement is renewed every few minutes with the same binding in it, and
/// recovering its signer costs more than all the rest.
#[derive(Debug, Default)]
pub struct Bindings(Mutex<HashMap<PeerId, Binding>>);

impl Bindings {
    /// Whether `binding` is signed for `peer`, from memory or else by checking.
    fn hold(&self, peer: &PeerId, binding: &Binding) -> bool {
        if self.known().get(peer) == Some(binding) {
            return true;
        }
        // checked without the lock, so that the pool's threads do not wait for each other
        let signed = binding.is_signed_for(peer);
        if signed {
            let mut known = self.known();
            if known.len() >= MAX_BINDINGS {
                // whoever floods us with peers of its own costs us some checks, not memory
                known.clear();
            }
            known.insert(*peer, binding.clone());
        }
        signed
    }

    fn known(&self) -> MutexGuard<'_, HashMap<PeerId, Binding>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is announced of an advertisement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Whose it is.
    pub peer: PeerId,
    /// Its sequence number.
    pub seq: u64,
    /// When it stops to count.
    pub expires: UnixMillis,
    /// Its [`body_hash`].
    pub body_hash: B256,
}

/// Why an announcement is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnnouncementFault {
    /// No honest peer would have sent it.
    Dishonest,
    /// It is over, or our clock differs too much.
    Untimely,
}

/// The hash by which an advertisement is announced.
pub fn body_hash(raw: &[u8]) -> B256 {
    keccak256(raw)
}

/// Signs the announcement of an advertisement on the topics of `classes`.
pub fn announce(
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
pub fn open_announcement(data: &[u8], class: GpuClass, now: UnixMillis) -> Result<Announced, AnnouncementFault> {
    use AnnouncementFault::{Dishonest, Untimely};
    let message: proto::Announcement = wire::decode(data, MAX_ANNOUNCEMENT_BYTES).map_err(|_| Dishonest)?;
    let body: proto::AnnouncementBody = wire::decode(&message.body, MAX_ANNOUNCEMENT_BYTES).map_err(|_| Dishonest)?;
    let key = PublicKey::try_decode_protobuf(&message.public_key).map_err(|_| Dishonest)?;
    // gossip knows a message by its bytes: if the same statement could be written in many ways, anybody could send it around for ever
    if wire::encode(&message) != data || key.encode_protobuf() != message.public_key {
        return Err(Dishonest);
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use alloy::signers::{SignerSync, local::PrivateKeySigner};

    const NOW: UnixMillis = UnixMillis(1_767_225_600_000);

    fn ad(key: &Keypair) -> ProviderAd {
        let (peer, wallet) = (key.public().to_peer_id(), PrivateKeySigner::random());
        let sign = |digest: &B256| wallet.sign_hash_sync(digest);
        let binding = Binding::issue(&peer, 1, wallet.address(), wallet.address(), NOW, sign).unwrap();
        ProviderAd { peer, seq: NOW.0, expires: NOW.plus(60_000), binding, region: "KR".into(), offers: Vec::new() }
    }

    #[test]
    fn an_announcement_can_be_written_in_one_way_only() {
        let key = Keypair::generate_ed25519();
        let ad = ad(&key);
        let raw = seal(&key, &ad).unwrap();
        let data = announce(&key, &ad, &raw, &[GpuClass::CPU]).unwrap();
        let open = |data: &[u8]| open_announcement(data, GpuClass::CPU, NOW);
        assert!(open(&data).is_ok());

        // a field that nobody knows, a field written twice, and another spelling of the key
        let unknown = [&data[..], &[0x7a, 0x01, 0x00]].concat();
        let mut message: proto::Announcement = wire::decode(&data, MAX_ANNOUNCEMENT_BYTES).unwrap();
        let twice =
            [&data[..], &wire::encode(&proto::Announcement { body: message.body.clone(), ..Default::default() })]
                .concat();
        message.public_key.extend([0x7a, 0x01, 0x00]);
        for spelling in [unknown, twice, wire::encode(&message)] {
            assert_eq!(open(&spelling), Err(AnnouncementFault::Dishonest));
        }
    }

    #[test]
    fn an_envelope_says_whose_it_claims_to_be() {
        let key = Keypair::generate_ed25519();
        let raw = seal(&key, &ad(&key)).unwrap();
        assert_eq!(claimed_peer(&raw), Some(key.public().to_peer_id()));
        assert_eq!(claimed_peer(b"no envelope"), None);
    }

    #[test]
    fn what_was_kept_says_the_same_without_its_signatures_being_checked() {
        let key = Keypair::generate_ed25519();
        let honest = ad(&key);
        let mut raw = seal(&key, &honest).unwrap();
        assert_eq!(open_kept(raw.as_slice().into(), NOW).unwrap().ad, open(&raw, NOW).unwrap().ad);
        // the signature stands last
        *raw.last_mut().unwrap() ^= 1;
        assert_eq!(open(&raw, NOW).unwrap_err(), AdFault::Envelope);
        assert_eq!(open_kept(raw.as_slice().into(), NOW).unwrap().ad, honest);
        assert!(open_kept(raw[..raw.len() / 2].into(), NOW).is_err());
        let later = UnixMillis(honest.binding.expires * 1_000);
        assert_eq!(open_kept(raw.into(), later).unwrap_err(), AdFault::Binding(BindingFault::NotInForce));
    }

    #[test]
    fn a_binding_that_was_checked_does_not_vouch_for_another() {
        let (key, bindings) = (Keypair::generate_ed25519(), Bindings::default());
        let honest = ad(&key);
        let sealed = seal(&key, &honest).unwrap();
        assert!(open_with(&sealed, NOW, &bindings).is_ok());
        assert_eq!(read(&sealed).unwrap(), honest, "what was checked is read again as it was");
        assert!(open_with(&seal(&key, &honest).unwrap(), NOW, &bindings).is_ok());

        let mut forged = honest.clone();
        forged.binding.provider_key = alloy_primitives::Address::repeat_byte(1);
        let refused = open_with(&seal(&key, &forged).unwrap(), NOW, &bindings);
        assert_eq!(refused.unwrap_err(), AdFault::Binding(BindingFault::Signature));

        let other = Keypair::generate_ed25519();
        let stolen = ProviderAd { peer: other.public().to_peer_id(), ..honest.clone() };
        let refused = open_with(&seal(&other, &stolen).unwrap(), NOW, &bindings);
        assert_eq!(refused.unwrap_err(), AdFault::Binding(BindingFault::Signature));

        let later = UnixMillis(honest.binding.expires * 1_000);
        let refused = open_with(&seal(&key, &honest).unwrap(), later, &bindings);
        assert_eq!(refused.unwrap_err(), AdFault::Binding(BindingFault::NotInForce));
    }
}
