//! A file of evidence held against itself: whether every statement in it is one of this rental, says what its digest says, and was signed by
//! whom the quote names. Typed data is hashed here by a general library, from the file alone, as any stranger would.

use crate::verify::{Check, check, equal, same, signature};
use alloy_dyn_abi::TypedData;
use alloy_primitives::{Address, B256, Signature, keccak256};
use alloy_sol_types::SolStruct;
use api::evidence::{Evidence, FORMAT, Statement, VERSION, typed_data};
use market::{
    money::Amount,
    signed::{Ack, Escrow, Quote, Ready, Release, Voucher, signer_of},
};
use serde_json::Value;

/// The statements that evidence may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Quote,
    Ready,
    Voucher,
    Ack,
    Release,
}

/// What is looked at of one statement.
struct Names {
    types: &'static str,
    id: &'static str,
    digest: &'static str,
    signer: &'static str,
    signature: &'static str,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Quote, Self::Ready, Self::Voucher, Self::Ack, Self::Release];

    const fn name(self) -> &'static str {
        match self {
            Self::Quote => Quote::NAME,
            Self::Ready => Ready::NAME,
            Self::Voucher => Voucher::NAME,
            Self::Ack => Ack::NAME,
            Self::Release => Release::NAME,
        }
    }

    const fn names(self) -> Names {
        macro_rules! names {
            ($kind:literal) => {
                Names {
                    types: concat!($kind, ".types"),
                    id: concat!($kind, ".id"),
                    digest: concat!($kind, ".digest"),
                    signer: concat!($kind, ".signer"),
                    signature: concat!($kind, ".signature"),
                }
            };
        }
        match self {
            Self::Quote => names!("quote"),
            Self::Ready => names!("ready"),
            Self::Voucher => names!("voucher"),
            Self::Ack => names!("ack"),
            Self::Release => names!("release"),
        }
    }

    /// The statement's typed data as this kind is written, around its own message.
    fn expected(self, escrow: &Escrow, message: Value) -> Value {
        match self {
            Self::Quote => typed_data::<Quote>(escrow, message),
            Self::Ready => typed_data::<Ready>(escrow, message),
            Self::Voucher => typed_data::<Voucher>(escrow, message),
            Self::Ack => typed_data::<Ack>(escrow, message),
            Self::Release => typed_data::<Release>(escrow, message),
        }
    }
}

/// What everything in the file is held against.
struct Promise<'a> {
    quote: &'a Value,
    escrow: Escrow,
    provider_key: Address,
    renter_key: Address,
    id: B256,
}

impl<'a> Promise<'a> {
    /// The promise in the file's quote, if it can be read at all.
    fn of(evidence: &'a Evidence) -> Option<Self> {
        let data = &evidence.statements.iter().find(|statement| kind_of(statement) == Some(Kind::Quote))?.typed_data;
        let quote = data.get("message")?;
        let domain = data.get("domain")?;
        Some(Self {
            quote,
            escrow: Escrow { chain: number(domain, "chainId")?, address: field(domain, "verifyingContract")? },
            provider_key: field(quote, "providerKey")?,
            renter_key: field(quote, "renterKey")?,
            id: digest_of(data)?,
        })
    }

    const fn signer(&self, kind: Kind) -> Address {
        match kind {
            Kind::Voucher => self.renter_key,
            Kind::Quote | Kind::Ready | Kind::Ack | Kind::Release => self.provider_key,
        }
    }
}

/// Everything that was looked at.
pub(crate) fn checks(evidence: &Evidence) -> Vec<Check> {
    let mut checks = vec![
        same("format", &evidence.format, &FORMAT.to_owned()),
        same("version", &evidence.version, &VERSION),
        equal("statements", each_once(evidence), "known kinds, each at most once"),
    ];
    let Some(promise) = Promise::of(evidence) else {
        checks.push(equal("quote", false, "a quote that can be read"));
        return checks;
    };
    checks.push(same("rental", &evidence.rental.0, &promise.id));
    for statement in &evidence.statements {
        if let Some(kind) = kind_of(statement) {
            checks.extend(signed(statement, kind, &promise));
        }
    }
    checks.extend(terms(evidence, &promise));
    checks.extend(totals(evidence));
    checks.extend(stop(evidence, &promise));
    checks
}

fn kind_of(statement: &Statement) -> Option<Kind> {
    let name = statement.typed_data.get("primaryType")?.as_str()?;
    Kind::ALL.into_iter().find(|kind| kind.name() == name)
}

fn each_once(evidence: &Evidence) -> bool {
    let kinds: Option<Vec<_>> = evidence.statements.iter().map(kind_of).collect();
    kinds.is_some_and(|kinds| Kind::ALL.iter().all(|kind| kinds.iter().filter(|found| *found == kind).count() <= 1))
}

