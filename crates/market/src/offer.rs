//! Offers: what a provider advertises in public. Signed, expiring, not binding: a [`crate::quote::Quote`] is the promise.

use crate::{
    class::GpuClass,
    id::{PeerId, peer_text},
    money::{Amount, Rate, Token},
    signed::{Escrow, NodeBinding, binding_digest, signer_of},
    time::UnixMillis,
};
use alloy_primitives::{Address, B256, Signature, U256};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The longest an advertisement may live, in milliseconds: one hour.
pub const MAX_AD_LIFETIME: u64 = 3_600_000;
/// How far a sequence number (a wall-clock time) may lie ahead of the receiver's clock, in milliseconds.
pub const MAX_SKEW: u64 = 30_000;
/// How long an advertisement lives unless configured otherwise, in milliseconds; it is refreshed at about a third of that.
pub const DEFAULT_AD_LIFETIME: u64 = 900_000;
/// The longest a binding may live, in seconds: thirty days.
pub const MAX_BINDING_LIFETIME: u64 = 30 * 86_400;
/// The most offers in one advertisement: what fits 16 KiB at about 250 bytes each.
pub const MAX_OFFERS: usize = 64;

/// The most slots that are rented together: twice the largest machine with GPUs, and their names still fit one short text.
pub const MAX_SLOTS_TOGETHER: u32 = 32;

/// Everything one provider advertises. An advertisement without offers is a tombstone: the provider has left the market.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProviderAd {
    /// Whose it is.
    #[serde(with = "peer_text")]
    pub peer: PeerId,
    /// Grows with each advertisement of a peer: the Unix milliseconds at which it was made.
    pub seq: u64,
    /// When it stops to count.
    pub expires: UnixMillis,
    /// Which wallet the peer is paid to and which key signs its quotes, by the wallet's own signature.
    pub binding: Binding,
    /// ISO 3166 country code where the machines stand, or empty.
    pub region: String,
    /// What can be rented.
    pub offers: Vec<Offer>,
}

impl ProviderAd {
    /// The classes its offers belong to, each once.
    pub fn classes(&self) -> Vec<GpuClass> {
        let mut classes: Vec<_> = self.offers.iter().map(Offer::class).collect();
        classes.sort_unstable();
        classes.dedup();
        classes
    }
}

/// A wallet's statement that a peer acts for it (see [`NodeBinding`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The chain whose rules the wallet signed under.
    pub chain: u64,
    /// The hot key that signs quotes, acks and releases.
    pub provider_key: Address,
    /// The payout address.
    pub wallet: Address,
    /// When it was signed, in Unix seconds.
    pub issued_at: u64,
    /// When it ends, in Unix seconds; equal to `issued_at` in a revocation.
    pub expires: u64,
    /// By `wallet`.
    pub signature: Signature,
}

/// Why a binding does not bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindingFault {
    /// Not signed by the wallet it names.
    #[error("the binding is not signed by its wallet")]
    Signature,
    /// Over, revoked, or not yet begun.
    #[error("the binding is not in force")]
    NotInForce,
    /// Longer than thirty days.
    #[error("the binding runs longer than 30 days")]
    TooLong,
}

impl Binding {
    /// Ties `peer` and `provider_key` to `wallet` for thirty days from `now`; `sign` makes the wallet's signature.
    pub fn issue<E>(
        peer: &PeerId,
        chain: u64,
        wallet: Address,
        provider_key: Address,
        now: UnixMillis,
        sign: impl FnOnce(&B256) -> Result<Signature, E>,
    ) -> Result<Self, E> {
        let issued_at = now.seconds();
        let unsigned = Signature::new(U256::ZERO, U256::ZERO, false);
        let expires = issued_at + MAX_BINDING_LIFETIME;
        let binding = Self { chain, provider_key, wallet, issued_at, expires, signature: unsigned };
        let signature = sign(&binding_digest(chain, &binding.statement(peer)))?;
        Ok(Self { signature, ..binding })
    }

    /// The typed data that the wallet signs for `peer`.
    pub fn statement(&self, peer: &PeerId) -> NodeBinding {
        NodeBinding {
            peerId: peer.to_bytes().into(),
            providerKey: self.provider_key,
            wallet: self.wallet,
            role: "provider".to_owned(),
            issuedAt: self.issued_at,
            expires: self.expires,
        }
    }

