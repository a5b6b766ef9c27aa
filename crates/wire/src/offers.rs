//! Advertisements: [`market::offer::ProviderAd`] to and from its message.

use crate::{
    WireError,
    convert::{
        address, amount, invalid, peer, rate, required, settlement, settlement_to_proto, signature, text, token,
        token_to_proto,
    },
    proto,
};
use market::{
    class::GpuClass,
    offer::{Binding, Discount, GpuGroup, Hardware, Isolation, MAX_OFFERS, Offer, Price, ProviderAd, Verification},
    time::UnixMillis,
};

/// The most entries any list inside an offer may have: prices, GPU groups, arbiters, software, discounts.
const MAX_LIST: usize = 32;
/// The largest basis points of a discount: all of the price.
const FULL_DISCOUNT: u32 = 10_000;

/// The message of an advertisement.
pub fn ad_to_proto(ad: &ProviderAd) -> proto::ProviderAd {
    proto::ProviderAd {
        peer: ad.peer.to_bytes(),
        seq: ad.seq,
        expires: ad.expires.0,
        binding: Some(proto::Binding {
            chain: ad.binding.chain,
            provider_key: ad.binding.provider_key.to_vec(),
            wallet: ad.binding.wallet.to_vec(),
            issued_at: ad.binding.issued_at,
            expires: ad.binding.expires,
            signature: ad.binding.signature.as_bytes().to_vec(),
        }),
        region: ad.region.clone(),
        offers: ad.offers.iter().map(offer_to_proto).collect(),
    }
}

/// Reads an advertisement. Signatures are checked elsewhere: the envelope's by `network`, the binding's by
/// [`Binding::check`].
pub fn ad_from_proto(message: proto::ProviderAd) -> Result<ProviderAd, WireError> {
    let binding = required("binding", message.binding)?;
    bounded("offers", message.offers.len(), MAX_OFFERS)?;
    let offers = message.offers.into_iter().map(offer_from_proto).collect::<Result<Vec<_>, _>>()?;
    for (i, offer) in offers.iter().enumerate() {
        if offers.iter().take(i).any(|earlier| earlier.name == offer.name) {
            return Err(invalid("offers.name", format!("`{}` stands twice", offer.name)));
        }
    }
    Ok(ProviderAd {
        peer: peer("peer", &message.peer)?,
        seq: message.seq,
        expires: UnixMillis(message.expires),
        binding: Binding {
            chain: binding.chain,
            provider_key: address("binding.provider_key", &binding.provider_key)?,
            wallet: address("binding.wallet", &binding.wallet)?,
            issued_at: binding.issued_at,
            expires: binding.expires,
            signature: signature("binding.signature", &binding.signature)?,
        },
        region: text("region", message.region)?,
        offers,
    })
}

/// Reads the class names of an announcement; names this version does not know are left out.
pub fn classes_from_proto(names: &[String]) -> Vec<GpuClass> {
    names.iter().take(market::class::MAX_CLASSES).filter_map(|name| name.parse().ok()).collect()
}

fn bounded(field: &'static str, len: usize, max: usize) -> Result<(), WireError> {
    if len > max { Err(invalid(field, format!("{len} entries, at most {max}"))) } else { Ok(()) }
}

fn offer_to_proto(offer: &Offer) -> proto::Offer {
    proto::Offer {
        name: offer.name.clone(),
        slots: offer.slots,
        free: offer.free,
        busy_until: offer.busy_until.map_or(0, |at| at.0),
        hardware: Some(hardware_to_proto(&offer.hardware)),
        prices: offer.prices.iter().map(price_to_proto).collect(),
        min_seconds: offer.min_seconds,
        max_seconds: offer.max_seconds,
        increment_millis: offer.increment_millis,
        ready_seconds: offer.ready_seconds,
        notice_seconds: offer.notice_seconds,
        window: offer.window,
        arbiters: offer.arbiters.iter().map(|a| a.to_vec()).collect(),
        isolation: match offer.isolation {
            Isolation::SharedKernel => proto::Isolation::SharedKernel,
            Isolation::UserKernel => proto::Isolation::UserKernel,
            Isolation::VirtualMachine => proto::Isolation::VirtualMachine,
        }
        .into(),
        verification: offer.verification.level(),
        whole_host: offer.whole_host,
        splits: offer.splits.clone(),
        discounts: offer
            .discounts
            .iter()
            .map(|d| proto::Discount { chain: d.chain, token: d.token.to_vec(), basis_points: d.basis_points })
            .collect(),
    }
}