/// What a statement's typed data hashes to.
fn digest_of(data: &Value) -> Option<B256> {
    let data: TypedData = serde_json::from_value(data.clone()).ok()?;
    data.eip712_signing_hash().ok()
}

fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str()
}

fn field<T: std::str::FromStr>(object: &Value, name: &str) -> Option<T> {
    text(object, name)?.parse().ok()
}

fn number(object: &Value, name: &str) -> Option<u64> {
    field(object, name)
}

fn signed(statement: &Statement, kind: Kind, promise: &Promise<'_>) -> Vec<Check> {
    let names = kind.names();
    let message = statement.typed_data.get("message").cloned().unwrap_or_default();
    let expected = kind.expected(&promise.escrow, message.clone());
    let written = expected == statement.typed_data && names_agree(&expected);
    let found = digest_of(&statement.typed_data);
    let key = promise.signer(kind);
    let signer = found.zip(Signature::try_from(&statement.signature[..]).ok());
    let mut checks = vec![
        equal(names.types, written, "the type as both sides know it, at the quote's escrow"),
        same(names.digest, &statement.digest, &found.unwrap_or_default()),
        same(names.signer, &statement.signer, &key),
        signature(names.signature, signer.and_then(|(digest, made)| signer_of(&digest, &made)), key),
    ];
    if kind != Kind::Quote {
        let id = field::<B256>(&message, "id").unwrap_or_default();
        checks.push(same(names.id, &id, &promise.id));
    }
    checks
}

/// Whether the message has the fields of its type and no other: those that a type does not name are in no digest.
fn names_agree(data: &Value) -> bool {
    let listed = text(data, "primaryType").and_then(|name| data["types"].get(name)).and_then(Value::as_array);
    let (Some(listed), Some(message)) = (listed, data["message"].as_object()) else { return false };
    listed.len() == message.len()
        && listed.iter().filter_map(|entry| text(entry, "name")).all(|name| message.contains_key(name))
}

fn terms(evidence: &Evidence, promise: &Promise<'_>) -> Vec<Check> {
    let Evidence { terms, terms_bytes, .. } = evidence;
    let spec = field(promise.quote, "spec").unwrap_or_default();
    let token = field(promise.quote, "token").unwrap_or_default();
    vec![
        same("terms.hash", &keccak256(terms_bytes), &spec),
        equal(
            "terms.content",
            wire::terms_from_bytes(terms_bytes).is_ok_and(|read| read == *terms),
            "the terms as they are shown",
        ),
        equal("terms.escrow", terms.escrow == promise.escrow, "the quote's escrow"),
        same("terms.token", &terms.token.address, &token),
    ]
}

/// What the statements say of each other.
fn totals(evidence: &Evidence) -> Vec<Check> {
    let message = |kind| {
        let found = evidence.statements.iter().find(|statement| kind_of(statement) == Some(kind))?;
        found.typed_data.get("message")
    };
    let total =
        |kind| message(kind).map(|message| field(message, "cumulative").and_then(Amount::new).unwrap_or(Amount::MAX));
    let voucher = total(Kind::Voucher).unwrap_or_default();
    let mut checks = Vec::new();
    for (name, kind) in [("ack.total", Kind::Ack), ("release.total", Kind::Release)] {
        if let Some(total) = total(kind) {
            checks.push(check(name, total, format!("at most the voucher, {voucher}"), total <= voucher));
        }
    }
    if let Some(ack) = message(Kind::Ack) {
        let [served, frozen] = ["servedMillis", "frozenMillis"].map(|name| number(ack, name).unwrap_or(u64::MAX));
        checks.push(check("ack.frozen", frozen, format!("at most what was served, {served}"), frozen <= served));
    }
    if let Some(usage) = &evidence.usage {
        let metrics = message(Kind::Ack).and_then(|ack| field(ack, "metrics")).unwrap_or_default();
        checks.push(same("usage.hash", &keccak256(usage), &metrics));
    }
    checks
}

/// When the arbiter may rule follows from the quote and from two moments of the chain.
fn stop(evidence: &Evidence, promise: &Promise<'_>) -> Option<Check> {
    let stop = evidence.stop?;
    let (window, longest) = (number(promise.quote, "window")?, number(promise.quote, "maxSeconds")?);
    let ruling = stop.at.saturating_add(window / 2);
    let finalizing = stop.at.min(stop.opened_at.saturating_add(longest)).saturating_add(window);
    let found = (stop.deadlines.ruling, stop.deadlines.finalizing);
    let show = |(ruling, finalizing)| format!("rule from {ruling}, finalize from {finalizing}");
    Some(check("stop.deadlines", show(found), show((ruling, finalizing)), found == (ruling, finalizing)))
}

#[cfg(test)]
mod tests;
