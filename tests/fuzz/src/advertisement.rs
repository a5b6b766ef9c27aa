//! Advertisements: a signed envelope from any peer, with offers that are then searched, ordered and shown.

use crate::{
    choice,
    identity::{NOW, PEER_KEY, provider_peer},
    memory::bounded,
};
use market::{
    book::Book,
    offer::{MAX_OFFERS, Offer, ProviderAd},
    query::{Candidate, MAX_KEYS, Order, Query},
};
use network::ad;
use std::{fmt::Write, sync::LazyLock};
use wire::{MAX_AD_BYTES, MAX_TEXT_BYTES, ad_from_proto, ad_to_proto, decode, encode, proto};

/// Asks for every field there is, so that each is computed from what a stranger wrote.
static EVERY_FIELD: LazyLock<(Query, Vec<Order>)> = LazyLock::new(|| {
    let (mut query, mut order) = (String::new(), Vec::new());
    for (name, _) in market::query::fields() {
        // joined so that no later condition is skipped, whatever the earlier ones say
        let joined = if query.is_empty() { "" } else { " or " };
        write!(query, "{joined}{name}=0 {name}!=0").expect("text grows");
        order.push(format!("-{name}"));
    }
    // more keys than one order may have
    let orders = order.chunks(MAX_KEYS).map(|keys| Order::parse(&keys.join(",")).expect("names of fields"));
    (Query::parse(&query).expect("conditions"), orders.collect())
});

/// The first byte says whether the rest is an envelope as it comes from the network, or the advertisement inside one, which is then
/// signed, since no engine guesses signatures.
pub(crate) fn run(data: &[u8]) {
    match choice(data, 2) {
        Some((0, envelope)) => from_the_network(envelope),
        Some((_, payload)) => from_a_liar(payload),
        None => {}
    }
}

fn from_the_network(envelope: &[u8]) {
    let Ok(checked) = bounded(envelope, |bytes| ad::open(bytes, NOW)) else { return };
    assert_eq!(*checked.raw, *envelope, "what is passed on is what came");
    assert!(envelope.len() <= MAX_AD_BYTES);
    examine(&checked.ad);
    let mut book = Book::new();
    if book.insert(checked.raw, &checked.ad, NOW).is_ok() {
        assert_eq!(book.len(), 1);
        assert_eq!(ad::read(&book.get(&checked.ad.peer).expect("it was taken").raw), Ok(checked.ad));
    }
}

fn from_a_liar(payload: &[u8]) {
    let read = bounded(payload, |bytes| decode::<proto::ProviderAd>(bytes, MAX_AD_BYTES).and_then(ad_from_proto));
    let Ok(advertisement) = read else { return };
    examine(&advertisement);
    let mine = ProviderAd { peer: provider_peer(), ..advertisement };
    let sealed = ad::seal(&PEER_KEY, &mine).expect("an ed25519 key signs anything");
    match ad::open(&sealed, NOW) {
        Ok(checked) => assert_eq!(checked.ad, mine),
        Err(ad::AdFault::Oversize(_)) => assert!(sealed.len() > MAX_AD_BYTES),
        Err(ad::AdFault::Binding(fault)) => assert_eq!(mine.binding.check(&mine.peer, NOW), Err(fault)),
        Err(other) => panic!("our own envelope is refused: {other}"),
    }
}

/// What the rest of the program relies on.
fn examine(ad: &ProviderAd) {
    let again = encode(&ad_to_proto(ad));
    let read = ad_from_proto(decode(&again, usize::MAX).expect("we wrote it")).expect("we wrote it");
    assert_eq!(read, *ad, "written and read again it is another");
    assert!(ad.offers.len() <= MAX_OFFERS);
    text(&ad.region);
    for offer in &ad.offers {
        examine_offer(ad, offer);
    }
    let _ = ad.classes();
}

fn examine_offer(ad: &ProviderAd, offer: &Offer) {
    assert!(offer.free <= offer.slots);
    assert!(!offer.prices.is_empty());
    assert!((1..=market::terms::MAX_INCREMENT_MILLIS).contains(&offer.increment_millis));
    text(&offer.name);
    text(&offer.hardware.to_string());
    offer.busy_until.iter().for_each(|at| text(&at.to_string()));
    let (query, orders) = &*EVERY_FIELD;
    for price in &offer.prices {
        let candidate = Candidate { ad, offer, price, standing: None };
        let _ = query.verdict(&candidate);
        orders.iter().for_each(|order| assert!(order.compare(&candidate, &candidate).is_eq()));
        text(&price.token.show(price.rate.hourly()));
        assert!(price.rate.for_seconds(offer.max_seconds) <= market::money::Amount::MAX);
        assert!(price.rate.for_seconds(price.rate.seconds_for(price.min_deposit)) <= price.min_deposit);
    }
}

/// Text that people see: bounded, and without what a terminal would obey.
fn text(text: &str) {
    // the longest is made of several: every GPU group's model with its count
    assert!(text.len() <= 40 * (MAX_TEXT_BYTES + 16), "{} bytes of text", text.len());
    assert!(!text.contains(char::is_control), "control characters in {text:?}");
}
