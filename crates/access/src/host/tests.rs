//! Who is let in, and what others are told.

use super::*;
use alloy_primitives::{Address, B256, Signature, U256};
use market::{
    id::DeviceId,
    money::{Amount, Rate},
    quote::Quote,
    signed::{Escrow, signer_of},
};

const ESCROW: Escrow = Escrow { chain: 31_337, address: Address::repeat_byte(9) };
const UNTIL: u64 = 2_000;
const BEFORE: UnixMillis = UnixMillis(UNTIL * 1_000 - 1);

fn peer(number: u8) -> PeerId {
    libp2p_identity::Keypair::ed25519_from_bytes([number; 32]).unwrap().public().to_peer_id()
}

/// Some signature that is good for a digest, and the key that it is of: almost any is, for some key.
fn signed(digest: B256) -> (Signature, Address) {
    let tried = (1..).map(|r| Signature::new(U256::from(r), U256::from(7), false));
    tried.map(|signature| (signature, signer_of(&digest, &signature))).find_map(|(s, key)| Some((s, key?))).unwrap()
}

fn quote(renter_key: Address) -> SignedQuote {
    let quote = Quote {
        provider: Address::repeat_byte(1),
        provider_key: Address::repeat_byte(2),
        renter: Address::repeat_byte(3),
        renter_key,
        token: Address::ZERO,
        rate: Rate::from_hourly(Amount::new(3_600).unwrap()).unwrap(),
        min_deposit: Amount::ZERO,
        max_seconds: 60,
        window: 900,
        expiry: 1,
        arbiter: Address::ZERO,
        device: DeviceId(B256::repeat_byte(4)),
        spec: B256::repeat_byte(5),
    };
    SignedQuote { escrow: ESCROW, quote, signature: Signature::new(U256::from(1), U256::from(1), false) }
}

#[test]
fn whoever_the_renters_key_names_is_let_in_until_then_and_everybody_else_is_told_why_not() {
    let (provider, guest) = (peer(1), peer(2));
    let given = Grant { id: RentalId(B256::repeat_byte(7)), serial: 3, expires: UNTIL };
    let (signature, key) = signed(given.digest(&provider, &guest, &ESCROW));
    let grant = wire::grant_to_proto(&given, &signature);
    let ask = |grant: Option<proto::SessionGrant>, guest: &PeerId, key: Address, now: UnixMillis| {
        let header = proto::SessionHeader { grant, kind: None };
        admit(&header, guest, &provider, &quote(key), now)
    };
    assert_eq!(ask(Some(grant.clone()), &guest, key, BEFORE), Ok(given));

    let over = ask(Some(grant.clone()), &guest, key, UnixMillis(UNTIL * 1_000)).unwrap_err();
    assert_eq!(over.code, RefusalCode::Expired);
    assert!(over.detail.contains("1970-01-01T00:33:20Z"), "{over}");

    let bad = |refused: Result<Grant, Refusal>| {
        let refusal = refused.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::BadRequest, "{refusal}");
        refusal.detail
    };
    assert!(bad(ask(None, &guest, key, BEFORE)).contains("no grant"));
    let others = bad(ask(Some(grant.clone()), &peer(3), key, BEFORE));
    assert!(others.contains("not what the rental's renter has signed for this node"), "{others}");
    bad(ask(Some(grant.clone()), &guest, Address::repeat_byte(6), BEFORE));
    // what is over and was not signed is not told when it was over
    bad(ask(Some(proto::SessionGrant { expires: 1, ..grant.clone() }), &guest, key, BEFORE));
    for changed in [
        proto::SessionGrant { id: vec![8; 32], ..grant.clone() },
        proto::SessionGrant { expires: UNTIL + 1, ..grant.clone() },
        proto::SessionGrant { serial: 4, ..grant.clone() },
        proto::SessionGrant { signature: Vec::new(), ..grant },
    ] {
        bad(ask(Some(changed), &guest, key, BEFORE));
    }
}
