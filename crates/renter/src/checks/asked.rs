//! What a machine is asked to compute, from what its offer says of it.

use gpu::challenge::{Device, Expectation, Rate, Share, Work};
use market::offer::{GpuGroup, Hardware};

/// For how many thousandths of a second a processor works that does what its offer says: long beside the second that is tolerated for
/// everything else, short beside the job.
const MEASURED_MILLIS: u64 = 800;

/// The same where no figure is offered: there is nothing to hold a speed against, and right products are shown as well by a few.
const UNMEASURED_MILLIS: u64 = 100;

/// What is assumed of a core whose offer has no figure, in multiply-adds a second: what old ones do.
const ASSUMED_OF_A_CORE: u64 = 1_000_000_000;

/// No core does more, in multiply-adds a second: an EPYC of today does 7·10⁹. One that is said to gets no more work, so that its answer
/// comes in time to be too slow.
const MOST_OF_A_CORE: u64 = 25_000_000_000;

/// Sizes of matrices that processors are asked for, up to the largest that a laptop checks in a third of a second.
const SIZES: [u32; 4] = [256, 512, 1_024, 2_048];

/// What starting a thread costs, in millionths of a second: a product must take its threads longer than that.
const THREAD_MICROS: u64 = 100;

/// A processor's work takes this part of the slot's memory if it can, since the job is there too, and no more than so many bytes...
const PART_OF_MEMORY: u64 = 16;
const ENOUGH_MEMORY: u64 = 256 << 20;
/// ...and else this part at most.
const LARGEST_PART_OF_MEMORY: u64 = 4;

/// In how many seconds cards do their share, and the least size of their matrices: smaller ones take longer to order than to compute.
const CARD_SECONDS: u64 = 4;
const LEAST_CARD_SIZE: u32 = 2_048;

/// What is assumed of a card whose offer has no figure, in multiply-adds a second.
const ASSUMED_OF_A_CARD: u64 = 1_000_000_000_000;

/// Products of each card beside a job, which has the memory: an eighth of a gibibyte.
const PRODUCTS_BESIDE: u32 = 8;

/// What is asked of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// Its processors.
    Processors(Work, Expectation),
    /// Its cards, whose names only the sandbox knows.
    Cards(Cards),
}

/// The cards of a slot, all of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cards {
    group: GpuGroup,
    beside: bool,
}

/// What the sandbox shows instead of the cards that were promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OtherCards {
    /// Fewer than were promised, or one twice.
    Fewer,
    /// Fewer, and that may be because a program sees one instance of a card only.
    Instances,
}

impl Asked {
    /// What such hardware is asked for; `beside` a job that has the memory of its cards. Or why nothing can be.
    pub(super) fn of(hardware: &Hardware, beside: bool) -> Result<Self, &'static str> {
        match &hardware.gpus[..] {
            [] => processors(hardware).ok_or("the offer has too little processor or memory for a challenge"),
            [group] if group.vram_mib == 0 => Err("the offer does not say how much memory its cards have"),
            [group] => Ok(Self::Cards(Cards { group: group.clone(), beside })),
            _ => Err("cards of several models are not challenged together"),
        }
    }

    /// Whether there is a figure to hold a speed against.
    pub(super) fn is_measured(&self) -> bool {
        match self {
            Self::Processors(_, expectation) => matches!(expectation.rate, Rate::Measured(_)),
            Self::Cards(cards) => cards.group.mega_multiply_adds > 0,
        }
    }
}

fn processors(hardware: &Hardware) -> Option<Asked> {
    let millis = u64::from(hardware.cpu_millis);
    let memory = u64::from(hardware.memory_mib) << 20;
    let of_a_core = u64::from(hardware.core_mega_multiply_adds) * 1_000_000;
    let measured = (of_a_core > 0).then(|| of_a_core.saturating_mul(millis) / 1_000);
    let rate = measured.unwrap_or(ASSUMED_OF_A_CORE * millis / 1_000);
    if rate == 0 {
        return None;
    }
    let time = if measured.is_some() { MEASURED_MILLIS } else { UNMEASURED_MILLIS };
    let believed = rate.min(MOST_OF_A_CORE * millis.div_ceil(1_000));
    let operations = believed.saturating_mul(time) / 1_000;
    let starting = believed.saturating_mul(millis.div_ceil(1_000) * THREAD_MICROS) / 1_000_000;
    let bytes = |size: u32| 4 * u64::from(size).pow(2);
    let needed = |size: u32| operations.div_ceil(u64::from(size).pow(3)).max(1);
    // two factors stand beside the products
    let suits = |size: &u32| {
        let room = (memory / PART_OF_MEMORY).min(ENOUGH_MEMORY) / bytes(*size);
        u64::from(*size).pow(3) >= starting && needed(*size).saturating_add(2) <= room
    };
    let fits = |size: &u32| 3 * bytes(*size) <= memory / LARGEST_PART_OF_MEMORY;
    let size = SIZES.into_iter().find(suits).or_else(|| SIZES.into_iter().rev().find(fits))?;
    let room = (memory / LARGEST_PART_OF_MEMORY / bytes(size)).saturating_sub(2).max(1);
    let products = u32::try_from(needed(size).min(room)).ok()?;
    let work = Work::new(size, vec![Share { device: Device::Cpu, products }]).ok()?;
    let rate = measured.map_or(Rate::Unknown, Rate::Measured);
    Some(Asked::Processors(work, Expectation { device: Device::Cpu, model: hardware.cpu_model.clone(), rate }))
}

