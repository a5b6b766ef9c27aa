//! In which order offers are shown: what is free before what is not, then by keys such as `price,-vram`, a minus for the largest first.
//!
//! What is unknown comes last either way. Prices in different tokens are compared by the user's rates; where there are none, offers in one
//! token stand together and are not mixed with others. What is equal in everything is told apart by its provider and its name, so that
//! the order is the same wherever it is worked out. The same comparison serves an offer at hand and a row of the index.

use super::{
    Candidate, Job, QueryError, Rates,
    fields::{FIELDS, FREE, LONGEST, MEMORY_SPEED_TOTAL, OFFER, PRICE, TFLOPS_TOTAL, find},
    nearest_field,
    read::Cell,
    unit::Kind,
};
use crate::{id::PeerId, money::Token, signed::Escrow};
use std::{borrow::Cow, cmp::Ordering};

/// The most sort keys: each costs every comparison a look.
pub const MAX_KEYS: usize = 16;
/// What is asked of the job rather than of the offer.
const COST: &str = "cost";
const TIME: &str = "time";

/// What a key is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Field(usize),
    /// What the described job costs there.
    Cost,
    /// How long it takes there.
    Time,
}

/// One sort key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    source: Source,
    descending: bool,
    /// Whether it is an amount of the price's token.
    money: bool,
}

/// How results are sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    keys: Vec<Key>,
    rates: Rates,
    job: Option<Job>,
}

/// Whatever can be compared: an offer at one of its prices, or its row in the index.
pub(crate) trait Row {
    /// The value of a field.
    fn cell(&self, field: usize) -> Cell<'_>;
    /// What it is paid in.
    fn token(&self) -> &Token;
    /// Where it is paid.
    fn escrow(&self) -> &Escrow;
    /// Whose it is.
    fn peer(&self) -> &PeerId;
    /// What its token is worth to the user.
    fn worth(&self, rates: &Rates) -> Option<u64> {
        rates.of(self.token())
    }
}

impl Row for Candidate<'_> {
    fn cell(&self, field: usize) -> Cell<'_> {
        FIELDS.get(field).map_or(Cell::Unknown, |field| (field.read)(self))
    }

    fn token(&self) -> &Token {
        &self.price.token
    }

    fn escrow(&self) -> &Escrow {
        &self.price.escrow
    }

    fn peer(&self) -> &PeerId {
        &self.ad.peer
    }
}

/// What is compared of a row for one key, in the order in which it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SortKey<'a> {
    /// A number without a token, or by the user's rates.
    Number(i128),
    Text(Cow<'a, str>),
    /// An amount of a token that has no rate.
    Amount(&'a Token, i64),
    Unknown,
}

impl SortKey<'_> {
    fn rank(&self) -> u8 {
        match self {
            Self::Number(_) | Self::Text(_) => 0,
            Self::Amount(..) => 1,
            Self::Unknown => 2,
        }
    }

    fn compare(&self, other: &Self, descending: bool) -> Ordering {
        let directed = |ordering: Ordering| if descending { ordering.reverse() } else { ordering };
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => directed(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => directed(a.cmp(b)),
            (Self::Amount(a, x), Self::Amount(b, y)) => token_order(a, b).then_with(|| directed(x.cmp(y))),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

/// The order in which tokens without rates follow each other.
pub(crate) fn token_order(a: &Token, b: &Token) -> Ordering {
    let parts = |token: &Token| (token.chain, token.address, token.decimals);
    a.symbol.cmp(&b.symbol).then_with(|| parts(a).cmp(&parts(b)))
}

/// What tells peers apart first: the end of the id, which is random, whereas all begin alike.
pub(crate) fn tail(peer: &PeerId) -> u64 {
    let digest = peer.as_ref().digest();
    digest.iter().skip(digest.len().saturating_sub(8)).fold(0, |tail, byte| tail << 8 | u64::from(*byte))
}

impl Key {
    /// The field it is taken from, and whether downwards, when it is one.
    pub(crate) const fn field(&self) -> Option<(usize, bool)> {
        match self.source {
            Source::Field(field) => Some((field, self.descending)),
            Source::Cost | Source::Time => None,
        }
    }

    /// Whether the largest come first.
    pub(crate) const fn is_descending(&self) -> bool {
        self.descending
    }

    /// Whether it is an amount of the price's token.
    pub(crate) const fn is_money(&self) -> bool {
        self.money
    }

    /// The fields that its value depends on.
    pub(crate) fn fields(&self) -> Vec<usize> {
        match self.source {
            Source::Field(field) => vec![field],
            Source::Cost | Source::Time => vec![PRICE, TFLOPS_TOTAL, MEMORY_SPEED_TOTAL, LONGEST],
        }
    }

    /// The value it has, by how the row's fields are read.
    pub(crate) fn cell<'a>(&self, read: impl Fn(usize) -> Cell<'a>, order: &Order) -> Cell<'a> {
        let number = |number: Option<i64>| number.map_or(Cell::Unknown, Cell::Number);
        match self.source {
            Source::Field(field) => read(field),
            Source::Cost => number(order.job.and_then(|job| job.cost_on(read))),
            Source::Time => number(order.job.and_then(|job| job.seconds_on(read))),
        }
    }

    /// What is compared of a row.
    pub(crate) fn of<'a>(&self, row: &'a impl Row, order: &Order) -> SortKey<'a> {
        let cell = self.cell(|field| row.cell(field), order);
        match cell {
            Cell::Unknown => SortKey::Unknown,
            Cell::Text(text) => SortKey::Text(text),
            Cell::Number(number) if self.money => match row.worth(&order.rates) {
                Some(worth) => SortKey::Number(i128::from(number) * i128::from(worth)),
                None => SortKey::Amount(row.token(), number),
            },
            Cell::Number(number) => SortKey::Number(i128::from(number)),
        }
    }
}

