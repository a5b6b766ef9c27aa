//! The published set of queries: what renters ask, what is hard, and the same in SQL.

use crate::{generate::Market, sqlite::ANSWER};

/// Rows of a page.
pub(crate) const LIMIT: usize = 50;

/// A query, and what SQLite is asked.
pub(crate) struct Asked {
    pub(crate) query: &'static str,
    pub(crate) order: &'static str,
    pub(crate) rates: &'static str,
    condition: &'static str,
    sorted: &'static str,
}

/// Cheapest first, token by token; what is not free last.
const BY_PRICE: &str = "busy, token, price, tail";

const fn asked(query: &'static str, condition: &'static str) -> Asked {
    Asked { query, order: "price", rates: "", condition, sorted: BY_PRICE }
}

const fn sorted(query: &'static str, condition: &'static str, order: &'static str, sorted: &'static str) -> Asked {
    Asked { query, order, rates: "", condition, sorted }
}

/// Dollars, and what ether was worth one day.
const RATES: &str = "USDC@8453 1\nUSDC@42161 1\nUSDT@137 1\nUSDC@1 1\nDAI@1 1\nETH@8453 3125\nETH@42161 3125";

pub(crate) const QUERIES: &[Asked] = &[
    asked("", "1"),
    asked("gpu=H100 price<=2.50", "gpu LIKE '%H100%' AND price <= 2500000000"),
    asked(
        "gpu=H100 num_gpus>=8 region in [KR,JP] reliability>=0.99",
        "gpu LIKE '%H100%' AND num_gpus >= 8 AND region IN ('KR', 'JP') AND reliability >= 990000",
    ),
    asked(
        "num_gpus>=4 sm>=90 vram>=80 price<=2.50 reliability>0.99 region in [KR,JP] verified>=2 interruptible=true",
        "num_gpus >= 4 AND sm >= 90 AND vram >= 80 AND price <= 2500000000 AND reliability > 990000 \
         AND region IN ('KR', 'JP') AND verified >= 2 AND interruptible = 1",
    ),
    asked("class=b200 num_gpus>=8 verified>=2", "class = 'b200' AND num_gpus >= 8 AND verified >= 2"),
    asked("vram>=80GB price<=0.85", "vram >= 80 AND price <= 850000000"),
    asked("class=rtx4090 num_gpus>=4 duration>=24h", "class = 'rtx4090' AND num_gpus >= 4 AND duration >= 86400"),
    asked("region=IS", "region = 'IS'"),
    asked("region=IS vram>=80 verified>=2", "region = 'IS' AND vram >= 80 AND verified >= 2"),
    asked("provider=PROVIDER", "provider = :provider"),
    asked("sm=90a duration>=1w free>=4", "sm_code = '90a' AND duration >= 604800 AND free >= 4"),
    asked("cpus>=32 memory>=256GiB disk>=1TiB", "cpus >= 32000 AND memory >= 262144 AND disk >= 1048576"),
    asked(
        "memory>=1000GiB reliability>=0.9999 net_down>=20Gbit region!=US",
        "memory >= 1024000 AND reliability >= 999900 AND net_down >= 20000 AND region != 'US'",
    ),
    asked(
        "not (region=US or region=CN) verified>=1 isolation=virtual_machine",
        "region NOT IN ('US', 'CN') AND verified >= 1 AND isolation = 2",
    ),
    asked("token=ETH price<=0.0001", "symbol = 'ETH' AND price <= 100000"),
    asked("gpu=H100 price>10000", "gpu LIKE '%H100%' AND price > 10000000000000"),
    asked(
        "(gpu=H200 or gpu=B200) num_gpus=8 net_up>=10Gbit",
        "(gpu LIKE '%H200%' OR gpu LIKE '%B200%') AND num_gpus = 8 AND net_up >= 10000",
    ),
    sorted("", "1", "-reliability,price", "busy, reliability DESC, token, price, tail"),
    sorted("gpu=RTX", "gpu LIKE '%RTX%'", "-vram,price", "busy, vram DESC, token, price, tail"),
    sorted(
        "gpu=H100 or gpu=A100",
        "(gpu LIKE '%H100%' OR gpu LIKE '%A100%')",
        "price_tflops",
        "busy, price_tflops IS NULL, token, price_tflops, tail",
    ),
    sorted(
        "cpu=EPYC rating>=4.9",
        "cpu LIKE '%EPYC%' AND rating >= 4900",
        "-rating,price",
        "busy, rating DESC, token, price, tail",
    ),
    Asked { rates: RATES, sorted: "busy, price * worth, tail", ..asked("", "1") },
    Asked {
        rates: RATES,
        sorted: "busy, price * worth, tail",
        ..asked("gpu=H200 num_gpus>=4", "gpu LIKE '%H200%' AND num_gpus >= 4")
    },
];

impl Asked {
    /// The statement for SQLite.
    pub(crate) fn sql(&self, market: &Market) -> String {
        let peer = market.peer(market.providers / 2).to_bytes();
        let provider = format!("x'{}'", peer.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let condition = self.condition.replace(":provider", &provider);
        format!("SELECT {ANSWER} FROM offers WHERE {condition} ORDER BY {} LIMIT {LIMIT}", self.sorted)
    }
}
