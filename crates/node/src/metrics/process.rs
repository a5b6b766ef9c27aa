//! What the kernel knows of this process, by the names that every Prometheus client library uses.

use super::{Readings, catalogue as metric};
use std::{fs, io};

/// Where the fields of `/proc/self/stat` begin after the program's name, and which of them are wanted (see proc(5), counted from 3).
const USER_TICKS: usize = 14 - 3;
const KERNEL_TICKS: usize = 15 - 3;
const THREADS: usize = 20 - 3;
const STARTED_TICKS: usize = 22 - 3;
/// Ticks of a second in those fields: the same on every machine that Linux tells programs about (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads all of it. What cannot be read is left out.
pub(super) fn read(readings: &mut Readings) {
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        // the one that reads the list is none
        readings.set(metric::OPEN_FILES, &[], (open.count().saturating_sub(1)) as f64);
    }
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        readings.set(metric::MAX_FILES, &[], most as f64);
    }
    // a kernel without procfs leaves them out
    let _ = statistics(readings);
    if let Some(kib) = fs::read_to_string("/proc/self/status").ok().and_then(|status| resident_kib(&status)) {
        readings.set(metric::MEMORY, &[], kib as f64 * 1_024.0);
    }
}

fn resident_kib(status: &str) -> Option<u64> {
    status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok())
}

fn statistics(readings: &mut Readings) -> io::Result<()> {
    let text = fs::read_to_string("/proc/self/stat")?;
    // the program's name stands in parentheses, and may hold spaces and parentheses itself
    let fields: Vec<u64> = text
        .rsplit_once(") ")
        .map(|(_, fields)| fields.split(' ').map(|field| field.trim().parse().unwrap_or_default()).collect())
        .unwrap_or_default();
    let field = |at: usize| fields.get(at).copied().unwrap_or_default() as f64;
    readings.set(metric::CPU, &[], (field(USER_TICKS) + field(KERNEL_TICKS)) / TICKS_PER_SECOND);
    readings.set(metric::THREADS, &[], field(THREADS));
    let machine = fs::read_to_string("/proc/stat")?;
    let booted = machine.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<u64>().ok());
    if let Some(booted) = booted {
        readings.set(metric::STARTED, &[], booted as f64 + field(STARTED_TICKS) / TICKS_PER_SECOND);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn the_kernel_is_understood() {
        let mut readings = Readings::default();
        read(&mut readings);
        let value = |metric| readings.value(metric, &[]).unwrap();
        assert!(value(metric::MEMORY) > 1e6 && value(metric::MEMORY) < 1e11, "{}", value(metric::MEMORY));
        assert!(value(metric::OPEN_FILES) >= 3.0 && value(metric::MAX_FILES) > value(metric::OPEN_FILES));
        assert!(value(metric::THREADS) >= 1.0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
        let age = now - value(metric::STARTED);
        assert!((-2.0..86_400.0).contains(&age), "started {age} s ago");
    }
}
