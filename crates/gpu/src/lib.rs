//! Everything gpulease knows about GPUs: what a program was compiled for, and which cards can run it.
//!
//! - [`fatbin`]: the GPU code inside executables, libraries, archives and cubins
//! - [`compatibility`]: whether that code runs on a given card with a given driver, and why not

pub mod compatibility;
pub mod fatbin;
