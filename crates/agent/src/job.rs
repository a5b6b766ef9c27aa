//! The one main job of a sandbox: started once under a key, its output kept, its end remembered for whoever asks later.

use std::io::{self, Read};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use agent::protocol::{Command, Exit, Failure, FailureKind, JobState, Stream};
use rustix::process::Pid;

use crate::children::{Children, StartError, Streams, kill_all, signal_group};
use crate::log::Log;
use crate::user::{ROOT, User};
use crate::{lock, now_ms, thread};

/// How long after the job's end its streams may stay open in left-over processes before the log is closed without them.
const DRAIN: Duration = Duration::from_secs(2);

/// How much of a stream becomes one record at most.
const READ: usize = 32 * 1024;

/// Bytes below which a disk counts as full: a write that failed for want of room was seen to leave 12 KiB on a large disk, and on one of
/// 32 MiB, whose own needs weigh more, 117 KiB.
const FULL: u64 = 256 * 1024;

/// The job, if any.
pub(crate) struct Job {
    inner: Mutex<Inner>,
    changed: Condvar,
    children: Arc<Children>,
    /// What it writes.
    pub(crate) log: Log,
}

struct Inner {
    key: Option<String>,
    leader: Option<Pid>,
    state: JobState,
}

impl Job {
    /// No job yet; a log of this many bytes.
    pub(crate) fn new(children: Arc<Children>, log_ring: usize) -> Job {
        let inner = Inner { key: None, leader: None, state: JobState::NotStarted };
        Job { inner: Mutex::new(inner), changed: Condvar::new(), children, log: Log::new(log_ring) }
    }

    /// Starts the job, or finds the one already started under this key: then `true`.
    /// `give` gives another user than root the files that are there for the job.
    pub(crate) fn start(
        self: &Arc<Job>,
        key: &str,
        command: Command,
        user: Option<&str>,
        give: &dyn Fn(&User) -> io::Result<()>,
    ) -> Result<bool, Failure> {
        let mut inner = lock(&self.inner);
        match &inner.key {
            Some(known) if known == key => return Ok(true),
            Some(_) => {
                let message = "this sandbox already has a job under another key; a sandbox runs one job".into();
                return Err(Failure { kind: FailureKind::AlreadyStarted, message });
            }
            None => {}
        }
        let started_ms = now_ms();
        let (told, ended) = sync_channel(1);
        let told = move |exit| {
            let _ = told.try_send(exit);
        };
        let started = as_user(command, user, give)
            .and_then(|(command, user)| self.children.start(&command, user.as_ref(), Streams::Outputs, told));
        match started {
            Ok(mut started) => {
                inner.leader = Some(started.pid);
                inner.state = JobState::Running { started_ms };
                let (sender, drained) = sync_channel(2);
                let stdout = started.child.stdout.take().map(|pipe| self.pump(Stream::Stdout, pipe, sender.clone()));
                let stderr = started.child.stderr.take().map(|pipe| self.pump(Stream::Stderr, pipe, sender));
                let job = self.clone();
                let waiter = thread("job", move || {
                    let exit = ended.recv().unwrap_or(Exit::Signal { signal: libc::SIGKILL });
                    // What the job left behind in its group would go on using the machine unpaid.
                    let _ = signal_group(started.pid, libc::SIGKILL);
                    let deadline = Instant::now() + DRAIN;
                    while let Err(RecvTimeoutError::Timeout) | Ok(()) =
                        drained.recv_timeout(deadline.saturating_duration_since(Instant::now()))
                    {
                        if Instant::now() >= deadline {
                            break;
                        }
                    }
                    job.finish(started_ms, exit);
                });
                let failed =
                    [stdout.transpose().err(), stderr.transpose().err(), waiter.err()].into_iter().flatten().next();
                if let Some(error) = failed {
                    // Without its threads nobody would see the job end: end it here and say so.
                    kill_all();
                    inner.state = JobState::Ended {
                        started_ms,
                        ended_ms: now_ms(),
                        exit: Exit::Signal { signal: libc::SIGKILL },
                        disk_full: false,
                    };
                    inner.key = Some(key.into());
                    self.log.close();
                    return Err(Failure { kind: FailureKind::Io, message: format!("no thread for the job: {error}") });
                }
            }
            Err(StartError::Program(code, message)) => {
                self.log.push(Stream::Stderr, format!("gpulease: {message}\n").into_bytes());
                self.log.close();
                let exit = Exit::Code { code };
                inner.state = JobState::Ended { started_ms, ended_ms: now_ms(), exit, disk_full: false };
                self.changed.notify_all();
            }
            Err(StartError::System(message)) => return Err(Failure { kind: FailureKind::Io, message }),
        }
        inner.key = Some(key.into());
        Ok(false)
    }

