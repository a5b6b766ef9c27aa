//! Rentals that are shared: the grants that this node gave to others, and those that others gave to it, with the text by which people carry
//! a grant to each other.

use api::types::{ApiError, ErrorKind};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use market::{
    id::{PeerId, RentalId},
    time::UnixMillis,
};
use serde::{Deserialize, Serialize};
use wire::{ShareToken, proto, share_token_from_bytes, share_token_to_bytes};

/// Peers that one rental is shared with, those included from whom it was taken back: more than a group that works in one sandbox.
pub(crate) const MAX_SHARES: usize = 64;
/// Rentals of others that this node was let into: more than a person works in.
pub(crate) const MAX_ACCEPTED: usize = 256;
/// What such a text begins with.
const BEGINNING: &str = "gpulease-share-";

/// What one peer was given of a rental.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Given {
    /// Whom.
    #[serde(with = "market::id::peer_text")]
    pub(crate) guest: PeerId,
    /// The serial of the newest grant: taken back, all before it are too.
    pub(crate) serial: u64,
    /// When that is over, in Unix seconds.
    pub(crate) expires: u64,
    /// Whether the provider has it that it is taken back.
    pub(crate) taken_back: bool,
}

/// Notes that a peer is given a grant, and says its serial; none where no more peers can be.
pub(crate) fn give(all: &mut Vec<Given>, guest: PeerId, expires: u64) -> Option<u64> {
    let serial = 1 + all.iter().map(|given| given.serial).max().unwrap_or_default();
    let given = Given { guest, serial, expires, taken_back: false };
    let full = all.len() >= MAX_SHARES;
    match all.iter_mut().find(|given| given.guest == guest) {
        Some(before) => *before = given,
        None if full => return None,
        None => all.push(given),
    }
    Some(serial)
}

/// A grant that another renter gave to this node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// The rental's provider.
    #[serde(with = "market::id::peer_text")]
    pub(crate) provider: PeerId,
    serial: u64,
    expires: u64,
    signature: Vec<u8>,
}

impl Taken {
    /// When it is over.
    pub(crate) const fn end(&self) -> UnixMillis {
        UnixMillis(self.expires.saturating_mul(1_000))
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self, now: UnixMillis) -> bool {
        self.end() <= now
    }

    /// As it is shown to the provider.
    pub(crate) fn grant(&self, id: RentalId) -> proto::SessionGrant {
        let Self { serial, expires, signature, .. } = self.clone();
        proto::SessionGrant { id: id.0.to_vec(), serial, expires, signature }
    }
}

impl From<&ShareToken> for Taken {
    fn from(token: &ShareToken) -> Self {
        let proto::SessionGrant { serial, expires, signature, .. } = token.grant.clone();
        Self { provider: token.provider, serial, expires, signature }
    }
}

/// The text that carries a grant.
pub(crate) fn to_text(token: &ShareToken) -> String {
    format!("{BEGINNING}{}", BASE64_URL_SAFE_NO_PAD.encode(share_token_to_bytes(token)))
}

/// Reads such a text as this node can use it.
pub(crate) fn from_text(text: &str, here: &PeerId, network: &str, now: UnixMillis) -> Result<ShareToken, ApiError> {
    // as it comes out of a message, broken into lines
    let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let decoded = text.strip_prefix(BEGINNING).and_then(|rest| BASE64_URL_SAFE_NO_PAD.decode(rest).ok());
    let token = decoded.and_then(|bytes| share_token_from_bytes(&bytes).ok()).ok_or_else(|| {
        let next = format!("copy all of what `node share` printed: it begins with {BEGINNING}");
        ApiError::new(ErrorKind::Usage, "this does not let anybody into a rental", next)
    })?;
    let refused = |message: String, next: String| Err(ApiError::new(ErrorKind::Refused, message, next));
    if token.guest != *here {
        let next = format!("have the rental shared with this node: node share {} --to {here}", token.id.short());
        return refused(format!("this lets in the node {}, and this one is {here}", token.guest), next);
    }
    if token.network != network {
        let next = "use a node of that network".to_owned();
        return refused(format!("the rental is in the network {}, and this node is in {network}", token.network), next);
    }
    if token.end() <= now {
        let next = format!("have it shared again: node share {} --to {here}", token.id.short());
        return refused(format!("what this gave was over at {}", token.end()), next);
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use network::identity::Keypair;

    fn peer() -> PeerId {
        Keypair::generate_ed25519().public().to_peer_id()
    }

    fn token(guest: PeerId) -> ShareToken {
        let id = RentalId(B256::repeat_byte(7));
        let grant = proto::SessionGrant { id: id.0.to_vec(), serial: 2, expires: 1_000, signature: vec![5; 65] };
        ShareToken { network: "main".into(), provider: peer(), guest, id, grant }
    }

    #[test]
    fn each_grant_has_a_higher_serial_than_any_before_and_a_peer_stands_once() {
        let (anna, ben) = (peer(), peer());
        let mut all = Vec::new();
        assert_eq!(give(&mut all, anna, 10), Some(1));
        assert_eq!(give(&mut all, ben, 10), Some(2));
        all[0].taken_back = true;
        assert_eq!(give(&mut all, anna, 20), Some(3));
        assert_eq!(all.len(), 2);
        assert_eq!(all[0], Given { guest: anna, serial: 3, expires: 20, taken_back: false });
        while all.len() < MAX_SHARES {
            assert!(give(&mut all, peer(), 10).is_some());
        }
        assert_eq!(give(&mut all, peer(), 10), None);
        assert!(give(&mut all, ben, 10).is_some(), "who is known can be given more");
    }

    #[test]
    fn what_is_carried_is_read_by_whom_it_is_for_and_says_to_others_why_not() {
        let (here, now) = (peer(), UnixMillis(999_999));
        let given = token(here);
        let text = to_text(&given);
        let (first, second) = text.split_at(40);
        let broken = format!(" {first}\n  {second}\n");
        assert_eq!(from_text(&broken, &here, "main", now).as_ref(), Ok(&given));
        let refused = |text: &str, here: &PeerId, network: &str, now| from_text(text, here, network, now).unwrap_err();
        let other = refused(&text, &peer(), "main", now);
        assert!(other.kind == ErrorKind::Refused && other.message.contains(&here.to_string()), "{other:?}");
        assert!(refused(&text, &here, "devnet-00000001", now).message.contains("network main"));
        assert!(refused(&text, &here, "main", UnixMillis(1_000_000)).message.contains("over"));
        for text in ["", "gpulease-share-", "gpulease-share-!", &text[..text.len() - 4], &text[1..]] {
            assert_eq!(refused(text, &here, "main", now).kind, ErrorKind::Usage, "{text}");
        }
    }

    #[test]
    fn what_was_taken_up_is_shown_to_the_provider_as_it_was_given() {
        let token = token(peer());
        let taken = Taken::from(&token);
        assert_eq!(taken.grant(token.id), token.grant);
        assert!(taken.is_over(UnixMillis(1_000_000)) && !taken.is_over(UnixMillis(999_999)));
    }
}
