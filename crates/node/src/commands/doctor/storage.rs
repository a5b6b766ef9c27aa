//! The disk under the data directory, whose the directory is at the moment, and how many files may be open.

use super::Finding;
use crate::{
    config::Config,
    datadir::{DataDir, Holder},
    failure::with_causes,
    open_files,
    output::bytes,
};

/// What a node needs for itself: its database, with room for what RocksDB writes anew before it removes the old.
const OWN_SPACE: u64 = 1 << 30;

/// Room for the database, and for a provider's sandboxes should all of them fill their disks, which are made without taking the space.
pub(super) fn space(dir: &DataDir, config: &Config) -> Vec<Finding> {
    if !dir.path().is_dir() {
        return Vec::new();
    }
    let slots = config.provider.slot.iter().map(|slot| (u64::from(slot.disk_mib) << 20) * u64::from(slot.count));
    match rustix::fs::statvfs(dir.path()) {
        Ok(disk) => vec![room(disk.f_bavail.saturating_mul(disk.f_frsize), slots.sum())],
        Err(errno) => vec![Finding::ok("data.space", errno.to_string(), "room for the database").warning("look again")],
    }
}

fn room(free: u64, slots: u64) -> Finding {
    let needed = match slots {
        0 => format!("at least {}", bytes(OWN_SPACE)),
        _ => format!("at least {}, and {} for full sandboxes", bytes(OWN_SPACE), bytes(slots)),
    };
    let finding = Finding::ok("data.space", format!("{} free", bytes(free)), needed);
    match (free >= OWN_SPACE, free >= OWN_SPACE.saturating_add(slots)) {
        (false, _) => finding.problem("make room: a node that cannot write stops taking rentals, and may lose claims"),
        (true, false) => finding.warning("make room, or offer fewer or smaller slots: full disks would stop everybody"),
        (true, true) => finding,
    }
}

/// Whether the directory is free, or held by the daemon that answers.
pub(super) fn lock(dir: &DataDir, answers: bool) -> Option<Finding> {
    let needed = "free, or held by the daemon that answers";
    let finding = |found: String| Some(Finding::ok("data.lock", found, needed));
    match dir.holder() {
        Ok(Holder::Nobody) => finding("free".to_owned()),
        Ok(Holder::Process(pid)) => {
            let who = pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"));
            let remedy =
                "it starts or ends just now, or hangs: see its log; ending it outright (kill -9) loses nothing";
            finding(format!("held by {who}")).map(|finding| finding.must(answers, remedy))
        }
        Err(error) => finding(with_causes(&error)).map(|finding| finding.problem("check that the directory is yours")),
    }
}

/// The files that a daemon may open, connections among them.
pub(super) fn files(most: Option<u64>) -> Finding {
    let found = most.map_or_else(|| "no limit".to_owned(), |most| format!("up to {most}"));
    let remedy = "raise it: LimitNOFILE= in the service's unit, or ulimit -Hn; else connections are refused";
    let finding = Finding::ok("process.files", found, format!("at least {} open files", open_files::NEEDED));
    if most.is_none_or(|most| most >= open_files::NEEDED) { finding } else { finding.warning(remedy) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::doctor::State;

    #[test]
    fn a_disk_that_is_full_is_a_problem_and_one_that_may_become_so_a_warning() {
        assert_eq!(room(OWN_SPACE, 0).state, State::Ok);
        assert_eq!(room(OWN_SPACE - 1, 0).state, State::Problem);
        assert_eq!(room(2 * OWN_SPACE, OWN_SPACE).state, State::Ok);
        assert_eq!(room(2 * OWN_SPACE - 1, OWN_SPACE).state, State::Warning);
    }

    #[test]
    fn few_open_files_are_a_warning() {
        assert_eq!([None, Some(open_files::NEEDED)].map(|most| files(most).state), [State::Ok; 2]);
        assert_eq!(files(Some(1_024)).state, State::Warning);
    }

    #[test]
    fn a_directory_held_by_somebody_who_does_not_answer_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::find(Some(folder.path())).unwrap();
        assert_eq!(lock(&dir, false).unwrap().found, "free");
        let _held = dir.lock().unwrap();
        assert_eq!(lock(&dir, true).unwrap().state, State::Ok);
        let silent = lock(&dir, false).unwrap();
        assert_eq!(silent.state, State::Problem);
        assert!(
            silent.found.contains(&std::process::id().to_string()) && silent.remedy.contains("hangs"),
            "{silent:?}"
        );
    }
}
