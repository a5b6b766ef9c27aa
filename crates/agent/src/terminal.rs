//! A terminal opened inside: only one of the sandbox's own `/dev/pts` has a name there, so that `tty` works and programs can open it again.

use std::io;
use std::os::fd::OwnedFd;

use agent::protocol::TerminalSize;
use rustix::fs::{Mode, OFlags, open};
use rustix::process::Pid;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{InputModes, OptionalActions, Winsize, tcgetattr, tcgetpgrp, tcsetattr, tcsetwinsize};

/// Where terminals are made. `/dev/ptmx` is only a link to it, in a directory whose entries a job may exchange; this one is of the file
/// system that is mounted there and cannot be.
const MULTIPLEXER: &str = "/dev/pts/ptmx";

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
pub(crate) fn resize(master: &OwnedFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(master, size)?)
}

/// The group in the foreground, if there is one.
pub(crate) fn foreground(master: &OwnedFd) -> Option<Pid> {
    tcgetpgrp(master).ok()
}
