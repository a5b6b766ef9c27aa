//! How much of a provider's past leads back to one's own. The asker rented from some providers; others rented from these too, and they also
//! rented from the provider in question. What can flow along such paths, each step no wider than the seconds that were rented in it, is the
//! asker's reason to believe the provider's record: a maximum flow.
//!
//! A ring of self-dealers has any number of rentals inside and no way in. To make one, a renter of the ring has to rent from somebody the
//! asker has rented from, for real money, and lifts the ring by no more than it spent; and a counterparty of the asker's that lies can
//! lift others by no more than the asker itself rented from it.

use super::{MILLION, Outcome, RentalFacts, WINDOW};
use crate::{rating::Stars, standing::Standing};
use alloy_primitives::Address;
use std::collections::{BTreeMap, VecDeque};

/// The most providers of the asker's past, and the most renters of each, that are looked at: the ones with the most seconds. It bounds a
/// question to a few thousand edges.
pub const MAX_NEIGHBOURS: usize = 64;
/// The trusted seconds that give half of the whole weight: a day. Much more says little more.
pub const HALF_WEIGHT: u64 = 86_400;
/// A rating of this and below takes its rental out of what its renter vouches for.
const POOR: u8 = 2;

/// Seconds that one wallet rented from another, in all that went well.
pub type Dealings = BTreeMap<Address, u64>;

/// The seconds by which a rental speaks for its provider: none, unless it was kept, lately, and not rated badly.
pub fn seconds_of(rental: &RentalFacts, rating: Option<Stars>, now: u64) -> u64 {
    let lately = rental.closed.is_some_and(|closed| closed.at.saturating_add(WINDOW) >= now);
    let poor = rating.is_some_and(|stars| stars.get() <= POOR);
    let dealt_with_oneself = rental.renter == rental.provider;
    match rental.outcome() {
        Some(Outcome::Kept) if lately && !poor && !dealt_with_oneself => rental.paid_seconds().into(),
        _ => 0,
    }
}

/// The part of the market around a question: who rented how much from whom.
#[derive(Clone, Debug, Default)]
pub struct Neighbourhood {
    /// Seconds that the asker rented from each of its providers.
    pub own: Dealings,
    /// Seconds that others rented from each of these, by renter.
    pub renters: BTreeMap<Address, Dealings>,
    /// Seconds that each renter rented from the provider in question.
    pub subject: Dealings,
}

/// The entries with the most seconds, at most [`MAX_NEIGHBOURS`]; of equals, the lower address.
pub fn nearest(dealings: Dealings) -> Dealings {
    let mut sorted: Vec<_> = dealings.into_iter().filter(|(_, seconds)| *seconds > 0).collect();
    sorted.sort_by_key(|(address, seconds)| (std::cmp::Reverse(*seconds), *address));
    sorted.truncate(MAX_NEIGHBOURS);
    sorted.into_iter().collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Asker,
    Provider(Address),
    Renter(Address),
    Subject,
}

/// What may still flow from each place to each.
type Residual = BTreeMap<Place, BTreeMap<Place, u64>>;

impl Neighbourhood {
    /// The seconds of the asker's own past that lead to `provider`: those it rented there itself, and those that flow through others.
    pub fn trusted_seconds(&self, asker: Address, provider: Address) -> u64 {
        let direct = self.own.get(&provider).copied().unwrap_or_default();
        direct.saturating_add(maximum_flow(self.edges(asker, provider)))
    }

    fn edges(&self, asker: Address, provider: Address) -> Residual {
        let mut edges = Residual::new();
        let mut edge = |from, to, seconds| {
            if seconds > 0 {
                *edges.entry(from).or_default().entry(to).or_default() += seconds;
            }
        };
        for (own, seconds) in self.own.iter().filter(|(own, _)| **own != provider) {
            edge(Place::Asker, Place::Provider(*own), *seconds);
            for (renter, seconds) in self.renters.get(own).into_iter().flatten() {
                // what the asker vouches for itself is counted already; nor does a provider vouch as its own renter
                if *renter != asker && renter != own {
                    edge(Place::Provider(*own), Place::Renter(*renter), *seconds);
                }
            }
        }
        for (renter, seconds) in self.subject.iter().filter(|(renter, _)| **renter != asker) {
            edge(Place::Renter(*renter), Place::Subject, *seconds);
        }
        edges
    }
}

