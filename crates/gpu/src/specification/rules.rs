//! The rules by which what is said of a card is held against its model.

use super::{Claim, Contradiction, Model};

/// The share of its nominal memory that a card must show, in percent: error correction of some models takes a sixteenth, and firmware up
/// to 7 % more where a maker counts the raw chips (B300: 268.6 of 288 GiB).
const LEAST_MEMORY_PERCENT: u64 = 91;

/// And the share that it may show at most: no driver invents memory.
const MOST_MEMORY_PERCENT: u64 = 101;

/// How far a power limit may be above the published one, where the vendor builds every board: some are sold with a little more.
const ONE_MAKER_POWER_PERCENT: u32 = 110;

/// And where others build them: drivers show an RTX 4090 at 500 W of 450, and what overclockers flash stands in no list.
const MANY_MAKERS_POWER_PERCENT: u32 = 150;

/// How far a measured speed may be above the published one: chips run a little above their published clock.
const SPEED_PERCENT: u32 = 110;

/// No margin.
const EXACTLY: u32 = 100;

/// Everything that is wrong with a claim if the card is of this model. The number of PCIe lanes is no part of it: what chip, board and slot
/// have is told differently by different drivers.
pub(super) fn contradictions(claim: &Claim, model: &Model) -> Vec<Contradiction> {
    let power = if model.many_makers { MANY_MAKERS_POWER_PERCENT } else { ONE_MAKER_POWER_PERCENT };
    let watts = model.power_watts;
    let pcie = claim.pcie.map(|link| link.generation);
    let tflops = claim.tflops_tenths.map(|tenths| tenths / 10);
    let most = |what, nominal, percent, said| at_most(model, what, nominal, percent, said);
    let found = [
        memory(claim, model),
        code(claim, model),
        number(model, "cores", model.cores, claim.cores),
        number(model, "bits of memory bus", model.memory_bus_bits, claim.memory_bus_bits),
        most("watts of power limit", watts, power, claim.power_limit_watts),
        most("watts of highest power limit", watts, power, claim.power_limit_max_watts),
        most("as PCIe generation", model.pcie.map(|link| link.generation), EXACTLY, pcie),
        most("NVLinks", model.nvlinks, EXACTLY, claim.nvlinks),
        most("GB/s of memory bandwidth", model.memory_gb_per_s, SPEED_PERCENT, claim.memory_gb_per_s),
        most("16-bit TFLOP/s", model.tflops_tenths.map(|tenths| tenths.div_ceil(10)), SPEED_PERCENT, tflops),
        other_model(claim, model),
    ];
    found.into_iter().flatten().collect()
}

fn memory(claim: &Claim, model: &Model) -> Option<Contradiction> {
    let mib = claim.memory_bytes? >> 20;
    let nominal = u64::from(model.memory_gib) << 10;
    let allowed = nominal * LEAST_MEMORY_PERCENT / 100..=nominal * MOST_MEMORY_PERCENT / 100;
    let name = model.name.clone();
    (!allowed.contains(&mib)).then_some(Contradiction::Memory { model: name, nominal_gib: model.memory_gib, mib })
}

fn code(claim: &Claim, model: &Model) -> Option<Contradiction> {
    let said = claim.code.as_ref().filter(|said| **said != model.code)?;
    Some(Contradiction::Code { model: model.name.clone(), nominal: model.code.clone(), said: said.clone() })
}

fn number(model: &Model, what: &str, nominal: Option<u32>, said: Option<u32>) -> Option<Contradiction> {
    let (nominal, said) = nominal.zip(said).filter(|(nominal, said)| nominal != said)?;
    Some(Contradiction::Number { model: model.name.clone(), what: what.to_owned(), nominal, said })
}

fn at_most(model: &Model, what: &str, nominal: Option<u32>, percent: u32, said: Option<u32>) -> Option<Contradiction> {
    let above = |(nominal, said): &(u32, u32)| u64::from(*said) * 100 > u64::from(*nominal) * u64::from(percent);
    let (nominal, said) = nominal.zip(said).filter(above)?;
    Some(Contradiction::TooMuch { model: model.name.clone(), what: what.to_owned(), nominal, said })
}

/// The number that the maker burned into the card is another model's. A number that stands nowhere in the table says nothing: makers bring
/// out new boards of old names.
fn other_model(claim: &Claim, model: &Model) -> Option<Contradiction> {
    let device = claim.pci_device.filter(|device| !model.pci_devices.contains(device))?;
    let actual = Model::of_pci_device(device).next()?;
    Some(Contradiction::OtherModel { model: model.name.clone(), device, actual: actual.name.clone() })
}
