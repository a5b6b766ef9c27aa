//! Reconciliation as a part of the daemon: one task that answers other indexers, and reconciles with them in turn.

use super::{
    ad_id::AdId,
    client::{Client, Report, SyncError},
    ledger::Ledger,
    schedule::{Outcome, Schedule},
    server::{Reply, Server},
};
use market::{
    refusal::{Refusal, RefusalCode},
    time::UnixMillis,
};
use network::{Handle, IncomingSync, PeerId};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use wire::SyncAnswer;

/// Lists of what others say we lack that wait to be fetched: at most 4,096 names of 32 bytes in each.
const MAX_TOLD: usize = 32;

/// What reconciliation needs.
#[derive(Debug)]
pub struct Parts {
    /// The network, with [`Parts::ledger`] as its observer.
    pub network: Handle,
    /// What the book holds.
    pub ledger: Arc<Ledger>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// Starts to reconcile with every indexer that this node is connected to, and to answer those that want to. `None` when somebody else
/// answers them already.
pub fn start(parts: Parts) -> Option<JoinHandle<()>> {
    let requests = parts.network.sync_requests()?;
    let (told, to_fetch) = mpsc::channel(MAX_TOLD);
    let schedule = Arc::new(Mutex::new(Schedule::new(rand::random())));
    let answering = Answering {
        network: parts.network.clone(),
        ledger: Arc::clone(&parts.ledger),
        server: Server::new(),
        schedule: Arc::clone(&schedule),
        told,
    };
    let asking = Asking { client: Client { network: parts.network, ledger: parts.ledger }, schedule, to_fetch };
    Some(tokio::spawn(async move {
        tokio::select! {
            () = parts.cancel.cancelled() => {}
            () = answering.run(requests) => {}
            () = asking.run() => {}
        }
    }))
}

fn lock(schedule: &Mutex<Schedule>) -> MutexGuard<'_, Schedule> {
    schedule.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The side that is asked.
struct Answering {
    network: Handle,
    ledger: Arc<Ledger>,
    server: Server,
    schedule: Arc<Mutex<Schedule>>,
    told: mpsc::Sender<(PeerId, Vec<AdId>)>,
}

impl Answering {
    async fn run(mut self, mut requests: mpsc::Receiver<IncomingSync>) {
        while let Some(incoming) = requests.recv().await {
            let answer = self.answer(incoming.peer, incoming.request).unwrap_or_else(SyncAnswer::Refused);
            // whoever asked may have gone
            let _ = incoming.reply.send(wire::sync_answer_to_proto(answer));
        }
    }

    fn answer(&mut self, peer: PeerId, request: wire::proto::SyncRequest) -> Result<SyncAnswer, Refusal> {
        let now = Instant::now();
        if lock(&self.schedule).is_aside(&peer, now) {
            return Err(Refusal::new(RefusalCode::BadRequest, "what you sent made no sense, come back in an hour"));
        }
        let ask = wire::sync_from_proto(request);
        let ask = ask.map_err(|error| Refusal::new(RefusalCode::BadRequest, error.to_string()))?;
        let opens = matches!(ask, wire::SyncAsk::Open { .. });
        let reply = self.server.answer(peer, ask, &self.ledger, UnixMillis::now(), now)?;
        if opens {
            lock(&self.schedule).served(peer, now);
        }
        match reply {
            Reply::Say(answer) => Ok(answer),
            Reply::Send(holders) => {
                let held = holders.into_iter().map(|holder| self.network.signed_ad(&holder?).map(|raw| raw.to_vec()));
                Ok(wire::sync_ads(held))
            }
            Reply::Note(ids) if ids.is_empty() => Ok(SyncAnswer::Noted),
            Reply::Note(ids) => match self.told.try_send((peer, ids)) {
                Ok(()) => Ok(SyncAnswer::Noted),
                Err(_) => Err(Refusal::new(RefusalCode::RateLimited, "too much is being fetched, try again later")),
            },
        }
    }
}

/// The side that asks. One thing at a time: a node that is behind must not be buried by those that want to help it.
struct Asking {
    client: Client,
    schedule: Arc<Mutex<Schedule>>,
    to_fetch: mpsc::Receiver<(PeerId, Vec<AdId>)>,
}

impl Asking {
    async fn run(mut self) {
        let (network, schedule) = (self.client.network.clone(), Arc::clone(&self.schedule));
        loop {
            let (peer, done) = tokio::select! {
                told = self.to_fetch.recv() => match told {
                    Some((peer, ids)) => (peer, self.fetch(peer, ids).await),
                    None => return,
                },
                peer = next_turn(&network, &schedule) => match peer {
                    Some(peer) => (peer, Some(self.client.reconcile(peer).await)),
                    None => return,
                },
            };
            if let Some(done) = done {
                report(&peer, &done);
                let outcome = done.as_ref().map_or_else(SyncError::outcome, |_| Outcome::Compared);
                lock(&self.schedule).ended(peer, outcome, Instant::now());
            }
        }
    }

    /// Fetches what a peer said is lacked here; nothing of one that has cheated meanwhile.
    async fn fetch(&self, peer: PeerId, ids: Vec<AdId>) -> Option<Result<Report, SyncError>> {
        if lock(&self.schedule).is_aside(&peer, Instant::now()) {
            return None;
        }
        let fetched = self.client.fetch(peer, ids).await;
        Some(fetched.map(|fetched| Report { fetched, ..Report::default() }))
    }
}

/// Waits until it is somebody's turn; `None` when the network has ended.
async fn next_turn(network: &Handle, schedule: &Mutex<Schedule>) -> Option<PeerId> {
    let mut indexers = network.watch_indexers();
    loop {
        let connected = indexers.borrow_and_update().clone();
        let turn = lock(schedule).next(&connected, Instant::now());
        let due = match turn {
            Ok(peer) => return Some(peer),
            Err(due) => due,
        };
        let wait = async {
            match due {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            changed = indexers.changed() => changed.ok()?,
        }
    }
}

fn report(peer: &PeerId, done: &Result<Report, SyncError>) {
    match done {
        Ok(Report { rounds, fetched, told }) if fetched + told > 0 => {
            tracing::info!(%peer, rounds, fetched, told, "reconciled the book with another indexer");
        }
        Ok(Report { rounds, .. }) => tracing::debug!(%peer, rounds, "the book is as another indexer's"),
        Err(error) if error.outcome() == Outcome::Cheated => {
            tracing::warn!(%peer, %error, "an indexer makes no sense and is left alone for a while");
        }
        Err(error) => tracing::debug!(%peer, %error, "could not reconcile with an indexer"),
    }
}
