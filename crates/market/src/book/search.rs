//! Searching the book: which rows meet a query, best first, a page at a time.
//!
//! A page by price is found by walking the rows in that order until it is full; a query that few rows meet would make that walk long, so
//! that it is given up after a while, and all rows are looked at in columns instead. Either way the rows and their order are those that
//! asking every offer by itself would give.

use super::{
    Book, Currency, Entry, PriceAt, RowId,
    plan::{self, Plan},
    scan,
    shelf::Shelf,
    walk,
};
use crate::{
    id::PeerId,
    money::Token,
    offer::{Offer, Price, ProviderAd},
    query::{
        CLASS, Cell, Condition, Expr, FIELDS, FREE, GPU, Key, Kind, OFFER, Order, PRICE, Query, REGION, Rates, Row,
        SM_CODE, TOKEN, Test, matches_any, token_order,
    },
    signed::Escrow,
    standing::Standing,
};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

/// The most rows of one page.
pub const MAX_HITS: usize = 1_000;

/// What is searched for.
pub struct Search<'a> {
    /// Which offers.
    pub query: &'a Query,
    /// In which order.
    pub order: &'a Order,
    /// At which prices: those of ways to pay that the asker has.
    pub wanted: &'a (dyn Fn(&Escrow, &Token) -> bool + 'a),
}

impl fmt::Debug for Search<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("query", self.query).field("order", self.order).finish_non_exhaustive()
    }
}

/// An offer at one of its prices that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Whose it is.
    pub peer: PeerId,
    /// Which of the offers of its advertisement.
    pub offer: usize,
    /// Which of the offer's prices.
    pub price: usize,
    /// The provider's record, where one is kept.
    pub standing: Option<Standing>,
}

/// A hit with its advertisement.
#[derive(Clone, Debug)]
pub struct Match {
    /// The advertisement it stands in.
    pub ad: Arc<ProviderAd>,
    /// The offer.
    pub offer: Offer,
    /// The price.
    pub price: Price,
    /// The provider's record, where one is kept.
    pub standing: Option<Standing>,
}

impl Hit {
    /// The offer and the price in the advertisement that was found; `None` when it is another by now.
    pub fn of(&self, ad: &Arc<ProviderAd>) -> Option<Match> {
        let offer = ad.offers.get(self.offer)?;
        let price = offer.prices.get(self.price)?;
        let (offer, price) = (offer.clone(), price.clone());
        (ad.peer == self.peer).then(|| Match { ad: Arc::clone(ad), offer, price, standing: self.standing })
    }
}

/// How many offers meet a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Total {
    /// So many.
    Exactly(usize),
    /// So many, or more: the page was full before all were looked at.
    AtLeast(usize),
}

impl Total {
    /// The number.
    pub const fn count(self) -> usize {
        match self {
            Self::Exactly(count) | Self::AtLeast(count) => count,
        }
    }
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(count) => write!(f, "{count}"),
            Self::AtLeast(count) => write!(f, "at least {count}"),
        }
    }
}

/// A page of what was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// Best first.
    pub hits: Vec<Hit>,
    /// Where the next page begins, if there is one.
    pub next: Option<Cursor>,
    /// How many there are in all.
    pub total: Total,
}

/// The last row of a page, as far as the order looks at it: the next page is what comes after it, whatever has changed meanwhile. Only good
/// for the same query and order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    cells: BTreeMap<String, CursorCell>,
    escrow: Escrow,
    token: Token,
    #[serde(with = "crate::id::peer_text")]
    peer: PeerId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
enum CursorCell {
    Number(i64),
    Text(String),
    Unknown,
}

impl Cursor {
    pub(super) fn of(row: &impl Row, order: &Order) -> Self {
        let fields = order.keys().iter().flat_map(Key::fields).chain([FREE, OFFER]);
        let cells = fields.filter_map(|field| {
            let cell = match row.cell(field) {
                Cell::Number(number) => CursorCell::Number(number),
                Cell::Text(text) => CursorCell::Text(text.into_owned()),
                Cell::Unknown => CursorCell::Unknown,
            };
            Some((FIELDS.get(field)?.name.to_owned(), cell))
        });
        Self { cells: cells.collect(), escrow: *row.escrow(), token: row.token().clone(), peer: *row.peer() }
    }
}

