//! Challenges as they are made: the program over pipes, and the kernels for cards on a stand-in for the driver.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod cuda;
mod figures;
mod machine;
mod measure;
mod program;
mod ptx;
