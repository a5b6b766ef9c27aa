//! The language spoken between a node and the small program that is the first process of every sandbox.
//!
//! The program itself (`main.rs`) is built statically and embedded by the `sandbox` crate; this library holds what both ends must agree on,
//! so that the two cannot drift apart, and how requests about files are carried out, so that whoever asks can be tested against it.

pub mod address;
pub mod descriptors;
pub mod file_protocol;
pub mod manifest;
pub mod protocol;
pub mod remote_files;
pub mod session_frame;
pub mod session_key;
