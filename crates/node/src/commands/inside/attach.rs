//! Runs a program in the rental with this command's own streams: what is typed goes there, what it writes comes here, and its end is ours.

use super::{Failed, OURS, failed, terminal};
use access::{
    AccessError,
    guest::{Guest, Process, Program},
};
use api::types::{ApiError, ErrorKind};
use sandbox::{ByteReader, ByteWriter, Exit};
use std::{
    future::pending,
    io::{self, IsTerminal, stdin},
};
use terminal::{Raw, Screen, WayOut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest},
    signal::unix::{Signal, SignalKind, signal},
};

/// Bytes carried at once.
const BUFFER: usize = 32 * 1024;
/// The signals that are passed on to the program, by their numbers on every Linux.
const INTERRUPT: i32 = 2;
const QUIT: i32 = 3;
const TERMINATE: i32 = 15;

/// Runs it, and exits as it does.
pub(super) async fn attach(guest: Guest, program: Program) -> Result<u8, Failed> {
    let in_terminal = program.terminal.is_some();
    let mut signals = Signals::listen()?;
    let process = guest.exec(program).await.map_err(|error| failed(&error))?;
    let controls = process.running.controls();
    let raw = if in_terminal { Raw::enter() } else { None };
    let mut leave = false;
    let exit = {
        let watches = in_terminal && stdin().is_terminal();
        let carrying = carry(process, watches);
        tokio::pin!(carrying);
        loop {
            tokio::select! {
                exit = &mut carrying => break exit,
                heard = signals.next() => match heard {
                    Heard::Resized => controls.resize(terminal::size()).await,
                    Heard::Signal(signal) => controls.signal(signal).await,
                    Heard::HangUp => { leave = true; controls.hang_up(); }
                },
            }
        }
    };
    drop(raw);
    match exit {
        Ok(Some(exit)) => Ok(u8::try_from(exit.shell_code()).unwrap_or(u8::MAX)),
        Ok(None) => {
            crate::output::note("left; what ran there is hung up");
            Ok(OURS)
        }
        Err(_) if leave => Ok(OURS),
        Err(error) => Err(Failed { error: failed(&error), code: OURS }),
    }
}

/// Carries the three streams until the program has ended and all it wrote is here; `None` when the person left.
async fn carry(process: Process, watches: bool) -> Result<Option<Exit>, AccessError> {
    let Process { stdin, stdout, stderr, mut running } = process;
    let (keys, screen) = (typed(), shown());
    let ending = async { tokio::join!(running.wait(), show(stdout, screen), show(stderr, tokio::io::stderr())).0 };
    tokio::select! {
        exit = ending => exit.map(Some),
        () = type_in(keys, stdin, watches) => Ok(None),
    }
}

/// Where keys come from: the terminal itself, if it is one.
fn typed() -> Box<dyn AsyncRead + Unpin> {
    match Screen::of(&io::stdin(), Interest::READABLE) {
        Ok(screen) if stdin().is_terminal() => Box::new(screen),
        _ => Box::new(tokio::io::stdin()),
    }
}

/// Where output goes, likewise.
fn shown() -> Box<dyn AsyncWrite + Unpin> {
    match Screen::of(&io::stdout(), Interest::WRITABLE) {
        Ok(screen) if io::stdout().is_terminal() => Box::new(screen),
        _ => Box::new(tokio::io::stdout()),
    }
}

/// Passes on what is typed. Returns only when the person wants to leave.
async fn type_in(mut from: impl AsyncRead + Unpin, mut to: ByteWriter, watches: bool) {
    let mut way_out = WayOut::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        let keys = buffer.get(..read).unwrap_or_default();
        if watches && way_out.in_keys(keys) {
            return;
        }
        // A program that reads no more is no reason to end: it may still write.
        if read == 0 || to.write_all(keys).await.is_err() {
            let _ = to.shutdown().await;
            return pending().await;
        }
    }
}

/// Passes on what is written, as it comes. Whoever read it may have seen enough; the program is then not held up.
async fn show(mut from: ByteReader, mut to: impl AsyncWrite + Unpin) {
    let mut buffer = vec![0; BUFFER];
    let mut wanted = true;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if wanted {
            wanted = to.write_all(buffer.get(..read).unwrap_or_default()).await.is_ok() && to.flush().await.is_ok();
        }
    }
}

/// What the system tells this command.
enum Heard {
    Resized,
    Signal(i32),
    HangUp,
}

struct Signals {
    resized: Signal,
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self, ApiError> {
        let on = |kind| {
            signal(kind).map_err(|error| ApiError::new(ErrorKind::Failed, format!("cannot hear signals: {error}"), ""))
        };
        Ok(Self {
            resized: on(SignalKind::window_change())?,
            interrupt: on(SignalKind::interrupt())?,
            quit: on(SignalKind::quit())?,
            terminate: on(SignalKind::terminate())?,
            hang_up: on(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Heard {
        tokio::select! {
            _ = self.resized.recv() => Heard::Resized,
            _ = self.interrupt.recv() => Heard::Signal(INTERRUPT),
            _ = self.quit.recv() => Heard::Signal(QUIT),
            _ = self.terminate.recv() => Heard::Signal(TERMINATE),
            _ = self.hang_up.recv() => Heard::HangUp,
        }
    }
}
