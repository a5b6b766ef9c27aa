//! The crate against machines that are described in files: a stand-in for NVIDIA's library, and folders that look like a file system.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod amd;
mod cdi;
mod generate;
mod inventory;
mod machine;
mod specification;
