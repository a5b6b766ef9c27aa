//! Receipts held against what they claim. [`own`] needs the receipt alone: hashes, signatures and sums; [`against`] holds it against
//! what the chain says of the same rental. Neither believes a daemon: whoever holds a receipt and reaches the chain can prove it.
//!
//! The checks lean on each other so that together they leave no gap: the id is the quote's digest, the signatures are over the id, and
//! the chain's events carry the id. A fault therefore shows where it is, not everywhere.

use alloy_primitives::{Address, B256, keccak256};
use api::types::{Receipt, Role, closing_words};
use market::{
    id::RentalId,
    money::Amount,
    signed::{Escrow, SignedRelease, SignedVoucher, signer_of},
    time::UnixMillis,
};
use serde::Serialize;
use settlement::{Closing, ClosingKind, Head, Opening};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Check {
    /// What was looked at.
    pub(crate) check: &'static str,
    /// What is there.
    pub(crate) found: String,
    /// What must be there.
    pub(crate) expected: String,
    /// Whether it is.
    pub(crate) holds: bool,
}

/// What the chain says of a rental.
#[derive(Clone, Debug)]
pub(crate) struct OnChain {
    /// The id that the escrow itself gives the receipt's quote.
    pub(crate) id: RentalId,
    /// The opening in the block that the receipt names, and that block.
    pub(crate) opened: Option<(Opening, Head)>,
    /// The closing in the block that the receipt names, and that block.
    pub(crate) closed: Option<(Closing, Head)>,
}

pub(crate) fn check(check: &'static str, found: impl ToString, expected: impl ToString, holds: bool) -> Check {
    Check { check, found: found.to_string(), expected: expected.to_string(), holds }
}

/// Both sides shown in full must be the same.
pub(crate) fn same<T: PartialEq + ToString>(name: &'static str, found: &T, expected: &T) -> Check {
    check(name, found.to_string(), expected.to_string(), found == expected)
}

/// Things too long to be shown: only whether they are the same.
pub(crate) fn equal(name: &'static str, holds: bool, expected: &str) -> Check {
    check(name, if holds { "the same" } else { "something else" }, expected, holds)
}

/// What the receipt proves by itself, without a chain.
pub(crate) fn own(receipt: &Receipt) -> Vec<Check> {
    let Receipt { id, terms, quote: signed, paid, refunded, deposit, .. } = receipt;
    let q = &signed.quote;
    let show = |amount| terms.token.show(amount);
    let mut checks = vec![
        same("terms.hash", &keccak256(&receipt.terms_bytes), &q.spec),
        equal(
            "terms.content",
            wire::terms_from_bytes(&receipt.terms_bytes).is_ok_and(|read| read == *terms),
            "the terms as they are shown",
        ),
        same("terms.escrow", &place(&terms.escrow), &place(&signed.escrow)),
        same("terms.token", &terms.token.address, &q.token),
        same("id", &id.0, &signed.id().0),
        signature("quote.signature", signer_of(&id.0, &signed.signature), q.provider_key),
        check("deposit", show(*deposit), format!("at least {}", show(q.min_deposit)), *deposit >= q.min_deposit),
        match paid.checked_add(*refunded) {
            Some(sum) => check("paid+refunded", show(sum), show(*deposit), sum == *deposit),
            None => check("paid+refunded", "more than an escrow holds", show(*deposit), false),
        },
    ];
    if let Some(voucher) = &receipt.voucher {
        let digest = signed.escrow.digest(&SignedVoucher::statement(*id, voucher.cumulative));
        let signer = signer_of(&digest, &voucher.signature).filter(|_| voucher.id == *id);
        checks.push(signature("voucher.signature", signer, q.renter_key));
    }
    if let Some(release) = &receipt.release {
        let digest = signed.escrow.digest(&SignedRelease::statement(*id, release.cumulative));
        let signer = signer_of(&digest, &release.signature).filter(|_| release.id == *id);
        checks.push(signature("release.signature", signer, q.provider_key));
        let covered = receipt.voucher.map_or(Amount::ZERO, |voucher| voucher.cumulative);
        let expected = format!("at most the voucher, {}", show(covered));
        checks.push(check("release.total", show(release.cumulative), expected, release.cumulative <= covered));
    }
    checks.push(covered(receipt));
    if ClosingKind::from(receipt.kind) == ClosingKind::Ruling {
        let found = q.named_arbiter().map_or_else(|| "nobody".to_owned(), |arbiter| arbiter.to_string());
        checks.push(check("arbiter", found, "whoever the quote lets rule", !q.arbiter.is_zero()));
    }
    checks.extend(times(receipt));
    checks
}

