//! What a challenge asks for: which devices work, how large the matrices are, and how many products each device has to keep.

use super::Digest;
use crate::inventory::Uuid;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt, str::FromStr};

/// Devices of one challenge: as many cards as the inventory looks at, and the processor.
const MAX_DEVICES: usize = 33;

/// The smallest matrices. A row is then one chunk of the tree.
pub(super) const MIN_SIZE: u32 = 256;

/// The largest. Two factors and a product take 3 GiB of the card, and a verifier generates half a billion words for each check.
const MAX_SIZE: u32 = 16_384;

/// Products of one device: 288 GiB of the smallest.
const MAX_PRODUCTS: u32 = 1_179_648;

/// Longest name of a party that is bound into the work.
const MAX_PARTY_BYTES: usize = 256;

/// The share of a device's memory that products fill, in percent; the driver, the program and two factors need the rest.
pub const FILLED_PERCENT: u64 = 90;

/// Something that computes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// All processors that the sandbox may use, written `cpu`.
    Cpu,
    /// A card or an instance of one, by its UUID.
    Gpu(Uuid),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Gpu(uuid) => uuid.fmt(f),
        }
    }
}

/// A text that names no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device is `cpu` or the UUID of a card: {0}")]
pub struct NoDevice(String);

impl FromStr for Device {
    type Err = NoDevice;

    fn from_str(text: &str) -> Result<Self, NoDevice> {
        match text {
            "cpu" => Ok(Self::Cpu),
            uuid => uuid.parse().map(Self::Gpu).map_err(|error| NoDevice(format!("{error}"))),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = NoDevice;

    fn try_from(text: String) -> Result<Self, NoDevice> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> Self {
        device.to_string()
    }
}

/// One device's share of the work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Who computes.
    pub device: Device,
    /// How many products it computes, one after the other, and keeps.
    pub products: u32,
}

/// The work of one challenge, which the prover makes room for before the clock starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AskedWork")]
pub struct Work {
    size: u32,
    shares: Vec<Share>,
}

/// Work that nobody has looked at yet.
#[derive(Deserialize)]
struct AskedWork {
    size: u32,
    shares: Vec<Share>,
}

/// Why a piece of work is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// Matrices that the kernels do not have.
    #[error("the size of the matrices must be a power of two from {MIN_SIZE} to {MAX_SIZE}, not {0}")]
    Size(u32),
    /// Nobody to work, or too many.
    #[error("a challenge needs 1 to {MAX_DEVICES} devices, not {0}")]
    Devices(usize),
    /// One device has two shares.
    #[error("{0} is named twice")]
    Twice(Device),
    /// Nothing to do, or more than any memory holds.
    #[error("{device} needs 1 to {MAX_PRODUCTS} products, not {products}")]
    Products {
        /// Whose share it is.
        device: Device,
        /// How many were asked for.
        products: u32,
    },
}

impl TryFrom<AskedWork> for Work {
    type Error = WorkError;

    fn try_from(asked: AskedWork) -> Result<Self, WorkError> {
        Self::new(asked.size, asked.shares)
    }
}

impl Work {
    /// Work with matrices of `size` times `size` words.
    pub fn new(size: u32, shares: Vec<Share>) -> Result<Self, WorkError> {
        if !size.is_power_of_two() || !(MIN_SIZE..=MAX_SIZE).contains(&size) {
            return Err(WorkError::Size(size));
        }
        if shares.is_empty() || shares.len() > MAX_DEVICES {
            return Err(WorkError::Devices(shares.len()));
        }
        let mut named = BTreeSet::new();
        for Share { device, products } in &shares {
            if !named.insert(device) {
                return Err(WorkError::Twice(device.clone()));
            }
            if !(1..=MAX_PRODUCTS).contains(products) {
                return Err(WorkError::Products { device: device.clone(), products: *products });
            }
        }
        Ok(Self { size, shares })
    }

    /// How many products of that size fill [`FILLED_PERCENT`] of a memory; at least one.
    pub fn filling(memory_bytes: u64, size: u32) -> u32 {
        let filled = u128::from(memory_bytes) * u128::from(FILLED_PERCENT) / 100;
        let products = filled / u128::from(product_bytes(size).max(1));
        u32::try_from(products).unwrap_or(MAX_PRODUCTS).clamp(1, MAX_PRODUCTS)
    }

    /// The size at which filling a memory takes a device that does so many multiply-adds a second the given time, to the next power of
    /// two above: the work for each byte grows with the size.
    pub fn size_for(memory_bytes: u64, multiply_adds_per_second: u64, seconds: u64) -> u32 {
        let operations = u128::from(multiply_adds_per_second) * u128::from(seconds);
        let filled = u128::from(memory_bytes) * u128::from(FILLED_PERCENT) / 100;
        let for_each_word = operations * 4 / filled.max(1);
        let size = u32::try_from(for_each_word).unwrap_or(MAX_SIZE).clamp(MIN_SIZE, MAX_SIZE);
        size.next_power_of_two()
    }

    /// Rows and columns of each matrix.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Who does what.
    pub fn shares(&self) -> &[Share] {
        &self.shares
    }

    /// Multiply-adds of one share.
    pub fn multiply_adds(&self, share: &Share) -> u64 {
        u64::from(self.size).pow(3) * u64::from(share.products)
    }

    /// Memory that one share keeps.
    pub fn bytes(&self, share: &Share) -> u64 {
        product_bytes(self.size) * u64::from(share.products)
    }
}

fn product_bytes(size: u32) -> u64 {
    4 * u64::from(size) * u64::from(size)
}

/// Who asks whom, and the thirty-two random bytes that make every challenge another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "AskedParties")]
pub struct Parties {
    nonce: Digest,
    renter: String,
    provider: String,
}

/// Parties that nobody has looked at yet.
#[derive(Deserialize)]
struct AskedParties {
    nonce: Digest,
    renter: String,
    provider: String,
}

/// A party's name that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a party's name has more than {MAX_PARTY_BYTES} bytes: give its peer id")]
pub struct LongName;

impl TryFrom<AskedParties> for Parties {
    type Error = LongName;

    fn try_from(asked: AskedParties) -> Result<Self, LongName> {
        Self::new(asked.nonce.bytes(), asked.renter, asked.provider)
    }
}

impl Parties {
    /// A renter and a provider, by their peer ids.
    pub fn new(nonce: [u8; 32], renter: String, provider: String) -> Result<Self, LongName> {
        if renter.len().max(provider.len()) > MAX_PARTY_BYTES {
            return Err(LongName);
        }
        Ok(Self { nonce: nonce.into(), renter, provider })
    }

    /// The random bytes.
    pub fn nonce(&self) -> Digest {
        self.nonce
    }

    /// Who asks.
    pub fn renter(&self) -> &str {
        &self.renter
    }

    /// Who is asked.
    pub fn provider(&self) -> &str {
        &self.provider
    }
}
