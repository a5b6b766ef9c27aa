//! Everything gpulease knows about GPUs: which a machine has, what it takes to give one to a sandbox, whether what is said of them can be
//! true, what a program was compiled for, and which cards can run it.
//!
//! - [`inventory`]: the cards of a machine, as their drivers tell
//! - [`cdi`]: what a container or sandbox needs to use a card
//! - [`specification`]: whether a card can be what it is said to be
//! - [`challenge`]: whether devices compute and hold what they are said to, shown inside a rented sandbox
//! - [`measure`]: what a machine manages, for its offers
//! - [`fatbin`]: the GPU code inside executables, libraries, archives and cubins
//! - [`compatibility`]: whether that code runs on a given card with a given driver, and why not

pub mod cdi;
pub mod challenge;
pub mod compatibility;
pub mod cuda;
pub mod fatbin;
mod files;
pub mod inventory;
pub mod measure;
pub mod specification;
