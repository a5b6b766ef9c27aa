//! The query language of renters: `gpu=H100 num_gpus>=4 price<=2.50 region in [KR,JP]`, conditions joined by "and".
//!
//! A field that does not exist is an error that names the nearest one. A value that is not known (a provider that states no region)
//! is neither true nor false: the offer is left out, and counted as unknown rather than refused. Numbers are exact decimals.

use crate::{
    money::{MAX_DECIMALS, format_units},
    offer::{Offer, Price, ProviderAd},
};
use std::{cmp::Ordering, fmt};

/// One offer at one of its prices: what a query is asked of.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// The provider's advertisement.
    pub ad: &'a ProviderAd,
    /// The offer.
    pub offer: &'a Offer,
    /// The price that would be paid.
    pub price: &'a Price,
}

/// The field's value for a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Value {
    Number(Decimal),
    Text(String),
    Bool(bool),
    Unknown,
}

/// A number scaled by 1e9; enough for prices in any token and sizes in any unit, without floating point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Decimal(i128);

const SCALE_DIGITS: usize = 9;

impl Decimal {
    fn of(whole: u32) -> Self {
        Self(i128::from(whole) * 10i128.pow(SCALE_DIGITS as u32))
    }

    fn ratio(number: u32, divisor: u32) -> Self {
        Self(Self::of(number).0 / i128::from(divisor))
    }

    fn parse(text: &str) -> Option<Self> {
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let plain = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() && fraction.is_empty() || !plain(whole) || !plain(fraction) || whole.len() > 20 {
            return None;
        }
        let fraction: String = fraction.chars().chain(std::iter::repeat('0')).take(SCALE_DIGITS).collect();
        let number: i128 = format!("{whole}{fraction}").parse().ok()?;
        Some(Self(if negative { -number } else { number }))
    }
}