impl Row for Cursor {
    fn cell(&self, field: usize) -> Cell<'_> {
        match FIELDS.get(field).and_then(|field| self.cells.get(field.name)) {
            Some(CursorCell::Number(number)) => Cell::Number(*number),
            Some(CursorCell::Text(text)) => Cell::Text(Cow::Borrowed(text)),
            Some(CursorCell::Unknown) | None => Cell::Unknown,
        }
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn escrow(&self) -> &Escrow {
        &self.escrow
    }

    fn peer(&self) -> &PeerId {
        &self.peer
    }
}

/// A way of paying, as a search sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paid {
    /// What its token is worth to the user.
    pub(super) worth: Option<u64>,
    /// Which of the groups it belongs to that are not mixed with each other: 0 for all that have a worth.
    pub(super) group: u32,
}

/// A search at work.
pub(super) struct Task<'a> {
    pub(super) book: &'a Book,
    pub(super) search: &'a Search<'a>,
    /// The ways of paying that are wanted, by their numbers.
    pub(super) paid: Vec<Option<Paid>>,
    pub(super) after: Option<&'a Cursor>,
    pub(super) limit: usize,
}

/// A row of the index.
#[derive(Clone, Copy)]
pub(super) struct RowAt<'a> {
    pub(super) task: &'a Task<'a>,
    pub(super) shelf: &'a Shelf,
    pub(super) id: RowId,
    entry: &'a Entry,
    currency: &'a Currency,
    paid: Option<Paid>,
}

impl Row for RowAt<'_> {
    fn cell(&self, field: usize) -> Cell<'_> {
        match FIELDS.get(field).map(|field| field.kind) {
            Some(Kind::Provider) => Cell::Text(Cow::Owned(self.entry.peer.to_base58())),
            Some(Kind::Wallet) => Cell::Text(Cow::Owned(format!("{:#x}", self.entry.wallet))),
            _ => self.shelf.cell(self.id.row, field),
        }
    }

    fn token(&self) -> &Token {
        &self.currency.1
    }

    fn escrow(&self) -> &Escrow {
        &self.currency.0
    }

    fn peer(&self) -> &PeerId {
        &self.entry.peer
    }

    fn worth(&self, _: &Rates) -> Option<u64> {
        self.paid.and_then(|paid| paid.worth)
    }
}

impl<'a> RowAt<'a> {
    pub(super) fn place(&self) -> PriceAt {
        self.shelf.places.get(self.id.row as usize).map_or(PriceAt::default(), |place| place.at)
    }

    pub(super) fn hit(&self) -> Hit {
        let PriceAt { offer, price } = self.place();
        let peer = self.entry.peer;
        Hit { peer, offer: offer.into(), price: price.into(), standing: self.entry.standing }
    }

    /// An amount that this row has, as the greatest (or, when `descending`, the least) of each way of paying that goes no further behind: by
    /// what it is worth, and after all of the groups before its own. `None` when its own group is not known.
    pub(super) fn amounts(&self, number: i64, descending: bool) -> Option<Vec<i64>> {
        let own = self.paid?;
        let worth = i128::from(number) * i128::from(own.worth.unwrap_or(1));
        let (all, none) = if descending { (i64::MIN + 1, i64::MAX) } else { (i64::MAX, i64::MIN) };
        let limits =
            self.task.paid.iter().map(|paid| match paid.map(|paid| (paid.group.cmp(&own.group), paid.worth)) {
                None | Some((Ordering::Greater, _)) => none,
                Some((Ordering::Less, _)) => all,
                Some((Ordering::Equal, than)) => {
                    let than = i128::from(than.unwrap_or(1)).max(1);
                    let whole = worth.div_euclid(than);
                    let up = i128::from(descending && worth.rem_euclid(than) != 0);
                    i64::try_from(whole + up).unwrap_or(all)
                }
            });
        Some(limits.collect())
    }

    /// Which of two rows is shown first.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.task.search.order.compare_rows(self, other).then_with(|| self.place().cmp(&other.place()))
    }

    /// Whether it stands on a later page than the one that ended with the cursor.
    pub(super) fn is_after(&self, cursor: Option<&Cursor>) -> bool {
        cursor.is_none_or(|cursor| self.task.search.order.compare_rows(self, cursor).is_gt())
    }
}

