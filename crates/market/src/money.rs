//! Money: integer base units with their token, and the rate a rental is billed at. There is no floating point here; decimal text
//! is read and written exactly, and whatever must be rounded says which way.

use alloy_primitives::{Address, aliases::U96};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{collections::BTreeMap, fmt};

/// An amount of some token in its base units; fits the escrow's 96 bits. Serialised as decimal text, since JSON numbers lose digits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u128);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount the escrow can hold.
    pub const MAX: Self = Self((1 << 96) - 1);

    /// `None` when the number needs more than 96 bits.
    pub const fn new(base_units: u128) -> Option<Self> {
        if base_units <= Self::MAX.0 { Some(Self(base_units)) } else { None }
    }

    /// The number of base units.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// The sum, or `None` when it leaves the 96 bits.
    pub const fn checked_add(self, other: Self) -> Option<Self> {
        Self::new(self.0 + other.0)
    }

    /// The difference, not below zero.
    pub const fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Amount> for U96 {
    fn from(amount: Amount) -> Self {
        Self::from(amount.0)
    }
}

impl From<U96> for Amount {
    fn from(amount: U96) -> Self {
        Self(amount.to::<u128>())
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = String::deserialize(d)?;
        text.parse().ok().and_then(Self::new).ok_or_else(|| de::Error::custom(format!("`{text}` is not an amount")))
    }
}

/// The price of a second, in millionths of a base unit.
///
/// What `n` seconds cost is `floor(rate * n / 1e6)`: the escrow's own formula, so that both sides and the chain agree to the unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(Amount);

impl Rate {
    /// A rate given in millionths of a base unit per second.
    pub const fn new(micro_units_per_second: Amount) -> Self {
        Self(micro_units_per_second)
    }

    /// The rate that costs at least `hourly` base units an hour: the ceiling of the conversion.
    pub const fn from_hourly(hourly: Amount) -> Option<Self> {
        match Amount::new((hourly.0 * 1_000_000).div_ceil(3_600)) {
            Some(rate) => Some(Self(rate)),
            None => None,
        }
    }

    /// What an hour costs at this rate, in base units: the price that people are shown.
    pub const fn hourly(self) -> Amount {
        self.for_seconds(3_600)
    }

    /// What `seconds` cost: `floor(rate * seconds / 1e6)`, as in the escrow, clamped to what the escrow can hold.
    pub const fn for_seconds(self, seconds: u32) -> Amount {
        let exact = self.0.0 * seconds as u128 / 1_000_000;
        if exact > Amount::MAX.0 { Amount::MAX } else { Amount(exact) }
    }

    /// The number that stands in the quote.
    pub const fn micro_units(self) -> Amount {
        self.0
    }

    /// The longest time that `amount` pays for, in whole seconds.
    pub fn seconds_for(self, amount: Amount) -> u32 {
        // for_seconds(s) <= amount  <=>  rate * s < (amount + 1) * 1e6
        let limit = (amount.0 + 1) * 1_000_000 - 1;
        limit.checked_div(self.0.0).and_then(|seconds| u32::try_from(seconds).ok()).unwrap_or(u32::MAX)
    }
}

/// A token on a chain, with what is needed to show its amounts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Token {
    /// EIP-155 chain id.
    pub chain: u64,
    /// The token's contract; zero is the chain's own coin.
    pub address: Address,
    /// What people call it: `USDC`, `ETH`.
    pub symbol: String,
    /// How many digits follow the decimal point.
    pub decimals: u8,
}

impl Token {
    /// An amount with its symbol, such as `1.25 USDC`.
    pub fn show(&self, amount: Amount) -> String {
        format!("{} {}", format_units(amount, self.decimals), self.symbol)
    }
}

/// Sums of money by the chain and the symbol of their token, in base units.
#[derive(Clone, Debug, Default)]
pub struct Sums(BTreeMap<(u64, String), u128>);

impl Sums {
    /// Adds to the sum of a token, which thereby appears.
    pub fn add(&mut self, token: &Token, amount: Amount) {
        let sum = self.0.entry((token.chain, token.symbol.clone())).or_default();
        *sum = sum.saturating_add(amount.0);
    }

