//! Nonces that were used: no challenge is made twice, so that no answer can be known beforehand.

use super::Digest;
use std::collections::{HashSet, VecDeque};

/// Nonces that are remembered; a challenge a second fills this in an hour, and none lasts so long.
const MAX_NONCES: usize = 4_096;

/// A nonce that was used before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the nonce was used before: take thirty-two new random bytes")]
pub struct NonceSpent;

/// The latest nonces.
#[derive(Clone, Debug, Default)]
pub struct Nonces {
    known: HashSet<Digest>,
    order: VecDeque<Digest>,
}

impl Nonces {
    /// Uses a nonce, once.
    pub fn spend(&mut self, nonce: Digest) -> Result<(), NonceSpent> {
        if !self.known.insert(nonce) {
            return Err(NonceSpent);
        }
        self.order.push_back(nonce);
        if self.order.len() > MAX_NONCES
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_used_once_and_the_memory_of_them_is_bounded() {
        let nonce = |number: u32| Digest::of("nonce", &[&number.to_be_bytes()]);
        let mut nonces = Nonces::default();
        for number in 0..MAX_NONCES as u32 + 10 {
            assert_eq!(nonces.spend(nonce(number)), Ok(()));
            assert_eq!(nonces.spend(nonce(number)), Err(NonceSpent));
        }
        assert_eq!((nonces.known.len(), nonces.order.len()), (MAX_NONCES, MAX_NONCES));
    }
}
