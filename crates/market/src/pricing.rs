//! What a slot costs, whom and when: a provider's pricing policy as a pure function of the question, the time, and what the asker holds.
//!
//! It begins with the list price of a token. The hour of the day multiplies it: that is the advertised price, and it holds for everybody.
//! Of the discounts that apply to whoever asks, the greatest is taken, and not their sum, so that nobody has to guess what two of them
//! make together. Nothing takes a price below its least.

use crate::{
    money::{Amount, Rate},
    offer::{Discount, Price},
    signed::Escrow,
    time::UnixMillis,
};
use alloy_primitives::Address;

/// A hundred per cent, in basis points.
pub const WHOLE: u32 = 10_000;
/// For how long an advertised price holds after a dearer hour has begun, in milliseconds: what an advertisement needs to reach everybody,
/// many times over, so that what is shown can be rented.
pub const PRICE_GRACE: u64 = 60_000;
/// Minutes of a day.
const DAY_MINUTES: u64 = 24 * 60;

impl Rate {
    /// So many per cent of this rate, rounded up: as with the conversion from an hourly price, a provider never gets less than it named.
    pub fn percent(self, percent: u32) -> Option<Self> {
        let exact = self.micro_units().get().checked_mul(u128::from(percent))?;
        Amount::new(exact.div_ceil(100)).map(Self::new)
    }

    /// This rate less a discount, rounded up.
    pub fn less(self, basis_points: u32) -> Self {
        let kept = u128::from(WHOLE.saturating_sub(basis_points));
        // 96 bits times 14 fit 128, and less than the whole fits 96
        let rate = (self.micro_units().get() * kept).div_ceil(u128::from(WHOLE));
        Amount::new(rate).map_or(self, Self::new)
    }

    /// The rate of several slots together.
    pub fn times(self, slots: u32) -> Option<Self> {
        self.micro_units().get().checked_mul(u128::from(slots)).and_then(Amount::new).map(Self::new)
    }
}

/// What a slot of one offer costs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// A price for each chain and token.
    pub list: Vec<ListPrice>,
    /// What hours of the day make of them; the first that is on counts.
    pub hours: Vec<Hours>,
    /// What some pay less.
    pub reductions: Vec<Reduction>,
}

/// A price before the hour and the asker are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPrice {
    /// At the usual hours.
    pub price: Price,
    /// No hour and no discount takes it below this.
    pub least: Rate,
}

/// Hours of the day with a price of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    /// The first minute of the day, UTC.
    pub from: u16,
    /// The first minute that is no longer part of it; before `from` when midnight lies between.
    pub to: u16,
    /// Of the list price.
    pub percent: u32,
}

impl Hours {
    fn covers(&self, now: UnixMillis) -> bool {
        let minute = now.seconds() / 60 % DAY_MINUTES;
        let (from, to) = (u64::from(self.from), u64::from(self.to));
        if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to }
    }
}

/// A discount, and whom it is for: all that is said must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reduction {
    /// Off the price.
    pub basis_points: u32,
    /// For rentals of so many seconds or more.
    pub at_least: u32,
    /// For these wallets; for all when empty.
    pub wallets: Vec<Address>,
    /// For holders of this.
    pub holding: Option<Holding>,
}

/// A token or NFT contract on a chain: whoever has a balance there holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Holding {
    /// The chain's id.
    pub chain: u64,
    /// The contract.
    pub token: Address,
}

/// Who asks for how long, and how it would pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Where it settles.
    pub escrow: Escrow,
    /// What it pays in.
    pub token: Address,
    /// Its wallet.
    pub wallet: Address,
    /// How long it would be served, in seconds.
    pub seconds: u32,
}

/// The price of a second of one slot for whoever asks; `None` when there is no price in that token at that escrow. `holds` says what the
/// asker's wallet was found to hold.
pub fn price(policy: &Policy, asker: &Asker, now: UnixMillis, holds: impl Fn(&Holding) -> bool) -> Option<Rate> {
    let listed = policy.listed(asker.escrow, asker.token)?;
    let off = policy.reductions.iter().filter(|reduction| reduction.is_for(asker, &holds));
    let off = off.map(|reduction| reduction.basis_points).max().unwrap_or_default();
    let before = UnixMillis(now.0.saturating_sub(PRICE_GRACE));
    let advertised = policy.rate_at(listed, now).min(policy.rate_at(listed, before));
    Some(advertised.less(off).max(listed.least))
}

impl Policy {
    /// The prices as they are advertised at `now`.
    pub fn advertised(&self, now: UnixMillis) -> Vec<Price> {
        let at = |listed: &ListPrice| Price { rate: self.rate_at(listed, now), ..listed.price.clone() };
        self.list.iter().map(at).collect()
    }

    /// The discounts as they are advertised at `now`: those for which holding something is enough, and never more than the least prices
    /// leave of them, so that whoever works out its price from them is not refused.
    pub fn advertised_discounts(&self, now: UnixMillis) -> Vec<Discount> {
        let given = |reduction: &Reduction| {
            let Holding { chain, token } = reduction.holding.filter(|_| reduction.is_for_all_holders())?;
            let basis_points = self.list.iter().map(|listed| self.room(listed, now)).min()?.min(reduction.basis_points);
            (basis_points > 0).then_some(Discount { chain, token, basis_points })
        };
        self.reductions.iter().filter_map(given).collect()
    }

    /// What must be known of a wallet to price its question.
    pub fn holdings(&self) -> impl Iterator<Item = Holding> {
        self.reductions.iter().filter_map(|reduction| reduction.holding)
    }

    /// The price in a token at an escrow.
    pub fn listed(&self, escrow: Escrow, token: Address) -> Option<&ListPrice> {
        self.list.iter().find(|listed| listed.price.escrow == escrow && listed.price.token.address == token)
    }

    fn rate_at(&self, listed: &ListPrice, now: UnixMillis) -> Rate {
        let rate = listed.price.rate;
        let hours = self.hours.iter().find(|hours| hours.covers(now));
        // what is too large to be paid was refused when the policy was read
        hours.and_then(|hours| rate.percent(hours.percent)).unwrap_or(rate).max(listed.least)
    }

    /// The greatest discount that leaves at least the least price.
    fn room(&self, listed: &ListPrice, now: UnixMillis) -> u32 {
        let rate = self.rate_at(listed, now).micro_units();
        let above = rate.saturating_sub(listed.least.micro_units()).get() * u128::from(WHOLE);
        above.checked_div(rate.get()).and_then(|room| u32::try_from(room).ok()).unwrap_or_default()
    }
}

impl Reduction {
    fn is_for(&self, asker: &Asker, holds: impl Fn(&Holding) -> bool) -> bool {
        asker.seconds >= self.at_least
            && (self.wallets.is_empty() || self.wallets.contains(&asker.wallet))
            && self.holding.as_ref().is_none_or(holds)
    }

    fn is_for_all_holders(&self) -> bool {
        self.at_least == 0 && self.wallets.is_empty()
    }
}

#[cfg(test)]
mod tests;
