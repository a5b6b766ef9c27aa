//! The same rows in SQLite, which answers what a hit of ours says: in memory, with the indexes that somebody who knows the queries would make, statistics gathered, statements
//! prepared.

use crate::generate::Market;
use market::{
    book::Book,
    query::{Candidate, Rates},
};
use rusqlite::{Connection, Statement, params};
use std::hint::black_box;

const COLUMNS: &str = "id INTEGER PRIMARY KEY, provider BLOB, offer_at INTEGER, price_at INTEGER, tail INTEGER, gpu TEXT, class TEXT, num_gpus INTEGER, vram INTEGER,
    sm INTEGER, sm_code TEXT, cpu TEXT, cpus INTEGER, memory INTEGER, disk INTEGER, net_down INTEGER, net_up INTEGER, region TEXT,
    verified INTEGER, isolation INTEGER, busy INTEGER, free INTEGER, duration INTEGER, interruptible INTEGER, symbol TEXT, token INTEGER,
    price INTEGER, worth INTEGER, price_tflops INTEGER, reliability INTEGER, rating INTEGER";

/// For each column that the set asks or sorts by first; where texts are compared as a whole, with the order of price behind them.
const INDEXES: &[&str] = &[
    "busy, token, price, tail",
    "class, busy, token, price, tail",
    "region, busy, token, price, tail",
    "symbol, price",
    "provider",
    "price",
    "vram",
    "busy, reliability",
    "busy, vram",
    "rating",
    "price_tflops",
];

/// Whose it is, which of its offers and prices, and the provider's record.
pub(crate) const ANSWER: &str = "provider, offer_at, price_at, reliability, rating";
const ANSWER_COLUMNS: usize = 5;

/// The rows.
pub(crate) struct Table(Connection);

/// A statement that was prepared.
pub(crate) struct Prepared<'a>(Statement<'a>);

impl Table {
    pub(crate) fn fill(market: &Market, book: &Book) -> Self {
        let connection = Connection::open_in_memory().expect("memory is there");
        connection.execute_batch(&format!("CREATE TABLE offers({COLUMNS}); BEGIN")).expect("the table is sound");
        let places = vec!["?"; COLUMNS.split(',').count()].join(",");
        let mut insert = connection.prepare(&format!("INSERT INTO offers VALUES({places})")).expect("it is sound");
        let mut id = 0i64;
        for number in 0..market.providers {
            let (_, ad, standing) = market.provider(number, market.began);
            for candidate in Candidate::all(&ad, standing) {
                id += 1;
                put(&mut insert, id, &candidate, at(&candidate));
            }
        }
        assert_eq!(usize::try_from(id), Ok(book.rows()), "both have the same rows");
        drop(insert);
        connection.execute_batch("COMMIT").expect("memory is there");
        for columns in INDEXES {
            let name = columns.replace([',', ' '], "_");
            connection.execute_batch(&format!("CREATE INDEX i_{name} ON offers({columns})")).expect("it is sound");
        }
        connection.execute_batch("ANALYZE").expect("it can be counted");
        Self(connection)
    }

    pub(crate) fn prepare(&self, sql: &str) -> Prepared<'_> {
        Prepared(self.0.prepare(sql).expect("the set is sound"))
    }
}

impl Prepared<'_> {
    /// Runs it, and counts what it finds.
    pub(crate) fn rows(&mut self) -> usize {
        let mut rows = self.0.query([]).expect("it runs");
        let mut count = 0;
        while let Some(row) = rows.next().expect("it goes on") {
            for column in 0..ANSWER_COLUMNS {
                black_box(row.get_ref(column).expect("it was asked for"));
            }
            count += 1;
        }
        count
    }
}

/// Which offer of the advertisement, and which price of the offer.
fn at(c: &Candidate<'_>) -> (usize, usize) {
    let offer = c.ad.offers.iter().position(|offer| std::ptr::eq(offer, c.offer)).expect("it is one of them");
    let price = c.offer.prices.iter().position(|price| std::ptr::eq(price, c.price)).expect("it is one of them");
    (offer, price)
}

fn put(insert: &mut Statement<'_>, id: i64, c: &Candidate<'_>, (offer_at, price_at): (usize, usize)) {
    let (offer, hardware, token) = (c.offer, &c.offer.hardware, &c.price.token);
    let gpu = hardware.gpus.first();
    let scale = 10i128.pow(u32::from(token.decimals.abs_diff(9)));
    let hourly = i128::try_from(c.price.rate.hourly().get()).expect("96 bits");
    let price = if token.decimals <= 9 { hourly * scale } else { (hourly + scale - 1) / scale };
    let tflops = gpu.map(|group| i128::from(group.tflops * group.count)).filter(|tenths| *tenths > 0);
    let share = tflops.map(|tenths| ((price * 10_000 + tenths - 1) / tenths) as i64);
    let tail = c.ad.peer.to_bytes().iter().rev().take(8).rev().fold(0u64, |tail, byte| tail << 8 | u64::from(*byte));
    let rates = Rates::parse("ETH@8453 3125\nETH@42161 3125").expect("it is sound");
    insert
        .execute(params![
            id,
            c.ad.peer.to_bytes(),
            offer_at as i64,
            price_at as i64,
            // moved into the range of signed numbers without changing the order
            (tail ^ 1 << 63) as i64,
            gpu.map_or("", |group| &group.model),
            offer.class().name(),
            gpu.map_or(0, |group| group.count),
            gpu.map_or(0, |group| group.vram_mib.div_ceil(1_024)),
            gpu.map_or(Some(0), |group| Some(group.sm).filter(|sm| *sm > 0)),
            gpu.map(|group| format!("{}{}", group.sm, group.sm_features)),
            hardware.cpu_model,
            hardware.cpu_millis,
            hardware.memory_mib,
            hardware.disk_mib,
            hardware.network_down_mbit,
            hardware.network_up_mbit,
            Some(&c.ad.region).filter(|region| !region.is_empty()),
            offer.verification.level(),
            offer.isolation as u32,
            u32::from(offer.free == 0),
            offer.free,
            offer.max_seconds,
            u32::from(c.price.floor.is_some()),
            token.symbol,
            Market::token_rank(&token.symbol, token.chain),
            price as i64,
            rates.of(token).map_or(1, |_| 3_125),
            share,
            c.standing.and_then(|standing| standing.reliability),
            c.standing.and_then(|standing| standing.rating),
        ])
        .expect("the row fits");
}
