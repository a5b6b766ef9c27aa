//! An extra process with its streams on one connection: output flows separately and at once, input and signals come back, and when the
//! asker vanishes the process group is killed, so that nothing runs on unseen.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent::protocol::{Command, Exit, Failure, FailureKind, Frame, MAX_DATA, Reply, Stream};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Pid;

use crate::children::{StartError, signal_group};
use crate::connection::Stop;
use crate::{Agent, lock, thread};

/// How long after the process's end its streams may stay open in left-over processes before the answer is sent without them.
const DRAIN: Duration = Duration::from_secs(1);

/// Runs a command on this connection until it has ended or the asker is gone.
pub(crate) fn serve(agent: &Agent, socket: &mut UnixStream, command: &Command) -> Result<(), Stop> {
    let mut started = match agent.children.start(command, Stdio::piped()) {
        Ok(started) => started,
        Err(StartError::Program(code, message)) => {
            Frame::Output(Stream::Stderr, format!("gpulease: {message}\n").into_bytes()).write(socket)?;
            Frame::Reply(Reply::Ended { exit: Exit::Code { code } }).write(socket)?;
            return Ok(());
        }
        Err(StartError::System(message)) => return Err(Failure { kind: FailureKind::Io, message }.into()),
    };
    let pid = started.pid;
    let run = || -> io::Result<()> {
        let output = Arc::new(Mutex::new(socket.try_clone()?));
        let (sender, drained) = sync_channel(2);
        if let Some(pipe) = started.child.stdout.take() {
            pump(Stream::Stdout, pipe, output.clone(), sender.clone())?;
        }
        if let Some(pipe) = started.child.stderr.take() {
            pump(Stream::Stderr, pipe, output.clone(), sender)?;
        }
        let stdin = started.child.stdin.take();
        let children = agent.children.clone();
        thread("exec", move || {
            let exit = children.wait(&started);
            let deadline = Instant::now() + DRAIN;
            // until both streams are drained, or the time is over
            while drained.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
            let mut output = lock(&output);
            let _ = Frame::Reply(Reply::Ended { exit }).write(&mut *output);
            // Wakes the thread that reads the asker's frames; what was written is still delivered.
            let _ = output.shutdown(std::net::Shutdown::Both);
        })?;
        receive(socket, pid, stdin)
    };
    let result = run();
    // The asker is gone, or the process has ended and its group with it.
    if result.is_err() || !ended(pid) {
        let _ = signal_group(pid, libc::SIGKILL);
    }
    Ok(result?)
}

/// True when the process no longer exists as a child of ours.
fn ended(pid: Pid) -> bool {
    rustix::process::test_kill_process(pid).is_err()
}

fn pump(
    stream: Stream,
    mut pipe: impl Read + Send + 'static,
    output: Arc<Mutex<UnixStream>>,
    drained: SyncSender<()>,
) -> io::Result<()> {
    thread("output", move || {
        let mut buffer = vec![0; MAX_DATA];
        loop {
            match pipe.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => {
                    if Frame::Output(stream, buffer[..n].to_vec()).write(&mut *lock(&output)).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        let _ = drained.try_send(());
    })?;
    Ok(())
}

/// Takes the asker's frames until it closes or the process has ended.
fn receive(socket: &mut UnixStream, pid: Pid, mut stdin: Option<ChildStdin>) -> io::Result<()> {
    if let Some(stdin) = &stdin {
        rustix::io::ioctl_fionbio(stdin, true)?;
    }
    while let Some(frame) = Frame::read(socket)? {
        match frame {
            Frame::Data(bytes) => {
                if let Some(pipe) = &mut stdin
                    && feed(pipe, socket, &bytes).is_err()
                {
                    stdin = None;
                }
            }
            Frame::End => stdin = None,
            Frame::Signal(signal) => signal_group(pid, signal)?,
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    Ok(())
}

/// Writes to a process that may not be reading, while watching whether the asker is still there.
fn feed(pipe: &mut ChildStdin, socket: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match pipe.write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut watched =
                    [PollFd::from_borrowed_fd(pipe.as_fd(), PollFlags::OUT), PollFd::new(socket, PollFlags::RDHUP)];
                poll(&mut watched, None)?;
                if !watched[1].revents().is_empty() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
