//! A terminal opened inside: only one of the sandbox's own `/dev/pts` has a name there, so that `tty` works and programs can open it again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use agent::protocol::{Frame, Reply, TerminalSize};
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcgetpgrp, tcsetattr, tcsetwinsize};

use crate::children::{Started, signal_group};
use crate::connection::{Stop, reply};
use crate::relay::{Flow, wait};
use crate::{Agent, session};

/// Where terminals are made. `/dev/ptmx` is only a link to it, in a directory whose entries a job may exchange; this one is of the file
/// system that is mounted there and cannot be.
const MULTIPLEXER: &str = "/dev/pts/ptmx";

/// How long, after the process's end, a left-over process may say nothing before the terminal is closed to it.
const DRAIN: Duration = Duration::from_secs(1);

/// Bytes still carried after the process's end, so that one that says something for ever is not listened to for ever.
const REST: usize = 1 << 20;

/// Both ends.
pub(crate) struct Terminal {
    /// What a person types into and looks at.
    pub(crate) master: OwnedFd,
    /// What programs see.
    pub(crate) slave: OwnedFd,
}

impl Terminal {
    /// A new terminal of this size. It becomes nobody's controlling terminal yet.
    pub(crate) fn open(size: TerminalSize) -> io::Result<Terminal> {
        let master =
            open(MULTIPLEXER, OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
        unlockpt(&master)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let slave = ioctl_tiocgptpeer(&master, flags)?;
        resize(&master, size)?;
        let mut modes = tcgetattr(&slave)?;
        // A backspace removes a whole character; everything here speaks UTF-8.
        modes.input_modes |= InputModes::IUTF8;
        tcsetattr(&slave, OptionalActions::Now, &modes)?;
        Ok(Terminal { master, slave })
    }
}

/// Changes the size; the kernel tells the programs in the foreground with SIGWINCH.
fn resize(master: &OwnedFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(master, size)?)
}

/// Serves a process in a terminal until it has ended and all it wrote is delivered, or the asker is gone.
pub(crate) fn attend(
    agent: &Agent,
    asker: &UnixStream,
    started: &Started,
    screen: &UnixStream,
    master: OwnedFd,
) -> Result<(), Stop> {
    if carry(agent, asker, started, screen, &master)? {
        return Ok(());
    }
    drop(master);
    session::hang_up(started.pid);
    Err(Stop::Gone)
}

/// Carries bytes between the terminal and the asker's screen, and signals and sizes from the asker. True when the process has ended, and its
/// end is told; false when the asker is gone.
fn carry(
    agent: &Agent,
    asker: &UnixStream,
    started: &Started,
    screen: &UnixStream,
    master: &OwnedFd,
) -> Result<bool, Stop> {
    let (mut typed, mut shown) = (Flow::new(), Flow::new());
    let mut rest = None;
    while rest != Some(0) && !(rest.is_some() && shown.is_over()) {
        let near = (screen, typed.input() | shown.output());
        let far = (master.as_fd(), shown.input() | typed.output());
        let (control, limit) = if rest.is_some() { (None, Some(DRAIN)) } else { (Some(asker), None) };
        let Ok([near, far, control]) = wait(near, far, control, limit) else { break };
        let silent = near.is_empty() && far.is_empty() && shown.is_empty();
        if near.intersects(PollFlags::HUP | PollFlags::ERR) || (rest.is_some() && silent) {
            break;
        }
        if !control.is_empty() && !obey(asker, started, master) {
            let Some(exit) = agent.children.ended(started) else { break };
            reply(asker, Reply::Ended { exit })?;
            rest = Some(REST);
        }
        if typed.advance(!near.is_empty(), screen.as_fd(), master.as_fd()).is_err() {
            typed.abandon();
        }
        match shown.advance(!far.is_empty(), master.as_fd(), screen.as_fd()) {
            Ok(read) => rest = rest.map(|rest| rest.saturating_sub(read)),
            // The end of a terminal is an error: no program has it open any more, and what is typed reaches none.
            Err(_) => {
                shown.end();
                typed.abandon();
            }
        }
    }
    Ok(rest.is_some())
}

/// Does what one frame of the asker's says. False when there is none: it is gone, or the process has ended and the connection was shut down
/// for reading.
fn obey(mut asker: &UnixStream, started: &Started, master: &OwnedFd) -> bool {
    match Frame::read(&mut asker) {
        Ok(Some(Frame::Signal(signal))) => signal_group(tcgetpgrp(master).unwrap_or(started.pid), signal).is_ok(),
        Ok(Some(Frame::Resize(size))) => resize(master, size).is_ok(),
        _ => false,
    }
}