    /// Each token's chain and symbol with its sum.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &str, u128)> {
        self.0.iter().map(|((chain, symbol), sum)| (*chain, symbol.as_str(), *sum))
    }
}

/// More decimals than this no plain token has; it also keeps the powers of ten below within 128 bits.
pub const MAX_DECIMALS: u8 = 27;

/// Writes base units as an exact decimal number without trailing zeros.
pub fn format_units(amount: Amount, decimals: u8) -> String {
    let scale = 10u128.pow(u32::from(decimals.min(MAX_DECIMALS)));
    let (whole, fraction) = (amount.0 / scale, amount.0 % scale);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = format!("{fraction:0width$}", width = usize::from(decimals));
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

/// Reads a decimal number of tokens as base units; more digits than the token has are an error, never rounded.
pub fn parse_units(text: &str, decimals: u8) -> Result<Amount, MoneyError> {
    let malformed = || MoneyError::Malformed(text.to_owned());
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(malformed());
    }
    let fraction = fraction.trim_end_matches('0');
    let missing = usize::from(decimals)
        .checked_sub(fraction.len())
        .ok_or_else(|| MoneyError::TooPrecise { text: text.to_owned(), decimals })?;
    let digits = format!("{whole}{fraction}{}", "0".repeat(missing));
    let digits = digits.trim_start_matches('0');
    let number: u128 =
        if digits.is_empty() { 0 } else { digits.parse().map_err(|_| MoneyError::TooLarge(text.to_owned()))? };
    Amount::new(number).ok_or_else(|| MoneyError::TooLarge(text.to_owned()))
}

/// Decimal text that is not an amount of the token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// Something else than digits and one point.
    #[error("`{0}` is not an amount: write it like 2.50")]
    Malformed(String),
    /// More digits after the point than the token has.
    #[error("`{text}` has more than {decimals} digits after the point, which this token does not have")]
    TooPrecise {
        /// What was given.
        text: String,
        /// What the token has.
        decimals: u8,
    },
    /// Over 96 bits of base units.
    #[error("`{0}` is more than an escrow can hold")]
    TooLarge(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimal_text_and_base_units_agree() {
        for (text, units) in [("0", 0), ("2.5", 2_500_000), ("2.500000", 2_500_000), (".000001", 1), ("18", 18_000_000)]
        {
            assert_eq!(parse_units(text, 6).unwrap().get(), units, "{text}");
        }
        assert_eq!(format_units(Amount(2_500_000), 6), "2.5");
        assert_eq!(format_units(Amount(1), 6), "0.000001");
        assert_eq!(format_units(Amount(7), 0), "7");
    }

    #[test]
    fn text_that_is_no_exact_amount_is_refused() {
        assert_eq!(parse_units("0.0000001", 6), Err(MoneyError::TooPrecise { text: "0.0000001".into(), decimals: 6 }));
        for bad in ["", ".", "-1", "1e3", "1,5", "0x1"] {
            assert_eq!(parse_units(bad, 6), Err(MoneyError::Malformed(bad.into())));
        }
        assert!(matches!(parse_units(&"9".repeat(40), 6), Err(MoneyError::TooLarge(_))));
    }

    proptest! {
        #[test]
        fn every_amount_survives_being_written_and_read(units in 0u128..=Amount::MAX.0, decimals in 0u8..=18) {
            let amount = Amount(units);
            prop_assert_eq!(parse_units(&format_units(amount, decimals), decimals), Ok(amount));
        }

        #[test]
        fn an_hour_at_the_rate_costs_the_price_that_was_asked(hourly in 0u128..1 << 70) {
            let rate = Rate::from_hourly(Amount(hourly)).unwrap();
            // the ceiling adds less than a millionth per second: less than 3,600 / 1e6 of one base unit
            prop_assert_eq!(rate.hourly().get(), hourly);
        }

        #[test]
        fn seconds_for_is_the_longest_time_an_amount_pays(rate in 1u128..1 << 60, amount in 0u128..1 << 60) {
            let rate = Rate::new(Amount(rate));
            let seconds = rate.seconds_for(Amount(amount));
            prop_assert!(rate.for_seconds(seconds).get() <= amount || seconds == 0);
            if seconds < u32::MAX {
                prop_assert!(rate.for_seconds(seconds + 1).get() > amount);
            }
        }
    }
}