/// Edmonds and Karp: along shortest paths until there is none. No path has more than three steps at first, and the graph is small.
fn maximum_flow(mut edges: Residual) -> u64 {
    let mut flow = 0u64;
    while let Some(path) = shortest_path(&edges) {
        let width = path.iter().map(|(from, to)| edges[from][to]).min().unwrap_or_default();
        for (from, to) in path {
            if let Some(left) = edges.get_mut(&from).and_then(|edges| edges.get_mut(&to)) {
                *left -= width;
            }
            *edges.entry(to).or_default().entry(from).or_default() += width;
        }
        flow = flow.saturating_add(width);
    }
    flow
}

fn shortest_path(edges: &Residual) -> Option<Vec<(Place, Place)>> {
    let (mut came_from, mut queue) = (BTreeMap::new(), VecDeque::from([Place::Asker]));
    while let Some(place) = queue.pop_front() {
        if place == Place::Subject {
            break;
        }
        for (next, left) in edges.get(&place).into_iter().flatten() {
            if *left > 0 && *next != Place::Asker && !came_from.contains_key(next) {
                came_from.insert(*next, place);
                queue.push_back(*next);
            }
        }
    }
    let mut path = Vec::new();
    let mut place = Place::Subject;
    while place != Place::Asker {
        let from = *came_from.get(&place)?;
        path.push((from, place));
        place = from;
    }
    Some(path)
}

