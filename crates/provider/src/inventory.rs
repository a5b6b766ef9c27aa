//! The machine's slots: what each is made of and who has it. Slots are rented one at a time, or several together where the owner lets
//! them be: then they are one to their renter, under one name.

use crate::{
    Config, Error,
    cards::{Cards, SlotCards},
    config::SlotConfig,
    rules::Rules,
    service::{Service, longest_advertised},
};
use gpu::measure::{Benchmark, CpuFigures};
use market::{
    id::{DeviceId, PeerId, RentalId},
    offer::{Hardware, Isolation, MAX_SLOTS_TOGETHER, Offer, Verification},
    terms::{REACHES_PUBLIC, RUNS_IMAGES},
    time::UnixMillis,
};
use sandbox::{Capabilities, Network};
use std::collections::HashMap;

/// The most slots one machine may have: far beyond any real one, and small enough to search through.
const MAX_SLOTS: u32 = 1_024;
/// Stands between the numbers of slots that are rented together.
const TOGETHER: char = '+';

/// A slot: never rented to two at a time.
#[derive(Clone, Debug)]
pub(crate) struct Slot {
    /// Its own name: the offer's, with a number when there are several.
    pub(crate) name: String,
    /// The offer it belongs to.
    pub(crate) offer: String,
    /// Whose it is now.
    pub(crate) occupant: Option<Occupant>,
    /// Its GPUs.
    pub(crate) cards: SlotCards,
}

/// Who has a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Occupant {
    /// A renter whose funds are being looked at; the number tells which.
    Asking(u64),
    /// A rental.
    Rental(RentalId),
}

/// Slots that were taken together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Their name: `cpu-2`, or `cpu-2+3` for two.
    pub(crate) name: String,
    /// The id under which they are rented as one.
    pub(crate) device: DeviceId,
}

/// What a machine has beside what its owner writes down.
#[derive(Default)]
pub(crate) struct Machine<'a> {
    pub(crate) cards: Cards,
    /// What workloads may ask for.
    pub(crate) software: Vec<String>,
    pub(crate) benchmark: Option<&'a Benchmark>,
}

impl Machine<'_> {
    /// How fast its disk is read, in megabytes a second; 0 when it was not measured.
    fn disk_mb_per_s(&self) -> u32 {
        let disk = self.benchmark.and_then(|found| found.disk);
        disk.map_or(0, |disk| u32::try_from(disk.sequential_read_bytes_per_second / 1_000_000).unwrap_or(u32::MAX))
    }

    /// Millions of 32-bit multiply-adds that each core manages while all of them work; 0 when that was not measured.
    fn core_mega_multiply_adds(&self) -> u32 {
        let cpu = self.benchmark.and_then(|found| found.cpu);
        let of_each = |cpu: CpuFigures| cpu.all_cores_multiply_adds_per_second / u64::from(cpu.cores.max(1));
        cpu.map_or(0, |cpu| u32::try_from(of_each(cpu) / 1_000_000).unwrap_or(u32::MAX))
    }
}

/// The slots and their offers.
#[derive(Debug)]
pub(crate) struct Inventory {
    pub(crate) slots: Vec<Slot>,
    offers: Vec<Offer>,
    peer: PeerId,
}

