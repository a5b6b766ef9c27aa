//! What new quotes are given by, read from the configuration: prices, discounts, whom to serve, how long, and when not at all. Read again
//! while the provider runs; a configuration that makes no sense is refused whole.

use crate::{
    Config, Error,
    config::{DiscountConfig, HoursConfig, Pricing, SlotConfig},
    maintenance::Windows,
};
use market::{
    money::{Rate, parse_units},
    offer::Price,
    preemption::MIN_NOTICE,
    pricing::{Holding, Hours, ListPrice, Policy, Reduction, WHOLE},
    quote::{MAX_QUOTE_LIFETIME, MAX_RENTAL_SECONDS, MAX_WINDOW, MIN_WINDOW},
    terms::MAX_INCREMENT_MILLIS,
    time::parse_duration,
};
use settlement::Chain;
use std::collections::HashMap;

/// The dearest hour: ten times the list price. More is a slip of the hand.
const MAX_PERCENT: u32 = 1_000;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    /// What a slot of each offer costs.
    policies: HashMap<String, Policy>,
    /// When nothing is rented out.
    pub(crate) windows: Windows,
}

impl Rules {
    /// Reads the configuration against the chains.
    pub(crate) fn new(config: &Config, chains: &[Chain]) -> Result<Self, Error> {
        check_numbers(config)?;
        let mut policies = HashMap::new();
        for slot in &config.slot {
            policies.insert(slot.name.clone(), policy(config, chains, slot)?);
        }
        let named = config.pricing.iter().flat_map(|row| &row.slots);
        let named = named.chain(config.hours.iter().flat_map(|row| &row.slots));
        let mut named = named.chain(config.discount.iter().flat_map(|row| &row.slots));
        if let Some(unknown) = named.find(|name| !policies.contains_key(*name)) {
            return Err(Error::Config(format!(
                "a price, hours or a discount are for slots `{unknown}`, which do not exist"
            )));
        }
        Ok(Self { policies, windows: Windows::new(&config.maintenance)? })
    }

    /// What a slot of an offer costs.
    pub(crate) fn policy(&self, offer: &str) -> Option<&Policy> {
        self.policies.get(offer)
    }

    #[cfg(test)]
    pub(crate) fn of(offer: &str, policy: Policy) -> Self {
        Self { policies: HashMap::from([(offer.to_owned(), policy)]), windows: Windows::default() }
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
        1..=MAX_RENTAL_SECONDS - config.ready_seconds().min(MAX_RENTAL_SECONDS - 1),
    )?;
    if config.takes_bids() {
        within("notice_seconds", config.notice_seconds, MIN_NOTICE..=config.max_seconds)?;
    }
    for row in &config.hours {
        within("hours: percent", row.percent, 1..=MAX_PERCENT)?;
    }
    for row in &config.discount {
        within("discount: percent", row.percent, 1..=99)?;
    }
    within("ad_lifetime_seconds", config.ad_lifetime_seconds, 3..=3_600)
}

fn policy(config: &Config, chains: &[Chain], slot: &SlotConfig) -> Result<Policy, Error> {
    let for_it = |slots: &[String]| slots.is_empty() || slots.contains(&slot.name);
    let dearest = config.hours.iter().map(|row| row.percent).max().unwrap_or_default().max(100);
    let list = config.pricing.iter().filter(|row| row.is_for(slot)).map(|row| list_price(row, dearest, chains));
    let hours = config.hours.iter().filter(|row| for_it(&row.slots)).map(hours);
    let reductions = config.discount.iter().filter(|row| for_it(&row.slots)).map(|row| reduction(row, chains));
    let policy = Policy {
        list: list.collect::<Result<_, _>>()?,
        hours: hours.collect::<Result<_, _>>()?,
        reductions: reductions.collect::<Result<_, _>>()?,
    };
    if policy.list.is_empty() {
        return Err(Error::Config(format!("slot `{}` has no price: add a [[provider.pricing]]", slot.name)));
    }
    Ok(policy)
}

fn list_price(pricing: &Pricing, dearest: u32, chains: &[Chain]) -> Result<ListPrice, Error> {
    let chain = chain_named(&pricing.chain, chains, "pricing")?;
    let token = chain.config().tokens.iter().find(|token| token.symbol == pricing.token);
    let token =
        token.ok_or_else(|| Error::Config(format!("chain `{}` has no token `{}`", pricing.chain, pricing.token)))?;
    let amount = |field: &str, text: &str| {
        parse_units(text, token.decimals).map_err(|error| Error::Config(format!("pricing: {field}: {error}")))
    };
    let rate = |field: &str, text: &str| {
        let rate = Rate::from_hourly(amount(field, text)?);
        rate.filter(|rate| rate.percent(dearest).is_some())
            .ok_or_else(|| Error::Config(format!("pricing: {field}: too large")))
    };
    let bids_from = match pricing.bids_from.as_str() {
        "" => None,
        text => Some(rate("bids_from", text)?),
    };
    let price = Price {
        escrow: chain.escrow(),
        token: token.clone(),
        rate: rate("hourly", &pricing.hourly)?,
        floor: bids_from,
        min_deposit: amount("min_deposit", &pricing.min_deposit)?,
    };
    let least = rate("floor", &pricing.floor)?;
    if least > price.rate {
        return Err(Error::Config(format!("pricing: floor {} is above hourly {}", pricing.floor, pricing.hourly)));
    }
    Ok(ListPrice { price, least })
}