/// What a provider is worth to an asker, in millionths: how well it did, by as much as the asker has reason to believe it. Without any path
/// it is zero, for a newcomer and a ring alike, and prices decide between them.
pub fn rank(standing: &Standing, trusted_seconds: u64) -> u32 {
    let weight =
        u128::from(trusted_seconds) * u128::from(MILLION) / (u128::from(trusted_seconds) + u128::from(HALF_WEIGHT));
    // three stars are taken for granted where nobody rated
    let rating = u128::from(standing.rating.unwrap_or(3_000));
    let quality = u128::from(standing.reliability.unwrap_or(0)) * rating / 5_000;
    u32::try_from(quality * weight / u128::from(MILLION)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn who(byte: u8) -> Address {
        Address::repeat_byte(byte)
    }

    const ASKER: Address = Address::repeat_byte(0xaa);
    const RING: Address = Address::repeat_byte(0xff);

    fn dealings(list: &[(u8, u64)]) -> Dealings {
        list.iter().map(|(byte, seconds)| (who(*byte), *seconds)).collect()
    }

    #[test]
    fn a_flow_is_as_wide_as_the_narrowest_step_of_each_path() {
        let mut near = Neighbourhood {
            own: dealings(&[(1, 100), (2, 50)]),
            renters: [(who(1), dealings(&[(11, 70), (12, 10)])), (who(2), dealings(&[(11, 40)]))].into(),
            subject: dealings(&[(11, 90), (12, 500)]),
        };
        // 70 and 20 of 40 through 11, which rented 90 there, and 10 through 12
        assert_eq!(near.trusted_seconds(ASKER, who(9)), 100);
        near.own.insert(who(9), 7);
        assert_eq!(near.trusted_seconds(ASKER, who(9)), 107);
    }

    #[test]
    fn a_flow_is_led_around_where_a_greedy_one_would_be_stuck() {
        let near = Neighbourhood {
            own: dealings(&[(1, 10), (2, 10)]),
            // the first could use either renter, the second only the first's
            renters: [(who(1), dealings(&[(11, 10), (12, 10)])), (who(2), dealings(&[(11, 10)]))].into(),
            subject: dealings(&[(11, 10), (12, 10)]),
        };
        assert_eq!(near.trusted_seconds(ASKER, who(9)), 20);
    }

    #[test]
    fn the_nearest_are_those_with_the_most_seconds() {
        let many: Dealings = (0..200u8).map(|byte| (who(byte), u64::from(byte))).collect();
        let near = nearest(many);
        assert_eq!(near.len(), MAX_NEIGHBOURS);
        assert_eq!(near.values().min(), Some(&(200 - MAX_NEIGHBOURS as u64)));
    }

    proptest! {
        #[test]
        fn a_ring_that_pays_nobody_the_asker_knows_gains_nothing(
            own in prop::collection::btree_map(1u8..20, 1u64..1_000_000, 0..8),
            ring in prop::collection::vec((200u8..250, 1u64..u64::MAX / 64), 1..32),
            standing in (any::<u32>(), 0u32..=1_000_000, 1_000u32..=5_000),
        ) {
            let near = Neighbourhood {
                own: own.iter().map(|(byte, seconds)| (who(*byte), *seconds)).collect(),
                renters: own.keys().map(|byte| (who(*byte), dealings(&[(100, 50), (101, 60)]))).collect(),
                subject: ring.iter().map(|(byte, seconds)| (who(*byte), *seconds)).collect(),
            };
            prop_assert_eq!(near.trusted_seconds(ASKER, RING), 0);
            let (completed, reliability, rating) = standing;
            let glorious = Standing {
                completed, paid_seconds: u64::MAX, reliability: Some(reliability), ratings: completed, rating: Some(rating),
            };
            prop_assert_eq!(rank(&glorious, 0), 0);
        }

        #[test]
        fn a_ring_gains_at_most_what_it_really_paid_to_those_the_asker_knows(
            spent in prop::collection::vec((1u8..4, 200u8..206, 0u64..1_000), 0..12),
            own in prop::collection::btree_map(1u8..4, 0u64..1_000, 0..4),
        ) {
            let mut renters: BTreeMap<Address, Dealings> = BTreeMap::new();
            for (provider, renter, seconds) in &spent {
                *renters.entry(who(*provider)).or_default().entry(who(*renter)).or_default() += seconds;
            }
            let near = Neighbourhood {
                own: own.iter().map(|(byte, seconds)| (who(*byte), *seconds)).collect(),
                renters,
                subject: (200u8..206).map(|byte| (who(byte), u64::MAX / 64)).collect(),
            };
            let gained = near.trusted_seconds(ASKER, RING);
            prop_assert!(gained <= spent.iter().map(|(_, _, seconds)| seconds).sum::<u64>());
            prop_assert!(gained <= own.values().sum::<u64>());
        }

        #[test]
        fn more_dealings_never_trust_less(
            edges in prop::collection::vec((1u8..4, 100u8..104, 0u64..1_000), 0..12),
            more in (1u8..4, 100u8..104, 0u64..1_000),
        ) {
            let near = |edges: &[(u8, u8, u64)]| {
                let mut near = Neighbourhood { own: dealings(&[(1, 500), (2, 300), (3, 100)]), ..Neighbourhood::default() };
                for (provider, renter, seconds) in edges {
                    *near.renters.entry(who(*provider)).or_default().entry(who(*renter)).or_default() += seconds;
                    *near.subject.entry(who(*renter)).or_default() += seconds / 2;
                }
                near.trusted_seconds(ASKER, who(9))
            };
            let before = near(&edges);
            let mut grown = edges.clone();
            grown.push(more);
            prop_assert!(near(&grown) >= before);
        }

        #[test]
        fn more_trust_never_ranks_lower(a in any::<u64>(), b in any::<u64>(), reliability in 0u32..=1_000_000) {
            let standing = Standing { reliability: Some(reliability), ..Standing::default() };
            prop_assert!(rank(&standing, a.min(b)) <= rank(&standing, a.max(b)));
        }
    }
}
