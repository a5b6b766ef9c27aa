//! Reading an offer: the pieces from which the table of fields puts its values together.

use super::Candidate;
use crate::{
    money::{Amount, MAX_DECIMALS, Rate},
    offer::{GpuGroup, Hardware},
};
use std::{borrow::Cow, collections::BTreeSet};

/// What a field says of a candidate. Numbers are whole, in the field's smallest unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cell<'a> {
    Number(i64),
    Text(Cow<'a, str>),
    Unknown,
}

/// What separates the items of a text that is a list.
pub(crate) const ITEM_END: char = '\n';
/// What a list without items, or a GPU that is no MIG instance, is called.
pub(super) const NONE: &str = "none";
/// The greatest number of a field that is not money: one less than what stands for "unknown" in a column of 32 bits.
pub(crate) const GREATEST_COUNT: u32 = u32::MAX - 1;

pub(super) fn count(value: u32) -> Cell<'static> {
    Cell::Number(i64::from(value.min(GREATEST_COUNT)))
}

pub(super) fn large(value: u64) -> Cell<'static> {
    count(u32::try_from(value).unwrap_or(GREATEST_COUNT))
}

/// Zero means "not stated".
pub(super) fn stated(value: u32) -> Cell<'static> {
    if value == 0 { Cell::Unknown } else { count(value) }
}

pub(super) fn known(value: Option<u32>) -> Cell<'static> {
    value.map_or(Cell::Unknown, count)
}

pub(super) fn flag(value: bool) -> Cell<'static> {
    Cell::Number(i64::from(value))
}

pub(super) fn text(value: &str) -> Cell<'_> {
    if value.is_empty() { Cell::Unknown } else { Cell::Text(Cow::Borrowed(value)) }
}

pub(super) fn list(items: impl Iterator<Item = String>) -> Cell<'static> {
    let items: BTreeSet<String> = items.filter(|item| !item.is_empty()).collect();
    let joined = items.into_iter().collect::<Vec<_>>().join(&ITEM_END.to_string());
    Cell::Text(if joined.is_empty() { Cow::Borrowed(NONE) } else { Cow::Owned(joined) })
}

/// A field of every GPU group as one text; without GPUs it is `otherwise`.
pub(super) fn of_groups<'a>(
    hardware: &'a Hardware,
    otherwise: &'static str,
    read: fn(&GpuGroup) -> &str,
) -> Cow<'a, str> {
    match &hardware.gpus[..] {
        [] => Cow::Borrowed(otherwise),
        [group] => Cow::Borrowed(read(group)),
        groups => Cow::Owned(groups.iter().map(read).collect::<Vec<_>>().join(" + ")),
    }
}

/// The least among the GPU groups: what a program that runs on any of them can count on. A machine without GPUs has none of it.
pub(super) fn least(hardware: &Hardware, read: fn(&GpuGroup) -> u32) -> Cell<'static> {
    hardware.gpus.iter().map(read).min().map_or(Cell::Number(0), stated)
}

/// The sum over the GPUs of a slot; unknown when a group does not state it, or there is none.
pub(super) fn total(hardware: &Hardware, read: fn(&GpuGroup) -> u32) -> Option<u64> {
    let sum = hardware.gpus.iter().try_fold(0u64, |sum, group| match read(group) {
        0 => None,
        each => Some(sum.saturating_add(u64::from(each) * u64::from(group.count))),
    })?;
    (sum > 0).then_some(sum)
}

/// GPUs in a slot. A sum of what a stranger claims: as many as can be counted, never fewer.
pub(super) fn gpus(hardware: &Hardware) -> u32 {
    hardware.gpus.iter().fold(0, |sum, group| sum.saturating_add(group.count))
}

/// Billionths of a token, rounded up: no price is taken for less than it is.
fn billionths(amount: u128, decimals: u8) -> i64 {
    let (decimals, nine) = (u32::from(decimals.min(MAX_DECIMALS)), 9);
    let exact = if decimals <= nine {
        amount.checked_mul(10u128.pow(nine - decimals))
    } else {
        Some(amount.div_ceil(10u128.pow(decimals - nine)))
    };
    exact.and_then(|exact| i64::try_from(exact).ok()).unwrap_or(i64::MAX)
}

pub(super) fn hourly(c: &Candidate<'_>, rate: Rate) -> i64 {
    billionths(rate.hourly().get(), c.price.token.decimals)
}

pub(super) fn amount(c: &Candidate<'_>, amount: Amount) -> i64 {
    billionths(amount.get(), c.price.token.decimals)
}

/// The price divided by something the slot has, in 1e-12 of a token so that small shares keep their digits; rounded up.
pub(super) fn price_per(c: &Candidate<'_>, speed: Option<u64>, tenths: bool) -> Cell<'static> {
    let Some(speed) = speed else { return Cell::Unknown };
    let price = i128::from(hourly(c, c.price.rate)) * if tenths { 10_000 } else { 1_000 };
    let share = (price + i128::from(speed) - 1) / i128::from(speed);
    Cell::Number(i64::try_from(share).unwrap_or(i64::MAX))
}

/// A version such as `580.82.07` as one number; parts beyond the third do not count.
pub(crate) fn version(text: &str) -> Option<(i64, usize)> {
    let mut number = 0;
    let mut parts = 0;
    for part in text.split('.').take(VERSION_PARTS) {
        number = number << VERSION_BITS | i64::from(part.parse::<u16>().ok()?);
        parts += 1;
    }
    Some((number << (VERSION_BITS * (VERSION_PARTS - parts) as u32), parts))
}

/// Parts of a version that are compared.
pub(crate) const VERSION_PARTS: usize = 3;
/// Bits of each.
pub(crate) const VERSION_BITS: u32 = 16;

pub(super) fn sm_code(hardware: &Hardware) -> Cell<'static> {
    if hardware.gpus.iter().any(|group| group.sm == 0) {
        return Cell::Unknown;
    }
    list(hardware.gpus.iter().map(|group| format!("{}{}", group.sm, group.sm_features)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_is_never_taken_for_less_than_it_is() {
        assert_eq!(billionths(2_500_000, 6), 2_500_000_000);
        assert_eq!(billionths(1, 18), 1, "a millionth of a billionth");
        assert_eq!(billionths(u128::from(u64::MAX) << 32, 0), i64::MAX);
    }

    #[test]
    fn versions_are_ordered_as_people_count() {
        let number = |text: &str| version(text).unwrap().0;
        assert!(number("580.82.07") > number("580.9") && number("580") < number("580.0.1"));
        assert_eq!(version("550.54.15.2"), version("550.54.15"));
        assert_eq!(version("r580"), None);
    }
}
