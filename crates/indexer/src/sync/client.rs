//! The asking side over the network: one reconciliation with one peer, and fetching what it shows to be lacked. Every wait is bounded, and
//! whatever comes is checked before the book takes it.

use super::{
    ad_id::AdId,
    ledger::Ledger,
    schedule::Outcome,
    session::{Differences, Initiator, SessionFault, Step},
};
use market::{
    refusal::{Refusal, RefusalCode},
    time::UnixMillis,
};
use network::{AskError, Handle, PeerId, Stopped};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use wire::{MAX_SYNC_IDS, SyncAnswer, SyncAsk, WireError};

/// How long comparing may take, all rounds together.
const COMPARE_LIMIT: Duration = Duration::from_secs(60);
/// How long fetching goes on. A newcomer's whole book comes within a minute or two; what is left then is found again the next time.
const FETCH_LIMIT: Duration = Duration::from_secs(120);
/// How often a question is asked again that came too soon for the other side, [`PAUSE`] apart.
const MAX_TRIES: u32 = 5;
/// The pause before it is asked again.
const PAUSE: Duration = Duration::from_secs(1);
/// Advertisements asked for at once: about as many as one answer holds.
const MAX_FETCHED: usize = 256;
/// Advertisements that may be missing when they are asked for, since they may end between their naming and their sending; a peer of which
/// more are missing must have sent at least as many.
const MAX_MISSING: usize = 64;
/// What was made less than this many milliseconds ago is on its way by gossip, and not fetched unless it still lacks the next time.
const GOSSIP_TIME: u64 = 5_000;

/// Why a reconciliation ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum SyncError {
    /// No answer.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The other side does not want to, now.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// Comparing took so long that others would have to wait.
    #[error("still comparing after {} s", COMPARE_LIMIT.as_secs())]
    Late,
    /// This node is ending.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// An answer that cannot be read.
    #[error(transparent)]
    Malformed(#[from] WireError),
    /// An answer to another question.
    #[error("an answer to another question")]
    Misplaced,
    /// A reconciliation that leads nowhere.
    #[error(transparent)]
    Session(#[from] SessionFault),
    /// It names what it does not have.
    #[error("of {asked} advertisements it named, {came} came and were good")]
    Withheld {
        /// How many were asked for.
        asked: usize,
        /// How many came.
        came: usize,
    },
}

impl SyncError {
    /// How the other side is to be treated for it.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Ask(_) | Self::Refused(_) | Self::Stopped(_) => Outcome::Unanswered,
            Self::Late | Self::Malformed(_) | Self::Misplaced | Self::Session(_) | Self::Withheld { .. } => {
                Outcome::Cheated
            }
        }
    }
}

/// What a reconciliation came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) rounds: usize,
    pub(super) fetched: usize,
    pub(super) told: usize,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) network: Handle,
    pub(super) ledger: Arc<Ledger>,
}

impl Client {
    /// Compares books with `peer`, tells it what it lacks, and fetches what is lacked here.
    pub(super) async fn reconcile(&self, peer: PeerId) -> Result<Report, SyncError> {
        let compared = tokio::time::timeout(COMPARE_LIMIT, self.compare(peer)).await;
        let (Differences { we_lack, they_lack }, rounds) = compared.map_err(|_| SyncError::Late)??;
        let told = match self.tell(peer, &they_lack).await {
            // it has enough to fetch already; what it lacks is found again the next time
            Err(SyncError::Refused(_)) => 0,
            told => told?,
        };
        let fetched = self.fetch(peer, we_lack).await?;
        Ok(Report { rounds, fetched, told })
    }

    async fn compare(&self, peer: PeerId) -> Result<(Differences, usize), SyncError> {
        let at = UnixMillis::now();
        let (mut initiator, frame) = Initiator::begin(self.ledger.view(at))?;
        let mut ask = SyncAsk::Open { at, frame };
        loop {
            let SyncAnswer::Frame(answer) = self.ask(peer, ask).await? else { return Err(SyncError::Misplaced) };
            match initiator.answer(&answer)? {
                Step::Ask(frame) => ask = SyncAsk::Next(frame),
                Step::Done(differences) => return Ok((differences, initiator.rounds())),
            }
        }
    }

    async fn tell(&self, peer: PeerId, they_lack: &[AdId]) -> Result<usize, SyncError> {
        for ids in they_lack.chunks(MAX_SYNC_IDS) {
            let ids = ids.iter().map(|id| id.to_bytes()).collect();
            let SyncAnswer::Noted = self.ask(peer, SyncAsk::Lacking(ids)).await? else {
                return Err(SyncError::Misplaced);
            };
        }
        Ok(they_lack.len())
    }

    /// Fetches what `peer` has under these names, as far as it is still news and there is time.
    pub(super) async fn fetch(&self, peer: PeerId, mut ids: Vec<AdId>) -> Result<usize, SyncError> {
        let until = Instant::now() + FETCH_LIMIT;
        let (mut asked, mut came) = (0, 0);
        ids.reverse(); // taken from the end: the newest first
        loop {
            let now = UnixMillis::now();
            let mut batch = self.next_batch(&mut ids, now);
            if batch.is_empty() || Instant::now() >= until {
                return Ok(came);
            }
            let answer = self.ask(peer, SyncAsk::Fetch(batch.iter().map(|id| id.to_bytes()).collect())).await?;
            let SyncAnswer::Ads { ads, answered } = answer else { return Err(SyncError::Misplaced) };
            if answered == 0 || answered > batch.len() {
                return Err(SyncError::Misplaced);
            }
            self.network.load_ads(ads).await?;
            ids.extend(batch.drain(answered..).rev());
            asked += answered;
            came += batch.iter().filter(|id| !self.ledger.is_news(id, now)).count();
            if asked - came > MAX_MISSING && came * 2 < asked {
                return Err(SyncError::Withheld { asked, came });
            }
        }
    }

    /// The next names to ask for, of those that are still news and that gossip does not bring anyway.
    fn next_batch(&self, ids: &mut Vec<AdId>, now: UnixMillis) -> Vec<AdId> {
        let mut batch = Vec::new();
        while batch.len() < MAX_FETCHED
            && let Some(id) = ids.pop()
        {
            if now.since(UnixMillis(id.seq())) >= GOSSIP_TIME && self.ledger.is_news(&id, now) {
                batch.push(id);
            }
        }
        batch
    }

    async fn ask(&self, peer: PeerId, ask: SyncAsk) -> Result<SyncAnswer, SyncError> {
        let request = wire::sync_to_proto(ask);
        let mut tries = 0;
        loop {
            let answer = self.network.ask_sync(peer, request.clone()).await?;
            match wire::sync_answer_from_proto(answer)? {
                SyncAnswer::Refused(refusal) if refusal.code == RefusalCode::RateLimited && tries < MAX_TRIES => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                SyncAnswer::Refused(refusal) => return Err(refusal.into()),
                answer => return Ok(answer),
            }
        }
    }
}
