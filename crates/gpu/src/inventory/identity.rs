//! What identifies a card: its UUID, its place on the PCI bus, and the numbers its maker burned into it.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The longest UUID: NVML's own bound is 96 with the zero at the end.
const MAX_UUID_BYTES: usize = 95;

/// A card's or a MIG instance's name in the world, such as `GPU-5f2b7f0c-…` or `MIG-…`. Short, printable and without blanks, so that
/// it can stand in file names, device names and environment variables.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uuid(String);

impl Uuid {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it has the form that NVIDIA's driver gives to whole cards: `GPU-` and 32 hexadecimal digits in five groups.
    pub fn is_well_formed_card(&self) -> bool {
        let Some(digits) = self.0.strip_prefix("GPU-") else { return false };
        let groups: Vec<&str> = digits.split('-').collect();
        let lengths = groups.iter().map(|group| group.len());
        lengths.eq([8, 4, 4, 4, 12]) && groups.iter().all(|group| group.bytes().all(|byte| byte.is_ascii_hexdigit()))
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that cannot identify a card.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no {1}")]
pub struct NoIdentity(String, &'static str);

impl FromStr for Uuid {
    type Err = NoIdentity;

    fn from_str(text: &str) -> Result<Self, NoIdentity> {
        // a slash stands in the MIG names of drivers before 470
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/');
        let prefixed = ["GPU-", "MIG-"].iter().any(|prefix| text.len() > prefix.len() && text.starts_with(prefix));
        if prefixed && text.len() <= MAX_UUID_BYTES && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(NoIdentity(text.chars().take(MAX_UUID_BYTES).collect(), "UUID of a GPU"))
    }
}

impl TryFrom<String> for Uuid {
    type Error = NoIdentity;

    fn try_from(text: String) -> Result<Self, NoIdentity> {
        text.parse()
    }
}

impl From<Uuid> for String {
    fn from(uuid: Uuid) -> Self {
        uuid.0
    }
}

/// A place on the PCI bus, written as the kernel writes it: `0000:17:00.0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    /// Which bus system, on machines with several.
    pub domain: u32,
    /// The bus.
    pub bus: u8,
    /// The device on it.
    pub device: u8,
    /// The function of the device.
    pub function: u8,
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}:{:02x}.{:x}", self.domain, self.bus, self.device, self.function)
    }
}

impl FromStr for PciAddress {
    type Err = NoIdentity;

    /// NVML writes the domain with eight digits, the kernel with four.
    fn from_str(text: &str) -> Result<Self, NoIdentity> {
        let parts = || {
            let (domain, rest) = text.split_once(':')?;
            let (bus, rest) = rest.split_once(':')?;
            let (device, function) = rest.split_once('.')?;
            let address = Self {
                domain: u32::from_str_radix(domain, 16).ok()?,
                bus: u8::from_str_radix(bus, 16).ok()?,
                device: u8::from_str_radix(device, 16).ok()?,
                function: u8::from_str_radix(function, 16).ok()?,
            };
            // five bits and three
            (address.device < 32 && address.function < 8).then_some(address)
        };
        parts().ok_or_else(|| NoIdentity(text.chars().take(32).collect(), "place on the PCI bus"))
    }
}

impl TryFrom<String> for PciAddress {
    type Error = NoIdentity;

    fn try_from(text: String) -> Result<Self, NoIdentity> {
        text.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

/// Maker and model as the card's PCI registers give them: `10de:2330` is an H100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PciIds {
    /// The maker: 0x10de is NVIDIA, 0x1002 AMD.
    pub vendor: u16,
    /// The model.
    pub device: u16,
}

impl fmt::Display for PciIds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:04x}", self.vendor, self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_short_and_plain() {
        let card: Uuid = "GPU-5f2b7f0c-0123-4567-89ab-cdef01234567".parse().unwrap();
        assert!(card.is_well_formed_card());
        for other in ["MIG-5f2b7f0c-0123-4567-89ab-cdef01234567", "MIG-GPU-5f2b/1/0", "GPU-0123456789abcdef"] {
            assert!(!other.parse::<Uuid>().unwrap().is_well_formed_card(), "{other}");
        }
        let long = format!("GPU-{}", "0".repeat(MAX_UUID_BYTES));
        for wrong in ["", "GPU-", "GPU-a b", "GPU-../..", "GPU-é", "5f2b", long.as_str()] {
            assert!(wrong.parse::<Uuid>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_pci_address_is_read_in_both_spellings_and_written_as_the_kernel_does() {
        for text in ["00000000:17:00.0", "0000:17:00.0"] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), "0000:17:00.0");
        }
        for wrong in ["", "17:00.0", "0000:17:20.0", "0000:17:00.8", "0000:100:00.0", "x:17:00.0"] {
            assert!(wrong.parse::<PciAddress>().is_err(), "{wrong}");
        }
    }
}