impl Inventory {
    /// Reads the configuration against this machine.
    pub(crate) fn new(config: &Config, peer: &PeerId, machine: &Machine<'_>) -> Result<Self, Error> {
        let (cpu_model, mut taken) = (cpu_model(), Vec::new());
        let mut inventory = Self { slots: vec![], offers: vec![], peer: *peer };
        for kind in &config.slot {
            if kind.count == 0 || inventory.slots.len() + kind.count as usize > MAX_SLOTS as usize {
                return Err(Error::Config(format!("slot `{}`: count must be 1 to {MAX_SLOTS} in all", kind.name)));
            }
            if inventory.offers.iter().any(|offer| offer.name == kind.name) {
                return Err(Error::Config(format!("two slots are named `{}`", kind.name)));
            }
            let splits = splits(kind)?;
            if (kind.gpus == 0) != kind.gpu_model.is_empty() {
                return Err(Error::Config(format!("slot `{}`: gpus and gpu_model belong together", kind.name)));
            }
            let dealt = machine.cards.deal(kind, &mut taken)?;
            let of_cards = dealt.first().and_then(|slot| machine.cards.of_slot(slot, machine.benchmark));
            for (number, cards) in (1..).zip(dealt) {
                let name = if kind.count == 1 { kind.name.clone() } else { format!("{}-{number}", kind.name) };
                inventory.slots.push(Slot { name, offer: kind.name.clone(), occupant: None, cards });
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
                    driver_version: of_cards.as_ref().map_or_else(String::new, |cards| cards.driver_version.clone()),
                    cuda_version: of_cards.as_ref().map_or(0, |cards| cards.cuda_version),
                    disk_mb_per_s: machine.disk_mb_per_s(),
                    core_mega_multiply_adds: machine.core_mega_multiply_adds(),
                    software: machine.software.clone(),
                    gpus: of_cards.as_ref().map(|cards| cards.group.clone()).into_iter().collect(),
                    ..Hardware::default()
                },
                prices: vec![],
                min_seconds: config.min_seconds,
                max_seconds: config.max_seconds,
                increment_millis: config.increment_millis,
                ready_seconds: config.ready_seconds(),
                notice_seconds: config.notice_seconds,
                window: config.window_seconds,
                arbiters: config.arbiter.into_iter().collect(),
                isolation: Isolation::SharedKernel,
                verification: of_cards.as_ref().map_or(Verification::Declared, |cards| cards.verification),
                whole_host: false,
                splits,
                discounts: vec![],
            });
        }
        if inventory.slots.is_empty() {
            return Err(Error::Config("nothing to rent out: add a [[provider.slot]]".to_owned()));
        }
        Ok(inventory)
    }

    /// The offer of a name: what its slots are made of. What they cost is the rules' to say.
    pub(crate) fn offer(&self, name: &str) -> Option<&Offer> {
        self.offers.iter().find(|offer| offer.name == name)
    }

    /// So many free slots of an offer, now taken by `occupant`.
    pub(crate) fn take(&mut self, offer: &str, count: u32, occupant: Occupant) -> Option<Taken> {
        let mut free: Vec<_> =
            self.slots.iter_mut().filter(|slot| slot.offer == offer && slot.occupant.is_none()).collect();
        if count == 0 || free.len() < count as usize {
            return None;
        }
        free.truncate(count as usize);
        free.iter_mut().for_each(|slot| slot.occupant = Some(occupant));
        let mut name = String::new();
        for slot in free {
            match slot.name.rsplit_once('-').filter(|_| !name.is_empty()) {
                Some((_, number)) => name.extend([TOGETHER.to_string().as_str(), number]),
                None => name.clone_from(&slot.name),
            }
        }
        Some(Taken { device: DeviceId::of_named_slot(&self.peer, &name), name })
    }

    /// The cards of the slots of a name, slot by slot.
    pub(crate) fn cards(&self, name: &str) -> Vec<SlotCards> {
        let names = each(name);
        self.slots.iter().filter(|slot| names.contains(&slot.name)).map(|slot| slot.cards.clone()).collect()
    }

    /// Gives the slots of a name to an occupant, as after a restart or when a question becomes a rental.
    pub(crate) fn assign(&mut self, name: &str, occupant: Occupant) {
        let names = each(name);
        for slot in self.slots.iter_mut().filter(|slot| names.contains(&slot.name)) {
            slot.occupant = Some(occupant);
        }
    }

    /// Takes the slots back from `occupant`.
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

    /// The offers as they stand now; `ends` tells when each rental is expected to give its slots back.
    pub(crate) fn offers(
        &self,
        (config, rules): (&Config, &Rules),
        service: &Service,
        ends: &HashMap<RentalId, UnixMillis>,
        now: UnixMillis,
    ) -> Vec<Offer> {
        if matches!(service, Service::Closed { until: None, .. }) {
            return vec![];
        }
        let max_seconds = longest_advertised(service, config, now);
        let closed = match service {
            Service::Closed { until, .. } => Some(*until),
            Service::Open { next } if max_seconds < config.min_seconds => Some(next.map(|closure| closure.end)),
            Service::Open { .. } => None,
        };
        let stand = |offer: &Offer| {
            let policy = rules.policy(&offer.name)?;
            let free = if closed.is_some() { 0 } else { self.free_of(offer) };
            let busy = || self.busy_until(&offer.name, smallest(offer), ends);
            Some(Offer {
                free,
                busy_until: if free == 0 { closed.unwrap_or_else(busy) } else { None },
                prices: policy.advertised(now),
                discounts: policy.advertised_discounts(now),
                min_seconds: config.min_seconds,
                max_seconds: max_seconds.max(config.min_seconds),
                ready_seconds: config.ready_seconds(),
                ..offer.clone()
            })
        };
        self.offers.iter().filter_map(stand).collect()
    }

    /// How many slots of an offer can be rented now: none while fewer are free than are rented together.
    fn free_of(&self, offer: &Offer) -> u32 {
        let free = self.slots.iter().filter(|slot| slot.offer == offer.name && slot.occupant.is_none()).count();
        u32::try_from(free).ok().filter(|free| *free >= smallest(offer)).unwrap_or_default()
    }

    /// When so many slots of an offer are free, as far as is known.
    pub(crate) fn busy_until(
        &self,
        offer: &str,
        count: u32,
        ends: &HashMap<RentalId, UnixMillis>,
    ) -> Option<UnixMillis> {
        let mut back: Vec<_> = self
            .slots
            .iter()
            .filter(|slot| slot.offer == offer)
            .filter_map(|slot| match slot.occupant {
                None => Some(UnixMillis(0)),
                Some(Occupant::Rental(id)) => ends.get(&id).copied(),
                Some(Occupant::Asking(_)) => None,
            })
            .collect();
        back.sort_unstable();
        back.get((count as usize).checked_sub(1)?).copied().filter(|at| *at > UnixMillis(0))
    }
}