    /// Whether the binding holds for `peer` at `now`. A clock may be behind by [`MAX_SKEW`].
    pub fn check(&self, peer: &PeerId, now: UnixMillis) -> Result<(), BindingFault> {
        self.check_times(now)?;
        if self.is_signed_for(peer) { Ok(()) } else { Err(BindingFault::Signature) }
    }

    /// Whether the binding is in force at `now`, if it is signed at all.
    pub fn check_times(&self, now: UnixMillis) -> Result<(), BindingFault> {
        if self.expires.saturating_sub(self.issued_at) > MAX_BINDING_LIFETIME {
            return Err(BindingFault::TooLong);
        }
        let begun = self.issued_at <= now.plus(MAX_SKEW).seconds();
        if !begun || self.expires <= now.seconds() || self.expires == self.issued_at {
            return Err(BindingFault::NotInForce);
        }
        Ok(())
    }

    /// Whether the wallet it names signed it for `peer`. That never changes, so that it need not be worked out twice.
    pub fn is_signed_for(&self, peer: &PeerId) -> bool {
        let digest = binding_digest(self.chain, &self.statement(peer));
        signer_of(&digest, &self.signature) == Some(self.wallet)
    }
}

/// Slots of one kind, and what they cost.
#[derive(Clone, Debug, PartialEq, Hash, Serialize, Deserialize)]
pub struct Offer {
    /// The provider's own name for this kind of slot; unique in its advertisement.
    pub name: String,
    /// How many such slots the provider has.
    pub slots: u32,
    /// How many of them are free now.
    pub free: u32,
    /// When none is free: the moment at which the first is expected back.
    pub busy_until: Option<UnixMillis>,
    /// The hardware of one slot.
    pub hardware: Hardware,
    /// What a slot costs, per chain and token.
    pub prices: Vec<Price>,
    /// The shortest rental, in seconds.
    pub min_seconds: u32,
    /// The longest rental, in seconds.
    pub max_seconds: u32,
    /// The billing increment τ, in milliseconds: the most either side can lose.
    pub increment_millis: u32,
    /// How long the sandbox may take to start after the opening, in seconds.
    pub ready_seconds: u32,
    /// For interruptible rentals: the notice before a preemption, in seconds.
    pub notice_seconds: u32,
    /// The challenge window of the escrow, in seconds.
    pub window: u32,
    /// Arbiters the provider accepts in a quote.
    pub arbiters: Vec<Address>,
    /// How a rented sandbox is isolated.
    pub isolation: Isolation,
    /// How far the hardware was checked.
    pub verification: Verification,
    /// Whether the slot is the whole machine.
    pub whole_host: bool,
    /// How many slots may be rented together; empty means one at a time.
    pub splits: Vec<u32>,
    /// Discounts for holders of a token or NFT.
    pub discounts: Vec<Discount>,
}

impl Offer {
    /// The class under which it is gossiped: that of its largest group of GPUs.
    pub fn class(&self) -> GpuClass {
        match self.hardware.gpus.iter().max_by_key(|group| group.count) {
            Some(group) => GpuClass::of_model(&group.model),
            None => GpuClass::CPU,
        }
    }

    /// Whether so many slots are rented together.
    pub fn is_split_into(&self, slots: u32) -> bool {
        if self.splits.is_empty() { slots == 1 } else { self.splits.contains(&slots) }
    }

    /// The price at one escrow in one token.
    pub fn price_in(&self, escrow: &Escrow, token: Address) -> Option<&Price> {
        self.prices.iter().find(|price| price.escrow == *escrow && price.token.address == token)
    }
}

/// What one slot is made of. Zero means "not stated".
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hardware {
    /// GPUs, grouped by kind; a machine may mix kinds.
    pub gpus: Vec<GpuGroup>,
    /// The driver's version, as NVML writes it.
    pub driver_version: String,
    /// The CUDA version the driver supports, times ten (`131` is 13.1).
    pub cuda_version: u32,
    /// The processor's model.
    pub cpu_model: String,
    /// Processor share in thousandths of a core.
    pub cpu_millis: u32,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Disk in MiB.
    pub disk_mib: u32,
    /// `nvme`, `ssd`, `hdd`, `memory`.
    pub disk_kind: String,
    /// Measured sequential write speed in MB/s.
    pub disk_mb_per_s: u32,
    /// Network towards the machine in Mbit/s.
    pub network_down_mbit: u32,
    /// Network from the machine in Mbit/s.
    pub network_up_mbit: u32,
    /// Software found on the machine, such as `docker 28.2`.
    pub software: Vec<String>,
    /// Measured 32-bit multiply-adds a second of each core while all of them work, in millions: what the renter's check of the
    /// hardware is held against.
    #[serde(default)]
    pub core_mega_multiply_adds: u32,
}

