//! The machine's slots: what each is made of, what it costs, and who has it.

use crate::{Config, Error};
use market::{
    id::{DeviceId, PeerId, RentalId},
    money::{Rate, parse_units},
    offer::{Hardware, Isolation, Offer, Price, Verification},
    quote::{MAX_QUOTE_LIFETIME, MAX_RENTAL_SECONDS, MAX_WINDOW, MIN_WINDOW},
    terms::MAX_INCREMENT_MILLIS,
    time::UnixMillis,
};
use settlement::Chain;
use std::collections::HashMap;

/// The most slots one machine may have: far beyond any real one, and small enough to search through.
const MAX_SLOTS: u32 = 1_024;

/// A slot: rented as one, to one renter at a time.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// Its own name: the offer's, with a number when there are several.
    pub(crate) name: String,
    /// The offer it belongs to.
    pub(crate) offer: String,
    /// Its id.
    pub(crate) device: DeviceId,
    /// Whose it is now.
    pub(crate) occupant: Option<Occupant>,
}

/// Who has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupant {
    /// A renter whose funds are being looked at; the number tells which.
    Asking(u64),
    /// A rental.
    Rental(RentalId),
}

/// The slots and their offers.
#[derive(Debug)]
pub(crate) struct Inventory {
    pub(crate) slots: Vec<Slot>,
    offers: Vec<Offer>,
}

impl Inventory {
    /// Reads the configuration against this machine and the chains.
    pub(crate) fn new(config: &Config, chains: &[Chain], peer: &PeerId) -> Result<Self, Error> {
        check_numbers(config)?;
        let cpu_model = cpu_model();
        let mut inventory = Self { slots: vec![], offers: vec![] };
        for kind in &config.slot {
            if kind.count == 0 || inventory.slots.len() + kind.count as usize > MAX_SLOTS as usize {
                return Err(Error::Config(format!("slot `{}`: count must be 1 to {MAX_SLOTS} in all", kind.name)));
            }
            if inventory.offers.iter().any(|offer| offer.name == kind.name) {
                return Err(Error::Config(format!("two slots are named `{}`", kind.name)));
            }
            let prices = prices(config, chains, &kind.name)?;
            if prices.is_empty() {
                return Err(Error::Config(format!("slot `{}` has no price: add a [[provider.pricing]]", kind.name)));
            }
            for number in 1..=kind.count {
                let name = if kind.count == 1 { kind.name.clone() } else { format!("{}-{number}", kind.name) };
                let device = DeviceId::of_named_slot(peer, &name);
                inventory.slots.push(Slot { name, offer: kind.name.clone(), device, occupant: None });
            }
            inventory.offers.push(Offer {
                name: kind.name.clone(),
                slots: kind.count,
                free: kind.count,
                busy_until: None,
                hardware: Hardware {
                    cpu_model: cpu_model.clone(),
                    cpu_millis: kind.cpu_millis,
                    memory_mib: kind.memory_mib,
                    disk_mib: kind.disk_mib,
                    ..Hardware::default()
                },
                prices,
                min_seconds: config.min_seconds,
                max_seconds: config.max_seconds,
                increment_millis: config.increment_millis,
                ready_seconds: config.ready_seconds,
                notice_seconds: config.notice_seconds,
                window: config.window_seconds,
                arbiters: config.arbiter.into_iter().collect(),
                isolation: Isolation::SharedKernel,
                verification: Verification::Declared,
                whole_host: false,
                splits: vec![],
                discounts: vec![],
            });
        }
        if inventory.slots.is_empty() {
            return Err(Error::Config("nothing to rent out: add a [[provider.slot]]".to_owned()));
        }
        Ok(inventory)
    }