/// Whether a condition leaves a token in.
fn may_be_paid(expr: &Expr, token: &Token) -> bool {
    match expr {
        Expr::Test(Condition { field: TOKEN, test: Test::Words { words, negated } }) => {
            !token.symbol.is_empty()
                && matches_any(Kind::Text(crate::query::Match::Whole), words, &token.symbol) != *negated
        }
        _ => true,
    }
}

impl<'a> Task<'a> {
    /// When `narrowed`, tokens that a condition rules out count among those that are not wanted.
    pub(super) fn new(
        book: &'a Book,
        search: &'a Search<'a>,
        after: Option<&'a Cursor>,
        limit: usize,
        narrowed: bool,
    ) -> Self {
        let rates = search.order.rates();
        let wanted = book.currencies.values().map(|currency| {
            let (escrow, token) = currency.map(|(currency, _)| currency)?;
            let meant = !narrowed || search.query.conjuncts.iter().all(|part| may_be_paid(&part.expr, token));
            (meant && (search.wanted)(escrow, token)).then(|| (token, rates.of(token)))
        });
        let wanted: Vec<Option<(&Token, Option<u64>)>> = wanted.collect();
        let mut groups: Vec<&Token> =
            wanted.iter().flatten().filter(|(_, worth)| worth.is_none()).map(|(token, _)| *token).collect();
        groups.sort_by(|a, b| token_order(a, b));
        groups.dedup_by(|a, b| token_order(a, b).is_eq());
        let group = |token: &Token| groups.partition_point(|known| token_order(known, token).is_lt()) + 1;
        let paid = wanted.iter().map(|wanted| {
            wanted.map(|(token, worth)| Paid {
                worth,
                group: if worth.is_some() { 0 } else { u32::try_from(group(token)).unwrap_or(u32::MAX) },
            })
        });
        Self { book, search, paid: paid.collect(), after, limit }
    }

    /// The group of a token that has no worth, if the book has any.
    pub(super) fn group_of(&self, token: &Token) -> Option<u32> {
        let known = (0..).zip(&self.paid).find(|(code, _)| {
            self.book.currencies.get(*code).is_some_and(|(_, known)| token_order(known, token).is_eq())
        });
        known.and_then(|(_, paid)| paid.as_ref()).map(|paid| paid.group)
    }

    /// The shelves that may have rows of interest, with what the query means there.
    pub(super) fn plans(&self) -> Vec<(u16, &'a Shelf, Plan)> {
        let shelves = (0..).zip(&self.book.shelves).filter(|(_, (_, shelf))| shelf.rows > 0);
        let plans = shelves.map(|(at, (_, shelf))| (at, shelf, self.plan(shelf, None)));
        plans.filter(|(_, _, plan)| !matches!(plan, Plan::Never)).collect()
    }

    /// What the query means on a shelf, without a condition that is known to hold.
    pub(super) fn plan(&self, shelf: &Shelf, without: Option<usize>) -> Plan {
        let parts = self.search.query.conjuncts.iter().enumerate().filter(|(at, _)| Some(*at) != without);
        let parts = parts.map(|(_, part)| Plan::new(&part.expr, shelf, self.book));
        Plan::all(parts.chain([self.wanted(shelf)]), shelf)
    }

    /// The condition that a row is paid for in a wanted way.
    pub(super) fn wanted(&self, shelf: &Shelf) -> Plan {
        let is_wanted = |code: &u32| self.paid.get(*code as usize).is_some_and(Option::is_some);
        let (all, any) = (shelf.prices.keys().all(is_wanted), shelf.prices.keys().any(is_wanted));
        match (all, any) {
            (true, _) => Plan::Always,
            (_, false) => Plan::Never,
            _ => Plan::Currencies { accepted: self.paid.iter().map(Option::is_some).collect() },
        }
    }

    /// The regions to which a condition confines the search, in lower case, and that condition, if one does.
    pub(super) fn regions(&self) -> Option<(usize, &'a [String])> {
        self.conditions().find_map(|(at, condition)| match condition {
            Condition { field: REGION, test: Test::Words { words, negated: false } } => Some((at, &words[..])),
            _ => None,
        })
    }