/// What was paid must have been signed for.
fn covered(receipt: &Receipt) -> Check {
    let voucher = receipt.voucher.map_or(Amount::ZERO, |voucher| voucher.cumulative);
    let (most, by) = match (ClosingKind::from(receipt.kind), &receipt.release) {
        (ClosingKind::Release, Some(release)) => (release.cumulative, "the release"),
        (ClosingKind::Ruling, _) if !receipt.quote.quote.arbiter.is_zero() => (receipt.deposit, "the deposit"),
        _ => (voucher, "the voucher"),
    };
    let show = |amount| receipt.terms.token.show(amount);
    check("paid", show(receipt.paid), format!("at most {by}, {}", show(most)), receipt.paid <= most)
}

/// The seconds must fit what was paid and the time there was. A renter measures by its own clock from a start that the provider's clock
/// gave, so that only a provider's receipt can be held to its two moments; the renter's is held to the chain's clock instead.
fn times(receipt: &Receipt) -> [Check; 2] {
    let q = &receipt.quote.quote;
    let served = match (receipt.ready_at, receipt.stopped_at, receipt.role) {
        (None, ..) | (_, None, _) => 0,
        (Some(ready), Some(stopped), Role::Provider) => {
            u32::try_from(stopped.since(ready).div_ceil(1_000)).unwrap_or(u32::MAX)
        }
        _ => u32::MAX,
    };
    let served = served.min(q.max_seconds);
    let most = q.rate.seconds_for(receipt.paid).min(served);
    [
        check("seconds", receipt.seconds, format!("at most {most}"), receipt.seconds <= most),
        check("frozen", receipt.frozen_seconds, format!("at most {served}"), receipt.frozen_seconds <= served),
    ]
}

/// What the chain says, held against the receipt.
pub(crate) fn against(receipt: &Receipt, evidence: &OnChain) -> Vec<Check> {
    let show = |amount| receipt.terms.token.show(amount);
    let q = &receipt.quote.quote;
    let mut checks = vec![same("escrow.id", &evidence.id.0, &receipt.id.0)];
    match &evidence.opened {
        Some((opening, block)) => checks.extend([
            same("opened.transaction", &opening.transaction, &receipt.opened.tx),
            same("opened.block", &opening.block, &receipt.opened.block),
            same("opened.block.hash", &opening.block_hash, &block.hash),
            time("opened.time", block.timestamp, receipt.opened.time),
            equal("opened.quote", opening.quote == *q, "the receipt's quote"),
            check("opened.deposit", show(opening.deposit), show(receipt.deposit), opening.deposit == receipt.deposit),
        ]),
        None => checks.push(missing("opened.transaction", receipt.opened.block, &receipt.opened.tx)),
    }
    match &evidence.closed {
        Some((closing, block)) => {
            let kind = ClosingKind::from(receipt.kind);
            let elapsed = q.rate.for_seconds(closing.elapsed);
            let most = format!("at most {} s at the rate, {}", closing.elapsed, show(elapsed));
            checks.extend([
                same("closed.transaction", &closing.transaction, &receipt.closed.tx),
                same("closed.block", &closing.block, &receipt.closed.block),
                same("closed.block.hash", &closing.block_hash, &block.hash),
                time("closed.time", block.timestamp, receipt.closed.time),
                check("closed.kind", kind_words(closing.kind), closing_words(receipt.kind), closing.kind == kind),
                same("closed.provider", &closing.provider, &q.provider),
                same("closed.renter", &closing.renter, &q.renter),
                check("closed.paid", show(closing.paid), show(receipt.paid), closing.paid == receipt.paid),
                check(
                    "closed.refunded",
                    show(closing.refunded),
                    show(receipt.refunded),
                    closing.refunded == receipt.refunded,
                ),
                // an arbiter is bound by the meter as well
                check("closed.elapsed", show(closing.paid), most, closing.paid <= elapsed),
            ]);
        }
        None => checks.push(missing("closed.transaction", receipt.closed.block, &receipt.closed.tx)),
    }
    checks
}

pub(crate) fn signature(name: &'static str, signer: Option<Address>, key: Address) -> Check {
    let found = signer.map_or_else(|| "by nobody, or for another rental".to_owned(), |signer| format!("by {signer}"));
    check(name, found, format!("by {key}"), signer == Some(key))
}