impl Hardware {
    /// What several such slots are together. The processor, the disk's speed and the network are the machine's.
    pub fn times(&self, slots: u32) -> Self {
        let gpus = self.gpus.iter().map(|group| GpuGroup { count: group.count.saturating_mul(slots), ..group.clone() });
        Self {
            gpus: gpus.collect(),
            cpu_millis: self.cpu_millis.saturating_mul(slots),
            memory_mib: self.memory_mib.saturating_mul(slots),
            disk_mib: self.disk_mib.saturating_mul(slots),
            ..self.clone()
        }
    }
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in &self.gpus {
            write!(f, "{}x {}, ", group.count, group.model)?;
        }
        let (whole, rest) = (self.cpu_millis / 1_000, self.cpu_millis % 1_000);
        match rest {
            0 => write!(f, "{whole} CPU")?,
            _ => write!(f, "{whole}.{} CPU", format!("{rest:03}").trim_end_matches('0'))?,
        }
        write!(f, ", {} memory, {} disk", Mebibytes(self.memory_mib), Mebibytes(self.disk_mib))
    }
}

/// A size in MiB, shown in the largest unit that keeps it whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mebibytes(pub u32);

impl fmt::Display for Mebibytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 > 0 && self.0.is_multiple_of(1_024) {
            write!(f, "{} GiB", self.0 / 1_024)
        } else {
            write!(f, "{} MiB", self.0)
        }
    }
}

/// GPUs of one kind in a slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct GpuGroup {
    /// The model as the driver names it.
    pub model: String,
    /// How many.
    pub count: u32,
    /// Memory of each in MiB.
    pub vram_mib: u32,
    /// Compute capability times ten: `90` is SM 9.0.
    pub sm: u32,
    /// Whether architecture-specific (`a`) and family-specific (`f`) code of that SM runs: `""`, `"a"`, `"f"`, `"af"`.
    pub sm_features: String,
    /// MIG profile, when it is an instance.
    pub mig_profile: String,
    /// `pcie4`, `pcie5`, `nvlink4`, …
    pub interconnect: String,
    /// Enforced power limit in watts.
    pub power_limit_watts: u32,
    /// Whether hardware counters may be read.
    pub profiling: bool,
    /// Measured dense 16-bit matrix throughput of each, in tenths of a TFLOP/s; as good as the offer's verification.
    pub tflops: u32,
    /// Measured memory bandwidth of each in GB/s; likewise.
    pub memory_gb_per_s: u32,
    /// Measured 32-bit multiply-adds a second of each, in millions; likewise.
    #[serde(default)]
    pub mega_multiply_adds: u32,
}

/// What a second costs, in one token on one chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Price {
    /// Where it is paid.
    pub escrow: Escrow,
    /// What it is paid in.
    pub token: Token,
    /// All-in rate of a slot on demand.
    pub rate: Rate,
    /// The least an interruptible rental may bid; absent when none are taken.
    pub floor: Option<Rate>,
    /// The least deposit the provider opens for.
    pub min_deposit: Amount,
}

/// How a sandbox is kept apart from the machine and its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Isolation {
    /// Namespaces and cgroups over the host's kernel.
    SharedKernel,
    /// A user-space kernel such as gVisor.
    UserKernel,
    /// A virtual machine.
    VirtualMachine,
}

/// How far the advertised hardware was checked (DESIGN §11).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verification {
    /// 0: the provider says so.
    Declared,
    /// 1: what the machine reports agrees with itself.
    Consistent,
    /// 2: measured inside the rented sandbox.
    Measured,
    /// 3: attested by the hardware.
    Attested,
}

impl Verification {
    /// The level as a number, 0 to 3.
    pub const fn level(self) -> u32 {
        self as u32
    }
}

/// A lower price for whoever holds a token.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Discount {
    /// The chain it is held on.
    pub chain: u64,
    /// The token or NFT contract.
    pub token: Address,
    /// Basis points off the rate.
    pub basis_points: u32,
}