/// A field that can be asked for: its name, what it means, and how it is read.
struct Field {
    name: &'static str,
    meaning: &'static str,
    read: fn(&Candidate<'_>) -> Value,
}

fn text(value: &str) -> Value {
    if value.is_empty() { Value::Unknown } else { Value::Text(value.to_owned()) }
}

fn stated(value: u32, divisor: u32) -> Value {
    if value == 0 { Value::Unknown } else { Value::Number(Decimal::ratio(value, divisor)) }
}

fn least_gpu(c: &Candidate<'_>, read: fn(&crate::offer::GpuGroup) -> u32, divisor: u32) -> Value {
    c.offer.hardware.gpus.iter().map(read).min().map_or(Value::Number(Decimal::of(0)), |least| stated(least, divisor))
}

const FIELDS: &[Field] = &[
    Field {
        name: "gpu",
        meaning: "GPU model; matches when the words stand in it",
        read: |c| Value::Text(c.offer.hardware.gpus.iter().map(|g| g.model.as_str()).collect::<Vec<_>>().join(" + ")),
    },
    Field { name: "class", meaning: "class of machine, such as h200 or cpu", read: |c| text(c.offer.class().name()) },
    Field {
        name: "num_gpus",
        meaning: "GPUs in a slot",
        // a sum of what a stranger claims: as many as can be counted, never fewer
        read: |c| {
            Value::Number(Decimal::of(c.offer.hardware.gpus.iter().fold(0, |sum, g| sum.saturating_add(g.count))))
        },
    },
    Field { name: "vram", meaning: "memory of each GPU in GB, nominal", read: |c| least_gpu(c, |g| g.vram_mib, 1_024) },
    Field { name: "sm", meaning: "compute capability times ten", read: |c| least_gpu(c, |g| g.sm, 1) },
    Field { name: "cpus", meaning: "processor cores in a slot", read: |c| stated(c.offer.hardware.cpu_millis, 1_000) },
    Field { name: "memory", meaning: "memory in GiB", read: |c| stated(c.offer.hardware.memory_mib, 1_024) },
    Field { name: "disk", meaning: "disk in GiB", read: |c| stated(c.offer.hardware.disk_mib, 1_024) },
    Field {
        name: "price",
        meaning: "all-in price of a slot-hour, in tokens",
        read: |c| {
            let decimals = c.price.token.decimals.min(MAX_DECIMALS);
            Decimal::parse(&format_units(c.price.rate.hourly(), decimals)).map_or(Value::Unknown, Value::Number)
        },
    },
    Field { name: "token", meaning: "symbol of the token it is paid in", read: |c| text(&c.price.token.symbol) },
    Field {
        name: "chain",
        meaning: "chain id it is paid on",
        read: |c| u32::try_from(c.price.escrow.chain).map_or(Value::Unknown, |id| Value::Number(Decimal::of(id))),
    },
    Field { name: "region", meaning: "country code of the machine", read: |c| text(&c.ad.region) },
    Field {
        name: "verified",
        meaning: "0 declared, 1 consistent, 2 measured, 3 attested",
        read: |c| Value::Number(Decimal::of(c.offer.verification.level())),
    },
    Field { name: "free", meaning: "free slots", read: |c| Value::Number(Decimal::of(c.offer.free)) },
    Field {
        name: "interruptible",
        meaning: "whether bids below the price are taken",
        read: |c| Value::Bool(c.price.floor.is_some()),
    },
    Field { name: "max_hours", meaning: "longest rental in hours", read: |c| stated(c.offer.max_seconds, 3_600) },
    Field { name: "offer", meaning: "the provider's name for the offer", read: |c| text(&c.offer.name) },
    Field { name: "provider", meaning: "the provider's peer id", read: |c| text(&c.ad.peer.to_base58()) },
    Field { name: "reliability", meaning: "share of time up, 0 to 1", read: |_| Value::Unknown },
];

/// Every field with its meaning, for help pages.
pub fn fields() -> impl Iterator<Item = (&'static str, &'static str)> {
    FIELDS.iter().map(|field| (field.name, field.meaning))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
}

/// The operators, longest first, so that `>=` is not read as `>`.
const OPERATORS: &[(&str, Comparison)] = &[
    (">=", Comparison::GreaterOrEqual),
    ("<=", Comparison::LessOrEqual),
    ("!=", Comparison::NotEqual),
    ("==", Comparison::Equal),
    ("=", Comparison::Equal),
    (">", Comparison::Greater),
    ("<", Comparison::Less),
];

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    field: usize,
    comparison: Comparison,
    operands: Vec<String>,
}

/// A parsed query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    conditions: Vec<Condition>,
}

/// Whether a candidate meets a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every condition is met.
    Yes,
    /// A condition is not met.
    No,
    /// None is broken, but one asks for what is not known.
    Unknown,
}

/// A query that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No such field.
    #[error("at character {at}: there is no field `{word}`{}", suggestion(.nearest))]
    UnknownField {
        /// Counted from 1.
        at: usize,
        /// What was written.
        word: String,
        /// The nearest field.
        nearest: Option<&'static str>,
    },
    /// No operator where one is needed.
    #[error("at character {at}: expected one of = != < <= > >= in after `{field}`")]
    Operator {
        /// Counted from 1.
        at: usize,
        /// The field before it.
        field: &'static str,
    },
    /// No value, an unclosed list or quotation, or a value of the wrong kind.
    #[error("at character {at}: {problem}")]
    Value {
        /// Counted from 1.
        at: usize,
        /// What is wrong with it.
        problem: String,
    },
}

fn suggestion(nearest: &Option<&'static str>) -> String {
    nearest.map_or_else(String::new, |name| format!("; did you mean `{name}`?"))
}

impl Query {
    /// Reads a query; the empty one matches everything.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let mut reader = Reader { text, at: 0 };
        let mut conditions = Vec::new();
        loop {
            reader.skip_blanks();
            if reader.rest().is_empty() {
                return Ok(Self { conditions });
            }
            conditions.push(reader.condition()?);
        }
    }

    /// Whether the candidate meets every condition.
    pub fn verdict(&self, candidate: &Candidate<'_>) -> Verdict {
        let mut verdict = Verdict::Yes;
        for condition in &self.conditions {
            match condition.holds(candidate) {
                Some(true) => {}
                Some(false) => return Verdict::No,
                None => verdict = Verdict::Unknown,
            }
        }
        verdict
    }
}