impl Default for Order {
    /// By price.
    fn default() -> Self {
        let source = Source::Field(PRICE);
        Self { keys: vec![Key { source, descending: false, money: true }], rates: Rates::default(), job: None }
    }
}

impl Order {
    /// Reads sort keys; none means by price. Besides the fields there are `cost` and `time`, of the job that [`Order::for_job`] tells.
    pub fn parse(text: &str) -> Result<Self, QueryError> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut keys = Vec::new();
        let mut from = 1;
        for part in text.split(',') {
            let at = from + part.chars().take_while(|c| c.is_whitespace()).count();
            from += part.chars().count() + 1;
            if keys.len() == MAX_KEYS {
                return Err(QueryError::Bound { at, problem: "more than 16 sort keys" });
            }
            let (descending, name) = part.trim().strip_prefix('-').map_or((false, part.trim()), |rest| (true, rest));
            keys.push(key(name, descending).ok_or_else(|| QueryError::UnknownField {
                at,
                word: name.to_owned(),
                nearest: nearest_field(name),
            })?);
        }
        Ok(Self { keys, ..Self::default() })
    }

    /// The cheapest run of a job first.
    pub fn by_cost(job: Job) -> Self {
        let keys = key(COST, false).into_iter().collect();
        Self { keys, rates: Rates::default(), job: Some(job) }
    }

    /// With a job whose `cost` and `time` are meant.
    #[must_use]
    pub fn for_job(self, job: Job) -> Self {
        Self { job: Some(job), ..self }
    }

    /// With what tokens are worth to the user.
    #[must_use]
    pub fn with_rates(self, rates: Rates) -> Self {
        Self { rates, ..self }
    }

    /// Whether a key is asked of a job that was not told.
    pub fn lacks_job(&self) -> bool {
        self.job.is_none() && self.keys.iter().any(|key| matches!(key.source, Source::Cost | Source::Time))
    }

    /// What tokens are worth to the user.
    pub(crate) const fn rates(&self) -> &Rates {
        &self.rates
    }

    /// The keys, the weightiest first.
    pub(crate) fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Which of two candidates is shown first. Equal are only those that are the same offer at the same price.
    pub fn compare(&self, a: &Candidate<'_>, b: &Candidate<'_>) -> Ordering {
        self.compare_rows(a, b)
    }

    pub(crate) fn compare_rows(&self, a: &impl Row, b: &impl Row) -> Ordering {
        let mut ordering = is_busy(a).cmp(&is_busy(b));
        for key in &self.keys {
            ordering = ordering.then_with(|| key.of(a, self).compare(&key.of(b, self), key.descending));
        }
        ordering.then_with(|| identity(a, b))
    }
}

/// Whether no slot is free: such offers are shown last.
pub(crate) fn is_busy(row: &impl Row) -> bool {
    row.cell(FREE) == Cell::Number(0)
}

/// The order of what is equal in every key.
fn identity(a: &impl Row, b: &impl Row) -> Ordering {
    let name = |cell: Cell<'_>| match cell {
        Cell::Text(name) => name.into_owned(),
        _ => String::new(),
    };
    let place = |escrow: &Escrow, token: &Token| (escrow.chain, escrow.address, token.address, token.chain);
    tail(a.peer())
        .cmp(&tail(b.peer()))
        .then_with(|| a.peer().cmp(b.peer()))
        .then_with(|| name(a.cell(OFFER)).cmp(&name(b.cell(OFFER))))
        .then_with(|| place(a.escrow(), a.token()).cmp(&place(b.escrow(), b.token())))
}

fn key(name: &str, descending: bool) -> Option<Key> {
    if name.eq_ignore_ascii_case(COST) {
        return Some(Key { source: Source::Cost, descending, money: true });
    }
    if name.eq_ignore_ascii_case(TIME) {
        return Some(Key { source: Source::Time, descending, money: false });
    }
    let field = find(name)?;
    let money = FIELDS.get(field).is_some_and(|field| matches!(field.kind, Kind::Number(unit) if unit.wide));
    Some(Key { source: Source::Field(field), descending, money })
}
