//! Evidence that is sound, and what is found when any part of it is changed.

use super::*;
use alloy_primitives::keccak256;
use api::{
    evidence::{Kept, Stop},
    types::Role,
};
use market::{
    dispute::StopReason,
    rental::{Closing, Opening},
    signed::{AckStatement, SignedAck, SignedRelease, SignedVoucher},
    time::UnixMillis,
};
use serde_json::json;
use settlement::Wallet;

fn wallet(byte: u8) -> Wallet {
    Wallet::from_key(&B256::repeat_byte(byte)).unwrap()
}

fn units(n: u128) -> Amount {
    Amount::new(n).unwrap()
}

/// Everything that a rental can leave, signed by the right keys.
fn sound() -> Evidence {
    let (provider_key, renter_key) = (wallet(4), wallet(5));
    let receipt = crate::receipt::tests::receipt();
    let (terms, mut quote) = (receipt.terms, receipt.quote);
    let terms_bytes = wire::terms_to_bytes(&terms).into();
    let q = &mut quote.quote;
    q.arbiter = Address::repeat_byte(7);
    q.spec = keccak256(&terms_bytes);
    (q.provider_key, q.renter_key) = (provider_key.address(), renter_key.address());
    let (id, escrow) = (quote.id(), quote.escrow);
    quote.signature = provider_key.sign_digest(&id.0).unwrap();
    let by_provider = |digest: B256| provider_key.sign_digest(&digest).unwrap();
    let at = UnixMillis(1_795_284_716_000);
    let cumulative = units(1_000);
    let voucher_digest = escrow.digest(&SignedVoucher::statement(id, cumulative));
    let statement = AckStatement {
        id,
        seq: 7,
        cumulative,
        served_millis: 9_000,
        frozen_millis: 500,
        metrics: keccak256([1, 2, 3]),
    };
    let ack = SignedAck {
        statement,
        usage: vec![1, 2, 3].into(),
        signature: by_provider(escrow.digest(&statement.statement())),
    };
    let release_digest = escrow.digest(&SignedRelease::statement(id, cumulative));
    let opening = Opening { deposit: units(90_000), start: 1_795_284_700, tx: B256::repeat_byte(0x11), block: 4 };
    let closing = Closing {
        paid: cumulative,
        refunded: units(89_000),
        elapsed: 20,
        kind: 5,
        tx: B256::repeat_byte(0x22),
        block: 900,
        time: 1_795_285_800,
    };
    let kept = Kept {
        side: Role::Renter,
        quote: &quote,
        terms: &terms,
        terms_bytes: &terms_bytes,
        ready: Some((at, by_provider(escrow.digest(&Ready { id: id.0, at: at.0 })))),
        voucher: Some(SignedVoucher { id, cumulative, signature: renter_key.sign_digest(&voucher_digest).unwrap() }),
        ack: Some(&ack),
        release: Some(SignedRelease { id, cumulative, signature: by_provider(release_digest) }),
        opening: Some(opening),
        stop: Some(Stop::new(&quote, opening.start, 1_795_284_730, Some(StopReason::Hardware))),
        stop_tx: Some((B256::repeat_byte(0x33), 12)),
        closing: Some(closing),
    };
    Evidence::new(kept, UnixMillis(1_795_284_731_000))
}

fn faults(evidence: &Evidence) -> Vec<&'static str> {
    checks(evidence).iter().filter(|check| !check.holds).map(|check| check.check).collect()
}

fn changed(change: impl FnOnce(&mut Evidence)) -> Vec<&'static str> {
    let mut evidence = sound();
    change(&mut evidence);
    assert_ne!(evidence, sound(), "nothing was changed");
    faults(&evidence)
}

#[test]
fn sound_evidence_holds_in_every_check_and_survives_its_file() {
    let evidence = sound();
    assert_eq!(faults(&evidence), [""; 0]);
    assert_eq!(checks(&evidence).len(), 4 + 4 + 4 * 5 + 4 + 2 + 2 + 1);
    let file = serde_json::to_string_pretty(&evidence).unwrap();
    assert_eq!(serde_json::from_str::<Evidence>(&file).unwrap(), evidence);
}

#[test]
fn the_least_there_can_be_holds_too() {
    let mut evidence = sound();
    evidence.statements.truncate(1);
    (evidence.usage, evidence.stop) = (None, None);
    evidence.transactions.clear();
    assert_eq!(faults(&evidence), [""; 0]);
}

