//! The full terms behind a quote's `spec`: who talks to whom, what is rented, how it is metered. They travel as bytes beside the
//! quote; `spec` is keccak256 of exactly those bytes.

use crate::{
    id::{PeerId, RentalId, peer_text},
    money::Token,
    offer::Hardware,
    signed::Escrow,
};
use serde::{Deserialize, Serialize};

/// The longest billing increment that either side may ask for, in milliseconds.
pub const MAX_INCREMENT_MILLIS: u32 = 60_000;

/// Everything agreed that the escrow does not need to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// The network both are on, such as `main`.
    pub network: String,
    /// The provider's peer.
    #[serde(with = "peer_text")]
    pub provider_peer: PeerId,
    /// The renter's peer.
    #[serde(with = "peer_text")]
    pub renter_peer: PeerId,
    /// Where it is settled.
    pub escrow: Escrow,
    /// What it is paid in.
    pub token: Token,
    /// The offer it comes from.
    pub offer: String,
    /// The provider's name for the slot.
    pub slot: String,
    /// The slot's hardware as advertised.
    pub hardware: Hardware,
    /// The billing increment τ, in milliseconds.
    pub increment_millis: u32,
    /// How long the sandbox may take to start, in seconds.
    pub ready_seconds: u32,
    /// How long a frozen sandbox waits for its meter to be covered, in seconds.
    pub frozen_seconds: u32,
    /// Notice before a preemption, in seconds; zero for a rental on demand.
    pub notice_seconds: u32,
    /// The workload's isolation and surroundings.
    pub workload: Workload,
    /// The rental that this one continues, keeping its sandbox.
    pub continues: Option<RentalId>,
    /// Makes each quote unique.
    pub salt: [u8; 16],
}

/// What the sandbox is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workload {
    /// The root file system.
    pub image: Image,
    /// What the sandbox may reach.
    pub network: NetworkAccess,
}

/// Stands among an offer's software when its machine runs container images.
pub const RUNS_IMAGES: &str = "oci-images";

/// Stands among an offer's software when its sandboxes may reach public addresses.
pub const REACHES_PUBLIC: &str = "egress";

impl Workload {
    /// What must stand among an offer's software for this.
    pub fn needs(&self) -> impl Iterator<Item = &'static str> {
        let images = matches!(self.image, Image::Oci(_)).then_some(RUNS_IMAGES);
        let network = (self.network == NetworkAccess::Egress).then_some(REACHES_PUBLIC);
        images.into_iter().chain(network)
    }
}

/// A root file system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Image {
    /// The provider's own `/usr`, read-only, and nothing else of it.
    #[default]
    HostUsr,
    /// A container image by digest.
    Oci(String),
}

/// What a sandbox may reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NetworkAccess {
    /// Only itself.
    #[default]
    None,
    /// Public addresses.
    Egress,
}
