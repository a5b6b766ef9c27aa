//! What a rental uses, second by second. Somebody has to have asked before there is a curve to show, so the samples of a rental are gathered
//! from the moment a page first asks, and for a while after the last one did: a page that is loaded anew shows its curves at once.

use super::{Shared, rentals::Rental};
use crate::{
    control::Control,
    server::{Answer, unreadable},
    types::{ApiError, Visitor},
};
use access::{AccessError, guest::Guest};
use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use futures::StreamExt;
use market::{id::RentalId, time::UnixMillis};
use serde::{Deserialize, Serialize};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};
use wire::proto;

/// Samples kept of each rental: ten minutes, one a second.
pub(crate) const MAX_SAMPLES: usize = 600;
/// Rentals that are watched at once; beyond it a page shows no curves.
pub(crate) const MAX_WATCHED: usize = 64;
/// A page asks every second: a minute after the last question nobody looks.
const WATCH: Duration = Duration::from_secs(60);
/// Between two attempts to have the machine tell.
const PAUSE: Duration = Duration::from_secs(3);

/// What a rental used at a moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct UsageSample {
    /// Counts the samples.
    number: u64,
    /// When it arrived, Unix milliseconds.
    at: u64,
    /// Processor time used since the sandbox started, in milliseconds.
    cpu_millis: u64,
    /// Memory in use.
    memory_bytes: u64,
    /// Disk in use.
    disk_bytes: u64,
    /// Bytes received so far.
    network_received_bytes: u64,
    /// Bytes sent so far.
    network_sent_bytes: u64,
    /// Its GPUs, in order. What a driver does not measure is absent.
    gpus: Vec<GpuSample>,
}

/// What one GPU of it did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct GpuSample {
    /// How busy it was, of 100.
    utilisation_percent: Option<u32>,
    /// Memory in use.
    memory_bytes: Option<u64>,
    /// How hot it is.
    celsius: Option<u32>,
    /// What it draws.
    milliwatts: Option<u32>,
}

/// Samples that a page has not seen yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct UsagePage {
    /// Oldest first.
    samples: Vec<UsageSample>,
    /// Why no more come, if none do.
    failure: Option<String>,
}

/// Everything that is watched.
pub(super) struct Watch {
    control: Arc<dyn Control>,
    watched: Mutex<HashMap<RentalId, Watched>>,
    cancel: CancellationToken,
}

struct Watched {
    samples: Arc<Mutex<Samples>>,
    asked: Instant,
    cancel: CancellationToken,
}

#[derive(Debug, Default)]
struct Samples {
    newest: VecDeque<UsageSample>,
    next: u64,
    failure: Option<String>,
}

impl Samples {
    fn push(&mut self, usage: &proto::Usage) {
        if self.newest.len() == MAX_SAMPLES {
            self.newest.pop_front();
        }
        self.newest.push_back(sample(self.next, UnixMillis::now().0, usage));
        self.next += 1;
        self.failure = None;
    }

    fn from(&self, number: u64) -> UsagePage {
        let samples = self.newest.iter().filter(|sample| sample.number >= number).cloned().collect();
        UsagePage { samples, failure: self.failure.clone() }
    }
}

fn sample(number: u64, at: u64, usage: &proto::Usage) -> UsageSample {
    let gpu = |gpu: &proto::GpuUsage| GpuSample {
        utilisation_percent: gpu.utilisation_percent,
        memory_bytes: gpu.memory_bytes,
        celsius: gpu.celsius,
        milliwatts: gpu.milliwatts,
    };
    UsageSample {
        number,
        at,
        cpu_millis: usage.cpu_millis,
        memory_bytes: usage.memory_bytes,
        disk_bytes: usage.disk_bytes,
        network_received_bytes: usage.network_received_bytes,
        network_sent_bytes: usage.network_sent_bytes,
        gpus: usage.gpus.iter().map(gpu).collect(),
    }
}

