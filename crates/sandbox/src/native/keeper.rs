//! Looks after the network process of a sandbox: one that ends before the sandbox does (it was killed, the machine ran out of memory, it met
//! a fault of ours) takes the interface and all connections inside with it. It is told to the log, and another is started in its place, by
//! which new connections are made; those that were open are lost.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio_util::task::AbortOnDropHandle;

use super::state::Record;
use super::{Inner, blocking};

/// The pause before another process is started; it doubles each time...
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// ...up to this, and begins anew after a process that worked for as long.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What came of starting another process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It works.
    Started,
    /// There is one.
    Needless,
    /// The sandbox is at its end.
    Over,
}

/// Looks after a sandbox that has a network, as long as what is answered is kept.
pub(super) fn keep(inner: Arc<Inner>, record: Record) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut pause = FIRST_PAUSE;
        loop {
            let began = Instant::now();
            if let Some(pid) = record.groups.network()
                && let Err(error) = ended(&record, pid).await
            {
                tracing::warn!(sandbox = %record.id, %error, "the network process cannot be watched");
            }
            if began.elapsed() >= LONGEST_PAUSE {
                pause = FIRST_PAUSE;
            }
            tokio::time::sleep(pause).await;
            pause = LONGEST_PAUSE.min(pause * 2);
            let (starting, of) = (inner.clone(), record.clone());
            match blocking(move || starting.renew_network(&of)).await {
                Ok(Renewal::Started) => tracing::warn!(
                    sandbox = %record.id,
                    "the network process ended: another was started, and connections that were open are lost"
                ),
                Ok(Renewal::Needless) => {}
                Ok(Renewal::Over) => return,
                Err(error) => tracing::error!(sandbox = %record.id, %error, "the sandbox is without its network"),
            }
        }
    }))
}

/// Waits until the network process of this number has ended.
async fn ended(record: &Record, pid: i32) -> io::Result<()> {
    let Some(number) = Pid::from_raw(pid) else { return Ok(()) };
    let handle = match pidfd_open(number, PidfdFlags::NONBLOCK) {
        // SAFETY: an owned descriptor has the same number until it is dropped, which is after it was given back.
        Ok(handle) => unsafe { AsyncFd::register_with_interest(handle, Interest::READABLE) }?,
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // the number may have become another process's before it was opened
    if record.groups.network() == Some(pid) {
        handle.readable().await?.retain_ready();
    }
    Ok(())
}
