//! Reading what stands behind an operator: decimals with units, ranges, levels, versions, words. Each becomes the interval of whole numbers
//! that it means for its field, or the words to look for; a fraction that no whole number equals becomes the empty interval between its
//! neighbours, so that every comparison stays exact.

use super::{
    expr::Test,
    fields::{FIELDS, Field, SM_CODE},
    ranges::{GREATEST, LEAST, Ranges},
    read::{Cell, ITEM_END, VERSION_BITS, VERSION_PARTS, version},
    unit::{Kind, Match, Unit},
};

/// How a field is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    fn is_of_order(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}

/// Digits after the point that are read: as many as the smallest unit of any price has.
const SCALE_DIGITS: usize = 9;
/// 10 to that power.
const SCALE: i128 = 1_000_000_000;
/// Digits before the point that are read; no field reaches them.
const WHOLE_DIGITS: usize = 18;
/// What separates the ends of a range.
const RANGE: &str = "..";

/// The condition that `field` compares so with any of `operands`, or what is wrong with one of them, and with which.
pub(super) fn test(field: usize, comparison: Comparison, operands: &[&str]) -> Result<(usize, Test), (usize, String)> {
    let Some(asked) = FIELDS.get(field) else { return Err((0, "no such field".to_owned())) };
    if let Kind::Capability = asked.kind
        && operands.iter().any(|operand| operand.ends_with(['a', 'f', 'A', 'F']))
    {
        return targets(comparison, operands).map(|test| (SM_CODE, test));
    }
    let negated = comparison == Comparison::NotEqual;
    match asked.kind {
        Kind::Text(_) | Kind::Provider | Kind::Wallet if comparison.is_of_order() => {
            Err((0, format!("`{}` is a text: compare it with = != or in", asked.name)))
        }
        Kind::Text(Match::Target) => targets(comparison, operands).map(|test| (field, test)),
        Kind::Text(_) | Kind::Wallet => {
            let words = operands.iter().map(|operand| operand.to_lowercase()).collect();
            Ok((field, Test::Words { words, negated }))
        }
        // base 58 tells upper from lower case
        Kind::Provider => {
            let words = operands.iter().map(|operand| (*operand).to_owned()).collect();
            Ok((field, Test::Words { words, negated }))
        }
        _ => {
            let intervals = operands.iter().enumerate().map(|(at, operand)| {
                interval(asked, operand).map(|equal| compared(comparison, equal)).map_err(|problem| (at, problem))
            });
            let within = Ranges::any_of(intervals.collect::<Result<Vec<_>, _>>()?);
            Ok((field, Test::Within(if negated { within.complement() } else { within })))
        }
    }
}

/// Whether an operand is a range, which needs no operator before it.
pub(super) fn is_range(field: usize, operand: &str) -> bool {
    let numeric =
        FIELDS.get(field).is_some_and(|field| !matches!(field.kind, Kind::Text(_) | Kind::Provider | Kind::Wallet));
    numeric && operand.contains(RANGE)
}

/// The numbers that compare so with what lies in `equal`.
fn compared(comparison: Comparison, (low, high): (i64, i64)) -> (i64, i64) {
    match comparison {
        Comparison::Equal | Comparison::NotEqual => (low, high),
        Comparison::Less => (LEAST, low.saturating_sub(1)),
        Comparison::LessOrEqual => (LEAST, high),
        Comparison::Greater => (high.saturating_add(1), GREATEST),
        Comparison::GreaterOrEqual => (low, GREATEST),
    }
}

/// The whole numbers that an operand means: one, those of a range with both its ends, or none between two neighbours.
fn interval(field: &Field, operand: &str) -> Result<(i64, i64), String> {
    let Some((low, high)) = operand.split_once(RANGE) else { return single(field, operand) };
    let low = if low.is_empty() { LEAST } else { single(field, low)?.0 };
    let high = if high.is_empty() { GREATEST } else { single(field, high)?.1 };
    Ok((low, high))
}

