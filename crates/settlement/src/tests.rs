//! Settlement against a real chain: each test starts its own development chain on a free port.

mod approvals;
mod batches;
mod follower;
mod funding;
mod rentals;
mod sending;
mod world;