    /// The offer of a name.
    pub(crate) fn offer(&self, name: &str) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.name == name)
    }

    /// A free slot of an offer, now taken by `occupant`.
    pub(crate) fn take(&mut self, offer: &str, occupant: Occupant) -> Option<Slot> {
        let slot = self.slots.iter_mut().find(|slot| slot.offer == offer && slot.occupant.is_none())?;
        slot.occupant = Some(occupant);
        Some(slot.clone())
    }

    /// Gives a particular slot to an occupant, as after a restart or when a question becomes a rental.
    pub(crate) fn assign(&mut self, name: &str, occupant: Occupant) {
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.name == name) {
            slot.occupant = Some(occupant);
        }
    }

    /// Takes the slot back from `occupant`.
    pub(crate) fn free(&mut self, occupant: Occupant) {
        for slot in self.slots.iter_mut().filter(|slot| slot.occupant == Some(occupant)) {
            slot.occupant = None;
        }
    }

    /// How many slots are free, and how many are not.
    pub(crate) fn count(&self) -> (usize, usize) {
        let free = self.slots.iter().filter(|slot| slot.occupant.is_none()).count();
        (free, self.slots.len() - free)
    }

    /// Who has the slots of an offer.
    pub(crate) fn occupants(&self, offer: &str) -> impl Iterator<Item = Occupant> {
        self.slots.iter().filter(move |slot| slot.offer == offer).filter_map(|slot| slot.occupant)
    }

    /// The offers as they stand now; `ends` tells when each rental is expected to give its slot back.
    pub(crate) fn offers(&self, ends: &HashMap<RentalId, UnixMillis>) -> Vec<Offer> {
        let count = |offer: &Offer| {
            self.slots.iter().filter(|slot| slot.offer == offer.name && slot.occupant.is_none()).count()
        };
        self.offers
            .iter()
            .map(|offer| {
                let free = u32::try_from(count(offer)).unwrap_or(u32::MAX);
                let busy_until = if free == 0 { self.busy_until(&offer.name, ends) } else { None };
                Offer { free, busy_until, ..offer.clone() }
            })
            .collect()
    }

    /// When the first slot of an offer comes back, as far as is known.
    pub(crate) fn busy_until(&self, offer: &str, ends: &HashMap<RentalId, UnixMillis>) -> Option<UnixMillis> {
        self.occupants(offer)
            .filter_map(|occupant| match occupant {
                Occupant::Rental(id) => ends.get(&id).copied(),
                Occupant::Asking(_) => None,
            })
            .min()
    }
}

fn check_numbers(config: &Config) -> Result<(), Error> {
    let within = |name: &str, value: u32, range: std::ops::RangeInclusive<u32>| {
        if range.contains(&value) {
            Ok(())
        } else {
            Err(Error::Config(format!("{name} is {value}, expected {} to {}", range.start(), range.end())))
        }
    };
    if config.arbiter.is_some_and(|arbiter| arbiter.is_zero()) {
        return Err(Error::Config("arbiter is the zero address: leave it out for none".to_owned()));
    }
    within("increment_millis", config.increment_millis, 1..=MAX_INCREMENT_MILLIS)?;
    within("window_seconds", config.window_seconds, MIN_WINDOW..=MAX_WINDOW)?;
    within("hold_seconds", config.hold_seconds, 1..=MAX_QUOTE_LIFETIME)?;
    within("min_seconds", config.min_seconds, 1..=config.max_seconds)?;
    within(
        "max_seconds",
        config.max_seconds,
        1..=MAX_RENTAL_SECONDS - config.ready_seconds.min(MAX_RENTAL_SECONDS - 1),
    )?;
    within("ad_lifetime_seconds", config.ad_lifetime_seconds, 3..=3_600)
}

