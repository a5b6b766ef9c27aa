//! Who may open sessions of a rental: what its session key gives to a peer and takes back, and how people carry that to each other, to and
//! from their messages.

use crate::{
    MAX_MESSAGE_BYTES, WireError,
    convert::{invalid, peer, required, text},
    decode, encode, proto,
    rental::{id_from_proto, signed_by},
};
use alloy_primitives::{Address, B256, Signature};
use market::{
    id::{PeerId, RentalId},
    signed::{self, Escrow},
    time::UnixMillis,
};

/// Lets one peer open sessions of one rental.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Which rental.
    pub id: RentalId,
    /// 0 for the renter's own peer; of those given to another each has a higher one.
    pub serial: u64,
    /// When it is over, in Unix seconds.
    pub expires: u64,
}

impl Grant {
    /// What the session key signs for this pair of peers.
    pub fn digest(&self, provider: &PeerId, guest: &PeerId, escrow: &Escrow) -> B256 {
        escrow.digest(&signed::SessionGrant {
            id: self.id.0,
            providerPeer: provider.to_bytes().into(),
            guestPeer: guest.to_bytes().into(),
            serial: self.serial,
            expires: self.expires,
        })
    }

    /// When it is over.
    pub const fn end(&self) -> UnixMillis {
        UnixMillis(self.expires.saturating_mul(1_000))
    }
}

/// Writes a session grant.
pub fn grant_to_proto(grant: &Grant, signature: &Signature) -> proto::SessionGrant {
    proto::SessionGrant {
        id: grant.id.0.to_vec(),
        serial: grant.serial,
        expires: grant.expires,
        signature: signature.as_bytes().to_vec(),
    }
}

/// Reads a session grant that `renter_key` must have signed for this pair of peers. Whether it is over is for the reader's clock to say.
pub fn grant_from_proto(
    message: &proto::SessionGrant,
    provider: &PeerId,
    guest: &PeerId,
    renter_key: Address,
    escrow: &Escrow,
) -> Result<Grant, WireError> {
    let grant = Grant { id: id_from_proto(&message.id)?, serial: message.serial, expires: message.expires };
    signed_by(renter_key, grant.digest(provider, guest, escrow), &message.signature)?;
    Ok(grant)
}

/// Takes back the grants that a peer was given, up to and with a serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unshare {
    /// Which rental.
    pub id: RentalId,
    /// Whose.
    pub guest: PeerId,
    /// The highest serial that was given to it.
    pub serial: u64,
}

impl Unshare {
    /// What the session key signs for this provider.
    pub fn digest(&self, provider: &PeerId, escrow: &Escrow) -> B256 {
        escrow.digest(&signed::Unshare {
            id: self.id.0,
            providerPeer: provider.to_bytes().into(),
            guestPeer: self.guest.to_bytes().into(),
            serial: self.serial,
        })
    }
}

/// Writes that grants are taken back.
pub fn unshare_to_proto(unshare: &Unshare, signature: &Signature) -> proto::UnshareRequest {
    proto::UnshareRequest {
        id: unshare.id.0.to_vec(),
        guest_peer: unshare.guest.to_bytes(),
        serial: unshare.serial,
        signature: signature.as_bytes().to_vec(),
    }
}

/// Reads that grants are taken back, which `renter_key` must have signed for this provider.
pub fn unshare_from_proto(
    message: &proto::UnshareRequest,
    provider: &PeerId,
    renter_key: Address,
    escrow: &Escrow,
) -> Result<Unshare, WireError> {
    let guest = peer("guest_peer", &message.guest_peer)?;
    let unshare = Unshare { id: id_from_proto(&message.id)?, guest, serial: message.serial };
    signed_by(renter_key, unshare.digest(provider, escrow), &message.signature)?;
    Ok(unshare)
}

/// A grant on its way to the one it is for.
#[derive(Clone, Debug, PartialEq)]
pub struct ShareToken {
    /// The network's name.
    pub network: String,
    /// Where the rental is.
    pub provider: PeerId,
    /// Whom the grant is for.
    pub guest: PeerId,
    /// The rental.
    pub id: RentalId,
    /// The grant, whose signature only the provider can check: it has the quote.
    pub grant: proto::SessionGrant,
}

impl ShareToken {
    /// When it is over.
    pub const fn end(&self) -> UnixMillis {
        UnixMillis(self.grant.expires.saturating_mul(1_000))
    }
}

/// Writes a grant with what its receiver needs.
pub fn share_token_to_bytes(token: &ShareToken) -> Vec<u8> {
    encode(&proto::ShareToken {
        network: token.network.clone(),
        provider_peer: token.provider.to_bytes(),
        guest_peer: token.guest.to_bytes(),
        grant: Some(token.grant.clone()),
    })
}