    fn pump(
        self: &Arc<Job>,
        stream: Stream,
        mut pipe: impl Read + Send + 'static,
        drained: SyncSender<()>,
    ) -> std::io::Result<std::thread::JoinHandle<()>> {
        let job = self.clone();
        thread("log", move || {
            let mut buffer = vec![0; READ];
            loop {
                match pipe.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => job.log.push(stream, buffer[..n].to_vec()),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                    Err(_) => break,
                }
            }
            let _ = drained.try_send(());
        })
    }

    fn finish(&self, started_ms: u64, exit: Exit) {
        self.log.close();
        let mut inner = lock(&self.inner);
        inner.leader = None;
        let disk_full = exit != Exit::Code { code: 0 } && disk_is_full();
        inner.state = JobState::Ended { started_ms, ended_ms: now_ms(), exit, disk_full };
        self.changed.notify_all();
    }

    /// How the job is doing.
    pub(crate) fn state(&self) -> JobState {
        lock(&self.inner).state
    }

    /// Waits up to `patience` for the end of the job.
    pub(crate) fn wait(&self, patience: Duration) -> Option<Exit> {
        let running = |inner: &mut Inner| !matches!(inner.state, JobState::Ended { .. });
        let waited = self.changed.wait_timeout_while(lock(&self.inner), patience, running);
        match waited.unwrap_or_else(PoisonError::into_inner).0.state {
            JobState::Ended { exit, .. } => Some(exit),
            _ => None,
        }
    }

    /// Signals the job's process group.
    pub(crate) fn signal(&self, signal: i32) -> Result<(), Failure> {
        let inner = lock(&self.inner);
        match (inner.leader, inner.state) {
            (Some(leader), _) => signal_group(leader, signal)
                .map_err(|error| Failure { kind: FailureKind::Io, message: format!("signal {signal}: {error}") }),
            (None, JobState::NotStarted) => {
                Err(Failure { kind: FailureKind::NotStarted, message: "there is no job to signal".into() })
            }
            (None, _) => Ok(()),
        }
    }
}

/// The command as the user that is named runs it, to whom the files of the job have been given.
fn as_user(
    mut command: Command,
    named: Option<&str>,
    give: &dyn Fn(&User) -> io::Result<()>,
) -> Result<(Command, Option<User>), StartError> {
    let Some(named) = named else { return Ok((command, None)) };
    let user = User::inside(named).map_err(|why| StartError::Program(126, why))?;
    give(&user).map_err(|error| StartError::System(format!("the files of the job, for the user {named}: {error}")))?;
    command.env.retain(|(name, value)| !(name == "USER" && value == ROOT));
    let is_told = command.env.iter().any(|(name, _)| name == "USER");
    command.env.extend(user.name.clone().filter(|_| !is_told).map(|name| ("USER".into(), name)));
    Ok((command, Some(user)))
}

/// True when nothing that matters, or no file at all, could be written to the sandbox's disk any more.
fn disk_is_full() -> bool {
    rustix::fs::statvfs("/").is_ok_and(|disk| disk.f_bavail * disk.f_frsize < FULL || disk.f_favail == 0)
}

/// Ends a running job, gently first, and kills whatever else runs in the sandbox.
pub(crate) fn stop(job: &Job, grace: Duration) {
    if let JobState::Running { .. } = job.state() {
        let _ = job.signal(libc::SIGTERM);
        let _ = job.wait(grace);
    }
    kill_all();
    if let JobState::Running { .. } = job.state() {
        let _ = job.wait(DRAIN * 2);
    }
}
