//! What GPUs a machine has. A [`Probe`] asks one source for them: [`NvmlProbe`] asks NVIDIA's management library, loaded at run time,
//! and [`AmdProbe`] reads what the kernel says of AMD's cards. [`of_machine`] asks both.
//!
//! A machine without a GPU, without a driver or with a broken one is an ordinary machine: its [`Inventory`] is empty and says why. A card
//! that does not answer does not hide the others: it stands in [`Inventory::lost`] with the reason.
//!
//! Nothing a driver says is trusted to be well formed: texts, counts and sizes are bounded before they are believed.
//!
//! The calls block, and a sick driver can make them block for long: run them off the asynchronous threads, with a limit.

mod amd;
mod card;
mod identity;
mod kernel;
mod nvml;
mod reading;
mod throttle;

use serde::{Deserialize, Serialize};
use std::path::Path;

pub use amd::AmdProbe;
pub use card::{
    Absence, ComputeCapability, Connection, Driver, Ecc, Gpu, LinkPath, Lost, Mig, MigInstance, PcieLink, Vendor,
};
pub use identity::{PciAddress, PciIds, Uuid};
pub use kernel::{KernelGpu, KernelView};
pub use nvml::NvmlProbe;
pub use reading::{Process, Reading};
pub use throttle::Throttle;

/// A source of facts about a machine's GPUs.
pub trait Probe: Send + Sync {
    /// Which GPUs there are and what each is. Asked when a node starts, and again when it was told that something changed.
    fn inventory(&self) -> Inventory;

    /// What the GPUs are doing now, MIG instances included: asked every few seconds while a rental runs. A card that does not answer is
    /// missing from the list.
    fn readings(&self) -> Vec<Reading>;
}

/// All GPUs of a machine, or why there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The drivers that answered.
    pub drivers: Vec<Driver>,
    /// The cards, in the order in which their drivers number them.
    pub gpus: Vec<Gpu>,
    /// Cards that are there and do not answer.
    pub lost: Vec<Lost>,
    /// How the cards are connected: every pair of one driver, once.
    pub connections: Vec<Connection>,
    /// Why a source has no cards to show.
    pub absent: Vec<Absence>,
}

impl Inventory {
    /// A source that has nothing to show, and why.
    pub fn none(absence: Absence) -> Self {
        Self { absent: vec![absence], ..Self::default() }
    }

    /// This and what another source says.
    pub fn join(mut self, other: Self) -> Self {
        self.drivers.extend(other.drivers);
        self.gpus.extend(other.gpus);
        self.lost.extend(other.lost);
        self.connections.extend(other.connections);
        self.absent.extend(other.absent);
        self
    }

    /// How two cards are connected, where the driver says so.
    pub fn path(&self, a: &Uuid, b: &Uuid) -> Option<LinkPath> {
        let joins = |connection: &&Connection| {
            (&connection.a == a && &connection.b == b) || (&connection.a == b && &connection.b == a)
        };
        self.connections.iter().find(joins).map(|connection| connection.path)
    }

    /// The driver of a vendor's cards.
    pub fn driver(&self, vendor: Vendor) -> Option<&Driver> {
        self.drivers.iter().find(|driver| driver.vendor == vendor)
    }
}

/// Every GPU of this machine, of either vendor. `root` is `/`, save in tests.
pub fn of_machine(root: &Path) -> Inventory {
    NvmlProbe::new(root).inventory().join(AmdProbe::new(root).inventory())
}
