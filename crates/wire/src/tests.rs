//! What goes over the wire comes back the same, and what a stranger sends is refused by name.

use crate::{
    MAX_AD_BYTES, WireError, ad_from_proto, ad_to_proto, decode, encode, proto, standing_from_proto, standing_to_proto,
    terms_from_bytes, terms_to_bytes,
};
use alloy_primitives::{Address, Signature, U256};
use libp2p_identity::Keypair;
use market::{
    money::{Amount, Rate, Token},
    offer::{Binding, GpuGroup, Hardware, Isolation, Offer, Price, ProviderAd, Verification},
    signed::Escrow,
    terms::{Image, NetworkAccess, Terms, Workload},
    time::UnixMillis,
};
use proptest::prelude::*;

pub(crate) fn peer(number: u8) -> libp2p_identity::PeerId {
    Keypair::ed25519_from_bytes([number; 32]).unwrap().public().to_peer_id()
}

fn token() -> Token {
    Token { chain: 8453, address: Address::repeat_byte(7), symbol: "USDC".into(), decimals: 6 }
}

fn ad() -> ProviderAd {
    let escrow = Escrow { chain: 8453, address: Address::repeat_byte(9) };
    let rate = Rate::from_hourly(Amount::new(2_500_000).unwrap()).unwrap();
    ProviderAd {
        peer: peer(1),
        seq: 1_795_284_726_999,
        expires: UnixMillis(1_795_284_926_999),
        binding: Binding {
            chain: 8453,
            provider_key: Address::repeat_byte(1),
            wallet: Address::repeat_byte(2),
            issued_at: 1,
            expires: 2,
            signature: Signature::new(U256::from(3), U256::from(4), true),
        },
        region: "KR".into(),
        offers: vec![Offer {
            name: "quad".into(),
            slots: 2,
            free: 0,
            busy_until: Some(UnixMillis(5)),
            hardware: Hardware {
                gpus: vec![GpuGroup {
                    model: "NVIDIA H200".into(),
                    count: 4,
                    vram_mib: 144_384,
                    sm: 90,
                    sm_features: "a".into(),
                    mega_multiply_adds: 15_000_000,
                    ..Default::default()
                }],
                cpu_millis: 1_500,
                core_mega_multiply_adds: 3_200,
                software: vec!["docker 28.2".into()],
                ..Default::default()
            },
            prices: vec![Price { escrow, token: token(), rate, floor: Some(rate), min_deposit: Amount::MAX }],
            min_seconds: 10,
            max_seconds: 20,
            increment_millis: 10_000,
            ready_seconds: 30,
            notice_seconds: 30,
            window: 86_400,
            arbiters: vec![Address::repeat_byte(3)],
            isolation: Isolation::SharedKernel,
            verification: Verification::Measured,
            whole_host: true,
            splits: vec![1, 4],
            discounts: vec![],
        }],
    }
}

#[test]
fn an_advertisement_comes_back_as_it_went() {
    let bytes = encode(&ad_to_proto(&ad()));
    assert_eq!(ad_from_proto(decode(&bytes, MAX_AD_BYTES).unwrap()), Ok(ad()));
}

#[test]
fn terms_come_back_as_they_went_and_hash_the_same() {
    let terms = Terms {
        network: "main".into(),
        provider_peer: peer(1),
        renter_peer: peer(2),
        escrow: Escrow { chain: 8453, address: Address::repeat_byte(9) },
        token: token(),
        offer: "quad".into(),
        slot: "quad-1".into(),
        hardware: Hardware::default(),
        increment_millis: 10_000,
        ready_seconds: 30,
        frozen_seconds: 60,
        notice_seconds: 0,
        workload: Workload { image: Image::Oci("x@sha256:00".into()), network: NetworkAccess::Egress },
        continues: None,
        salt: [7; 16],
    };
    let bytes = terms_to_bytes(&terms);
    assert_eq!(terms_from_bytes(&bytes).unwrap(), terms);
    assert_eq!(terms_to_bytes(&terms_from_bytes(&bytes).unwrap()), bytes);
}

