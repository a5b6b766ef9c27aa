//! Making the books of indexers equal. Gossip brings an advertisement to nearly everyone; what it lost, and all of what a newcomer missed, is
//! found by comparing books: range-based set reconciliation (negentropy) over (sequence number, name), whose cost grows with what differs and
//! hardly with what is held.
//!
//! ```text
//!  the book ──▶ Inventory ──▶ View ──▶ Initiator ◀─ frames ─▶ Responder ◀── View ◀── Inventory ◀── the book
//!                                         │ what they lack, what we lack
//!                                         ▼
//!                              tell them; fetch, check every signature, put into the book
//! ```
//!
//! What is compared must be the same number on both sides. When an advertisement *arrived* differs from node to node; its sequence number does
//! not, and is the provider's clock at its making. So that is what books are ordered by, and recent differences lie together at the end.
//!
//! Two books that hold the same advertisements are equal however they came by them: withdrawals take part like any others, and what is about
//! to expire leaves at a moment that both sides read off the asker's clock. Nothing in here trusts the other side: an indexer can leave things
//! out, but what it sends is checked like anything from the network, and one whose frames, names or silence make no sense is left alone for a
//! while.

mod ad_id;
mod client;
mod inventory;
mod ledger;
mod run;
mod schedule;
mod server;
mod session;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;

pub use ad_id::{AdId, Tag};
pub use inventory::{Inventory, LEAVES_BEFORE, View};
pub use ledger::Ledger;
pub use run::{Parts, start};
pub use schedule::{Outcome, Schedule};
pub use server::{Reply, Server};
pub use session::{Differences, Initiator, MAX_LACKED, MAX_ROUNDS, Responder, SessionFault, Step};