fn time(name: &'static str, found: u64, expected: u64) -> Check {
    let show = |seconds: u64| UnixMillis(seconds.saturating_mul(1_000)).to_string();
    check(name, show(found), show(expected), found == expected)
}

fn missing(name: &'static str, block: u64, transaction: &B256) -> Check {
    check(name, format!("no such event of this rental in block {block}"), transaction, false)
}

fn place(escrow: &Escrow) -> String {
    format!("{} on chain {}", escrow.address, escrow.chain)
}

fn kind_words(kind: ClosingKind) -> &'static str {
    closing_words(kind.number())
}

#[cfg(test)]
mod tests {
    use super::*;
    use settlement::Wallet;

    fn wallet(byte: u8) -> Wallet {
        Wallet::from_key(&B256::repeat_byte(byte)).unwrap()
    }

    fn units(n: u128) -> Amount {
        Amount::new(n).unwrap()
    }

    /// A receipt that is right in every respect: ten seconds of 100 base units each.
    fn sound() -> Receipt {
        let (provider_key, renter_key) = (wallet(4), wallet(5));
        let mut receipt = crate::receipt::tests::receipt();
        (receipt.role, receipt.job) = (Role::Provider, None);
        receipt.terms_bytes = wire::terms_to_bytes(&receipt.terms).into();
        let q = &mut receipt.quote.quote;
        q.spec = keccak256(&receipt.terms_bytes);
        q.provider_key = provider_key.address();
        q.renter_key = renter_key.address();
        receipt.id = receipt.quote.id();
        receipt.quote.signature = provider_key.sign_digest(&receipt.id.0).unwrap();
        let (id, escrow, cumulative) = (receipt.id, receipt.quote.escrow, receipt.paid);
        let digest = escrow.digest(&SignedVoucher::statement(id, cumulative));
        receipt.voucher = Some(SignedVoucher { id, cumulative, signature: renter_key.sign_digest(&digest).unwrap() });
        let digest = escrow.digest(&SignedRelease::statement(id, cumulative));
        receipt.release = Some(SignedRelease { id, cumulative, signature: provider_key.sign_digest(&digest).unwrap() });
        receipt.frozen_seconds = 1;
        receipt
    }

    fn evidence() -> OnChain {
        let receipt = sound();
        let q = receipt.quote.quote.clone();
        let head = |number, byte, timestamp| Head { number, hash: B256::repeat_byte(byte), timestamp };
        let opening = Opening {
            id: receipt.id,
            quote: q.clone(),
            deposit: receipt.deposit,
            start: u32::try_from(receipt.opened.time).unwrap(),
            transaction: receipt.opened.tx,
            block: receipt.opened.block,
            block_hash: B256::repeat_byte(0x31),
        };
        let closing = Closing {
            id: receipt.id,
            provider: q.provider,
            renter: q.renter,
            paid: receipt.paid,
            refunded: receipt.refunded,
            elapsed: 12,
            kind: ClosingKind::from(receipt.kind),
            time: receipt.closed.time,
            transaction: receipt.closed.tx,
            block: receipt.closed.block,
            block_hash: B256::repeat_byte(0x32),
        };
        OnChain {
            id: receipt.id,
            opened: Some((opening, head(receipt.opened.block, 0x31, receipt.opened.time))),
            closed: Some((closing, head(receipt.closed.block, 0x32, receipt.closed.time))),
        }
    }

