//! Hanging up: everything in a session ends, background jobs of a shell included. What has left the session, as daemons do, goes on like
//! after any hang-up. One thread does it for all sessions, because each look reads the whole `/proc` of the sandbox.

use std::collections::HashMap;
use std::fs;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::lock;

/// How long programs may take to put their things in order between SIGHUP and SIGKILL.
const GRACE: Duration = Duration::from_millis(500);

/// How long to go on killing what a session that forks faster than it dies still starts.
const KILLING: Duration = Duration::from_secs(5);

/// How often to look who is left.
const LOOK: Duration = Duration::from_millis(50);

/// The sessions that are being ended, by the process that leads or led each.
#[derive(Default)]
pub(crate) struct HangUps {
    ending: Mutex<Vec<Ending>>,
    added: Condvar,
}

struct Ending {
    leader: Pid,
    /// When its processes were told; not yet, if none.
    told: Option<Instant>,
}

impl HangUps {
    /// Ends every process of the session that this process leads, soon.
    pub(crate) fn add(&self, leader: Pid) {
        lock(&self.ending).push(Ending { leader, told: None });
        self.added.notify_one();
    }

    /// Ends them for ever.
    pub(crate) fn serve(&self) -> ! {
        let mut ending = lock(&self.ending);
        loop {
            while ending.is_empty() {
                ending = self.added.wait(ending).unwrap_or_else(PoisonError::into_inner);
            }
            if ending.iter().all(|session| session.told.is_some()) {
                ending = self.added.wait_timeout(ending, LOOK).unwrap_or_else(PoisonError::into_inner).0;
            }
            // Whoever adds one meanwhile does not wait for this look.
            let mut looked_at = std::mem::take(&mut *ending);
            drop(ending);
            let sessions = sessions();
            looked_at.retain_mut(|session| {
                let left = sessions.get(&session.leader.as_raw_nonzero().get());
                session.press(left.map_or(&[], Vec::as_slice))
            });
            ending = lock(&self.ending);
            ending.extend(looked_at);
        }
    }
}

impl Ending {
    /// Tells or kills what is left of it. False when there is nothing more to do.
    fn press(&mut self, left: &[Pid]) -> bool {
        let told = *self.told.get_or_insert_with(|| {
            for process in left {
                // One that is stopped has to go on to hear of it.
                let _ = kill_process(*process, Signal::HUP);
                let _ = kill_process(*process, Signal::CONT);
            }
            Instant::now()
        });
        if told.elapsed() >= GRACE {
            for process in left {
                let _ = kill_process(*process, Signal::KILL);
            }
        }
        !left.is_empty() && told.elapsed() < GRACE + KILLING
    }
}

/// All processes, by session. The kernel gives a session's number to no other as long as it has any.
fn sessions() -> HashMap<i32, Vec<Pid>> {
    let mut found: HashMap<i32, Vec<Pid>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        if let (Some(session), Some(process)) = (session_in(&stat), Pid::from_raw(number)) {
            found.entry(session).or_default().push(process);
        }
    }
    found
}

/// The session in a line of `/proc/*/stat`, unless the process has ended and only waits to be reaped. The program's name stands before
/// it in parentheses and may itself hold anything.
fn session_in(stat: &str) -> Option<i32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace();
    match fields.next()? {
        "Z" | "X" => None,
        _ => fields.nth(2)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_found_behind_any_program_name_and_the_dead_do_not_count() {
        assert_eq!(session_in("7 (sh) S 1 7 5 34816 7 4194304"), Some(5));
        assert_eq!(session_in("7 (a) S 1 2 3 (b) ) R 1 7 5 0 -1 0"), Some(5));
        assert_eq!(session_in("7 (sh) Z 1 7 5 0 -1 0"), None);
        assert_eq!(session_in(""), None);
        assert_eq!(session_in("7 (sh) S"), None);
    }
}