impl Condition {
    fn holds(&self, candidate: &Candidate<'_>) -> Option<bool> {
        let value = (FIELDS.get(self.field)?.read)(candidate);
        match self.comparison {
            Comparison::Equal | Comparison::In => self.equals_any(&value),
            Comparison::NotEqual => self.equals_any(&value).map(|equal| !equal),
            Comparison::Less => self.order(&value).map(Ordering::is_lt),
            Comparison::LessOrEqual => self.order(&value).map(Ordering::is_le),
            Comparison::Greater => self.order(&value).map(Ordering::is_gt),
            Comparison::GreaterOrEqual => self.order(&value).map(Ordering::is_ge),
        }
    }

    fn equals_any(&self, value: &Value) -> Option<bool> {
        let name = FIELDS.get(self.field).map_or("", |field| field.name);
        self.operands
            .iter()
            .map(|operand| match value {
                Value::Unknown => None,
                Value::Number(number) => Some(Decimal::parse(operand) == Some(*number)),
                Value::Bool(flag) => Some(operand.eq_ignore_ascii_case(if *flag { "true" } else { "false" })),
                // a model is asked for by part of its name: `gpu=H100` means any H100
                Value::Text(text) if name == "gpu" => {
                    Some(text.to_ascii_lowercase().contains(&operand.to_ascii_lowercase()))
                }
                Value::Text(text) => Some(text.eq_ignore_ascii_case(operand)),
            })
            .try_fold(false, |any, equal| equal.map(|equal| any || equal))
    }

    fn order(&self, value: &Value) -> Option<Ordering> {
        match (value, self.operands.first().and_then(|operand| Decimal::parse(operand))) {
            (Value::Number(number), Some(operand)) => Some(number.cmp(&operand)),
            _ => None,
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or("")
    }

    fn skip_blanks(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    fn word(&mut self) -> &'a str {
        self.take_while(|c| c.is_alphanumeric() || c == '_')
    }

    fn character(&self) -> usize {
        self.text.get(..self.at).map_or(0, |before| before.chars().count()) + 1
    }

    fn condition(&mut self) -> Result<Condition, QueryError> {
        let (mut at, mut word) = (self.character(), self.word());
        while word.eq_ignore_ascii_case("and") {
            self.skip_blanks();
            (at, word) = (self.character(), self.word());
        }
        let field = FIELDS.iter().position(|field| field.name.eq_ignore_ascii_case(word)).ok_or_else(|| {
            let shown = if word.is_empty() { self.rest().chars().take(1).collect() } else { word.to_owned() };
            QueryError::UnknownField { at, nearest: nearest_field(&shown), word: shown }
        })?;
        self.skip_blanks();
        let comparison = self.comparison(field)?;
        self.skip_blanks();
        let operands = if comparison == Comparison::In { self.list()? } else { vec![self.value()?] };
        let ordered = !matches!(comparison, Comparison::Equal | Comparison::NotEqual | Comparison::In);
        if let Some(bad) = operands.iter().find(|operand| ordered && Decimal::parse(operand).is_none()) {
            return Err(QueryError::Value { at: self.character(), problem: format!("`{bad}` is not a number") });
        }
        Ok(Condition { field, comparison, operands })
    }

    fn comparison(&mut self, field: usize) -> Result<Comparison, QueryError> {
        for (symbol, comparison) in OPERATORS {
            if self.rest().starts_with(symbol) {
                self.at += symbol.len();
                return Ok(*comparison);
            }
        }
        let at = self.character();
        if self.take_while(char::is_alphabetic).eq_ignore_ascii_case("in") {
            return Ok(Comparison::In);
        }
        Err(QueryError::Operator { at, field: FIELDS.get(field).map_or("", |field| field.name) })
    }

    fn value(&mut self) -> Result<String, QueryError> {
        let at = self.character();
        if let Some(quoted) = self.rest().strip_prefix('"') {
            let end =
                quoted.find('"').ok_or(QueryError::Value { at, problem: "the quotation is not closed".to_owned() })?;
            self.at += end + 2;
            return Ok(quoted[..end].to_owned());
        }
        let word = self.take_while(|c| !c.is_whitespace() && !"[],".contains(c));
        if word.is_empty() {
            return Err(QueryError::Value { at, problem: "a value is missing".to_owned() });
        }
        Ok(word.to_owned())
    }

    fn list(&mut self) -> Result<Vec<String>, QueryError> {
        let at = self.character();
        if !self.rest().starts_with('[') {
            return Err(QueryError::Value { at, problem: "expected a list such as [KR,JP]".to_owned() });
        }
        self.at += 1;
        let mut operands = Vec::new();
        loop {
            self.skip_blanks();
            operands.push(self.value()?);
            self.skip_blanks();
            let separator = self.rest().chars().next();
            self.at += separator.map_or(0, char::len_utf8);
            match separator {
                Some(',') => {}
                Some(']') => return Ok(operands),
                _ => return Err(QueryError::Value { at, problem: "the list is not closed".to_owned() }),
            }
        }
    }
}

/// How many single-letter edits away a suggestion may be.
const MAX_EDITS: usize = 3;

fn nearest_field(word: &str) -> Option<&'static str> {
    let word = word.to_ascii_lowercase();
    FIELDS
        .iter()
        .map(|field| (strsim::damerau_levenshtein(field.name, &word), field.name))
        .min()
        .filter(|(edits, name)| *edits <= MAX_EDITS.min(name.len().saturating_sub(1)))
        .map(|(_, name)| name)
}

