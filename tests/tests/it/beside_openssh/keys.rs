//! How soon a pressed key is seen: in three terminals at once, by turns, each with a program at the other end that gives back what it reads.

use super::{Bar, PEER, Places, RENTAL, Row};
use anyhow::{Context, Result, ensure};
use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::{Child, Command},
    time::{Duration, Instant},
};

/// Turns, and keys in each.
const TURNS: usize = 20;
const KEYS: usize = 100;
/// Between two keys: a fast typist's pause would only make this longer.
const PAUSE: Duration = Duration::from_millis(2);
/// How long anything may take before it counts as hung.
const LIMIT: Duration = Duration::from_secs(30);
/// What the other end says when it is ready, and then gives back each key.
const SCRIPT: &str = "stty raw -echo; printf READY; exec cat";

/// A program in a terminal of its own.
struct Terminal {
    keyboard: File,
    program: Child,
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

impl Terminal {
    fn open(mut command: Command) -> Result<Self> {
        let (mut near, mut far) = (0, 0);
        // SAFETY: both numbers live until it returns, and null asks for a terminal with usual settings.
        let failed = unsafe {
            libc::openpty(&raw mut near, &raw mut far, std::ptr::null_mut(), std::ptr::null_mut(), std::ptr::null_mut())
        };
        ensure!(failed == 0, "no terminal: {}", io::Error::last_os_error());
        // SAFETY: openpty has just made both for us alone.
        let (near, far) = unsafe { (OwnedFd::from_raw_fd(near), OwnedFd::from_raw_fd(far)) };
        let program = command.stdin(far.try_clone()?).stdout(far.try_clone()?).stderr(far).spawn()?;
        let mut terminal = Self { keyboard: near.into(), program };
        let mut said = Vec::new();
        while !said.ends_with(b"READY") {
            said.extend(terminal.seen().with_context(|| String::from_utf8_lossy(&said).into_owned())?);
        }
        Ok(terminal)
    }

    /// What appears next.
    fn seen(&mut self) -> Result<Vec<u8>> {
        let mut waiting = libc::pollfd { fd: self.keyboard.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let limit = i32::try_from(LIMIT.as_millis())?;
        // SAFETY: one element, which lives until it returns.
        let ready = unsafe { libc::poll(&raw mut waiting, 1, limit) };
        ensure!(ready == 1, "nothing to see after {LIMIT:?}");
        let mut seen = vec![0; 4_096];
        let length = self.keyboard.read(&mut seen)?;
        seen.truncate(length);
        Ok(seen)
    }

    fn press(&mut self, key: u8) -> Result<Duration> {
        let pressed = Instant::now();
        self.keyboard.write_all(&[key])?;
        let seen = self.seen()?;
        let took = pressed.elapsed();
        ensure!(seen == [key], "{:?} came back for {key}", String::from_utf8_lossy(&seen));
        Ok(took)
    }
}

pub(super) fn measure(places: &Places) -> Result<Vec<Row>> {
    let by_ssh = |host: &str| {
        let mut command = places.client("ssh");
        command.args(["-tt", host, SCRIPT]);
        command
    };
    let renter = places.renter()?;
    let ours = renter.command(["ssh", &places.id, "--", "sh", "-c", SCRIPT]).into_std();
    let mut terminals = [Terminal::open(by_ssh(PEER))?, Terminal::open(by_ssh(RENTAL))?, Terminal::open(ours)?]
        .map(|t| (t, Vec::new()));
    for turn in 0..=TURNS {
        for (terminal, times) in &mut terminals {
            for key in (b'a'..=b'z').cycle().take(KEYS) {
                let took = terminal.press(key)?;
                // the first turn wakes everything up
                if turn > 0 {
                    times.push(took);
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
    let [peer, facade, ours] = terminals.map(|(_, times)| [quantile(&times, 0.5), quantile(&times, 0.99)]);
    let more = |which: usize| facade[which] - peer[which];
    let row = |what: &str, ours: f64, peer: f64, found: f64, bar: f64| Row {
        what: what.to_owned(),
        ours: format!("{ours:.2} ms"),
        peer: format!("{peer:.2} ms"),
        found,
        bar: Bar::AtMost(bar),
    };
    Ok(vec![
        row("`ssh` to the rental, p50, ms more", facade[0], peer[0], more(0), 1.0),
        row("`ssh` to the rental, p99, ms more", facade[1], peer[1], more(1), 5.0),
        row("`node ssh`, p50, times", ours[0], peer[0], ours[0] / peer[0], 1.5),
        row("`node ssh`, p99, times", ours[1], peer[1], ours[1] / peer[1], 1.5),
    ])
}

/// In milliseconds.
fn quantile(times: &[Duration], part: f64) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted.get(((sorted.len() - 1) as f64 * part).round() as usize).map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}
