//! The sandbox's `/proc/meminfo`: a file that this program keeps current from the kernel's counts for the job, so that programs that look
//! how much memory there is see the sandbox's and not the machine's.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

/// How old the figures may be. Programs look at their start or every few seconds; looking costs the agent some 50 µs.
const REFRESH: Duration = Duration::from_secs(1);

/// Bytes of the kernel's list by kind: about 1.5 KiB in version 1, 2 KiB in version 2.
const KINDS: usize = 8 * 1024;

/// The kernel's counts, and where to show them.
pub(crate) struct Memory {
    usage: File,
    kinds: File,
    shown: File,
    limit: u64,
}

impl Memory {
    /// From descriptors: memory in use, in sum and by kind, and the file to be written.
    pub(crate) fn new(usage: File, kinds: File, shown: File, limit: u64) -> Memory {
        Memory { usage, kinds, shown, limit }
    }

    /// Refreshes for ever.
    pub(crate) fn keep_current(&self) {
        loop {
            std::thread::sleep(REFRESH);
            self.refresh();
        }
    }

    /// Writes the figures of this moment. What cannot be read now is read the next time.
    pub(crate) fn refresh(&self) {
        let _ = self.try_refresh();
    }

    fn try_refresh(&self) -> io::Result<()> {
        let mut text = [0; KINDS];
        let length = self.usage.read_at(&mut text, 0)?;
        let used = String::from_utf8_lossy(&text[..length]).trim().parse().map_err(io::Error::other)?;
        let length = self.kinds.read_at(&mut text, 0)?;
        let figures = figures(self.limit, used, &String::from_utf8_lossy(&text[..length]));
        // Always as long as the last time, so that a reader never sees half of one and half of another.
        self.shown.write_all_at(figures.as_bytes(), 0)
    }
}

/// The kernel's own form, for the lines that a sandbox can have.
fn figures(limit: u64, used: u64, kinds: &str) -> String {
    // Version 1 counts the group's children too under names of their own; the names differ between the versions.
    let kind = |names: &[&str]| -> u64 {
        let of = |name: &&str| kinds.lines().find_map(|line| line.strip_prefix(*name)?.strip_prefix(' ')?.parse().ok());
        names.iter().find_map(of).unwrap_or(0)
    };
    let cached = kind(&["total_cache", "cache", "file"]);
    let shared = kind(&["total_shmem", "shmem"]);
    let (active_file, inactive_file) =
        (kind(&["total_active_file", "active_file"]), kind(&["total_inactive_file", "inactive_file"]));
    let (active_anon, inactive_anon) =
        (kind(&["total_active_anon", "active_anon"]), kind(&["total_inactive_anon", "inactive_anon"]));
    let free = limit.saturating_sub(used);
    let lines = [
        ("MemTotal:", limit),
        ("MemFree:", free),
        ("MemAvailable:", free.saturating_add(active_file).saturating_add(inactive_file).min(limit)),
        ("Buffers:", 0),
        ("Cached:", cached),
        ("SwapCached:", 0),
        ("Active:", active_file.saturating_add(active_anon)),
        ("Inactive:", inactive_file.saturating_add(inactive_anon)),
        ("SwapTotal:", 0),
        ("SwapFree:", 0),
        ("AnonPages:", kind(&["total_rss", "rss", "anon"])),
        ("Mapped:", kind(&["total_mapped_file", "mapped_file", "file_mapped"])),
        ("Shmem:", shared),
    ];
    lines.into_iter().map(|(name, bytes)| format!("{name:<16}{:>12} kB\n", bytes / 1024)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_the_sandboxes_in_both_versions_of_the_kernels_names() {
        let v1 = "cache 1048576\nrss 4096\ntotal_cache 2097152\ntotal_rss 8192\ntotal_active_file 1048576\ntotal_inactive_file 524288\n";
        let text = figures(64 << 20, 16 << 20, v1);
        for line in [
            "MemTotal:              65536 kB",
            "MemFree:               49152 kB",
            "MemAvailable:          50688 kB",
            "Cached:                 2048 kB",
            "AnonPages:                 8 kB",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        let v2 = "anon 12288\nfile 4096\nshmem 0\nactive_file 4096\nfile_mapped 4096\n";
        let other = figures(1 << 40, 1 << 39, v2);
        assert!(
            other.contains("AnonPages:                12 kB\n") && other.contains("Mapped:                    4 kB\n")
        );
        assert_eq!(text.len(), other.len(), "as long whatever the figures");
    }
}