/// The fewest slots of an offer that are rented together.
fn smallest(offer: &Offer) -> u32 {
    offer.splits.first().copied().unwrap_or(1)
}

/// How many slots of a kind may be rented together, in order; none said means one at a time.
fn splits(kind: &SlotConfig) -> Result<Vec<u32>, Error> {
    let wrong = |why: String| Err(Error::Config(format!("slot `{}`: {why}", kind.name)));
    if kind.name.contains(TOGETHER) {
        return wrong(format!("a name has no `{TOGETHER}`"));
    }
    let mut splits = kind.splits.clone();
    splits.sort_unstable();
    splits.dedup();
    let most = kind.count.min(MAX_SLOTS_TOGETHER);
    match splits.iter().find(|split| !(1..=most).contains(split)) {
        Some(split) => wrong(format!("{split} of {} cannot be rented together, 1 to {most} can", kind.count)),
        None => Ok(splits),
    }
}

/// The names of the slots that stand together in one name.
fn each(name: &str) -> Vec<String> {
    let Some((first, rest)) = name.split_once(TOGETHER) else { return vec![name.to_owned()] };
    let offer = first.rsplit_once('-').map_or(first, |(offer, _)| offer);
    let others = rest.split(TOGETHER).map(|number| format!("{offer}-{number}"));
    [first.to_owned()].into_iter().chain(others).collect()
}