fn chain_named<'a>(name: &str, chains: &'a [Chain], what: &str) -> Result<&'a Chain, Error> {
    let found = chains.iter().find(|chain| chain.config().name == name);
    found.ok_or_else(|| Error::Config(format!("{what} names the chain `{name}`, which has no [[chain]]")))
}

fn hours(config: &HoursConfig) -> Result<Hours, Error> {
    let (from, to) = (minute(&config.from)?, minute(&config.to)?);
    if from == to {
        return Err(Error::Config(format!("hours from {0} to {0} are none: change the price itself", config.from)));
    }
    Ok(Hours { from, to, percent: config.percent })
}

/// A time of day, in minutes.
fn minute(text: &str) -> Result<u16, Error> {
    let read = || {
        let (hour, minute) = text.split_once(':')?;
        let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
        // the end of the day is the beginning of the next
        let whole = hour == 24 && minute == 0;
        (whole || (hour < 24 && minute < 60)).then_some((hour % 24) * 60 + minute)
    };
    read().ok_or_else(|| Error::Config(format!("hours: `{text}` is no time of day, such as 22:00")))
}

fn reduction(config: &DiscountConfig, chains: &[Chain]) -> Result<Reduction, Error> {
    let holding = match (config.chain.as_str(), config.token) {
        ("", None) => None,
        (name, Some(token)) if !name.is_empty() => {
            Some(Holding { chain: chain_named(name, chains, "a discount")?.config().chain_id, token })
        }
        _ => return Err(Error::Config("a discount for holders needs both `chain` and `token`".to_owned())),
    };
    let at_least = match config.at_least.as_str() {
        "" => 0,
        text => parse_duration(text).map_err(|error| Error::Config(format!("discount: at_least: {error}")))?,
    };
    if holding.is_none() && at_least == 0 && config.wallets.is_empty() {
        let next = "say `at_least`, `wallets`, or `chain` and `token`; or lower the price";
        return Err(Error::Config(format!("a discount of {} % is for everybody: {next}", config.percent)));
    }
    Ok(Reduction { basis_points: config.percent * (WHOLE / 100), at_least, wallets: config.wallets.clone(), holding })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        match Rules::new(&config, &[]) {
            Err(error) => error.to_string(),
            Ok(_) => String::new(),
        }
    }

    #[test]
    fn a_configuration_that_makes_no_sense_is_refused_with_what_is_wrong() {
        assert_eq!(refused(|_| {}), "");
        let slot = || SlotConfig {
            name: "cpu".into(),
            count: 1,
            cpu_millis: 1,
            memory_mib: 1,
            disk_mib: 1,
            splits: vec![],
            gpus: 0,
            gpu_model: String::new(),
        };
        assert!(refused(|config| config.slot.push(slot())).contains("`cpu` has no price"));
        assert!(refused(|config| config.hold_seconds = 121).contains("hold_seconds is 121"));
        assert!(refused(|config| config.min_seconds = config.max_seconds + 1).contains("min_seconds"));
        let discount = |percent| DiscountConfig {
            percent,
            at_least: String::new(),
            wallets: vec![],
            chain: String::new(),
            token: None,
            slots: vec!["gone".into()],
        };
        assert!(refused(|config| config.discount.push(discount(100))).contains("expected 1 to 99"));
        assert!(refused(|config| config.discount.push(discount(5))).contains("`gone`, which do not exist"));
    }

    #[test]
    fn each_row_is_read_for_itself() {
        let row = |from: &str, to: &str| HoursConfig { from: from.into(), to: to.into(), percent: 50, slots: vec![] };
        assert_eq!(hours(&row("22:30", "24:00")).unwrap(), Hours { from: 1_350, to: 0, percent: 50 });
        for (from, to) in [("7", "8:00"), ("25:00", "1:00"), ("24:01", "1:00"), ("8:60", "9:00"), ("9:00", "9:00")] {
            assert!(hours(&row(from, to)).is_err(), "{from} to {to}");
        }
        let holder = |chain: &str, token| DiscountConfig {
            percent: 5,
            at_least: "1h".into(),
            wallets: vec![],
            chain: chain.into(),
            token,
            slots: vec![],
        };
        let token = Some(alloy_primitives::Address::repeat_byte(1));
        assert_eq!(reduction(&holder("", None), &[]).unwrap().at_least, 3_600);
        assert!(reduction(&holder("", token), &[]).is_err());
        assert!(reduction(&holder("mars", token), &[]).unwrap_err().to_string().contains("`mars`"));
        let everybody = DiscountConfig { at_least: String::new(), ..holder("", None) };
        assert!(reduction(&everybody, &[]).unwrap_err().to_string().contains("everybody"));
    }
}