impl Watch {
    pub(super) fn new(control: Arc<dyn Control>, cancel: CancellationToken) -> Self {
        Self { control, watched: Mutex::default(), cancel }
    }

    /// Samples of `rental` from a number on. Whoever asks first begins the watching.
    fn samples(&self, rental: RentalId, from: u64, now: Instant) -> UsagePage {
        let mut watched = self.watched();
        if let Some(watched) = watched.get_mut(&rental) {
            watched.asked = now;
            return lock(&watched.samples).from(from);
        }
        if watched.len() >= MAX_WATCHED {
            return UsagePage { failure: Some("too many rentals are looked at".to_owned()), ..UsagePage::default() };
        }
        let samples = Arc::<Mutex<Samples>>::default();
        let cancel = self.cancel.child_token();
        let gathering = gather(Arc::clone(&self.control), rental, Arc::clone(&samples));
        tokio::spawn(cancel.clone().run_until_cancelled_owned(gathering));
        watched.insert(rental, Watched { samples, asked: now, cancel });
        UsagePage::default()
    }

    /// Ends what nobody looks at any more.
    pub(super) fn sweep(&self, now: Instant) {
        self.watched().retain(|_, watched| {
            let wanted = now.saturating_duration_since(watched.asked) < WATCH;
            if !wanted {
                watched.cancel.cancel();
            }
            wanted
        });
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<RentalId, Watched>> {
        lock(&self.watched)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the machine tell, again and again, since its connection may break.
async fn gather(control: Arc<dyn Control>, rental: RentalId, samples: Arc<Mutex<Samples>>) {
    loop {
        let failure = match control.door(rental.to_string(), Visitor::Console).await {
            Ok(door) => follow(&Guest::new(door), &samples).await.err().map(|error| error.to_string()),
            Err(error) => Some(error.message),
        };
        lock(&samples).failure = failure;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow(guest: &Guest, samples: &Mutex<Samples>) -> Result<(), AccessError> {
    let mut stats = guest.usage().await?;
    while let Some(usage) = stats.next().await {
        lock(samples).push(&usage?);
    }
    Ok(())
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// The first number that was not seen yet.
    #[serde(default)]
    from: u64,
}

/// What a rental uses, as far as it was not seen yet.
#[utoipa::path(get, path = "/rentals/{rental}/usage", params(("rental" = String, Path, description = "Its id."), From), responses(
    (status = 200, body = UsagePage), (status = "default", body = ApiError)
))]
pub(super) async fn usage(
    State(shared): State<Shared>,
    Rental(rental): Rental,
    from: Result<Query<From>, QueryRejection>,
) -> Answer<UsagePage> {
    let Query(From { from }) = from.map_err(|error| unreadable(&error))?;
    Ok(Json(shared.usage.samples(rental, from, Instant::now())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_given_what_it_has_not_seen_and_the_oldest_go() {
        let mut samples = Samples::default();
        for second in 0..MAX_SAMPLES as u64 + 2 {
            samples.push(&proto::Usage { cpu_millis: second, ..proto::Usage::default() });
        }
        assert_eq!(samples.from(0).samples.len(), MAX_SAMPLES);
        assert_eq!(samples.from(0).samples[0].number, 2);
        let unseen = samples.from(MAX_SAMPLES as u64 + 1).samples;
        assert_eq!(unseen.iter().map(|sample| sample.cpu_millis).collect::<Vec<_>>(), [MAX_SAMPLES as u64 + 1]);
    }

    #[test]
    fn a_gpu_that_measures_little_says_little() {
        let gpus = vec![proto::GpuUsage { utilisation_percent: Some(80), ..proto::GpuUsage::default() }];
        let sample = sample(0, 1, &proto::Usage { gpus, ..proto::Usage::default() });
        assert_eq!(sample.gpus[0].utilisation_percent, Some(80));
        assert_eq!(sample.gpus[0].celsius, None);
    }
}
