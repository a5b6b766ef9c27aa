//! What is usual to pay: the median rate of each class in each token, as advertised. It bounds what a second of a rental counts for, so that
//! paying oneself a thousandfold price makes no volume.

use crate::{class::GpuClass, money::Rate, offer::ProviderAd, signed::Escrow};
use alloy_primitives::Address;
use std::collections::BTreeMap;

type Market = (Escrow, Address, GpuClass);

/// The median rates of a market.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Medians(BTreeMap<Market, Rate>);

impl Medians {
    /// Of the rates for rent on demand. Every wallet counts once in each class, with its lowest, however many peers advertise for it.
    pub fn of<'a>(ads: impl IntoIterator<Item = &'a ProviderAd>) -> Self {
        let mut lowest: BTreeMap<Market, BTreeMap<Address, Rate>> = BTreeMap::new();
        for ad in ads {
            for offer in &ad.offers {
                for price in &offer.prices {
                    let market = (price.escrow, price.token.address, offer.class());
                    let rate = lowest.entry(market).or_default().entry(ad.binding.wallet).or_insert(price.rate);
                    *rate = (*rate).min(price.rate);
                }
            }
        }
        Self(lowest.into_iter().filter_map(|(market, rates)| Some((market, median(rates.into_values())?))).collect())
    }

    /// The median that bounds a rental of a provider with offers in `classes`. The chain does not say which of them was rented, so that it is
    /// the lowest: nobody gains by advertising something dearer beside.
    pub fn bound(&self, escrow: Escrow, token: Address, classes: &[GpuClass]) -> Option<Rate> {
        classes.iter().filter_map(|class| self.0.get(&(escrow, token, *class)).copied()).min()
    }
}

/// The lower of the two in the middle, of an even number.
fn median(rates: impl Iterator<Item = Rate>) -> Option<Rate> {
    let mut rates: Vec<_> = rates.collect();
    rates.sort_unstable();
    let middle = rates.len().checked_sub(1)? / 2;
    rates.get(middle).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::numbered_peer,
        money::{Amount, Token},
        offer::{Binding, Hardware, Isolation, Offer, Price, Verification},
        time::UnixMillis,
    };
    use alloy_primitives::{Signature, U256};

    const ESCROW: Escrow = Escrow { chain: 1, address: Address::ZERO };

    fn rate(units: u128) -> Rate {
        Rate::new(Amount::new(units).unwrap())
    }

    fn ad(peer: u8, wallet: u8, rates: &[u128]) -> ProviderAd {
        let token = Token { chain: 1, address: Address::ZERO, symbol: "ETH".into(), decimals: 18 };
        let price = |units: &u128| Price {
            escrow: ESCROW,
            token: token.clone(),
            rate: rate(*units),
            floor: None,
            min_deposit: Amount::ZERO,
        };
        let offer = Offer {
            name: "cpu".into(),
            slots: 1,
            free: 1,
            busy_until: None,
            hardware: Hardware::default(),
            prices: rates.iter().map(price).collect(),
            min_seconds: 1,
            max_seconds: 1,
            increment_millis: 1,
            ready_seconds: 1,
            notice_seconds: 1,
            window: 900,
            arbiters: vec![],
            isolation: Isolation::SharedKernel,
            verification: Verification::Declared,
            whole_host: false,
            splits: vec![],
            discounts: vec![],
        };
        let binding = Binding {
            chain: 1,
            provider_key: Address::ZERO,
            wallet: Address::repeat_byte(wallet),
            issued_at: 0,
            expires: 1,
            signature: Signature::new(U256::from(1), U256::from(1), false),
        };
        let (peer, region) = (numbered_peer(peer), String::new());
        ProviderAd { peer, seq: 1, expires: UnixMillis(2), binding, region, offers: vec![offer] }
    }

    #[test]
    fn a_wallet_counts_once_however_many_peers_it_has() {
        let ads = [ad(1, 1, &[100]), ad(2, 2, &[200]), ad(3, 3, &[9_000]), ad(4, 3, &[8_000]), ad(5, 3, &[9_500])];
        let medians = Medians::of(&ads);
        assert_eq!(medians.bound(ESCROW, Address::ZERO, &[GpuClass::CPU]), Some(rate(200)));
        assert_eq!(medians.bound(ESCROW, Address::ZERO, &[GpuClass::OTHER]), None);
        assert_eq!(medians.bound(ESCROW, Address::repeat_byte(1), &[GpuClass::CPU]), None);
    }

    #[test]
    fn of_two_the_lower_is_the_median_and_of_none_there_is_none() {
        assert_eq!(median([rate(5), rate(3)].into_iter()), Some(rate(3)));
        assert_eq!(median(std::iter::empty()), None);
    }
}
