//! Every field that can be asked for: its name, what it means, in which unit it is written, and how it is read from an offer. The one
//! table serves the exact evaluation of a single offer and the columns of the book's index, so that both say the same.

use super::{
    Candidate,
    read::{
        Cell, GREATEST_COUNT, NONE, amount, count, flag, gpus, hourly, known, large, least, list, of_groups, price_per,
        sm_code, stated, text, total, version,
    },
    unit::{
        BANDWIDTH, COUNT, CUDA, DISK_SPEED, HOURS, Kind, MEMORY, MEMORY_SPEED, MILLISECONDS, MONEY, Match, PER_SPEED,
        PERCENT, POWER, PROCESSORS, SECONDS, SHARE, STARS, TFLOPS, VRAM,
    },
};
use crate::standing::Standing;
use std::borrow::Cow;

/// A field that can be asked for.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) meaning: &'static str,
    pub(crate) kind: Kind,
    pub(crate) read: for<'a> fn(&Candidate<'a>) -> Cell<'a>,
}

/// The position of a field that the code itself asks for.
pub(crate) const fn position(name: &str) -> usize {
    let mut at = 0;
    while at < FIELDS.len() {
        if is_same(FIELDS[at].name.as_bytes(), name.as_bytes()) {
            return at;
        }
        at += 1;
    }
    panic!("no such field")
}

const fn is_same(a: &[u8], b: &[u8]) -> bool {
    let mut at = 0;
    while at < a.len() && at < b.len() && a[at] == b[at] {
        at += 1;
    }
    at == a.len() && at == b.len()
}

pub(crate) const GPU: usize = position("gpu");
pub(crate) const CLASS: usize = position("class");
pub(crate) const PRICE: usize = position("price");
pub(crate) const FREE: usize = position("free");
pub(crate) const OFFER: usize = position("offer");
pub(crate) const REGION: usize = position("region");
pub(crate) const SM_CODE: usize = position("sm_code");
pub(crate) const TOKEN: usize = position("token");
pub(crate) const TFLOPS_TOTAL: usize = position("tflops");
pub(crate) const MEMORY_SPEED_TOTAL: usize = position("mem_bw");
pub(crate) const LONGEST: usize = position("duration");
const RELIABILITY: usize = position("reliability");
const RATING: usize = position("rating");
const RATINGS: usize = position("ratings");
const COMPLETED: usize = position("completed");
const PAID: usize = position("paid");

/// The field of a name as people write it, old names included.
pub(crate) fn find(name: &str) -> Option<usize> {
    let name = match name.to_ascii_lowercase() {
        old if old == "max_hours" => "duration".to_owned(),
        name => name,
    };
    FIELDS.iter().position(|field| field.name == name)
}

const fn field(
    name: &'static str,
    kind: Kind,
    meaning: &'static str,
    read: for<'a> fn(&Candidate<'a>) -> Cell<'a>,
) -> Field {
    Field { name, meaning, kind, read }
}

