//! The pure core of gpulease: what an offer, a quote, a voucher and a rental *are*, and every rule about money.
//!
//! Nothing here does input or output. Time arrives as an argument, randomness as a seed, so that each rule can be tested by
//! simulation. The modules read from the ground up:
//!
//! - [`id`], [`money`], [`time`]: the small words everything else is said in
//! - [`class`], [`offer`], [`standing`], [`query`], [`book`]: what providers advertise, what is known of them, and how renters find it
//! - [`pricing`], [`preemption`]: what a slot costs, whom and when; and when a cheap rental gives way
//! - [`signed`], [`quote`], [`terms`]: what both sides sign, and what each signature binds
//! - [`meter`]: seconds served, money owed, and when a sandbox must be frozen
//! - [`rental`]: the two state machines, one for each side of a rental
//! - [`rating`], [`reputation`]: what renters say of a rental afterwards, and what follows from a provider's past
//! - [`dispute`]: why a renter stops a rental on chain, and when an arbiter may rule on it

pub mod book;
pub mod class;
pub mod dispute;
pub mod id;
pub mod mandate;
pub mod meter;
pub mod money;
pub mod offer;
pub mod preemption;
pub mod pricing;
pub mod query;
pub mod quote;
pub mod rating;
pub mod refusal;
pub mod rental;
pub mod reputation;
pub mod signed;
pub mod standing;
pub mod terms;
pub mod time;