fn single(field: &Field, operand: &str) -> Result<(i64, i64), String> {
    match field.kind {
        Kind::Number(unit) => number(field, unit, operand),
        Kind::Capability => number(field, super::unit::COUNT, operand),
        Kind::Level(names) => level(names, operand),
        Kind::Flag => flag(operand),
        Kind::Version => open_version(operand),
        Kind::Text(_) | Kind::Provider | Kind::Wallet => Err(format!("`{operand}` is not a number")),
    }
}

fn level(names: &[&str], operand: &str) -> Result<(i64, i64), String> {
    let wanted = operand.to_ascii_lowercase();
    let known = names.iter().position(|name| !wanted.is_empty() && name.starts_with(&wanted));
    let number = known.or_else(|| operand.parse().ok().filter(|level| *level < names.len()));
    let number = number.and_then(|level| i64::try_from(level).ok());
    number.map(|level| (level, level)).ok_or_else(|| format!("`{operand}` is none of {}", names.join(", ")))
}

fn flag(operand: &str) -> Result<(i64, i64), String> {
    match operand.to_ascii_lowercase().as_str() {
        "true" | "yes" | "1" => Ok((1, 1)),
        "false" | "no" | "0" => Ok((0, 0)),
        _ => Err(format!("`{operand}` is neither true nor false")),
    }
}

/// Every version that begins so.
fn open_version(operand: &str) -> Result<(i64, i64), String> {
    let (low, parts) = version(operand).ok_or_else(|| format!("`{operand}` is not a version such as 580.82"))?;
    let open = VERSION_BITS * u32::try_from(VERSION_PARTS - parts).unwrap_or(0);
    Ok((low, low | ((1 << open) - 1)))
}

/// A number with a unit, or several that add up, such as `1h30m`.
fn number(field: &Field, unit: &Unit, operand: &str) -> Result<(i64, i64), String> {
    let mut rest = operand;
    let mut sum: Option<(i128, i128)> = None;
    while !rest.is_empty() {
        let (scaled, after) = decimal(rest).ok_or_else(|| format!("`{operand}` is not a number"))?;
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (name, next) = after.split_at(end);
        if name.is_empty() && (sum.is_some() || !next.is_empty()) {
            return Err(format!("`{operand}` is not a number"));
        }
        let (by, per) = if name.is_empty() { unit.bare } else { named(field, unit, name)? };
        let large = || format!("`{operand}` is too large");
        let part = (scaled.checked_mul(by).ok_or_else(large)?, per.checked_mul(SCALE).ok_or_else(large)?);
        sum = Some(match sum {
            None => part,
            // units that are added up are whole multiples of the smallest
            Some((above, below)) if below == part.1 => (above.checked_add(part.0).ok_or_else(large)?, below),
            Some(_) => return Err(format!("the units of `{operand}` do not add up")),
        });
        rest = next;
    }
    let (above, below) = sum.ok_or_else(|| format!("`{operand}` is not a number"))?;
    let floor = above.div_euclid(below);
    let ceiling = floor + i128::from(above.rem_euclid(below) != 0);
    let clamped =
        |number: i128| i64::try_from(number.clamp(i128::from(LEAST), i128::from(GREATEST))).unwrap_or(GREATEST);
    Ok((clamped(ceiling), clamped(floor)))
}

fn named(field: &Field, unit: &Unit, name: &str) -> Result<(i128, i128), String> {
    let wanted = name.to_ascii_lowercase();
    let found = unit.names.iter().find(|(known, _)| *known == wanted).map(|(_, factor)| *factor);
    found.ok_or_else(|| {
        let names: Vec<_> = unit.names.iter().map(|(name, _)| *name).collect();
        if names.is_empty() {
            format!("`{}` is a plain number: `{name}` is no unit of it", field.name)
        } else {
            format!("`{name}` is no unit of `{}`; units are {}", field.name, names.join(", "))
        }
    })
}

