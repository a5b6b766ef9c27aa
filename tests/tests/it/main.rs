//! End-to-end tests: every promise of the line on networks of this machine's own, through the same commands that people type. They need
//! root, the programs of this build (`devnet/build`) and what `devnet/install` installs.

mod access;
mod adoption;
mod approvals;
mod batches;
mod beside_openssh;
mod checks;
mod copies;
mod deals;
mod devnet_itself;
mod disputes;
mod gasless;
mod kills;
mod limits;
mod measured;
mod observed;
mod payouts;
mod proofs;
mod ratings;
mod refusals;
mod rentals;
mod renting;
mod reorganisations;
mod restarts;
mod searches;
mod sharing;
mod strangers;
mod unpaid;
mod workloads;