fn offer_from_proto(message: proto::Offer) -> Result<Offer, WireError> {
    bounded("offer.prices", message.prices.len(), MAX_LIST)?;
    bounded("offer.arbiters", message.arbiters.len(), MAX_LIST)?;
    bounded("offer.splits", message.splits.len(), MAX_LIST)?;
    bounded("offer.discounts", message.discounts.len(), MAX_LIST)?;
    if message.free > message.slots {
        return Err(invalid("offer.free", "more free slots than slots"));
    }
    if !(1..=market::terms::MAX_INCREMENT_MILLIS).contains(&message.increment_millis) {
        return Err(invalid("offer.increment_millis", "must be 1 to 60,000"));
    }
    if message.prices.is_empty() {
        return Err(WireError::Missing("offer.prices"));
    }
    let isolation = match proto::Isolation::try_from(message.isolation) {
        Ok(proto::Isolation::UserKernel) => Isolation::UserKernel,
        Ok(proto::Isolation::VirtualMachine) => Isolation::VirtualMachine,
        Ok(proto::Isolation::SharedKernel) => Isolation::SharedKernel,
        _ => return Err(invalid("offer.isolation", "unknown class")),
    };
    let verification = match message.verification {
        0 => Verification::Declared,
        1 => Verification::Consistent,
        2 => Verification::Measured,
        3 => Verification::Attested,
        other => return Err(invalid("offer.verification", format!("{other} is no level"))),
    };
    let discount = |d: proto::Discount| {
        if d.basis_points > FULL_DISCOUNT {
            return Err(invalid("discount.basis_points", "more than the whole price"));
        }
        Ok(Discount { chain: d.chain, token: address("discount.token", &d.token)?, basis_points: d.basis_points })
    };
    Ok(Offer {
        name: text("offer.name", message.name)?,
        slots: message.slots,
        free: message.free,
        busy_until: Some(message.busy_until).filter(|at| *at > 0).map(UnixMillis),
        hardware: hardware_from_proto(required("offer.hardware", message.hardware)?)?,
        prices: message.prices.into_iter().map(price_from_proto).collect::<Result<_, _>>()?,
        min_seconds: message.min_seconds,
        max_seconds: message.max_seconds,
        increment_millis: message.increment_millis,
        ready_seconds: message.ready_seconds,
        notice_seconds: message.notice_seconds,
        window: message.window,
        arbiters: message.arbiters.iter().map(|a| address("offer.arbiters", a)).collect::<Result<_, _>>()?,
        isolation,
        verification,
        whole_host: message.whole_host,
        splits: message.splits,
        discounts: message.discounts.into_iter().map(discount).collect::<Result<_, _>>()?,
    })
}

fn price_to_proto(price: &Price) -> proto::Price {
    proto::Price {
        settlement: Some(settlement_to_proto(&price.escrow)),
        token: Some(token_to_proto(&price.token)),
        rate: price.rate.micro_units().to_string(),
        floor: price.floor.map_or_else(String::new, |floor| floor.micro_units().to_string()),
        min_deposit: price.min_deposit.to_string(),
    }
}

fn price_from_proto(message: proto::Price) -> Result<Price, WireError> {
    let escrow = settlement(message.settlement)?;
    let floor = if message.floor.is_empty() { None } else { Some(rate("price.floor", &message.floor)?) };
    Ok(Price {
        escrow,
        token: token(message.token, escrow.chain)?,
        rate: rate("price.rate", &message.rate)?,
        floor,
        min_deposit: amount("price.min_deposit", &message.min_deposit)?,
    })
}

pub(crate) fn hardware_to_proto(hardware: &Hardware) -> proto::Hardware {
    proto::Hardware {
        gpus: hardware
            .gpus
            .iter()
            .map(|g| proto::GpuGroup {
                model: g.model.clone(),
                count: g.count,
                vram_mib: g.vram_mib,
                sm: g.sm,
                sm_features: g.sm_features.clone(),
                mig_profile: g.mig_profile.clone(),
                interconnect: g.interconnect.clone(),
                power_limit_watts: g.power_limit_watts,
                profiling: g.profiling,
                tflops: g.tflops,
                memory_gb_per_s: g.memory_gb_per_s,
                mega_multiply_adds: g.mega_multiply_adds,
            })
            .collect(),
        driver_version: hardware.driver_version.clone(),
        cuda_version: hardware.cuda_version,
        cpu_model: hardware.cpu_model.clone(),
        cpu_millis: hardware.cpu_millis,
        memory_mib: hardware.memory_mib,
        disk_mib: hardware.disk_mib,
        disk_kind: hardware.disk_kind.clone(),
        disk_mb_per_s: hardware.disk_mb_per_s,
        network_down_mbit: hardware.network_down_mbit,
        network_up_mbit: hardware.network_up_mbit,
        software: hardware.software.clone(),
        core_mega_multiply_adds: hardware.core_mega_multiply_adds,
    }
}

pub(crate) fn hardware_from_proto(message: proto::Hardware) -> Result<Hardware, WireError> {
    bounded("hardware.gpus", message.gpus.len(), MAX_LIST)?;
    bounded("hardware.software", message.software.len(), MAX_LIST)?;
    let gpu = |g: proto::GpuGroup| {
        Ok(GpuGroup {
            model: text("gpu.model", g.model)?,
            count: g.count,
            vram_mib: g.vram_mib,
            sm: g.sm,
            sm_features: text("gpu.sm_features", g.sm_features)?,
            mig_profile: text("gpu.mig_profile", g.mig_profile)?,
            interconnect: text("gpu.interconnect", g.interconnect)?,
            power_limit_watts: g.power_limit_watts,
            profiling: g.profiling,
            tflops: g.tflops,
            memory_gb_per_s: g.memory_gb_per_s,
            mega_multiply_adds: g.mega_multiply_adds,
        })
    };
    Ok(Hardware {
        gpus: message.gpus.into_iter().map(gpu).collect::<Result<_, WireError>>()?,
        driver_version: text("hardware.driver_version", message.driver_version)?,
        cuda_version: message.cuda_version,
        cpu_model: text("hardware.cpu_model", message.cpu_model)?,
        cpu_millis: message.cpu_millis,
        memory_mib: message.memory_mib,
        disk_mib: message.disk_mib,
        disk_kind: text("hardware.disk_kind", message.disk_kind)?,
        disk_mb_per_s: message.disk_mb_per_s,
        network_down_mbit: message.network_down_mbit,
        network_up_mbit: message.network_up_mbit,
        software: message.software.into_iter().map(|s| text("hardware.software", s)).collect::<Result<_, _>>()?,
        core_mega_multiply_adds: message.core_mega_multiply_adds,
    })
}
