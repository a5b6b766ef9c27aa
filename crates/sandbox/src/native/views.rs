//! What programs read to find out how large their machine is, saying how large the sandbox is: processors and memory in `/proc`, and
//! processors in `/sys`. Without it a program on a rented quarter of a machine would start threads and caches for the whole of it.
//!
//! The files are in a small file system in memory that only the builder's mount namespace has. Inside it is read-only; the agent keeps the
//! memory's figures current through a descriptor.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use super::helper::{Failed, Step};

/// Where the files are in the sandbox's state directory, and inside.
pub(crate) const VIEWS: &str = "views";
pub(crate) const PLACE: &str = "run/gpulease/views";

/// The files that stand in for those of `/proc`.
pub(crate) const OF_PROC: [&str; 2] = ["cpuinfo", "meminfo"];

/// The tree that stands in for `/sys`.
pub(crate) const OF_SYS: &str = "sys";

/// Makes the files. Answers the one that the agent keeps current.
pub(crate) fn prepare(cpus: &[u32]) -> Result<File, Failed> {
    fs::create_dir_all(VIEWS).step(|| format!("make {VIEWS}"))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("tmpfs", VIEWS, "tmpfs", flags, c"mode=755,size=4m").step(|| format!("mount {VIEWS}"))?;
    let views = Path::new(VIEWS);
    write(views, cpus).step(|| "write what the sandbox shows of its size".into())?;
    let memory = OpenOptions::new().write(true).open(views.join("meminfo"));
    memory.step(|| "open the memory's figures".into())
}

fn write(views: &Path, cpus: &[u32]) -> io::Result<()> {
    fs::write(views.join("cpuinfo"), cpuinfo(&fs::read_to_string("/proc/cpuinfo")?, cpus))?;
    fs::write(views.join("meminfo"), "")?;
    let processors = views.join(OF_SYS).join("devices/system/cpu");
    fs::create_dir_all(&processors)?;
    let list = if cpus.len() == 1 { "0\n".to_owned() } else { format!("0-{}\n", cpus.len().saturating_sub(1)) };
    ["online", "possible", "present"].into_iter().try_for_each(|name| fs::write(processors.join(name), &list))
}

/// The machine's description of some of its processors, counted from 0.
fn cpuinfo(machine: &str, cpus: &[u32]) -> String {
    let number = |block: &str| -> Option<u32> {
        let line = block.lines().find(|line| line.starts_with("processor"))?;
        line.split_once(':')?.1.trim().parse().ok()
    };
    let chosen = machine.split("\n\n").filter(|block| number(block).is_some_and(|number| cpus.contains(&number)));
    let mut text = String::new();
    for (count, block) in chosen.enumerate() {
        for line in block.lines() {
            if line.starts_with("processor") {
                text.push_str(&format!("processor\t: {count}\n"));
            } else {
                text.push_str(line);
                text.push('\n');
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_those_given_and_counted_from_zero() {
        let machine =
            "processor\t: 0\nmodel name\t: a\n\nprocessor\t: 1\nmodel name\t: b\n\nprocessor\t: 2\nmodel name\t: c\n\n";
        let two = "processor\t: 0\nmodel name\t: b\n\nprocessor\t: 1\nmodel name\t: c\n\n";
        assert_eq!(cpuinfo(machine, &[1, 2]), two);
        assert_eq!(cpuinfo("", &[0]), "");
    }
}