/// The decimal at the beginning of a text, scaled by [`SCALE`], and what follows it.
fn decimal(text: &str) -> Option<(i128, &str)> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let end = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = digits.split_at(end(digits));
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(after) => after.split_at(end(after)),
        None => ("", rest),
    };
    if whole.len() + fraction.len() == 0 || whole.len() > WHOLE_DIGITS || fraction.len() > SCALE_DIGITS {
        return None;
    }
    let number: i128 = format!("{whole}{fraction:0<SCALE_DIGITS$}").parse().ok()?;
    Some((if negative { -number } else { number }, rest))
}

fn targets(comparison: Comparison, operands: &[&str]) -> Result<Test, (usize, String)> {
    if comparison.is_of_order() {
        let problem = "code for one architecture runs on just that: write sm=90a, or sm=100f for a family";
        return Err((0, problem.to_owned()));
    }
    let bad = operands.iter().position(|operand| target(operand).is_none());
    if let Some((at, operand)) = bad.and_then(|at| operands.get(at).map(|operand| (at, operand))) {
        return Err((at, format!("`{operand}` is not a target such as 90, 90a or 100f")));
    }
    let words = operands.iter().map(|operand| operand.to_ascii_lowercase()).collect();
    Ok(Test::Words { words, negated: comparison == Comparison::NotEqual })
}

/// A target of compiled code: its number, and the letter of architecture-specific or family-specific code.
fn target(text: &str) -> Option<(u32, Option<char>)> {
    let letter = text.chars().last().filter(char::is_ascii_alphabetic).map(|letter| letter.to_ascii_lowercase());
    let digits = if letter.is_some() { text.get(..text.len() - 1)? } else { text };
    if digits.len() > 4 || letter.is_some_and(|letter| !matches!(letter, 'a' | 'f')) {
        return None;
    }
    Some((digits.parse().ok()?, letter))
}

/// Whether code for `word` runs on a GPU whose code is `item`, such as `90a` or `103af`: plain code on its own major version from its
/// minor one on, `a` only on exactly that, `f` on the later ones of its family.
pub(super) fn runs_on(word: &str, item: &str) -> bool {
    let digits = item.find(|c: char| !c.is_ascii_digit()).unwrap_or(item.len());
    let (number, features) = item.split_at(digits);
    let (Some((wanted, letter)), Ok(has)) = (target(word), number.parse::<u32>()) else { return false };
    let family = has / 10 == wanted / 10 && has >= wanted;
    match letter {
        Some('a') => has == wanted && features.contains('a'),
        Some(_) => family && features.contains('f'),
        None => family,
    }
}

/// A field's value as people read it.
pub(super) fn show(field: &Field, cell: &Cell<'_>) -> String {
    match (cell, field.kind) {
        (Cell::Unknown, _) => "unknown".to_owned(),
        (Cell::Text(text), _) => {
            if text.is_empty() {
                "none".to_owned()
            } else {
                text.replace(ITEM_END, ", ")
            }
        }
        (Cell::Number(number), Kind::Flag) => (if *number == 0 { "false" } else { "true" }).to_owned(),
        (Cell::Number(number), Kind::Level(names)) => {
            usize::try_from(*number).ok().and_then(|level| names.get(level)).map_or("?", |name| name).to_owned()
        }
        (Cell::Number(number), Kind::Version) => {
            let parts = (0..VERSION_PARTS).rev().map(|part| (number >> (VERSION_BITS * part as u32)) & 0xffff);
            parts.map(|part| part.to_string()).collect::<Vec<_>>().join(".")
        }
        (Cell::Number(number), Kind::Number(unit)) => {
            format!("{}{}", fraction(*number, unit.bare.0), spaced(unit.shown))
        }
        (Cell::Number(number), _) => number.to_string(),
    }
}

fn spaced(unit: &str) -> String {
    if unit.is_empty() || unit == "%" { unit.to_owned() } else { format!(" {unit}") }
}

