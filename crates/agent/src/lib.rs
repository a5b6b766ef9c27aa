//! The language spoken between a node and the small program that is the first process of every sandbox.
//!
//! The program itself (`main.rs`) is built statically and embedded by the `sandbox` crate; this library holds only what both
//! ends must agree on, so that the two cannot drift apart.

pub mod address;
pub mod protocol;