    fn faults(checks: &[Check]) -> Vec<&'static str> {
        checks.iter().filter(|check| !check.holds).map(|check| check.check).collect()
    }

    #[test]
    fn a_sound_receipt_holds_in_every_check() {
        let receipt = sound();
        assert_eq!(faults(&own(&receipt)), [""; 0]);
        assert_eq!(faults(&against(&receipt, &evidence())), [""; 0]);
        assert_eq!((own(&receipt).len(), against(&receipt, &evidence()).len()), (14, 17));
    }

    #[test]
    fn a_receipt_of_a_rental_that_never_served_holds_without_vouchers() {
        let mut receipt = sound();
        (receipt.voucher, receipt.release, receipt.ready_at) = (None, None, None);
        (receipt.paid, receipt.refunded) = (Amount::ZERO, receipt.deposit);
        (receipt.seconds, receipt.frozen_seconds) = (0, 0);
        assert_eq!(faults(&own(&receipt)), [""; 0]);
    }

    #[test]
    fn a_renters_receipt_holds_though_the_providers_clock_is_ahead() {
        let mut receipt = sound();
        receipt.role = Role::Renter;
        receipt.ready_at = receipt.stopped_at;
        assert_eq!(faults(&own(&receipt)), [""; 0]);
        receipt.seconds = 11;
        assert_eq!(faults(&own(&receipt)), ["seconds"]);
    }

    #[test]
    fn a_ruling_may_pass_the_voucher_but_not_the_deposit_and_needs_somebody_who_may_rule() {
        let ruled = |paid: u128, arbiter: Address| {
            let mut receipt = sound();
            (receipt.kind, receipt.voucher, receipt.release) = (5, None, None);
            (receipt.paid, receipt.refunded) = (units(paid), receipt.deposit.saturating_sub(units(paid)));
            receipt.quote.quote.arbiter = arbiter;
            receipt.id = receipt.quote.id();
            receipt.quote.signature = wallet(4).sign_digest(&receipt.id.0).unwrap();
            faults(&own(&receipt))
        };
        assert_eq!(ruled(1_000, Address::repeat_byte(7)), [""; 0]);
        assert_eq!(ruled(90_001, Address::repeat_byte(7)), ["paid+refunded", "paid"]);
        assert_eq!(ruled(1_000, Address::ZERO), ["paid", "arbiter"]);
    }

    #[test]
    fn an_arbiter_is_held_to_the_meter_too() {
        let mut chain = evidence();
        let (closing, _) = chain.closed.as_mut().unwrap();
        (closing.kind, closing.elapsed) = (ClosingKind::Ruling, 9);
        let mut receipt = sound();
        receipt.kind = 5;
        assert_eq!(faults(&against(&receipt, &chain)), ["closed.elapsed"]);
    }

    /// What a forger changes, and the checks that find it.
    type Forgery = (fn(&mut Receipt), &'static [&'static str]);

    #[test]
    fn each_field_that_is_changed_fails_exactly_the_checks_about_it() {
        let forgeries: &[Forgery] = &[
            (|r| r.terms.salt = [2; 16], &["terms.content"]),
            (|r| r.terms.increment_millis = 2_000, &["terms.content"]),
            (|r| r.terms_bytes = vec![1, 2, 3].into(), &["terms.hash", "terms.content"]),
            (|r| r.terms.escrow.chain = 1, &["terms.content", "terms.escrow"]),
            (|r| r.terms.token.address = Address::repeat_byte(8), &["terms.content", "terms.token"]),
            (|r| r.id = RentalId(B256::ZERO), &["id", "quote.signature", "voucher.signature", "release.signature"]),
            (|r| r.quote.quote.provider = Address::repeat_byte(7), &["id"]),
            (|r| r.quote.quote.renter = Address::repeat_byte(7), &["id"]),
            (|r| r.quote.quote.window += 1, &["id"]),
            (|r| r.quote.quote.expiry += 1, &["id"]),
            (|r| r.quote.quote.max_seconds += 1, &["id"]),
            (|r| r.quote.quote.arbiter = Address::repeat_byte(7), &["id"]),
            (|r| r.quote.quote.device.0 = B256::ZERO, &["id"]),
            (|r| r.quote.quote.spec = B256::ZERO, &["terms.hash", "id"]),
            (|r| r.quote.quote.token = Address::ZERO, &["terms.token", "id"]),
            (|r| r.quote.quote.rate = market::money::Rate::new(units(99_000_000)), &["id"]),
            (|r| r.quote.quote.min_deposit = units(90_001), &["id", "deposit"]),
            (|r| r.quote.quote.provider_key = Address::ZERO, &["id", "quote.signature", "release.signature"]),
            (|r| r.quote.quote.renter_key = Address::ZERO, &["id", "voucher.signature"]),
            (|r| r.quote.escrow.chain = 1, &["terms.escrow", "id", "voucher.signature", "release.signature"]),
            (|r| r.quote.signature = r.voucher.unwrap().signature, &["quote.signature"]),
            (|r| r.deposit = units(90_001), &["paid+refunded"]),
            (|r| r.refunded = units(89_001), &["paid+refunded"]),
            (|r| r.paid = units(1_001), &["paid+refunded", "paid"]),
            (|r| r.paid = units(999), &["paid+refunded", "seconds"]),
            (|r| r.voucher = None, &["release.total", "paid"]),
            (|r| r.voucher.as_mut().unwrap().cumulative = units(1_001), &["voucher.signature"]),
            (|r| r.voucher.as_mut().unwrap().id.0 = B256::ZERO, &["voucher.signature"]),
            (|r| r.release.as_mut().unwrap().cumulative = units(999), &["release.signature"]),
            (|r| r.release.as_mut().unwrap().cumulative = units(1_001), &["release.signature", "release.total"]),
            (|r| r.release.as_mut().unwrap().id.0 = B256::ZERO, &["release.signature"]),
            (|r| r.seconds = 11, &["seconds"]),
            (|r| r.ready_at = None, &["seconds", "frozen"]),
            (|r| r.stopped_at = r.ready_at, &["seconds", "frozen"]),
            (|r| r.frozen_seconds = 11, &["frozen"]),
        ];
        for (at, (forge, expected)) in forgeries.iter().enumerate() {
            let mut receipt = sound();
            forge(&mut receipt);
            assert_ne!(receipt, sound(), "forgery {at} changes nothing");
            assert_eq!(faults(&own(&receipt)), *expected, "forgery {at}");
        }
    }

    /// What the chain says otherwise, and the checks that find it.
    type Otherwise = (fn(&mut OnChain), &'static [&'static str]);

    #[test]
    fn each_thing_the_chain_says_otherwise_fails_exactly_its_check() {
        fn opened(e: &mut OnChain) -> &mut (Opening, Head) {
            e.opened.as_mut().unwrap()
        }
        fn closed(e: &mut OnChain) -> &mut (Closing, Head) {
            e.closed.as_mut().unwrap()
        }
        let cases: &[Otherwise] = &[
            (|e| e.id.0 = B256::ZERO, &["escrow.id"]),
            (|e| e.opened = None, &["opened.transaction"]),
            (|e| opened(e).0.transaction = B256::ZERO, &["opened.transaction"]),
            (|e| opened(e).0.block += 1, &["opened.block"]),
            (|e| opened(e).0.block_hash = B256::ZERO, &["opened.block.hash"]),
            (|e| opened(e).1.timestamp += 1, &["opened.time"]),
            (|e| opened(e).0.quote.renter = Address::ZERO, &["opened.quote"]),
            (|e| opened(e).0.deposit = units(1), &["opened.deposit"]),
            (|e| e.closed = None, &["closed.transaction"]),
            (|e| closed(e).0.transaction = B256::ZERO, &["closed.transaction"]),
            (|e| closed(e).0.block += 1, &["closed.block"]),
            (|e| closed(e).0.block_hash = B256::ZERO, &["closed.block.hash"]),
            (|e| closed(e).1.timestamp += 1, &["closed.time"]),
            (|e| closed(e).0.kind = ClosingKind::FinalizedAfterStop, &["closed.kind"]),
            (|e| closed(e).0.provider = Address::ZERO, &["closed.provider"]),
            (|e| closed(e).0.renter = Address::ZERO, &["closed.renter"]),
            (|e| closed(e).0.paid = units(999), &["closed.paid"]),
            (|e| closed(e).0.refunded = units(1), &["closed.refunded"]),
            (|e| closed(e).0.elapsed = 9, &["closed.elapsed"]),
        ];
        for (at, (change, expected)) in cases.iter().enumerate() {
            let mut evidence = evidence();
            change(&mut evidence);
            assert_eq!(faults(&against(&sound(), &evidence)), *expected, "case {at}");
        }
    }

    #[test]
    fn each_number_of_the_receipt_that_the_chain_knows_is_held_against_it() {
        let forgeries: &[Forgery] = &[
            (|r| r.opened.tx = B256::ZERO, &["opened.transaction"]),
            (|r| r.opened.block += 1, &["opened.block"]),
            (|r| r.opened.time += 1, &["opened.time"]),
            (|r| r.closed.tx = B256::ZERO, &["closed.transaction"]),
            (|r| r.closed.block += 1, &["closed.block"]),
            (|r| r.closed.time += 1, &["closed.time"]),
            (|r| r.deposit = units(1), &["opened.deposit"]),
            (|r| r.paid = units(1), &["closed.paid"]),
            (|r| r.refunded = units(1), &["closed.refunded"]),
            (|r| r.kind = 4, &["closed.kind"]),
            (|r| r.kind = 77, &["closed.kind"]),
            (|r| r.quote.quote.window += 1, &["opened.quote"]),
        ];
        for (at, (forge, expected)) in forgeries.iter().enumerate() {
            let mut receipt = sound();
            forge(&mut receipt);
            assert_eq!(faults(&against(&receipt, &evidence())), *expected, "forgery {at}");
        }
    }
}