/// The fields of a provider's record with their values.
pub(crate) fn standing_cells(standing: Option<Standing>) -> [(usize, Cell<'static>); 5] {
    [
        (RELIABILITY, known(standing.and_then(|standing| standing.reliability))),
        (RATING, known(standing.and_then(|standing| standing.rating))),
        (RATINGS, known(standing.map(|standing| standing.ratings))),
        (COMPLETED, known(standing.map(|standing| standing.completed))),
        (PAID, standing.map_or(Cell::Unknown, |standing| large(standing.paid_seconds))),
    ]
}

fn of_standing(c: &Candidate<'_>, field: usize) -> Cell<'static> {
    let cells = standing_cells(c.standing);
    cells.into_iter().find(|(at, _)| *at == field).map_or(Cell::Unknown, |(_, cell)| cell)
}

/// What is rented as one: its GPUs first.
pub(crate) const FIELDS: &[Field] = &[
    field("gpu", Kind::Text(Match::Part), "GPU model; matches when the words stand in it", |c| {
        Cell::Text(of_groups(&c.offer.hardware, "", |group| &group.model))
    }),
    field("class", Kind::Text(Match::Whole), "class of machine, such as h200 or cpu", |c| text(c.offer.class().name())),
    field("num_gpus", Kind::Number(COUNT), "GPUs in a slot", |c| count(gpus(&c.offer.hardware))),
    field("vram", Kind::Number(VRAM), "memory of each GPU in GB, nominal", |c| {
        least(&c.offer.hardware, |group| group.vram_mib.div_ceil(1_024))
    }),
    field(
        "sm",
        Kind::Capability,
        "compute capability times ten; `sm=90a` is code for just that, `sm=100f` for its family",
        |c| least(&c.offer.hardware, |group| group.sm),
    ),
    field(
        "sm_code",
        Kind::Text(Match::Target),
        "the same with its features, as code that must run on every GPU of the slot",
        |c| sm_code(&c.offer.hardware),
    ),
    field("mig", Kind::Text(Match::Item), "MIG profile, such as 1g.10gb; none for whole GPUs", |c| {
        list(c.offer.hardware.gpus.iter().map(|group| group.mig_profile.clone()))
    }),
    field("interconnect", Kind::Text(Match::Part), "how the GPUs are joined, such as nvlink4 or pcie5", |c| {
        match of_groups(&c.offer.hardware, "", |group| &group.interconnect) {
            text if text.trim_matches([' ', '+']).is_empty() => Cell::Unknown,
            text => Cell::Text(text),
        }
    }),
    field("power", Kind::Number(POWER), "enforced power limit of each GPU in watts", |c| {
        least(&c.offer.hardware, |group| group.power_limit_watts)
    }),
    field("profiling", Kind::Flag, "whether hardware counters of every GPU may be read", |c| {
        let gpus = &c.offer.hardware.gpus;
        flag(!gpus.is_empty() && gpus.iter().all(|group| group.profiling))
    }),
    field("tflops", Kind::Number(TFLOPS), "measured dense 16-bit matrix throughput of a slot's GPUs together", |c| {
        total(&c.offer.hardware, |group| group.tflops).map_or(Cell::Unknown, large)
    }),
    field("mem_bw", Kind::Number(MEMORY_SPEED), "measured memory bandwidth of a slot's GPUs together, in GB/s", |c| {
        total(&c.offer.hardware, |group| group.memory_gb_per_s).map_or(Cell::Unknown, large)
    }),
    field("driver", Kind::Version, "driver version; `driver>=580` and `driver=580.82` do", |c| {
        version(&c.offer.hardware.driver_version).map_or(Cell::Unknown, |(number, _)| Cell::Number(number))
    }),
    field("cuda", Kind::Number(CUDA), "CUDA version of the driver", |c| stated(c.offer.hardware.cuda_version)),
    field(
        "software",
        Kind::Text(Match::Part),
        "software found on the machine; matches when the words stand in it",
        |c| match list(c.offer.hardware.software.iter().cloned()) {
            Cell::Text(text) if text == NONE => Cell::Unknown,
            list => list,
        },
    ),
    field("cpu", Kind::Text(Match::Part), "processor model; matches when the words stand in it", |c| {
        text(&c.offer.hardware.cpu_model)
    }),
    field("cpus", Kind::Number(PROCESSORS), "processor cores in a slot", |c| stated(c.offer.hardware.cpu_millis)),
    field("memory", Kind::Number(MEMORY), "memory in GiB", |c| stated(c.offer.hardware.memory_mib)),
    field("disk", Kind::Number(MEMORY), "disk in GiB", |c| stated(c.offer.hardware.disk_mib)),
    field("disk_kind", Kind::Text(Match::Whole), "nvme, ssd, hdd or memory", |c| text(&c.offer.hardware.disk_kind)),
    field("disk_speed", Kind::Number(DISK_SPEED), "measured sequential write speed in MB/s", |c| {
        stated(c.offer.hardware.disk_mb_per_s)
    }),
    field("net_down", Kind::Number(BANDWIDTH), "network towards the machine in Mbit/s", |c| {
        stated(c.offer.hardware.network_down_mbit)
    }),
    field("net_up", Kind::Number(BANDWIDTH), "network from the machine in Mbit/s", |c| {
        stated(c.offer.hardware.network_up_mbit)
    }),
    field(
        "isolation",
        Kind::Level(&["shared_kernel", "user_kernel", "virtual_machine"]),
        "shared_kernel, user_kernel or virtual_machine, each stronger than the one before",
        |c| Cell::Number(c.offer.isolation as i64),
    ),
    field(
        "verified",
        Kind::Level(&["declared", "consistent", "measured", "attested"]),
        "0 declared, 1 consistent, 2 measured, 3 attested",
        |c| count(c.offer.verification.level()),
    ),
    field("whole_host", Kind::Flag, "whether the slot is the whole machine", |c| flag(c.offer.whole_host)),
    field("splits", Kind::Text(Match::Item), "how many slots may be rented together", |c| match &c.offer.splits[..] {
        [] => Cell::Text(Cow::Borrowed("1")),
        some => list(some.iter().map(ToString::to_string)),
    }),
    field("slots", Kind::Number(COUNT), "slots of this kind", |c| count(c.offer.slots)),
    field("free", Kind::Number(COUNT), "free slots", |c| count(c.offer.free)),
    field("region", Kind::Text(Match::Whole), "country code of the machine", |c| text(&c.ad.region)),
    field("price", Kind::Number(MONEY), "all-in price of a slot-hour, in tokens", |c| {
        Cell::Number(hourly(c, c.price.rate))
    }),
    field("price_gpu", Kind::Number(MONEY), "the same for each GPU", |c| match gpus(&c.offer.hardware) {
        0 => Cell::Unknown,
        gpus => Cell::Number(
            u64::try_from(hourly(c, c.price.rate))
                .map_or(i64::MAX, |price| i64::try_from(price.div_ceil(u64::from(gpus))).unwrap_or(i64::MAX)),
        ),
    }),
    field("price_tflops", Kind::Number(PER_SPEED), "price of a slot-hour for each measured TFLOP/s", |c| {
        price_per(c, total(&c.offer.hardware, |group| group.tflops), true)
    }),
    field(
        "price_mem_bw",
        Kind::Number(PER_SPEED),
        "price of a slot-hour for each measured GB/s of memory bandwidth",
        |c| price_per(c, total(&c.offer.hardware, |group| group.memory_gb_per_s), false),
    ),
    field("floor", Kind::Number(MONEY), "least bid of an interruptible slot-hour, in tokens", |c| {
        c.price.floor.map_or(Cell::Unknown, |floor| Cell::Number(hourly(c, floor)))
    }),
    field("interruptible", Kind::Flag, "whether bids below the price are taken", |c| flag(c.price.floor.is_some())),
    field("min_deposit", Kind::Number(MONEY), "least deposit, in tokens", |c| {
        Cell::Number(amount(c, c.price.min_deposit))
    }),
    field("token", Kind::Text(Match::Whole), "symbol of the token it is paid in", |c| text(&c.price.token.symbol)),
    field("chain", Kind::Number(COUNT), "chain id it is paid on", |c| match u32::try_from(c.price.escrow.chain) {
        Ok(id) if id <= GREATEST_COUNT => count(id),
        _ => Cell::Unknown,
    }),
    field("discount", Kind::Number(PERCENT), "the greatest discount for holders of a token, in percent", |c| {
        count(c.offer.discounts.iter().map(|discount| discount.basis_points).max().unwrap_or(0))
    }),
    field("discount_token", Kind::Text(Match::Item), "contract whose holders pay less", |c| {
        list(c.offer.discounts.iter().map(|discount| format!("{:#x}", discount.token)))
    }),
    field("duration", Kind::Number(HOURS), "longest rental in hours; also max_hours", |c| stated(c.offer.max_seconds)),
    field("min_duration", Kind::Number(SECONDS), "shortest rental in seconds", |c| count(c.offer.min_seconds)),
    field("notice", Kind::Number(SECONDS), "notice before an interruption, in seconds", |c| {
        count(c.offer.notice_seconds)
    }),
    field("ready", Kind::Number(SECONDS), "longest start of a sandbox, in seconds", |c| stated(c.offer.ready_seconds)),
    field(
        "increment",
        Kind::Number(MILLISECONDS),
        "billing increment in seconds: the most either side can lose",
        |c| stated(c.offer.increment_millis),
    ),
    field("window", Kind::Number(SECONDS), "challenge window of the escrow, in seconds", |c| count(c.offer.window)),
    field("arbiter", Kind::Text(Match::Item), "who may rule on a dispute, by address; none when nobody may", |c| {
        list(c.offer.arbiters.iter().map(|arbiter| format!("{arbiter:#x}")))
    }),
    field("offer", Kind::Text(Match::Whole), "the provider's name for the offer", |c| text(&c.offer.name)),
    field("provider", Kind::Provider, "the provider's peer id", |c| Cell::Text(Cow::Owned(c.ad.peer.to_base58()))),
    field("wallet", Kind::Wallet, "the wallet the provider is paid to", |c| {
        Cell::Text(Cow::Owned(format!("{:#x}", c.ad.binding.wallet)))
    }),
    field("reliability", Kind::Number(SHARE), "share of rentals that went as promised, 0 to 1", |c| {
        of_standing(c, RELIABILITY)
    }),
    field("rating", Kind::Number(STARS), "mean of the ratings, 1 to 5 stars", |c| of_standing(c, RATING)),
    field("ratings", Kind::Number(COUNT), "ratings that count", |c| of_standing(c, RATINGS)),
    field("completed", Kind::Number(COUNT), "rentals that ended with something earned; unverified volume", |c| {
        of_standing(c, COMPLETED)
    }),
    field("paid", Kind::Number(HOURS), "hours that were paid for in them; unverified volume", |c| of_standing(c, PAID)),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique_and_old_ones_are_found() {
        let names: BTreeSet<_> = FIELDS.iter().map(|field| field.name).collect();
        assert_eq!(names.len(), FIELDS.len());
        assert_eq!(find("MAX_HOURS"), Some(LONGEST));
        assert_eq!(FIELDS[PRICE].name, "price");
    }
}
