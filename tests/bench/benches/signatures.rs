//! What our checks cost beside the bare cryptography under them: `cargo bench -p bench`. Prints a table and fails when a bar is missed.
//!
//! The voucher goes the whole way of the program: the renter's session key signs it, it is encoded, decoded, and checked as a provider
//! does. The advertisement is opened as the verification pool does, once for a provider that is new and once for one that is known.

#![allow(clippy::expect_used, reason = "a bench that cannot be set up has nothing to say")]

use alloy_primitives::{Address, B256};
use bench::{Table, compare};
use libp2p_identity::Keypair;
use market::{
    id::RentalId,
    money::{Amount, Rate, Token},
    offer::{Binding, GpuGroup, Hardware, Isolation, Offer, Price, ProviderAd, Verification},
    signed::{Escrow, SignedVoucher},
    time::UnixMillis,
};
use network::ad;
use secp256k1::{
    Message, SECP256K1, SecretKey,
    ecdsa::{RecoverableSignature, RecoveryId},
};
use settlement::Wallet;
use std::{hint::black_box, process::ExitCode};

fn main() -> ExitCode {
    let mut table = Table::default();
    advertisements(&mut table);
    vouchers(&mut table);
    print!("{table}");
    if table.0.iter().all(bench::Comparison::holds) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn escrow() -> Escrow {
    Escrow { chain: 8_453, address: Address::repeat_byte(9) }
}

fn advertisements(table: &mut Table) {
    let key = Keypair::generate_ed25519();
    let now = UnixMillis::now();
    let envelope = ad::seal(&key, &advertisement(&key, now)).expect("an ed25519 key signs anything");
    let known = ad::Bindings::default();
    ad::open_with(&envelope, now, &known).expect("it is a good advertisement");
    let (public, signature) = (key.public(), key.sign(&envelope).expect("an ed25519 key signs anything"));
    let raw = || assert!(public.verify(black_box(&envelope), black_box(&signature)));
    println!("an advertisement of one offer: {} bytes", envelope.len());
    table.0.push(compare(
        "advertisement decoded and verified, ed25519 verification of as many bytes",
        0.6,
        || drop(black_box(ad::open_with(black_box(&envelope), now, &known).expect("it is good"))),
        raw,
    ));
    // for a provider never heard of, the wallet's signature of its binding is recovered too: no bar, told for completeness
    table.0.push(compare(
        "the same from a provider that is new: its wallet's signature recovered too",
        0.0,
        || drop(black_box(ad::open(black_box(&envelope), now).expect("it is good"))),
        raw,
    ));
}

fn vouchers(table: &mut Table) {
    let session = Wallet::random();
    let (escrow, id) = (escrow(), RentalId(B256::repeat_byte(5)));
    let cumulative = Amount::new(6_944_444).expect("96 bits hold it");
    let renter_key = session.address();
    let ours = || {
        let digest = escrow.digest(&SignedVoucher::statement(id, cumulative));
        let signature = session.sign_digest(&digest).expect("a key in memory signs");
        let sent = wire::encode(&wire::voucher_to_proto(&SignedVoucher { id, cumulative, signature }));
        let message = wire::decode(black_box(&sent), wire::MAX_MESSAGE_BYTES).expect("just encoded");
        let voucher = wire::voucher_from_proto(&message).expect("just encoded");
        assert!(voucher.is_signed_by(renter_key, &escrow));
    };
    let secret = SecretKey::from_byte_array(session.key().0).expect("the wallet's own key");
    let digest = Message::from_digest(escrow.digest(&SignedVoucher::statement(id, cumulative)).0);
    let public = secret.public_key(SECP256K1);
    let raw = || {
        let (recovery, bytes) = SECP256K1.sign_ecdsa_recoverable(black_box(digest), &secret).serialize_compact();
        let recovery = RecoveryId::try_from(i32::from(recovery)).expect("just made");
        let signature = RecoverableSignature::from_compact(black_box(&bytes), recovery).expect("just made");
        assert_eq!(SECP256K1.recover_ecdsa(digest, &signature), Ok(public));
    };
    table.0.push(compare(
        "voucher signed, sent, read and checked, libsecp256k1 sign and recover of its digest",
        0.8,
        ours,
        raw,
    ));
}

fn advertisement(key: &Keypair, now: UnixMillis) -> ProviderAd {
    let (peer, wallet) = (key.public().to_peer_id(), Wallet::random());
    let sign = |digest: &B256| wallet.sign_digest(digest);
    let binding = Binding::issue(&peer, escrow().chain, wallet.address(), wallet.address(), now, sign)
        .expect("a key in memory signs");
    let rate = Rate::from_hourly(Amount::new(2_500_000).expect("96 bits hold it")).expect("and its rate");
    let token = Token { chain: escrow().chain, address: Address::repeat_byte(7), symbol: "USDC".into(), decimals: 6 };
    let gpus = vec![GpuGroup {
        model: "NVIDIA H200".into(),
        count: 4,
        vram_mib: 144_384,
        sm: 90,
        sm_features: "a".into(),
        interconnect: "nvlink4".into(),
        power_limit_watts: 700,
        ..GpuGroup::default()
    }];
    let hardware = Hardware {
        gpus,
        driver_version: "580.82.07".into(),
        cuda_version: 130,
        cpu_model: "AMD EPYC 9654 96-Core Processor".into(),
        cpu_millis: 48_000,
        memory_mib: 524_288,
        disk_mib: 1_048_576,
        disk_kind: "nvme".into(),
        disk_mb_per_s: 6_000,
        network_down_mbit: 10_000,
        network_up_mbit: 10_000,
        software: vec!["docker 28.2.1".into(), "nvidia-container-toolkit 1.18".into()],
        core_mega_multiply_adds: 3_200,
    };
    let offer = Offer {
        name: "h200-quad".into(),
        slots: 2,
        free: 2,
        busy_until: None,
        hardware,
        prices: vec![Price {
            escrow: escrow(),
            token,
            rate,
            floor: Some(rate),
            min_deposit: Amount::new(100_000).expect("small"),
        }],
        min_seconds: 60,
        max_seconds: 604_800,
        increment_millis: 10_000,
        ready_seconds: 60,
        notice_seconds: 30,
        window: 86_400,
        arbiters: Vec::new(),
        isolation: Isolation::SharedKernel,
        verification: Verification::Consistent,
        whole_host: false,
        splits: vec![1, 2],
        discounts: Vec::new(),
    };
    ProviderAd { peer, seq: now.0, expires: now.plus(900_000), binding, region: "KR".into(), offers: vec![offer] }
}