/// Reads a grant with what its receiver needs.
pub fn share_token_from_bytes(bytes: &[u8]) -> Result<ShareToken, WireError> {
    let message: proto::ShareToken = decode(bytes, MAX_MESSAGE_BYTES)?;
    let grant = required("grant", message.grant)?;
    if grant.signature.len() != SIGNATURE_BYTES {
        return Err(invalid("grant.signature", "not a signature of 65 bytes"));
    }
    Ok(ShareToken {
        network: text("network", message.network)?,
        provider: peer("provider_peer", &message.provider_peer)?,
        guest: peer("guest_peer", &message.guest_peer)?,
        id: id_from_proto(&grant.id)?,
        grant,
    })
}

/// Of a secp256k1 signature with its recovery number.
const SIGNATURE_BYTES: usize = 65;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::peer as numbered;
    use alloy_primitives::U256;
    use market::signed::signer_of;

    const ESCROW: Escrow = Escrow { chain: 31_337, address: Address::repeat_byte(9) };
    const UNTIL: u64 = 2_000;

    /// Some signature that is good for a digest, and the key that it is of: almost any is, for some key.
    fn signed(digest: B256) -> (Signature, Address) {
        let tried = (1..).map(|r| Signature::new(U256::from(r), U256::from(7), false));
        tried.map(|signature| (signature, signer_of(&digest, &signature))).find_map(|(s, key)| Some((s, key?))).unwrap()
    }

    fn id() -> RentalId {
        RentalId(B256::repeat_byte(7))
    }

    #[test]
    fn a_grant_is_of_one_key_for_one_pair_of_peers_and_not_a_field_of_it_can_be_changed() {
        let (provider, guest, stranger) = (numbered(1), numbered(2), numbered(3));
        let grant = Grant { id: id(), serial: 3, expires: UNTIL };
        let (signature, key) = signed(grant.digest(&provider, &guest, &ESCROW));
        let given = grant_to_proto(&grant, &signature);
        let read = |message: &proto::SessionGrant, provider: &PeerId, guest: &PeerId| {
            grant_from_proto(message, provider, guest, key, &ESCROW).ok()
        };
        assert_eq!(read(&given, &provider, &guest), Some(grant));
        assert_eq!(read(&given, &provider, &stranger), None, "shown by another peer");
        assert_eq!(read(&given, &stranger, &guest), None, "shown to another provider");
        let mut spelling = signature.as_bytes().to_vec();
        spelling[64] -= 27;
        let changed = [
            ("with its signature written in another way", proto::SessionGrant { signature: spelling, ..given.clone() }),
            ("for another rental", proto::SessionGrant { id: vec![8; 32], ..given.clone() }),
            ("made to last longer", proto::SessionGrant { expires: UNTIL + 1, ..given.clone() }),
            ("made the renter's own", proto::SessionGrant { serial: 0, ..given.clone() }),
            ("made a later one", proto::SessionGrant { serial: 4, ..given.clone() }),
            ("without a signature", proto::SessionGrant { signature: vec![0; 65], ..given.clone() }),
        ];
        for (what, message) in changed {
            assert_eq!(read(&message, &provider, &guest), None, "{what}");
        }
        let elsewhere = Escrow { chain: ESCROW.chain + 1, ..ESCROW };
        assert!(grant_from_proto(&given, &provider, &guest, key, &elsewhere).is_err(), "of another chain");
        assert!(grant_from_proto(&given, &provider, &guest, Address::ZERO, &ESCROW).is_err(), "of another key");
    }

    #[test]
    fn taking_back_is_signed_for_one_provider_one_rental_one_peer_and_one_serial() {
        let (provider, guest) = (numbered(1), numbered(2));
        let unshare = Unshare { id: id(), guest, serial: 3 };
        let (signature, key) = signed(unshare.digest(&provider, &ESCROW));
        let message = unshare_to_proto(&unshare, &signature);
        let read = |message: &proto::UnshareRequest, provider: &PeerId| {
            unshare_from_proto(message, provider, key, &ESCROW).ok()
        };
        assert_eq!(read(&message, &provider), Some(unshare));
        assert_eq!(read(&message, &guest), None, "at another provider");
        let changed = [
            proto::UnshareRequest { id: vec![8; 32], ..message.clone() },
            proto::UnshareRequest { guest_peer: provider.to_bytes(), ..message.clone() },
            proto::UnshareRequest { serial: 4, ..message.clone() },
        ];
        for message in changed {
            assert_eq!(read(&message, &provider), None, "{message:?}");
        }
    }

    #[test]
    fn what_people_carry_is_read_as_it_was_written_and_nothing_less_is_taken_for_it() {
        let grant = proto::SessionGrant { id: vec![7; 32], serial: 1, expires: UNTIL, signature: vec![5; 65] };
        let token = ShareToken {
            network: "devnet-00000001".into(),
            provider: numbered(1),
            guest: numbered(2),
            id: id(),
            grant,
        };
        let bytes = share_token_to_bytes(&token);
        assert_eq!(share_token_from_bytes(&bytes).as_ref(), Ok(&token));
        assert_eq!(token.end(), UnixMillis(UNTIL * 1_000));
        for cut in 0..bytes.len() {
            assert!(share_token_from_bytes(&bytes[..cut]).is_err(), "cut off at {cut}");
        }
    }
}
