//! Which of the machine's processors a sandbox runs on. Its share of time is a limit of its control groups; that its threads stay on as many
//! processors as it has bought keeps programs that count processors from starting more threads than they have time for, and sandboxes out
//! of each other's way.

use std::collections::BTreeMap;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors that this process may use.
pub(crate) fn usable() -> rustix::io::Result<Vec<u32>> {
    let set = sched_getaffinity(None)?;
    let all = 0..u32::try_from(CpuSet::MAX_CPU).unwrap_or(u32::MAX);
    Ok(all.filter(|cpu| set.is_set(*cpu as usize)).collect())
}

/// Keeps a process, and all that it starts, to some processors.
pub(crate) fn keep_to(process: Option<Pid>, cpus: &[u32]) -> rustix::io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu as usize);
    }
    sched_setaffinity(process, &set)
}

/// The processors with the least sold of them, as many as are needed for so many thousandths. `others` are the sandboxes that are there
/// already: theirs, and what they bought.
pub(crate) fn choose<'a>(usable: &[u32], millis: u32, others: impl Iterator<Item = (&'a [u32], u32)>) -> Vec<u32> {
    let mut sold: BTreeMap<u32, u32> = usable.iter().map(|cpu| (*cpu, 0)).collect();
    for (cpus, bought) in others {
        let share = bought / u32::try_from(cpus.len()).unwrap_or(u32::MAX).max(1);
        for cpu in cpus {
            sold.entry(*cpu).and_modify(|sum| *sum = sum.saturating_add(share));
        }
    }
    let mut emptiest: Vec<(u32, u32)> = sold.into_iter().map(|(cpu, sum)| (sum, cpu)).collect();
    emptiest.sort_unstable();
    let needed = millis.div_ceil(1000) as usize;
    let mut chosen: Vec<u32> = emptiest.into_iter().take(needed).map(|(_, cpu)| cpu).collect();
    chosen.sort_unstable();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandboxes_spread_over_the_processors_that_are_sold_least() {
        let usable = [0, 1, 2, 3];
        assert_eq!(choose(&usable, 1000, std::iter::empty()), [0]);
        let first: &[u32] = &[0];
        assert_eq!(choose(&usable, 2000, [(first, 1000)].into_iter()), [1, 2]);
        let halves = [(first, 500), (&[1, 2][..], 2000), (&[3][..], 1000)];
        assert_eq!(choose(&usable, 500, halves.into_iter()), [0], "the other half of a processor");
        assert_eq!(choose(&usable, 250, [(first, 250)].into_iter()), [1]);
        assert_eq!(choose(&usable, 64_000, std::iter::empty()), usable, "no more than there are");
        assert_eq!(choose(&[5], 1000, [(first, 1000)].into_iter()), [5], "another node's are not ours to count");
    }
}