fn prices(config: &Config, chains: &[Chain], slot: &str) -> Result<Vec<Price>, Error> {
    let mut prices = Vec::new();
    for pricing in
        config.pricing.iter().filter(|pricing| pricing.slots.is_empty() || pricing.slots.iter().any(|s| s == slot))
    {
        let chain = chains.iter().find(|chain| chain.config().name == pricing.chain).ok_or_else(|| {
            Error::Config(format!("pricing names the chain `{}`, which has no [[chain]]", pricing.chain))
        })?;
        let token = chain
            .config()
            .tokens
            .iter()
            .find(|token| token.symbol == pricing.token)
            .ok_or_else(|| Error::Config(format!("chain `{}` has no token `{}`", pricing.chain, pricing.token)))?;
        let amount = |field: &str, text: &str| {
            parse_units(text, token.decimals).map_err(|error| Error::Config(format!("pricing: {field}: {error}")))
        };
        let hourly = amount("hourly", &pricing.hourly)?;
        prices.push(Price {
            escrow: chain.escrow(),
            token: token.clone(),
            rate: Rate::from_hourly(hourly).ok_or_else(|| Error::Config("pricing: hourly: too large".to_owned()))?,
            floor: None,
            min_deposit: amount("min_deposit", &pricing.min_deposit)?,
        });
    }
    Ok(prices)
}

/// The processor's model as the kernel names it; empty when it does not.
fn cpu_model() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    line.trim_start_matches([' ', '\t', ':'])
        .chars()
        .filter(|c| !c.is_control())
        .take(wire::MAX_TEXT_BYTES / 4)
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use alloy_primitives::{Address, B256};
    use market::{
        money::{Amount, Token},
        signed::Escrow,
    };

    /// Two slots of one offer at 3.60 an hour.
    pub(crate) fn two_slots() -> Inventory {
        let escrow = Escrow { chain: 1, address: Address::repeat_byte(9) };
        let token = Token { chain: 1, address: Address::repeat_byte(8), symbol: "USD".into(), decimals: 6 };
        let rate = Rate::from_hourly(Amount::new(3_600_000).unwrap()).unwrap();
        let slot = |number: u8| Slot {
            name: format!("small-{number}"),
            offer: "small".into(),
            device: DeviceId(B256::repeat_byte(number)),
            occupant: None,
        };
        let offer = Offer {
            name: "small".into(),
            slots: 2,
            free: 2,
            busy_until: None,
            hardware: Hardware { cpu_millis: 1_000, ..Hardware::default() },
            prices: vec![Price { escrow, token, rate, floor: None, min_deposit: Amount::new(10_000).unwrap() }],
            min_seconds: 10,
            max_seconds: 3_600,
            increment_millis: 10_000,
            ready_seconds: 30,
            notice_seconds: 30,
            window: 86_400,
            arbiters: vec![],
            isolation: Isolation::SharedKernel,
            verification: Verification::Declared,
            whole_host: false,
            splits: vec![],
            discounts: vec![],
        };
        Inventory { slots: vec![slot(1), slot(2)], offers: vec![offer] }
    }

    #[test]
    fn a_slot_has_one_occupant_and_comes_back_from_that_one_alone() {
        let mut inventory = two_slots();
        let rental = |n| Occupant::Rental(RentalId(B256::repeat_byte(n)));
        assert_eq!(inventory.take("small", rental(1)).unwrap().name, "small-1");
        assert_eq!(inventory.take("small", Occupant::Asking(7)).unwrap().name, "small-2");
        assert!(inventory.take("small", rental(3)).is_none());
        inventory.free(rental(9));
        assert!(inventory.take("small", rental(3)).is_none());
        inventory.free(Occupant::Asking(7));
        assert_eq!(inventory.take("small", rental(3)).unwrap().name, "small-2");
    }

    #[test]
    fn an_offer_without_a_free_slot_says_when_the_first_comes_back() {
        let mut inventory = two_slots();
        let id = |n| RentalId(B256::repeat_byte(n));
        let ends = HashMap::from([(id(1), UnixMillis(5_000)), (id(2), UnixMillis(4_000))]);
        inventory.take("small", Occupant::Rental(id(1)));
        assert_eq!((inventory.offers(&ends)[0].free, inventory.offers(&ends)[0].busy_until), (1, None));
        inventory.take("small", Occupant::Rental(id(2)));
        assert_eq!(
            (inventory.offers(&ends)[0].free, inventory.offers(&ends)[0].busy_until),
            (0, Some(UnixMillis(4_000)))
        );
    }
}
