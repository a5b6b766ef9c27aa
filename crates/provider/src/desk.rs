//! Where a renter's question is weighed: everything that can be said without asking the chain, and once more with what the chain said of the
//! asker. Each "no" has its code and its words.

use crate::{Config, inventory::Inventory, rules::Rules, service::Service};
use market::{
    money::Rate,
    offer::{Hardware, Offer, Price},
    pricing::{self, Asker, Holding},
    refusal::{Refusal, RefusalCode},
    terms::{Image, Workload},
    time::UnixMillis,
};
use sandbox::{ImageSource, Rootfs};
use wire::QuoteAsk;

/// How far the moment in a request may lie from our clock, in seconds: twice the skew of advertisements, for it also travelled.
const MAX_REQUEST_AGE: u64 = 60;

/// What a question is weighed by.
#[derive(Clone, Copy)]
pub(crate) struct Desk<'a> {
    pub(crate) config: &'a Config,
    pub(crate) rules: &'a Rules,
    pub(crate) inventory: &'a Inventory,
    pub(crate) service: &'a Service,
}

/// What can be agreed to.
#[derive(Debug)]
pub(crate) struct Agreed<'a> {
    pub(crate) offer: &'a Offer,
    /// The price it comes from.
    pub(crate) price: &'a Price,
    /// Of all the slots together, for this asker.
    pub(crate) rate: Rate,
    /// All the slots together.
    pub(crate) hardware: Hardware,
}

/// The root file system of a workload; an error when its image is not named as images must be.
pub(crate) fn rootfs(workload: &Workload) -> Result<Rootfs, sandbox::Error> {
    Ok(match &workload.image {
        Image::HostUsr => Rootfs::HostUsr,
        Image::Oci(reference) => Rootfs::Image(ImageSource::Registry(reference.parse()?)),
    })
}

impl<'a> Desk<'a> {
    /// The offer and price that a question is about, if it can be agreed to at all. `holds` says what the asker's wallet holds, or may hold
    /// as long as that is not known.
    pub(crate) fn weigh(
        self,
        ask: &QuoteAsk,
        now: UnixMillis,
        holds: impl Fn(&Holding) -> bool,
    ) -> Result<Agreed<'a>, Refusal> {
        let no = |code, detail: String| Err(Refusal::new(code, detail));
        let away = ask.at.abs_diff(now.seconds());
        if away > MAX_REQUEST_AGE {
            return no(RefusalCode::BadRequest, format!("the request's time is {away} s away from mine"));
        }
        let Some(offer) = self.inventory.offer(&ask.offer) else {
            return no(RefusalCode::NoSuchSlot, format!("there is no offer `{}` here", ask.offer));
        };
        if !self.config.renters.admit(&ask.wallet) {
            return no(RefusalCode::Renter, format!("by the owner's choice {} rents nothing here", ask.wallet));
        }
        if !offer.is_split_into(ask.slots) {
            return no(RefusalCode::NoSuchSlot, split_words(offer, ask.slots));
        }
        let (price, rate) = self.rate(offer, ask, now, holds)?;
        self.check_time(ask, now)?;
        if let Some(lacking) =
            ask.workload.needs().find(|needed| !offer.hardware.software.iter().any(|has| has == needed))
        {
            return no(RefusalCode::Image, format!("`{lacking}` is not among what this offer has"));
        }
        rootfs(&ask.workload).map_err(|error| Refusal::new(RefusalCode::Image, error.to_string()))?;
        if ask.deposit < price.min_deposit || ask.deposit.get() == 0 {
            return no(RefusalCode::Funds, format!("the least deposit is {}", price.token.show(price.min_deposit)));
        }
        if rate.for_seconds(ask.max_seconds) < price.min_deposit {
            let least = price.token.show(price.min_deposit);
            return no(
                RefusalCode::Funds,
                format!("for so short a time it costs less than the least deposit of {least}"),
            );
        }
        if ask.deposit > ask.rate.for_seconds(ask.max_seconds) {
            return no(RefusalCode::BadRequest, "the deposit is more than the longest rental costs".to_owned());
        }
        Ok(Agreed { offer, price, rate, hardware: offer.hardware.times(ask.slots) })
    }

    fn rate(
        self,
        offer: &Offer,
        ask: &QuoteAsk,
        now: UnixMillis,
        holds: impl Fn(&Holding) -> bool,
    ) -> Result<(&'a Price, Rate), Refusal> {
        let policy = self.rules.policy(&offer.name);
        let price = policy.and_then(|policy| policy.listed(ask.escrow, ask.token));
        let seconds = ask.max_seconds.saturating_sub(self.config.ready_seconds());
        let asker = Asker { escrow: ask.escrow, token: ask.token, wallet: ask.wallet, seconds };
        let rate = policy.and_then(|policy| pricing::price(policy, &asker, now, holds));
        let (Some(listed), Some(rate)) = (price, rate.and_then(|rate| rate.times(ask.slots))) else {
            let detail = format!("`{}` has no price in that token on chain {}", offer.name, ask.escrow.chain);
            return Err(Refusal::new(RefusalCode::Settlement, detail));
        };
        if ask.interruptible {
            return bid(&listed.price, ask).map(|bid| (&listed.price, bid));
        }
        if ask.rate < rate {
            let hourly = listed.price.token.show(rate.hourly());
            return Err(Refusal::new(RefusalCode::Price, format!("the price is {hourly} an hour")));
        }
        Ok((&listed.price, rate))
    }

    fn check_time(self, ask: &QuoteAsk, now: UnixMillis) -> Result<(), Refusal> {
        let serving = ask.max_seconds.saturating_sub(self.config.ready_seconds());
        let (min, max) = (self.config.min_seconds, self.config.max_seconds);
        if !(min..=max).contains(&serving) {
            let detail = format!("rentals last {min} to {max} seconds, {serving} were asked for");
            return Err(Refusal::new(RefusalCode::Duration, detail));
        }
        self.service.admit(serving, self.config, now)
    }
}

