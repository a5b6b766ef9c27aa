//! Notices when something that must not end has ended. A panic is a bug, wherever it happens: what the task or thread was in the middle of
//! is unknown, and nobody does its work any more. So it is logged with its place, and ends the daemon with an error, for the service
//! manager to start it again; a restart is safe at any moment, since what counts is on disk before it is acted on.

use std::{
    panic::{self, PanicHookInfo},
    sync::{Arc, OnceLock},
    thread,
};
use tokio_util::sync::CancellationToken;

/// The faults of this process. Clones speak of the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    first: Arc<OnceLock<String>>,
    happened: CancellationToken,
}

impl Faults {
    /// From now on every panic of this process is noticed.
    pub(crate) fn watch() -> Self {
        let (faults, earlier) = (Self::default(), panic::take_hook());
        let told = faults.clone();
        panic::set_hook(Box::new(move |panic| {
            let words = words(panic);
            tracing::error!(backtrace = %std::backtrace::Backtrace::capture(), "{words}: this is a bug, please report it");
            if !tracing::dispatcher::has_been_set() {
                earlier(panic);
            }
            told.happened(words);
        }));
        faults
    }

    /// Takes note of a fault; the first is the one that is told.
    fn happened(&self, words: String) {
        // those that follow from it would only hide it
        let _ = self.first.set(words);
        self.happened.cancel();
    }

    /// Waits for the first fault, and says what it was.
    pub(crate) async fn next(&self) -> String {
        self.happened.cancelled().await;
        self.first.get().cloned().unwrap_or_default()
    }
}

fn words(panic: &PanicHookInfo<'_>) -> String {
    let message = panic.payload_as_str().unwrap_or("no message");
    let place = panic.location().map_or_else(|| "somewhere".to_owned(), |place| place.to_string());
    let current = thread::current();
    format!("panic in thread {} at {place}: {message}", current.name().unwrap_or("without a name"))
}
