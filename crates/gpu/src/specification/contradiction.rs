//! What does not fit together, in words that the provider of a sound machine can act upon and the renter of a false one can quote.

use crate::{
    compatibility::CudaVersion,
    inventory::{ComputeCapability, PciAddress, PciIds, Uuid},
};
use serde::{Deserialize, Serialize};

/// One thing that cannot be true beside another.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Contradiction {
    /// Another amount of memory.
    #[error("{model} has {nominal_gib} GiB of memory, not {mib} MiB")]
    Memory {
        /// The model.
        model: String,
        /// What it has.
        nominal_gib: u32,
        /// What is said.
        mib: u64,
    },
    /// Another machine code.
    #[error("{model} is {nominal}, not {said}")]
    Code {
        /// The model.
        model: String,
        /// What it is.
        nominal: String,
        /// What is said.
        said: String,
    },
    /// A number that each board of the model shares.
    #[error("{model} has {nominal} {what}, not {said}")]
    Number {
        /// The model.
        model: String,
        /// Of what.
        what: String,
        /// What it has.
        nominal: u32,
        /// What is said.
        said: u32,
    },
    /// More than the model can have or do.
    #[error("{model} has at most {nominal} {what}, not {said}")]
    TooMuch {
        /// The model.
        model: String,
        /// Of what.
        what: String,
        /// The most it can have.
        nominal: u32,
        /// What is said.
        said: u32,
    },
    /// The PCI registers name another model.
    #[error("a card with the PCI number {device:04x} is a {actual}, not a {model}")]
    OtherModel {
        /// What is said.
        model: String,
        /// The number.
        device: u16,
        /// Whose number it is.
        actual: String,
    },
    /// A card of another vendor than its driver.
    #[error("a card that NVIDIA's driver shows has the PCI number {0}, which is not NVIDIA's")]
    OtherVendor(PciIds),
    /// The driver is older than the card.
    #[error("{code} needs a driver for CUDA {needed} or later; this one is for {has}")]
    DriverTooOld {
        /// What the card is.
        code: ComputeCapability,
        /// The first CUDA that knew it.
        needed: CudaVersion,
        /// The driver's.
        has: CudaVersion,
    },
    /// A UUID that the driver would not give.
    #[error("{0} is no UUID of an NVIDIA card")]
    Uuid(Uuid),
    /// Two cards in one slot of the machine.
    #[error("two cards are said to be at {0}")]
    SamePlace(PciAddress),
    /// Instances that are together larger than their card.
    #[error("the MIG instances of {card} have {instances_mib} MiB together, and the card {card_mib}")]
    Instances {
        /// The card.
        card: Uuid,
        /// Their memory.
        instances_mib: u64,
        /// Its memory.
        card_mib: u64,
    },
    /// The library and the kernel do not speak of the same cards.
    #[error("NVIDIA's library shows a card at {0} and the kernel driver does not")]
    Unwitnessed(PciAddress),
    /// The other way round.
    #[error("the kernel driver shows a card at {0} and NVIDIA's library does not")]
    Hidden(PciAddress),
    /// They do not say the same of one.
    #[error(
        "of the card at {pci} NVIDIA's library says that its {what} is {library}, and the kernel that it is {kernel}"
    )]
    Witness {
        /// Where the card is.
        pci: PciAddress,
        /// What they speak of.
        what: String,
        /// What the library says.
        library: String,
        /// What the kernel says.
        kernel: String,
    },
    /// They are of different versions.
    #[error("NVIDIA's library is of version {library} and the kernel driver of {kernel}")]
    DriverVersion {
        /// The library's.
        library: String,
        /// The kernel's.
        kernel: String,
    },
}
