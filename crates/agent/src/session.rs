//! Hanging up: when the one who asked for a process is gone, everything in its session ends, background jobs of a shell included. What has
//! left the session, as daemons do, goes on like after any hang-up.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long programs may take to put their things in order between SIGHUP and SIGKILL.
const GRACE: Duration = Duration::from_millis(500);

/// How long to go on killing what a session that forks faster than it dies still starts.
const KILLING: Duration = Duration::from_secs(5);

/// How often to look who is left: each look reads the whole `/proc` of the sandbox.
const LOOK: Duration = Duration::from_millis(50);

/// Ends every process of the session that this process leads or led.
pub(crate) fn hang_up(leader: Pid) {
    let began = Instant::now();
    let mut left = members(leader);
    for process in &left {
        // One that is stopped has to go on to hear of it.
        let _ = kill_process(*process, Signal::HUP);
        let _ = kill_process(*process, Signal::CONT);
    }
    while !left.is_empty() && began.elapsed() < GRACE + KILLING {
        sleep(LOOK);
        left = members(leader);
        if began.elapsed() >= GRACE {
            for process in &left {
                let _ = kill_process(*process, Signal::KILL);
            }
        }
    }
}

/// The processes of a session. The kernel gives its number to no other as long as it has any.
fn members(session: Pid) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let of_session = |number: &i32| {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        session_in(&stat) == Some(session.as_raw_nonzero().get())
    };
    numbers.filter(of_session).filter_map(Pid::from_raw).collect()
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