impl Cards {
    /// The work for the cards that the sandbox has.
    pub(super) fn work(&self, shown: &[Device]) -> Result<(Work, Vec<Expectation>), OtherCards> {
        let other = if self.group.mig_profile.is_empty() { OtherCards::Fewer } else { OtherCards::Instances };
        let cards = shown.get(..self.group.count as usize).ok_or(other)?;
        let memory = u64::from(self.group.vram_mib) << 20;
        let measured = Some(u64::from(self.group.mega_multiply_adds) * 1_000_000).filter(|rate| *rate > 0);
        let (size, products) = if self.beside {
            (LEAST_CARD_SIZE, PRODUCTS_BESIDE)
        } else {
            let size = Work::size_for(memory, measured.unwrap_or(ASSUMED_OF_A_CARD), CARD_SECONDS);
            let size = size.max(LEAST_CARD_SIZE);
            (size, Work::filling(memory, size))
        };
        let share = |device: &Device| Share { device: device.clone(), products };
        // one that is named twice is none, and neither is a card that a broken offer has none of
        let work = Work::new(size, cards.iter().map(share).collect()).map_err(|_| other)?;
        let rate = measured.map_or(Rate::Unknown, Rate::Measured);
        let of = |device: &Device| Expectation { device: device.clone(), model: self.group.model.clone(), rate };
        Ok((work, cards.iter().map(of).collect()))
    }

    /// As what they were offered.
    pub(super) fn model(&self) -> &str {
        &self.group.model
    }

    /// How many there have to be.
    pub(super) fn count(&self) -> u32 {
        self.group.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(cores: u32, memory_mib: u32, core_mega_multiply_adds: u32) -> Hardware {
        Hardware { cpu_millis: cores * 1_000, memory_mib, core_mega_multiply_adds, ..Hardware::default() }
    }

    fn of_processors(hardware: &Hardware) -> (Work, Expectation) {
        match Asked::of(hardware, true) {
            Ok(Asked::Processors(work, expectation)) => (work, expectation),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_processor_works_for_about_a_second_and_leaves_the_memory_to_the_job() {
        for (cores, memory, figure) in [(1, 512, 3_000), (2, 4_096, 5_000), (16, 65_536, 4_000), (96, 393_216, 3_500)] {
            let (work, expectation) = of_processors(&slot(cores, memory, figure));
            let rate = u64::from(cores * figure) * 1_000_000;
            assert_eq!(expectation.rate, Rate::Measured(rate));
            let share = &work.shares()[0];
            let millis = work.multiply_adds(share) * 1_000 / rate;
            assert!((500..=1_200).contains(&millis), "{cores} cores work for {millis} ms at {}", work.size());
            assert!(work.bytes(share) <= (u64::from(memory) << 20) / 16, "{cores} cores: {}", work.bytes(share));
        }
    }

    #[test]
    fn without_a_figure_little_is_asked_and_nothing_held_against_it() {
        let (work, expectation) = of_processors(&slot(1, 512, 0));
        assert_eq!((work.size(), expectation.rate), (256, Rate::Unknown));
        assert!(work.bytes(&work.shares()[0]) <= 2 << 20);
        assert!(Asked::of(&slot(1, 512, 1), true).unwrap().is_measured());
        assert!(!Asked::of(&slot(1, 512, 0), true).unwrap().is_measured());
    }

    #[test]
    fn figures_that_no_machine_has_ask_for_no_more_than_one_does_in_seconds() {
        let (work, expectation) = of_processors(&slot(1, 512, u32::MAX));
        assert!(work.bytes(&work.shares()[0]) <= 128 << 20);
        assert!(work.multiply_adds(&work.shares()[0]) < 30_000_000_000);
        assert_eq!(expectation.rate, Rate::Measured(u64::from(u32::MAX) * 1_000_000));
        assert!(Asked::of(&slot(1, 1, 0), true).is_err(), "no matrix fits");
        assert!(Asked::of(&Hardware::default(), true).is_err());
    }

    #[test]
    fn all_promised_cards_fill_their_memory_before_the_job_and_little_of_it_beside() {
        let group = GpuGroup { model: "H200".into(), count: 2, vram_mib: 144_384, ..GpuGroup::default() };
        let hardware = Hardware { gpus: vec![group.clone()], ..slot(8, 65_536, 0) };
        let cards = |beside| match Asked::of(&hardware, beside) {
            Ok(Asked::Cards(cards)) => cards,
            other => panic!("{other:?}"),
        };
        let shown: Vec<Device> = ["GPU-1", "GPU-2"].iter().map(|uuid| uuid.parse().unwrap()).collect();
        let (work, expectations) = cards(false).work(&shown).unwrap();
        assert_eq!((work.shares().len(), expectations.len(), work.size()), (2, 2, LEAST_CARD_SIZE));
        let held = work.bytes(&work.shares()[0]);
        assert!(held > (144_384 << 20) * 8 / 10, "{held}");
        let (beside, _) = cards(true).work(&shown).unwrap();
        assert_eq!(beside.bytes(&beside.shares()[0]), 128 << 20);
        assert_eq!(cards(false).work(&shown[..1]), Err(OtherCards::Fewer));
        assert_eq!(cards(false).work(&[shown[0].clone(), shown[0].clone()]), Err(OtherCards::Fewer));
        let cut = Cards { group: GpuGroup { mig_profile: "1g.18gb".into(), ..group.clone() }, beside: false };
        assert_eq!(cut.work(&shown[..1]), Err(OtherCards::Instances));
        let mixed = Hardware { gpus: vec![group.clone(), group], ..hardware };
        assert!(Asked::of(&mixed, true).is_err());
    }
}