#[test]
fn nothing_of_an_oversize_message_is_read() {
    let bytes = vec![0; MAX_AD_BYTES + 1];
    assert_eq!(
        decode::<proto::ProviderAd>(&bytes, MAX_AD_BYTES),
        Err(WireError::Oversize { got: MAX_AD_BYTES + 1, max: MAX_AD_BYTES })
    );
}

#[test]
fn each_bad_field_is_named() {
    let changed = |change: fn(&mut proto::ProviderAd)| {
        let mut message = ad_to_proto(&ad());
        change(&mut message);
        match ad_from_proto(message) {
            Err(WireError::Invalid { field, .. } | WireError::Missing(field)) => field,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(changed(|ad| ad.binding = None), "binding");
    assert_eq!(changed(|ad| ad.peer = vec![1, 2, 3]), "peer");
    assert_eq!(changed(|ad| ad.region = "K\u{1b}[31mR".into()), "region");
    assert_eq!(changed(|ad| ad.offers[0].name = "x".repeat(300)), "offer.name");
    assert_eq!(changed(|ad| ad.offers[0].free = 3), "offer.free");
    assert_eq!(changed(|ad| ad.offers[0].increment_millis = 0), "offer.increment_millis");
    assert_eq!(changed(|ad| ad.offers[0].prices.clear()), "offer.prices");
    assert_eq!(changed(|ad| ad.offers[0].prices[0].rate = "01".into()), "price.rate");
    assert_eq!(changed(|ad| ad.offers[0].prices[0].rate = "-1".into()), "price.rate");
    assert_eq!(changed(|ad| ad.offers[0].prices[0].rate = "79228162514264337593543950336".into()), "price.rate");
    assert_eq!(changed(|ad| ad.offers[0].isolation = 99), "offer.isolation");
    assert_eq!(changed(|ad| ad.offers.push(ad.offers[0].clone())), "offers.name");
    assert_eq!(changed(|ad| ad.offers = vec![ad.offers[0].clone(); 65]), "offers");
}

#[test]
fn a_refusal_is_as_long_as_it_may_be_sent_and_steers_no_terminal() {
    let message = proto::Refusal { code: 3, detail: "\u{1b}[2J\u{20ac}".repeat(1_000), retry_millis: 7 };
    let refusal = crate::refusal_from_proto(message);
    assert!(refusal.detail.len() <= crate::MAX_DETAIL_BYTES);
    assert!(!refusal.detail.contains(char::is_control));
    assert_eq!(crate::refusal_from_proto(crate::refusal_to_proto(&refusal)), refusal);
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode::<proto::ProviderAd>(&bytes, MAX_AD_BYTES).map(ad_from_proto);
        let _ = terms_from_bytes(&bytes);
        let _ = decode::<proto::QuoteReply>(&bytes, MAX_AD_BYTES).map(crate::quote_from_proto);
    }

    #[test]
    fn a_flipped_byte_is_refused_or_read_as_something_else_but_never_panics(at in 0usize..400, to in any::<u8>()) {
        let mut bytes = encode(&ad_to_proto(&ad()));
        let index = at % bytes.len();
        bytes[index] = to;
        let _ = decode::<proto::ProviderAd>(&bytes, MAX_AD_BYTES).map(ad_from_proto);
    }
}

#[test]
fn what_an_indexer_says_of_a_provider_is_read_back_and_held_to_what_can_be() {
    use market::standing::Standing;
    let standing = Standing { completed: 7, paid_seconds: 9, reliability: Some(990_000), ratings: 2, rating: None };
    assert_eq!(standing_from_proto(&standing_to_proto(&standing)), standing);
    let boast = proto::Standing { reliability: Some(u32::MAX), rating: Some(9_999), ..proto::Standing::default() };
    let read = standing_from_proto(&boast);
    assert_eq!((read.reliability, read.rating), (Some(1_000_000), Some(5_000)));
}