/// `number / by` with as many digits as it needs, at most [`SCALE_DIGITS`].
fn fraction(number: i64, by: i128) -> String {
    let scaled = i128::from(number) * SCALE / by;
    let (whole, rest) = (scaled / SCALE, (scaled % SCALE).unsigned_abs());
    if rest == 0 {
        return whole.to_string();
    }
    let digits = format!("{rest:0width$}", width = SCALE_DIGITS);
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::fields::find;

    fn read(name: &str, operand: &str) -> Result<(i64, i64), String> {
        interval(&FIELDS[find(name).unwrap()], operand)
    }

    #[test]
    fn units_are_exact() {
        for (field, operand, expected) in [
            ("vram", "80", (80, 80)),
            ("vram", "80GB", (80, 80)),
            ("memory", "256", (262_144, 262_144)),
            ("memory", "256GiB", (262_144, 262_144)),
            // a thousand million bytes lie between two whole MiB
            ("memory", "1GB", (954, 953)),
            ("disk", "1TiB", (1_048_576, 1_048_576)),
            ("duration", "24h", (86_400, 86_400)),
            ("duration", "1h30m", (5_400, 5_400)),
            ("duration", "1.5", (5_400, 5_400)),
            ("net_up", "1Gbit", (1_000, 1_000)),
            ("net_up", "2.5Gbit/s", (2_500, 2_500)),
            ("price", "2.50", (2_500_000_000, 2_500_000_000)),
            ("reliability", "99.5%", (995_000, 995_000)),
            ("isolation", "virtual_machine", (2, 2)),
            ("isolation", "user", (1, 1)),
            ("verified", "2", (2, 2)),
            ("price", "1..2.5", (1_000_000_000, 2_500_000_000)),
            ("price", "..2", (LEAST, 2_000_000_000)),
            ("cuda", "12.8..", (128, GREATEST)),
        ] {
            assert_eq!(read(field, operand), Ok(expected), "{field} {operand}");
        }
        for (field, operand) in [
            ("vram", "80 GB"),
            ("vram", "80W"),
            ("price", "1e3"),
            ("price", ""),
            ("price", "0.0000000001"),
            ("num_gpus", "4x"),
            ("duration", "1h30"),
            ("memory", "1GB5MiB"),
            ("verified", "4"),
            ("profiling", "maybe"),
            ("driver", "new"),
            ("price", "9999999999999999999"),
            ("price", "--1"),
            ("price", "1.2.3"),
        ] {
            assert!(read(field, operand).is_err(), "{field} {operand}");
        }
    }

    #[test]
    fn a_version_that_is_cut_short_means_all_that_begin_so() {
        let (low, high) = read("driver", "580").unwrap();
        let exact = version("580.82.07").unwrap().0;
        assert!((low..=high).contains(&exact) && !(low..=high).contains(&version("581").unwrap().0));
    }

    #[test]
    fn code_runs_where_its_kind_says() {
        for (word, item, runs) in [
            ("90", "90a", true),
            ("80", "86", true),
            ("86", "80", false),
            ("80", "90a", false),
            ("90a", "90a", true),
            ("90a", "90", false),
            ("100a", "103af", false),
            ("100f", "103af", true),
            ("103f", "100af", false),
            ("100f", "120af", false),
            ("100f", "100a", false),
        ] {
            assert_eq!(runs_on(word, item), runs, "{word} on {item}");
        }
    }

    #[test]
    fn values_are_shown_in_the_unit_they_are_asked_in() {
        let shown = |name: &str, number| show(&FIELDS[find(name).unwrap()], &Cell::Number(number));
        assert_eq!(shown("memory", 262_144), "256 GiB");
        assert_eq!(shown("price", 2_500_000_000), "2.5");
        assert_eq!(shown("reliability", 995_000), "0.995");
        assert_eq!(shown("discount", 250), "2.5%");
        assert_eq!(shown("driver", version("580.82.07").unwrap().0), "580.82.7");
        assert_eq!(shown("verified", 2), "measured");
    }
}