/// What renters' workloads may ask for here, as offers say it. Egress that is wanted and cannot be had is an error, and not left out silently.
pub(crate) fn software(config: &Config, capabilities: &Capabilities) -> Result<Vec<String>, Error> {
    let mut software = vec![];
    if config.images {
        software.push(RUNS_IMAGES.to_owned());
    }
    if config.egress {
        if !capabilities.networks.contains(&Network::Egress) {
            return Err(Error::Config(
                "egress is on, and this machine cannot give sandboxes a network: see the log".into(),
            ));
        }
        software.push(REACHES_PUBLIC.to_owned());
    }
    Ok(software)
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
    use crate::{maintenance::Closure, service::Why};
    use alloy_primitives::{Address, B256};
    use market::{
        money::{Amount, Rate, Token},
        offer::Price,
        pricing::{ListPrice, Policy},
        signed::Escrow,
    };
    use proptest::prelude::*;

    /// What the rules of these tests' machine are read from.
    pub(crate) fn config(count: u32, splits: &[u32]) -> Config {
        let slot = SlotConfig {
            name: "small".into(),
            count,
            cpu_millis: 1_000,
            memory_mib: 512,
            disk_mib: 256,
            splits: splits.to_vec(),
            gpus: 0,
            gpu_model: String::new(),
        };
        Config { slot: vec![slot], min_seconds: 10, max_seconds: 3_600, ..Config::default() }
    }

    /// Slots of one offer.
    pub(crate) fn slots(count: u32, splits: &[u32]) -> Inventory {
        Inventory::new(&config(count, splits), &PeerId::random(), &Machine::default()).unwrap()
    }

    /// They cost 3.60 an hour.
    pub(crate) fn rules() -> Rules {
        let escrow = Escrow { chain: 1, address: Address::repeat_byte(9) };
        let token = Token { chain: 1, address: Address::repeat_byte(8), symbol: "USD".into(), decimals: 6 };
        let rate = Rate::from_hourly(Amount::new(3_600_000).unwrap()).unwrap();
        let price = Price { escrow, token, rate, floor: None, min_deposit: Amount::new(10_000).unwrap() };
        Rules::of("small", Policy { list: vec![ListPrice { price, least: Rate::default() }], ..Policy::default() })
    }

    const OPEN: Service = Service::Open { next: None };

    fn shown(inventory: &Inventory, service: &Service, ends: &HashMap<RentalId, UnixMillis>) -> Vec<Offer> {
        inventory.offers((&config(2, &[]), &rules()), service, ends, UnixMillis(1_000))
    }

    fn rental(n: u8) -> Occupant {
        Occupant::Rental(RentalId(B256::repeat_byte(n)))
    }

    #[test]
    fn a_slot_has_one_occupant_and_comes_back_from_that_one_alone() {
        let mut inventory = slots(2, &[]);
        assert_eq!(inventory.take("small", 1, rental(1)).unwrap().name, "small-1");
        assert_eq!(inventory.take("small", 1, Occupant::Asking(7)).unwrap().name, "small-2");
        assert!(inventory.take("small", 1, rental(3)).is_none());
        inventory.free(rental(9));
        assert!(inventory.take("small", 1, rental(3)).is_none());
        inventory.free(Occupant::Asking(7));
        assert_eq!(inventory.take("small", 1, rental(3)).unwrap().name, "small-2");
    }

    #[test]
    fn an_offer_without_a_free_slot_says_when_the_first_comes_back() {
        let mut inventory = slots(2, &[]);
        let id = |n| RentalId(B256::repeat_byte(n));
        let ends = HashMap::from([(id(1), UnixMillis(5_000)), (id(2), UnixMillis(4_000))]);
        let now = |inventory: &Inventory| {
            let offer = &shown(inventory, &OPEN, &ends)[0];
            (offer.free, offer.busy_until)
        };
        inventory.take("small", 1, Occupant::Rental(id(1)));
        assert_eq!(now(&inventory), (1, None));
        inventory.take("small", 1, Occupant::Rental(id(2)));
        assert_eq!(now(&inventory), (0, Some(UnixMillis(4_000))));
    }

    #[test]
    fn slots_rented_together_have_one_name_and_are_found_again_by_it() {
        let mut inventory = slots(4, &[1, 2, 3]);
        assert_eq!(inventory.take("small", 1, rental(1)).unwrap().name, "small-1");
        assert_eq!(inventory.take("small", 1, rental(2)).unwrap().name, "small-2");
        inventory.free(rental(1));
        let together = inventory.take("small", 3, rental(3)).unwrap();
        assert_eq!(together.name, "small-1+3+4");
        let mut later = slots(4, &[1, 2, 3]);
        later.assign(&together.name, rental(3));
        assert_eq!(later.count(), (1, 3));
        assert_eq!(later.take("small", 1, rental(4)).unwrap().name, "small-2");
    }

    #[test]
    fn fewer_than_are_rented_together_are_not_free() {
        let mut inventory = slots(6, &[4, 6]);
        assert_eq!(shown(&inventory, &OPEN, &HashMap::new())[0].free, 6);
        inventory.take("small", 4, rental(1));
        let ends = HashMap::from([(RentalId(B256::repeat_byte(1)), UnixMillis(9_000))]);
        let offer = &shown(&inventory, &OPEN, &ends)[0];
        assert_eq!((offer.free, offer.busy_until), (0, Some(UnixMillis(9_000))));
        assert_eq!(inventory.busy_until("small", 7, &ends), None, "there are never seven");
    }

    #[test]
    fn splits_that_cannot_be_are_refused() {
        for (count, splits, word) in [(4, [0], "0 of 4"), (4, [5], "5 of 4"), (64, [33], "1 to 32")] {
            let error = Inventory::new(&config(count, &splits), &PeerId::random(), &Machine::default()).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn out_of_service_nothing_is_free_and_without_an_end_nothing_is_offered() {
        let inventory = slots(2, &[]);
        let closed = |until| Service::Closed { until, why: Why::Drained };
        assert!(shown(&inventory, &closed(None), &HashMap::new()).is_empty());
        let offer = &shown(&inventory, &closed(Some(UnixMillis(7_000))), &HashMap::new())[0];
        assert_eq!((offer.free, offer.busy_until), (0, Some(UnixMillis(7_000))));
        // too little time is left until the maintenance for the shortest rental
        let next = Closure { start: UnixMillis(20_000), end: UnixMillis(30_000) };
        let offer = &shown(&inventory, &Service::Open { next: Some(next) }, &HashMap::new())[0];
        assert_eq!((offer.free, offer.busy_until), (0, Some(UnixMillis(30_000))));
    }

    proptest! {
        /// Whatever is taken and given back in whatever order: no slot is in two rentals, and what is shown as free can be had.
        #[test]
        fn slots_partition_the_machine(steps in prop::collection::vec((0u8..6, 1u32..=8, any::<bool>()), 1..60)) {
            let mut inventory = slots(8, &[1, 4, 8]);
            let mut held: HashMap<u8, Vec<String>> = HashMap::new();
            for (who, count, take) in steps {
                let free = 8 - held.values().map(Vec::len).sum::<usize>();
                let occupant = rental(who);
                if take && !held.contains_key(&who) {
                    let taken = inventory.take("small", count, occupant);
                    prop_assert_eq!(taken.is_some(), free >= count as usize);
                    if let Some(taken) = taken {
                        let names = each(&taken.name);
                        prop_assert_eq!(names.len(), count as usize);
                        prop_assert!(held.values().flatten().all(|other| !names.contains(other)));
                        held.insert(who, names);
                    }
                } else if !take {
                    inventory.free(occupant);
                    held.remove(&who);
                }
                let free = 8 - held.values().map(Vec::len).sum::<usize>();
                prop_assert_eq!(shown(&inventory, &OPEN, &HashMap::new())[0].free as usize, free);
            }
        }
    }
}