    /// The least and the greatest price that may be met.
    pub(super) fn prices(&self) -> (u64, u64) {
        let bounds = self.conditions().filter_map(|(_, condition)| match condition {
            Condition { field: PRICE, test: Test::Within(ranges) } => {
                let intervals = ranges.intervals();
                // what nothing lies within is met by nothing
                Some((
                    intervals.first().map_or(i64::MAX, |(low, _)| *low),
                    intervals.last().map_or(0, |(_, high)| *high),
                ))
            }
            _ => None,
        });
        let (low, high) = bounds.fold((0, i64::MAX), |(low, high), (from, to)| (low.max(from), high.min(to)));
        (u64::try_from(low).unwrap_or(0), u64::try_from(high).unwrap_or(0))
    }

    /// The shelves that may have rows of interest, as far as that shows without reading any.
    pub(super) fn shelves(&self) -> Vec<&'a Shelf> {
        let conditions: Vec<_> = self.conditions().map(|(_, condition)| condition).collect();
        let shelves = self.book.shelves.iter().map(|(_, shelf)| shelf).filter(|shelf| shelf.rows > 0);
        shelves.filter(|shelf| conditions.iter().all(|condition| self.may_meet(condition, shelf))).collect()
    }

    /// Whether rows of a shelf may meet a condition: by the bounds of its numbers, and for what the rows of a class have in common, by its
    /// texts.
    fn may_meet(&self, condition: &Condition, shelf: &Shelf) -> bool {
        match &condition.test {
            Test::Within(ranges) => {
                let bounds = shelf.columns.get(condition.field).and_then(|column| column.bounds);
                let within =
                    |(low, high): &(i64, i64)| bounds.is_some_and(|(least, most)| *low <= most && least <= *high);
                ranges.intervals().iter().any(within)
            }
            Test::Words { .. } if matches!(condition.field, GPU | CLASS | SM_CODE) => {
                !matches!(Plan::test(condition, shelf, self.book), Plan::Never)
            }
            Test::Words { .. } => true,
        }
    }

    /// The conditions that must all be met, and their places in the query.
    fn conditions(&self) -> impl Iterator<Item = (usize, &'a Condition)> {
        self.search.query.conjuncts.iter().enumerate().filter_map(|(at, part)| match &part.expr {
            Expr::Test(condition) => Some((at, condition)),
            _ => None,
        })
    }

    /// A row that is in use.
    pub(super) fn row(&'a self, shelf: &'a Shelf, id: RowId) -> Option<RowAt<'a>> {
        let at = id.row as usize;
        let entry = self.book.entry(shelf.places.get(at)?.provider)?;
        let code = *shelf.currencies.get(at)?;
        let currency = self.book.currencies.get(code)?;
        let paid = self.paid.get(code as usize).copied().flatten();
        Some(RowAt { task: self, shelf, id, entry, currency, paid })
    }

    /// The condition that confines the search to a few providers, if there is one, and which those are.
    fn confined(&self) -> Option<(usize, BTreeSet<u32>)> {
        self.conditions().find_map(|(at, condition)| {
            let kind = FIELDS.get(condition.field)?.kind;
            match (&condition.test, kind) {
                (Test::Words { words, negated: false }, Kind::Provider | Kind::Wallet) => {
                    Some((at, plan::providers(kind, words, self.book)))
                }
                _ => None,
            }
        })
    }
}

impl Book {
    /// The rows that meet a search: at most `limit` (and [`MAX_HITS`]) of those that come after the last page. What has expired since the
    /// last [`Book::expire`] is still found.
    pub fn search(&self, search: &Search<'_>, after: Option<&Cursor>, limit: usize) -> Found {
        let task = Task::new(self, search, after, limit.min(MAX_HITS), true);
        let plans;
        let (best, total) = if let Some((condition, providers)) = task.confined() {
            scan::of_providers(&task, condition, &providers)
        } else if let Some(found) = walk::by_price(&task) {
            found
        } else {
            plans = task.plans();
            scan::all(&task, &plans)
        };
        let more = total.count() > best.len();
        let next = best.last().filter(|_| more).map(|row| Cursor::of(row, search.order));
        Found { hits: best.iter().map(RowAt::hit).collect(), next, total }
    }
}
