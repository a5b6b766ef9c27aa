//! The keys of the two ends. The server's follows from who is being reached, so it is the same tomorrow and another for another provider;
//! the client's is made once, for ports of this machine.

use market::id::PeerId;
use russh::keys::{
    PrivateKey, PublicKey,
    ssh_key::{LineEnding, private::Ed25519Keypair},
};
use sha2::{Digest, Sha256};
use std::{fmt, sync::Arc};

/// Separates this use of the renter's secret from all others, and this derivation from later ones.
const DOMAIN: &[u8] = b"gpulease ssh host key v1\0";

/// The key by which clients recognise the server for one provider.
///
/// It is the Ed25519 key whose seed is SHA-256 over the words `gpulease ssh host key v1`, a zero byte, the renter's secret (32 bytes)
/// and the provider's peer id (its binary form). Without the secret nobody, the provider included, can pretend to be it.
#[derive(Clone)]
pub struct HostKey {
    private: PrivateKey,
    alias: String,
}

impl HostKey {
    /// The key for a provider. `secret` is the renter's own, lasts as long as its identity, and is known to nobody else.
    pub fn derive(secret: &[u8; 32], provider: &PeerId) -> Self {
        let seed = Sha256::new().chain_update(DOMAIN).chain_update(secret).chain_update(provider.to_bytes()).finalize();
        Self { private: Ed25519Keypair::from_seed(&seed.into()).into(), alias: format!("gpulease-{provider}") }
    }

    /// The name under which clients know the key (`HostKeyAlias`): one for each provider, whatever its rentals are called.
    pub fn alias(&self) -> &str {
        &self.alias
    }

    /// The line of a `known_hosts` file, without its end.
    pub fn known_hosts_line(&self) -> String {
        format!("{} {}", self.alias, shown(self.private.public_key()))
    }

    pub(super) fn private(&self) -> &PrivateKey {
        &self.private
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostKey").field(&self.known_hosts_line()).finish()
    }
}

/// The key with which a client proves at a port of this machine that it belongs to the user.
#[derive(Clone)]
pub struct ClientKey(Arc<PrivateKey>);

impl ClientKey {
    /// A new one.
    pub fn generate() -> Self {
        Self(Arc::new(Ed25519Keypair::from_seed(&rand::random()).into()))
    }

    /// Reads what [`ClientKey::to_openssh`] wrote; nothing if it is no key without a passphrase.
    pub fn from_openssh(text: &str) -> Option<Self> {
        PrivateKey::from_openssh(text).ok().filter(|key| !key.is_encrypted()).map(|key| Self(Arc::new(key)))
    }

    /// The private key as an `IdentityFile` holds it. Only the user may read that file, or `ssh` refuses to use it.
    pub fn to_openssh(&self) -> String {
        self.0.to_openssh(LineEnding::LF).map(|text| text.to_string()).unwrap_or_default()
    }

    pub(super) fn is(&self, other: &PublicKey) -> bool {
        self.0.public_key().key_data() == other.key_data()
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientKey").field(&shown(self.0.public_key())).finish()
    }
}

/// A public key as files hold it. The kind of key made here can always be written.
fn shown(key: &PublicKey) -> String {
    key.to_openssh().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(text: &str) -> PeerId {
        text.parse().unwrap()
    }

    const ONE: &str = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
    const OTHER: &str = "12D3KooWRBhwfeP2Y4TCx1SM6s9rUoHhR5STiGwxBhgFRcw3UERE";

    #[test]
    fn the_key_of_a_provider_is_the_same_tomorrow() {
        let line = HostKey::derive(&[7; 32], &provider(ONE)).known_hosts_line();
        assert_eq!(line, HostKey::derive(&[7; 32], &provider(ONE)).known_hosts_line());
        assert!(line.starts_with(&format!("gpulease-{ONE} ssh-ed25519 AAAA")), "{line}");
        assert_eq!(line.split(' ').count(), 3, "{line}");
    }

    #[test]
    fn another_provider_and_another_renter_have_another_key() {
        let key = |secret, peer| HostKey::derive(&[secret; 32], &provider(peer)).private().public_key().clone();
        assert_ne!(key(7, ONE), key(7, OTHER));
        assert_ne!(key(7, ONE), key(8, ONE));
    }

    #[test]
    fn a_client_key_is_known_again_from_its_file() {
        let key = ClientKey::generate();
        let text = key.to_openssh();
        assert!(text.starts_with("-----BEGIN OPENSSH PRIVATE KEY-----"), "{text}");
        assert!(ClientKey::from_openssh(&text).unwrap().is(key.0.public_key()));
        assert!(!ClientKey::generate().is(key.0.public_key()));
        assert!(ClientKey::from_openssh("ssh-ed25519 AAAA").is_none());
    }

    #[test]
    fn secrets_do_not_show_in_debugging_output() {
        let key = ClientKey::generate();
        assert!(format!("{key:?}").starts_with("ClientKey(\"ssh-ed25519 "), "{key:?}");
    }
}
