//! What the renter of one rental has taken back of what it gave to others: on disk, so that a restart lets nobody in again.

use market::id::PeerId;
use serde::{Deserialize, Serialize};

/// Peers of one rental whose grants are taken back: four times as many as a renter's own node gives any to.
const MAX_GUESTS: usize = 256;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Unshared(Vec<Guest>);

/// The grants of one peer, up to and with a serial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Guest {
    #[serde(with = "market::id::peer_text")]
    peer: PeerId,
    serial: u64,
}

impl Unshared {
    /// Takes back what a peer was given, up to and with a serial; false where no more peers can be remembered.
    pub(crate) fn take_back(&mut self, peer: PeerId, serial: u64) -> bool {
        let full = self.0.len() >= MAX_GUESTS;
        match self.0.iter_mut().find(|guest| guest.peer == peer) {
            // never less than before, in whatever order it comes
            Some(guest) => guest.serial = guest.serial.max(serial),
            None if full => return false,
            None => self.0.push(Guest { peer, serial }),
        }
        true
    }

    /// Whether a peer's grant of this serial is taken back.
    pub(crate) fn covers(&self, peer: &PeerId, serial: u64) -> bool {
        self.0.iter().any(|guest| guest.peer == *peer && serial <= guest.serial)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use network::identity::Keypair;

    fn peer() -> PeerId {
        Keypair::generate_ed25519().public().to_peer_id()
    }

    #[test]
    fn what_is_taken_back_stays_so_and_what_is_given_later_is_good() {
        let (guest, other) = (peer(), peer());
        let mut unshared = Unshared::default();
        assert!(!unshared.covers(&guest, 1));
        assert!(unshared.take_back(guest, 2));
        assert!(unshared.covers(&guest, 1) && unshared.covers(&guest, 2));
        assert!(!unshared.covers(&guest, 3), "given again since");
        assert!(!unshared.covers(&other, 1), "another peer's");
        assert!(unshared.take_back(guest, 1) && unshared.covers(&guest, 2), "an older order gives nothing back");
    }

    #[test]
    fn a_renter_cannot_have_peers_remembered_without_end() {
        let mut unshared = Unshared::default();
        let known = peer();
        assert!(unshared.take_back(known, 1));
        assert!((1..MAX_GUESTS).all(|_| unshared.take_back(peer(), 1)));
        assert!(!unshared.take_back(peer(), 1));
        assert!(unshared.take_back(known, 2) && unshared.covers(&known, 2));
    }
}