/// What an interruptible rental pays: its bid, if that is high enough.
fn bid(price: &Price, ask: &QuoteAsk) -> Result<Rate, Refusal> {
    let no = |detail: String| Err(Refusal::new(RefusalCode::Price, detail));
    match price.floor.map(|floor| floor.times(ask.slots)) {
        None => no("no bids are taken, only rentals on demand".to_owned()),
        Some(floor) if floor.is_none_or(|floor| ask.rate < floor) => {
            let least = floor.map_or_else(String::new, |floor| price.token.show(floor.hourly()));
            no(format!("bids begin at {least} an hour"))
        }
        Some(_) => Ok(ask.rate),
    }
}

fn split_words(offer: &Offer, asked: u32) -> String {
    let counts: Vec<_> = offer.splits.iter().map(u32::to_string).collect();
    let counts =
        if counts.is_empty() { "one at a time".to_owned() } else { format!("{} at a time", counts.join(" or ")) };
    format!("slots of `{}` are rented {counts}, {asked} were asked for", offer.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inventory::tests::{config, rules, slots},
        service::Why,
    };
    use alloy_primitives::Address;
    use market::terms::{NetworkAccess, REACHES_PUBLIC, RUNS_IMAGES};
    use market::{money::Amount, pricing::Reduction, signed::Escrow, terms::Workload};

    const NOW: UnixMillis = UnixMillis(1_000_000_000);
    const OPEN: Service = Service::Open { next: None };

    fn ask() -> QuoteAsk {
        QuoteAsk {
            escrow: Escrow { chain: 1, address: Address::repeat_byte(9) },
            token: Address::repeat_byte(8),
            wallet: Address::repeat_byte(1),
            renter_key: Address::repeat_byte(2),
            at: NOW.seconds(),
            offer: "small".into(),
            rate: Rate::from_hourly(Amount::new(3_600_000).unwrap()).unwrap(),
            max_seconds: 60 + 30,
            deposit: Amount::new(60_000).unwrap(),
            interruptible: false,
            workload: Workload::default(),
            continues: None,
            slots: 1,
        }
    }

    const IMAGE: &str = "library/python@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn weighed(config: &Config, service: &Service, change: impl FnOnce(&mut QuoteAsk)) -> Result<Rate, Refusal> {
        let mut ask = ask();
        change(&mut ask);
        let inventory = slots(8, &config.slot[0].splits);
        Desk { config, rules: &rules(), inventory: &inventory, service }
            .weigh(&ask, NOW, |_| true)
            .map(|agreed| agreed.rate)
    }

    fn refused(change: impl FnOnce(&mut QuoteAsk)) -> Option<RefusalCode> {
        weighed(&config(8, &[]), &OPEN, change).err().map(|refusal| refusal.code)
    }

    #[test]
    fn a_fair_question_is_not_refused() {
        assert_eq!(refused(|_| {}), None);
    }

    #[test]
    fn each_unfair_question_is_refused_for_its_own_reason() {
        assert_eq!(refused(|ask| ask.at -= 61), Some(RefusalCode::BadRequest));
        assert_eq!(refused(|ask| ask.offer = "large".into()), Some(RefusalCode::NoSuchSlot));
        assert_eq!(refused(|ask| ask.slots = 2), Some(RefusalCode::NoSuchSlot));
        assert_eq!(refused(|ask| ask.escrow.chain = 2), Some(RefusalCode::Settlement));
        assert_eq!(refused(|ask| ask.token = Address::ZERO), Some(RefusalCode::Settlement));
        assert_eq!(refused(|ask| ask.rate = Rate::default()), Some(RefusalCode::Price));
        assert_eq!(refused(|ask| ask.interruptible = true), Some(RefusalCode::Price));
        assert_eq!(refused(|ask| ask.max_seconds = 39), Some(RefusalCode::Duration));
        assert_eq!(refused(|ask| ask.max_seconds = 3_631), Some(RefusalCode::Duration));
        assert_eq!(refused(|ask| ask.workload.network = NetworkAccess::Egress), Some(RefusalCode::Image));
        assert_eq!(refused(|ask| ask.workload.image = Image::Oci(IMAGE.into())), Some(RefusalCode::Image));
        assert_eq!(refused(|ask| ask.deposit = Amount::new(9_999).unwrap()), Some(RefusalCode::Funds));
        assert_eq!(refused(|ask| ask.deposit = Amount::new(90_001).unwrap()), Some(RefusalCode::BadRequest));
    }

    #[test]
    fn a_renter_that_the_owner_does_not_serve_is_told_so() {
        let mut config = config(8, &[]);
        config.renters.deny = vec![Address::repeat_byte(1)];
        assert_eq!(weighed(&config, &OPEN, |_| {}).unwrap_err().code, RefusalCode::Renter);
        assert!(weighed(&config, &OPEN, |ask| ask.wallet = Address::repeat_byte(3)).is_ok());
        config.renters.allow = vec![Address::repeat_byte(4)];
        assert_eq!(
            weighed(&config, &OPEN, |ask| ask.wallet = Address::repeat_byte(3)).unwrap_err().code,
            RefusalCode::Renter
        );
    }

    #[test]
    fn out_of_service_a_question_is_refused_as_such() {
        let closed = Service::Closed { until: Some(UnixMillis(2_000_000_000)), why: Why::Maintenance };
        let refusal = weighed(&config(8, &[]), &closed, |_| {}).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Draining);
        assert!(refusal.detail.contains("maintenance until 1970-01-24"), "{refusal}");
    }

    #[test]
    fn images_and_a_network_are_given_where_they_are_offered_and_an_image_must_have_its_digest() {
        let config = config(8, &[]);
        let software = [RUNS_IMAGES.to_owned(), REACHES_PUBLIC.to_owned()];
        let machine = crate::inventory::Machine { software: software.to_vec(), ..Default::default() };
        let inventory = Inventory::new(&config, &market::id::PeerId::random(), &machine).unwrap();
        let weighed = |image: &str| {
            let workload = Workload { image: Image::Oci(image.to_owned()), network: NetworkAccess::Egress };
            let desk = Desk { config: &config, rules: &rules(), inventory: &inventory, service: &OPEN };
            desk.weigh(&QuoteAsk { workload, ..ask() }, NOW, |_| true).map(|_| ()).map_err(|refusal| refusal.code)
        };
        assert_eq!(weighed(IMAGE), Ok(()));
        assert_eq!(weighed("python:3.13"), Err(RefusalCode::Image));
        assert_eq!(weighed("../etc@sha256:0"), Err(RefusalCode::Image));
    }

    #[test]
    fn several_slots_cost_and_are_several_times_as_much() {
        let config = config(8, &[4, 8]);
        let dear = |ask: &mut QuoteAsk| ask.rate = ask.rate.times(8).unwrap();
        let four = weighed(&config, &OPEN, |ask| {
            ask.slots = 4;
            dear(ask);
        });
        assert_eq!(four.unwrap(), ask().rate.times(4).unwrap());
        assert_eq!(weighed(&config, &OPEN, |ask| ask.slots = 4).unwrap_err().code, RefusalCode::Price);
        let refusal = weighed(&config, &OPEN, |ask| ask.slots = 1).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NoSuchSlot);
        assert!(refusal.detail.contains("4 or 8 at a time, 1 were asked for"), "{refusal}");
    }

    #[test]
    fn a_bid_at_or_above_the_floor_is_what_an_interruptible_rental_pays() {
        let mut policy = rules().policy("small").unwrap().clone();
        let floor = ask().rate.percent(50).unwrap();
        policy.list[0].price.floor = Some(floor);
        let (config, rules, inventory) = (config(8, &[]), Rules::of("small", policy), slots(8, &[]));
        let desk = Desk { config: &config, rules: &rules, inventory: &inventory, service: &OPEN };
        let deposit = Amount::new(40_000).unwrap();
        let bid =
            |rate| desk.weigh(&QuoteAsk { rate, interruptible: true, deposit, ..ask() }, NOW, |_| true).map(|a| a.rate);
        assert_eq!(bid(floor).unwrap(), floor);
        assert_eq!(bid(ask().rate).unwrap(), ask().rate);
        let refusal = bid(floor.less(1)).unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Price);
        assert!(refusal.detail.contains("bids begin at 1.8 USD"), "{refusal}");
    }

    #[test]
    fn a_discount_is_for_those_who_hold_what_it_is_for() {
        let art = Holding { chain: 10, token: Address::repeat_byte(7) };
        let mut policy = rules().policy("small").unwrap().clone();
        policy.reductions = vec![Reduction { basis_points: 2_000, holding: Some(art), ..Reduction::default() }];
        let (config, rules, inventory) = (config(8, &[]), Rules::of("small", policy), slots(8, &[]));
        let desk = Desk { config: &config, rules: &rules, inventory: &inventory, service: &OPEN };
        let cheap = QuoteAsk { rate: ask().rate.less(2_000), ..ask() };
        assert_eq!(desk.weigh(&cheap, NOW, |_| true).unwrap().rate, cheap.rate);
        assert_eq!(desk.weigh(&cheap, NOW, |_| false).unwrap_err().code, RefusalCode::Price);
        assert_eq!(desk.weigh(&ask(), NOW, |_| true).unwrap().rate, cheap.rate, "whoever asks for more gets it too");
    }
}
