//! What tokens are worth to the user: the only ground on which prices in different tokens are compared. One line for each token,
//! `USDC@8453 1` or `0x…@1 3120.50`: the symbol or the contract, the chain, and what one token is worth in whatever unit the user counts.

use crate::money::Token;
use alloy_primitives::Address;
use std::str::FromStr;

/// The most tokens in one table of rates: many times what anybody pays in.
pub const MAX_RATES: usize = 256;
/// Digits after the point of a rate.
const DIGITS: usize = 9;

/// Worth of tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates(Vec<(Name, u64, u64)>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Name {
    Symbol(String),
    Contract(Address),
}

/// A table of rates that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RatesError {
    /// Not a token, its chain and its worth.
    #[error("line {line}: write it like `USDC@8453 1` or `0x…@1 3120.50`: a token, its chain, and what one is worth")]
    Line {
        /// Counted from 1.
        line: usize,
    },
    /// A token twice.
    #[error("line {line}: the token has a rate already")]
    Twice {
        /// Counted from 1.
        line: usize,
    },
    /// More than [`MAX_RATES`].
    #[error("more than {MAX_RATES} rates")]
    TooMany,
}

impl Rates {
    /// Reads a table, one token a line; what follows a `#` is a comment.
    pub fn parse(text: &str) -> Result<Self, RatesError> {
        let mut rates = Self::default();
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.split('#').next().unwrap_or("").trim();
            if content.is_empty() {
                continue;
            }
            let (name, chain, worth) = entry(content).ok_or(RatesError::Line { line })?;
            if rates.0.iter().any(|(known, on, _)| *known == name && *on == chain) {
                return Err(RatesError::Twice { line });
            }
            if rates.0.len() == MAX_RATES {
                return Err(RatesError::TooMany);
            }
            rates.0.push((name, chain, worth));
        }
        // a contract is more than a name that anybody may take
        rates.0.sort_by_key(|(name, _, _)| matches!(name, Name::Symbol(_)));
        Ok(rates)
    }

    /// What a billionth of the token is worth, in billionths of a billionth of the user's unit; `None` when the user has not said.
    pub fn of(&self, token: &Token) -> Option<u64> {
        let is = |name: &Name| match name {
            Name::Contract(address) => *address == token.address,
            Name::Symbol(symbol) => symbol.eq_ignore_ascii_case(&token.symbol),
        };
        self.0.iter().find(|(name, chain, _)| *chain == token.chain && is(name)).map(|(_, _, worth)| *worth)
    }

    /// Whether the user has given no rates.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn entry(content: &str) -> Option<(Name, u64, u64)> {
    let (token, worth) = content.split_once(|c: char| c.is_whitespace() || c == '=')?;
    let (name, chain) = token.rsplit_once('@')?;
    let name = match Address::from_str(name) {
        Ok(address) => Name::Contract(address),
        Err(_) if !name.is_empty() => Name::Symbol(name.to_lowercase()),
        Err(_) => return None,
    };
    let (whole, fraction) = worth.trim().split_once('.').unwrap_or((worth.trim(), ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > DIGITS {
        return None;
    }
    let worth: u64 = format!("{whole}{fraction:0<DIGITS$}").parse().ok()?;
    Some((name, chain.parse().ok()?, Some(worth).filter(|worth| *worth > 0)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(symbol: &str, chain: u64) -> Token {
        Token { chain, address: Address::repeat_byte(7), symbol: symbol.into(), decimals: 6 }
    }

    #[test]
    fn a_rate_is_of_a_token_on_a_chain() {
        let rates = Rates::parse("# what I count in: dollars\nUSDC@8453 1\n ETH@1 = 3120.50\n").unwrap_err();
        assert_eq!(rates, RatesError::Line { line: 3 });
        let rates = Rates::parse("# dollars\nUSDC@8453 1\nETH@1=3120.50 # yesterday\n\n").unwrap();
        assert_eq!(rates.of(&token("usdc", 8_453)), Some(1_000_000_000));
        assert_eq!(rates.of(&token("ETH", 1)), Some(3_120_500_000_000));
        assert_eq!(rates.of(&token("ETH", 8_453)), None);
    }

    #[test]
    fn a_contract_goes_before_a_name_that_anybody_may_take() {
        let address = Address::repeat_byte(7);
        let rates = Rates::parse(&format!("USDC@1 5\n{address}@1 2")).unwrap();
        assert_eq!(rates.of(&token("USDC", 1)), Some(2_000_000_000));
    }

    #[test]
    fn what_is_no_rate_is_refused_with_its_line() {
        for bad in
            ["USDC 1", "USDC@x 1", "@1 1", "USDC@1 -1", "USDC@1 0", "USDC@1 1e3", "USDC@1 0.0000000001", "USDC@1"]
        {
            assert_eq!(Rates::parse(bad), Err(RatesError::Line { line: 1 }), "{bad}");
        }
        assert_eq!(Rates::parse("A@1 1\na@1 2"), Err(RatesError::Twice { line: 2 }));
        let many: String = (0..=MAX_RATES).map(|chain| format!("A@{chain} 1\n")).collect();
        assert_eq!(Rates::parse(&many), Err(RatesError::TooMany));
    }
}