/// How results are sorted: keys such as `price,-vram`, a minus for the largest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    keys: Vec<(usize, bool)>,
}

impl Order {
    /// Reads sort keys; none means by price.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        let mut keys = Vec::new();
        let mut at = 1;
        let text = if text.trim().is_empty() { "price" } else { text };
        for key in text.split(',') {
            let name = key.trim();
            let (descending, name) = name.strip_prefix('-').map_or((false, name), |rest| (true, rest));
            let field = FIELDS
                .iter()
                .position(|field| field.name.eq_ignore_ascii_case(name))
                .ok_or_else(|| QueryError::UnknownField { at, word: name.to_owned(), nearest: nearest_field(name) })?;
            keys.push((field, descending));
            at += key.chars().count() + 1;
        }
        Ok(Self { keys })
    }

    /// Compares two candidates; what is unknown comes last, and ties are broken by provider and offer so that the order is stable.
    pub fn compare(&self, a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
        let by_keys = self.keys.iter().filter_map(|(field, descending)| {
            let read = FIELDS.get(*field)?.read;
            let ordering = match (read(a), read(b)) {
                (Value::Unknown, Value::Unknown) => Ordering::Equal,
                (Value::Unknown, _) => return Some(Ordering::Greater),
                (_, Value::Unknown) => return Some(Ordering::Less),
                (Value::Number(a), Value::Number(b)) => a.cmp(&b),
                (Value::Text(a), Value::Text(b)) => a.cmp(&b),
                (Value::Bool(a), Value::Bool(b)) => a.cmp(&b),
                _ => Ordering::Equal,
            };
            Some(if *descending { ordering.reverse() } else { ordering })
        });
        by_keys
            .fold(Ordering::Equal, Ordering::then)
            .then_with(|| a.ad.peer.cmp(&b.ad.peer))
            .then_with(|| a.offer.name.cmp(&b.offer.name))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Yes => "matches",
            Self::No => "does not match",
            Self::Unknown => "unknown",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::numbered_peer,
        money::{Amount, Rate, Token},
        offer::{Binding, GpuGroup, Hardware, Isolation, Verification},
        signed::Escrow,
        time::UnixMillis,
    };
    use alloy_primitives::{Address, Signature, U256};

    fn ad() -> ProviderAd {
        let escrow = Escrow { chain: 31_337, address: Address::ZERO };
        let token = Token { chain: 31_337, address: Address::ZERO, symbol: "USDC".into(), decimals: 6 };
        let rate = Rate::from_hourly(Amount::new(2_500_000).unwrap()).unwrap();
        let offer = Offer {
            name: "quad".into(),
            slots: 2,
            free: 1,
            busy_until: None,
            hardware: Hardware {
                gpus: vec![GpuGroup {
                    model: "NVIDIA H100 80GB HBM3".into(),
                    count: 4,
                    vram_mib: 81_920,
                    sm: 90,
                    ..Default::default()
                }],
                cpu_millis: 32_000,
                memory_mib: 262_144,
                disk_mib: 1_048_576,
                ..Default::default()
            },
            prices: vec![Price { escrow, token, rate, floor: None, min_deposit: Amount::ZERO }],
            min_seconds: 1,
            max_seconds: 86_400,
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
        let signature = Signature::new(U256::from(1), U256::from(1), false);
        let binding = Binding {
            chain: 1,
            provider_key: Address::ZERO,
            wallet: Address::ZERO,
            issued_at: 0,
            expires: 1,
            signature,
        };
        ProviderAd {
            peer: numbered_peer(1),
            seq: 1,
            expires: UnixMillis(2),
            binding,
            region: "KR".into(),
            offers: vec![offer],
        }
    }

    fn verdict(query: &str) -> Verdict {
        let ad = ad();
        let offer = &ad.offers[0];
        Query::parse(query).unwrap().verdict(&Candidate { ad: &ad, offer, price: &offer.prices[0] })
    }

    #[test]
    fn more_cards_than_can_be_counted_are_many() {
        let mut ad = ad();
        let group = GpuGroup { count: u32::MAX, ..GpuGroup::default() };
        ad.offers[0].hardware.gpus = vec![group.clone(), group];
        let candidate = Candidate { ad: &ad, offer: &ad.offers[0], price: &ad.offers[0].prices[0] };
        assert_eq!(Query::parse("num_gpus>=8").unwrap().verdict(&candidate), Verdict::Yes);
    }

    #[test]
    fn conditions_read_as_renters_write_them() {
        for query in [
            "",
            "gpu=H100 num_gpus>=4 sm>=90 vram>=80 price<=2.50",
            "region in [KR, JP]",
            "gpu=\"H100 80GB\" and token=usdc",
            "price < 2.500001 price>2.499999 price==2.5",
            "cpus>=32 memory>=256 disk>=1000 max_hours>=24 interruptible=false class=h100 chain=31337 region!=US",
        ] {
            assert_eq!(verdict(query), Verdict::Yes, "{query}");
        }
        for query in ["gpu=H200", "price<2.5", "region in [US]", "num_gpus=8", "verified>=2"] {
            assert_eq!(verdict(query), Verdict::No, "{query}");
        }
    }

    #[test]
    fn what_is_not_known_is_neither_true_nor_false() {
        assert_eq!(verdict("reliability>0.99"), Verdict::Unknown);
        assert_eq!(verdict("reliability!=0.99"), Verdict::Unknown);
        assert_eq!(verdict("reliability>0.99 gpu=H200"), Verdict::No);
    }

    #[test]
    fn errors_point_at_the_character_and_name_the_nearest_field() {
        assert_eq!(
            Query::parse("gpu=H100 prise<2").unwrap_err(),
            QueryError::UnknownField { at: 10, word: "prise".into(), nearest: Some("price") }
        );
        assert_eq!(Query::parse("gpu H100").unwrap_err(), QueryError::Operator { at: 5, field: "gpu" });
        for bad in ["price<", "price<cheap", "region in KR", "region in [KR", "gpu=\"H100", "=3", "and"] {
            assert!(Query::parse(bad).is_err(), "{bad}");
        }
        assert!(matches!(
            Order::parse("price,-wram"),
            Err(QueryError::UnknownField { at: 7, nearest: Some("vram"), .. })
        ));
    }
}
