//! The sandbox of a rental as a machine to be checked: the program comes with this node, is put into the sandbox as a file, started, and removed
//! as soon as it runs.

use super::challenge::{Machine, Started};
use access::{
    AccessError,
    files::{Files, MAX_PIECE, OpenMode},
    guest::{Guest, Program},
};
use futures::{
    FutureExt, StreamExt, TryFutureExt,
    future::{BoxFuture, try_join_all},
};
use market::offer::Hardware;
use std::{path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

/// The program, linked statically: it runs in every image, and has no way to a card.
const FOR_PROCESSORS: &[u8] = include_bytes!(env!("CHALLENGE_STATIC"));

/// The program as it can load a card's driver: the image needs a C library, which every image with CUDA has.
const FOR_CARDS: &[u8] = include_bytes!(env!("CHALLENGE_DYNAMIC"));

/// Where the program is put: there is no image in which programs could do without this directory.
const FOLDER: &str = "/tmp";

/// What is kept of the program's complaints.
const MAX_COMPLAINT_BYTES: u64 = 512;

/// How long the removal of its file may take, and its last words: nothing hangs on them.
const TIDY_WAIT: Duration = Duration::from_secs(2);

/// How long three reports of what the sandbox uses may take, which come once a second.
const USAGE_WAIT: Duration = Duration::from_secs(4);

/// More than this part of the slot's processors, or of a card's time, in percent, and the renter's own programs disturb a measurement: the
/// check is to reach sixty percent of what it reaches alone.
const BUSY_PERCENT: u64 = 25;

/// A sandbox.
pub(super) struct Inside {
    guest: Guest,
    cpu_millis: u64,
    has_cards: bool,
}

impl Inside {
    pub(super) fn new(guest: Guest, hardware: &Hardware) -> Self {
        Self { guest, cpu_millis: u64::from(hardware.cpu_millis.max(1)), has_cards: !hardware.gpus.is_empty() }
    }

    async fn run(&self) -> Result<Started, AccessError> {
        let program = if self.has_cards { FOR_CARDS } else { FOR_PROCESSORS };
        let name = format!("gpulease-check-{:016x}", rand::random::<u64>());
        let path = PathBuf::from(FOLDER).join(name);
        let files = self.guest.files().await?;
        let mode = OpenMode { write: true, create: true, exclusive: true, permissions: 0o700, ..OpenMode::default() };
        let file = files.open(&path, mode).await?;
        let pieces = program.chunks(MAX_PIECE).zip((0u64..).step_by(MAX_PIECE));
        let written = try_join_all(pieces.map(|(piece, offset)| file.write(offset, piece.to_vec()))).await;
        // a file that is open for writing cannot be started
        let closed = file.close().await;
        let started = match written.and(closed) {
            Ok(()) => self.start_file(&path).await,
            Err(error) => Err(error.into()),
        };
        match started {
            Ok(process) => Ok(Started {
                input: process.stdin,
                output: process.stdout,
                arrived: remove(files, path).boxed(),
                complaint: tokio::spawn(complaint(process.stderr)).unwrap_or_else(|_| String::new()).boxed(),
                _life: Box::new(process.running),
            }),
            Err(error) => {
                remove(files, path).await;
                Err(error)
            }
        }
    }

    async fn start_file(&self, path: &std::path::Path) -> Result<access::guest::Process, AccessError> {
        let processors = self.cpu_millis.div_ceil(1_000);
        let argv = vec![path.to_string_lossy().into_owned(), processors.to_string()];
        self.guest.exec(Program { argv, cwd: Some(FOLDER.to_owned()), ..Program::default() }).await
    }

    /// Processor time in percent of the slot's, and the busiest card's, over a second.
    async fn used_percent(&self) -> Option<u64> {
        let mut reports = self.guest.usage().await.ok()?;
        // the first is of some time ago, when the check itself may still have been at work
        reports.next().await?.ok()?;
        let (first, since) = (reports.next().await?.ok()?, std::time::Instant::now());
        let second = reports.next().await?.ok()?;
        let millis = (since.elapsed().as_millis() as u64).max(1);
        let processors = second.cpu_millis.saturating_sub(first.cpu_millis) * 100_000 / (millis * self.cpu_millis);
        let cards = second.gpus.iter().filter_map(|card| card.utilisation_percent).max();
        Some(processors.max(u64::from(cards.unwrap_or_default())))
    }
}

impl Machine for Inside {
    fn start(&self) -> BoxFuture<'_, Result<Started, String>> {
        self.run().map_err(|error| error.to_string()).boxed()
    }

    fn is_busy(&self) -> BoxFuture<'_, bool> {
        async {
            let used = timeout(USAGE_WAIT, self.used_percent()).await;
            // where nothing is told nothing is held against anybody
            used.ok().flatten().is_none_or(|percent| percent > BUSY_PERCENT)
        }
        .boxed()
    }
}

async fn remove(files: Files, path: PathBuf) {
    // what stays is a megabyte in a sandbox that ends with its rental
    let _ = timeout(TIDY_WAIT, files.remove(path)).await;
}

/// The beginning of what a program complains of. All of it is read, for the program's output waits for that.
async fn complaint(mut errors: impl AsyncRead + Unpin) -> String {
    let mut told = Vec::new();
    let _ = (&mut errors).take(MAX_COMPLAINT_BYTES).read_to_end(&mut told).await;
    let _ = tokio::io::copy(&mut errors, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&told).trim().to_owned()
}