/// What nobody signed and nothing else in the file follows from: it stands on the chain, or is the maker's word.
const UNSIGNED: [&str; 5] = ["/made_by", "/made_at", "/stop/opened_at", "/stop/reason", "/transactions/"];

/// Every place in a JSON value that holds a text, a number or nothing.
fn leaves(value: &Value, at: String, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => {
            object.iter().for_each(|(name, inner)| leaves(inner, format!("{at}/{name}"), found));
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, inner)| leaves(inner, format!("{at}/{index}"), found));
        }
        _ => found.push(at),
    }
}

/// Something else of the same kind, as alike as it can be.
fn other(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_u64().unwrap() + 1),
        Value::String(text) => {
            let (rest, last) = text.split_at(text.len().saturating_sub(1));
            json!(format!("{rest}{}", if last == "1" { "2" } else { "1" }))
        }
        Value::Bool(flag) => json!(!flag),
        _ => json!("1"),
    }
}

#[test]
fn whatever_single_thing_in_the_file_is_changed_is_found() {
    let file = serde_json::to_value(sound()).unwrap();
    let mut places = Vec::new();
    leaves(&file, String::new(), &mut places);
    let signed = |place: &&String| !UNSIGNED.iter().any(|unsigned| place.starts_with(unsigned));
    assert!(places.len() > 150, "{} places", places.len());
    for place in places.iter().filter(signed) {
        let mut forged = file.clone();
        let leaf = forged.pointer_mut(place).unwrap();
        *leaf = other(leaf);
        // what cannot be read is found as well
        if let Ok(evidence) = serde_json::from_value::<Evidence>(forged) {
            assert_ne!(faults(&evidence), [""; 0], "{place} was changed");
        }
    }
}

#[test]
fn what_does_not_hold_is_named() {
    let message = |evidence: &mut Evidence, at: usize, name: &str, value: Value| {
        evidence.statements[at].typed_data["message"][name] = value;
    };
    assert_eq!(changed(|e| e.version = 2), ["version"]);
    assert_eq!(changed(|e| e.rental.0 = B256::ZERO), ["rental"]);
    assert_eq!(
        changed(|e| message(e, 2, "cumulative", json!("1001"))),
        ["voucher.digest", "voucher.signature"],
        "a higher voucher than was signed"
    );
    assert_eq!(changed(|e| message(e, 3, "servedMillis", json!("1"))), ["ack.digest", "ack.signature", "ack.frozen"]);
    assert_eq!(changed(|e| e.statements[1].digest = B256::ZERO), ["ready.digest"]);
    assert_eq!(changed(|e| e.statements[2].signer = Address::ZERO), ["voucher.signer"]);
    assert_eq!(changed(|e| e.usage = Some(vec![9].into())), ["usage.hash"]);
    assert_eq!(changed(|e| e.terms.salt = [9; 16]), ["terms.content"]);
    assert_eq!(changed(|e| e.stop.as_mut().unwrap().deadlines.ruling -= 1), ["stop.deadlines"]);
    assert_eq!(changed(|e| drop(e.statements.remove(0))), ["quote"]);
    let twice = changed(|e| e.statements.push(e.statements[2].clone()));
    assert_eq!(twice, ["statements"]);
    let beside = changed(|e| message(e, 2, "note", json!("believe me")));
    assert_eq!(beside, ["voucher.types"], "what no digest covers");
}

#[test]
fn a_statement_of_another_rental_or_by_another_key_is_found() {
    let theirs = wallet(6);
    let forge = |at: usize, id: B256, escrow: Escrow| {
        move |e: &mut Evidence| {
            let statement = &mut e.statements[at];
            statement.typed_data["message"]["id"] = json!(id);
            statement.typed_data["domain"]["chainId"] = json!(escrow.chain.to_string());
            statement.digest = digest_of(&statement.typed_data).unwrap();
            let signer = if at == 2 { wallet(5) } else { wallet(4) };
            statement.signature = signer.sign_digest(&statement.digest).unwrap().as_bytes().into();
        }
    };
    let escrow = Escrow { chain: 31_337, address: Address::repeat_byte(9) };
    let id = sound().rental.0;
    assert_eq!(changed(forge(2, B256::repeat_byte(1), escrow)), ["voucher.id"], "of another rental");
    assert_eq!(changed(forge(2, id, Escrow { chain: 1, ..escrow })), ["voucher.types"], "on another chain");
    let by_another = changed(|e| {
        let digest = e.statements[4].digest;
        e.statements[4].signature = theirs.sign_digest(&digest).unwrap().as_bytes().into();
    });
    assert_eq!(by_another, ["release.signature"]);
}
